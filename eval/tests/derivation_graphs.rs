//! Random graphs of derivations: the Nix that is installed and we must give the same paths.
//!
//! Each program is a list of derivations of which later ones use earlier ones: outputs, whole derivations, texts
//! in the store, fixed outputs of every kind, structured attributes. Without `nix-instantiate` the test says so and
//! passes. `AMPOULE_ORACLE` names another command, `AMPOULE_ORACLE_SEED` another start, `AMPOULE_ORACLE_ROUNDS` how
//! many programs there are (of 120 derivations each).

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ampoule_eval::{Settings, run};

mod support;

/// Marsaglia's xorshift: the same programs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What an earlier derivation offers: `d3` with these outputs.
struct Made {
    outputs: &'static [&'static str],
}

const OUTPUTS: [&[&str]; 4] = [&["out"], &["out", "dev"], &["bin", "lib", "man"], &["x"]];
const DIGESTS: [(&str, &str); 4] = [
    ("md5", "900150983cd24fb0d6963f7d28e17f72"),
    ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ("sha256", "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"),
    ("", "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
];

fn program(random: &mut Random, count: usize) -> String {
    let mut made: Vec<Made> = Vec::new();
    let mut text = "let\n".to_owned();
    for index in 0..count {
        let one = derivation(random, index, &mut made);
        writeln!(text, "  d{index} = {one};").expect("a string");
    }
    let all: String = (0..count).map(|index| format!(" d{index}")).collect();
    write!(text, "in map (d: [ d.drvPath ] ++ map (o: o.outPath) d.all) [{all} ]").expect("a string");
    text
}

fn derivation(random: &mut Random, index: usize, made: &mut Vec<Made>) -> String {
    let mut text = format!("derivation {{ name = \"n{index}-{}\"; system = \"s\";", random.below(9));
    if random.chance(20) {
        let (algo, digits) = DIGESTS[random.below(DIGESTS.len())];
        write!(
            text,
            " builder = \"builtin:fetchurl\"; url = \"u{}\"; outputHash = \"{digits}\";",
            random.below(9)
        )
        .expect("a string");
        if !algo.is_empty() {
            write!(text, " outputHashAlgo = \"{algo}\";").expect("a string");
        }
        if random.chance(50) {
            let mode = ["flat", "recursive"][random.below(2)];
            write!(text, " outputHashMode = \"{mode}\";").expect("a string");
        }
        made.push(Made { outputs: OUTPUTS[0] });
        return text + " }";
    }
    let outputs = OUTPUTS[random.below(OUTPUTS.len())];
    if outputs != OUTPUTS[0] || random.chance(10) {
        let names: String = outputs.iter().map(|output| format!(" \"{output}\"")).collect();
        write!(text, " outputs = [{names} ];").expect("a string");
    }
    if random.chance(20) {
        text += " __structuredAttrs = true; deep = { b = [ 1 2.5 null true ]; a.c = \"x\\n\"; };";
    }
    write!(text, " builder = \"b\" + {};", part(random, made)).expect("a string");
    let arguments: String = (0..random.below(4)).map(|_| format!(" {}", part(random, made))).collect();
    if !arguments.is_empty() {
        write!(text, " args = [{arguments} ];").expect("a string");
    }
    for at in 0..random.below(5) {
        let list: String = (0..random.below(4)).map(|_| format!(" {}", part(random, made))).collect();
        write!(text, " v{at} = [{list} ];").expect("a string");
    }
    made.push(Made { outputs });
    text + " }"
}

/// A string that may depend on something earlier.
fn part(random: &mut Random, made: &[Made]) -> String {
    const PLAIN: [&str; 7] = [
        "\"/bin/sh\"",
        "\"a\\\"b\\\\c\\n\\r\\t\"",
        "\"\"",
        "\"\u{e9}\"",
        "\"$out\"",
        "(toString 1.5)",
        "(placeholder \"out\")",
    ];
    if made.is_empty() || random.chance(30) {
        return PLAIN[random.below(PLAIN.len())].to_owned();
    }
    let index = random.below(made.len());
    let output = made[index].outputs[random.below(made[index].outputs.len())];
    match random.below(7) {
        0 => format!("\"${{d{index}.{output}}}/bin/x\""),
        1 => format!("d{index}.{output}"),
        2 => format!("\"${{d{index}}}:${{d{index}.{output}}}\""),
        3 => format!("(builtins.toFile \"t{}\" \"text {}\")", random.below(3), random.below(9)),
        4 => format!("(builtins.unsafeDiscardStringContext d{index}.outPath)"),
        5 => format!("(builtins.unsafeDiscardOutputDependency d{index}.drvPath)"),
        _ => format!("(builtins.toFile \"u\" \"see ${{builtins.toFile \"t\" \"{}\"}}\")", random.below(9)),
    }
}

fn ours(text: &str) -> Result<String, String> {
    let result = run(Settings::default(), Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| error.message().to_owned())
    });
    result.expect("the system gives a thread")
}

fn can_run(command: &str) -> bool {
    const PROBE: &str = "(derivation { name = \"a\"; builder = \"b\"; system = \"s\"; }).outPath";
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .args(["--eval", "--readonly-mode", "-E", PROBE])
        .output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn random_graphs_have_the_paths_that_nix_gives() {
    let command = std::env::var("AMPOULE_ORACLE").unwrap_or_else(|_| "nix-instantiate".to_owned());
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let mut random = Random(number("AMPOULE_ORACLE_SEED", 0x9e37_79b9_7f4a_7c15));
    if !can_run(&command) {
        eprintln!("skipped: '{command}' is not here, or cannot evaluate a derivation");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory for programs");
    for round in 0..number("AMPOULE_ORACLE_ROUNDS", 8) {
        let text = program(&mut random, 120);
        let file = dir.path().join(format!("{round}.nix"));
        std::fs::write(&file, &text).expect("a program can be written");
        let mut words = command.split_whitespace();
        let output = Command::new(words.next().expect("a command"))
            .args(words)
            .args(["--eval", "--strict", "--readonly-mode"])
            .arg(&file)
            .env("NIX_STATE_DIR", dir.path().join("state"))
            .output()
            .expect("it has just run");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Nix fails on {text}\n{told}");
        let theirs = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let ours = ours(&text).unwrap_or_else(|error| panic!("we fail on {text}\n{error}"));
        assert!(ours == theirs, "round {round}:\n{text}\nnix  {theirs}\nours {ours}");
    }
}
