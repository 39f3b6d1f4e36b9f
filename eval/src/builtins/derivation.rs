//! Derivations: from attributes to a `.drv` file, bit for bit as Nix writes it.
//!
//! `derivation` is a function of the language over `derivationStrict`, so that outputs are sets that refer to
//! each other lazily. `derivationStrict` turns every attribute into a variable of the builder (or all of
//! them into JSON, with `__structuredAttrs`), gathers what the strings depend on, and computes the paths.
//!
//! Source: the Nix manual, "Derivations", "Advanced attributes", "Structured attributes"; what it leaves
//! open was asked of Nix 2.34 itself by the oracle tests.

use std::collections::BTreeSet;

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};
use ampoule_store::{
    ComposedInput, ContentAddress, DerivationOutput, Hash, HashAlgo, Method, Outputs, StorePath, check_name,
    placeholder,
};

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::coerce::Coercion;
use crate::context::{ContextElem, ContextId};
use crate::derivations::{KnownDerivation, Workspace};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{AttrsBuilder, Value};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "derivation",
        params: &[],
        doc: "Describes a build: `name`, `system`, `builder`, `args`, `outputs`, and an environment variable for each other \
              attribute. Returns a set with the attributes given, `outPath`, `drvPath`, and a set for each output. Nothing is \
              computed before a path is asked for. O(size of the attributes).",
        examples: &[
            (
                "(derivation { name = \"x\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; }).type",
                Shows("\"derivation\""),
            ),
            ("(derivation { name = throw \"no\"; outputs = [ \"a\" \"b\" ]; }).b.outputName", Shows("\"b\"")),
            ("(derivation { name = \"x\"; }).outPath", Fails("required attribute 'builder' missing")),
        ],
        run: derivation,
    },
    Builtin {
        name: "derivationStrict",
        params: &["attrs"],
        doc: "Computes the paths of a derivation: a set with `drvPath` and one path for each output. Forces all attributes. \
              `derivation` is what programs use. O(size of the attributes).",
        examples: &[
            (
                "builtins.attrNames (builtins.derivationStrict { name = \"x\"; system = \"s\"; builder = \"b\"; outputs = [ \"o\" \"p\" ]; })",
                Shows("[ \"drvPath\" \"o\" \"p\" ]"),
            ),
            ("builtins.derivationStrict { }", Fails("attribute 'name' missing")),
            (
                "builtins.derivationStrict { name = \"a b\"; system = \"s\"; builder = \"b\"; }",
                Fails("invalid derivation name"),
            ),
        ],
        run: derivation_strict,
    },
    Builtin {
        name: "placeholder",
        params: &["output"],
        doc: "Returns a text that the builder sees replaced by the path of its own output `output`. O(1).",
        examples: &[
            ("placeholder \"out\"", Shows("\"/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9\"")),
            ("placeholder 1", Fails("expected a string but found an integer: 1")),
        ],
        run: run_placeholder,
    },
];

/// `derivation`, over `derivationStrict`. The lines are those of Nix's: `unsafeGetAttrPos` and `toXML` show
/// where its attributes stand.
const WRAPPER: [&str; 2] = [
    r#"drvAttrs@{ outputs ? [ "out" ], ... }:
let
  paths = builtins.derivationStrict drvAttrs;"#,
    r#"  common = drvAttrs // builtins.listToAttrs named // {
      all = map (output: output.value) named;
      inherit drvAttrs;
    };

  named = map (outputName: {
    name = outputName;
    value = common // {
      outPath = paths.${outputName};
      drvPath = paths.drvPath;
      type = "derivation";
      inherit outputName;
    };
  }) outputs;
in
(builtins.head named).value
"#,
];

fn derivation(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    let [head, tail] = WRAPPER;
    let text = ["\n".repeat(29), head.to_owned(), "\n".repeat(10), tail.to_owned()].concat();
    ev.eval_text("/derivation-internal.nix", std::path::Path::new("/"), text.as_bytes())
}

fn run_placeholder(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let output = args.string_no_context(ev, 0)?;
    let text = placeholder(&output.to_text());
    Ok(ev.string(text))
}

