//! How evaluation grows, and how it stands beside Nix.
//!
//! ```text
//! cargo bench -p ampoule-eval                 everything
//! cargo bench -p ampoule-eval -- sort split   only these
//! ```
//!
//! Each program of `programs/` is a function of a size, which its first line says. It is run at that size, at twice
//! and at four times it: `x2.0` means that doubling the size doubled the time. More than `x2.4`, measured twice, is marked; a
//! few programs are of that kind themselves (`derivation-deep`, `modules`), and where the larger one leaves the processor's caches
//! it is no fault either. Then it stands beside Nix at the largest size, if Nix is installed: CPU time and peak memory of
//! the process, least of some runs. `AMPOULE_NIX_INSTANTIATE` names another Nix, or several, separated by `|`: then it
//! is the better of them, in each column. `GC_INITIAL_HEAP_SIZE` is handed on.
//!
//! `tree-one`, `tree-some`, `tree-all` and `tree-meta` are of a package set with that many files, which is made for it.
//!
//! Nix is given some seconds. Where it needs more (`> 5.00 s`: it is quadratic there) the ratio is at most what is shown.
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
mod tree;

const ROUNDS: usize = 3;
/// Files in the smallest tree.
const TREE_SIZE: u64 = 2500;
/// Rounds before a growth is called suspicious.
const MORE_ROUNDS: usize = 8;
/// What Nix is given for a program.
const TOO_LONG: Duration = Duration::from_secs(5);
/// What we are given: more than anything takes.
const MUCH_TOO_LONG: Duration = Duration::from_secs(60);
/// What is run once only.
const LONG_SECONDS: f64 = 1.5;
/// Growth for each doubling that is marked.
const SUSPICIOUS: f64 = 2.4;
/// Programs faster than this have no growth that could be told from noise.
const TOO_SHORT_SECONDS: f64 = 0.004;
/// Of Nix and us: programs faster than this are not compared, starting up would be.
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
    let started = Instant::now();
    let mut all = Vec::new();
    for file in files {
        let size = if given.is_some() { None } else { Some(size_of(&file)) };
        let expression = |times: u64| match size {
            Some(size) => format!("import {} {}", file.display(), size * times),
            None => format!("import {}", file.display()),
        };
        all.extend(row(&name_of(&file), expression, size, &peers).map(|ratios| (name_of(&file), ratios)));
    }
    let is_wanted = |entry: &&str| words.is_empty() || words.contains(&format!("tree-{entry}"));
    let entries: Vec<&str> = tree::ENTRIES.into_iter().filter(is_wanted).collect();
    if given.is_none() && !entries.is_empty() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let dir = dir.path().canonicalize().expect("it is there");
        for times in [1, 2, 4] {
            tree::write(&dir.join(times.to_string()), TREE_SIZE * times);
        }
        for entry in entries {
            let name = format!("tree-{entry}");
            let expression = |times: u64| format!("import {}/{times}/{entry}.nix", dir.display());
            let ratios = row(&name, expression, Some(TREE_SIZE), &peers);
            all.extend(ratios.map(|ratios| (name, ratios)));
        }
    }
    if !all.is_empty() {
        summary("CPU", all.iter().map(|(name, ratios)| (name.as_str(), ratios.seconds)));
        summary("peak", all.iter().map(|(name, ratios)| (name.as_str(), ratios.peak)));
    }
    println!("{:.0} s in all", started.elapsed().as_secs_f64());
}

/// Of us to Nix.
struct Ratios {
    seconds: f64,
    peak: f64,
}

