//! Tree to text.
//!
//! [`Layout::expr`] writes a node in one line if it may and fits, and else spread out as its kind asks for. The
//! places where a node may begin on the line that leads to it ask [`Layout::absorbs`].

use super::tree::{Binding, Formals, Kind, Node, Param, Part, WIDTH, is_filled_set};
use super::trivia::Tok;
use crate::lexer::Token;

/// Writes a program. Indented strings move with their surroundings if `reindent` says so.
pub(super) fn layout(text: &str, tokens: &[Tok], tree: &Node, reindent: bool) -> String {
    let mut layout = Layout {
        tokens,
        out: String::with_capacity(text.len() + text.len() / 4),
        indent: 0,
        column: 0,
        at_start: true,
        space: false,
        pending: false,
        comment_at: 0,
        after_open: true,
        reindent,
    };
    layout.expr(tree, 0);
    let end = tokens.len() - 1;
    if !tokens[end].lead.is_empty() {
        layout.newline_before(end);
        layout.lead(end);
    }
    let mut out = layout.out;
    out.truncate(out.trim_end_matches('\n').len());
    out.push('\n');
    out
}

struct Layout<'a> {
    tokens: &'a [Tok<'a>],
    out: String,
    indent: usize,
    /// Characters on the line, without its indentation.
    column: usize,
    at_start: bool,
    /// A space is due before the next word.
    space: bool,
    /// A line end is due before the next word: a comment stands before it.
    pending: bool,
    /// Where that comment begins.
    comment_at: usize,
    /// A bracket was opened, or the text begins: no empty line here.
    after_open: bool,
    reindent: bool,
}

