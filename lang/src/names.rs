//! Which names are bound nowhere: a look at the tree alone, without making code of it.
//!
//! [`crate::resolve`] finds the same when a program is to run. This pass is for the rest: to say all
//! that is wrong with a text in one go although it also defines something twice,
//! and for tools that only check. It does not recurse.

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::ast::{Ast, AttrNameKind, AttrPathId, AttrsId, BindingKind, Expr, ExprId, StrPartKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::near::near_name;
use crate::source::Source;
use crate::span::{FileSpan, Span};
use crate::symbol::Symbol;

/// The names that Nix 2.34 binds everywhere, besides those that begin with two underscores.
pub const GLOBALS: &[&str] = &[
    "abort",
    "baseNameOf",
    "break",
    "builtins",
    "derivation",
    "derivationStrict",
    "dirOf",
    "false",
    "fetchGit",
    "fetchMercurial",
    "fetchTarball",
    "fromTOML",
    "import",
    "isNull",
    "map",
    "null",
    "placeholder",
    "removeAttrs",
    "scopedImport",
    "throw",
    "toString",
    "true",
];

/// Returns an error for each use of a name that is bound nowhere, in the order of the text.
pub fn undefined(ast: &Ast, source: &Source) -> Vec<Diagnostic> {
    undefined_but(&HashSet::new(), ast, source)
}

/// Returns the same, without the names in `unsure`: they may be bound in what could not be read.
pub(crate) fn undefined_but(unsure: &HashSet<Symbol>, ast: &Ast, source: &Source) -> Vec<Diagnostic> {
    let globals = GLOBALS.iter().map(|name| (Symbol::intern(name), 1)).collect();
    let mut names =
        Names { ast, bound: globals, withs: 0, todo: vec![Todo::Look(ast.root())], found: Vec::new() };
    while let Some(todo) = names.todo.pop() {
        names.step(todo);
    }
    names.found.sort_by_key(|found| found.span);
    names
        .found
        .into_iter()
        .filter(|found| !unsure.contains(&found.name))
        .map(|found| found.diagnostic(source))
        .collect()
}

struct Undefined {
    name: Symbol,
    span: Span,
    near: Option<String>,
}

impl Undefined {
    fn diagnostic(self, source: &Source) -> Diagnostic {
        let at = FileSpan { file: source.id(), span: self.span };
        let error =
            Diagnostic::error(codes::UNDEFINED_VARIABLE, format!("undefined variable '{}'", self.name), at);
        match self.near {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }
}

#[derive(Clone, Copy)]
enum Todo {
    Look(ExprId),
    /// The names of a set or `let` come into scope, or go.
    Bind(AttrsId, bool),
    /// The names of a function's argument.
    BindLambda(crate::ast::LambdaId, bool),
    With(bool),
}

struct Names<'a> {
    ast: &'a Ast,
    /// How many times each name is bound around here.
    bound: FxHashMap<Symbol, u32>,
    withs: u32,
    todo: Vec<Todo>,
    found: Vec<Undefined>,
}

impl Names<'_> {
    fn step(&mut self, todo: Todo) {
        match todo {
            Todo::Look(id) => self.look(id),
            Todo::With(true) => self.withs += 1,
            Todo::With(false) => self.withs -= 1,
            Todo::Bind(attrs, enter) => {
                for binding in self.ast.bindings(self.ast.attrs(attrs).bindings) {
                    bind(&mut self.bound, binding.name, enter);
                }
            }
            Todo::BindLambda(id, enter) => {
                let lambda = self.ast.lambda(id);
                if let Some(name) = lambda.arg {
                    bind(&mut self.bound, name, enter);
                }
                if let Some(formals) = lambda.formals {
                    for formal in self.ast.formal_entries(self.ast.formals(formals).entries) {
                        bind(&mut self.bound, formal.name, enter);
                    }
                }
            }
        }
    }

    fn look(&mut self, id: ExprId) {
        use Todo::Look;
        let ast = self.ast;
        match ast.expr(id) {
            Expr::Int(_)
            | Expr::Float(_)
            | Expr::Str(_)
            | Expr::Path(_)
            | Expr::SearchPath(_)
            | Expr::CurPos
            | Expr::Error => {}
            Expr::Var(name) => self.variable(name, ast.span(id)),
            Expr::Interpolation(parts) | Expr::PathInterpolation { parts, .. } => {
                for part in ast.parts(parts) {
                    if let StrPartKind::Expr(id) = part.kind {
                        self.todo.push(Look(id));
                    }
                }
            }
            Expr::Apply { function, args } => {
                self.todo.push(Look(function));
                self.todo.extend(ast.exprs(args).iter().map(|&arg| Look(arg)));
            }
            Expr::Select { base, path, default } => {
                self.todo.extend(default.map(Look));
                self.path(path);
                self.todo.push(Look(base));
            }
            Expr::HasAttr { base, path } => {
                self.path(path);
                self.todo.push(Look(base));
            }
            Expr::List(elements) => {
                self.todo.extend(ast.exprs(elements).iter().map(|&element| Look(element)))
            }
            Expr::Attrs(attrs) => self.attrs(attrs, ast.attrs(attrs).recursive, None),
            Expr::Let { attrs, body } => self.attrs(attrs, true, Some(body)),
            Expr::Lambda(id) => {
                let lambda = ast.lambda(id);
                self.todo.extend([Todo::BindLambda(id, false), Look(lambda.body)]);
                if let Some(formals) = lambda.formals {
                    let entries = ast.formal_entries(ast.formals(formals).entries);
                    self.todo.extend(entries.iter().filter_map(|formal| formal.default).map(Look));
                }
                self.todo.push(Todo::BindLambda(id, true));
            }
            Expr::With { attrs, body } => {
                self.todo.extend([Todo::With(false), Look(body), Todo::With(true), Look(attrs)]);
            }
            Expr::Assert { condition, body } => self.todo.extend([Look(condition), Look(body)]),
            Expr::If { condition, then, otherwise } => {
                self.todo.extend([Look(condition), Look(then), Look(otherwise)]);
            }
            Expr::Not(operand) | Expr::Negate(operand) => self.todo.push(Look(operand)),
            Expr::Binary { left, right, .. } => self.todo.extend([Look(left), Look(right)]),
        }
    }

    fn variable(&mut self, name: Symbol, span: Span) {
        /// Looking for a name that is spelt alike takes time: not for hundreds of them.
        const SUGGESTED: usize = 20;
        /// Any two names of one or two letters are near.
        const SHORT: usize = 2;
        let global = self.withs > 0 || name.as_bytes().starts_with(b"__");
        if global || self.bound.get(&name).is_some_and(|&count| count > 0) {
            return;
        }
        let worth_it = self.found.len() < SUGGESTED && name.as_bytes().len() > SHORT;
        let near = worth_it.then(|| self.near(name)).flatten();
        self.found.push(Undefined { name, span, near });
    }

    fn near(&self, name: Symbol) -> Option<String> {
        let mut known: Vec<String> = self
            .bound
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, _)| name.as_str().into_owned())
            .collect();
        known.sort_unstable();
        near_name(&name.as_str(), known.iter().map(String::as_str)).map(str::to_owned)
    }

    fn path(&mut self, path: AttrPathId) {
        for name in self.ast.attr_path(path) {
            if let AttrNameKind::Dynamic(id) = name.kind {
                self.todo.push(Todo::Look(id));
            }
        }
    }

    fn attrs(&mut self, id: AttrsId, recursive: bool, body: Option<ExprId>) {
        use Todo::Look;
        let ast = self.ast;
        let set = ast.attrs(id);
        let bindings = ast.bindings(set.bindings);
        if recursive {
            self.todo.push(Todo::Bind(id, false));
        }
        self.todo.extend(body.map(Look));
        for dynamic in ast.dynamic_bindings(set.dynamic) {
            self.todo.extend([Look(dynamic.name), Look(dynamic.value)]);
        }
        self.todo.extend(ast.exprs(set.inherit_from).iter().map(|&from| Look(from)));
        let plain = bindings.iter().filter(|binding| binding.kind == BindingKind::Plain);
        self.todo.extend(plain.map(|binding| Look(binding.value)));
        if recursive {
            self.todo.push(Todo::Bind(id, true));
        }
        // These are looked up outside of the set.
        let inherited = bindings.iter().filter(|binding| binding.kind == BindingKind::Inherit);
        self.todo.extend(inherited.map(|binding| Look(binding.value)));
    }
}

fn bind(bound: &mut FxHashMap<Symbol, u32>, name: Symbol, enter: bool) {
    let count = bound.entry(name).or_insert(0);
    *count = if enter { *count + 1 } else { count.saturating_sub(1) };
}
