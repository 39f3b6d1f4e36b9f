//! What must be computed: expressions in strict places, names, operators, strings and paths.

use super::{Binding, MAX_HINTS, N, NO_HOME, Resolver, TOO_DEEP};
use crate::ast::{self, AttrNameKind, BinaryOp, Expr, ExprId, StrPartKind};
use crate::codes::UNDEFINED_VARIABLE;
use crate::diagnostic::Diagnostic;
use crate::near::near_name;
use crate::resolve::ir::{
    Assert, Binary, Call, Field, Has, Hint, If, Interpolate, Node, Place, Runtime, Scope, Select, Step,
    Unary, WithName,
};
use crate::span::Span;
use crate::symbol::{Symbol, sym};

impl<'a, R: Runtime> Resolver<'a, '_, '_, R> {
    /// Resolves what is computed as soon as control gets there.
    pub(super) fn strict(&mut self, id: ExprId) -> N<'a, R> {
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

    pub(super) fn variable(&mut self, name: Symbol, span: Span) -> N<'a, R> {
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
        let scopes: Vec<Scope> = withs
            .into_iter()
            .map(|(binding, place)| Scope { var: self.var(binding), place, hint: Hint::default() })
            .collect();
        let scopes = self.arena.alloc_slice_fill_iter(scopes);
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
    pub(super) fn is_rebound(&self, name: Symbol) -> bool {
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
            return Node::Field(self.arena.alloc(Field {
                base,
                name: symbol,
                place,
                base_place,
                hint: Hint::default(),
            }));
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
                    AttrNameKind::Static(symbol) => Step::Static(symbol, place, Hint::default()),
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
}