/// What the attributes say, before paths are computed.
struct Gathered<'a> {
    name: &'a str,
    workspace: Workspace,
    output_names: Vec<String>,
    output_hash: Option<String>,
    output_hash_algo: Option<HashAlgo>,
    method: Option<Method>,
    is_floating: bool,
    /// The attributes as JSON, in their order, if they are structured.
    json: Option<Vec<u8>>,
}

fn derivation_strict(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = args.attrs(ev, 0)?;
    let Some(name) = attrs.get(sym::NAME) else { return Err(EvalError::missing_attribute(sym::NAME)) };
    let name_pos = attrs.pos(sym::NAME).unwrap_or(0);
    let at_name = Place { start: name_pos, end: name_pos };
    let name = ev
        .force_string_no_context(name)
        .map_err(|error| {
            error.while_("while evaluating the `name` attribute passed to builtins.derivationStrict", at_name)
        })?
        .to_text()
        .into_owned();
    build(ev, attrs, &name)
        .map_err(|error| error.while_(format!("while evaluating derivation '{name}'"), at_name))
}

fn build(ev: &mut Evaluator, attrs: crate::heap::Attrs, name: &str) -> EvalResult<Value> {
    if let Err(error) = check_name(name) {
        let words = format!("invalid derivation name: {error}. Please pass a different 'name'.");
        return Err(EvalError::new(ErrorKind::Invalid, words));
    }
    let is_structured = flag(ev, attrs, sym::STRUCTURED_ATTRS)?;
    let ignores_nulls = flag(ev, attrs, sym::IGNORE_NULLS)?;
    let mut gathered = Gathered {
        name,
        workspace: ev.derivations.workspace(),
        output_names: vec!["out".to_owned()],
        output_hash: None,
        output_hash_algo: None,
        method: None,
        is_floating: false,
        json: is_structured.then(Vec::new),
    };
    let sorted = ev.heap().sorted(attrs);
    for index in 0..sorted.len() {
        let (key, value) = sorted.get(index);
        if key == sym::IGNORE_NULLS {
            continue;
        }
        gathered.attribute(ev, key, value, ignores_nulls).map_err(|error| {
            let words = format!("while evaluating attribute '{key}' of derivation '{name}'");
            let pos = sorted.pos(index);
            error.while_(words, Place { start: pos, end: pos })
        })?;
    }
    gathered.finish(ev)
}

fn flag(ev: &mut Evaluator, attrs: crate::heap::Attrs, name: Symbol) -> EvalResult<bool> {
    match ev.force_attr(attrs, name)? {
        Some(value) => ev.force_bool(value).map_err(|error| {
            error.while_(
                format!("while evaluating the `{name}` attribute passed to builtins.derivationStrict"),
                Place::NONE,
            )
        }),
        None => Ok(false),
    }
}

