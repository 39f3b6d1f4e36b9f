//! Reading a maintainer script: its text as a tree. Nothing is run.
//!
//! The part of the POSIX shell that maintainer scripts are written in: lists,
//! pipelines, `if`, `case`, `for`, `while`, functions, quoting, parameters, command
//! substitution, redirections and here-documents. What [`super::effects`] makes of it is data.
//! A script that does not parse is one whose effects are not known.

/// Commands in order.
pub(super) type List = Vec<Node>;

/// A command.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// `A=b cmd words >file`
    Simple { assigns: Vec<(String, Word)>, words: Vec<Word>, redirects: Vec<Redirect> },
    /// `if … then … elif … then … else … fi`: conditions with bodies, then the rest.
    If { branches: Vec<(List, List)>, otherwise: List },
    /// `case word in a|b) … ;; esac`
    Case { word: Word, arms: Vec<(Vec<Word>, List)> },
    /// `for x in words; do … done`; without `in`: the parameters.
    For { name: String, words: Option<Vec<Word>>, body: List },
    /// `while …; do …; done`, and `until`.
    Loop { condition: List, body: List },
    /// `{ …; } >file`, `( … )`, and loops and so on with redirections.
    Group { body: List, redirects: Vec<Redirect> },
    /// `name() { … }`
    Function { name: String, body: List },
    /// `a | b`, `! a`
    Pipe { parts: Vec<Node>, negated: bool },
    /// `a && b || c`: the operator stands before its command.
    AndOr { first: Box<Node>, rest: Vec<(bool, Node)> },
}

/// A word, before expansion.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    /// Whether any of it was in quotes, so that it is a word even when it is empty.
    pub(super) quoted: bool,
}

/// A piece of a word.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Text; a pattern's `*` in quotes is still text.
    Text(String),
    /// `$x`, `${x}`; with what `:-` gives in its place.
    Variable { name: String, default: Option<Box<Word>>, quoted: bool },
    /// `$(…)`
    Command { body: List, quoted: bool },
    /// `$((…))`, `${x%y}` and the like: not computed.
    Unknown,
}

/// A redirection.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// Whether it writes to a file.
    pub(super) writes: bool,
    pub(super) target: Word,
    /// The text of a here-document.
    pub(super) here: Option<Word>,
}

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 60;

