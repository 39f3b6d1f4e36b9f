//! Section C of the attack and fault cases: what builders leave. Each test is named by its number.

mod lab;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ampoule_realise::FailureKind;
use ampoule_store::{Hash, Method, Outputs, StorePath};
use lab::Lab;

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

fn with_outputs(lab: &Lab, name: &str, script: &str, outputs: &[&str]) -> StorePath {
    let mut draft = lab.draft(name, script);
    draft.outputs = Outputs::InputAddressed(outputs.iter().map(|output| (*output).to_owned()).collect());
    lab.write(draft)
}

fn with_variables(lab: &Lab, name: &str, script: &str, variables: &[(&str, &str)]) -> StorePath {
    let mut draft = lab.draft(name, script);
    for (name, value) in variables {
        draft.environment.insert((*name).into(), (*value).into());
    }
    lab.write(draft)
}

#[test]
fn case_046_a_missing_output_registers_nothing() {
    let lab = lab!();
    let failure = lab.fails(&lab.drv("none", "true"));
    assert_eq!(failure.kind, FailureKind::Build);
    assert!(failure.message.contains("failed to produce output path for output 'out'"), "{failure}");
    let drv = with_outputs(&lab, "two", "echo > $out", &["dev", "out"]);
    let failure = lab.fails(&drv);
    assert!(failure.message.contains("output 'dev'"), "{failure}");
    let out = lab.read(&drv).output_path("out").expect("known").clone();
    assert!(!lab.store.is_valid(&out).expect("asked"));
    assert!(!lab.store.real_path(&out).exists());
}

#[test]
fn case_047_an_output_may_be_a_link() {
    let lab = lab!();
    let hosts = std::fs::metadata("/etc/passwd").expect("there");
    for (index, target) in ["/etc/passwd", "dangling", "/build/x"].iter().enumerate() {
        let path = lab.build(&lab.drv(&format!("case-{index}"), &format!("ln -s {target} $out")));
        assert_eq!(std::fs::read_link(&path).expect("a link"), std::path::Path::new(target));
        // As an input it is that link again.
        let user = lab.drv_with(
            &format!("user-{index}"),
            "readlink $in0 > $out",
            &[&lab.drv(&format!("case-{index}"), &format!("ln -s {target} $out"))],
        );
        assert_eq!(std::fs::read_to_string(lab.build(&user)).expect("a file"), format!("{target}\n"));
    }
    let after = std::fs::metadata("/etc/passwd").expect("there");
    assert_eq!((hosts.mode(), hosts.mtime(), hosts.uid()), (after.mode(), after.mtime(), after.uid()));
}

#[test]
fn case_048_odd_files_are_refused_by_name() {
    let lab = lab!();
    // A socket's name may be 107 bytes long.
    let socket = "mkdir $out; cd $out; $probe socket socket; ls -l $out; test -S $out/socket";
    let Some(socket) = lab.with_probe("socket", socket) else { return };
    for (drv, kind, place) in [
        (lab.drv("fifo", "mkfifo $out"), "fifo", "-fifo"),
        (lab.drv("inside", "mkdir -p $out/a; mkfifo $out/a/pipe"), "fifo", "a/pipe"),
        (lab.write(socket), "socket", "/socket"),
    ] {
        let failure = lab.fails(&drv);
        assert_eq!(failure.kind, FailureKind::Build, "{failure}");
        for word in [kind, place, "only regular files"] {
            assert!(failure.message.contains(word), "{word}: {failure}");
        }
        assert!(!lab.store.is_valid(lab.read(&drv).output_path("out").expect("known")).expect("asked"));
    }
}

#[test]
fn case_049_modes_are_canonical() {
    let lab = lab!();
    let path = lab.build(&lab.drv(
        "case",
        "mkdir $out $out/d $out/sticky; echo a > $out/d/f; echo b > $out/x; echo c > $out/none
         chmod 777 $out/d; chmod 666 $out/d/f; chmod 700 $out/x; chmod 000 $out/none; chmod 1777 $out/sticky
         touch -t 200001010000 $out/x",
    ));
    let mode = |below: &str| {
        let meta = std::fs::symlink_metadata(path.join(below)).expect("there");
        (meta.permissions().mode() & 0o7777, meta.mtime(), meta.uid() == rustix::process::geteuid().as_raw())
    };
    assert_eq!(mode(""), (0o555, 1, true));
    assert_eq!(mode("d"), (0o555, 1, true));
    assert_eq!(mode("d/f"), (0o444, 1, true));
    assert_eq!(mode("x"), (0o555, 1, true));
    assert_eq!(mode("none"), (0o444, 1, true));
    assert_eq!(mode("sticky"), (0o555, 1, true));
    let failure = lab.fails(&lab.drv("open", "mkdir $out; chmod 777 $out"));
    assert!(
        failure.message.contains("suspicious permission") || failure.message.contains("0777"),
        "{failure}"
    );
}

