//! `ampoule realise` and what belongs to it, as a person and a CI job meet them: exit codes, links, ^C,
//! the live tree on a terminal, logs that are followed, a shell in a build's sandbox.

mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use terminal::Terminal;

/// Derivations that behave in every way, built by a static shell.
const PROJECT: &str = r#"
{ mark ? "", port ? "1" }:
let
  tools = ./tools;
  build = name: extra: script: derivation ({
    inherit name mark;
    system = builtins.currentSystem;
    builder = "${tools}/sh";
    args = [ "-c" script ];
    PATH = "${tools}";
  } // extra);
  promised = {
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
  };
in rec {
  good = build "good" { } "echo said; echo good > $out";
  two = build "two" { outputs = [ "out" "doc" ]; } "echo a > $out; echo b > $doc";
  fails = build "fails" { } "echo one; echo '::error::forged'; echo kept > left-behind; exit 3";
  silent = build "silent" { } "exit 7";
  needs-failure = build "needs-failure" { } "cat ${fails} > $out";
  imported = import (build "gives" { } "echo '{ answer = 42; }' > $out");
  imports-endless = import sleeps;
  sleeps = build "sleeps-${mark}" { } "echo waiting ${mark}; sleep 1000 & sleep 1000";
  # These wait until somebody outside opens the gate, a directory of the host: `Gate`.
  talks = build "talks" { } "echo first word; ${until-open}; echo last word; echo > $out";
  until-open = "until [ -e /gate/open ]; do sleep 0.1; done";
  random = build "random" { } "cat /proc/sys/kernel/random/uuid > $out";
  wrong-hash = build "wrong-hash" promised "echo other > $out";
  no-wall = build "no-wall" { __noChroot = true; } "echo > $out";
  goes-out = build "goes-out" promised ''
    cat /proc/net/route /etc/resolv.conf
    nc -w 2 127.0.0.1 ${port} < /dev/null || echo the host is out of reach
    echo > $out
  '';
  fetched = derivation (promised // {
    name = "fetched";
    system = "builtin";
    builder = "builtin:fetchurl";
    url = "http://127.0.0.1:9/fetched";
  });
  both-random = build "both-random" { outputs = [ "out" "doc" ]; }
    "cat /proc/sys/kernel/random/uuid > $out; mkdir $doc; cat $out > $doc/page";
  # Contents decide where it lies.
  floating = build "floating" {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  } "echo first word; ${until-open}; echo last word; echo > $out";
  mixed = build "mixed" { } "cat ${fails} ${wrong-hash} ${good} > $out";
  several = build "several" { } "cat ${good} ${fails} ${random} > $out";
  long = build "a-name-that-is-longer-than-a-narrow-terminal-is-wide-${mark}" { }
    "echo a line of the log that is also longer than a narrow terminal is wide, by far; ${until-open}; echo > $out";
  structured = build "structured" {
    __structuredAttrs = true;
    exportReferencesGraph.graph = [ good ];
    outputChecks.out.maxSize = 100000;
    list = [ 1 "two" ];
  } "${out-of-json} cat < $NIX_ATTRS_JSON_FILE > $out";
  too-large = build "too-large" {
    __structuredAttrs = true;
    outputChecks.out.maxSize = 10;
  } "${out-of-json} echo more than ten bytes > $out";
  refers = build "refers" {
    __structuredAttrs = true;
    outputChecks.out.disallowedReferences = [ good ];
    input = good;
  } "${out-of-json} echo ${good} > $out";
  # Without a shell that knows arrays.
  out-of-json = ''
    export PATH=${tools}
    out=$(grep -o '"outputs":{"out":"[^"]*' $NIX_ATTRS_JSON_FILE | cut -d'"' -f6)
  '';
}
"#;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|path| path.exists());
        let Some(busybox) = busybox else {
            eprintln!("skipped: no busybox");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tools = dir.path().join("project/tools");
        std::fs::create_dir_all(&tools).expect("made");
        std::fs::copy(busybox, tools.join("busybox")).expect("copied");
        for applet in ["sh", "cat", "sleep", "ls", "grep", "cut", "stty", "env", "nc"] {
            std::os::unix::fs::symlink("busybox", tools.join(applet)).expect("linked");
        }
        std::fs::write(dir.path().join("project/default.img"), PROJECT).expect("written");
        Some(Self { dir })
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command
            .arg("--store")
            .arg(self.dir.path().join("store"))
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// Realises one attribute, without a link.
    fn realise(&self, attribute: &str, more: &[&str]) -> Output {
        let mut args = vec!["realise", "--no-out-link", "-A", attribute];
        args.extend(more);
        args.push(".");
        self.run(&args)
    }

    fn drv_of(&self, attribute: &str) -> String {
        self.drv_with(attribute, &[])
    }

    fn drv_with(&self, attribute: &str, more: &[&str]) -> String {
        let args = [&["instantiate", "-A", attribute], more, &["."]].concat();
        let output = self.run(&args);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A word that no other process of this machine has in its command line.
    fn mark(&self) -> String {
        static MARKS: AtomicUsize = AtomicUsize::new(0);
        format!("m{}-{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(Command::new("chmod").arg("-R").arg("u+rwX").arg(self.dir.path()).status());
    }
}

/// A place, or the end of the test.
macro_rules! place {
    () => {
        match Place::new() {
            Some(place) => place,
            None => return,
        }
    };
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn check_exit(output: &Output, code: i32, words: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn each_exit_code_says_whose_fault_it_was() {
    let place = place!();
    check_exit(&place.realise("good", &[]), 0, &["done good"]);
    check_exit(&place.run(&["realise", "-E", "throw \"no\""]), 1, &["no"]);
    check_exit(&place.run(&["realise", "--no-such-flag"]), 2, &["--no-such-flag"]);
    check_exit(&place.realise("fetched", &["--offline"]), 3, &["`fetched`", "--offline"]);
    std::fs::write(
        place.work().join("ampoule.toml"),
        "[debian]\nsuite = \"bookworm\"\n[debian.packages]\nrun = [\"hello\"]\n",
    )
    .expect("written");
    check_exit(&place.run(&["lock", "--check"]), 4, &["ampoule.lock"]);
    std::fs::remove_file(place.work().join("ampoule.toml")).expect("removed");
    check_exit(&place.realise("no-wall", &[]), 5, &["`__noChroot`"]);
    check_exit(&place.realise("fails", &[]), 100, &["`fails`", "> one", "ampoule log", "ampoule debug"]);
    let mark = place.mark();
    let timed = place.realise("sleeps", &["--timeout", "1", "--argstr", "mark", &mark]);
    check_exit(&timed, 101, &["timed out after 1 second", "--timeout"]);
    let silent = place.realise("sleeps", &["--max-silent", "1", "--argstr", "mark", &mark]);
    check_exit(&silent, 101, &["of silence", "--max-silent"]);
    check_exit(&place.realise("wrong-hash", &[]), 102, &["specified: ", "got: "]);
    check_exit(&place.realise("random", &[]), 0, &[]);
    check_exit(&place.realise("random", &["--check"]), 104, &["random", "not the same"]);
    assert!(!is_running(&mark));
}

#[test]
fn the_error_as_json_has_the_same_code() {
    let place = place!();
    let output = place.run(&["--json", "realise", "--no-out-link", "-A", "fails", "."]);
    assert_eq!(output.status.code(), Some(100));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let events: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(events.len(), text.lines().count(), "every line is an event: {text}");
    assert!(text.contains("\"log_tail\":[\"one\""), "{text}");
}

/// What `--json` tells is what the page says that it tells, attribute by attribute.
#[test]
fn each_event_is_on_the_page() {
    use std::collections::{BTreeMap, BTreeSet};
    let words =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md"))
        .expect("a page");
    let documented: BTreeMap<String, BTreeSet<String>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name.to_owned(), words(rest.split(" | ").next().unwrap_or_default())))
        .collect();
    let place = place!();
    std::fs::write(place.work().join("file"), "fetched from here").expect("written");
    let fetch = format!(
        "derivation {{ name = \"file\"; system = \"builtin\"; builder = \"builtin:fetchurl\"; url = \"file://{}\"; \
         outputHashMode = \"flat\"; outputHash = builtins.hashString \"sha256\" \"fetched from here\"; outputHashAlgo = \"sha256\"; }}",
        place.work().join("file").display()
    );
    let mut seen = BTreeSet::new();
    for args in
        [&["-A", "mixed", "-k", "-K", "."][..], &["-A", "both-random", "--check", "."], &["-E", &fetch]]
    {
        let output = place.run(&[&["--json", "realise", "--no-out-link"], args].concat());
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let event: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).expect(line);
            let Some(name) = event.get("event").and_then(serde_json::Value::as_str) else { continue };
            let keys: BTreeSet<String> = event.keys().filter(|key| *key != "event").cloned().collect();
            assert_eq!(Some(&keys), documented.get(name), "{line}");
            seen.insert(name.to_owned());
            if let Some(failure) = event.get("failure").and_then(serde_json::Value::as_object) {
                failure.keys().for_each(|key| assert!(page.contains(&format!("`{key}`")), "{key}"));
            }
        }
    }
    for name in ["plan", "started", "log", "finished", "failed", "difference", "summary"] {
        assert!(seen.contains(name), "{name} of {seen:?}");
    }
}

