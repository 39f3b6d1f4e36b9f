//! The REPL as a person meets it: through a pseudo-terminal.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};

mod support;

/// How long a busy machine may take to answer.
const PATIENCE_MS: u64 = 20_000;
const PROMPT: &str = "img> ";

/// A home that is removed with what a store left in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(home.path().join("work")).expect("a directory");
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join("work").join(name), text).expect("a file");
    }

    /// Starts the REPL, and waits for its first prompt.
    fn repl(&self, args: &[&str], vars: &[(&str, &str)]) -> PtySession {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command.arg("repl").args(args).env_clear().current_dir(self.path().join("work"));
        command
            .env("HOME", self.path())
            .env("TERM", "xterm")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("AMPOULE_FETCH_OFFLINE", "true").envs(vars.iter().copied());
        let options = Options::new().timeout_ms(Some(PATIENCE_MS));
        let mut session = spawn_with_options(command, options).expect("a pseudo-terminal");
        expect(&mut session, PROMPT);
        session
    }

    fn plain(&self) -> PtySession {
        self.repl(&[], &[("NO_COLOR", "1")])
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("chmod").arg("-R").arg("u+rwX").arg(self.path()).status();
    }
}

#[track_caller]
fn expect(session: &mut PtySession, text: &str) -> String {
    // What is read comes as a character for each byte.
    let bytes: String = text.bytes().map(char::from).collect();
    session.exp_string(&bytes).unwrap_or_else(|e| panic!("waiting for {text:?}: {e}"))
}

/// Types a line, and waits for `answer` and the next prompt.
#[track_caller]
fn check(session: &mut PtySession, line: &str, answer: &str) {
    session.send_line(line).expect("it is typed");
    expect(session, answer);
    expect(session, PROMPT);
}

/// Types a line that prints nothing.
#[track_caller]
fn tell(session: &mut PtySession, line: &str) {
    session.send_line(line).expect("it is typed");
    expect(session, "\n");
    expect(session, PROMPT);
}

#[track_caller]
fn leave(mut session: PtySession) {
    session.send_control('d').expect("it is typed");
    session.exp_eof().unwrap_or_else(|e| panic!("it did not end: {e}"));
}

#[test]
fn values_are_printed_lazily_and_named() {
    let home = Home::new();
    let mut repl = home.plain();
    check(&mut repl, "1 + 1", "\n2\r\n");
    check(&mut repl, "it * 21", "\n42\r\n");
    tell(&mut repl, "x = throw \"too early\"");
    tell(&mut repl, "y.z = 3");
    check(&mut repl, "{ a = 1; inherit (y) z; b = { c = x; }; }", "{ a = 1; b = { … }; z = 3; }\r\n");
    check(&mut repl, "{ a = x; }", "{ a = «error: too early»; }\r\n");
    check(&mut repl, "x", "too early");
    check(&mut repl, ":t y", "a set");
    check(&mut repl, "builtins.genList (n: n) 100000", "39 «99960 more» ]\r\n");
    check(&mut repl, "[ x (abort \"stop\") ]", "[ «error: too early» «error: evaluation aborted");
    check(
        &mut repl,
        "builtins.concatStringsSep \"\" (builtins.genList (n: \"é\") 4000)",
        "é\" «3904 more bytes»\r\n",
    );
    check(&mut repl, "let s = { me = s; }; in s", "{ me = { … }; }\r\n");
    check(&mut repl, ":p let s = { me = s; n = 1; }; in s", "{ me = «repeated»; n = 1; }\r\n");
    leave(repl);
}

#[test]
fn a_line_goes_on_while_something_is_open() {
    let home = Home::new();
    let mut repl = home.plain();
    repl.send_line("let a = {").expect("typed");
    repl.send_line("  b = [ 1 2 3 ];").expect("typed");
    repl.send_line("}; in builtins.length a.b").expect("typed");
    expect(&mut repl, "\n3\r\n");
    expect(&mut repl, PROMPT);
    repl.send_line("x =").expect("typed");
    repl.send_line("  7 # seven").expect("typed");
    expect(&mut repl, PROMPT);
    check(&mut repl, "x", "\n7\r\n");
    tell(&mut repl, "# nothing is open in a comment");
    leave(repl);
}

