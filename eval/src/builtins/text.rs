//! Text formats and hashes.

use std::collections::{HashMap, HashSet};

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};
use ampoule_store::{Hash, HashAlgo, HashFormat};

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use super::attrs::NextArgument;
use crate::coerce::{Coercion, RESULT_OF_TO_STRING};
use crate::context::ContextId;
use crate::error::{ErrorKind, EvalError, EvalResult, shown_name};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Attrs, AttrsBuilder, Sorted, Value, Values, View};
use crate::json::{self, JsonError};
use crate::toml::{self, Toml};
use crate::xml::XmlWriter;

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "convertHash",
        params: &["args"],
        doc: "Writes `hash` in another form: `toHashFormat` is `base16`, `nix32`, `base64` or `sri`. `hashAlgo` says \
              what the hash was made with, if it does not say so itself. O(1).",
        examples: &[
            (
                "builtins.convertHash { hash = \"sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\"; \
                 toHashFormat = \"nix32\"; }",
                Shows("\"1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s\""),
            ),
            (
                "builtins.convertHash { hash = \"x\"; toHashFormat = \"sri\"; }",
                Fails("hash 'x' does not include a type, nor is the type otherwise known from context"),
            ),
        ],
        run: convert_hash,
    },
    Builtin {
        name: "fromJSON",
        params: &["string"],
        doc: "Returns the value of a JSON text. Numbers with a point or an exponent, and those that do not fit, are \
              floats. Of several members with one name the last counts. O(n), whatever the depth.",
        examples: &[
            (
                "builtins.fromJSON ''{ \"a\": [ 1, 2.5, null, \"\\u0041\" ] }''",
                Shows("{ a = [ 1 2.5 null \"A\" ]; }"),
            ),
            (
                "builtins.fromJSON \"[1,]\"",
                Fails(
                    "[json.exception.parse_error.101] parse error at line 1, column 4: syntax error while parsing value \
                     - unexpected ']'; expected '[', '{', or a literal",
                ),
            ),
        ],
        run: from_json,
    },
    Builtin {
        name: "fromTOML",
        params: &["string"],
        doc: "Returns the value of a TOML 1.0 text. Dates and times have no value and are an error. O(n).",
        examples: &[
            ("fromTOML ''\n[a]\nb = [ 1, 0x10 ]''", Shows("{ a = { b = [ 1 16 ]; }; }")),
            ("fromTOML \"a = 07:32:00\"", Fails("Dates and times are not supported")),
        ],
        run: from_toml,
    },
    Builtin {
        name: "hashString",
        params: &["algorithm", "string"],
        doc: "Returns the hash of a string, in hexadecimal. `md5`, `sha1`, `sha256`, `sha512`. The result depends on \
              nothing. O(n).",
        examples: &[
            (
                "builtins.hashString \"sha256\" \"abc\"",
                Shows("\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""),
            ),
            ("builtins.hashString \"x\" \"\"", Fails("unknown hash algorithm 'x'")),
        ],
        run: hash_string,
    },
    Builtin {
        name: "toJSON",
        params: &["x"],
        doc: "Returns the value as JSON, forced all the way. Sets with `__toString` or `outPath` become that string; \
              paths are copied to the store; functions are an error. Keeps the context. O(n).",
        examples: &[
            (
                "builtins.toJSON { b = [ 1 1.0 null true ]; a = \"x\\ny\"; }",
                Shows(r#""{\"a\":\"x\\ny\",\"b\":[1,1.0,null,true]}""#),
            ),
            ("builtins.toJSON { outPath = \"/x\"; a = throw \"no\"; }", Shows(r#""\"/x\"""#)),
            ("builtins.toJSON (x: x)", Fails("cannot convert a function to JSON")),
        ],
        run: to_json,
    },
    Builtin {
        name: "toXML",
        params: &["x"],
        doc: "Returns the value as XML, forced all the way. A derivation that was shown is not shown again. O(n).",
        examples: &[(
            "builtins.toXML { a = 1; }",
            Shows(
                r#""<?xml version='1.0' encoding='utf-8'?>\n<expr>\n  <attrs>\n    <attr name=\"a\">\n      <int value=\"1\" />\n    </attr>\n  </attrs>\n</expr>\n""#,
            ),
        )],
        run: to_xml,
    },
];

// ---- hashes

pub(super) fn parse_algo(name: &str) -> EvalResult<HashAlgo> {
    HashAlgo::parse(name).map_err(|error| EvalError::invalid(error.to_string()))
}

fn hash_string(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let algo = args.string_no_context(ev, 0)?;
    let algo = match algo.as_bytes() {
        b"sha256" => HashAlgo::Sha256,
        _ => parse_algo(&algo.to_text())?,
    };
    let text = args.string(ev, 1)?;
    let hash = Hash::of(algo, text.as_bytes());
    let (digits, len) = hash.base16_digits();
    Ok(ev.string(&digits[..len]))
}

fn convert_hash(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let set = args.attrs(ev, 0)?;
    let hash = ev.required_attr(set, "hash", "while locating the attribute 'hash'")?;
    let hash = ev.force_string_no_context(hash).part("while evaluating the attribute 'hash'")?;
    let algo = match ev.force_attr(set, Symbol::intern("hashAlgo"))? {
        Some(name) => {
            let name = ev.force_string_no_context(name);
            Some(parse_algo(&name.part("while evaluating the attribute 'hashAlgo'")?.to_text())?)
        }
        None => None,
    };
    let format = ev.required_attr(set, "toHashFormat", "while locating the attribute 'toHashFormat'")?;
    let format = ev.force_string_no_context(format).part("while evaluating the attribute 'toHashFormat'")?;
    let format = match format.as_bytes() {
        b"base16" => HashFormat::Base16,
        b"nix32" | b"base32" => HashFormat::Nix32,
        b"base64" => HashFormat::Base64,
        b"sri" => HashFormat::Sri,
        _ => {
            return Err(EvalError::invalid(format!(
                "unknown hash format '{}', expect 'base16', 'base32', 'base64', or 'sri'",
                format.to_text()
            )));
        }
    };
    let hash =
        Hash::parse_any(&hash.to_text(), algo).map_err(|error| EvalError::invalid(error.to_string()))?;
    Ok(ev.string(hash.format(format, false)))
}

// ---- JSON

impl From<JsonError> for EvalError {
    fn from(error: JsonError) -> Self {
        EvalError::invalid(error.0).in_part("while decoding a JSON string", Place::NONE)
    }
}

fn from_json(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let text = args.string_no_context(ev, 0)?;
    let mut maker = JsonMaker {
        ev,
        values: Values::new(),
        open: Vec::new(),
        names: Vec::new(),
        shapes: HashMap::new(),
        examples: Values::new(),
    };
    json::read(text.as_bytes(), &mut maker)?;
    Ok(maker.values.pop().expect("a text holds one value"))
}

/// Makes values of what the reader tells: finished ones lie in a row, and a container takes those
/// that came after it began.
struct JsonMaker<'e> {
    ev: &'e mut Evaluator,
    values: Values,
    /// Where each open container begins: in the values, and in the names.
    open: Vec<(usize, usize)>,
    names: Vec<Symbol>,
    /// By names in their order.
    shapes: HashMap<Box<[Symbol]>, Shape>,
    examples: Values,
}

/// Where among the examples a set with these names is, and where each name is in its keys.
type Shape = (usize, Box<[u32]>);

impl JsonMaker<'_> {
    fn push(&mut self, value: Value) {
        self.values.push(self.ev.heap(), value);
    }
}

impl json::Visitor for JsonMaker<'_> {
    type Error = EvalError;

    fn null(&mut self) -> EvalResult<()> {
        self.push(Value::NULL);
        Ok(())
    }

    fn bool(&mut self, value: bool) -> EvalResult<()> {
        self.push(Value::bool(value));
        Ok(())
    }

    fn int(&mut self, value: i64) -> EvalResult<()> {
        let value = self.ev.int(value);
        self.push(value);
        Ok(())
    }

    fn too_large(&mut self, value: u64) -> EvalResult<()> {
        Err(EvalError::invalid(json::too_large(value).0))
    }

    fn float(&mut self, value: f64) -> EvalResult<()> {
        let value = self.ev.float(value);
        self.push(value);
        Ok(())
    }

    fn string(&mut self, value: &[u8]) -> EvalResult<()> {
        refuse_nul(value)?;
        let value = self.ev.string(value);
        self.push(value);
        Ok(())
    }

    fn begin_list(&mut self) -> EvalResult<()> {
        self.open.push((self.values.len(), self.names.len()));
        Ok(())
    }

    fn end_list(&mut self) -> EvalResult<()> {
        let (start, _) = self.open.pop().expect("the reader nests");
        let len = self.values.len() - start;
        let list = self.ev.heap().list(len);
        let slots = list.as_list().expect("a list");
        for index in 0..len {
            slots.settle(index, self.values.get(start + index));
        }
        self.values.truncate(start);
        self.push(list);
        Ok(())
    }

    fn begin_object(&mut self) -> EvalResult<()> {
        self.open.push((self.values.len(), self.names.len()));
        Ok(())
    }

    fn key(&mut self, name: &[u8]) -> EvalResult<()> {
        refuse_nul(name)?;
        self.names.push(Symbol::intern(name));
        Ok(())
    }

    fn end_object(&mut self) -> EvalResult<()> {
        let (start, first_name) = self.open.pop().expect("the reader nests");
        let set = self.object(first_name, start);
        self.values.truncate(start);
        self.names.truncate(first_name);
        self.push(set);
        Ok(())
    }
}

