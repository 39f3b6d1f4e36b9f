//! The pass itself; see the module above.

use std::cell::Cell;
use std::collections::HashMap;

use bumpalo::Bump;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::ir::{
    Assert, Attrs, Binary, Body, Call, Constants, Deferred, DynamicAttrs, Eager, Field, Formal, Formals, Has,
    If, Interpolate, Lambda, Let, List, Node, Overrides, Patch, Place, Runtime, Select, Step, Suspension,
    Unary, Var, With, WithName,
};
use crate::ast::{
    self, Ast, AttrNameKind, AttrSet, AttrsId, BinaryOp, BindingKind, Expr, ExprId, LambdaId, StrPartKind,
};
use crate::codes::UNDEFINED_VARIABLE;
use crate::diagnostic::{Code, Diagnostic};
use crate::near::near_name;
use crate::source::Source;
use crate::span::{FileSpan, Span};
use crate::symbol::{Symbol, sym};

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
/// Elements of a literal that is built at once rather than delayed, and how deep it may go.
const FEW_ELEMENTS: usize = 6;
const SHALLOW: usize = 3;

/// How many functions around one that is put off may have been: each time, the text inside is parsed again.
const MAX_DEFERRED_LEVEL: u32 = 2;

/// What a name is bound to.
#[derive(Clone, Copy)]
pub(super) struct Binding {
    /// Unique in the file.
    id: u32,
    /// Which context's frame it is in.
    ctx: u32,
    slot: u32,
}

impl Binding {
    /// A name that is bound in what is only looked through.
    pub(super) const INSIDE: Self = Self { id: u32::MAX, ctx: u32::MAX, slot: 0 };

    pub(super) fn is_inside(self) -> bool {
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
    pub(super) ast: &'s Ast,
    source: &'s Source,
    base: u32,
    arena: &'a Bump,
    pub(super) constants: &'c mut dyn Constants<'a, R>,
    ctxs: Vec<Ctx>,
    /// Contexts that are done with, for their memory.
    spare: Vec<Ctx>,
    /// Where in `bound` the innermost binding of a name is, if it is in scope.
    names: HashMap<Symbol, Option<u32>, FxBuildHasher>,
    /// All bindings that had a name, and where the one around each is.
    bound: Vec<(Binding, Option<u32>)>,
    pub(super) withs: Vec<(Binding, Place)>,
    /// For each binding, whether its slot is written by now.
    written: Vec<bool>,
    errors: Vec<Diagnostic>,
    /// How deep expressions may still be nested.
    pub(super) depth_left: u32,
    /// What is never computed before it is asked for.
    waiting: FxHashSet<ExprId>,
    fresh_literals: bool,
    /// Whether functions are put off, and how often they were.
    deferring: Option<u32>,
    min_deferred_bytes: usize,
    /// The functions that evaluating the file begins with.
    outermost: Vec<LambdaId>,
}

/// A binding of a `let`, `rec` or pattern, before its value is resolved.
struct Member {
    name: Option<Symbol>,
    binding: Binding,
    value: MemberValue,
}

#[derive(Clone, Copy)]
enum MemberValue {
    Expr(ExprId),
    /// `inherit a;`: resolved outside.
    Outer(ExprId),
    /// `inherit (e) a;`: attribute of a hidden member.
    From(Binding, Symbol, Span),
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
        let captures = deferred.lambda.get().expect("it has a function").captures;
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
        let node = self.strict(self.ast.root());
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

    pub(super) fn push_name(&mut self, name: Symbol, binding: Binding) {
        let around = self.names.insert(name, Some(self.bound.len() as u32)).flatten();
        self.bound.push((binding, around));
    }

    pub(super) fn pop_name(&mut self, name: Symbol) {
        let innermost = self.names.get_mut(&name).expect("was pushed");
        *innermost = innermost.and_then(|index| self.bound[index as usize].1);
    }

    pub(super) fn lookup(&self, name: Symbol) -> Option<Binding> {
        self.names.get(&name)?.map(|index| self.bound[index as usize].0)
    }

    /// Returns how the current code reaches a binding.
    pub(super) fn var(&mut self, binding: Binding) -> Var {
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

    fn file_span(&self, span: Span) -> FileSpan {
        FileSpan { file: self.source.id(), span }
    }

    // ---- strict places

    fn strict(&mut self, id: ExprId) -> N<'a, R> {
        if self.depth_left == 0 {
            return self.too_deep(id);
        }
        self.depth_left -= 1;
        let node = self.strict_inner(id);
        self.depth_left += 1;
        node
    }

    #[cold]
    pub(super) fn too_deep(&mut self, id: ExprId) -> N<'a, R> {
        let span = self.ast.span(id);
        if self.errors.len() < MAX_HINTS {
            let at = self.file_span(Span::at(span.start));
            self.errors.push(Diagnostic::error(TOO_DEEP, "expressions are nested too deep here", at));
        }
        Node::CurPos(self.place(span))
    }

