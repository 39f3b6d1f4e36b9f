//! Builds the tree: what the actions of the grammar call.
//!
//! Sequences that are not finished yet (elements, arguments, parts, bindings, …)
//! lie on stacks, one for each kind of entry; what is inside of what keeps them in
//! order. The grammar remembers the height at which a sequence began, a [`Mark`], and finishing it moves
//! the entries above into a pool of the tree.

use std::cell::RefCell;
use std::num::NonZeroU32;

use crate::ast::{
    Ast, AttrName, AttrNameKind, AttrPathId, AttrsId, DocId, Expr, ExprId, Formal, Formals, FormalsId,
    Lambda, LambdaId, Packed, Slice, StrPart, StrPartKind, Text,
};
use crate::bindings::BindingStack;
use crate::diagnostic::Diagnostic;
use crate::errors;
use crate::indent::IndentPart;
use crate::lexer::DocComment;
use crate::operators::{Infix, OperatorStack};
use crate::parse::ParseOptions;
use crate::source::Source;
use crate::span::{FileSpan, Span};
use crate::symbol::{Symbol, sym};

/// Height of a stack when a sequence began.
pub(crate) type Mark = u32;

/// The tree as far as it is built.
pub(crate) struct Builder<'s> {
    pub source: &'s Source,
    pub bytes: &'s [u8],
    pub options: ParseOptions,
    pub ast: Ast,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    pub operators: OperatorStack,
    pub bindings: BindingStack,
    pub docs: &'s RefCell<Vec<DocComment>>,
    exprs: Vec<ExprId>,
    parts: Vec<StrPart>,
    names: Vec<AttrName>,
    formals: Vec<Formal>,
    pub indent_parts: Vec<IndentPart>,
    /// The last `f or`, unless it stands in parentheses.
    bare_or_call: Option<ExprId>,
}

/// The stacks of a [`Builder`].
#[derive(Default)]
struct Stacks {
    exprs: Vec<ExprId>,
    parts: Vec<StrPart>,
    names: Vec<AttrName>,
    formals: Vec<Formal>,
    indent_parts: Vec<IndentPart>,
    operators: OperatorStack,
}

thread_local! {
    /// What the last text left behind: the next one needs about as much.
    static STACKS: RefCell<Stacks> = RefCell::default();
}

impl<'s> Builder<'s> {
    /// Starts a tree for `source`.
    /// `len` is how many bytes are going to be parsed.
    pub fn new(
        source: &'s Source,
        options: ParseOptions,
        docs: &'s RefCell<Vec<DocComment>>,
        len: usize,
    ) -> Self {
        let bytes = source.bytes();
        // Measured on programs of people: about 7 bytes for an expression.
        let exprs = len / 6 + 4;
        let mut ast = Ast::in_spare_memory(source.id());
        ast.exprs.reserve(exprs);
        ast.spans.reserve(exprs);
        let Stacks { exprs, parts, names, formals, indent_parts, operators } = STACKS.take();
        Self {
            source,
            bytes,
            options,
            ast,
            errors: Vec::new(),
            warnings: Vec::new(),
            operators,
            bindings: BindingStack::default(),
            docs,
            exprs,
            parts,
            names,
            formals,
            indent_parts,
            bare_or_call: None,
        }
    }

    /// Returns the tree, errors and warnings, and keeps the memory of the stacks.
    pub fn finish(mut self) -> (Ast, Vec<Diagnostic>, Vec<Diagnostic>) {
        self.finish_open_sets();
        if !self.ast.is_small() {
            return (self.ast, self.errors, self.warnings);
        }
        let Self { ast, errors, warnings, mut exprs, mut parts, mut names, .. } = self;
        let Self { mut formals, mut indent_parts, mut operators, .. } = self;
        exprs.clear();
        parts.clear();
        names.clear();
        formals.clear();
        indent_parts.clear();
        operators.clear();
        STACKS.set(Stacks { exprs, parts, names, formals, indent_parts, operators });
        (ast, errors, warnings)
    }

    /// Returns the span with its file.
    pub fn at(&self, span: Span) -> FileSpan {
        FileSpan { file: self.source.id(), span }
    }

