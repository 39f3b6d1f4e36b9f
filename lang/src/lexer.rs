//! Bytes to tokens.
//!
//! What a byte means depends on where it stands, so there is one logos lexer per
//! mode and a stack of modes. One program shows them all:
//!
//! ```text
//! "a ${ ''b ${ ./c/${ d }.nix }'' } e"
//!  ^^   ^^^    ^^^^   ^           ^^    text of a string, an indented string, a path
//!     ^^    ^^      ^^ ^    ^   ^       program again: `${` opens it, its `}` closes it
//! ```
//!
//! A token is a kind and a span, nothing else; the tree reads what it needs from
//! the text. The longest match wins, as in Nix: `x:x` is a URI, `a/b` is a path, and
//! `a -b/c` applies `a` to the path `-b/c`.

use logos::Logos;

use crate::span::Span;

/// A token of the program, outside of strings and paths; and the tokens that the other modes make.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false, skip r"[ \t\r\n]+", skip(r"#[^\r\n]*", allow_greedy = true))]
#[logos(subpattern pc = r"[a-zA-Z0-9._\-+]")]
pub(crate) enum Token {
    #[regex(r"[a-zA-Z_][a-zA-Z0-9_'\-]*")]
    Ident,
    #[token("if")]
    If,
    #[token("then")]
    Then,
    #[token("else")]
    Else,
    #[token("assert")]
    Assert,
    #[token("with")]
    With,
    #[token("let")]
    Let,
    #[token("in")]
    In,
    #[token("rec")]
    Rec,
    #[token("inherit")]
    Inherit,
    #[token("or")]
    Or,

    #[regex(r"[0-9]+", priority = 6)]
    Int,
    #[regex(r"([1-9][0-9]*\.[0-9]*|0?\.[0-9]+)([Ee][+\-]?[0-9]+)?")]
    Float,
    /// `<nixpkgs/lib>`
    #[regex(r"<(?&pc)+(/(?&pc)+)*>")]
    SearchPath,
    #[regex(r"[a-zA-Z][a-zA-Z0-9+\-.]*:[a-zA-Z0-9%/?:@&=+$,\-_.!~*']+")]
    Uri,
    /// A path without interpolation.
    #[regex(r"(?&pc)*(/(?&pc)+)+/?")]
    #[regex(r"~(/(?&pc)+)+/?")]
    Path,
    /// The part of a path before its first `${`.
    #[regex(r"(?&pc)*/\$\{")]
    #[regex(r"~/\$\{")]
    PathOpen,
    /// A later part of it.
    PathText,
    /// Its end; an empty token.
    PathClose,
    /// A string in which nothing is special, quotes included.
    #[regex(r#""[^"\\$\r\x00]*""#)]
    Str,
    /// The quote at the start of any other string.
    #[token("\"")]
    StrOpen,
    /// Text in it, escapes not done yet.
    StrText,
    StrClose,
    /// `''` at the start, with the rest of the line if that is blank.
    #[regex(r"''( *\n)?")]
    IndentOpen,
    /// Text of an indented string, indentation not removed yet.
    IndentText,
    /// `''$`, `'''`, `''\n`, and a `$` or `'` that stands alone.
    IndentEscape,
    IndentClose,
    #[token("${")]
    DollarBrace,

    #[token("{")]
    BraceOpen,
    #[token("}")]
    BraceClose,
    #[token("[")]
    BracketOpen,
    #[token("]")]
    BracketClose,
    #[token("(")]
    ParenOpen,
    #[token(")")]
    ParenClose,
    #[token(";")]
    Semicolon,
    #[token(":")]
    Colon,
    #[token(",")]
    Comma,
    #[token(".")]
    Dot,
    #[token("...")]
    Ellipsis,
    #[token("@")]
    At,
    #[token("=")]
    Assign,
    #[token("?")]
    Question,
    #[token("!")]
    Not,
    #[token("->")]
    Implies,
    #[token("||")]
    OrOr,
    #[token("&&")]
    AndAnd,
    #[token("==")]
    Equal,
    #[token("!=")]
    NotEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEqual,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEqual,
    #[token("//")]
    Update,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("++")]
    Concat,
    #[token("|>")]
    PipeInto,
    #[token("<|")]
    PipeFrom,

    #[regex(r"/\*([^*]|\*+[^*/])*\*+/")]
    Comment,
    /// A byte that begins no token.
    Invalid,
    /// The start of a comment that has no end.
    #[token("/*")]
    CommentOpen,
}

