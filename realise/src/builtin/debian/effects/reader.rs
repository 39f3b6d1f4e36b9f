//! Walks a script's tree with what is known: flow, words, variables.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Test, fits};
use super::programs::is_ignored;
use super::{Effects, Names};
use crate::builtin::BuiltinError;
use crate::builtin::debian::Composed;
use crate::builtin::debian::script::{List, Node, Part, Redirect, Word, parse};

/// A script does not end while this many commands are looked at.
const MAX_COMMANDS: usize = 20_000;
/// Deepest nesting of functions and substitutions.
const MAX_CALLS: usize = 24;

/// Where a list of commands ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    /// The next turn of the loop around.
    Continue,
    Break,
    Return,
    Exit,
}

/// A status, if it is known.
pub(super) type Status = Option<bool>;
type Variables = BTreeMap<String, Option<String>>;

pub(super) struct Reader<'r, 'c> {
    pub(super) composed: &'r mut Composed<'c>,
    pub(super) effects: &'r mut Effects,
    pub(super) names: &'r mut Names,
    package: &'r str,
    script: &'r str,
    pub(super) variables: Variables,
    parameters: Vec<Option<String>>,
    functions: BTreeMap<String, List>,
    /// debconf's answers.
    pub(super) answers: BTreeMap<String, String>,
    /// Output of the substitutions that are being read; none: not known.
    captures: Vec<Option<String>>,
    /// Files in `/tmp` and what they hold; none: not known.
    pub(super) temporaries: BTreeMap<String, Option<String>>,
    /// Text that a command could read.
    input: Option<String>,
    unknown: BTreeSet<String>,
    commands: usize,
    calls: usize,
}

impl<'r, 'c> Reader<'r, 'c> {
    pub(super) fn new(
        composed: &'r mut Composed<'c>,
        effects: &'r mut Effects,
        names: &'r mut Names,
        package: &'r str,
        script: &'r str,
    ) -> Self {
        let own = composed.packages.iter().find(|p| p.name == package);
        let architecture = own.map(|p| p.architecture.clone());
        let answers = own.map(|p| p.defaults.clone()).unwrap_or_default();
        let known = [
            ("DPKG_ROOT", Some(String::new())),
            ("DPKG_MAINTSCRIPT_PACKAGE", Some(package.to_owned())),
            ("DPKG_MAINTSCRIPT_NAME", Some(script.to_owned())),
            ("DPKG_MAINTSCRIPT_ARCH", architecture),
            ("DPKG_ADMINDIR", Some("/var/lib/dpkg".to_owned())),
            ("DEBIAN_FRONTEND", Some("noninteractive".to_owned())),
        ];
        let action = if script == "preinst" { "install" } else { "configure" };
        Self {
            composed,
            effects,
            names,
            package,
            script,
            variables: known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            parameters: vec![Some(action.to_owned())],
            functions: BTreeMap::new(),
            answers,
            captures: Vec::new(),
            temporaries: BTreeMap::new(),
            input: None,
            unknown: BTreeSet::new(),
            commands: 0,
            calls: 0,
        }
    }

    /// Returns what the script does that is not known.
    pub(super) fn read(&mut self, text: &str) -> BTreeSet<String> {
        let first = text.lines().next().unwrap_or_default();
        let shell = first.strip_prefix("#!").map(str::trim).and_then(|line| line.split_whitespace().next());
        if !shell.is_some_and(|shell| matches!(shell.rsplit('/').next(), Some("sh" | "bash" | "dash"))) {
            self.unknown.insert(format!("is no shell script (`{first}`)"));
            return std::mem::take(&mut self.unknown);
        }
        match parse(text) {
            Ok(list) => {
                self.list(&list);
            }
            Err(error) => {
                self.unknown.insert(format!("cannot be read: {error}"));
            }
        }
        std::mem::take(&mut self.unknown)
    }

    pub(super) fn refuse(&mut self, what: &str) {
        let what: String = what.chars().take(120).collect();
        self.unknown.insert(format!("runs `{what}`"));
    }

    pub(super) fn ignore(&mut self, effect: &str) {
        self.composed.ignored.insert((self.package.to_owned(), self.script.to_owned(), effect.to_owned()));
    }

    // ---- control -----------------------------------------------------------------------

