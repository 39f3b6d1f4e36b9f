//! Completion as the shells ask for it.

use std::fs;
use std::path::Path;
use std::process::Command;

struct Shell(tempfile::TempDir);

impl Shell {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let set = "{ writeText }: { alpha = throw \"not computed\"; alps = { one = writeText \"a\" \"b\"; two = 2; }; beta = 3; }";
        fs::write(dir.path().join("default.img"), set).expect("a file");
        fs::write(dir.path().join("diverges.img"), "let f = n: f (n + 1); in f 0").expect("a file");
        fs::write(dir.path().join("notes.txt"), "").expect("a file");
        Self(dir)
    }

    fn command(&self, program: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_ampoule")).parent().expect("a folder");
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path());
        command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
        command
    }

    /// What bash is offered for the last word of a line.
    fn bash(&self, words: &[&str]) -> Vec<String> {
        let script = r#"
            source <(ampoule completions bash)
            function=$(complete -p ampoule | sed 's/.*-F \([^ ]*\).*/\1/')
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
            "$function" ampoule "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>errors
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let output =
            self.command("bash").args(["-c", script, "bash"]).args(words).output().expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let errors = fs::read_to_string(self.0.path().join("errors")).expect("it was made");
        assert!(errors.is_empty(), "{words:?} spoke: {errors}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

#[test]
fn bash_completes_attributes_files_and_names() {
    let shell = Shell::new();
    let check = |words: &[&str], expected: &[&str]| assert_eq!(shell.bash(words), expected, "{words:?}");
    check(&["ampoule", "instan"], &["instantiate"]);
    check(&["ampoule", "realise", "-A", "al"], &["alpha", "alps"]);
    check(&["ampoule", "realise", "-A", "alps."], &["alps.one", "alps.two"]);
    check(&["ampoule", "eval", "default.img", "-A", "alps.t"], &["alps.two"]);
    check(&["ampoule", "eval", "-E", "{ x = 1; }", "-A", ""], &["x"]);
    check(&["ampoule", "eval", "-A", "alpha."], &[]);
    check(&["ampoule", "realise", "di"], &["diverges.img"]);
    check(&["ampoule", "realise", "no"], &[]);
    check(&["ampoule", "doc", "lib.filterAttrsR"], &["lib.filterAttrsRecursive"]);
    check(&["ampoule", "init", "--template", "st"], &["static-c"]);
    check(&["ampoule", "config", "show", "build.j"], &["build.jobs"]);
    let lock = r#"{ "packages": [ { "name": "nginx" }, { "name": "openssl" } ] }"#;
    fs::write(shell.0.path().join("ampoule.lock"), lock).expect("a file");
    check(&["ampoule", "lock", "--update", "ng"], &["nginx"]);
}

/// A file that never ends is given up, and nothing is said.
#[test]
fn completion_gives_up() {
    let shell = Shell::new();
    assert_eq!(shell.bash(&["ampoule", "eval", "diverges.img", "-A", "a"]), [""; 0]);
}

#[test]
fn fish_completes_the_same() {
    let shell = Shell::new();
    let script = "ampoule completions fish | source; complete -C \"$argv[1]\"";
    for (line, expected) in [
        ("ampoule realise -A al", &["alpha", "alps"][..]),
        ("ampoule realise -A alps.", &["alps.one", "alps.two"]),
        ("ampoule realise di", &["diverges.img"]),
        ("ampoule instan", &["instantiate"]),
        ("ampoule doc lib.filterAttrsR", &["lib.filterAttrsRecursive"]),
    ] {
        let Ok(output) = shell.command("fish").args(["-c", script, line]).output() else {
            return println!("skipped: fish is not installed");
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(found, expected, "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// zsh completes at its prompt only: through a pseudo-terminal.
#[test]
fn zsh_completes_the_same() {
    let shell = Shell::new();
    if shell.command("zsh").arg("--version").output().is_err() {
        return println!("skipped: zsh is not installed");
    }
    let mut command = shell.command("zsh");
    command.args(["-f", "-i"]).env("TERM", "dumb");
    let options = rexpect::reader::Options::new().timeout_ms(Some(20_000));
    let mut zsh = rexpect::session::spawn_with_options(command, options).expect("a pseudo-terminal");
    // ^X prints the line as zsh has it, and drops it. The mark is put together by the shell, so that the echo of what is typed
    // is not taken for it.
    for line in [
        "show() { print -r -- \"<$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^X' show; autoload -U compinit; compinit -u -D",
        "source <(ampoule completions zsh); echo rea''dy",
    ] {
        zsh.send_line(line).expect("it is typed");
    }
    zsh.exp_string("ready").expect("zsh reads its script");
    for (typed, expected) in [
        ("ampoule instan\t", "<ampoule instantiate >"),
        ("ampoule realise -A alph\t", "<ampoule realise -A alpha >"),
        ("ampoule realise -A alps.t\t", "<ampoule realise -A alps.two >"),
        ("ampoule realise di\t", "<ampoule realise diverges.img >"),
    ] {
        zsh.send(typed).and_then(|_| zsh.send_control('x')).expect("it is typed");
        zsh.exp_string(expected).unwrap_or_else(|e| panic!("{typed:?}: {e}"));
    }
}