impl Gathered<'_> {
    fn attribute(
        &mut self,
        ev: &mut Evaluator,
        key: Symbol,
        value: Value,
        ignores_nulls: bool,
    ) -> EvalResult<()> {
        if ignores_nulls && ev.force(value)? == Value::NULL {
            return Ok(());
        }
        match key.as_bytes() {
            b"__contentAddressed" => {
                self.is_floating = ev.force_bool(value)?;
                Ok(())
            }
            b"__impure" if !ev.force_bool(value)? => Ok(()),
            b"__impure" => Err(EvalError::new(
                ErrorKind::Unsupported,
                "impure derivations ('__impure') are not part of the language here",
            )
            .help("use a fixed-output derivation: its hash says what it must give")),
            b"args" => self.arguments(ev, value),
            b"__structuredAttrs" if self.json.is_some() => Ok(()),
            _ if self.json.is_some() => self.structured(ev, key, value),
            _ => self.variable(ev, key, value),
        }
    }

    fn arguments(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let list = ev.force_list(value)?;
        for index in 0..list.len() {
            let element = ev.force_element(list, index)?;
            self.read(ev, element)?;
            self.workspace.parts.push_argument(&self.workspace.text);
        }
        Ok(())
    }

    /// Coerces as the environment does, and keeps what the text depends on.
    fn read(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let Workspace { text, gathering, .. } = &mut self.workspace;
        text.clear();
        ev.coerce_into(value, Coercion::DERIVATION, text, gathering)
    }

    /// The text that was read last.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.workspace.text).into_owned()
    }

    fn variable(&mut self, ev: &mut Evaluator, key: Symbol, value: Value) -> EvalResult<()> {
        self.read(ev, value)?;
        match key.as_bytes() {
            b"outputHash" => self.output_hash = Some(self.text()),
            b"outputHashAlgo" => self.output_hash_algo = hash_algo(&self.text()),
            b"outputHashMode" => self.method = Some(hash_mode(&self.text())?),
            b"outputs" => self.outputs(self.text().split_ascii_whitespace().map(str::to_owned).collect())?,
            _ => {}
        }
        self.workspace.parts.push_variable(key.as_bytes(), &self.workspace.text);
        Ok(())
    }

    fn structured(&mut self, ev: &mut Evaluator, key: Symbol, value: Value) -> EvalResult<()> {
        let mut json = self.json.take().expect("attributes are structured");
        json.push(if json.is_empty() { b'{' } else { b',' });
        crate::json::write_string(key.as_bytes(), &mut json)
            .map_err(|error| EvalError::invalid(error.to_string()))?;
        json.push(b':');
        let mut context = ContextId::EMPTY;
        ev.write_json(value, true, &mut json, &mut context)?;
        self.workspace.gathering.add(context);
        self.json = Some(json);
        match key.as_bytes() {
            b"builder" => {
                let text = ev.force_string(value)?;
                self.workspace.gathering.add(text.context());
                self.workspace.parts.set_builder(text.as_bytes());
            }
            b"system" => self.workspace.parts.set_system(ev.force_string_no_context(value)?.as_bytes()),
            b"outputHash" => self.output_hash = Some(ev.force_string_no_context(value)?.to_text().into_owned()),
            b"outputHashAlgo" => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.output_hash_algo = hash_algo(&text);
            }
            b"outputHashMode" => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.method = Some(hash_mode(&text)?);
            }
            b"outputs" => {
                let list = ev.force_list(value)?;
                let mut names = Vec::with_capacity(list.len());
                for index in 0..list.len() {
                    let element = ev.force_element(list, index)?;
                    names.push(ev.force_string_no_context(element)?.to_text().into_owned());
                }
                self.outputs(names)?;
            }
            b"allowedReferences" | b"allowedRequisites" | b"disallowedReferences" | b"disallowedRequisites"
            | b"maxSize" | b"maxClosureSize" => ev.world().message(&format!(
                "warning: in a derivation named '{}', 'structuredAttrs' disables the effect of the derivation attribute \
                 '{key}'; use 'outputChecks.<output>.{key}' instead",
                self.name
            )),
            _ => {}
        }
        Ok(())
    }

    fn outputs(&mut self, names: Vec<String>) -> EvalResult<()> {
        let mut seen = BTreeSet::new();
        for name in &names {
            if !seen.insert(name) {
                return Err(invalid(format!("duplicate derivation output '{name}'")));
            }
            // It would clash with the set's own `drvPath`.
            if name == "drvPath" {
                return Err(invalid("invalid derivation output name 'drvPath'"));
            }
            if let Err(error) = check_name(name) {
                return Err(invalid(format!("invalid derivation output name '{name}': {error}")));
            }
        }
        if names.is_empty() {
            return Err(invalid("derivation cannot have an empty set of outputs"));
        }
        self.output_names = names;
        Ok(())
    }

    fn finish(mut self, ev: &mut Evaluator) -> EvalResult<Value> {
        if let Some(mut json) = self.json.take() {
            if json.is_empty() {
                json.push(b'{');
            }
            json.push(b'}');
            self.workspace.parts.push_variable(b"__json", &json);
        }
        if !self.workspace.parts.has_builder() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'builder' missing"));
        }
        if !self.workspace.parts.has_system() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'system' missing"));
        }
        self.check_drv_name()?;
        let named = self.workspace.gathering.ids(&ev.contexts);
        let elems = know_inputs(ev, &named)?;
        let outputs = self.kind()?;
        let elems = elems.as_ref().unwrap_or(&named);
        let made = instantiate(ev, self.name, &self.workspace, &outputs, elems, &named)?;
        ev.derivations.recycle(self.workspace);
        Ok(made)
    }

    fn check_drv_name(&self) -> EvalResult<()> {
        let makes_derivation = self.method == Some(Method::Text)
            && self.output_names.len() == 1
            && self.output_names[0] == "out";
        if self.name.ends_with(".drv") && !makes_derivation {
            return Err(invalid(
                "derivation names are allowed to end in '.drv' only if they produce a single derivation file",
            ));
        }
        Ok(())
    }

    fn kind(&mut self) -> EvalResult<Outputs> {
        if let Some(hash) = &self.output_hash {
            if self.output_names.len() != 1 || self.output_names[0] != "out" {
                return Err(invalid("multiple outputs are not supported in fixed-output derivations"));
            }
            let hash = parse_hash(hash, self.output_hash_algo)?;
            return Ok(Outputs::Fixed(ContentAddress { method: self.method.unwrap_or(Method::Flat), hash }));
        }
        let names = std::mem::take(&mut self.output_names);
        if self.is_floating {
            let method = self.method.unwrap_or(Method::Nar);
            let algo = self.output_hash_algo.unwrap_or(HashAlgo::Sha256);
            return Ok(Outputs::Floating { names, method, algo });
        }
        Ok(Outputs::InputAddressed(names))
    }
}

