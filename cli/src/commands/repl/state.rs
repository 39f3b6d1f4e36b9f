//! What the lines have made so far: names and their values.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use ampoule_eval::{ErrorKind, EvalResult, Evaluator, Root, Value, View};
use ampoule_lang::Symbol;

/// The evaluator, and all names that lines may use.
pub struct State<'e> {
    /// The evaluator.
    pub ev: &'e mut Evaluator,
    /// Where relative paths start.
    pub dir: PathBuf,
    /// How many lines were typed: their names in messages.
    pub lines: usize,
    /// Files that were loaded, in order.
    pub loaded: Vec<String>,
    scope: BTreeMap<Symbol, Root>,
}

impl<'e> State<'e> {
    /// Nothing but an evaluator.
    pub fn new(ev: &'e mut Evaluator, dir: PathBuf) -> Self {
        Self { ev, dir, lines: 0, loaded: Vec::new(), scope: BTreeMap::new() }
    }

    /// What messages call the line that is evaluated.
    pub fn line_name(&self) -> String {
        format!("repl:{}", self.lines)
    }

    /// Evaluates a text with the names in scope that occur in it: with a package set of thousands in scope,
    /// a line costs what the line costs.
    ///
    /// # Errors
    /// If the text is no program, or fails.
    pub fn eval(&mut self, name: &str, text: &str) -> EvalResult<Value> {
        let used = words(text);
        let scope = self.scope_of(|name| used.contains(name));
        match self.ev.eval_text_in(name, &self.dir, text.as_bytes(), &scope) {
            // A name that is nowhere: once more with all of them, to say what is near it.
            Err(error) if error.kind() == ErrorKind::Syntax && scope.len() < self.scope.len() => {
                let scope = self.scope_of(|_| true);
                self.ev.eval_text_in(name, &self.dir, text.as_bytes(), &scope)
            }
            outcome => outcome,
        }
    }

    /// The values of some names. Roots keep the values; this is a view of them for one call.
    fn scope_of(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<(Symbol, Value)> {
        let mut found = Vec::new();
        for (&name, &root) in &self.scope {
            if is_wanted(&name.to_string()) {
                found.push((name, self.ev.heap().rooted(root)));
            }
        }
        found
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = Symbol> {
        self.scope.keys().copied()
    }

    /// The value of a name, as far as it is computed.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        let root = *self.scope.get(&Symbol::intern(name))?;
        Some(self.ev.heap().rooted(root))
    }

    /// Whether the library has an attribute of that name.
    pub fn library_has(&mut self, name: &str) -> bool {
        let Some(library) = self.value("std") else { return false };
        matches!(library.view(), View::Attrs(attrs) if attrs.has(Symbol::intern(name)))
    }

    /// Gives a value a name.
    pub fn bind(&mut self, name: Symbol, value: Value) {
        match self.scope.get(&name) {
            Some(&root) => self.ev.heap().set_root(root, value),
            None => {
                let root = self.ev.heap().root(value);
                self.scope.insert(name, root);
            }
        }
    }

    /// Brings the attributes of a set into scope, uncomputed as they are.
    ///
    /// # Errors
    /// If the value is no set.
    pub fn bind_all(&mut self, value: Value) -> EvalResult<usize> {
        let sorted = self.ev.force_sorted(value)?;
        for index in 0..sorted.len() {
            let (name, value) = sorted.get(index);
            self.bind(name, value);
        }
        Ok(sorted.len())
    }
}

/// Everything in a text that could be a name.
fn words(text: &str) -> HashSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '\'' | '-');
    let mut found = HashSet::new();
    for word in text.split(|c| !is_part(c)).filter(|word| !word.is_empty()) {
        // `''${a}''` and `-a` have a name behind what is no part of it.
        let start = word.find(|c: char| c.is_ascii_alphabetic() || c == '_').unwrap_or(word.len());
        let word = &word[start..];
        found.insert(word);
        // A string may end right behind a name: `''a''b`.
        found.insert(word.trim_end_matches('\''));
        found.extend(word.split("''"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn every_name_of_a_text_is_found() {
        let check = |text: &str, name: &str| assert!(words(text).contains(name), "{name} in {text}");
        check("a.b", "a");
        check("x-y' + 1", "x-y'");
        check("-a", "a");
        check("''${a}''b", "a");
        check("''x''a", "a");
        check("\"${pkgs.x}\"", "pkgs");
        check("1a", "a");
    }
}
