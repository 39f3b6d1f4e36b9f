//! Derivations: from attributes to a `.drv` file, bit for bit as Nix writes it.
//!
//! `derivation` is a function of the language over `derivationStrict`, so that outputs are sets that refer to
//! each other lazily. `derivationStrict` turns every attribute into a variable of the builder (or all of
//! them into JSON, with `__structuredAttrs`), gathers what the strings depend on, and computes the paths.
//!
//! Source: the Nix manual, "Derivations", "Advanced attributes", "Structured attributes"; what it leaves
//! open was asked of Nix 2.34 itself by the oracle tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};
use ampoule_store::{
    Composed, ComposedInput, ComposedOutputs, ContentAddress, DerivationOutput, Hash, HashAlgo, Method,
    StorePath, check_name, placeholder,
};

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::coerce::Coercion;
use crate::context::{self, ContextElem, ContextId, ElemView};
use crate::derivations::{MAX_KEPT_BYTES, Workspace};
use crate::error::{ErrorKind, EvalError, EvalResult, shown_name};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Attrs, AttrsBuilder, Flat, List, Value};

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
const WRAPPER: [&str; 4] = [
    r#"drvAttrs@{ outputs ? [ "out" ], ... }:"#,
    r#"let
  paths  = derivationStrict drvAttrs;"#,
    r#"  common =
    drvAttrs
     // builtins.listToAttrs named
      // {
      all = map (output: output.value) named;
      inherit drvAttrs;
    };

  toNamed = outputName: {
    name = outputName;
    value = common // {
      outPath = builtins.getAttr outputName paths;
      drvPath = paths.drvPath;
      type = "derivation";
      inherit outputName;
    };
  };
"#,
    r#"  named       = map toNamed outputs;

in
(builtins.head named).value
"#,
];

/// The same, put together by [`assemble`]: else a small derivation's time would be the wrapper's by a third.
const ASSEMBLED: &str = r#"drvAttrs@{ outputs ? [ "out" ], ... }:





assemble drvAttrs outputs
          (derivationStrict drvAttrs) places
"#;

/// Where the attributes stand in it, names only.
const PLACES: &str = r#"{
      all = 0;
              drvAttrs = 0;




    value = 0;
      outPath = 0;
      drvPath = 0;
      type = 0;
              outputName = 0;
}"#;

/// The name of what puts a derivation together: nobody called it, and no trace tells of it.
pub(crate) const ASSEMBLE: &str = "assemble";

/// What [`ASSEMBLED`] and its thunks call.
pub(super) const INTERNAL: [Builtin; 4] = [
    internal(ASSEMBLE, &["drvAttrs", "outputs", "paths", "places"], assemble),
    internal("outPath", &["paths", "output"], out_path),
    internal("drvPath", &["paths"], drv_path),
    internal("derivationStrict", &["attrs"], strict_paths),
];

const fn internal(
    name: &'static str,
    params: &'static [&'static str],
    run: fn(&mut Evaluator, &Args) -> EvalResult<Value>,
) -> Builtin {
    Builtin { name, params, doc: "Part of `derivation`.", examples: &[], run }
}

fn derivation(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    // Where it is seen what waits, the same waits as in Nix.
    if ev.settings().shows_unforced {
        return wrapper(ev);
    }
    let places = ev.eval_text(DERIVATION_FILE, Path::new("/"), text_at_line(42, PLACES).as_bytes())?;
    let names = [ASSEMBLE, "derivationStrict", "places"].map(Symbol::intern);
    let scope = [(names[0], ev.internal(0)), (names[1], ev.internal(3)), (names[2], places)];
    ev.eval_text_in(DERIVATION_FILE, Path::new("/"), text_at_line(30, ASSEMBLED).as_bytes(), &scope)
}

/// `derivation` as Nix has it.
fn wrapper(ev: &mut Evaluator) -> EvalResult<Value> {
    if let Some(made) = ev.tools.derivation {
        return Ok(ev.heap().rooted(made));
    }
    let [head, paths, common, rest] = WRAPPER;
    let text =
        [text_at_line(30, head), text_at_line(7, paths), text_at_line(3, common), text_at_line(2, rest)];
    let text = text.concat();
    let made = ev.eval_text(DERIVATION_FILE, Path::new("/"), text.as_bytes())?;
    ev.tools.derivation = Some(ev.heap().root(made));
    Ok(made)
}