impl Layout<'_> {
    // Words, lines, comments.

    fn newline(&mut self) {
        if !self.at_start {
            self.out.push('\n');
        }
        self.at_start = true;
        self.space = false;
        self.pending = false;
        self.column = 0;
    }

    fn blank_line(&mut self) {
        self.newline();
        if !self.after_open && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Begins a line, after an empty one if there is one before the token.
    fn newline_before(&mut self, token: usize) {
        if self.tokens[token].blank_first() { self.blank_line() } else { self.newline() }
    }

    fn word(&mut self, text: &str) {
        if self.pending {
            self.newline();
        }
        if self.at_start {
            self.out.extend(std::iter::repeat_n("  ", self.indent));
        } else if self.space {
            self.out.push(' ');
            self.column += 1;
        }
        self.raw(text);
        self.space = false;
    }

    /// Writes a text as it is, line ends included.
    fn raw(&mut self, text: &str) {
        self.out += text;
        self.at_start = false;
        self.after_open = false;
        match text.rfind('\n') {
            None => self.column += text.chars().count(),
            Some(at) => self.column = text[at + 1..].chars().count(),
        }
    }

    fn space(&mut self) {
        self.space = true;
    }

    fn lead(&mut self, token: usize) {
        let tokens = self.tokens;
        for comment in &tokens[token].lead {
            if comment.blank_before {
                self.blank_line()
            } else {
                self.newline()
            }
            for (i, line) in comment.lines.iter().enumerate() {
                if i > 0 {
                    self.newline();
                }
                if line.is_empty() {
                    self.out.push('\n');
                } else {
                    self.word(line);
                }
            }
            self.newline();
        }
        if !tokens[token].lead.is_empty() && tokens[token].blank_before {
            self.blank_line();
        }
    }

    /// Writes a token without the comments before it.
    fn body(&mut self, token: usize) {
        let tokens = self.tokens;
        self.word(tokens[token].text);
        self.trail(token);
    }

    fn trail(&mut self, token: usize) {
        let tokens = self.tokens;
        if let Some(comment) = &tokens[token].trail {
            if self.pending {
                self.newline();
            }
            self.comment_at = self.out.len();
            for line in &comment.lines {
                self.space();
                self.word(line);
            }
            self.pending = true;
        }
    }

    fn token(&mut self, token: usize) {
        self.lead(token);
        self.body(token);
    }

    fn nested(&mut self, write: impl FnOnce(&mut Self)) {
        self.indent += 1;
        write(self);
        self.indent -= 1;
    }

    /// Writes a bracket, what is in it line by line, and the closing bracket.
    fn bracketed(&mut self, open: usize, close: usize, write: impl FnOnce(&mut Self)) {
        self.token(open);
        self.nested(|layout| {
            layout.newline();
            layout.after_open = true;
            write(layout);
            if !layout.tokens[close].lead.is_empty() {
                layout.newline_before(close);
                layout.lead(close);
            }
        });
        self.newline();
        self.after_open = false;
        self.body(close);
    }

    // Questions.

    fn has_lead(&self, node: &Node) -> bool {
        !self.tokens[node.first].lead.is_empty()
    }

    /// Whether `width` more characters have room on this line.
    fn has_room(&self, width: usize) -> bool {
        let column = if self.pending || self.at_start { 0 } else { self.column + usize::from(self.space) };
        column + width <= WIDTH
    }

    fn fits(&self, node: &Node, tail: usize) -> bool {
        node.flat.as_deref().is_some_and(|flat| self.has_room(width(flat) + tail))
    }

    /// Whether a node begins with a bracket that may stay on the line that leads to it, and ends with the other.
    fn is_term(&self, node: &Node) -> bool {
        if self.has_lead(node) {
            return false;
        }
        match &node.kind {
            Kind::Set { .. } | Kind::List(_) => true,
            Kind::Indented(_) => node.flat.is_none(),
            Kind::Paren(inner) => self.is_term(inner),
            _ => false,
        }
    }

    /// The same, or `with x;` before such a node.
    fn is_term_or_with(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Statement { body, subject, .. } if self.tokens[node.first].kind == Token::With => {
                !self.has_lead(node) && subject.flat.is_some() && self.is_term(body)
            }
            _ => self.is_term(node),
        }
    }

    /// Whether a node may begin on the line that leads to it although it does not end there.
    fn absorbs(&self, node: &Node) -> bool {
        if self.has_lead(node) {
            return false;
        }
        match &node.kind {
            Kind::Token | Kind::Str(_) | Kind::Paren(_) | Kind::Indented(_) => true,
            Kind::Lambda { .. } => self.lambda_absorbs(node),
            Kind::Apply(terms) => self.absorbed_argument(terms).is_some(),
            Kind::Select { base, default: None, .. } => self.is_term(base),
            Kind::Prefix(operand) => self.absorbs(operand),
            Kind::Binary { left, op, right, .. } => self.is_compact(left, *op, right),
            _ => self.is_term_or_with(node),
        }
    }

    /// `a: b: {`
    fn lambda_absorbs(&self, node: &Node) -> bool {
        const FEW: usize = 3;
        let mut node = node;
        for _ in 0..FEW {
            let Kind::Lambda { param, body } = &node.kind else { break };
            if param.formals.is_some() || self.has_lead(node) || self.tokens[param.colon].trail.is_some() {
                return false;
            }
            node = body;
        }
        self.is_term_or_with(node)
    }

    /// `left // {`
    fn is_compact(&self, left: &Node, op: usize, right: &Node) -> bool {
        let op = &self.tokens[op];
        let merges = matches!(op.kind, Token::Update | Token::Concat | Token::Plus);
        let plain = op.lead.is_empty() && !matches!(left.kind, Kind::Binary { .. }) && self.is_term(right);
        merges && plain && left.flat.is_some() && self.fits(left, 5)
    }

    /// Returns the one argument of a call that is absorbed: all others fit before and behind it.
    fn absorbed_argument(&self, terms: &[Node]) -> Option<usize> {
        let spread: Vec<usize> = (0..terms.len()).filter(|&i| terms[i].flat.is_none()).collect();
        let comments = terms.iter().skip(1).any(|term| self.has_lead(term));
        let trailing = terms[..terms.len() - 1].iter().any(|term| self.tokens[term.last].trail.is_some());
        if comments || trailing || spread.len() > 1 {
            return None;
        }
        let width_of = |terms: &[Node]| -> usize {
            terms.iter().map(|term| 1 + term.flat.as_deref().map_or(0, width)).sum()
        };
        // If all of them could be written in one line, but not together: the last one that has a bracket.
        let candidates = spread.first().map_or(1..terms.len(), |&index| index..index + 1);
        candidates.rev().find(|&index| {
            let can =
                index > 0 && (self.is_term(&terms[index]) || matches!(terms[index].kind, Kind::Paren(_)));
            can && self.has_room(width_of(&terms[..index]) + 2) && width_of(&terms[index + 1..]) + 2 <= WIDTH
        })
    }

    // Expressions.

    fn flat(&mut self, node: &Node, flat: &str) {
        self.lead(node.first);
        self.word(flat);
        self.trail(node.last);
    }

    /// Writes a node behind which `tail` characters follow on its last line.
    fn expr(&mut self, node: &Node, tail: usize) {
        if let Some(flat) = &node.flat
            && (self.fits(node, tail) || matches!(node.kind, Kind::Token | Kind::Indented(_)))
        {
            return self.flat(node, flat);
        }
        match &node.kind {
            Kind::Token => self.token(node.first),
            Kind::Str(parts) => self.string(node, parts),
            Kind::Indented(parts) => self.indented(node, parts),
            Kind::Paren(inner) => self.paren(node, inner, tail),
            Kind::List(items) => self.bracketed(node.first, node.last, |layout| {
                for item in items {
                    layout.newline_before(item.first);
                    layout.expr(item, 0);
                }
            }),
            Kind::Set { open, bindings } => {
                if *open > node.first {
                    self.token(node.first);
                    self.space();
                }
                self.bracketed(*open, node.last, |layout| layout.bindings(bindings));
            }
            Kind::Select { base, path, default } => self.select(base, path, default.as_deref(), tail),
            Kind::Apply(terms) => self.apply(terms, tail),
            Kind::Prefix(operand) => {
                self.token(node.first);
                self.space = needs_space_after_minus(self.tokens[operand.first].kind);
                self.expr(operand, tail);
            }
            Kind::Binary { level, .. } => self.operation(node, *level, tail),
            Kind::HasAttr { base, path } => {
                self.expr(base, 0);
                self.space();
                self.token(base.last + 1);
                self.space();
                self.path(path);
            }
            Kind::Lambda { param, body } => self.lambda(node, param, body, tail),
            Kind::Let { bindings, word_in, body } => {
                self.token(node.first);
                self.nested(|layout| {
                    layout.newline();
                    layout.after_open = true;
                    layout.bindings(bindings);
                    if !layout.tokens[*word_in].lead.is_empty() {
                        layout.newline_before(*word_in);
                        layout.lead(*word_in);
                    }
                });
                self.newline();
                self.after_open = false;
                self.body(*word_in);
                self.newline_before(body.first);
                self.expr(body, tail);
            }
            Kind::Statement { subject, semicolon, body } => {
                self.token(node.first);
                if self.tokens[node.first].kind == Token::With {
                    self.space();
                    self.expr(subject, 1);
                } else {
                    self.value(subject, 1);
                }
                self.token(*semicolon);
                self.newline_before(body.first);
                self.expr(body, tail);
            }
            Kind::If { .. } => self.if_then_else(node, tail),
            Kind::Dynamic(inner) => self.interpolation(node.first, inner, node.last),
        }
    }

    /// Writes a node that begins on the line that leads to it.
    fn absorbed(&mut self, node: &Node, tail: usize) {
        match &node.kind {
            Kind::Statement { subject, semicolon, body } => {
                self.token(node.first);
                self.space();
                self.expr(subject, 1);
                self.token(*semicolon);
                self.space();
                self.spread(body, tail);
            }
            Kind::Binary { left, op, right, .. } => {
                self.expr(left, 5);
                self.space();
                self.token(*op);
                self.space();
                self.spread(right, tail);
            }
            _ => self.expr(node, tail),
        }
    }

    /// Writes a node that is spread out if it is a set with something in it.
    fn spread(&mut self, node: &Node, tail: usize) {
        match &node.kind {
            Kind::Set { open, bindings } if !bindings.is_empty() => {
                if *open > node.first {
                    self.token(node.first);
                    self.space();
                }
                self.bracketed(*open, node.last, |layout| layout.bindings(bindings));
            }
            _ => self.expr(node, tail),
        }
    }

    fn paren(&mut self, node: &Node, inner: &Node, tail: usize) {
        self.token(node.first);
        let compact = !self.has_lead(inner)
            && self.tokens[node.last].lead.is_empty()
            && self.is_compact_in_paren(inner);
        if compact {
            self.absorbed(inner, tail + 1);
            return self.body(node.last);
        }
        self.nested(|layout| {
            layout.newline();
            layout.after_open = true;
            layout.expr(inner, 0);
            if !layout.tokens[node.last].lead.is_empty() {
                layout.newline_before(node.last);
                layout.lead(node.last);
            }
        });
        self.newline();
        self.after_open = false;
        self.body(node.last);
    }

    fn is_compact_in_paren(&self, inner: &Node) -> bool {
        match &inner.kind {
            Kind::Lambda { .. } => self.lambda_absorbs(inner),
            Kind::Apply(terms) => self
                .absorbed_argument(terms)
                .is_some_and(|index| index + 1 == terms.len() && self.is_term(&terms[index])),
            _ => self.is_term_or_with(inner),
        }
    }

    fn select(&mut self, base: &Node, path: &[Node], default: Option<&Node>, tail: usize) {
        self.expr(base, 0);
        self.space = needs_space_before_dot(self.tokens[base.last].kind);
        self.token(base.last + 1);
        self.path(path);
        let Some(default) = default else { return };
        let or = default.first - 1;
        if self.tokens[or].lead.is_empty() && (self.fits(default, tail + 4) || self.is_term(default)) {
            self.space();
            self.token(or);
            self.space();
            return self.expr(default, tail);
        }
        self.nested(|layout| {
            layout.newline();
            layout.token(or);
            layout.space();
            layout.expr(default, tail);
        });
    }

    fn path(&mut self, path: &[Node]) {
        for (i, name) in path.iter().enumerate() {
            if i > 0 {
                self.token(name.first - 1);
            }
            match &name.flat {
                Some(flat) => self.flat(name, flat),
                None => self.expr(name, 0),
            }
        }
    }

    fn apply(&mut self, terms: &[Node], tail: usize) {
        if let Some(index) = self.absorbed_argument(terms) {
            for (i, term) in terms.iter().enumerate() {
                if i > 0 {
                    self.space();
                }
                match &term.flat {
                    Some(flat) if i != index => self.flat(term, flat),
                    _ => self.expr(term, if i + 1 == terms.len() { tail } else { WIDTH }),
                }
            }
            return;
        }
        let (function, args) = terms.split_first().expect("a call has a function");
        self.expr(function, 0);
        let mut on_first_line = true;
        self.nested(|layout| {
            for (i, arg) in args.iter().enumerate() {
                let rest_is_short = args[i..].len() > 1 || layout.fits(arg, tail);
                layout.space();
                on_first_line &= layout.fits(arg, tail) && rest_is_short && !layout.has_lead(arg);
                if !on_first_line {
                    layout.newline();
                }
                layout.expr(arg, tail);
            }
        });
    }

    fn operation(&mut self, node: &Node, level: u8, tail: usize) {
        let mut links = Vec::new();
        let first = chain(node, level, &mut links);
        self.expr(first, 0);
        for (op, operand) in links {
            self.newline();
            self.token(op);
            self.space();
            if self.fits(operand, tail) && !self.has_lead(operand) {
                self.expr(operand, tail);
            } else if self.absorbs(operand) && !matches!(operand.kind, Kind::Binary { .. }) {
                self.absorbed(operand, tail);
            } else {
                self.nested(|layout| {
                    layout.newline();
                    layout.expr(operand, tail);
                });
            }
        }
    }

    fn lambda(&mut self, node: &Node, param: &Param, body: &Node, tail: usize) {
        if param.formals.is_some() {
            self.param(param);
            self.newline_before(body.first);
            return self.expr(body, tail);
        }
        if self.lambda_absorbs(node) {
            self.param(param);
            self.space();
            return match &body.kind {
                Kind::Lambda { param: inner, body: inner_body } => self.lambda(body, inner, inner_body, tail),
                _ => self.absorbed(body, tail),
            };
        }
        // The names in one line, if they fit, and the body below.
        let mut names = 0;
        let mut at = node;
        while let Kind::Lambda { param, body } = &at.kind
            && param.formals.is_none()
        {
            names += 2 + width(self.tokens[param.colon - 1].text);
            at = body;
        }
        let one_line = self.has_room(names);
        let mut at = node;
        while let Kind::Lambda { param, body } = &at.kind
            && param.formals.is_none()
        {
            self.param(param);
            let more = matches!(&body.kind, Kind::Lambda { param, .. } if param.formals.is_none());
            if one_line && more && !self.has_lead(body) {
                self.space();
            } else {
                self.newline_before(body.first);
            }
            at = body;
        }
        self.expr(at, tail);
    }

    fn param(&mut self, param: &Param) {
        if let (Some(name), true) = (param.name, param.name_first) {
            self.token(name);
            if param.formals.is_some() {
                self.token(name + 1);
            }
        }
        if let Some(formals) = &param.formals {
            self.formals(formals);
            if let (Some(name), false) = (param.name, param.name_first) {
                self.token(name - 1);
                self.token(name);
            }
        }
        self.token(param.colon);
    }

    fn formals(&mut self, formals: &Formals) {
        const FEW: usize = 2;
        let few =
            formals.entries.len() <= FEW && formals.entries.iter().all(|formal| formal.default.is_none());
        let comments = (formals.open..formals.close)
            .any(|i| self.tokens[i].trail.is_some() || !self.tokens[i + 1].lead.is_empty());
        let names: usize =
            formals.entries.iter().map(|formal| 2 + width(self.tokens[formal.name].text)).sum();
        if few && !comments && self.has_room(names + 8) {
            self.token(formals.open);
            self.space();
            for (i, formal) in formals.entries.iter().enumerate() {
                if i > 0 {
                    self.word(",");
                    self.space();
                }
                self.token(formal.name);
            }
            if let Some(ellipsis) = formals.ellipsis {
                if !formals.entries.is_empty() {
                    self.word(",");
                    self.space();
                }
                self.token(ellipsis);
            }
            self.space();
            return self.token(formals.close);
        }
        self.bracketed(formals.open, formals.close, |layout| {
            for formal in &formals.entries {
                layout.newline_before(formal.name);
                // The comma stands directly behind, so what is behind the name or the comma comes behind both.
                layout.lead(formal.name);
                layout.word(layout.tokens[formal.name].text);
                if let (Some(question), Some(default)) = (formal.question, &formal.default) {
                    layout.trail(formal.name);
                    layout.space();
                    layout.token(question);
                    layout.value(default, 1);
                    // A comma may be part of a URI.
                    layout.space = layout.tokens[default.last].kind == Token::Uri;
                }
                if let Some(comma) = formal.comma {
                    layout.lead(comma);
                }
                layout.separator(",");
                if formal.question.is_none() {
                    layout.trail(formal.name);
                }
                if let Some(comma) = formal.comma {
                    layout.trail(comma);
                }
            }
            if let Some(ellipsis) = formals.ellipsis {
                layout.newline_before(ellipsis);
                layout.token(ellipsis);
            }
        });
    }

    fn if_then_else(&mut self, node: &Node, tail: usize) {
        let mut node = node;
        loop {
            let Kind::If { condition, then, otherwise, word_then, word_else } = &node.kind else {
                unreachable!("the loop goes on only with another `if`");
            };
            self.token(node.first);
            self.space();
            let inline = self.fits(condition, 5) && !self.has_lead(condition);
            if inline
                && self.tokens[*word_then].lead.is_empty()
                && self.tokens[condition.last].trail.is_none()
            {
                self.expr(condition, 5);
                self.space();
            } else {
                self.nested(|layout| {
                    layout.newline();
                    layout.expr(condition, 0);
                });
                self.newline();
            }
            self.token(*word_then);
            self.nested(|layout| {
                layout.newline();
                layout.expr(then, 0);
                if !layout.tokens[*word_else].lead.is_empty() {
                    layout.lead(*word_else);
                }
            });
            self.newline();
            self.body(*word_else);
            if matches!(otherwise.kind, Kind::If { .. }) && !self.has_lead(otherwise) {
                self.space();
                node = otherwise;
                continue;
            }
            return self.nested(|layout| {
                layout.newline();
                layout.expr(otherwise, tail);
            });
        }
    }

    // Bindings.

    fn bindings(&mut self, bindings: &[Binding]) {
        for binding in bindings {
            self.newline_before(binding.first());
            match binding {
                Binding::Assign { path, equals, value, semicolon } => {
                    self.path(path);
                    self.space();
                    self.token(*equals);
                    self.value(value, 1);
                    self.semicolon(*semicolon);
                }
                Binding::Inherit { word, from, names, semicolon } => {
                    self.inherit(*word, from.as_ref(), names, *semicolon);
                }
            }
        }
    }

    /// Writes a semicolon or comma; a comment before it goes behind it.
    fn separator(&mut self, text: &str) {
        if self.pending {
            let text = if std::mem::take(&mut self.space) { &format!(" {text}") } else { text };
            self.out.insert_str(self.comment_at, text);
            self.comment_at += text.len();
        } else {
            self.word(text);
        }
    }

    fn semicolon(&mut self, semicolon: usize) {
        if !self.tokens[semicolon].lead.is_empty() {
            return self.token(semicolon);
        }
        self.separator(";");
        self.trail(semicolon);
    }

    /// Writes what follows `=`.
    fn value(&mut self, node: &Node, tail: usize) {
        self.space();
        let commented = self.has_lead(node);
        if !commented && self.fits(node, tail) && !is_filled_set(node) {
            self.expr(node, tail);
        } else if !commented && self.absorbs(node) {
            if is_filled_set(node) && !matches!(node.kind, Kind::Statement { .. }) {
                self.spread(node, tail);
            } else {
                self.absorbed(node, tail);
            }
        } else {
            self.nested(|layout| {
                layout.newline();
                layout.expr(node, tail);
            });
        }
    }

    fn inherit(&mut self, word: usize, from: Option<&Node>, names: &[Node], semicolon: usize) {
        self.token(word);
        let comments =
            (word..semicolon).any(|i| self.tokens[i].trail.is_some() || !self.tokens[i + 1].lead.is_empty());
        let flat_width = |node: &Node| node.flat.as_deref().map(|flat| 1 + width(flat));
        let total: Option<usize> = from.iter().copied().chain(names).map(flat_width).sum();
        if !comments && total.is_some_and(|total| self.has_room(total + 1)) {
            for node in from.iter().copied().chain(names) {
                self.space();
                self.expr(node, 0);
            }
            return self.token(semicolon);
        }
        self.nested(|layout| {
            if let Some(from) = from {
                layout.space();
                if !layout.fits(from, 0) || layout.has_lead(from) {
                    layout.newline();
                }
                layout.expr(from, 0);
            }
            for name in names {
                layout.newline_before(name.first);
                layout.expr(name, 0);
            }
            layout.newline();
            layout.token(semicolon);
        });
    }

    // Strings.

    fn string(&mut self, node: &Node, parts: &[Part]) {
        self.lead(node.first);
        self.word(self.tokens[node.first].text);
        for part in parts {
            match part {
                Part::Text(token) => self.raw(self.tokens[*token].text),
                Part::Interpolation { open, node, close } => self.interpolation(*open, node, *close),
            }
        }
        self.raw(self.tokens[node.last].text);
        self.trail(node.last);
    }

    fn interpolation(&mut self, open: usize, node: &Node, close: usize) {
        let plain = !self.has_lead(node) && self.tokens[node.last].trail.is_none();
        self.lead(open);
        if let Some(flat) = &node.flat
            && plain
            && self.tokens[close].lead.is_empty()
        {
            self.word("${");
            self.raw(flat);
            self.raw("}");
            return self.trail(close);
        }
        self.word("${");
        self.nested(|layout| {
            layout.newline();
            layout.after_open = true;
            layout.expr(node, 0);
            layout.lead(close);
        });
        self.newline();
        self.after_open = false;
        self.body(close);
    }

    fn indented(&mut self, node: &Node, parts: &[Part]) {
        if !self.reindent {
            return self.string(node, parts);
        }
        self.lead(node.first);
        self.word("''");
        let mut lines = lines_of(self.tokens, parts);
        // Where nothing but blanks is, all of them go.
        let shared = lines.iter().filter_map(Line::indentation).min().unwrap_or(usize::MAX);
        let last = lines.pop().unwrap_or_default();
        let last_is_blank = last.indentation().is_none();
        self.nested(|layout| {
            let all = lines.iter().chain((!last_is_blank).then_some(&last));
            for line in all {
                layout.out.push('\n');
                (layout.at_start, layout.column, layout.space, layout.pending) = (true, 0, false, false);
                layout.indented_line(line, shared);
            }
        });
        if last_is_blank {
            self.out.push('\n');
            (self.at_start, self.column) = (true, 0);
            self.word("''");
        } else {
            self.raw("''");
        }
        self.trail(node.last);
    }

    fn indented_line(&mut self, line: &Line, shared: usize) {
        for (i, piece) in line.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) if i == 0 => {
                    let blank = text.len() - text.trim_start_matches(' ').len();
                    let text = &text[shared.min(blank)..];
                    if !text.is_empty() {
                        self.word(text);
                    }
                }
                Piece::Text(text) => self.raw(text),
                Piece::Interpolation { open, node, close } => self.interpolation(*open, node, *close),
            }
        }
    }
}

