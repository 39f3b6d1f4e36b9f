//! Tokens with what stands between them: comments and empty lines.

use std::cell::RefCell;

use crate::lexer::{Lexer, Token};

/// A token and what belongs to it.
#[derive(Debug)]
pub(super) struct Tok<'t> {
    pub kind: Token,
    pub text: &'t str,
    /// Comments on the lines before it.
    pub lead: Vec<Comment>,
    /// The comment behind it on its line.
    pub trail: Option<Comment>,
    /// Whether an empty line stands before it, behind its comments.
    pub blank_before: bool,
    /// The number of its line, from 0.
    pub line: usize,
}

/// A comment, as it is to be written: its lines, without indentation.
#[derive(Clone, Debug)]
pub(super) struct Comment {
    pub lines: Vec<String>,
    /// Whether an empty line stands before it.
    pub blank_before: bool,
}

impl Tok<'_> {
    /// Whether an empty line stands before the token and its comments.
    pub fn blank_first(&self) -> bool {
        self.lead.first().map_or(self.blank_before, |comment| comment.blank_before)
    }
}

/// Returns the tokens of a program that parses. The last one is the end of the text (an empty `Invalid`), for the comments before it.
pub(super) fn tokens(text: &str) -> Vec<Tok<'_>> {
    let docs = RefCell::default();
    let mut tokens: Vec<Tok> = Vec::new();
    let (mut at, mut line) = (0, 0);
    let ends = Lexer::new(text.as_bytes(), &docs).map_while(Result::ok);
    let end = (text.len() as u32, Token::Invalid, text.len() as u32);
    for (start, kind, token_end) in ends.chain([end]) {
        let (start, token_end) = (start as usize, token_end as usize);
        let gap = &text[at..start];
        let mut gap = Gap { rest: gap, newlines: 0, comments: Vec::new() };
        gap.read();
        let Gap { newlines, mut comments, .. } = gap;
        if let Some(previous) = tokens.last_mut()
            && comments.first().is_some_and(|comment| comment.same_line && comment.ends_line)
        {
            let comment = comments.remove(0).comment;
            if keeps_trailing_comment(previous.kind) {
                previous.trail = Some(comment);
            } else {
                comments.insert(0, Found { comment, same_line: false, ends_line: true });
            }
        }
        line += text[at..start].matches('\n').count();
        let lead = comments.into_iter().map(|found| found.comment).collect();
        tokens.push(Tok {
            kind,
            text: &text[start..token_end],
            lead,
            trail: None,
            blank_before: newlines > 1,
            line,
        });
        line += text[start..token_end].matches('\n').count();
        at = token_end;
    }
    tokens
}

/// Behind what opens something, a comment is about what follows.
fn keeps_trailing_comment(token: Token) -> bool {
    matches!(
        token,
        Token::Semicolon
            | Token::Comma
            | Token::BraceClose
            | Token::BracketClose
            | Token::ParenClose
            | Token::StrClose
            | Token::IndentClose
            | Token::PathClose
            | Token::Ident
            | Token::Int
            | Token::Float
            | Token::Str
            | Token::Path
            | Token::SearchPath
            | Token::Uri
            | Token::Ellipsis
    )
}

struct Found {
    comment: Comment,
    /// Whether it begins on the line of the token before.
    same_line: bool,
    /// Whether nothing follows on its line.
    ends_line: bool,
}

struct Gap<'t> {
    rest: &'t str,
    /// Line ends since the last comment.
    newlines: usize,
    comments: Vec<Found>,
}

impl Gap<'_> {
    fn read(&mut self) {
        let mut first = true;
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.newlines += self.rest[..blank].matches('\n').count();
            self.rest = &self.rest[blank..];
            let len = match self.rest.as_bytes() {
                [b'#', ..] => self.rest.find(['\n', '\r']).unwrap_or(self.rest.len()),
                [b'/', b'*', ..] => self.rest.find("*/").map_or(self.rest.len(), |at| at + 2),
                _ => return,
            };
            // `/*/` is no whole comment.
            let len = if self.rest.starts_with("/*/") {
                self.rest[3..].find("*/").map_or(self.rest.len(), |at| at + 5)
            } else {
                len
            };
            let (text, rest) = self.rest.split_at(len);
            let lines = comment_lines(text);
            let ends_line =
                rest.trim_start_matches([' ', '\t', '\r']).starts_with('\n') || rest.trim().is_empty();
            let same_line = first && self.newlines == 0;
            let one_line = lines.len() == 1;
            let comment = Comment { lines, blank_before: self.newlines > 1 };
            self.comments.push(Found { comment, same_line, ends_line: ends_line && one_line });
            self.rest = rest;
            self.newlines = 0;
            first = false;
        }
    }
}

/// Returns the lines of a comment as the standard wants them.
fn comment_lines(text: &str) -> Vec<String> {
    if text.starts_with('#') {
        return vec![text.trim_end().to_owned()];
    }
    let is_doc = text.starts_with("/**") && !text.starts_with("/**/") && !text.starts_with("/***");
    let open = if is_doc { "/**" } else { "/*" };
    let body = &text[open.len()..text.len() - 2];
    let mut lines: Vec<&str> = body.lines().map(str::trim_end).collect();
    if lines.len() <= 1 {
        let body = body.trim();
        return match (is_doc, body.is_empty()) {
            (true, _) => vec![format!("/** {body} */")],
            (false, true) => vec!["#".to_owned()],
            (false, false) => vec![format!("# {body}")],
        };
    }
    let first = lines.remove(0).trim();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    let indentation = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let shared = lines.iter().filter(|line| !line.is_empty()).map(indentation).min().unwrap_or(0);
    let mut result = vec![open.to_owned()];
    if !first.is_empty() {
        result.push(format!("  {first}"));
    } else {
        while lines.first().is_some_and(|line| line.is_empty()) {
            lines.remove(0);
        }
    }
    for line in lines {
        let line = line.get(shared..).unwrap_or_default();
        result.push(if line.is_empty() { String::new() } else { format!("  {line}") });
    }
    result.push("*/".to_owned());
    result
}
