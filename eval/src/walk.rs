//! The evaluation of resolved expressions.
//!
//! [`Evaluator::eval`] walks strict places by native recursion, and loops where an
//! expression's value is its part's value: branches, bodies, and calls of known
//! functions. A call made in such a tail position reuses the frame of the caller.
//! What is rare or large is in functions of its own, so that a native frame stays small.

use ampoule_lang::resolve::{
    Binary, Body, Call, Eager, If, Lambda, Let, Node, Patch, Place, Suspension, Var,
};

use crate::error::{EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{Captures, Frame, Slot, Value};
use crate::runtime::Words;

/// Resolved code of the evaluator.
pub(crate) type Code = Node<'static, Words>;

impl Evaluator {
    /// Evaluates a strict node. Leaves the value stack as it was, unless it fails.
    pub(crate) fn eval(
        &mut self,
        node: &'static Code,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let mut calls = TailCalls { first: None, second: None, last: None };
        match self.walk(node, frame, captures, &mut calls) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.call_failed(error, &calls)),
        }
    }

    /// The loop of [`Evaluator::eval`]. The calls whose bodies were begun are left in `calls`.
    #[inline(always)]
    fn walk(
        &mut self,
        node: &'static Code,
        frame: Frame,
        captures: Captures,
        calls: &mut TailCalls,
    ) -> EvalResult<Value> {
        self.check_depth()?;
        let mark = self.heap.stack_mark();
        let (mut node, mut frame, mut captures) = (node, frame, captures);
        // Calls that reused our frame, or 0 as long as the frame is someone else's.
        let mut own_calls = 0u32;
        let value = loop {
            match node {
                Node::Const(value) => break self.force(*value)?,
                &Node::Local(slot, start) => {
                    let value = frame.get(slot);
                    if !value.is_thunk() {
                        break value;
                    }
                    let forced = self.force_named(value, start)?;
                    frame.set(slot, forced);
                    break forced;
                }
                &Node::Captured(index, start) => {
                    let value = captures.get(index);
                    if !value.is_thunk() {
                        break value;
                    }
                    let forced = self.force_named(value, start)?;
                    captures.set(index, forced);
                    break forced;
                }
                Node::If(node_if) => node = self.branch(node_if, frame, captures)?,
                Node::Call(call) => {
                    let function = self.operand(&call.function, frame, captures)?;
                    let count = call.arguments.len();
                    let Some(lambda) = saturated(function, count) else {
                        break self.call_other(function, call, frame, captures)?;
                    };
                    calls.last = Some((call, lambda));
                    self.check_depth()?;
                    let body = lambda.body.get();
                    let Some(new) = self.heap.push_frame(body.slots as usize) else {
                        return Err(EvalError::stack_overflow());
                    };
                    for (index, argument) in call.arguments.iter().enumerate() {
                        let value = self.delay(argument, frame, captures);
                        new.set(index as u32, value);
                    }
                    self.stats.calls += 1;
                    frame = if own_calls == 0 {
                        calls.first = Some((call, lambda));
                        new
                    } else {
                        if own_calls == 1 {
                            calls.second = Some((call, lambda));
                        }
                        self.reuse(frame, new, lambda, body, &mut own_calls)?
                    };
                    own_calls += 1;
                    captures = Captures::of(function);
                    if let Some(formals) = lambda.formals {
                        self.bind_formals(lambda, formals, frame, captures)?;
                    }
                    node = &body.node;
                }
                Node::Let(node_let) => {
                    self.bind(node_let, frame, captures);
                    node = &node_let.body;
                }
                Node::With(with) => {
                    let scope = self.delay(&with.scope, frame, captures);
                    frame.set(with.slot, scope);
                    node = &with.body;
                }
                Node::Assert(assert) => {
                    self.assert(assert, frame, captures)?;
                    node = &assert.body;
                }
                Node::Field(field) => break self.field(field, frame, captures)?,
                Node::Add(binary) => break self.add(binary, frame, captures)?,
                Node::Subtract(binary) => break self.subtract(binary, frame, captures)?,
                Node::Multiply(binary) => break self.multiply(binary, frame, captures)?,
                Node::Divide(binary) => break self.divide(binary, frame, captures)?,
                Node::Less(binary) => break Value::bool(self.less(binary, frame, captures)?),
                Node::Greater(binary) => break Value::bool(self.greater(binary, frame, captures)?),
                Node::LessOrEqual(binary) => {
                    let is_greater = self.greater(binary, frame, captures);
                    break Value::bool(!is_greater.map_err(|error| in_not(error, binary))?);
                }
                Node::GreaterOrEqual(binary) => {
                    let is_less = self.less(binary, frame, captures);
                    break Value::bool(!is_less.map_err(|error| in_not(error, binary))?);
                }
                Node::Equal(binary) => break Value::bool(self.equal_nodes(binary, frame, captures)?),
                Node::NotEqual(binary) => break Value::bool(!self.equal_nodes(binary, frame, captures)?),
                Node::And(binary) => {
                    break Value::bool(
                        self.condition(&binary.left, frame, captures, binary.left_place, LEFT_OF_AND)?
                            && self.condition(
                                &binary.right,
                                frame,
                                captures,
                                binary.right_place,
                                RIGHT_OF_AND,
                            )?,
                    );
                }
                Node::Or(binary) => {
                    break Value::bool(
                        self.condition(&binary.left, frame, captures, binary.left_place, LEFT_OF_OR)?
                            || self.condition(
                                &binary.right,
                                frame,
                                captures,
                                binary.right_place,
                                RIGHT_OF_OR,
                            )?,
                    );
                }
                Node::Implies(binary) => {
                    break Value::bool(
                        !self.condition(&binary.left, frame, captures, binary.left_place, LEFT_OF_IMPL)?
                            || self.condition(
                                &binary.right,
                                frame,
                                captures,
                                binary.right_place,
                                RIGHT_OF_IMPL,
                            )?,
                    );
                }
                Node::Not(unary) => {
                    break Value::bool(!self.condition(
                        &unary.operand,
                        frame,
                        captures,
                        unary.place,
                        OF_NOT,
                    )?);
                }
                Node::Negate(unary) => break self.negate(unary, frame, captures)?,
                Node::Update(binary) => break self.update(binary, frame, captures)?,
                Node::Concat(binary) => break self.concat(binary, frame, captures)?,
                Node::List(_) | Node::Attrs(_) | Node::Lambda(_) => break self.delay(node, frame, captures),
                Node::DynamicAttrs(set) => break self.dynamic_attrs(set, frame, captures)?,
                Node::Select(select) => break self.select(select, frame, captures)?,
                Node::Has(has) => break Value::bool(self.has(has, frame, captures)?),
                Node::Interpolate(parts) => break self.interpolate(parts, frame, captures)?,
                Node::InterpolatePath(parts) => break self.interpolate_path(parts, frame, captures)?,
                Node::WithName(name) => break self.with_name(name, frame, captures)?,
                Node::CurPos(place) => break self.position_set(place.start),
                Node::Deferred(deferred) => node = self.resolve_body(deferred)?,
                Node::Thunk(_) | Node::Eager(_) => unreachable!("stands in lazy places only"),
            }
        };
        self.heap.pop_to(mark);
        Ok(value)
    }

    /// Evaluates an operand: variables and constants here, the rest by [`Evaluator::eval`].
    #[inline(always)]
    pub(crate) fn operand(
        &mut self,
        node: &'static Code,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        let value = match node {
            Node::Const(value) => *value,
            &Node::Local(slot, _) => frame.get(slot),
            &Node::Captured(index, _) => captures.get(index),
            _ => return self.eval(node, frame, captures),
        };
        if value.is_thunk() { self.eval(node, frame, captures) } else { Ok(value) }
    }

    /// Forces a variable; says where it stands if it turns out to need itself.
    #[inline(always)]
    fn force_named(&mut self, value: Value, start: u32) -> EvalResult<Value> {
        match self.force(value) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.at_name(start)),
        }
    }

    /// Lets a tail call take the place of the frame that it was made from.
    #[inline(always)]
    fn reuse(
        &mut self,
        old: Frame,
        new: Frame,
        lambda: &'static Lambda<'static, Words>,
        body: &'static Body<'static, Words>,
        own_calls: &mut u32,
    ) -> EvalResult<Frame> {
        if *own_calls > self.settings.max_tail_calls {
            return Err(EvalError::stack_overflow());
        }
        let slots = body.slots as usize;
        match self.heap.slide_frame(new, old, lambda.arity as usize, slots) {
            Some(()) => Ok(old),
            None => Err(EvalError::stack_overflow()),
        }
    }

    #[inline(always)]
    fn branch(
        &mut self,
        node: &'static If<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<&'static Code> {
        let holds = self.condition(&node.condition, frame, captures, node.place, OF_IF)?;
        Ok(if holds { &node.then } else { &node.otherwise })
    }

    /// Evaluates to a Boolean. `part` says which part of an expression it is, for the trace.
    #[inline(always)]
    pub(crate) fn condition(
        &mut self,
        node: &'static Code,
        frame: Frame,
        captures: Captures,
        place: Place,
        part: &'static str,
    ) -> EvalResult<bool> {
        let holds = match node {
            Node::Less(binary) => self.less(binary, frame, captures),
            Node::Equal(binary) => self.equal_nodes(binary, frame, captures),
            _ => match self.operand(node, frame, captures) {
                Ok(Value::TRUE) => Ok(true),
                Ok(Value::FALSE) => Ok(false),
                Ok(value) => Err(self.mismatch("a Boolean", value).at(place)),
                Err(error) => Err(error),
            },
        };
        holds.map_err(|error| error.in_part(part, place))
    }

    /// Adds the calls whose bodies failed to the trace: the last, and the first two: of a function of the user's that
    /// the library calls and that calls the library, the second is the user's.
    #[cold]
    #[inline(never)]
    fn call_failed(&self, error: EvalError, calls: &TailCalls) -> EvalError {
        let (Some(first), Some(last)) = (calls.first, calls.last) else { return error };
        let failed =
            |error: EvalError, (call, lambda): Begun| crate::call::lambda_failed(error, lambda, call.place);
        // Arguments that do not fit are the call's fault; what goes wrong in the body is not.
        let mut error = failed(error, last);
        if let Some(second) = calls.second.filter(|second| !std::ptr::eq(second.0, last.0)) {
            error = failed(error, second);
        }
        if std::ptr::eq(first.0, last.0) { error } else { failed(error, first) }
    }

    // ---- lazy places

    /// Returns what a lazy node stands for, without evaluating anything that could fail or take long.
    #[inline(always)]
    pub(crate) fn delay(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Value {
        match node {
            Node::Const(value) => *value,
            &Node::Local(slot, _) => frame.get(slot),
            &Node::Captured(index, _) => captures.get(index),
            Node::Thunk(code) => self.suspend(code, frame, captures),
            Node::Eager(eager) => self.delay_eager(eager, frame, captures),
            _ => self.delay_other(node, frame, captures),
        }
    }

    #[inline(always)]
    fn delay_eager(
        &mut self,
        eager: &'static Eager<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> Value {
        match self.cheap(&eager.now, frame, captures) {
            Some(value) => value,
            None => self.suspend(eager.later, frame, captures),
        }
    }

    #[inline(never)]
    fn delay_other(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Value {
        match node {
            Node::Lambda(lambda) => {
                let closure = self.heap.closure(lambda);
                self.capture(closure, lambda.captures, frame, captures);
                closure
            }
            Node::List(list) => {
                let value = self.heap.list(list.elements.len());
                let slots = value.as_list().expect("just made");
                for (index, element) in list.elements.iter().enumerate() {
                    let element = self.delay(element, frame, captures);
                    slots.settle(index, element);
                }
                value
            }
            Node::Attrs(set) => {
                let flat = self.heap.attrs(set.keys);
                for (index, node) in set.values.iter().enumerate() {
                    let value = self.delay(node, frame, captures);
                    flat.slot(index).settle(value);
                }
                flat.attrs().value()
            }
            _ => unreachable!("the resolver wraps what must wait"),
        }
    }

    /// Makes a thunk.
    #[inline(always)]
    fn suspend(
        &mut self,
        code: &'static Suspension<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> Value {
        let thunk = self.heap.thunk(code);
        self.capture(thunk, code.captures, frame, captures);
        thunk
    }

    #[inline(always)]
    fn capture(&mut self, holder: Value, vars: &'static [Var], frame: Frame, captures: Captures) {
        let into = Captures::of(holder);
        for (index, var) in vars.iter().enumerate() {
            let value = match *var {
                Var::Local(slot) => frame.get(slot),
                Var::Captured(index) => captures.get(index),
            };
            into.set(index as u32, value);
        }
    }

    /// Computes arithmetic, comparisons and selections of values that are there, or gives up.
    #[inline(always)]
    fn cheap(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Option<Value> {
        match node {
            Node::Subtract(binary) => {
                let (a, b) = self.cheap_ints(binary, frame, captures)?;
                Value::small_int(a.checked_sub(b)?)
            }
            Node::Add(binary) => {
                let (a, b) = self.cheap_ints(binary, frame, captures)?;
                Value::small_int(a.checked_add(b)?)
            }
            Node::Field(field) => {
                let base = self.cheap_operand(&field.base, frame, captures)?;
                base.as_attrs()?.find_near(field.name, &field.hint).map(Slot::get)
            }
            _ => self.cheap_other(node, frame, captures),
        }
    }

    #[inline(never)]
    fn cheap_other(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Option<Value> {
        match node {
            Node::Multiply(binary) => {
                let (a, b) = self.cheap_ints(binary, frame, captures)?;
                Value::small_int(a.checked_mul(b)?)
            }
            Node::Less(binary) => self.cheap_ints(binary, frame, captures).map(|(a, b)| Value::bool(a < b)),
            Node::Greater(binary) => {
                self.cheap_ints(binary, frame, captures).map(|(a, b)| Value::bool(a > b))
            }
            Node::LessOrEqual(binary) => {
                self.cheap_ints(binary, frame, captures).map(|(a, b)| Value::bool(a <= b))
            }
            Node::GreaterOrEqual(binary) => {
                self.cheap_ints(binary, frame, captures).map(|(a, b)| Value::bool(a >= b))
            }
            Node::Divide(binary) => {
                let (a, b) = self.cheap_ints(binary, frame, captures)?;
                if b == 0 { None } else { Value::small_int(a.checked_div(b)?) }
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn cheap_ints(
        &mut self,
        binary: &'static Binary<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> Option<(i64, i64)> {
        let a = self.cheap_operand(&binary.left, frame, captures)?.as_small_int()?;
        let b = self.cheap_operand(&binary.right, frame, captures)?.as_small_int()?;
        Some((a, b))
    }

    /// Returns the value of a variable or constant that needs no forcing.
    #[inline(always)]
    fn cheap_operand(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Option<Value> {
        let value = match node {
            Node::Const(value) => *value,
            &Node::Local(slot, _) => frame.get(slot),
            &Node::Captured(index, _) => captures.get(index),
            _ => return self.cheap_nested(node, frame, captures),
        };
        match value.as_thunk() {
            None => Some(value),
            Some(thunk) => thunk.peek(),
        }
    }

    #[inline(never)]
    fn cheap_nested(&mut self, node: &'static Code, frame: Frame, captures: Captures) -> Option<Value> {
        let value = self.cheap(node, frame, captures)?;
        match value.as_thunk() {
            None => Some(value),
            Some(thunk) => thunk.peek(),
        }
    }

    /// Computes the body of a cheap function (see `Lambda::is_cheap`), or gives up.
    pub(crate) fn call_cheaply(
        &mut self,
        function: Value,
        lambda: &'static Lambda<'static, Words>,
        arguments: &[Value],
    ) -> Option<Value> {
        let body = lambda.body.get();
        let frame = self.heap.push_frame(body.slots as usize)?;
        for (index, &argument) in arguments.iter().enumerate() {
            frame.set(index as u32, argument);
        }
        let captures = Captures::of(function);
        let value = match &body.node {
            Node::Const(value) => Some(*value),
            &Node::Local(slot, _) => Some(frame.get(slot)),
            &Node::Captured(index, _) => Some(captures.get(index)),
            node @ (Node::Attrs(_) | Node::List(_)) => Some(self.delay_other(node, frame, captures)),
            node => self.cheap(node, frame, captures),
        };
        self.heap.pop_to(frame);
        value
    }

    // ---- bindings

    #[inline(always)]
    fn bind(&mut self, node: &'static Let<'static, Words>, frame: Frame, captures: Captures) {
        for (slot, node) in node.bindings {
            let value = self.delay(node, frame, captures);
            frame.set(*slot, value);
        }
        self.patch(node.patches, frame);
    }

    #[inline(always)]
    pub(crate) fn patch(&mut self, patches: &'static [Patch], frame: Frame) {
        for patch in patches {
            Captures::of(frame.get(patch.holder)).set(patch.capture, frame.get(patch.slot));
        }
    }

    /// Evaluates code that captures nothing, in a frame of its own.
    pub(crate) fn eval_body(&mut self, body: &'static Body<'static, Words>) -> EvalResult<Value> {
        let mark = self.heap.stack_mark();
        let Some(frame) = self.heap.push_frame(body.slots as usize) else {
            return Err(EvalError::stack_overflow());
        };
        let value = self.eval(&body.node, frame, Captures::NONE)?;
        self.heap.pop_to(mark);
        Ok(value)
    }
}

// Which part of an expression failed, in Nix's words.
const OF_IF: &str = "while evaluating a branch condition";
const OF_NOT: &str = "in the argument of the not operator";
const LEFT_OF_AND: &str = "in the left operand of the AND (&&) operator";
const RIGHT_OF_AND: &str = "in the right operand of the AND (&&) operator";
const LEFT_OF_OR: &str = "in the left operand of the OR (||) operator";
const RIGHT_OF_OR: &str = "in the right operand of the OR (||) operator";
const LEFT_OF_IMPL: &str = "in the left operand of the IMPL (->) operator";
const RIGHT_OF_IMPL: &str = "in the right operand of the IMPL (->) operator";

/// `a >= b` is `!(a < b)`, and fails as that does.
#[cold]
fn in_not(error: EvalError, binary: &'static Binary<'static, Words>) -> EvalError {
    error.in_part(OF_NOT, binary.place)
}

/// The first, the second and the last of the calls that were made in tail position one after the other.
struct TailCalls {
    first: Option<Begun>,
    second: Option<Begun>,
    last: Option<Begun>,
}

/// A call, and the function whose body was begun.
type Begun = (&'static Call<'static, Words>, &'static Lambda<'static, Words>);

/// Returns the code of a function of the language that takes exactly `count` arguments.
#[inline(always)]
fn saturated(function: Value, count: usize) -> Option<&'static Lambda<'static, Words>> {
    let lambda = function.as_closure()?.lambda();
    (lambda.arity as usize == count).then_some(lambda)
}
