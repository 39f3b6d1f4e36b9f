//! Attribute sets: selection, `?`, `with`, and sets whose names are computed.

use ampoule_lang::near::near_name;
use ampoule_lang::resolve::{
    DynamicAttrs, Field, Has, Hint, Overrides, Place, Scope, Select, Step, WithName,
};
use ampoule_lang::{FileSpan, Symbol, sym};

use crate::error::{ErrorKind, EvalError, EvalResult, shown_name};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, AttrsBuilder, Captures, Flat, Frame, Slot, Value};
use crate::runtime::Words;

impl Evaluator {
    /// `e.a`.
    #[inline]
    pub(crate) fn field(
        &mut self,
        node: &'static Field<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let base = self.operand(&node.base, frame, captures)?;
        let Some(attrs) = base.as_attrs() else {
            return Err(self.nothing_to_select(base, node.base_place));
        };
        let Some(slot) = attrs.find_near(node.name, &node.hint) else {
            return Err(self.missing_attribute(attrs, node.name, node.place));
        };
        match self.force_slot(slot) {
            Ok(value) => Ok(value),
            Err(error) => {
                let pos = attrs.pos(node.name);
                Err(self.attribute_failed(error, &shown_name(node.name), pos, node.place))
            }
        }
    }

    #[cold]
    fn nothing_to_select(&mut self, base: Value, place: Place) -> EvalError {
        self.mismatch("a set", base).at(place).in_part("while selecting an attribute", place)
    }