/// Inside `"…"`.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false)]
enum StrToken {
    #[regex(r#"(?-u:([^$"\\]|\$[^{"\\]|\\[\x00-\xff]|\$\\[\x00-\xff])+)"#)]
    Text,
    #[token("${")]
    DollarBrace,
    #[token("\"")]
    Close,
}

/// Inside `''…''`.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false)]
enum IndentToken {
    #[regex(r"(?-u:([^$']|\$[^{']|'[^'$])+)")]
    Text,
    #[regex(r"(?-u:''\$|\$|'''|''\\[\x00-\xff]|')")]
    Escape,
    #[token("${")]
    DollarBrace,
    #[token("''")]
    Close,
}

/// Inside a path that has interpolations.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false)]
#[logos(subpattern pc = r"[a-zA-Z0-9._\-+]")]
enum PathToken {
    #[regex(r"(?&pc)*(/(?&pc)+)+/?")]
    #[regex(r"(?&pc)*/")]
    #[regex(r"(?&pc)+")]
    Text,
    #[token("${")]
    DollarBrace,
}

/// Inside a long run of path characters that is no path; see [`Lexer::look_ahead`].
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false)]
enum RunToken {
    #[regex(r"[a-zA-Z_][a-zA-Z0-9_'\-]*")]
    Ident,
    #[regex(r"[0-9]+", priority = 6)]
    Int,
    #[regex(r"([1-9][0-9]*\.[0-9]*|0?\.[0-9]+)([Ee][+\-]?[0-9]+)?")]
    Float,
    #[token(".")]
    Dot,
    #[token("...")]
    Ellipsis,
    #[token("+")]
    Plus,
    #[token("++")]
    Concat,
    #[token("-")]
    Minus,
    #[token("->")]
    Implies,
}

impl RunToken {
    fn token(self, text: &[u8]) -> Token {
        match self {
            Self::Ident => Token::lexer(text).next().and_then(Result::ok).unwrap_or(Token::Ident),
            Self::Int => Token::Int,
            Self::Float => Token::Float,
            Self::Dot => Token::Dot,
            Self::Ellipsis => Token::Ellipsis,
            Self::Plus => Token::Plus,
            Self::Concat => Token::Concat,
            Self::Minus => Token::Minus,
            Self::Implies => Token::Implies,
        }
    }
}

/// A run of path characters, `a.b.c` or `1+1`, that is too long to look through again at each of its tokens.
#[derive(Default)]
struct Run {
    /// Up to here the text was looked at.
    seen: usize,
    /// The end of the run, if it is a long one that is no path.
    end: usize,
    /// From here on a letter begins a URI, if one does at all.
    uri_from: usize,
}

/// For each byte whether it can be in a path.
static PATH_CHARS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-' | b'+');
        byte += 1;
    }
    table
};

/// What the lexer cannot make a token of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LexError {
    pub kind: LexErrorKind,
    pub span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LexErrorKind {
    /// A comment is not closed; the span is its start.
    UnclosedComment,
    /// `./a/`
    TrailingSlash,
    /// A zero byte in a string.
    NullByte,
}

/// A doc comment and the offset of the token that it stands before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DocComment {
    pub before: u32,
    pub span: Span,
}

enum Mode {
    /// Program inside `${ }`, with the number of `{` that are open in it.
    Program {
        braces: u32,
    },
    Str,
    Indent,
    /// With whether what came before ends in a slash.
    Path {
        slash: bool,
    },
}