impl JsonMaker<'_> {
    /// Makes a set. Objects with the same names in the same order share their keys.
    fn object(&mut self, first_name: usize, start: usize) -> Value {
        let names = &self.names[first_name..];
        let heap = self.ev.heap();
        if let Some((example, order)) = self.shapes.get(names) {
            let example = self.examples.get(*example).as_attrs().expect("an example is a set");
            let keys = heap.flat(example).keys();
            let mut set = heap.attrs_like(keys);
            for (index, &place) in order.iter().enumerate() {
                set.set(place as usize, self.values.get(start + index));
            }
            return set.finish();
        }
        let mut set = AttrsBuilder::with_capacity(heap, names.len());
        // Of several members with one name the last counts, so they come first.
        for (index, &name) in names.iter().enumerate().rev() {
            set.push(heap, name, self.values.get(start + index));
        }
        let set = set.finish(heap);
        let attrs = set.as_attrs().expect("a set");
        if attrs.len() == names.len() && !names.is_empty() && self.examples.len() < MAX_SHAPES {
            let keys = heap.flat(attrs).keys();
            let order = names.iter().map(|&name| keys.find(name).expect("just put there") as u32).collect();
            self.shapes.insert(names.into(), (self.examples.len(), order));
            self.examples.push(heap, set);
        }
        set
    }
}

