//! The pass itself (see the module above): its frames, the names in scope, and where it starts.
//!
//! The files beside this one each resolve a part of the language.

mod exprs;
mod functions;
mod lazy;
mod scan;
mod sets;

use std::collections::HashMap;

use bumpalo::Bump;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::ir::{Body, Constants, Deferred, Node, Place, Runtime, Var};
use crate::ast::{Ast, Expr, ExprId, LambdaId};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::Source;
use crate::span::{FileSpan, Span};
use crate::symbol::Symbol;

/// `~/a` where the home directory must not be known.
const NO_HOME: Code = Code(113);
/// Expressions are nested deeper than the stack has room for.
const TOO_DEEP: Code = Code(108);
/// Errors for which a name that was meant is looked for.
const MAX_HINTS: usize = 20;
/// Captures that are searched one by one; more are found by a table.
const FEW_CAPTURES: usize = 32;
/// Names that a file is expected to bind: room for them is made at once.
const SOME_NAMES: usize = 24;
/// How deep a literal or an operand may go that is computed at once rather than delayed.
const SHALLOW: usize = 3;

/// What a name is bound to.
#[derive(Clone, Copy)]
struct Binding {
    /// Unique in the file.
    id: u32,
    /// Which context's frame it is in.
    ctx: u32,
    slot: u32,
}

impl Binding {
    /// A name that is bound in what is only looked through.
    const INSIDE: Self = Self { id: u32::MAX, ctx: u32::MAX, slot: 0 };

    fn is_inside(self) -> bool {
        self.id == u32::MAX
    }
}

/// Code with a frame of its own, being resolved.
#[derive(Default)]
struct Ctx {
    captures: Vec<(u32, Var)>,
    index: HashMap<u32, u32, FxBuildHasher>,
    slots: u32,
    max_slots: u32,
    /// Whether a function surrounds it, so that it may run more than once.
    in_function: bool,
}

pub(super) struct Resolver<'a, 's, 'c, R: Runtime> {
    ast: &'s Ast,
    source: &'s Source,
    base: u32,
    arena: &'a Bump,
    constants: &'c mut dyn Constants<'a, R>,
    ctxs: Vec<Ctx>,
    /// Contexts that are done with, for their memory.
    spare: Vec<Ctx>,
    /// Where in `bound` the innermost binding of a name is, if it is in scope.
    names: HashMap<Symbol, Option<u32>, FxBuildHasher>,
    /// All bindings that had a name, and where the one around each is.
    bound: Vec<(Binding, Option<u32>)>,
    withs: Vec<(Binding, Place)>,
    /// For each binding, whether its slot is written by now.
    written: Vec<bool>,
    errors: Vec<Diagnostic>,
    /// How deep expressions may still be nested.
    depth_left: u32,
    /// What is never computed before it is asked for.
    waiting: FxHashSet<ExprId>,
    fresh_literals: bool,
    /// Whether functions are put off, and how often they were.
    deferring: Option<u32>,
    min_deferred_bytes: usize,
    /// The functions that evaluating the file begins with.
    outermost: Vec<LambdaId>,
}

type N<'a, R> = Node<'a, R>;

impl<'a, 's, 'c, R: Runtime> Resolver<'a, 's, 'c, R> {
    pub(super) fn new(
        ast: &'s Ast,
        source: &'s Source,
        base: u32,
        arena: &'a Bump,
        constants: &'c mut dyn Constants<'a, R>,
        how: super::How,
    ) -> Self {
        Self {
            depth_left: how.max_depth,
            // A tree that is looked at twice would be printed twice.
            deferring: (!how.waits_as_nix).then_some(0),
            min_deferred_bytes: how.min_deferred_bytes,
            fresh_literals: how.fresh_literals,
            outermost: Vec::new(),
            waiting: if how.waits_as_nix {
                super::shown::delayed_as_in_nix(ast)
            } else {
                FxHashSet::default()
            },
            ast,
            source,
            base,
            arena,
            constants,
            ctxs: Vec::new(),
            spare: Vec::new(),
            names: HashMap::with_capacity_and_hasher(SOME_NAMES, FxBuildHasher),
            bound: Vec::with_capacity(SOME_NAMES),
            withs: Vec::new(),
            written: Vec::with_capacity(SOME_NAMES),
            errors: Vec::new(),
        }
    }

    pub(super) fn file(mut self, scope: &[Symbol]) -> Result<&'a Body<'a, R>, Vec<Diagnostic>> {
        self.push_ctx(false);
        for &name in scope {
            let binding = self.new_binding(true);
            self.push_name(name, binding);
        }
        self.find_outermost(self.ast.root());
        let node = self.strict(self.ast.root());
        self.finish(node)
    }

    /// Resolves what was put off.
    pub(super) fn deferred(mut self, deferred: &Deferred<'a, R>) -> Result<&'a Body<'a, R>, Vec<Diagnostic>> {
        self.deferring = Some(deferred.level + 1);
        // Around the function is what it captured; what else there is does not matter any more.
        self.push_ctx(false);
        self.push_ctx(true);
        let lambda = deferred.lambda.get().expect("it has a function");
        let captures = lambda.captures;
        for _ in captures {
            let Binding { id, .. } = self.outer_binding();
            self.ctx().add(id, Var::Local(0));
        }
        self.ctx().slots = deferred.slots;
        self.ctx().max_slots = deferred.frame_slots;
        for &(name, var) in deferred.names {
            let binding = self.known_binding(var);
            self.push_name(name, binding);
        }
        for &(var, place) in deferred.withs {
            let binding = self.known_binding(var);
            self.withs.push((binding, place));
        }
        let node = self.body(self.ast.root(), lambda.name.get());
        assert_eq!(self.ctx().captures.len(), captures.len(), "a look through the body finds all names");
        self.finish(node)
    }

