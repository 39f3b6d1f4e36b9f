//! Calls: of functions with more or fewer arguments than they take, of builtins, of sets with
//! `__functor`; and the binding of formals.

use ampoule_lang::resolve::{Body, Call, Formals, Lambda, Place};
use ampoule_lang::{Symbol, sym};

use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Attrs, BuiltinId, Captures, Frame, Value, View};
use crate::runtime::Words;

impl Evaluator {
    /// Calls anything but a closure with exactly its arguments.
    #[inline(never)]
    pub(crate) fn call_other(
        &mut self,
        function: Value,
        call: &'static Call<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<Value> {
        self.check_depth()?;
        let mark = self.heap.stack_mark();
        let count = call.arguments.len();
        let Some(new) = self.heap.push_frame(count) else { return Err(EvalError::stack_overflow()) };
        for (index, argument) in call.arguments.iter().enumerate() {
            let value = self.delay(argument, frame, captures);
            new.set(index as u32, value);
        }
        match self.call_frame(function, new, count, call.place) {
            Ok(value) => {
                self.heap.pop_to(mark);
                Ok(value)
            }
            Err(error) => Err(self.other_failed(error, function, call)),
        }
    }

    /// Calls `function` with the first `count` slots of `frame`, which is on top of the stack.
    /// May leave values on the stack; the caller puts it back.
    pub(crate) fn call_frame(
        &mut self,
        function: Value,
        frame: Frame,
        count: usize,
        place: Place,
    ) -> EvalResult<Value> {
        let (mut function, mut frame, mut count) = (function, frame, count);
        let mut functors = 0;
        loop {
            if count == 0 && !matches!(function.view(), View::Builtin(_)) {
                return Ok(function);
            }
            let taken;
            let value;
            match function.view() {
                View::Closure(closure) => {
                    let lambda = closure.lambda();
                    let arity = lambda.arity as usize;
                    if count < arity {
                        return Ok(self.heap.partial(function, count, |index| frame.get(index as u32)));
                    }
                    taken = arity;
                    let body = lambda.body.get();
                    if count == arity && frame.after(count) == self.heap.stack_mark() {
                        // The arguments are where the body wants them: the frame grows.
                        if self.heap.push_frame(body.slots as usize - arity).is_none() {
                            return Err(EvalError::stack_overflow());
                        }
                        let result = self.enter_closure(function, lambda, body, frame);
                        return result.map_err(|error| lambda_failed(error, lambda, place));
                    }
                    value = self.call_closure(function, lambda, body, frame, place)?;
                }
                View::Builtin(id) => {
                    let arity = self.builtin(id).params.len();
                    if count < arity {
                        return Ok(self.heap.partial(function, count, |index| frame.get(index as u32)));
                    }
                    taken = arity;
                    value = self.call_builtin(id, frame, place)?;
                    if count == 0 {
                        return Ok(value);
                    }
                }
                View::Partial(partial) => {
                    // Its arguments go before ours.
                    let total = partial.len() + count;
                    let Some(all) = self.heap.push_frame(total) else {
                        return Err(EvalError::stack_overflow());
                    };
                    for index in 0..partial.len() {
                        all.set(index as u32, partial.argument(index));
                    }
                    for index in 0..count {
                        all.set((partial.len() + index) as u32, frame.get(index as u32));
                    }
                    function = partial.function();
                    frame = all;
                    count = total;
                    continue;
                }
                View::Attrs(attrs) => match self.force_attr(attrs, sym::FUNCTOR)? {
                    Some(functor) => {
                        self.check_depth()?;
                        functors += 1;
                        if functors > MAX_FUNCTORS {
                            return Err(EvalError::stack_overflow());
                        }
                        value = self.call(functor, &[function])?;
                        taken = 0;
                    }
                    None => return Err(self.not_callable(function).at(place)),
                },
                _ => return Err(self.not_callable(function).at(place)),
            }
            if taken == count {
                return Ok(value);
            }
            function = value;
            frame = frame.after(taken);
            count -= taken;
        }
    }

