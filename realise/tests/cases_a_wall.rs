//! Section A of the attack and fault cases: the wall around a build. Each test is named by its number.

mod lab;

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ampoule_store::{Hash, Method};

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.set_nonblocking(true).expect("set");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Which of the host's network a script can reach; each line that it prints is a failure to reach.
fn network_script(port: u16) -> String {
    format!(
        "r() {{ if \"$@\" </dev/null >/dev/null 2>&1; then echo reached \"$@\"; else echo refused; fi; }}
         r nc -w 100 127.0.0.1 {port}; r nc -w 100 192.0.2.1 80; r nslookup example.org 192.0.2.1"
    )
}

#[test]
fn case_001_no_network() {
    let lab = lab!();
    let (listener, port) = listener();
    let began = Instant::now();
    let said = lab.run(&format!("({}) > $out", network_script(port)));
    assert_eq!(said, "refused\nrefused\nrefused\n");
    assert!(began.elapsed() < Duration::from_secs(60), "refused at once, not by a time-out");
    assert!(listener.accept().is_err());
}

#[test]
fn case_002_abstract_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    let lab = lab!();
    let name = format!("ampoule-case-2-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a good name");
    let _listener = UnixListener::bind_addr(&address).expect("bound");
    UnixStream::connect_addr(&address).expect("outside it answers");
    let Some(draft) = lab.with_probe("case", &format!("$probe abstract {name} > $out")) else { return };
    let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    assert_eq!(said, format!("connect {}\n", libc::ECONNREFUSED));
}

#[test]
fn case_003_two_builds_have_abstract_sockets_of_their_own() {
    let lab = lab!();
    let script = "$probe bind ampoule-case-3 > $out";
    let drafts: Vec<_> = (0..2).filter_map(|n| lab.with_probe(&format!("case-{n}"), script)).collect();
    let drvs: Vec<_> = drafts.into_iter().map(|draft| lab.write(draft)).collect();
    let (result, _) = lab.realise_all(&drvs.iter().collect::<Vec<_>>());
    for outputs in result.expect("both build").outputs.values() {
        let said = std::fs::read_to_string(lab.store.real_path(&outputs["out"])).expect("a file");
        assert_eq!(said, "bind 0\n");
    }
}

#[test]
fn case_004_a_promised_output_keeps_its_bytes() {
    let lab = lab!();
    // The builder keeps the file open and goes on writing; it is dead before anything is hashed, and
    // what is registered is another inode anyway.
    let script = "echo good > $out; (exec 3>>$out; while :; do echo bad >&3; done) & sleep 0.05; echo good > $out.new; mv $out.new $out";
    let drv = lab.fixed("case", script, Method::Flat, Hash::sha256(b"good\n"));
    let path = lab.build(&drv);
    assert_eq!(std::fs::read(&path).expect("a file"), b"good\n");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(std::fs::read(&path).expect("a file"), b"good\n");
}

#[test]
fn case_005_a_promised_output_gives_no_network() {
    let lab = lab!();
    let (listener, port) = listener();
    let script = format!("({}) > $out", network_script(port));
    let drv = lab.fixed("case", &script, Method::Flat, Hash::sha256(b"refused\nrefused\nrefused\n"));
    lab.build(&drv);
    assert!(listener.accept().is_err());
}

#[test]
fn case_006_inputs_cannot_be_written() {
    let lab = lab!();
    let input = lab.drv("input", "mkdir $out; echo original > $out/file");
    let script = "chmod u+w $in0 $in0/file 2>/dev/null; echo evil > $in0/NEW || echo refused > $out
                  echo evil > $in0/file || echo refused >> $out; rm -f $in0/file || echo refused >> $out
                  mv $in0 /tmp/x || echo refused >> $out; touch $in0 || echo refused >> $out";
    let path = lab.build(&lab.drv_with("case", script, &[&input]));
    assert_eq!(std::fs::read_to_string(path).expect("a file"), "refused\n".repeat(5));
    let input_path = lab.build(&input);
    assert_eq!(std::fs::read_to_string(input_path.join("file")).expect("a file"), "original\n");
    let object = lab.store.root().object_of(&input_path).expect("in the store");
    assert_eq!(lab.store.hash_object(&object).expect("hashed").0, lab.info(&input_path).nar_hash);
}

