//! Resolved expressions: what the evaluator walks.
//!
//! Names are gone. A variable is a slot of the current frame (`Local`), or one of
//! the values that the running closure or thunk captured when it was made
//! (`Captured`). Closures are flat: a lambda or a delayed expression lists what
//! it captures, so making one copies a few words and keeps nothing else alive.
//!
//! A frame belongs to one [`Body`]: slots first hold the arguments, then whatever
//! `let`, `with`, `rec` and formals bind inside, each at a slot of its own that is
//! written before it is read.
//!
//! ```text
//! x: let y = x + 1; in z: y + z
//!
//! Lambda arity 1, frame of 2 slots        x at 0, y at 1
//!   Let [1 := Thunk captures [Local 0] (Captured 0 + 1)]
//!   Lambda arity 1 captures [Local 1]     z at 0, y is Captured 0
//!     Local 0 and Captured 0 are added
//! ```
//!
//! A node stands either where its value is wanted (*strict*) or where it may wait
//! (*lazy*: arguments, elements, values of attributes and bindings). In a lazy
//! place, everything that is not already a value is wrapped in [`Node::Thunk`]
//! or one of its cheaper kin by the resolver; the evaluator never decides.
//!
//! Nodes live in an arena for as long as the process: `'a` is `'static` for the
//! evaluator. What a constant is, the evaluator says, through [`Runtime`].

use std::cell::Cell;

use crate::source::FileId;
use crate::span::Span;
use crate::symbol::Symbol;

/// What the evaluator's constants are.
pub trait Runtime: 'static {
    /// A value that is known when names are resolved: numbers, strings, builtins.
    type Value: Copy;
    /// The names of an attribute set's literal, made once and shared.
    type Keys: Copy;
}

/// Makes the evaluator's constants while names are resolved.
pub trait Constants<'a, R: Runtime> {
    /// An integer.
    fn int(&mut self, n: i64) -> R::Value;
    /// A floating point number.
    fn float(&mut self, x: f64) -> R::Value;
    /// A string without context.
    fn string(&mut self, bytes: &[u8]) -> R::Value;
    /// A path as it is (the first part of one with interpolations).
    fn path(&mut self, bytes: &[u8]) -> R::Value;
    /// An absolute path, of which `.` and `..` are to be resolved.
    fn canonical_path(&mut self, bytes: &[u8]) -> R::Value;
    /// The home directory, for `~/a`; `None` when it must not be known.
    fn home(&mut self) -> Option<Vec<u8>>;
    /// A list of constants.
    fn list(&mut self, elements: &[R::Value]) -> R::Value;
    /// A set of constants, in the order of its keys.
    fn attrs(&mut self, keys: R::Keys, values: &[R::Value]) -> R::Value;
    /// Names with the places ([`Place::start`]) where they stand, sorted by symbol.
    fn keys(&mut self, names: &[(Symbol, u32)]) -> R::Keys;
    /// What a name means that no expression binds.
    fn global(&mut self, name: Symbol) -> Option<R::Value>;
    /// All such names, for "did you mean".
    fn global_names(&self) -> Vec<Symbol>;
    /// Attribute `name` of `builtins`, if it is a value.
    fn builtin(&mut self, name: Symbol) -> Option<R::Value>;
    /// Whether a constant may stand inside of another.
    fn is_value(&self, value: R::Value) -> bool;
    /// Told of each function whose body is put off.
    fn put_off(&mut self);
    /// A function that captures nothing.
    fn lambda(&mut self, lambda: &'a Lambda<'a, R>) -> R::Value;
}

/// Where a thing stands, in the offsets of all sources together; `start == 0` is nowhere.
///
/// Each file has a base (see `resolve`), so that one number of 4 bytes names file and offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// Base of the file plus offset of the first byte.
    pub start: u32,
    /// The same for the end.
    pub end: u32,
}

impl Place {
    /// No place at all.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// Returns whether this is a place.
    pub const fn is_some(self) -> bool {
        self.start != 0
    }
}

/// Where a name starts, as [`Place::start`].
pub type Start = u32;

/// A variable after resolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Var {
    /// Slot of the current frame.
    Local(u32),
    /// Number among what the current closure or thunk captured.
    Captured(u32),
}

