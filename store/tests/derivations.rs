//! Cases 150 and 151: derivations that are not what they say; and placeholders as Nix computes them.

use ampoule_store::{
    ContentAddress, Derivation, DerivationDraft, DerivationError, Hash, Method, ModuloHashes, Outputs,
    StoreDir, StorePath, downstream_placeholder, placeholder,
};

fn draft(name: &str) -> DerivationDraft {
    let mut draft = DerivationDraft::new(name, Outputs::InputAddressed(vec!["out".into(), "dev".into()]));
    draft.system = "x86_64-linux".into();
    draft.builder = "/bin/sh".into();
    draft.arguments = vec!["-c".into(), "echo \"\n\t\r\\$".into()];
    draft.environment.insert("raw".into(), b"\xff\xe9".to_vec().into());
    draft.input_sources.insert(StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap());
    draft
}

fn finished(name: &str) -> Derivation {
    draft(name).finish(&StoreDir::default(), &ModuloHashes::default()).unwrap()
}

#[test]
fn case_150_recorded_paths_are_the_computed_ones() {
    let (dir, hashes) = (StoreDir::default(), ModuloHashes::default());
    let right = finished("x");
    right.check_output_paths(&dir, &hashes).unwrap();
    let text = String::from_utf8_lossy(&right.to_aterm(&dir)).into_owned();
    let path = dir.print(right.output_path("dev").unwrap());
    let other = path.replace("/nix/store/", "/nix/store/0").replacen("-x", "", 1);
    assert_ne!(text, text.replace(&path, &other));
    let mut wrong = right.clone();
    wrong.outputs.insert("dev".into(), right.outputs["out"].clone());
    let error = wrong.check_output_paths(&dir, &hashes).unwrap_err();
    assert!(matches!(&error, DerivationError::WrongOutputPath { output, .. } if output == "dev"), "{error}");
    let mut wrong = right.clone();
    wrong.environment.insert("out".into(), "/nix/store/elsewhere".into());
    let error = wrong.check_output_paths(&dir, &hashes).unwrap_err();
    assert!(matches!(error, DerivationError::WrongOutputVariable { .. }), "{error}");
    // A changed argument makes other paths.
    let mut wrong = right;
    wrong.arguments.push("more".into());
    wrong.check_output_paths(&dir, &hashes).unwrap_err();
    // A fixed output's path follows from what it promises, and is checked when it is read.
    let address = ContentAddress { method: Method::Flat, hash: Hash::sha256(b"x") };
    let fixed = DerivationDraft::new("f", Outputs::Fixed(address)).finish(&dir, &hashes).unwrap();
    let text = String::from_utf8(fixed.to_aterm(&dir)).unwrap();
    Derivation::parse(&dir, "f", text.as_bytes()).unwrap();
    let error = Derivation::parse(&dir, "g", text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("incorrect output 'out', should be"), "{error}");
}