#[test]
fn case_007_mounts_are_locked() {
    let lab = lab!();
    let input = lab.drv("input", "mkdir $out; echo original > $out/file");
    let script = "cat > attack <<'END'
        mount -o remount,rw,bind $in0; mount -o remount,rw $in0; umount $in0; umount -l $in0
        mkdir -p /tmp/x; mount -o bind $in0 /tmp/x; mount -o remount,rw,bind /tmp/x
        mount -t tmpfs none $in0
        echo evil > $in0/file; echo evil > $in0/NEW; echo evil > /tmp/x/file; umount -l /; umount /proc
END
        sh attack 2>/dev/null; unshare -Urm sh attack 2>/dev/null; unshare -Urmp -f sh attack 2>/dev/null
        cat $in0/file > $out; ls $in0 >> $out";
    let path = lab.build(&lab.drv_with("case", script, &[&input]));
    assert_eq!(std::fs::read_to_string(path).expect("a file"), "original\nfile\n");
    assert_eq!(std::fs::read_to_string(lab.build(&input).join("file")).expect("a file"), "original\n");
}

#[test]
fn case_008_only_the_closure_is_seen() {
    let lab = lab!();
    let secret = lab.build(&lab.drv("secret", "echo secret > $out"));
    let secret = lab.store.dir().print(&lab.info(&secret).path);
    let input = lab.drv("input", "echo input > $out");
    let script = format!("(cd $NIX_STORE; ls | cut -c34- | sort; cat {secret} 2>&1 | sed 's/.*: //') > $out");
    let script = script.replace("> $out", "> /build/said; cp /build/said $out");
    let path = lab.build(&lab.drv_with("case", &script, &[&input]));
    assert_eq!(std::fs::read_to_string(path).expect("a file"), "busybox\ninput\nNo such file or directory\n");
}

#[test]
fn case_009_what_is_not_an_output_is_gone() {
    let lab = lab!();
    let other = "00000000000000000000000000000000-other";
    let path = lab.build(&lab.drv("case", &format!("echo x > $NIX_STORE/{other}; echo y > $out")));
    assert!(path.exists());
    assert!(!lab.store.root().objects().join(other).exists());
}

#[test]
fn case_010_nothing_of_the_host_is_seen() {
    let lab = lab!();
    let marker = "AMPOULE_CASE_10_SECRET";
    let said = lab.run(&format!(
        "(ls /root /home /etc/shadow /var /usr /work 2>&1 | sed 's/.*: //' | sort -u
          cat /proc/1/environ 2>&1 | sed 's/.*: //'; ls /proc/1/root/ 2>&1 | sed 's/.*: //'
          ls -l /proc/1/exe 2>&1 | grep -c -- '->'; env | grep -c {marker}; echo ~; ls / | tr '\\n' ' ') > $out"
    ));
    assert_eq!(
        said,
        "No such file or directory\nPermission denied\nPermission denied\n0\n0\n/homeless-shelter\n\
         build dev etc nix proc tmp "
    );
}

#[test]
fn case_011_no_descriptor_leaks() {
    let lab = lab!();
    // These are inherited by whatever we start.
    let root = std::fs::File::open("/").expect("the root");
    let _leak = rustix::io::dup(&root).expect("a copy that exec does not close");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let _more = [rustix::io::dup(&reader).expect("a copy"), rustix::io::dup(&writer).expect("a copy")];
    assert_eq!(
        lab.run("sh -c 'cd /proc/self/fd; echo *' > $out"),
        "0 1 2 3\n",
        "3 is the shell's own listing"
    );
}

#[test]
fn case_012_our_own_program_cannot_be_run_or_changed() {
    let lab = lab!();
    let mut draft = lab.draft("case", "");
    draft.builder = "/proc/self/exe".into();
    let failure = lab.fails(&lab.write(draft));
    assert!(failure.message.contains("/proc/self/exe"), "{failure}");
    // A script is resolved by the kernel, when the program that runs is still ours.
    let tree = lab.dir.path().join("script");
    std::fs::write(&tree, "#!/proc/self/exe\n").expect("written");
    std::fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).expect("set");
    let options = ampoule_store::AddOptions::source("script");
    let script = lab.store.add_path(&tree, &options, None).expect("added").path;
    let mut draft = lab.draft("case", "");
    draft.builder = lab.store.dir().print(&script).into();
    draft.input_sources.insert(script);
    let failure = lab.fails(&lab.write(draft));
    assert!(failure.message.contains("not executable"), "{failure}");
    let said =
        lab.run("(readlink /proc/1/exe; echo x > /proc/1/exe; cat /proc/1/exe | wc -c) > $out 2>/dev/null");
    assert_eq!(said, "0\n");
}

