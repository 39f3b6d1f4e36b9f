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

mod ast;
mod backtracker;
mod bytes;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use ast::Ast;
use backtracker::{Backtracker, Ends, Program};
use parser::Parser;

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
