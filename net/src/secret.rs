//! Passwords and tokens, which no message ever shows.

use std::fmt;

/// Text that must not be seen: `Debug` shows dots, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// Who we are towards one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Basic …`
    Basic {
        /// The account's name.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// `Authorization: Bearer …`
    Bearer(Secret),
}

impl Credentials {
    /// Makes basic credentials.
    pub fn basic(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { user: user.into(), password: Secret::new(password) }
    }

    /// Makes a bearer token.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self::Bearer(Secret::new(token))
    }
}