/// A token, or nothing at the end of the text.
type Step = Option<Result<(u32, Token, u32), LexError>>;

/// The lexer; an iterator of tokens with their start and end.
pub(crate) struct Lexer<'s> {
    bytes: &'s [u8],
    program: logos::Lexer<'s, Token>,
    /// Where the next token starts, when the mode is not `Program`.
    at: usize,
    /// The modes around the present one.
    outer: Vec<Mode>,
    mode: Mode,
    /// A second token that one piece of text gave.
    pending: Option<(u32, Token, u32)>,
    run: Run,
    docs: &'s std::cell::RefCell<Vec<DocComment>>,
}

impl<'s> Lexer<'s> {
    /// Starts at the first byte; doc comments are added to `docs` as they are met.
    pub fn new(bytes: &'s [u8], docs: &'s std::cell::RefCell<Vec<DocComment>>) -> Self {
        Self {
            bytes,
            program: Token::lexer(bytes),
            at: 0,
            outer: Vec::new(),
            mode: Mode::Program { braces: 0 },
            pending: None,
            run: Run::default(),
            docs,
        }
    }

    /// Makes a lexer of what begins at byte `at`, where a program could begin.
    pub fn starting_at(at: usize, bytes: &'s [u8], docs: &'s std::cell::RefCell<Vec<DocComment>>) -> Self {
        let mut lexer = Self::new(bytes, docs);
        lexer.program.bump(at);
        lexer.at = at;
        lexer
    }

    fn push(&mut self, mode: Mode, at: usize) {
        self.at = at;
        self.outer.push(std::mem::replace(&mut self.mode, mode));
    }

    /// Goes back to the mode around this one, which goes on at byte `at`.
    fn pop(&mut self, at: usize) {
        self.mode = self.outer.pop().expect("only modes that were pushed are popped");
        self.at = at;
        if let Mode::Program { .. } = self.mode {
            self.program = Token::lexer(self.bytes);
            self.program.bump(at);
        }
    }

    fn enter_program(&mut self, at: usize) {
        self.push(Mode::Program { braces: 0 }, at);
        self.program = Token::lexer(self.bytes);
        self.program.bump(at);
    }

    #[inline]
    fn in_program(&mut self) -> Step {
        let at = self.program.span().end;
        if at < self.run.end {
            return Some(self.in_run(at));
        }
        let mut kind = self.program.next()?;
        let mut doc = None;
        while kind == Ok(Token::Comment) {
            doc = self.doc_comment().or(doc);
            kind = self.program.next()?;
        }
        let span = self.program.span();
        let (start, end) = (span.start as u32, span.end as u32);
        if let Some(doc) = doc {
            self.docs.borrow_mut().push(DocComment { before: start, span: doc });
        }
        let token = kind.unwrap_or(Token::Invalid);
        match token {
            Token::BraceOpen => {
                if let Mode::Program { braces } = &mut self.mode {
                    *braces += 1;
                }
            }
            Token::DollarBrace => self.push(Mode::Program { braces: 0 }, span.end),
            Token::BraceClose => self.close_brace(span.end),
            Token::StrOpen => self.push(Mode::Str, span.end),
            Token::IndentOpen => self.push(Mode::Indent, span.end),
            Token::Path => return Some(self.path(Span::new(start, end))),
            Token::PathOpen => {
                let brace = end - 2;
                self.push(Mode::Path { slash: false }, span.end);
                self.enter_program(span.end);
                self.pending = Some((brace, Token::DollarBrace, end));
                return Some(Ok((start, Token::PathOpen, brace)));
            }
            Token::CommentOpen => {
                return Some(Err(LexError {
                    kind: LexErrorKind::UnclosedComment,
                    span: Span::new(start, end),
                }));
            }
            _ => {
                if span.end >= self.run.seen && self.in_path_chars(span.end) {
                    self.look_ahead(span.end);
                }
            }
        }
        Some(Ok((start, token, end)))
    }

