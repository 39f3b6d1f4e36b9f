//! `builtin:debian-compose` on packages that the tests make.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use ampoule_realise::builtin::{BuiltinError, BuiltinErrorKind, DebianCompose};
use serde_json::{Value, json};
use support::archives::{Header, Tar, deb};
use support::listing;
use support::yard::Yard;

/// Packages to compose.
struct Set {
    yard: Yard,
    packages: Vec<String>,
}

impl Set {
    fn new() -> Self {
        let mut yard = Yard::new();
        yard.outputs.push("meta");
        Self { yard, packages: Vec::new() }
    }

    fn package(self, name: &str, data: Tar) -> Self {
        self.with_scripts(name, &[], data)
    }

    fn with_scripts(mut self, name: &str, scripts: &[(&str, &str)], data: Tar) -> Self {
        let control =
            format!("Package: {name}\nSource: src-{name} (1.0)\nVersion: 1:1.0-2\nArchitecture: amd64\n");
        let logical =
            self.yard.input(&format!("{}-{name}.deb", self.packages.len()), &deb(&control, scripts, data));
        self.packages.push(logical);
        self
    }

    fn postinst(self, name: &str, script: &str) -> Self {
        self.with_scripts(
            name,
            &[("postinst", &format!("#!/bin/sh\nset -e\n{script}\n"))],
            Tar::default().file("./usr/x", "x"),
        )
    }

    fn compose(&self, more: Value) -> Result<(), BuiltinError> {
        let mut attrs = json!({ "packages": self.packages, "dpkgStatus": "none", "users": false });
        for (name, value) in more.as_object().expect("attributes are a set") {
            attrs[name] = value.clone();
        }
        self.yard.run(&DebianCompose, &attrs)
    }

    /// Composes; returns the tree as text.
    fn tree(&self, more: Value) -> Vec<String> {
        self.compose(more).expect("the packages compose");
        listing(&self.yard.out())
    }