#[test]
fn what_is_no_text_is_told_and_forgotten() {
    let home = Home::new();
    let mut repl = home.plain();
    let mut keyboard = repl.process().get_file_handle().expect("a pseudo-terminal");
    keyboard.write_all(b"\"\xff\xfe\"\r").expect("typed");
    expect(&mut repl, "error: this line is not UTF-8");
    expect(&mut repl, PROMPT);
    leave_line(&mut repl);
    check(&mut repl, "1 + 1", "\n2\r\n");
    leave(repl);
}

#[test]
fn errors_are_underlined_in_the_line() {
    let home = Home::new();
    let mut repl = home.plain();
    repl.send_line("1 + nothing").expect("typed");
    expect(&mut repl, "undefined variable 'nothing'");
    expect(&mut repl, "repl:1:1:5");
    expect(&mut repl, "1 + nothing");
    expect(&mut repl, "    ───────");
    expect(&mut repl, PROMPT);
    // A name that is near one of the REPL's own.
    tell(&mut repl, "number = 1");
    check(&mut repl, "numbre", "`number`");
    // A binding is underlined where it was typed, too.
    repl.send_line("a = 1 2 )").expect("typed");
    expect(&mut repl, "\n 1 │     1 2 )\r\n   │         ─");
    expect(&mut repl, PROMPT);
    check(&mut repl, "nginx", "the library has `std.nginx`");
    check(&mut repl, ":reloda", "did you mean `:reload`?");
    check(&mut repl, ":t", "`:t` asks for more: :t EXPR");
    leave(repl);
}

#[test]
fn control_c_stops_the_evaluation_and_not_the_repl() {
    let home = Home::new();
    let mut repl = home.plain();
    for _ in 0..2 {
        repl.send_line("let f = n: f (n + 1); in builtins.trace \"begun\" (f 0)").expect("typed");
        // The line that was typed, then what it says.
        expect(&mut repl, "trace: begun");
        repl.send_control('c').expect("typed");
        expect(&mut repl, "interrupted");
        expect(&mut repl, PROMPT);
        check(&mut repl, "20 + 3", "\n23\r\n");
    }
    // On a line that is typed it drops the line.
    repl.send("99 + ").expect("typed");
    leave_line(&mut repl);
    check(&mut repl, "1 + 4", "\n5\r\n");
    leave(repl);
}

#[test]
fn names_are_completed() {
    let home = Home::new();
    home.write("sub.img", "{ }");
    let mut repl = home.plain();
    check(&mut repl, "builtins.elemA\t [ 7 ] 0", "\n7\r\n");
    check(&mut repl, "builtins.typeOf std.lib.filterAttrsR\t", "\"lambda\"");
    check(&mut repl, "import ./su\t", "\n{ }\r\n");
    tell(&mut repl, ":rel\t");
    let set = "big = builtins.listToAttrs (builtins.genList (n: { name = \"p${toString n}\"; value = throw \"no\"; }) 20000)";
    tell(&mut repl, set);
    check(&mut repl, "builtins.length (builtins.attrNames big)", "\n20000\r\n");
    repl.send("big.p1999").expect("typed");
    repl.send("\t\t").expect("typed");
    repl.flush().expect("sent");
    expect(&mut repl, "p19999");
    expect(&mut repl, "img> big.p1999");
    leave_line(&mut repl);
    leave(repl);
}

/// Drops what is typed.
fn leave_line(repl: &mut PtySession) {
    repl.send_control('c').expect("typed");
    expect(repl, "\n");
    expect(repl, PROMPT);
}