/// Where the kernel has no Landlock, the spawner runs from a copy that nobody can change.
#[test]
fn case_012_a_sealed_copy_makes_sandboxes_too() {
    use ampoule_realise::sandbox::{Identity, SandboxEvent, SandboxSpec, Spawner};
    let lab = lab!();
    let staging = lab.store.staging().expect("a directory");
    for name in ["store", "build", "tmp"] {
        std::fs::create_dir(staging.path().join(name)).expect("made");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_ampoule-sandbox"));
    let spawner = Spawner::start_copy(program).expect("started");
    let who = Identity::of_this_process();
    let spec = SandboxSpec::new(staging.path().into(), lab.store.root().objects(), "/nix/store".into(), who);
    let (_log, writer) = std::io::pipe().expect("a pipe");
    let mut sandbox = spawner.spawn(&spec, writer.into()).expect("asked for");
    let mut ended = None;
    loop {
        match sandbox.next_event().expect("the spawner lives") {
            SandboxEvent::Exited(status) => ended = Some(status),
            SandboxEvent::Failed(error) => panic!("{error}"),
            SandboxEvent::Gone(_) => break,
            SandboxEvent::Started(_) | SandboxEvent::WantsUplink => {}
        }
    }
    assert_eq!(ended, Some(0), "a probe: everything but the builder");
}

/// Runs the probe's calls and returns name and error number of each.
fn calls(lab: &lab::Lab) -> Option<std::collections::BTreeMap<String, i32>> {
    let draft = lab.with_probe("calls", "$probe calls > $out")?;
    let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    let pairs = said.lines().map(|line| {
        let (name, errno) = line.split_once(' ').expect("two words");
        (name.to_owned(), errno.parse().expect("a number"))
    });
    Some(pairs.collect())
}

#[track_caller]
fn check(found: &std::collections::BTreeMap<String, i32>, names: &[&str], errno: i32) {
    for name in names {
        assert_eq!(found.get(*name), Some(&errno), "{name}");
    }
}

#[test]
fn cases_013_to_024_forbidden_calls() {
    let lab = lab!();
    let Some(found) = calls(&lab) else { return };
    // 13, 14: no file with a set-id bit, however it is asked for.
    check(&found, &["chmod", "fchmod", "fchmodat", "fchmodat2"], libc::EPERM);
    check(&found, &["open", "creat", "mknod", "mknodat", "tmpfile"], libc::EPERM);
    check(&found, &["openat2", "io_uring_setup"], libc::ENOSYS);
    // 16: no extended attributes.
    check(&found, &["setxattr", "lsetxattr", "fsetxattr", "setxattrat"], libc::ENOTSUP);
    // 17, 20, 23: what no build needs.
    check(&found, &["bpf", "perf_event_open", "open_by_handle_at", "quotactl", "userfaultfd"], libc::ENOSYS);
    check(&found, &["keyctl", "add_key", "request_key", "future"], libc::ENOSYS);
    // 21, 22: sockets that lead out, or into the kernel.
    check(&found, &["vsock", "packet", "alg", "bluetooth"], libc::EAFNOSUPPORT);
    check(&found, &["raw"], libc::EPERM);
    check(&found, &["tipc-pair"], libc::EAFNOSUPPORT);
    check(&found, &["netfilter", "generic"], libc::EPROTONOSUPPORT);
    check(&found, &["unix-pair"], 0);
    // 7, 17: no mounts, by whatever call.
    check(&found, &["mount", "umount", "pivot_root", "open_tree", "move_mount"], libc::EPERM);
    check(&found, &["fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"], libc::EPERM);
    check(&found, &["unix", "inet", "netlink", "terminal"], 0);
    // 19, 24: nobody else's process or terminal.
    check(&found, &["tiocsti", "ptrace-init"], libc::EPERM);
    check(&found, &["controlling"], libc::ENXIO);
    check(&found, &["setuid", "setgid"], libc::EINVAL);
}

#[test]
fn case_013_chmod_from_a_shell() {
    let lab = lab!();
    let said = lab.run("touch f; chmod 4755 f 2>/dev/null; echo $? > $out; stat -c %a f >> $out");
    assert_eq!(said, "1\n644\n");
}

#[test]
fn case_015_foreign_system_calls_are_killed() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let lab = lab!();
    for way in ["int80", "x32"] {
        let script = format!("$probe {way} > /build/said 2>&1; echo $? > $out; cat /build/said >> $out");
        let Some(draft) = lab.with_probe(&format!("case-{way}"), &script) else { return };
        let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
        assert_eq!(said, format!("{}\nBad system call\n", 128 + libc::SIGSYS), "{way}");
    }
}

