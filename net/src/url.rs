//! URLs: how they are shown, and what counts as the same place.

use reqwest::Url;

/// Parts of a query's keys that announce a secret value.
const SECRET_KEYS: [&str; 9] =
    ["token", "secret", "password", "passwd", "signature", "credential", "auth", "apikey", "api_key"];

/// Returns `url` as messages may show it: no user, no password, no fragment, and no
/// value of a query key that sounds like a secret (`token`, `X-Amz-Signature`, `sig` …).
pub fn shown(url: &Url) -> String {
    let mut clean = url.clone();
    // Both fail only for URLs that cannot have a user, such as `data:`.
    let _ = clean.set_username("");
    let _ = clean.set_password(None);
    clean.set_fragment(None);
    if let Some(query) = url.query() {
        let parts: Vec<String> = query.split('&').map(shown_pair).collect();
        clean.set_query(Some(&parts.join("&")));
    }
    clean.to_string()
}

/// Returns the text of a URL as messages may show it, also where it does not parse.
pub fn shown_text(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if !url.cannot_be_a_base() => shown(&url),
        _ => {
            let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            let rest = rest.split_once(['?', '#']).map_or(rest, |(rest, _)| rest);
            if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
        }
    }
}

fn shown_pair(pair: &str) -> String {
    let Some((key, _)) = pair.split_once('=') else { return pair.to_owned() };
    let lower = key.to_ascii_lowercase();
    let secret = matches!(&*lower, "sig" | "key" | "code") || SECRET_KEYS.iter().any(|k| lower.contains(k));
    if secret { format!("{key}=...") } else { pair.to_owned() }
}

/// Returns whether both have the same scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        assert_eq!(shown(&Url::parse(url).expect("a test's URL is valid")), expected);
    }

    #[test]
    fn secrets_do_not_show() {
        check("https://joe:pw@example.org/a", "https://example.org/a");
        check("https://ghp_abc@example.org/a#frag", "https://example.org/a");
        check("https://example.org/a?v=1&access_token=abc", "https://example.org/a?v=1&access_token=...");
        check("https://example.org/a?X-Amz-Signature=ff&x", "https://example.org/a?X-Amz-Signature=...&x");
        check("https://example.org/?sig=1&design=2", "https://example.org/?sig=...&design=2");
    }

    #[test]
    fn what_does_not_parse_keeps_its_secrets_too() {
        assert_eq!(shown_text("http://u:pw@[bad/x?token=a"), "http://[bad/x");
        assert_eq!(shown_text("u:pw@host"), "host");
    }

    #[test]
    fn the_port_is_part_of_the_origin() {
        let origin = |a, b| same_origin(&Url::parse(a).expect("valid"), &Url::parse(b).expect("valid"));
        assert!(origin("https://a/x", "https://a:443/y"));
        assert!(!origin("https://a/x", "https://a:444/x"));
        assert!(!origin("https://a/x", "http://a/x"));
        assert!(!origin("https://a/x", "https://b/x"));
    }
}
