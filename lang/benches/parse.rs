//! How fast programs are read: one file of 1 to 50 MB, and 10,000 small ones.
//!
//! `cargo bench -p ampoule-lang` prints a table. Beside it stands Nix, if it is installed (or named by
//! `AMPOULE_NIX_INSTANTIATE`): `nix-instantiate --eval` of an expression that imports the files
//! and uses nothing of them, less the same with an empty file. Ratios travel between machines, megabytes a
//! second do not.

#![allow(clippy::print_stdout, reason = "this is a program that prints a table")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use ampoule_lang::{ParseOptions, Source, names, parse_with};

const ROUNDS: usize = 5;
const SMALL_FILES: usize = 10_000;

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-parse");
    fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
    let nix = env::var("AMPOULE_NIX_INSTANTIATE").unwrap_or_else(|_| "nix-instantiate".into());
    let nix = Nix::start(nix.split_whitespace().map(str::to_owned).collect(), &folder);
    println!("{:<22} {:>8} {:>10} {:>12} {:>12} {:>8}", "source", "MB", "parse", "and names", "Nix", "ratio");
    for megabytes in [1, 5, 20, 50] {
        let file = folder.join(format!("{megabytes}.nix"));
        fs::write(&file, large(megabytes << 20)).expect("a temporary file can be written");
        row(&format!("one file of {megabytes} MB"), &[file], nix.as_ref());
    }
    let small = folder.join("small");
    fs::create_dir_all(&small).expect("the folder for temporary files can be written to");
    let files: Vec<PathBuf> = (0..SMALL_FILES)
        .map(|i| {
            let file = small.join(format!("p{i}.nix"));
            fs::write(&file, small_file(i)).expect("a temporary file can be written");
            file
        })
        .collect();
    row(&format!("{SMALL_FILES} small files"), &files, nix.as_ref());
}

fn row(name: &str, files: &[PathBuf], nix: Option<&Nix>) {
    let texts: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("it was written")).collect();
    let bytes: usize = texts.iter().map(Vec::len).sum();
    let sources: Vec<Source> = texts.into_iter().map(|text| Source::new("bench.nix", "/", text)).collect();
    let mut tree_bytes = 0;
    let mut read = |check: bool| {
        tree_bytes = 0;
        let start = Instant::now();
        for source in &sources {
            let parsed = parse_with(source, ParseOptions::default()).expect("the generated program is one");
            tree_bytes += parsed.ast.size_bytes();
            if check {
                assert!(names::undefined(&parsed.ast, source).is_empty(), "all generated names are bound");
            }
        }
        start.elapsed()
    };
    let parse = (0..ROUNDS).map(|_| read(false)).min().expect("there are rounds");
    let both = (0..ROUNDS).map(|_| read(true)).min().expect("there are rounds");
    let speed = |time: Duration| format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64());
    let theirs = nix.map(|nix| nix.read(files));
    println!(
        "{name:<22} {:>8.1} {:>10} {:>12} {:>12} {:>8}   {:.1} bytes of tree per byte",
        bytes as f64 / 1e6,
        speed(parse),
        speed(both),
        theirs.map_or("-".into(), speed),
        theirs.map_or("-".into(), |theirs| format!("{:.1}x", theirs.as_secs_f64() / both.as_secs_f64())),
        tree_bytes as f64 / bytes as f64,
    );
}

struct Nix {
    words: Vec<String>,
    folder: PathBuf,
    start_up: Duration,
}

impl Nix {
    fn start(words: Vec<String>, folder: &Path) -> Option<Self> {
        let mut nix = Self { words, folder: folder.to_owned(), start_up: Duration::ZERO };
        let empty = folder.join("empty.nix");
        fs::write(&empty, "x: x").expect("a temporary file can be written");
        nix.start_up = nix.time(&[empty]).or_else(|| {
            println!("no Nix found: its columns stay empty");
            None
        })?;
        Some(nix)
    }

    fn read(&self, files: &[PathBuf]) -> Duration {
        let time = self.time(files).expect("Nix ran a moment ago");
        time.saturating_sub(self.start_up)
    }

    fn time(&self, files: &[PathBuf]) -> Option<Duration> {
        let expression = self.folder.join("expression.nix");
        let mut list = String::from("builtins.foldl' (n: f: builtins.seq (import f) n) 0 [\n");
        for file in files {
            writeln!(list, "{}", file.display()).expect("strings can be written to");
        }
        list.push(']');
        fs::write(&expression, list).expect("a temporary file can be written");
        let run = || {
            let start = Instant::now();
            let mut command = Command::new(&self.words[0]);
            command.args(&self.words[1..]).arg("--eval").arg(&expression);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
            status.success().then(|| start.elapsed())
        };
        (0..ROUNDS).map(|_| run()).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// Returns a set of packages as people write them, of about this many bytes.
fn large(bytes: usize) -> String {
    let mut text = String::from("{ lib, fetchurl, stdenv, ... }:\n{\n");
    let mut i = 0;
    while text.len() < bytes {
        package(&mut text, i);
        i += 1;
    }
    text.push_str("}\n");
    text
}

fn package(text: &mut String, i: usize) {
    let (major, minor) = (i % 9, i % 31);
    write!(
        text,
        r#"
  # The package with number {i}.
  tool-{i} = {{ zlib ? null, openssl, withDocs ? false, ... }}@args:
    let
      version = "{major}.{minor}";
      inherit (lib) optional optionals;
      flags = [ "--prefix=${{placeholder "out"}}" "--ssl=${{openssl.dev}}" ]
        ++ optional withDocs "--docs"
        ++ optionals (stdenv.isLinux && version != "1.0" || !withDocs) [ "-O2" "--jobs=${{toString ({i} + 1)}}" ];
    in
    assert zlib != null -> withDocs == false;
    stdenv.mkDerivation rec {{
      inherit version flags;
      pname = "tool-{i}";
      src = fetchurl {{
        url = "https://example.org/${{pname}}/${{pname}}-${{version}}.tar.xz";
        hash = "sha256-{i:043}=";
      }};
      patches = [ ./patches/{i}.patch ../common.patch ];
      buildInputs = with lib; [ zlib openssl ] ++ (args.more or [ ]);
      installPhase = ''
        mkdir -p $out/bin $out/share/doc/${{pname}}
        for page in man/*.1; do
          install -m644 "$page" $out/share/man/man1/
        done
        sed -i "s|@home@|''${{HOME}}|" $out/bin/tool
      '';
      meta.description = "A tool with a \"quoted\" word";
      meta.priority = {i} * 2 - 1;
      meta.broken = {i} < 3;
    }};
"#
    )
    .expect("strings can be written to");
}

fn small_file(i: usize) -> String {
    let (half, third) = (i / 2, i / 3);
    format!(
        r#"# A small file, as most files of a package set are.
pkgs:
let
  deps = [ pkgs.p{half} pkgs.p{third} ];
  doc = ''
    Package {i} has ${{toString (builtins.length deps)}} dependencies.
  '';
in
{{
  name = "package-{i}";
  inherit deps doc;
  build = x: y: {{ inherit x y; both = [ x y ]; }};
  meta = {{ homepage = "https://example.org/{i}"; maintainers = [ ]; }};
}}
"#
    )
}
