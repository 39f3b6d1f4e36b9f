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
fn other_shells_can_read_their_scripts() {
    let shell = Shell::new();
    for (program, args) in [("zsh", vec!["-n"]), ("fish", vec!["--no-execute"])] {
        let script =
            shell.command("ampoule").args(["completions", program]).output().expect("it runs").stdout;
        assert!(String::from_utf8_lossy(&script).contains("AMPOULE_COMPLETE"));
        fs::write(shell.0.path().join(program), script).expect("a file");
        match shell.command(program).args(args).arg(program).status() {
            Ok(status) => assert!(status.success(), "{program} does not read its script"),
            Err(_) => println!("skipped: {program} is not installed"),
        }
    }
}
