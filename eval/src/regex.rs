//! POSIX extended regular expressions, as `builtins.match` and `builtins.split` know them.
//!
//! Nix hands its patterns to `std::regex` of the GNU C++ library with the flag `extended`, so that
//! library's reading of POSIX is what people's patterns are written for: bytes, not characters; a
//! backslash escapes special characters only; no back-references; `.` and `[^x]` match a new line;
//! `^` and `$` stand for the ends of the whole text.
//!
//! A pattern is parsed here (so that what is invalid there is invalid here), then given to the
//! `regex` crate, which is linear in the text. That engine prefers the first alternative that leads
//! to a match, where the C++ one explores all alternatives and keeps the longest result, and it
//! leaves a group alone when a loop runs once more over nothing. Patterns in which either can be
//! seen are run by [`Backtracker`], which remembers what it has tried and so stays linear in the
//! text for a fixed pattern, too:
//!
//! ```text
//! split "a|ab" "xabc"     the crate would find `a`; we find `ab`
//! match "(a*)*" "aa"      the crate's group holds `aa`; ours the empty string
//! ```

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegexError {
    /// The pattern is not a POSIX extended regular expression.
    Invalid,
    /// The pattern is one, but its automaton would be unreasonably large.
    TooLarge,
}

/// The texts of the groups of one match; `None` for a group that took no part in it.
pub type Groups = Vec<Option<Range<usize>>>;

/// One match found by [`Regex::split`]: where it lies, and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The part of the text that matched.
    pub range: Range<usize>,
    /// Its groups, in the order of their opening parentheses.
    pub groups: Groups,
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Regex {
    group_count: usize,
    /// Written for the crate when it is asked: a pattern that is used once costs most of its time otherwise.
    ast: Ast,
    /// Anchored at both ends; for `match`.
    whole: OnceLock<regex::bytes::Regex>,
    /// Not anchored; for `split`.
    search: OnceLock<regex::bytes::Regex>,
    /// Present when the crate's result could differ from ours.
    program: Option<Program>,
    /// Runs a small pattern the first times, as long as building the crate's automaton would not pay.
    small: Option<Program>,
    uses: AtomicU32,
    /// Whether that holds for `match` too, or for `split` only.
    program_for_match: bool,
}

/// Automata larger than this are refused, as the C++ library does at 100,000 states.
const STATE_LIMIT: usize = 100_000;
/// Patterns that are run without the crate's automaton the first [`FEW_USES`] times, on texts up to
/// [`SHORT_TEXT`] bytes. Building that automaton takes 20 µs.
const SMALL_STATES: usize = 64;
const SHORT_TEXT: usize = 64;
const FEW_USES: u32 = 3;

impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`RegexError::Invalid`] if the pattern is malformed, [`RegexError::TooLarge`] if it needs
    /// more than 100,000 states.
    pub fn new(pattern: &[u8]) -> Result<Self, RegexError> {
        let (ast, group_count) = Parser::new(pattern).parse()?;
        if ast.states() > STATE_LIMIT {
            return Err(RegexError::TooLarge);
        }
        let loops = ast.has_visible_empty_loop();
        let program = (loops || ast.has_ambiguous_choice()).then(|| Program::new(&ast, group_count));
        let small = (ast.states() <= SMALL_STATES).then(|| Program::new(&ast, group_count));
        let regex = Regex {
            small,
            uses: AtomicU32::new(0),
            group_count,
            ast,
            whole: OnceLock::new(),
            search: OnceLock::new(),
            program,
            program_for_match: loops,
        };
        // One of the two is needed anyway; building it tells whether the crate can hold it. It can hold
        // small ones.
        if regex.small.is_none() {
            let _ = regex.whole.set(regex.build_whole()?);
        }
        Ok(regex)
    }

    /// Returns how many groups the pattern has.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.group_count
    }

    /// Returns the groups if the whole of `text` matches.
    #[must_use]
    pub fn match_whole(&self, text: &[u8]) -> Option<Groups> {
        if text.len() <= SHORT_TEXT
            && self.uses.fetch_add(1, Ordering::Relaxed) < FEW_USES
            && let Some(program) = &self.small
        {
            return Backtracker::new(program, text, Ends::AtEnd).run(0).map(|found| found.groups);
        }
        let whole = self.whole.get_or_init(|| self.build_whole().expect("small patterns can be held"));
        if self.group_count == 0 {
            return whole.is_match(text).then(Vec::new);
        }
        if self.program_for_match
            && let Some(program) = &self.program
        {
            if !whole.is_match(text) {
                return None;
            }
            return Backtracker::new(program, text, Ends::AtEnd).run(0).map(|found| found.groups);
        }
        let mut locations = whole.capture_locations();
        whole.captures_read(&mut locations, text)?;
        Some(self.groups(&locations))
    }

    /// Returns the matches in `text` from left to right, none overlapping.
    ///
    /// After an empty match the search goes on one byte further, so this ends for every pattern.
    #[must_use]
    pub fn split<'a>(&'a self, text: &'a [u8]) -> Split<'a> {
        let search =
            self.search.get_or_init(|| self.build(&self.source()).expect("its anchored form was accepted"));
        Split {
            regex: self,
            search,
            text,
            next: Some(0),
            seen_empty: false,
            locations: search.capture_locations(),
        }
    }

    fn build_whole(&self) -> Result<regex::bytes::Regex, RegexError> {
        self.build(&format!(r"\A{}\z", self.source()))
    }

    /// Returns the pattern in the crate's syntax.
    fn source(&self) -> String {
        let mut source = String::from("(?s-u:");
        self.ast.emit(&mut source);
        source.push(')');
        source
    }

    fn build(&self, source: &str) -> Result<regex::bytes::Regex, RegexError> {
        regex::bytes::RegexBuilder::new(source)
            .unicode(false)
            .nest_limit(10_000)
            .size_limit(64 << 20)
            .dfa_size_limit(16 << 20)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => RegexError::TooLarge,
                _ => RegexError::Invalid,
            })
    }

    fn groups(&self, locations: &regex::bytes::CaptureLocations) -> Groups {
        (1..=self.group_count).map(|i| locations.get(i).map(|(start, end)| start..end)).collect()
    }
}

