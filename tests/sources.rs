//! `source` takes the files that git would: trees with random `.gitignore` files, beside `git ls-files`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }

    fn one<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const NAMES: &[&str] = &[
    "a", "b", "foo", "bar.o", "x.log", "build", "target", ".hid", "a b", "foo.txt", "Makefile", "lib", "#x",
    "!y", "z ", "[q]", "doc",
];
const LINES: &[&str] = &[
    "*.o",
    "*.log",
    "/foo",
    "foo/",
    "build",
    "/build/",
    "a/b",
    "a/*",
    "**/foo",
    "foo/**",
    "a/**/b",
    "*",
    "!*.o",
    "!foo",
    "!*/",
    "/*",
    "!/a",
    ".*",
    "[ab]",
    "[!a]*",
    "\\#x",
    "\\!y",
    "z\\ ",
    "z ",
    "a b",
    "?",
    "??",
    "fo?",
    "*.t*t",
    "doc/**/x.log",
    "!doc/",
    "**",
    "**/a/**",
    "#comment",
    "",
    "  ",
    "foo*bar",
    "[a-c]*",
    "\\[q\\]",
    "*o*",
    "b/",
    "!b/",
    "!a/b",
    "/a/",
    "lib/*.log",
    "!lib/*.log",
    "[[:upper:]]*",
    "x.lo[^g]",
    "x.lo[g]",
    "/**/b",
    "a/**",
    "!a/b/",
];

fn grow(dir: &Path, depth: usize, dice: &mut Dice) {
    fs::create_dir_all(dir).expect("a directory");
    if depth == 0 || dice.below(10) < 4 {
        let lines: Vec<&str> = (0..=dice.below(4)).map(|_| dice.one(LINES)).collect();
        let text = lines.join("\n") + dice.one(&["", "\n", "\r\n"]);
        fs::write(dir.join(".gitignore"), text).expect("a file");
    }
    for _ in 0..2 + dice.below(6) {
        let path = dir.join(dice.one(NAMES));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match dice.below(10) {
            0 => std::os::unix::fs::symlink("a", path).expect("a link"),
            n if n < 6 && depth < 3 => grow(&path, depth + 1, dice),
            _ => fs::write(path, "").expect("a file"),
        }
    }
}

fn git(dir: &Path, home: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let command = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("HOME", home)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output();
    command.ok().filter(|output| output.status.success()).map(|output| output.stdout)
}

/// An expression that lists, for each directory below the project, the files that `source` keeps.
const LISTING: &str = r#"
let
  std = import <std>;
  inherit (std) lib;
  list = root:
    let
      keep = std.source.filter { } root;
      walk = dir:
        let entries = builtins.readDir dir; in
        builtins.concatMap (name:
          let path = dir + "/${name}"; in
          if !(keep (toString path) entries.${name}) then [ ]
          else if entries.${name} == "directory" then walk path
          else [ (lib.removePrefix "${toString root}/" (toString path)) ]
        ) (builtins.attrNames entries);
    in walk root;
in builtins.mapAttrs (name: _: list (./trees + "/${name}")) (builtins.readDir ./trees)
"#;

#[test]
fn sources_have_the_files_that_git_has() {
    let home = tempfile::tempdir().expect("a directory");
    let project = home.path().join("project");
    let mut dice = Dice(7);
    let mut expected = std::collections::BTreeMap::new();
    for number in 0..60 {
        let name = format!("t{number}");
        let tree = project.join("trees").join(&name);
        grow(&tree, 0, &mut dice);
        let Some(_) = git(&tree, home.path(), &["init", "-q"]) else {
            println!("skipped: no git on this machine");
            return;
        };
        let listed =
            git(&tree, home.path(), &["ls-files", "-o", "--exclude-standard", "-z"]).expect("git lists");
        let listed = String::from_utf8(listed).expect("names are text");
        let files: BTreeSet<String> =
            listed.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        expected.insert(name, files);
    }
    fs::write(project.join("list.img"), LISTING).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["eval", "--json", "--strict", "list.img"])
        .current_dir(&project)
        .env("HOME", home.path())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: std::collections::BTreeMap<String, BTreeSet<String>> =
        serde_json::from_slice(&output.stdout).expect("lists of names");
    for (name, files) in &expected {
        let rules = fs::read_to_string(project.join("trees").join(name).join(".gitignore"));
        assert_eq!(&found[name], files, "{name}, whose first rules are {rules:?}");
    }
    assert!(expected.values().any(|files| files.len() > 5), "the trees are too poor to show anything");
}
