//! How evaluation grows, and how it stands beside Nix.
//!
//! ```text
//! cargo bench -p ampoule-eval                 everything
//! cargo bench -p ampoule-eval -- sort split   only these
//! ```
//!
//! Each program of `programs/` is a function of a size, which its first line says. It is run at that size, at twice
//! and at four times it: `x2.0` means that doubling the size doubled the time. More than `x2.4` is marked; a few
//! programs build what is of that size (`derivation-deep`). Then it stands beside Nix at the largest size, if Nix is
//! installed (or named by `AMPOULE_NIX_INSTANTIATE`; `GC_INITIAL_HEAP_SIZE` is handed on): CPU time and peak memory of
//! the process, least of some runs.
//!
//! `AMPOULE_BENCH_PROGRAMS=DIR` runs the `.nix` files of that folder instead: programs without a size, beside Nix only.

#![allow(clippy::print_stdout, reason = "this is a program that prints a table")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use ampoule_eval::Settings;

#[path = "../tests/support/mod.rs"]
mod support;

const ROUNDS: usize = 3;
const TOO_LONG: Duration = Duration::from_secs(30);
/// Growth for each doubling that is marked.
const SUSPICIOUS: f64 = 2.4;
/// Of [`Nix`] and us: programs faster than this are not compared, starting up would be.
const CLOCK_TICK: f64 = 0.01;

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [first, expression] = words.as_slice()
        && first == "--one"
    {
        return one(expression);
    }
    let given = env::var_os("AMPOULE_BENCH_PROGRAMS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs");
    let mut files: Vec<PathBuf> = fs::read_dir(given.as_ref().unwrap_or(&own))
        .expect("the folder of programs can be read")
        .map(|entry| entry.expect("the folder of programs can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "nix"))
        .filter(|path| words.is_empty() || words.contains(&name_of(path)))
        .collect();
    files.sort();
    let peers = Peers::find();
    println!(
        "{:<22} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6}",
        "program", "size", "x2", "x4", "CPU", "Nix", "peak", "Nix", "CPU", "peak"
    );
    let mut ratios = Vec::new();
    for file in files {
        let size = if given.is_some() { None } else { Some(size_of(&file)) };
        ratios.extend(row(&file, size, &peers));
    }
    if !ratios.is_empty() {
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
        println!("geometric mean of {} CPU ratios: {:.2}", ratios.len(), mean.exp());
    }
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The number at the end of the first line.
fn size_of(path: &Path) -> u64 {
    let text = fs::read_to_string(path).expect("a program can be read");
    let line = text.lines().next().unwrap_or_default();
    let size = line.trim_end_matches('.').rsplit(' ').next().and_then(|word| word.parse().ok());
    size.unwrap_or_else(|| panic!("the first line of {} ends in its size", path.display()))
}

/// In a process of its own: evaluates, and prints the nanoseconds of CPU that the evaluator's thread took.
fn one(expression: &str) {
    let text = expression.to_owned();
    let done = ampoule_eval::run(Settings::default(), Arc::new(support::Plain::default()), move |ev| {
        let value = ev.eval_text("«bench»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        let printed = printed.map_err(|error| error.to_string());
        // Nanoseconds on a processor come first.
        let spent = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        (printed, spent.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0))
    });
    let (printed, nanoseconds) = done.expect("the system gives a thread");
    match printed {
        Ok(value) => println!("{nanoseconds}\n{value}"),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    }
}

fn row(file: &Path, size: Option<u64>, peers: &Peers) -> Option<f64> {
    let name = name_of(file);
    let expression = |times: u64| match size {
        Some(size) => format!("import {} {}", file.display(), size * times),
        None => format!("import {}", file.display()),
    };
    let mut growth = Vec::new();
    if size.is_some() {
        let times: Vec<f64> = [1, 2, 4].iter().map(|times| peers.own_seconds(&expression(*times))).collect();
        growth.extend(times.windows(2).map(|pair| pair[1] / pair[0]));
    }
    let (ours, theirs) = peers.compare(&expression(4));
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let ratio =
        theirs.as_ref().filter(|run| run.is_whole).map(|run| ours.seconds.max(CLOCK_TICK) / run.seconds);
    let peak = theirs.as_ref().filter(|run| run.is_whole).map(|run| ours.peak_mib / run.peak_mib);
    let shown = |run: &Run| if run.is_whole { format!("{:.2} s", run.seconds) } else { "fails".to_owned() };
    let is_same = theirs.as_ref().is_none_or(|run| !run.is_whole || run.answer == ours.answer);
    let grows = growth.iter().any(|factor| *factor > SUSPICIOUS);
    println!(
        "{name:<22} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6}{}{}",
        size.map_or("-".to_owned(), |size| size.to_string()),
        number(growth.first().copied()),
        number(growth.get(1).copied()),
        shown(&ours),
        theirs.as_ref().map_or("-".to_owned(), shown),
        format!("{:.0} MiB", ours.peak_mib),
        theirs.as_ref().map_or("-".to_owned(), |run| format!("{:.0} MiB", run.peak_mib)),
        number(ratio),
        number(peak),
        if grows { "  grows" } else { "" },
        if is_same { "" } else { "  OTHER ANSWER" },
    );
    ratio
}

/// What runs programs.
struct Peers {
    own: PathBuf,
    /// Words of the command, if Nix is there.
    nix: Option<Vec<String>>,
}

/// One run of a process.
struct Run {
    seconds: f64,
    peak_mib: f64,
    answer: String,
    is_whole: bool,
}

impl Peers {
    fn find() -> Self {
        let words = env::var("AMPOULE_NIX_INSTANTIATE").unwrap_or_else(|_| "nix-instantiate".into());
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let works = Command::new(&words[0])
            .args(&words[1..])
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !works {
            println!("`{}` cannot be run: no peer", words.join(" "));
        }
        Self { own: env::current_exe().expect("this program has a path"), nix: works.then_some(words) }
    }

    fn own(&self, expression: &str) -> Command {
        let mut command = Command::new(&self.own);
        command.args(["--one", expression]);
        command
    }

    /// Seconds of CPU of our evaluator, without starting up; the least of some runs.
    fn own_seconds(&self, expression: &str) -> f64 {
        let once = || {
            let output = self.own(expression).output().expect("this program can be run");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            text.lines().next().and_then(|line| line.parse::<f64>().ok()).expect("a number comes first") / 1e9
        };
        (0..ROUNDS).map(|_| once()).fold(f64::INFINITY, f64::min)
    }

    fn compare(&self, expression: &str) -> (Run, Option<Run>) {
        let nix = |words: &Vec<String>| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).args(["--store", "dummy://", "--eval", "--strict", "-E", expression]);
            command
        };
        let mut ours = watched(self.own(expression));
        let mut theirs = self.nix.as_ref().map(|words| watched(nix(words)));
        for _ in 1..ROUNDS {
            ours.keep_less(watched(self.own(expression)));
            if let (Some(theirs), Some(words)) = (&mut theirs, &self.nix)
                && theirs.is_whole
                && theirs.seconds < 5.0
            {
                theirs.keep_less(watched(nix(words)));
            }
        }
        ours.answer = ours.answer.split_once('\n').map_or(String::new(), |(_, answer)| answer.to_owned());
        (ours, theirs)
    }
}