/// The iterator of [`Regex::split`].
pub struct Split<'a> {
    regex: &'a Regex,
    search: &'a regex::bytes::Regex,
    text: &'a [u8],
    /// Where the next search starts.
    next: Option<usize>,
    /// Whether an empty match lies at `next`, so that only a longer one counts there.
    seen_empty: bool,
    locations: regex::bytes::CaptureLocations,
}

impl Iterator for Split<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let mut from = self.next?;
        if self.seen_empty {
            if let Some(program) = &self.regex.program
                && let Some(found) = Backtracker::new(program, self.text, Ends::NotEmpty).run(from)
            {
                return Some(self.advance(found));
            }
            from += 1;
        }
        if from > self.text.len() {
            self.next = None;
            return None;
        }
        let found = self.find(from);
        match found {
            Some(found) => Some(self.advance(found)),
            None => {
                self.next = None;
                None
            }
        }
    }
}

impl Split<'_> {
    fn find(&mut self, from: usize) -> Option<Found> {
        if let Some(program) = &self.regex.program {
            // Where the leftmost match starts does not depend on which alternative is preferred.
            let start = self.search.find_at(self.text, from)?.start();
            return Backtracker::new(program, self.text, Ends::Anywhere).run(start);
        }
        if self.regex.group_count == 0 {
            let range = self.search.find_at(self.text, from)?.range();
            return Some(Found { range, groups: Vec::new() });
        }
        let range = self.search.captures_read_at(&mut self.locations, self.text, from)?.range();
        Some(Found { range, groups: self.regex.groups(&self.locations) })
    }

    fn advance(&mut self, found: Found) -> Found {
        self.seen_empty = found.range.is_empty();
        self.next = (!self.seen_empty || found.range.end < self.text.len()).then_some(found.range.end);
        // A match that ends with the text leaves nothing to search, unless an empty one may follow.
        found
    }
}

/// Compiled patterns by their text, so that a pattern in a loop is compiled once.
#[derive(Debug, Default)]
pub struct RegexCache {
    compiled: HashMap<Box<[u8]>, Arc<Regex>>,
}

impl RegexCache {
    /// Returns the compiled form of `pattern`.
    ///
    /// # Errors
    /// Those of [`Regex::new`].
    pub fn get(&mut self, pattern: &[u8]) -> Result<Arc<Regex>, RegexError> {
        if let Some(found) = self.compiled.get(pattern) {
            return Ok(Arc::clone(found));
        }
        let regex = Arc::new(Regex::new(pattern)?);
        // Generated patterns must not fill the memory; starting over costs only time.
        if self.compiled.len() >= 1000 {
            self.compiled.clear();
        }
        self.compiled.insert(pattern.into(), Arc::clone(&regex));
        Ok(regex)
    }
}

/// A set of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    const fn empty() -> Self {
        ByteSet([0; 4])
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn complement(&self) -> Self {
        ByteSet(self.0.map(|word| !word))
    }

    fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn union(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let word = rest.iter().position(|word| *word != 0)?;
            let bit = rest[word].trailing_zeros();
            rest[word] &= rest[word] - 1;
            Some((word as u8) << 6 | bit as u8)
        })
    }
}

#[derive(Clone, Debug)]
enum Ast {
    Empty,
    Begin,
    End,
    Set(ByteSet),
    Group(usize, Box<Ast>),
    Sequence(Vec<Ast>),
    Choice(Vec<Ast>),
    Repeat { body: Box<Ast>, min: u32, max: Option<u32> },
}

