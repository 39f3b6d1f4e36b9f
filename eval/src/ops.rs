//! Operators: arithmetic, comparison, equality, `//`, `++`, assertions.

use ampoule_lang::resolve::{Binary, Node, Place, Unary};
use ampoule_lang::sym;

use crate::coerce::Coercion;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, Captures, Frame, List, Value, View};
use crate::runtime::Words;

type Operands = &'static Binary<'static, Words>;

impl Evaluator {
    // ---- arithmetic

    #[inline(always)]
    pub(crate) fn add(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        let left = self.operand(&node.left, frame, captures)?;
        let right = self.operand(&node.right, frame, captures)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int()) {
            // Two numbers of 63 bits cannot overflow 64.
            return Ok(self.heap.int(a + b));
        }
        self.add_other(left, right, node).map_err(|error| error.at(node.place))
    }

    #[inline(never)]
    fn add_other(&mut self, left: Value, right: Value, node: Operands) -> EvalResult<Value> {
        match (left.view(), right.view()) {
            (View::Int(a), View::Int(b)) => match a.checked_add(b) {
                Some(sum) => Ok(self.int(sum)),
                None => Err(EvalError::overflow("adding", a, "+", b)),
            },
            (View::Int(a), View::Float(b)) => Ok(self.float(a as f64 + b)),
            (View::Float(a), View::Int(b)) => Ok(self.float(a + b as f64)),
            (View::Float(a), View::Float(b)) => Ok(self.float(a + b)),
            (View::Int(_), _) => Err(self.cannot_add(right, "an integer").at(node.right_place)),
            (View::Float(_), _) => Err(self.cannot_add(right, "a float").at(node.right_place)),
            (View::Path(path), _) => self
                .append_to_path(path, right)
                .map_err(|error| crate::coerce::segment_failed(error, node.right_place)),
            (View::Str(a), View::Str(b)) => {
                let context = self.contexts.union(a.context(), b.context());
                self.append(left, b.as_bytes(), context)
            }
            _ => self.add_coerced(left, right, node),
        }
    }

    fn add_coerced(&mut self, left: Value, right: Value, node: Operands) -> EvalResult<Value> {
        let copies = Coercion { copy_to_store: left.as_str().is_some(), ..Coercion::PLAIN };
        let left = self
            .coerce_to_string(left, Coercion::PLAIN)
            .map_err(|error| crate::coerce::segment_failed(error, node.left_place))?;
        let right = self
            .coerce_to_string(right, copies)
            .map_err(|error| crate::coerce::segment_failed(error, node.right_place))?;
        let (a, b) = (left.as_str().expect("coerced"), right.as_str().expect("coerced"));
        let context = self.contexts.union(a.context(), b.context());
        self.append(left, b.as_bytes(), context)
    }

    /// Returns a string with `bytes` after those of `left`.
    pub(crate) fn append(
        &mut self,
        left: Value,
        bytes: &[u8],
        context: crate::context::ContextId,
    ) -> EvalResult<Value> {
        let total = left.as_str().map_or(0, |text| text.len()) + bytes.len();
        check_string_length(total)?;
        Ok(self.heap.append(left, bytes, context))
    }

    #[cold]
    fn cannot_add(&mut self, value: Value, to: &str) -> EvalError {
        EvalError::new(ErrorKind::Type, format!("cannot add {} to {to}", self.type_with_article(value)))
    }

    #[inline(always)]
    pub(crate) fn subtract(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        let left = self.argument(&node.left, frame, captures, "sub", node)?;
        let right = self.argument(&node.right, frame, captures, "sub", node)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int()) {
            return Ok(self.heap.int(a - b));
        }
        self.subtract_values(left, right).map_err(|error| in_operator(error, "sub", node.place))
    }

    /// `a - b` of forced values.
    ///
    /// # Errors
    /// If they are no numbers, or the result does not fit.
    pub fn subtract_values(&mut self, left: Value, right: Value) -> EvalResult<Value> {
        match self.numbers(left, right, "argument of the subtraction")? {
            Numbers::Ints(a, b) => match a.checked_sub(b) {
                Some(n) => Ok(self.int(n)),
                None => Err(EvalError::overflow("subtracting", a, "-", b)),
            },
            Numbers::Floats(a, b) => Ok(self.float(a - b)),
        }
    }

    #[inline(always)]
    pub(crate) fn multiply(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        let left = self.argument(&node.left, frame, captures, "mul", node)?;
        let right = self.argument(&node.right, frame, captures, "mul", node)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int())
            && let Some(product) = a.checked_mul(b)
        {
            return Ok(self.heap.int(product));
        }
        self.multiply_values(left, right).map_err(|error| in_operator(error, "mul", node.place))
    }

    /// `a * b` of forced values.
    ///
    /// # Errors
    /// If they are no numbers, or the result does not fit.
    pub fn multiply_values(&mut self, left: Value, right: Value) -> EvalResult<Value> {
        match self.numbers(left, right, "argument of the multiplication")? {
            Numbers::Ints(a, b) => match a.checked_mul(b) {
                Some(n) => Ok(self.int(n)),
                None => Err(EvalError::overflow("multiplying", a, "*", b)),
            },
            Numbers::Floats(a, b) => Ok(self.float(a * b)),
        }
    }

    #[inline(always)]
    pub(crate) fn divide(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        let left = self.argument(&node.left, frame, captures, "div", node)?;
        let right = self.argument(&node.right, frame, captures, "div", node)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int())
            && b != 0
        {
            return Ok(self.heap.int(a / b));
        }
        self.divide_values(left, right).map_err(|error| in_operator(error, "div", node.place))
    }

    /// `a / b` of forced values.
    ///
    /// # Errors
    /// If they are no numbers, `b` is zero, or the result does not fit.
    pub fn divide_values(&mut self, left: Value, right: Value) -> EvalResult<Value> {
        let numbers = match (left.view(), right.view()) {
            // Nix looks at the divisor first.
            (_, View::Int(0)) => None,
            (_, View::Float(0.0)) => None,
            (_, View::Int(_) | View::Float(_)) => {
                Some(self.numbers(left, right, "operand of the division")?)
            }
            _ => return Err(self.no_number("a float", right, "second operand of the division")),
        };
        match numbers {
            None => Err(EvalError::new(ErrorKind::DivisionByZero, "division by zero")),
            Some(Numbers::Ints(a, b)) => match a.checked_div(b) {
                Some(n) => Ok(self.int(n)),
                None => Err(EvalError::overflow("dividing", a, "/", b)),
            },
            Some(Numbers::Floats(a, b)) => Ok(self.float(a / b)),
        }
    }

    /// `a + b` of forced numbers.
    ///
    /// # Errors
    /// If they are no numbers, or the result does not fit.
    pub fn add_numbers(&mut self, left: Value, right: Value) -> EvalResult<Value> {
        match self.numbers(left, right, "argument of the addition")? {
            Numbers::Ints(a, b) => match a.checked_add(b) {
                Some(n) => Ok(self.int(n)),
                None => Err(EvalError::overflow("adding", a, "+", b)),
            },
            Numbers::Floats(a, b) => Ok(self.float(a + b)),
        }
    }

    /// Two numbers of one kind; `what` they are is for the trace.
    fn numbers(&mut self, left: Value, right: Value, what: &str) -> EvalResult<Numbers> {
        Ok(match (left.view(), right.view()) {
            (View::Int(a), View::Int(b)) => Numbers::Ints(a, b),
            (View::Int(a), View::Float(b)) => Numbers::Floats(a as f64, b),
            (View::Float(a), View::Int(b)) => Numbers::Floats(a, b as f64),
            (View::Float(a), View::Float(b)) => Numbers::Floats(a, b),
            (View::Float(_), _) => return Err(self.no_number("a float", right, &format!("second {what}"))),
            (View::Int(_), _) => return Err(self.no_number("an integer", right, &format!("second {what}"))),
            (_, View::Float(_)) => return Err(self.no_number("a float", left, &format!("first {what}"))),
            _ => return Err(self.no_number("an integer", left, &format!("first {what}"))),
        })
    }

    #[cold]
    fn no_number(&mut self, expected: &str, value: Value, what: &str) -> EvalError {
        self.mismatch(expected, value).in_part(format!("while evaluating the {what}"), Place::NONE)
    }

    pub(crate) fn negate(
        &mut self,
        node: &'static Unary<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let operand = self.operand(&node.operand, frame, captures);
        let operand = operand.map_err(|error| in_operator(error, "sub", node.place))?;
        let zero = self.int(0);
        self.subtract_values(zero, operand).map_err(|error| in_operator(error, "sub", node.place))
    }

    /// Computes an operand of an operator that is the call of a builtin.
    #[inline(always)]
    fn argument(
        &mut self,
        operand: &'static crate::walk::Code,
        frame: Frame,
        captures: Captures,
        builtin: &'static str,
        node: Operands,
    ) -> EvalResult<Value> {
        self.operand(operand, frame, captures).map_err(|error| in_operator(error, builtin, node.place))
    }

    // ---- comparison

    #[inline(always)]
    pub(crate) fn less(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<bool> {
        let left = self.argument(&node.left, frame, captures, "lessThan", node)?;
        let right = self.argument(&node.right, frame, captures, "lessThan", node)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int()) {
            return Ok(a < b);
        }
        self.less_than(left, right).map_err(|error| in_operator(error, "lessThan", node.place))
    }

    /// `a > b`, which is `b < a`: `b` is computed first, as in Nix.
    #[inline(always)]
    pub(crate) fn greater(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<bool> {
        let right = self.argument(&node.right, frame, captures, "lessThan", node)?;
        let left = self.argument(&node.left, frame, captures, "lessThan", node)?;
        if let (Some(a), Some(b)) = (left.as_small_int(), right.as_small_int()) {
            return Ok(a > b);
        }
        self.less_than(right, left).map_err(|error| in_operator(error, "lessThan", node.place))
    }

    /// Compares two forced values with `<`.
    ///
    /// # Errors
    /// If they cannot be compared, or elements of lists fail.
    pub fn less_than(&mut self, left: Value, right: Value) -> EvalResult<bool> {
        match (left.view(), right.view()) {
            (View::Int(a), View::Int(b)) => Ok(a < b),
            (View::Int(a), View::Float(b)) => Ok((a as f64) < b),
            (View::Float(a), View::Int(b)) => Ok(a < b as f64),
            (View::Float(a), View::Float(b)) => Ok(a < b),
            (View::Str(a), View::Str(b)) => Ok(a.as_bytes() < b.as_bytes()),
            (View::Path(a), View::Path(b)) => Ok(a.as_bytes() < b.as_bytes()),
            (View::List(a), View::List(b)) => self.list_less_than(a, b),
            _ => Err(self.cannot_compare(left, right)),
        }
    }

    fn list_less_than(&mut self, a: List, b: List) -> EvalResult<bool> {
        self.check_depth()?;
        for index in 0.. {
            if index == b.len() {
                return Ok(false);
            }
            if index == a.len() {
                return Ok(true);
            }
            let x = self.force_element(a, index)?;
            let y = self.force_element(b, index)?;
            if !self.equal(x, y)? {
                let is_less = self.less_than(x, y);
                return is_less
                    .map_err(|error| error.in_part("while comparing two list elements", Place::NONE));
            }
        }
        unreachable!("one of the lists ends")
    }

    #[cold]
    fn cannot_compare(&mut self, left: Value, right: Value) -> EvalError {
        let (a, b) = (self.type_with_article(left), self.type_with_article(right));
        let (x, y) = (self.show_short(left), self.show_short(right));
        let message = if a == b {
            format!(
                "cannot compare {a} with {b}; values of that type are incomparable (values are {x} and {y})"
            )
        } else {
            format!("cannot compare {a} with {b}; values are {x} and {y}")
        };
        EvalError::new(ErrorKind::Type, message)
    }

    // ---- equality

    #[inline(always)]
    pub(crate) fn equal_nodes(
        &mut self,
        node: Operands,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<bool> {
        let left = self.operand(&node.left, frame, captures)?;
        let right = self.operand(&node.right, frame, captures)?;
        if left.as_small_int().is_some() && right.as_small_int().is_some() {
            return Ok(left == right);
        }
        self.equal(left, right).map_err(|error| error.at(node.place))
    }

    /// Returns whether two values are equal, forcing what that takes. Functions are equal only if
    /// they are the same object inside of lists or sets, as in Nix.
    ///
    /// # Errors
    /// If anything that is looked at fails.
    pub fn equal(&mut self, left: Value, right: Value) -> EvalResult<bool> {
        let left = self.force(left)?;
        let right = self.force(right)?;
        // Most are.
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            return Ok(a.as_bytes() == b.as_bytes());
        }
        Ok(match (left.view(), right.view()) {
            (View::Int(a), View::Int(b)) => a == b,
            (View::Int(a), View::Float(b)) => a as f64 == b,
            (View::Float(a), View::Int(b)) => a == b as f64,
            (View::Float(a), View::Float(b)) => a == b,
            (View::Path(a), View::Path(b)) => a.as_bytes() == b.as_bytes(),
            (View::List(a), View::List(b)) => return self.equal_lists(a, b),
            (View::Attrs(a), View::Attrs(b)) => return self.equal_attrs(a, b),
            (View::Null, View::Null) => true,
            (View::Bool(a), View::Bool(b)) => a == b,
            _ => false,
        })
    }

    /// Equality of what is inside a list or set: the same object is equal to itself without a look inside.
    #[inline]
    pub(crate) fn equal_inside(&mut self, left: Value, right: Value) -> EvalResult<bool> {
        if left == right { Ok(true) } else { self.equal(left, right) }
    }

    fn equal_lists(&mut self, a: List, b: List) -> EvalResult<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        self.check_depth()?;
        for index in 0..a.len() {
            let (x, y) = (a.get(index).expect("in bounds"), b.get(index).expect("in bounds"));
            if x == y {
                continue;
            }
            let x = self.force_element(a, index)?;
            let y = self.force_element(b, index)?;
            if !self.equal_inside(x, y)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn equal_attrs(&mut self, a: Attrs, b: Attrs) -> EvalResult<bool> {
        if self.is_derivation(a)? && self.is_derivation(b)? {
            let x = self.force_attr(a, sym::OUT_PATH)?;
            let y = self.force_attr(b, sym::OUT_PATH)?;
            if let (Some(x), Some(y)) = (x, y) {
                return self.equal(x, y);
            }
        }
        if a.len() != b.len() {
            return Ok(false);
        }
        self.check_depth()?;
        let (a, b) = (self.heap.flat(a), self.heap.flat(b));
        let (keys, others) = (a.keys(), b.keys());
        for index in 0..a.len() {
            if keys.name(index) != others.name(index) {
                return Ok(false);
            }
        }
        for index in 0..a.len() {
            if a.get(index) == b.get(index) {
                continue;
            }
            let x = self.force_slot(a.slot(index))?;
            let y = self.force_slot(b.slot(index))?;
            if !self.equal_inside(x, y)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether a set says of itself that it is a derivation.
    ///
    /// # Errors
    /// If its `type` fails.
    pub fn is_derivation(&mut self, attrs: Attrs) -> EvalResult<bool> {
        let Some(kind) = self.force_attr(attrs, sym::TYPE)? else { return Ok(false) };
        Ok(kind.as_str().is_some_and(|kind| kind.as_bytes() == b"derivation"))
    }

    // ---- the rest

    pub(crate) fn update(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        // The right one first, as in Nix.
        let right = self.attrs_operand(&node.right, frame, captures, node.right_place);
        let right = right.map_err(|error| {
            in_chain(error, &node.right, "in the right operand of the update (//) operator", node.right_place)
        })?;
        let left = self.attrs_operand(&node.left, frame, captures, node.left_place);
        let left = left.map_err(|error| {
            in_chain(error, &node.left, "in the left operand of the update (//) operator", node.left_place)
        })?;
        Ok(self.heap.update(left, right))
    }

    fn attrs_operand(
        &mut self,
        node: &'static crate::walk::Code,
        frame: Frame,
        captures: Captures,
        place: Place,
    ) -> EvalResult<Attrs> {
        let value = self.operand(node, frame, captures)?;
        match value.as_attrs() {
            Some(attrs) => Ok(attrs),
            None => Err(self.mismatch("a set", value).at(place)),
        }
    }

    pub(crate) fn concat(&mut self, node: Operands, frame: Frame, captures: Captures) -> EvalResult<Value> {
        let left = self.list_operand(&node.left, frame, captures, node.left_place)?;
        let right = self.list_operand(&node.right, frame, captures, node.right_place)?;
        Ok(self.heap.concat(left, right))
    }

    fn list_operand(
        &mut self,
        node: &'static crate::walk::Code,
        frame: Frame,
        captures: Captures,
        place: Place,
    ) -> EvalResult<Value> {
        let part = "while evaluating one of the elements to concatenate";
        let value = self.operand(node, frame, captures)?;
        match value.as_list() {
            Some(_) => Ok(value),
            None => Err(self.mismatch("a list", value).at(place).in_part(part, place)),
        }
    }
}

/// Adds an operand to the trace, unless it is a chain of updates itself: then the innermost tells.
#[cold]
fn in_chain(
    error: EvalError,
    operand: &'static crate::walk::Code,
    part: &'static str,
    place: Place,
) -> EvalError {
    if matches!(operand, Node::Update(_)) { error } else { error.in_part(part, place) }
}

/// Adds an operator that is the call of a builtin to the trace.
#[cold]
fn in_operator(error: EvalError, builtin: &str, place: Place) -> EvalError {
    error.at(place).in_part(format!("while calling the '{builtin}' builtin"), place)
}

enum Numbers {
    Ints(i64, i64),
    Floats(f64, f64),
}

/// Strings are shorter than 4 GiB.
pub(crate) fn check_string_length(bytes: usize) -> EvalResult<()> {
    if bytes < u32::MAX as usize {
        Ok(())
    } else {
        Err(EvalError::new(ErrorKind::Overflow, format!("a string of {bytes} bytes is too long")))
    }
}
