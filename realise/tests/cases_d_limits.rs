//! Section D of the attack and fault cases: limits, time, and the end of things.

mod lab;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ampoule_net::Cancel;
use ampoule_realise::builtin::{BuiltinBuilder, BuiltinContext, BuiltinError};
use ampoule_realise::{FailureKind, Options, Realiser, Silent, Wanted};
use ampoule_store::{Store, StorePath, StoreSettings};
use lab::Lab;

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

#[test]
fn case_065_limits_end_a_build_within_a_second() {
    let check = |set: fn(&mut Options), script: &str, expected: &str| {
        let mut lab = lab!();
        set(&mut lab.options);
        let began = Instant::now();
        let failure = lab.fails(&lab.drv("case", script));
        assert!(failure.message.contains(expected), "{failure}");
        assert_eq!(failure.kind.exit_status(), 101);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    };
    check(
        |o| o.timeout = Some(Duration::from_millis(400)),
        "while :; do echo busy; sleep 0.1; done",
        "timed out after 0.4 seconds",
    );
    check(|o| o.max_silent = Some(Duration::from_millis(400)), "echo; sleep 100", "0.4 seconds of silence");
    check(
        |o| o.max_log_bytes = Some(100_000),
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
        "more than 100000 bytes of log",
    );
    // One that keeps within them is not disturbed.
    let mut lab = lab!();
    lab.options.max_silent = Some(Duration::from_secs(5));
    assert_eq!(lab.run("for i in 1 2 3 4 5 6 7; do echo $i; sleep 0.8; done; echo x > $out"), "x\n");
}

#[test]
fn case_066_greed_ends_the_build_alone() {
    let mut lab = lab!();
    lab.options.keep_going = true;
    lab.options.timeout = Some(Duration::from_secs(60));
    let bomb = lab.drv("bomb", "b() { b | b & }; b; sleep 0.3; exit 1");
    let other = lab.drv("other", "sleep 1; sh -c 'echo fine' > $out");
    let (result, _) = lab.realise_all(&[&bomb, &other]);
    let error = result.expect_err("the bomb fails");
    assert_eq!(error.failures.len(), 1, "{error}");
    let path = lab.read(&other).output_path("out").expect("known").clone();
    assert!(lab.store.is_valid(&path).expect("asked"));
    let said = lab
        .run("ulimit -u > $out; ulimit -n >> $out; ulimit -c >> $out; cat /proc/self/oom_score_adj >> $out");
    assert_eq!(said, "4096\n1024\n0\n1000\n");
}

/// Root's builds go first when memory is short, whatever they say.
#[test]
fn case_066_a_build_cannot_save_itself_when_memory_is_short() {
    let lab = lab!();
    let lowers = |shell: &mut std::process::Command| {
        let status =
            shell.args(["-c", "echo -1 > /proc/self/oom_score_adj"]).stderr(std::process::Stdio::null());
        status.status().is_ok_and(|status| status.success())
    };
    if !lowers(&mut std::process::Command::new("sh")) {
        eprintln!("skipped: only one who may lower his own score can keep a build from lowering its");
        return;
    }
    let said = lab.run("echo 0 2>/dev/null > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj > $out");
    assert_eq!(said, "1000\n");
}

#[test]
fn case_067_orphans_are_reaped() {
    let lab = lab!();
    // They die when they like; whoever is not reaped stays.
    let script = "
        zombies() { for p in /proc/[0-9]*; do cat $p/stat 2>/dev/null; done | grep -c ' Z '; }
        $probe orphans
        i=0; while [ $(zombies) != 0 ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
        zombies > $out; true";
    let Some(draft) = lab.with_probe("case", script) else { return };
    assert_eq!(std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file"), "0\n");
}

#[test]
fn case_068_a_cancelled_build_ends_within_a_second_and_leaves_nothing() {
    let lab = lab!();
    let marker = format!("100{}", std::process::id());
    let drvs: Vec<StorePath> = (0..3)
        .map(|n| {
            lab.drv(&format!("case-{n}"), &format!("trap '' TERM INT HUP; sleep {marker} & sleep {marker}"))
        })
        .collect();
    let asked = Arc::new(AtomicBool::new(false));
    let cancel = {
        let asked = Arc::clone(&asked);
        Cancel::when(move || asked.load(Ordering::Relaxed))
    };
    let wanted: Vec<Wanted> =
        drvs.iter().map(|drv| Wanted { drv: drv.clone(), outputs: BTreeSet::new() }).collect();
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let realiser = Realiser {
                store: &lab.store,
                source: &lab.store,
                builders: &lab.builders,
                substituters: None,
                options: &lab.options,
                events: &Silent,
                cancel,
            };
            let result = realiser.realise(&wanted);
            (result, Instant::now())
        });
        while !is_running(&marker) {
            assert!(!run.is_finished(), "it runs first");
            std::thread::sleep(Duration::from_millis(10));
        }
        let stopped = Instant::now();
        asked.store(true, Ordering::Relaxed);
        let (result, ended) = run.join().expect("no panic");
        let error = result.expect_err("interrupted");
        assert_eq!((error.exit_status(), error.failures.len()), (130, 1));
        ended - stopped
    });
    // A second on a machine that is not crowded.
    assert!(ended < Duration::from_secs(15), "{ended:?}");
    assert!(!is_running(&marker));
    let lock = lab.read(&drvs[0]).output_path("out").expect("known").clone();
    assert!(lab.store.try_lock_output(&lock).expect("asked").is_some(), "locks are free");
}

