//! The tree that the formatter lays out: like the text, with parentheses and all.
//!
//! Only programs that parse come here, so that this reader checks nothing. It recurses, up to a
//! limit, on a stack that is large enough for that.

use super::trivia::Tok;
use crate::lexer::Token;
use crate::operators::{HAS_ATTR_LEVEL, Infix, Side};

/// The longest line, without its indentation.
pub(super) const WIDTH: usize = 100;

/// A piece of the program.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    /// Its first token.
    pub first: usize,
    /// Its last token.
    pub last: usize,
    /// How it is written in one line, if it may be.
    pub flat: Option<String>,
}

/// Numbers are those of tokens.
#[derive(Debug)]
pub(super) enum Kind {
    /// A name, a number, a string or path without anything in it.
    Token,
    /// A string or path with interpolations.
    Str(Vec<Part>),
    Indented(Vec<Part>),
    Paren(Box<Node>),
    List(Vec<Node>),
    Set {
        open: usize,
        bindings: Vec<Binding>,
    },
    Select {
        base: Box<Node>,
        path: Vec<Node>,
        default: Option<Box<Node>>,
    },
    Apply(Vec<Node>),
    Prefix(Box<Node>),
    Binary {
        left: Box<Node>,
        op: usize,
        level: u8,
        right: Box<Node>,
    },
    HasAttr {
        base: Box<Node>,
        path: Vec<Node>,
    },
    Lambda {
        param: Param,
        body: Box<Node>,
    },
    Let {
        bindings: Vec<Binding>,
        word_in: usize,
        body: Box<Node>,
    },
    /// `with` or `assert`.
    Statement {
        subject: Box<Node>,
        semicolon: usize,
        body: Box<Node>,
    },
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
        word_then: usize,
        word_else: usize,
    },
    /// `${ e }` as a name.
    Dynamic(Box<Node>),
}

#[derive(Debug)]
pub(super) enum Part {
    Text(usize),
    Interpolation { open: usize, node: Node, close: usize },
}

#[derive(Debug)]
pub(super) enum Binding {
    Assign { path: Vec<Node>, equals: usize, value: Node, semicolon: usize },
    Inherit { word: usize, from: Option<Node>, names: Vec<Node>, semicolon: usize },
}

impl Binding {
    pub fn first(&self) -> usize {
        match self {
            Self::Assign { path, .. } => path[0].first,
            Self::Inherit { word, .. } => *word,
        }
    }

    pub fn last(&self) -> usize {
        match self {
            Self::Assign { semicolon, .. } | Self::Inherit { semicolon, .. } => *semicolon,
        }
    }
}

#[derive(Debug)]
pub(super) struct Param {
    /// `x` alone, or beside `@`.
    pub name: Option<usize>,
    pub formals: Option<Formals>,
    /// Whether the name stands before `@`.
    pub name_first: bool,
    pub colon: usize,
}

#[derive(Debug)]
pub(super) struct Formals {
    pub open: usize,
    pub entries: Vec<Formal>,
    pub ellipsis: Option<usize>,
    pub close: usize,
}

#[derive(Debug)]
pub(super) struct Formal {
    pub name: usize,
    pub question: Option<usize>,
    pub default: Option<Node>,
    pub comma: Option<usize>,
}

/// Reads a program; `None` if it is nested too deeply.
pub(super) fn parse(tokens: &[Tok], deepest: usize) -> Option<Node> {
    let mut parser = Parser { tokens, at: 0, depth: 0, deepest };
    parser.expr()
}