/// Finds the derivations among what strings depend on. If some are meant with all that they need,
/// returns what there is with that in place of them.
fn know_inputs(ev: &mut Evaluator, named: &[u32]) -> EvalResult<Option<Vec<u32>>> {
    let mut deep = Vec::new();
    for &elem in named {
        match ev.contexts.elem(elem) {
            ContextElem::Opaque(_) => {}
            ContextElem::Built { .. } => {
                ev.derivation_of(elem)?;
            }
            ContextElem::DrvDeep(drv) => deep.push(drv.clone()),
        }
    }
    if deep.is_empty() {
        return Ok(None);
    }
    let is_deep = |elem: u32| matches!(ev.contexts.elem(elem), ContextElem::DrvDeep(_));
    let mut elems: Vec<u32> = named.iter().copied().filter(|&elem| !is_deep(elem)).collect();
    deep_inputs(ev, deep, &mut elems)?;
    elems.sort_unstable();
    elems.dedup();
    Ok(Some(elems))
}

/// Every object of the closure of derivations, every output of every derivation in it.
fn deep_inputs(ev: &mut Evaluator, mut stack: Vec<StorePath>, elems: &mut Vec<u32>) -> EvalResult<()> {
    let mut seen = BTreeSet::new();
    while let Some(path) = stack.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        elems.push(ev.contexts.elem_id(ContextElem::Opaque(path.clone())));
        if !path.is_derivation() {
            // Of objects that this evaluation did not write only the path itself is known here.
            stack.extend(ev.tools.texts.get(&path).into_iter().flatten().cloned());
            continue;
        }
        let number = ev.know_derivation(&path)?;
        let derivation = ev.derivations.get(number);
        for &input in &derivation.inputs {
            match ev.contexts.elem(input) {
                ContextElem::Opaque(path) | ContextElem::DrvDeep(path) => stack.push(path.clone()),
                ContextElem::Built { drv, .. } => stack.push(drv.clone()),
            }
        }
        for output in &derivation.outputs {
            let elem = ContextElem::Built { drv: path.clone(), output: output.clone() };
            let elem = ev.contexts.elem_id(elem);
            elems.push(elem);
        }
        for &elem in &elems[elems.len() - derivation.outputs.len()..] {
            ev.derivations.set_of_elem(elem, number);
        }
    }
    Ok(())
}

