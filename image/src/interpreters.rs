//! Interpreters other than Python, and where their modules lie.
//!
//! What a program in Perl or Ruby loads cannot be found by reading it, so the
//! interpreter's package stays whole, and so do the directories that it loads modules
//! from: whatever lies there was named by the person or is a dependency of that.

/// An interpreter.
pub struct Interpreter {
    /// The program's name without its version.
    pub names: &'static [&'static str],
    /// Directories of modules, `*` within a name.
    pub modules: &'static [&'static str],
}

/// Those that we know.
const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["perl"],
        modules: &[
            "etc/perl",
            "usr/share/perl",
            "usr/share/perl5",
            "usr/local/share/perl",
            "usr/lib/*/perl",
            "usr/lib/*/perl5",
        ],
    },
    Interpreter {
        names: &["ruby"],
        modules: &[
            "usr/lib/ruby",
            "usr/lib/*/ruby",
            "usr/share/rubygems-integration",
            "usr/lib/*/rubygems-integration",
            "var/lib/gems",
        ],
    },
    Interpreter {
        names: &["node", "nodejs"],
        modules: &["usr/lib/nodejs", "usr/lib/*/nodejs", "usr/share/nodejs"],
    },
    Interpreter { names: &["php"], modules: &["etc/php", "usr/lib/php", "usr/share/php"] },
    Interpreter { names: &["lua", "luajit"], modules: &["usr/share/lua", "usr/lib/*/lua"] },
    Interpreter {
        names: &["tclsh", "wish"],
        modules: &["usr/share/tcltk", "usr/lib/tcltk", "usr/lib/*/tcltk"],
    },
    Interpreter { names: &["erl"], modules: &["usr/lib/erlang"] },
    Interpreter { names: &["guile"], modules: &["usr/share/guile", "usr/lib/*/guile"] },
    Interpreter { names: &["java"], modules: &["usr/share/java", "etc/java-*-openjdk"] },
    Interpreter { names: &["Rscript", "R"], modules: &["usr/lib/R", "usr/share/R", "etc/R"] },
];

/// Returns the interpreter that a program of this name is: `perl5.36.0` is `perl`.
pub fn by_name(name: &str) -> Option<&'static Interpreter> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&stem))
}

/// Whether a package is there to install others, and does nothing in an image.
pub fn is_installer(package: &str) -> bool {
    matches!(
        package,
        "adduser"
            | "cdebconf"
            | "debconf"
            | "debianutils"
            | "dpkg"
            | "init-system-helpers"
            | "lsb-base"
            | "ucf"
    )
}

/// Whether a file is one package's word to another program, which comes with words of its own.
pub fn serves_another(path: &[u8]) -> bool {
    const DIRS: [&[u8]; 8] = [
        b"etc/apt/",
        b"etc/cron.",
        b"etc/init.d/",
        b"etc/logrotate.d/",
        b"etc/systemd/",
        b"etc/bash_completion.d/",
        b"usr/lib/systemd/",
        b"usr/lib/tmpfiles.d/",
    ];
    DIRS.iter().any(|dir| path.starts_with(dir))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_no_part_of_a_name() {
        for (name, known) in
            [("perl5.36.0", true), ("ruby3.1", true), ("lua5.4", true), ("java", true), ("perlbug", false)]
        {
            assert_eq!(super::by_name(name).is_some(), known, "{name}");
        }
    }
}
