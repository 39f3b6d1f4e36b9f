//! Composing derivations one after another, as the evaluator does.
//!
//! Paths are made from the hashes of three texts that are nearly the same: with masked outputs and
//! the hashes of inputs (output paths), as it is (the `.drv` file's path), and with the hashes of
//! inputs alone (what users of it hash). [`Composer`] writes what they share once, in a buffer that
//! it keeps, and fills in the rest. Nothing but [`Parts`] is needed while attributes are being
//! forced, which may make other derivations:
//!
//! ```text
//! Derive([("out","⟨path⟩","","")],[⟨inputs⟩],["/nix/store/…-src"],"x86_64-linux","/bin/sh",[…],[…,("out","⟨path⟩"),…])
//! ```
//!
//! It gives what [`DerivationDraft`](crate::DerivationDraft) gives, without making a
//! [`Derivation`](crate::Derivation): a test compares them.

use std::ops::Range;
use std::sync::Arc;

use crate::aterm::{escape_into, is_plain};
use crate::derivation::{DerivationError, DerivationOutput, ModuloHash, fixed_modulo_hash};
use crate::hash::base16_digits_of;
use crate::path::{PathRef, References, StoreDir, StorePath};
use crate::{ContentAddress, Hash, HashAlgo, Method, placeholder};

/// What the attributes of a derivation say, quoted and escaped, before there are paths.
///
/// A text is written by whoever has it, to where it stays: [`Parts::begin_variable`], any number of
/// writes to [`Parts::text`], [`Parts::end_variable`].
#[derive(Debug, Default)]
pub struct Parts {
    /// `("name","value"),` for each variable, and at the end what is being written.
    text: Vec<u8>,
    /// Where the text that is being written begins.
    begun: usize,
    variables: Vec<Variable>,
    /// Arguments, with what is not a variable and stands alone.
    others: Vec<u8>,
    arguments: Range<usize>,
    system: Piece,
    builder: Piece,
    scratch: Vec<u8>,
}

/// Makes derivations of [`Parts`].
#[derive(Debug, Default)]
pub struct Composer {
    text: Vec<u8>,
    /// What comes behind the inputs.
    rest: Vec<u8>,
    /// Where in the rest a path of an output is missing, and which output it is.
    holes: Vec<(usize, usize)>,
    /// The rest, with the paths of outputs.
    filled: Vec<u8>,
    /// Numbers of inputs, sorted by their hashes.
    by_hash: Vec<u32>,
    /// The inputs with their hashes, as two of the texts have them.
    hashed_inputs: Vec<u8>,
    /// What the hash of a path is taken of.
    fingerprint: Vec<u8>,
    /// The name of the `.drv` file.
    file_name: String,
}

/// `("name","value"),`: ends in the texts where the next begins.
#[derive(Debug)]
struct Variable {
    name: &'static [u8],
    start: usize,
}

/// A string in quotes that stands in two places of a derivation.
#[derive(Debug, Default)]
enum Piece {
    #[default]
    Nothing,
    Variable(Range<usize>),
    Other(Range<usize>),
}

/// One output of an input derivation.
#[derive(Clone, Copy, Debug)]
pub struct ComposedInput<'a> {
    /// The derivation.
    pub drv: PathRef<'a>,
    /// Its modulo hash, a SHA-256.
    pub modulo: &'a [u8; 32],
    /// Whether paths made from that are not known before something is built.
    pub is_deferred: bool,
    /// The output's name.
    pub output: &'a str,
}