/// Whether any process has this word in its command line or environment.
fn is_running(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes.flatten().any(|entry| {
        let has = |file: &str| {
            std::fs::read(entry.path().join(file))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(mark))
        };
        entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|pid| pid != std::process::id())
            && (has("cmdline") || has("environ"))
    })
}

/// A directory that builds see as `/gate`, and wait in front of.
struct Gate {
    dir: PathBuf,
    option: String,
}

impl Gate {
    fn of(place: &Place) -> Self {
        let dir = place.dir.path().join("gate");
        std::fs::create_dir_all(&dir).expect("made");
        Self { option: format!("/gate={}", dir.display()), dir }
    }

    fn open(&self) {
        std::fs::write(self.dir.join("open"), "").expect("written");
    }
}

/// "Within a second" on a machine that has nothing else to do; how long it may be on one that has.
const AT_ONCE: Duration = Duration::from_secs(15);

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < terminal::PATIENCE, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Case 68: a signal ends it within a second, and nothing is left: no process, no directory, no lock.
#[test]
fn case_68_signals_leave_nothing_running() {
    let place = place!();
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mark = place.mark();
        let args = ["realise", "--no-out-link", "-A", "sleeps", "--argstr", "mark", &mark, "."];
        let child =
            place.command(&args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        wait_until("it builds", || is_running(&format!("sleeps-{mark}")));
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        let took = began.elapsed();
        assert_eq!(output.status.code(), Some(code), "{name}: {}", said(&output));
        assert!(took < AT_ONCE, "{name} took {took:?}");
        assert!(!is_running(&mark), "{name}");
        for dir in ["tmp", "build", "leases"] {
            let left = std::fs::read_dir(place.dir.path().join("store").join(dir)).expect("there").count();
            assert_eq!(left, 0, "{name}: something is left in {dir}");
        }
    }
}

