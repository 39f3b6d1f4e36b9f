//! Strings, versions and regular expressions.

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::coerce::Coercion;
use crate::context::ContextId;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Value, Values};
use crate::regex::{Groups, RegexError};
use crate::{strings, versions};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "baseNameOf",
        params: &["path"],
        doc: "Returns what stands after the last slash of a path or string; one slash at the end does not count. A \
              string keeps its context. O(n).",
        examples: &[
            ("map baseNameOf [ /a/b \"/a/b/\" \"a\" \"a//\" ]", Shows("[ \"b\" \"b\" \"a\" \"\" ]")),
            ("baseNameOf 1", Fails("cannot coerce an integer to a string: 1")),
        ],
        run: base_name_of,
    },
    Builtin {
        name: "compareVersions",
        params: &["a", "b"],
        doc: "Returns -1, 0 or 1 as version `a` is older than, the same as, or newer than `b`, compared part by part \
              (see `splitVersion`): `pre` is older than nothing, nothing than letters, letters than numbers. O(n).",
        examples: &[(
            "map (builtins.compareVersions \"2.3\") [ \"2.10\" \"2.3\" \"2.3pre1\" ]",
            Shows("[ -1 0 1 ]"),
        )],
        run: compare_versions,
    },
    Builtin {
        name: "concatStringsSep",
        params: &["separator", "list"],
        doc: "Returns the strings of the list with the separator between them. Paths are copied to the store; numbers \
              are an error. O(n).",
        examples: &[
            ("builtins.concatStringsSep \", \" [ \"a\" \"b\" ]", Shows("\"a, b\"")),
            ("builtins.concatStringsSep \",\" [ 1 ]", Fails("cannot coerce an integer to a string: 1")),
        ],
        run: concat_strings_sep,
    },
    Builtin {
        name: "dirOf",
        params: &["path"],
        doc: "Returns what stands before the last slash: of a path a path, of a string a string, `.` if it has no \
              slash. O(n).",
        examples: &[("map dirOf [ /a/b \"/a/b\" \"/a\" \"a\" ]", Shows("[ /a \"/a\" \"/\" \".\" ]"))],
        run: dir_of,
    },
    Builtin {
        name: "match",
        params: &["regex", "string"],
        doc: "Returns the list of what the groups of a regular expression matched, null for a group that took no part, \
              if the whole string matches; else null. The expressions are POSIX extended ones, on bytes. Linear in the \
              string. Compiled expressions are kept.",
        examples: &[
            ("builtins.match \"([a-z]+)-([0-9.]+)(-rc)?\" \"foo-1.2\"", Shows("[ \"foo\" \"1.2\" null ]")),
            ("builtins.match \"b\" \"abc\"", Shows("null")),
            ("builtins.match \"[[:digit:]]+\" \"42\"", Shows("[ ]")),
            ("builtins.match \"*\" \"\"", Fails("invalid regular expression '*'")),
        ],
        run: match_whole,
    },
    Builtin {
        name: "parseDrvName",
        params: &["string"],
        doc: "Splits a package's name at the first dash that no letter follows into `name` and `version`. O(n).",
        examples: &[
            (
                "builtins.parseDrvName \"foo-bar-1.2-x\"",
                Shows("{ name = \"foo-bar\"; version = \"1.2-x\"; }"),
            ),
            ("builtins.parseDrvName \"foo\"", Shows("{ name = \"foo\"; version = \"\"; }")),
        ],
        run: parse_drv_name,
    },
    Builtin {
        name: "replaceStrings",
        params: &["from", "to", "string"],
        doc: "Replaces each occurrence of a string of `from` by the one at its place in `to`. From left to right, at \
              each place the first of `from` that fits; what was put in is not looked at again. An empty string fits \
              before each byte and at the end. Strings of `to` are forced only where they are used, and give their \
              context. Linear in the string.",
        examples: &[
            ("builtins.replaceStrings [ \"oo\" \"a\" ] [ \"a\" \"oo\" ] \"foobar\"", Shows("\"faboor\"")),
            ("builtins.replaceStrings [ \"\" ] [ \"-\" ] \"ab\"", Shows("\"-a-b-\"")),
            ("builtins.replaceStrings [ \"x\" ] [ (throw \"no\") ] \"ab\"", Shows("\"ab\"")),
            (
                "builtins.replaceStrings [ \"a\" ] [ ] \"a\"",
                Fails("'from' and 'to' arguments passed to builtins.replaceStrings have different lengths"),
            ),
        ],
        run: replace_strings,
    },
    Builtin {
        name: "split",
        params: &["regex", "string"],
        doc: "Cuts a string where a regular expression matches: the texts between, and, between each two, the list of \
              what the groups matched. An expression that matches nothing matches between all bytes. Of several \
              matches at a place the longest alternative counts.",
        examples: &[
            ("builtins.split \"(-)|[.]\" \"a-b.c\"", Shows("[ \"a\" [ \"-\" ] \"b\" [ null ] \"c\" ]")),
            ("builtins.split \"\" \"ab\"", Shows("[ \"\" [ ] \"a\" [ ] \"b\" [ ] \"\" ]")),
            ("builtins.split \"x\" \"ab\"", Shows("[ \"ab\" ]")),
        ],
        run: split,
    },
    Builtin {
        name: "splitVersion",
        params: &["version"],
        doc: "Returns the parts of a version: runs of digits, and runs of what is neither digit, dot nor dash. O(n).",
        examples: &[("builtins.splitVersion \"1.2-rc3_a\"", Shows("[ \"1\" \"2\" \"rc\" \"3\" \"_a\" ]"))],
        run: split_version,
    },
    Builtin {
        name: "stringLength",
        params: &["string"],
        doc: "Returns the number of bytes. O(1).",
        examples: &[("builtins.stringLength \"aé\"", Shows("3"))],
        run: string_length,
    },
    Builtin {
        name: "substring",
        params: &["start", "length", "string"],
        doc: "Returns at most `length` bytes from `start` on, counted from 0; all the rest if `length` is negative. \
              The context stays whole. Long strings share their bytes: O(1).",
        examples: &[
            ("builtins.substring 1 2 \"abcd\"", Shows("\"bc\"")),
            ("builtins.substring 1 (-1) \"abcd\"", Shows("\"bcd\"")),
            ("builtins.substring 9 1 \"abcd\"", Shows("\"\"")),
            ("builtins.substring (-1) 1 \"abcd\"", Fails("negative start position in 'substring'")),
        ],
        run: substring,
    },
    Builtin {
        name: "toString",
        params: &["x"],
        doc: "Returns a value as a string: numbers, Booleans (`1` and nothing), null (nothing), paths as they are, lists \
              with spaces between, sets by `__toString` or `outPath`. O(n).",
        examples: &[
            ("toString [ 1 1.5 true false null /a [ \"b\" ] ]", Shows("\"1 1.500000 1   /a b\"")),
            ("toString { __toString = self: self.x; x = \"y\"; }", Shows("\"y\"")),
            ("toString { }", Fails("cannot coerce a set to a string: { }")),
        ],
        run: |ev, args| args.coerced(ev, 0, Coercion::TO_STRING),
    },
];

