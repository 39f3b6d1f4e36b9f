//! Projects that `ampoule init` makes describe an image as they stand. Building them needs the network:
//! `tests/first-command.sh` does that.

use std::path::Path;

use support::{ampoule, succeeds};

mod support;

const TEMPLATES: &[&str] = &["debian", "flask", "hello", "rust", "static-c"];

#[test]
fn every_template_is_known_to_this_test() {
    let home = tempfile::tempdir().expect("a directory");
    let listed = succeeds(&ampoule(&["init", "--list"], home.path(), home.path()));
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, TEMPLATES);
}

#[test]
fn templates_describe_images() {
    let home = tempfile::tempdir().expect("a directory");
    for template in TEMPLATES {
        let made = ampoule(&["init", "--template", template, template], home.path(), home.path());
        let files = succeeds(&made);
        let told = String::from_utf8_lossy(&made.stderr).into_owned();
        let dir = home.path().join(template);
        assert!(told.ends_with("ampoule realise\n"), "{told}");
        assert_eq!(told.contains("ampoule lock"), dir.join("ampoule.toml").exists(), "{told}");
        assert!(files.lines().all(|file| home.path().join(file).is_file()), "{files}");
        if *template == "rust" {
            // The compiler is in no lock of the library's own.
            let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rust-service/ampoule.lock");
            std::fs::copy(lock, dir.join("ampoule.lock")).expect("a lock file");
        }
        let path = succeeds(&ampoule(&["eval", "--raw", "-A", "drvPath"], home.path(), &dir));
        assert!(path.starts_with("/nix/store/") && path.ends_with("-image.drv"), "{template}: {path}");
        succeeds(&ampoule(&["fmt", "--check"], home.path(), &dir));
    }
}

#[test]
fn nothing_is_overwritten() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path();
    std::fs::write(dir.join("default.img"), "mine").expect("a file");
    let refused = ampoule(&["init"], dir, dir);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("`./default.img` would be overwritten"),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_to_string(dir.join("default.img")).expect("it is there"), "mine");
    assert!(!dir.join(".gitignore").exists(), "nothing else is written either");
}