    fn list(&mut self, list: &List) -> (Status, Flow) {
        let mut status = Some(true);
        for node in list {
            let (result, flow) = self.node(node);
            status = result;
            if flow != Flow::Next {
                return (status, flow);
            }
        }
        (status, Flow::Next)
    }

    fn node(&mut self, node: &Node) -> (Status, Flow) {
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            self.unknown.insert("does not end".to_owned());
            return (None, Flow::Exit);
        }
        match node {
            Node::Simple { assigns, words, redirects } => self.simple(assigns, words, redirects),
            Node::If { branches, otherwise } => self.if_command(branches, otherwise),
            Node::Case { word, arms } => self.case_command(word, arms),
            Node::For { name, words, body } => self.for_command(name, words.as_deref(), body),
            Node::Loop { condition, body } => {
                if let Some(names) = read_names(condition)
                    && let Some(text) = self.input.take()
                {
                    return self.lines(&text, &names, body);
                }
                // Once: what a loop does it does at the first turn, with values not known.
                let (status, _) = self.list(condition);
                if status != Some(false) {
                    self.either(&[body]);
                }
                (None, Flow::Next)
            }
            Node::Group { body, redirects } => {
                let here = redirects.iter().find_map(|redirect| redirect.here.as_ref());
                if let Some(text) = here.and_then(|word| self.text(word)) {
                    return self.with_input(text, body);
                }
                self.redirects(redirects, None);
                self.list(body)
            }
            Node::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
                (Some(true), Flow::Next)
            }
            Node::Pipe { parts, negated } => self.pipe(parts, *negated),
            Node::AndOr { first, rest } => self.and_or(first, rest),
        }
    }

    /// `( … ) << END`: what a loop in there reads. Such a group is written in parentheses, which keep its parameters.
    fn with_input(&mut self, text: String, body: &List) -> (Status, Flow) {
        let outer = self.input.replace(text);
        let parameters = self.parameters.clone();
        let result = self.list(body);
        self.parameters = parameters;
        self.input = outer;
        result
    }

    /// `while read a b; do … done << END`: the body for each line.
    fn lines(&mut self, text: &str, names: &[String], body: &List) -> (Status, Flow) {
        for line in text.lines() {
            let mut rest = line.trim();
            for (index, name) in names.iter().enumerate() {
                let (word, after) = match rest.split_once(char::is_whitespace) {
                    Some((word, after)) if index + 1 < names.len() => (word, after.trim_start()),
                    _ => (rest, ""),
                };
                self.variables.insert(name.clone(), Some(word.to_owned()));
                rest = after;
            }
            match self.list(body) {
                (_, Flow::Next | Flow::Continue) => {}
                (_, Flow::Break) => break,
                end => return end,
            }
        }
        (Some(true), Flow::Next)
    }

    fn pipe(&mut self, parts: &[Node], negated: bool) -> (Status, Flow) {
        if let [only] = parts {
            let (status, flow) = self.node(only);
            return (if negated { status.map(|s| !s) } else { status }, flow);
        }
        // What goes through a pipe is not followed.
        self.captures.push(None);
        for part in parts {
            self.node(part);
        }
        self.captures.pop();
        self.output(None);
        (None, Flow::Next)
    }

    fn and_or(&mut self, first: &Node, rest: &[(bool, Node)]) -> (Status, Flow) {
        let (mut status, mut flow) = self.node(first);
        for (and, node) in rest {
            if flow != Flow::Next {
                break;
            }
            match status {
                Some(known) if known != *and => {}
                Some(_) => (status, flow) = self.node(node),
                None => {
                    let before = self.variables.clone();
                    self.node(node);
                    self.merge(vec![before]);
                    status = None;
                }
            }
        }
        (status, flow)
    }

    fn if_command(&mut self, branches: &[(List, List)], otherwise: &List) -> (Status, Flow) {
        let mut open: Vec<&List> = Vec::new();
        for (condition, body) in branches {
            let (status, flow) = self.list(condition);
            if flow != Flow::Next {
                return (status, flow);
            }
            match status {
                Some(false) => {}
                Some(true) if open.is_empty() => return self.list(body),
                Some(true) => {
                    open.push(body);
                    self.either(&open);
                    return (None, Flow::Next);
                }
                None => open.push(body),
            }
        }
        if open.is_empty() {
            return self.list(otherwise);
        }
        open.push(otherwise);
        self.either(&open);
        (None, Flow::Next)
    }

    /// Looks at several ways of which one is taken.
    fn either(&mut self, ways: &[&List]) {
        let before = self.variables.clone();
        let mut after = Vec::new();
        for way in ways {
            self.variables.clone_from(&before);
            self.list(way);
            after.push(std::mem::take(&mut self.variables));
        }
        self.variables = before;
        self.merge(after);
    }

    /// Forgets the variables that have another value on another way.
    fn merge(&mut self, others: Vec<Variables>) {
        for other in others {
            for (name, value) in other {
                match self.variables.get_mut(&name) {
                    Some(known) if *known != value => *known = None,
                    Some(_) => {}
                    None => {
                        self.variables.insert(name, None);
                    }
                }
            }
        }
    }

    fn case_command(&mut self, word: &Word, arms: &[(Vec<Word>, List)]) -> (Status, Flow) {
        let Some(text) = self.text(word) else {
            let ways: Vec<&List> = arms.iter().map(|(_, body)| body).collect();
            self.either(&ways);
            return (None, Flow::Next);
        };
        for (patterns, body) in arms {
            for pattern in patterns {
                match self.text(pattern) {
                    Some(pattern) if fits(&pattern, &text) => return self.list(body),
                    Some(_) => {}
                    None => self.either(&[body]),
                }
            }
        }
        (Some(true), Flow::Next)
    }

    fn for_command(&mut self, name: &str, words: Option<&[Word]>, body: &List) -> (Status, Flow) {
        let values = match words {
            Some(words) => self.fields(words),
            None => self.parameters.iter().cloned().collect(),
        };
        let values: Vec<Option<String>> = match values {
            Some(values) => values.into_iter().map(|value| self.pattern(value)).collect(),
            None => vec![None],
        };
        for value in values {
            self.variables.insert(name.to_owned(), value);
            let (status, flow) = self.list(body);
            match flow {
                Flow::Break => break,
                Flow::Next | Flow::Continue => {}
                flow => return (status, flow),
            }
        }
        (Some(true), Flow::Next)
    }

    /// A word of a `for`: a pattern in a directory that is not there stands for itself, another one for what is not known.
    fn pattern(&mut self, word: String) -> Option<String> {
        let Some(star) = word.find(['*', '?']) else { return Some(word) };
        match word[..star].rsplit_once('/') {
            Some((folder, _)) if folder.starts_with('/') && !self.composed.exists(folder) => Some(word),
            _ => None,
        }
    }

    // ---- words -------------------------------------------------------------------------

    /// Expands words to fields; none if one of them is not known.
    fn fields(&mut self, words: &[Word]) -> Option<Vec<String>> {
        let mut all = Some(Vec::new());
        for word in words {
            // Each word, so that substitutions in later ones are read too.
            match (self.field(word), &mut all) {
                (Some(fields), Some(all)) => all.extend(fields),
                _ => all = None,
            }
        }
        all
    }

    fn field(&mut self, word: &Word) -> Option<Vec<String>> {
        let mut fields: Vec<String> = Vec::new();
        let mut current = String::new();
        let mut open = word.quoted;
        let mut known = true;
        for part in &word.parts {
            let (value, quoted) = match part {
                Part::Text(text) => (Some(text.clone()), true),
                Part::Unknown => (None, true),
                Part::Variable { name, quoted, .. } if name == "@" && *quoted => {
                    // Each parameter is a field of its own.
                    let values: Option<Vec<String>> = self.parameters.iter().cloned().collect();
                    return values;
                }
                Part::Variable { name, default, quoted } => {
                    (self.variable(name, default.as_deref()), *quoted)
                }
                Part::Command { body, quoted } => (self.substitute(body), *quoted),
            };
            let Some(value) = value else {
                known = false;
                continue;
            };
            if quoted {
                open |= !value.is_empty();
                current.push_str(&value);
                continue;
            }
            let mut pieces = value.split([' ', '\t', '\n']).peekable();
            while let Some(piece) = pieces.next() {
                current.push_str(piece);
                open |= !piece.is_empty();
                if pieces.peek().is_some() && open {
                    fields.push(std::mem::take(&mut current));
                    open = false;
                }
            }
        }
        if open {
            fields.push(current);
        }
        known.then_some(fields)
    }

    /// Expands a word to one text.
    fn text(&mut self, word: &Word) -> Option<String> {
        self.field(word).map(|fields| fields.join(" "))
    }

    fn variable(&mut self, name: &str, default: Option<&Word>) -> Option<String> {
        let value = match name {
            "@" | "*" => self.parameters.iter().cloned().collect::<Option<Vec<_>>>().map(|all| all.join(" ")),
            "#" => Some(self.parameters.len().to_string()),
            "0" => Some(format!("/var/lib/dpkg/info/{}.{}", self.package, self.script)),
            "?" | "$" | "!" | "-" => return None,
            name => match name.parse::<usize>() {
                Ok(n) => self.parameters.get(n - 1).cloned().unwrap_or(Some(String::new())),
                // Scripts are run with little in their environment: what is not set is empty.
                Err(_) => self.variables.get(name).cloned().unwrap_or(Some(String::new())),
            },
        };
        match (value, default) {
            (Some(value), Some(default)) if value.is_empty() => self.text(default),
            (value, _) => value,
        }
    }

    /// Reads a command substitution; returns its output, if that is known.
    fn substitute(&mut self, body: &List) -> Option<String> {
        if self.calls >= MAX_CALLS {
            return None;
        }
        self.calls += 1;
        self.captures.push(Some(String::new()));
        let variables = self.variables.clone();
        self.list(body);
        self.variables = variables;
        self.calls -= 1;
        self.captures.pop().flatten().map(|text| text.trim_end_matches('\n').to_owned())
    }

    /// Notes output: known text, or some text that is not known.
    pub(super) fn output(&mut self, text: Option<&str>) {
        if let Some(capture) = self.captures.last_mut() {
            match (capture.as_mut(), text) {
                (Some(all), Some(text)) => all.push_str(text),
                _ => *capture = None,
            }
        }
    }

    // ---- commands ----------------------------------------------------------------------

    fn simple(
        &mut self,
        assigns: &[(String, Word)],
        words: &[Word],
        redirects: &[Redirect],
    ) -> (Status, Flow) {
        let mut values = Vec::new();
        for (name, word) in assigns {
            let value = self.text(word);
            values.push((name.clone(), value));
        }
        if words.is_empty() {
            self.variables.extend(values);
            self.redirects(redirects, Some(String::new()));
            return (Some(true), Flow::Next);
        }
        let Some(first) = self.field(&words[0]) else {
            self.refuse(&format!("{} (a command that is computed)", plain(&words[0])));
            return (None, Flow::Next);
        };
        // `"$@"` and `$command` may be several words; an empty one leaves the next to be the command.
        let literal = |text: String| Word { parts: vec![Part::Text(text)], quoted: true };
        let mut all: Vec<Word> = first.into_iter().map(literal).collect();
        all.extend_from_slice(&words[1..]);
        let Some(name) = all.first().and_then(|word| self.text(word)) else {
            return (Some(true), Flow::Next);
        };
        let arguments = &all[1..];
        if matches!(name.as_str(), "echo" | "printf") {
            let text = self.fields(arguments).map(|fields| echo_text(&name, &fields)).unwrap_or_default();
            if redirects.iter().all(|r| !r.writes) {
                self.output(text.as_deref());
            }
            self.redirects(redirects, text);
            return (Some(true), Flow::Next);
        }
        let here = redirects.iter().rev().find_map(|redirect| redirect.here.as_ref());
        let written = match here {
            Some(here) if name == "cat" && arguments.is_empty() => self.text(here),
            _ if name == ":" => Some(String::new()),
            _ => None,
        };
        self.redirects(redirects, written);
        self.command(&name, arguments)
    }

    /// Looks where output goes: to a file is an effect.
    fn redirects(&mut self, redirects: &[Redirect], text: Option<String>) {
        for redirect in redirects.iter().filter(|redirect| redirect.writes) {
            match (self.text(&redirect.target), &text) {
                (Some(path), _) if path.starts_with("/dev/") || path.starts_with("/proc/") => {}
                (Some(path), text) if path.starts_with("/tmp/") => {
                    self.temporaries.insert(path, text.clone());
                }
                (Some(path), Some(text)) if path.starts_with('/') => {
                    if !self.composed.exists(&path) {
                        let text = text.clone();
                        self.done(|c| c.write(&path, &text), "> file");
                    }
                }
                // What a program says that is not run: a log, or a cache that it makes anew.
                (Some(path), None)
                    if path.starts_with("/var/log/")
                        || path.starts_with("/var/cache/")
                        || path.ends_with(".cache") =>
                {
                    self.ignore("cache");
                }
                (path, _) => self.refuse(&format!("> {}", path.unwrap_or_else(|| plain(&redirect.target)))),
            }
        }
    }

    /// Applies something to the tree; what fails is refused.
    pub(super) fn done(
        &mut self,
        apply: impl FnOnce(&mut Composed<'_>) -> Result<(), BuiltinError>,
        what: &str,
    ) {
        if let Err(error) = apply(self.composed) {
            self.refuse(&format!("{what} ({error})"));
        }
    }

    fn command(&mut self, name: &str, arguments: &[Word]) -> (Status, Flow) {
        if let Some(body) = self.functions.get(name).cloned() {
            return self.call(&body, arguments);
        }
        let base = ["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"]
            .iter()
            .find_map(|dir| name.strip_prefix(dir))
            .unwrap_or(name);
        // What makes caches lies in directories of libraries as well.
        let base = base.rsplit('/').next().filter(|last| is_ignored(last)).unwrap_or(base);
        match base {
            "true" | ":" => return (Some(true), Flow::Next),
            "false" => return (Some(false), Flow::Next),
            "exit" => return (self.number(arguments), Flow::Exit),
            "return" => return (self.number(arguments), Flow::Return),
            "break" => return (Some(true), Flow::Break),
            "continue" => return (Some(true), Flow::Continue),
            "[" | "test" => return (self.test(arguments, base), Flow::Next),
            "set" | "shift" | "unset" | "read" | "export" | "local" | "readonly" | "declare" | "typeset" => {
                self.variables_command(base, arguments);
                return (Some(true), Flow::Next);
            }
            "command" | "which" | "type" => return (self.find_command(base, arguments), Flow::Next),
            "exec" | "nohup" | "nice" => {
                return match arguments {
                    [] => (Some(true), Flow::Next),
                    [first, rest @ ..] => match self.text(first) {
                        Some(name) => self.command(&name, rest),
                        None => (None, Flow::Next),
                    },
                };
            }
            "." | "source" => return (self.source(arguments), Flow::Next),
            _ => {}
        }
        let fields = self.fields(arguments);
        (self.program(base, fields.as_deref(), arguments), Flow::Next)
    }

    fn call(&mut self, body: &List, arguments: &[Word]) -> (Status, Flow) {
        if self.calls >= MAX_CALLS {
            return (None, Flow::Next);
        }
        let mut parameters = Vec::new();
        for word in arguments {
            match self.field(word) {
                Some(fields) => parameters.extend(fields.into_iter().map(Some)),
                None => parameters.push(None),
            }
        }
        self.calls += 1;
        let before = std::mem::replace(&mut self.parameters, parameters);
        let (status, flow) = self.list(body);
        self.parameters = before;
        self.calls -= 1;
        (status, if flow == Flow::Exit { Flow::Exit } else { Flow::Next })
    }

    fn number(&mut self, arguments: &[Word]) -> Status {
        match arguments.first() {
            None => Some(true),
            Some(word) => self.text(word).and_then(|text| text.parse::<i32>().ok()).map(|n| n == 0),
        }
    }

    fn variables_command(&mut self, name: &str, arguments: &[Word]) {
        match name {
            "shift" if !self.parameters.is_empty() => {
                self.parameters.remove(0);
            }
            "set" => {
                let fields = self.fields(arguments).unwrap_or_default();
                if let Some(at) = fields.iter().position(|field| field == "--") {
                    self.parameters = fields[at + 1..].iter().cloned().map(Some).collect();
                }
            }
            "read" => {
                for field in self.fields(arguments).unwrap_or_default() {
                    self.variables.insert(field, None);
                }
            }
            "unset" => {
                for field in self.fields(arguments).unwrap_or_default() {
                    self.variables.insert(field, Some(String::new()));
                }
            }
            _ => {
                for word in arguments {
                    let Some(Part::Text(start)) = word.parts.first() else { continue };
                    let Some((name, _)) = start.split_once('=') else { continue };
                    let name = name.to_owned();
                    let value = self
                        .text(word)
                        .map(|text| text.split_once('=').map_or(String::new(), |(_, v)| v.to_owned()));
                    self.variables.insert(name, value);
                }
            }
        }
    }

    /// `command -v x`, `which x`: whether the tree has it. `command x` runs x.
    fn find_command(&mut self, name: &str, arguments: &[Word]) -> Status {
        let fields = self.fields(arguments)?;
        if name == "command" && !fields.first().is_some_and(|f| f == "-v" || f == "-V") {
            let (first, rest) = arguments.split_first()?;
            let name = self.text(first)?;
            return self.command(&name, rest).0;
        }
        let wanted = fields.iter().find(|field| !field.starts_with('-'))?;
        if self.functions.contains_key(wanted) {
            self.output(Some(&format!("{wanted}\n")));
            return Some(true);
        }
        let paths: Vec<String> = match wanted.starts_with('/') {
            true => vec![wanted.clone()],
            false => {
                ["usr/sbin", "usr/bin", "sbin", "bin"].iter().map(|dir| format!("/{dir}/{wanted}")).collect()
            }
        };
        let found = paths.into_iter().find(|path| self.composed.exists(path));
        self.output(Some(&found.as_ref().map(|path| format!("{path}\n")).unwrap_or_default()));
        Some(found.is_some())
    }

    /// `. file`: what a package brings is read too; debconf's library asks questions only.
    fn source(&mut self, arguments: &[Word]) -> Status {
        let file = arguments.first().and_then(|word| self.text(word)).unwrap_or_default();
        if file.starts_with("/usr/share/debconf/") {
            self.ignore("debconf");
            return Some(true);
        }
        let Some(text) = self.composed.text(&file) else {
            // Settings of an administrator, which nobody has made.
            if !file.starts_with('/') || self.composed.exists(&file) {
                self.refuse(&format!(". {file}"));
            }
            return None;
        };
        if self.calls >= MAX_CALLS {
            return None;
        }
        self.calls += 1;
        let status = match parse(&text) {
            Ok(list) => self.list(&list).0,
            Err(error) => {
                self.unknown.insert(format!("reads `{file}`, which cannot be read: {error}"));
                None
            }
        };
        self.calls -= 1;
        status
    }

    /// `[ … ]`, where it can be known.
    fn test(&mut self, arguments: &[Word], name: &str) -> Status {
        let mut parts: Vec<Option<String>> = Vec::new();
        for word in arguments {
            match self.field(word) {
                // An empty expansion is no argument at all.
                Some(fields) => parts.extend(fields.into_iter().map(Some)),
                None => parts.push(None),
            }
        }
        if name == "[" && parts.last().is_some_and(|last| last.as_deref() == Some("]")) {
            parts.pop();
        }
        Test { parts: &parts, at: 0, composed: self.composed }.or()
    }
}

