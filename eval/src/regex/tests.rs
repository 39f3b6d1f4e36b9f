use super::{Groups, Regex};

/// Shows the groups as the language would: `_` for one that took no part.
fn show_groups(text: &str, groups: &Groups) -> String {
    let shown: Vec<String> = groups
        .iter()
        .map(|group| group.clone().map_or("_".into(), |range| format!("'{}'", &text[range])))
        .collect();
    format!("[{}]", shown.join(" "))
}

fn check_match(pattern: &str, text: &str, expected: &str) {
    let regex = match Regex::new(pattern.as_bytes()) {
        Ok(regex) => regex,
        Err(error) => return assert_eq!(format!("{error:?}"), expected, "{pattern}"),
    };
    let found = regex.match_whole(text.as_bytes());
    let shown = found.map_or("no".into(), |groups| show_groups(text, &groups));
    assert_eq!(shown, expected, "match {pattern:?} {text:?}");
}

fn check_split(pattern: &str, text: &str, expected: &str) {
    let regex = Regex::new(pattern.as_bytes()).expect(pattern);
    let mut shown = String::new();
    let mut from = 0;
    for found in regex.split(text.as_bytes()) {
        shown += &format!("'{}' {} ", &text[from..found.range.start], show_groups(text, &found.groups));
        from = found.range.end;
    }
    shown += &format!("'{}'", &text[from..]);
    assert_eq!(shown, expected, "split {pattern:?} {text:?}");
}

#[test]
fn whole_text_must_match() {
    check_match("ab", "abc", "no");
    check_match("a(b)(c)?", "ab", "['b' _]");
    check_match(".*", "a\nb", "[]");
    check_match("", "", "[]");
    check_match("()", "", "['']");
    check_match("a||b", "", "[]");
    check_match("[[:space:]]*([^[:space:]]+)", " \t\u{b}x", "['x']");
}

#[test]
fn malformed_patterns_are_refused() {
    for pattern in [
        "*a",
        "(a",
        "a)",
        "[a",
        "a{2",
        "a{3,2}",
        "a{,3}",
        r"\d",
        r"\]",
        r"\1",
        "[z-a]",
        "[[:foo:]]",
        "a|*b",
        "^*",
        "[[:alpha:]-z]",
        "[a-z--0]",
        "[a-[.c.]]",
        "\\",
        "(*a)",
        "a{x}",
    ] {
        check_match(pattern, "", "Invalid");
    }
    check_match("a{1001}{1000}", "", "TooLarge");
}

#[test]
fn brackets() {
    check_match("[]]", "]", "[]");
    check_match("[^]]", "]", "no");
    check_match("[a-]", "-", "[]");
    check_match("[-a]", "-", "[]");
    check_match(r"[\n]", "\\", "[]");
    check_match("[[=a=]]", "A", "[]");
    check_match("[[.hyphen.]]", "-", "[]");
    check_match("[a[b]", "[", "[]");
}

#[test]
fn groups_keep_what_they_matched_last() {
    check_match("((a)|b)*", "ab", "['b' 'a']");
    check_match("(a*)*", "aa", "['']");
    check_match("(a|ab)(c|bcd)(d*)", "abcd", "['a' 'bcd' '']");
    check_match("(a){0}", "", "[_]");
}

#[test]
fn split_finds_the_longest_alternative() {
    check_split("a|ab", "xabc", "'x' [] 'c'");
    check_split("(a|ab)(c|bcd)?", "abcd", "'' ['a' 'bcd'] ''");
    check_split("a*(ab)?", "aab", "'' [_] '' [_] 'b' [_] ''");
}

#[test]
fn split_goes_on_after_an_empty_match() {
    check_split("", "abc", "'' [] 'a' [] 'b' [] 'c' [] ''");
    check_split("x*", "axb", "'' [] 'a' [] '' [] 'b' [] ''");
    check_split("$", "axb", "'axb' [] ''");
    check_split("^", "axb", "'' [] 'axb'");
    check_split("(|a)", "ab", "'' ['a'] '' [''] 'b' [''] ''");
}

#[test]
fn hostile_patterns_end() {
    let text = "a".repeat(3000);
    check_match("(a*)*b", &text, "no");
    check_match("(a|aa)*b", &text, "no");
    check_match("((a*)*)*", "aaaa", "['' '']");
    assert_eq!(Regex::new(b"(a|aa)*").unwrap().split(text.as_bytes()).count(), 2);
}
