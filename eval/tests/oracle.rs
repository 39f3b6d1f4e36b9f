//! Random programs, evaluated by us and by the Nix that is installed: both must print the same.
//!
//! Programs are typed as they are made up, so that most of them have a value; what fails must fail
//! in both. Without `nix-instantiate` the test says so and passes. `AMPOULE_ORACLE` names another command,
//! `AMPOULE_ORACLE_SEED` another start.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ampoule_eval::{Settings, run};

mod support;

use support::random::Random;

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Int,
    Float,
    Bool,
    Str,
    List,
    Attrs,
    /// From numbers to numbers.
    Function,
}

const TYPES: [Type; 7] =
    [Type::Int, Type::Float, Type::Bool, Type::Str, Type::List, Type::Attrs, Type::Function];
const FIELDS: [(&str, Type); 5] =
    [("i", Type::Int), ("s", Type::Str), ("l", Type::List), ("f", Type::Function), ("b", Type::Bool)];

struct Maker {
    random: Random,
    scope: Vec<(String, Type)>,
    names: usize,
}

impl Maker {
    fn fresh(&mut self) -> String {
        self.names += 1;
        // Few names, so that they shadow each other.
        format!("{}{}", ["x", "y", "z", "or'", "a-b"][self.names % 5], self.random.below(3))
    }

    /// An expression of type `kind` whose tree is at most `depth` deep.
    fn expr(&mut self, kind: Type, depth: usize) -> String {
        let bound: Vec<String> = self
            .scope
            .iter()
            .rev()
            .filter(|(_, other)| *other == kind)
            .map(|(name, _)| name.clone())
            .collect();
        let bound: Vec<String> = bound
            .into_iter()
            .filter(|name| {
                // Shadowed by something of another type?
                self.scope
                    .iter()
                    .rev()
                    .find(|(other, _)| other == name)
                    .is_some_and(|(_, other)| *other == kind)
            })
            .collect();
        if !bound.is_empty() && self.random.below(3) == 0 {
            return bound[self.random.below(bound.len())].clone();
        }
        if depth == 0 {
            return self.literal(kind);
        }
        match self.random.below(9) {
            0 => self.let_in(kind, depth),
            1 => self.called(kind, depth),
            2 => {
                let condition = self.expr(Type::Bool, depth - 1);
                let (a, b) = (self.expr(kind, depth - 1), self.expr(kind, depth - 1));
                format!("(if {condition} then {a} else {b})")
            }
            3 => self.field(kind, depth),
            4 => self.with(kind, depth),
            _ => self.of_type(kind, depth),
        }
    }