/// Returns the variables of `read a b`, if a loop's condition is that.
fn read_names(condition: &List) -> Option<Vec<String>> {
    let [Node::Simple { words, .. }] = &condition[..] else { return None };
    let words: Vec<String> = words.iter().map(plain).collect();
    let (first, names) = words.split_first()?;
    let names: Vec<String> = names.iter().filter(|name| *name != "-r").cloned().collect();
    (first == "read" && !names.is_empty()).then_some(names)
}

fn echo_text(name: &str, fields: &[String]) -> Option<String> {
    if name == "echo" {
        return match fields.first().map(String::as_str) {
            Some("-n") => Some(fields[1..].join(" ")),
            Some("-e") => None,
            _ => Some(fields.join(" ") + "\n"),
        };
    }
    match fields {
        [only] if !only.contains('%') => Some(only.replace("\\n", "\n")),
        [format, value] if format == "%s\\n" => Some(format!("{value}\n")),
        [format, value] if format == "%s" => Some(value.clone()),
        _ => None,
    }
}

/// Returns a word as it was written, about.
pub(super) fn plain(word: &Word) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Variable { name, .. } => format!("${name}"),
        Part::Command { .. } => "$(…)".to_owned(),
        Part::Unknown => "${…}".to_owned(),
    };
    word.parts.iter().map(part).collect()
}