#[test]
fn case_017_no_devices_mounts_or_owners() {
    let lab = lab!();
    let said = lab.run(
        "t() { if \"$@\" 2>/dev/null; then echo done \"$@\"; else echo refused; fi; }; touch f
         (t mknod c c 1 3; t mknod b b 8 0; t mount -t proc proc /tmp; t umount /proc; t chown 0:0 f
          t chroot / true; t hostname evil; t mount -t tmpfs x /tmp) > $out",
    );
    assert_eq!(said, "refused\n".repeat(8));
}

#[test]
fn case_018_dangerous_files_are_absent_or_refused() {
    let lab = lab!();
    let said = lab.run(
        "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/kcore /dev/mem \
           /dev/kmem /dev/kvm /dev/fuse /dev/vda /dev/sda /proc/sys/vm/drop_caches /sys/kernel/uevent_helper; do
           if (exec 3>$f) 2>/dev/null; then echo opened $f; fi; done > $out; echo end >> $out",
    );
    assert_eq!(said, "end\n");
}

#[test]
fn case_019_other_builds_are_not_visible() {
    let lab = lab!();
    let script = "sleep 0.5; ls /proc | grep -c '^[0-9]' > $out; sleep 0.5";
    let drvs = [lab.drv("one", script), lab.drv("two", script), lab.drv("three", script)];
    let (result, _) = lab.realise_all(&drvs.iter().collect::<Vec<_>>());
    for outputs in result.expect("all build").outputs.values() {
        let said = std::fs::read_to_string(lab.store.real_path(&outputs["out"])).expect("a file");
        // Pid 1, the shell, and the two of the pipe.
        let count: u32 = said.trim().parse().expect("a number");
        assert!(count <= 4, "{count} processes");
    }
}

/// A build that runs as the caller would be shown what the caller's keys are called.
#[test]
fn case_020_names_of_keys_are_not_seen() {
    let lab = lab!();
    if rustix::process::geteuid().is_root() {
        // Of another user altogether.
        let all = lab.run("cat /proc/keys > $out 2>/dev/null; true");
        assert!(!all.contains("_uid.0"), "{all}");
    } else {
        // Not even the build's own session's, which would be there.
        assert_eq!(lab.run("cat /proc/keys /proc/key-users 2>/dev/null | wc -c > $out"), "0\n");
    }
}

#[test]
fn case_025_nesting_is_off_and_says_so() {
    let lab = lab!();
    let said = lab.run("unshare -Urm mount -t tmpfs none /tmp 2>&1 | grep -c 'ermission\\|permitted' > $out");
    // A user namespace may be had; what it cannot do is to mount: Landlock's domain forbids it.
    assert_eq!(said, "1\n");
}

#[test]
fn case_026_only_the_build_dies() {
    let lab = lab!();
    let killer = lab
        .drv("killer", "kill -9 1; kill -15 1; trap '' TERM; kill -TERM -1; kill -9 -1; echo still > $out");
    let group = lab.drv("group", "sleep 0.2; kill -9 0");
    let other = lab.drv("other", "sleep 1; echo fine > $out");
    let (result, _) = {
        let mut lab = lab;
        lab.options.keep_going = true;
        let outcome = lab.realise_all(&[&killer, &group, &other]);
        let path = lab.read(&other).output_path("out").expect("known").clone();
        assert!(lab.store.is_valid(&path).expect("asked"), "the other build lives");
        outcome
    };
    // `kill -1` spares the sender, so that the first may well succeed; the second cannot.
    let failures = result.expect_err("one fails").failures;
    assert!(failures.iter().any(|failure| failure.name == "group" && failure.message.contains("SIGKILL")));
}

