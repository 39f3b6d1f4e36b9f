//! The text of a `.drv` file.
//!
//! ```text
//! Derive([("out","/nix/store/…-x","","")],[("/nix/store/…-y.drv",["out"])],["/nix/store/…-z"],
//!        "x86_64-linux","/bin/sh",["-c","…"],[("name","x"),("out","/nix/store/…-x")])
//! ```
//!
//! on one line. The reader is strict: it takes exactly what the writer writes. Keys are sorted and
//! come once, only the five escapes are known, raw line breaks, tabs and trailing bytes are
//! refused. So a text that is read has the path that it is found under.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BString, ByteSlice};

use crate::derivation::{Derivation, DerivationError, DerivationOutput, OutputNames};
use crate::path::{check_name, output_name};
use crate::{ContentAddress, Hash, Method, StoreDir, StorePath};

/// What is wrong with a text, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct ATermError {
    /// Counted from 0.
    pub at: usize,
    /// In words.
    pub problem: String,
}

/// What stands for the input derivations.
pub(crate) enum Inputs<'a> {
    /// Their paths: the `.drv` file.
    Paths(&'a BTreeMap<StorePath, OutputNames>),
    /// Their modulo hashes: what output paths are made from.
    Hashes(&'a BTreeMap<String, BTreeSet<&'a str>>),
}

/// Writes a derivation. With `mask_outputs`, output paths are left out wherever they stand.
pub(crate) fn write(
    derivation: &Derivation,
    dir: &StoreDir,
    mask_outputs: bool,
    inputs: &Inputs<'_>,
) -> Vec<u8> {
    let size = derivation.environment.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
    let mut w = Writer { out: Vec::with_capacity(size + size / 16 + 512), dir };
    w.raw(b"Derive([");
    w.list(&derivation.outputs, |w, (name, output)| w.output(name, output, mask_outputs));
    w.raw(b"],[");
    match inputs {
        Inputs::Paths(paths) => w.list(*paths, |w, (path, names)| {
            w.raw(b"(");
            w.path(path);
            w.names(names.iter().map(String::as_str));
        }),
        Inputs::Hashes(hashes) => w.list(*hashes, |w, (hash, names)| {
            w.raw(b"(");
            w.plain(hash);
            w.names(names.iter().copied());
        }),
    }
    w.raw(b"],[");
    w.list(&derivation.input_sources, |w, path| w.path(path));
    w.raw(b"],");
    w.string(&derivation.system);
    w.raw(b",");
    w.string(&derivation.builder);
    w.raw(b",[");
    w.list(&derivation.arguments, |w, argument| w.string(argument));
    w.raw(b"],[");
    w.list(&derivation.environment, |w, (name, value)| w.variable(name, value, mask_outputs, derivation));
    w.raw(b"])");
    w.out
}

struct Writer<'a> {
    out: Vec<u8>,
    dir: &'a StoreDir,
}

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.raw(b",");
            }
            write(self, item);
        }
    }

    /// A string that has nothing to escape.
    fn plain(&mut self, text: &str) {
        self.raw(b"\"");
        self.raw(text.as_bytes());
        self.raw(b"\"");
    }

    fn path(&mut self, path: &StorePath) {
        self.raw(b"\"");
        self.raw(self.dir.as_str().as_bytes());
        self.raw(b"/");
        self.raw(path.as_str().as_bytes());
        self.raw(b"\"");
    }

    fn string(&mut self, text: &[u8]) {
        self.raw(b"\"");
        escape_into(&mut self.out, text);
        self.raw(b"\"");
    }

    /// `,["out","lib"])` after an input derivation.
    fn names<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        self.raw(b",[");
        self.list(names, |w, name| w.plain(name));
        self.raw(b"])");
    }

    fn output(&mut self, name: &str, output: &DerivationOutput, mask: bool) {
        self.raw(b"(");
        self.plain(name);
        self.raw(b",");
        match output.path() {
            Some(path) if !mask => self.path(path),
            _ => self.plain(""),
        }
        let (method_algo, hash) = match output {
            DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => {
                (String::new(), String::new())
            }
            DerivationOutput::Fixed { address, .. } => (address.method_algo(), address.hash.to_base16()),
            DerivationOutput::Floating { method, algo } => {
                (format!("{}{algo}", method.prefix()), String::new())
            }
        };
        self.raw(b",");
        self.plain(&method_algo);
        self.raw(b",");
        self.plain(&hash);
        self.raw(b")");
    }

    fn variable(&mut self, name: &[u8], value: &[u8], mask: bool, derivation: &Derivation) {
        self.raw(b"(");
        self.string(name);
        self.raw(b",");
        let is_output = || name.to_str().is_ok_and(|name| derivation.outputs.contains_key(name));
        self.string(if mask && is_output() { b"" } else { value });
        self.raw(b")");
    }
}

