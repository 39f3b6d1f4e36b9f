//! What a registry asks for before it answers.

/// A `WWW-Authenticate` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token from another server.
    Bearer {
        /// Where tokens are had.
        realm: String,
        /// Which service they are for.
        service: Option<String>,
        /// What they allow.
        scope: Option<String>,
        /// Why an earlier token was not enough.
        error: Option<String>,
    },
}

impl Challenge {
    /// Reads a header line; `None` for schemes that we do not know.
    pub fn parse(line: &str) -> Option<Self> {
        let (scheme, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut fields = parameters(rest);
        let mut take = |name: &str| {
            let at = fields.iter().position(|(n, _)| n.eq_ignore_ascii_case(name))?;
            Some(fields.swap_remove(at).1)
        };
        Some(Self::Bearer {
            realm: take("realm")?,
            service: take("service"),
            scope: take("scope"),
            error: take("error"),
        })
    }
}

/// Reads `name="value, with comma", other=token`.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
            Some(quoted) => {
                let mut value = String::new();
                let mut signs = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((i, sign)) = signs.next() {
                    match sign {
                        '"' => {
                            end = i + 1;
                            break;
                        }
                        '\\' => value.extend(signs.next().map(|(_, escaped)| escaped)),
                        sign => value.push(sign),
                    }
                }
                (value, &quoted[end..])
            }
        };
        out.push((name.trim().to_owned(), value));
        rest = after.trim_start_matches([' ', ',']);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let line = r#"Bearer realm="https://auth.example/token",service="r \"x\"",scope="repository:a/b:pull,push",error=insufficient_scope"#;
        assert_eq!(
            Challenge::parse(line),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r \"x\"".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
                error: Some("insufficient_scope".to_owned()),
            })
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
    }
}
