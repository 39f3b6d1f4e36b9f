//! Derivations: from attributes to a `.drv` file, bit for bit as Nix writes it.
//!
//! `derivation` is a function of the language over `derivationStrict`, so that outputs are sets that refer to
//! each other lazily. `derivationStrict` turns every attribute into a variable of the builder (or all of
//! them into JSON, with `__structuredAttrs`), gathers what the strings depend on, and computes the paths.
//!
//! Source: the Nix manual, "Derivations", "Advanced attributes", "Structured attributes"; what it leaves
//! open was asked of Nix 2.34 itself by the oracle tests.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};
use ampoule_store::bstr::BString;
use ampoule_store::{
    ContentAddress, Derivation, DerivationDraft, Hash, HashAlgo, Method, Outputs, StorePath, check_name,
    placeholder,
};

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::coerce::Coercion;
use crate::context::{ContextElem, ContextId};
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

/// `derivation`, over `derivationStrict`.
const WRAPPER: &[u8] = br#"attributes@{ outputs ? [ "out" ], ... }:
let
  paths = builtins.derivationStrict attributes;
  common = attributes // builtins.listToAttrs named // {
    all = map (output: output.value) named;
    drvAttrs = attributes;
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
"#;

fn derivation(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    ev.eval_text("«derivation»", std::path::Path::new("/"), WRAPPER)
}

fn run_placeholder(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let output = ev.force_string_no_context(args.at(0))?;
    let text = placeholder(&output.to_text());
    Ok(ev.string(text))
}

/// What the attributes say, before paths are computed.
struct Gathered {
    name: String,
    draft: DerivationDraft,
    output_names: Vec<String>,
    output_hash: Option<String>,
    output_hash_algo: Option<HashAlgo>,
    method: Option<Method>,
    is_floating: bool,
    /// The attributes as JSON, in their order, if they are structured.
    json: Option<Vec<u8>>,
    context: ContextId,
}

fn derivation_strict(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = ev.force_attrs(args.at(0))?;
    let Some(name) = attrs.get(sym::NAME) else { return Err(EvalError::missing_attribute("name")) };
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
    let is_structured = flag(ev, attrs, "__structuredAttrs")?;
    let ignores_nulls = flag(ev, attrs, "__ignoreNulls")?;
    let mut gathered = Gathered {
        name: name.to_owned(),
        draft: DerivationDraft::new(name, Outputs::InputAddressed(Vec::new())),
        output_names: vec!["out".to_owned()],
        output_hash: None,
        output_hash_algo: None,
        method: None,
        is_floating: false,
        json: is_structured.then(Vec::new),
        context: ContextId::EMPTY,
    };
    let sorted = ev.heap().sorted(attrs);
    for index in 0..sorted.len() {
        let (key, value) = sorted.get(index);
        let text = key.as_str();
        if text == "__ignoreNulls" {
            continue;
        }
        let pos = sorted.pos(index);
        gathered.attribute(ev, key, &text, value, ignores_nulls).map_err(|error| {
            let words = format!("while evaluating attribute '{text}' of derivation '{name}'");
            error.while_(words, Place { start: pos, end: pos })
        })?;
    }
    let derivation = gathered.finish(ev)?;
    instantiate(ev, derivation)
}

fn flag(ev: &mut Evaluator, attrs: crate::heap::Attrs, name: &str) -> EvalResult<bool> {
    match ev.force_attr(attrs, Symbol::intern(name))? {
        Some(value) => ev.force_bool(value).map_err(|error| {
            error.while_(
                format!("while evaluating the `{name}` attribute passed to builtins.derivationStrict"),
                Place::NONE,
            )
        }),
        None => Ok(false),
    }
}

impl Gathered {
    fn attribute(
        &mut self,
        ev: &mut Evaluator,
        key: Symbol,
        name: &str,
        value: Value,
        ignores_nulls: bool,
    ) -> EvalResult<()> {
        if ignores_nulls && ev.force(value)? == Value::NULL {
            return Ok(());
        }
        match name {
            "__contentAddressed" => {
                self.is_floating = ev.force_bool(value)?;
                Ok(())
            }
            "__impure" if !ev.force_bool(value)? => Ok(()),
            "__impure" => Err(EvalError::new(
                ErrorKind::Unsupported,
                "impure derivations ('__impure') are not part of the language here",
            )
            .help("use a fixed-output derivation: its hash says what it must give")),
            "args" => self.arguments(ev, value),
            "__structuredAttrs" if self.json.is_some() => Ok(()),
            _ if self.json.is_some() => self.structured(ev, key, name, value),
            _ => self.variable(ev, key, name, value),
        }
    }