/// A resolved expression. 16 bytes.
pub enum Node<'a, R: Runtime> {
    /// A value known beforehand.
    Const(R::Value),
    /// Slot of the frame, and where the name stands.
    Local(u32, Start),
    /// A captured value, and where the name stands.
    Captured(u32, Start),
    /// Lazy places only: a delayed expression.
    Thunk(&'a Suspension<'a, R>),
    /// Lazy places only: computed at once where that is cheap and cannot fail, else delayed.
    Eager(&'a Eager<'a, R>),
    /// A function.
    Lambda(&'a Lambda<'a, R>),
    /// `f x y`.
    Call(&'a Call<'a, R>),
    /// `if c then a else b`.
    If(&'a If<'a, R>),
    /// `assert c; e`.
    Assert(&'a Assert<'a, R>),
    /// `let … in e`; also what surrounds `rec { … }`.
    Let(&'a Let<'a, R>),
    /// `with s; e`.
    With(&'a With<'a, R>),
    /// A name that only `with` can provide.
    WithName(&'a WithName<'a>),
    /// `e.a.b or d`.
    Select(&'a Select<'a, R>),
    /// `e.a`, the common case.
    Field(&'a Field<'a, R>),
    /// `e ? a.b`.
    Has(&'a Has<'a, R>),
    /// `[ a b ]`.
    List(&'a List<'a, R>),
    /// `{ a = 1; }`, also the set of a `rec`.
    Attrs(&'a Attrs<'a, R>),
    /// `{ ${n} = v; }`, and sets with `__overrides`.
    DynamicAttrs(&'a DynamicAttrs<'a, R>),
    /// A string with interpolations.
    Interpolate(&'a Interpolate<'a, R>),
    /// A path with interpolations.
    InterpolatePath(&'a Interpolate<'a, R>),
    /// `!e`.
    Not(&'a Unary<'a, R>),
    /// `-e`.
    Negate(&'a Unary<'a, R>),
    /// `a && b`.
    And(&'a Binary<'a, R>),
    /// `a || b`.
    Or(&'a Binary<'a, R>),
    /// `a -> b`.
    Implies(&'a Binary<'a, R>),
    /// `a == b`.
    Equal(&'a Binary<'a, R>),
    /// `a != b`.
    NotEqual(&'a Binary<'a, R>),
    /// `a < b`.
    Less(&'a Binary<'a, R>),
    /// `a <= b`.
    LessOrEqual(&'a Binary<'a, R>),
    /// `a > b`.
    Greater(&'a Binary<'a, R>),
    /// `a >= b`.
    GreaterOrEqual(&'a Binary<'a, R>),
    /// `a + b`.
    Add(&'a Binary<'a, R>),
    /// `a - b`.
    Subtract(&'a Binary<'a, R>),
    /// `a * b`.
    Multiply(&'a Binary<'a, R>),
    /// `a / b`.
    Divide(&'a Binary<'a, R>),
    /// `a // b`.
    Update(&'a Binary<'a, R>),
    /// `a ++ b`.
    Concat(&'a Binary<'a, R>),
    /// `__curPos`.
    CurPos(Place),
    /// Bodies of functions only: not resolved yet.
    Deferred(&'a Deferred<'a, R>),
}

impl<R: Runtime> Clone for Node<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Runtime> Copy for Node<'_, R> {}

/// Code with a frame of its own.
pub struct Body<'a, R: Runtime> {
    /// Strict.
    pub node: Node<'a, R>,
    /// Slots that the frame needs, arguments included.
    pub slots: u32,
}

/// The body of a function that was not called yet: most functions of most files never are. What it captures and that
/// its names are bound is known; when it is entered its text is parsed again, and resolved with
/// [`resolve_deferred`](super::resolve_deferred). Neither tree nor code take memory until then.
pub struct Deferred<'a, R: Runtime> {
    /// The function. Its body is this one until it is resolved.
    pub lambda: Cell<Option<&'a Lambda<'a, R>>>,
    /// The file.
    pub file: FileId,
    /// Where the body stands.
    pub span: Span,
    /// Base of the file.
    pub base: u32,
    /// Slots that frames of the function have as long as it is not resolved.
    pub frame_slots: u32,
    /// The names that it uses and does not bind itself.
    pub(super) names: &'a [(Symbol, Var)],
    /// The sets of the `with`s around it, outermost first, if it uses them.
    pub(super) withs: &'a [(Var, Place)],
    /// Slots that arguments have taken.
    pub(super) slots: u32,
    /// How many functions around it were put off.
    pub level: u32,
}

