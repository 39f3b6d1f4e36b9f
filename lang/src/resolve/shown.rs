//! What Nix would not have computed yet when values are printed as they are.
//!
//! Printed without being forced, a part of a set or list that waits shows as `<CODE>`. We build small literals,
//! functions and cheap arithmetic at once where Nix makes a thunk of everything but constants and variables:
//! that is faster, and seen nowhere but there. So that it is not seen there either, the expressions that Nix
//! delays are listed: the parts of sets and lists, literals that are arguments, and what is bound to a
//! name that is such a part: by `let`, as a default, or as an argument, of which we do not know whose it is. So
//! where any parameter is a part, all arguments wait; a program that only counts (`f (n - 1)`) is spared.
//!
//! ```text
//! let a = { }; f = x: { y = x + 1; }; in f 1 // { b = a; c = true; }     { } of `a`, x + 1
//! ```

use rustc_hash::FxHashSet as HashSet;

use crate::ast::{self, Ast, AttrSet, BindingKind, Expr, ExprId, StrPartKind};
use crate::symbol::Symbol;

/// Returns the expressions in lazy places that must not be computed before they are asked for.
pub(super) fn delayed_as_in_nix(ast: &Ast) -> HashSet<ExprId> {
    let mut shown =
        Shown { ast, delayed: HashSet::default(), names: HashSet::default(), arguments_are_parts: false };
    // What may make a part of what is no part yet.
    let mut binders = Vec::new();
    for id in ast.expr_ids() {
        shown.parts_of(id);
        if let Expr::Let { .. } | Expr::Attrs(_) | Expr::Lambda(_) | Expr::Apply { .. } = ast.expr(id) {
            binders.push(id);
        }
    }
    // A name may be bound to another.
    let mut before = None;
    while before != Some((shown.names.len(), shown.arguments_are_parts)) {
        before = Some((shown.names.len(), shown.arguments_are_parts));
        for &id in &binders {
            match ast.expr(id) {
                Expr::Let { attrs, .. } | Expr::Attrs(attrs) => shown.named(ast.attrs(attrs)),
                Expr::Lambda(lambda) => shown.parameters(ast.lambda(lambda)),
                Expr::Apply { args, .. } if shown.arguments_are_parts => {
                    ast.exprs(args).iter().for_each(|&arg| shown.part(arg));
                }
                _ => {}
            }
        }
    }
    shown.delayed
}

struct Shown<'s> {
    ast: &'s Ast,
    delayed: HashSet<ExprId>,
    /// Names of variables that are parts, wherever they are bound.
    names: HashSet<Symbol>,
    /// Whether one of them is a parameter.
    arguments_are_parts: bool,
}

impl Shown<'_> {
    fn parts_of(&mut self, id: ExprId) {
        match self.ast.expr(id) {
            Expr::Attrs(attrs) => {
                let set = self.ast.attrs(attrs);
                self.delayed.extend(self.ast.exprs(set.inherit_from));
                for binding in self.ast.bindings(set.bindings) {
                    if !matches!(binding.kind, BindingKind::InheritFrom(_)) {
                        self.part(binding.value);
                    }
                }
                for binding in self.ast.dynamic_bindings(set.dynamic) {
                    self.part(binding.value);
                }
            }
            Expr::List(elements) => {
                for &element in self.ast.exprs(elements) {
                    self.part(element);
                }
            }
            Expr::Apply { args, .. } => {
                for &arg in self.ast.exprs(args) {
                    // What is computed anew in every round of a loop is not worth a thunk.
                    if matches!(self.ast.expr(arg), Expr::Attrs(_) | Expr::List(_) | Expr::Lambda(_)) {
                        self.part(arg);
                    }
                }
            }
            _ => {}
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
                self.names.insert(name);
            }
            _ => {
                self.delayed.insert(id);
            }
        }
    }

    /// Parameters that are parts, and their defaults.
    fn parameters(&mut self, lambda: ast::Lambda) {
        self.arguments_are_parts |= lambda.arg.is_some_and(|name| self.names.contains(&name));
        let Some(formals) = lambda.formals else { return };
        for formal in self.ast.formal_entries(self.ast.formals(formals).entries) {
            if self.names.contains(&formal.name) {
                self.arguments_are_parts = true;
                if let Some(default) = formal.default {
                    self.part(default);
                }
            }
        }
    }

    /// Bindings whose names are parts somewhere.
    fn named(&mut self, set: AttrSet) {
        for binding in self.ast.bindings(set.bindings) {
            if binding.kind == BindingKind::Plain && self.names.contains(&binding.name) {
                self.part(binding.value);
            }
        }
    }
}