    #[cold]
    pub(crate) fn missing_attribute(&mut self, attrs: Attrs, name: Symbol, place: Place) -> EvalError {
        let error = EvalError::missing_attribute(name).at(place);
        let sorted = self.heap.sorted(attrs);
        let names: Vec<String> = sorted.iter().map(|(name, _)| name.as_str().into_owned()).collect();
        match near_name(&name.as_str(), names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    /// `e.a.b` and `e.a.b or d`.
    pub(crate) fn select(
        &mut self,
        node: &'static Select<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let mut value = self.operand(&node.base, frame, captures)?;
        // The attribute that was found last.
        let mut found: Option<(Attrs, Symbol, Place)> = None;
        for step in node.path {
            let selected = self.select_step(node, step, value, &mut found, frame, captures);
            value = match selected {
                Ok(Some(value)) => value,
                Ok(None) => {
                    let default = node.default.as_ref().expect("a step without it fails");
                    let value = self.eval(default, frame, captures);
                    return value.map_err(|error| self.path_failed(error, node, found, frame, captures));
                }
                Err(error) => return Err(self.path_failed(error, node, found, frame, captures)),
            };
        }
        Ok(value)
    }

    /// Selects one attribute of a path; nothing if the default is to be taken.
    #[inline(always)]
    fn select_step(
        &mut self,
        node: &'static Select<'static, Words>,
        step: &'static Step<'static, Words>,
        value: Value,
        found: &mut Option<(Attrs, Symbol, Place)>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Option<Value>> {
        let (name, place, hint) = self.step_name(step, frame, captures)?;
        let Some(attrs) = value.as_attrs() else {
            let base_place = found.map_or(node.base_place, |(_, _, place)| place);
            return match &node.default {
                Some(_) => Ok(None),
                None => Err(self.nothing_to_select(value, base_place)),
            };
        };
        let Some(slot) = find(attrs, name, hint) else {
            return match &node.default {
                Some(_) => Ok(None),
                None => Err(self.missing_attribute(attrs, name, place)),
            };
        };
        *found = Some((attrs, name, place));
        self.force_slot(slot).map(Some)
    }

    /// Adds a path to the trace of what failed behind one of its attributes.
    #[cold]
    #[inline(never)]
    fn path_failed(
        &mut self,
        error: EvalError,
        node: &'static Select<'static, Words>,
        found: Option<(Attrs, Symbol, Place)>,
        frame: Frame,
        captures: Captures,
    ) -> EvalError {
        let Some((attrs, name, place)) = found else { return error };
        let pos = attrs.pos(name);
        let names = node.path.iter().map(|step| match step {
            Step::Static(name, ..) => shown_name(*name),
            Step::Dynamic(_, place) => match self.guarded(|ev| ev.step_name(step, frame, captures)) {
                Ok((name, ..)) => shown_name(name),
                Err(_) => format!("\"{}\"", self.source_text(*place)),
            },
        });
        let path = names.collect::<Vec<_>>().join(".");
        self.attribute_failed(error, &path, pos, place)
    }

    /// Adds a selected attribute to the trace. What a builtin made has no place, and is not told of.
    #[cold]
    #[inline(never)]
    fn attribute_failed(&self, error: EvalError, path: &str, pos: Option<u32>, place: Place) -> EvalError {
        let pos = pos.filter(|&pos| pos != 0).and_then(|pos| self.file_span(Place { start: pos, end: pos }));
        let is_own =
            |at: FileSpan| self.settings.sources.get(at.file).name() == crate::builtins::DERIVATION_FILE;
        match pos {
            Some(at) if !is_own(at) => {
                error.while_(format!("while evaluating the attribute '{path}'"), place)
            }
            _ => error,
        }
    }

    #[inline(always)]
    fn step_name(
        &mut self,
        step: &'static Step<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<(Symbol, Place, Option<&'static Hint>)> {
        match step {
            Step::Static(name, place, hint) => Ok((*name, *place, Some(hint))),
            Step::Dynamic(node, place) => {
                let value = self.operand(node, frame, captures)?;
                let text = self.force_string_no_context(value).map_err(|error| {
                    error.at(*place).in_part("while evaluating an attribute name", *place)
                })?;
                Ok((Symbol::intern(text.as_bytes()), *place, None))
            }
        }
    }

    /// `e ? a.b`.
    pub(crate) fn has(
        &mut self,
        node: &'static Has<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<bool> {
        let mut value = self.operand(&node.base, frame, captures)?;
        for (index, step) in node.path.iter().enumerate() {
            let (name, _, hint) = self.step_name(step, frame, captures)?;
            let Some(attrs) = value.as_attrs() else { return Ok(false) };
            let Some(slot) = find(attrs, name, hint) else { return Ok(false) };
            if index + 1 == node.path.len() {
                return Ok(true);
            }
            value = self.force_slot(slot)?;
        }
        Ok(true)
    }

    /// A name that only `with` provides: the innermost set that has it wins.
    pub(crate) fn with_name(
        &mut self,
        node: &'static WithName<'static>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        for Scope { var, place, hint } in node.scopes {
            let scope = match *var {
                ampoule_lang::resolve::Var::Local(slot) => {
                    let scope = self.force(frame.get(slot)).map_err(|error| error.at(*place))?;
                    frame.set(slot, scope);
                    scope
                }
                ampoule_lang::resolve::Var::Captured(index) => {
                    let scope = self.force(captures.get(index)).map_err(|error| error.at(*place))?;
                    captures.set(index, scope);
                    scope
                }
            };
            let Some(attrs) = scope.as_attrs() else {
                return Err(with_failed(self.mismatch("a set", scope), *place));
            };
            if let Some(slot) = attrs.find_near(node.name, hint) {
                return self.force_slot(slot).map_err(|error| error.at_name(node.place.start));
            }
        }
        Err(EvalError::new(ErrorKind::UndefinedVariable, format!("undefined variable '{}'", node.name))
            .at(node.place))
    }

    // ---- sets with computed names

    /// `{ a = 1; ${n} = v; }`, and recursive sets with `__overrides`.
    #[inline(never)]
    pub(crate) fn dynamic_attrs(
        &mut self,
        node: &'static DynamicAttrs<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let fixed = self.heap.attrs(node.fixed.keys);
        for (index, value) in node.fixed.values.iter().enumerate() {
            let value = self.delay(value, frame, captures);
            fixed.slot(index).settle(value);
        }
        let mut set = fixed.attrs().value();
        if let Some(overrides) = node.overrides {
            set = self.overridden(fixed, overrides, frame)?;
        }
        if node.dynamic.is_empty() {
            return Ok(set);
        }
        let mut added = AttrsBuilder::new();
        for (name, value, place) in node.dynamic {
            let name_value = self.operand(name, frame, captures)?;
            if name_value == Value::NULL {
                continue;
            }
            let text = self.force_string_no_context(name_value).map_err(|error| {
                error.at(*place).in_part("while evaluating the name of a dynamic attribute", *place)
            })?;
            let name = Symbol::intern(text.as_bytes());
            let present = set.as_attrs().and_then(|attrs| attrs.pos(name)).or_else(|| added.pos_of(name));
            if let Some(pos) = present {
                return Err(self.duplicate_dynamic(name, *place, pos));
            }
            let value = self.delay(value, frame, captures);
            added.push_at(&mut self.heap, name, value, place.start);
        }
        let added = added.finish(&mut self.heap);
        let (set, added) = (set.as_attrs().expect("a set"), added.as_attrs().expect("a set"));
        Ok(self.heap.update(set, added))
    }

    #[cold]
    fn duplicate_dynamic(&mut self, name: Symbol, place: Place, first: u32) -> EvalError {
        let at = self.show_position(first);
        EvalError::new(
            ErrorKind::Other,
            format!("dynamic attribute '{}' already defined at {at}", shown_name(name)),
        )
        .at(place)
        .label(Place { start: first, end: first }, "defined here first")
    }

    /// Replaces attributes of a recursive set by those of its `__overrides`, before they are captured.
    fn overridden(
        &mut self,
        fixed: Flat,
        overrides: &'static Overrides<'static>,
        frame: Frame,
    ) -> EvalResult<Value> {
        // The set is captured as it is, so that computing `__overrides` sees the values before it.
        self.patch(overrides.patches, frame);
        let value = self.force(frame.get(overrides.slot)).map_err(|error| error.at(overrides.place))?;
        let Some(over) = value.as_attrs() else {
            return Err(self.mismatch("a set", value).at(overrides.place));
        };
        let over = self.heap.flat(over);
        let mut replaced = Vec::new();
        for (name, value) in over.iter() {
            if let Some((_, slot)) = overrides.slots.iter().find(|(known, _)| *known == name) {
                frame.set(*slot, value);
                replaced.push(*slot);
            }
        }
        // What is replaced is not seen again; the others see the replacements, unless they were computed.
        for patch in overrides.patches.iter().filter(|patch| !replaced.contains(&patch.holder)) {
            if frame.get(patch.holder).as_thunk().is_none_or(|thunk| thunk.peek().is_none()) {
                self.patch(std::slice::from_ref(patch), frame);
            }
        }
        Ok(self.heap.update(fixed.attrs(), over.attrs()))
    }

    /// The set of `__curPos` and `unsafeGetAttrPos`, or null.
    pub(crate) fn position_set(&mut self, pos: u32) -> Value {
        let Some((file, position)) = self.position(pos) else { return Value::NULL };
        // A text that is no file has no position that a program could use.
        if file.starts_with('«') {
            return Value::NULL;
        }
        let file = self.string(file);
        let line = self.int(i64::from(position.line_number));
        let column = self.int(i64::from(position.column_number));
        self.heap.attrs_from(&[(sym::FILE, file), (sym::LINE, line), (sym::COLUMN, column)])
    }
}

/// Looks for a name that is written down, or for one that was computed.
#[inline(always)]
fn find(attrs: Attrs, name: Symbol, hint: Option<&Hint>) -> Option<Slot> {
    match hint {
        Some(hint) => attrs.find_near(name, hint),
        None => attrs.find(name).map(|(slot, _)| slot),
    }
}

#[cold]
fn with_failed(error: EvalError, place: Place) -> EvalError {
    error.at(place).in_part("while evaluating the first subexpression of a with expression", place)
}
