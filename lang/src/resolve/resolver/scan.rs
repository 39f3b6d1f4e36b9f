//! Looks through an expression for the names that it uses and does not bind, making no code of it.
//!
//! It visits what the resolver will visit, in scopes like its own, and reports the same errors.

use rustc_hash::FxHashSet;

use super::{Binding, Resolver};
use crate::ast::{self, AttrNameKind, AttrPathId, AttrSet, BinaryOp, BindingKind, Expr, ExprId, StrPartKind};
use crate::resolve::ir::Runtime;
use crate::span::Span;
use crate::symbol::{Symbol, sym};

/// What an expression uses of what is around it.
#[derive(Default)]
pub(super) struct Free {
    /// Names that are bound around it, in the order of their first use.
    pub(super) names: Vec<(Symbol, Binding)>,
    seen: FxHashSet<Symbol>,
    /// Whether some name is looked for in the sets of the `with`s around it.
    pub(super) uses_withs: bool,
    /// `with`s inside of it, around what is being looked at.
    inner_withs: u32,
}

impl<R: Runtime> Resolver<'_, '_, '_, R> {
    /// Returns the names that an expression uses and does not bind.
    pub(super) fn free_names(&mut self, id: ExprId) -> Free {
        let mut free = Free::default();
        self.scan(id, &mut free);
        free
    }

    fn scan(&mut self, id: ExprId, free: &mut Free) {
        if self.depth_left == 0 {
            self.too_deep(id);
            return;
        }
        self.depth_left -= 1;
        self.scan_inner(id, free);
        self.depth_left += 1;
    }

    fn scan_inner(&mut self, id: ExprId, free: &mut Free) {
        let ast = self.ast;
        match ast.expr(id) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) | Expr::CurPos => {}
            Expr::Path(text) => self.scan_path(id, ast.text(text)),
            Expr::SearchPath(_) => {
                self.scan_operator(sym::NIX_PATH, free);
                self.scan_operator(sym::FIND_FILE, free);
            }
            Expr::Var(name) => self.scan_name(name, ast.span(id), free),
            Expr::Interpolation(parts) => self.scan_parts(parts, free),
            Expr::PathInterpolation { base, parts } => {
                self.scan(base, free);
                self.scan_parts(parts, free);
            }
            Expr::Apply { function, args } => {
                self.scan(function, free);
                self.scan_all(ast.exprs(args), free);
            }
            Expr::Select { base, path, default } => {
                self.scan(base, free);
                self.scan_steps(path, free);
                if let Some(default) = default {
                    self.scan(default, free);
                }
            }
            Expr::HasAttr { base, path } => {
                self.scan(base, free);
                self.scan_steps(path, free);
            }
            Expr::List(elements) => self.scan_all(ast.exprs(elements), free),
            Expr::Attrs(attrs) => {
                self.scan_bindings(ast.attrs(attrs), ast.attrs(attrs).recursive, None, free)
            }
            Expr::Let { attrs, body } => self.scan_bindings(ast.attrs(attrs), true, Some(body), free),
            Expr::Lambda(lambda) => self.scan_lambda(ast.lambda(lambda), free),
            Expr::With { attrs, body } => {
                self.scan(attrs, free);
                free.inner_withs += 1;
                self.scan(body, free);
                free.inner_withs -= 1;
            }
            Expr::Assert { condition, body } => self.scan_all(&[condition, body], free),
            Expr::If { condition, then, otherwise } => self.scan_all(&[condition, then, otherwise], free),
            Expr::Not(operand) => self.scan(operand, free),
            Expr::Negate(operand) => {
                self.scan_operator(sym::SUB, free);
                self.scan(operand, free);
            }
            Expr::Binary { op, left, right, .. } => {
                match op {
                    BinaryOp::Less | BinaryOp::Greater | BinaryOp::LessEqual | BinaryOp::GreaterEqual => {
                        self.scan_operator(sym::LESS_THAN, free);
                    }
                    BinaryOp::Sub => self.scan_operator(sym::SUB, free),
                    BinaryOp::Mul => self.scan_operator(sym::MUL, free),
                    BinaryOp::Div => self.scan_operator(sym::DIV, free),
                    _ => {}
                }
                self.scan(left, free);
                self.scan(right, free);
            }
            Expr::Error => unreachable!("a tree with errors is not resolved"),
        }
    }

    fn scan_all(&mut self, ids: &[ExprId], free: &mut Free) {
        ids.iter().for_each(|&id| self.scan(id, free));
    }

    fn scan_path(&mut self, id: ExprId, text: &[u8]) {
        if text.starts_with(b"~") {
            // For the error where there is no home.
            self.absolute(id, text);
        }
    }

    /// A name that an operator stands for.
    fn scan_operator(&mut self, name: Symbol, free: &mut Free) {
        if let Some(binding) = self.lookup(name) {
            free.add(name, binding);
        }
    }

    fn scan_name(&mut self, name: Symbol, span: Span, free: &mut Free) {
        if let Some(binding) = self.lookup(name) {
            free.add(name, binding);
        } else if self.constants.global(name).is_none() {
            free.uses_withs |= !self.withs.is_empty();
            if free.inner_withs == 0 && self.withs.is_empty() {
                self.undefined(name, span);
            }
        }
    }

    fn scan_parts(&mut self, parts: ast::Slice<ast::StrPart>, free: &mut Free) {
        for part in self.ast.parts(parts) {
            if let StrPartKind::Expr(id) = part.kind {
                self.scan(id, free);
            }
        }
    }

    fn scan_steps(&mut self, path: AttrPathId, free: &mut Free) {
        for name in self.ast.attr_path(path) {
            if let AttrNameKind::Dynamic(id) = name.kind {
                self.scan(id, free);
            }
        }
    }

    fn scan_bindings(&mut self, set: AttrSet, is_recursive: bool, body: Option<ExprId>, free: &mut Free) {
        let bindings = self.ast.bindings(set.bindings);
        // `inherit a;` looks outside.
        let inherited = bindings.iter().filter(|binding| binding.kind == BindingKind::Inherit);
        inherited.for_each(|binding| self.scan(binding.value, free));
        if is_recursive {
            bindings.iter().for_each(|binding| self.push_name(binding.name, Binding::INSIDE));
        }
        self.scan_all(self.ast.exprs(set.inherit_from), free);
        let plain = bindings.iter().filter(|binding| binding.kind == BindingKind::Plain);
        plain.for_each(|binding| self.scan(binding.value, free));
        for dynamic in self.ast.dynamic_bindings(set.dynamic) {
            self.scan_all(&[dynamic.name, dynamic.value], free);
        }
        if let Some(body) = body {
            self.scan(body, free);
        }
        if is_recursive {
            bindings.iter().for_each(|binding| self.pop_name(binding.name));
        }
    }

    fn scan_lambda(&mut self, lambda: ast::Lambda, free: &mut Free) {
        let ast = self.ast;
        let formals = lambda.formals.map(|formals| ast.formal_entries(ast.formals(formals).entries));
        let formals = formals.unwrap_or_default();
        let names = || lambda.arg.into_iter().chain(formals.iter().map(|formal| formal.name));
        names().for_each(|name| self.push_name(name, Binding::INSIDE));
        for formal in formals {
            if let Some(default) = formal.default {
                self.scan(default, free);
            }
        }
        self.scan(lambda.body, free);
        names().for_each(|name| self.pop_name(name));
    }
}

impl Free {
    fn add(&mut self, name: Symbol, binding: Binding) {
        if !binding.is_inside() && self.seen.insert(name) {
            self.names.push((name, binding));
        }
    }
}