    pub fn push_expr(&mut self, expr: Expr, span: Span) -> ExprId {
        self.ast.exprs.push(expr);
        self.ast.spans.push(span);
        let number = NonZeroU32::new(self.ast.exprs.len() as u32);
        ExprId(number.expect("there is at least the one that was pushed"))
    }

    fn node(&mut self, start: u32, expr: Expr, end: u32) -> ExprId {
        self.push_expr(expr, Span::new(start, end))
    }

    pub fn push_text(&mut self, bytes: &[u8]) -> Text {
        let start = self.ast.texts.len();
        self.ast.texts.extend_from_slice(bytes);
        Slice::new(start, self.ast.texts.len())
    }

    fn push_source_text(&mut self, start: u32, end: u32) -> Text {
        let bytes = self.bytes;
        self.push_text(&bytes[start as usize..end as usize])
    }

    fn symbol(&mut self, span: Span) -> Symbol {
        Symbol::intern(&self.bytes[span.range()])
    }

    // Sequences of expressions.

    /// Begins a sequence with its first expression.
    pub fn open(&mut self, first: ExprId) -> Mark {
        self.exprs.push(first);
        self.exprs.len() as u32 - 1
    }

    /// Adds an expression to a sequence.
    pub fn push(&mut self, mark: Mark, next: ExprId) -> Mark {
        self.exprs.push(next);
        mark
    }

    pub fn open_arguments(&mut self, function: ExprId, arg: ExprId) -> Mark {
        let mark = self.open(function);
        self.push(mark, arg)
    }

    fn finish_exprs(&mut self, mark: usize) -> Slice<ExprId> {
        let start = self.ast.lists.len();
        self.ast.lists.extend(self.exprs.drain(mark..));
        Slice::new(start, self.ast.lists.len())
    }

    pub fn list(&mut self, start: u32, elements: Option<Mark>, end: u32) -> ExprId {
        let elements = elements.map_or(Slice::EMPTY, |mark| self.finish_exprs(mark as usize));
        self.node(start, Expr::List(elements), end)
    }

    pub fn apply(&mut self, start: u32, mark: Mark, end: u32) -> ExprId {
        let args = self.finish_exprs(mark as usize + 1);
        let function = self.exprs.pop().expect("the function lies below its arguments");
        self.node(start, Expr::Apply { function, args }, end)
    }

    /// Makes a call with one argument.
    pub fn call(&mut self, function: ExprId, arg: ExprId, span: Span) -> ExprId {
        let start = self.ast.lists.len();
        self.ast.lists.push(arg);
        self.push_expr(Expr::Apply { function, args: Slice::new(start, start + 1) }, span)
    }

    /// `f or`: the call of `f` with the variable `or`.
    pub fn apply_or(&mut self, start: u32, function: ExprId, or: u32, end: u32) -> ExprId {
        let arg = self.node(or, Expr::Var(sym::OR), end);
        let call = self.call(function, arg, Span::new(start, end));
        self.bare_or_call = Some(call);
        call
    }

    /// `(e)`
    #[inline]
    pub fn parenthesised(&mut self, inner: ExprId) -> ExprId {
        self.bare_or_call = None;
        inner
    }

    /// An argument or element, which may be `f or` without parentheses.
    #[inline]
    pub fn beside_others(&mut self, expr: ExprId) -> ExprId {
        if self.bare_or_call == Some(expr) {
            self.warnings
                .push(errors::or_beside_others(self.source, self.ast.spans[expr.0.get() as usize - 1]));
        }
        expr
    }

    // Control.

    pub fn lambda(
        &mut self,
        start: u32,
        arg: Option<Span>,
        formals: Option<FormalsId>,
        body: ExprId,
        end: u32,
    ) -> ExprId {
        let name = arg.map(|span| self.symbol(span));
        if let (Some(name), Some(formals), Some(span)) = (name, formals, arg) {
            self.check_arg_is_new(name, formals, span);
        }
        let arg_span = arg.unwrap_or(Span::at(start));
        let id = LambdaId(self.ast.lambdas.len() as u32);
        self.ast.lambdas.push(Lambda { arg: name, arg_span, formals, body, doc: None });
        let expr = self.node(start, Expr::Lambda(id), end);
        if let Some(doc) = self.doc_before(start) {
            self.document(expr, doc);
        }
        expr
    }