    fn finish(mut self, node: N<'a, R>) -> Result<&'a Body<'a, R>, Vec<Diagnostic>> {
        let ctx = self.ctxs.pop().expect("pushed at the beginning");
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|error| error.primary.as_ref().map(|label| label.at.span.start));
            return Err(self.errors);
        }
        Ok(self.arena.alloc(Body { node, slots: ctx.max_slots }))
    }

    /// A binding in the frame around everything. The first have the numbers of captures.
    fn outer_binding(&mut self) -> Binding {
        let id = self.written.len() as u32;
        self.written.push(true);
        Binding { id, ctx: 0, slot: 0 }
    }

    /// What a variable of the function that was put off is bound to.
    fn known_binding(&mut self, var: Var) -> Binding {
        match var {
            Var::Captured(index) => Binding { id: index, ctx: 0, slot: 0 },
            Var::Local(slot) => Binding { ctx: 1, slot, ..self.outer_binding() },
        }
    }

    /// Finds the functions that a file is, behind bindings: they are called if the file is of any use.
    fn find_outermost(&mut self, mut id: ExprId) {
        loop {
            id = match self.ast.expr(id) {
                Expr::Let { body, .. } | Expr::With { body, .. } | Expr::Assert { body, .. } => body,
                Expr::Lambda(lambda) => {
                    self.outermost.push(lambda);
                    self.ast.lambda(lambda).body
                }
                _ => return,
            };
        }
    }

    // ---- contexts and names

    fn push_ctx(&mut self, is_function: bool) {
        let in_function = is_function || self.ctxs.last().is_some_and(|ctx| ctx.in_function);
        let mut ctx = self.spare.pop().unwrap_or_default();
        ctx.in_function = in_function;
        self.ctxs.push(ctx);
    }

    /// Keeps the memory of a context that is done with: there is one for each thing that waits.
    fn put_aside(&mut self, mut ctx: Ctx) {
        ctx.captures.clear();
        if !ctx.index.is_empty() {
            ctx.index.clear();
        }
        (ctx.slots, ctx.max_slots) = (0, 0);
        self.spare.push(ctx);
    }

    fn ctx(&mut self) -> &mut Ctx {
        self.ctxs.last_mut().expect("code is in a context")
    }

    /// Takes the next slot of the current frame.
    fn new_binding(&mut self, written: bool) -> Binding {
        let id = self.written.len() as u32;
        self.written.push(written);
        let depth = self.ctxs.len() as u32 - 1;
        let ctx = self.ctx();
        let slot = ctx.slots;
        ctx.slots += 1;
        ctx.max_slots = ctx.max_slots.max(ctx.slots);
        Binding { id, ctx: depth, slot }
    }

    fn push_name(&mut self, name: Symbol, binding: Binding) {
        let around = self.names.insert(name, Some(self.bound.len() as u32)).flatten();
        self.bound.push((binding, around));
    }

    fn pop_name(&mut self, name: Symbol) {
        let innermost = self.names.get_mut(&name).expect("was pushed");
        *innermost = innermost.and_then(|index| self.bound[index as usize].1);
    }

    fn lookup(&self, name: Symbol) -> Option<Binding> {
        self.names.get(&name)?.map(|index| self.bound[index as usize].0)
    }

    /// Returns how the current code reaches a binding.
    fn var(&mut self, binding: Binding) -> Var {
        self.var_in(self.ctxs.len() - 1, binding)
    }

    fn var_in(&mut self, depth: usize, binding: Binding) -> Var {
        if binding.ctx as usize == depth {
            return Var::Local(binding.slot);
        }
        if let Some(index) = self.ctxs[depth].find(binding.id) {
            return Var::Captured(index);
        }
        let outer = self.var_in(depth - 1, binding);
        Var::Captured(self.ctxs[depth].add(binding.id, outer))
    }

    fn var_node(&mut self, binding: Binding, start: u32) -> N<'a, R> {
        match self.var(binding) {
            Var::Local(slot) => Node::Local(slot, start),
            Var::Captured(index) => Node::Captured(index, start),
        }
    }

    /// Whether a binding is of this frame and its slot is still empty.
    fn is_unwritten_here(&self, binding: Binding) -> bool {
        binding.ctx as usize == self.ctxs.len() - 1 && !self.written[binding.id as usize]
    }

    // ---- places

    fn place(&self, span: Span) -> Place {
        Place { start: self.base.saturating_add(span.start), end: self.base.saturating_add(span.end) }
    }

    fn place_of(&self, expr: ExprId) -> Place {
        self.place(self.ast.span(expr))
    }

    fn capture_list(&self, ctx: &Ctx) -> &'a [Var] {
        self.arena.alloc_slice_fill_iter(ctx.captures.iter().map(|&(_, var)| var))
    }

    fn file_span(&self, span: Span) -> FileSpan {
        FileSpan { file: self.source.id(), span }
    }
}

impl Ctx {
    fn find(&self, id: u32) -> Option<u32> {
        if self.captures.len() <= FEW_CAPTURES {
            return self.captures.iter().position(|&(known, _)| known == id).map(|index| index as u32);
        }
        self.index.get(&id).copied()
    }

    fn add(&mut self, id: u32, outer: Var) -> u32 {
        let index = self.captures.len() as u32;
        self.captures.push((id, outer));
        if self.captures.len() > FEW_CAPTURES {
            if self.index.is_empty() {
                self.index = self.captures.iter().zip(0..).map(|(&(id, _), index)| (id, index)).collect();
            } else {
                self.index.insert(id, index);
            }
        }
        index
    }
}
