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

use crate::aterm::{escape_into, is_plain};
use crate::derivation::{DerivationError, DerivationOutput, ModuloHash, Outputs, fixed_modulo_hash};
use crate::path::{References, StoreDir, StorePath};
use crate::{Hash, HashAlgo, placeholder};

/// What the attributes of a derivation say, quoted and escaped, before there are paths.
#[derive(Debug, Default)]
pub struct Parts {
    pieces: Vec<u8>,
    system: Range<usize>,
    builder: Range<usize>,
    arguments: Range<usize>,
    variables: Vec<Variable>,
}

/// Makes derivations of [`Parts`].
#[derive(Debug, Default)]
pub struct Composer {
    text: Vec<u8>,
    /// What comes behind the inputs.
    rest: Vec<u8>,
    /// Where in the rest a path of an output is missing, and which output it is.
    holes: Vec<(usize, usize)>,
    inputs_by_hash: Vec<(Hash, usize)>,
}

/// `("name","value")`, where it lies in the pieces.
#[derive(Debug)]
struct Variable {
    name: &'static [u8],
    piece: Range<usize>,
}

/// One output of an input derivation.
#[derive(Clone, Copy, Debug)]
pub struct ComposedInput<'a> {
    /// The derivation.
    pub drv: &'a StorePath,
    /// Its modulo hash.
    pub modulo: &'a ModuloHash,
    /// The output's name.
    pub output: &'a str,
}

/// A derivation as a text, with all paths.
#[derive(Debug)]
pub struct Composed<'a> {
    /// The path of the `.drv` file.
    pub path: StorePath,
    /// Its text.
    pub text: &'a [u8],
    /// Names of the outputs, sorted, and what they are.
    pub outputs: Vec<(String, DerivationOutput)>,
    /// What users of this derivation hash in place of it.
    pub modulo: ModuloHash,
    /// What the `.drv` file refers to.
    pub references: References<'a>,
}

impl Parts {
    /// Forgets everything but the memory that it took.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.variables.clear();
        (self.system, self.builder, self.arguments) = (0..0, 0..0, 0..0);
    }

    /// Sets on what kind of machine it runs.
    pub fn set_system(&mut self, system: &[u8]) {
        self.system = self.quoted(system);
    }

    /// Sets the program.
    pub fn set_builder(&mut self, builder: &[u8]) {
        self.builder = self.quoted(builder);
    }

    /// Returns whether there is a system that is not empty.
    #[must_use]
    pub fn has_system(&self) -> bool {
        self.system.len() > 2
    }

    /// Returns whether there is a program.
    #[must_use]
    pub fn has_builder(&self) -> bool {
        self.builder.len() > 2
    }

    /// Adds an argument. All arguments come one after another, nothing between them.
    pub fn push_argument(&mut self, text: &[u8]) {
        if self.arguments.is_empty() {
            self.arguments = self.pieces.len()..self.pieces.len();
        } else {
            self.pieces.push(b',');
        }
        self.quoted(text);
        self.arguments.end = self.pieces.len();
    }

    /// Adds a variable. They come in the order of their names.
    pub fn push_variable(&mut self, name: &'static [u8], value: &[u8]) {
        debug_assert!(self.variables.last().is_none_or(|last| last.name < name), "variables are sorted");
        let start = self.pieces.len();
        self.pieces.push(b'(');
        self.quoted(name);
        self.pieces.push(b',');
        let value = self.quoted(value);
        self.pieces.push(b')');
        match name {
            b"system" => self.system = value,
            b"builder" => self.builder = value,
            _ => {}
        }
        self.variables.push(Variable { name, piece: start..self.pieces.len() });
    }

    /// Writes a string in quotes and says where.
    fn quoted(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.pieces.len();
        self.pieces.push(b'"');
        escape_into(&mut self.pieces, text);
        self.pieces.push(b'"');
        start..self.pieces.len()
    }
}

