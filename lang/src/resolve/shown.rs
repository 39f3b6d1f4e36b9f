//! What Nix would not have computed yet in the value that a file gives.
//!
//! Printed without being forced, a part that waits shows as `<CODE>`. We build small literals,
//! functions and cheap arithmetic at once where Nix makes a thunk of everything but constants and variables:
//! that is faster, and seen nowhere but there. So that it is not seen there either, the
//! expressions that Nix would delay are listed for the sets and lists that the file's value is made of,
//! as far as its text tells.
//!
//! ```text
//! let a = { }; f = x: { y = x + 1; }; in f 1 // { b = a; c = true; }     { }, x + 1
//! ```

use std::collections::HashSet;

use crate::ast::{self, Ast, AttrSet, AttrsId, BinaryOp, BindingKind, Expr, ExprId, LambdaId, StrPartKind};
use crate::symbol::Symbol;

/// Returns the expressions in lazy places that must not be computed before they are asked for.
pub(super) fn delayed_as_in_nix(ast: &Ast) -> HashSet<ExprId> {
    let mut shown =
        Shown { ast, delayed: HashSet::new(), seen: HashSet::new(), scopes: Vec::new(), depth: 0 };
    shown.result(ast.root());
    shown.delayed
}

/// Names on the way to an expression.
enum Scope {
    Bindings(AttrsId),
    Parameters(LambdaId),
}

struct Shown<'s> {
    ast: &'s Ast,
    delayed: HashSet<ExprId>,
    seen: HashSet<ExprId>,
    scopes: Vec<Scope>,
    depth: u32,
}

/// Nested deeper than this, nobody looks at what is printed.
const MOST_DEPTH: u32 = 200;

impl Shown<'_> {
    /// Looks at an expression whose value is the file's, or the right part of it.
    fn result(&mut self, id: ExprId) {
        if self.depth == MOST_DEPTH || !self.seen.insert(id) {
            return;
        }
        self.depth += 1;
        self.result_of(id);
        self.depth -= 1;
    }

    fn result_of(&mut self, id: ExprId) {
        match self.ast.expr(id) {
            Expr::Let { attrs, body } => {
                self.scopes.push(Scope::Bindings(attrs));
                self.result(body);
                self.scopes.pop();
            }
            Expr::With { body, .. } | Expr::Assert { body, .. } => self.result(body),
            Expr::If { then, otherwise, .. } => {
                self.result(then);
                self.result(otherwise);
            }
            Expr::Lambda(lambda) => self.body(lambda),
            Expr::Binary { op: BinaryOp::Update | BinaryOp::Concat, left, right, .. } => {
                self.result(left);
                self.result(right);
            }
            Expr::Apply { function, args } => {
                self.called(function);
                for &arg in self.ast.exprs(args) {
                    // What is computed anew in every round of a loop is not worth a thunk.
                    if matches!(self.ast.expr(arg), Expr::Attrs(_) | Expr::List(_) | Expr::Lambda(_)) {
                        self.part(arg);
                    }
                }
            }
            Expr::Var(name) => {
                if let Some((value, depth)) = self.bound(name) {
                    self.within(depth, |this| this.result(value));
                }
            }
            Expr::Attrs(attrs) => self.set(attrs),
            Expr::List(elements) => {
                for &element in self.ast.exprs(elements) {
                    self.part(element);
                }
            }
            _ => {}
        }
    }

    fn body(&mut self, lambda: LambdaId) {
        self.scopes.push(Scope::Parameters(lambda));
        self.result(self.ast.lambda(lambda).body);
        self.scopes.pop();
    }

    /// A function whose result is the file's value: its body is looked at if the text says what it is.
    fn called(&mut self, function: ExprId) {
        match self.ast.expr(function) {
            Expr::Lambda(lambda) => self.body(lambda),
            Expr::Var(name) => {
                let Some((value, depth)) = self.bound(name) else { return };
                if matches!(self.ast.expr(value), Expr::Lambda(_)) {
                    self.within(depth, |this| this.result(value));
                }
            }
            _ => {}
        }
    }

    fn set(&mut self, id: AttrsId) {
        let set = self.ast.attrs(id);
        self.delayed.extend(self.ast.exprs(set.inherit_from));
        if set.recursive {
            self.scopes.push(Scope::Bindings(id));
        }
        self.values(set);
        if set.recursive {
            self.scopes.pop();
        }
    }

    fn values(&mut self, set: AttrSet) {
        for binding in self.ast.bindings(set.bindings) {
            match binding.kind {
                BindingKind::Plain | BindingKind::Inherit => self.part(binding.value),
                BindingKind::InheritFrom(_) => {}
            }
        }
        for binding in self.ast.dynamic_bindings(set.dynamic) {
            self.part(binding.value);
        }
    }

    /// An element or the value of an attribute: a constant, a variable, or a thunk.
    fn part(&mut self, id: ExprId) {
        let is_text = |part: &ast::StrPart| matches!(part.kind, StrPartKind::Text(_));
        match self.ast.expr(id) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) | Expr::Path(_) => {}
            Expr::Interpolation(parts) if self.ast.parts(parts).iter().all(is_text) => {}
            Expr::List(elements) if elements.is_empty() => {}
            Expr::Var(name) => {
                if let Some((value, depth)) = self.bound(name)
                    && self.seen.insert(id)
                {
                    self.within(depth, |this| this.part(value));
                }
            }
            _ => {
                self.delayed.insert(id);
                self.result(id);
            }
        }
    }

    /// Finds the value that a `let` or recursive set around gives a name, and how many scopes it sees.
    fn bound(&self, name: Symbol) -> Option<(ExprId, usize)> {
        for (depth, scope) in self.scopes.iter().enumerate().rev() {
            match scope {
                Scope::Bindings(attrs) => {
                    let set = self.ast.attrs(*attrs);
                    let bindings = self.ast.bindings(set.bindings);
                    match bindings.iter().find(|binding| binding.name == name) {
                        Some(binding) if binding.kind == BindingKind::Plain => {
                            return Some((binding.value, depth + 1));
                        }
                        Some(_) => return None,
                        None => {}
                    }
                }
                Scope::Parameters(lambda) => {
                    let lambda = self.ast.lambda(*lambda);
                    let formals = lambda.formals.map(|formals| self.ast.formals(formals).entries);
                    let mut names = formals.iter().flat_map(|&entries| self.ast.formal_entries(entries));
                    if lambda.arg == Some(name) || names.any(|formal| formal.name == name) {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn within(&mut self, depth: usize, look: impl FnOnce(&mut Self)) {
        let inner = self.scopes.split_off(depth);
        look(self);
        self.scopes.extend(inner);
    }
}