/// What a derivation makes.
#[derive(Clone, Copy, Debug)]
pub enum ComposedOutputs<'a> {
    /// Paths that follow from the inputs, by name, in any order.
    InputAddressed(&'a [Arc<str>]),
    /// Paths that follow from what is built, by name, in any order.
    Floating(&'a [Arc<str>], Method, HashAlgo),
    /// `out`, whose contents are known.
    Fixed(ContentAddress),
}

/// A derivation as a text, with all paths.
#[derive(Debug)]
pub struct Composed<'a, 'n> {
    /// The path of the `.drv` file.
    pub path: StorePath,
    /// Its text.
    pub text: &'a [u8],
    /// Names of the outputs, sorted, and what they are.
    pub outputs: Vec<(&'n str, DerivationOutput)>,
    /// What users of this derivation hash in place of it.
    pub modulo: ModuloHash,
    /// What the `.drv` file refers to.
    pub references: References<'a>,
}

impl Parts {
    /// Forgets everything but the memory that it took.
    pub fn clear(&mut self) {
        self.text.clear();
        self.others.clear();
        self.variables.clear();
        self.arguments = 0..0;
        (self.system, self.builder) = (Piece::Nothing, Piece::Nothing);
    }

    /// Returns where the text that was begun last is written to, at the end.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Returns what was written since the text was begun.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.text[self.begun..]
    }

    /// Sets on what kind of machine it runs.
    pub fn set_system(&mut self, system: &[u8]) {
        self.system = Piece::Other(self.other(system));
    }

    /// Sets the program.
    pub fn set_builder(&mut self, builder: &[u8]) {
        self.builder = Piece::Other(self.other(builder));
    }

    /// Returns whether there is a system that is not empty.
    #[must_use]
    pub fn has_system(&self) -> bool {
        self.piece(&self.system).len() > 2
    }

    /// Returns whether there is a program.
    #[must_use]
    pub fn has_builder(&self) -> bool {
        self.piece(&self.builder).len() > 2
    }

    /// Begins an argument.
    pub fn begin_argument(&mut self) {
        self.begun = self.text.len();
    }

    /// Ends an argument. All arguments come one after another, nothing between them but variables.
    pub fn end_argument(&mut self) {
        if self.arguments.is_empty() {
            self.arguments = self.others.len()..self.others.len();
        } else {
            self.others.push(b',');
        }
        self.others.push(b'"');
        escape_into(&mut self.others, &self.text[self.begun..]);
        self.others.push(b'"');
        self.arguments.end = self.others.len();
        self.text.truncate(self.begun);
    }

    /// Begins a variable. They come in the order of their names.
    pub fn begin_variable(&mut self, name: &'static [u8]) {
        debug_assert!(self.variables.last().is_none_or(|last| last.name < name), "variables are sorted");
        self.variables.push(Variable { name, start: self.text.len() });
        self.text.extend_from_slice(b"(\"");
        escape_into(&mut self.text, name);
        self.text.extend_from_slice(b"\",\"");
        self.begun = self.text.len();
    }

    /// Ends a variable.
    pub fn end_variable(&mut self) {
        let start = self.begun;
        if !is_plain(&self.text[start..]) {
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.text[start..]);
            self.text.truncate(start);
            escape_into(&mut self.text, &self.scratch);
        }
        self.text.extend_from_slice(b"\"),");
        let value = start - 1..self.text.len() - 2;
        match self.variables.last().expect("a variable was begun").name {
            b"system" => self.system = Piece::Variable(value),
            b"builder" => self.builder = Piece::Variable(value),
            _ => {}
        }
    }

    /// Writes a string in quotes that is no variable, and says where.
    fn other(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.others.len();
        self.others.push(b'"');
        escape_into(&mut self.others, text);
        self.others.push(b'"');
        start..self.others.len()
    }

    /// A string that was written before, or the empty one.
    fn piece(&self, piece: &Piece) -> &[u8] {
        match piece {
            Piece::Nothing => b"\"\"",
            Piece::Variable(range) => &self.text[range.clone()],
            Piece::Other(range) => &self.others[range.clone()],
        }
    }

    /// Returns where a variable begins; of the one that is not there, where they end.
    fn start_of(&self, variable: usize) -> usize {
        self.variables.get(variable).map_or(self.text.len(), |variable| variable.start)
    }
}

