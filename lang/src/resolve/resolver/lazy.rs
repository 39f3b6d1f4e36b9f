//! What may wait: constants and variables stand as they are, what is cheap is tried at once, the rest is suspended.

use super::{N, Resolver, SHALLOW};
use crate::ast::{self, AttrNameKind, BinaryOp, Expr, ExprId, StrPartKind};
use crate::resolve::ir::{Body, Eager, Node, Runtime, Suspension};
use crate::span::Span;
use crate::symbol::{Symbol, sym};

/// Elements of a literal that is built at once rather than delayed.
const FEW_ELEMENTS: usize = 6;

impl<'a, R: Runtime> Resolver<'a, '_, '_, R> {
    /// Resolves what is bound to a name: functions learn it.
    pub(super) fn lazy_named(&mut self, id: ExprId, name: Symbol) -> N<'a, R> {
        match self.ast.expr(id) {
            Expr::Lambda(_) if self.waits(id) => self.wait(id, Some(name)),
            Expr::Lambda(lambda) => self.lambda(id, lambda, Some(name)),
            _ => self.lazy(id),
        }
    }

    pub(super) fn waits(&self, id: ExprId) -> bool {
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
    pub(super) fn lazy(&mut self, id: ExprId) -> N<'a, R> {
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
    pub(super) fn as_lazy(
        &mut self,
        node: N<'a, R>,
        again: impl Fn(&mut Self) -> N<'a, R>,
        span: Span,
    ) -> N<'a, R> {
        match node {
            Node::Const(_) | Node::Local(..) | Node::Captured(..) | Node::Lambda(_) => node,
            _ => self.suspended(again, span),
        }
    }

    fn suspended_expr(&mut self, id: ExprId) -> N<'a, R> {
        let span = self.ast.span(id);
        self.suspended(|this| this.strict(id), span)
    }

    pub(super) fn suspended(&mut self, body: impl Fn(&mut Self) -> N<'a, R>, span: Span) -> N<'a, R> {
        let code = self.suspension(body, span);
        match code.body.node {
            Node::Const(value) => Node::Const(value),
            _ => Node::Thunk(code),
        }
    }

    pub(super) fn suspension(
        &mut self,
        body: impl Fn(&mut Self) -> N<'a, R>,
        span: Span,
    ) -> &'a Suspension<'a, R> {
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
    pub(super) fn is_plain(&self, id: ExprId, depth: usize) -> bool {
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

    pub(super) fn is_cheap_operand(&self, id: ExprId, depth: usize) -> bool {
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