struct Parser<'a> {
    tokens: &'a [Tok<'a>],
    at: usize,
    depth: usize,
    deepest: usize,
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> Token {
        self.tokens.get(self.at + ahead).map_or(Token::Invalid, |token| token.kind)
    }

    fn next(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    fn eat(&mut self, token: Token) -> Option<usize> {
        (self.peek(0) == token).then(|| self.next())
    }

    fn text(&self, token: usize) -> &str {
        self.tokens[token].text
    }

    /// Whether a comment stands between two tokens of a range.
    fn has_comments(&self, first: usize, last: usize) -> bool {
        (first..last).any(|i| self.tokens[i].trail.is_some() || !self.tokens[i + 1].lead.is_empty())
    }

    fn node(&self, kind: Kind, first: usize, flat: Option<String>) -> Node {
        let last = self.at - 1;
        let flat = flat.filter(|_| !self.has_comments(first, last));
        Node { kind, first, last, flat }
    }

    fn expr(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > self.deepest {
            return None;
        }
        let node = match self.peek(0) {
            Token::Ident if matches!(self.peek(1), Token::Colon | Token::At) => self.lambda(),
            Token::BraceOpen if self.is_pattern() => self.lambda(),
            Token::Let if self.peek(1) != Token::BraceOpen => self.let_in(),
            Token::With | Token::Assert => self.statement(),
            Token::If => self.if_then_else(),
            _ => self.operation(0),
        };
        self.depth -= 1;
        node
    }

    fn is_pattern(&self) -> bool {
        matches!(
            (self.peek(1), self.peek(2)),
            (Token::Ellipsis, _)
                | (Token::Ident, Token::Comma | Token::Question | Token::BraceClose)
                | (Token::BraceClose, Token::Colon | Token::At)
        )
    }

    fn lambda(&mut self) -> Option<Node> {
        let first = self.at;
        let mut name = None;
        let mut formals = None;
        let name_first = self.peek(0) == Token::Ident;
        if name_first {
            name = Some(self.next());
            if self.eat(Token::At).is_some() {
                formals = Some(self.formals()?);
            }
        } else {
            formals = Some(self.formals()?);
            if self.eat(Token::At).is_some() {
                name = Some(self.next());
            }
        }
        let colon = self.next();
        let body = Box::new(self.expr()?);
        let param = Param { name, formals, name_first, colon };
        let flat =
            self.flat_param(&param).zip(body.flat.as_deref()).map(|(param, body)| format!("{param} {body}"));
        // More than two names before a body that is no set are easier to read on a line of their own.
        Some(self.node(Kind::Lambda { param, body }, first, fits(flat)))
    }

    fn flat_param(&self, param: &Param) -> Option<String> {
        let formals = match &param.formals {
            None => None,
            Some(formals) => Some(self.flat_formals(formals)?),
        };
        let name = param.name.map(|name| self.text(name));
        Some(match (name, formals) {
            (Some(name), None) => format!("{name}:"),
            (None, Some(formals)) => format!("{formals}:"),
            (Some(name), Some(formals)) if param.name_first => format!("{name}@{formals}:"),
            (Some(name), Some(formals)) => format!("{formals}@{name}:"),
            (None, None) => return None,
        })
    }

    /// Two names and `...` may stand in one line; more, or a default, take a line each.
    fn flat_formals(&self, formals: &Formals) -> Option<String> {
        const FEW: usize = 2;
        let many =
            formals.entries.len() > FEW || formals.entries.iter().any(|formal| formal.default.is_some());
        if many || self.has_comments(formals.open, formals.close) {
            return None;
        }
        let mut names: Vec<_> = formals.entries.iter().map(|formal| self.text(formal.name)).collect();
        if formals.ellipsis.is_some() {
            names.push("...");
        }
        Some(if names.is_empty() { "{ }".to_owned() } else { format!("{{ {} }}", names.join(", ")) })
    }

    fn formals(&mut self) -> Option<Formals> {
        let open = self.next();
        let mut entries = Vec::new();
        while self.peek(0) == Token::Ident {
            let name = self.next();
            let question = self.eat(Token::Question);
            let default = match question {
                Some(_) => Some(self.expr()?),
                None => None,
            };
            let comma = self.eat(Token::Comma);
            entries.push(Formal { name, question, default, comma });
        }
        let ellipsis = self.eat(Token::Ellipsis);
        let close = self.next();
        Some(Formals { open, entries, ellipsis, close })
    }

    fn let_in(&mut self) -> Option<Node> {
        let first = self.next();
        let bindings = self.bindings()?;
        let word_in = self.next();
        let body = Box::new(self.expr()?);
        Some(self.node(Kind::Let { bindings, word_in, body }, first, None))
    }

    fn statement(&mut self) -> Option<Node> {
        let first = self.next();
        let is_with = self.tokens[first].kind == Token::With;
        let subject = Box::new(self.expr()?);
        let semicolon = self.next();
        let body = Box::new(self.expr()?);
        let flat = subject.flat.as_deref().zip(body.flat.as_deref()).filter(|_| is_with);
        let flat = flat.map(|(subject, body)| format!("with {subject}; {body}"));
        Some(self.node(Kind::Statement { subject, semicolon, body }, first, fits(flat)))
    }

    fn if_then_else(&mut self) -> Option<Node> {
        let first = self.next();
        let condition = Box::new(self.expr()?);
        let word_then = self.next();
        let then = Box::new(self.expr()?);
        let word_else = self.next();
        let otherwise = Box::new(self.expr()?);
        let chain = matches!(otherwise.kind, Kind::If { .. });
        let flat = match (&condition.flat, &then.flat, &otherwise.flat) {
            (Some(condition), Some(then), Some(otherwise)) if !chain => {
                Some(format!("if {condition} then {then} else {otherwise}"))
            }
            _ => None,
        };
        Some(self.node(Kind::If { condition, then, otherwise, word_then, word_else }, first, fits(flat)))
    }

    fn operation(&mut self, lowest: u8) -> Option<Node> {
        let first = self.at;
        self.depth += 1;
        if self.depth > self.deepest {
            return None;
        }
        let prefix = match self.peek(0) {
            Token::Not => Some(Infix::Not),
            Token::Minus => Some(Infix::Negate),
            _ => None,
        };
        let mut node = match prefix {
            None => self.apply()?,
            Some(prefix) => {
                let op = self.next();
                let operand = Box::new(self.operation(prefix.level().0)?);
                // `- ./a` without its space is the path `-./a`.
                let is_path = matches!(self.tokens[operand.first].kind, Token::Path | Token::PathOpen);
                let space = if is_path { " " } else { "" };
                let flat =
                    operand.flat.as_deref().map(|operand| format!("{}{space}{operand}", self.text(op)));
                self.node(Kind::Prefix(operand), first, fits(flat))
            }
        };
        loop {
            if self.peek(0) == Token::Question {
                if HAS_ATTR_LEVEL < lowest {
                    break;
                }
                self.next();
                let path = self.attr_path()?;
                let flat = node.flat.as_deref().zip(self.flat_path(&path));
                let flat = flat.map(|(base, path)| format!("{base} ? {path}"));
                node = self.node(Kind::HasAttr { base: Box::new(node), path }, first, fits(flat));
                continue;
            }
            let Some(infix) = infix(self.peek(0)) else { break };
            let (level, side) = infix.level();
            if level < lowest {
                break;
            }
            let op = self.next();
            let right = self.operation(if side == Side::Right { level } else { level + 1 })?;
            let flat = node.flat.as_deref().zip(right.flat.as_deref());
            let flat = flat.map(|(left, right)| format!("{left} {} {right}", self.text(op)));
            let kind = Kind::Binary { left: Box::new(node), op, level, right: Box::new(right) };
            node = self.node(kind, first, fits(flat));
        }
        self.depth -= 1;
        Some(node)
    }

    fn apply(&mut self) -> Option<Node> {
        let first = self.at;
        let function = self.select()?;
        if !self.starts_simple() {
            return Some(function);
        }
        let mut terms = vec![function];
        while self.starts_simple() {
            terms.push(self.select()?);
        }
        let flat: Option<Vec<&str>> = terms.iter().map(|term| term.flat.as_deref()).collect();
        let flat = flat.map(|terms| terms.join(" "));
        Some(self.node(Kind::Apply(terms), first, fits(flat)))
    }

    fn starts_simple(&self) -> bool {
        match self.peek(0) {
            Token::Let => self.peek(1) == Token::BraceOpen,
            token => matches!(
                token,
                Token::Ident
                    | Token::Int
                    | Token::Float
                    | Token::SearchPath
                    | Token::Uri
                    | Token::Path
                    | Token::PathOpen
                    | Token::Str
                    | Token::StrOpen
                    | Token::IndentOpen
                    | Token::BraceOpen
                    | Token::BracketOpen
                    | Token::ParenOpen
                    | Token::Rec
            ),
        }
    }

    fn select(&mut self) -> Option<Node> {
        let first = self.at;
        let base = self.simple()?;
        if self.peek(0) == Token::Or {
            // `f or`: a call with the variable `or`.
            let at = self.next();
            let or = self.node(Kind::Token, at, Some("or".to_owned()));
            let flat = base.flat.as_deref().map(|base| format!("{base} or"));
            return Some(self.node(Kind::Apply(vec![base, or]), first, fits(flat)));
        }
        if self.eat(Token::Dot).is_none() {
            return Some(base);
        }
        let path = self.attr_path()?;
        let default = match self.eat(Token::Or) {
            Some(_) => Some(Box::new(self.select()?)),
            None => None,
        };
        // `1 .a` without its space is the number `1.` before `a`; a path or URI takes the dot in.
        let takes_dot =
            matches!(self.tokens[base.last].kind, Token::Int | Token::Path | Token::PathClose | Token::Uri);
        let dot = if takes_dot { " ." } else { "." };
        let mut flat =
            base.flat.as_deref().zip(self.flat_path(&path)).map(|(base, path)| format!("{base}{dot}{path}"));
        if let Some(default) = &default {
            flat = flat.zip(default.flat.as_deref()).map(|(start, default)| format!("{start} or {default}"));
        }
        Some(self.node(Kind::Select { base: Box::new(base), path, default }, first, fits(flat)))
    }

    fn attr_path(&mut self) -> Option<Vec<Node>> {
        let mut names = vec![self.attr()?];
        while self.eat(Token::Dot).is_some() {
            names.push(self.attr()?);
        }
        Some(names)
    }

    fn attr(&mut self) -> Option<Node> {
        let first = self.at;
        match self.peek(0) {
            Token::DollarBrace => {
                self.next();
                let node = self.expr()?;
                self.next();
                let flat = node.flat.as_deref().map(|node| format!("${{{node}}}"));
                Some(self.node(Kind::Dynamic(Box::new(node)), first, flat))
            }
            Token::StrOpen => self.simple(),
            _ => {
                let token = self.next();
                Some(self.node(Kind::Token, first, Some(self.text(token).to_owned())))
            }
        }
    }

    fn flat_path(&self, path: &[Node]) -> Option<String> {
        let comments = path.windows(2).any(|pair| self.has_comments(pair[0].first, pair[1].first));
        let names: Option<Vec<&str>> = path.iter().map(|name| name.flat.as_deref()).collect();
        names.filter(|_| !comments).map(|names| names.join("."))
    }

    fn simple(&mut self) -> Option<Node> {
        let first = self.at;
        match self.peek(0) {
            Token::StrOpen | Token::PathOpen => {
                self.next();
                let parts = self.parts(&[Token::StrClose, Token::PathClose])?;
                let flat = self.flat_parts(first, &parts);
                Some(self.node(Kind::Str(parts), first, flat))
            }
            Token::IndentOpen => {
                self.next();
                let parts = self.parts(&[Token::IndentClose])?;
                let flat = self.flat_parts(first, &parts).filter(|text| !text.contains('\n'));
                Some(self.node(Kind::Indented(parts), first, flat))
            }
            Token::ParenOpen => {
                self.next();
                let node = self.expr()?;
                self.next();
                let flat = node.flat.as_deref().map(|node| format!("({node})"));
                Some(self.node(Kind::Paren(Box::new(node)), first, fits(flat)))
            }
            Token::BracketOpen => self.list(),
            Token::BraceOpen | Token::Rec | Token::Let => self.set(),
            _ => {
                let token = self.next();
                Some(self.node(Kind::Token, first, Some(self.text(token).to_owned())))
            }
        }
    }

    fn parts(&mut self, ends: &[Token]) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        loop {
            let token = self.next();
            let kind = self.tokens[token].kind;
            if ends.contains(&kind) {
                return Some(parts);
            }
            parts.push(if kind == Token::DollarBrace {
                let node = self.expr()?;
                Part::Interpolation { open: token, node, close: self.next() }
            } else {
                Part::Text(token)
            });
        }
    }

    fn flat_parts(&self, open: usize, parts: &[Part]) -> Option<String> {
        let mut flat = self.text(open).to_owned();
        for part in parts {
            match part {
                Part::Text(token) => flat += self.text(*token),
                Part::Interpolation { open, node, close } => {
                    if self.has_comments(*open, *close) {
                        return None;
                    }
                    flat += "${";
                    flat += node.flat.as_deref()?;
                    flat.push('}');
                }
            }
        }
        flat += self.text(self.at - 1);
        Some(flat)
    }

    fn list(&mut self) -> Option<Node> {
        let first = self.next();
        let mut items = Vec::new();
        while self.peek(0) != Token::BracketClose {
            items.push(self.select()?);
        }
        let close = self.next();
        let one_line = self.tokens[first].line == self.tokens[close].line;
        let flat = match &items[..] {
            [] => Some("[ ]".to_owned()),
            [item] if one_line => item.flat.as_deref().map(|item| format!("[ {item} ]")),
            _ => None,
        };
        Some(self.node(Kind::List(items), first, fits(flat)))
    }

    fn set(&mut self) -> Option<Node> {
        let first = self.at;
        if self.peek(0) != Token::BraceOpen {
            self.next();
        }
        let open = self.next();
        let bindings = self.bindings()?;
        let close = self.next();
        let word = if open > first { format!("{} ", self.text(first)) } else { String::new() };
        let one_line = self.tokens[open].line == self.tokens[close].line;
        let flat = match &bindings[..] {
            [] => Some(format!("{word}{{ }}")),
            [binding] if one_line => {
                self.flat_binding(binding).map(|binding| format!("{word}{{ {binding} }}"))
            }
            _ => None,
        };
        Some(self.node(Kind::Set { open, bindings }, first, fits(flat)))
    }

    fn bindings(&mut self) -> Option<Vec<Binding>> {
        let mut bindings = Vec::new();
        loop {
            match self.peek(0) {
                Token::BraceClose | Token::In => return Some(bindings),
                Token::Inherit => {
                    let word = self.next();
                    let from = if self.peek(0) == Token::ParenOpen { Some(self.simple()?) } else { None };
                    let mut names = Vec::new();
                    while self.peek(0) != Token::Semicolon {
                        names.push(self.attr()?);
                    }
                    bindings.push(Binding::Inherit { word, from, names, semicolon: self.next() });
                }
                _ => {
                    let path = self.attr_path()?;
                    let equals = self.next();
                    let value = self.expr()?;
                    bindings.push(Binding::Assign { path, equals, value, semicolon: self.next() });
                }
            }
        }
    }

    fn flat_binding(&self, binding: &Binding) -> Option<String> {
        if self.has_comments(binding.first(), binding.last()) {
            return None;
        }
        match binding {
            Binding::Assign { value, .. } if is_filled_set(value) => None,
            Binding::Assign { path, value, .. } => {
                Some(format!("{} = {};", self.flat_path(path)?, value.flat.as_deref()?))
            }
            Binding::Inherit { from, names, .. } => {
                let mut flat = "inherit".to_owned();
                for node in from.iter().chain(names) {
                    flat.push(' ');
                    flat += node.flat.as_deref()?;
                }
                flat.push(';');
                Some(flat)
            }
        }
    }
}

