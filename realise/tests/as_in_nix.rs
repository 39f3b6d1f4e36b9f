//! Attributes and outputs where Nix has a habit of its own. What it does was recorded from Nix 2.34.8.

mod lab;

use ampoule_realise::{Event, FailureKind};
use ampoule_store::{HashAlgo, Method, Outputs, StorePath};
use lab::Lab;

#[test]
fn all_hold_as_an_ordinary_user() {
    lab::again_as_an_ordinary_user("all_hold_as_an_ordinary_user");
}

#[test]
fn a_program_is_for_a_machine() {
    let lab = lab!();
    for system in ["builtin", "m68k-linux"] {
        let mut draft = lab.draft("case", "echo > $out");
        draft.system = system.into();
        let failure = lab.fails(&lab.write(draft));
        assert!(failure.message.contains(&format!("a `{system}` is required")), "{failure}");
    }
}

fn with_variables(lab: &Lab, name: &str, script: &str, variables: &[(&str, &str)]) -> StorePath {
    let mut draft = lab.draft(name, script);
    for (name, value) in variables {
        draft.environment.insert((*name).into(), (*value).into());
    }
    lab.write(draft)
}

/// A derivation with structured attributes, whose script finds `$out` and its tools.
fn structured(lab: &Lab, name: &str, script: &str, more: &str) -> StorePath {
    let bin = format!("{}/bin", lab.store.dir().print(&lab.shell));
    let script = format!(
        "export PATH={bin}; out=$(grep -o '\"outputs\":{{\"out\":\"[^\"]*' $NIX_ATTRS_JSON_FILE | cut -d'\"' -f6); {script}"
    );
    with_variables(lab, name, &script, &[("__json", &format!(r#"{{"name":"{name}"{more}}}"#))])
}

/// Only `outputChecks` demands something where attributes are structured, and only references can be demanded where
/// they are not.
#[test]
fn where_demands_on_outputs_are_read() {
    let lab = lab!();
    let shell = lab.store.dir().print(&lab.shell);
    let refers = format!("echo {shell} $out > $out");
    let passes = |drv: StorePath| drop(lab.build(&drv));
    passes(with_variables(&lab, "a", &refers, &[("maxSize", "1"), ("maxClosureSize", "big")]));
    passes(with_variables(&lab, "b", &refers, &[("outputChecks", "x"), ("unsafeDiscardReferences", "1")]));
    passes(structured(&lab, "c", &refers, r#","maxSize":1,"outputChecks":{"dev":{"maxSize":1}}"#));
    let drv = structured(&lab, "d", &refers, r#","allowedReferences":[],"disallowedRequisites":["x"]"#);
    let (result, heard) = lab.realise_all(&[&drv]);
    result.expect("it has no effect");
    let heard = heard.0.lock().expect("no test panics here");
    let notes = heard.iter().filter(
        |event| matches!(event, Event::Note { message, .. } if message.contains("use `outputChecks.OUTPUT.")),
    );
    assert_eq!(notes.count(), 2);
    let fails = |drv: StorePath, words: &str| {
        let failure = lab.fails(&drv);
        assert_eq!((failure.kind, failure.message.contains(words)), (FailureKind::Build, true), "{failure}");
    };
    let none = r#","outputChecks":{"out":{"allowedReferences":[]}}"#;
    fails(structured(&lab, "e", "echo $out > $out", none), "is not allowed to refer to the following paths:");
    let ignores = r#","outputChecks":{"out":{"allowedRequisites":[],"ignoreSelfRefs":true}}"#;
    passes(structured(&lab, "f", "echo $out > $out", ignores));
    fails(structured(&lab, "g", &refers, r#","outputChecks":{"out":{"maxSize":10}}"#), "limit is 10 bytes");
    fails(structured(&lab, "h", &refers, r#","outputChecks":"x""#), "`outputChecks`: expected a set");
    fails(
        structured(&lab, "i", &refers, r#","outputChecks":{"out":1}"#),
        "`outputChecks.out`: expected a set",
    );
    fails(structured(&lab, "j", &refers, r#","unsafeDiscardReferences":true"#), "expected a set");
    let inside = format!("{shell}/bin/sh");
    fails(with_variables(&lab, "k", &refers, &[("allowedReferences", &inside)]), "neither a store path nor");
    let path = lab.build(&structured(&lab, "l", &refers, r#","unsafeDiscardReferences":{"out":true}"#));
    assert!(lab.info(&path).references.is_empty());
}

/// The hash of a floating output has zeros where its own path stands, and nothing else of it.
#[test]
fn an_output_that_names_itself_lies_where_nix_puts_it() {
    let lab = lab!();
    let drv = lab.floating(
        "ca-self",
        "mkdir $out; echo $out > $out/self; echo x > $out/b; ln -s $out/b $out/l",
        &[],
    );
    let path = lab.build(&drv);
    assert_eq!(path.file_name().expect("named"), "2cl52cba2hdwcwj6inzqglg62ygf91kk-ca-self");
    let own = std::fs::read_to_string(path.join("self")).expect("a file");
    assert_eq!(own, "/nix/store/2cl52cba2hdwcwj6inzqglg62ygf91kk-ca-self\n");
    assert_eq!(lab.info(&path).references.len(), 1);
    // What is hashed flat, or as a text, has no place for itself.
    for (method, words) in
        [(Method::Flat, "not allowed to refer to other store paths"), (Method::Text, "itself")]
    {
        let mut draft = lab.draft("own", "echo $out > $out");
        draft.outputs = Outputs::Floating { names: vec!["out".to_owned()], method, algo: HashAlgo::Sha256 };
        let failure = lab.fails(&lab.write(draft));
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn the_graph_of_a_derivation_holds_what_it_makes() {
    let lab = lab!();
    let dep = lab.drv("dep", "echo dep > $out");
    let print = |path: &StorePath| lab.store.dir().print(path);
    let made = print(lab.read(&dep).output_path("out").expect("known"));
    // As the context of `drvPath` gives it: the file, and all that it makes.
    let draft = |wanted: &str| {
        let mut draft = lab.draft("graph", "cp g $out");
        lab.add_inputs(&mut draft, &[&dep]);
        draft.input_sources.insert(dep.clone());
        draft.environment.insert("exportReferencesGraph".into(), wanted.into());
        lab.write(draft)
    };
    let graph = std::fs::read_to_string(lab.build(&draft(&format!("g {}", print(&dep))))).expect("a file");
    let expected = [print(&dep), made.clone(), print(&lab.shell)];
    for path in &expected {
        assert!(graph.contains(&format!("{path}\n\n")), "{path} in {graph}");
    }
    let fails = |wanted: &str, words: &str| {
        let failure = lab.fails(&draft(wanted));
        assert!(failure.message.contains(words), "{failure}");
    };
    fails("g", "odd number of tokens in 'exportReferencesGraph': 'g'");
    fails(&format!("a/b {made}"), "invalid file name 'a/b' in 'exportReferencesGraph'");
    fails(&format!(".attrs {made}"), "invalid file name '.attrs'");
    fails("g /etc", "path '/etc' is not in the Nix store");
    let other = format!("g {}", print(&lab.drv("other", "")));
    fails(&other, "because it is not in the input closure of the derivation");
    // Where all attributes are structured, one that is no set is one like any other.
    let drv =
        structured(&lab, "plain", "cp $NIX_ATTRS_JSON_FILE $out", r#","exportReferencesGraph":["g","x"]"#);
    let json = std::fs::read_to_string(lab.build(&drv)).expect("a file");
    assert!(json.contains(r#""exportReferencesGraph":["g","x"]"#), "{json}");
}

#[test]
fn paths_of_the_machine_are_shown_to_builds_only_when_asked() {
    let mut lab = lab!();
    let drv =
        with_variables(&lab, "imp", "cat /etc/os-release > $out", &[("__impureHostDeps", "/etc/os-release")]);
    let failure = lab.fails(&drv);
    assert_eq!(failure.kind.exit_status(), 5);
    assert!(failure.message.contains("requested impure path '/etc/os-release'"), "{failure}");
    let file = lab.dir.path().join("release");
    std::fs::write(&file, "shown\n").expect("written");
    let shown = format!("/etc/os-release={}", file.display());
    lab.options.host_paths.push(ampoule_realise::sandbox::host_bind(&shown).expect("a good path"));
    assert_eq!(std::fs::read_to_string(lab.build(&drv)).expect("a file"), "shown\n");
}

/// A derivation may name its own outputs where their paths are not known yet, or would need themselves.
#[test]
fn placeholders_are_the_paths_of_outputs() {
    let lab = lab!();
    let (out, dev) = (ampoule_store::placeholder("out"), ampoule_store::placeholder("dev"));
    let names = vec!["dev".to_owned(), "out".to_owned()];
    let late = lab.floating("late", "echo late > $out", &[]);
    let by_contents = Outputs::Floating { names: names.clone(), method: Method::Nar, algo: HashAlgo::Sha256 };
    for (name, outputs, inputs) in [
        ("known", Outputs::InputAddressed(names.clone()), vec![]),
        ("deferred", Outputs::InputAddressed(names), vec![&late]),
        ("floating", by_contents, vec![]),
    ] {
        let script = format!(
            "echo {dev}/lib $flags > $out; cat $textPath >> $out; echo $dev > $dev; echo $out >> $out"
        );
        let mut draft = lab.draft(name, &script);
        draft.outputs = outputs;
        lab.add_inputs(&mut draft, &inputs);
        draft.environment.insert("flags".into(), format!("--prefix={out}").into());
        draft.environment.insert("passAsFile".into(), "text".into());
        draft.environment.insert("text".into(), format!("{out} {dev}\n").into());
        let drv = lab.write(draft);
        let made = lab.realise(&drv).expect("built");
        let (out, dev) = (lab.store.dir().print(&made["out"]), lab.store.dir().print(&made["dev"]));
        let said = std::fs::read_to_string(lab.store.real_path(&made["out"])).expect("a file");
        assert_eq!(said, format!("{dev}/lib --prefix={out}\n{out} {dev}\n{out}\n"), "{name}");
    }
    // Where all is structured, in the file of them.
    let drv = structured(&lab, "own", "cp $NIX_ATTRS_JSON_FILE $out", &format!(r#","prefix":"{out}/x""#));
    let path = lab.build(&drv);
    let own = format!(r#""prefix":"/nix/store/{}/x""#, path.file_name().expect("named").to_string_lossy());
    assert!(std::fs::read_to_string(&path).expect("a file").contains(&own));
}