impl Composer {
    /// Computes paths and text. `inputs` are sorted by path and output, `sources` by path.
    ///
    /// # Errors
    /// [`DerivationError`].
    pub fn finish<'a, 'n>(
        &'a mut self,
        dir: &StoreDir,
        name: &str,
        parts: &Parts,
        outputs: ComposedOutputs<'n>,
        inputs: &[ComposedInput<'a>],
        sources: &[PathRef<'a>],
    ) -> Result<Composed<'a, 'n>, DerivationError> {
        let mut outputs = output_slots(dir, name, outputs)?;
        let mut modulo = match outputs.as_slice() {
            [] => return Err(DerivationError::NoOutputs(name.to_owned())),
            [(_, DerivationOutput::Fixed { address, path })] => Some(fixed_modulo_hash(dir, address, path)),
            _ => None,
        };
        let is_deferred = inputs.iter().any(|input| input.is_deferred)
            || outputs.iter().any(|(_, output)| matches!(output, DerivationOutput::Floating { .. }));
        self.write_rest(dir, parts, &outputs, sources);
        let is_addressed = matches!(outputs[0].1, DerivationOutput::Deferred);
        if modulo.is_none() {
            self.write_hashed_inputs(inputs);
        }
        if is_addressed && !is_deferred {
            // Outputs have no paths yet: nothing is filled in.
            write_outputs(&mut self.text, dir, &outputs);
            self.text.extend_from_slice(&self.hashed_inputs);
            self.text.extend_from_slice(&self.rest);
            let masked = Hash::sha256(&self.text);
            for (output, slot) in &mut outputs {
                let path = dir.output_path_in(name, output, &masked, &mut self.fingerprint)?;
                *slot = DerivationOutput::InputAddressed(path);
            }
        }
        // What users hash: with outputs this time. The `.drv` file differs from it in the inputs only.
        let head = self.write_head(dir, &outputs);
        let modulo = *modulo.get_or_insert_with(|| {
            self.text.extend_from_slice(&self.hashed_inputs);
            self.text.extend_from_slice(&self.filled);
            ModuloHash { hash: Hash::sha256(&self.text), is_deferred }
        });
        self.text.truncate(head);
        let drvs = inputs.iter().map(|input| (input.drv, input.output));
        push_inputs(&mut self.text, drvs, |text, drv| push_path(text, dir, drv));
        self.text.extend_from_slice(&self.filled);
        let references = References::of_sorted(inputs.iter().map(|input| input.drv), sources);
        self.file_name.clear();
        self.file_name.extend([name, ".drv"]);
        let hash = Hash::sha256(&self.text);
        let path = dir.text_path_of(&self.file_name, &hash, &references, &mut self.fingerprint)?;
        Ok(Composed { path, text: &self.text, outputs, modulo, references })
    }

    /// Everything behind the inputs, with holes for the paths of outputs.
    fn write_rest(
        &mut self,
        dir: &StoreDir,
        parts: &Parts,
        outputs: &[(&str, DerivationOutput)],
        sources: &[PathRef<'_>],
    ) {
        let text = &mut self.rest;
        text.clear();
        self.holes.clear();
        text.extend_from_slice(b"],[");
        for (index, source) in sources.iter().enumerate() {
            text.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
            push_path(text, dir, *source);
            text.push(b'"');
        }
        text.extend_from_slice(b"],");
        text.extend_from_slice(parts.piece(&parts.system));
        text.push(b',');
        text.extend_from_slice(parts.piece(&parts.builder));
        text.extend_from_slice(b",[");
        text.extend_from_slice(&parts.others[parts.arguments.clone()]);
        text.extend_from_slice(b"],[");
        // Variables that stand together are copied together.
        let mut from = 0;
        for (index, (name, _)) in outputs.iter().enumerate() {
            let rest = &parts.variables[from..];
            let before = from + rest.partition_point(|variable| variable.name < name.as_bytes());
            text.extend_from_slice(&parts.text[parts.start_of(from)..parts.start_of(before)]);
            // A variable that is called as an output gives way to it.
            let is_output = parts.variables.get(before).is_some_and(|it| it.name == name.as_bytes());
            from = before + usize::from(is_output);
            text.extend_from_slice(b"(");
            push_name(text, name);
            text.extend_from_slice(b",\"");
            self.holes.push((text.len(), index));
            text.extend_from_slice(b"\"),");
        }
        text.extend_from_slice(&parts.text[parts.start_of(from)..]);
        // There is one output at least: the last comma is one too many.
        text.pop();
        text.extend_from_slice(b"])");
    }

    /// The inputs in the order of their hashes.
    fn write_hashed_inputs(&mut self, inputs: &[ComposedInput<'_>]) {
        let key = |&index: &u32| {
            let input = &inputs[index as usize];
            (input.modulo, input.output)
        };
        // Nearly always the first bytes decide.
        let first = |&index: &u32| {
            let bytes = inputs[index as usize].modulo.first_chunk().expect("there are 32");
            u128::from_be_bytes(*bytes)
        };
        self.by_hash.clear();
        self.by_hash.extend(0..inputs.len() as u32);
        self.by_hash.sort_unstable_by(|a, b| first(a).cmp(&first(b)).then_with(|| key(a).cmp(&key(b))));
        // Two derivations may have one hash (fetches that differ in their mirrors only): their
        // outputs are joined.
        self.by_hash.dedup_by(|a, b| key(a) == key(b));
        self.hashed_inputs.clear();
        push_inputs(&mut self.hashed_inputs, self.by_hash.iter().map(key), |text, modulo| {
            let mut digits = [0; 64];
            base16_digits_of(modulo, &mut digits);
            text.extend_from_slice(&digits);
        });
    }

    /// Begins the text, and fills in what comes behind the inputs. Returns how long the text is.
    fn write_head(&mut self, dir: &StoreDir, outputs: &[(&str, DerivationOutput)]) -> usize {
        write_outputs(&mut self.text, dir, outputs);
        let text = &mut self.filled;
        text.clear();
        let mut from = 0;
        for &(hole, index) in &self.holes {
            text.extend_from_slice(&self.rest[from..hole]);
            from = hole;
            match &outputs[index] {
                (name, DerivationOutput::Floating { .. }) => {
                    text.extend_from_slice(placeholder(name).as_bytes());
                }
                (_, output) => output.path().into_iter().for_each(|path| push_path(text, dir, path)),
            }
        }
        text.extend_from_slice(&self.rest[from..]);
        self.text.len()
    }
}

/// Returns the outputs by name; the paths of input-addressed ones are not known yet.
fn output_slots<'a>(
    dir: &StoreDir,
    name: &str,
    outputs: ComposedOutputs<'a>,
) -> Result<Vec<(&'a str, DerivationOutput)>, DerivationError> {
    let slots = |names: &'a [Arc<str>], output: DerivationOutput| {
        let mut slots: Vec<_> = names.iter().map(|name| (&**name, output.clone())).collect();
        slots.sort_unstable_by_key(|(name, _)| *name);
        slots.dedup_by_key(|(name, _)| *name);
        slots
    };
    Ok(match outputs {
        ComposedOutputs::InputAddressed(names) => slots(names, DerivationOutput::Deferred),
        ComposedOutputs::Floating(names, method, algo) => {
            slots(names, DerivationOutput::Floating { method, algo })
        }
        ComposedOutputs::Fixed(address) => {
            let path = dir.fixed_path(name, &address)?;
            vec![("out", DerivationOutput::Fixed { address, path })]
        }
    })
}

/// Begins a text: `Derive([("out","…","","")],[`.
fn write_outputs(text: &mut Vec<u8>, dir: &StoreDir, outputs: &[(&str, DerivationOutput)]) {
    text.clear();
    text.extend_from_slice(b"Derive([");
    for (index, (name, output)) in outputs.iter().enumerate() {
        text.extend_from_slice(if index > 0 { b",(" } else { b"(" });
        push_name(text, name);
        text.extend_from_slice(b",\"");
        output.path().into_iter().for_each(|path| push_path(text, dir, path));
        text.extend_from_slice(b"\",\"");
        match output {
            DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => {
                text.extend_from_slice(b"\",\"\")");
                continue;
            }
            DerivationOutput::Fixed { address, .. } => {
                text.extend_from_slice(address.method_algo().as_bytes());
                text.extend_from_slice(b"\",\"");
                address.hash.base16_bytes(text);
            }
            DerivationOutput::Floating { method, algo } => {
                text.extend_from_slice(method.prefix().as_bytes());
                text.extend_from_slice(HashAlgo::name(*algo).as_bytes());
                text.extend_from_slice(b"\",\"");
            }
        }
        text.extend_from_slice(b"\")");
    }
    text.extend_from_slice(b"],[");
}

fn push_path<'p>(text: &mut Vec<u8>, dir: &StoreDir, path: impl Into<PathRef<'p>>) {
    text.extend_from_slice(dir.as_str().as_bytes());
    text.push(b'/');
    text.extend_from_slice(path.into().as_str().as_bytes());
}

/// Writes `(KEY,["name","name"]),…`: neighbours of one key together.
fn push_inputs<'n, K: Copy + PartialEq>(
    text: &mut Vec<u8>,
    inputs: impl Iterator<Item = (K, &'n str)>,
    push_key: impl Fn(&mut Vec<u8>, K),
) {
    let mut last = None;
    for (key, name) in inputs {
        if last == Some(key) {
            text.push(b',');
        } else {
            text.extend_from_slice(if last.is_some() { b"]),(\"" } else { b"(\"" });
            push_key(text, key);
            text.extend_from_slice(b"\",[");
        }
        last = Some(key);
        push_name(text, name);
    }
    if last.is_some() {
        text.extend_from_slice(b"])");
    }
}

/// An output's name, which is also the name of a store object: it has nothing to escape.
fn push_name(text: &mut Vec<u8>, name: &str) {
    debug_assert!(is_plain(name.as_bytes()));
    text.push(b'"');
    text.extend_from_slice(name.as_bytes());
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{DerivationDraft, ModuloHashes, Outputs};

    /// Numbers that look random and are always the same.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        fn text(&mut self) -> String {
            (0..self.below(90))
                .map(|_| ['a', '"', '\\', '\n', '\r', '\t', 'é', '-'][self.below(8) as usize])
                .collect()
        }