/// `- ./a` without its space is the path `-./a`.
fn needs_space_after_minus(next: Token) -> bool {
    matches!(next, Token::Path | Token::PathOpen)
}

/// `1 .a` without its space is the number `1.` before `a`; a path or URI takes the dot in.
fn needs_space_before_dot(before: Token) -> bool {
    matches!(before, Token::Int | Token::Path | Token::PathClose | Token::Uri)
}

fn width(text: &str) -> usize {
    // Of a string with line ends only the first line is on this one.
    text.split('\n').next().unwrap_or_default().chars().count()
}

/// Collects the operands of operators that are written as one sequence; returns the first operand.
fn chain<'n>(node: &'n Node, level: u8, links: &mut Vec<(usize, &'n Node)>) -> &'n Node {
    /// `==` and `<`: no sequence.
    const NOT_CHAINED: std::ops::RangeInclusive<u8> = 5..=6;
    let mut left_links: Vec<(usize, &Node)> = Vec::new();
    let mut at = node;
    let mut least = level;
    let first = loop {
        let Kind::Binary { left, op, level, right } = &at.kind else { break at };
        let chained = at.first == node.first && std::ptr::eq(at, node) || !NOT_CHAINED.contains(level);
        if !chained || *level < least {
            break at;
        }
        least = *level;
        // Operators that go to the right hold the rest of their sequence there.
        let mut rights = vec![(*op, &**right)];
        while let Some((_, last)) = rights.last()
            && let Kind::Binary { left, op, level: inner, right } = &last.kind
            && inner == level
            && !NOT_CHAINED.contains(level)
        {
            let (op, left, right) = (*op, &**left, &**right);
            let (first_op, _) = rights.pop().expect("there is a last one");
            rights.push((first_op, left));
            rights.push((op, right));
        }
        left_links.splice(0..0, rights);
        if NOT_CHAINED.contains(level) {
            break left;
        }
        at = left;
    };
    links.extend(left_links);
    first
}

/// A line of an indented string.
#[derive(Default)]
struct Line<'a> {
    pieces: Vec<Piece<'a>>,
}

