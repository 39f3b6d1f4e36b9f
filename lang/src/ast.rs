//! The tree of a program, as Nix sees it.
//!
//! All nodes of a file lie in one [`Ast`], in flat pools, and name each other by
//! numbers of 4 bytes: building pushes, dropping frees a dozen vectors, and a
//! tree of any depth needs no native stack. An [`Expr`] has 16 bytes and is
//! `Copy`; its span lies beside it.
//!
//! ```text
//! f (x: x.a or 1) [ 2 ]
//!
//! exprs   … #4 Lambda(L0) … #7 List(5..6) #8 Apply { function: #1, args: 0..2 }
//! args    #4 #7 #6            attr_paths  0..1          attr_names  a
//! ```
//!
//! What is only notation is gone: parentheses, `let { }`, applications one
//! argument at a time, nested attribute paths (`a.b = 1; a.c = 2;` is one set
//! `a`), the indentation of indented strings. The formatter, which needs all of it, reads
//! tokens and not this tree.

use std::num::NonZeroU32;

use crate::source::FileId;
use crate::span::Span;
use crate::symbol::Symbol;

/// Number of an expression in its [`Ast`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExprId(pub(crate) NonZeroU32);

impl ExprId {
    /// Returns the number, from 1: a place for it in a table beside the tree.
    pub const fn index(self) -> usize {
        self.0.get() as usize
    }
}

/// Numbers of entries in the other pools.
macro_rules! pool_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Returns the number, from 0.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        })*
    };
}

pool_ids! {
    /// Number of an attribute set.
    AttrsId;
    /// Number of a lambda.
    LambdaId;
    /// Number of a pattern `{ a, b ? 1, ... }`.
    FormalsId;
    /// Number of an attribute path `a.b.${c}`.
    AttrPathId;
}

/// A run of entries in one of the pools, read with the method of [`Ast`] named after the entry.
pub struct Slice<T> {
    pub(crate) start: u32,
    pub(crate) len: u32,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Slice<T> {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let start = u32::try_from(start).expect("pools are no longer than the source");
        let end = u32::try_from(end).expect("pools are no longer than the source");
        Self { start, len: end - start, of: std::marker::PhantomData }
    }

    pub(crate) const EMPTY: Self = Self { start: 0, len: 0, of: std::marker::PhantomData };

    /// Returns how many there are.
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// Returns whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

impl<T> PartialEq for Slice<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.len) == (other.start, other.len)
    }
}

impl<T> Eq for Slice<T> {}

impl<T> std::fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.range())
    }
}

/// A string of the program, read with [`Ast::text`].
pub type Text = Slice<u8>;

/// A number of 8 bytes that asks for the alignment of 4, to keep [`Expr`] small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packed([u32; 2]);

impl Packed {
    /// Packs an integer.
    pub const fn from_int(value: i64) -> Self {
        Self([(value as u64 >> 32) as u32, value as u32])
    }

    /// Packs a floating-point number.
    pub const fn from_float(value: f64) -> Self {
        Self::from_int(value.to_bits() as i64)
    }

    /// Returns the integer.
    pub const fn int(self) -> i64 {
        ((self.0[0] as u64) << 32 | self.0[1] as u64) as i64
    }

    /// Returns the floating-point number.
    pub const fn float(self) -> f64 {
        f64::from_bits(self.int() as u64)
    }
}

