//! The examples in the standard library's comments hold, and `docs/stdlib.md` is those comments.
//!
//! An example is a line `#   EXPRESSION    # => VALUE` in the comment above an attribute. It is evaluated with
//! everything of `<std>` and `lib` in scope, and compared with `==`. `AMPOULE_ACCEPT=1` writes the page anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_eval::{Settings, run};
use ampoule_lang::render::render;

mod support;

/// Files with what is public in them, in the order of the page, and how their attributes are reached.
const SUBJECTS: &[(&str, &str, &str)] = &[
    ("default.img", "The set itself", ""),
    ("image.img", "Images", ""),
    ("debian/default.img", "Debian packages", "debian."),
    ("stdenv/default.img", "Building from source", ""),
    ("fetchers.img", "Fetching", ""),
    ("writers.img", "Files and small builds", ""),
    ("builders.img", "Further builders", ""),
    ("stdenv/hooks.img", "What changes the phases", ""),
    ("source.img", "Project sources", "source."),
    ("elf.img", "Programs in ELF", "elf."),
    ("languages/rust.img", "Rust", "rust."),
    ("languages/python.img", "Python", "python."),
    ("languages/node.img", "Node", "node."),
    ("languages/go.img", "Go", "go."),
    ("nixpkgs.img", "Names of nixpkgs", ""),
    ("lib/trivial.img", "lib: anything", "lib."),
    ("lib/fixed-points.img", "lib: fixed points", "lib."),
    ("lib/lists.img", "lib: lists", "lib."),
    ("lib/attrsets.img", "lib: attribute sets", "lib."),
    ("lib/strings.img", "lib: strings", "lib."),
    ("lib/versions.img", "lib: versions", "lib.versions."),
    ("lib/customisation.img", "lib: calling and overriding", "lib."),
    ("lib/derivations.img", "lib: derivations", "lib."),
    ("lib/meta.img", "lib: what packages say of themselves", "lib."),
    ("lib/generators.img", "lib: configuration files", "lib.generators."),
    ("lib/cli.img", "lib: command lines", "lib.cli."),
    ("lib/options.img", "lib: options", "lib."),
    ("lib/types.img", "lib: types of options", "lib.types."),
    ("lib/modules.img", "lib: modules", "lib."),
    ("lib/systems.img", "lib: systems", "lib.systems."),
    ("lib/debug.img", "lib: debugging", "lib."),
    ("lib/filesystem.img", "lib: directories", "lib."),
    ("lib/path.img", "lib: paths", "lib.path."),
    ("lib/sources.img", "lib: sources", "lib."),
    ("lib/fileset.img", "lib: sets of files", "lib.fileset."),
    ("lib/fetchers.img", "lib: what is common to fetchers", "lib.fetchers."),
    ("lib/gvariant.img", "lib: values of GVariant", "lib.gvariant."),
    ("lib/kernel.img", "lib: options of a kernel", "lib.kernel."),
    ("lib/network.img", "lib: addresses", "lib.network."),
];

struct Example {
    line: usize,
    expression: String,
    value: String,
}

struct Entry {
    name: String,
    text: Vec<String>,
    examples: Vec<Example>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("stdlib")
}

/// The name that a line defines at the level of the file's set, if it does.
fn defined_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("  ")?;
    if rest.starts_with(' ') {
        return None;
    }
    if let Some(inherited) = rest.strip_prefix("inherit ") {
        let names = match inherited.strip_prefix('(') {
            Some(source) => source.split_once(") ")?.1,
            None => inherited,
        };
        return names.trim_end_matches(';').split(' ').next();
    }
    let (name, _) = rest.split_once(" =")?;
    let name = name.trim_matches('"');
    name.chars().all(|c| c.is_ascii_alphanumeric() || "_'-".contains(c)).then_some(name)
}

/// The comment at the head of a file, and the documented attributes.
fn read(file: &str) -> (Vec<String>, Vec<Entry>) {
    let text = fs::read_to_string(folder().join(file)).expect("a file of the library");
    let mut head = Vec::new();
    let mut entries = Vec::new();
    let mut comment: Vec<(usize, String)> = Vec::new();
    let mut is_head = true;
    for (index, line) in text.lines().enumerate() {
        if let Some(words) = line.trim_start().strip_prefix('#') {
            let at_level = line.starts_with("  #") || line.starts_with('#');
            if at_level {
                comment.push((index + 1, words.strip_prefix(' ').unwrap_or(words).to_owned()));
            }
            continue;
        }
        // The one function of a file may stand at its end, without a name.
        let name = if line.starts_with("lib.setFunctionArgs") { Some("image") } else { defined_name(line) };
        if is_head {
            is_head = false;
            if name.is_none() && file != "default.img" {
                head = comment.drain(..).map(|(_, words)| words).collect();
            }
        }
        // What stands in a `let` before is nobody's but the file's.
        if line == "in" {
            entries.clear();
        }
        match name {
            Some(name) if !comment.is_empty() => entries.push(entry(name, &comment)),
            None if file == "default.img" && !comment.is_empty() => {
                entries.push(entry("import <std>", &comment))
            }
            _ => {}
        }
        comment.clear();
    }
    (head, entries)
}