/// Whether a value is a set with something in it, which as the value of a binding is always spread out.
pub(super) fn is_filled_set(value: &Node) -> bool {
    match &value.kind {
        Kind::Set { bindings, .. } => !bindings.is_empty(),
        Kind::Statement { body, .. } => is_filled_set(body),
        _ => false,
    }
}

/// What is longer than a line is never written in one.
fn fits(flat: Option<String>) -> Option<String> {
    flat.filter(|flat| flat.chars().count() <= WIDTH)
}

fn infix(token: Token) -> Option<Infix> {
    Some(match token {
        Token::Implies => Infix::Implies,
        Token::OrOr => Infix::Or,
        Token::AndAnd => Infix::And,
        Token::Equal => Infix::Equal,
        Token::NotEqual => Infix::NotEqual,
        Token::Less => Infix::Less,
        Token::LessEqual => Infix::LessEqual,
        Token::Greater => Infix::Greater,
        Token::GreaterEqual => Infix::GreaterEqual,
        Token::Update => Infix::Update,
        Token::Plus => Infix::Add,
        Token::Minus => Infix::Sub,
        Token::Star => Infix::Mul,
        Token::Slash => Infix::Div,
        Token::Concat => Infix::Concat,
        Token::PipeInto => Infix::PipeInto,
        Token::PipeFrom => Infix::PipeFrom,
        _ => return None,
    })
}
