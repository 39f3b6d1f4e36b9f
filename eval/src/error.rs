//! What can go wrong in evaluation, as data.
//!
//! An [`EvalError`] is one word. Call sites use its named constructors, so that
//! every kind of error has one wording and one place; where Nix reports the same thing, the
//! words are Nix's. On its way outwards an error collects frames ("while calling …").

use std::collections::VecDeque;

use ampoule_lang::resolve::Place;
use ampoule_lang::{Diagnostic, Symbol};

use crate::heap::Value;

/// What evaluation gives.
pub type EvalResult<T> = Result<T, EvalError>;

/// An error of evaluation.
pub struct EvalError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Place,
    /// What is to be said at `place`; mostly nothing.
    saying: &'static str,
    /// The innermost frames, from the inside outwards.
    frames: Vec<Frame>,
    /// The outermost ones of those that did not go in there: the middle of a very deep recursion is not worth
    /// its memory.
    outermost: VecDeque<Frame>,
    labels: Vec<(Place, String)>,
    hints: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// Of infinite recursion: the thunk that was met again, until the way back to it is complete.
    ring: Option<u64>,
    /// What the next one to add a frame should know; no longer than that.
    stage: Stage,
}

/// How far an error has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing special.
    Told,
    /// A value that is no text: who wanted one says for what.
    Coercing,
    /// The argument does not fit the function: the call was not entered, and no trace tells of it.
    NotEntered,
}

/// One line of a trace, from the inside outwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What was being done.
    pub text: String,
    /// Where.
    pub place: Place,
    /// Of a call that stands at `place`: where the function that was called stands.
    pub callee: Place,
    /// Whether it says which part of an expression it was, and not how the evaluation got there: for who
    /// wants to see every step.
    pub is_detail: bool,
}

/// What kind of error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// `throw`.
    Thrown,
    /// `assert`.
    AssertionFailed,
    /// `abort`.
    Aborted,
    /// A value of another type was expected.
    Type,
    /// An attribute is not there.
    MissingAttribute,
    /// A function was not given an argument that it needs, or one that it does not know.
    Arguments,
    /// A variable is not bound (found by `with` only at run time).
    UndefinedVariable,
    /// A value needs itself.
    InfiniteRecursion,
    /// Calls are nested too deep.
    StackOverflow,
    /// A number does not fit.
    Overflow,
    /// Division by zero.
    DivisionByZero,
    /// An index outside of a list or string.
    IndexOutOfBounds,
    /// Text that a builtin could not read: JSON, TOML, a regular expression, a hash.
    Invalid,
    /// A file is not there, cannot be read or must not be.
    World,
    /// A file could not be parsed or its names resolved.
    Syntax,
    /// The user stopped it.
    Interrupted,
    /// What is not part of the language here.
    Unsupported,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Returns the stable number of the kind.
    pub const fn code(self) -> u16 {
        100 + self as u16
    }
}