pub(crate) const DERIVATION_FILE: &str = "/derivation-internal.nix";

/// A text that begins on a line, counted from 1.
fn text_at_line(line: usize, text: &str) -> String {
    ["\n".repeat(line - 1).as_str(), text].concat()
}

/// Returns the set of the first output; what [`WRAPPER`] describes. Whatever is unusual is left to that.
fn assemble(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = args.attrs(ev, 0)?;
    let Ok(Some((names, outputs))) = ev.guarded(|ev| output_names(ev, args.at(1))) else {
        let wrapper = wrapper(ev)?;
        return ev.call_from(args.place(), wrapper, args.at(0)).map_err(EvalError::forget_call);
    };
    let own = own_template(ev, args.at(3), &names)?;
    let (paths, [out_path, drv_path]) = (args.at(2), [1, 2].map(|index| ev.internal(index)));
    let drv_path = ev.heap().apply(drv_path, &[paths]);
    let all = ev.heap().list(names.len());
    let sets = all.as_list().expect("a list");
    for index in 0..names.len() {
        let output = outputs.get(index).expect("as many as there are names");
        let out_path = ev.heap().apply(out_path, &[paths, output]);
        let values = [out_path, drv_path, output, all, args.at(0)];
        let own = from_template(ev, own, &values);
        let set = ev.heap().update_with(attrs, own);
        sets.settle(index, set);
    }
    // Each has all of them.
    for index in 0..names.len() {
        let set = sets.get(index).and_then(Value::as_attrs).expect("just made");
        for (other, &name) in names.iter().enumerate() {
            let (slot, _) = set.find(name).expect("just added");
            slot.settle(sets.get(other).expect("just made"));
        }
    }
    Ok(sets.get(0).expect("there is one at least"))
}

/// A set with what every derivation has and with these outputs; see [`from_template`].
fn own_template(ev: &mut Evaluator, places: Value, names: &[Symbol]) -> EvalResult<Flat> {
    if let Some(&known) = ev.tools.derivation_templates.get(names) {
        let known = ev.heap().rooted(known).as_attrs().expect("a set");
        return Ok(ev.heap().flat(known));
    }
    let places = ev.force_attrs(places)?;
    let place = |name| places.pos(name).unwrap_or(0);
    let kind = ev.string("derivation");
    let mut own = AttrsBuilder::new();
    own.push_at(ev.heap(), sym::TYPE, kind, place(sym::TYPE));
    for (number, name) in (0..).zip(OF_EVERY) {
        let number = ev.heap().int(number);
        own.push_at(ev.heap(), name, number, place(name));
    }
    for &name in names {
        own.push_at(ev.heap(), name, Value::NULL, place(sym::VALUE));
    }
    let own = own.finish(ev.heap());
    let root = ev.heap().root(own);
    ev.tools.derivation_templates.insert(names.into(), root);
    Ok(ev.heap().flat(own.as_attrs().expect("a set")))
}

/// A set like the template, with values in place of their numbers.
fn from_template(ev: &mut Evaluator, template: Flat, values: &[Value]) -> Attrs {
    let mut set = ev.heap().attrs_like(template.keys());
    for index in 0..template.len() {
        let known = template.get(index);
        set.set(index, known.as_int().map_or(known, |number| values[number as usize]));
    }
    set.finish().as_attrs().expect("a set")
}

/// The names of outputs, and the list of their strings; nothing if one comes twice or is called as what
/// every derivation has, or if there are none.
fn output_names(ev: &mut Evaluator, outputs: Value) -> EvalResult<Option<(Vec<Symbol>, List)>> {
    let outputs = ev.force_list(outputs)?;
    let mut names = Vec::with_capacity(outputs.len());
    for index in 0..outputs.len() {
        let element = ev.force_element(outputs, index)?;
        let name = match ev.force_string_no_context(element)?.as_bytes() {
            b"out" => sym::OUT,
            name => Symbol::intern(name),
        };
        if name == sym::TYPE || OF_EVERY.contains(&name) || names.contains(&name) {
            return Ok(None);
        }
        names.push(name);
    }
    Ok((!names.is_empty()).then_some((names, outputs)))
}

/// What every derivation has, besides its type.
const OF_EVERY: [Symbol; 5] = [sym::OUT_PATH, sym::DRV_PATH, sym::OUTPUT_NAME, sym::ALL, sym::DRV_ATTRS];

