//! Wheels by the hashes of `requirements.txt`, from an index on disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// SHA-256 of `alpha`, and of `beta`.
const ALPHA: &str = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8";
const BETA: &str = "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753";

fn realise(home: &Path, requirements: &str) -> Output {
    let project = home.join("project");
    fs::create_dir_all(&project).expect("a directory");
    fs::write(project.join("requirements.txt"), requirements).expect("a file");
    let expression = "{ python }: python.files { requirements = ./requirements.txt; }\n";
    fs::write(project.join("default.img"), expression).expect("a file");
    for (path, text) in [
        ("py3/a/alpha/alpha-1.0-py3-none-any.whl", "alpha"),
        ("cp311/b/beta/beta-2.0-cp311-cp311-manylinux2014_x86_64.whl", "beta"),
    ] {
        let path = home.join("pypi/packages").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    run(home, &project)
}

/// Realises what the file of `project` describes, with the index in `home`.
fn run(home: &Path, project: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["realise", "--no-out-link", "-q", "--system", "x86_64-linux"])
        .current_dir(project)
        .env_clear()
        .env("HOME", home)
        .env("AMPOULE_MIRROR_PYPI", format!("file://{}", home.join("pypi").display()))
        .output()
        .expect("the program runs")
}

#[test]
fn of_several_hashes_what_comes_has_to_have_one() {
    let home = tempfile::tempdir().expect("a directory");
    let zeros = "0".repeat(64);
    let text = format!(
        "# made by a resolver\nalpha==1.0 \\\n    --hash=sha256:{zeros} \\\n    --hash=sha256:{ALPHA}\n    # via beta\n\
         beta[extra]==2.0 ; python_version > '3' --hash=sha256:{BETA} --hash=sha256:{zeros}\n"
    );
    let output = realise(home.path(), &text);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths");
    let mut found: Vec<String> =
        paths.lines().map(|path| fs::read_to_string(path).expect("a file")).collect();
    found.sort();
    assert_eq!(found, ["alpha", "beta"]);

    let output = realise(home.path(), &text.replace(ALPHA, &"1".repeat(64)));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(102), "{told}");
    assert!(told.contains(&format!("its SHA-256 is {ALPHA}, which is none of the 2 named")), "{told}");
}

#[test]
fn what_is_not_pinned_is_told() {
    let home = tempfile::tempdir().expect("a directory");
    for (line, words) in [
        ("alpha>=1.0 --hash=sha256:00", "`alpha>=1.0` is not pinned by `==`"),
        ("alpha==1.0", "`alpha` has no `--hash=sha256:…`"),
    ] {
        let output = realise(home.path(), &format!("{line}\n"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn the_index_says_where_a_wheel_lies() {
    let home = tempfile::tempdir().expect("a directory");
    let index = home.path().join("pypi/simple/alpha-x");
    fs::create_dir_all(&index).expect("a directory");
    let name = "alpha_x-1.0-cp311-cp311-manylinux_2_39_x86_64.whl";
    let page = format!(
        "<a href=\"../../files/{name}#sha256={ALPHA}\">{name}</a><a href=\"../../no-such.tar.gz#sha256={BETA}\">no</a>"
    );
    fs::write(index.join("index.html"), page).expect("a file");
    let file = home.path().join("pypi/files").join(name);
    fs::create_dir_all(file.parent().expect("a folder")).expect("a directory");
    fs::write(file, "alpha").expect("a file");
    let output = realise(home.path(), &format!("Alpha_X==1.0 --hash=sha256:{BETA} --hash=sha256:{ALPHA}\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let told = realise(home.path(), &format!("alpha.x==1.0 --hash=sha256:{BETA}\n"));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains("has no wheel of `alpha-x` with one of the 1 hashes for Python 3.11 on x86_64"),
        "{told}"
    );
}

/// `fetchPypi` names a file and its hash: where it does not lie at the usual address, the index says where it does.
#[test]
fn a_source_is_found_by_the_index() {
    let home = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a directory");
        fs::write(path, text).expect("a file");
    };
    let realised = |hash: &str| {
        let file = format!(
            "{{ fetchPypi }}: fetchPypi {{ pname = \"Alpha_X\"; version = \"1.0\"; sha256 = \"{hash}\"; }}\n"
        );
        write("project/default.img", &file);
        run(home.path(), &home.path().join("project"))
    };
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    write("pypi/simple/other/index.html", "");
    let nowhere = realised(ALPHA);
    assert_eq!(nowhere.status.code(), Some(3), "{}", told(&nowhere));
    write(
        "pypi/simple/alpha-x/index.html",
        "<a href=\"../../files/alpha_x-1.0.tar.gz\">alpha_x-1.0.tar.gz</a>",
    );
    write("pypi/files/alpha_x-1.0.tar.gz", "alpha");
    let other = realised(BETA);
    assert_eq!(other.status.code(), Some(102), "{}", told(&other));
    let found = realised(ALPHA);
    assert!(found.status.success(), "{}", told(&found));
    let path = String::from_utf8(found.stdout).expect("a path");
    assert_eq!(fs::read_to_string(path.trim()).expect("a file"), "alpha");
    // What lies at the usual address is what was asked for, right or wrong.
    write("pypi/packages/source/B/Beta/Beta-1.0.tar.gz", "changed");
    write("pypi/simple/beta/index.html", "<a href=\"../../files/Beta-1.0.tar.gz\">Beta-1.0.tar.gz</a>");
    write("pypi/files/Beta-1.0.tar.gz", "alpha");
    let file = format!(
        "{{ fetchPypi }}: fetchPypi {{ pname = \"Beta\"; version = \"1.0\"; sha256 = \"{ALPHA}\"; }}\n"
    );
    write("project/default.img", &file);
    let changed = run(home.path(), &home.path().join("project"));
    assert_eq!(changed.status.code(), Some(102), "{}", told(&changed));
}
