//! What a program can know of the language and the store, and what is not part of the language.

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::error::{ErrorKind, EvalError};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "fetchGit",
        params: &["args"],
        doc: "Unlike in Nix, not part of the language, since the result would depend on more than the program: always an error that says what to use.",
        examples: &[("builtins.fetchGit \"x\"", Fails("'builtins.fetchGit' is not part of the language"))],
        run: |_, _| Err(unsupported("fetchGit", ARCHIVE)),
    },
    Builtin {
        name: "fetchMercurial",
        params: &["args"],
        doc: "Unlike in Nix, not part of the language, since the result would depend on more than the program: always an error that says what to use.",
        examples: &[(
            "builtins.fetchMercurial \"x\"",
            Fails("'builtins.fetchMercurial' is not part of the language"),
        )],
        run: |_, _| Err(unsupported("fetchMercurial", ARCHIVE)),
    },
    Builtin {
        name: "flakeRefToString",
        params: &["attrs"],
        doc: "Unlike in Nix, not part of the language, since the result would depend on more than the program: always an error that says what to use.",
        examples: &[(
            "builtins.flakeRefToString { }",
            Fails("'builtins.flakeRefToString' is not part of the language"),
        )],
        run: |_, _| Err(unsupported("flakeRefToString", FLAKE)),
    },
    Builtin {
        name: "getFlake",
        params: &["reference"],
        doc: "Unlike in Nix, not part of the language, since the result would depend on more than the program: always an error that says what to use.",
        examples: &[("builtins.getFlake \"x\"", Fails("'builtins.getFlake' is not part of the language"))],
        run: |_, _| Err(unsupported("getFlake", FLAKE)),
    },
    Builtin {
        name: "langVersion",
        params: &[],
        doc: "The version of the language.",
        examples: &[("builtins.langVersion", Shows("6"))],
        run: |ev, _| Ok(ev.int(6)),
    },
    Builtin {
        name: "nixVersion",
        params: &[],
        doc: "The version of Nix whose language this is, for programs that ask before they use something.",
        examples: &[("builtins.compareVersions builtins.nixVersion \"2.34\"", Shows("1"))],
        run: |ev, _| Ok(ev.string("2.34.8")),
    },
    Builtin {
        name: "parseFlakeRef",
        params: &["reference"],
        doc: "Unlike in Nix, not part of the language, since the result would depend on more than the program: always an error that says what to use.",
        examples: &[(
            "builtins.parseFlakeRef \"x\"",
            Fails("'builtins.parseFlakeRef' is not part of the language"),
        )],
        run: |_, _| Err(unsupported("parseFlakeRef", FLAKE)),
    },
    Builtin {
        name: "storeDir",
        params: &[],
        doc: "The logical store directory, which is a part of every store path.",
        examples: &[("builtins.storeDir", Shows("\"/nix/store\""))],
        run: |ev, _| {
            let dir = ev.world().store_dir().as_str().to_owned();
            Ok(ev.string(dir))
        },
    },
];

const ARCHIVE: &str = "use `builtins.fetchTarball { url = …; sha256 = …; }` with an archive of the commit";
const FLAKE: &str =
    "use `import (builtins.fetchTarball { url = …; sha256 = …; })`, or import files by their path";

#[cold]
fn unsupported(name: &str, hint: &str) -> EvalError {
    // Nix has these only with its flakes switched on, and says so.
    let why = if hint == FLAKE { "experimental Nix feature 'flakes' is disabled; " } else { "" };
    EvalError::new(ErrorKind::Unsupported, format!("{why}'builtins.{name}' is not part of the language"))
        .help(hint)
}