/// Parses a script.
///
/// # Errors
/// In words, with the line.
pub(super) fn parse(text: &str) -> Result<List, String> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, depth: 0 };
    let list = parser.list(&[])?;
    parser.blanks();
    match parser.peek() {
        None => Ok(list),
        Some(c) => Err(parser.error(&format!("unexpected `{c}`"))),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

const RESERVED: [&str; 14] =
    ["if", "then", "elif", "else", "fi", "case", "esac", "for", "while", "until", "do", "done", "{", "}"];

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.starts(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn error(&self, what: &str) -> String {
        let line = self.chars[..self.at.min(self.chars.len())].iter().filter(|c| **c == '\n').count() + 1;
        format!("line {line}: {what}")
    }

    /// Passes over blanks, continued lines and comments.
    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.chars.get(self.at + 1) == Some(&'\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// Passes over empty lines and semicolons between commands.
    fn separators(&mut self) {
        loop {
            self.blanks();
            match self.peek() {
                Some('\n') => self.at += 1,
                Some(';') if !self.starts(";;") => self.at += 1,
                Some('&') if !self.starts("&&") => self.at += 1,
                _ => return,
            }
        }
    }

    /// Looks at the next word if it is plain letters, without taking it.
    fn reserved(&self) -> Option<&'static str> {
        let rest: String = self.chars[self.at..].iter().take(6).collect();
        RESERVED.iter().copied().find(|word| {
            rest.starts_with(word)
                && self.chars.get(self.at + word.len()).is_none_or(|c| " \t\n;()&|<>#".contains(*c))
        })
    }

    fn expect(&mut self, word: &'static str) -> Result<(), String> {
        self.separators();
        if self.reserved() == Some(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.error(&format!("expected `{word}`")))
    }

    /// Reads commands up to one of `ends`, a closing parenthesis, `;;`, or the end.
    fn list(&mut self, ends: &[&str]) -> Result<List, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let mut list = Vec::new();
        loop {
            self.separators();
            if self.peek().is_none_or(|c| c == ')') || self.starts(";;") {
                break;
            }
            if self.reserved().is_some_and(|word| ends.contains(&word)) {
                break;
            }
            list.push(self.and_or()?);
        }
        self.depth -= 1;
        Ok(list)
    }

    fn and_or(&mut self) -> Result<Node, String> {
        let first = self.pipe()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let and = if self.take("&&") {
                true
            } else if self.take("||") {
                false
            } else {
                break;
            };
            self.separators();
            rest.push((and, self.pipe()?));
        }
        Ok(if rest.is_empty() { first } else { Node::AndOr { first: Box::new(first), rest } })
    }

    fn pipe(&mut self) -> Result<Node, String> {
        self.blanks();
        let mut negated = false;
        while self.starts("! ") || self.starts("!\t") {
            self.at += 1;
            negated = !negated;
            self.blanks();
        }
        let mut parts = vec![self.command()?];
        loop {
            self.blanks();
            if self.peek() != Some('|') || self.starts("||") {
                break;
            }
            self.at += 1;
            self.separators();
            parts.push(self.command()?);
        }
        if parts.len() == 1 && !negated {
            return Ok(parts.remove(0));
        }
        Ok(Node::Pipe { parts, negated })
    }

    fn command(&mut self) -> Result<Node, String> {
        self.blanks();
        let node = match self.reserved() {
            Some("if") => self.if_command()?,
            Some("case") => self.case_command()?,
            Some("for") => self.for_command()?,
            Some(word @ ("while" | "until")) => {
                self.at += word.len();
                let condition = self.list(&["do"])?;
                let body = self.do_done()?;
                Node::Loop { condition, body }
            }
            Some("{") => {
                self.at += 1;
                let body = self.list(&["}"])?;
                self.expect("}")?;
                Node::Group { body, redirects: Vec::new() }
            }
            Some(word) => return Err(self.error(&format!("unexpected `{word}`"))),
            None if self.peek() == Some('(') => {
                self.at += 1;
                let body = self.list(&[])?;
                self.close()?;
                Node::Group { body, redirects: Vec::new() }
            }
            None => return self.simple(),
        };
        let redirects = self.redirects()?;
        if redirects.is_empty() { Ok(node) } else { Ok(Node::Group { body: vec![node], redirects }) }
    }

    fn close(&mut self) -> Result<(), String> {
        self.separators();
        if self.take(")") { Ok(()) } else { Err(self.error("expected `)`")) }
    }

    fn if_command(&mut self) -> Result<Node, String> {
        self.at += 2;
        let mut branches = Vec::new();
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            branches.push((condition, self.list(&["elif", "else", "fi"])?));
            self.separators();
            match self.reserved() {
                Some("elif") => self.at += 4,
                Some("else") => {
                    self.at += 4;
                    let otherwise = self.list(&["fi"])?;
                    self.expect("fi")?;
                    return Ok(Node::If { branches, otherwise });
                }
                _ => {
                    self.expect("fi")?;
                    return Ok(Node::If { branches, otherwise: Vec::new() });
                }
            }
        }
    }

    fn case_command(&mut self) -> Result<Node, String> {
        self.at += 4;
        self.blanks();
        let word = self.word()?.ok_or_else(|| self.error("expected a word after `case`"))?;
        self.separators();
        if !self.take("in") {
            return Err(self.error("expected `in`"));
        }
        let mut arms = Vec::new();
        loop {
            self.separators();
            if self.reserved() == Some("esac") {
                self.at += 4;
                return Ok(Node::Case { word, arms });
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                self.separators();
                patterns.push(self.word()?.ok_or_else(|| self.error("expected a pattern"))?);
                self.separators();
                if !self.take("|") {
                    break;
                }
            }
            self.close()?;
            let body = self.list(&["esac"])?;
            self.blanks();
            self.take(";;");
            arms.push((patterns, body));
        }
    }

    fn for_command(&mut self) -> Result<Node, String> {
        self.at += 3;
        self.blanks();
        let name = self.name().ok_or_else(|| self.error("expected a name after `for`"))?;
        self.separators();
        let mut words = None;
        if self.starts("in ")
            || self.starts("in\t")
            || self.starts("in\n")
            || self.starts("in;")
            || self.starts("in\\")
        {
            self.at += 2;
            let mut list = Vec::new();
            self.blanks();
            while let Some(word) = self.word()? {
                list.push(word);
                self.blanks();
            }
            words = Some(list);
        }
        let body = self.do_done()?;
        Ok(Node::For { name, words, body })
    }

    fn do_done(&mut self) -> Result<List, String> {
        self.expect("do")?;
        let body = self.list(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn name(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.at += 1;
        }
        (self.at > start).then(|| self.chars[start..self.at].iter().collect())
    }

    fn simple(&mut self) -> Result<Node, String> {
        let mut assigns = Vec::new();
        let mut words = Vec::new();
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty() {
                if let Some(assign) = self.assignment()? {
                    assigns.push(assign);
                    continue;
                }
                if let Some(function) = self.function()? {
                    return Ok(function);
                }
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if assigns.is_empty() && words.is_empty() && redirects.is_empty() {
            let found = self.peek().map_or("the end".to_owned(), |c| format!("`{c}`"));
            return Err(self.error(&format!("expected a command, found {found}")));
        }
        Ok(Node::Simple { assigns, words, redirects })
    }

    fn assignment(&mut self) -> Result<Option<(String, Word)>, String> {
        let start = self.at;
        let name = self.name().filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(name) = name
            && self.take("=")
        {
            return Ok(Some((name, self.word()?.unwrap_or_default())));
        }
        self.at = start;
        Ok(None)
    }

    fn function(&mut self) -> Result<Option<Node>, String> {
        let start = self.at;
        if let Some(name) = self.name() {
            self.blanks();
            if self.take("(") {
                self.blanks();
                if self.take(")") {
                    self.separators();
                    let body = vec![self.command()?];
                    return Ok(Some(Node::Function { name, body }));
                }
            }
        }
        self.at = start;
        Ok(None)
    }

    fn redirects(&mut self) -> Result<Vec<Redirect>, String> {
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => return Ok(redirects),
            }
        }
    }

    fn redirect(&mut self) -> Result<Option<Redirect>, String> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let op = ["<<-", "<<", "<&", "<>", "<", ">>", ">&", ">|", ">"].into_iter().find(|op| self.starts(op));
        let Some(op) = op else {
            self.at = start;
            return Ok(None);
        };
        self.at += op.len();
        self.blanks();
        let target = self.word()?.ok_or_else(|| self.error("expected a file after a redirection"))?;
        let here = if op.starts_with("<<") { Some(self.here_document(&target, op == "<<-")?) } else { None };
        Ok(Some(Redirect { writes: matches!(op, ">" | ">>" | ">|" | "<>"), target, here }))
    }

    /// Reads the text of a here-document, which begins after the line, and takes it out
    /// of what is read next.
    fn here_document(&mut self, end: &Word, strip_tabs: bool) -> Result<Word, String> {
        let end: String =
            end.parts.iter().map(|p| if let Part::Text(text) = p { text.as_str() } else { "" }).collect();
        let expand = !matches!(self.chars.get(self.at.saturating_sub(1)), Some('\'' | '"'));
        let line_end =
            (self.at..self.chars.len()).find(|&i| self.chars[i] == '\n').unwrap_or(self.chars.len());
        let mut text = String::new();
        let mut at = line_end + 1;
        loop {
            if at >= self.chars.len() {
                return Err(self.error(&format!("a here-document without its end `{end}`")));
            }
            let stop = (at..self.chars.len()).find(|&i| self.chars[i] == '\n').unwrap_or(self.chars.len());
            let line: String = self.chars[at..stop].iter().collect();
            let line = if strip_tabs { line.trim_start_matches('\t') } else { &line };
            at = stop + 1;
            if line == end {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        // The line break behind the end stays, as the end of the line that began it.
        let end_at = if at > self.chars.len() { self.chars.len() } else { at - 1 };
        let removed = line_end.min(end_at)..end_at;
        self.chars.drain(removed);
        if !expand {
            return Ok(Word { parts: vec![Part::Text(text)], quoted: true });
        }
        let mut inner = Parser { chars: text.chars().collect(), at: 0, depth: self.depth };
        let mut word = Word { parts: Vec::new(), quoted: true };
        inner.double_quoted(&mut word, None)?;
        Ok(word)
    }

    /// Reads a word; none where none begins.
    fn word(&mut self) -> Result<Option<Word>, String> {
        let mut word = Word::default();
        let start = self.at;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => {
                    self.at += 1;
                    let text = self.up_to('\'')?;
                    word.quoted = true;
                    word.parts.push(Part::Text(text));
                }
                '"' => {
                    self.at += 1;
                    word.quoted = true;
                    self.double_quoted(&mut word, Some('"'))?;
                }
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => self.at += 1,
                        Some(c) => {
                            self.at += 1;
                            word.parts.push(Part::Text(c.to_string()));
                        }
                        None => {}
                    }
                }
                '$' | '`' => {
                    let part = self.dollar(false)?;
                    word.parts.push(part);
                }
                c => {
                    self.at += 1;
                    match word.parts.last_mut() {
                        Some(Part::Text(text)) => text.push(c),
                        _ => word.parts.push(Part::Text(c.to_string())),
                    }
                }
            }
        }
        Ok((self.at > start).then_some(word))
    }

    fn up_to(&mut self, end: char) -> Result<String, String> {
        let start = self.at;
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == end {
                return Ok(self.chars[start..self.at - 1].iter().collect());
            }
        }
        Err(self.error(&format!("`{end}` is missing")))
    }

    /// Reads text in double quotes up to `end`, or all of it.
    fn double_quoted(&mut self, word: &mut Word, end: Option<char>) -> Result<(), String> {
        let mut text = String::new();
        loop {
            match self.peek() {
                None if end.is_none() => break,
                None => return Err(self.error("a quote is missing")),
                Some(c) if Some(c) == end => {
                    self.at += 1;
                    break;
                }
                Some('\\') if self.chars.get(self.at + 1).is_some_and(|c| "$`\"\\\n".contains(*c)) => {
                    let c = self.chars[self.at + 1];
                    self.at += 2;
                    if c != '\n' {
                        text.push(c);
                    }
                }
                Some('$' | '`') => {
                    if !text.is_empty() {
                        word.parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    let part = self.dollar(true)?;
                    word.parts.push(part);
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
        if !text.is_empty() {
            word.parts.push(Part::Text(text));
        }
        Ok(())
    }

    /// Reads what a dollar sign or a back-tick begins.
    fn dollar(&mut self, quoted: bool) -> Result<Part, String> {
        if self.take("`") {
            let inner = self.up_to('`')?.replace("\\`", "`").replace("\\$", "$");
            let mut parser = Parser { chars: inner.chars().collect(), at: 0, depth: self.depth };
            let body = parser.list(&[])?;
            return Ok(Part::Command { body, quoted });
        }
        self.at += 1;
        if self.starts("((") {
            let mut depth = 0;
            while let Some(c) = self.peek() {
                self.at += 1;
                depth += i32::from(c == '(') - i32::from(c == ')');
                if depth == 0 {
                    return Ok(Part::Unknown);
                }
            }
            return Err(self.error("`))` is missing"));
        }
        if self.take("(") {
            let body = self.list(&[])?;
            self.close()?;
            return Ok(Part::Command { body, quoted });
        }
        if self.take("{") {
            return self.braced(quoted);
        }
        match self.peek() {
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                self.at += 1;
                Ok(Part::Variable { name: c.to_string(), default: None, quoted })
            }
            _ => match self.name() {
                Some(name) => Ok(Part::Variable { name, default: None, quoted }),
                None => Ok(Part::Text("$".to_owned())),
            },
        }
    }

    fn braced(&mut self, quoted: bool) -> Result<Part, String> {
        let name = match self.peek() {
            Some(c) if "@*#?$!".contains(c) && self.chars.get(self.at + 1) == Some(&'}') => {
                self.at += 1;
                c.to_string()
            }
            _ => self.name().unwrap_or_default(),
        };
        if self.take("}") {
            return Ok(Part::Variable { name, default: None, quoted });
        }
        let with_default = self.take(":-") || self.take("-");
        let start = self.at;
        let mut depth = 1;
        while let Some(c) = self.peek() {
            self.at += 1;
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                let text: Vec<char> = self.chars[start..self.at - 1].to_vec();
                if !with_default || name.is_empty() {
                    return Ok(Part::Unknown);
                }
                let mut word = Word { parts: Vec::new(), quoted };
                let mut inner = Parser { chars: text, at: 0, depth: self.depth };
                inner.double_quoted(&mut word, None)?;
                return Ok(Part::Variable { name, default: Some(Box::new(word)), quoted });
            }
        }
        Err(self.error("`}` is missing"))
    }
}
