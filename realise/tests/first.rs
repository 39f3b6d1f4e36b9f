//! The simplest things that a realiser does.

mod lab;

#[test]
fn a_script_makes_a_file() {
    let lab = lab!();
    assert_eq!(lab.run("echo hello > $out"), "hello\n");
}

#[test]
fn a_chain_is_built_in_order_and_once() {
    let lab = lab!();
    let first = lab.drv("first", "echo first; echo 1 > $out");
    let second = lab.drv_with("second", "cat $in0 > $out; echo 2 >> $out", &[&first]);
    let third = lab.drv_with("third", "cat $in0 > $out; echo 3 $in0 >> $out", &[&second]);
    let (result, heard) = lab.realise_all(&[&third]);
    let realised = result.expect("built");
    assert_eq!(realised.built, 3);
    assert_eq!(heard.log(), "first\n");
    let out = &realised.outputs[&third]["out"];
    let info = lab.store.expect_info(out).expect("valid");
    let second_out = lab.read(&second).output_path("out").expect("known").clone();
    assert_eq!(info.references.into_iter().collect::<Vec<_>>(), [second_out]);
    let (again, _) = lab.realise_all(&[&third]);
    assert_eq!(again.expect("valid").built, 0);
}

#[test]
fn debug_enters_the_same_sandbox() {
    let lab = lab!();
    let input = lab.drv("input", "echo input > $out");
    let mut draft = lab.draft("case", "exit 1");
    draft.environment.insert("variable".into(), "value".into());
    lab.add_inputs(&mut draft, &[&input]);
    let drv = lab.write(draft);
    let realiser = ampoule_realise::Realiser {
        store: &lab.store,
        source: &lab.store,
        builders: &lab.builders,
        substituters: None,
        options: &lab.options,
        events: &ampoule_realise::Silent,
        cancel: ampoule_net::Cancel::default(),
    };
    let script = "test \"$(cat $in0)\" = input && test $variable = value && test $PWD = /build && test $(id -u) = 1000 \
        && test -t 0 && test -t 1 && exit 23";
    let command = ["sh", "-c", script].map(str::to_owned);
    assert_eq!(realiser.debug(&drv, &command).expect("entered"), 23);
    assert!(realiser.debug(&drv, &["no-such-program".to_owned()]).is_err());
    let out = lab.read(&drv).output_path("out").expect("known").clone();
    assert!(!lab.store.is_valid(&out).expect("asked"), "nothing is registered");
    // What has no shell is refused before its inputs are built.
    let unbuilt = lab.drv("unbuilt", "echo unbuilt > $out");
    for builder in ["builtin:fetchurl", "/nowhere/make"] {
        let mut draft = lab.draft("refused", "");
        draft.builder = builder.into();
        lab.add_inputs(&mut draft, &[&unbuilt]);
        let refused = realiser.debug(&lab.write(draft), &[]).expect_err("no shell").to_string();
        assert!(refused.contains("without a sandbox") || refused.contains("not a shell"), "{refused}");
    }
    let out = lab.read(&unbuilt).output_path("out").expect("known").clone();
    assert!(!lab.store.is_valid(&out).expect("asked"), "nothing is built in vain");
}