impl Ast {
    /// Returns about how many states the C++ library would make.
    fn states(&self) -> usize {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => 1,
            Ast::Group(_, body) => body.states().saturating_add(3),
            Ast::Sequence(parts) | Ast::Choice(parts) => {
                parts.iter().fold(1, |n, part| n.saturating_add(part.states()))
            }
            Ast::Repeat { body, min, max } => {
                let copies = max.unwrap_or(min.saturating_add(1)).max(1) as usize;
                body.states().saturating_add(1).saturating_mul(copies)
            }
        }
    }

    /// Writes the pattern in the crate's syntax.
    fn emit(&self, out: &mut String) {
        use std::fmt::Write;
        match self {
            Ast::Empty => {}
            Ast::Begin => out.push_str(r"\A"),
            Ast::End => out.push_str(r"\z"),
            Ast::Set(set) => emit_set(set, out),
            Ast::Group(_, body) => {
                out.push('(');
                body.emit(out);
                out.push(')');
            }
            Ast::Sequence(parts) => parts.iter().for_each(|part| part.emit(out)),
            Ast::Choice(parts) => {
                out.push_str("(?:");
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        out.push('|');
                    }
                    part.emit(out);
                }
                out.push(')');
            }
            Ast::Repeat { body, min, max } => {
                out.push_str("(?:");
                body.emit(out);
                out.push(')');
                let written = match (min, max) {
                    (0, None) => write!(out, "*"),
                    (1, None) => write!(out, "+"),
                    (0, Some(1)) => write!(out, "?"),
                    (min, None) => write!(out, "{{{min},}}"),
                    (min, Some(max)) => write!(out, "{{{min},{max}}}"),
                };
                written.expect("writing to a string does not fail");
            }
        }
    }

    fn can_be_empty(&self) -> bool {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => true,
            Ast::Set(_) => false,
            Ast::Group(_, body) => body.can_be_empty(),
            Ast::Sequence(parts) => parts.iter().all(Ast::can_be_empty),
            Ast::Choice(parts) => parts.iter().any(Ast::can_be_empty),
            Ast::Repeat { body, min, .. } => *min == 0 || body.can_be_empty(),
        }
    }

    fn has_group(&self) -> bool {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => false,
            Ast::Group(..) => true,
            Ast::Sequence(parts) | Ast::Choice(parts) => parts.iter().any(Ast::has_group),
            Ast::Repeat { body, .. } => body.has_group(),
        }
    }

    fn children(&self) -> &[Ast] {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => &[],
            Ast::Group(_, body) | Ast::Repeat { body, .. } => std::slice::from_ref(body),
            Ast::Sequence(parts) | Ast::Choice(parts) => parts,
        }
    }

    /// Tells whether a loop around something that can be empty has a group inside: running it once
    /// more over nothing changes the group.
    fn has_visible_empty_loop(&self) -> bool {
        let here = matches!(self, Ast::Repeat { body, .. } if body.can_be_empty() && body.has_group());
        here || self.children().iter().any(Ast::has_visible_empty_loop)
    }

    /// Tells whether two branches of a choice can both lead to a match, of different length.
    fn has_ambiguous_choice(&self) -> bool {
        let here = matches!(self, Ast::Choice(branches) if !branches_agree(branches));
        here || self.children().iter().any(Ast::has_ambiguous_choice)
    }

    /// Returns how many bytes this matches, if that is always the same number.
    fn fixed_len(&self) -> Option<usize> {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => Some(0),
            Ast::Set(_) => Some(1),
            Ast::Group(_, body) => body.fixed_len(),
            Ast::Sequence(parts) => parts.iter().try_fold(0, |n, part| Some(n + part.fixed_len()?)),
            Ast::Choice(parts) => {
                let first = parts.first()?.fixed_len()?;
                parts.iter().all(|part| part.fixed_len() == Some(first)).then_some(first)
            }
            Ast::Repeat { body, min, max } => {
                let len = body.fixed_len()?;
                (Some(*min) == *max).then(|| len.saturating_mul(*min as usize))
            }
        }
    }

    /// Returns the bytes a match can start with, or `None` if it can be empty.
    fn first_bytes(&self) -> Option<ByteSet> {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => None,
            Ast::Set(set) => Some(set.clone()),
            Ast::Group(_, body) => body.first_bytes(),
            Ast::Sequence(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.possible_first_bytes());
                    if !part.can_be_empty() {
                        return Some(all);
                    }
                }
                None
            }
            Ast::Choice(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.first_bytes()?);
                }
                Some(all)
            }
            Ast::Repeat { body, min, .. } => {
                if *min == 0 {
                    None
                } else {
                    body.first_bytes()
                }
            }
        }
    }

    fn possible_first_bytes(&self) -> ByteSet {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => ByteSet::empty(),
            Ast::Set(set) => set.clone(),
            Ast::Group(_, body) | Ast::Repeat { body, .. } => body.possible_first_bytes(),
            Ast::Choice(parts) => {
                let mut all = ByteSet::empty();
                parts.iter().for_each(|part| all.union(&part.possible_first_bytes()));
                all
            }
            Ast::Sequence(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.possible_first_bytes());
                    if !part.can_be_empty() {
                        break;
                    }
                }
                all
            }
        }
    }
}