/// `builtins.getAttr output paths`.
fn out_path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    output_path(ev, args).part("while calling the 'getAttr' builtin")
}

fn output_path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let paths = ev.force(args.at(0))?;
    let name = args.name(ev, 1)?;
    let drv = drv_of(ev, paths);
    let number = ev.derivations.at(drv).expect("paths are those of a derivation");
    let outputs = ev.derivations.outputs(number);
    match outputs.iter().position(|&output| ev.contexts.output_symbol(output) == name) {
        Some(index) => Ok(path_at(paths, index)),
        None => Err(EvalError::missing_attribute(name)).part("in the attribute set under consideration"),
    }
}

/// `paths.drvPath`.
fn drv_path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let paths = ev.force(args.at(0))?;
    let drv = drv_of(ev, paths);
    Ok(drv_string(ev, drv))
}

fn drv_string(ev: &mut Evaluator, drv: u32) -> Value {
    let text = ev.world.store_dir().print(ev.contexts.path(drv));
    let elem = ev.contexts.deep_id(drv);
    ev.string_with(&text, ev.contexts.single_of(elem))
}

/// Returns the path of output `index` among the paths that [`strict_paths`] gives.
fn path_at(paths: Value, index: usize) -> Value {
    paths.as_list().map_or(paths, |paths| paths.get(index).expect("as many as there are outputs"))
}

/// Returns the derivation whose paths these are: its path's number. The strings depend on it, and on nothing else.
fn drv_of(ev: &Evaluator, paths: Value) -> u32 {
    let path = path_at(paths, 0).as_str().expect("paths are strings");
    let elem = ev.contexts.only_elem(path.context()).expect("a path depends on its derivation");
    ev.contexts.path_of(elem)
}

fn run_placeholder(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let output = args.string_no_context(ev, 0)?;
    let text = placeholder(&output.to_text());
    Ok(ev.string(text))
}

/// What has no effect on a derivation whose attributes are structured.
const IGNORED_IF_STRUCTURED: [&[u8]; 6] = [
    b"allowedReferences",
    b"allowedRequisites",
    b"disallowedReferences",
    b"disallowedRequisites",
    b"maxSize",
    b"maxClosureSize",
];

/// What the attributes say, before paths are computed.
struct Gathered<'a> {
    name: &'a str,
    workspace: Box<Workspace>,
    output_hash: Option<String>,
    output_hash_algo: Option<HashAlgo>,
    method: Option<Method>,
    is_floating: bool,
    /// The attributes as JSON, in their order, if they are structured.
    json: Option<Vec<u8>>,
}

/// `{ drvPath = …; out = …; }`.
fn derivation_strict(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let paths = strict_paths(ev, args)?;
    let drv = drv_of(ev, paths);
    let number = ev.derivations.at(drv).expect("paths are those of a derivation");
    let outputs = ev.derivations.outputs(number).iter().map(|&output| ev.contexts.output_symbol(output));
    let outputs: Vec<Symbol> = outputs.collect();
    let drv_path = drv_string(ev, drv);
    let mut set = AttrsBuilder::new();
    set.push(ev.heap(), sym::DRV_PATH, drv_path);
    for (index, name) in outputs.into_iter().enumerate() {
        set.push(ev.heap(), name, path_at(paths, index));
    }
    Ok(set.finish(ev.heap()))
}

/// The paths of the outputs, in the order of their names, as a list; of one output, its path. All that is
/// kept of a derivation whose `.drv` nobody asks for is this.
fn strict_paths(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = args.attrs(ev, 0)?;
    let Some(name) = attrs.get(sym::NAME) else {
        let error = Err(EvalError::missing_attribute(sym::NAME));
        return error.part("in the attrset passed as argument to builtins.derivationStrict");
    };
    let name_pos = attrs.pos(sym::NAME).unwrap_or(0);
    let at_name = Place { start: name_pos, end: name_pos };
    let name = ev
        .force_string_no_context(name)
        .part("while evaluating the `name` attribute passed to builtins.derivationStrict")
        .map_err(|error| error.while_("while evaluating the derivation attribute 'name'", at_name))?
        .to_text()
        .into_owned();
    build(ev, attrs, &name)
        .map_err(|error| error.while_(format!("while evaluating derivation '{name}'"), at_name))
}

