//! Turning values into strings: interpolation, `toString`, attributes of derivations.

use ampoule_lang::resolve::{Interpolate, Place};
use ampoule_lang::sym;
use ampoule_store::{Method, StorePath};

use crate::context::{ContextElem, ContextId, Gathering};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, Captures, Frame, Life, List, Path, Value, View};
use crate::runtime::Words;
use crate::world::AddError;

/// Interpolations that begin with a string of this length write behind it, as `+` does.
const MIN_GROWING_BYTES: usize = 512;

/// What may be turned into a string, and how paths are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coercion {
    /// Whether numbers, Booleans, null and lists are turned into strings too.
    pub more: bool,
    /// Whether a path is added to the store and becomes its store path.
    pub copy_to_store: bool,
}

impl Coercion {
    /// Strings, paths as they are, sets with `__toString` or `outPath`.
    pub const PLAIN: Self = Self { more: false, copy_to_store: false };
    /// As in `"${…}"`: paths are added to the store.
    pub const INTERPOLATION: Self = Self { more: false, copy_to_store: true };
    /// As `toString` does.
    pub const TO_STRING: Self = Self { more: true, copy_to_store: false };
    /// As attributes of derivations are.
    pub const DERIVATION: Self = Self { more: true, copy_to_store: true };
}

impl Evaluator {
    /// Forces a value and turns it into a string value; a string stays the same object.
    ///
    /// # Errors
    /// If it is nothing that can be a string here, or fails.
    pub fn coerce_to_string(&mut self, value: Value, how: Coercion) -> EvalResult<Value> {
        let value = self.force(value)?;
        if value.as_str().is_some() {
            return Ok(value);
        }
        self.coerce_other(value, how)
    }

    #[inline(never)]
    fn coerce_other(&mut self, value: Value, how: Coercion) -> EvalResult<Value> {
        match value.view() {
            View::Str(_) => Ok(value),
            View::Path(path) if how.copy_to_store => self.copy_to_store(path),
            View::Path(path) => Ok(self.heap.string(path.as_bytes(), ContextId::EMPTY)),
            View::Attrs(attrs) => self.coerce_attrs(value, attrs, how),
            View::Bool(true) if how.more => Ok(self.string("1")),
            View::Bool(false) | View::Null if how.more => Ok(self.heap.empty_string),
            View::Int(n) if how.more => Ok(self.int_string(n)),
            View::Float(x) if how.more => Ok(self.string(crate::number::float_to_string(x))),
            View::List(list) if how.more => self.coerce_list(list, how),
            _ => Err(self.cannot_coerce(value)),
        }
    }