/// Tells whether it cannot be seen which branch is tried first: all are equally long, or no two can
/// start at the same byte.
fn branches_agree(branches: &[Ast]) -> bool {
    let len = branches[0].fixed_len();
    if len.is_some() && branches.iter().all(|branch| branch.fixed_len() == len) {
        return true;
    }
    let mut seen = ByteSet::empty();
    branches.iter().all(|branch| {
        let Some(first) = branch.first_bytes() else { return false };
        let apart = !seen.intersects(&first);
        seen.union(&first);
        apart
    })
}

fn emit_set(set: &ByteSet, out: &mut String) {
    use std::fmt::Write;
    let mut bytes = set.bytes();
    if let (Some(byte), None) = (bytes.next(), bytes.next()) {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, r"\x{byte:02x}").expect("writing to a string does not fail");
        }
        return;
    }
    if set.0 == [u64::MAX; 4] {
        out.push('.');
        return;
    }
    out.push('[');
    if set.0 == [0; 4] {
        // The crate has no empty class; this one is.
        out.push_str(r"^\x00-\xff");
    }
    let mut start: Option<u16> = None;
    for byte in 0..=256_u16 {
        let inside = u8::try_from(byte).is_ok_and(|byte| set.contains(byte));
        match (start, inside) {
            (None, true) => start = Some(byte),
            (Some(first), false) => {
                write!(out, r"\x{first:02x}-\x{:02x}", byte - 1).expect("writing to a string does not fail");
                start = None;
            }
            _ => {}
        }
    }
    out.push(']');
}

struct Parser<'a> {
    rest: &'a [u8],
    groups: usize,
    depth: usize,
}

/// Parentheses nested deeper than this are refused as too large.
const NESTING_LIMIT: usize = 1000;

impl<'a> Parser<'a> {
    fn new(pattern: &'a [u8]) -> Self {
        Parser { rest: pattern, groups: 0, depth: 0 }
    }

    fn parse(mut self) -> Result<(Ast, usize), RegexError> {
        let ast = self.choice()?;
        if self.rest.is_empty() { Ok((ast, self.groups)) } else { Err(RegexError::Invalid) }
    }