fn build(ev: &mut Evaluator, attrs: Attrs, name: &str) -> EvalResult<Value> {
    if let Err(error) = check_name(name) {
        let words = format!("invalid derivation name: {error}. Please pass a different 'name'.");
        return Err(EvalError::new(ErrorKind::Invalid, words));
    }
    let is_structured = flag(ev, attrs, sym::STRUCTURED_ATTRS)?;
    let ignores_nulls = flag(ev, attrs, sym::IGNORE_NULLS)?;
    let mut workspace = ev.derivations.workspace();
    workspace.outputs.push(context::OUT);
    let mut gathered = Gathered {
        name,
        workspace,
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
            let words = format!("while evaluating attribute '{}' of derivation '{name}'", shown_name(key));
            let pos = sorted.pos(index);
            error.while_(words, Place { start: pos, end: pos })
        })?;
    }
    gathered.finish(ev)
}

fn flag(ev: &mut Evaluator, attrs: Attrs, name: Symbol) -> EvalResult<bool> {
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
        match key {
            sym::CONTENT_ADDRESSED => {
                self.is_floating = ev.force_bool(value)?;
                Ok(())
            }
            sym::IMPURE if !ev.force_bool(value)? => Ok(()),
            sym::IMPURE => Err(EvalError::new(
                ErrorKind::Unsupported,
                "impure derivations ('__impure') are not part of the language here",
            )
            .help("use a fixed-output derivation: its hash says what it must give")),
            sym::ARGS => self.arguments(ev, value),
            sym::STRUCTURED_ATTRS if self.json.is_some() => Ok(()),
            _ if self.json.is_some() => self.structured(ev, key, value),
            _ => self.variable(ev, key, value),
        }
    }

    fn arguments(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let list = ev.force_list(value)?;
        for index in 0..list.len() {
            let element = ev.force_element(list, index)?;
            self.workspace.parts.begin_argument();
            self.read(ev, element).map_err(|error| {
                error.wanted_for("while evaluating an element of the argument list", Place::NONE)
            })?;
            self.workspace.parts.end_argument();
        }
        Ok(())
    }

    /// Coerces as the environment does, to where the text belongs, and keeps what it depends on.
    fn read(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let Workspace { parts, gathering, .. } = &mut *self.workspace;
        ev.coerce_into(value, Coercion::DERIVATION, parts.text(), gathering)
    }

    /// The text that was read last.
    fn text(&self) -> String {
        String::from_utf8_lossy(self.workspace.parts.written()).into_owned()
    }

    fn variable(&mut self, ev: &mut Evaluator, key: Symbol, value: Value) -> EvalResult<()> {
        self.workspace.parts.begin_variable(key.as_bytes());
        self.read(ev, value)?;
        match key {
            sym::OUTPUT_HASH => self.output_hash = Some(self.text()),
            sym::OUTPUT_HASH_ALGO => self.output_hash_algo = hash_algo(&self.text()),
            sym::OUTPUT_HASH_MODE => self.method = Some(hash_mode(&self.text())?),
            sym::OUTPUTS if self.workspace.parts.written() == b"out" => {}
            sym::OUTPUTS => {
                let text = self.text();
                self.outputs(ev, text.split_ascii_whitespace())?;
            }
            _ => {}
        }
        self.workspace.parts.end_variable();
        Ok(())
    }

    #[inline(never)]
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
        match key {
            sym::BUILDER => {
                let text = ev.force_string(value)?;
                self.workspace.gathering.add(text.context());
                self.workspace.parts.set_builder(text.as_bytes());
            }
            sym::SYSTEM => self.workspace.parts.set_system(ev.force_string_no_context(value)?.as_bytes()),
            sym::OUTPUT_HASH => self.output_hash = Some(ev.force_string_no_context(value)?.to_text().into_owned()),
            sym::OUTPUT_HASH_ALGO => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.output_hash_algo = hash_algo(&text);
            }
            sym::OUTPUT_HASH_MODE => {
                let text = ev.force_string_no_context(value)?.to_text().into_owned();
                self.method = Some(hash_mode(&text)?);
            }
            sym::OUTPUTS => {
                let list = ev.force_list(value)?;
                let mut names = Vec::with_capacity(list.len());
                for index in 0..list.len() {
                    let element = ev.force_element(list, index)?;
                    names.push(ev.force_string_no_context(element)?.to_text().into_owned());
                }
                self.outputs(ev, names.iter().map(String::as_str))?;
            }
            _ if IGNORED_IF_STRUCTURED.contains(&key.as_bytes()) => ev.world().message(&format!(
                "warning: in a derivation named '{}', 'structuredAttrs' disables the effect of the derivation attribute \
                 '{key}'; use 'outputChecks.<output>.{key}' instead",
                self.name
            )),
            _ => {}
        }
        Ok(())
    }

    #[inline(never)]
    fn outputs<'n>(&mut self, ev: &mut Evaluator, names: impl Iterator<Item = &'n str>) -> EvalResult<()> {
        let outputs = &mut self.workspace.outputs;
        outputs.clear();
        for name in names {
            // It would clash with the set's own `drvPath`.
            if name == "drvPath" {
                return Err(invalid("invalid derivation output name 'drvPath'"));
            }
            if let Err(error) = check_name(name) {
                return Err(invalid(format!("invalid derivation output name '{name}': {error}")));
            }
            let id = ev.contexts.output_id(name);
            if outputs.contains(&id) {
                return Err(invalid(format!("duplicate derivation output '{name}'")));
            }
            outputs.push(id);
        }
        if outputs.is_empty() {
            return Err(invalid("derivation cannot have an empty set of outputs"));
        }
        Ok(())
    }

    // Not part of what is on the stack while attributes are forced: that may be a chain of derivations.
    #[inline(never)]
    fn finish(mut self, ev: &mut Evaluator) -> EvalResult<Value> {
        if let Some(mut json) = self.json.take() {
            if json.is_empty() {
                json.push(b'{');
            }
            json.push(b'}');
            self.workspace.parts.begin_variable(b"__json");
            self.workspace.parts.text().extend_from_slice(&json);
            self.workspace.parts.end_variable();
        }
        if !self.workspace.parts.has_builder() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'builder' missing"));
        }
        if !self.workspace.parts.has_system() {
            return Err(EvalError::new(ErrorKind::MissingAttribute, "required attribute 'system' missing"));
        }
        self.check_drv_name()?;
        let Workspace { gathering, elems, .. } = &mut *self.workspace;
        gathering.ids_to(&ev.contexts, elems);
        let deep = know_inputs(ev, &self.workspace.elems)?;
        let kind = self.kind()?;
        let made = instantiate(ev, self.name, &self.workspace, kind, deep.as_deref())?;
        ev.derivations.recycle(self.workspace);
        Ok(made)
    }

    fn check_drv_name(&self) -> EvalResult<()> {
        let makes_derivation = self.method == Some(Method::Text) && self.workspace.outputs == [context::OUT];
        if self.name.ends_with(".drv") && !makes_derivation {
            return Err(invalid(
                "derivation names are allowed to end in '.drv' only if they produce a single derivation file",
            ));
        }
        Ok(())
    }

    fn kind(&self) -> EvalResult<Kind> {
        if let Some(hash) = &self.output_hash {
            if self.workspace.outputs != [context::OUT] {
                return Err(invalid("multiple outputs are not supported in fixed-output derivations"));
            }
            let hash = parse_hash(hash, self.output_hash_algo)?;
            return Ok(Kind::Fixed(ContentAddress { method: self.method.unwrap_or(Method::Flat), hash }));
        }
        if self.is_floating {
            let method = self.method.unwrap_or(Method::Nar);
            return Ok(Kind::Floating(method, self.output_hash_algo.unwrap_or(HashAlgo::Sha256)));
        }
        Ok(Kind::InputAddressed)
    }
}

