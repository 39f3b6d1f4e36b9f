//! Section J of the attack and fault cases: derivations that cannot be built, told before or clearly.

mod lab;

use std::os::unix::fs::PermissionsExt;

use ampoule_realise::{Event, FailureKind};
use lab::Lab;

#[test]
fn case_152_what_execve_cannot_take_is_named() {
    let lab = lab!();
    let mut draft = lab.draft("case", "true");
    draft.environment.insert("enormous".into(), "x".repeat(200_000).into());
    let failure = lab.fails(&lab.write(draft));
    assert!(failure.message.contains("`enormous`") && failure.message.contains("passAsFile"), "{failure}");
    let mut draft = lab.draft("case", "true");
    draft.arguments.push("y".repeat(200_000).into());
    let failure = lab.fails(&lab.write(draft));
    assert!(failure.message.contains("argument 3"), "{failure}");
}

/// Adds an executable file with these contents and returns its logical path.
fn program(lab: &Lab, name: &str, contents: &[u8], mode: u32) -> (String, ampoule_store::StorePath) {
    let path = lab.dir.path().join(name);
    std::fs::write(&path, contents).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
    let options = ampoule_store::AddOptions::source(name);
    let object = lab.store.add_path(&path, &options, None).expect("added").path;
    (lab.store.dir().print(&object), object)
}

#[test]
fn case_153_why_a_builder_cannot_be_executed() {
    let lab = lab!();
    let check = |name: &str, contents: &[u8], mode: u32, expected: &str| {
        let (path, object) = program(&lab, name, contents, mode);
        let mut draft = lab.draft("case", "");
        draft.builder = path.into();
        draft.input_sources.insert(object);
        let failure = lab.fails(&lab.write(draft));
        assert_eq!(failure.kind, FailureKind::Build);
        assert!(failure.message.contains(expected), "{name}: {failure}");
    };
    check("plain", b"#!/bin/sh\n", 0o644, "is not executable");
    check(
        "script",
        b"#!/usr/bin/perl -w\n",
        0o755,
        "needs the interpreter `/usr/bin/perl`, which does not exist",
    );
    check("nothing", b"echo hello\n", 0o755, "neither a program nor a script");
    let mut foreign = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    foreign.extend(if cfg!(target_arch = "aarch64") { [62, 0] } else { [183, 0] });
    foreign.resize(128, 0);
    check("foreign", &foreign, 0o755, "for another machine");
    for (builder, expected) in [
        ("/bin/sh", "does not exist in the sandbox"),
        ("/nix/store/00000000000000000000000000000000-x/bin/y", "does not exist"),
        ("relative", "does not exist"),
        ("/", "is not executable"),
    ] {
        let mut draft = lab.draft("case", "");
        draft.builder = builder.into();
        let failure = lab.fails(&lab.write(draft));
        assert!(failure.message.contains(expected), "{builder}: {failure}");
    }
}

#[test]
fn case_154_what_cannot_run_here_is_said_before_anything_is_built() {
    let lab = lab!();
    let first = lab.drv("first", "echo > $out");
    let mut draft = lab.draft("foreign", "");
    draft.system = "riscv64-plan9".into();
    lab.add_inputs(&mut draft, &[&first]);
    let foreign = lab.write(draft);
    let mut draft = lab.draft("featured", "");
    draft.environment.insert("requiredSystemFeatures".into(), "moon-phase".into());
    let featured = lab.write(draft);
    let mut draft = lab.draft("open", "");
    draft.environment.insert("__noChroot".into(), "1".into());
    let open = lab.write(draft);
    let mut draft = lab.draft("builtin", "");
    draft.builder = "builtin:no-such-thing".into();
    let builtin = lab.write(draft);
    let top = lab.drv_with("top", "", &[&foreign, &featured, &open, &builtin]);
    let (result, heard) = lab.realise_all(&[&top]);
    let error = result.expect_err("nothing can be built");
    let text = error.to_string();
    for expected in ["riscv64-plan9", "`moon-phase`", "__noChroot", "builtin:no-such-thing"] {
        assert!(text.contains(expected), "all at once: {text}");
    }
    let started =
        heard.0.lock().expect("no panic").iter().any(|event| matches!(event, Event::Started { .. }));
    assert!(!started, "before anything is built");
    let policy = error.failures.iter().find(|failure| failure.name == "open").expect("told");
    assert_eq!(policy.kind.exit_status(), 5);
}

#[test]
fn case_155_structured_attributes_that_clash() {
    let lab = lab!();
    for (json, expected) in [
        ("[1]", "not a JSON object"),
        ("{\"a\":", "not a JSON object"),
        (r#"{"outputChecks":3}"#, "outputChecks"),
        (r#"{"exportReferencesGraph":{"g":7}}"#, "exportReferencesGraph"),
    ] {
        let mut draft = lab.draft("case", "");
        draft.environment.insert("__json".into(), json.into());
        let failure = lab.fails(&lab.write(draft));
        assert!(failure.message.contains(expected), "{json}: {failure}");
    }
    // A name that no shell can have is left out of the script, and stays in the JSON.
    let mut draft = lab.draft("fine", "");
    let bin = format!("{}/bin", lab.store.dir().print(&lab.shell));
    draft.environment.insert("__json".into(), r#"{".attrs.json":1,"a":["x","y z"],"n":{"k":2}}"#.into());
    draft.arguments = vec![
        "-c".into(),
        format!("out=$({bin}/grep -o '/nix/store/[a-z0-9]*-fine' $NIX_ATTRS_JSON_FILE); {bin}/cat $NIX_ATTRS_SH_FILE $NIX_ATTRS_JSON_FILE > $out")
            .into(),
    ];
    let said = std::fs::read_to_string(lab.build(&lab.write(draft))).expect("a file");
    assert!(
        said.starts_with("declare -a a=('x' 'y z' )\ndeclare -A n=(['k']=2 )\ndeclare -A outputs=(['out']="),
        "{said}"
    );
    assert!(
        said.contains(r#"{".attrs.json":1,"a":["x","y z"],"n":{"k":2},"outputs":{"out":"/nix/store/"#),
        "{said}"
    );
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let mut lab = lab!();
    lab.options.dry_run = true;
    let first = lab.drv("first", "echo > $out");
    let top = lab.drv_with("top", "echo > $out", &[&first]);
    let (result, heard) = lab.realise_all(&[&top]);
    assert_eq!(result.expect("told").built, 0);
    let events = heard.0.lock().expect("no panic");
    let Event::Plan { build, .. } = &events[0] else { panic!("the plan comes first") };
    let names: Vec<String> = build.iter().map(|planned| planned.name().to_owned()).collect();
    assert_eq!(names, ["top", "first"]);
    assert_eq!(events.len(), 1);
}