#[test]
fn what_is_at_the_links_place_is_refused_before_anything_is_built() {
    let place = place!();
    std::fs::create_dir(place.work().join("result")).expect("made");
    let refused = place.run(&["realise", "-A", "good", "."]);
    check_exit(&refused, 2, &["`result` is there already, and is a directory", "-o LINK", "--no-out-link"]);
    assert!(!said(&refused).contains("build good"), "{}", said(&refused));
    std::fs::write(place.work().join("taken-doc"), "mine").expect("written");
    let refused = place.run(&["realise", "-A", "two.doc", "-o", "taken", "."]);
    check_exit(&refused, 2, &["`taken-doc` is there already"]);
    assert!(!said(&refused).contains("build two"), "{}", said(&refused));
    std::os::unix::fs::symlink("/etc/hosts", place.work().join("linked")).expect("linked");
    check_exit(&place.run(&["realise", "-A", "good", "-o", "linked", "."]), 2, &["a link to something else"]);
    assert_eq!(std::fs::read_to_string(place.work().join("taken-doc")).expect("there"), "mine");
    // Links of ours are replaced.
    for attribute in ["good", "random", "good"] {
        check_exit(&place.run(&["realise", "-A", attribute, "-o", "ours", "."]), 0, &[]);
    }
    let contents = std::fs::read_to_string(place.work().join("ours")).expect("a link to it");
    assert_eq!(contents, "good\n");
}

