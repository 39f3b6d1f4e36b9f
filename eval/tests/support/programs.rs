//! Programs that nobody wrote: sets and lists of all kinds, put together, taken apart, compared, forced and printed,
//! some of them derivations, with a fault here and there.
//!
//! Few names are used, so that they meet. An expression is made up for the kind of value that it is to have; what it has is
//! checked by nobody, so some programs fail, and that is an answer too.

use super::random::Random;

/// What a value is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Int,
    Text,
    Bool,
    Ints,
    Set,
    Sets,
}

use Kind::{Bool, Int, Ints, Set, Sets, Text};

const NAMES: [&str; 17] = [
    "a", "b", "c", "d", "e", "f", "x", "y", "name", "value", "type", "outPath", "k1", "k2", "k10", "out",
    "dev",
];
/// The first of them that say nothing to a derivation.
const PLAIN_NAMES: usize = 8;

/// Returns the program of a seed.
pub fn program(seed: u64) -> String {
    let mut random = Random::new(seed);
    let fuel = [60, 160, 300, 600][random.below(4)];
    let kind = [Set, Set, Set, Sets, Sets, Text, Ints][random.below(7)];
    Maker { random, fuel, made: 0, scope: Vec::new() }.expr(kind)
}

struct Maker {
    random: Random,
    /// How much more may be made up.
    fuel: i32,
    /// Names made so far.
    made: u32,
    /// Variables, the innermost last.
    scope: Vec<(String, Kind)>,
}

