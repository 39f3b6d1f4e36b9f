//! Section B of the attack and fault cases: the environment is always the same.

mod lab;

use std::process::{Command, Stdio};

use ampoule_realise::FailureKind;

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

/// Everything that a build can tell of the world in which its realiser was started.
const WORLD: &str = "(env | sort; umask; id; pwd; hostname; cat /proc/sys/kernel/domainname; nproc
    ulimit -a | grep -v 'scheduling\\|nice'; ls -la --full-time / /dev /build /tmp | grep -v ' proc$' | sed 's/ 20[0-9][0-9]-.*00 / /; s/[0-9]* nixbld/nixbld/'
    cat /etc/passwd /etc/group /etc/hosts
    grep 'Sig\\|Cap\\|Umask\\|Uid\\|Gid\\|NoNewPrivs\\|Seccomp\\|Cpus_allowed:' /proc/self/status | grep -v SigQ
    cat /proc/self/personality /proc/self/oom_score_adj; ls /proc/self/fd | head -n 3; date -d @0) > $out 2>&1";

#[test]
fn the_world_in_a_process_of_its_own() {
    if std::env::var_os("AMPOULE_TEST_WORLD").is_some() {
        let lab = lab!();
        println!("\nWORLD[{}]", lab.run(WORLD));
    }
}