#[test]
fn case_050_hard_links_are_parted() {
    let lab = lab!();
    let input = lab.drv("input", "echo input > $out");
    let draft = {
        let mut draft = lab.draft(
            "case",
            "mkdir $out $dev; echo x > $out/a; ln $out/a $out/b; ln $out/a $dev/c
             ln $in0 $out/stolen 2>/dev/null || echo refused > $out/refused; ln /etc/passwd $out/p 2>/dev/null; true",
        );
        draft.outputs = Outputs::InputAddressed(vec!["dev".to_owned(), "out".to_owned()]);
        lab.add_inputs(&mut draft, &[&input]);
        draft
    };
    let outputs = lab.realise(&lab.write(draft)).expect("built");
    let (out, dev) = (lab.store.real_path(&outputs["out"]), lab.store.real_path(&outputs["dev"]));
    for file in [out.join("a"), out.join("b"), dev.join("c")] {
        assert_eq!(std::fs::metadata(&file).expect("there").nlink(), 1);
        assert_eq!(std::fs::read(&file).expect("there"), b"x\n");
    }
    assert!(out.join("refused").exists() && !out.join("stolen").exists() && !out.join("p").exists());
}

#[test]
fn case_051_names_are_kept_byte_for_byte() {
    let lab = lab!();
    let script = "mkdir $out; cd $out; for n in \"$(printf 'new\\nline')\" \"$(printf 'bad\\377')\" -dash ' space' a A a~nix~case~hack~1 \
        $(printf 'x%.0s' $(seq 255)); do : > \"./$n\"; done";
    let path = lab.build(&lab.drv("case", script));
    let mut names: Vec<Vec<u8>> = std::fs::read_dir(path)
        .expect("a directory")
        .map(|entry| std::os::unix::ffi::OsStringExt::into_vec(entry.expect("an entry").file_name()))
        .collect();
    names.sort();
    let long = vec![b'x'; 255];
    let mut expected: Vec<&[u8]> =
        vec![b"new\nline", b"bad\xff", b"-dash", b" space", b"a", b"A", b"a~nix~case~hack~1", &long];
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn case_052_deep_trees_are_taken_or_refused_with_the_limit() {
    let lab = lab!();
    // Longer than any path may be: a shell cannot make it.
    let deep = |depth: usize| {
        let script = format!("$probe deep $out {depth}");
        lab.with_probe(&format!("deep-{depth}"), &script).map(|draft| lab.write(draft))
    };
    for depth in [70, 300] {
        let Some(drv) = deep(depth) else { return };
        lab.build(&drv);
    }
    let failure = lab.fails(&deep(ampoule_store::nar::MAX_DEPTH + 1).expect("compiled"));
    assert_eq!(failure.kind, FailureKind::Build);
    let text = failure.to_string();
    assert!(text.contains(&format!("more than {}", ampoule_store::nar::MAX_DEPTH)), "{text}");
    assert!(text.len() < 1000, "{text}");
}

#[test]
fn case_053_a_sparse_file_is_streamed() {
    let lab = lab!();
    let path = lab.build(&lab.drv("case", "dd if=/dev/zero of=$out bs=1 count=1 seek=300M 2>/dev/null"));
    assert_eq!(std::fs::metadata(path).expect("there").len(), (300 << 20) + 1);
    let status = std::fs::read_to_string("/proc/self/status").expect("ours");
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("a figure");
    assert!(peak < 200 << 10, "{peak} KiB");
}

#[test]
fn case_054_whatever_is_left_is_dead_before_hashing() {
    let lab = lab!();
    let Some(draft) = lab.with_probe("case", "echo first > $out; $probe late $out; echo last >> $out") else {
        return;
    };
    let path = lab.build(&lab.write(draft));
    let object = lab.store.root().object_of(&path).expect("in the store");
    let hash = lab.info(&path).nar_hash;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(lab.store.hash_object(&object).expect("hashed").0, hash);
    // Processes of builds are children of the spawner, which lives no longer than its realiser.
    let alive = std::fs::read_dir("/proc").expect("there").flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
            line.split(|b| *b == 0).nth(2).is_some_and(|arg| arg.ends_with(object.as_str().as_bytes()))
        })
    });
    assert!(!alive);
}