impl Composer {
    /// Computes paths and text. `inputs` are sorted by path and output, `sources` by path.
    ///
    /// # Errors
    /// [`DerivationError`].
    pub fn finish<'a>(
        &'a mut self,
        dir: &StoreDir,
        name: &str,
        parts: &Parts,
        outputs: &Outputs,
        inputs: &[ComposedInput<'a>],
        sources: &[&'a StorePath],
    ) -> Result<Composed<'a>, DerivationError> {
        let mut outputs = output_slots(dir, name, outputs)?;
        let mut modulo = match outputs.as_slice() {
            [] => return Err(DerivationError::NoOutputs(name.to_owned())),
            [(_, DerivationOutput::Fixed { address, path })] => Some(fixed_modulo_hash(dir, address, path)),
            _ => None,
        };
        let is_deferred = inputs.iter().any(|input| input.modulo.is_deferred)
            || outputs.iter().any(|(_, output)| matches!(output, DerivationOutput::Floating { .. }));
        self.write_rest(dir, parts, &outputs, sources);
        let is_addressed = matches!(outputs[0].1, DerivationOutput::Deferred);
        if modulo.is_none() {
            self.sort_by_hash(inputs);
        }
        if is_addressed && !is_deferred {
            self.write_hashed(dir, &outputs, inputs);
            let masked = Hash::sha256(&self.text);
            for (output, slot) in &mut outputs {
                *slot = DerivationOutput::InputAddressed(dir.output_path(name, output, &masked)?);
            }
        }
        // What users hash: with outputs this time.
        let modulo = *modulo.get_or_insert_with(|| {
            self.write_hashed(dir, &outputs, inputs);
            ModuloHash { hash: Hash::sha256(&self.text), is_deferred }
        });
        self.write_file(dir, &outputs, inputs);
        let drvs = inputs.iter().map(|input| input.drv);
        let references = References::new(drvs.chain(sources.iter().copied()), false);
        let path = dir.text_path_of(&format!("{name}.drv"), &Hash::sha256(&self.text), &references)?;
        Ok(Composed { path, text: &self.text, outputs, modulo, references })
    }

    /// Everything behind the inputs, with holes for the paths of outputs.
    fn write_rest(
        &mut self,
        dir: &StoreDir,
        parts: &Parts,
        outputs: &[(String, DerivationOutput)],
        sources: &[&StorePath],
    ) {
        let text = &mut self.rest;
        text.clear();
        self.holes.clear();
        text.extend_from_slice(b"],[");
        for (index, source) in sources.iter().enumerate() {
            text.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
            push_path(text, dir, source);
            text.push(b'"');
        }
        text.extend_from_slice(b"],");
        push_piece(text, &parts.pieces, &parts.system);
        text.push(b',');
        push_piece(text, &parts.pieces, &parts.builder);
        text.extend_from_slice(b",[");
        text.extend_from_slice(&parts.pieces[parts.arguments.clone()]);
        text.extend_from_slice(b"],[");
        let mut variables = parts.variables.iter().peekable();
        let start = text.len();
        for (index, (name, _)) in outputs.iter().enumerate() {
            while let Some(variable) = variables.next_if(|variable| variable.name < name.as_bytes()) {
                separate(text, start);
                text.extend_from_slice(&parts.pieces[variable.piece.clone()]);
            }
            // A variable that is called as an output gives way to it.
            variables.next_if(|variable| variable.name == name.as_bytes());
            separate(text, start);
            text.extend_from_slice(b"(\"");
            escape_into(text, name.as_bytes());
            text.extend_from_slice(b"\",\"");
            self.holes.push((text.len(), index));
            text.extend_from_slice(b"\")");
        }
        for variable in variables {
            separate(text, start);
            text.extend_from_slice(&parts.pieces[variable.piece.clone()]);
        }
        text.extend_from_slice(b"])");
    }