    /// Returns a number in decimal.
    pub(crate) fn int_string(&mut self, n: i64) -> Value {
        let mut buffer = [0u8; 20];
        let mut at = buffer.len();
        let mut rest = n.unsigned_abs();
        loop {
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if n < 0 {
            at -= 1;
            buffer[at] = b'-';
        }
        self.heap.string(&buffer[at..], ContextId::EMPTY)
    }

    fn coerce_attrs(&mut self, value: Value, attrs: Attrs, how: Coercion) -> EvalResult<Value> {
        self.check_depth()?;
        if let Some(to_string) = self.force_attr(attrs, sym::TO_STRING)? {
            let result = self.call(to_string, &[value])?;
            let text = self.coerce_to_string(result, how);
            return text.map_err(|error| error.wanted_for(RESULT_OF_TO_STRING, Place::NONE));
        }
        match self.force_attr(attrs, sym::OUT_PATH)? {
            Some(path) => self.coerce_to_string(path, how),
            None => Err(self.cannot_coerce(value)),
        }
    }

    fn coerce_list(&mut self, list: List, how: Coercion) -> EvalResult<Value> {
        let (mut bytes, mut gathering) = (Vec::new(), Gathering::default());
        self.coerce_list_into(list, how, &mut bytes, &mut gathering)?;
        let context = gathering.finish(&mut self.contexts);
        Ok(self.heap.string(&bytes, context))
    }

    fn coerce_list_into(
        &mut self,
        list: List,
        how: Coercion,
        bytes: &mut Vec<u8>,
        gathering: &mut Gathering,
    ) -> EvalResult<()> {
        self.check_depth()?;
        for index in 0..list.len() {
            let element = self.force_element(list, index).map_err(EvalError::in_coercion)?;
            self.coerce_into(element, how, bytes, gathering).map_err(element_failed)?;
            let is_empty_list = element.as_list().is_some_and(|list| list.is_empty());
            if index + 1 < list.len() && !is_empty_list {
                bytes.push(b' ');
            }
            crate::ops::check_string_length(bytes.len())?;
        }
        Ok(())
    }

    /// Appends what [`Self::coerce_to_string`] gives, and adds its context to what is gathered.
    pub(crate) fn coerce_into(
        &mut self,
        value: Value,
        how: Coercion,
        bytes: &mut Vec<u8>,
        gathering: &mut Gathering,
    ) -> EvalResult<()> {
        let value = self.force(value)?;
        if how.more
            && let Some(list) = value.as_list()
        {
            return self.coerce_list_into(list, how, bytes, gathering);
        }
        let text = self.coerce_to_string(value, how)?;
        let text = text.as_str().expect("coerced");
        gathering.add(text.context());
        bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    #[cold]
    pub(crate) fn cannot_coerce(&mut self, value: Value) -> EvalError {
        let shown = self.show_short(value);
        let kind = self.type_with_article(value);
        EvalError::new(ErrorKind::Type, format!("cannot coerce {kind} to a string: {shown}")).in_coercion()
    }

    /// Adds a path to the store, once, and returns its store path as a string that depends on it.
    ///
    /// # Errors
    /// If it cannot be read or added.
    pub fn copy_to_store(&mut self, path: Path) -> EvalResult<Value> {
        let object = self.add_source(path.as_path())?;
        let text = self.world.store_dir().print(&object);
        let context = self.contexts.single(ContextElem::Opaque(object));
        // A path in a program is copied wherever it is met, and is the same string each time.
        let place = path.as_bytes().as_ptr() as usize;
        let known = self.heap.last_text(place).filter(|known| {
            known
                .as_str()
                .is_some_and(|known| known.as_bytes() == text.as_bytes() && known.context() == context)
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let made = self.heap.string(text.as_bytes(), context);
        self.heap.set_last_text(place, made);
        Ok(made)
    }

    /// Adds a path to the store as it is, under its own name, once.
    ///
    /// # Errors
    /// If it cannot be read or added.
    pub fn add_source(&mut self, path: &std::path::Path) -> EvalResult<StorePath> {
        if let Some(known) = self.copied.get(path) {
            return Ok(known.clone());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".drv") {
            return Err(EvalError::new(ErrorKind::Invalid, "file names are not allowed to end in '.drv'"));
        }
        let world = self.world();
        let added = world.add_path(&name, path, Method::Nar, None, None).map_err(|error| match error {
            AddError::Io(error) => EvalError::adding(&*world, &error, path),
            AddError::Stopped | AddError::HashMismatch { .. } => unreachable!("no filter, no promise"),
        })?;
        self.copied.insert(path.to_owned(), added.clone());
        Ok(added)
    }

    // ---- interpolation

    /// `"a${b}c"`.
    #[inline(never)]
    pub(crate) fn interpolate(
        &mut self,
        node: &'static Interpolate<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let count = node.parts.len();
        let Some(texts) = self.heap.push_frame(count) else { return Err(EvalError::stack_overflow()) };
        let mut total = 0;
        let mut context = ContextId::EMPTY;
        for (index, (part, place)) in node.parts.iter().enumerate() {
            let value = self.operand(part, frame, captures)?;
            let text = if value.as_str().is_some() {
                value
            } else {
                self.coerce_other(value, Coercion::INTERPOLATION)
                    .map_err(|error| segment_failed(error, *place))?
            };
            let view = text.as_str().expect("coerced");
            total += view.len();
            context = self.contexts.union(context, view.context());
            texts.set(index as u32, text);
        }
        let value = if count == 1 { texts.get(0) } else { self.join(node, texts, total, context)? };
        self.heap.pop_to(texts);
        Ok(value)
    }

    fn join(
        &mut self,
        node: &'static Interpolate<'static, Words>,
        texts: Frame,
        total: usize,
        context: ContextId,
    ) -> EvalResult<Value> {
        crate::ops::check_string_length(total)?;
        let count = node.parts.len();
        let first = texts.get(0);
        let first_len = first.as_str().expect("coerced").len();
        if first_len >= MIN_GROWING_BYTES && first_len * 2 >= total {
            // `"${text}more"` in a loop: what is appended is what it costs.
            return Ok((1..count).fold(first, |whole, index| {
                let part = texts.get(index as u32).as_str().expect("coerced");
                self.heap.append(whole, part.as_bytes(), context)
            }));
        }
        // What depends on something is often the same each time: `"${shell}/bin/sh"` of a hundred thousand
        // derivations is kept once.
        let place = std::ptr::from_ref(node) as usize;
        if !context.is_empty()
            && let Some(last) = self.heap.last_text(place)
            && is_joined(last, texts, count, total, context)
        {
            return Ok(last);
        }
        let joined = self.heap.string_with(total, context, |bytes| {
            let mut at = 0;
            for index in 0..count {
                let text = texts.get(index as u32).as_str().expect("coerced");
                bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
                at += text.len();
            }
        });
        if !context.is_empty() {
            self.heap.set_last_text(place, joined);
        }
        Ok(joined)
    }

    /// `./a/${b}`.
    pub(crate) fn interpolate_path(
        &mut self,
        node: &'static Interpolate<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let mut bytes = Vec::new();
        for (index, (part, place)) in node.parts.iter().enumerate() {
            let value = self.operand(part, frame, captures)?;
            let text = self
                .coerce_to_string(value, Coercion::PLAIN)
                .map_err(|error| segment_failed(error, *place))?;
            let text = text.as_str().expect("coerced");
            if index > 0 && !text.context().is_empty() {
                return Err(path_with_context().at(node.place));
            }
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(self.path(bytes))
    }

    /// `path + value`.
    pub(crate) fn append_to_path(&mut self, path: Path, value: Value) -> EvalResult<Value> {
        let text = self.coerce_to_string(value, Coercion::PLAIN)?;
        let text = text.as_str().expect("coerced");
        if !text.context().is_empty() {
            return Err(path_with_context());
        }
        let joined = crate::path::canonical(&[path.as_bytes(), text.as_bytes()].concat());
        Ok(self.heap.path(Life::Collected, &joined))
    }

    /// Forces to a path, from a path or a string that is one; with what the string depends on.
    ///
    /// # Errors
    /// If it is none, or not absolute.
    pub fn coerce_to_path(&mut self, value: Value) -> EvalResult<(Value, ContextId)> {
        let value = self.force(value).map_err(EvalError::in_coercion)?;
        if value.as_path().is_some() {
            return Ok((value, ContextId::EMPTY));
        }
        if let Some(attrs) = value.as_attrs()
            && attrs.has(sym::TO_STRING)
        {
            let to_string = self.force_attr(attrs, sym::TO_STRING)?.expect("just seen");
            let result = self.call(to_string, &[value])?;
            return self.coerce_to_path(result);
        }
        let text = self.coerce_to_string(value, Coercion::PLAIN)?;
        let text = text.as_str().expect("coerced");
        if !text.as_bytes().starts_with(b"/") {
            return Err(EvalError::new(
                ErrorKind::Type,
                format!("string '{}' doesn't represent an absolute path", text.to_text()),
            )
            .in_coercion());
        }
        let canonical = crate::path::canonical(text.as_bytes());
        Ok((self.heap.path(Life::Collected, &canonical), text.context()))
    }
}

#[cold]
fn path_with_context() -> EvalError {
    EvalError::new(ErrorKind::Type, "a string that refers to a store path cannot be appended to a path")
}

#[cold]
pub(crate) fn segment_failed(error: EvalError, place: Place) -> EvalError {
    error.wanted_for("while evaluating a path segment", place).at(place)
}

/// Whatever an element fails with, it is told what the list was wanted for.
#[cold]
fn element_failed(error: EvalError) -> EvalError {
    error.wanted_for("while evaluating one element of the list", Place::NONE).in_coercion()
}

pub(crate) const RESULT_OF_TO_STRING: &str = "while evaluating the result of the `__toString` attribute";

/// Whether `whole` is what these texts give when they are joined.
fn is_joined(whole: Value, texts: Frame, count: usize, total: usize, context: ContextId) -> bool {
    let whole = whole.as_str().expect("made by joining");
    let mut rest = whole.as_bytes();
    rest.len() == total
        && whole.context() == context
        && (0..count).all(|index| {
            let text = texts.get(index as u32).as_str().expect("coerced");
            let found = rest.strip_prefix(text.as_bytes());
            rest = found.unwrap_or(rest);
            found.is_some()
        })
}