#[test]
fn case_029_nobody_else_walks_into_a_build_directory() {
    let lab = lab!();
    let script = "chmod 777 /build /tmp $NIX_STORE; touch /build/started; count=0
        while [ -e /build/started ] && [ $count -lt 600 ]; do sleep 0.1; count=$((count + 1)); done; echo > $out";
    let drv = lab.drv("case", script);
    std::thread::scope(|scope| {
        let build = scope.spawn(|| lab.build(&drv));
        let tmp = lab.store.root().path().join("tmp");
        let started = loop {
            let stagings = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
            let stagings =
                stagings.flat_map(|session| std::fs::read_dir(session.path()).into_iter().flatten());
            let mut started = stagings.flatten().map(|staging| staging.path().join("build/started"));
            if let Some(started) = started.find(|started| started.exists()) {
                break started;
            }
            assert!(!build.is_finished(), "it waits for us");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&tmp), 0o700);
        for session in std::fs::read_dir(&tmp).expect("ours").flatten() {
            assert_eq!(mode(&session.path()), 0o700);
            for staging in std::fs::read_dir(session.path()).expect("ours").flatten() {
                assert_eq!(mode(&staging.path()), 0o700);
            }
        }
        std::fs::remove_file(started).expect("anybody may who gets there");
        build.join().expect("built");
    });
}

#[test]
fn cases_031_and_032_clean_up_finishes_whatever_is_left() {
    let lab = lab!();
    let script = "mkdir -p locked/a/b; touch locked/a/b/c; chmod 000 locked/a/b locked/a locked
        i=0; while [ $i -lt 2000 ]; do mkdir d; cd d; i=$((i+1)); done; cd /build
        mkdir many; (cd many; seq 1 20000 | xargs touch)
        ln -s /etc escape; ln -s .. up; mkdir moved; mv moved moved2; ln -s / moved
        echo done > $out";
    lab.build(&lab.drv("case", script));
    let tmp = lab.store.root().path().join("tmp");
    for session in std::fs::read_dir(tmp).expect("ours").flatten() {
        let left: Vec<_> = std::fs::read_dir(session.path()).expect("ours").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn case_033_no_link_of_the_builder_is_followed() {
    let lab = lab!();
    let victim = lab.dir.path().join("victim");
    std::fs::write(&victim, "unharmed").expect("written");
    let shown = victim.display();
    let script = format!(
        "for name in $out.tmp $out.check $out.lock $out-copy rewritten-x nar 0 1; do ln -s {shown} $name; done
         ln -s {shown} /build/.attrs.json; mkdir $out; ln -s {shown} $out/link"
    );
    let path = lab.build(&lab.drv("case", &script));
    assert_eq!(std::fs::read_link(path.join("link")).expect("a link"), victim);
    assert_eq!(std::fs::read_to_string(&victim).expect("there"), "unharmed");
    assert_eq!(std::fs::metadata(&victim).expect("there").permissions().mode() & 0o222, 0o200);
}

#[test]
fn a_build_has_namespaces_of_its_own() {
    let lab = lab!();
    let inside = lab.run("cd /proc/self/ns; for name in *; do echo $name $(readlink $name); done > $out");
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("our own");
        let found = inside.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        assert!(found.is_some_and(|found| outside != std::path::Path::new(found)), "{name}: {inside}");
    }
}

#[test]
fn a_build_has_no_rights() {
    let lab = lab!();
    let inside = lab.run(
        "(cat /proc/self/status; echo OomScore: $(cat /proc/self/oom_score_adj); echo Shell: $$
          echo Session: $(cut -d' ' -f6 /proc/$$/stat); echo Host: $(hostname)
          echo Domain: $(cat /proc/sys/kernel/domainname)) > $out",
    );
    let value = |name: &str| {
        let line = inside.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no `{name}` in {inside}")).trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{set}");
    }
    assert_eq!(
        (value("NoNewPrivs"), value("Seccomp"), value("OomScore")),
        ("1".into(), "2".into(), "1000".into())
    );
    // Each user and group, and no other: the real one, the effective, the saved, the file system's.
    let same = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    assert_eq!((value("Uid"), value("Gid")), (same(1000), same(100)));
    // A session of its own: no terminal of the caller's is its.
    assert_eq!(value("Session"), value("Shell"));
    assert_eq!((value("Host"), value("Domain")), ("localhost".into(), "(none)".into()));
    // An ordinary user's cannot be left, and are hidden from `getgroups`.
    if rustix::process::geteuid().is_root() {
        assert_eq!(value("Groups"), "");
    }
}

#[test]
fn a_build_may_talk_to_itself_over_loopback() {
    let lab = lab!();
    // The listener's input never ends: at its end it would hang up on whoever comes, before a word is said.
    let script = "mkfifo silence; exec 3<> silence; nc -l -p 4000 <&3 > $out & count=0
        until echo hello | nc 127.0.0.1 4000 2>/dev/null; do
          count=$((count + 1)); [ $count -lt 500 ] || exit 1; usleep 10000; done; wait";
    assert_eq!(lab.run(script), "hello\n");
}