    pub fn let_in(&mut self, start: u32, bindings: Option<Mark>, body: ExprId, end: u32) -> ExprId {
        let attrs = self.finish_attrs(false, bindings);
        self.check_no_dynamic(attrs);
        self.node(start, Expr::Let { attrs, body }, end)
    }

    /// `let { … }` is `rec { … }.body`.
    pub fn let_body(&mut self, start: u32, bindings: Option<Mark>, end: u32) -> ExprId {
        let base = self.attrs(start, true, bindings, end);
        let span = Span::new(start, end);
        let path = self.open_attr_path(AttrName { kind: AttrNameKind::Static(sym::BODY), span });
        self.select(start, base, path, None, end)
    }

    pub fn with(&mut self, start: u32, attrs: ExprId, body: ExprId, end: u32) -> ExprId {
        self.node(start, Expr::With { attrs, body }, end)
    }

    pub fn assert(&mut self, start: u32, condition: ExprId, body: ExprId, end: u32) -> ExprId {
        self.node(start, Expr::Assert { condition, body }, end)
    }

    pub fn if_then_else(
        &mut self,
        start: u32,
        condition: ExprId,
        then: ExprId,
        otherwise: ExprId,
        end: u32,
    ) -> ExprId {
        self.node(start, Expr::If { condition, then, otherwise }, end)
    }

    // Names and numbers.

    pub fn var(&mut self, name: Span) -> ExprId {
        let symbol = self.symbol(name);
        let expr = if symbol == sym::CUR_POS { Expr::CurPos } else { Expr::Var(symbol) };
        self.push_expr(expr, name)
    }

