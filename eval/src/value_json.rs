//! Values as JSON: `toJSON`, `--json`, and the attributes of structured derivations.
//!
//! A set with `__toString` or `outPath` is what these give; a path is added to the store and becomes
//! its store path. Everything is forced. What the text depends on is gathered in a context.

use ampoule_lang::resolve::Place;
use ampoule_lang::sym;

use crate::coerce::Coercion;
use crate::context::ContextId;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, List, Value, View};
use crate::json;

impl Evaluator {
    /// Appends `value` as JSON to `out`, and what it depends on to `context`.
    ///
    /// # Errors
    /// If it holds a function or a string that is not UTF-8, or evaluating fails.
    pub fn write_json(&mut self, value: Value, out: &mut Vec<u8>, context: &mut ContextId) -> EvalResult<()> {
        let value = self.force(value)?;
        match value.view() {
            View::Null => out.extend_from_slice(b"null"),
            View::Bool(true) => out.extend_from_slice(b"true"),
            View::Bool(false) => out.extend_from_slice(b"false"),
            View::Int(n) => json::write_int(n, out),
            View::Float(x) => json::write_float(x, out),
            View::Str(_) => self.write_json_text(value, out, context)?,
            View::Path(_) => {
                let text = self.coerce_to_string(value, Coercion::INTERPOLATION)?;
                self.write_json_text(text, out, context)?;
            }
            View::List(list) => self.write_json_list(list, out, context)?,
            View::Attrs(attrs) => self.write_json_attrs(value, attrs, out, context)?,
            View::Closure(_) | View::Builtin(_) | View::Partial(_) => {
                let kind = self.type_with_article(value);
                return Err(EvalError::new(ErrorKind::Type, format!("cannot convert {kind} to JSON")));
            }
            View::Thunk(_) => unreachable!("it was forced"),
        }
        Ok(())
    }

    fn write_json_text(&mut self, text: Value, out: &mut Vec<u8>, context: &mut ContextId) -> EvalResult<()> {
        let text = text.as_str().expect("a string");
        *context = self.contexts().union(*context, text.context());
        json::write_string(text.as_bytes(), out).map_err(|error| EvalError::invalid(error.to_string()))
    }

    fn write_json_list(&mut self, list: List, out: &mut Vec<u8>, context: &mut ContextId) -> EvalResult<()> {
        self.check_depth()?;
        out.push(b'[');
        for index in 0..list.len() {
            if index > 0 {
                out.push(b',');
            }
            let element = self.force_element(list, index)?;
            self.write_json(element, out, context)?;
        }
        out.push(b']');
        Ok(())
    }

    fn write_json_attrs(
        &mut self,
        value: Value,
        attrs: Attrs,
        out: &mut Vec<u8>,
        context: &mut ContextId,
    ) -> EvalResult<()> {
        self.check_depth()?;
        if let Some(to_string) = self.force_attr(attrs, sym::TO_STRING)? {
            let text = self.call(to_string, &[value])?;
            let text = self.coerce_to_string(text, Coercion::PLAIN)?;
            return self.write_json_text(text, out, context);
        }
        if let Some(path) = self.force_attr(attrs, sym::OUT_PATH)? {
            return self.write_json(path, out, context);
        }
        out.push(b'{');
        let sorted = self.heap().sorted(attrs);
        for index in 0..sorted.len() {
            if index > 0 {
                out.push(b',');
            }
            let (name, value) = sorted.get(index);
            json::write_string(name.as_bytes(), out)
                .map_err(|error| EvalError::invalid(error.to_string()))?;
            out.push(b':');
            self.write_json(value, out, context).map_err(|error| {
                error.while_(
                    format!("while evaluating attribute '{name}'"),
                    Place { start: sorted.pos(index), end: sorted.pos(index) },
                )
            })?;
        }
        out.push(b'}');
        Ok(())
    }
}
