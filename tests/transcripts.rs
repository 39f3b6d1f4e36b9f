//! Transcripts: every command that a page shows is run, and prints what the page says.
//!
//! The pages are `tests/cli/*.md`, `docs/*.md` and `README.md`. What counts in them:
//!
//! ````text
//! `hello.img`:                    a block below a line that ends like this is written to that file
//! ```nix
//! …
//! ```
//!
//! ```console
//! $ ampoule eval hello.img        a command, run by bash; further lines of it begin with `> `
//! ? 1                             how it ends, if not with 0
//! what it prints                  both streams; `...` is any lines, `[..]` anything within a line
//! ```
//!
//! *Needs the network.*            the next block is run only with AMPOULE_NETWORK=1; with any other
//!                                 need it is not run here
//! ````
//!
//! Commands of one page share a directory (a copy of `PAGE.in` if there is one) and a store. What is not run
//! is counted, and its command lines are parsed by a unit test of the command. `AMPOULE_ACCEPT=1` writes what is
//! printed now; read the diff before you keep it. `AMPOULE_PAGES=tutorial,look` runs these alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, sorted.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    for folder in ["docs", "tests/cli"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of pages") {
            found.push(entry.expect("an entry").path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    found.sort();
    found
}

/// A fenced block of a page.
struct Block {
    /// Index of the line of its opening fence.
    start: usize,
    /// Index of the line of its closing fence.
    end: usize,
    is_console: bool,
    /// The file that it is, named by the line before.
    file: Option<String>,
    /// What it needs beyond this machine.
    needs: Option<String>,
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = lines[at].strip_prefix("```") else {
            at += 1;
            continue;
        };
        let fence: String = lines[at].chars().take_while(|c| *c == '`').collect();
        let end = (at + 1..lines.len()).find(|&i| lines[i] == fence).expect("a block has an end");
        let before = lines[..at].iter().rev().find(|line| !line.trim().is_empty()).copied().unwrap_or("");
        let needs = before.strip_prefix("*Needs ").and_then(|rest| rest.strip_suffix(".*"));
        let file = before.strip_suffix("`:").and_then(|rest| Some(rest.rsplit_once('`')?.1.to_owned()));
        let is_console = info == "console";
        found.push(Block { start: at, end, is_console, file, needs: needs.map(str::to_owned) });
        at = end + 1;
    }
    found
}

/// A command and what the page says that it does.
struct Step {
    command: String,
    status: i32,
    output: Vec<String>,
}

fn steps(lines: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), status: 0, output: Vec::new() });
            continue;
        }
        let step = steps.last_mut().expect("a block of commands begins with one");
        match (line.strip_prefix("> "), line.strip_prefix("? ")) {
            (Some(more), _) if step.output.is_empty() => {
                step.command.push('\n');
                step.command.push_str(more);
            }
            (_, Some(status)) if step.output.is_empty() => {
                step.status = status.parse().expect("a status is a number");
            }
            _ => step.output.push((*line).to_owned()),
        }
    }
    for step in &mut steps {
        while step.output.last().is_some_and(String::is_empty) {
            step.output.pop();
        }
    }
    steps
}

/// Where the commands of one page run.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new(page: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let work = home.path().join("work");
        fs::create_dir(&work).expect("a directory");
        let files = page.with_extension("in");
        if files.is_dir() {
            let copied = Command::new("cp").arg("-rT").arg(files).arg(&work).status().expect("cp runs");
            assert!(copied.success());
        }
        fs::write(home.path().join("cwd"), format!("{}\n", work.display())).expect("a file");
        Self { home }
    }

    fn cwd(&self) -> PathBuf {
        PathBuf::from(fs::read_to_string(self.home.path().join("cwd")).expect("it is kept").trim_end())
    }

    /// Runs one command; returns its status, and what it printed on both streams.
    fn run(&self, command: &str) -> (i32, Vec<String>) {
        let bin = Path::new(env!("CARGO_BIN_EXE_ampoule")).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let home = self.home.path();
        let script = format!("exec 2>&1\n{command}\nstatus=$?; pwd > {}/cwd; exit $status", home.display());
        let mut run = Command::new("bash");
        run.args(["-c", &script]).env_clear().current_dir(self.cwd()).stdin(Stdio::null());
        for name in ["http_proxy", "https_proxy", "no_proxy", "AMPOULE_MIRROR_DEBIAN"] {
            if let Some(value) = std::env::var_os(name) {
                run.env(name, value);
            }
        }
        if !has_network() {
            run.env("AMPOULE_FETCH_OFFLINE", "true");
        }
        run.env("PATH", format!("{}:{path}", bin.display())).env("HOME", home).env("NO_COLOR", "1");
        run.env("LC_ALL", "C.UTF-8").env("USER", "reader");
        let output = run.output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout).replace(&*home.to_string_lossy(), "/home/reader");
        let lines = text.lines().map(|line| line.trim_end().to_owned()).collect();
        (output.status.code().unwrap_or(-1), lines)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What lies in a store cannot be written to, directories neither.
        let _ = Command::new("chmod").arg("-R").arg("u+rwX").arg(self.home.path()).status();
    }
}