/// What each mount lets a build do, so that no flag is lost by which another wall is only the second.
#[test]
fn mounts_let_no_more_than_needed() {
    let lab = lab!();
    let inside = lab.run("cat /proc/self/mountinfo > $out");
    let input = lab.store.dir().print(&lab.shell);
    let expected: [(&str, &[&str]); 10] = [
        ("/", &["ro", "nosuid", "nodev"]),
        (&input, &["ro", "nosuid", "nodev"]),
        (lab.store.dir().as_str(), &["rw", "nosuid", "nodev"]),
        ("/build", &["rw", "nosuid", "nodev"]),
        ("/tmp", &["rw", "nosuid", "nodev"]),
        ("/dev/null", &["ro", "nosuid", "noexec"]),
        ("/dev/tty", &["ro", "nosuid", "noexec"]),
        ("/dev/pts", &["nosuid", "noexec"]),
        ("/dev/shm", &["nosuid", "nodev"]),
        ("/proc", &["nosuid", "nodev", "noexec"]),
    ];
    for (place, flags) in expected {
        // Fields 4 and 5, counted from 0: where, and how.
        let lines = inside.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let found: Vec<Vec<&str>> = lines.filter(|fields| fields[4] == place).collect();
        let last = found.last().unwrap_or_else(|| panic!("nothing is mounted at {place}: {inside}"));
        let has: Vec<&str> = last[5].split(',').collect();
        assert!(flags.iter().all(|flag| has.contains(flag)), "{place}: {has:?}, expected {flags:?}");
    }
}

#[test]
fn declared_paths_of_the_host_are_seen_read_only() {
    let mut lab = lab!();
    let shared = lab.dir.path().join("shared");
    std::fs::create_dir(&shared).expect("made");
    std::fs::File::create(shared.join("file"))
        .and_then(|mut file| file.write_all(b"text\n"))
        .expect("written");
    std::fs::set_permissions(lab.dir.path(), PermissionsExt::from_mode(0o755)).expect("set");
    let declared = format!("/given={}", shared.display());
    lab.options.host_paths = vec![ampoule_realise::sandbox::host_bind(&declared).expect("a good path")];
    assert_eq!(
        lab.run("cat /given/file > $out; echo x > /given/new || echo refused >> $out"),
        "text\nrefused\n"
    );
}

/// Case 28: files of a build are written where no builder was before; what an earlier one left at
/// their names is not there, let alone followed.
#[test]
fn case_028_files_of_a_build_follow_no_link() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let victim = lab.dir.path().join("victim");
    std::fs::write(&victim, "untouched").expect("written");
    let plant = format!(
        "cd /build; for n in .attrs.json .attrs.sh .attr-$(echo -n text | sha256sum | cut -d' ' -f1); do \
           ln -s {} $n; done; chmod 777 /build; echo > $out",
        victim.display()
    );
    lab.build(&lab.drv("plants", &plant));
    let mut draft =
        lab.draft("passes", "test ! -L $textPath && cat $textPath > $out && ls -A /build >> $out");
    draft.environment.insert("passAsFile".into(), "text".into());
    draft.environment.insert("text".into(), "from the derivation".into());
    let path = lab.build(&lab.write(draft));
    let said = std::fs::read_to_string(path).expect("a file");
    assert!(said.starts_with("from the derivation") && said.lines().count() <= 2, "{said}");
    assert_eq!(std::fs::read_to_string(&victim).expect("there"), "untouched");
}

/// Directories of a build are used again when nothing is in them: the next build must not be able to
/// tell.
#[test]
fn a_build_sees_nothing_of_the_one_before() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let look = "stat -c '%a %u %g %h %s' /build /tmp $(dirname $out) > $out; ls -A /build /tmp >> $out; \
                (cd /build; lsattr -d . 2>/dev/null) >> $out; true";
    let fresh = std::fs::read_to_string(lab.build(&lab.drv("fresh", look))).expect("a file");
    for (index, leave) in [
        "true",
        "echo x > /build/left",
        "echo x > /tmp/left",
        "mkdir /tmp/.hidden",
        "chmod 777 /build; chmod 700 /tmp",
        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); : > /build/a-name-that-takes-some-room-in-a-directory-$i; done; rm /build/a*",
        "mkdir $(dirname $out)/not-declared",
        "chattr +d /build 2>/dev/null || true",
    ]
    .iter()
    .enumerate()
    {
        lab.build(&lab.drv(&format!("leaves-{index}"), &format!("{leave}; echo > $out")));
        let seen = lab.build(&lab.drv(&format!("looks-{index}"), look));
        assert_eq!(std::fs::read_to_string(seen).expect("a file"), fresh, "after: {leave}");
    }
    // And several builds in one command, which is when directories are handed on.
    let first = lab.drv("first", "echo x > /tmp/left; chmod 750 /build; echo > $out");
    let second = lab.drv_with("second", look, &[&first]);
    let third = lab.drv_with("third", look, &[&second]);
    assert_eq!(std::fs::read_to_string(lab.build(&third)).expect("a file"), fresh);
    assert_eq!(std::fs::read_to_string(lab.build(&second)).expect("a file"), fresh);
}