    fn literal(&mut self, kind: Type) -> String {
        match kind {
            Type::Int => {
                let edge = [
                    "0",
                    "1",
                    "7",
                    "100",
                    "4611686018427387903",
                    "4611686018427387904",
                    "9223372036854775807",
                ];
                let n = self.random.pick(&edge);
                if self.random.below(4) == 0 { format!("(-{n})") } else { n.to_owned() }
            }
            Type::Float => self.random.pick(&["0.5", "1.0", "2.25e10", "0.1", "123456.7", "1e-7"]).to_owned(),
            Type::Bool => self.random.pick(&["true", "false"]).to_owned(),
            Type::Str => self
                .random
                .pick(&[r#""""#, r#""a""#, r#""b\nc""#, r#""\${q}""#, "''\n  in\n    dented\n''"])
                .to_owned(),
            Type::List => self.random.pick(&["[ ]", "[ 1 2 ]", "[ \"a\" null ]"]).to_owned(),
            Type::Attrs => "{ i = 1; s = \"s\"; l = [ 3 ]; f = q: q + 1; b = true; }".to_owned(),
            Type::Function => {
                self.random.pick(&["(n: n)", "(n: n * 2)", "({ n ? 3, ... }@all: n)"]).to_owned()
            }
        }
    }

    fn let_in(&mut self, kind: Type, depth: usize) -> String {
        let before = self.scope.len();
        let mut out = "(let ".to_owned();
        let count = 1 + self.random.below(3);
        let names: Vec<(String, Type)> = (0..count)
            .map(|index| (format!("{}{index}", self.fresh()), TYPES[self.random.below(TYPES.len())]))
            .collect();
        // Bindings see those that are listed before them, whatever their order in the text.
        let mut lines = Vec::new();
        for (name, kind) in names {
            let value = self.expr(kind, depth - 1);
            lines.push(format!("{name} = {value}; "));
            self.scope.push((name, kind));
        }
        if self.random.below(2) == 0 {
            lines.reverse();
        }
        out.extend(lines);
        let body = self.expr(kind, depth - 1);
        self.scope.truncate(before);
        write!(out, "in {body})").expect("writing to a string");
        out
    }

    fn called(&mut self, kind: Type, depth: usize) -> String {
        let before = self.scope.len();
        let (a, b) = (format!("{}p", self.fresh()), format!("{}q", self.fresh()));
        let (first, second) = (TYPES[self.random.below(7)], TYPES[self.random.below(7)]);
        let (x, y) = (self.expr(first, depth - 1), self.expr(second, depth - 1));
        self.scope.push((a.clone(), first));
        self.scope.push((b.clone(), second));
        let body = self.expr(kind, depth - 1);
        self.scope.truncate(before);
        match self.random.below(4) {
            0 => format!("(({a}: {b}: {body}) {x} {y})"),
            1 => format!("(({{ {a}, {b} }}: {body}) {{ {a} = {x}; {b} = {y}; }})"),
            2 => format!("(({{ {a}, {b} ? {y}, ... }}@all: {body}) {{ {a} = {x}; other = {y}; }})"),
            _ => format!("(({a}: ({b}: {body}) {y}) {x})"),
        }
    }

    fn field(&mut self, kind: Type, depth: usize) -> String {
        match FIELDS.iter().find(|(_, other)| *other == kind) {
            Some((name, _)) => {
                let set = self.expr(Type::Attrs, depth - 1);
                match self.random.below(3) {
                    0 => format!("{set}.{name}"),
                    1 => format!("{set}.${{\"{name}\"}}"),
                    _ => {
                        let other = self.expr(kind, depth - 1);
                        format!("({set}.{name} or {other})")
                    }
                }
            }
            None => self.literal(kind),
        }
    }

    fn with(&mut self, kind: Type, depth: usize) -> String {
        match FIELDS.iter().find(|(_, other)| *other == kind) {
            Some((name, _)) => {
                let set = self.expr(Type::Attrs, depth - 1);
                format!("(with {set}; {name})")
            }
            None => self.literal(kind),
        }
    }

    fn of_type(&mut self, kind: Type, depth: usize) -> String {
        let depth = depth - 1;
        match kind {
            Type::Int => {
                let (a, b) = (self.expr(Type::Int, depth), self.expr(Type::Int, depth));
                match self.random.below(6) {
                    0 => {
                        let f = self.expr(Type::Function, depth);
                        if f.contains('{') { a } else { format!("({f} {a})") }
                    }
                    1 => format!("({a} / 3)"),
                    _ => format!("({a} {} {b})", self.random.pick(&["+", "-", "*"])),
                }
            }
            Type::Float => {
                let (a, b) = (self.expr(Type::Float, depth), self.expr(Type::Int, depth));
                format!("({a} {} {b})", self.random.pick(&["+", "-", "*"]))
            }
            Type::Bool => {
                let same = TYPES[self.random.below(6)];
                let (a, b) = (self.expr(same, depth), self.expr(same, depth));
                let (p, q) = (self.expr(Type::Bool, depth), self.expr(Type::Bool, depth));
                match self.random.below(7) {
                    0 => format!("({a} == {b})"),
                    1 => format!("({a} != {b})"),
                    2 => format!("({p} && {q})"),
                    3 => format!("({p} || {q})"),
                    4 => format!("({p} -> {q})"),
                    5 => format!("({}{})", self.expr(Type::Attrs, depth), " ? i"),
                    _ => {
                        let (a, b) = (self.expr(Type::Int, depth), self.expr(Type::Float, depth));
                        format!("({a} {} {b})", self.random.pick(&["<", "<=", ">", ">="]))
                    }
                }
            }
            Type::Str => {
                let (a, b) = (self.expr(Type::Str, depth), self.expr(Type::Str, depth));
                if self.random.below(2) == 0 {
                    format!("({a} + {b})")
                } else {
                    format!("\"<${{{a}}}-${{{b}}}>\"")
                }
            }
            Type::List => {
                let (a, b) = (self.expr(Type::List, depth), self.expr(Type::List, depth));
                let (x, y) = (TYPES[self.random.below(7)], TYPES[self.random.below(7)]);
                let (x, y) = (self.expr(x, depth), self.expr(y, depth));
                if self.random.below(2) == 0 { format!("({a} ++ {b})") } else { format!("[ {x} {y} ]") }
            }
            Type::Attrs => {
                let a = self.expr(Type::Attrs, depth);
                let (i, s, l) =
                    (self.expr(Type::Int, depth), self.expr(Type::Str, depth), self.expr(Type::List, depth));
                match self.random.below(4) {
                    0 => format!("({a} // {{ i = {i}; s = {s}; }})"),
                    1 => format!("({a} // rec {{ i = k; k = {i}; \"odd name\" = s; s = {s}; }})"),
                    2 => format!("{{ inherit ({a}) f b; i = {i}; s = {s}; l = {l}; }}"),
                    _ => format!(
                        "({{ i = {i}; l = {l}; }} // {a} // {{ ${{\"s\" + \"\"}} = {s}; ${{null}} = 1; }})"
                    ),
                }
            }
            Type::Function => {
                let before = self.scope.len();
                self.scope.push(("n".to_owned(), Type::Int));
                let body = self.expr(Type::Int, depth);
                self.scope.truncate(before);
                format!("(n: {body})")
            }
        }
    }
}

fn oracle() -> Option<Vec<String>> {
    let command = std::env::var("AMPOULE_ORACLE").unwrap_or_else(|_| "nix-instantiate".to_owned());
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let works = Command::new(&command[0]).args(&command[1..]).arg("--version").output();
    works.is_ok_and(|output| output.status.success()).then_some(command)
}

/// Evaluates with Nix; `Err` is the last line about the error.
fn nix(command: &[String], program: &str) -> Result<String, String> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .args(["--eval", "--strict", "--store", "dummy://", "-E", program])
        .output()
        .expect("it ran before");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn ours(program: &str, nursery_bytes: usize) -> Result<String, String> {
    let settings =
        Settings { nursery_bytes, min_deferred_bytes: nursery_bytes.min(48), ..Settings::default() };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), program.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| error.to_string())
    });
    result.expect("the system gives a thread")
}