#[test]
fn a_link_without_a_directory_is_refused_before_anything_is_built() {
    let place = place!();
    let output = place.run(&["realise", "-o", "nowhere/link", "-A", "good", "."]);
    check_exit(&output, 2, &["there is no directory `nowhere`"]);
    assert!(!said(&output).contains("build good"), "{}", said(&output));
}

/// One that says nothing has no log; its sandbox can be entered all the same.
#[test]
fn a_silent_failure_says_how_to_look_into_it() {
    let place = place!();
    let output = place.realise("silent", &[]);
    check_exit(&output, 100, &["exit code 7", "run `ampoule debug "]);
    assert!(!said(&output).contains("ampoule log"), "{}", said(&output));
}

#[test]
fn keep_going_and_keep_failed() {
    let place = place!();
    let output = place.realise("several", &["--keep-going", "--keep-failed"]);
    check_exit(&output, 100, &["done random", "which was kept", "1 failed, 1 not tried"]);
    let text = said(&output);
    let kept = text.split("look into `").nth(1).and_then(|rest| rest.split('`').next()).expect("it is told");
    let left = std::fs::read_to_string(Path::new(kept).join("left-behind")).expect("it is there");
    assert_eq!(left, "kept\n");
    // What was built is not built again.
    check_exit(&place.realise("good", &[]), 0, &[]);
    assert!(!said(&place.realise("random", &[])).contains("build random"));
}

/// Whatever comes first: which of two failures is told by the exit code does not depend on it.
#[test]
fn the_gravest_failure_is_the_exit_code() {
    let place = place!();
    for jobs in ["1", "auto"] {
        let output = place.realise("mixed", &["-k", "-j", jobs]);
        check_exit(
            &output,
            102,
            &["`fails`: builder failed with exit code 3", "hash mismatch", "2 failed, 1 not tried"],
        );
    }
    check_exit(&place.realise("good", &["-j", "many"]), 2, &["many"]);
}

#[test]
fn a_check_of_what_was_never_built_builds_it_twice() {
    let place = place!();
    check_exit(
        &place.realise("random", &["--check"]),
        104,
        &["build random", "check random", "random", "byte"],
    );
    let output = place.realise("both-random", &["--check", "--keep-failed"]);
    check_exit(
        &output,
        104,
        &["-both-random` is not the same", "-both-random-doc` is not", "  page: differs from byte"],
    );
    let told = |word: &str| said(&output).matches(word).count();
    assert_eq!((told(".check-0`"), told("page: ")), (2, 1), "each is kept, and told once: {}", said(&output));
    check_exit(&place.realise("good", &["--check"]), 0, &["build good", "check good"]);
    let again = place.realise("good", &["--check"]);
    check_exit(&again, 0, &["check good"]);
    assert!(!said(&again).contains("build good"), "{}", said(&again));
    check_exit(&place.realise("fails", &["--check"]), 100, &["`fails`"]);
}

/// Two processes, one store: what one builds the other waits for, says so, and says when it is there.
#[test]
fn what_another_process_builds_is_waited_for() {
    let place = place!();
    let gate = Gate::of(&place);
    let args = ["realise", "--no-out-link", "-A", "talks", "--sandbox-path", &gate.option, "."];
    let mut first =
        place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let dir = place.dir.path().join("store/log");
    wait_until("it builds", || std::fs::read_dir(&dir).is_ok_and(|mut shards| shards.next().is_some()));
    let mut second =
        place.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(second.stderr.take().expect("piped")));
    let wait = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("wait ")));
    assert_eq!(wait.expect("it waits").expect("text"), "wait talks: another process works on it");
    let terminal = in_terminal(&place, 70, &args, &[]);
    terminal.wait_until("that it waits", |screen| {
        screen.lines().any(|line| line.contains("wait talks") && line.contains("another process"))
    });
    gate.open();
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert_eq!(rest, ["done talks: another process did it"]);
    assert!(first.wait().expect("it ends").success() && second.wait().expect("it ends").success());
    let (code, text) = terminal.end();
    assert!(code == 0 && !text.contains("wait"), "only the result is left:\n{text}");
}