enum Piece<'a> {
    Text(&'a str),
    Interpolation { open: usize, node: &'a Node, close: usize },
}

impl Line<'_> {
    /// The spaces before what is on the line; `None` if nothing is.
    fn indentation(&self) -> Option<usize> {
        match self.pieces.first() {
            None => None,
            Some(Piece::Interpolation { .. }) => Some(0),
            Some(Piece::Text(text)) => {
                let spaces = text.len() - text.trim_start_matches(' ').len();
                (spaces < text.len() || self.pieces.len() > 1).then_some(spaces)
            }
        }
    }
}

fn lines_of<'a>(tokens: &'a [Tok], parts: &'a [Part]) -> Vec<Line<'a>> {
    let mut lines = vec![Line::default()];
    for part in parts {
        match part {
            Part::Interpolation { open, node, close } => {
                let piece = Piece::Interpolation { open: *open, node, close: *close };
                lines.last_mut().expect("there is a line").pieces.push(piece);
            }
            Part::Text(token) => {
                let escape = tokens[*token].kind == Token::IndentEscape;
                let mut rest = Some(tokens[*token].text);
                while let Some(text) = rest {
                    let (line, more) = match text.split_once('\n') {
                        Some((line, more)) if !escape => (line, Some(more)),
                        _ => (text, None),
                    };
                    if !line.is_empty() {
                        lines.last_mut().expect("there is a line").pieces.push(Piece::Text(line));
                    }
                    if more.is_some() {
                        lines.push(Line::default());
                    }
                    rest = more;
                }
            }
        }
    }
    lines
}