/// Shapes of objects that are remembered while a text is read.
const MAX_SHAPES: usize = 256;

fn refuse_nul(text: &[u8]) -> EvalResult<()> {
    if !text.contains(&0) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(text).replace('\0', "␀");
    Err(EvalError::invalid(format!(
        "input string '{shown}' cannot be represented as Nix string because it contains null bytes"
    )))
}

fn to_json(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let mut out = Vec::new();
    let mut context = ContextId::EMPTY;
    ev.write_json(args.at(0), true, &mut out, &mut context)?;
    crate::ops::check_string_length(out.len())?;
    Ok(ev.string_with(out, context))
}

impl Evaluator {
    /// Appends a value as JSON, forcing it all the way, and adds to `context` what it depends on.
    /// Paths are copied to the store if `copy` says so.
    ///
    /// # Errors
    /// If a part fails or has no JSON form.
    pub fn write_json(
        &mut self,
        value: Value,
        copy: bool,
        out: &mut Vec<u8>,
        context: &mut ContextId,
    ) -> EvalResult<()> {
        let value = self.force(value)?;
        match value.view() {
            View::Null => out.extend_from_slice(b"null"),
            View::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
            View::Int(n) => json::write_int(n, out),
            View::Float(x) => json::write_float(x, out),
            View::Str(text) => {
                *context = self.contexts().union(*context, text.context());
                write_json_string(text.as_bytes(), out)?;
            }
            View::Path(path) => {
                let text = if copy { self.copy_to_store(path)? } else { self.string(path.as_bytes()) };
                let text = text.as_str().expect("a string");
                *context = self.contexts().union(*context, text.context());
                write_json_string(text.as_bytes(), out)?;
            }
            View::List(list) => {
                self.check_depth()?;
                out.push(b'[');
                for index in 0..list.len() {
                    if index > 0 {
                        out.push(b',');
                    }
                    let element = self.force_element(list, index);
                    let written = element.and_then(|element| self.write_json(element, copy, out, context));
                    written.map_err(|error| {
                        error.in_part(format!("while evaluating list element at index {index}"), Place::NONE)
                    })?;
                }
                out.push(b']');
            }
            View::Attrs(attrs) => {
                self.check_depth()?;
                self.write_json_attrs(value, attrs, copy, out, context)?;
            }
            View::Closure(_) | View::Builtin(_) | View::Partial(_) => {
                let kind = self.type_with_article(value);
                return Err(EvalError::new(ErrorKind::Type, format!("cannot convert {kind} to JSON")));
            }
            View::Thunk(_) => unreachable!("it was forced"),
        }
        Ok(())
    }