fn base_name_of(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = args.coerced(ev, 0, Coercion::PLAIN)?;
    let text = value.as_str().expect("coerced");
    let range = strings::base_name(text.as_bytes());
    Ok(ev.heap().substring(value, range.start, range.end, text.context()))
}

fn dir_of(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    if let Some(path) = value.as_path() {
        let len = strings::dir_len(path.as_bytes()).expect("paths are absolute");
        return Ok(ev.path(&path.as_bytes()[..len]));
    }
    let value = args.coerced(ev, 0, Coercion::PLAIN)?;
    let text = value.as_str().expect("coerced");
    match strings::dir_len(text.as_bytes()) {
        Some(len) => Ok(ev.heap().substring(value, 0, len, text.context())),
        None => Ok(ev.string_with(".", text.context())),
    }
}

fn compare_versions(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let a = args.string_no_context(ev, 0)?;
    let b = args.string_no_context(ev, 1)?;
    Ok(ev.int(versions::compare(a.as_bytes(), b.as_bytes()) as i64))
}

fn split_version(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let version = args.string_no_context(ev, 0)?;
    let mut parts = Values::new();
    for range in versions::components(version.as_bytes()) {
        let part = ev.string(&version.as_bytes()[range]);
        parts.push(ev.heap(), part);
    }
    Ok(parts.into_list(ev.heap()))
}

fn parse_drv_name(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.string_no_context(ev, 0)?;
    let (len, version) = versions::split_name(name.as_bytes());
    let version = ev.string(&name.as_bytes()[version..]);
    let name = ev.string(&name.as_bytes()[..len]);
    Ok(ev.heap().attrs_from(&[(sym::NAME, name), (Symbol::intern("version"), version)]))
}

const ELEMENT_TO_CONCAT: &str =
    "while evaluating one element of the list of strings to concat passed to builtins.concatStringsSep";

fn concat_strings_sep(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let separator = args.string(ev, 0)?;
    let list = args.list(ev, 1)?;
    let mut context = separator.context();
    let mut total = separator.len() * list.len().saturating_sub(1);
    // First all strings, then one copy: nothing is written twice.
    let mut texts = Values::with_capacity(ev.heap(), list.len());
    for index in 0..list.len() {
        let element = ev.force_element(list, index)?;
        let text = ev.coerce_to_string(element, Coercion::INTERPOLATION);
        let text = text.map_err(|error| error.wanted_for(ELEMENT_TO_CONCAT, Place::NONE))?;
        let view = text.as_str().expect("coerced");
        total += view.len();
        context = ev.contexts().union(context, view.context());
        texts.push(ev.heap(), text);
    }
    crate::ops::check_string_length(total)?;
    Ok(ev.heap().string_with(total, context, |bytes| {
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        for index in 0..texts.len() {
            if index > 0 {
                put(separator.as_bytes());
            }
            put(texts.get(index).as_str().expect("coerced").as_bytes());
        }
    }))
}

