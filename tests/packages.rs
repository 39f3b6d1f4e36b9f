//! Packages in the style of nixpkgs (`tests/packages/`) evaluate as they stand, and build.
//!
//! Building them needs the network (`AMPOULE_NETWORK=1`): compilers and libraries are Debian's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages")
}

fn ampoule(args: &[&str], home: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(folder())
        .output()
        .expect("the program runs")
}

#[test]
fn packages_evaluate_to_derivations() {
    let home = tempfile::tempdir().expect("a directory");
    let expression = "{ callPackage }: builtins.mapAttrs (_: p: p.drvPath) (removeAttrs (callPackage ./. { }) \
                      [ \"override\" \"overrideDerivation\" ])";
    let output = ampoule(&["eval", "--json", "--strict", "-E", expression], home.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths: std::collections::BTreeMap<String, String> =
        serde_json::from_slice(&output.stdout).expect("paths by name");
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
    let output = ampoule(&["realise", "--keep-going", "--no-out-link", "."], home.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