/// What the paths of outputs follow from.
enum Kind {
    InputAddressed,
    Fixed(ContentAddress),
    Floating(Method, HashAlgo),
}

/// Finds the derivations among what strings depend on. If some are meant with all that they need,
/// returns what there is with that in place of them.
fn know_inputs(ev: &mut Evaluator, named: &[u32]) -> EvalResult<Option<Vec<u32>>> {
    let mut deep = Vec::new();
    for &elem in named {
        match ev.contexts.elem(elem) {
            ElemView::Opaque(_) => {}
            ElemView::Built { .. } => {
                ev.derivation_of(elem)?;
            }
            ElemView::DrvDeep(drv) => deep.push(drv.to_path()),
        }
    }
    if deep.is_empty() {
        return Ok(None);
    }
    let is_deep = |elem: u32| matches!(ev.contexts.elem(elem), ElemView::DrvDeep(_));
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
        elems.push(ev.contexts.elem_id(&ContextElem::Opaque(path.clone())));
        if !path.is_derivation() {
            // Of objects that this evaluation did not write only the path itself is known here.
            stack.extend(ev.tools.texts.get(&path).into_iter().flatten().cloned());
            continue;
        }
        let number = ev.know_derivation(&path)?;
        let path_of = |&input: &u32| match ev.contexts.elem(input) {
            ElemView::Opaque(path) | ElemView::DrvDeep(path) | ElemView::Built { drv: path, .. } => {
                path.to_path()
            }
        };
        stack.extend(ev.derivations.inputs(number).iter().map(path_of));
        let drv = ev.contexts.path_id(&path);
        let outputs = ev.derivations.outputs(number).iter();
        elems.extend(outputs.map(|&output| ev.contexts.built_id(drv, output)));
    }
    Ok(())
}

