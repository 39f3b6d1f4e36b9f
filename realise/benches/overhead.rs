//! What a derivation costs besides what its builder does: `cargo bench -p ampoule-realise`.
//!
//! Trivial derivations (a static shell that writes one word), in a chain and wide, with one job and
//! with four, then once more when all is there. Figures are per derivation; processor time is that of
//! this process and of all its children, the makers of sandboxes and what has been a sandbox's first process
//! included: they have been waited for. `builder alone` is the same shell with the same script, started
//! without anything around it: what is above that is ours. A good part of it is the machine's: a static
//! program of glibc asks the processor some eighty times what it can, and in a virtual machine each answer
//! comes from outside (7 µs, measured).
//!
//! Where `nix-store` is on PATH it realises the same `.drv`s in
//! the same run, with its sandbox, in a store of its own.
//!
//! `AMPOULE_BENCH_COUNT` (1000) says how many derivations; an argument selects rows by name.

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::collections::BTreeSet;
use std::time::Instant;

use ampoule_net::Cancel;
use ampoule_realise::{Realiser, Silent, Wanted};
use ampoule_store::StorePath;
use lab::Lab;

fn count() -> usize {
    std::env::var("AMPOULE_BENCH_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

/// Processor time of this process and its children that have ended, in milliseconds.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("our own figures");
    let fields: Vec<f64> =
        text.rsplit(") ").next().unwrap_or("").split(' ').filter_map(|field| field.parse().ok()).collect();
    // Behind the state letter: utime, stime, cutime, cstime are fields 14 to 17 of the whole.
    fields[10..14].iter().sum::<f64>() * 10.0
}

fn peak_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("our own figures");
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("VmHWM: 0 kB");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn chain(lab: &Lab, length: usize, salt: &str) -> StorePath {
    let mut last = lab.drv(&format!("chain-{salt}-0"), "echo x > $out");
    for index in 1..length {
        last = lab.drv_with(&format!("chain-{salt}-{index}"), "echo x > $out", &[&last]);
    }
    last
}

fn wide(lab: &Lab, width: usize, salt: &str) -> StorePath {
    let leaves: Vec<StorePath> =
        (1..width).map(|index| lab.drv(&format!("leaf-{salt}-{index}"), "echo x > $out")).collect();
    let leaves: Vec<&StorePath> = leaves.iter().collect();
    lab.drv_with(&format!("top-{salt}"), "echo x > $out", &leaves)
}

/// Realises as a command does that nobody watches: a record of all events would be most of the memory.
fn build(lab: &Lab, top: &StorePath) {
    let realiser = Realiser {
        store: &lab.store,
        source: &lab.store,
        builders: &lab.builders,
        substituters: None,
        options: &lab.options,
        events: &Silent,
        cancel: Cancel::default(),
    };
    let wanted = Wanted { drv: top.clone(), outputs: BTreeSet::new() };
    realiser.realise(&[wanted]).expect("trivial derivations are built");
}

fn measure(lab: &mut Lab, name: &str, jobs: usize, top: &StorePath, count: usize) {
    lab.options.jobs = jobs;
    let (cpu, began) = (cpu_ms(), Instant::now());
    build(lab, top);
    // The spawner has been waited for by now: its time and that of the builds are in.
    let (wall, cpu) = (began.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu);
    let each = count as f64;
    println!(
        "{name:<28} {:>9.3} ms wall {:>9.3} ms cpu   {:>7.1} MiB peak",
        wall / each,
        cpu / each,
        peak_mib()
    );
}

/// The same derivations by `nix-store -r`, if it is there: in a new store, which knows the closure of
/// `top` already.
fn measure_nix(lab: &Lab, name: &str, jobs: usize, top: &StorePath, count: usize) -> Option<()> {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nix = || {
        let mut command = Command::new("nix-store");
        let config = "build-users-group =\nsubstituters =\nsandbox = true\nsandbox-fallback = false\n";
        command.arg("--store").arg(dir.path()).env("NIX_CONFIG", config).env("HOME", dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut import = nix().arg("--import").stdin(Stdio::piped()).spawn().ok()?;
    let mut stdin = import.stdin.take().expect("it is piped");
    lab.store.export(lab.store.closure_of([top.clone()]).expect("valid"), &mut stdin).ok()?;
    drop(stdin);
    import.wait().ok().filter(std::process::ExitStatus::success)?;
    let drv = lab.store.dir().print(top);
    let (cpu, began) = (cpu_ms(), Instant::now());
    let status = nix().args(["-r", &drv, "-j", &jobs.to_string()]).status().ok()?;
    let (wall, cpu) = (began.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu);
    if !status.success() {
        println!("{name:<28} nix-store fails here");
        return None;
    }
    let each = count as f64;
    println!("{name:<28} {:>9.3} ms wall {:>9.3} ms cpu", wall / each, cpu / each);
    // What it made is read-only.
    let mut delete = Command::new("chmod");
    drop(delete.args(["-R", "u+w"]).arg(dir.path()).stderr(Stdio::null()).status());
    Some(())
}

/// The builder's own part: the same program and script, and no sandbox.
fn measure_alone(lab: &Lab, count: usize) {
    let shell = lab.store.real_path(&lab.shell).join("bin/sh");
    let out = lab.dir.path().join("alone");
    let (cpu, began) = (cpu_ms(), Instant::now());
    for _ in 0..count {
        let mut command = std::process::Command::new(&shell);
        let status = command.args(["-c", "echo x > $out"]).env_clear().env("out", &out).status();
        assert!(status.expect("the shell runs").success());
    }
    let (wall, cpu, each) = (began.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu, count as f64);
    println!("{:<28} {:>9.3} ms wall {:>9.3} ms cpu", "builder alone", wall / each, cpu / each);
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let Some(mut lab) = Lab::new() else { return };
    let count = count();
    println!("{count} trivial derivations, per derivation:");
    let mut done = Vec::new();
    for jobs in [1, 4] {
        for (shape, make) in [("chain", chain as fn(&Lab, usize, &str) -> StorePath), ("wide", wide)] {
            let name = format!("{shape} -j{jobs}");
            if !runs(&name) {
                continue;
            }
            let top = make(&lab, count, &format!("j{jobs}"));
            measure(&mut lab, &name, jobs, &top, count);
            measure(&mut lab, &format!("{name}, again, whole"), jobs, &top, 1);
            done.push((name, jobs, top, count));
        }
    }
    if runs("builder alone") {
        measure_alone(&lab, count);
    }
    if runs("one") {
        let top = lab.drv("one", "echo x > $out");
        measure(&mut lab, "one", 1, &top, 1);
        done.push(("one".to_owned(), 1, top, 1));
    }
    // Afterwards, not in between: it deletes thousands of files, and for minutes ext4 then goes past
    // each inode that was freed, one by one, before it takes a new one.
    for (name, jobs, top, count) in done {
        measure_nix(&lab, &format!("{name}, nix-store"), jobs, &top, count);
    }
}