/// Makes a tree, and is cancelled when it is done with it: all that is left is to hash and register it.
struct Slow(Arc<AtomicBool>);

impl BuiltinBuilder for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let place = &cx.outputs["out"];
        rustix::fs::mkdirat(&place.dir, place.name.as_str(), 0o755.into()).expect("made");
        let tree = rustix::fs::openat(
            &place.dir,
            place.name.as_str(),
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        );
        let tree = tree.expect("just made");
        for index in 0..1000 {
            rustix::fs::mkdirat(&tree, format!("{index}"), 0o755.into()).expect("made");
        }
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Case 68 for what is made without a sandbox: a large tree is neither hashed nor deleted by one who is in a hurry.
#[test]
fn case_068_a_half_made_tree_is_left_to_whoever_comes_next() {
    let mut lab = lab!();
    let asked = Arc::new(AtomicBool::new(false));
    lab.builders.register(Slow(Arc::clone(&asked)));
    let mut draft = lab.draft("case", "");
    draft.builder = "builtin:slow".into();
    let drv = lab.write(draft);
    let names = |dir: &str| {
        let entries = std::fs::read_dir(lab.store.root().path().join(dir)).expect("there");
        entries.map(|entry| entry.expect("read").path()).collect::<Vec<_>>()
    };
    // A store of its own: what a process leaves shows when it ends.
    let store = Store::open(lab.store.root(), StoreSettings::default()).expect("a store");
    let realiser = Realiser {
        store: &store,
        source: &lab.store,
        builders: &lab.builders,
        substituters: None,
        options: &lab.options,
        events: &Silent,
        cancel: Cancel::when(move || asked.load(Ordering::Relaxed)),
    };
    let wanted = Wanted { drv: drv.clone(), outputs: BTreeSet::new() };
    let error = realiser.realise(&[wanted]).expect_err("interrupted");
    assert_eq!(error.exit_status(), 130, "{error}");
    let path = lab.read(&drv).output_path("out").expect("known").clone();
    assert!(!store.is_valid(&path).expect("asked"), "nothing was registered");
    drop(store);
    let left = names("trash");
    assert_eq!(left.len(), 1, "{left:?}");
    // The next who works takes it away.
    let next = Store::open(lab.store.root(), StoreSettings::default()).expect("a store");
    drop(next.staging().expect("a directory"));
    assert_eq!(names("trash"), Vec::<std::path::PathBuf>::new());
}

fn is_running(marker: &str) -> bool {
    std::fs::read_dir("/proc").expect("there").flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == marker.as_bytes()))
    })
}