#[test]
fn services_fold_logs_and_take_no_orders_from_them() {
    let place = place!();
    let run = |variable: &str, attribute: &str| {
        let mut command = place.command(&["realise", "--no-out-link", "-A", attribute, "."]);
        said(&command.env(variable, "true").output().expect("it runs"))
    };
    let text = run("GITHUB_ACTIONS", "fails");
    let lines: Vec<&str> = text.lines().collect();
    let at = |line: &str| {
        lines.iter().position(|found| *found == line).unwrap_or_else(|| panic!("{line}: {text}"))
    };
    let forged = at("::error::forged");
    assert!(at("::group::log of fails") < forged && forged < at("::endgroup::"));
    let stop = lines[..forged].iter().rev().find_map(|line| line.strip_prefix("::stop-commands::"));
    let word = stop.unwrap_or_else(|| panic!("{text}"));
    assert!(forged < at(&format!("::{word}::")), "{text}");
    assert!(text.contains("::error::`fails`: "), "{text}");
    let text = run("GITLAB_CI", "fails");
    assert!(text.contains("section_start:") && text.contains(":log_of_fails[collapsed=true]"), "{text}");
    assert!(text.contains("section_end:"), "{text}");
}

#[test]
fn a_log_is_followed_to_its_end() {
    let place = place!();
    follow(&place, "talks");
    let none = place.run(&["log", &place.drv_of("good")]);
    check_exit(&none, 1, &["there is no log of", "help:"]);
}

#[test]
fn a_log_is_followed_where_contents_decide_the_path() {
    follow(&place!(), "floating");
}

fn follow(place: &Place, attribute: &str) {
    let gate = Gate::of(place);
    let drv = place.drv_of(attribute);
    let mut build = place
        .command(&["-q", "realise", "--no-out-link", "-A", attribute, "--sandbox-path", &gate.option, "."])
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    wait_until("it builds", || {
        let dir = place.dir.path().join("store/log");
        std::fs::read_dir(dir).is_ok_and(|mut shards| shards.next().is_some())
    });
    let mut follow = place.command(&["log", "-f", &drv]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().expect("piped")));
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(first, "first word");
    assert!(build.try_wait().expect("a child").is_none(), "the first word comes while it builds");
    gate.open();
    assert_eq!(lines.next().expect("a line").expect("text"), "last word");
    assert!(lines.next().is_none());
    assert!(follow.wait().expect("it ends").success());
    assert!(build.wait().expect("it ends").success());
    let whole = place.run(&["log", &drv]);
    assert_eq!(String::from_utf8_lossy(&whole.stdout), "first word\nlast word\n");
}

#[test]
fn structured_attributes_graphs_and_checks() {
    let place = place!();
    let made = place.realise("structured", &[]);
    check_exit(&made, 0, &[]);
    let path = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let text = std::fs::read_to_string(path).expect("the attributes");
    let good = String::from_utf8_lossy(&place.realise("good", &[]).stdout).trim().to_owned();
    let good = good.rsplit('/').next().expect("a name").to_owned();
    for part in ["\"list\":[1,\"two\"]", "\"graph\":[{\"closureSize\":", &good, "\"references\":[]"] {
        assert!(text.contains(part), "expected `{part}` in {text}");
    }
    check_exit(
        &place.realise("too-large", &[]),
        100,
        &["too-large", "limit is 10 bytes", "outputChecks.out.maxSize"],
    );
    check_exit(&place.realise("refers", &[]), 100, &["refers", &good, "not allowed"]);
}

/// Case 5: a builder that is allowed out has a network of its own, and not the host's loopback.
#[test]
fn case_5_network_builders_have_a_network_of_their_own() {
    let place = place!();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let port = listener.local_addr().expect("bound").port().to_string();
    let args = ["--argstr", "port", &port, "--allow-network-builders"];
    let mut without = place.command(&["realise", "--no-out-link", "-A", "goes-out"]);
    let output = without.args(args).arg(".").env("PATH", "/nonexistent").output().expect("it runs");
    check_exit(&output, 5, &["`pasta` is not installed", "passt", "fetchurl"]);
    let output = place.realise("goes-out", &args);
    if said(&output).contains("cannot be connected to the world") {
        eprintln!(
            "skipped: {}",
            said(&output).lines().find(|line| line.contains("pasta")).unwrap_or_default()
        );
        return;
    }
    check_exit(&output, 102, &["the host is out of reach"]);
    assert!(listener.accept().is_err(), "nobody came to the host's loopback");
    let log = said(&place.run(&["log", &place.drv_with("goes-out", &args[..3])]));
    assert!(log.lines().any(|line| line.contains("00000000") && !line.starts_with("lo")), "a way out: {log}");
    assert!(log.contains("nameserver 169.254.1.53"), "{log}");
    // Without the word, there is no way out.
    let output = place.realise("goes-out", &args[..3]);
    check_exit(&output, 102, &["the host is out of reach", "--allow-network-builders"]);
}

