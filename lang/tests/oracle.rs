//! The parser beside that of Nix, where there is one: `nix-instantiate --parse` of Nix 2.34 or
//! later, found on `PATH` or named by `AMPOULE_NIX_INSTANTIATE`.

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
}

impl Nix {
    /// Returns the Nix of this machine, or says why there is none.
    fn find() -> Option<Self> {
        let name = env::var("AMPOULE_NIX_INSTANTIATE").unwrap_or_else(|_| "nix-instantiate".into());
        let nix = Self { words: name.split_whitespace().map(str::to_owned).collect() };
        let version = nix.run(&["--version".into()]).filter(|(ok, ..)| *ok).map(|(_, out, _)| out);
        let version = version.as_deref().map(String::from_utf8_lossy).and_then(|text| {
            let (_, version) = text.trim().rsplit_once(' ')?;
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        });
        match version {
            Some(version) if version >= OLDEST => Some(nix),
            found => {
                println!("skipped: needs nix-instantiate {OLDEST:?} or later, found {found:?}");
                None
            }
        }
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