/// Realises derivations in a process of its own: this test program, run once more.
fn realiser_process(lab: &Lab, drvs: &[&StorePath]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own name"));
    lab::tell_child(&mut command, lab, drvs);
    command
        .args(["--exact", "realiser_in_a_process_of_its_own", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn realiser_in_a_process_of_its_own() {
    let Some(realised) = lab::realise_as_child() else { return };
    let realised = realised.unwrap_or_else(|error| panic!("{error}\n{}", lab::tails(&error)));
    println!("BUILT {}", realised.built);
}

#[test]
fn case_069_a_killed_realiser_takes_its_builds_along() {
    let lab = lab!();
    let marker = format!("101{}", std::process::id());
    let drv = lab.drv("case", &format!("trap '' TERM INT HUP; sleep {marker} & sleep {marker}"));
    let mut process = realiser_process(&lab, &[&drv]).spawn().expect("started");
    while !is_running(&marker) {
        assert!(process.try_wait().expect("asked").is_none(), "it runs first");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().expect("killed");
    process.wait().expect("waited for");
    let killed = Instant::now();
    while is_running(&marker) {
        assert!(killed.elapsed() < Duration::from_secs(30), "the builder lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What it left goes when the next one works, whatever that builds.
    let again = realiser_process(&lab, &[&lab.drv("next", "echo > $out")]).output().expect("run");
    assert!(again.status.success(), "{again:?}");
    drop(again);
    let left = || {
        let sessions = std::fs::read_dir(lab.store.root().path().join("tmp")).expect("there").flatten();
        sessions.flat_map(|session| std::fs::read_dir(session.path()).into_iter().flatten().flatten()).count()
    };
    assert_eq!(left(), 0);
}

/// Case 69, from the other side: what makes sandboxes is killed alone, for lack of memory perhaps.
#[test]
fn case_069_a_killed_spawner_takes_its_builds_along() {
    let lab = lab!();
    let marker = format!("103{}", std::process::id());
    let drv = lab.drv("case", &format!("trap '' TERM INT HUP; sleep {marker} & sleep {marker}"));
    let (killed, error) = std::thread::scope(|scope| {
        let run = scope.spawn(|| lab.realise(&drv).expect_err("its sandbox is gone"));
        while !is_running(&marker) {
            assert!(!run.is_finished(), "it runs first");
            std::thread::sleep(Duration::from_millis(10));
        }
        let spawner = spawner_of(&marker).expect("it was started by one");
        rustix::process::kill_process(spawner, rustix::process::Signal::KILL).expect("killed");
        (Instant::now(), run.join().expect("no panic"))
    });
    assert!(error.to_string().contains("the process that makes sandboxes"), "{error}");
    while is_running(&marker) {
        assert!(killed.elapsed() < Duration::from_secs(30), "the builder lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process that started the sandbox in which `marker` runs: our child.
fn spawner_of(marker: &str) -> Option<rustix::process::Pid> {
    let entries = std::fs::read_dir("/proc").expect("there").flatten();
    let found = entries.filter(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == marker.as_bytes()))
    });
    let mut pid: u32 = found.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).next()?;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: u32 = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
        if parent == std::process::id() {
            return rustix::process::Pid::from_raw(i32::try_from(pid).ok()?);
        }
        pid = parent;
    }
}

#[test]
fn case_070_random_kills_leave_a_sound_store() {
    let lab = lab!();
    let mut leaves = Vec::new();
    for index in 0..20 {
        leaves.push(lab.drv(
            &format!("leaf-{index}"),
            "mkdir $out; for i in 1 2 3; do echo $i > $out/$i; done; sleep 0.02",
        ));
    }
    let refs: Vec<&StorePath> = leaves.iter().collect();
    let top = lab.drv_with("top", "cat $in0/1 $in19/3 > $out", &refs);
    for round in 0..25u64 {
        let mut process = realiser_process(&lab, &[&top]).spawn().expect("started");
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 400));
        process.kill().expect("killed or over");
        process.wait().expect("waited for");
    }
    for path in lab.store.all_valid().expect("listed") {
        let info = lab.store.expect_info(&path).expect("valid");
        assert_eq!(lab.store.hash_object(&path).expect("hashed").0, info.nar_hash, "{path}");
    }
    lab.build(&top);
}

/// Case 71: time in which we were stopped is not the build's.
#[test]
fn case_071_time_outs_do_not_count_while_we_are_stopped() {
    let lab = lab!();
    let marker = format!("102{}", std::process::id());
    let drv = lab.drv("case", &format!("sh -c 'sleep 10; true' {marker}; echo done > $out"));
    let mut command = realiser_process(&lab, &[&drv]);
    let mut process = command.env("AMPOULE_TEST_TIMEOUT_MS", "7000").spawn().expect("started");
    while !is_running(&marker) {
        assert!(process.try_wait().expect("asked").is_none(), "it runs first");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    std::thread::sleep(Duration::from_secs(9));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("goes on");
    assert!(process.wait().expect("waited for").success());
    let out = lab.read(&drv).output_path("out").expect("known").clone();
    assert!(lab.store.is_valid(&out).expect("asked"), "it was not killed");
    // The same limit ends a build that runs longer by our clock.
    let drv = lab.drv("longer", "sleep 300; echo done > $out");
    let began = Instant::now();
    let mut command = realiser_process(&lab, &[&drv]);
    command.env("AMPOULE_TEST_TIMEOUT_MS", "1000").output().expect("run");
    assert!(began.elapsed() < Duration::from_secs(100));
    assert!(!lab.store.is_valid(lab.read(&drv).output_path("out").expect("known")).expect("asked"));
}

/// Case 73: what makes sandboxes is small, however large we are.
#[test]
fn case_073_a_large_parent_makes_small_children() {
    let lab = lab!();
    let ballast = vec![1u8; 512 << 20];
    let drv = lab.drv("case", "sleep 3; echo > $out");
    let sizes = std::thread::scope(|scope| {
        let build = scope.spawn(|| lab.build(&drv));
        let mut sizes = Vec::new();
        while !build.is_finished() {
            sizes.extend(sandbox_processes().into_iter().filter_map(|pid| resident_kib(&pid.to_string())));
            std::thread::sleep(Duration::from_millis(50));
        }
        sizes
    });
    assert!(resident_kib("self").expect("ours") > 512 << 10, "{}", ballast[ballast.len() - 1]);
    assert!(!sizes.is_empty(), "they were seen");
    assert!(sizes.iter().all(|size| *size < 64 << 10), "{sizes:?}");
}

/// Our spawner, and what it has started.
fn sandbox_processes() -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").expect("listed").flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let ours = |pid: &u32| {
        let up = parent(*pid);
        up == Some(std::process::id()) || up.and_then(parent) == Some(std::process::id())
    };
    // Other tests of this program start realisers of their own.
    let is_sandbox = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "ampoule-sandbox")
    };
    pids.into_iter().filter(|pid| ours(pid) && is_sandbox(pid)).collect()
}