#[test]
fn case_151_only_what_is_written_is_read() {
    let dir = StoreDir::default();
    let text = finished("x").to_aterm(&dir);
    assert_eq!(Derivation::parse(&dir, "x", &text).unwrap().to_aterm(&dir), text);
    let string = String::from_utf8_lossy(&text).replace('\u{fffd}', "?");
    let check = |from: &str, to: &str, why: &str| {
        let changed = string.replacen(from, to, 1);
        assert_ne!(changed, string, "{from}");
        let error = Derivation::parse(&dir, "x", changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    let src = "\"/nix/store/1cif0kzjly0k4gxq2d7bm0x9df2924df-a\"";
    check(src, &format!("{src},{src}"), "duplicate or unsorted");
    check("(\"raw\"", "(\"zzz\",\"\"),(\"raw\"", "duplicate or unsorted");
    check("echo \\\"", "echo \\q", "unknown escape");
    check("\\n", "\n", "must be escaped");
    check("x86_64-linux", "x86\u{0}", "zero byte");
    check("Derive(", "Derive (", "expected string");
    check("Derive([", "DrvWithVersion(\"xp-dyn-drv\",[", "dynamic derivations");
    check("[(\"dev\"", "[(\"../y\"", "illegal character '/'");
    for extra in [&b" "[..], b"\n", b"Derive"] {
        let error = Derivation::parse(&dir, "x", &[&text[..], extra].concat()).unwrap_err().to_string();
        assert!(error.contains("bytes after the end"), "{error}");
    }
    for len in 0..text.len() {
        Derivation::parse(&dir, "x", &text[..len]).unwrap_err();
    }
}

#[test]
fn case_151_random_changes_are_refused_or_exact() {
    let dir = StoreDir::default();
    let text = finished("x").to_aterm(&dir);
    let mut seed = 11u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut changed = text.clone();
        let at = next() % changed.len();
        match next() % 3 {
            0 => changed[at] = next() as u8,
            1 => drop(changed.remove(at)),
            _ => changed.insert(at, b"\"\\,([])"[next() % 7]),
        }
        if let Ok(derivation) = Derivation::parse(&dir, "x", &changed) {
            assert_eq!(derivation.to_aterm(&dir), changed);
            taken += 1;
        }
    }
    assert!(taken > 1000, "{taken}");
}

#[test]
fn case_151_a_large_one_is_exact() {
    let dir = StoreDir::default();
    let mut large = draft("x");
    large.environment.insert("big".into(), vec![b'\n'; 20 << 20].into());
    let text = large.finish(&dir, &ModuloHashes::default()).unwrap().to_aterm(&dir);
    assert!(text.len() > 40 << 20);
    assert!(Derivation::parse(&dir, "x", &text).unwrap().to_aterm(&dir) == text);
}

#[test]
fn case_149_names_of_derivations_and_outputs() {
    let (dir, hashes) = (StoreDir::default(), ModuloHashes::default());
    for name in ["../x", "a b", "..", "", &"a".repeat(212)] {
        draft(name).finish(&dir, &hashes).unwrap_err();
    }
    let mut odd = draft("x");
    odd.outputs = Outputs::InputAddressed(vec!["../y".into()]);
    odd.finish(&dir, &hashes).unwrap_err();
    // 211 characters fit, but not with `.drv` behind them.
    let long = "a".repeat(211);
    let mut one = draft(&long);
    one.outputs = Outputs::InputAddressed(vec!["out".into()]);
    one.finish(&dir, &hashes).unwrap().to_text_object(&dir).unwrap_err();
}

/// Values printed by Nix 2.34 for the same derivation.
#[test]
fn placeholders_are_those_of_nix() {
    assert_eq!(placeholder("out"), "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9");
    assert_eq!(placeholder("dev"), "/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz");
    let drv = StorePath::parse("809hd68vvfpi7cnll3ilvwg5qng30ymh-ca.drv").unwrap();
    let expected = "/0n40qcrmrsv91dsw86nd9mn7gi2jhyjka78s63b7h9cjnz66cfvh";
    assert_eq!(downstream_placeholder(&drv, "dev").unwrap(), expected);

    let (dir, hashes) = (StoreDir::default(), ModuloHashes::default());
    let (names, algo) = (vec!["out".to_owned(), "dev".to_owned()], ampoule_store::HashAlgo::Sha256);
    let mut floating = DerivationDraft::new("ca", Outputs::Floating { names, method: Method::Nar, algo });
    floating.system = "x86_64-linux".into();
    floating.builder = "/bin/sh".into();
    for (name, value) in [
        ("builder", "/bin/sh"),
        ("name", "ca"),
        ("outputHashAlgo", "sha256"),
        ("outputHashMode", "recursive"),
        ("outputs", "out dev"),
        ("system", "x86_64-linux"),
    ] {
        floating.environment.insert(name.into(), value.into());
    }
    let floating = floating.finish(&dir, &hashes).unwrap();
    let (path, _) = floating.to_text_object(&dir).unwrap();
    assert_eq!(path, drv);
    floating.remember(&path, &dir, &hashes).unwrap();

    let mut user = DerivationDraft::new("cau", Outputs::InputAddressed(vec!["out".into()]));
    user.system = "x86_64-linux".into();
    user.builder = "/bin/sh".into();
    for (name, value) in
        [("builder", "/bin/sh"), ("name", "cau"), ("system", "x86_64-linux"), ("x", expected)]
    {
        user.environment.insert(name.into(), value.into());
    }
    user.input_derivations.insert(path, ["dev".to_owned()].into());
    let user = user.finish(&dir, &hashes).unwrap();
    assert_eq!(user.output_path("out"), None);
    assert!(user.to_aterm(&dir).starts_with(b"Derive([(\"out\",\"\",\"\",\"\")],[(\"/nix/store/809hd"));
}