/// Both print the same, or both fail, and Nix's text holds our message.
fn agree(ours: &Result<String, String>, nix: &Result<String, String>) -> bool {
    match (ours, nix) {
        (Ok(a), Ok(b)) => a == b,
        (Err(message), Err(text)) => {
            // Versions of Nix differ in the words about numbers that do not fit.
            text.contains(message.as_str()) || message.contains("overflow")
        }
        // Nix before 2.25 wraps around.
        (Err(message), Ok(_)) => message.contains("integer overflow"),
        (Ok(_), Err(_)) => false,
    }
}

#[test]
fn random_programs_print_as_in_nix() {
    let Some(command) = oracle() else {
        println!("skipped: no nix-instantiate");
        return;
    };
    let seed =
        std::env::var("AMPOULE_ORACLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9E37_79B9);
    let mut maker = Maker { random: Random::new(seed), scope: Vec::new(), names: 0 };
    let mut programs = Vec::new();
    for _ in 0..400 {
        let kind = TYPES[maker.random.below(6)];
        programs.push(maker.expr(kind, 5));
    }
    let mut wrong = Vec::new();
    for batch in programs.chunks(20) {
        // Where our side fails, the program is asked for alone.
        let (fine, failing): (Vec<&String>, Vec<&String>) =
            batch.iter().partition(|program| ours(program, 8 << 20).is_ok());
        let parts: String = fine.iter().fold(String::new(), |all, program| all + "(" + program + ")\n");
        let whole = format!("[ {parts} ]");
        let (a, b) = (ours(&whole, 0), nix(&command, &whole));
        let alone = if agree(&a, &b) { failing } else { batch.iter().collect() };
        for program in alone {
            let (a, b) = (ours(program, 0), nix(&command, program));
            if !agree(&a, &b) {
                wrong.push(format!("{program}\n  ours {a:?}\n  nix  {b:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