// ---- on a terminal ----------------------------------------------------------------------------

fn in_terminal(place: &Place, columns: usize, args: &[&str], vars: &[(&str, &str)]) -> Terminal {
    let mut command = place.command(args);
    command.envs(vars.iter().copied());
    Terminal::start(command, columns)
}

#[test]
fn the_tree_shows_what_runs_and_leaves_nothing() {
    let place = place!();
    let gate = Gate::of(&place);
    let args = ["realise", "--no-out-link", "-A", "talks", "--sandbox-path", &gate.option, "."];
    let terminal = in_terminal(&place, 60, &args, &[]);
    terminal.wait_until("what runs", |screen| {
        screen.lines().any(|line| line.contains("build talks") && line.contains("first word"))
    });
    terminal.wait_until("since when", |screen| {
        screen.lines().any(|line| line.contains("build talks") && line.contains("1s"))
    });
    gate.open();
    let screen = std::sync::Arc::clone(&terminal.screen);
    let (code, text) = terminal.end();
    assert_eq!(code, 0);
    // The result is longer than a line.
    let path = text.replace('\n', "");
    assert!(path.starts_with('/') && path.ends_with("-talks"), "only the result is left:\n{text}");
    assert!(!screen.lock().expect("no test panics here").is_coloured);
}

#[test]
fn the_tree_fits_the_terminal_also_when_its_size_changes() {
    let place = place!();
    let gate = Gate::of(&place);
    let args = ["realise", "--no-out-link", "-A", "long", "--sandbox-path", &gate.option, "."];
    let terminal = in_terminal(&place, 40, &args, &[]);
    // The head, and a line for the build: cut, not continued below.
    let fits = |columns: usize| {
        move |screen: &str| {
            let lines: Vec<&str> = screen.lines().skip(1).collect();
            lines.len() == 2
                && lines[1].contains("build a-name")
                && lines.iter().all(|line| line.chars().count() <= columns)
        }
    };
    terminal.wait_until("what runs, in 40 columns", fits(40));
    terminal.resize(30);
    terminal.wait_until("what runs, in 30 columns", fits(30));
    terminal.resize(200);
    terminal.wait_for("by far");
    gate.open();
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("build a-name"), "nothing of the tree is left:\n{text}");
}

#[test]
fn a_failure_stays_on_the_screen_in_colour_or_without() {
    let place = place!();
    let args = ["realise", "--no-out-link", "-A", "fails", "."];
    for (vars, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let terminal = in_terminal(&place, 200, &args, vars);
        let screen = std::sync::Arc::clone(&terminal.screen);
        let (code, text) = terminal.end();
        assert_eq!(code, 100, "{text}");
        assert!(text.starts_with("error: `fails`: "), "{text}");
        assert!(text.contains("  > one") && text.contains("ampoule log "), "{text}");
        assert!(!text.contains("build fails") && !text.contains("to build"), "{text}");
        assert_eq!(screen.lock().expect("no test panics here").is_coloured, coloured);
    }
    let terminal = in_terminal(&place, 200, &args, &[("TERM", "dumb")]);
    let (_, text) = terminal.end();
    assert!(text.starts_with("plan: 1 to build"), "lines where nothing can be drawn:\n{text}");
}

#[test]
fn control_c_on_a_terminal() {
    let place = place!();
    let mark = place.mark();
    let args = ["realise", "--no-out-link", "-A", "sleeps", "--argstr", "mark", &mark, "."];
    let mut terminal = in_terminal(&place, 100, &args, &[]);
    terminal.wait_for("waiting m");
    let began = Instant::now();
    terminal.type_in("\u{3}");
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(!is_running(&mark));
    let is_left = text.contains("build sleeps") || text.contains("to build") || text.contains("^C");
    assert!(!is_left, "nothing of the tree is left:\n{text}");
}