    fn strict_inner(&mut self, id: ExprId) -> N<'a, R> {
        match self.ast.expr(id) {
            Expr::Int(n) => Node::Const(self.constants.int(n.int())),
            Expr::Float(x) => Node::Const(self.constants.float(x.float())),
            Expr::Str(text) => Node::Const(self.constants.string(self.ast.text(text))),
            Expr::Interpolation(parts) => self.interpolation(id, parts),
            Expr::Path(text) => self.path(id, self.ast.text(text)),
            Expr::PathInterpolation { base, parts } => self.path_interpolation(id, base, parts),
            Expr::SearchPath(text) => self.search_path(id, self.ast.text(text)),
            Expr::Var(name) => self.variable(name, self.ast.span(id)),
            Expr::CurPos => Node::CurPos(self.place_of(id)),
            Expr::Apply { function, args } => self.apply(id, function, args),
            Expr::Select { base, path, default } => self.select(id, base, path, default),
            Expr::HasAttr { base, path } => {
                let base = self.strict(base);
                let path = self.steps(path);
                Node::Has(self.arena.alloc(Has { base, path }))
            }
            Expr::List(elements) => self.list(elements),
            Expr::Attrs(attrs) => self.attrs(id, attrs),
            Expr::Let { attrs, body } => self.let_in(attrs, body),
            Expr::Lambda(lambda) => self.lambda(id, lambda, None),
            Expr::With { attrs, body } => self.with(attrs, body),
            Expr::Assert { condition, body } => {
                let place = self.place_of(condition);
                let condition = self.strict(condition);
                let body = self.strict(body);
                Node::Assert(self.arena.alloc(Assert { condition, body, place, whole: self.place_of(id) }))
            }
            Expr::If { condition, then, otherwise } => {
                let place = self.place_of(condition);
                let condition = self.strict(condition);
                let then = self.strict(then);
                let otherwise = self.strict(otherwise);
                Node::If(self.arena.alloc(If { condition, then, otherwise, place }))
            }
            Expr::Not(operand) => {
                let place = self.place_of(operand);
                let operand = self.strict(operand);
                Node::Not(self.arena.alloc(Unary { operand, place }))
            }
            Expr::Negate(operand) => self.negate(id, operand),
            Expr::Binary { op, left, right, op_offset } => self.binary(op, left, right, op_offset),
            Expr::Error => unreachable!("a tree with errors is not resolved"),
        }
    }

    fn variable(&mut self, name: Symbol, span: Span) -> N<'a, R> {
        let place = self.place(span);
        if let Some(binding) = self.lookup(name) {
            return self.var_node(binding, place.start);
        }
        if let Some(value) = self.constants.global(name) {
            return Node::Const(value);
        }
        if self.withs.is_empty() {
            self.undefined(name, span);
            return Node::CurPos(place);
        }
        let withs: Vec<(Binding, Place)> = self.withs.iter().rev().copied().collect();
        let scopes: Vec<(Var, Place)> =
            withs.into_iter().map(|(binding, place)| (self.var(binding), place)).collect();
        let scopes = self.arena.alloc_slice_copy(&scopes);
        Node::WithName(self.arena.alloc(WithName { name, scopes, place }))
    }

    pub(super) fn undefined(&mut self, name: Symbol, span: Span) {
        let text = name.as_str();
        let message = format!("undefined variable '{text}'");
        if self.errors.len() >= MAX_HINTS {
            self.errors.push(Diagnostic::error(UNDEFINED_VARIABLE, message, self.file_span(span)));
            return;
        }
        let bound = self.names.iter().filter(|(_, innermost)| innermost.is_some()).map(|(name, _)| *name);
        let mut known: Vec<String> =
            bound.chain(self.constants.global_names()).map(|name| name.as_str().into_owned()).collect();
        known.sort_unstable();
        let mut error = Diagnostic::error(
            UNDEFINED_VARIABLE,
            format!("undefined variable '{text}'"),
            self.file_span(span),
        );
        if let Some(near) = near_name(&text, known.iter().map(String::as_str)) {
            error = error.hint(format!("did you mean `{near}`?"));
        }
        self.errors.push(error);
    }

    /// Whether a name that an operator stands for means something else here.
    fn is_rebound(&self, name: Symbol) -> bool {
        self.lookup(name).is_some()
    }

    fn negate(&mut self, id: ExprId, operand: ExprId) -> N<'a, R> {
        if self.is_rebound(sym::SUB) {
            let zero = Node::Const(self.constants.int(0));
            let operand = self.lazy(operand);
            return self.call_name(sym::SUB, self.ast.span(id), &[zero, operand]);
        }
        if let Expr::Int(n) = self.ast.expr(operand) {
            return Node::Const(self.constants.int(-n.int()));
        }
        if let Expr::Float(x) = self.ast.expr(operand) {
            return Node::Const(self.constants.float(0.0 - x.float()));
        }
        let place = self.place_of(id);
        let operand = self.strict(operand);
        Node::Negate(self.arena.alloc(Unary { operand, place }))
    }

    fn call_name(&mut self, name: Symbol, span: Span, arguments: &[N<'a, R>]) -> N<'a, R> {
        let function = self.variable(name, span);
        let arguments = self.arena.alloc_slice_copy(arguments);
        Node::Call(self.arena.alloc(Call { function, arguments, place: self.place(span) }))
    }

    fn binary(&mut self, op: BinaryOp, left: ExprId, right: ExprId, offset: u32) -> N<'a, R> {
        let span = Span::new(offset, offset + op.as_str().len() as u32);
        let (name, swapped, negated) = match op {
            BinaryOp::Less => (sym::LESS_THAN, false, false),
            BinaryOp::Greater => (sym::LESS_THAN, true, false),
            BinaryOp::LessEqual => (sym::LESS_THAN, true, true),
            BinaryOp::GreaterEqual => (sym::LESS_THAN, false, true),
            BinaryOp::Sub => (sym::SUB, false, false),
            BinaryOp::Mul => (sym::MUL, false, false),
            BinaryOp::Div => (sym::DIV, false, false),
            _ => (sym::EMPTY, false, false),
        };
        if name != sym::EMPTY && self.is_rebound(name) {
            let (a, b) = if swapped { (right, left) } else { (left, right) };
            let arguments = [self.lazy(a), self.lazy(b)];
            let call = self.call_name(name, span, &arguments);
            if !negated {
                return call;
            }
            return Node::Not(self.arena.alloc(Unary { operand: call, place: self.place(span) }));
        }
        let binary = self.operands(left, right, span);
        match op {
            BinaryOp::Implies => Node::Implies(binary),
            BinaryOp::Or => Node::Or(binary),
            BinaryOp::And => Node::And(binary),
            BinaryOp::Equal => Node::Equal(binary),
            BinaryOp::NotEqual => Node::NotEqual(binary),
            BinaryOp::Less => Node::Less(binary),
            BinaryOp::LessEqual => Node::LessOrEqual(binary),
            BinaryOp::Greater => Node::Greater(binary),
            BinaryOp::GreaterEqual => Node::GreaterOrEqual(binary),
            BinaryOp::Update => Node::Update(binary),
            BinaryOp::Add => Node::Add(binary),
            BinaryOp::Sub => Node::Subtract(binary),
            BinaryOp::Mul => Node::Multiply(binary),
            BinaryOp::Div => Node::Divide(binary),
            BinaryOp::Concat => Node::Concat(binary),
        }
    }

    fn operands(&mut self, left: ExprId, right: ExprId, op: Span) -> &'a Binary<'a, R> {
        let (left_place, right_place) = (self.place_of(left), self.place_of(right));
        let left = self.strict(left);
        let right = self.strict(right);
        self.arena.alloc(Binary { left, right, place: self.place(op), left_place, right_place })
    }

    fn apply(&mut self, id: ExprId, function: ExprId, args: ast::Slice<ExprId>) -> N<'a, R> {
        let function = self.strict(function);
        let arguments: Vec<N<'a, R>> = self.ast.exprs(args).iter().map(|&arg| self.lazy(arg)).collect();
        let arguments = self.arena.alloc_slice_copy(&arguments);
        Node::Call(self.arena.alloc(Call { function, arguments, place: self.place_of(id) }))
    }

    fn select(
        &mut self,
        id: ExprId,
        base: ExprId,
        path: ast::AttrPathId,
        default: Option<ExprId>,
    ) -> N<'a, R> {
        if let Some(constant) = self.builtin(base, path, default) {
            return Node::Const(constant);
        }
        let base_place = self.place_of(base);
        let base = self.strict(base);
        if default.is_none()
            && let [name] = self.ast.attr_path(path)
            && let AttrNameKind::Static(symbol) = name.kind
        {
            let place = self.place(name.span);
            return Node::Field(self.arena.alloc(Field { base, name: symbol, place, base_place }));
        }
        let path = self.steps(path);
        let default = default.map(|default| self.strict(default));
        Node::Select(self.arena.alloc(Select { base, path, default, base_place, place: self.place_of(id) }))
    }

    /// `builtins.map` and the like, when `builtins` means what it always means.
    fn builtin(&mut self, base: ExprId, path: ast::AttrPathId, default: Option<ExprId>) -> Option<R::Value> {
        if default.is_some()
            || self.ast.expr(base) != Expr::Var(sym::BUILTINS)
            || self.is_rebound(sym::BUILTINS)
        {
            return None;
        }
        match self.ast.attr_path(path) {
            [name] => match name.kind {
                AttrNameKind::Static(symbol) => self.constants.builtin(symbol),
                AttrNameKind::Dynamic(_) => None,
            },
            _ => None,
        }
    }

    fn steps(&mut self, path: ast::AttrPathId) -> &'a [Step<'a, R>] {
        let steps: Vec<Step<'a, R>> = self
            .ast
            .attr_path(path)
            .iter()
            .map(|name| {
                let place = self.place(name.span);
                match name.kind {
                    AttrNameKind::Static(symbol) => Step::Static(symbol, place),
                    AttrNameKind::Dynamic(expr) => Step::Dynamic(self.strict(expr), place),
                }
            })
            .collect();
        self.arena.alloc_slice_fill_iter(steps)
    }

    // ---- strings and paths

    fn parts(&mut self, parts: ast::Slice<ast::StrPart>, into: &mut Vec<(N<'a, R>, Place)>) {
        for part in self.ast.parts(parts) {
            let node = match part.kind {
                StrPartKind::Text(text) => Node::Const(self.constants.string(self.ast.text(text))),
                StrPartKind::Expr(expr) => self.strict(expr),
            };
            into.push((node, self.place(part.span)));
        }
    }

    fn interpolation(&mut self, id: ExprId, parts: ast::Slice<ast::StrPart>) -> N<'a, R> {
        let all_text = |part: &ast::StrPart| matches!(part.kind, StrPartKind::Text(_));
        if self.ast.parts(parts).iter().all(all_text) {
            let mut bytes = Vec::new();
            for part in self.ast.parts(parts) {
                if let StrPartKind::Text(text) = part.kind {
                    bytes.extend_from_slice(self.ast.text(text));
                }
            }
            return Node::Const(self.constants.string(&bytes));
        }
        let mut nodes = Vec::new();
        self.parts(parts, &mut nodes);
        let parts = self.arena.alloc_slice_copy(&nodes);
        Node::Interpolate(self.arena.alloc(Interpolate { parts, place: self.place_of(id) }))
    }

    /// Returns a path as written, made absolute.
    pub(super) fn absolute(&mut self, id: ExprId, text: &[u8]) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        if text.starts_with(b"/") {
            return text.to_vec();
        }
        if let Some(rest) = text.strip_prefix(b"~") {
            if let Some(home) = self.constants.home() {
                return [&home, rest].concat();
            }
            let message =
                format!("the path '{}' can not be resolved in pure mode", String::from_utf8_lossy(text));
            let error = Diagnostic::error(NO_HOME, message, self.file_span(self.ast.span(id)));
            self.errors.push(error);
        }
        [self.source.base_dir().as_os_str().as_bytes(), b"/", text].concat()
    }

    fn path(&mut self, id: ExprId, text: &[u8]) -> N<'a, R> {
        let absolute = self.absolute(id, text);
        Node::Const(self.constants.canonical_path(&absolute))
    }

    fn path_interpolation(&mut self, id: ExprId, base: ExprId, parts: ast::Slice<ast::StrPart>) -> N<'a, R> {
        let Expr::Path(text) = self.ast.expr(base) else { unreachable!("a path begins with a path") };
        let absolute = self.absolute(base, self.ast.text(text));
        let first = Node::Const(self.constants.path(&absolute));
        let mut nodes = vec![(first, self.place_of(base))];
        self.parts(parts, &mut nodes);
        let parts = self.arena.alloc_slice_copy(&nodes);
        Node::InterpolatePath(self.arena.alloc(Interpolate { parts, place: self.place_of(id) }))
    }

    fn search_path(&mut self, id: ExprId, text: &[u8]) -> N<'a, R> {
        let span = self.ast.span(id);
        let path = self.variable(sym::NIX_PATH, span);
        let path = self.as_lazy(path, |this| this.variable(sym::NIX_PATH, span), span);
        let name = Node::Const(self.constants.string(text));
        self.call_name(sym::FIND_FILE, span, &[path, name])
    }

    // ---- lists and sets

    fn list(&mut self, elements: ast::Slice<ExprId>) -> N<'a, R> {
        let nodes: Vec<N<'a, R>> =
            self.ast.exprs(elements).iter().map(|&element| self.lazy(element)).collect();
        self.list_of(&nodes)
    }

    fn list_of(&mut self, nodes: &[N<'a, R>]) -> N<'a, R> {
        if let Some(values) = self.all_constant(nodes) {
            return Node::Const(self.constants.list(&values));
        }
        let elements = self.arena.alloc_slice_copy(nodes);
        Node::List(self.arena.alloc(List { elements }))
    }

    fn all_constant(&mut self, nodes: &[N<'a, R>]) -> Option<Vec<R::Value>> {
        if self.fresh_literals && !nodes.is_empty() && self.ctx().in_function {
            return None;
        }
        let constant = |node: &N<'a, R>| match node {
            Node::Const(value) if self.constants.is_value(*value) => Some(*value),
            _ => None,
        };
        nodes.iter().map(constant).collect()
    }

    fn attrs(&mut self, id: ExprId, attrs: AttrsId) -> N<'a, R> {
        let set = self.ast.attrs(attrs);
        if set.recursive {
            return self.recursive_attrs(id, set);
        }
        let saved = self.ctx().slots;
        // The sources of `inherit (e)` wait in hidden slots.
        let mut hidden = Vec::new();
        let mut sources = Vec::new();
        for &source in self.ast.exprs(set.inherit_from) {
            let node = self.lazy(source);
            let binding = self.new_binding(true);
            hidden.push((binding.slot, node));
            sources.push(binding);
        }
        let mut values: Vec<(Symbol, u32, N<'a, R>)> = Vec::with_capacity(set.bindings.len());
        for binding in self.ast.bindings(set.bindings) {
            let node = match binding.kind {
                BindingKind::Plain => self.lazy_named(binding.value, binding.name),
                BindingKind::Inherit => self.lazy(binding.value),
                BindingKind::InheritFrom(n) => {
                    let source = self.ast.exprs(set.inherit_from)[n as usize];
                    self.inherited(sources[n as usize], binding.name, binding.name_span, source)
                }
            };
            values.push((binding.name, self.base.saturating_add(binding.offset), node));
        }
        let node = self.finish_attrs(id, set, values, None);
        self.ctx().slots = saved;
        if hidden.is_empty() {
            return node;
        }
        let bindings = self.arena.alloc_slice_copy(&hidden);
        Node::Let(self.arena.alloc(Let { bindings, patches: &[], body: node }))
    }

    /// Sorts the attributes, adds the dynamic ones.
    fn finish_attrs(
        &mut self,
        id: ExprId,
        set: AttrSet,
        mut values: Vec<(Symbol, u32, N<'a, R>)>,
        overrides: Option<&'a Overrides<'a>>,
    ) -> N<'a, R> {
        values.sort_unstable_by_key(|&(name, ..)| name);
        let names: Vec<(Symbol, u32)> = values.iter().map(|&(name, offset, _)| (name, offset)).collect();
        let keys = self.constants.keys(&names);
        let nodes: Vec<N<'a, R>> = values.iter().map(|&(.., node)| node).collect();
        if set.dynamic.is_empty() && overrides.is_none() {
            if let Some(values) = self.all_constant(&nodes) {
                return Node::Const(self.constants.attrs(keys, &values));
            }
            let values = self.arena.alloc_slice_copy(&nodes);
            return Node::Attrs(self.arena.alloc(Attrs { keys, values }));
        }
        let fixed = Attrs { keys, values: self.arena.alloc_slice_copy(&nodes) };
        let mut dynamic = Vec::new();
        for binding in self.ast.dynamic_bindings(set.dynamic) {
            let name = self.strict(binding.name);
            let value = self.lazy(binding.value);
            let start = self.base.saturating_add(binding.offset);
            let place = Place { start, end: self.place(binding.name_span).end.max(start) };
            dynamic.push((name, value, place));
        }
        let dynamic = self.arena.alloc_slice_copy(&dynamic);
        Node::DynamicAttrs(self.arena.alloc(DynamicAttrs {
            fixed,
            dynamic,
            overrides,
            place: self.place_of(id),
        }))
    }

    /// Attribute `name` of what is in a hidden slot, to be computed when needed.
    fn inherited(&mut self, source: Binding, name: Symbol, span: Span, expr: ExprId) -> N<'a, R> {
        let place = self.place(span);
        let base_place = self.place_of(expr);
        let select = |this: &mut Self| {
            let base = this.var_node(source, base_place.start);
            Node::Field(this.arena.alloc(Field { base, name, place, base_place }))
        };
        if self.is_unwritten_here(source) || self.waits(expr) {
            return self.suspended(select, span);
        }
        let now = select(self);
        let later = self.suspension(select, span);
        Node::Eager(self.arena.alloc(Eager { now, later }))
    }

    // ---- bindings that see each other

    /// Lists the members of a `let` or `rec`, and gives them slots. Names are not in scope yet.
    fn members(&mut self, set: AttrSet) -> Vec<Member> {
        let mut members = Vec::new();
        let mut sources = Vec::new();
        for &source in self.ast.exprs(set.inherit_from) {
            let binding = self.new_binding(false);
            sources.push(binding);
            members.push(Member { name: None, binding, value: MemberValue::Expr(source) });
        }
        for binding in self.ast.bindings(set.bindings) {
            let value = match binding.kind {
                BindingKind::Plain => MemberValue::Expr(binding.value),
                BindingKind::Inherit => MemberValue::Outer(binding.value),
                BindingKind::InheritFrom(n) => {
                    MemberValue::From(sources[n as usize], binding.name, binding.name_span)
                }
            };
            let slot = self.new_binding(false);
            members.push(Member { name: Some(binding.name), binding: slot, value });
        }
        members
    }

    /// Resolves the values of members, in order, and what must be patched afterwards.
    ///
    /// With `all_patches`, every capture of a member by a member is patched, for `__overrides`.
    fn bind(&mut self, members: &[Member], all_patches: bool) -> (Vec<(u32, N<'a, R>)>, Vec<Patch>) {
        let outer: Vec<Option<N<'a, R>>> = members
            .iter()
            .map(|member| match member.value {
                MemberValue::Outer(expr) => Some(self.lazy(expr)),
                _ => None,
            })
            .collect();
        for member in members {
            if let Some(name) = member.name {
                self.push_name(name, member.binding);
            }
        }
        let mut nodes = Vec::with_capacity(members.len());
        let mut patches = Vec::new();
        for (member, outer) in members.iter().zip(outer) {
            let node = match (member.value, outer) {
                (_, Some(node)) => node,
                (MemberValue::Expr(expr), None) => match member.name {
                    Some(name) => self.lazy_named(expr, name),
                    None => self.lazy(expr),
                },
                (MemberValue::From(source, name, span), None) => self.inherited_member(source, name, span),
                (MemberValue::Outer(_), None) => unreachable!("resolved above"),
            };
            self.patches(&node, member.binding, members, all_patches, &mut patches);
            nodes.push((member.binding.slot, node));
            // What `__overrides` may replace is not looked at before.
            self.written[member.binding.id as usize] = !all_patches;
        }
        for member in members {
            self.written[member.binding.id as usize] = true;
        }
        (nodes, patches)
    }

    fn inherited_member(&mut self, source: Binding, name: Symbol, span: Span) -> N<'a, R> {
        let place = self.place(span);
        let select = |this: &mut Self| {
            let base = this.var_node(source, place.start);
            Node::Field(this.arena.alloc(Field { base, name, place, base_place: place }))
        };
        self.suspended(select, span)
    }

    /// Finds the captures of `node`, in the slot of `holder`, that are not written before it.
    fn patches(
        &self,
        node: &N<'a, R>,
        holder: Binding,
        members: &[Member],
        all: bool,
        patches: &mut Vec<Patch>,
    ) {
        let captures: &[Var] = match node {
            Node::Thunk(code) => code.captures,
            Node::Eager(eager) => eager.later.captures,
            Node::Lambda(lambda) => lambda.captures,
            _ => return,
        };
        let Some((first, last)) = members.first().zip(members.last()) else { return };
        let group = first.binding.slot..=last.binding.slot;
        for (index, var) in captures.iter().enumerate() {
            if let Var::Local(slot) = *var
                && group.contains(&slot)
            {
                let member = &members[(slot - first.binding.slot) as usize];
                if all || !self.written[member.binding.id as usize] {
                    patches.push(Patch { holder: holder.slot, capture: index as u32, slot });
                }
            }
        }
    }

    fn pop_members(&mut self, members: &[Member]) {
        for member in members {
            if let Some(name) = member.name {
                self.pop_name(name);
            }
        }
    }

    fn let_in(&mut self, attrs: AttrsId, body: ExprId) -> N<'a, R> {
        let set = self.ast.attrs(attrs);
        let saved = self.ctx().slots;
        let members = self.members(set);
        let (bindings, patches) = self.bind(&members, false);
        let body = self.strict(body);
        self.pop_members(&members);
        self.ctx().slots = saved;
        let bindings = self.arena.alloc_slice_copy(&bindings);
        let patches = self.arena.alloc_slice_copy(&patches);
        Node::Let(self.arena.alloc(Let { bindings, patches, body }))
    }

    fn recursive_attrs(&mut self, id: ExprId, set: AttrSet) -> N<'a, R> {
        let saved = self.ctx().slots;
        let members = self.members(set);
        let overriding = members.iter().find(|member| member.name == Some(sym::OVERRIDES));
        let overriding = overriding.map(|member| member.binding);
        let (bindings, patches) = self.bind(&members, overriding.is_some());
        let patches: &'a [Patch] = self.arena.alloc_slice_copy(&patches);
        let named = self.ast.bindings(set.bindings);
        let hidden = members.len() - named.len();
        let values = named
            .iter()
            .zip(&members[hidden..])
            .map(|(binding, member)| {
                let start = self.base.saturating_add(binding.offset);
                (binding.name, start, Node::Local(member.binding.slot, start))
            })
            .collect();
        let overrides = overriding.map(|binding| {
            let slots: Vec<(Symbol, u32)> =
                members.iter().filter_map(|member| Some((member.name?, member.binding.slot))).collect();
            let slots = self.arena.alloc_slice_copy(&slots);
            let at = named.iter().find(|binding| binding.name == sym::OVERRIDES).expect("found above");
            let place = self.place(at.name_span);
            &*self.arena.alloc(Overrides { slots, slot: binding.slot, patches, place })
        });
        let body = self.finish_attrs(id, set, values, overrides);
        self.pop_members(&members);
        self.ctx().slots = saved;
        let bindings = self.arena.alloc_slice_copy(&bindings);
        let patches = if overrides.is_some() { &[] } else { patches };
        Node::Let(self.arena.alloc(Let { bindings, patches, body }))
    }

    fn with(&mut self, attrs: ExprId, body: ExprId) -> N<'a, R> {
        let saved = self.ctx().slots;
        let scope = self.lazy(attrs);
        let binding = self.new_binding(true);
        let place = self.place_of(attrs);
        self.withs.push((binding, place));
        let body = self.strict(body);
        self.withs.pop();
        self.ctx().slots = saved;
        Node::With(self.arena.alloc(With { slot: binding.slot, scope, body }))
    }

    // ---- functions

    fn lambda(&mut self, id: ExprId, lambda: LambdaId, name: Option<Symbol>) -> N<'a, R> {
        let span = self.ast.span(id);
        let is_outermost = self.outermost.contains(&lambda);
        self.push_ctx(true);
        let mut parameters = Vec::new();
        let mut places = Vec::new();
        let mut bound = Vec::new();
        let mut formals = None;
        let (mut lambda, mut at) = (self.ast.lambda(lambda), id);
        let body = loop {
            places.push(self.place_of(at));
            parameters.push(lambda.arg);
            let binding = self.new_binding(true);
            if let Some(arg) = lambda.arg {
                self.push_name(arg, binding);
                bound.push(arg);
            }
            if let Some(pattern) = lambda.formals {
                formals = Some(self.formals(pattern, &mut bound));
                break lambda.body;
            }
            match self.ast.expr(lambda.body) {
                Expr::Lambda(inner) => {
                    at = lambda.body;
                    lambda = self.ast.lambda(inner);
                }
                _ => break lambda.body,
            }
        };
        let is_cheap =
            formals.is_none() && (self.is_cheap_operand(body, SHALLOW) || self.is_plain(body, SHALLOW));
        let deferred = if is_outermost || is_cheap { None } else { self.defer(body) };
        let node = match deferred {
            Some(deferred) => Node::Deferred(deferred),
            None => self.strict(body),
        };
        for name in bound.into_iter().rev() {
            self.pop_name(name);
        }
        let ctx = self.ctxs.pop().expect("pushed above");
        let captures = self.capture_list(&ctx);
        let body = &*self.arena.alloc(Body { node, slots: ctx.max_slots });
        self.put_aside(ctx);
        let lambda = &*self.arena.alloc(Lambda {
            arity: parameters.len() as u32,
            captures,
            parameters: self.arena.alloc_slice_copy(&parameters),
            formals,
            body: Cell::new(body),
            is_cheap,
            place: self.place(span),
            places: self.arena.alloc_slice_copy(&places),
            name: Cell::new(name),
        });
        if let Some(deferred) = deferred {
            deferred.lambda.set(Some(lambda));
        }
        // Made once here, a function is the same object each time; only what runs once may do that,
        // because functions in sets are compared by identity.
        if lambda.captures.is_empty() && !self.ctx().in_function {
            return Node::Const(self.constants.lambda(lambda));
        }
        Node::Lambda(lambda)
    }

    /// Puts the body of the current function off, if that is worth it.
    fn defer(&mut self, body: ExprId) -> Option<&'a Deferred<'a, R>> {
        let level = self.deferring.filter(|&level| level < MAX_DEFERRED_LEVEL)?;
        if self.ast.span(body).range().len() < self.min_deferred_bytes {
            return None;
        }
        let free = self.free_names(body);
        let mut names = Vec::with_capacity(free.names.len());
        for (name, binding) in free.names {
            names.push((name, self.var(binding)));
        }
        let mut withs = Vec::new();
        if free.uses_withs {
            for (binding, place) in self.withs.clone() {
                withs.push((self.var(binding), place));
            }
        }
        self.constants.put_off();
        Some(self.arena.alloc(Deferred {
            lambda: Cell::new(None),
            file: self.source.id(),
            base: self.base,
            span: self.ast.span(body),
            names: self.arena.alloc_slice_copy(&names),
            withs: self.arena.alloc_slice_copy(&withs),
            slots: self.ctx().slots,
            frame_slots: self.ctx().max_slots,
            level,
        }))
    }

    fn formals(&mut self, id: ast::FormalsId, bound: &mut Vec<Symbol>) -> &'a Formals<'a, R> {
        let pattern = self.ast.formals(id);
        let mut entries: Vec<ast::Formal> = self.ast.formal_entries(pattern.entries).to_vec();
        entries.sort_unstable_by_key(|entry| entry.name);
        let members: Vec<Member> = entries
            .iter()
            .map(|entry| {
                let binding = self.new_binding(entry.default.is_none());
                let value = MemberValue::Expr(entry.default.unwrap_or(self.ast.root()));
                Member { name: Some(entry.name), binding, value }
            })
            .collect();
        for entry in &members {
            let name = entry.name.expect("formals have names");
            self.push_name(name, entry.binding);
            bound.push(name);
        }
        let mut list = Vec::with_capacity(entries.len());
        for (entry, member) in entries.iter().zip(&members) {
            let mut patches = Vec::new();
            let default = entry.default.map(|default| {
                let node = self.lazy_named(default, entry.name);
                self.patches(&node, member.binding, &members, false, &mut patches);
                node
            });
            self.written[member.binding.id as usize] = true;
            list.push(Formal {
                name: entry.name,
                slot: member.binding.slot,
                default,
                patches: self.arena.alloc_slice_copy(&patches),
                place: self.place(entry.name_span),
            });
        }
        let list = self.arena.alloc_slice_fill_iter(list);
        self.arena.alloc(Formals { list, ellipsis: pattern.ellipsis })
    }

    fn capture_list(&self, ctx: &Ctx) -> &'a [Var] {
        self.arena.alloc_slice_fill_iter(ctx.captures.iter().map(|&(_, var)| var))
    }

    // ---- lazy places

    /// Resolves what is bound to a name: functions learn it.
    fn lazy_named(&mut self, id: ExprId, name: Symbol) -> N<'a, R> {
        match self.ast.expr(id) {
            Expr::Lambda(_) if self.waits(id) => self.wait(id, Some(name)),
            Expr::Lambda(lambda) => self.lambda(id, lambda, Some(name)),
            _ => self.lazy(id),
        }
    }

    fn waits(&self, id: ExprId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains(&id)
    }

    /// Resolves what must wait, also if it is a value as it stands.
    fn wait(&mut self, id: ExprId, name: Option<Symbol>) -> N<'a, R> {
        let body = |this: &mut Self| match this.ast.expr(id) {
            Expr::Lambda(lambda) => this.lambda(id, lambda, name),
            _ => this.strict(id),
        };
        Node::Thunk(self.suspension(body, self.ast.span(id)))
    }

    /// Resolves what may wait.
    fn lazy(&mut self, id: ExprId) -> N<'a, R> {
        if self.waits(id) {
            return self.wait(id, None);
        }
        let span = self.ast.span(id);
        match self.ast.expr(id) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) | Expr::Path(_) => self.strict(id),
            Expr::Lambda(lambda) => self.lambda(id, lambda, None),
            Expr::Var(name) => self.lazy_variable(name, span),
            Expr::List(elements) if elements.is_empty() => self.strict(id),
            Expr::List(_) | Expr::Attrs(_) if self.is_plain(id, SHALLOW) => self.strict(id),
            Expr::Interpolation(parts) => {
                let all_text = |part: &ast::StrPart| matches!(part.kind, StrPartKind::Text(_));
                if self.ast.parts(parts).iter().all(all_text) {
                    return self.strict(id);
                }
                self.suspended_expr(id)
            }
            _ if self.is_cheap(id, SHALLOW) => {
                let now = self.strict(id);
                if matches!(now, Node::Const(_)) {
                    return now;
                }
                let later = self.suspension(|this| this.strict(id), span);
                Node::Eager(self.arena.alloc(Eager { now, later }))
            }
            _ => self.suspended_expr(id),
        }
    }

    fn lazy_variable(&mut self, name: Symbol, span: Span) -> N<'a, R> {
        match self.lookup(name) {
            Some(binding) if self.is_unwritten_here(binding) => {
                self.suspended(|this| this.variable(name, span), span)
            }
            Some(binding) => self.var_node(binding, self.place(span).start),
            None => match self.constants.global(name) {
                Some(value) => Node::Const(value),
                None => self.suspended(|this| this.variable(name, span), span),
            },
        }
    }

    /// Turns a strict node into a lazy one.
    fn as_lazy(&mut self, node: N<'a, R>, again: impl Fn(&mut Self) -> N<'a, R>, span: Span) -> N<'a, R> {
        match node {
            Node::Const(_) | Node::Local(..) | Node::Captured(..) | Node::Lambda(_) => node,
            _ => self.suspended(again, span),
        }
    }

    fn suspended_expr(&mut self, id: ExprId) -> N<'a, R> {
        let span = self.ast.span(id);
        self.suspended(|this| this.strict(id), span)
    }

    fn suspended(&mut self, body: impl Fn(&mut Self) -> N<'a, R>, span: Span) -> N<'a, R> {
        let code = self.suspension(body, span);
        match code.body.node {
            Node::Const(value) => Node::Const(value),
            _ => Node::Thunk(code),
        }
    }

    fn suspension(&mut self, body: impl Fn(&mut Self) -> N<'a, R>, span: Span) -> &'a Suspension<'a, R> {
        self.push_ctx(false);
        let node = body(self);
        let ctx = self.ctxs.pop().expect("pushed above");
        let captures = self.capture_list(&ctx);
        let body = Body { node, slots: ctx.max_slots };
        self.put_aside(ctx);
        self.arena.alloc(Suspension { captures, body, place: self.place(span) })
    }

    /// Whether a literal is small and made of constants and variables only, so that building it at once
    /// costs no more than delaying it.
    fn is_plain(&self, id: ExprId, depth: usize) -> bool {
        if depth == 0 {
            return false;
        }
        match self.ast.expr(id) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) | Expr::Path(_) => true,
            Expr::Var(name) => match self.lookup(name) {
                Some(binding) => !self.is_unwritten_here(binding),
                None => self.withs.is_empty(),
            },
            Expr::List(elements) => {
                elements.len() <= FEW_ELEMENTS
                    && self.ast.exprs(elements).iter().all(|&element| self.is_plain(element, depth - 1))
            }
            Expr::Attrs(attrs) => {
                let set = self.ast.attrs(attrs);
                !set.recursive
                    && set.dynamic.is_empty()
                    && set.inherit_from.is_empty()
                    && set.bindings.len() <= FEW_ELEMENTS
                    && self.ast.bindings(set.bindings).iter().all(|b| self.is_plain(b.value, depth - 1))
            }
            _ => false,
        }
    }

    /// Whether an expression is arithmetic, a comparison or a selection over variables and numbers.
    fn is_cheap(&self, id: ExprId, depth: usize) -> bool {
        if depth == 0 {
            return false;
        }
        match self.ast.expr(id) {
            Expr::Select { base, path, default: None } => {
                let [name] = self.ast.attr_path(path) else { return false };
                matches!(name.kind, AttrNameKind::Static(_)) && self.is_cheap_operand(base, depth - 1)
            }
            Expr::Negate(operand) => {
                matches!(self.ast.expr(operand), Expr::Int(_) | Expr::Float(_)) && !self.is_rebound(sym::SUB)
            }
            Expr::Binary { op, left, right, .. } => {
                let rebound = match op {
                    BinaryOp::Add => false,
                    BinaryOp::Sub => self.is_rebound(sym::SUB),
                    BinaryOp::Mul => self.is_rebound(sym::MUL),
                    BinaryOp::Div => self.is_rebound(sym::DIV),
                    BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
                        self.is_rebound(sym::LESS_THAN)
                    }
                    _ => return false,
                };
                !rebound && self.is_cheap_operand(left, depth - 1) && self.is_cheap_operand(right, depth - 1)
            }
            _ => false,
        }
    }

    fn is_cheap_operand(&self, id: ExprId, depth: usize) -> bool {
        match self.ast.expr(id) {
            Expr::Int(_) => true,
            Expr::Var(name) => match self.lookup(name) {
                Some(binding) => !self.is_unwritten_here(binding),
                None => self.withs.is_empty(),
            },
            _ => self.is_cheap(id, depth),
        }
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