    fn take(&mut self) -> Result<u8, RegexError> {
        let (first, rest) = self.rest.split_first().ok_or(RegexError::Invalid)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take_if(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    // a|b|c
    fn choice(&mut self) -> Result<Ast, RegexError> {
        self.depth += 1;
        if self.depth > NESTING_LIMIT {
            return Err(RegexError::TooLarge);
        }
        let mut branches = vec![self.sequence()?];
        while self.take_if(b'|') {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Ast::Choice(branches) })
    }

    // a quantifier binds to the atom before it; `^` and `$` are not atoms
    fn sequence(&mut self) -> Result<Ast, RegexError> {
        let mut parts = Vec::new();
        while let Some(&byte) = self.rest.first() {
            let part = match byte {
                b'|' | b')' => break,
                b'*' | b'+' | b'?' | b'{' => return Err(RegexError::Invalid),
                b'^' | b'$' => {
                    self.rest = &self.rest[1..];
                    if byte == b'^' { Ast::Begin } else { Ast::End }
                }
                _ => {
                    let atom = self.atom()?;
                    self.quantifiers(atom)?
                }
            };
            parts.push(part);
        }
        Ok(match parts.len() {
            0 => Ast::Empty,
            1 => parts.remove(0),
            _ => Ast::Sequence(parts),
        })
    }

    fn atom(&mut self) -> Result<Ast, RegexError> {
        let byte = self.take()?;
        let mut set = ByteSet::empty();
        match byte {
            b'(' => {
                self.groups += 1;
                let number = self.groups;
                let body = self.choice()?;
                if !self.take_if(b')') {
                    return Err(RegexError::Invalid);
                }
                return Ok(Ast::Group(number, Box::new(body)));
            }
            b'.' => {
                // A string of the language holds no NUL, so that it need not be left out.
                return Ok(Ast::Set(ByteSet::empty().complement()));
            }
            b'[' => return self.bracket(),
            b'\\' => {
                let escaped = self.take()?;
                if !br"^$\.*+?()[{|".contains(&escaped) {
                    return Err(RegexError::Invalid);
                }
                set.insert(escaped);
            }
            0 => return Err(RegexError::Invalid),
            byte => set.insert(byte),
        }
        Ok(Ast::Set(set))
    }

    fn quantifiers(&mut self, mut atom: Ast) -> Result<Ast, RegexError> {
        loop {
            let (min, max) = match self.rest.first() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    self.rest = &self.rest[1..];
                    let (min, max) = self.interval()?;
                    atom = Ast::Repeat { body: Box::new(atom), min, max };
                    continue;
                }
                _ => return Ok(atom),
            };
            self.rest = &self.rest[1..];
            atom = Ast::Repeat { body: Box::new(atom), min, max };
        }
    }

    // {m}  {m,}  {m,n}: the brace is taken
    fn interval(&mut self) -> Result<(u32, Option<u32>), RegexError> {
        let min = self.number()?;
        let max = if !self.take_if(b',') {
            Some(min)
        } else if self.rest.first() == Some(&b'}') {
            None
        } else {
            Some(self.number()?)
        };
        if !self.take_if(b'}') || max.is_some_and(|max| max < min) {
            return Err(RegexError::Invalid);
        }
        Ok((min, max))
    }

    fn number(&mut self) -> Result<u32, RegexError> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        if digits.is_empty() {
            return Err(RegexError::Invalid);
        }
        let text = std::str::from_utf8(digits).expect("ASCII digits");
        text.parse::<i32>().map(i32::unsigned_abs).map_err(|_| RegexError::Invalid)
    }

    // [abc]  [^a-z]  []]  [[:alpha:]_]  [[.hyphen.]]  [[=a=]]: the bracket is taken
    fn bracket(&mut self) -> Result<Ast, RegexError> {
        let negated = self.take_if(b'^');
        let mut set = ByteSet::empty();
        let mut last = Last::Nothing;
        let mut at_start = true;
        loop {
            let first = std::mem::take(&mut at_start);
            match self.bracket_token(first)? {
                Token::Close => break,
                Token::Char(byte) | Token::Collating(byte) => {
                    last.flush(&mut set);
                    last = Last::Char(byte);
                }
                Token::Class(class) => {
                    last.flush(&mut set);
                    set.union(&class);
                    last = Last::Class;
                }
                Token::Dash if first => last = Last::Char(b'-'),
                Token::Dash => match last {
                    // Only as the last character does it stand for itself here.
                    Last::Class | Last::Nothing if self.take_if(b']') => {
                        set.insert(b'-');
                        break;
                    }
                    Last::Class | Last::Nothing => return Err(RegexError::Invalid),
                    Last::Char(from) => {
                        let to = match self.bracket_token(false)? {
                            Token::Char(to) => to,
                            Token::Dash => b'-',
                            Token::Close => {
                                last.flush(&mut set);
                                set.insert(b'-');
                                last = Last::Nothing;
                                break;
                            }
                            Token::Class(_) | Token::Collating(_) => return Err(RegexError::Invalid),
                        };
                        if from > to {
                            return Err(RegexError::Invalid);
                        }
                        (from..=to).for_each(|byte| set.insert(byte));
                        last = Last::Nothing;
                    }
                },
            }
        }
        last.flush(&mut set);
        Ok(Ast::Set(if negated { set.complement() } else { set }))
    }

    fn bracket_token(&mut self, first: bool) -> Result<Token, RegexError> {
        let byte = self.take()?;
        match byte {
            b']' if !first => Ok(Token::Close),
            b'-' => Ok(Token::Dash),
            b'[' => match *self.rest.first().ok_or(RegexError::Invalid)? {
                kind @ (b'.' | b':' | b'=') => {
                    self.rest = &self.rest[1..];
                    self.named(kind)
                }
                _ => Ok(Token::Char(b'[')),
            },
            byte => Ok(Token::Char(byte)),
        }
    }

    // [:name:]  [.name.]  [=name=]: up to and with the second character
    fn named(&mut self, kind: u8) -> Result<Token, RegexError> {
        let len = self.rest.iter().position(|byte| *byte == kind).ok_or(RegexError::Invalid)?;
        let name = &self.rest[..len];
        self.rest = &self.rest[len + 1..];
        if !self.take_if(b']') {
            return Err(RegexError::Invalid);
        }
        match kind {
            b':' => class_named(name).map(Token::Class).ok_or(RegexError::Invalid),
            b'.' => collating_element(name).map(Token::Collating).ok_or(RegexError::Invalid),
            _ => {
                // Equivalence looks at lower case only, as the C++ library does.
                let element = collating_element(name).ok_or(RegexError::Invalid)?.to_ascii_lowercase();
                let mut set = ByteSet::empty();
                (0..=255_u8)
                    .filter(|byte| byte.to_ascii_lowercase() == element)
                    .for_each(|byte| set.insert(byte));
                Ok(Token::Class(set))
            }
        }
    }
}

enum Token {
    Close,
    Dash,
    Char(u8),
    /// `[.x.]`: a character, but not the end of a range.
    Collating(u8),
    Class(ByteSet),
}

/// What a `-` would follow.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Char(u8),
    Class,
}

