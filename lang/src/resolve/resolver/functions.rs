//! Functions: frames of their own, formals, and bodies that are put off.

use std::cell::Cell;

use super::sets::{Member, MemberValue};
use super::{N, Resolver, SHALLOW};
use crate::ast::{self, Expr, ExprId, LambdaId};
use crate::resolve::ir::{Body, Deferred, Formal, Formals, Hint, Lambda, Node, Runtime};
use crate::symbol::Symbol;

/// How many functions around one that is put off may have been: each time, the text inside is parsed again.
const MAX_DEFERRED_LEVEL: u32 = 2;

impl<'a, R: Runtime> Resolver<'a, '_, '_, R> {
    pub(super) fn lambda(&mut self, id: ExprId, lambda: LambdaId, name: Option<Symbol>) -> N<'a, R> {
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
            None => self.body(body, name),
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

    /// Resolves the body of a function: one that it returns at once has its name.
    pub(super) fn body(&mut self, id: ExprId, name: Option<Symbol>) -> N<'a, R> {
        match self.ast.expr(id) {
            Expr::Lambda(inner) if self.depth_left > 0 => {
                self.depth_left -= 1;
                let node = self.lambda(id, inner, name);
                self.depth_left += 1;
                node
            }
            _ => self.strict(id),
        }
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
                hint: Hint::default(),
            });
        }
        let list = self.arena.alloc_slice_fill_iter(list);
        self.arena.alloc(Formals { list, ellipsis: pattern.ellipsis, keys: Cell::new(None) })
    }
}
