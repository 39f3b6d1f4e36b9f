//! Images from the command line: what other programs are asked, what is left behind, and what stays the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ampoule_loopback::{Answer, Server};
use serde_json::Value;

mod support;

/// A home, a project that describes an image of a few files, and a folder of programs.
struct Yard {
    dir: tempfile::TempDir,
}

const PROJECT: &str = r#"
{ image, writeTree, fetchurl, greeting ? "hello" }:
image {
  name = "team/app";
  tag = "v1";
  root = [ (writeTree "tree" { "srv/greeting".text = greeting; "srv/words".text = builtins.readFile ./words; }) ];
  files."/srv/fetched".source = "${fetchurl {
    url = "file:///FETCHED";
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  }}";
  config = { entrypoint = [ "/srv/greeting" ]; env.A = "1"; };
  lint.allow = [ "missing-entrypoint" ];
}
"#;

impl Yard {
    fn new() -> Self {
        let yard = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        for dir in ["home", "project", "bin"] {
            fs::create_dir(yard.at(dir)).expect("made");
        }
        fs::write(yard.at("fetched"), "hello").expect("written");
        let project = PROJECT.replace("/FETCHED", yard.at("fetched").to_str().expect("a plain name"));
        fs::write(yard.at("project/app.img"), project).expect("written");
        fs::write(yard.at("project/words"), "some words\n").expect("written");
        yard
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a program that the command may meet.
    fn program(&self, name: &str, script: &str) {
        support::write_program(&self.at("bin").join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command.args(args).current_dir(self.at("project")).env_clear().stdin(Stdio::null());
        command.env("HOME", self.at("home")).env("NO_COLOR", "1").env("PATH", self.at("bin"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// Runs, and returns what was printed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs what must fail, and returns the code and the words.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let code = output.status.code().expect("an exit code");
        assert_ne!(code, 0, "{args:?}");
        (code, said(&output))
    }

    fn realise(&self, more: &[&str]) -> String {
        let told = self.ok(&[&["realise", "app.img"], more].concat());
        told.split(' ').next().expect("a digest").to_owned()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn the_digest_does_not_depend_on_umask_modes_times_or_place() {
    let digest = Yard::new().realise(&[]);
    for (umask, mode) in [("077", 0o600), ("000", 0o666), ("027", 0o444)] {
        let yard = Yard::new();
        let deeper = yard.at("some where/else");
        fs::create_dir_all(&deeper).expect("made");
        for name in ["app.img", "words"] {
            let to = deeper.join(name);
            fs::copy(yard.at("project").join(name), &to).expect("copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let output = Command::new("/bin/sh")
            .args([
                "-c",
                "umask $0 && exec \"$@\"",
                umask,
                env!("CARGO_BIN_EXE_ampoule"),
                "realise",
                "app.img",
            ])
            .current_dir(&deeper)
            .env_clear()
            .env("HOME", yard.at("home"))
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("the program runs");
        // The place of the fetched file is part of the derivation, and of nothing that is in the image.
        assert!(said(&output).contains(&digest), "umask {umask}: {digest}, not {}", said(&output));
    }
}

#[test]
fn load_takes_the_engine_that_answers() {
    let yard = Yard::new();
    yard.realise(&[]);
    let (_, none) = yard.fails(&["image", "load", "result"]);
    for engine in ["docker", "podman", "ctr", "kind"] {
        assert!(none.contains(&format!("`{engine}` is not installed")), "{none}");
    }
    yard.program("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    yard.program("kind", "[ \"$1\" = get ] && exit 0");
    let (_, told) = yard.fails(&["image", "load", "result"]);
    assert!(
        told.contains("Cannot connect to the Docker daemon") && told.contains("it has no cluster"),
        "{told}"
    );
    // A cluster's tool opens the archive by name, once for each node.
    let out = yard.at("by-kind");
    let copy =
        format!("case $1 in get) echo one ;; load) /bin/cat \"$3\" \"$3\" > {} ;; esac", out.display());
    yard.program("kind", &copy);
    yard.ok(&["image", "load", "result"]);
    let twice = fs::read(&out).expect("what it was given");
    let (first, second) = twice.split_at(twice.len() / 2);
    assert!(first == second && first.starts_with(b"oci-layout"));
    // podman is asked before it, and is given the same.
    let out = yard.at("by-podman");
    yard.program(
        "podman",
        &format!("case $1 in version) echo 4 ;; load) /bin/cat > {}; echo taken ;; esac", out.display()),
    );
    assert_eq!(yard.ok(&["image", "load", "result"]).trim(), "taken");
    assert_eq!(fs::read(&out).expect("what it was given"), first);
    let report = json(&yard.ok(&["image", "load", "--json", "result"]));
    assert_eq!(report["engine"], "podman");
    // One that fails is told with its words.
    yard.program("podman", "echo no space left >&2; exit 125");
    let (_, told) = yard.fails(&["image", "load", "--to", "podman", "result"]);
    assert!(told.contains("no space left") && told.contains("125"), "{told}");
    let (code, told) = yard.fails(&["image", "load", "--to", "rkt", "result"]);
    assert!(code == 2 && told.contains("expected `docker`"), "{told}");
}

#[test]
fn credentials_come_from_dockers_helpers() {
    let server = Server::start(|asked| match asked.header("authorization") {
        // joe:s3cret
        Some("Basic am9lOnMzY3JldA==") => Answer::status(404),
        _ => Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let host = server.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let yard = Yard::new();
    let config = yard.at("home/.docker");
    fs::create_dir(&config).expect("made");
    let image = format!("docker://{host}/a/b:x");
    for field in [format!(r#""credHelpers":{{"{host}":"test"}}"#), r#""credsStore":"test""#.to_owned()] {
        fs::write(config.join("config.json"), format!("{{{field}}}")).expect("written");
        let (code, told) = yard.fails(&["image", "inspect", &image]);
        assert!(code == 1 && told.contains("docker-credential-test"), "{told}");
        let asked = yard.at("asked");
        let answer =
            format!("/bin/cat > {}; echo '{{\"Username\":\"joe\",\"Secret\":\"s3cret\"}}'", asked.display());
        yard.program("docker-credential-test", &answer);
        let (code, told) = yard.fails(&["image", "inspect", &image]);
        assert!(code == 3 && told.contains("404"), "{told}");
        assert_eq!(fs::read_to_string(&asked).expect("what it was asked"), host);
        yard.program("docker-credential-test", "echo 'credentials not found in native keychain'; exit 1");
        let (_, told) = yard.fails(&["image", "inspect", &image]);
        assert!(told.contains("credentials none found"), "{told}");
        yard.program("docker-credential-test", "echo s3cret; exit 3");
        let (_, told) = yard.fails(&["image", "inspect", &image]);
        assert!(told.contains("docker-credential-test") && !told.contains("s3cret"), "{told}");
        fs::remove_file(yard.at("bin/docker-credential-test")).expect("removed");
    }
}

#[test]
fn provenance_is_read_off_the_derivations() {
    let yard = Yard::new();
    let digest = yard.realise(&[]);
    let statement = json(&yard.ok(&["image", "export", "result", "--format", "provenance", "-"]));
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest.trim_start_matches("sha256:"));
    let build = &statement["predicate"]["buildDefinition"];
    let from = build["resolvedDependencies"].as_array().expect("a list");
    let fetched = from.iter().find(|one| one["uri"].as_str().is_some_and(|uri| uri.starts_with("file://")));
    assert_eq!(
        fetched.expect("what was fetched")["digest"]["sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    assert_eq!(
        statement,
        json(&yard.ok(&["image", "export", "result", "--format", "provenance", "-"])),
        "the same image has the same statement"
    );
    for format in ["spdx", "cyclonedx"] {
        let bill = json(&yard.ok(&["image", "export", "result", "--format", format, "-"]));
        assert!(bill.to_string().contains("team/app"), "{bill}");
    }
    // An image from elsewhere has none.
    yard.ok(&["image", "export", "result", "out", "--compression", "none"]);
    let (code, told) = yard.fails(&["image", "export", "out", "--format", "provenance", "-"]);
    assert!(code == 2 && told.contains("was not made here"), "{told}");
}

/// An image on a base: from a registry by digest, its hash promised as of any fetch; and from a layout beside the file.
#[test]
fn a_base_comes_from_a_registry_or_a_layout_and_is_what_was_promised() {
    let yard = Yard::new();
    let digest = yard.realise(&[]);
    yard.ok(&["image", "export", "result", "layout"]);
    let blobs = yard.at("project/layout/blobs/sha256");
    let server = Server::start(move |asked| {
        let name = asked.path.rsplit(':').next().unwrap_or_default();
        match fs::read(blobs.join(name)) {
            _ if asked.path == "/v2/" => Answer::ok("{}"),
            Ok(bytes) => {
                Answer::ok(bytes).header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            }
            Err(_) => Answer::status(404),
        }
    });
    let host = server.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let describe = |name: &str, base: &str| {
        let text = format!(
            r#"{{ image, lib, pullImage }}: image {{ name = "upon"; base = {base}; files."/etc/own" = "own"; platforms = [ "linux/amd64" ]; }}"#
        );
        fs::write(yard.at("project").join(name), text).expect("written");
    };
    let pulled = |digest: &str, hash: &str| {
        format!(
            r#"pullImage {{ image = "{host}/base"; digest = "{digest}"; hash = {hash}; platform = "linux/amd64"; }}"#
        )
    };
    describe("upon.img", &pulled(&digest, "lib.fakeHash"));
    let (code, told) = yard.fails(&["realise", "upon.img"]);
    assert_eq!(code, 102, "{told}");
    let fake = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let hash =
        told.split(|c: char| c.is_whitespace() || c == '`').find(|w| w.starts_with("sha256-") && *w != fake);
    describe("upon.img", &pulled(&digest, &format!("{:?}", hash.expect("the right hash"))));
    yard.ok(&["realise", "upon.img", "-o", "upon"]);
    let tree = json(&yard.ok(&["image", "tree", "--json", "upon"]));
    let has = |tree: &Value| {
        tree["below"]["srv"]["below"]["greeting"].is_object()
            && tree["below"]["etc"]["below"]["own"].is_object()
    };
    assert!(has(&tree), "{tree}");
    let why = yard.ok(&["image", "why", "upon", "/srv/greeting"]);
    assert!(why.contains("/srv/greeting"), "{why}");
    let inspected = json(&yard.ok(&["image", "inspect", "--json", "upon"]));
    assert_eq!(inspected["configs"][0]["config"]["Env"][0], "A=1", "the base's environment holds");
    // A digest that nobody has, and one of something else.
    let other = format!("sha256:{}", "0".repeat(64));
    describe("upon.img", &pulled(&other, "lib.fakeHash"));
    let (code, told) = yard.fails(&["realise", "upon.img"]);
    assert!(code != 0 && told.contains("404"), "{told}");
    // From beside the file, for another machine, and what is no layout.
    describe("beside.img", "./layout");
    yard.ok(&["realise", "beside.img", "-o", "beside"]);
    assert!(has(&json(&yard.ok(&["image", "tree", "--json", "beside"]))));
    describe("named.img", &format!(r#"{{ layout = ./layout; digest = "{digest}"; }}"#));
    yard.ok(&["realise", "named.img", "-o", "named"]);
    for (base, words) in [
        (r#"{ layout = ./layout; digest = "sha256:00"; }"#.to_owned(), "expected `base` to be a layout"),
        (format!(r#"{{ layout = ./layout; digest = "{other}"; }}"#), "cannot read"),
        ("./words".to_owned(), "oci-layout"),
        ("42".to_owned(), "expected `base` to be a layout"),
    ] {
        describe("wrong.img", &base);
        let (_, told) = yard.fails(&["realise", "wrong.img"]);
        assert!(told.contains(words), "{base}: {told}");
    }
}

#[test]
fn layouts_to_which_nothing_leads_are_collected() {
    let yard = Yard::new();
    yard.realise(&["-o", "one"]);
    yard.realise(&["-o", "two", "--argstr", "greeting", "other"]);
    let layout = |link: &str| fs::read_link(yard.at("project").join(link)).expect("a link");
    let (one, two) = (layout("one"), layout("two"));
    yard.ok(&["store", "gc"]);
    assert!(one.join("index.json").is_file() && two.join("index.json").is_file(), "links lead to both");
    // Both have the same name: the objects of both are kept, and say what is in them.
    yard.ok(&["tree", "one"]);
    yard.ok(&["tree", "two"]);
    // A layout stands for the object that it was made from.
    let (_, told) = yard.fails(&["log", "one"]);
    assert!(told.contains("there is no log of `team-app-image.drv`"), "{told}");
    let told = yard.ok(&["store", "path-info", "one"]);
    let object = told.split_whitespace().next().expect("a path");
    for args in [&["store", "closure", "one"][..], &["store", "why", "one", object]] {
        assert!(yard.ok(args).contains(object), "{args:?}");
    }
    assert!(yard.ok(&["store", "du", "one"]).contains("-team-app-image"));
    let roots = yard.ok(&["store", "roots"]);
    assert!(roots.contains("/project/one\n") && roots.contains("/project/two\n"), "{roots}");
    fs::remove_file(yard.at("project/one")).expect("removed");
    yard.ok(&["store", "gc"]);
    assert!(!one.exists() && two.join("index.json").is_file());
    let roots = yard.ok(&["store", "roots"]);
    assert!(!roots.contains("/project/one\n") && roots.contains("/project/two\n"), "{roots}");
    // What is left can be used, and what went is made again.
    yard.ok(&["image", "inspect", "two"]);
    yard.realise(&["-o", "one"]);
    assert!(one.join("index.json").is_file());
}

#[test]
fn what_fails_leaves_what_was_there() {
    let yard = Yard::new();
    yard.realise(&[]);
    yard.ok(&["image", "export", "result", "copy", "--compression", "none"]);
    // A layer that was changed after it was written.
    let blobs: Vec<PathBuf> = fs::read_dir(yard.at("project/copy/blobs/sha256"))
        .expect("blobs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let is_layer = |path: &&PathBuf| fs::read(path).expect("a blob").len() > 1000;
    let layer = blobs.iter().find(is_layer).expect("a layer");
    let mut bytes = fs::read(layer).expect("a layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(layer).expect("removed");
    fs::write(layer, bytes).expect("written");
    fs::write(yard.at("project/out.tar"), "precious").expect("written");
    for args in [
        &["export", "copy", "--format", "rootfs", "out.tar"][..],
        &["export", "copy", "fresh"],
        &["export", "copy", "out.tar"],
        &["tree", "copy"],
    ] {
        // A store of its own, whose cache has not got the layer as it was.
        let (code, told) = yard.fails(&[&["--store", "../other", "image"], args].concat());
        // A turned bit may hit a header as well as a body.
        assert!(code == 102 || told.contains("malformed"), "{args:?}: {code}, {told}");
    }
    assert_eq!(fs::read_to_string(yard.at("project/out.tar")).expect("there"), "precious");
    let mut names: Vec<String> = fs::read_dir(yard.at("project"))
        .expect("the project")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["app.img", "copy", "out.tar", "result", "words"]);
}

#[test]
fn every_command_speaks_json_and_refuses_in_words() {
    let yard = Yard::new();
    let digest = yard.realise(&[]);
    for args in [
        &["inspect", "result"][..],
        &["layers", "result", "--explain"],
        &["tree", "result"],
        &["diff", "result", "result"],
        &["why", "result", "/srv/greeting"],
        &["export", "result", "out.tar"],
        &["export", "result", "out"],
    ] {
        let args = [&["image", "--json"], args].concat();
        json(&yard.ok(&args));
    }
    let inspected = json(&yard.ok(&["image", "inspect", "--json", "out"]));
    assert_eq!(inspected["digest"], digest.as_str());
    let tree = json(&yard.ok(&["image", "tree", "--json", "out"]));
    assert_eq!(tree["below"]["srv"]["below"]["greeting"]["sizeBytes"], 5);
    fs::write(yard.at("project/no-image"), "x").expect("written");
    fs::create_dir(yard.at("project/empty")).expect("made");
    for (args, code, words) in [
        (&["inspect", "no-image"][..], 1, "is no image"),
        (&["layers", "empty"], 1, "is no image"),
        (&["tree", "nowhere"], 2, "there is no `nowhere`"),
        (&["diff", "result", "app.img"], 2, "describes an image"),
        (&["why", "result", "/nothing"], 1, "has no `/nothing`"),
        (&["inspect", "out:v9"], 1, "has no image `v9`"),
        (&["export", "result", "x.tar", "--platform", "linux/s390x"], 2, "has no `linux/s390x`"),
        (&["export", "result", "x.tar", "--platform", "vms"], 2, "is not a platform"),
        (&["export", "result", "x", "--compression", "lzw"], 2, "expected `gzip`"),
        (&["export", "out.tar", "x", "--compression", "zstd"], 2, "compressed anew"),
        (&["export", "result", "app.img"], 1, "will not be overwritten"),
        (&["export", "result", "no/where/x", "--format", "spdx"], 1, "no/where/x"),
        (&["push", "result", "Upper/Case"], 2, "is not an image reference"),
        (&["push", "out.tar", "127.0.0.1:1/x", "--sbom"], 2, "was not made here"),
        (&["push", "out.tar", "127.0.0.1:1/x", "--provenance"], 2, "was not made here"),
        (&["pull", "127.0.0.1:1/x", "empty", "--platform", "vms"], 2, "is not a platform"),
    ] {
        let args = [&["image"], args].concat();
        let (found, told) = yard.fails(&args);
        assert!(found == code && told.contains(words), "{args:?}: {found}, {told}");
    }
    // Nothing can be made in `/proc`, and nobody knows the name under which it was tried.
    for args in
        [&["export", "result", "/proc/x.tar"][..], &["export", "result", "/proc/x", "--format", "spdx"]]
    {
        let (_, told) = yard.fails(&[&["image"], args].concat());
        assert!(told.contains("/proc/x") && !told.contains(".ampoule-"), "{told}");
    }
    assert!(!Path::new(&yard.at("project/x")).exists() && !yard.at("project/x.tar").exists());
}

#[test]
fn why_knows_packages_files_and_objects() {
    let yard = Yard::new();
    let project = r##"
    { image, writeTree }:
    image {
      name = "packaged";
      root = [
        (writeTree "debian" {
          "var/lib/dpkg/status.d/app".text = "Package: app\nVersion: 2\nDepends: runner (>= 1)\n";
          "var/lib/dpkg/status.d/app.md5sums".text = "00000000000000000000000000000000  usr/bin/app\n";
          "var/lib/dpkg/status.d/runner".text = "Package: runner\nVersion: 1.5\n";
          "var/lib/dpkg/status.d/runner.md5sums".text = "00000000000000000000000000000000  usr/bin/runner\n";
          "usr/bin/app" = { text = "#!/usr/bin/runner\n"; executable = true; };
          "usr/bin/runner" = { text = "a program"; executable = true; };
        })
      ];
      lint.allow = [ "missing-entrypoint" ];
    }"##;
    fs::write(yard.at("project/app.img"), project).expect("written");
    yard.realise(&[]);
    let told = yard.ok(&["why", "result", "runner"]);
    assert!(told.starts_with("runner 1.5 ("), "{told}");
    assert!(told.contains("  depends  app -> runner\n"), "{told}");
    assert!(told.contains("  used by  /usr/bin/app: interpreter /usr/bin/runner\n"), "{told}");
    let found = json(&yard.ok(&["why", "--json", "result", "runner"]));
    assert_eq!(found[0]["chain"], serde_json::json!(["app", "runner"]));
    let told = yard.ok(&["why", "result", "app"]);
    assert!(told.contains("no other package depends on it"), "{told}");
    // A file by its name alone, an object by the beginning of its name.
    let told = yard.ok(&["why", "result", "app.md5sums"]);
    assert!(told.starts_with("/var/lib/dpkg/status.d/app.md5sums ("), "{told}");
    assert!(yard.ok(&["why", "result", "debian"]).contains("-debian\n"));
    let (code, told) = yard.fails(&["why", "result", "run"]);
    assert!(code == 1 && told.contains("packages of it with such a name: runner"), "{code}: {told}");
    let (code, told) = yard.fails(&["why", "--json", "result", "nothing"]);
    let (answer, note) = told.split_once('\n').expect("two lines");
    assert!(code == 1 && answer == "null" && json(note)["note"].is_string(), "{told}");
}