    /// Whether a token ends between two path characters.
    fn in_path_chars(&self, end: usize) -> bool {
        PATH_CHARS[self.bytes[end - 1] as usize]
            && self.bytes.get(end).is_some_and(|&byte| PATH_CHARS[byte as usize])
    }

    /// Looks where the run of path characters at `start` ends.
    ///
    /// A path may start at any of its tokens, and whether one does is known only at the
    /// end of the run. Finding that out anew at each token is quadratic: `a.a.a.…`
    /// of a megabyte would take an hour. So it is found out once, and the tokens of a long
    /// run that is no path are made by a lexer that does not ask.
    fn look_ahead(&mut self, start: usize) {
        const LONG: usize = 256;
        let run = self.bytes[start..].iter().position(|&byte| !PATH_CHARS[byte as usize]);
        let end = run.map_or(self.bytes.len(), |len| start + len);
        self.run = Run { seen: end, end: 0, uri_from: end };
        let is_path = match self.bytes[end..] {
            [b'/', b'$', b'{', ..] => true,
            [b'/', next, ..] => PATH_CHARS[next as usize],
            _ => false,
        };
        if end - start < LONG || is_path {
            return;
        }
        self.run.end = end;
        if self.bytes.get(end) == Some(&b':') {
            let last = self.bytes[start..end].iter().rposition(|&byte| byte == b'_');
            self.run.uri_from = last.map_or(start, |i| start + i + 1);
        }
    }

    fn in_run(&mut self, at: usize) -> Result<(u32, Token, u32), LexError> {
        if at >= self.run.uri_from && self.bytes[at].is_ascii_alphabetic() {
            self.run.end = 0;
            let uri = Token::lexer(&self.bytes[at..]).next();
            if uri != Some(Ok(Token::Uri)) {
                self.run.uri_from = usize::MAX;
                self.run.end = self.run.seen;
            } else {
                return self.in_program().expect("a URI is a token");
            }
        }
        let mut lexer = RunToken::lexer(&self.bytes[at..]);
        let kind = lexer.next().and_then(Result::ok).expect("each path character begins a token");
        let len = lexer.span().end;
        self.program.bump(len);
        let token = kind.token(lexer.slice());
        Ok((at as u32, token, (at + len) as u32))
    }

    fn close_brace(&mut self, end: usize) {
        match &mut self.mode {
            Mode::Program { braces: 0 } if self.outer.is_empty() => {}
            Mode::Program { braces: 0 } => self.pop(end),
            Mode::Program { braces } => *braces -= 1,
            _ => unreachable!("only the program mode makes braces"),
        }
    }

    /// Returns the span of the present comment if it documents what follows.
    #[cold]
    fn doc_comment(&self) -> Option<Span> {
        let text = self.program.slice();
        let span = self.program.span();
        let documents = text.starts_with(b"/**") && !matches!(text[3], b'/' | b'*');
        documents.then(|| Span::new(span.start as u32, span.end as u32))
    }

    fn path(&mut self, span: Span) -> Result<(u32, Token, u32), LexError> {
        let rest = &self.bytes[span.end as usize..];
        if rest.starts_with(b"${") || rest.starts_with(b"/") {
            let slash = self.bytes[span.end as usize - 1] == b'/';
            self.push(Mode::Path { slash }, span.end as usize);
            return Ok((span.start, Token::PathOpen, span.end));
        }
        if self.bytes[span.end as usize - 1] == b'/' {
            return Err(LexError { kind: LexErrorKind::TrailingSlash, span });
        }
        Ok((span.start, Token::Path, span.end))
    }