#[test]
fn case_056_and_057_references() {
    let lab = lab!();
    let input = lab.drv("input", "echo input > $out");
    let input_path = lab.read(&input).output_path("out").expect("known").clone();
    let found = |name: &str, script: &str| -> BTreeSet<StorePath> {
        lab.info(&lab.build(&lab.drv_with(name, script, &[&input]))).references
    };
    assert_eq!(found("plain", "echo $in0 > $out"), BTreeSet::from([input_path.clone()]));
    assert_eq!(found("hash", "basename $in0 | cut -c1-32 > $out"), BTreeSet::from([input_path.clone()]));
    assert_eq!(
        found("seam", "head -c 65520 /dev/zero > $out; echo $in0 >> $out"),
        BTreeSet::from([input_path.clone()])
    );
    assert_eq!(found("gzip", "echo $in0 | gzip > $out"), BTreeSet::new(), "documented: not seen");
    assert_eq!(
        found("foreign", "echo /nix/store/00000000000000000000000000000000-x > $out"),
        BTreeSet::new()
    );
    assert_eq!(found("build", "pwd > $out"), BTreeSet::new());
    let own = lab.drv_with("own", "echo $out > $out", &[&input]);
    let own_path = lab.read(&own).output_path("out").expect("known").clone();
    assert_eq!(lab.info(&lab.build(&own)).references, BTreeSet::from([own_path]));
    assert_eq!(found("link", "ln -s $in0 $out"), BTreeSet::from([input_path.clone()]));
    assert_eq!(found("name", "mkdir $out; touch $out/$(basename $in0)"), BTreeSet::from([input_path]));
}