impl Last {
    fn flush(self, set: &mut ByteSet) {
        if let Last::Char(byte) = self {
            set.insert(byte);
        }
    }
}

fn class_named(name: &[u8]) -> Option<ByteSet> {
    let is_member: fn(&u8) -> bool = match name.to_ascii_lowercase().as_slice() {
        b"d" | b"digit" => u8::is_ascii_digit,
        b"w" => |byte| byte.is_ascii_alphanumeric() || *byte == b'_',
        b"s" | b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    let mut set = ByteSet::empty();
    (0..=255_u8).filter(is_member).for_each(|byte| set.insert(byte));
    Some(set)
}

/// The names that POSIX gives to characters of ASCII that are not letters.
const COLLATING_NAMES: [&str; 128] = [
    "NUL",
    "SOH",
    "STX",
    "ETX",
    "EOT",
    "ENQ",
    "ACK",
    "alert",
    "backspace",
    "tab",
    "newline",
    "vertical-tab",
    "form-feed",
    "carriage-return",
    "SO",
    "SI",
    "DLE",
    "DC1",
    "DC2",
    "DC3",
    "DC4",
    "NAK",
    "SYN",
    "ETB",
    "CAN",
    "EM",
    "SUB",
    "ESC",
    "IS4",
    "IS3",
    "IS2",
    "IS1",
    "space",
    "exclamation-mark",
    "quotation-mark",
    "number-sign",
    "dollar-sign",
    "percent-sign",
    "ampersand",
    "apostrophe",
    "left-parenthesis",
    "right-parenthesis",
    "asterisk",
    "plus-sign",
    "comma",
    "hyphen",
    "period",
    "slash",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "colon",
    "semicolon",
    "less-than-sign",
    "equals-sign",
    "greater-than-sign",
    "question-mark",
    "commercial-at",
    "A",
    "B",
    "C",
    "D",
    "E",
    "F",
    "G",
    "H",
    "I",
    "J",
    "K",
    "L",
    "M",
    "N",
    "O",
    "P",
    "Q",
    "R",
    "S",
    "T",
    "U",
    "V",
    "W",
    "X",
    "Y",
    "Z",
    "left-square-bracket",
    "backslash",
    "right-square-bracket",
    "circumflex",
    "underscore",
    "grave-accent",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "left-curly-bracket",
    "vertical-line",
    "right-curly-bracket",
    "tilde",
    "DEL",
];

fn collating_element(name: &[u8]) -> Option<u8> {
    let index = COLLATING_NAMES.iter().position(|known| known.as_bytes() == name)?;
    u8::try_from(index).ok()
}

#[derive(Clone, Debug)]
enum Step {
    Set(ByteSet, usize),
    Begin(usize),
    End(usize),
    Save(usize, usize),
    /// Both ways are tried; the longer result wins, the first if they are equal.
    Choice(usize, usize),
    /// The body is tried first; the way on only if the body leads nowhere. `bit` is set for bodies
    /// that can be empty: it tells whether the text has advanced since the body was entered.
    Loop {
        body: usize,
        next: usize,
        bit: u64,
    },
    Accept,
}

/// The automaton that [`Backtracker`] runs.
#[derive(Debug)]
struct Program {
    steps: Vec<Step>,
    start: usize,
    group_count: usize,
    loop_count: u32,
}

impl Program {
    fn new(ast: &Ast, group_count: usize) -> Self {
        let mut program = Program { steps: vec![Step::Accept], start: 0, group_count, loop_count: 0 };
        program.start = program.add(ast, 0);
        program
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Adds `ast` before the step `next` and returns where it starts.
    fn add(&mut self, ast: &Ast, next: usize) -> usize {
        match ast {
            Ast::Empty => next,
            Ast::Begin => self.push(Step::Begin(next)),
            Ast::End => self.push(Step::End(next)),
            Ast::Set(set) => self.push(Step::Set(set.clone(), next)),
            Ast::Group(number, body) => {
                let close = self.push(Step::Save(2 * number - 1, next));
                let body = self.add(body, close);
                self.push(Step::Save(2 * number - 2, body))
            }
            Ast::Sequence(parts) => parts.iter().rev().fold(next, |next, part| self.add(part, next)),
            Ast::Choice(branches) => {
                let mut starts: Vec<usize> = branches.iter().map(|branch| self.add(branch, next)).collect();
                let last = starts.pop().expect("a choice has branches");
                starts.into_iter().rev().fold(last, |other, start| self.push(Step::Choice(start, other)))
            }
            Ast::Repeat { body, min, max } => {
                let mut start = next;
                match max {
                    None => start = self.add_loop(body, next),
                    Some(max) => {
                        for _ in *min..*max {
                            let body = self.add(body, start);
                            start = self.push(Step::Loop { body, next, bit: 0 });
                        }
                    }
                }
                (0..*min).fold(start, |next, _| self.add(body, next))
            }
        }
    }

    fn add_loop(&mut self, body: &Ast, next: usize) -> usize {
        let bit = if body.can_be_empty() {
            // More than 64 such loops share a bit: then one may run over nothing once less.
            self.loop_count += 1;
            1 << (self.loop_count % 64)
        } else {
            0
        };
        let at = self.push(Step::Loop { body: 0, next, bit });
        let start = self.add(body, at);
        self.steps[at] = Step::Loop { body: start, next, bit };
        at
    }
}

/// Which ends of a match count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Anywhere,
    NotEmpty,
    AtEnd,
}

/// A step at a place of the text, and which loops have advanced since their body was entered.
type Place = (usize, usize, u64);

/// What is known of a place: the end of the best match from there, and the way to it.
#[derive(Clone, Copy)]
enum Known {
    Open,
    Fails,
    Ends { at: usize, via: Option<Place> },
}

/// Finds the match that the C++ library would find, trying every place once.
struct Backtracker<'a> {
    program: &'a Program,
    text: &'a [u8],
    ends: Ends,
    from: usize,
    known: rustc_hash::FxHashMap<Place, Known>,
}

