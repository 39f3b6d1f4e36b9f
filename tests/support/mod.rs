//! What several tests of the whole program share.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in a folder, with a home of its own and of the environment only `PATH`.
pub fn ampoule(args: &[&str], home: &Path, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(dir)
        .output()
        .expect("the program runs")
}

/// Writes a program. Another process does: what this one has open for writing, a child of another test may hold a moment
/// longer, and the kernel executes nothing that is open for writing.
pub fn write_program(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).expect("written");
    let done = Command::new("install").args(["-m", "755"]).arg(&draft).arg(path).status().expect("it runs");
    assert!(done.success());
    std::fs::remove_file(draft).expect("ours");
}

/// The standard output of a run that ended well; what it complained of otherwise.
#[track_caller]
pub fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