fn resident_kib(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[test]
fn case_072_a_thousand_builds_on_eight_threads() {
    let mut lab = lab!();
    lab.options.jobs = 8;
    let count = if cfg!(debug_assertions) { 200 } else { 1000 };
    let drvs: Vec<StorePath> = (0..count).map(|n| lab.drv(&format!("n{n}"), "echo > $out")).collect();
    let (result, _) = lab.realise_all(&drvs.iter().collect::<Vec<_>>());
    assert_eq!(result.expect("all build").built, count);
}

#[test]
fn case_074_few_descriptors_are_enough() {
    let lab = lab!();
    // In the second, all that may run at once do.
    for (limit, jobs, script) in [(64, 4, "echo > $out"), (256, 64, "sleep 0.2; echo > $out")] {
        let name = |number: usize| format!("n{jobs}-{number}");
        let drvs: Vec<StorePath> = (0..100).map(|number| lab.drv(&name(number), script)).collect();
        with_few_descriptors(&lab, &drvs.iter().collect::<Vec<_>>(), limit, jobs);
    }
}

fn with_few_descriptors(lab: &Lab, drvs: &[&StorePath], limit: usize, jobs: usize) {
    let mut command = realiser_process(lab, drvs);
    command.env("AMPOULE_TEST_JOBS", jobs.to_string());
    let program = command.get_program().to_owned();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"])
        .arg(program)
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.env(name, value.expect("set"));
    }
    let output = limited.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn cases_133_and_134_processes_share_the_work() {
    let lab = lab!();
    let counter = lab.dir.path().join("count");
    let leaves: Vec<StorePath> =
        (0..6).map(|n| lab.drv(&format!("leaf-{n}"), "sleep 0.1; echo $RANDOM > $out")).collect();
    let top = lab.drv_with("top", "cat $in0 > $out", &leaves.iter().collect::<Vec<_>>());
    let processes: Vec<_> =
        (0..6).map(|_| realiser_process(&lab, &[&top]).spawn().expect("started")).collect();
    let mut built = 0;
    for process in processes {
        let output = process.wait_with_output().expect("waited for");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.split("BUILT ").nth(1)).expect("told");
        built += line.trim().parse::<usize>().expect("a number");
    }
    assert_eq!(built, 7, "each is built once");
    let _ = counter;
}

#[test]
fn what_depends_on_a_failure_is_not_tried_and_the_rest_is() {
    let mut lab = lab!();
    lab.options.keep_going = true;
    let bad = lab.drv("bad", "exit 7");
    let after = lab.drv_with("after", "echo > $out", &[&bad]);
    let last = lab.drv_with("last", "echo > $out", &[&after]);
    let good = lab.drv("good", "sleep 0.3; echo > $out");
    let good_after = lab.drv_with("good-after", "echo > $out", &[&good]);
    let (result, _) = lab.realise_all(&[&last, &good_after]);
    let error = result.expect_err("one fails");
    assert_eq!((error.failures.len(), error.not_tried, error.exit_status()), (1, 2, 100));
    let path = lab.read(&good_after).output_path("out").expect("known").clone();
    assert!(lab.store.is_valid(&path).expect("asked"));
    assert_eq!(error.failures[0].kind, FailureKind::Build);
}