    fn in_str(&mut self) -> Step {
        let start = self.at;
        let mut lexer = StrToken::lexer(&self.bytes[start..]);
        let kind = lexer.next();
        let mut end = start + lexer.span().end;
        let token = match kind {
            None => return self.end_of_text(),
            Some(Ok(StrToken::DollarBrace)) => {
                self.enter_program(end);
                return Some(Ok((start as u32, Token::DollarBrace, end as u32)));
            }
            Some(Ok(StrToken::Close)) => {
                self.pop(end);
                return Some(Ok((start as u32, Token::StrClose, end as u32)));
            }
            Some(Ok(StrToken::Text)) => Token::StrText,
            // A `$` before the closing quote, or a backslash at the end of the file.
            Some(Err(())) => {
                end = start;
                Token::StrText
            }
        };
        // A `$` that ends the string is text.
        if self.bytes[end..].starts_with(b"$\"") {
            end += 1;
        }
        if end == start {
            self.at = self.bytes.len();
            return self.end_of_text();
        }
        self.at = end;
        Some(self.checked(token, start, end))
    }

    fn in_indent(&mut self) -> Step {
        let start = self.at;
        let mut lexer = IndentToken::lexer(&self.bytes[start..]);
        let kind = lexer.next();
        let end = start + lexer.span().end;
        self.at = end;
        let token = match kind {
            None => return self.end_of_text(),
            Some(Ok(IndentToken::DollarBrace)) => {
                self.enter_program(end);
                Token::DollarBrace
            }
            Some(Ok(IndentToken::Close)) => {
                self.pop(end);
                Token::IndentClose
            }
            Some(Ok(IndentToken::Text)) => return Some(self.checked(Token::IndentText, start, end)),
            Some(Ok(IndentToken::Escape)) => return Some(self.checked(Token::IndentEscape, start, end)),
            Some(Err(())) => {
                self.at = self.bytes.len();
                return self.end_of_text();
            }
        };
        Some(Ok((start as u32, token, end as u32)))
    }

    /// Strings hold any byte but zero.
    fn checked(&self, token: Token, start: usize, end: usize) -> Result<(u32, Token, u32), LexError> {
        match memchr(0, &self.bytes[start..end]) {
            None => Ok((start as u32, token, end as u32)),
            Some(at) => {
                let at = (start + at) as u32;
                Err(LexError { kind: LexErrorKind::NullByte, span: Span::new(at, at + 1) })
            }
        }
    }

    fn in_path(&mut self, slash: bool) -> Step {
        let start = self.at;
        let mut lexer = PathToken::lexer(&self.bytes[start..]);
        let kind = lexer.next();
        let end = start + lexer.span().end;
        match kind {
            Some(Ok(PathToken::DollarBrace)) => {
                self.mode = Mode::Path { slash: false };
                self.enter_program(end);
                Some(Ok((start as u32, Token::DollarBrace, end as u32)))
            }
            Some(Ok(PathToken::Text)) => {
                self.mode = Mode::Path { slash: self.bytes[end - 1] == b'/' };
                self.at = end;
                Some(Ok((start as u32, Token::PathText, end as u32)))
            }
            None | Some(Err(())) => {
                self.pop(start);
                let at = start as u32;
                if slash {
                    let span = Span::new(at - 1, at);
                    return Some(Err(LexError { kind: LexErrorKind::TrailingSlash, span }));
                }
                Some(Ok((at, Token::PathClose, at)))
            }
        }
    }

    /// The text ends inside a string: leaves the rest to the grammar, which says what it misses.
    fn end_of_text(&mut self) -> Step {
        self.outer.clear();
        self.mode = Mode::Program { braces: 0 };
        self.program = Token::lexer(self.bytes);
        self.program.bump(self.bytes.len());
        None
    }
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == byte)
}

impl Iterator for Lexer<'_> {
    type Item = Result<(u32, Token, u32), LexError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(token) = self.pending.take() {
            return Some(Ok(token));
        }
        match self.mode {
            Mode::Program { .. } => self.in_program(),
            Mode::Str => self.in_str(),
            Mode::Indent => self.in_indent(),
            Mode::Path { slash } => self.in_path(slash),
        }
    }
}
