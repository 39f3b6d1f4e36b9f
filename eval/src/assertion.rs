//! What a failed assertion says: for `assert a == b;`, where the two differ, in Nix's words.

use ampoule_lang::resolve::{Assert, Node, Place};
use ampoule_lang::{Source, sym};

use crate::error::{ErrorKind, EvalError, EvalResult, shown_name};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, Captures, Frame, List, Value, View};
use crate::runtime::Words;

impl Evaluator {
    pub(crate) fn assert(
        &mut self,
        node: &'static Assert<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<()> {
        let part = "in the condition of the assert statement";
        if self.condition(&node.condition, frame, captures, node.place, part)? {
            return Ok(());
        }
        Err(self.assertion_failed(node, frame, captures))
    }

    #[cold]
    fn assertion_failed(
        &mut self,
        node: &'static Assert<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalError {
        let text = self.condition_text(node.place);
        if let Node::Equal(operands) = &node.condition {
            let left = self.operand(&operands.left, frame, captures);
            let right = self.operand(&operands.right, frame, captures);
            let error = match (left, right) {
                (Ok(left), Ok(right)) => self.difference(left, right),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            if let Err(error) = error {
                let what = format!("while evaluating the condition of the assertion '{text}'");
                return error.at(node.place).while_(what, node.whole);
            }
        }
        EvalError::new(ErrorKind::AssertionFailed, format!("assertion '{text}' failed")).at(node.place)
    }

    /// Returns the condition as Nix prints it.
    fn condition_text(&self, place: Place) -> String {
        let text = self.source_text(place);
        let Some(at) = self.file_span(place) else { return text };
        let base_dir = self.settings.sources.get(at.file).base_dir().to_owned();
        let source = Source::new("condition", base_dir, text.as_bytes());
        match ampoule_lang::parse(&source) {
            Ok(ast) => String::from_utf8_lossy(&ampoule_lang::print::to_nix(&ast, &source)).into_owned(),
            Err(_) => text,
        }
    }

    /// Fails with the first difference of two values; `Ok` if there is none.
    fn difference(&mut self, left: Value, right: Value) -> EvalResult<()> {
        let left = self.force(left)?;
        let right = self.force(right)?;
        match (left.view(), right.view()) {
            (View::Int(_) | View::Float(_), View::Int(_) | View::Float(_)) => {
                if self.equal(left, right)? {
                    Ok(())
                } else {
                    Err(self.differ(left, right, "with value"))
                }
            }
            (View::List(a), View::List(b)) => self.list_difference(left, right, a, b),
            (View::Attrs(a), View::Attrs(b)) => self.attrs_difference(left, right, a, b),
            (View::Bool(a), View::Bool(b)) if a == b => Ok(()),
            (View::Str(_), View::Str(_))
            | (View::Path(_), View::Path(_))
            | (View::Bool(_), View::Bool(_)) => {
                if self.equal(left, right)? {
                    return Ok(());
                }
                let kind = match self.type_name(left) {
                    "bool" => "boolean",
                    other => other,
                };
                let (a, b) = (self.show_short(left), self.show_short(right));
                Err(unequal(format!("{kind} '{a}' is not equal to {kind} '{b}'")))
            }
            (View::Null, View::Null) => Ok(()),
            (a, b) if is_function(a) && is_function(b) => Err(unequal(
                "distinct functions and immediate comparisons of identical functions compare as unequal"
                    .to_owned(),
            )),
            _ => Err(self.differ(left, right, "of value")),
        }
    }

    fn differ(&mut self, left: Value, right: Value, word: &str) -> EvalError {
        let (x, y) = (self.type_with_article(left), self.type_with_article(right));
        let (a, b) = (self.show_short(left), self.show_short(right));
        unequal(format!("{x} {word} '{a}' is not equal to {y} {word} '{b}'"))
    }

    fn list_difference(&mut self, left: Value, right: Value, a: List, b: List) -> EvalResult<()> {
        if a.len() != b.len() {
            let (x, y) = (self.show_short(left), self.show_short(right));
            return Err(unequal(format!(
                "list of size '{}' is not equal to list of size '{}', left hand side is '{x}', right hand side is '{y}'",
                a.len(),
                b.len()
            )));
        }
        self.check_depth()?;
        for index in 0..a.len() {
            let x = self.force_element(a, index)?;
            let y = self.force_element(b, index)?;
            if x != y {
                self.difference(x, y).map_err(|error| {
                    error.while_(format!("while comparing list element {index}"), Place::NONE)
                })?;
            }
        }
        Ok(())
    }

    fn attrs_difference(&mut self, left: Value, right: Value, a: Attrs, b: Attrs) -> EvalResult<()> {
        if self.is_derivation(a)? && self.is_derivation(b)? {
            let x = self.force_attr(a, sym::OUT_PATH)?;
            let y = self.force_attr(b, sym::OUT_PATH)?;
            if let (Some(x), Some(y)) = (x, y) {
                let what = "while comparing a derivation by its 'outPath' attribute";
                return self.difference(x, y).map_err(|error| error.while_(what, Place::NONE));
            }
        }
        self.check_depth()?;
        let (x, y) = (self.show_short(left), self.show_short(right));
        if a.len() != b.len() {
            return Err(unequal(format!(
                "attribute names of attribute set '{x}' differs from attribute set '{y}'"
            )));
        }
        let sorted = self.heap.sorted(a);
        for index in 0..sorted.len() {
            let (name, _) = sorted.get(index);
            let Some((slot, other_pos)) = b.find(name) else {
                return Err(unequal(format!(
                    "attribute name '{}' is contained in '{x}', but not in '{y}'",
                    shown_name(name)
                )));
            };
            let one = self.force_slot(sorted.slot(index))?;
            let other = self.force_slot(slot)?;
            if one != other {
                self.difference(one, other).map_err(|error| {
                    let sides = [("right", other_pos), ("left", sorted.pos(index))];
                    let placed = sides.into_iter().filter(|&(_, pos)| pos != 0);
                    let error = placed.fold(error, |error, (side, pos)| {
                        let place = Place { start: pos, end: pos };
                        error.in_part(format!("where {side} hand side is"), place)
                    });
                    error.while_(format!("while comparing attribute '{}'", shown_name(name)), Place::NONE)
                })?;
            }
        }
        Ok(())
    }
}

fn is_function(view: View) -> bool {
    matches!(view, View::Closure(_) | View::Builtin(_) | View::Partial(_))
}

fn unequal(message: String) -> EvalError {
    EvalError::new(ErrorKind::AssertionFailed, message)
}