/// A delayed expression.
pub struct Suspension<'a, R: Runtime> {
    /// What is copied into the thunk when it is made, from the frame where it is made.
    pub captures: &'a [Var],
    /// What is evaluated when it is forced.
    pub body: Body<'a, R>,
    /// Where it stands.
    pub place: Place,
}

/// The same expression twice: in terms of the current frame, and delayed.
pub struct Eager<'a, R: Runtime> {
    /// Arithmetic, comparison or selection over variables and constants; tried first.
    pub now: Node<'a, R>,
    /// Made if `now` would have to force or would fail.
    pub later: &'a Suspension<'a, R>,
}

/// A function's code.
pub struct Lambda<'a, R: Runtime> {
    /// Number of arguments: `a: b: c: …` is one lambda with three. Only the last may have formals.
    pub arity: u32,
    /// What is copied into the closure when it is made.
    pub captures: &'a [Var],
    /// The names of the arguments, as written; `None` for one that has only formals.
    pub parameters: &'a [Option<Symbol>],
    /// `{ a, b ? 1, ... }`, of the last argument.
    pub formals: Option<&'a Formals<'a, R>>,
    /// Its code; replaced once if it was [`Node::Deferred`].
    pub body: Cell<&'a Body<'a, R>>,
    /// Whether the body is so small that computing it at once, if nothing must be forced for it, is no dearer
    /// than delaying it: a variable, a constant, arithmetic, a selection, a plain literal.
    pub is_cheap: bool,
    /// Where it stands: the start of the first argument up to the end of the body.
    pub place: Place,
    /// Where each argument's lambda begins (for `«lambda @ …»` of a partial application).
    pub places: &'a [Place],
    /// The name that it was bound to, if it was.
    pub name: Cell<Option<Symbol>>,
}

/// The formals of a function, sorted by symbol.
pub struct Formals<'a, R: Runtime> {
    /// Sorted by symbol number.
    pub list: &'a [Formal<'a, R>],
    /// Whether other names are let in.
    pub ellipsis: bool,
    /// The names as keys, once `functionArgs` asked for them.
    pub keys: Cell<Option<R::Keys>>,
}

/// One formal.
pub struct Formal<'a, R: Runtime> {
    /// Its name.
    pub name: Symbol,
    /// Its slot in the frame.
    pub slot: u32,
    /// Lazy. `None` when the caller must give it.
    pub default: Option<Node<'a, R>>,
    /// What the default captures of formals that are bound after it; done if the default is used.
    pub patches: &'a [Patch],
    /// Where the name stands.
    pub place: Place,
    /// Where the argument had the name last.
    pub hint: Hint,
}

/// A call with all the arguments that stand beside each other.
pub struct Call<'a, R: Runtime> {
    /// Strict.
    pub function: Node<'a, R>,
    /// Lazy.
    pub arguments: &'a [Node<'a, R>],
    /// Where the call stands.
    pub place: Place,
}

/// A conditional.
pub struct If<'a, R: Runtime> {
    /// Strict.
    pub condition: Node<'a, R>,
    /// Strict.
    pub then: Node<'a, R>,
    /// Strict.
    pub otherwise: Node<'a, R>,
    /// Where the condition stands.
    pub place: Place,
}

/// An assertion.
pub struct Assert<'a, R: Runtime> {
    /// Strict.
    pub condition: Node<'a, R>,
    /// Strict.
    pub body: Node<'a, R>,
    /// Where the condition stands.
    pub place: Place,
    /// Where the whole assertion stands.
    pub whole: Place,
}

/// Writes slots, in order, then goes on.
pub struct Let<'a, R: Runtime> {
    /// Slot and what it is set to (lazy).
    pub bindings: &'a [(u32, Node<'a, R>)],
    /// Captures of earlier bindings that refer to later ones.
    pub patches: &'a [Patch],
    /// Strict.
    pub body: Node<'a, R>,
}

/// After all slots of a group are written: capture `capture` of the thunk or closure in slot
/// `holder` is set to what is in slot `slot`.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// Slot of the thunk or closure.
    pub holder: u32,
    /// Which of its captures.
    pub capture: u32,
    /// Slot of what it captures.
    pub slot: u32,
}

/// `with`.
pub struct With<'a, R: Runtime> {
    /// Where the (unforced) set is kept.
    pub slot: u32,
    /// Lazy.
    pub scope: Node<'a, R>,
    /// Strict.
    pub body: Node<'a, R>,
}