    fn sort_by_hash(&mut self, inputs: &[ComposedInput<'_>]) {
        let order = &mut self.inputs_by_hash;
        order.clear();
        order.extend(inputs.iter().enumerate().map(|(index, input)| (input.modulo.hash, index)));
        order.sort_unstable_by(|(a, i), (b, j)| {
            a.as_bytes().cmp(b.as_bytes()).then_with(|| inputs[*i].output.cmp(inputs[*j].output))
        });
        // Two derivations may have one hash (fetches that differ in their mirrors only): their
        // outputs are joined.
        order.dedup_by(|(a, i), (b, j)| a == b && inputs[*i].output == inputs[*j].output);
    }

    /// The text with hashes in place of inputs.
    fn write_hashed(
        &mut self,
        dir: &StoreDir,
        outputs: &[(String, DerivationOutput)],
        inputs: &[ComposedInput<'_>],
    ) {
        let mut text = std::mem::take(&mut self.text);
        write_outputs(&mut text, dir, outputs);
        let inputs = self.inputs_by_hash.iter().map(|&(hash, index)| (hash, inputs[index].output));
        push_inputs(&mut text, inputs, |text, hash| hash.base16_bytes(text));
        self.fill(&mut text, dir, outputs);
        self.text = text;
    }

    /// The text of the `.drv` file.
    fn write_file(
        &mut self,
        dir: &StoreDir,
        outputs: &[(String, DerivationOutput)],
        inputs: &[ComposedInput<'_>],
    ) {
        let mut text = std::mem::take(&mut self.text);
        write_outputs(&mut text, dir, outputs);
        let inputs = inputs.iter().map(|input| (input.drv, input.output));
        push_inputs(&mut text, inputs, |text, drv| push_path(text, dir, drv));
        self.fill(&mut text, dir, outputs);
        self.text = text;
    }

    /// Appends what comes behind the inputs, with the paths of outputs.
    fn fill(&self, text: &mut Vec<u8>, dir: &StoreDir, outputs: &[(String, DerivationOutput)]) {
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
    }
}

/// Returns the outputs by name; the paths of input-addressed ones are not known yet.
fn output_slots(
    dir: &StoreDir,
    name: &str,
    outputs: &Outputs,
) -> Result<Vec<(String, DerivationOutput)>, DerivationError> {
    let slots = |names: &[String], output: &dyn Fn() -> DerivationOutput| {
        let mut slots: Vec<_> = names.iter().map(|name| (name.clone(), output())).collect();
        slots.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        slots.dedup_by(|(a, _), (b, _)| a == b);
        slots
    };
    Ok(match outputs {
        Outputs::InputAddressed(names) => slots(names, &|| DerivationOutput::Deferred),
        Outputs::Floating { names, method, algo } => {
            slots(names, &|| DerivationOutput::Floating { method: *method, algo: *algo })
        }
        Outputs::Fixed(address) => {
            let path = dir.fixed_path(name, address)?;
            vec![("out".to_owned(), DerivationOutput::Fixed { address: *address, path })]
        }
    })
}

/// Begins a text: `Derive([("out","…","","")],[`.
fn write_outputs(text: &mut Vec<u8>, dir: &StoreDir, outputs: &[(String, DerivationOutput)]) {
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

fn push_path(text: &mut Vec<u8>, dir: &StoreDir, path: &StorePath) {
    text.extend_from_slice(dir.as_str().as_bytes());
    text.push(b'/');
    text.extend_from_slice(path.as_str().as_bytes());
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

/// A string that was written before, or the empty one.
fn push_piece(text: &mut Vec<u8>, pieces: &[u8], piece: &Range<usize>) {
    text.extend_from_slice(if piece.is_empty() { b"\"\"" } else { &pieces[piece.clone()] });
}

fn separate(text: &mut Vec<u8>, start: usize) {
    if text.len() > start {
        text.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{ContentAddress, DerivationDraft, Method, ModuloHashes};

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
        made: &'a BTreeMap<StorePath, ModuloHash>,
    ) -> Composed<'a> {
        let mut parts = Parts::default();
        parts.set_system(&draft.system);
        parts.set_builder(&draft.builder);
        draft.arguments.iter().for_each(|argument| parts.push_argument(argument));
        for (name, value) in &draft.environment {
            parts.push_variable(name.to_vec().leak(), value);
        }
        let inputs: Vec<_> = draft
            .input_derivations
            .iter()
            .flat_map(|(drv, outputs)| {
                outputs.iter().map(|output| ComposedInput { drv, modulo: &made[drv], output })
            })
            .collect();
        let sources: Vec<_> = draft.input_sources.iter().collect();
        composer.finish(dir, &draft.name, &parts, &draft.outputs, &inputs, &sources).expect("names are right")
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
            let composed = compose(&mut composer, &dir, &draft, &known);
            assert_eq!(bstr::BStr::new(composed.text), bstr::BStr::new(&text));
            assert_eq!((&composed.path, composed.modulo), (&path, modulo));
            assert!(composed.outputs.iter().map(|(name, output)| (name, output)).eq(&expected.outputs));
            let references: BTreeSet<&StorePath> = expected.references().collect();
            assert!(references.into_iter().eq(composed.references.as_slice().iter().copied()));
            all.push((path.clone(), expected.outputs.into_keys().collect(), modulo));
            known.insert(path, modulo);
        }
    }
}