#[test]
fn a_person_in_the_sandbox_has_a_terminal() {
    let place = place!();
    let drv = place.drv_of("good");
    let mut terminal = in_terminal(&place, 90, &["debug", &drv], &[]);
    terminal.wait_for("~ $");
    terminal.type_in("stty size; echo at $PWD; ls -A / | grep -c .\n");
    terminal.wait_for("24 90");
    terminal.wait_for("at /build");
    terminal.resize(70);
    terminal.type_in("until stty size | grep 'x* 70'; do sleep 0.1; done\n");
    terminal.wait_for("24 70");
    // ^C ends what runs inside, not the command. What it is to end says that it runs: a shell gives the terminal to
    // the next program after it has printed, and ^C in between is for nobody.
    terminal.type_in("sh -c 'echo now $((1 + 1)); exec sleep 1000'\n");
    terminal.wait_for("now 2");
    terminal.type_in("\u{3}");
    terminal.type_in("echo still $((40 + 2)) here\n");
    terminal.wait_for("still 42 here");
    terminal.type_in("exit 7\n");
    let (code, text) = terminal.end();
    assert_eq!(code, 7, "{text}");
}

#[test]
fn what_is_typed_in_the_sandbox_may_come_from_a_pipe() {
    let place = place!();
    let mut command = place.command(&["debug", &place.drv_of("good")]);
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut keys = shell.stdin.take().expect("piped");
    std::io::Write::write_all(&mut keys, b"sleep 0.3; echo at $PWD\necho and $((40 + 2))\n").expect("typed");
    // The end of what is typed ends the shell, also one that edits its lines.
    drop(keys);
    let output = shell.wait_with_output().expect("it ends");
    check_exit(&output, 0, &["at /build", "and 42"]);
}

#[test]
fn one_command_in_the_sandbox() {
    let place = place!();
    let output = place.run(&["debug", &place.drv_of("good"), "--", "env"]);
    check_exit(&output, 0, &["NIX_BUILD_TOP=/build", "HOME=/homeless-shelter"]);
    let output = place.run(&["debug", &place.drv_of("good"), "--", "sh", "-c", "exit 9"]);
    check_exit(&output, 9, &[]);
    let output = place.run(&["debug", &place.drv_of("good"), "--", "nothing-of-that-name"]);
    check_exit(&output, 100, &["`nothing-of-that-name` cannot be run in the sandbox", "whole path"]);
    // Without a `PATH` in the environment.
    let output =
        place.run(&["debug", &place.drv_of("structured"), "--", "sh", "-c", "echo $NIX_ATTRS_JSON_FILE"]);
    check_exit(&output, 0, &["/build/.attrs.json"]);
    let output = place.run(&["debug", &place.drv_of("fetched")]);
    check_exit(&output, 100, &["without a sandbox"]);
}

#[test]
fn evaluation_waits_for_what_it_imports_and_a_signal_ends_both() {
    let place = place!();
    let allowed = "--allow-import-from-derivation";
    let refused = place.run(&["eval", "-A", "imported.answer", "."]);
    check_exit(&refused, 1, &["'allow-import-from-derivation' is disabled"]);
    for words in [&["eval"][..], &["instantiate", "--eval"]] {
        let output = place.run(&[words, &[allowed, "-A", "imported.answer", "."]].concat());
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).trim()),
            (Some(0), "42"),
            "{}",
            said(&output)
        );
    }
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let mark = place.mark();
        let args = ["eval", allowed, "-A", "imports-endless", "--argstr", "mark", &mark, "."];
        let child =
            place.command(&args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        wait_until("it builds", || is_running(&format!("sleeps-{mark}")));
        let began = Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{name}: {}", said(&output));
        assert!(said(&output).contains("interrupted"), "{name}: {}", said(&output));
        assert!(began.elapsed() < AT_ONCE, "{name} took {:?}", began.elapsed());
        assert!(!is_running(&mark), "{name}");
    }
}
