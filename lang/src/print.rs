//! Prints a tree as `nix-instantiate --parse` of Nix 2.34 does.
//!
//! That form shows how the program was understood: every operation has its
//! parentheses, sets are merged and sorted, paths absolute, `a - b` is
//! the call that it stands for. There is no recursion: what is left to print lies on a stack.

use crate::ast::{
    Ast, AttrNameKind, AttrPathId, AttrsId, BinaryOp, BindingKind, Expr, ExprId, Formals, StrPart,
    StrPartKind,
};
use crate::source::Source;
use crate::symbol::Symbol;

/// Returns the tree as Nix prints it. Paths in the home directory stay as they are written.
pub fn to_nix(ast: &Ast, source: &Source) -> Vec<u8> {
    to_nix_at_home(ast, source, None)
}

/// Returns the tree as Nix prints it to a user whose home directory is `home`.
pub fn to_nix_at_home(ast: &Ast, source: &Source, home: Option<&str>) -> Vec<u8> {
    let mut printer = Printer { ast, source, home, out: Vec::new(), todo: vec![Todo::Expr(ast.root())] };
    while let Some(todo) = printer.todo.pop() {
        printer.step(todo);
    }
    printer.out
}

/// Returns an attribute name as it is written: in quotes if it is no identifier or a keyword.
pub fn attr_name(name: &[u8]) -> String {
    let mut out = Vec::new();
    push_attr_name(&mut out, name);
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns a floating-point number with 6 digits, as C's `%g` does.
pub fn float(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let scientific = format!("{value:.5e}");
    let (digits, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("this format has a decimal exponent");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        return trim(&format!("{value:.*}", (5 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.abs())
}

/// Appends a string literal in which everything special is escaped.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for (i, &byte) in text.iter().enumerate() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            b'$' if text.get(i + 1) == Some(&b'{') => out.extend(b"\\$"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends an attribute name; see [`attr_name`].
pub fn push_attr_name(out: &mut Vec<u8>, name: &[u8]) {
    if is_identifier(name) { out.extend(name) } else { push_string(out, name) }
}

fn is_identifier(name: &[u8]) -> bool {
    const KEYWORDS: [&[u8]; 9] =
        [b"if", b"then", b"else", b"assert", b"with", b"let", b"in", b"rec", b"inherit"];
    let starts = name.first().is_some_and(|&b| b.is_ascii_alphabetic() || b == b'_');
    starts
        && name.iter().all(|&b| b.is_ascii_alphanumeric() || b"_'-".contains(&b))
        && !KEYWORDS.contains(&name)
}

/// What is left to print.
#[derive(Clone, Copy)]
enum Todo<'a> {
    Text(&'a [u8]),
    Expr(ExprId),
    AttrName(Symbol),
    AttrPath(AttrPathId),
    Str(&'a [u8]),
}

struct Printer<'a> {
    ast: &'a Ast,
    source: &'a Source,
    home: Option<&'a str>,
    out: Vec<u8>,
    todo: Vec<Todo<'a>>,
}

impl<'a> Printer<'a> {
    fn step(&mut self, todo: Todo<'a>) {
        match todo {
            Todo::Text(text) => self.out.extend(text),
            Todo::Expr(id) => self.expr(id),
            Todo::AttrName(name) => push_attr_name(&mut self.out, name.as_bytes()),
            Todo::AttrPath(path) => self.attr_path(path),
            Todo::Str(text) => push_string(&mut self.out, text),
        }
    }

    /// Prints these next, in this order.
    fn then(&mut self, todo: &[Todo<'a>]) {
        self.todo.extend(todo.iter().rev());
    }

    fn expr(&mut self, id: ExprId) {
        use Todo::{AttrPath, Expr as E, Text as T};
        match self.ast.expr(id) {
            Expr::Int(value) => self.out.extend(value.int().to_string().bytes()),
            Expr::Float(value) => self.out.extend(float(value.float()).bytes()),
            Expr::Str(text) => push_string(&mut self.out, self.ast.text(text)),
            Expr::Interpolation(parts) => self.parts(None, self.ast.parts(parts)),
            Expr::Path(text) => self.path(self.ast.text(text), false),
            Expr::PathInterpolation { base, parts } => self.parts(Some(base), self.ast.parts(parts)),
            Expr::Var(name) => self.out.extend(name.as_bytes()),
            Expr::CurPos => self.out.extend(b"__curPos"),
            Expr::Apply { .. } | Expr::Negate(_) | Expr::SearchPath(_) => self.call(id),
            Expr::Select { base, path, default: None } => {
                self.then(&[T(b"("), E(base), T(b")."), AttrPath(path)]);
            }
            Expr::Select { base, path, default: Some(default) } => {
                self.then(&[T(b"("), E(base), T(b")."), AttrPath(path), T(b" or ("), E(default), T(b")")]);
            }
            Expr::HasAttr { base, path } => {
                self.then(&[T(b"(("), E(base), T(b") ? "), AttrPath(path), T(b")")]);
            }
            Expr::List(elements) => {
                self.out.extend(b"[ ");
                self.todo.push(T(b"]"));
                for &element in self.ast.exprs(elements).iter().rev() {
                    self.then(&[T(b"("), E(element), T(b") ")]);
                }
            }
            Expr::Attrs(attrs) => {
                self.out.extend(if self.ast.attrs(attrs).recursive { &b"rec { "[..] } else { b"{ " });
                self.todo.push(T(b"}"));
                self.bindings(attrs);
            }
            Expr::Let { attrs, body } => {
                self.out.extend(b"(let ");
                self.then(&[T(b"in "), E(body), T(b")")]);
                self.bindings(attrs);
            }
            Expr::Lambda(id) => {
                let lambda = self.ast.lambda(id);
                self.out.push(b'(');
                self.then(&[T(b": "), E(lambda.body), T(b")")]);
                if let Some(name) = lambda.arg {
                    self.todo.push(T(name.as_bytes()));
                }
                if let Some(formals) = lambda.formals {
                    if lambda.arg.is_some() {
                        self.todo.push(T(b" @ "));
                    }
                    self.formals(self.ast.formals(formals));
                }
            }
            Expr::With { attrs, body } => self.then(&[T(b"(with "), E(attrs), T(b"; "), E(body), T(b")")]),
            Expr::Assert { condition, body } => self.then(&[T(b"assert "), E(condition), T(b"; "), E(body)]),
            Expr::If { condition, then, otherwise } => {
                let words =
                    [T(b"(if "), E(condition), T(b" then "), E(then), T(b" else "), E(otherwise), T(b")")];
                self.then(&words);
            }
            Expr::Not(operand) => self.then(&[T(b"(! "), E(operand), T(b")")]),
            Expr::Binary { op, left, right, .. } => self.binary(id, op, left, right),
            Expr::Error => self.out.extend("«error»".bytes()),
        }
    }

    fn binary(&mut self, id: ExprId, op: BinaryOp, left: ExprId, right: ExprId) {
        use Todo::{Expr as E, Text as T};
        match op {
            BinaryOp::Less | BinaryOp::Greater | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => {
                self.call(id)
            }
            BinaryOp::LessEqual => {
                self.then(&[T(b"(! (__lessThan "), E(right), T(b" "), E(left), T(b"))")]);
            }
            BinaryOp::GreaterEqual => {
                self.then(&[T(b"(! (__lessThan "), E(left), T(b" "), E(right), T(b"))")]);
            }
            _ => {
                let op = op.as_str().as_bytes();
                self.then(&[T(b"("), E(left), T(b" "), T(op), T(b" "), E(right), T(b")")]);
            }
        }
    }

    /// A call of a call is one call, also if the inner one is written as an operator.
    fn call(&mut self, id: ExprId) {
        use Todo::{Expr as E, Text as T};
        self.out.push(b'(');
        self.todo.push(T(b")"));
        let mut function = id;
        while let Expr::Apply { function: inner, args } = self.ast.expr(function) {
            for &arg in self.ast.exprs(args).iter().rev() {
                self.then(&[T(b" "), E(arg)]);
            }
            function = inner;
        }
        match self.ast.expr(function) {
            Expr::Negate(operand) => self.then(&[T(b"__sub 0 "), E(operand)]),
            Expr::SearchPath(text) => {
                self.then(&[T(b"__findFile __nixPath "), Todo::Str(self.ast.text(text))]);
            }
            Expr::Binary { op, left, right, .. } => match op {
                BinaryOp::Less => self.then(&[T(b"__lessThan "), E(left), T(b" "), E(right)]),
                BinaryOp::Greater => self.then(&[T(b"__lessThan "), E(right), T(b" "), E(left)]),
                BinaryOp::Sub => self.then(&[T(b"__sub "), E(left), T(b" "), E(right)]),
                BinaryOp::Mul => self.then(&[T(b"__mul "), E(left), T(b" "), E(right)]),
                BinaryOp::Div => self.then(&[T(b"__div "), E(left), T(b" "), E(right)]),
                _ => self.todo.push(E(function)),
            },
            _ => self.todo.push(E(function)),
        }
    }

    fn parts(&mut self, base: Option<ExprId>, parts: &'a [StrPart]) {
        self.out.push(b'(');
        self.todo.push(Todo::Text(b")"));
        for (i, part) in parts.iter().enumerate().rev() {
            self.todo.push(match part.kind {
                StrPartKind::Text(text) => Todo::Str(self.ast.text(text)),
                StrPartKind::Expr(id) => Todo::Expr(id),
            });
            if i > 0 || base.is_some() {
                self.todo.push(Todo::Text(b" + "));
            }
        }
        if let Some(base) = base
            && let Expr::Path(text) = self.ast.expr(base)
        {
            self.path(self.ast.text(text), true);
        }
    }

    fn path(&mut self, text: &[u8], keep_slash: bool) {
        self.out.extend(crate::path::absolute(text, self.source, self.home));
        if keep_slash && text.ends_with(b"/") && self.out.last() != Some(&b'/') {
            self.out.push(b'/');
        }
    }

    fn attr_path(&mut self, path: AttrPathId) {
        for (i, name) in self.ast.attr_path(path).iter().enumerate().rev() {
            match name.kind {
                AttrNameKind::Static(name) => self.todo.push(Todo::AttrName(name)),
                AttrNameKind::Dynamic(id) => {
                    self.then(&[Todo::Text(b"\"${"), Todo::Expr(id), Todo::Text(b"}\"")]);
                }
            }
            if i > 0 {
                self.todo.push(Todo::Text(b"."));
            }
        }
    }

    fn bindings(&mut self, attrs: AttrsId) {
        use Todo::{AttrName, Expr as E, Text as T};
        let set = self.ast.attrs(attrs);
        let mut bindings = self.ast.bindings(set.bindings).to_vec();
        bindings.sort_by(|a, b| a.name.cmp_text(b.name));
        for binding in self.ast.dynamic_bindings(set.dynamic).iter().rev() {
            self.then(&[T(b"\"${"), E(binding.name), T(b"}\" = "), E(binding.value), T(b"; ")]);
        }
        for binding in bindings.iter().rev().filter(|binding| binding.kind == BindingKind::Plain) {
            self.then(&[AttrName(binding.name), T(b" = "), E(binding.value), T(b"; ")]);
        }
        let mut inherited: Vec<_> =
            bindings.iter().filter(|binding| binding.kind != BindingKind::Plain).collect();
        // A stable sort: names stay in order in each group, and those without a source come first.
        inherited.sort_by_key(|binding| match binding.kind {
            BindingKind::InheritFrom(n) => Some(n),
            _ => None,
        });
        for group in inherited.chunk_by(|a, b| a.kind == b.kind).rev() {
            self.todo.push(T(b"; "));
            for binding in group.iter().rev() {
                self.then(&[T(b" "), AttrName(binding.name)]);
            }
            match group[0].kind {
                BindingKind::InheritFrom(_) => self.then(&[T(b"inherit ("), E(group[0].value), T(b")")]),
                _ => self.todo.push(T(b"inherit")),
            }
        }
    }

    fn formals(&mut self, formals: Formals) {
        self.todo.push(Todo::Text(b" }"));
        let mut entries = self.ast.formal_entries(formals.entries).to_vec();
        entries.sort_by(|a, b| a.name.cmp_text(b.name));
        if formals.ellipsis {
            self.todo.push(Todo::Text(if entries.is_empty() { b"..." } else { b", ..." }));
        }
        for (i, formal) in entries.iter().enumerate().rev() {
            if let Some(default) = formal.default {
                self.then(&[Todo::Text(b" ? "), Todo::Expr(default)]);
            }
            self.todo.push(Todo::AttrName(formal.name));
            if i > 0 {
                self.todo.push(Todo::Text(b", "));
            }
        }
        self.todo.push(Todo::Text(b"{ "));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn floats_have_six_digits() {
        let check = |value: f64, expected: &str| assert_eq!(super::float(value), expected);
        check(0.0, "0");
        check(0.1, "0.1");
        check(1e21, "1e+21");
        check(123456.7, "123457");
        check(1234567.0, "1.23457e+06");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(999999.9, "1e+06");
        check(1.5e300, "1.5e+300");
        check(100000.0, "100000");
    }
}