#[test]
fn case_058_demands_on_outputs() {
    let lab = lab!();
    let shell = lab.store.dir().print(&lab.shell);
    let check = |name: &str, script: &str, variables: &[(&str, &str)], expected: &str| {
        let drv = with_variables(&lab, name, script, variables);
        if expected.is_empty() {
            lab.build(&drv);
            return;
        }
        let failure = lab.fails(&drv);
        assert_eq!(failure.kind, FailureKind::Build);
        let said = format!("{failure}\n{}", failure.hints.join("\n"));
        assert!(said.contains(expected), "{name}: {said}");
        let out = lab.read(&drv).output_path("out").expect("known").clone();
        assert!(!lab.store.is_valid(&out).expect("asked"), "{name}");
    };
    let refers = "echo $builder $out > $out";
    check("a", refers, &[("allowedReferences", "")], "not allowed to refer");
    check("b", refers, &[("allowedReferences", &format!("{shell} out"))], "");
    check("c", refers, &[("allowedReferences", "out")], &shell);
    check("d", refers, &[("disallowedReferences", &shell)], "`disallowedReferences`");
    check("e", "echo > $out", &[("disallowedReferences", &shell)], "");
    check("f", refers, &[("allowedRequisites", "")], "`allowedRequisites`");
    check("g", refers, &[("disallowedRequisites", &shell)], "`disallowedRequisites`");
    check("h", refers, &[("allowedReferences", "nonsense")], "`nonsense`");
    let json = |checks: &str| format!(r#"{{"PATH":"{shell}/bin","outputChecks":{{"out":{checks}}}}}"#);
    let write = |name: &str| {
        format!(
            "p=$({shell}/bin/grep -o '/nix/store/[a-z0-9]*-{name}' $NIX_ATTRS_JSON_FILE | {shell}/bin/head -n1); {shell}/bin/head -c 100000 /dev/zero > $p"
        )
    };
    check("small", &write("small"), &[("__json", &json(r#"{"maxSize":1000}"#))], "limit is 1000 bytes");
    check("large", &write("large"), &[("__json", &json(r#"{"maxSize":1000000}"#))], "");
    check("closed", &write("closed"), &[("__json", &json(r#"{"maxClosureSize":1000}"#))], "maxClosureSize");
}

#[test]
fn case_059_a_cycle_names_both() {
    let lab = lab!();
    let drv = with_outputs(&lab, "case", "echo $dev > $out; echo $out > $dev", &["dev", "out"]);
    let failure = lab.fails(&drv);
    let shown = lab.store.dir().print(&drv);
    assert_eq!(
        failure.message,
        format!("cycle detected in build of '{shown}' in the references of output 'dev' from output 'out'")
    );
    assert!(failure.hints.iter().any(|hint| hint.contains("-case-dev` and `")), "{:?}", failure.hints);
    // One that is not part of the cycle is not named.
    let script = "echo $b > $a; echo $c > $b; echo $a > $c; echo $a > $d";
    let failure = lab.fails(&with_outputs(&lab, "more", script, &["a", "b", "c", "d"]));
    assert!(failure.message.ends_with("output 'a' from output 'c'"), "{failure}");
    let drv = with_outputs(&lab, "fine", "echo $dev > $out; echo x > $dev", &["dev", "out"]);
    assert_eq!(lab.realise(&drv).expect("built").len(), 2);
}

#[test]
fn case_060_equal_contents_cut_a_rebuild_off() {
    let lab = lab!();
    let build = |name: &str, comment: &str| {
        let source = lab.floating("source", &format!("# {comment}\necho same > $out"), &[]);
        let user = lab.floating("user", "cat $in0 > $out; echo $out $in0 >> $out", &[&source]);
        let last = lab.drv_with(&format!("last-{name}"), "cat $in0 > $out", &[&user]);
        let (result, heard) = lab.realise_all(&[&last]);
        let result = result.unwrap_or_else(|error| panic!("{error}\n{}", lab::tails(&error)));
        let names: Vec<String> = heard
            .0
            .lock()
            .expect("no panic")
            .iter()
            .filter_map(|event| match event {
                ampoule_realise::Event::Finished { name, .. } => Some(name.clone()),
                _ => None,
            })
            .collect();
        (std::fs::read_to_string(lab.store.real_path(&result.outputs[&last]["out"])).expect("a file"), names)
    };
    let (first, built) = build("x", "one");
    assert_eq!(built, ["source", "user", "last-x"]);
    let own = first.lines().nth(1).expect("two lines").split(' ').next().expect("a path").to_owned();
    let object = lab.store.dir().parse(&own).expect("a store path");
    let info = lab.store.expect_info(&object).expect("valid");
    assert!(info.references.contains(&object) && info.address.is_some());
    let (second, built) = build("x", "another");
    // The source is built, and is what it was; nothing after it is.
    assert_eq!((second.as_str(), built), (first.as_str(), vec!["source".to_owned()]));
}

#[test]
fn case_061_a_wrong_hash_tells_both_and_keeps_the_bytes() {
    let lab = lab!();
    let right = Hash::sha256(b"right\n");
    let drv = lab.fixed("case", "echo wrong > $out", Method::Flat, right);
    let failure = lab.fails(&drv);
    assert_eq!(failure.kind.exit_status(), 102);
    let found = Hash::sha256(b"wrong\n");
    assert!(
        failure.message.contains(&right.to_sri()) && failure.message.contains(&found.to_sri()),
        "{failure}"
    );
    let address = ampoule_store::ContentAddress { method: Method::Flat, hash: found };
    let kept = lab.store.dir().fixed_path("case", &address).expect("a good name");
    assert!(lab.store.is_valid(&kept).expect("asked"));
    let mut draft = lab.draft("hex", "echo wrong > $out");
    draft.outputs = Outputs::Fixed(ampoule_store::ContentAddress { method: Method::Flat, hash: right });
    draft.environment.insert("outputHash".into(), right.to_base16().into());
    let failure = lab.fails(&lab.write(draft));
    assert!(failure.message.contains(&found.to_base16()), "in the form of the file: {failure}");
    for (name, script) in [("dir", "mkdir $out"), ("exec", "echo right > $out; chmod +x $out")] {
        let failure = lab.fails(&lab.fixed(name, script, Method::Flat, right));
        assert!(failure.message.contains("non-executable regular file"), "{failure}");
    }
}

#[test]
fn a_promised_output_refers_to_nothing() {
    let lab = lab!();
    let path = lab.store.dir().print(&lab.shell);
    let hash = Hash::sha256(format!("{path}\n").as_bytes());
    let failure = lab.fails(&lab.fixed("case", &format!("echo {path} > $out"), Method::Flat, hash));
    assert!(failure.message.contains("must not reference store paths"), "{failure}");
}

/// Case 55: whoever still holds what the builder wrote does not hold what is registered.
#[test]
fn case_055_a_promised_output_is_a_fresh_copy() {
    use std::os::unix::fs::MetadataExt;
    let lab = lab!();
    let drv = lab.fixed("case", "echo good > $out; stat -c %i $out", Method::Flat, Hash::sha256(b"good\n"));
    let (result, heard) = lab.realise_all(&[&drv]);
    let path = lab.store.real_path(&result.expect("as promised").outputs[&drv]["out"]);
    let built: u64 = heard.log().trim().parse().expect("an inode's number");
    assert_ne!(std::fs::metadata(&path).expect("a file").ino(), built);
}

/// The kernel executes nothing that is open for writing, and a child cloned while we wrote may hold it a moment longer.
#[test]
fn a_builder_that_is_still_open_for_writing_is_waited_for() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab!();
    let drv = lab.drv("case", "echo > $out");
    let shell = std::fs::canonicalize(lab.store.real_path(&lab.shell).join("bin/sh")).expect("a program");
    let mode = |mode| std::fs::set_permissions(&shell, std::fs::Permissions::from_mode(mode)).expect("ours");
    mode(0o755);
    let held = std::fs::File::options().append(true).open(&shell).expect("ours");
    mode(0o555);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(held);
        });
        lab.realise_all(&[&drv]).0.expect("built");
    });
}

#[test]
fn case_063_logs_of_all_kinds() {
    let lab = lab!();
    let drv = lab.drv(
        "case",
        "head -c 20000000 /dev/zero | tr '\\0' x; echo; printf 'a\\000b\\377\\033[2Jc\\n'
         i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo > $out",
    );
    let (result, heard) = lab.realise_all(&[&drv]);
    result.expect("built");
    let log = heard.log();
    assert!(log.contains("ab\u{fffd}c\n"), "safe for a terminal");
    assert!(log.ends_with("line 1998\nline 1999\n"));
    let logs = ampoule_realise::LogDir::new(lab.store.root().path().join("log"));
    let mut whole = Vec::new();
    logs.read(&drv, &mut whole).expect("a log");
    assert!(
        whole.len() > 20_000_000 && whole.windows(4).any(|part| part == b"a\0b\xff"),
        "whole on the disk"
    );
    let size = std::fs::metadata(logs.path_of(&drv)).expect("a file").len();
    assert!(size < 200_000, "{size} bytes");
}

#[test]
fn case_064_a_builder_may_close_its_outputs() {
    let lab = lab!();
    assert_eq!(lab.run("exec >&- 2>&-; sleep 0.2; echo fine > $out"), "fine\n");
}

#[test]
fn the_end_of_the_log_comes_with_a_failure() {
    let mut lab = lab!();
    lab.options.keep_failed = true;
    let failure =
        lab.fails(&lab.drv("case", "echo left > file; for i in $(seq 30); do echo line $i; done; exit 3"));
    assert_eq!(failure.message, "builder failed with exit code 3");
    assert_eq!(failure.log_tail.len(), 10);
    assert_eq!(failure.log_tail[9], "line 30");
    assert!(failure.has_log);
    let kept = failure.kept.expect("kept");
    assert_eq!(std::fs::read_to_string(kept.join("file")).expect("there"), "left\n");
}

#[test]
fn what_is_passed_in_arrives() {
    let lab = lab!();
    let input = lab.drv("input", "echo input > $out");
    let mut draft =
        lab.draft("case", "cp $textPath $out; cat graph >> $out; stat -c '%a %u %g' $textPath >> $out");
    lab.add_inputs(&mut draft, &[&input]);
    let input_path = lab.store.dir().print(lab.read(&input).output_path("out").expect("known"));
    draft.environment.insert("passAsFile".into(), "text".into());
    draft.environment.insert("text".into(), "some text\n".into());
    draft.environment.insert("exportReferencesGraph".into(), format!("graph {input_path}").into());
    let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    assert_eq!(said, format!("some text\n{input_path}\n\n0\n644 1000 100\n"));
}

#[test]
fn a_root_of_ones_own() {
    let lab = lab!();
    let tree = lab.drv(
        "tree",
        "mkdir -p $out/usr/bin $out/etc/deep $out/var; cp $PATH/busybox $out/usr/bin/sh; ln -s usr/bin $out/bin
         echo theirs > $out/etc/passwd; echo conf > $out/etc/deep/conf; ln -s deep/conf $out/etc/link",
    );
    let mut draft = lab.draft("case", "");
    lab.add_inputs(&mut draft, &[&tree]);
    let root = draft.environment[ampoule_store::bstr::BStr::new("in0")].clone();
    draft.environment.insert("sandboxRoot".into(), root);
    draft.builder = "/bin/sh".into();
    draft.arguments = vec![
        "-c".into(),
        "(cat /etc/link; head -n1 /etc/passwd; (echo x > /usr/bin/new) 2>/dev/null || echo refused) > $out"
            .into(),
    ];
    let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    assert_eq!(said, "conf\nroot:x:0:0:Nix build user:/build:/noshell\nrefused\n");
}
