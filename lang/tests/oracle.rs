//! The parser beside that of Nix, where there is one: `nix-instantiate`, found on `PATH` or named by
//! `AMPOULE_NIX_INSTANTIATE`. What it prints is compared with Nix 2.34 or later; what it accepts, and what the printed tree
//! means, with any.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use ampoule_lang::{Source, parse_with, print};
use common::generate::{Random, program};

/// Older ones print strings, floats and patterns in other ways.
const OLDEST: (u32, u32) = (2, 34);

struct Nix {
    words: Vec<String>,
    version: (u32, u32),
}

impl Nix {
    /// Returns the Nix of this machine if it prints trees as we do, or says why not.
    fn find() -> Option<Self> {
        let nix = Self::find_any()?;
        if nix.version < OLDEST {
            println!("skipped: needs nix-instantiate {OLDEST:?} or later, found {:?}", nix.version);
            return None;
        }
        Some(nix)
    }

    /// Returns the Nix of this machine, or says that there is none.
    fn find_any() -> Option<Self> {
        let name = env::var("AMPOULE_NIX_INSTANTIATE").unwrap_or_else(|_| "nix-instantiate".into());
        let nix = Self { words: name.split_whitespace().map(str::to_owned).collect(), version: (0, 0) };
        let version = nix.run(&["--version".into()]).filter(|(ok, ..)| *ok).map(|(_, out, _)| out);
        let version = version.as_deref().map(String::from_utf8_lossy).and_then(|text| {
            let (_, version) = text.trim().rsplit_once(' ')?;
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        });
        let Some(version) = version else {
            println!("skipped: no nix-instantiate");
            return None;
        };
        Some(Self { version, ..nix })
    }

    /// Returns the value of a program, printed; `None` if it has none.
    fn value(&self, file: &Path) -> Option<Vec<u8>> {
        let options = ["--eval", "--strict", "--store", "dummy://"];
        let mut args: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        args.push(file.to_str().expect("our paths are UTF-8").to_owned());
        self.run(&args).filter(|(ok, ..)| *ok).map(|(_, value, _)| value)
    }

    fn run(&self, args: &[String]) -> Option<(bool, Vec<u8>, Vec<u8>)> {
        let mut command = Command::new(&self.words[0]);
        let output = command.args(&self.words[1..]).args(args).output().ok()?;
        Some((output.status.success(), output.stdout, output.stderr))
    }

