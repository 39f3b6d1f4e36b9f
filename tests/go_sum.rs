//! Modules of Go by the hashes of `go.sum`, from a module proxy on disk (`tests/go/`): the compiler needs nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go")
}

/// Realises the module proxy of a `go.sum` with this text.
fn realise(home: &Path, sums: &str) -> Output {
    let project = home.join("project");
    fs::create_dir_all(&project).expect("a directory");
    fs::write(project.join("go.sum"), sums).expect("a file");
    fs::write(project.join("default.img"), "{ go }: go.proxy ./go.sum\n").expect("a file");
    Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["realise", "--no-out-link", "-q"])
        .current_dir(project)
        .env_clear()
        .env("HOME", home)
        .env("AMPOULE_MIRROR_GO", format!("file://{}", folder().join("proxy").display()))
        .output()
        .expect("the program runs")
}

fn sums() -> String {
    fs::read_to_string(folder().join("go.sum")).expect("text")
}

#[test]
fn modules_come_as_a_proxy_with_the_hashes_of_the_file() {
    let home = tempfile::tempdir().expect("a directory");
    let output = realise(home.path(), &sums());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
    let versions = tree.join("example.org/!greet/@v");
    let module = fs::read_to_string(versions.join("v1.0.0.mod")).expect("a go.mod");
    assert!(module.starts_with("module example.org/Greet\n"), "{module}");
    let theirs = fs::read(folder().join("proxy/example.org/!greet/@v/v1.0.0.zip")).expect("readable");
    assert_eq!(fs::read(versions.join("v1.0.0.zip")).expect("an archive"), theirs);
    // Known by its `go.mod` alone: the archive is not asked for.
    assert!(tree.join("example.org/unused/@v/v0.1.0.mod").exists());
    assert!(!tree.join("example.org/unused/@v/v0.1.0.zip").exists());
}

#[test]
fn a_module_with_another_hash_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let text = sums();
    let line = text.lines().next().expect("one");
    let (module, hash) = line.rsplit_once("h1:").expect("a hash");
    let wrong = text.replacen(line, &format!("{module}h1:A{}", &hash[1..]), 1);
    let output = realise(home.path(), &wrong);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(102), "{told}");
    assert!(told.contains("h1:") && told.contains(hash), "{told}");
}

#[test]
fn what_go_sum_lacks_is_told() {
    let home = tempfile::tempdir().expect("a directory");
    let text = sums();
    let zip_only = text.lines().next().expect("one").to_owned() + "\n";
    let output = realise(home.path(), &zip_only);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no `go.mod` line for `example.org/Greet@v1.0.0`; run `go mod tidy`"), "{told}");
    let missing = text.replace("v0.1.0", "v0.2.0");
    let output = realise(home.path(), &missing);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("example.org/unused"), "{told}");
}
