//! What is wrong with a program, as data.
//!
//! A [`Diagnostic`] says what, where, and where the other half came from; how it
//! looks on a terminal is the business of [`crate::render`], how it is explained
//! at length that of [`crate::codes`].

use crate::span::FileSpan;

/// A stable number like `E0007`; see [`crate::codes`] for all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(pub u16);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "E{:04}", self.0)
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The program means something, perhaps not what was meant.
    Warning,
    /// The program means nothing.
    Error,
}

/// A place and what is to be said there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The smallest guilty piece of text.
    pub at: FileSpan,
    /// A few words, or none.
    pub message: String,
}

/// Something wrong with a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// What kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// One line, in Nix's words where Nix has them.
    pub message: String,
    /// Where. `None` for what has no place in a text.
    pub primary: Option<Label>,
    /// Where the other half came from.
    pub secondary: Vec<Label>,
    /// What to do about it; each is true and starts with a verb.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// Makes an error.
    pub fn error(code: Code, message: impl Into<String>, at: FileSpan) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            primary: Some(Label { at, message: String::new() }),
            secondary: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Makes a warning.
    pub fn warning(code: Code, message: impl Into<String>, at: FileSpan) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message, at) }
    }

    /// Says something at the primary place.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        if let Some(label) = &mut self.primary {
            label.message = message.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn label(mut self, at: FileSpan, message: impl Into<String>) -> Self {
        self.secondary.push(Label { at, message: message.into() });
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