/// Computes the paths, gives the text to the store, and returns the paths as strings that depend on it.
fn instantiate(
    ev: &mut Evaluator,
    name: &str,
    workspace: &Workspace,
    kind: Kind,
    deep: Option<&[u32]>,
) -> EvalResult<Value> {
    let Workspace { outputs: output_names, elems: named, .. } = workspace;
    let elems = deep.unwrap_or(named);
    let mut composer = std::mem::take(&mut ev.derivations.composer);
    let (mut inputs, mut sources) = (Vec::with_capacity(elems.len()), Vec::new());
    for &elem in elems {
        match ev.contexts.elem(elem) {
            ElemView::Opaque(path) => sources.push(path),
            ElemView::Built { drv, output } => {
                let number = ev.derivations.at(ev.contexts.path_of(elem)).expect("inputs are known");
                let known = ev.derivations.get(number);
                let (modulo, is_deferred) = (&known.modulo, known.is_deferred());
                inputs.push(ComposedInput { drv, modulo, is_deferred, output });
            }
            ElemView::DrvDeep(_) => unreachable!("replaced by what it means"),
        }
    }
    inputs.sort_unstable_by(|a, b| (a.drv, a.output).cmp(&(b.drv, b.output)));
    sources.sort_unstable();
    let names: Vec<Arc<str>> =
        output_names.iter().map(|&output| Arc::clone(ev.contexts.output_name(output))).collect();
    let outputs = match kind {
        Kind::InputAddressed => ComposedOutputs::InputAddressed(&names),
        Kind::Floating(method, algo) => ComposedOutputs::Floating(&names, method, algo),
        Kind::Fixed(address) => ComposedOutputs::Fixed(address),
    };
    let world = ev.world.clone();
    let composed = composer
        .finish(world.store_dir(), name, &workspace.parts, outputs, &inputs, &sources)
        .map_err(|error| invalid(error.to_string()))?;
    world
        .add_text(&composed.path, composed.text, composed.references.as_slice())
        .map_err(|error| EvalError::world(&error))?;
    let Composed { path, modulo, outputs, text, .. } = composed;
    let is_kept = text.len() <= MAX_KEPT_BYTES;
    let drv = ev.contexts.path_id(&path);
    let ids: Vec<u32> = outputs.iter().map(|(name, _)| ev.contexts.output_id(name)).collect();
    if ev.derivations.at(drv).is_none() {
        ev.derivations.insert(drv, &modulo, &ids, named);
    }
    let made = paths_of(ev, drv, &ids, &outputs);
    if is_kept {
        ev.derivations.composer = composer;
    }
    made
}

/// What [`strict_paths`] gives.
fn paths_of(
    ev: &mut Evaluator,
    drv: u32,
    names: &[u32],
    outputs: &[(&str, DerivationOutput)],
) -> EvalResult<Value> {
    let mut text = String::with_capacity(256);
    let mut path = |ev: &mut Evaluator, index: usize| {
        let (name, output) = &outputs[index];
        text.clear();
        match output.path() {
            Some(path) => ev.world.store_dir().print_into(path, &mut text),
            None => {
                text += &ampoule_store::downstream_placeholder(&ev.contexts.path(drv).to_path(), name)
                    .map_err(|error| invalid(error.to_string()))?;
            }
        }
        let elem = ev.contexts.built_id(drv, names[index]);
        Ok(ev.string_with(&text, ev.contexts.single_of(elem)))
    };
    if names.len() == 1 {
        return path(ev, 0);
    }
    let paths = ev.heap().list(names.len());
    for index in 0..names.len() {
        let path = path(ev, index)?;
        paths.as_list().expect("a list").settle(index, path);
    }
    Ok(paths)
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