/// An expression.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Expr {
    /// `42`; read it with [`Packed::int`]. Never negative.
    Int(Packed),
    /// `4.2`; read it with [`Packed::float`].
    Float(Packed),
    /// A string without interpolation, escapes and indentation done; also a URI.
    Str(Text),
    /// `"a${b}"`, `''a${b}''`: always a string, whatever its parts are.
    Interpolation(Slice<StrPart>),
    /// `./a`, `/a`, `~/a` as written: not yet absolute, `..` not yet gone.
    Path(Text),
    /// `./a/${b}`: `base` is a [`Expr::Path`] that may end in a slash, which stays when it is made absolute.
    PathInterpolation {
        /// What stands before the first interpolation.
        base: ExprId,
        /// The rest.
        parts: Slice<StrPart>,
    },
    /// `<nixpkgs/lib>`, without the brackets: `__findFile __nixPath "nixpkgs/lib"`, both looked up in scope.
    SearchPath(Text),
    /// `x`.
    Var(Symbol),
    /// `__curPos`: the position of this expression.
    CurPos,
    /// `f a b`: one call with all its arguments (at least one). `(f a) b` is a call of a call.
    Apply {
        /// What is called.
        function: ExprId,
        /// The arguments.
        args: Slice<ExprId>,
    },
    /// `e.a.b`, `e.a.b or d`.
    Select {
        /// What is selected from.
        base: ExprId,
        /// At least one name.
        path: AttrPathId,
        /// After `or`.
        default: Option<ExprId>,
    },
    /// `e ? a.b`.
    HasAttr {
        /// What is asked.
        base: ExprId,
        /// At least one name.
        path: AttrPathId,
    },
    /// `[ a b ]`.
    List(Slice<ExprId>),
    /// `{ … }`, `rec { … }`.
    Attrs(AttrsId),
    /// `let … in e`; the set has no dynamic bindings and is not marked `rec`, though it is.
    Let {
        /// The bindings, which see each other.
        attrs: AttrsId,
        /// After `in`.
        body: ExprId,
    },
    /// `x: e`, `{ a, b ? 1 }: e`.
    Lambda(LambdaId),
    /// `with e; b`.
    With {
        /// The set.
        attrs: ExprId,
        /// After the semicolon.
        body: ExprId,
    },
    /// `assert c; b`.
    Assert {
        /// What must hold.
        condition: ExprId,
        /// After the semicolon.
        body: ExprId,
    },
    /// `if c then a else b`.
    If {
        /// The condition.
        condition: ExprId,
        /// If it holds.
        then: ExprId,
        /// If not.
        otherwise: ExprId,
    },
    /// `!e`.
    Not(ExprId),
    /// `-e`: in Nix the call `__sub 0 e`, with `__sub` looked up in scope.
    Negate(ExprId),
    /// `a + b` and the other operators.
    Binary {
        /// Which.
        op: BinaryOp,
        /// Before the operator.
        left: ExprId,
        /// After the operator.
        right: ExprId,
        /// Offset of the operator: where Nix says that it failed.
        op_offset: u32,
    },
    /// Stands where the text could not be understood; only in a tree that comes with errors.
    Error,
}

/// A binary operator. `|>` and `<|` are not here: they are [`Expr::Apply`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BinaryOp {
    /// `->`
    Implies,
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`: in Nix the call `__lessThan a b`, with `__lessThan` looked up in scope, like the next three.
    Less,
    /// `<=`: in Nix `! (__lessThan b a)`.
    LessEqual,
    /// `>`: in Nix `__lessThan b a`.
    Greater,
    /// `>=`: in Nix `! (__lessThan a b)`.
    GreaterEqual,
    /// `//`
    Update,
    /// `+`
    Add,
    /// `-`: in Nix the call `__sub a b`, looked up in scope, like the next two.
    Sub,
    /// `*`: `__mul a b`
    Mul,
    /// `/`: `__div a b`
    Div,
    /// `++`
    Concat,
}

impl BinaryOp {
    /// Returns how it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Implies => "->",
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Update => "//",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Concat => "++",
        }
    }
}

/// A part of a string or path with interpolations.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StrPart {
    /// What it is.
    pub kind: StrPartKind,
    /// Where it stands; of an interpolation, the expression without `${` and `}`.
    pub span: Span,
}

/// See [`StrPart`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum StrPartKind {
    /// Text, never empty. Indented strings may have several in a row.
    Text(Text),
    /// `${e}`.
    Expr(ExprId),
}

/// One name of an attribute path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AttrName {
    /// What it is.
    pub kind: AttrNameKind,
    /// Where it stands, quotes and `${ }` included.
    pub span: Span,
}

/// See [`AttrName`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum AttrNameKind {
    /// `a`, `"a"`, `${"a"}`.
    Static(Symbol),
    /// `${e}`, `"a${e}"`.
    Dynamic(ExprId),
}

