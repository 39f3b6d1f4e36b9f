//! Section K of the attack and fault cases: places without user namespaces, and weaker walls by name.

mod lab;

use std::net::TcpListener;
use std::process::{Command, Output};

use ampoule_store::{StoreDir, StorePath, StoreSettings, Tier};
use lab::Lab;

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

/// Realises a derivation in this test program, run once more behind `wrapper`.
fn realise_behind(lab: &Lab, drv: &StorePath, wrapper: &str) -> Output {
    let mut command = Command::new("sh");
    lab::tell_child(&mut command, lab, &[drv]);
    command
        .args(["-c", wrapper, "sh"])
        .arg(std::env::current_exe().expect("our own name"))
        .args(["--exact", "realiser_in_a_process_of_its_own", "--nocapture"])
        .output()
        .expect("run")
}

#[test]
fn realiser_in_a_process_of_its_own() {
    let Some(realised) = lab::realise_as_child() else { return };
    match realised {
        Ok(_) => println!("\nBUILT"),
        Err(error) => {
            println!("\nFAILED {} {error}", error.exit_status());
            for hint in error.failures.iter().flat_map(|failure| &failure.hints) {
                println!("HINT {hint}");
            }
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn case_156_without_user_namespaces_it_stops_and_names_the_remedy() {
    let lab = lab!();
    let drv = lab.drv("case", "echo > $out");
    let wrapper =
        "exec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"' sh \"$@\"";
    let text = said(&realise_behind(&lab, &drv, wrapper));
    if !text.contains("running 1 test") {
        eprintln!("skipped: `unshare -Ur` does not work here: {text}");
        return;
    }
    assert!(text.contains("FAILED 5") && text.contains("user namespace"), "{text}");
    assert!(text.contains("`sysctl user.max_user_namespaces="), "{text}");
    assert!(text.contains("--sandbox=landlock"), "{text}");
    let out = lab.read(&drv).output_path("out").expect("known").clone();
    assert!(!lab.store.is_valid(&out).expect("asked"), "nothing was built without a sandbox");
}

/// The same behind filters that refuse namespaces: Docker's (EPERM), Debian's and gVisor's answers.
#[test]
fn case_156_behind_a_filter_it_stops_and_names_the_remedy() {
    let lab = lab!();
    let drv = lab.drv("case", "echo > $out");
    let Some(probe) = lab::probe() else { return };
    // Written by another process: nothing is executed that a child of another test may hold open for writing.
    let (draft, program) = (lab.dir.path().join("draft"), lab.dir.path().join("probe"));
    std::fs::write(&draft, probe).expect("written");
    let install = std::process::Command::new("install").arg("-m755").args([&draft, &program]).status();
    assert!(install.expect("it runs").success());
    let cases = [
        (libc::EPERM, "seccomp=unconfined"),
        (libc::ENOSYS, "gVisor"),
        (libc::ENOSPC, "max_user_namespaces"),
    ];
    for (errno, remedy) in cases {
        let wrapper = format!("exec {} without-namespaces {errno} \"$@\"", program.display());
        let text = said(&realise_behind(&lab, &drv, &wrapper));
        assert!(text.contains("FAILED 5") && text.contains("make a user namespace"), "{text}");
        assert!(text.contains(remedy) && text.contains("--sandbox=landlock"), "{text}");
        let out = lab.read(&drv).output_path("out").expect("known").clone();
        assert!(!lab.store.is_valid(&out).expect("asked"), "nothing was built without a sandbox");
    }
}

#[test]
fn case_160_as_the_only_user_of_a_container() {
    let lab = lab!();
    let drv = lab.drv(
        "case",
        "id -u > $out; if (exec 3>/proc/sys/kernel/core_pattern) 2>/dev/null; then echo opened >> $out; fi",
    );
    let text = said(&realise_behind(&lab, &drv, "exec unshare -Ur \"$@\""));
    if !text.contains("running 1 test") {
        eprintln!("skipped: `unshare -Ur` does not work here: {text}");
        return;
    }
    assert!(text.contains("BUILT"), "{text}");
    assert_eq!(std::fs::read_to_string(lab.build(&drv)).expect("a file"), "1000\n");
    // With /proc covered in part: what the kernel allows then, or a clear word.
    let masked = lab.drv("masked", "echo > $out");
    let wrapper = "exec unshare -Urm sh -c 'mount -t tmpfs none /proc/sys && exec \"$@\"' sh \"$@\"";
    let text = said(&realise_behind(&lab, &masked, wrapper));
    // Since Linux 5.8 the part of /proc that shows processes can be had all the same.
    assert!(text.contains("BUILT"), "{text}");
}

/// Case 161: what is missing is named, and what is not needed is not missed.
#[test]
fn case_161_odd_places() {
    let lab = lab!();
    let behind = |name: &str, set_up: &str| {
        let drv = lab.drv(name, "echo > $out");
        let wrapper = format!("exec unshare -Urm sh -c '{set_up} && exec \"$@\"' sh \"$@\"");
        said(&realise_behind(&lab, &drv, &wrapper))
    };
    let plain = behind("plain", "true");
    if !plain.contains("running 1 test") {
        eprintln!("skipped: `unshare -Urm` does not work here: {plain}");
        return;
    }
    assert!(plain.contains("BUILT"), "{plain}");
    // No home, no PATH, no temporary directory in the environment: nothing of it is used.
    let bare = behind("bare", "unset HOME TMPDIR PATH XDG_DATA_HOME");
    assert!(bare.contains("BUILT"), "{bare}");
    // No /dev at all: a build without /dev/null is none, and the word is in the message.
    let no_dev = behind("no-dev", "mount -t tmpfs none /dev");
    assert!(no_dev.contains("FAILED") && no_dev.contains("/dev/null"), "{no_dev}");
    let no_proc = behind("no-proc", "mount -t tmpfs none /proc");
    assert!(no_proc.contains("FAILED") && no_proc.contains("/proc"), "{no_proc}");
    // A store on a file system from which nothing may be executed.
    let dir = lab.dir.path().display();
    let noexec = behind("noexec", &format!("mount --bind {dir} {dir} && mount -o remount,bind,noexec {dir}"));
    assert!(noexec.contains("FAILED") && noexec.contains("noexec"), "{noexec}");
    for failed in ["no-dev", "no-proc", "noexec"] {
        let drv = lab.drv(failed, "echo > $out");
        let out = lab.read(&drv).output_path("out").expect("known").clone();
        assert!(!lab.store.is_valid(&out).expect("asked"), "{failed}");
    }
}

/// A store that lies where it believes to be.
fn honest_lab(tier: Tier) -> Option<(Lab, tempfile::TempDir)> {
    let place = tempfile::Builder::new().prefix("a").rand_bytes(5).tempdir_in("/tmp").expect("a directory");
    let logical = place.path().join("st");
    let settings = StoreSettings {
        store_dir: Some(StoreDir::new(logical.to_str().expect("plain")).expect("a good name")),
        ..StoreSettings::default()
    };
    let mut lab = Lab::with(settings)?;
    std::os::unix::fs::symlink(lab.store.root().objects(), &logical).expect("linked");
    // Root's builds are another user, who must be able to reach the store.
    for dir in [place.path(), lab.dir.path()] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    }
    lab.options.tier = tier;
    Some((lab, place))
}

#[test]
fn case_157_landlock_alone() {
    let Some((lab, _place)) = honest_lab(Tier::Landlock) else { return };
    if ampoule_realise::sandbox::landlock_abi() < 2 {
        eprintln!("skipped: no Landlock in this kernel");
        return;
    }
    let secret = lab.store.real_path(&lab.info(&lab.build(&lab.drv("secret", "echo secret > $out"))).path);
    let outside = lab.dir.path().join("outside");
    std::fs::write(&outside, "x").expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let shown = outside.display();
    let script = format!(
        "t() {{ if \"$@\" >/dev/null 2>&1 </dev/null; then echo done \"$@\"; else echo refused; fi; }}
         mkdir $out; (t cat /etc/passwd; t cat {}; t cat {shown}; t touch /tmp/ampoule-157; t rm {shown}; t sh -c 'echo > {shown}'
         t nc -w 3 127.0.0.1 {port}; t ls /; t unshare -U true) > $out/said; echo $out > $out/self; sleep 1000 & true",
        secret.display()
    );
    let path = lab.build(&lab.drv("case", &script));
    let said = std::fs::read_to_string(path.join("said")).expect("a file");
    // A user namespace may be had; it gives no right to mount.
    assert_eq!(said.lines().filter(|line| *line == "refused").count(), 8, "{said}");
    let info = lab.info(&path);
    assert_eq!(
        std::fs::read_to_string(path.join("self")).expect("a file"),
        format!("{}\n", lab.store.dir().print(&info.path))
    );
    assert!(info.references.contains(&info.path));
    // 159: what was built under which wall is told.
    assert_eq!(info.tier, Some(Tier::Landlock));
    assert!(outside.exists());
}

#[test]
fn case_158_no_wall_is_by_name_and_recorded() {
    let Some((lab, _place)) = honest_lab(Tier::None) else { return };
    let path = lab.build(&lab.drv("case", "echo $out > $out; id -u >> $out"));
    assert_eq!(lab.info(&path).tier, Some(Tier::None));
    let mut lab = lab;
    lab.options.tier = Tier::Namespaces;
    let path = lab.build(&lab.drv("strict", "echo > $out"));
    assert_eq!(lab.info(&path).tier, Some(Tier::Namespaces));
}

#[test]
fn case_159_what_a_weaker_wall_left_is_told() {
    let Some((mut lab, _place)) = honest_lab(Tier::None) else { return };
    let drv = lab.drv("case", "echo > $out");
    let notes = |lab: &Lab| -> Vec<String> {
        let (result, heard) = lab.realise_all(&[&drv]);
        result.expect("built, or there");
        let events = heard.0.into_inner().expect("no panic");
        let notes = events.into_iter().filter_map(|event| match event {
            ampoule_realise::Event::Note { message, .. } => Some(message),
            _ => None,
        });
        notes.collect()
    };
    assert_eq!((notes(&lab), notes(&lab)), (Vec::new(), Vec::new()));
    lab.options.tier = Tier::Namespaces;
    let told = notes(&lab);
    assert!(told.len() == 1 && told[0].contains("built with `--sandbox=none`"), "{told:?}");
    assert_eq!(lab.info(&lab.build(&drv)).tier, Some(Tier::None), "it is what it was");
    // Looked at once more behind the better wall.
    lab.options.check = true;
    assert_eq!(lab.realise_all(&[&drv]).0.expect("the same").built, 1);
}

#[test]
fn a_weaker_wall_says_what_it_needs() {
    let mut lab = lab!();
    lab.options.tier = Tier::Landlock;
    if std::fs::canonicalize("/nix/store").ok() == Some(lab.store.root().objects()) {
        return;
    }
    let failure = lab.fails(&lab.drv("case", "echo > $out"));
    assert!(failure.message.contains("the store must lie at `/nix/store`"), "{failure}");
    assert!(failure.hints[0].contains("ln -s"), "{failure}");
}