    fn arguments(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let list = ev.force_list(value)?;
        for index in 0..list.len() {
            let element = ev.force_element(list, index)?;
            let text = self.text(ev, element)?;
            self.draft.arguments.push(text);
        }
        Ok(())
    }

    /// Coerces as the environment does, and keeps what the text depends on.
    fn text(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<BString> {
        let text = ev.coerce_to_string(value, Coercion::DERIVATION)?;
        let text = text.as_str().expect("coerced");
        self.context = ev.contexts().union(self.context, text.context());
        Ok(text.as_bytes().into())
    }

    fn variable(&mut self, ev: &mut Evaluator, key: Symbol, name: &str, value: Value) -> EvalResult<()> {
        let text = self.text(ev, value)?;
        match name {
            "builder" => self.draft.builder = text.clone(),
            "system" => self.draft.system = text.clone(),
            "outputHash" => self.output_hash = Some(text.to_string()),
            "outputHashAlgo" => self.output_hash_algo = hash_algo(&text.to_string()),
            "outputHashMode" => self.method = Some(hash_mode(&text.to_string())?),
            "outputs" => {
                let names = text.to_string();
                self.outputs(names.split_ascii_whitespace().map(str::to_owned).collect())?;
            }
            _ => {}
        }
        self.draft.environment.insert(key.as_bytes().into(), text);
        Ok(())
    }

    fn structured(&mut self, ev: &mut Evaluator, key: Symbol, name: &str, value: Value) -> EvalResult<()> {
        let mut json = self.json.take().expect("attributes are structured");
        json.push(if json.is_empty() { b'{' } else { b',' });
        crate::json::write_string(key.as_bytes(), &mut json)
            .map_err(|error| EvalError::invalid(error.to_string()))?;
        json.push(b':');
        ev.write_json(value, true, &mut json, &mut self.context)?;
        self.json = Some(json);
        match name {
            "builder" => {
                let text = ev.force_string(value)?;
                self.context = ev.contexts().union(self.context, text.context());
                self.draft.builder = text.as_bytes().into();
            }
            "system" => self.draft.system = ev.force_string_no_context(value)?.as_bytes().into(),
            "outputHash" => self.output_hash = Some(ev.force_string_no_context(value)?.to_text().into_owned()),
            "outputHashAlgo" => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.output_hash_algo = hash_algo(&text);
            }
            "outputHashMode" => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.method = Some(hash_mode(&text)?);
            }
            "outputs" => {
                let list = ev.force_list(value)?;
                let mut names = Vec::with_capacity(list.len());
                for index in 0..list.len() {
                    let element = ev.force_element(list, index)?;
                    names.push(ev.force_string_no_context(element)?.to_text().into_owned());
                }
                self.outputs(names)?;
            }
            "allowedReferences" | "allowedRequisites" | "disallowedReferences" | "disallowedRequisites" | "maxSize"
            | "maxClosureSize" => ev.world().message(&format!(
                "warning: in a derivation named '{}', 'structuredAttrs' disables the effect of the derivation attribute \
                 '{name}'; use 'outputChecks.<output>.{name}' instead",
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

    fn finish(mut self, ev: &mut Evaluator) -> EvalResult<Derivation> {
        if let Some(mut json) = self.json.take() {
            if json.is_empty() {
                json.push(b'{');
            }
            json.push(b'}');
            self.draft.environment.insert("__json".into(), json.into());
        }
        if self.draft.builder.is_empty() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'builder' missing"));
        }
        if self.draft.system.is_empty() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'system' missing"));
        }
        self.check_drv_name()?;
        self.inputs(ev)?;
        self.draft.outputs = self.kind()?;
        let world = ev.world();
        self.draft.finish(world.store_dir(), &ev.modulo).map_err(|error| invalid(error.to_string()))
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

    /// Turns what the strings depend on into inputs.
    fn inputs(&mut self, ev: &mut Evaluator) -> EvalResult<()> {
        let elems: Vec<ContextElem> = ev.contexts.elems(self.context).into_iter().cloned().collect();
        for elem in elems {
            match elem {
                ContextElem::Opaque(path) => {
                    self.draft.input_sources.insert(path);
                }
                ContextElem::Built { drv, output } => {
                    ev.know_derivation(&drv)?;
                    self.draft.input_derivations.entry(drv).or_default().insert(output.to_string());
                }
                ContextElem::DrvDeep(drv) => self.deep_inputs(ev, drv)?,
            }
        }
        Ok(())
    }

    /// A derivation with all that it needs: every object of its closure, every output of every derivation.
    fn deep_inputs(&mut self, ev: &mut Evaluator, drv: StorePath) -> EvalResult<()> {
        let mut stack = vec![drv];
        let mut seen = BTreeSet::new();
        while let Some(path) = stack.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            self.draft.input_sources.insert(path.clone());
            if !path.is_derivation() {
                // Of objects that this evaluation did not write only the path itself is known here.
                stack.extend(ev.tools.texts.get(&path).into_iter().flatten().cloned());
                continue;
            }
            let derivation = ev.know_derivation(&path)?;
            stack.extend(derivation.references.iter().cloned());
            self.draft.input_derivations.entry(path).or_default().extend(derivation.outputs.iter().cloned());
        }
        Ok(())
    }
}

/// What is remembered of a derivation.
#[derive(Debug)]
pub(crate) struct KnownDerivation {
    references: Vec<StorePath>,
    outputs: Vec<String>,
}

impl Evaluator {
    /// Returns what is known of a derivation; one that this evaluation did not make is read from the store.
    fn know_derivation(&mut self, drv: &StorePath) -> EvalResult<std::sync::Arc<KnownDerivation>> {
        if let Some(known) = self.derivations.get(drv) {
            return Ok(known.clone());
        }
        let world = self.world();
        let dir = world.store_dir();
        // Inputs before what needs them: a modulo hash is made of those of the inputs.
        let mut stack = vec![(drv.clone(), None::<Derivation>)];
        while let Some((path, read)) = stack.pop() {
            if self.derivations.contains_key(&path) {
                continue;
            }
            let derivation = match read {
                Some(derivation) => derivation,
                None => {
                    let name = path.derivation_name().map_err(|error| invalid(error.to_string()))?.to_owned();
                    let text = world
                        .read_file(std::path::Path::new(&dir.print(&path)))
                        .map_err(|error| EvalError::world(&error))?;
                    let derivation =
                        Derivation::parse(dir, &name, &text).map_err(|error| invalid(error.to_string()))?;
                    let inputs: Vec<StorePath> = derivation.input_derivations.keys().cloned().collect();
                    if inputs.iter().any(|input| !self.derivations.contains_key(input)) {
                        stack.push((path, Some(derivation)));
                        stack.extend(inputs.into_iter().map(|input| (input, None)));
                        continue;
                    }
                    derivation
                }
            };
            self.remember_derivation(&path, &derivation)?;
        }
        Ok(self.derivations[drv].clone())
    }