impl<'a> Backtracker<'a> {
    fn new(program: &'a Program, text: &'a [u8], ends: Ends) -> Self {
        Backtracker { program, text, ends, from: 0, known: Default::default() }
    }

    fn run(mut self, from: usize) -> Option<Found> {
        self.from = from;
        let start = (self.program.start, from, u64::MAX);
        let mut stack = vec![start];
        while let Some(&place) = stack.last() {
            match self.attempt(place) {
                Attempt::Needs(other) => {
                    self.known.entry(place).or_insert(Known::Open);
                    stack.push(other);
                }
                Attempt::Done(known) => {
                    self.known.insert(place, known);
                    stack.pop();
                }
            }
        }
        self.trace(start)
    }

    /// Looks at one place, given what is known of those that follow.
    fn attempt(&self, (step, at, bits): Place) -> Attempt {
        match &self.program.steps[step] {
            Step::Set(set, next) => match self.text.get(at) {
                Some(byte) if set.contains(*byte) => self.follow((*next, at + 1, u64::MAX)),
                _ => Attempt::Done(Known::Fails),
            },
            Step::Begin(next) if at == 0 => self.follow((*next, at, bits)),
            Step::End(next) if at == self.text.len() => self.follow((*next, at, bits)),
            Step::Begin(_) | Step::End(_) => Attempt::Done(Known::Fails),
            Step::Save(_, next) => self.follow((*next, at, bits)),
            Step::Choice(first, second) => {
                let (first, second) = ((*first, at, bits), (*second, at, bits));
                match (self.known(first), self.known(second)) {
                    (None, _) => Attempt::Needs(first),
                    (_, None) => Attempt::Needs(second),
                    (Some(one), Some(two)) => Attempt::Done(longer((first, one), (second, two))),
                }
            }
            Step::Loop { body, next, bit } => {
                let next = (*next, at, bits);
                if *bit != 0 && bits & bit == 0 {
                    return self.follow(next);
                }
                let body = (*body, at, bits & !bit);
                match self.known(body) {
                    None => Attempt::Needs(body),
                    Some(Some(end)) => Attempt::Done(Known::Ends { at: end, via: Some(body) }),
                    Some(None) => self.follow(next),
                }
            }
            Step::Accept => {
                let counts = match self.ends {
                    Ends::Anywhere => true,
                    Ends::NotEmpty => at > self.from,
                    Ends::AtEnd => at == self.text.len(),
                };
                Attempt::Done(if counts { Known::Ends { at, via: None } } else { Known::Fails })
            }
        }
    }

    fn follow(&self, place: Place) -> Attempt {
        match self.known(place) {
            None => Attempt::Needs(place),
            Some(None) => Attempt::Done(Known::Fails),
            Some(Some(end)) => Attempt::Done(Known::Ends { at: end, via: Some(place) }),
        }
    }

    /// Returns the end of the best match from `place`, if there is one; `None` if not known yet.
    fn known(&self, place: Place) -> Option<Option<usize>> {
        match self.known.get(&place) {
            None => None,
            // A place that waits for itself is a loop that does not advance: that way leads nowhere.
            Some(Known::Open | Known::Fails) => Some(None),
            Some(Known::Ends { at, .. }) => Some(Some(*at)),
        }
    }

    /// Walks the best way and notes the groups.
    fn trace(&self, start: Place) -> Option<Found> {
        let mut slots = vec![None; 2 * self.program.group_count];
        let mut place = start;
        loop {
            let Some(Known::Ends { at, via }) = self.known.get(&place) else { return None };
            let Some(next) = via else {
                let groups = slots.chunks(2).map(|pair: &[Option<usize>]| Some(pair[0]?..pair[1]?)).collect();
                return Some(Found { range: self.from..*at, groups });
            };
            if let Step::Save(slot, _) = self.program.steps[place.0] {
                slots[slot] = Some(place.1);
            }
            place = *next;
        }
    }
}