fn summary<'a>(what: &str, ratios: impl Iterator<Item = (&'a str, f64)>) {
    let mut sorted: Vec<(&str, f64)> = ratios.collect();
    sorted.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mean = sorted.iter().map(|(_, ratio)| ratio.ln()).sum::<f64>() / sorted.len() as f64;
    let worst: Vec<String> =
        sorted.iter().take(5).map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
    println!(
        "{what} of {} programs: geometric mean {:.2}, worst {}",
        sorted.len(),
        mean.exp(),
        worst.join(", ")
    );
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

/// `expression` is what is evaluated at so many times the size.
fn row(name: &str, expression: impl Fn(u64) -> String, size: Option<u64>, peers: &Peers) -> Option<Ratios> {
    let whole = expression(4);
    let (ours, own_seconds) = peers.ours(&whole);
    let mut growth = Vec::new();
    if size.is_some() {
        let mut seconds = [peers.own_seconds(&expression(1)), peers.own_seconds(&expression(2)), own_seconds];
        let factor = |pair: &[f64]| (pair[0] > TOO_SHORT_SECONDS).then(|| pair[1] / pair[0]);
        let factors = |seconds: &[f64; 3]| [factor(&seconds[..2]), factor(&seconds[1..])];
        for _ in ROUNDS..MORE_ROUNDS {
            if factors(&seconds).iter().flatten().all(|factor| *factor <= SUSPICIOUS) {
                break;
            }
            for (times, least) in [1, 2, 4].into_iter().zip(&mut seconds) {
                *least = least.min(peers.own_once(&expression(times)));
            }
        }
        growth.extend(factors(&seconds));
    }
    let theirs = peers.theirs(&whole);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let compared = theirs.as_ref().filter(|run| run.ended != Ended::Failed);
    let ratios = compared.map(|run| Ratios {
        seconds: ours.seconds.max(CLOCK_TICK) / run.seconds,
        peak: ours.peak_mib / run.peak_mib,
    });
    let is_other = theirs.as_ref().is_some_and(|run| run.ended == Ended::Well && run.answer != ours.answer);
    let grows = growth.iter().flatten().any(|factor| *factor > SUSPICIOUS);
    println!(
        "{name:<22} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6}{}{}",
        size.map_or("-".to_owned(), |size| size.to_string()),
        number(growth.first().copied().flatten()),
        number(growth.get(1).copied().flatten()),
        ours.shown(),
        theirs.as_ref().map_or("-".to_owned(), Run::shown),
        format!("{:.0} MiB", ours.peak_mib),
        theirs.as_ref().map_or("-".to_owned(), |run| format!("{:.0} MiB", run.peak_mib)),
        number(ratios.as_ref().map(|ratios| ratios.seconds)),
        number(ratios.as_ref().map(|ratios| ratios.peak)),
        if grows { "  grows" } else { "" },
        if is_other { "  OTHER ANSWER" } else { "" },
    );
    ratios
}

/// What runs programs.
struct Peers {
    own: PathBuf,
    /// The words of the command of each Nix that is there.
    nix: Vec<Vec<String>>,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    /// It was stopped: it took longer than [`TOO_LONG`].
    Late,
    Failed,
}

/// One run of a process, or the best of several.
struct Run {
    seconds: f64,
    peak_mib: f64,
    answer: String,
    ended: Ended,
}

impl Peers {
    fn find() -> Self {
        let commands = env::var("AMPOULE_NIX_INSTANTIATE").unwrap_or_else(|_| "nix-instantiate".into());
        let commands = commands.split('|').map(|words| words.split_whitespace().map(str::to_owned).collect());
        let works = |words: &Vec<String>| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            let works = command.status().is_ok_and(|status| status.success());
            if !works {
                println!("`{}` cannot be run: no peer", words.join(" "));
            }
            works
        };
        let own = env::current_exe().expect("this program has a path");
        Self { own, nix: commands.filter(works).collect() }
    }

    fn own(&self, expression: &str) -> Command {
        let mut command = Command::new(&self.own);
        command.args(["--one", expression]);
        command
    }

    /// Seconds of CPU of our evaluator, without starting up; the least of some runs.
    fn own_seconds(&self, expression: &str) -> f64 {
        (0..ROUNDS).map(|_| self.own_once(expression)).fold(f64::INFINITY, f64::min)
    }

    fn own_once(&self, expression: &str) -> f64 {
        watched(self.own(expression), MUCH_TOO_LONG).split_seconds()
    }

    /// The whole process, and its evaluator alone.
    fn ours(&self, expression: &str) -> (Run, f64) {
        let mut best = watched(self.own(expression), MUCH_TOO_LONG);
        let mut seconds = best.split_seconds();
        for _ in 1..ROUNDS {
            let mut again = watched(self.own(expression), MUCH_TOO_LONG);
            seconds = seconds.min(again.split_seconds());
            best.keep_less(&again);
        }
        (best, seconds)
    }

    /// The least that any Nix needs.
    fn theirs(&self, expression: &str) -> Option<Run> {
        let mut best: Option<Run> = None;
        for words in &self.nix {
            let mut run = nix(words, expression);
            if run.ended == Ended::Well && run.seconds < LONG_SECONDS {
                run.keep_less(&nix(words, expression));
            }
            match &mut best {
                Some(best) if best.ended == Ended::Well || run.ended != Ended::Well => best.keep_less(&run),
                _ => best = Some(run),
            }
        }
        best
    }
}

fn nix(words: &[String], expression: &str) -> Run {
    let run = |options: &[&str]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--eval", "--strict", "-E", expression]).args(options);
        watched(command, TOO_LONG)
    };
    let run_without_store = run(&["--store", "dummy://"]);
    if run_without_store.ended != Ended::Failed {
        return run_without_store;
    }
    // A `drvPath` that another derivation depends on must be in a store.
    let store = tempfile::tempdir().expect("a directory for a store can be made");
    run(&["--read-write-mode", "--store", &store.path().to_string_lossy()])
}

impl Run {
    fn keep_less(&mut self, other: &Run) {
        if other.ended == self.ended {
            self.seconds = self.seconds.min(other.seconds);
            self.peak_mib = self.peak_mib.min(other.peak_mib);
        }
    }

    /// Takes the nanoseconds from before the answer.
    fn split_seconds(&mut self) -> f64 {
        let split = self.answer.split_once('\n').filter(|_| self.ended == Ended::Well);
        let (first, answer) = split.expect("our programs give a number and an answer in time");
        let nanoseconds: f64 = first.parse().expect("a number comes first");
        self.answer = answer.to_owned();
        nanoseconds / 1e9
    }

    fn shown(&self) -> String {
        match self.ended {
            Ended::Well => format!("{:.2} s", self.seconds),
            Ended::Late => format!("> {:.2} s", self.seconds),
            Ended::Failed => "fails".to_owned(),
        }
    }
}

/// Runs a command and asks the system what it and its children took.
fn watched(mut command: Command, patience: Duration) -> Run {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the command was run before");
    let mut peak_kib = 0;
    let mut is_late = false;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if field(&status, "State:").is_none_or(|state| state.starts_with('Z')) {
            break;
        }
        peak_kib = peak_kib.max(peak_of(child.id(), &status));
        if started.elapsed() > patience {
            // Only what was started here. It may have ended meanwhile.
            let _ = child.kill();
            is_late = true;
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
        ended: match output.status.success() {
            _ if is_late => Ended::Late,
            true => Ended::Well,
            false => Ended::Failed,
        },
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
