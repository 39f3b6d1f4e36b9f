//! How the whole command grows with the number of derivations: evaluate, plan, build, and again when all is there.
//!
//! Trivial derivations (a static shell writes one word), each hundred below one that needs them, and one above all.
//!
//! `cargo bench -p ampoule --bench scale [-- COUNT…]`, 1000 and 10000 unless others are named. 100000 take two minutes
//! on four idle processors, and a directory for temporary files with 1.2 GB of room.
#![allow(clippy::print_stdout, reason = "this is a program that prints a table")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// A hundred leaves below each node, and the nodes below one.
const TREE: &str = "\
{ count }:
let
  make = name: needs: derivation {
    inherit name needs;
    system = builtins.currentSystem;
    builder = \"${./shell}/sh\";
    args = [ \"-c\" \"echo x > $out\" ];
  };
  below = node: builtins.genList (n: make \"leaf-${toString (node * 100 + n)}\" [ ]) 99;
in
make \"top\" (builtins.genList (node: make \"node-${toString node}\" (below node)) (builtins.fromJSON count / 100))
";

fn main() {
    let named: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let counts = if named.is_empty() { vec![1000, 10_000] } else { named };
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    let Some(busybox) = found else {
        println!("skipped: no static busybox (Debian: busybox-static)");
        return;
    };
    println!(
        "{:<34} {:>9} {:>16} {:>16} {:>9}",
        "", "wall s", "ms/derivation", "CPU ms/derivation", "peak MiB"
    );
    for count in counts {
        let dir = tempfile::tempdir().expect("a directory");
        // It is what it is called by.
        fs::create_dir(dir.path().join("shell")).expect("a directory");
        fs::copy(busybox, dir.path().join("shell/sh")).expect("a copy");
        fs::write(dir.path().join("tree.img"), TREE).expect("a file");
        let given = count.to_string();
        let by_file = ["realise", "--no-out-link", "-j4", "--argstr", "count", &given, "tree.img"];
        row(&format!("{count} derivations"), count, &by_file, dir.path());
        row("  again, all there", count, &by_file, dir.path());
        let drv = Command::new(env!("CARGO_BIN_EXE_ampoule"))
            .args(["--store", "store", "instantiate", "--argstr", "count", &given, "tree.img"])
            .current_dir(dir.path())
            .output()
            .expect("the program runs");
        let drv = String::from_utf8(drv.stdout).expect("store paths are ASCII");
        row("  again, by its .drv", count, &["realise", "--no-out-link", drv.trim()], dir.path());
    }
}

/// Runs the program and prints what it took.
fn row(name: &str, count: usize, args: &[&str], dir: &Path) {
    let (cpu_before, began) = (children_cpu_ms(), Instant::now());
    let mut child = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["-q", "--store", "store"])
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("the program runs");
    // The kernel keeps the peak as long as the process is there.
    let mut peak_mib = 0.0_f64;
    let status = loop {
        peak_mib = peak_mib.max(peak_of(child.id()));
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(status.success(), "{args:?} fails");
    let (wall_ms, cpu_ms) = (began.elapsed().as_secs_f64() * 1e3, children_cpu_ms() - cpu_before);
    let each = |ms: f64| ms / count as f64;
    println!(
        "{name:<34} {:>9.2} {:>16.3} {:>16.3} {peak_mib:>9.0}",
        wall_ms / 1e3,
        each(wall_ms),
        each(cpu_ms)
    );
}

/// Processor time of all children that have been waited for, in milliseconds.
fn children_cpu_ms() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("our own figures");
    let behind_name = text.rsplit(") ").next().unwrap_or("");
    // cutime and cstime are fields 16 and 17 of the whole, of which two are cut off.
    behind_name.split(' ').skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10.0
}

fn peak_of(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