enum Attempt {
    Needs(Place),
    Done(Known),
}

fn longer(first: (Place, Option<usize>), second: (Place, Option<usize>)) -> Known {
    match (first.1, second.1) {
        (Some(one), Some(two)) if two > one => Known::Ends { at: two, via: Some(second.0) },
        (Some(one), _) => Known::Ends { at: one, via: Some(first.0) },
        (None, Some(two)) => Known::Ends { at: two, via: Some(second.0) },
        (None, None) => Known::Fails,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the groups as the language would: `_` for one that took no part.
    fn show_groups(text: &str, groups: &Groups) -> String {
        let shown: Vec<String> = groups
            .iter()
            .map(|group| group.clone().map_or("_".into(), |range| format!("'{}'", &text[range])))
            .collect();
        format!("[{}]", shown.join(" "))
    }

    fn check_match(pattern: &str, text: &str, expected: &str) {
        let regex = match Regex::new(pattern.as_bytes()) {
            Ok(regex) => regex,
            Err(error) => return assert_eq!(format!("{error:?}"), expected, "{pattern}"),
        };
        let found = regex.match_whole(text.as_bytes());
        let shown = found.map_or("no".into(), |groups| show_groups(text, &groups));
        assert_eq!(shown, expected, "match {pattern:?} {text:?}");
    }

    fn check_split(pattern: &str, text: &str, expected: &str) {
        let regex = Regex::new(pattern.as_bytes()).expect(pattern);
        let mut shown = String::new();
        let mut from = 0;
        for found in regex.split(text.as_bytes()) {
            shown += &format!("'{}' {} ", &text[from..found.range.start], show_groups(text, &found.groups));
            from = found.range.end;
        }
        shown += &format!("'{}'", &text[from..]);
        assert_eq!(shown, expected, "split {pattern:?} {text:?}");
    }

    #[test]
    fn whole_text_must_match() {
        check_match("ab", "abc", "no");
        check_match("a(b)(c)?", "ab", "['b' _]");
        check_match(".*", "a\nb", "[]");
        check_match("", "", "[]");
        check_match("()", "", "['']");
        check_match("a||b", "", "[]");
        check_match("[[:space:]]*([^[:space:]]+)", " \t\u{b}x", "['x']");
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "*a",
            "(a",
            "a)",
            "[a",
            "a{2",
            "a{3,2}",
            "a{,3}",
            r"\d",
            r"\]",
            r"\1",
            "[z-a]",
            "[[:foo:]]",
            "a|*b",
            "^*",
            "[[:alpha:]-z]",
            "[a-z--0]",
            "[a-[.c.]]",
            "\\",
            "(*a)",
            "a{x}",
        ] {
            check_match(pattern, "", "Invalid");
        }
        check_match("a{1001}{1000}", "", "TooLarge");
    }

    #[test]
    fn brackets() {
        check_match("[]]", "]", "[]");
        check_match("[^]]", "]", "no");
        check_match("[a-]", "-", "[]");
        check_match("[-a]", "-", "[]");
        check_match(r"[\n]", "\\", "[]");
        check_match("[[=a=]]", "A", "[]");
        check_match("[[.hyphen.]]", "-", "[]");
        check_match("[a[b]", "[", "[]");
    }

    #[test]
    fn groups_keep_what_they_matched_last() {
        check_match("((a)|b)*", "ab", "['b' 'a']");
        check_match("(a*)*", "aa", "['']");
        check_match("(a|ab)(c|bcd)(d*)", "abcd", "['a' 'bcd' '']");
        check_match("(a){0}", "", "[_]");
    }

    #[test]
    fn split_finds_the_longest_alternative() {
        check_split("a|ab", "xabc", "'x' [] 'c'");
        check_split("(a|ab)(c|bcd)?", "abcd", "'' ['a' 'bcd'] ''");
        check_split("a*(ab)?", "aab", "'' [_] '' [_] 'b' [_] ''");
    }

    #[test]
    fn split_goes_on_after_an_empty_match() {
        check_split("", "abc", "'' [] 'a' [] 'b' [] 'c' [] ''");
        check_split("x*", "axb", "'' [] 'a' [] '' [] 'b' [] ''");
        check_split("$", "axb", "'axb' [] ''");
        check_split("^", "axb", "'' [] 'axb'");
        check_split("(|a)", "ab", "'' ['a'] '' [''] 'b' [''] ''");
    }

    #[test]
    fn hostile_patterns_end() {
        let text = "a".repeat(3000);
        check_match("(a*)*b", &text, "no");
        check_match("(a|aa)*b", &text, "no");
        check_match("((a*)*)*", "aaaa", "['' '']");
        assert_eq!(Regex::new(b"(a|aa)*").unwrap().split(text.as_bytes()).count(), 2);
    }
}