    fn remember_derivation(&mut self, path: &StorePath, derivation: &Derivation) -> EvalResult<()> {
        let world = self.world();
        let hash = derivation
            .modulo_hash(world.store_dir(), &self.modulo)
            .map_err(|error| invalid(error.to_string()))?;
        self.modulo.insert(path.clone(), hash);
        let known = KnownDerivation {
            references: derivation.references().cloned().collect(),
            outputs: derivation.outputs.keys().cloned().collect(),
        };
        self.derivations.insert(path.clone(), known.into());
        Ok(())
    }
}

/// Gives the derivation's text to the store, and returns its paths as strings that depend on it.
fn instantiate(ev: &mut Evaluator, derivation: Derivation) -> EvalResult<Value> {
    let world = ev.world();
    let dir = world.store_dir();
    let (path, text) = derivation.to_text_object(dir).map_err(|error| invalid(error.to_string()))?;
    let references: Vec<StorePath> = derivation.references().cloned().collect();
    world.add_text(&path, &text, &references).map_err(|error| EvalError::world(&error))?;
    ev.remember_derivation(&path, &derivation)?;
    let mut set = AttrsBuilder::with_capacity(ev.heap(), derivation.outputs.len() + 1);
    let deep = ev.contexts().single(ContextElem::DrvDeep(path.clone()));
    let drv_path = ev.string_with(dir.print(&path), deep);
    set.push(ev.heap(), sym::DRV_PATH, drv_path);
    let texts: BTreeMap<&String, String> = derivation
        .outputs
        .iter()
        .map(|(name, output)| {
            let text = match output.path() {
                Some(path) => dir.print(path),
                None => ampoule_store::downstream_placeholder(&path, name)
                    .map_err(|error| invalid(error.to_string()))?,
            };
            Ok((name, text))
        })
        .collect::<EvalResult<_>>()?;
    for (name, text) in texts {
        let elem = ContextElem::Built { drv: path.clone(), output: name.as_str().into() };
        let context = ev.contexts().single(elem);
        let value = ev.string_with(text, context);
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