/// An attribute set, or the bindings of a `let`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AttrSet {
    /// Whether the bindings see each other. `let` does not set it.
    pub recursive: bool,
    /// Those whose name is known, each name once, in the order of the text.
    pub bindings: Slice<Binding>,
    /// Those whose name is computed, in the order of the text.
    pub dynamic: Slice<DynamicBinding>,
    /// The `e` of each `inherit (e) …`. In a recursive set they see the bindings.
    pub inherit_from: Slice<ExprId>,
}

/// `name = value;` with a name that is known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Binding {
    /// The name.
    pub name: Symbol,
    /// The value; see [`BindingKind`].
    pub value: ExprId,
    /// How it is bound.
    pub kind: BindingKind,
    /// Where the name stands.
    pub name_span: Span,
    /// The offset that Nix reports for it: that of the whole attribute path (`a` for `c` in `a.b.c = 1;`).
    pub offset: u32,
    /// The doc comment before it, if there is one.
    pub doc: Option<DocId>,
}

/// How a [`Binding`] gets its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingKind {
    /// `a = e;`: `value` is `e`.
    Plain,
    /// `inherit a;`: `value` is the variable `a`, looked up *outside* the set, also of a recursive one.
    Inherit,
    /// `inherit (e) a;`: `value` is entry `n` of [`AttrSet::inherit_from`], evaluated once for all that share it.
    InheritFrom(u32),
}

/// `${name} = value;`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DynamicBinding {
    /// The name; `null` makes the binding go away.
    pub name: ExprId,
    /// The value.
    pub value: ExprId,
    /// Where the name stands.
    pub name_span: Span,
    /// The offset that Nix reports for it: that of the whole attribute path.
    pub offset: u32,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lambda {
    /// `x` in `x: e`, or the name beside `@`.
    pub arg: Option<Symbol>,
    /// Where that name stands; empty if there is none.
    pub arg_span: Span,
    /// `{ a, b ? 1, ... }`.
    pub formals: Option<FormalsId>,
    /// After the colon.
    pub body: ExprId,
    /// The doc comment that belongs to it.
    pub doc: Option<DocId>,
}

/// A pattern `{ a, b ? 1, ... }`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Formals {
    /// Each name once, in the order of the text.
    pub entries: Slice<Formal>,
    /// Whether `...` lets others through.
    pub ellipsis: bool,
    /// Where the braces stand.
    pub span: Span,
}

/// `a`, `b ? 1`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Formal {
    /// The name.
    pub name: Symbol,
    /// Where the name stands.
    pub name_span: Span,
    /// After `?`; sees all names of the pattern.
    pub default: Option<ExprId>,
}

/// Number of a doc comment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DocId(pub(crate) NonZeroU32);

/// The tree of one file.
#[derive(Debug, Default)]
pub struct Ast {
    pub(crate) file: FileId,
    pub(crate) root: Option<ExprId>,
    pub(crate) exprs: Vec<Expr>,
    pub(crate) spans: Vec<Span>,
    pub(crate) lists: Vec<ExprId>,
    pub(crate) parts: Vec<StrPart>,
    pub(crate) attr_paths: Vec<Slice<AttrName>>,
    pub(crate) attr_names: Vec<AttrName>,
    pub(crate) attrs: Vec<AttrSet>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) dynamic_bindings: Vec<DynamicBinding>,
    pub(crate) lambdas: Vec<Lambda>,
    pub(crate) formals: Vec<Formals>,
    pub(crate) formal_entries: Vec<Formal>,
    pub(crate) texts: Vec<u8>,
    pub(crate) docs: Vec<Span>,
}

thread_local! {
    /// The memory of a tree that nobody needs any more.
    static SPARE: std::cell::RefCell<Ast> = std::cell::RefCell::default();
}

impl Ast {
    /// Gives the memory of a tree to the next one of this thread: a package set has thousands of small files.
    pub fn recycle(mut self) {
        if self.is_small() {
            self.clear();
            SPARE.set(self);
        }
    }

    /// Whether its memory is worth keeping: that of a large file would stay for nothing.
    pub(crate) fn is_small(&self) -> bool {
        const MOST_EXPRS: usize = 1 << 14;
        self.exprs.capacity() <= MOST_EXPRS
    }

    /// An empty tree in memory that was recycled.
    pub(crate) fn in_spare_memory(file: FileId) -> Self {
        Self { file, ..SPARE.take() }
    }