    /// Calls a function in place of the call that stands at `place`, which tells of itself.
    pub(crate) fn call_from(&mut self, place: Place, function: Value, argument: Value) -> EvalResult<Value> {
        let mark = self.heap.stack_mark();
        let Some(frame) = self.heap.push_frame(1) else { return Err(EvalError::stack_overflow()) };
        frame.set(0, argument);
        let value = self.call_frame(function, frame, 1, place)?;
        self.heap.pop_to(mark);
        Ok(value)
    }

    fn call_closure(
        &mut self,
        function: Value,
        lambda: &'static Lambda<'static, Words>,
        body: &'static Body<'static, Words>,
        arguments: Frame,
        place: Place,
    ) -> EvalResult<Value> {
        let mark = self.heap.stack_mark();
        let Some(frame) = self.heap.push_frame(body.slots as usize) else {
            return Err(EvalError::stack_overflow());
        };
        for index in 0..lambda.arity {
            frame.set(index, arguments.get(index));
        }
        match self.enter_closure(function, lambda, body, frame) {
            Ok(value) => {
                self.heap.pop_to(mark);
                Ok(value)
            }
            Err(error) => Err(lambda_failed(error, lambda, place)),
        }
    }

    /// Evaluates the body of a closure whose frame holds its arguments. `body` is what the frame was made for.
    #[inline]
    pub(crate) fn enter_closure(
        &mut self,
        function: Value,
        lambda: &'static Lambda<'static, Words>,
        body: &'static Body<'static, Words>,
        frame: Frame,
    ) -> EvalResult<Value> {
        self.check_depth()?;
        self.stats.calls += 1;
        let captures = Captures::of(function);
        if let Some(formals) = lambda.formals {
            self.bind_formals(lambda, formals, frame, captures)?;
        }
        self.eval(&body.node, frame, captures)
    }

    fn call_builtin(&mut self, id: BuiltinId, frame: Frame, place: Place) -> EvalResult<Value> {
        let builtin = self.builtin(id);
        self.stats.builtin_calls += 1;
        let args = Args { frame, builtin, place };
        let result = (builtin.run)(self, &args).and_then(|value| self.force(value));
        result.map_err(|error| builtin_failed(builtin.name, error, place))
    }

    /// Adds a call of a set to the trace; functions and builtins add themselves.
    #[cold]
    fn other_failed(
        &mut self,
        error: EvalError,
        function: Value,
        call: &'static Call<'static, Words>,
    ) -> EvalError {
        match function.view() {
            View::Attrs(attrs) if attrs.has(sym::FUNCTOR) => error.in_part(CALLING_FUNCTOR, call.place),
            _ => error,
        }
    }

    #[cold]
    fn not_callable(&mut self, value: Value) -> EvalError {
        let shown = self.show_short(value);
        let kind = self.type_with_article(value);
        EvalError::new(
            ErrorKind::Type,
            format!("attempt to call something which is not a function but {kind}: {shown}"),
        )
    }

    // ---- formals

    /// Binds the formals of the last argument to the slots that they have.
    #[inline(never)]
    pub(crate) fn bind_formals(
        &mut self,
        lambda: &'static Lambda<'static, Words>,
        formals: &'static Formals<'static, Words>,
        frame: Frame,
        captures: Captures,
    ) -> EvalResult<()> {
        let slot = lambda.arity - 1;
        let argument = self.force(frame.get(slot)).map_err(EvalError::before_entering)?;
        let Some(attrs) = argument.as_attrs() else {
            let error = self.mismatch("a set", argument).at(lambda.place);
            return Err(error.in_part(LAMBDA_ARGUMENT, lambda.place).before_entering());
        };
        frame.set(slot, argument);
        let mut found = 0;
        let mut defaults = 0u32;
        for formal in formals.list {
            match attrs.find_near(formal.name, &formal.hint) {
                Some(slot) => {
                    frame.set(formal.slot, slot.get());
                    found += 1;
                }
                None if formal.default.is_some() => defaults += 1,
                None => return Err(missing_argument(lambda, formal.name)),
            }
        }
        if !formals.ellipsis && found != attrs.len() {
            return Err(self.unexpected_argument(lambda, formals, attrs));
        }
        if defaults > 0 {
            self.bind_defaults(formals, frame, captures);
        }
        Ok(())
    }