    fn meta(&self) -> Value {
        let text = std::fs::read(self.yard.dir.path().join("outputs/meta")).expect("the output `meta`");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn refused(&self) -> String {
        let error = self.compose(json!({})).expect_err("refused");
        assert_eq!(error.kind, BuiltinErrorKind::Policy, "{error}");
        error.message
    }
}

/// The effect of one script: the tree besides the package's own file.
fn effect(script: &str) -> Vec<String> {
    let tree = Set::new().postinst("p", script).tree(json!({}));
    tree.into_iter().filter(|line| !matches!(line.as_str(), "usr/" | "usr/x x")).collect()
}

fn has(tree: &[String], line: &str) {
    assert!(tree.iter().any(|l| l == line), "no `{line}` in {tree:#?}");
}

#[test]
fn usr_is_merged() {
    let set = Set::new()
        .package(
            "a",
            Tar::default().dir("./").dir("./lib").file("./lib/a.so", "a").symlink("./lib/b.so", "a.so"),
        )
        .package(
            "b",
            Tar::default()
                .dir("./bin")
                .file("./bin/sh", "sh")
                .hard_link("./bin/rsh", "./bin/sh")
                .file("./usr/bin/x", "x"),
        );
    let expected = [
        "bin -> usr/bin",
        "lib -> usr/lib",
        "usr/",
        "usr/bin/",
        "usr/bin/rsh sh",
        "usr/bin/sh sh",
        "usr/bin/x x",
    ];
    let tree = set.tree(json!({}));
    assert_eq!(tree[..7], expected);
    assert_eq!(tree[7..], ["usr/lib/", "usr/lib/a.so a", "usr/lib/b.so -> a.so"]);
    // A package that ships the links itself.
    let set = Set::new()
        .package(
            "base-files",
            Tar::default()
                .dir("./usr")
                .dir("./usr/lib")
                .symlink("./lib", "usr/lib")
                .symlink("./bin", "usr/bin"),
        )
        .package("z", Tar::default().file("./lib/z", "z"));
    assert_eq!(set.tree(json!({})), ["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/z z"]);
    let set = Set::new().package("a", Tar::default().file("./lib/a", "a"));
    assert_eq!(set.tree(json!({ "mergedUsr": false })), ["lib/", "lib/a a"]);
}

#[test]
fn the_order_of_packages_and_the_number_of_threads_do_not_matter() {
    let data = |n: u32| {
        (0..30).fold(Tar::default(), |tar, f| {
            tar.file(&format!("./usr/share/d{}/f{n}-{f}", f % 3), &format!("{n} {f}"))
        })
    };
    let tree = |order: Vec<u32>, cores: usize| {
        let mut set = order.into_iter().fold(Set::new(), |set, n| set.package(&format!("p{n}"), data(n)));
        set.yard.cores = cores;
        (set.tree(json!({ "dpkgStatus": "status.d", "users": true })), set.meta())
    };
    let first = tree((0..12).collect(), 1);
    assert_eq!(first, tree((0..12).rev().collect(), 8));
    assert!(first.0.len() > 360);
}

#[test]
fn conflicts_are_told_with_both_packages() {
    let set = Set::new()
        .package(
            "one",
            Tar::default().file("./lib/f", "1").symlink("./usr/l", "same").file("./usr/only", "1"),
        )
        .package("two", Tar::default().file("./usr/lib/f", "2").symlink("./usr/l", "same"));
    let error = set.compose(json!({})).expect_err("a conflict");
    assert!(
        error.message.contains("/usr/lib/f: one, two") && error.message.contains("allowConflicts"),
        "{error}"
    );
    for (order, winner) in [(["one", "two"], "two"), (["two", "one"], "one")] {
        let set = order
            .iter()
            .fold(Set::new(), |set, name| set.package(name, Tar::default().file("./usr/f", name)));
        has(&set.tree(json!({ "allowConflicts": true })), &format!("usr/f {winner}"));
    }
    let set = Set::new().package("one", Tar::default().file("./f", "1")).package("one", Tar::default());
    assert!(set.compose(json!({})).expect_err("twice").message.contains("`one` is there twice"));
    // The same file by both packages' own account.
    let sums = "6512bd43d9caa6e02c990b0a82652dca  usr/f\n";
    let data = || Tar::default().file("./usr/f", "11");
    let set = Set::new().with_scripts("a", &[("md5sums", sums)], data()).with_scripts(
        "b",
        &[("md5sums", sums)],
        data(),
    );
    has(&set.tree(json!({})), "usr/f 11");
}

#[test]
fn hostile_packages_are_refused_by_name() {
    for (data, words) in [
        (Tar::default().file("./../evil", "x"), "leads upwards"),
        (Tar::default().symlink("./usr/l", "/").file("./usr/l/evil", "x"), "symbolic link"),
        (Tar::default().header(Header::new("./dev/null", b'3', 0)), "character device"),
    ] {
        let error = Set::new().package("evil", data).compose(json!({})).expect_err(words);
        assert!(error.message.starts_with("package `evil`:") && error.message.contains(words), "{error}");
    }
    let mut set = Set::new();
    let logical = set.yard.input("x.deb", b"not a package");
    set.packages.push(logical);
    assert!(set.compose(json!({})).is_err());
    let error = Set::new()
        .yard
        .run(&DebianCompose, &json!({ "packages": ["/nix/store/absent"] }))
        .expect_err("no input");
    assert!(error.message.contains("is not an input"), "{error}");
}

#[test]
fn alternatives_are_data() {
    let mawk = "update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n  --slave /usr/bin/nawk nawk /usr/bin/mawk \\\n  --slave /usr/share/man/awk.1 awk.1 /usr/share/man/mawk.1";
    let gawk = "if [ \"$1\" = configure ]; then\n update-alternatives --install /usr/bin/awk awk /usr/bin/gawk 10\nfi";
    let set = || {
        let script = |text: &str| format!("#!/bin/sh\n{text}\n");
        Set::new()
            .with_scripts("mawk", &[("postinst", &script(mawk))], Tar::default().file("./usr/bin/mawk", "m"))
            .with_scripts("gawk", &[("postinst", &script(gawk))], Tar::default().file("./bin/gawk", "g"))
    };
    let tree = set().tree(json!({}));
    has(&tree, "usr/bin/awk -> /etc/alternatives/awk");
    has(&tree, "etc/alternatives/awk -> /usr/bin/gawk");
    assert!(!tree.iter().any(|line| line.contains("nawk")), "the followers of who lost");
    let tree = set().tree(json!({ "preferAlternatives": { "/usr/bin/awk": "/usr/bin/mawk" } }));
    has(&tree, "etc/alternatives/awk -> /usr/bin/mawk");
    has(&tree, "etc/alternatives/nawk -> /usr/bin/mawk");
    assert!(!tree.iter().any(|line| line.contains("awk.1")), "its file is not there");
    let error = set()
        .compose(json!({ "preferAlternatives": { "/usr/bin/awk": "/usr/bin/x" } }))
        .expect_err("unknown");
    assert!(error.message.contains("/usr/bin/mawk") && error.message.contains("/usr/bin/gawk"), "{error}");
    assert!(!set().tree(json!({ "alternatives": false })).iter().any(|line| line.contains("alternatives")));
    // Computed by a function, as xz-utils does.
    let script = "slave() { dir=$1 f=$2 t=$3; echo \"--slave $dir/$f $f $dir/$t\"; }\n\
                  update-alternatives --install /usr/bin/y y /usr/x 20 $(\n  slave /usr y2 x\n  for u in 3 4; do slave /usr y$u x; done\n)";
    let tree = effect(script);
    for line in [
        "usr/bin/y -> /etc/alternatives/y",
        "usr/y2 -> /etc/alternatives/y2",
        "usr/y4 -> /etc/alternatives/y4",
    ] {
        has(&tree, line);
    }
}

#[test]
fn users_and_groups_are_data() {
    let master = Tar::default()
        .file(
            "./usr/share/base-passwd/passwd.master",
            "root:*:0:0:root:/root:/bin/bash\nwww-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\n",
        )
        .file("./usr/share/base-passwd/group.master", "root:*:0:\nwww-data:*:33:\ntty:*:5:\n");
    let script = "#!/bin/sh\nif ! getent passwd svc >/dev/null; then\n adduser --system --group --home /var/lib/svc --no-create-home --gecos 'A service' svc\nfi\n\
                  adduser svc tty\ngetent passwd www-data || useradd www-data\ninstall -d -o svc -g tty -m 750 /var/lib/svc\nchown root:tty /usr/svc\nchmod 2755 /usr/svc\n";
    let sysusers = "# comment\nu sysd - \"A daemon\" /run/sysd\ng extra 70\nm sysd tty\nu fixed 42:extra\n";
    let set = Set::new()
        .package("base-passwd", master)
        .with_scripts("svc", &[("postinst", script)], Tar::default().file("./usr/svc", "x"))
        .package("sys", Tar::default().file("./usr/lib/sysusers.d/sys.conf", sysusers));
    set.compose(json!({
        "users": true,
        "extraUsers": [{ "name": "app", "uid": 1000, "home": "/app" }],
        "extraGroups": [{ "name": "app", "gid": 2000, "members": ["svc"] }],
    }))
    .expect("it composes");
    let read = |path: &str| std::fs::read_to_string(set.yard.out().join(path)).expect(path);
    assert_eq!(
        read("etc/passwd").lines().collect::<Vec<_>>(),
        [
            "root:x:0:0:root:/root:/bin/bash",
            "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin",
            "sysd:x:999:999:A daemon:/run/sysd:/usr/sbin/nologin",
            "fixed:x:42:70::/:/usr/sbin/nologin",
            "svc:x:100:100:A service:/var/lib/svc:/usr/sbin/nologin",
            "app:x:1000:2000::/app:/usr/sbin/nologin",
        ]
    );
    assert_eq!(
        read("etc/group"),
        "root:x:0:\nwww-data:x:33:\ntty:x:5:svc,sysd\nsysd:x:999:\nextra:x:70:\nsvc:x:100:\napp:x:2000:svc\n"
    );
    let entries = &set.meta()["entries"];
    assert_eq!(
        entries["var/lib/svc"],
        json!({ "mode": "0750", "uid": 100, "gid": 5, "user": "svc", "group": "tty" })
    );
    assert_eq!(
        entries["usr/svc"],
        json!({ "mode": "2755", "uid": 0, "gid": 5, "user": "root", "group": "tty" })
    );
    let clash = json!({ "users": true, "extraUsers": [{ "name": "evil", "uid": 33 }] });
    assert!(set_with_base().compose(clash).expect_err("a number twice").message.contains("`www-data` has"));
}

#[test]
fn passwords_are_locked_where_programs_look_for_them() {
    let master = Tar::default()
        .file("./usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n")
        .file("./usr/share/base-passwd/group.master", "root:*:0:\nshadow:*:42:\n");
    let set = Set::new()
        .package("base-passwd", master)
        .with_scripts(
            "svc",
            &[("postinst", "#!/bin/sh\nadduser --system --group svc\n")],
            Tar::default().file("./usr/x", "x"),
        )
        .with_scripts(
            "passwd",
            &[("postinst", "#!/bin/sh\nshadowconfig on\n")],
            Tar::default().file("./sbin/shadowconfig", "x"),
        );
    set.compose(json!({ "users": true, "mergedUsr": true })).expect("it composes");
    let read = |path: &str| std::fs::read_to_string(set.yard.out().join(path)).expect(path);
    assert_eq!(read("etc/shadow"), "root:*::0:99999:7:::\nsvc:*::0:99999:7:::\n");
    assert_eq!(read("etc/gshadow"), "root:*::\nshadow:*::\nsvc:*::\n");
    let entry = &set.meta()["entries"]["etc/shadow"];
    assert_eq!(entry, &json!({ "mode": "0640", "uid": 0, "gid": 42, "user": "root", "group": "shadow" }));
    let set = set_with_base();
    set.compose(json!({ "users": true })).expect("it composes");
    assert!(!set.yard.out().join("etc/shadow").exists(), "without `passwd` there is none");
}

fn set_with_base() -> Set {
    let master = Tar::default()
        .file("./usr/share/base-passwd/passwd.master", "www-data:*:33:33:www-data:/var/www:/x\n")
        .file("./usr/share/base-passwd/group.master", "www-data:*:33:\n");
    Set::new().package("base-passwd", master)
}

#[test]
fn owners_and_modes_that_a_store_cannot_hold_are_in_meta() {
    let data = Tar::default()
        .header(Header::new("./tmp/", b'5', 0).mode(0o1777))
        .header(Header::new("./usr/bin/su", b'0', 1).mode(0o4755))
        .data(b"x")
        .file("./usr/mine", "x");
    let set = Set::new().package("p", data);
    set.compose(json!({})).expect("it composes");
    let meta = set.meta();
    // The header of these tests has the owner 1000.
    assert_eq!(meta["entries"]["tmp"]["mode"], "1777");
    assert_eq!(meta["entries"]["usr/bin/su"]["mode"], "4755");
    assert_eq!(meta["entries"]["usr/mine"], json!({ "uid": 1000, "gid": 1000, "user": null, "group": null }));
    assert_eq!(
        meta["packages"],
        json!([{ "name": "p", "version": "1:1.0-2", "architecture": "amd64", "source": "src-p", "sourceVersion": "1.0" }])
    );
}

#[test]
fn which_package_brought_what_is_in_meta() {
    let set = Set::new()
        .package("a", Tar::default().file("./usr/a", "a").symlink("./usr/both", "a").file("./etc/a.conf", ""))
        .package("b", Tar::default().file("./usr/b", "b").symlink("./usr/both", "a"));
    set.compose(json!({ "extraLinks": { "/usr/c": "b" }, "dpkgStatus": "status.d" })).expect("it composes");
    let owners = set.meta()["owners"].clone();
    let paths = |name: &str| owners[name]["paths"].clone();
    let records = "var/lib/dpkg/status.d";
    // What both bring is the first one's, by name; what is made here belongs to nobody.
    assert_eq!(
        paths("a"),
        json!(["etc/a.conf", "usr/a", "usr/both", format!("{records}/a"), format!("{records}/a.md5sums")])
    );
    assert_eq!(paths("b"), json!(["usr/b", format!("{records}/b"), format!("{records}/b.md5sums")]));
    assert_ne!(owners["a"]["id"], owners["b"]["id"]);
    assert_eq!(owners["a"]["id"].as_str().map(str::len), Some(64));
}

#[test]
fn certificates_shells_and_records() {
    let set = Set::new()
        .package(
            "ca-certificates",
            Tar::default()
                .file("./usr/share/ca-certificates/mozilla/B.crt", "-----BEGIN B-----\n")
                .file("./usr/share/ca-certificates/mozilla/A.crt", "-----BEGIN A-----\n\n")
                .file("./usr/share/ca-certificates/mozilla/notes.txt", "no"),
        )
        .package("debianutils", Tar::default().file("./usr/share/debianutils/shells", "# shells\n/bin/sh\n"))
        .package(
            "dash",
            Tar::default().file("./usr/share/debianutils/shells.d/dash", "/bin/dash\n/bin/sh\n"),
        );
    let tree = set.tree(json!({ "dpkgStatus": "status.d" }));
    has(&tree, "etc/ssl/certs/ca-certificates.crt -----BEGIN A-----\n-----BEGIN B-----\n");
    has(&tree, "etc/ssl/certs/A.pem -> /usr/share/ca-certificates/mozilla/A.crt");
    has(&tree, "etc/shells # shells\n/bin/sh\n/bin/dash\n/usr/bin/dash\n/usr/bin/sh\n");
    has(
        &tree,
        "var/lib/dpkg/status.d/dash Package: dash\nStatus: install ok installed\nSource: src-dash (1.0)\nVersion: 1:1.0-2\nArchitecture: amd64\n",
    );
    let set = Set::new()
        .package("b", Tar::default().file("./usr/b", ""))
        .package("a", Tar::default().file("./usr/a", ""));
    let status = set
        .tree(json!({ "dpkgStatus": "status" }))
        .into_iter()
        .find(|l| l.starts_with("var/lib/dpkg/status "))
        .expect("it is there");
    assert!(
        status.contains("Package: a\nStatus: install ok installed\n") && status.contains("\n\nPackage: b\n"),
        "{status}"
    );
}

#[test]
fn excludes_and_extra_links() {
    let data = Tar::default()
        .file("./usr/share/doc/p/copyright", "c")
        .file("./usr/lib/x.a", "a")
        .file("./usr/lib/x.so", "s");
    let tree = Set::new().package("p", data).tree(json!({
        "exclude": ["usr/share/doc", "usr/lib/*.a"],
        "extraLinks": { "/bin/x": "../lib/x.so" },
    }));
    assert_eq!(
        tree,
        ["lib -> usr/lib", "usr/", "usr/bin/", "usr/bin/x -> ../lib/x.so", "usr/lib/", "usr/lib/x.so s"]
    );
}

#[test]
fn scripts_of_a_new_system_are_read() {
    // What happens on a new system.
    for script in [
        "[ \"$1\" = configure ] && [ -z \"$2\" ] && mkdir -p /new",
        "case \"$1\" in upgrade) mkdir /old ;; (configure|x) mkdir /new;; *) mkdir /no;; esac",
        "if dpkg --compare-versions \"$2\" lt-nl 1.0; then mkdir /old; else mkdir /new; fi",
        "f() { if [ ! -d \"$DPKG_ROOT/$1\" ]; then mkdir \"$DPKG_ROOT/$1\"; fi; }\nf new\nf usr",
        "test -f /usr/x && mkdir /new || mkdir /old",
        "for d in /new /usr; do [ -e $d ] || install -d $d; done",
        "if which absent >/dev/null 2>&1; then absent --all; fi; mkdir ${UNSET:-/new}",
        "set -- /new; mkdir \"$@\"",
        "x=ne; mkdir /\"$x\"w # a comment\n: 'quoted' \"words\"",
        "while read -r line; do echo $line; done </dev/null\nmkdir `echo /new`",
        "for d in /usr /new; do [ ! -e $d ] || continue; mkdir $d; done",
        "for f in /run/p/*.pid; do [ -e $f ] || continue; odd $f; done; mkdir /new",
        "mkdir -p $(dirname /new/file); : $(basename /x/y.z .z)",
        "[ \"$DPKG_MAINTSCRIPT_ARCH\" != $(dpkg --print-architecture) ] || mkdir /new",
        "dir=$(mktemp -d); mkdir $dir/x /new",
        "exit_code() { return 1; }\nexit_code || mkdir /new\nexit 0\nmkdir /old",
    ] {
        assert_eq!(effect(script), ["new/"], "{script}");
    }
    for (script, expected) in [
        ("ln -s x /usr/y", "usr/y -> x"),
        ("[ -L /usr/y ] || ln -sf /usr/x /usr/y", "usr/y -> /usr/x"),
        ("cp -p /usr/x /etc/copy", "etc/copy x"),
        ("[ -f /etc/copy ] || ucf --three-way /usr/x /etc/copy", "etc/copy x"),
        ("echo hello > /etc/made", "etc/made hello\n"),
        ("name=world\ncat > /etc/made <<EOF\nhello $name\nEOF\ntrue", "etc/made hello world\n"),
        ("cat <<'EOF' > /etc/made\nhello $name\nEOF\n", "etc/made hello $name\n"),
        ("touch /var/log/x", "var/log/x "),
        ("ln -s /a /t.new && mv -f /t.new /t", "t -> /a"),
        ("t=$(mktemp); cp -aZ /usr/x $t; ucf --three-way $t /etc/made; rm $t", "etc/made x"),
        ("t=$(mktemp); echo hello > $t; cp $t /etc/made", "etc/made hello\n"),
        ("install --mode 644 /dev/null /etc/made", "etc/made "),
        (
            "while read line; do set -- $line; mkdir $1; done <<EOF\n/usr/local 2775 root staff\nEOF",
            "usr/local/",
        ),
        (
            "(\nwhile read line; do set -- $line; mkdir $1; done\n) <<EOF\n/usr/local x\nEOF\n[ \"$1\" = configure ] && mkdir /new",
            "new/",
        ),
        ("while read -r a b; do echo \"$b\" > $a; done <<EOF\n/etc/made b c\nEOF", "etc/made b c\n"),
        (
            "cp /usr/x /etc/apache2/mods-available/m.load; a2enmod -m -q m absent",
            "etc/apache2/mods-enabled/m.load -> ../mods-available/m.load",
        ),
        ("mkdir /run; ln -s /run /var-run; mkdir /var-run/p", "run/p/"),
    ] {
        has(&effect(script), expected);
    }
    // Left away, and listed.
    let script = "if [ -x /bin/systemctl ]; then systemctl daemon-reload; fi\nldconfig\npy3compile -p p\n\
                  deb-systemd-helper enable x.service >/dev/null || true\ndpkg-maintscript-helper rm_conffile /etc/x 1 -- \"$@\"\n\
                  /usr/lib/x/glib-2.0/gio-querymodules /usr/lib/x/gio\n\
                  . /usr/share/debconf/confmodule\ndb_get p/q\nif [ \"$RET\" = true ]; then something-odd; fi\nrm -f /etc/old";
    let set = Set::new().postinst("p", script);
    set.compose(json!({})).expect("nothing of it matters");
    let effects: Vec<String> =
        set.meta()["ignored"].as_array().expect("a list").iter().map(|i| i["effect"].to_string()).collect();
    assert_eq!(effects, ["\"byte-code\"", "\"cache\"", "\"debconf\"", "\"service\"", "\"upgrade\""]);
}

#[test]
fn debconf_answers_with_the_defaults_of_the_templates() {
    let templates =
        "Template: p/yes\nType: boolean\nDefault: true\n\nTemplate: p/text\nType: string\nDefault: /made\n";
    let script = "#!/bin/sh\n. /usr/share/debconf/confmodule\ndb_get p/yes\nif [ \"$RET\" = true ]; then db_get p/text; mkdir $RET; else odd; fi\n\
                  db_get p/other && mkdir /no\n";
    let set = Set::new().with_scripts(
        "p",
        &[("postinst", script), ("templates", templates)],
        Tar::default().file("./usr/x", "x"),
    );
    assert_eq!(set.tree(json!({})), ["made/", "usr/", "usr/x x"]);
}

#[test]
fn packages_that_do_more_are_refused_by_name_and_reason() {
    for (script, reason) in [
        ("make-odd generate", "`p`: its postinst runs `make-odd generate`"),
        ("t=$(mktemp); sed -i s/x/y/ $t; cp $t /etc/made", "runs `cp /tmp/file-0 /etc/made`"),
        ("/usr/x --setup", "runs `/usr/x --setup`"),
        ("dpkg-divert --add --rename /bin/x", "runs `dpkg-divert --add"),
        ("[ \"$(uname -m)\" = arm ] && odd", "runs `odd`"),
        ("f() { odd $1; }\nf 1", "runs `odd 1`"),
        ("setcap cap_net_raw+ep /usr/x", "runs `setcap"),
        ("sed -i s/a/b/ /etc/x", "runs `sed -i"),
        ("echo $(date) > /etc/stamp", "runs `> /etc/stamp`"),
        ("eval \"$x\" y", "runs `eval"),
        ("mv /usr/x /usr/y", "runs `mv /usr/x /usr/y`"),
        ("cp /proc/version /etc/v", "runs `cp /proc/version"),
        ("if true; then", "cannot be read: line"),
        ("case x in", "cannot be read: line"),
    ] {
        let told = Set::new().postinst("p", script).refused();
        assert!(told.contains(reason), "{script}: {told}");
    }
    let told =
        Set::new().with_scripts("p", &[("postinst", "#!/usr/bin/perl\nprint 1;")], Tar::default()).refused();
    assert!(told.contains("no shell script"), "{told}");
    // What calls itself ends.
    let endless = "f() { f; f; }\nwhile true; do f; done\nfor a in 1 2 3 4 5 6 7 8 9; do for b in 1 2 3 4 5 6 7 8 9; do f; done; done";
    assert!(Set::new().postinst("p", endless).refused().contains("does not end"));
    // Accepted by name, or where it is listed; it is recorded.
    let set = Set::new().postinst("p", "odd");
    set.compose(json!({ "accept": ["p"] })).expect("accepted");
    assert!(set.meta()["ignored"][0]["effect"].as_str().is_some_and(|e| e.contains("accepted: runs `odd`")));
    let set = Set::new().postinst("p", "odd");
    set.compose(json!({ "packages": [{ "deb": set.packages[0], "accept": "not needed" }] }))
        .expect("accepted");
}

#[test]
fn what_is_known_not_to_matter_of_a_package_does_not_refuse_it() {
    let script = "mkdir /var/lib/here\npg_createcluster 15 main";
    let set = Set::new().postinst("postgresql-15", script);
    has(&set.tree(json!({})), "var/lib/here/");
    assert!(set.meta()["ignored"][0]["effect"].as_str().is_some_and(|why| why.contains("initdb")));
    assert!(Set::new().postinst("postgres", script).refused().contains("pg_createcluster"));
}

#[test]
fn modules_of_php_are_enabled_for_every_way_to_run_it() {
    let set = Set::new()
        .with_scripts(
            "php-common",
            &[("postinst", "#!/bin/sh\nfor m in a b; do phpenmod -q -v 8.2 -m -r $m; done\n")],
            Tar::default()
                .file("./etc/php/8.2/mods-available/a.ini", "; priority=10\nextension=a\n")
                .file("./etc/php/8.2/mods-available/b.ini", "extension=b\n"),
        )
        .package("php-fpm", Tar::default().file("./usr/lib/php/8.2/sapi/fpm", ""));
    let tree = set.tree(json!({}));
    has(&tree, "etc/php/8.2/fpm/conf.d/10-a.ini -> /etc/php/8.2/mods-available/a.ini");
    has(&tree, "etc/php/8.2/fpm/conf.d/20-b.ini -> /etc/php/8.2/mods-available/b.ini");
}