/// Computes the paths, gives the text to the store, and returns the paths as strings that depend on it.
fn instantiate(
    ev: &mut Evaluator,
    name: &str,
    workspace: &Workspace,
    outputs: &Outputs,
    elems: &[u32],
    named: &[u32],
) -> EvalResult<Value> {
    let mut composer = std::mem::take(&mut ev.derivations.composer);
    let (mut inputs, mut sources) = (Vec::with_capacity(elems.len()), Vec::new());
    for &elem in elems {
        match ev.contexts.elem(elem) {
            ContextElem::Opaque(path) => sources.push(path),
            ContextElem::Built { drv, output } => {
                let number = ev.derivations.of_elem(elem).expect("inputs are known");
                let modulo = &ev.derivations.get(number).modulo;
                inputs.push(ComposedInput { drv, modulo, output });
            }
            ContextElem::DrvDeep(_) => unreachable!("replaced by what it means"),
        }
    }
    inputs.sort_unstable_by(|a, b| (a.drv, a.output).cmp(&(b.drv, b.output)));
    sources.sort_unstable();
    let world = ev.world.clone();
    let dir = world.store_dir();
    let composed = composer
        .finish(dir, name, &workspace.parts, outputs, &inputs, &sources)
        .map_err(|error| invalid(error.to_string()))?;
    world
        .add_text(&composed.path, composed.text, composed.references.as_slice())
        .map_err(|error| EvalError::world(&error))?;
    let (path, modulo, outputs) = (composed.path, composed.modulo, composed.outputs);
    ev.derivations.composer = composer;
    let names = outputs.iter().map(|(name, _)| ev.derivations.name(name)).collect();
    let known = KnownDerivation { modulo, outputs: names, inputs: named.into() };
    let number = ev.derivations.insert(path.clone(), known);
    paths_of(ev, &path, number, &outputs)
}

/// `{ drvPath = …; out = …; }`.
fn paths_of(
    ev: &mut Evaluator,
    drv: &StorePath,
    number: u32,
    outputs: &[(String, DerivationOutput)],
) -> EvalResult<Value> {
    let mut set = AttrsBuilder::with_capacity(ev.heap(), outputs.len() + 1);
    let mut text = String::new();
    ev.world.store_dir().print_into(drv, &mut text);
    let deep = ev.contexts.single(ContextElem::DrvDeep(drv.clone()));
    let drv_path = ev.string_with(&text, deep);
    set.push(ev.heap(), sym::DRV_PATH, drv_path);
    for (index, (name, output)) in outputs.iter().enumerate() {
        text.clear();
        match output.path() {
            Some(path) => ev.world.store_dir().print_into(path, &mut text),
            None => {
                text += &ampoule_store::downstream_placeholder(drv, name)
                    .map_err(|error| invalid(error.to_string()))?;
            }
        }
        let output = ev.derivations.get(number).outputs[index].clone();
        let elem = ev.contexts.elem_id(ContextElem::Built { drv: drv.clone(), output });
        ev.derivations.set_of_elem(elem, number);
        let context = ev.contexts.single_of(elem);
        let value = ev.string_with(&text, context);
        set.push(ev.heap(), Symbol::intern(name), value);
    }
    Ok(set.finish(ev.heap()))
}

fn invalid(message: impl Into<String>) -> EvalError {
    EvalError::new(ErrorKind::Invalid, message)
}

fn hash_algo(name: &str) -> Option<HashAlgo> {
    // Nix takes a name that it does not know as "as the hash says", and so do programs that give none.
    HashAlgo::parse(name).ok()
}

fn hash_mode(name: &str) -> EvalResult<Method> {
    match name {
        "recursive" | "nar" => Ok(Method::Nar),
        "flat" => Ok(Method::Flat),
        "text" => Ok(Method::Text),
        _ => Err(invalid(format!("invalid value '{name}' for 'outputHashMode' attribute"))),
    }
}

/// An empty hash is one of zeros: the error of the build then tells the right one.
fn parse_hash(text: &str, algo: Option<HashAlgo>) -> EvalResult<Hash> {
    if text.is_empty() {
        let algo = algo.ok_or_else(|| invalid("empty hash requires explicit hash algorithm"))?;
        return Ok(Hash::from_bytes(algo, &vec![0; algo.len_bytes()]).expect("as long as the algorithm says"));
    }
    Hash::parse_any(text, algo).map_err(|error| invalid(error.to_string()))
}
