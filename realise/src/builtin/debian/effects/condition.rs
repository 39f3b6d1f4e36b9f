//! Conditions that can be known: `test`, versions, patterns.

use crate::builtin::debian::Composed;
use crate::unpack::Found;

use super::reader::Status;

/// The expression of a `test`.
pub(super) struct Test<'t, 'c> {
    pub(super) parts: &'t [Option<String>],
    pub(super) at: usize,
    pub(super) composed: &'t mut Composed<'c>,
}

impl Test<'_, '_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.parts.get(self.at).is_some_and(|part| part.as_deref() == Some(word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn or(&mut self) -> Status {
        let mut left = self.and();
        while self.take("-o") {
            let right = self.and();
            left = match (left, right) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), right) => right,
                (None, _) => None,
            };
        }
        left
    }

    fn and(&mut self) -> Status {
        let mut left = self.not();
        while self.take("-a") {
            let right = self.not();
            left = match (left, right) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), right) => right,
                (None, _) => None,
            };
        }
        left
    }

    fn not(&mut self) -> Status {
        if self.parts.len() > self.at + 1 && self.take("!") {
            return self.not().map(|status| !status);
        }
        if self.take("(") {
            let inner = self.or();
            self.take(")");
            return inner;
        }
        self.primary()
    }

    fn primary(&mut self) -> Status {
        let operand = |at: usize| self.parts.get(at).cloned();
        let Some(first) = operand(self.at) else { return Some(false) };
        if let Some(Some(operator)) = operand(self.at + 1) {
            let right = operand(self.at + 2);
            if let (
                "=" | "==" | "!=" | "-eq" | "-ne" | "-gt" | "-lt" | "-ge" | "-le" | "-nt" | "-ot" | "-ef",
                Some(right),
            ) = (operator.as_str(), right)
            {
                self.at += 3;
                return compare(&operator, first.as_deref()?, right.as_deref()?);
            }
        }
        if let (Some(operator), Some(value)) = (&first, operand(self.at + 1))
            && operator.len() == 2
            && operator.starts_with('-')
        {
            self.at += 2;
            return self.unary(operator, value.as_deref()?);
        }
        self.at += 1;
        first.map(|text| !text.is_empty())
    }

    fn unary(&mut self, operator: &str, value: &str) -> Status {
        match operator {
            "-n" => Some(!value.is_empty()),
            "-z" => Some(value.is_empty()),
            "-t" => Some(false),
            "-e" | "-f" | "-x" | "-r" | "-s" if value.starts_with('/') => {
                let found = self.composed.found(value);
                Some(found != Found::Nothing && (operator != "-f" || found == Found::File))
            }
            "-d" if value.starts_with('/') => Some(self.composed.found(value) == Found::Directory),
            "-L" | "-h" if value.starts_with('/') => {
                let path = self.composed.settings.layout.absolute(value).ok()?;
                Some(self.composed.tree.look(&path) == Found::Symlink)
            }
            "-S" | "-p" | "-b" | "-c" => Some(false),
            _ => None,
        }
    }
}

fn compare(operator: &str, left: &str, right: &str) -> Status {
    let numbers = || Some((left.parse::<i64>().ok()?, right.parse::<i64>().ok()?));
    match operator {
        "=" | "==" => Some(left == right),
        "!=" => Some(left != right),
        "-eq" => numbers().map(|(a, b)| a == b),
        "-ne" => numbers().map(|(a, b)| a != b),
        "-gt" => numbers().map(|(a, b)| a > b),
        "-lt" => numbers().map(|(a, b)| a < b),
        "-ge" => numbers().map(|(a, b)| a >= b),
        "-le" => numbers().map(|(a, b)| a <= b),
        _ => None,
    }
}

/// `dpkg --compare-versions A op B`, where A is the version that was there: none.
pub(super) fn compare_versions(fields: &[String]) -> Status {
    let at = fields.iter().position(|f| f == "--compare-versions")?;
    // An empty first operand is left out where it was not quoted.
    let operands = &fields[at + 1..];
    let (old, operator) = match operands {
        [operator, _] => ("", operator),
        [old, operator, _] => (old.as_str(), operator),
        _ => return None,
    };
    if !old.is_empty() {
        return None;
    }
    Some(match operator.as_str() {
        "lt" | "le" | "ne" | "<" | "<=" | "<<" | "gt-nl" | "ge-nl" => true,
        "gt" | "ge" | "eq" | ">" | ">=" | ">>" | "=" | "lt-nl" | "le-nl" => false,
        _ => return None,
    })
}

/// Returns whether `text` fits a pattern of the shell; brackets fit any one character.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Where to go back to: the last star, and how much it stood for.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        let bracket = pattern.get(p) == Some(&'[');
        let close = pattern[p.min(pattern.len())..].iter().position(|c| *c == ']').unwrap_or(0);
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') => (p, t) = (p + 1, t + 1),
            Some(_) if bracket && close > 0 => (p, t) = (p + close + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, used)) => {
                    star = Some((at, used + 1));
                    (p, t) = (at + 1, used + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