    /// Slots of formals without a value are still empty; the slots of a frame are when it is made.
    fn bind_defaults(&mut self, formals: &'static Formals<'static, Words>, frame: Frame, captures: Captures) {
        let mut used = Bits::default();
        for (index, formal) in formals.list.iter().enumerate() {
            if let Some(default) = &formal.default
                && frame.get(formal.slot) == Value::EMPTY
            {
                used.insert(index);
                let value = self.delay(default, frame, captures);
                frame.set(formal.slot, value);
            }
        }
        for (index, formal) in formals.list.iter().enumerate() {
            if !formal.patches.is_empty() && used.contains(index) {
                self.patch(formal.patches, frame);
            }
        }
    }

    #[cold]
    fn unexpected_argument(
        &mut self,
        lambda: &'static Lambda<'static, Words>,
        formals: &'static Formals<'static, Words>,
        attrs: Attrs,
    ) -> EvalError {
        let known = |name: Symbol| formals.list.iter().any(|formal| formal.name == name);
        // Nix names the one that it read first.
        let flat = self.heap.flat(attrs);
        let unexpected = flat.iter().map(|(name, _)| name).find(|&name| !known(name));
        let unexpected = unexpected.expect("there are more attributes than formals");
        let name = unexpected.as_str().into_owned();
        let shown = crate::error::shown_name(unexpected);
        let error = EvalError::new(
            ErrorKind::Arguments,
            format!("function '{}' called with unexpected argument '{shown}'", lambda_name(lambda)),
        );
        let formals: Vec<String> =
            formals.list.iter().map(|formal| formal.name.as_str().into_owned()).collect();
        let near = ampoule_lang::near::near_name(&name, formals.iter().map(String::as_str));
        let error = error.saying("called here").label(lambda.place, "this function").before_entering();
        match near {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        }
    }
}

#[cold]
fn missing_argument(lambda: &'static Lambda<'static, Words>, name: Symbol) -> EvalError {
    EvalError::new(
        ErrorKind::Arguments,
        format!("function '{}' called without required argument '{name}'", lambda_name(lambda)),
    )
    .saying("called here")
    .label(lambda.place, "this function")
    .before_entering()
}

/// Sets that one call may go through, each of them what the `__functor` of the one before gave.
const MAX_FUNCTORS: u32 = 10_000;
const LAMBDA_ARGUMENT: &str = "while evaluating the value passed for the lambda argument";
const CALLING_FUNCTOR: &str = "while calling a functor (an attribute set with a '__functor' attribute)";

/// Adds a call to the trace. One that a builtin made has no place of its own.
#[cold]
pub(crate) fn lambda_failed(error: EvalError, lambda: &Lambda<'_, Words>, place: Place) -> EvalError {
    let mut error = error.at(place);
    if error.take_not_entered() {
        // Unless that is what the error itself is about.
        let is_known = !place.is_some() || error.place() == place;
        return if is_known { error } else { error.while_("from call site", place) };
    }
    let text = match lambda.name.get() {
        Some(name) => format!("while calling '{name}'"),
        None => "while calling anonymous lambda".to_owned(),
    };
    let callee = *lambda.places.last().unwrap_or(&lambda.place);
    if place.is_some() { error.in_call(text, place, callee) } else { error.in_part(text, callee) }
}

pub(crate) fn lambda_name(lambda: &'static Lambda<'static, Words>) -> String {
    lambda.name.get().map_or_else(|| "anonymous lambda".to_owned(), |name| name.as_str().into_owned())
}

#[cold]
fn builtin_failed(name: &str, error: EvalError, place: Place) -> EvalError {
    let error = error.at(place);
    // It is there to say something else.
    let is_silent =
        matches!(name, "addErrorContext" | "break" | crate::builtins::ASSEMBLE) || !place.is_some();
    if is_silent { error } else { error.while_(format!("while calling the '{name}' builtin"), place) }
}

/// A set of small numbers; the first 64 need no memory.
#[derive(Default)]
struct Bits {
    first: u64,
    rest: Vec<usize>,
}

impl Bits {
    fn insert(&mut self, index: usize) {
        if index < 64 {
            self.first |= 1 << index;
        } else {
            self.rest.push(index);
        }
    }

    fn contains(&self, index: usize) -> bool {
        if index < 64 { self.first >> index & 1 == 1 } else { self.rest.contains(&index) }
    }
}