    pub fn int(&mut self, start: u32, end: u32) -> ExprId {
        let digits = &self.bytes[start as usize..end as usize];
        let value = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<i64>().ok());
        if value.is_none() {
            self.errors.push(errors::invalid_integer(self.at(Span::new(start, end)), digits));
        }
        self.node(start, Expr::Int(Packed::from_int(value.unwrap_or(0))), end)
    }

    pub fn float(&mut self, start: u32, end: u32) -> ExprId {
        let digits = &self.bytes[start as usize..end as usize];
        let value = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        // Nix asks the C library, which refuses what is too large and what is too small for a normal number.
        let has_digits = digits.iter().take_while(|b| !b"eE".contains(b)).any(|b| (b'1'..=b'9').contains(b));
        if !value.is_finite() || (has_digits && !value.is_normal()) {
            self.errors.push(errors::invalid_float(self.at(Span::new(start, end)), digits));
        }
        self.node(start, Expr::Float(Packed::from_float(value)), end)
    }

    // Strings and paths.

    pub fn str(&mut self, start: u32, end: u32) -> ExprId {
        let text = self.push_source_text(start + 1, end - 1);
        self.node(start, Expr::Str(text), end)
    }

    pub fn empty_str(&mut self, start: u32, end: u32) -> ExprId {
        self.node(start, Expr::Str(Slice::EMPTY), end)
    }

    pub fn text_str(&mut self, start: u32, text: Span, end: u32) -> ExprId {
        let text = self.unescaped(text);
        self.node(start, Expr::Str(text), end)
    }

    pub fn interpolation(&mut self, start: u32, mark: Mark, end: u32) -> ExprId {
        let parts = self.finish_parts(mark);
        self.node(start, Expr::Interpolation(parts), end)
    }

    pub fn uri(&mut self, start: u32, end: u32) -> ExprId {
        let text = self.push_source_text(start, end);
        self.node(start, Expr::Str(text), end)
    }

    pub fn path(&mut self, start: u32, end: u32) -> ExprId {
        let text = self.push_source_text(start, end);
        self.node(start, Expr::Path(text), end)
    }

    pub fn path_interpolation(&mut self, base: ExprId, mark: Mark, end: u32) -> ExprId {
        let parts = self.finish_parts(mark);
        let start = self.ast.span(base).start;
        self.node(start, Expr::PathInterpolation { base, parts }, end)
    }

    pub fn search_path(&mut self, start: u32, end: u32) -> ExprId {
        let text = self.push_source_text(start + 1, end - 1);
        self.node(start, Expr::SearchPath(text), end)
    }

    pub fn open_parts(&mut self, first: ExprId) -> Mark {
        let mark = self.parts.len() as u32;
        self.push_part(mark, first)
    }

    pub fn open_parts_text(&mut self, text: Span, next: ExprId) -> Mark {
        let mark = self.parts.len() as u32;
        self.push_part_text(mark, text);
        self.push_part(mark, next)
    }

    pub fn push_part(&mut self, mark: Mark, id: ExprId) -> Mark {
        let span = self.ast.span(id);
        self.parts.push(StrPart { kind: StrPartKind::Expr(id), span });
        mark
    }

    pub fn push_part_text(&mut self, mark: Mark, span: Span) -> Mark {
        let text = self.unescaped(span);
        self.parts.push(StrPart { kind: StrPartKind::Text(text), span });
        mark
    }

    fn finish_parts(&mut self, mark: Mark) -> Slice<StrPart> {
        let start = self.ast.parts.len();
        self.ast.parts.extend(self.parts.drain(mark as usize..));
        Slice::new(start, self.ast.parts.len())
    }

    /// Pushes the text of a string with its escapes done and its line ends made `\n`.
    pub fn unescaped(&mut self, span: Span) -> Text {
        let start = self.ast.texts.len();
        let mut rest = self.bytes[span.range()].iter().copied().peekable();
        while let Some(byte) = rest.next() {
            let byte = match byte {
                b'\\' => match rest.next().unwrap_or(b'\\') {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                },
                b'\r' => {
                    rest.next_if_eq(&b'\n');
                    b'\n'
                }
                other => other,
            };
            self.ast.texts.push(byte);
        }
        Slice::new(start, self.ast.texts.len())
    }

    // Attribute paths.

    pub fn attr_ident(&mut self, span: Span) -> AttrName {
        let symbol = self.symbol(span);
        AttrName { kind: AttrNameKind::Static(symbol), span }
    }

    pub fn attr_str(&mut self, start: u32, end: u32) -> AttrName {
        let symbol = self.symbol(Span::new(start + 1, end - 1));
        AttrName { kind: AttrNameKind::Static(symbol), span: Span::new(start, end) }
    }

    pub fn attr_text(&mut self, start: u32, text: Option<Span>, end: u32) -> AttrName {
        let symbol = match text {
            None => sym::EMPTY,
            Some(span) => {
                let text = self.unescaped(span);
                let symbol = Symbol::intern(self.ast.text(text));
                self.ast.texts.truncate(text.start as usize);
                symbol
            }
        };
        AttrName { kind: AttrNameKind::Static(symbol), span: Span::new(start, end) }
    }

    pub fn attr_interpolation(&mut self, start: u32, mark: Mark, end: u32) -> AttrName {
        let name = self.interpolation(start, mark, end);
        AttrName { kind: AttrNameKind::Dynamic(name), span: Span::new(start, end) }
    }

    /// `${e}`; a string that needs no evaluation is a name like any other.
    pub fn attr_dynamic(&mut self, start: u32, name: ExprId, end: u32) -> AttrName {
        let kind = match self.ast.expr(name) {
            Expr::Str(text) => AttrNameKind::Static(Symbol::intern(self.ast.text(text))),
            _ => AttrNameKind::Dynamic(name),
        };
        AttrName { kind, span: Span::new(start, end) }
    }

    pub fn open_attr_path(&mut self, first: AttrName) -> Mark {
        self.names.push(first);
        self.names.len() as u32 - 1
    }

    pub fn push_attr_name(&mut self, mark: Mark, name: AttrName) -> Mark {
        self.names.push(name);
        mark
    }

    /// Returns the name of a path that has one name only.
    pub fn take_single_name(&mut self, mark: Mark) -> Option<AttrName> {
        if self.names.len() == mark as usize + 1 { self.names.pop() } else { None }
    }

    /// Moves the names of a path into the tree.
    pub fn take_attr_names(&mut self, mark: Mark) -> Slice<AttrName> {
        let start = self.ast.attr_names.len();
        self.ast.attr_names.extend(self.names.drain(mark as usize..));
        Slice::new(start, self.ast.attr_names.len())
    }

    pub fn finish_attr_path(&mut self, mark: Mark) -> AttrPathId {
        let names = self.take_attr_names(mark);
        self.ast.attr_paths.push(names);
        AttrPathId(self.ast.attr_paths.len() as u32 - 1)
    }

    pub fn select(
        &mut self,
        start: u32,
        base: ExprId,
        path: Mark,
        default: Option<ExprId>,
        end: u32,
    ) -> ExprId {
        let path = self.finish_attr_path(path);
        self.node(start, Expr::Select { base, path, default }, end)
    }

    pub fn attrs(&mut self, start: u32, recursive: bool, bindings: Option<Mark>, end: u32) -> ExprId {
        let attrs = self.finish_attrs(recursive, bindings);
        self.node(start, Expr::Attrs(attrs), end)
    }

    // Patterns.

    pub fn formal(&mut self, name: Span, default: Option<ExprId>) -> Formal {
        Formal { name: self.symbol(name), name_span: name, default }
    }

    pub fn open_formals(&mut self, first: Formal) -> Mark {
        self.formals.push(first);
        self.formals.len() as u32 - 1
    }

    pub fn push_formal(&mut self, mark: Mark, formal: Formal) -> Mark {
        self.formals.push(formal);
        mark
    }

    pub fn formals(&mut self, start: u32, mark: Option<Mark>, ellipsis: bool, end: u32) -> FormalsId {
        let first = self.ast.formal_entries.len();
        if let Some(mark) = mark {
            self.check_formals_are_new(mark as usize);
            self.ast.formal_entries.extend(self.formals.drain(mark as usize..));
        }
        let entries = Slice::new(first, self.ast.formal_entries.len());
        self.ast.formals.push(Formals { entries, ellipsis, span: Span::new(start, end) });
        FormalsId(self.ast.formals.len() as u32 - 1)
    }

    fn check_formals_are_new(&mut self, mark: usize) {
        self.bindings.seen.start();
        for i in mark..self.formals.len() {
            let formal = self.formals[i];
            if let Some(first) = self.bindings.seen.add(formal.name, formal.name_span) {
                self.errors.push(errors::duplicate_formal(
                    formal.name,
                    self.at(formal.name_span),
                    self.at(first),
                ));
            }
        }
    }

    fn check_arg_is_new(&mut self, name: Symbol, formals: FormalsId, span: Span) {
        let entries = self.ast.formals(formals).entries;
        if let Some(formal) = self.ast.formal_entries(entries).iter().find(|formal| formal.name == name) {
            let (first, second) = if formal.name_span.start < span.start {
                (formal.name_span, span)
            } else {
                (span, formal.name_span)
            };
            self.errors.push(errors::duplicate_formal(name, self.at(second), self.at(first)));
        }
    }

    // Doc comments.

    /// Returns the doc comment before the token at `offset`.
    pub fn doc_before(&mut self, offset: u32) -> Option<DocId> {
        let docs = self.docs.borrow();
        if docs.is_empty() {
            return None;
        }
        let index = docs.binary_search_by_key(&offset, |doc| doc.before).ok()?;
        let span = docs[index].span;
        self.ast.docs.push(span);
        NonZeroU32::new(self.ast.docs.len() as u32).map(DocId)
    }

    /// Documents a function, and the functions that it returns, unless they have words of their own.
    pub fn document(&mut self, mut expr: ExprId, doc: DocId) {
        while let Expr::Lambda(id) = self.ast.expr(expr) {
            let lambda = &mut self.ast.lambdas[id.index()];
            if lambda.doc.is_some() {
                return;
            }
            lambda.doc = Some(doc);
            expr = lambda.body;
        }
    }

    // What the actions check.

    pub fn not_associative(&mut self, first: Infix, first_at: u32, second: Infix, second_at: u32) {
        let span = |op: Infix, at: u32| Span::new(at, at + op.as_str().len() as u32);
        self.errors.push(errors::not_associative(
            (first.as_str(), self.at(span(first, first_at))),
            (second.as_str(), self.at(span(second, second_at))),
        ));
    }

    pub fn check_pipe(&mut self, op: Infix, at: u32) {
        if !self.options.pipe_operators {
            self.errors.push(errors::pipe_disabled(op.as_str(), self.at(Span::new(at, at + 2))));
        }
    }

    fn check_no_dynamic(&mut self, attrs: AttrsId) {
        for span in self.dynamic_names(attrs) {
            self.errors.push(errors::dynamic_in_let(self.at(span)));
        }
    }
}
