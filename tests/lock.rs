//! `ampoule lock` against a signed archive on disk (`tests/archive/`): what it writes, what it says, how it ends.
//!
//! The archive's suites are signed by a key made for them: `first`, a newer `second` with its `security`, and one that
//! `expired`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn archives() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archive")
}

struct Project {
    dir: tempfile::TempDir,
    mirror: PathBuf,
}

impl Project {
    fn new(names: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::copy(archives().join("keys.gpg"), dir.path().join("keys.gpg")).expect("keys");
        let project = Self { dir, mirror: archives().join("first") };
        project.asks(names, "");
        project
    }

    fn asks(&self, names: &str, more: &str) {
        let text = format!(
            "[debian]\nsuite = \"toy\"\narchive = \"toy\"\nupdates = false\nkeyring = \"keys.gpg\"\n{more}\n\
             [debian.packages]\nrun = [{names}]\n"
        );
        self.write("ampoule.toml", &text);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).expect(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ampoule"))
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("AMPOULE_MIRROR_TOY", format!("file://{}", self.mirror.display()))
            .env("AMPOULE_MIRROR_TOY_SECURITY", format!("file://{}", archives().join("security").display()))
            .current_dir(self.dir.path())
            .output()
            .expect("the program runs")
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.run(args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        for word in words {
            assert!(told.contains(word), "{args:?} does not say `{word}`: {told}");
        }
    }

    /// `name=version`, as locked.
    fn locked(&self) -> Vec<String> {
        let lock: serde_json::Value = serde_json::from_str(&self.read("ampoule.lock")).expect("JSON");
        let packages = lock["packages"].as_array().expect("a list");
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        packages.iter().map(|one| text(&one["name"]) + "=" + &text(&one["version"])).collect()
    }
}

#[test]
fn a_lock_says_what_was_chosen_and_stays_until_something_else_is_asked() {
    let project = Project::new("\"web\"");
    let told = project.succeeds(&["lock"]);
    assert!(told.contains("amd64/run: web needs `mail | post`: chose mail (else post)"), "{told}");
    assert_eq!(project.locked(), ["libtls=1.1", "mail=2", "web=1.0"]);
    let text = project.read("ampoule.lock");
    assert!(!text.contains("file://") && !text.contains(&*archives().to_string_lossy()), "a host is in it");
    assert!(project.succeeds(&["lock"]).contains("is up to date"));
    assert!(project.succeeds(&["lock", "--check"]).contains("fits"));
    assert_eq!(project.read("ampoule.lock"), text);

    project.asks("\"web\", \"post\"", "");
    project.fails(
        &["lock", "--check"],
        4,
        &["ampoule.lock does not match ampoule.toml", "run `ampoule lock`"],
    );
    let told = project.succeeds(&["lock"]);
    assert!(
        told.contains("amd64/run: post 3 is new") && told.contains("amd64/run: mail 2 is gone"),
        "{told}"
    );
    assert_eq!(project.locked(), ["libtls=1.1", "post=3", "web=1.0"]);
}

#[test]
fn a_lock_that_is_missing_or_was_changed_is_stale() {
    let project = Project::new("\"web\"");
    project.fails(&["lock", "--check"], 4, &["there is no ampoule.lock"]);
    project.succeeds(&["lock"]);
    let text = project.read("ampoule.lock");
    project.write("ampoule.lock", &text.replace("1.0", "1.9"));
    project.fails(&["lock", "--check"], 4, &["was changed by hand"]);
    project.write("ampoule.lock", &text[..text.len() / 2]);
    project.fails(&["lock", "--check"], 4, &["ampoule.lock is not readable"]);
    project.write("ampoule.lock", &text.replace('\n', "\r\n"));
    project.succeeds(&["lock", "--check"]);
    project.write("ampoule.lock", "{ \"version\": 99 }");
    project.fails(&["lock", "--check"], 4, &["has version 99"]);
    project.succeeds(&["lock"]);
    assert_eq!(project.read("ampoule.lock"), text);
}

#[test]
fn updates_move_what_was_named_and_nothing_else() {
    let mut project = Project::new("\"web\", \"tls-tool\"");
    project.succeeds(&["lock"]);
    project.mirror = archives().join("second");
    assert!(project.succeeds(&["lock"]).contains("up to date"), "a newer archive alone is no reason");
    let told = project.succeeds(&["lock", "--update", "tls"]);
    assert!(told.contains("libtls 1.1 -> 1.2") && told.contains("tls-tool 1.1 -> 1.2"), "{told}");
    assert_eq!(project.locked(), ["libtls=1.2", "mail=2", "tls-tool=1.2", "web=1.0"]);
    project.succeeds(&["lock", "--update"]);
    assert_eq!(project.locked(), ["libtls=1.2", "mail=2.1", "tls-tool=1.2", "web=1.1"]);
    project.fails(&["lock", "--update", "nosuch"], 2, &["`nosuch` is not in ampoule.lock"]);
    project.mirror = archives().join("first");
    project.fails(
        &["lock", "--update"],
        5,
        &["InRelease is of 20260801T000000Z, older than", "holds back updates"],
    );
    assert_eq!(project.locked(), ["libtls=1.2", "mail=2.1", "tls-tool=1.2", "web=1.1"]);
}

#[test]
fn security_updates_are_listed_and_nothing_changes() {
    let project = Project::new("\"web\"");
    project.succeeds(&["lock"]);
    let text = project.read("ampoule.lock");
    assert!(project.succeeds(&["lock", "--security"]).contains("libtls 1.1 -> 1.1+fix1 (amd64/run)"));
    let output = project.run(&["lock", "--security", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        rows,
        serde_json::json!([{ "name": "libtls", "source": "tls", "locked": "1.1", "available": "1.1+fix1", "usedIn": ["amd64/run"] }])
    );
    assert_eq!(project.read("ampoule.lock"), text);
}

#[test]
fn programs_read_what_a_lock_did() {
    let project = Project::new("\"web\"");
    let output = project.run(&["lock", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["packages"], &told["sizeBytes"]), (&serde_json::json!(3), &serde_json::json!(3000)));
    assert_eq!(told["choices"][0]["chosen"], "mail");
    project.asks("\"web\", \"post\"", "");
    let output = project.run(&["lock", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["changes"][1]["after"], "3");
}

#[test]
fn archives_that_cannot_be_believed_end_with_the_code_of_policy() {
    let mut project = Project::new("\"web\"");
    project.mirror = archives().join("expired");
    project.fails(&["lock"], 5, &["mirror://toy/dists/toy/InRelease expired on 20260808T000000Z"]);

    let copy = project.dir.path().join("mirror");
    let status = Command::new("cp").arg("-r").arg(archives().join("first")).arg(&copy).status().expect("cp");
    assert!(status.success());
    project.mirror = copy.clone();
    let release = copy.join("dists/toy/InRelease");
    let text = fs::read_to_string(&release).expect("text");
    fs::write(&release, text.replace("Components: main", "Components: maim")).expect("writable");
    project.fails(&["lock"], 5, &["InRelease", "signature"]);
    fs::write(&release, &text).expect("writable");
    let hashes = copy.join("dists/toy/main/binary-amd64/by-hash/SHA256");
    let index = fs::read_dir(&hashes).expect("a folder").next().expect("one").expect("a file").path();
    let whole = fs::read(&index).expect("readable");
    fs::write(&index, &whole[..whole.len() / 2]).expect("writable");
    project.fails(&["lock"], 3, &["its SHA-256 is", "by-hash"]);
    fs::remove_file(&index).expect("there");
    project.fails(&["lock"], 3, &["mirror://toy/dists/toy/main/binary-amd64/by-hash"]);
    assert!(!project.dir.path().join("ampoule.lock").exists(), "no lock came of it");
}

#[test]
fn what_the_manifest_gets_wrong_is_told() {
    let project = Project::new("\"wep\"");
    project.fails(&["lock"], 1, &["no package is called `wep`; near it: web", "for run on amd64"]);
    project.asks("\"web=9\"", "");
    project.fails(&["lock"], 1, &["`web` has no version 9; there is 1.0"]);
    project.asks("\"web\"", &format!("keyring-sha256 = \"{}\"", "0".repeat(64)));
    project.fails(&["lock"], 102, &["keys.gpg` has SHA-256"]);
    project.asks("\"web\"", "architectures = [\"s390x\"]");
    project.fails(&["lock"], 5, &["`toy` has no packages of component `main` for `s390x`"]);
    project.asks("\"web\"", "colour = 1");
    project.fails(&["lock"], 2, &["unknown field `colour`"]);
    project.write("ampoule.toml", "");
    project.fails(&["lock"], 2, &["has no `[debian]`"]);
    project.write("keys.gpg", "no keys");
    project.asks("\"web\"", "");
    project.fails(&["lock"], 1, &["keys.gpg"]);
}

/// Where a limit of processes forbids threads, that is said; it is no panic.
#[test]
fn without_threads_it_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    // Such a limit does not hold for root: another user needs a copy of the program that it can reach.
    let program = dir.path().join("ampoule");
    fs::copy(env!("CARGO_BIN_EXE_ampoule"), &program).expect("a copy");
    for path in [dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("to be reached by all");
    }
    fs::write(dir.path().join("ampoule.toml"), "[debian]\nsuite = \"bookworm\"\npackages = [\"toy\"]\n")
        .expect("a project");
    let is_root = rustix::process::geteuid().is_root();
    let other_user = if is_root { "--reuid=65534 --clear-groups" } else { "--no-new-privs" };
    let run = Command::new("setpriv")
        .args(other_user.split(' '))
        .args(["prlimit", "--nproc=1"])
        .arg(&program)
        .arg("lock")
        .env("HOME", dir.path())
        .env("AMPOULE_MIRROR_DEBIAN", "http://127.0.0.1:9/")
        .current_dir(dir.path())
        .output();
    match run {
        Ok(output) if !matches!(output.status.code(), Some(126 | 127)) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(3), "{said}");
            assert!(
                said.contains("cannot start a thread to work on: Resource temporarily unavailable"),
                "{said}"
            );
        }
        other => println!("skipped: no other user can run it here ({other:?})"),
    }
}