    fn parse(&self, files: &[PathBuf], pipe_operators: bool) -> (bool, Vec<u8>, Vec<u8>) {
        let mut args = vec!["--parse".to_owned()];
        if pipe_operators {
            args.extend(["--extra-experimental-features".to_owned(), "pipe-operators".to_owned()]);
        }
        args.extend(files.iter().map(|file| file.display().to_string()));
        self.run(&args).expect("Nix ran a moment ago")
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
    folder.canonicalize().expect("it was made a moment ago")
}

/// Returns what we print for a file, with its final line end; `None` if we refuse it.
fn ours(file: &Path, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let options = common::options(&bytes);
    let source = Source::new(file.display().to_string(), file.parent()?, bytes);
    let parsed = parse_with(&source, options).ok()?;
    // Nix asks for the home directory of the user that runs it.
    let home = env::var("AMPOULE_NIX_HOME").or_else(|_| env::var("HOME")).ok();
    let mut text = print::to_nix_at_home(&parsed.ast, &source, home.as_deref());
    text.push(b'\n');
    Some(text)
}

#[test]
fn our_programs_parse_as_in_nix() {
    let Some(nix) = Nix::find() else { return };
    let folder = folder("oracle-programs");
    let mut wrong = Vec::new();
    for program in common::programs() {
        let bytes = fs::read(&program).expect("a listed file can be read");
        let file = folder.join(program.file_name().expect("a listed file has a name"));
        fs::write(&file, &bytes).expect("a temporary file can be written");
        let pipes = common::options(&bytes).pipe_operators;
        let (ok, theirs, words) = nix.parse(std::slice::from_ref(&file), pipes);
        let words = String::from_utf8_lossy(&words);
        match ours(&file, bytes) {
            Some(ours) if ok && ours == theirs => {}
            None if !ok && !words.contains("undefined variable") => {}
            ours => wrong.push(format!(
                "{}:\nours {}\nNix  {}{words}",
                file.display(),
                String::from_utf8_lossy(&ours.unwrap_or_default()),
                String::from_utf8_lossy(&theirs)
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of any version: newer ones have operators that older ones do not know, and refuse a byte that those pass over.
#[test]
fn any_nix_refuses_what_we_refuse() {
    let Some(nix) = Nix::find_any() else { return };
    let mut wrong = Vec::new();
    for program in common::programs() {
        let name = program.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
        if nix.version < OLDEST && matches!(name.as_str(), "pipe-operators.img" | "zero-byte-fail.img") {
            continue;
        }
        let bytes = fs::read(&program).expect("a listed file can be read");
        let pipes = common::options(&bytes).pipe_operators;
        let (accepted, _, words) = nix.parse(std::slice::from_ref(&program), pipes);
        let words = String::from_utf8_lossy(&words);
        let refused = !accepted && !words.contains("undefined variable");
        if ours(&program, bytes).is_none() != refused {
            wrong.push(format!("{name}: {}", if refused { "Nix refuses it" } else { "Nix accepts it" }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Any version: the tree as we print it is a program that has the value of the one that was parsed.
#[test]
fn what_we_print_means_the_same_to_nix() {
    let Some(nix) = Nix::find_any() else { return };
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/eval");
    let folder = folder("oracle-values");
    let (mut compared, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(programs).expect("tests/eval is there") {
        let program = entry.expect("the folder can be read").path();
        let name = program.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
        // Printing loses where things stand.
        if !name.ends_with(".img") || name.ends_with("-fail.img") || name.starts_with("position-") {
            continue;
        }
        let file = folder.join(&name);
        let bytes = fs::read(&program).expect("a listed file can be read");
        fs::write(&file, &bytes).expect("a temporary file can be written");
        let Some(value) = nix.value(&file) else { continue };
        fs::write(&file, ours(&file, bytes).expect("it is a program"))
            .expect("a temporary file can be written");
        compared += 1;
        if nix.value(&file).as_ref() != Some(&value) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(compared > 10, "only {compared} programs have a value in this Nix");
}

#[test]
fn random_programs_parse_as_in_nix() {
    let Some(nix) = Nix::find() else { return };
    let rounds = env::var("AMPOULE_ORACLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let folder = folder("oracle-random");
    let mut refused = 0;
    for round in 0..rounds {
        let mut files = Vec::new();
        let mut expected = Vec::new();
        for i in 0..200 {
            let seed = round * 1000 + i;
            let text = program(&mut Random::new(seed), 5 + (i as usize) % 60);
            let file = folder.join(format!("{seed}.img"));
            fs::write(&file, &text).expect("a temporary file can be written");
            match ours(&file, text.into_bytes()) {
                Some(text) => {
                    files.push(file);
                    expected.push(text);
                }
                // Every tenth: a run of Nix for each takes long.
                None if i % 10 == 0 => {
                    let (ok, ..) = nix.parse(std::slice::from_ref(&file), false);
                    assert!(!ok, "Nix accepts {}, which we refuse", file.display());
                    refused += 1;
                }
                None => {}
            }
        }
        let (ok, theirs, words) = nix.parse(&files, false);
        let theirs: Vec<_> = theirs.split_inclusive(|&b| b == b'\n').collect();
        for (i, file) in files.iter().enumerate() {
            let ours = String::from_utf8_lossy(&expected[i]);
            let theirs = theirs.get(i).map(|line| String::from_utf8_lossy(line));
            assert_eq!(Some(ours), theirs, "{} {}", file.display(), String::from_utf8_lossy(&words));
        }
        assert!(ok);
    }
    println!("{} rounds of 200; {refused} of those that we refuse were shown to Nix", rounds);
}