/// A name looked up in the sets of the surrounding `with`s.
#[derive(Debug)]
pub struct WithName<'a> {
    /// The name.
    pub name: Symbol,
    /// The sets, innermost first.
    pub scopes: &'a [Scope],
    /// Where the name stands.
    pub place: Place,
}

/// The set of a `with` around a name.
#[derive(Debug)]
pub struct Scope {
    /// The set.
    pub var: Var,
    /// Where it stands.
    pub place: Place,
    /// Where it had the name last.
    pub hint: Hint,
}

/// Where in the names of a set a name was when it was last looked for here. A guess: most code sees sets that
/// are made alike, and asks whether it is there again before it searches.
#[derive(Debug, Default)]
pub struct Hint(Cell<u32>);

impl Hint {
    /// Returns the guess.
    #[inline(always)]
    pub fn get(&self) -> usize {
        self.0.get() as usize
    }

    /// Says where the name was found.
    #[inline(always)]
    pub fn set(&self, index: usize) {
        self.0.set(index as u32);
    }
}

/// One step of an attribute path.
pub enum Step<'a, R: Runtime> {
    /// A name.
    Static(Symbol, Place, Hint),
    /// `${e}` (strict).
    Dynamic(Node<'a, R>, Place),
}

/// `e.a` without `or`.
pub struct Field<'a, R: Runtime> {
    /// Strict.
    pub base: Node<'a, R>,
    /// The name.
    pub name: Symbol,
    /// Where the name stands.
    pub place: Place,
    /// Where `e` stands.
    pub base_place: Place,
    /// Where the set had the name last.
    pub hint: Hint,
}

/// `e.a.b` or `e.a.b or d`.
pub struct Select<'a, R: Runtime> {
    /// Strict.
    pub base: Node<'a, R>,
    /// At least one step.
    pub path: &'a [Step<'a, R>],
    /// Strict.
    pub default: Option<Node<'a, R>>,
    /// Where `e` stands.
    pub base_place: Place,
    /// Where the whole stands.
    pub place: Place,
}

/// `e ? a.b`.
pub struct Has<'a, R: Runtime> {
    /// Strict.
    pub base: Node<'a, R>,
    /// At least one step.
    pub path: &'a [Step<'a, R>],
}

/// A list.
pub struct List<'a, R: Runtime> {
    /// Lazy.
    pub elements: &'a [Node<'a, R>],
}

/// A set whose names are all known.
pub struct Attrs<'a, R: Runtime> {
    /// Its names with places.
    pub keys: R::Keys,
    /// Lazy, in the order of the keys (sorted by symbol number).
    pub values: &'a [Node<'a, R>],
}

/// A set of which some names are computed.
pub struct DynamicAttrs<'a, R: Runtime> {
    /// The part with known names: [`Node::Attrs`], possibly inside a `Let`.
    pub fixed: Attrs<'a, R>,
    /// Name (strict, a string or null), value (lazy), place of the name.
    pub dynamic: &'a [(Node<'a, R>, Node<'a, R>, Place)],
    /// Of a `rec` with `__overrides`: slots of the attributes by name, so that overridden
    /// ones are written before anything can look.
    pub overrides: Option<&'a Overrides<'a>>,
    /// Where the set stands.
    pub place: Place,
}

/// What `rec { __overrides = …; }` needs.
#[derive(Debug)]
pub struct Overrides<'a> {
    /// Names and their slots; the thunks of the set capture from the slots by [`Patch`]es
    /// that run after the overriding.
    pub slots: &'a [(Symbol, u32)],
    /// Slot of `__overrides` itself.
    pub slot: u32,
    /// The patches.
    pub patches: &'a [Patch],
    /// Place of `__overrides`.
    pub place: Place,
}

/// A string or path with interpolations.
pub struct Interpolate<'a, R: Runtime> {
    /// Strict; literal parts are constants. Each with its place.
    pub parts: &'a [(Node<'a, R>, Place)],
    /// Where the string stands.
    pub place: Place,
}

/// One operand.
pub struct Unary<'a, R: Runtime> {
    /// Strict.
    pub operand: Node<'a, R>,
    /// Where the operand stands.
    pub place: Place,
}

/// Two operands.
pub struct Binary<'a, R: Runtime> {
    /// Strict.
    pub left: Node<'a, R>,
    /// Strict.
    pub right: Node<'a, R>,
    /// Where the operator stands.
    pub place: Place,
    /// Where the left operand stands.
    pub left_place: Place,
    /// Where the right operand stands.
    pub right_place: Place,
}
