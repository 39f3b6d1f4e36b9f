//! What is written about functions: the builtins' table and the comments of the library.
//!
//! `ampoule doc`, the REPL's `:doc`, `docs/builtins.md` and `docs/stdlib.md` have the same words: the page of the
//! library is made of its comments by a test, and is part of this program.

use std::sync::LazyLock;

use ampoule_eval::{Builtin, Expect, TABLES};
use ampoule_lang::near::near_name;

/// The page that is made of the library's comments.
const LIBRARY: &str = include_str!("../../docs/stdlib.md");

/// What is written about one function or value.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// How it is reached: `builtins.map`, `lib.foldr`, `image`.
    pub name: String,
    /// Names of its parameters, where the name alone does not say how it is called.
    pub params: Vec<String>,
    /// What it does.
    pub text: String,
    /// Programs, each with what it gives.
    pub examples: Vec<(String, String)>,
}

impl Entry {
    /// The entry of a builtin.
    pub fn of_builtin(builtin: &Builtin) -> Self {
        let result = |expected: &Expect| match expected {
            Expect::Shows(shown) => (*shown).to_owned(),
            Expect::Fails(message) => format!("error: {message}"),
        };
        Self {
            name: format!("builtins.{}", builtin.name),
            params: builtin.params.iter().map(|param| (*param).to_owned()).collect(),
            text: builtin.doc.to_owned(),
            examples: builtin
                .examples
                .iter()
                .map(|(text, shown)| ((*text).to_owned(), result(shown)))
                .collect(),
        }
    }

    /// The entry of a function of the language, from the comment above it: lines `  program    # => value` are
    /// examples.
    pub fn of_comment(name: &str, comment: &[&str]) -> Self {
        let mut entry = Self { name: name.to_owned(), ..Self::default() };
        let mut text = Vec::new();
        for line in comment {
            match line.strip_prefix("  ").and_then(|line| line.split_once("    # => ")) {
                Some((program, value)) => entry.examples.push((program.to_owned(), value.to_owned())),
                None => text.push(*line),
            }
        }
        entry.text = text.join("\n").trim().to_owned();
        entry
    }

    /// The first sentence.
    pub fn summary(&self) -> String {
        let text = self.text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        match text.find(". ") {
            Some(end) => text[..=end].to_owned(),
            None => text,
        }
    }

    /// All of it, for a terminal.
    pub fn page(&self) -> String {
        let mut out = self.name.clone();
        for param in &self.params {
            out.push(' ');
            out.push_str(param);
        }
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        out.push_str(&self.text);
        if !self.examples.is_empty() {
            out.push('\n');
        }
        for (program, value) in &self.examples {
            out.push_str(&format!("\n  {}    # => {value}", program.replace('\n', "\n  ")));
        }
        out
    }

    fn has_word(&self, word: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(word);
        has(&self.name) || has(&self.text)
    }
}

/// Everything that is written: builtins, then the library, each in the order of its page.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
        let mut builtins: Vec<Entry> = TABLES.iter().copied().flatten().map(Entry::of_builtin).collect();
        builtins.sort_by(|a, b| a.name.cmp(&b.name));
        builtins.extend(library(LIBRARY));
        builtins
    });
    &ENTRIES
}

/// Finds an entry by its name, as it is written or with `builtins.`, `std.` or the part of `lib` that it stands in.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.strip_prefix("std.").unwrap_or(name);
    let exact = |name: &str| entries().iter().find(|entry| entry.name == name);
    let without_part = || {
        // `lib.lists.foldl` is `lib.foldl`.
        let (_, rest) = name.strip_prefix("lib.")?.split_once('.')?;
        exact(&format!("lib.{rest}"))
    };
    exact(name)
        .or_else(|| exact(&format!("builtins.{name}")))
        .or_else(|| exact(&format!("lib.{name}")))
        .or_else(without_part)
}

/// Entries that have every one of `words` in name or text; those with all of them in the name come first.
pub fn search(words: &[String]) -> Vec<&'static Entry> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let mut found: Vec<&Entry> =
        entries().iter().filter(|entry| words.iter().all(|word| entry.has_word(word))).collect();
    found.sort_by_key(|entry| !words.iter().all(|word| entry.name.to_lowercase().contains(word)));
    found
}

/// The name that was probably meant.
pub fn near(name: &str) -> Option<&'static str> {
    let short = |entry: &'static Entry| entry.name.rsplit('.').next().unwrap_or(&entry.name);
    let near = near_name(name.rsplit('.').next().unwrap_or(name), entries().iter().map(short))?;
    entries().iter().find(|entry| short(entry) == near).map(|entry| entry.name.as_str())
}

/// Reads the entries of the library's page.
fn library(page: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for section in page.split("\n### `").skip(1) {
        let section = section.split("\n## ").next().unwrap_or(section);
        let Some((name, body)) = section.split_once("`\n") else { continue };
        let (text, code) = body.split_once("```nix\n").unwrap_or((body, ""));
        if name.is_empty() || name.ends_with('.') {
            continue;
        }
        let examples = code.trim_end().trim_end_matches("```").lines();
        let examples = examples.filter_map(|line| line.split_once("    # => "));
        found.push(Entry {
            name: name.to_owned(),
            params: Vec::new(),
            text: text.trim().to_owned(),
            examples: examples.map(|(a, b)| (a.to_owned(), b.to_owned())).collect(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_every_name_that_people_use() {
        let check = |asked: &str, expected: &str| {
            assert_eq!(find(asked).map(|entry| entry.name.as_str()), Some(expected), "{asked}");
        };
        check("lib.lists.foldl", "lib.foldl");
        check("std.lib.foldl", "lib.foldl");
        check("foldl'", "builtins.foldl'");
        check("map", "builtins.map");
        check("filterAttrs", "lib.filterAttrs");
        check("mkDerivation", "mkDerivation");
        assert_eq!(find("nothing.like.this"), None);
        assert_eq!(near("lib.fodlr"), Some("lib.foldr"));
    }

    #[test]
    fn the_library_is_all_there() {
        let entries = library(LIBRARY);
        assert!(entries.len() > 300, "only {}", entries.len());
        for entry in &entries {
            assert!(!entry.text.is_empty(), "{} says nothing", entry.name);
        }
        let foldr = entries.iter().find(|entry| entry.name == "lib.foldr").expect("it is there");
        assert_eq!(foldr.examples.len(), 2, "{foldr:?}");
    }

    #[test]
    fn a_comment_reads_as_the_page_does() {
        let comment = ["Does it.", "", "  f 1    # => 2"];
        let entry = Entry::of_comment("f", &comment);
        assert_eq!(entry.page(), "f\n\nDoes it.\n\n  f 1    # => 2");
        assert_eq!(entry.summary(), "Does it.");
    }
}
