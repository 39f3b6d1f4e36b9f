//! What evaluating on several threads brings: the program itself, with `--eval-jobs` 1, 2 and 4, on sixteen files and on
//! the attributes of one set. Prints milliseconds on the clock, medians of rounds that take turns, and how many times as fast
//! that is as one thread.
//!
//! `cargo bench -p ampoule --bench abreast`
#![allow(clippy::print_stdout, reason = "this is a program that prints a table")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const JOBS: [&str; 3] = ["1", "2", "4"];
const ROUNDS: usize = 11;

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for number in 0..16 {
        let name = format!("file{number}.img");
        let text = format!(
            "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2);\n\
             in [ {number} (fib 24) (builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x * 2) 200000)) ]\n"
        );
        fs::write(dir.path().join(&name), text).expect("a file");
        files.push(name);
    }
    let set = "builtins.listToAttrs (builtins.genList (n: { name = \"a${toString n}\"; \
               value = builtins.foldl' (a: b: a + b) n (builtins.genList (x: x * n) 20000); }) 600)\n";
    fs::write(dir.path().join("set.img"), set).expect("a file");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    println!("{:<24} {:>10} {:>16} {:>16}", "ms on the clock", "1 thread", "2 threads", "4 threads");
    compare("sixteen files", &files, dir.path());
    compare("one set of 600, --json", &["--json", "set.img"], dir.path());
}

/// Prints a row, after seeing that every number of threads prints the same.
fn compare(name: &str, args: &[&str], dir: &Path) {
    let mut times: [Vec<f64>; JOBS.len()] = Default::default();
    let expected = run(JOBS[0], args, dir).0;
    for _ in 0..ROUNDS {
        for (jobs, times) in JOBS.iter().zip(&mut times) {
            let (printed, ms) = run(jobs, args, dir);
            assert!(printed == expected, "{name}: --eval-jobs {jobs} prints something else");
            times.push(ms);
        }
    }
    let [one, two, four] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    let faster = |ms: f64| format!("{ms:.1} ({:.2} x)", one / ms);
    println!("{name:<24} {one:>10.1} {:>16} {:>16}", faster(two), faster(four));
}

/// Evaluates, and returns what was printed and how many milliseconds it took.
fn run(jobs: &str, args: &[&str], dir: &Path) -> (Vec<u8>, f64) {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["eval", "--strict", "--eval-jobs", jobs])
        .args(args)
        .current_dir(dir)
        .stderr(Stdio::inherit())
        .output()
        .expect("the program runs");
    let ms = began.elapsed().as_secs_f64() * 1e3;
    assert!(output.status.success(), "{args:?} fails");
    (output.stdout, ms)
}