#[test]
fn a_build_that_left_nothing_hands_its_directories_on() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let first = lab.drv("first", "sleep 0.2; echo > $out");
    let second = lab.drv_with("second", "sleep 0.2; echo > $out", &[&first]);
    let third = lab.drv_with("third", "sleep 0.2; echo > $out", &[&second]);
    let tmp = lab.store.root().path().join("tmp");
    let seen = std::thread::scope(|scope| {
        let build = scope.spawn(|| lab.build(&third));
        let mut seen = std::collections::BTreeSet::new();
        while !build.is_finished() {
            let below = |dir: &std::path::Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
            for session in below(&tmp) {
                seen.extend(
                    below(&session.path()).map(|e| e.path()).filter(|dir| dir.join("build").is_dir()),
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        seen
    });
    assert_eq!(seen.len(), 1, "three builds, one place: {seen:?}");
}

/// A network namespace is used again only if nothing can be told from a new one.
#[test]
fn a_network_that_was_used_is_not_used_again() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let look = "cat /proc/net/dev /proc/net/snmp /proc/net/netstat > $out; cat /proc/net/tcp >> $out";
    let fresh = std::fs::read_to_string(lab.build(&lab.drv("fresh", look))).expect("a file");
    // Packets go over loopback, and are refused there.
    let mut before =
        lab.drv("uses", "wget -q -O- http://127.0.0.1:1/; wget -q -O- http://127.0.0.1:1/; echo > $out");
    for name in ["one", "two", "three"] {
        let used = std::fs::read_to_string(lab.build(&lab.drv_with(name, look, &[&before]))).expect("a file");
        assert_eq!(used, fresh, "{name}");
        before = lab.drv_with(&format!("uses-{name}"), "nc 127.0.0.1 1; echo > $out", &[&before]);
    }
}

/// Nothing else is mounted than what a build is to see: no place of the host, not even covered.
#[test]
fn nothing_of_the_host_is_mounted() {
    let lab = lab!();
    let inside = lab.run("cat /proc/self/mountinfo > $out");
    let store = lab.store.dir().as_str();
    let mut expected: Vec<String> =
        ["", "build", "tmp", "dev/pts", "dev/shm", "proc"].map(|place| format!("/{place}")).to_vec();
    expected.extend(["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}")));
    expected.extend([store.to_owned(), lab.store.dir().print(&lab.shell)]);
    for line in inside.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let covers_keys = ["/proc/keys", "/proc/key-users"].contains(&fields[4]) && fields[3] == "/null";
        assert!(covers_keys || expected.iter().any(|place| place == fields[4]), "{line}");
    }
    for place in expected {
        assert!(inside.lines().any(|line| line.split(' ').nth(4) == Some(&place)), "{place}: {inside}");
    }
}