    fn clear(&mut self) {
        let Self {
            file: _,
            root,
            exprs,
            spans,
            lists,
            parts,
            attr_paths,
            attr_names,
            attrs,
            bindings,
            dynamic_bindings,
            lambdas,
            formals,
            formal_entries,
            texts,
            docs,
        } = self;
        *root = None;
        exprs.clear();
        spans.clear();
        lists.clear();
        parts.clear();
        attr_paths.clear();
        attr_names.clear();
        attrs.clear();
        bindings.clear();
        dynamic_bindings.clear();
        lambdas.clear();
        formals.clear();
        formal_entries.clear();
        texts.clear();
        docs.clear();
    }

    /// Returns the file that it is the tree of.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Returns the whole program.
    pub fn root(&self) -> ExprId {
        self.root.expect("a finished tree has a root")
    }

    /// Returns an expression.
    pub fn expr(&self, id: ExprId) -> Expr {
        self.exprs[id.index() - 1]
    }

    /// Returns where an expression stands; of one in parentheses, without them.
    pub fn span(&self, id: ExprId) -> Span {
        self.spans[id.index() - 1]
    }

    /// Returns how many expressions there are; numbers go from 1 up to this.
    pub fn expr_count(&self) -> usize {
        self.exprs.len()
    }

    /// Returns the numbers of all expressions.
    pub(crate) fn expr_ids(&self) -> impl Iterator<Item = ExprId> + use<> {
        (1..=self.exprs.len() as u32).filter_map(|number| NonZeroU32::new(number).map(ExprId))
    }

    /// Returns arguments, elements, or sources of `inherit (e)`.
    pub fn exprs(&self, slice: Slice<ExprId>) -> &[ExprId] {
        &self.lists[slice.range()]
    }

    /// Returns the parts of a string.
    pub fn parts(&self, slice: Slice<StrPart>) -> &[StrPart] {
        &self.parts[slice.range()]
    }

    /// Returns the names of an attribute path.
    pub fn attr_path(&self, id: AttrPathId) -> &[AttrName] {
        &self.attr_names[self.attr_paths[id.index()].range()]
    }

    /// Returns an attribute set.
    pub fn attrs(&self, id: AttrsId) -> AttrSet {
        self.attrs[id.index()]
    }

    /// Returns the bindings of a set.
    pub fn bindings(&self, slice: Slice<Binding>) -> &[Binding] {
        &self.bindings[slice.range()]
    }

    /// Returns the dynamic bindings of a set.
    pub fn dynamic_bindings(&self, slice: Slice<DynamicBinding>) -> &[DynamicBinding] {
        &self.dynamic_bindings[slice.range()]
    }

    /// Returns a lambda.
    pub fn lambda(&self, id: LambdaId) -> Lambda {
        self.lambdas[id.index()]
    }

    /// Returns a pattern.
    pub fn formals(&self, id: FormalsId) -> Formals {
        self.formals[id.index()]
    }

    /// Returns the names of a pattern.
    pub fn formal_entries(&self, slice: Slice<Formal>) -> &[Formal] {
        &self.formal_entries[slice.range()]
    }

    /// Returns the bytes of a string.
    pub fn text(&self, text: Text) -> &[u8] {
        &self.texts[text.range()]
    }

    /// Returns where a doc comment stands, `/**` and `*/` included.
    pub fn doc(&self, id: DocId) -> Span {
        self.docs[id.0.get() as usize - 1]
    }

    /// Returns how many bytes the tree takes.
    pub fn size_bytes(&self) -> usize {
        fn of<T>(pool: &[T]) -> usize {
            std::mem::size_of_val(pool)
        }
        of(&self.exprs)
            + of(&self.spans)
            + of(&self.lists)
            + of(&self.parts)
            + of(&self.attr_paths)
            + of(&self.attr_names)
            + of(&self.attrs)
            + of(&self.bindings)
            + of(&self.dynamic_bindings)
            + of(&self.lambdas)
            + of(&self.formals)
            + of(&self.formal_entries)
            + of(&self.texts)
            + of(&self.docs)
    }
}

const _: () = assert!(size_of::<Expr>() == 16, "an expression has 16 bytes");
