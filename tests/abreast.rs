//! Several files, expressions or attributes evaluated at once print what one thread prints: values, messages, and
//! the error of the first that fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `ampoule` with this many threads in `dir`, which is its home as well.
fn run(dir: &Path, jobs: &str, words: &[&str], files: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
    command.args(words).args(["--eval-jobs", jobs]).args(files);
    command.current_dir(dir).env("HOME", dir).env("XDG_CONFIG_HOME", dir).env("XDG_DATA_HOME", dir);
    command.output().expect("the program was built")
}

/// What entry `index` of some does besides giving its value.
#[derive(Clone, Copy, PartialEq)]
enum Extra {
    Nothing,
    Traces,
    TracesWhatIsShared,
    Fails,
}

/// Writes files that take long and short in turn and share an import.
fn write_files(dir: &Path, count: usize, extra: impl Fn(usize) -> Extra) -> Vec<String> {
    let shared = "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in\n\
                  { inherit fib; big = fib 16; loud = builtins.trace \"shared\" 1; }\n";
    fs::write(dir.join("shared.img"), shared).expect("a temporary file can be written");
    let name = |index: usize| {
        let depth = if index.is_multiple_of(3) { 18 } else { 4 };
        let value = match extra(index) {
            Extra::Nothing => "big".to_owned(),
            Extra::Traces => format!("builtins.trace \"entry {index}\" big"),
            Extra::TracesWhatIsShared => "loud".to_owned(),
            Extra::Fails => format!("throw \"entry {index} failed\""),
        };
        let text = format!(
            "let inherit (import ./shared.img) fib big loud; in\n\
             {{ n = fib {depth}; inner = {{ x = {value}; y = {index}; }}; }}\n"
        );
        let name = format!("e{index}.img");
        fs::write(dir.join(&name), text).expect("a temporary file can be written");
        name
    };
    (0..count).map(name).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that any number of threads prints what one prints, and returns that.
fn check(dir: &Path, words: &[&str], files: &[String]) -> (String, String, Option<i32>) {
    let seen = |output: &Output| (text(&output.stdout), text(&output.stderr), output.status.code());
    let one = seen(&run(dir, "1", words, files));
    for jobs in ["2", "4", "9"] {
        for _ in 0..2 {
            assert_eq!(seen(&run(dir, jobs, words, files)), one, "{jobs} threads, {words:?}");
        }
    }
    one
}

const WAYS: [&[&str]; 4] = [
    &["eval", "--strict"],
    &["eval", "--json"],
    &["eval", "--strict", "--xml"],
    &["eval", "--strict", "-A", "inner.y", "-A", "inner.x", "-A", "n"],
];

#[test]
fn many_threads_print_what_one_prints() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    let files = write_files(dir.path(), 14, |_| Extra::Nothing);
    for words in WAYS.into_iter().chain([&["eval"][..], &["eval", "-A", "inner"]]) {
        let (out, err, status) = check(dir.path(), words, &files);
        assert_eq!((status, err.as_str()), (Some(0), ""));
        assert!(out.contains("13") || out.contains("<CODE>"), "{out}");
    }
}

#[test]
fn messages_come_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    for loud in [&[0][..], &[3, 4, 11], &[13]] {
        let extra = |index| if loud.contains(&index) { Extra::Traces } else { Extra::Nothing };
        let files = write_files(dir.path(), 14, extra);
        for words in WAYS {
            let (_, err, status) = check(dir.path(), words, &files);
            let line = |index: &usize| match words.contains(&"--json") {
                true => format!(r#"{{"trace":"entry {index}"}}"#),
                false => format!("trace: entry {index}"),
            };
            let expected: Vec<String> = loud.iter().map(line).collect();
            assert_eq!((status, err.trim_end()), (Some(0), expected.join("\n").as_str()));
        }
    }
    let files = write_files(dir.path(), 14, |index| match index {
        5.. => Extra::TracesWhatIsShared,
        _ => Extra::Nothing,
    });
    let (_, err, _) = check(dir.path(), WAYS[0], &files);
    assert_eq!(err.trim_end(), "trace: shared", "what is shared is evaluated once");
}

#[test]
fn the_first_entry_that_fails_is_told_of() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    for failing in [&[0][..], &[5, 6, 9], &[13]] {
        let extra = |index| if failing.contains(&index) { Extra::Fails } else { Extra::Nothing };
        let files = write_files(dir.path(), 14, extra);
        for words in WAYS {
            let (out, err, status) = check(dir.path(), words, &files);
            assert_eq!(status, Some(1), "{out}{err}");
            let told = |index: &usize| err.contains(&format!("entry {index} failed"));
            assert!(told(&failing[0]) && !failing[1..].iter().any(told), "{err}");
        }
    }
}

#[test]
fn a_large_set_is_shared_out() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    let set = |last: &str| {
        format!(
            "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in builtins.listToAttrs\n\
             (builtins.genList (i: {{ name = \"a${{toString i}}\"; value = fib (i - (i / 17) * 17); }}) 300)\n\
             // {{ zlast = {last}; }}\n"
        )
    };
    let programs = [
        (set("1"), Some(0)),
        (set("throw \"late\""), Some(1)),
        (set("builtins.trace \"late\" 2"), Some(0)),
        ("{ }: { a = 1; }\n".to_owned(), Some(0)),
        ("{ }\n".to_owned(), Some(0)),
        ("[ 1 { a = 2; } ]\n".to_owned(), Some(0)),
        ("{ __toString = _: \"text\"; }\n".to_owned(), Some(0)),
        ("{ outPath = \"text\"; a = throw \"not looked at\"; }\n".to_owned(), Some(0)),
        ("throw \"at once\"\n".to_owned(), Some(1)),
    ];
    for (program, status) in programs {
        fs::write(dir.path().join("set.img"), &program).expect("a temporary file can be written");
        let (out, err, got) = check(dir.path(), &["eval", "--json"], &["set.img".to_owned()]);
        assert_eq!(got, status, "{program}{out}{err}");
        assert_eq!(out.is_empty(), status == Some(1), "nothing is printed of a value that fails: {out}");
    }
}