impl Maker {
    fn one(&mut self, kinds: &[Kind]) -> Kind {
        kinds[self.random.below(kinds.len())]
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len())]
    }

    /// Some of the names, each once.
    fn names(&mut self, of: usize, count: usize) -> Vec<&'static str> {
        let mut names = NAMES[..of].to_vec();
        while names.len() > count {
            let at = self.random.below(names.len());
            names.swap_remove(at);
        }
        names
    }

    fn fresh(&mut self, letter: char) -> String {
        self.made += 1;
        format!("{letter}{}", self.made)
    }

    /// An expression in whose scope there is more.
    fn within(&mut self, more: &[(String, Kind)], kind: Kind) -> String {
        let before = self.scope.len();
        self.scope.extend_from_slice(more);
        let text = self.expr(kind);
        self.scope.truncate(before);
        text
    }

    fn with_n(&mut self, of: Kind, kind: Kind) -> String {
        self.within(&[("n".to_owned(), of)], kind)
    }

    fn expr(&mut self, kind: Kind) -> String {
        self.fuel -= 1;
        let bound: Vec<&String> =
            self.scope.iter().filter(|(_, other)| *other == kind).map(|(name, _)| name).collect();
        let variable = match bound.len() {
            0 => None,
            count => Some(bound[self.random.below(count)].clone()),
        };
        if let Some(variable) = variable
            && self.random.chance(if self.fuel <= 0 { 70 } else { 30 })
        {
            return variable;
        }
        if self.fuel <= 0 {
            return self.leaf(kind);
        }
        match self.random.below(200) {
            0..3 => self.fault(),
            3..23 => self.let_in(kind),
            23..33 => {
                let (condition, then, or_else) = (self.expr(Bool), self.expr(kind), self.expr(kind));
                format!("(if {condition} then {then} else {or_else})")
            }
            33..43 => {
                let forced = self.one(&[Set, Set, Sets, Ints, Int]);
                let how = self.random.pick(&["deepSeq", "seq"]);
                format!("(builtins.{how} {} {})", self.expr(forced), self.expr(kind))
            }
            43..53 => self.tried(kind),
            53..61 => {
                let names: Vec<(String, Kind)> =
                    (0..2).map(|_| (self.name().to_owned(), self.one(&[Int, Text]))).collect();
                format!("(with {}; {})", self.expr(Set), self.within(&names, kind))
            }
            61..77 => self.call(kind),
            77..93 => {
                let (set, name) = (self.expr(Set), self.name());
                match self.random.chance(80) {
                    true => format!("({set}.{name} or {})", self.expr(kind)),
                    false => format!("({set}.{name})"),
                }
            }
            _ => match kind {
                Int => self.int(),
                Text => self.text(),
                Bool => self.bool(),
                Ints => self.ints(),
                Set => self.set(),
                Sets => self.sets(),
            },
        }
    }

    fn leaf(&mut self, kind: Kind) -> String {
        match kind {
            Int => format!("({})", self.random.below(13) as i32 - 3),
            Text => format!("{:?}", self.random.pick(&["", "q", "a", "b", "hello", "k1"])),
            Bool => self.random.pick(&["true", "false"]).to_owned(),
            Ints | Sets => "[ ]".to_owned(),
            Set => format!("{{ {} = {}; }}", self.name(), self.random.below(10)),
        }
    }

    fn fault(&mut self) -> String {
        let number = self.random.below(10);
        match self.random.below(10) {
            0 => "(abort \"ab\")".to_owned(),
            1 => "(1 + { })".to_owned(),
            2 => "(assert false; 1)".to_owned(),
            3 => "({ }.zz)".to_owned(),
            4 => "(builtins.head [ ])".to_owned(),
            5 => "null".to_owned(),
            _ => format!("(throw \"t{number}\")"),
        }
    }

    fn let_in(&mut self, kind: Kind) -> String {
        let (name, of) = (self.fresh('v'), self.one(&[Int, Text, Bool, Set, Set, Ints, Sets]));
        // A set may refer to itself.
        let own = [(name.clone(), of)];
        let own: &[_] = if of == Set && self.random.chance(30) { &own } else { &[] };
        let value = self.within(own, of);
        format!("(let {name} = {value}; in {})", self.within(&[(name.clone(), of)], kind))
    }

    fn tried(&mut self, kind: Kind) -> String {
        let name = self.fresh('v');
        let mut tried = self.expr(kind);
        if self.random.chance(50) {
            let forced = self.one(&[Set, Ints, Sets]);
            tried = format!("(builtins.deepSeq {} {tried})", self.expr(forced));
        }
        let or_else = self.expr(kind);
        format!(
            "(let {name} = builtins.tryEval {tried}; in if {name}.success then {name}.value else {or_else})"
        )
    }

    /// A function of named arguments, called.
    fn call(&mut self, kind: Kind) -> String {
        let count = 1 + self.random.below(4);
        let arguments: Vec<(String, Kind)> = self
            .names(PLAIN_NAMES + 1, count)
            .into_iter()
            .map(|name| (name.to_owned(), self.one(&[Int, Text, Set])))
            .collect();
        let (mut formals, mut given) = (Vec::new(), String::new());
        for (name, of) in &arguments {
            let has_default = self.random.chance(50);
            formals.push(match has_default {
                true => format!("{name} ? {}", self.within(&arguments, *of)),
                false => name.clone(),
            });
            if !has_default || self.random.chance(70) {
                given += &format!("{name} = {}; ", self.expr(*of));
            }
        }
        if self.random.chance(70) {
            formals.push("...".to_owned());
        }
        let mut inside = arguments;
        let whole = if self.random.chance(30) { " @ at" } else { "" };
        if !whole.is_empty() {
            inside.push(("at".to_owned(), Set));
        }
        let body = self.within(&inside, kind);
        let function = format!("({{ {} }}{whole}: {body})", formals.join(", "));
        let mut argument = format!("{{ {given}}}");
        if self.random.chance(30) {
            argument = format!("({} // {argument})", self.expr(Set));
        }
        match self.random.below(8) {
            0 => {
                let name = self.fresh('f');
                format!(
                    "(let {name} = {function}; in builtins.seq (builtins.functionArgs {name}) ({name} {argument}))"
                )
            }
            1 => {
                let name = self.fresh('f');
                format!(
                    "(let {name} = {function}; in {name} (builtins.intersectAttrs (builtins.functionArgs {name}) {argument}))"
                )
            }
            _ => format!("({function} {argument})"),
        }
    }

    fn int(&mut self) -> String {
        match self.random.below(8) {
            0 => {
                let operator = self.random.pick(&["+", "-", "*"]);
                format!("({} {operator} {})", self.expr(Int), self.expr(Int))
            }
            1 => {
                let of = self.one(&[Ints, Sets]);
                format!("(builtins.length {})", self.expr(of))
            }
            2 => format!("(builtins.stringLength {})", self.expr(Text)),
            3 => format!("(builtins.foldl' (p: q: p + q) 0 {})", self.expr(Ints)),
            4 => format!("(builtins.length (builtins.attrNames {}))", self.expr(Set)),
            5 => {
                let (name, start, step) = (self.name(), self.expr(Ints), 1 + self.random.below(3));
                format!(
                    "(builtins.length (builtins.genericClosure {{ startSet = map (z: {{ key = z; }}) {start}; \
                     operator = z: if z.key > 5 then [ ] else [ {{ key = z.key + {step}; {name} = 1; }} ]; }}))"
                )
            }
            _ => format!("({})", self.random.below(109) as i32 - 9),
        }
    }

    fn text(&mut self) -> String {
        match self.random.below(10) {
            0 => format!("({} + {})", self.expr(Text), self.expr(Text)),
            1 => format!("\"p${{{}}}q\"", self.expr(Text)),
            2 => {
                let of = self.one(&[Int, Text, Ints]);
                format!("(toString {})", self.expr(of))
            }
            3 => format!("(builtins.concatStringsSep \",\" (builtins.attrNames {}))", self.expr(Set)),
            4 => {
                let of = self.one(&[Set, Set, Ints, Sets]);
                format!("(builtins.toJSON {})", self.expr(of))
            }
            5 => {
                let of = self.one(&[Set, Ints, Sets]);
                format!("(builtins.toXML {})", self.expr(of))
            }
            6 => format!("\"${{{}}}\"", self.derivation()),
            7 => {
                let (from, to, of) = (self.expr(Text), self.expr(Text), self.expr(Text));
                format!("(builtins.replaceStrings [ {from} \"l\" ] [ {to} \"L\" ] {of})")
            }
            8 => format!("(builtins.substring {} 2 {})", self.random.below(4), self.expr(Text)),
            _ => format!("{:?}", self.random.pick(&["x", "yy", "hello", "a", "b"])),
        }
    }

    fn bool(&mut self) -> String {
        match self.random.below(8) {
            0 => {
                let of = self.one(&[Int, Text, Set, Ints, Sets]);
                let operator = self.random.pick(&["==", "!="]);
                format!("({} {operator} {})", self.expr(of), self.expr(of))
            }
            1 => format!("({} ? {})", self.expr(Set), self.name()),
            2 => format!("({} ? {}.{})", self.expr(Set), self.name(), self.name()),
            3 => {
                let operator = self.random.pick(&["&&", "||", "->"]);
                format!("({} {operator} {})", self.expr(Bool), self.expr(Bool))
            }
            4 => {
                let of = self.one(&[Int, Int, Text, Ints]);
                let operator = self.random.pick(&["<", "<=", ">", ">="]);
                format!("({} {operator} {})", self.expr(of), self.expr(of))
            }
            5 => format!("(builtins.hasAttr {} {})", self.expr(Text), self.expr(Set)),
            6 => {
                let (of, among) = [(Int, Ints), (Set, Sets)][self.random.below(2)];
                format!("(builtins.elem {} {})", self.expr(of), self.expr(among))
            }
            _ => format!("(!{})", self.expr(Bool)),
        }
    }

    fn ints(&mut self) -> String {
        match self.random.below(9) {
            0 => format!("({} ++ {})", self.expr(Ints), self.expr(Ints)),
            1 => format!("(builtins.sort (p: q: p < q) {})", self.expr(Ints)),
            2 => {
                let count = [0, 1, 3, 20][self.random.below(4)];
                format!("(builtins.genList (n: n * {}) {count})", self.expr(Int))
            }
            3 => format!("(map (n: {}) {})", self.with_n(Int, Int), self.expr(Ints)),
            4 => format!("(builtins.filter (n: {}) {})", self.with_n(Int, Bool), self.expr(Ints)),
            5 => format!("(builtins.catAttrs \"{}\" {})", self.name(), self.expr(Sets)),
            6 => format!("(map (n: n.{} or 0) {})", self.name(), self.expr(Sets)),
            7 => format!("(builtins.concatMap (n: {}) {})", self.with_n(Int, Ints), self.expr(Ints)),
            _ => self.list_of(Int),
        }
    }

    fn list_of(&mut self, kind: Kind) -> String {
        let count = self.random.below(5);
        let elements: Vec<String> = (0..count).map(|_| self.expr(kind)).collect();
        format!("[ {} ]", elements.join(" "))
    }

    fn sets(&mut self) -> String {
        match self.random.below(7) {
            0 => format!("({} ++ {})", self.expr(Sets), self.expr(Sets)),
            1 => format!("(map (n: {}) {})", self.with_n(Int, Set), self.expr(Ints)),
            2 => format!("(map (n: n // {}) {})", self.with_n(Set, Set), self.expr(Sets)),
            3 => {
                let name = self.name();
                format!("(builtins.sort (p: q: (p.{name} or 0) < (q.{name} or 0)) {})", self.expr(Sets))
            }
            4 => format!(
                "(builtins.attrValues (builtins.mapAttrs (n: v: {{ ${{n}} = v; inherit n v; }}) {}))",
                self.expr(Set)
            ),
            5 => {
                let (start, more, step) = (self.expr(Ints), self.expr(Set), 1 + self.random.below(3));
                format!(
                    "(builtins.genericClosure {{ startSet = map (z: {{ key = z; }}) {start}; \
                     operator = z: if z.key > 5 then [ ] else [ ({more} // {{ key = z.key + {step}; }}) ]; }})"
                )
            }
            _ => self.list_of(Set),
        }
    }

    /// `{ … }`.
    fn literal(&mut self) -> String {
        let count = [0, 1, 2, 3, 4, 8][self.random.below(6)];
        let names = self.names(NAMES.len(), count);
        let is_recursive = self.random.chance(25);
        let kinds: Vec<(String, Kind)> = names
            .iter()
            .map(|name| ((*name).to_owned(), self.one(&[Int, Int, Text, Text, Set, Ints, Sets, Bool])))
            .collect();
        let inside: &[_] = if is_recursive { &kinds } else { &[] };
        let mut bindings = String::new();
        for (name, kind) in &kinds {
            bindings += &match self.random.below(20) {
                0 => format!("\"{name}\" = throw \"attr {name}\"; "),
                1 | 2 if !is_recursive => format!("${{{}}} = {}; ", self.expr(Text), self.expr(*kind)),
                3 | 4 => format!("{name}.z{} = {}; ", self.name(), self.within(inside, *kind)),
                _ => format!("{name} = {}; ", self.within(inside, *kind)),
            };
        }
        format!("({}{{ {bindings}}})", if is_recursive { "rec " } else { "" })
    }

    fn derivation(&mut self) -> String {
        let mut outputs = vec!["out", "dev", "bin", "a", "type", "doc"];
        let count = 1 + self.random.below(3);
        while outputs.len() > count {
            let at = self.random.below(outputs.len());
            outputs.swap_remove(at);
        }
        let mut attrs = std::collections::BTreeMap::new();
        attrs.insert("name", format!("\"n{}\"", self.random.below(4)));
        attrs.insert("system", "\"s\"".to_owned());
        attrs.insert("builder", "\"b\"".to_owned());
        if self.random.chance(50) {
            let outputs: Vec<String> = outputs.iter().map(|output| format!("\"{output}\"")).collect();
            attrs.insert("outputs", format!("[ {} ]", outputs.join(" ")));
        }
        for _ in 0..self.random.below(4) {
            let (name, kind) =
                (NAMES[self.random.below(PLAIN_NAMES)], self.one(&[Text, Text, Int, Bool, Ints]));
            attrs.insert(name, self.expr(kind));
        }
        if self.random.chance(20) {
            attrs.insert("args", format!("[ {} ]", self.expr(Text)));
        }
        if self.random.chance(6) {
            attrs.insert("__structuredAttrs", self.expr(Bool));
        }
        if self.random.chance(6) {
            attrs.insert("__ignoreNulls", "true".to_owned());
            attrs.insert("nul", "null".to_owned());
        }
        if self.random.chance(5) {
            attrs.remove(self.random.pick(&["name", "system", "builder"]));
        }
        if self.random.chance(10) {
            attrs.insert("outputHash", "\"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"".to_owned());
        }
        if self.random.chance(40) && self.fuel > 0 {
            attrs.insert("dep", self.derivation());
        }
        let how = if self.random.chance(4) { "Strict" } else { "" };
        let attrs: String = attrs.iter().map(|(name, value)| format!("{name} = {value}; ")).collect();
        let made = format!("(derivation{how} {{ {attrs}}})");
        match self.random.below(12) {
            0 => format!("({made} // {})", self.expr(Set)),
            1 => format!("(removeAttrs {made} [ \"{}\" \"drvPath\" ])", self.name()),
            2 => format!("{made}.{}", outputs[0]),
            3 => format!("(builtins.head {made}.all)"),
            4 => format!("{made}.drvAttrs"),
            5 => format!(
                "(builtins.intersectAttrs {{ outPath = 0; type = 0; a = 0; out = 0; drvAttrs = 0; }} {made})"
            ),
            6 => format!("({} // {made})", self.expr(Set)),
            _ => made,
        }
    }

    fn set(&mut self) -> String {
        match self.random.below(18) {
            0..3 => format!("({} // {})", self.expr(Set), self.expr(Set)),
            3 => format!("(builtins.intersectAttrs {} {})", self.expr(Set), self.expr(Set)),
            4 => {
                let count = self.random.below(4);
                let names: Vec<String> = (0..count).map(|_| format!("\"{}\"", self.name())).collect();
                format!("(removeAttrs {} [ {} ])", self.expr(Set), names.join(" "))
            }
            5 => {
                let kind = self.one(&[Int, Text, Set]);
                let (name, value) = (self.with_n(Int, Text), self.with_n(Int, kind));
                let of = self.expr(Ints);
                format!("(builtins.listToAttrs (map (n: {{ name = {name}; value = {value}; }}) {of}))")
            }
            6 => {
                let kind = self.one(&[Int, Text, Set]);
                let value = match self.random.below(3) {
                    0 => "v".to_owned(),
                    1 => "if builtins.isInt v then v + 1 else v".to_owned(),
                    _ => self.with_n(Text, kind),
                };
                format!("(builtins.mapAttrs (n: v: {value}) {})", self.expr(Set))
            }
            7 => {
                let value = self.random.pick(&["vs", "builtins.head vs", "builtins.length vs"]);
                format!("(builtins.zipAttrsWith (n: vs: {value}) {})", self.expr(Sets))
            }
            8 => {
                let count = self.random.below(6);
                let formals: Vec<String> = self
                    .names(PLAIN_NAMES, count)
                    .into_iter()
                    .map(|name| format!("{name}{}", self.random.pick(&["", " ? 1"])))
                    .collect();
                format!("(builtins.functionArgs ({{ {} }}: 1))", formals.join(", "))
            }
            9 => format!("(builtins.groupBy (n: {}) {})", self.with_n(Int, Text), self.expr(Ints)),
            10 | 11 => self.derivation(),
            12 => {
                let count = self.random.below(6);
                let pairs: Vec<String> = (0..count)
                    .map(|_| {
                        let kind = self.one(&[Int, Text, Set]);
                        format!("{{ name = {}; value = {}; }}", self.expr(Text), self.expr(kind))
                    })
                    .collect();
                format!("(builtins.listToAttrs [ {} ])", pairs.join(" "))
            }
            13 => format!("(builtins.foldl' (p: q: p // q) {} {})", self.expr(Set), self.expr(Sets)),
            14 => {
                // One that contains itself, forced all the way.
                let own = self.fresh('w');
                let (name, value) = (self.name(), self.within(&[(own.clone(), Set)], Int));
                format!(
                    "(let {own} = {{ {name} = {value}; self = {own}; l = [ {own} ]; }} // {}; in builtins.deepSeq \
                     (builtins.tryEval (builtins.deepSeq {own} 1)) (removeAttrs {own} [ \"self\" \"l\" ]))",
                    self.expr(Set)
                )
            }
            15 => {
                let count = [2, 10, 40][self.random.below(3)];
                let each = self.with_n(Int, Set);
                format!(
                    "(builtins.foldl' (p: q: p // q) {{ }} (builtins.genList (n: {{ ${{\"g${{toString n}}\"}} = n; a = n; }} // {each}) {count}))"
                )
            }
            _ => self.literal(),
        }
    }
}