fn entry(name: &str, comment: &[(usize, String)]) -> Entry {
    let mut made = Entry { name: name.to_owned(), text: Vec::new(), examples: Vec::new() };
    for (line, words) in comment {
        match words.strip_prefix("  ").and_then(|words| words.split_once("    # => ")) {
            Some((expression, value)) => {
                made.examples.push(Example {
                    line: *line,
                    expression: expression.to_owned(),
                    value: value.to_owned(),
                });
            }
            None => made.text.push(words.clone()),
        }
    }
    while made.text.last().is_some_and(String::is_empty) {
        made.text.pop();
    }
    made
}

#[test]
fn examples_hold() {
    let dir = folder();
    let settings = Settings { system: "x86_64-linux".to_owned(), ..Settings::default() };
    let wrong = run(settings, Arc::new(support::Plain::default()), |ev| {
        let mut wrong = Vec::new();
        let mut count = 0;
        for (file, _, _) in SUBJECTS {
            for example in read(file).1.iter().flat_map(|entry| &entry.examples) {
                count += 1;
                let text = format!(
                    "let std = import ./make.img {{ }}; in with std; with std.lib; ({}) == ({})",
                    example.expression, example.value
                )
                .replace("<std>", "./default.img")
                .replace("<nixpkgs>", "./default.img");
                let value = ev.eval_text(&format!("{file}:{}", example.line), &dir, text.as_bytes());
                match value.and_then(|value| ev.print(value)) {
                    Ok(printed) if printed == "true" => {}
                    Ok(_) => wrong.push(format!(
                        "{file}:{}: {} is not {}",
                        example.line, example.expression, example.value
                    )),
                    Err(error) => wrong.push(render(&ev.diagnostics(&error), &ev.settings().sources, false)),
                }
            }
        }
        assert!(count > 300, "only {count} examples were found");
        wrong
    })
    .expect("the system gives a thread");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// `names.json` beside the library's own locks, which saves every run the time to read those.
#[test]
fn names_beside_locks_are_those_of_the_locks() {
    for lock in ["bookworm-amd64", "bookworm-arm64"] {
        let dir = folder().join("debian").join(lock);
        let text = r#"let
            lock = builtins.fromJSON (builtins.readFile ./ampoule.lock);
            nothing = entry: { inherit (entry) name; value = null; };
            names = builtins.attrNames (builtins.listToAttrs (map nothing lock.packages));
          in "[\n${builtins.concatStringsSep ",\n" (map (name: "  " + builtins.toJSON name) names)}\n]\n""#;
        let expected = run(Settings::default(), Arc::new(support::Plain::default()), |ev| {
            let value = ev.eval_text("names", &dir, text.as_bytes()).and_then(|value| ev.force_string(value));
            value.map(|text| text.to_text().into_owned()).expect("the lock can be read")
        })
        .expect("the system gives a thread");
        let path = dir.join("names.json");
        if std::env::var_os("AMPOULE_ACCEPT").is_some() {
            fs::write(&path, &expected).expect("the library can be written");
        }
        let found = fs::read_to_string(&path).expect("the names are there");
        assert!(found == expected, "{lock}: its names are others now; AMPOULE_ACCEPT=1 writes them");
    }
}

#[test]
fn every_function_of_lib_says_what_it_does() {
    for (file, _, _) in SUBJECTS.iter().filter(|(file, _, _)| file.starts_with("lib/")) {
        let text = fs::read_to_string(folder().join(file)).expect("a file of the library");
        let documented: Vec<String> = read(file).1.into_iter().map(|entry| entry.name).collect();
        let body = text.split_once("\nrec {\n").map_or("", |(_, body)| body);
        for line in body.lines() {
            if let Some(name) = defined_name(line).filter(|_| !line.starts_with("  inherit")) {
                let is_value = matches!(name, "examples" | "inspect");
                assert!(
                    is_value || documented.iter().any(|one| one == name),
                    "{file}: `{name}` has no comment"
                );
            }
        }
    }
}

#[test]
fn the_page_is_what_the_comments_say() {
    let mut page = String::from(
        "# The standard library\n\nWritten by a test from the comments in `stdlib/`; change those. The examples are run.\n\
         A file whose value is a function is called with what it names of this set; `import <std>` is the set itself.\n",
    );
    for (file, title, prefix) in SUBJECTS {
        let (head, entries) = read(file);
        if entries.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {title}\n");
        if !head.is_empty() {
            let _ = write!(page, "\n{}\n", head.join("\n").trim_end());
        }
        for entry in entries {
            let name = if entry.name == "__functor" {
                prefix.trim_end_matches('.').to_owned()
            } else {
                format!("{prefix}{}", entry.name)
            };
            let _ = write!(page, "\n### `{name}`\n\n{}\n", entry.text.join("\n").trim_end());
            if !entry.examples.is_empty() {
                page.push_str("\n```nix\n");
                for example in &entry.examples {
                    let _ = writeln!(page, "{}    # => {}", example.expression, example.value);
                }
                page.push_str("```\n");
            }
        }
    }
    let path = folder().with_file_name("docs").join("stdlib.md");
    if std::env::var_os("AMPOULE_ACCEPT").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/stdlib.md differs from the comments: run AMPOULE_ACCEPT=1 cargo test -p ampoule-eval --test stdlib"
    );
}
