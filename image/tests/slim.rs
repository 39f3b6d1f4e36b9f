//! What `slim` finds although no header says it: each case is what a real package did.

mod support;

use std::collections::BTreeSet;

use ampoule_image::open;
use ampoule_image::rootfs;
use ampoule_image::tar_read::Kind;
use serde_json::{Value, json};
use support::{TestStore, cache};

/// A tree of packages: `(package, source, files)`. A file that begins with `ELF` is a
/// program whose strings are what follows.
struct Tree {
    store: TestStore,
    root: Value,
}

/// Package, source package, and its files: path and text.
type Package<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

impl Tree {
    fn new(packages: &[Package<'_>]) -> Self {
        let mut store = TestStore::new();
        let mut files: Vec<(String, String)> = vec![("lib".into(), "->usr/lib".into())];
        let mut elves = Vec::new();
        let mut owners = json!({});
        for (package, source, own) in packages {
            let mut paths = Vec::new();
            for (path, text) in *own {
                let name = path.trim_start_matches('!');
                paths.push(name.to_owned());
                match text.strip_prefix("ELF ") {
                    Some(strings) => elves.push((name.to_owned(), strings.replace(' ', "\0"))),
                    None => files.push(((*path).to_owned(), (*text).to_owned())),
                }
            }
            let record = format!("var/lib/dpkg/status.d/{package}");
            files.push((record, format!("Package: {package}\nVersion: 1\nSource: {source}\n")));
            owners[*package] = json!({ "id": package, "paths": paths });
        }
        let listed: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        let tree = store.add("tree", &listed, &[]);
        for (path, strings) in elves {
            // What is appended to an ELF file are strings as any other.
            let mut bytes = std::fs::read("/bin/true").expect("every machine has this program");
            bytes.extend_from_slice(format!("\0{strings}\0").as_bytes());
            let at = store.physical("tree").join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(&at, bytes).unwrap();
            std::fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let meta = store.add("meta", &[("m", &json!({ "owners": owners }).to_string())], &[]);
        Self { root: json!({ "tree": tree, "meta": format!("{meta}/m") }), store }
    }

    /// The files and links that are kept, without records.
    fn kept(&self, more: Value) -> BTreeSet<String> {
        let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
        let mut asked = json!({ "name": "x", "root": [self.root], "slim": true, "platforms": [platform],
                                "lint": { "allow": ["missing-library", "missing-interpreter"] } });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (_dir, cache) = cache();
        let image = self.store.project(&asked, &cache).unwrap();
        let opened = open::projected(image, &cache).unwrap();
        let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
        let shown = fs.entries.iter().filter(|(_, entry)| entry.kind != Kind::Directory);
        shown
            .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
            .filter(|path| {
                !path.starts_with("var/lib/dpkg/") && !matches!(&**path, "etc/passwd" | "etc/group")
            })
            .collect()
    }
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn a_programs_own_directories_and_nobody_elses() {
    let tree = Tree::new(&[
        (
            "tool",
            "tool",
            &[
                ("!usr/bin/tool", "ELF /usr/lib/tool /usr/share/tool:/usr/lib/shared libopened.so.1"),
                ("!usr/lib/tool/helper", "helper"),
                ("!usr/lib/tool/needs-sh", "#!/bin/sh\n"),
                ("usr/share/tool/gone", "->nowhere"),
                ("usr/lib/shared/tool.data", "x"),
            ],
        ),
        ("tool-data", "tool", &[("usr/share/tool/data", "x")]),
        ("other", "other", &[("usr/lib/shared/other.data", "x"), ("usr/lib/libopened.so.1", "no ELF file")]),
    ]);
    let kept = tree.kept(json!({ "config": { "entrypoint": ["tool"] } }));
    assert_eq!(
        kept,
        set(&["usr/bin/tool", "usr/lib/shared/tool.data", "usr/lib/tool/helper", "usr/share/tool/data"])
    );
}

#[test]
fn a_library_that_is_opened_by_name() {
    let tree = Tree::new(&[
        ("tool", "tool", &[("!usr/bin/tool", "ELF libopened.so.1 libdirect.so.9")]),
        (
            "libopened1",
            "opened",
            &[
                ("usr/lib/libopened.so.1", "->libopened.so.1.2"),
                ("usr/lib/libopened.so.1.2", "ELF /usr/lib/x86_64-linux-gnu/opened-plugins libforeign.so.2"),
                ("usr/lib/x86_64-linux-gnu/opened-plugins/a.so", "ELF"),
                ("usr/lib/x86_64-linux-gnu/dri/card.so", "ELF"),
            ],
        ),
        ("libforeign2", "foreign", &[("usr/lib/libforeign.so.2", "ELF x")]),
    ]);
    let kept = tree.kept(json!({ "config": { "entrypoint": ["tool"] } }));
    let libraries = ["usr/lib/libopened.so.1", "usr/lib/libopened.so.1.2"];
    let plugin = "usr/lib/x86_64-linux-gnu/opened-plugins/a.so";
    assert_eq!(kept, set(&["lib", "usr/bin/tool", libraries[0], libraries[1], plugin]));
}

#[test]
fn modules_of_an_interpreter_come_with_it() {
    let tree = Tree::new(&[
        ("perl-base", "perl", &[("!usr/bin/perl", "ELF x"), ("usr/share/perl/5.36/strict.pm", "1;")]),
        ("libjson-perl", "json", &[("usr/share/perl5/JSON.pm", "1;")]),
        ("debconf", "debconf", &[("usr/share/perl5/Debconf.pm", "1;")]),
        ("ruby", "ruby", &[("!usr/bin/ruby", "ELF x"), ("usr/lib/ruby/set.rb", "x")]),
    ]);
    let kept = tree.kept(json!({ "config": { "entrypoint": ["perl", "-e", "1"] } }));
    assert_eq!(kept, set(&["usr/bin/perl", "usr/share/perl/5.36/strict.pm", "usr/share/perl5/JSON.pm"]));
}

#[test]
fn what_an_interpreters_package_tells_other_programs_is_left_away() {
    let tree = Tree::new(&[(
        "php8.2-cli",
        "php8.2",
        &[
            ("!usr/bin/php8.2", "ELF x"),
            ("etc/php/8.2/php.ini", "session.x = /usr/lib/php/clean\n"),
            ("!usr/lib/php/clean", "#!/bin/sh\n"),
            ("etc/cron.d/php", "09 * * * * root /usr/lib/php/clean\n"),
            ("usr/lib/systemd/system/php.service", "x"),
        ],
    )]);
    let kept = tree.kept(json!({ "config": { "entrypoint": ["php8.2"] } }));
    assert_eq!(kept, set(&["usr/bin/php8.2", "etc/php/8.2/php.ini"]));
}

#[test]
fn a_package_without_programs_that_the_file_names_is_kept() {
    let tree = Tree::new(&[
        ("tool", "tool", &[("!usr/bin/tool", "ELF x"), ("!usr/bin/other", "ELF x")]),
        ("tzdata", "tzdata", &[("usr/share/zoneinfo/UTC", "x"), ("usr/share/doc/tzdata/README", "x")]),
        ("fonts", "fonts", &[("usr/share/fonts/a.ttf", "x")]),
    ]);
    let kept =
        tree.kept(json!({ "config": { "entrypoint": ["/usr/bin/tool"] }, "named": ["tool", "tzdata"] }));
    assert_eq!(kept, set(&["usr/bin/tool", "usr/share/zoneinfo/UTC"]));
}

#[test]
fn locales_that_the_environment_names() {
    let tree = Tree::new(&[
        ("libc6", "glibc", &[("!usr/bin/tool", "ELF x"), ("usr/lib/libc.so.6", "ELF x")]),
        (
            "locales-all",
            "glibc",
            &[
                ("usr/lib/locale/C.utf8/LC_CTYPE", "x"),
                ("usr/lib/locale/de_DE.utf8/LC_CTYPE", "x"),
                ("usr/lib/locale/fr_FR.utf8/LC_CTYPE", "x"),
            ],
        ),
    ]);
    let kept = tree.kept(json!({ "config": { "entrypoint": ["tool"], "env": { "LANG": "de_DE.UTF-8" } },
                                 "slim": { "keep": ["/usr/lib/libc.so.6"] } }));
    assert!(
        kept.contains("usr/lib/locale/C.utf8/LC_CTYPE")
            && kept.contains("usr/lib/locale/de_DE.utf8/LC_CTYPE")
    );
    assert!(!kept.contains("usr/lib/locale/fr_FR.utf8/LC_CTYPE"), "{kept:?}");
}