fn has_network() -> bool {
    std::env::var_os("AMPOULE_NETWORK").is_some()
}

/// Whether lines are what a page says: `...` is any lines, `[..]` anything within one.
fn matches(expected: &[String], found: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return found.is_empty() };
    if first == "..." {
        return (0..=found.len()).any(|skipped| matches(rest, &found[skipped..]));
    }
    found.split_first().is_some_and(|(line, after)| line_matches(first, line) && matches(rest, after))
}

fn line_matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let at =
            if is_last { rest.ends_with(part).then(|| rest.len() - part.len()) } else { rest.find(part) };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// What became of the commands of a page.
#[derive(Default)]
struct Report {
    run: usize,
    not_run: usize,
    wrong: String,
    text: String,
}

fn check(page: &Path) -> Report {
    let text = fs::read_to_string(page).expect("a page is text");
    let lines: Vec<&str> = text.lines().collect();
    let mut report = Report::default();
    let place = Place::new(page);
    let mut copied = 0;
    for block in blocks(&lines) {
        let body = &lines[block.start + 1..block.end];
        if let (Some(file), false) = (&block.file, block.is_console) {
            let path = place.cwd().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(&path, format!("{}\n", body.join("\n"))).expect("a file");
        }
        if !block.is_console {
            continue;
        }
        let runs = block.needs.as_deref().is_none_or(|needs| needs == "the network" && has_network());
        let steps = steps(body);
        if !runs {
            report.not_run += steps.len();
            continue;
        }
        lines[copied..=block.start].iter().for_each(|line| report.text += &format!("{line}\n"));
        copied = block.end;
        let count = steps.len();
        for (index, step) in steps.into_iter().enumerate() {
            report.run += 1;
            let (status, output) = place.run(&step.command);
            let is_right = status == step.status && matches(&step.output, &output);
            if !is_right {
                let _ = writeln!(
                    report.wrong,
                    "{}:{}: $ {}\nexpected {}:\n{}\nfound {status}:\n{}\n",
                    page.display(),
                    block.start + 1,
                    step.command,
                    step.status,
                    step.output.join("\n"),
                    output.join("\n")
                );
            }
            let _ = writeln!(report.text, "$ {}", step.command.replace('\n', "\n> "));
            let (status, output) = if is_right { (step.status, step.output) } else { (status, output) };
            if status != 0 {
                let _ = writeln!(report.text, "? {status}");
            }
            output.iter().for_each(|line| report.text += &format!("{line}\n"));
            if index + 1 < count {
                report.text.push('\n');
            }
        }
    }
    lines[copied..].iter().for_each(|line| report.text += &format!("{line}\n"));
    report
}

#[test]
fn pages_show_what_commands_print() {
    let chosen = std::env::var("AMPOULE_PAGES").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    let mut wrong = String::new();
    let (mut run, mut not_run) = (0, 0);
    for page in pages() {
        let name = page.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        let report = check(&page);
        run += report.run;
        not_run += report.not_run;
        wrong += &report.wrong;
        if std::env::var_os("AMPOULE_ACCEPT").is_some() && !report.wrong.is_empty() {
            fs::write(&page, report.text).expect("a page can be written");
        }
    }
    println!("{run} commands were run; skipped: {not_run} that need the network or more");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(run > 30 || !chosen.is_empty(), "only {run} commands were found");
}

#[test]
fn lines_match_as_the_pages_say() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let check = |expected: &str, found: &str, matching: bool| {
        assert_eq!(matches(&lines(expected), &lines(found)), matching, "{expected} | {found}");
    };
    check("a[..]c", "abc", true);
    check("a[..]c", "abcd", false);
    check("a[..]b[..]", "axb", true);
    check("a\n...\nb", "a\nx\ny\nb", true);
    check("a\n...", "a", true);
    check("a", "a\nb", false);
}