impl EvalError {
    /// Makes an error.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            place: Place::NONE,
            saying: "",
            frames: Vec::new(),
            outermost: VecDeque::new(),
            labels: Vec::new(),
            hints: Vec::new(),
            diagnostics: Vec::new(),
            ring: None,
            stage: Stage::Told,
        }))
    }

    /// Says where it went wrong, unless that is known.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        if !self.0.place.is_some() {
            self.0.place = place;
        }
        self
    }

    /// Adds what was being done, as people read it: "while …".
    #[must_use]
    #[cold]
    pub fn while_(mut self, text: impl Into<String>, place: Place) -> Self {
        self.push_frame(Frame { text: text.into(), place, callee: Place::NONE, is_detail: false });
        self
    }

    /// Adds which part of an expression it was, in Nix's words: "in the left operand of …".
    #[must_use]
    #[cold]
    pub(crate) fn in_part(mut self, text: impl Into<String>, place: Place) -> Self {
        self.push_frame(Frame { text: text.into(), place, callee: Place::NONE, is_detail: true });
        self
    }

    /// Adds a call of a function of the language.
    #[must_use]
    #[cold]
    pub(crate) fn in_call(mut self, text: String, place: Place, callee: Place) -> Self {
        self.push_frame(Frame { text, place, callee, is_detail: false });
        self
    }

    /// Takes back the frame of the call that was added last: it stands for another one, which tells of itself.
    #[must_use]
    pub(crate) fn forget_call(mut self) -> Self {
        let frames = &mut self.0.frames;
        frames.pop_if(|last| last.callee.is_some());
        self
    }

    /// Says that a value cannot be a text, or a list's element cannot.
    #[must_use]
    #[cold]
    pub(crate) fn in_coercion(mut self) -> Self {
        self.0.stage = Stage::Coercing;
        self
    }

    /// Adds what a text was wanted for, unless something else failed on the way to it.
    #[must_use]
    #[cold]
    pub(crate) fn wanted_for(self, text: &str, place: Place) -> Self {
        if self.0.stage == Stage::Coercing { self.in_part(text, place) } else { self }
    }

    /// Says that a function was called with what it does not take.
    #[must_use]
    #[cold]
    pub(crate) fn before_entering(mut self) -> Self {
        self.0.stage = Stage::NotEntered;
        self
    }

    /// Returns whether the call that failed was not entered; asked once, by that call.
    pub(crate) fn take_not_entered(&mut self) -> bool {
        let is_not_entered = self.0.stage == Stage::NotEntered;
        self.0.stage = Stage::Told;
        is_not_entered
    }

    fn push_frame(&mut self, frame: Frame) {
        self.0.stage = Stage::Told;
        if self.0.frames.len() < MAX_FRAMES {
            return self.0.frames.push(frame);
        }
        if self.0.outermost.len() == MAX_OUTERMOST {
            self.0.outermost.pop_front();
        }
        self.0.outermost.push_back(frame);
    }

    /// Says something at the place where it went wrong.
    #[must_use]
    pub fn saying(mut self, text: &'static str) -> Self {
        self.0.saying = text;
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn label(mut self, place: Place, text: impl Into<String>) -> Self {
        self.0.labels.push((place, text.into()));
        self
    }

    /// Adds what to do about it; starts with a verb.
    #[must_use]
    pub fn help(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Returns its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns its message, without place and trace.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns where it went wrong.
    pub fn place(&self) -> Place {
        self.0.place
    }

    /// Returns what is to be said there.
    pub fn words_at_place(&self) -> &'static str {
        self.0.saying
    }

    /// Returns what was being done, from the inside outwards.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.0.frames.iter().chain(&self.0.outermost)
    }

    /// Returns other places with what is to be said there.
    pub fn labels(&self) -> &[(Place, String)] {
        &self.0.labels
    }

    /// Returns what to do about it.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Returns whether the message shows what is inside a list or set: that depends on how much of it was computed.
    pub fn shows_values(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Type | ErrorKind::AssertionFailed)
            && (self.0.message.contains("{ ") || self.0.message.contains("[ "))
    }

    /// Returns what was wrong with a text, if that is what this is about.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }

    /// Returns whether `tryEval` catches it.
    pub fn is_catchable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Thrown | ErrorKind::AssertionFailed)
    }

    /// A text with faults.
    pub(crate) fn syntax(diagnostics: Vec<Diagnostic>) -> Self {
        let message = diagnostics.first().map_or_else(String::new, |first| first.message.clone());
        let mut error = Self::new(ErrorKind::Syntax, message);
        error.0.diagnostics = diagnostics;
        error
    }

    /// A value has another type than it must have. `expected` and `found` with article; `shown` is the value.
    #[cold]
    pub(crate) fn type_mismatch(expected: &str, found: &str, shown: &str) -> Self {
        Self::new(ErrorKind::Type, format!("expected {expected} but found {found}: {shown}"))
    }

    /// An attribute is not there.
    #[cold]
    pub(crate) fn missing_attribute(name: Symbol) -> Self {
        Self::new(ErrorKind::MissingAttribute, format!("attribute '{}' missing", shown_name(name)))
    }

    /// A list or string was asked for what it does not have.
    #[cold]
    pub fn index_out_of_bounds(builtin: &str, index: i64, len: usize) -> Self {
        Self::new(
            ErrorKind::IndexOutOfBounds,
            format!("'builtins.{builtin}' called with index {index} on a list of size {len}"),
        )
    }

    /// A value needs itself.
    #[cold]
    pub(crate) fn infinite_recursion() -> Self {
        Self::new(ErrorKind::InfiniteRecursion, "infinite recursion encountered").saying("needed again here")
    }

    /// Says which thunk needs itself.
    #[cold]
    pub(crate) fn ring_of(mut self, thunk: Value) -> Self {
        self.0.ring = Some(thunk.identity());
        self
    }

    /// On the way out through a thunk that stands at `place`: a station of the ring.
    #[cold]
    pub(crate) fn in_ring(mut self, thunk: Value, place: Place) -> Self {
        if let Some(first) = self.0.ring {
            if self.0.labels.len() < MAX_RING && place.is_some() {
                self.0.labels.push((place, "which needs the value of this".to_owned()));
            }
            if first == thunk.identity() {
                self.0.ring = None;
                if let Some((_, text)) = self.0.labels.last_mut() {
                    "to compute this, its own value is needed".clone_into(text);
                }
            }
        }
        self
    }

    /// Says that the variable which starts at `start` could not be computed.
    #[cold]
    pub(crate) fn at_name(self, start: u32) -> Self {
        self.at(Place { start, end: start })
    }

    /// Calls are nested too deep.
    #[cold]
    pub(crate) fn stack_overflow() -> Self {
        Self::new(ErrorKind::StackOverflow, "stack overflow; max-call-depth exceeded")
    }

    /// An integer does not fit.
    #[cold]
    pub(crate) fn overflow(what: &str, a: i64, operator: &str, b: i64) -> Self {
        Self::new(ErrorKind::Overflow, format!("integer overflow in {what} {a} {operator} {b}"))
    }

    /// A builtin was given something that it cannot use.
    #[cold]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A value is about to be shown of which parts may have been computed earlier than in Nix.
    #[cold]
    pub(crate) fn too_early() -> Self {
        Self::new(ErrorKind::Other, TOO_EARLY)
    }

    /// Returns whether this is no fault, but a value about to be shown of which parts may have been computed earlier than
    /// in Nix: see [`Settings::stops_at_traces`](crate::Settings::stops_at_traces).
    pub fn is_too_early(&self) -> bool {
        self.0.message == TOO_EARLY
    }

    /// The outside said no.
    #[cold]
    pub fn world(error: &std::io::Error) -> Self {
        Self::new(ErrorKind::World, error.to_string())
    }
}

/// A name as it would stand in a program: in quotation marks if it needs them.
pub(crate) fn shown_name(name: Symbol) -> String {
    let mut shown = String::new();
    crate::print::write_name(&mut shown, name);
    shown
}

impl Clone for EvalError {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

const TOO_EARLY: &str = "a trace would show what was computed early";

/// Stations of a ring of values that are shown.
const MAX_RING: usize = 12;
/// Frames that are kept: the innermost ones.
const MAX_FRAMES: usize = 200;
/// And the outermost ones.
const MAX_OUTERMOST: usize = 50;

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::fmt::Debug for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for EvalError {}