/// Appends what stands between quotes for `text`.
pub(crate) fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    for chunk in text.chunks(64) {
        if is_plain(chunk) {
            out.extend_from_slice(chunk);
            continue;
        }
        let mut from = 0;
        for (at, byte) in chunk.iter().enumerate() {
            if let Some(escape) = escape_of(*byte) {
                out.extend_from_slice(&chunk[from..at]);
                out.extend_from_slice(&[b'\\', escape]);
                from = at + 1;
            }
        }
        out.extend_from_slice(&chunk[from..]);
    }
}

/// Whether nothing in it must be escaped. Most texts are short: eight bytes are looked at as one number, and the
/// last eight may overlap those before.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    const WORD: usize = 8;
    if let Some(last) = text.last_chunk::<WORD>() {
        let (words, _) = text.as_chunks::<WORD>();
        let marks = words.iter().fold(special_marks(*last), |marks, word| marks | special_marks(*word));
        return marks == 0;
    }
    let mut word = [0; WORD];
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        word[..4].copy_from_slice(first);
        word[4..].copy_from_slice(last);
    } else if let (Some(&first), Some(&last)) = (text.first(), text.last()) {
        word[..3].copy_from_slice(&[first, text[text.len() / 2], last]);
    }
    special_marks(word) == 0
}

/// Not zero if one of the bytes must be escaped.
fn special_marks(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(word);
    // A byte is zero somewhere if and only if subtracting one from each sets a highest bit that was not set.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let has = |byte: u8| zeros(word ^ (ONES * u64::from(byte)));
    // A tab and a carriage return differ in one bit.
    let tab_or_return = zeros((word | (ONES * 4)) ^ (ONES * u64::from(b'\r')));
    (has(b'"') | has(b'\\') | has(b'\n') | tab_or_return) & (ONES << 7)
}

fn escape_of(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        _ => None,
    }
}

/// Reads the text of the derivation called `name`.
pub(crate) fn read(dir: &StoreDir, name: &str, text: &[u8]) -> Result<Derivation, DerivationError> {
    Reader { text, at: 0, dir }
        .derivation(name)
        .map_err(|error| DerivationError::Text { name: name.to_owned(), error })
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    dir: &'a StoreDir,
}

type Read<T> = Result<T, ATermError>;

/// What follows the path of nearly every input.
const OUT_ALONE: &[u8] = br#",["out"])"#;