        fn outputs(&mut self) -> Outputs {
            let names = [&["out"][..], &["out", "dev"], &["lib", "a", "out"]][self.below(3) as usize];
            let names = names.iter().map(|&name| name.to_owned()).collect();
            match self.below(5) {
                0 => Outputs::Fixed(ContentAddress {
                    method: Method::Nar,
                    hash: Hash::of(HashAlgo::Sha1, b"x"),
                }),
                1 => Outputs::Fixed(ContentAddress {
                    method: Method::Flat,
                    hash: Hash::sha256(&[self.below(3) as u8]),
                }),
                2 => Outputs::Floating { names, method: Method::Nar, algo: HashAlgo::Sha256 },
                _ => Outputs::InputAddressed(names),
            }
        }
    }

    /// A derivation that is there: its path, the names of its outputs, its modulo hash.
    type Made = (StorePath, Vec<String>, ModuloHash);

    fn draft(dice: &mut Dice, number: usize, made: &[Made]) -> DerivationDraft {
        let mut draft = DerivationDraft::new(format!("d{number}"), dice.outputs());
        draft.system = "builtin".into();
        draft.builder = dice.text().into();
        draft.arguments = (0..dice.below(4)).map(|_| dice.text().into()).collect();
        for name in ["builder", "dev", "out", "zeta", "x\"y", "A"] {
            if dice.below(2) == 0 {
                draft.environment.insert(name.into(), dice.text().into());
            }
        }
        if draft.environment.contains_key(bstr::BStr::new("builder")) {
            draft.environment.insert("builder".into(), draft.builder.clone());
        }
        for _ in 0..dice.below(4).min(made.len() as u64) {
            let (path, outputs, _) = &made[dice.below(made.len() as u64) as usize];
            let output = outputs[dice.below(outputs.len() as u64) as usize].clone();
            draft.input_derivations.entry(path.clone()).or_default().insert(output);
            draft.input_sources.insert(made[dice.below(made.len() as u64) as usize].0.clone());
        }
        draft
    }

    fn compose<'a>(
        composer: &'a mut Composer,
        dir: &StoreDir,
        draft: &'a DerivationDraft,
        names: &'a [Arc<str>],
        made: &'a BTreeMap<StorePath, ModuloHash>,
    ) -> Composed<'a, 'a> {
        let outputs = match &draft.outputs {
            Outputs::InputAddressed(_) => ComposedOutputs::InputAddressed(names),
            Outputs::Floating { method, algo, .. } => ComposedOutputs::Floating(names, *method, *algo),
            Outputs::Fixed(address) => ComposedOutputs::Fixed(*address),
        };
        let mut parts = Parts::default();
        parts.set_system(&draft.system);
        parts.set_builder(&draft.builder);
        for argument in &draft.arguments {
            parts.begin_argument();
            parts.text().extend_from_slice(argument);
            parts.end_argument();
        }
        for (name, value) in &draft.environment {
            parts.begin_variable(name.to_vec().leak());
            parts.text().extend_from_slice(value);
            assert_eq!(parts.written(), value.as_slice());
            parts.end_variable();
        }
        let inputs: Vec<_> = draft
            .input_derivations
            .iter()
            .flat_map(|(drv, outputs)| {
                outputs.iter().map(|output| ComposedInput {
                    drv: drv.into(),
                    modulo: made[drv].hash.as_bytes().try_into().expect("a SHA-256"),
                    is_deferred: made[drv].is_deferred,
                    output,
                })
            })
            .collect();
        let sources: Vec<PathRef> = draft.input_sources.iter().map(PathRef::from).collect();
        composer.finish(dir, &draft.name, &parts, outputs, &inputs, &sources).expect("names are right")
    }

    #[test]
    fn composing_gives_what_a_draft_gives() {
        let (dir, hashes, mut dice) = (StoreDir::default(), ModuloHashes::default(), Dice(1));
        let (mut composer, mut all, mut known) = (Composer::default(), Vec::<Made>::new(), BTreeMap::new());
        for number in 0..400 {
            let draft = draft(&mut dice, number, &all);
            let expected = draft.clone().finish(&dir, &hashes).expect("names are right");
            let (path, text) = expected.to_text_object(&dir).expect("the name is right");
            let modulo = expected.remember(&path, &dir, &hashes).expect("inputs are known");
            let names: Vec<Arc<str>> = match &draft.outputs {
                Outputs::InputAddressed(names) | Outputs::Floating { names, .. } => {
                    names.iter().map(|name| name.as_str().into()).collect()
                }
                Outputs::Fixed(_) => Vec::new(),
            };
            let composed = compose(&mut composer, &dir, &draft, &names, &known);
            assert_eq!(bstr::BStr::new(composed.text), bstr::BStr::new(&text));
            assert_eq!((&composed.path, composed.modulo), (&path, modulo));
            let outputs = composed.outputs.iter().map(|(name, output)| (*name, output));
            assert!(outputs.eq(expected.outputs.iter().map(|(name, output)| (name.as_str(), output))));
            let references: BTreeSet<PathRef> = expected.references().map(PathRef::from).collect();
            assert!(references.into_iter().eq(composed.references.as_slice().iter().copied()));
            all.push((path.clone(), expected.outputs.into_keys().collect(), modulo));
            known.insert(path, modulo);
        }
    }
}