impl Run {
    fn keep_less(&mut self, other: Run) {
        self.seconds = self.seconds.min(other.seconds);
        self.peak_mib = self.peak_mib.min(other.peak_mib);
    }
}

/// Runs a command and asks the system what it and its children took.
fn watched(mut command: Command) -> Run {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the command was run before");
    let mut peak_kib = 0;
    let mut is_whole = true;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if field(&status, "State:").is_none_or(|state| state.starts_with('Z')) {
            break;
        }
        peak_kib = peak_kib.max(peak_of(child.id(), &status));
        if started.elapsed() > TOO_LONG {
            // Only what was started here. It may have ended meanwhile.
            let _ = child.kill();
            is_whole = false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    // It has ended and is still listed.
    let seconds = seconds_of(child.id());
    let output = child.wait_with_output().expect("it was started");
    Run {
        seconds,
        peak_mib: peak_kib as f64 / 1024.0,
        answer: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        is_whole: is_whole && output.status.success(),
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The most memory that a process or one of its children had so far.
fn peak_of(process: u32, status: &str) -> u64 {
    let own = field(status, "VmHWM:").and_then(|size| size.trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let of_child = |child: u32| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        peak_of(child, &status)
    };
    children.split_whitespace().filter_map(|id| id.parse().ok()).map(of_child).fold(own, u64::max)
}

/// Seconds of CPU of a process that has ended, and of the children that it waited for.
fn seconds_of(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything. Behind it: state, 10 numbers, then four times.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = behind.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<f64>().ok());
    ticks.sum::<f64>() * CLOCK_TICK
}
