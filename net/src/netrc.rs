//! netrc files: credentials by host, as curl and Nix read them.
//!
//! ```text
//! machine files.example.org login joe password s3cret
//! default login anonymous password me@
//! ```
//!
//! Tokens are separated by white space, may be quoted, `#` starts a comment where a
//! token could start, and `macdef` bodies are skipped up to the next empty line.

use std::path::Path;

use crate::secret::Credentials;

/// Credentials by host name.
#[derive(Clone, Debug, Default)]
pub struct Netrc {
    machines: Vec<(Option<String>, Credentials)>,
}

impl Netrc {
    /// Reads the first file that exists of: `$NETRC`, `~/.netrc`.
    ///
    /// A file that cannot be read counts as absent: its lack shows as a 401 that
    /// says that no credentials are known.
    pub fn from_env() -> Self {
        let named = std::env::var_os("NETRC").map(std::path::PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".netrc"));
        named.or(home).and_then(|path| Self::read(&path).ok()).unwrap_or_default()
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(&String::from_utf8_lossy(&std::fs::read(path)?)))
    }

    /// Parses the text of a netrc file; what it does not know is passed over.
    pub fn parse(text: &str) -> Self {
        let mut tokens = Tokens { rest: text };
        let mut netrc = Self::default();
        let mut entry: Option<Entry> = None;
        while let Some(token) = tokens.next() {
            match token.as_str() {
                "machine" => netrc.start(&mut entry, tokens.next()),
                "default" => netrc.start(&mut entry, None),
                "login" => set(&mut entry, tokens.next(), |e| &mut e.login),
                "password" => set(&mut entry, tokens.next(), |e| &mut e.password),
                "account" => drop(tokens.next()),
                "macdef" => tokens.skip_macro(),
                _ => {}
            }
        }
        netrc.finish(entry);
        netrc
    }

    /// Returns the credentials for `host`: its own entry, else the default one.
    pub fn for_host(&self, host: &str) -> Option<&Credentials> {
        let own =
            self.machines.iter().find(|(m, _)| m.as_deref().is_some_and(|m| m.eq_ignore_ascii_case(host)));
        own.or_else(|| self.machines.iter().find(|(m, _)| m.is_none())).map(|(_, c)| c)
    }

    fn start(&mut self, entry: &mut Option<Entry>, host: Option<String>) {
        let before = entry.replace(Entry { host, ..Entry::default() });
        self.finish(before);
    }

    fn finish(&mut self, entry: Option<Entry>) {
        let Some(Entry { host, login, password: Some(password) }) = entry else { return };
        self.machines.push((host, Credentials::basic(login.unwrap_or_default(), password)));
    }
}

#[derive(Default)]
struct Entry {
    host: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

fn set(entry: &mut Option<Entry>, value: Option<String>, field: fn(&mut Entry) -> &mut Option<String>) {
    if let Some(entry) = entry {
        *field(entry) = value;
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                break;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        if self.rest.is_empty() {
            return None;
        }
        if let Some(quoted) = self.rest.strip_prefix('"') {
            return Some(self.quoted(quoted.len()));
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token.to_owned())
    }

    /// Reads a quoted token; `len` is what remains after the opening quote.
    fn quoted(&mut self, len: usize) -> String {
        let text = &self.rest[self.rest.len() - len..];
        let mut token = String::new();
        let mut chars = text.char_indices();
        while let Some((_, c)) = chars.next() {
            match c {
                '"' => break,
                '\\' => token.extend(chars.next().map(|(_, c)| c)),
                c => token.push(c),
            }
        }
        self.rest = chars.as_str();
        token
    }

    fn skip_macro(&mut self) {
        self.rest = self.rest.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_by_host_then_default() {
        let netrc = Netrc::parse(
            "# mine\nmachine a.example login joe password \"s3 \\\"cret\"\nmacdef init\nmachine evil\n\n\
             machine b.example\n  password tok\ndefault login anonymous password me",
        );
        assert_eq!(netrc.for_host("A.example"), Some(&Credentials::basic("joe", "s3 \"cret")));
        assert_eq!(netrc.for_host("b.example"), Some(&Credentials::basic("", "tok")));
        assert_eq!(netrc.for_host("evil"), Some(&Credentials::basic("anonymous", "me")));
        assert_eq!(Netrc::parse("machine x login y").for_host("x"), None);
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", Netrc::parse("machine a login b password hidden")).contains("hidden"));
    }
}