fn world(wrapper: &str) -> String {
    let program = std::env::current_exe().expect("our own name");
    let output = Command::new("sh")
        .args(["-c", &format!("{wrapper} \"$@\""), "sh"])
        .arg(program)
        .args(["--exact", "the_world_in_a_process_of_its_own", "--nocapture"])
        .env("AMPOULE_TEST_WORLD", "1")
        .stdin(Stdio::null())
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let inner = text.split("WORLD[").nth(1).and_then(|rest| rest.split("]\n").next());
    inner.unwrap_or_else(|| panic!("{wrapper}: {text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[test]
fn cases_035_to_038_nothing_of_the_caller_shows() {
    if lab::busybox().is_none() {
        return;
    }
    let plain = world("exec");
    assert!(plain.contains("uid=1000(nixbld) gid=100(nixbld)"), "{plain}");
    for wrapper in [
        "umask 077; exec",
        "ulimit -s 4096; ulimit -c 0; exec",
        "cd /; export TZ=Asia/Tokyo LC_ALL=C LANG=de_DE.UTF-8 TERM=dumb HOME=/x A_VARIABLE=1 PATH=/usr/bin:/bin; exec",
        "trap '' HUP PIPE INT TERM USR1; exec nohup",
        "exec taskset 1",
        "exec setsid",
    ] {
        let other = world(wrapper);
        if wrapper.starts_with("ulimit") {
            // A hard limit that is lower than ours cannot be raised by an ordinary user.
            let without = |text: &str| {
                text.lines().filter(|line| !line.contains("stack")).map(String::from).collect::<Vec<_>>()
            };
            assert_eq!(without(&plain), without(&other), "{wrapper}");
        } else {
            assert_eq!(plain, other, "{wrapper}");
        }
    }
}

/// How urgent a build is and where it may run do not depend on the caller, as far as anyone may undo that.
#[test]
fn case_035_urgency_and_processors_are_the_same() {
    const URGENCY: &str =
        "(awk '{print $18, $19, $41}' /proc/self/stat; grep Cpus_allowed_list /proc/self/status) > $out";
    if let Some(wanted) = std::env::var_os("AMPOULE_TEST_URGENCY") {
        let lab = lab!();
        println!("\nURGENCY[{}]", lab.run(URGENCY));
        drop(wanted);
        return;
    }
    if lab::busybox().is_none() {
        return;
    }
    let urgency = |wrapper: &[&str]| {
        let (program, arguments) = wrapper.split_first().expect("a program");
        let output = Command::new(program)
            .args(arguments)
            .arg(std::env::current_exe().expect("our own name"))
            .args(["--exact", "case_035_urgency_and_processors_are_the_same", "--nocapture"])
            .env("AMPOULE_TEST_URGENCY", "1")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.split("URGENCY[").nth(1)?.split("]\n").next()?.to_owned())
    };
    let plain = urgency(&["env"]).expect("it runs");
    let is_root = rustix::process::geteuid().is_root();
    assert!(!is_root || plain.starts_with("20 0 0\n"), "{plain}");
    // Whoever was made idle or nice stays so, but for root.
    let anyone: &[&[&str]] = &[&["taskset", "1"], &["chrt", "--batch", "0"]];
    // (Not `chrt --idle`: on a crowded machine that test would wait for an idle moment.)
    let root: &[&[&str]] = &[&["nice", "-n", "7"]];
    for wrapper in anyone.iter().chain(root.iter().filter(|_| is_root)) {
        match urgency(wrapper) {
            Some(other) => assert_eq!(plain, other, "{wrapper:?}"),
            None => eprintln!("skipped: no {}", wrapper[0]),
        }
    }
}

/// Owners show as the same, whoever started the build.
#[test]
fn inputs_belong_to_the_builds_user() {
    let lab = lab!();
    let script = "stat -c '%u %g %a' $PATH/busybox $NIX_STORE $PATH / /build > $out";
    assert_eq!(lab.run(script), "1000 100 555\n1000 100 755\n1000 100 555\n1000 100 755\n1000 100 700\n");
}

#[test]
fn case_040_addresses_are_not_random() {
    let lab = lab!();
    let drv = |name: &str| {
        lab.drv(name, "head -n1 /proc/self/maps > $out; tail -n3 /proc/self/maps | grep stack >> $out; true")
    };
    let read = |name: &str| std::fs::read_to_string(lab.build(&drv(name))).expect("a file");
    assert_eq!(read("one").len(), read("two").len());
    let persona = lab.run("cat /proc/self/personality > $out 2>&1; true");
    assert!(persona.trim() == "00040000" || persona.contains("ermission"), "{persona}");
}

#[test]
fn case_042_times_of_inputs_are_fixed() {
    let lab = lab!();
    let input = lab.drv("input", "mkdir $out; touch $out/x; ln -s x $out/l");
    let script = "stat -c %Y $in0 $in0/x $in0/l > $out; echo $SOURCE_DATE_EPOCH >> $out";
    let said = std::fs::read_to_string(lab.build(&lab.drv_with("case", script, &[&input]))).expect("a file");
    assert_eq!(said, "1\n1\n1\n315532800\n");
}

#[test]
fn case_044_a_random_output_is_found_out() {
    let mut lab = lab!();
    let drv = lab.drv("case", "mkdir $out; echo same > $out/same; head -c 16 /dev/urandom > $out/random");
    let path = lab.build(&drv);
    let before = lab.info(&path);
    lab.options.check = true;
    lab.options.keep_failed = true;
    let failure = lab.fails(&drv);
    assert_eq!((failure.kind, failure.kind.exit_status()), (FailureKind::NotDeterministic, 104));
    assert!(
        failure.message.contains("random: differs from byte") && !failure.message.contains("same:"),
        "{failure}"
    );
    assert!(failure.message.contains("kept as"), "{failure}");
    assert_eq!(lab.info(&path), before, "the store is unchanged");
    let good = lab.drv("good", "echo same > $out");
    lab.build(&good);
}

/// Other directories, other numbers of processes. The hour is the machine's: no namespace has another.
#[test]
fn case_045_the_build_directory_or_a_pid_in_an_output_is_found_out() {
    let mut lab = lab!();
    for (name, script) in [("directory", "pwd > $out"), ("pid", "echo $$ > $out")] {
        let drv = lab.drv(name, script);
        lab.options.check = false;
        lab.build(&drv);
        lab.options.check = true;
        assert_eq!(lab.fails(&drv).kind, FailureKind::NotDeterministic, "{name}");
    }
}