fn string_length(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (text, _) = args.text(ev, 0)?;
    let len = text.as_str().expect("coerced").len();
    Ok(ev.int(len as i64))
}

fn substring(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let start = args.int(ev, 0)?;
    let Ok(start) = u64::try_from(start) else {
        return Err(EvalError::new(ErrorKind::IndexOutOfBounds, "negative start position in 'substring'"));
    };
    let len = args.int(ev, 1)?;
    let (text, context) = args.text(ev, 2)?;
    let range = strings::substring(text.as_str().expect("coerced").len(), start, len);
    Ok(ev.heap().substring(text, range.start, range.end, context))
}

fn replace_strings(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let from = args.list(ev, 0)?;
    let to = args.list(ev, 1)?;
    if from.len() != to.len() {
        return Err(EvalError::invalid(
            "'from' and 'to' arguments passed to builtins.replaceStrings have different lengths",
        ));
    }
    for index in 0..from.len() {
        let words = "while evaluating one of the strings to replace passed to builtins.replaceStrings";
        ev.force_element(from, index).and_then(|pattern| ev.force_string(pattern)).part(words)?;
    }
    let text = args.string(ev, 2)?;
    let value = ev.force(args.at(2))?;
    let views: Vec<_> = from.iter().map(|pattern| pattern.as_str().expect("forced")).collect();
    let patterns: Vec<&[u8]> = views.iter().map(crate::heap::Str::as_bytes).collect();
    let mut context = text.context();
    let (mut out, mut is_changed) = (Vec::new(), false);
    strings::replace_pieces(text.as_bytes(), &patterns, |piece| {
        match piece {
            // A text in which nothing is found stays what it is.
            strings::Piece::Text(range) if range.len() == text.len() && !is_changed => {}
            strings::Piece::Text(range) => out.extend_from_slice(&text.as_bytes()[range]),
            strings::Piece::With(index) => {
                if !is_changed {
                    out.reserve(text.len());
                }
                is_changed = true;
                let words =
                    "while evaluating one of the replacement strings passed to builtins.replaceStrings";
                let with = ev.force_element(to, index).and_then(|with| ev.force_string(with)).part(words)?;
                context = ev.contexts().union(context, with.context());
                out.extend_from_slice(with.as_bytes());
            }
        }
        Ok::<(), EvalError>(())
    })?;
    if !is_changed {
        return Ok(value);
    }
    crate::ops::check_string_length(out.len())?;
    Ok(ev.string_with(out, context))
}

fn compiled(ev: &mut Evaluator, args: &Args) -> EvalResult<std::sync::Arc<crate::regex::Regex>> {
    let pattern = args.string_no_context(ev, 0)?;
    ev.tools.regexes.get(pattern.as_bytes()).map_err(|error| {
        let what = match error {
            RegexError::Invalid => "invalid regular expression",
            RegexError::TooLarge => "memory limit exceeded by regular expression",
        };
        EvalError::invalid(format!("{what} '{}'", pattern.to_text()))
    })
}

fn match_whole(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let regex = compiled(ev, args)?;
    let text = args.string(ev, 1)?;
    let value = ev.force(args.at(1))?;
    match regex.match_whole(text.as_bytes()) {
        Some(groups) => Ok(group_list(ev, value, &groups)),
        None => Ok(Value::NULL),
    }
}

fn group_list(ev: &mut Evaluator, text: Value, groups: &Groups) -> Value {
    let list = ev.heap().list(groups.len());
    let slots = list.as_list().expect("a list");
    for (index, group) in groups.iter().enumerate() {
        let value = match group {
            Some(range) => ev.heap().substring(text, range.start, range.end, ContextId::EMPTY),
            None => Value::NULL,
        };
        slots.settle(index, value);
    }
    list
}

fn split(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let regex = compiled(ev, args)?;
    let text = args.string(ev, 1)?;
    let value = ev.force(args.at(1))?;
    let mut pieces = Values::new();
    let mut from = 0;
    for found in regex.split(text.as_bytes()) {
        let before = ev.heap().substring(value, from, found.range.start, ContextId::EMPTY);
        pieces.push(ev.heap(), before);
        let groups = group_list(ev, value, &found.groups);
        pieces.push(ev.heap(), groups);
        from = found.range.end;
    }
    if pieces.is_empty() {
        return Ok(ev.heap().list_from(&[value]));
    }
    let rest = ev.heap().substring(value, from, text.len(), ContextId::EMPTY);
    pieces.push(ev.heap(), rest);
    Ok(pieces.into_list(ev.heap()))
}