impl Reader<'_> {
    fn derivation(mut self, name: &str) -> Read<Derivation> {
        if self.text.starts_with(b"DrvWithVersion(") {
            return self.fail("dynamic derivations are an experimental feature of Nix and not known here");
        }
        self.expect("Derive([")?;
        let mut outputs = BTreeMap::new();
        self.sorted_list(|r| r.output(name), |output, value| outputs.insert(output, value).is_none())?;
        self.expect(",[")?;
        let mut input_derivations = BTreeMap::new();
        self.sorted_list(Self::input, |path, names| input_derivations.insert(path, names).is_none())?;
        self.expect(",[")?;
        let mut input_sources = BTreeSet::new();
        self.sorted_list(|r| Ok((r.path()?, ())), |path, ()| input_sources.insert(path))?;
        self.expect(",")?;
        let system = self.string()?;
        self.expect(",")?;
        let builder = self.string()?;
        self.expect(",[")?;
        let mut arguments = Vec::new();
        self.list(|r| {
            arguments.push(r.string()?);
            Ok(())
        })?;
        self.expect(",[")?;
        let mut environment = BTreeMap::new();
        self.sorted_list(Self::variable, |name, value| environment.insert(name, value).is_none())?;
        self.expect(")")?;
        if self.at != self.text.len() {
            return self.fail("bytes after the end");
        }
        let name = name.to_owned();
        Ok(Derivation {
            name,
            outputs,
            input_derivations,
            input_sources,
            system,
            builder,
            arguments,
            environment,
        })
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Read<T> {
        Err(ATermError { at: self.at, problem: problem.into() })
    }

    fn expect(&mut self, token: &str) -> Read<()> {
        if !self.text[self.at..].starts_with(token.as_bytes()) {
            return self.fail(format!("expected string '{token}'"));
        }
        self.at += token.len();
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The items of a list whose bracket is open already, and the closing bracket.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected ',' or ']'"),
            }
        }
    }

    /// A list whose keys grow from item to item.
    fn sorted_list<K: Ord + Clone, V>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Read<(K, V)>,
        mut keep: impl FnMut(K, V) -> bool,
    ) -> Read<()> {
        let mut last: Option<K> = None;
        self.list(|r| {
            let from = r.at;
            let (key, value) = item(r)?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(ATermError { at: from, problem: "duplicate or unsorted entry".to_owned() });
            }
            last = Some(key.clone());
            keep(key, value);
            Ok(())
        })
    }

    fn string(&mut self) -> Read<BString> {
        self.expect("\"")?;
        let mut out = Vec::new();
        let mut from = self.at;
        loop {
            match self.peek() {
                None => return self.fail("string without an end"),
                Some(b'"') => {
                    out.extend_from_slice(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => {
                    out.extend_from_slice(&self.text[from..self.at]);
                    self.at += 1;
                    out.push(self.escaped()?);
                    from = self.at;
                }
                Some(b'\n' | b'\r' | b'\t') => return self.fail("character that must be escaped"),
                Some(0) => return self.fail("zero byte"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escaped(&mut self) -> Read<u8> {
        let byte = match self.peek() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(byte @ (b'"' | b'\\')) => byte,
            _ => return self.fail("unknown escape"),
        };
        self.at += 1;
        Ok(byte)
    }

    fn text(&mut self) -> Read<String> {
        let at = self.at;
        let bytes = self.string()?;
        String::from_utf8(bytes.into()).map_err(|_| ATermError { at, problem: "not UTF-8".to_owned() })
    }

    /// Runs a parser of ours on a string, and says where that string begins if it fails.
    fn parsed<T, E: std::fmt::Display>(&mut self, parse: impl FnOnce(&str) -> Result<T, E>) -> Read<T> {
        let at = self.at;
        let text = self.text()?;
        parse(&text).map_err(|error| ATermError { at, problem: error.to_string() })
    }

    fn path(&mut self) -> Read<StorePath> {
        let dir = self.dir;
        self.parsed(|text| dir.parse(text))
    }

    fn input(&mut self) -> Read<(StorePath, OutputNames)> {
        self.expect("(")?;
        let at = self.at;
        let path = self.path()?;
        if !path.is_derivation() {
            return Err(ATermError { at, problem: format!("input '{path}' is not a derivation") });
        }
        if self.text[self.at..].starts_with(OUT_ALONE) {
            self.at += OUT_ALONE.len();
            return Ok((path, OutputNames::out()));
        }
        self.expect(",[")?;
        let mut names = BTreeSet::new();
        self.sorted_list(|r| Ok((r.output_name()?, ())), |name, ()| names.insert(name))?;
        self.expect(")")?;
        Ok((path, names.into()))
    }

    fn output_name(&mut self) -> Read<String> {
        self.parsed(|name| check_name(name).map(|()| name.to_owned()))
    }

    fn variable(&mut self) -> Read<(BString, BString)> {
        self.expect("(")?;
        let name = self.string()?;
        self.expect(",")?;
        let value = self.string()?;
        self.expect(")")?;
        Ok((name, value))
    }

    fn output(&mut self, derivation: &str) -> Read<(String, DerivationOutput)> {
        let at = self.at;
        self.expect("(")?;
        let name = self.output_name()?;
        self.expect(",")?;
        let path = match self.text_or_path()? {
            text if text.is_empty() => None,
            text => Some(self.dir.parse(&text).map_err(|e| ATermError { at, problem: e.to_string() })?),
        };
        self.expect(",")?;
        let method_algo = self.text()?;
        self.expect(",")?;
        let digits = self.text()?;
        self.expect(")")?;
        let output = make_output(self.dir, derivation, &name, path, &method_algo, &digits);
        Ok((name, output.map_err(|problem| ATermError { at, problem })?))
    }

    fn text_or_path(&mut self) -> Read<String> {
        self.text()
    }
}

fn make_output(
    dir: &StoreDir,
    derivation: &str,
    name: &str,
    path: Option<StorePath>,
    method_algo: &str,
    digits: &str,
) -> Result<DerivationOutput, String> {
    if method_algo.is_empty() {
        return match (path, digits) {
            (Some(path), "") => Ok(DerivationOutput::InputAddressed(path)),
            (None, "") => Ok(DerivationOutput::Deferred),
            _ => Err(format!("output '{name}' has a hash and no algorithm")),
        };
    }
    if digits == "impure" {
        return Err("impure derivations are an experimental feature of Nix and not known here".to_owned());
    }
    let (method, algo) = Method::parse_with_algo(method_algo).map_err(|e| e.to_string())?;
    let path = match (path, digits) {
        (None, "") => return Ok(DerivationOutput::Floating { method, algo }),
        (Some(path), digits) if !digits.is_empty() => path,
        _ => return Err(format!("output '{name}' has a path or a hash, and not both")),
    };
    let hash = Hash::parse_bare(digits, algo).map_err(|e| e.to_string())?;
    if hash.to_base16() != digits {
        return Err(format!("hash '{digits}' is not in lower-case base 16"));
    }
    let address = ContentAddress { method, hash };
    let expected = dir.fixed_path(&output_name(derivation, name), &address).map_err(|e| e.to_string())?;
    if expected != path {
        let (expected, found) = (dir.print(&expected), dir.print(&path));
        return Err(format!("incorrect output '{name}', should be '{expected}', is '{found}'"));
    }
    Ok(DerivationOutput::Fixed { address, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_escaped_is_found_wherever_it_stands() {
        for len in 0..40 {
            let mut text = vec![0; len];
            for byte in 0..=255 {
                text.fill(byte);
                assert_eq!(is_plain(&text), len == 0 || escape_of(byte).is_none(), "{byte} x {len}");
                for at in 0..len {
                    text.fill(b'x');
                    text[at] = byte;
                    assert_eq!(is_plain(&text), escape_of(byte).is_none(), "{byte} at {at} of {len}");
                }
            }
        }
    }
}