    fn write_json_attrs(
        &mut self,
        value: Value,
        attrs: Attrs,
        copy: bool,
        out: &mut Vec<u8>,
        context: &mut ContextId,
    ) -> EvalResult<()> {
        if let Some(to_string) = self.force_attr(attrs, sym::TO_STRING)? {
            let text = self.call(to_string, &[value])?;
            let how = Coercion { more: false, copy_to_store: copy };
            let text = self.coerce_to_string(text, how);
            let text = text.map_err(|error| error.wanted_for(RESULT_OF_TO_STRING, Place::NONE))?;
            return self.write_json(text, copy, out, context);
        }
        if let Some(path) = attrs.get(sym::OUT_PATH) {
            return self.write_json(path, copy, out, context);
        }
        let sorted = self.heap().sorted(attrs);
        out.push(b'{');
        for index in 0..sorted.len() {
            if index > 0 {
                out.push(b',');
            }
            self.write_json_attr(sorted, index, copy, out, context)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn write_json_attr(
        &mut self,
        sorted: Sorted,
        index: usize,
        copy: bool,
        out: &mut Vec<u8>,
        context: &mut ContextId,
    ) -> EvalResult<()> {
        let (name, _) = sorted.get(index);
        write_json_string(name.as_bytes(), out)?;
        out.push(b':');
        let value = self.force_slot(sorted.slot(index));
        value.and_then(|value| self.write_json(value, copy, out, context)).map_err(|error| {
            let place = Place { start: sorted.pos(index), end: sorted.pos(index) };
            error.in_part(format!("while evaluating attribute '{}'", shown_name(name)), place)
        })
    }

    /// Appends part `part` of `parts` of what [`Evaluator::write_json`] appends, paths as in the store: the parts
    /// of a set are some of its attributes each, and nothing else is forced for them. Other values
    /// are all in the first part.
    ///
    /// # Errors
    /// If what is in this part fails or has no JSON form.
    pub fn write_json_part(
        &mut self,
        value: Value,
        part: usize,
        parts: usize,
        out: &mut Vec<u8>,
    ) -> EvalResult<()> {
        let mut context = ContextId::EMPTY;
        let value = self.force(value)?;
        let attrs = match value.as_attrs() {
            Some(attrs) if !attrs.has(sym::TO_STRING) && !attrs.has(sym::OUT_PATH) => attrs,
            _ if part > 0 => return Ok(()),
            _ => return self.write_json(value, true, out, &mut context),
        };
        let sorted = self.heap().sorted(attrs);
        let bound = |part: usize| sorted.len() * part / parts;
        if part == 0 {
            out.push(b'{');
        }
        for index in bound(part)..bound(part + 1) {
            if index > 0 {
                out.push(b',');
            }
            self.write_json_attr(sorted, index, true, out, &mut context)?;
        }
        if part + 1 == parts {
            out.push(b'}');
        }
        Ok(())
    }
}

fn write_json_string(text: &[u8], out: &mut Vec<u8>) -> EvalResult<()> {
    json::write_string(text, out)
        .map_err(|error| EvalError::invalid(format!("JSON serialization error: {error}")))
}

// ---- TOML

fn from_toml(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let text = args.string_no_context(ev, 0)?;
    let Ok(text) = std::str::from_utf8(text.as_bytes()) else {
        return Err(EvalError::invalid("while parsing TOML: the text is not UTF-8"));
    };
    let value =
        toml::read(text).map_err(|error| EvalError::invalid(format!("while parsing TOML: {error}")))?;
    Ok(toml_value(ev, &value))
}

fn toml_value(ev: &mut Evaluator, value: &Toml) -> Value {
    match value {
        Toml::String(text) => ev.string(text),
        Toml::Int(n) => ev.int(*n),
        Toml::Float(x) => ev.float(*x),
        Toml::Bool(b) => Value::bool(*b),
        Toml::List(items) => {
            let mut list = Values::with_capacity(ev.heap(), items.len());
            for item in items {
                let item = toml_value(ev, item);
                list.push(ev.heap(), item);
            }
            list.into_list(ev.heap())
        }
        Toml::Table(members) => {
            let mut set = AttrsBuilder::with_capacity(ev.heap(), members.len());
            for (name, value) in members {
                let value = toml_value(ev, value);
                set.push(ev.heap(), Symbol::intern(name), value);
            }
            set.finish(ev.heap())
        }
    }
}

// ---- XML

fn to_xml(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (text, context) = ev.to_xml(args.at(0), true, false)?;
    Ok(ev.string_with(text, context))
}

/// How a value is written as XML.
struct XmlPrinter {
    xml: XmlWriter,
    context: ContextId,
    strict: bool,
    with_places: bool,
    seen: HashSet<Vec<u8>>,
}

impl Evaluator {
    /// Returns a value as XML, and what it depends on. If not `strict`, nothing is forced.
    ///
    /// # Errors
    /// If a part fails.
    pub fn to_xml(
        &mut self,
        value: Value,
        strict: bool,
        with_places: bool,
    ) -> EvalResult<(Vec<u8>, ContextId)> {
        let mut printer = XmlPrinter {
            xml: XmlWriter::default(),
            context: ContextId::EMPTY,
            strict,
            with_places,
            seen: HashSet::new(),
        };
        printer.value(self, value)?;
        Ok((printer.xml.finish(), printer.context))
    }
}

impl XmlPrinter {
    fn value(&mut self, ev: &mut Evaluator, value: Value) -> EvalResult<()> {
        let value = if self.strict { ev.force(value)? } else { value };
        match value.view() {
            View::Null => self.xml.empty("null", &[]),
            View::Bool(b) => self.xml.empty("bool", &[("value", if b { b"true" } else { b"false" })]),
            View::Int(n) => self.xml.empty("int", &[("value", n.to_string().as_bytes())]),
            View::Float(x) => self.xml.empty("float", &[("value", crate::number::print_float(x).as_bytes())]),
            View::Str(text) => {
                self.context = ev.contexts().union(self.context, text.context());
                self.xml.empty("string", &[("value", text.as_bytes())]);
            }
            View::Path(path) => self.xml.empty("path", &[("value", path.as_bytes())]),
            View::List(list) => {
                ev.check_depth()?;
                self.xml.open("list", &[]);
                for element in list.iter() {
                    self.value(ev, element)?;
                }
                self.xml.close("list");
            }
            View::Attrs(attrs) => {
                ev.check_depth()?;
                self.attrs(ev, attrs)?;
            }
            View::Closure(_) | View::Partial(_) => match NextArgument::of(value) {
                Some(argument) => self.function(ev, &argument),
                None => self.xml.empty("unevaluated", &[]),
            },
            View::Builtin(_) | View::Thunk(_) => self.xml.empty("unevaluated", &[]),
        }
        Ok(())
    }

    fn attrs(&mut self, ev: &mut Evaluator, attrs: Attrs) -> EvalResult<()> {
        let is_derivation = if self.strict {
            ev.is_derivation(attrs)?
        } else {
            let kind = attrs.get(sym::TYPE).map(Value::view);
            matches!(kind, Some(View::Str(kind)) if kind.as_bytes() == b"derivation")
        };
        if !is_derivation {
            self.xml.open("attrs", &[]);
            self.members(ev, attrs)?;
            self.xml.close("attrs");
            return Ok(());
        }
        let mut paths: Vec<(&str, Vec<u8>)> = Vec::new();
        for (tag, name) in [("drvPath", sym::DRV_PATH), ("outPath", sym::OUT_PATH)] {
            let Some(path) = attrs.get(name) else { continue };
            let path = if self.strict { ev.force(path)? } else { path };
            if let View::Str(path) = path.view() {
                paths.push((tag, path.as_bytes().to_vec()));
            }
        }
        let written: Vec<(&str, &[u8])> = paths.iter().map(|(tag, path)| (*tag, path.as_slice())).collect();
        self.xml.open("derivation", &written);
        let drv = paths.iter().find(|(tag, _)| *tag == "drvPath").map(|(_, path)| path.clone());
        if drv.is_some_and(|drv| self.seen.insert(drv)) {
            self.members(ev, attrs)?;
        } else {
            self.xml.empty("repeated", &[]);
        }
        self.xml.close("derivation");
        Ok(())
    }

    fn members(&mut self, ev: &mut Evaluator, attrs: Attrs) -> EvalResult<()> {
        let sorted = ev.heap().sorted(attrs);
        for index in 0..sorted.len() {
            let (name, value) = sorted.get(index);
            let place = self.place(ev, sorted.pos(index));
            let mut written = place_attributes(place.as_ref(), Some(name.as_bytes()));
            written.sort_unstable_by_key(|(tag, _)| *tag);
            self.xml.open("attr", &written);
            self.value(ev, value)?;
            self.xml.close("attr");
        }
        Ok(())
    }

    fn function(&mut self, ev: &mut Evaluator, argument: &NextArgument) {
        let place = self.place(ev, argument.pos);
        let written = place_attributes(place.as_ref(), None);
        self.xml.open("function", &written);
        let whole = argument.name;
        if let Some(formals) = argument.formals {
            let mut written: Vec<(&str, &[u8])> = Vec::new();
            if formals.ellipsis {
                written.push(("ellipsis", b"1"));
            }
            if let Some(name) = whole {
                written.push(("name", name.as_bytes()));
            }
            self.xml.open("attrspat", &written);
            let mut names: Vec<&[u8]> = formals.list.iter().map(|formal| formal.name.as_bytes()).collect();
            names.sort_unstable();
            for name in names {
                self.xml.empty("attr", &[("name", name)]);
            }
            self.xml.close("attrspat");
        } else {
            let name = whole.map_or(&b""[..], Symbol::as_bytes);
            self.xml.empty("varpat", &[("name", name)]);
        }
        self.xml.close("function");
    }

    /// Returns column, line and file as they are written.
    fn place(&self, ev: &Evaluator, pos: u32) -> Option<[String; 3]> {
        if !self.with_places {
            return None;
        }
        let (file, at) = ev.position(pos)?;
        Some([at.column_number.to_string(), at.line_number.to_string(), file])
    }
}

fn place_attributes<'a>(
    place: Option<&'a [String; 3]>,
    name: Option<&'a [u8]>,
) -> Vec<(&'static str, &'a [u8])> {
    let mut written: Vec<(&'static str, &[u8])> = Vec::new();
    if let Some([column, line, path]) = place {
        written.push(("column", column.as_bytes()));
        written.push(("line", line.as_bytes()));
        // A text that is no file has no path.
        if !path.starts_with('«') {
            written.push(("path", path.as_bytes()));
        }
    }
    if let Some(name) = name {
        written.push(("name", name));
    }
    written
}
