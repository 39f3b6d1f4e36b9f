//! Random programs in which every variable is bound.
//!
//! They use the whole grammar, with blanks, comments and line ends where they may be.
//! Some define an attribute twice, as people do; who needs a valid one asks for another.

/// A small random number generator; the same seed gives the same programs everywhere.
pub struct Random(u64);

impl Random {
    /// Starts with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % limit
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const NAMES: &[&str] = &["a", "b", "c'", "d-e", "_f", "gg", "x1", "or'", "lib", "rec1"];

/// Returns a program of at most about `size` expressions.
pub fn program(random: &mut Random, size: usize) -> String {
    let mut generator = Generator { random, out: String::new(), left: size };
    for name in NAMES {
        generator.out += name;
        generator.out += ": ";
    }
    generator.expr(0);
    generator.blank();
    generator.out
}

struct Generator<'a> {
    random: &'a mut Random,
    out: String,
    left: usize,
}

/// How tightly the surroundings bind: an expression of a looser kind needs parentheses.
const LOOSE: usize = 0;
const OPERAND: usize = 1;
const ARGUMENT: usize = 2;

impl Generator<'_> {
    fn text(&mut self, text: &str) {
        self.blank();
        self.out += text;
    }

    fn blank(&mut self) {
        let blank = match self.random.below(40) {
            0 => "\n",
            1 => "\n\n  ",
            2 => " # comment ''${\"\n",
            3 => " /* comment */ ",
            4 => "\t",
            5 => " /** doc */ ",
            6 => "\r\n",
            7 => "\n    # one\n    # two\n",
            _ => " ",
        };
        self.out += blank;
    }

    fn expr(&mut self, kind: usize) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return self.simple();
        }
        let choice = self.random.below(if kind == LOOSE { 26 } else { 32 });
        let needs = match choice {
            0..6 => LOOSE,
            6..12 => OPERAND,
            12..15 => ARGUMENT,
            _ => 9,
        };
        let parens = needs < kind;
        if parens {
            self.text("(");
        }
        match choice {
            0 => self.lambda(),
            1 => {
                self.text("let");
                self.bindings(true);
                self.text("in");
                self.expr(LOOSE);
            }
            2 => self.words(&["with", ";"]),
            3 => self.words(&["assert", ";"]),
            4 => self.words(&["if", "then", "else"]),
            5..12 => self.operation(),
            12..15 => {
                for _ in 0..=1 + self.random.below(3) {
                    self.expr(9);
                }
            }
            _ => self.select(),
        }
        if parens {
            self.text(")");
        }
    }

    /// Words, each before an expression.
    fn words(&mut self, words: &[&str]) {
        for word in words {
            self.text(word);
            self.expr(LOOSE);
        }
    }

    fn operation(&mut self) {
        const OPERATORS: &[&str] =
            &["->", "||", "&&", "==", "!=", "<", "<=", ">", ">=", "//", "+", "-", "*", " / ", "++"];
        match self.random.below(8) {
            0 => {
                self.text("!");
                self.expr(ARGUMENT);
            }
            1 => {
                self.text("-");
                self.expr(ARGUMENT);
            }
            2 => {
                self.expr(ARGUMENT);
                self.text("?");
                self.attr_path(true);
            }
            _ => {
                self.expr(ARGUMENT);
                for _ in 0..=self.random.below(3) {
                    let operator = self.random.one_of(OPERATORS);
                    self.text(operator);
                    self.out.push(' ');
                    if self.random.below(8) == 0 {
                        self.text("!");
                    }
                    self.expr(ARGUMENT);
                }
            }
        }
    }

    fn lambda(&mut self) {
        match self.random.below(4) {
            0 => {
                self.text("y");
                self.text(":");
                self.out.push(' ');
            }
            1 => {
                self.formals();
                self.text(":");
            }
            2 => {
                self.text("whole");
                self.text("@");
                self.formals();
                self.text(":");
            }
            _ => {
                self.formals();
                self.text("@");
                self.text("whole");
                self.text(":");
            }
        }
        self.expr(LOOSE);
    }

    fn formals(&mut self) {
        self.text("{");
        let count = self.random.below(4);
        for i in 0..count {
            if i > 0 {
                self.text(",");
            }
            let name = NAMES[(i * 3 + count) % NAMES.len()];
            self.text(name);
            if self.random.below(3) == 0 {
                self.text("?");
                self.expr(LOOSE);
            }
        }
        match (self.random.below(3), count) {
            (0, 0) => self.text("..."),
            (0, _) => self.text(", ..."),
            (1, 1..) => self.text(","),
            _ => {}
        }
        self.text("}");
    }

    fn bindings(&mut self, plain: bool) {
        let count = self.random.below(5);
        for (i, name) in NAMES.iter().enumerate().take(count) {
            match self.random.below(8) {
                0 => {
                    self.text("inherit");
                    self.text(name);
                    self.text(";");
                }
                1 => {
                    self.text("inherit");
                    self.text("(");
                    self.expr(LOOSE);
                    self.text(")");
                    let (one, two) = (format!("i{i}"), format!("\"j {i}\""));
                    self.text(&one);
                    self.text(&two);
                    self.text(";");
                }
                _ => {
                    if self.random.below(3) > 0 {
                        let name = format!("n{i}");
                        self.text(&name);
                    } else {
                        self.attr_path(!plain);
                    }
                    self.text("=");
                    self.expr(LOOSE);
                    self.text(";");
                }
            }
        }
    }

    fn attr_path(&mut self, dynamic: bool) {
        for i in 0..=self.random.below(3) {
            if i > 0 {
                self.text(".");
            }
            match self.random.below(if dynamic { 8 } else { 6 }) {
                0 => self.text("\"quoted name\""),
                1 => self.text("or"),
                6 => {
                    self.text("${");
                    self.expr(LOOSE);
                    self.text("}");
                }
                7 => {
                    self.text("\"a");
                    self.interpolation();
                    self.out += "b\"";
                }
                _ => {
                    let name = self.random.one_of(NAMES);
                    self.text(name);
                }
            }
        }
    }

    fn select(&mut self) {
        self.simple();
        if self.random.below(5) == 0 {
            self.text(".");
            self.attr_path(true);
            if self.random.below(2) == 0 {
                self.text("or");
                self.out.push(' ');
                self.simple();
            }
        }
    }

    fn simple(&mut self) {
        if self.left == 0 {
            let simple = self.random.one_of(&["a", "b", "1", "\"s\"", "./p", "[ ]", "{ }", "1.5", "<n/p>"]);
            return self.text(simple);
        }
        match self.random.below(20) {
            0 => {
                self.text("{");
                self.bindings(false);
                self.text("}");
            }
            1 => {
                self.text("rec");
                self.text("{");
                self.bindings(false);
                self.text("}");
            }
            2 | 3 => {
                self.text("[");
                for _ in 0..self.random.below(4) {
                    self.expr(9);
                }
                self.text("]");
            }
            4..7 => self.string(),
            7..9 => self.indented(),
            9 => {
                let path =
                    self.random.one_of(&["./a/b", "../c", "/d/e.f", "g/h", "./a/${b}", "/${a}/x-y${b}"]);
                self.text(path);
            }
            10 => {
                let number = self.random.one_of(&["0", "42", "9223372036854775807", "1.5", ".25", "1.5e10"]);
                self.text(number);
            }
            11 => self.text("https://example.org/a?b=c"),
            12 => self.text("__curPos"),
            _ => {
                let name = self.random.one_of(NAMES);
                self.text(name);
            }
        }
        self.out.push(' ');
    }

    fn interpolation(&mut self) {
        self.out += "${";
        self.expr(LOOSE);
        self.text("}");
    }

    fn string(&mut self) {
        self.text("\"");
        for _ in 0..self.random.below(5) {
            match self.random.below(10) {
                0 => self.interpolation(),
                1 => self.out += "$$",
                _ => {
                    let text = self.random.one_of(&[
                        "text", " ", "\\n", "\\\\", "\\\"", "\\${", "\n  line", "''", "\t", "ü", "{", "}",
                    ]);
                    self.out += text;
                }
            }
        }
        self.out.push('"');
    }

    fn indented(&mut self) {
        self.text("''");
        for _ in 0..self.random.below(8) {
            match self.random.below(16) {
                0 => self.interpolation(),
                _ => {
                    let text = self.random.one_of(&[
                        "text", " ", "\n", "\n  ", "\n    x", "\n\n", "''$", "'''", "''\\n", "\"", "\\",
                        "\n\t", "    ", "x = 1;",
                    ]);
                    self.out += text;
                }
            }
        }
        self.out += "''";
    }
}