/// The root with `/etc` and `/dev` is made once for builds that need the same: it is the same file
/// system, and none of them can leave anything in it.
#[test]
fn builds_share_a_root_that_none_can_change() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let which = "stat -c '%d %i %a %u %g' / /etc /etc/passwd /dev > $out";
    let first = lab.drv("first", which);
    let spoils = lab.drv_with(
        "spoils",
        "for place in / /etc /dev /dev/shm/.. /proc/1/root /proc/self/root; do
           echo x > $place/spoiled; mkdir $place/made; mkfifo $place/pipe; done
         for file in /etc/passwd /etc/hosts; do echo x >> $file; chmod 666 $file; touch $file; rm -f $file
           mv $file $file.old; done; chmod 777 / /etc /dev; chown 1000 /; touch -d @1 / /etc /dev; rm -f /dev/null
         echo > $out",
        &[&first],
    );
    let look = "{ stat -c '%n %a %u %g %h %s %Y' / /etc /etc/* /dev /dev/* | grep -v -e pts -e shm
        ls -A / /etc /dev; cat /etc/*; } > $out";
    let after = lab.drv_with("after", look, &[&spoils]);
    let last = lab.drv_with("last", which, &[&after]);
    lab.build(&last);
    let text = |lab: &lab::Lab, drv| std::fs::read_to_string(lab.build(drv)).expect("a file");
    assert_eq!(text(&lab, &first), text(&lab, &last));
    // In a command of its own, nobody has been there before. Times are those of making it.
    let fresh = lab.drv("fresh", look);
    let without_times = |text: String| -> Vec<String> {
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((rest, time)) if line.starts_with('/') && time.len() > 8 => rest.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect()
    };
    assert_eq!(without_times(text(&lab, &after)), without_times(text(&lab, &fresh)));
}

/// More inputs than files can be open at once are mounted one after the other.
#[test]
fn a_build_may_have_a_thousand_inputs() {
    let lab = lab!();
    let mut draft = lab.draft("many", "cat $(dirname $out)/*-input-* | wc -l > $out; ls /etc >> $out");
    let source = lab.dir.path().join("input");
    for index in 0..1100 {
        std::fs::write(&source, format!("{index}\n")).expect("written");
        let options = ampoule_store::AddOptions::source(format!("input-{index}"));
        draft.input_sources.insert(lab.store.add_path(&source, &options, None).expect("added").path);
    }
    let mut all = draft.input_sources.clone();
    all.retain(|source| source.name().starts_with("input-"));
    let seen = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    assert_eq!(seen, "1100\ngroup\nhosts\npasswd\n");
    // Nor any number near that of the files that may be open.
    for count in 985..=1024 {
        let mut draft = lab.draft(&format!("many-{count}"), "cat $(dirname $out)/*-input-* | wc -l > $out");
        draft.input_sources.extend(all.iter().take(count).cloned());
        let seen = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
        assert_eq!(seen, format!("{count}\n"));
    }
}

/// Another shape of root, in the same command, is another root.
#[test]
fn a_root_is_shared_only_by_builds_that_need_the_same() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    let tree = lab.dir.path().join("tree");
    std::fs::create_dir_all(tree.join("opt/inner")).expect("made");
    std::fs::write(tree.join("hello"), "hi").expect("written");
    std::os::unix::fs::symlink("hello", tree.join("link")).expect("linked");
    let tree =
        lab.store.add_path(&tree, &ampoule_store::AddOptions::source("tree"), None).expect("added").path;
    let look = "ls -A / > $out; cat /hello /link >> $out 2>/dev/null; ls /opt >> $out 2>/dev/null; true";
    let plain = lab.drv("plain", look);
    let mut draft = lab.draft("rooted", look);
    lab.add_inputs(&mut draft, &[&plain]);
    draft.input_sources.insert(tree.clone());
    draft.environment.insert("sandboxRoot".into(), lab.store.dir().print(&tree).into());
    let rooted = lab.write(draft);
    let again = lab.drv_with("again", look, &[&rooted]);
    lab.build(&again);
    let text = |drv| std::fs::read_to_string(lab.build(drv)).expect("a file");
    assert_eq!(text(&plain), text(&again));
    let seen = text(&rooted);
    assert!(seen.ends_with("hihiinner\n") && seen.contains("link\n") && seen.contains("opt\n"), "{seen}");
    assert!(!text(&plain).contains("opt"), "{}", text(&plain));
}

#[test]
fn a_network_that_was_not_used_is_used_again() {
    let mut lab = lab!();
    lab.options.jobs = 1;
    // A build may begin while the last process of the one before is on its way out, and then gets another
    // network; so that there are a few, but not one for each.
    let mut builds = vec![lab.drv("first", "readlink /proc/self/ns/net > $out")];
    for index in 1..16 {
        let script = "readlink /proc/self/ns/net > $out; usleep 20000";
        builds.push(lab.drv_with(&format!("later-{index}"), script, &[&builds[index - 1]]));
    }
    lab.build(&builds[15]);
    let name = |drv| std::fs::read_to_string(lab.build(drv)).expect("a file");
    let names: std::collections::BTreeSet<String> = builds.iter().map(name).collect();
    assert!(names.len() < builds.len(), "{names:?}");
    let settings = lab.drv("settings", "echo 1 > /proc/sys/net/ipv4/ip_forward || echo refused > $out");
    assert_eq!(name(&settings), "refused\n", "nobody in a build has a right over it");
}
