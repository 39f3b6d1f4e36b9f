//! Packages in the style of nixpkgs (`tests/packages/`) evaluate as they stand, and build.
//!
//! Building them needs the network (`AMPOULE_NETWORK=1`): compilers and libraries are Debian's.

use std::path::{Path, PathBuf};

use support::{ampoule, succeeds};

mod support;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages")
}

#[test]
fn packages_evaluate_to_derivations() {
    let home = tempfile::tempdir().expect("a directory");
    let expression = "{ callPackage }: builtins.mapAttrs (_: p: p.drvPath) (removeAttrs (callPackage ./. { }) \
                      [ \"override\" \"overrideDerivation\" ])";
    let printed =
        succeeds(&ampoule(&["eval", "--json", "--strict", "-E", expression], home.path(), &folder()));
    let paths: std::collections::BTreeMap<String, String> =
        serde_json::from_str(&printed).expect("paths by name");
    assert!(paths.len() > 15, "{paths:?}");
    for (name, path) in paths {
        assert!(path.starts_with("/nix/store/") && path.ends_with(".drv"), "{name}: {path}");
    }
}

#[test]
fn packages_build() {
    if std::env::var_os("AMPOULE_NETWORK").is_none() {
        println!("skipped: AMPOULE_NETWORK is not set");
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    succeeds(&ampoule(&["realise", "--keep-going", "--no-out-link", "."], home.path(), &folder()));
}
