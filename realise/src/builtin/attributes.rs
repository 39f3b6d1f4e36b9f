//! A derivation's attributes, however they were written.
//!
//! With `__structuredAttrs` they are JSON and keep their types. Without, each is a
//! string: a list is its elements with spaces between, true is `1`, false is empty.
//! Builders read both by the same questions.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Attributes by name.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    values: BTreeMap<String, Value>,
    is_structured: bool,
}

/// An attribute that a builder cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeError {
    name: String,
    reason: String,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute `{}`: {}", self.name, self.reason)
    }
}

impl std::error::Error for AttributeError {}

impl Attributes {
    /// Reads a derivation's environment; the variable `__json`, where it is there,
    /// holds them all.
    ///
    /// # Errors
    /// [`AttributeError`] if `__json` is not a JSON object.
    pub fn from_environment<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, AttributeError> {
        let mut attrs = BTreeMap::new();
        for (name, value) in environment {
            let name = String::from_utf8_lossy(name.as_ref()).into_owned();
            if name == "__json" {
                return Self::from_json(value.as_ref());
            }
            attrs.insert(name, Value::String(String::from_utf8_lossy(value.as_ref()).into_owned()));
        }
        Ok(Self { values: attrs, is_structured: false })
    }

    /// Reads structured attributes.
    ///
    /// # Errors
    /// [`AttributeError`] if it is not a JSON object.
    pub fn from_json(text: &[u8]) -> Result<Self, AttributeError> {
        let parsed = serde_json::from_slice::<BTreeMap<String, Value>>(text);
        parsed.map(|values| Self { values, is_structured: true }).map_err(|error| AttributeError {
            name: "__json".to_owned(),
            reason: format!("not a JSON object: {error}"),
        })
    }

    /// Whether they were written with their types (`__structuredAttrs`).
    #[must_use]
    pub fn is_structured(&self) -> bool {
        self.is_structured
    }

    /// Returns the attribute as it is, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Makes an error about the attribute `name`.
    pub fn error(name: &str, reason: impl Into<String>) -> AttributeError {
        AttributeError { name: name.to_owned(), reason: reason.into() }
    }

    /// Returns a text that is not empty.
    ///
    /// # Errors
    /// [`AttributeError`] for other types.
    pub fn text(&self, name: &str) -> Result<Option<&str>, AttributeError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(Self::error(name, format!("expected a string, found {}", kind(other)))),
        }
    }

    /// Returns a text that must be there.
    ///
    /// # Errors
    /// [`AttributeError`] when it is absent, empty, or of another type.
    pub fn required(&self, name: &str) -> Result<&str, AttributeError> {
        self.text(name)?.ok_or_else(|| Self::error(name, "is missing"))
    }

    /// Returns a yes or no; `default` when it is absent.
    ///
    /// # Errors
    /// [`AttributeError`] for anything that is neither.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, AttributeError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) => match text.as_str() {
                "1" | "true" => Ok(true),
                "" | "0" | "false" => Ok(false),
                other => Err(Self::error(name, format!("expected true or false, found `{other}`"))),
            },
            Some(other) => Err(Self::error(name, format!("expected true or false, found {}", kind(other)))),
        }
    }

    /// Returns a number.
    ///
    /// # Errors
    /// [`AttributeError`] for anything that is not a number of zero or more.
    pub fn number(&self, name: &str) -> Result<Option<u64>, AttributeError> {
        let bad = |found: String| Self::error(name, format!("expected a number, found {found}"));
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(n)) => n.as_u64().map(Some).ok_or_else(|| bad(n.to_string())),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad(format!("`{text}`"))),
            Some(other) => Err(bad(kind(other).to_owned())),
        }
    }

    /// Returns a list of texts; empty when it is absent.
    ///
    /// # Errors
    /// [`AttributeError`] for other types.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, AttributeError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    other => Err(Self::error(name, format!("expected strings, found {}", kind(other)))),
                })
                .collect(),
            Some(other) => {
                Err(Self::error(name, format!("expected a list of strings, found {}", kind(other))))
            }
        }
    }

    /// Returns a list of any values; a string gives its words.
    ///
    /// # Errors
    /// [`AttributeError`] for other types.
    pub fn list(&self, name: &str) -> Result<Vec<Value>, AttributeError> {
        match self.get(name) {
            Some(Value::Array(items)) => Ok(items.clone()),
            _ => Ok(self.texts(name)?.into_iter().map(Value::String).collect()),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a set",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_answer_alike() {
        let plain = [("url", "u"), ("list", "a b"), ("yes", "1"), ("no", ""), ("n", "7")];
        let json = br#"{"url":"u","list":["a","b"],"yes":true,"no":false,"n":7,"nothing":null}"#;
        let both = [
            Attributes::from_environment(plain).expect("plain attributes"),
            Attributes::from_environment([(&b"__json"[..], &json[..])]).expect("structured attributes"),
        ];
        for attrs in both {
            assert_eq!(attrs.required("url"), Ok("u"));
            assert_eq!(attrs.texts("list"), Ok(vec!["a".to_owned(), "b".to_owned()]));
            assert_eq!(
                (attrs.flag("yes", false), attrs.flag("no", true), attrs.flag("x", true)),
                (Ok(true), Ok(false), Ok(true))
            );
            assert_eq!((attrs.number("n"), attrs.number("x")), (Ok(Some(7)), Ok(None)));
            assert_eq!(attrs.text("nothing"), Ok(None));
        }
    }

    #[test]
    fn wrong_types_are_named() {
        let attrs = Attributes::from_json(br#"{"url":["a"],"n":-1,"b":"maybe"}"#).expect("an object");
        assert_eq!(
            attrs.text("url").expect_err("a list").to_string(),
            "attribute `url`: expected a string, found a list"
        );
        assert_eq!(attrs.required("no").expect_err("absent").to_string(), "attribute `no`: is missing");
        assert!(attrs.number("n").is_err() && attrs.flag("b", true).is_err());
        assert!(Attributes::from_json(b"[]").is_err());
    }
}