#[test]
fn derivations_are_the_same() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    let package = "n: derivation { name = \"p${toString n}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; \
                   dep = if n > 0 then import ./package.img (n - 1) else \"\"; }\n";
    fs::write(dir.path().join("package.img"), package).expect("a temporary file can be written");
    let all = "{ a = import ./package.img 3; b = import ./package.img 9; c = import ./package.img 5; }\n";
    fs::write(dir.path().join("all.img"), all).expect("a temporary file can be written");
    let words = ["instantiate", "-A", "b", "-A", "a", "-A", "c"];
    let (out, _, status) = check(dir.path(), &words, &["all.img".to_owned()]);
    assert_eq!((out.lines().count(), status), (3, Some(0)), "{out}");
    assert!(out.lines().zip(["p9", "p3", "p5"]).all(|(line, name)| line.contains(name)), "{out}");
    let (again, _, _) = check(dir.path(), &words, &["all.img".to_owned(), "all.img".to_owned()]);
    assert_eq!(again, format!("{out}{out}"));
}

/// Several files with the same attributes, whose packages share one of several outputs.
#[test]
fn instantiated_and_realised_files_are_the_same() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    let package = "{ name, deps ? [ ], outputs ? [ \"out\" ] }: derivation {\n\
                   inherit name deps outputs; system = builtins.currentSystem; builder = \"/bin/sh\"; }\n";
    fs::write(dir.path().join("package.img"), package).expect("a temporary file can be written");
    let mut files = Vec::new();
    for index in 0..6 {
        let broken = if index == 4 { "throw \"file 4 has none\"" } else { "make { name = \"broken\"; }" };
        let text = format!(
            "let make = import ./package.img; shared = make {{ name = \"shared\"; outputs = [ \"out\" \"dev\" ]; }}; in {{\n\
             a = make {{ name = \"a{index}\"; deps = [ shared shared.dev ]; }};\n\
             b = {{ inherit shared; own = make {{ name = \"b{index}\"; deps = [ \"${{shared}}\" ]; }}; }};\n\
             broken = {broken};\n}}\n"
        );
        files.push(format!("e{index}.img"));
        fs::write(dir.path().join(&files[index]), text).expect("a temporary file can be written");
    }
    let store = dir.path().join("store");
    let command = |words: &[&'static str]| {
        let store: &'static str = String::leak(store.display().to_string());
        [&["--store", store], words].concat()
    };
    // What the first run writes, the others find.
    run(dir.path(), "1", &command(&["instantiate"]), &files[..4]);
    let (out, err, status) = check(dir.path(), &command(&["instantiate", "-A", "b", "-A", "a"]), &files);
    assert_eq!((out.lines().count(), status), (18, Some(0)), "{out}{err}");
    let (_, err, status) = check(dir.path(), &command(&["instantiate", "-A", "a", "-A", "broken"]), &files);
    assert!(status == Some(1) && err.contains("file 4 has none"), "{err}");

    let dry = command(&["realise", "--dry-run", "-A", "a", "-A", "b"]);
    let (out, err, status) = check(dir.path(), &dry, &files);
    assert!(status == Some(0) && format!("{out}{err}").contains("a5"), "{out}{err}");
    let (_, err, status) = check(dir.path(), &command(&["realise", "--dry-run", "-A", "broken"]), &files);
    assert!(status == Some(1) && err.contains("file 4 has none"), "{err}");
    let (_, err, status) = check(dir.path(), &command(&["realise", "--dry-run", "-A", "b.none"]), &files);
    assert!(status == Some(1) && err.contains("none"), "{err}");
}

/// ^C while every thread is busy with what never ends.
#[test]
fn an_interrupt_ends_every_thread() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    fs::write(dir.path().join("short.img"), "\"begun\"\n").expect("a temporary file can be written");
    let endless =
        "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in { a = fib 90; b = fib 91; }\n";
    fs::write(dir.path().join("endless.img"), endless).expect("a temporary file can be written");
    for (jobs, words) in
        [("4", &["eval", "--strict"][..]), ("1", &["eval", "--strict"]), ("4", &["eval", "--json"])]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command.args(words).args([
            "--eval-jobs",
            jobs,
            "short.img",
            "endless.img",
            "endless.img",
            "endless.img",
        ]);
        command.current_dir(dir.path()).env("HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program was built");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("what is done is printed at once");
        assert_eq!(line, "\"begun\"\n");
        let asked = Instant::now();
        let killed =
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("there is kill");
        assert!(killed.success());
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("text");
        let output = child.wait_with_output().expect("it was started");
        assert_eq!((output.status.code(), rest.as_str()), (Some(130), ""), "{jobs} threads, {words:?}");
        let told = text(&output.stderr);
        assert_eq!(told.matches("interrupted").count(), 1, "{told}");
        assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_closed_pipe_ends_it() {
    let dir = tempfile::tempdir().expect("a directory to work in");
    let files = write_files(dir.path(), 12, |_| Extra::Nothing);
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" eval --strict --eval-jobs 4 \"$@\" | head -n 1"]);
    command.arg(env!("CARGO_BIN_EXE_ampoule")).args(&files).current_dir(dir.path()).env("HOME", dir.path());
    let output = command.output().expect("there is a shell");
    assert_eq!(text(&output.stdout).lines().count(), 1, "{}", text(&output.stderr));
}