#[test]
fn lines_are_kept_from_one_repl_to_the_next() {
    let home = Home::new();
    let mut repl = home.plain();
    check(&mut repl, "1000 + 234", "\n1234\r\n");
    check(&mut repl, " 5 + 5", "\n10\r\n");
    // Even if its terminal goes away.
    drop(repl);
    let mut repl = home.plain();
    repl.send("\x1b[A").expect("typed");
    repl.send_line("").expect("typed");
    expect(&mut repl, "\n1234\r\n");
    expect(&mut repl, PROMPT);
    leave(repl);
}

#[test]
fn lines_are_coloured_unless_told_otherwise() {
    let home = Home::new();
    let mut repl = home.repl(&[], &[]);
    repl.send_line("let a = \"b\"; in a").expect("typed");
    expect(&mut repl, "\x1b[35mlet\x1b[0m");
    expect(&mut repl, "\x1b[32m\"b\"\x1b[0m");
    expect(&mut repl, "\n\"b\"\r\n");
    expect(&mut repl, PROMPT);
    leave(repl);
}

#[test]
fn files_are_loaded_and_reloaded() {
    let home = Home::new();
    home.write("set.img", "{ n = 1; part = import ./part.img; }");
    home.write("part.img", "\"old\"");
    let mut repl = home.repl(&["set.img"], &[("NO_COLOR", "1")]);
    check(&mut repl, "n", "\n1\r\n");
    check(&mut repl, "part", "\"old\"");
    home.write("set.img", "{ n = 2; part = import ./part.img; }");
    home.write("part.img", "\"new\"");
    check(&mut repl, ":r", "2 names added from set.img");
    check(&mut repl, "n", "\n2\r\n");
    check(&mut repl, "part", "\"new\"");
    check(&mut repl, ":l nowhere.img", "error: cannot read `nowhere.img`: no such file");
    leave(repl);
}

#[test]
fn documentation_and_definitions_are_shown() {
    let home = Home::new();
    home.write("set.img", "{\n  # Adds one.\n  #\n  #   inc 1    # => 2\n  inc = x: x + 1;\n}\n");
    let editor = home.path().join("work/editor");
    support::write_program(&editor, "#!/bin/sh\necho \"opened $*\"\n");
    let vars = [("NO_COLOR", "1"), ("EDITOR", editor.to_str().expect("UTF-8"))];
    let mut repl = home.repl(&["set.img"], &vars);
    check(&mut repl, ":doc inc", "Adds one.");
    check(&mut repl, ":doc map", "builtins.map f list");
    check(&mut repl, ":doc std.lib.lists.foldr", "Folds from the right");
    check(&mut repl, ":doc std.nginx", "Debian's nginx");
    check(&mut repl, ":e inc", "work/set.img\r\n");
    check(&mut repl, ":e std.lib.foldr", "this is a copy");
    check(&mut repl, ":e 1", "nothing says where `1` is written");
    leave(repl);
}

#[test]
fn results_are_built_and_explained() {
    let home = Home::new();
    let mut repl = home.plain();
    tell(&mut repl, "part = std.writeText \"part\" \"hello\"");
    tell(&mut repl, "whole = std.writeText \"whole\" \"has ${part}\"");
    check(&mut repl, ":why whole part", "-part.drv");
    check(&mut repl, ":i whole", "is not there: `:b` builds it");
    check(&mut repl, ":b whole", "-whole\r\n");
    check(&mut repl, ":i whole", "out is there");
    check(&mut repl, ":why whole part", "└─");
    check(&mut repl, ":why whole glibc", "does not need `glibc`");
    check(&mut repl, ":b { a = 1; }", "nothing to build");
    tell(&mut repl, "hello = std.image { name = \"hello\"; files.\"/etc/greeting\" = \"hi\"; }");
    check(&mut repl, ":b hello", "-hello-image\r\n");
    check(&mut repl, ":why hello /etc/greeting", "/etc/greeting (linux/");
    check(&mut repl, ":b 1", "does not evaluate to a derivation");
    leave(repl);
}
