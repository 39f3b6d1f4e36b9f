//! Bindings to attribute sets.
//!
//! Most sets have plain names, each once: their bindings move into the tree as
//! they are. The others are *opened*: nested paths (`a.b = 1; a.c = 2;`) and sets that are
//! written in several places (`a = { b = 1; }; a = { c = 2; };`) merge into one,
//! as Nix does it, corner cases included:
//!
//! ```text
//! a = rec { x = 1; }; a.y = x;      the set that comes first decides whether it is recursive
//! a = { x = 1; }; a = rec { };      so the `rec` of later ones is lost
//! a.${n}.x = 1; a.${n}.y = 2;       computed names never merge
//! a = let … in { }; a.y = 1;        only what is written as a set merges: `a` is defined twice
//! ```
//!
//! An opened set stays open until the whole text is read, so that one which is opened
//! again at every level around it is copied once and not once for each level.

use rustc_hash::FxHashMap;

use crate::ast::{
    AttrName, AttrNameKind, AttrSet, AttrsId, Binding, BindingKind, DynamicBinding, Expr, ExprId, Slice,
};
use crate::builder::{Builder, Mark};
use crate::errors;
use crate::span::Span;
use crate::symbol::Symbol;

/// The bindings of sets that are not finished, and the sets that are open.
pub(crate) struct BindingStack {
    pending: Vec<Pending>,
    pub seen: Seen,
    open: Vec<OpenSet>,
    open_of: FxHashMap<AttrsId, usize>,
}

impl Default for BindingStack {
    fn default() -> Self {
        Self { pending: Vec::new(), seen: Seen::take(), open: Vec::new(), open_of: FxHashMap::default() }
    }
}

impl Drop for BindingStack {
    fn drop(&mut self) {
        std::mem::take(&mut self.seen).keep();
    }
}

/// A piece of a set, as the text has it.
#[derive(Clone, Copy)]
enum Pending {
    /// `a = e;`
    Single { name: AttrName, value: ExprId },
    /// `a.b = e;`
    Nested { path: Slice<AttrName>, value: ExprId },
    /// `inherit`, before its names.
    Inherit,
    /// `inherit (e)`, before its names.
    InheritFrom(ExprId),
    /// A name after one of these two, with its variable.
    Inherited { name: Symbol, span: Span, value: ExprId },
}

/// Names that were met in one set, without clearing anything between sets.
#[derive(Default)]
pub(crate) struct Seen {
    /// For each symbol the last set that has it, and where.
    last: Vec<(u32, Span)>,
    set: u32,
}

thread_local! {
    /// The table is as long as there are names; a small file should not pay for it anew.
    static KEPT: std::cell::RefCell<Seen> = std::cell::RefCell::default();
}

impl Seen {
    /// Takes the table of this thread, until [`Seen::keep`] gives it back.
    pub fn take() -> Self {
        KEPT.take()
    }

    /// Gives the table back.
    pub fn keep(self) {
        KEPT.set(self);
    }

    /// Begins another set.
    pub fn start(&mut self) {
        if self.set == u32::MAX {
            *self = Self::default();
        }
        self.set += 1;
    }

    /// Adds a name; returns where it was met before in the same set.
    #[inline]
    pub fn add(&mut self, name: Symbol, span: Span) -> Option<Span> {
        let index = name.index() as usize;
        if index >= self.last.len() {
            self.last.resize((index + 1).next_power_of_two().max(1024), (0, Span::default()));
        }
        let entry = &mut self.last[index];
        if entry.0 == self.set {
            return Some(entry.1);
        }
        *entry = (self.set, span);
        None
    }
}

/// A set that merges with others.
#[derive(Default)]
struct OpenSet {
    bindings: Vec<Binding>,
    /// Where each name is in `bindings`, once there are more than [`FEW`].
    places: FxHashMap<Symbol, usize>,
    dynamic: Vec<DynamicBinding>,
    inherit_from: Vec<ExprId>,
}

const FEW: usize = 8;

impl OpenSet {
    fn find(&self, name: Symbol) -> Option<usize> {
        if self.bindings.len() <= FEW {
            return self.bindings.iter().position(|binding| binding.name == name);
        }
        self.places.get(&name).copied()
    }

    fn push(&mut self, binding: Binding) {
        self.bindings.push(binding);
        let len = self.bindings.len();
        if len == FEW + 1 {
            self.places = self.bindings.iter().enumerate().map(|(i, b)| (b.name, i)).collect();
        } else if len > FEW + 1 {
            self.places.insert(binding.name, len - 1);
        }
    }
}

/// A name and the names around it, for messages: entries of a list that point at their parents.
type PathId = Option<usize>;

impl Builder<'_> {
    // What the grammar calls.

    pub fn open_binding(&mut self, path: Mark, value: ExprId) -> Mark {
        let mark = self.bindings.pending.len() as u32;
        self.binding(mark, path, value)
    }

    pub fn binding(&mut self, mark: Mark, path: Mark, value: ExprId) -> Mark {
        let pending = match self.take_single_name(path) {
            Some(name) => Pending::Single { name, value },
            None => Pending::Nested { path: self.take_attr_names(path), value },
        };
        self.bindings.pending.push(pending);
        mark
    }

    pub fn inherit(&mut self) -> Mark {
        self.bindings.pending.push(Pending::Inherit);
        self.bindings.pending.len() as u32 - 1
    }

    pub fn inherit_from(&mut self, from: ExprId) -> Mark {
        self.bindings.pending.push(Pending::InheritFrom(from));
        self.bindings.pending.len() as u32 - 1
    }

    pub fn inherit_name(&mut self, mark: Mark, name: AttrName) -> Mark {
        let AttrName { kind: AttrNameKind::Static(symbol), span } = name else {
            self.errors.push(errors::dynamic_in_inherit(self.at(name.span)));
            return mark;
        };
        let value = match self.bindings.pending[mark as usize] {
            Pending::InheritFrom(from) => from,
            _ => self.push_expr(Expr::Var(symbol), span),
        };
        self.bindings.pending.push(Pending::Inherited { name: symbol, span, value });
        mark
    }

    /// Makes a set of the bindings above `mark`.
    pub fn finish_attrs(&mut self, recursive: bool, mark: Option<Mark>) -> AttrsId {
        let id = self.new_set(recursive);
        if let Some(mark) = mark {
            if !self.finish_plain(id, mark as usize) {
                self.finish_merging(id, mark as usize);
            }
            self.bindings.pending.truncate(mark as usize);
        }
        id
    }

    /// Writes the open sets into the tree.
    pub fn finish_open_sets(&mut self) {
        let sets = std::mem::take(&mut self.bindings.open_of);
        let mut sets: Vec<_> = sets.into_iter().collect();
        sets.sort_unstable();
        for (id, index) in sets {
            let set = std::mem::take(&mut self.bindings.open[index]);
            let bindings = extend(&mut self.ast.bindings, &set.bindings);
            let dynamic = extend(&mut self.ast.dynamic_bindings, &set.dynamic);
            let inherit_from = extend(&mut self.ast.lists, &set.inherit_from);
            let recursive = self.ast.attrs(id).recursive;
            self.ast.attrs[id.index()] = AttrSet { recursive, bindings, dynamic, inherit_from };
        }
    }

    /// Returns where the computed names of a set stand.
    pub fn dynamic_names(&self, id: AttrsId) -> Vec<Span> {
        let dynamic = match self.bindings.open_of.get(&id) {
            Some(&index) => &self.bindings.open[index].dynamic[..],
            None => self.ast.dynamic_bindings(self.ast.attrs(id).dynamic),
        };
        dynamic.iter().map(|binding| binding.name_span).collect()
    }

    fn new_set(&mut self, recursive: bool) -> AttrsId {
        let set =
            AttrSet { recursive, bindings: Slice::EMPTY, dynamic: Slice::EMPTY, inherit_from: Slice::EMPTY };
        self.ast.attrs.push(set);
        AttrsId(self.ast.attrs.len() as u32 - 1)
    }

    /// Moves the bindings into the tree if all names are plain and new; else leaves everything as it was.
    fn finish_plain(&mut self, id: AttrsId, mark: usize) -> bool {
        let first = self.ast.bindings.len();
        let first_dynamic = self.ast.dynamic_bindings.len();
        let first_from = self.ast.lists.len();
        let mut kind = BindingKind::Inherit;
        self.bindings.seen.start();
        for i in mark..self.bindings.pending.len() {
            let plain = match self.bindings.pending[i] {
                Pending::Single { name: AttrName { kind: AttrNameKind::Static(name), span }, value } => {
                    let doc = self.document_binding(span.start, value);
                    let binding = Binding {
                        name,
                        value,
                        kind: BindingKind::Plain,
                        name_span: span,
                        offset: span.start,
                        doc,
                    };
                    self.ast.bindings.push(binding);
                    self.bindings.seen.add(name, span).is_none()
                }
                Pending::Single { name: AttrName { kind: AttrNameKind::Dynamic(name), span }, value } => {
                    self.document_binding(span.start, value);
                    let binding = DynamicBinding { name, value, name_span: span, offset: span.start };
                    self.ast.dynamic_bindings.push(binding);
                    true
                }
                Pending::Nested { .. } => false,
                Pending::Inherit => {
                    kind = BindingKind::Inherit;
                    true
                }
                Pending::InheritFrom(from) => {
                    kind = BindingKind::InheritFrom((self.ast.lists.len() - first_from) as u32);
                    self.ast.lists.push(from);
                    true
                }
                Pending::Inherited { name, span, value } => {
                    let binding =
                        Binding { name, value, kind, name_span: span, offset: span.start, doc: None };
                    self.ast.bindings.push(binding);
                    self.bindings.seen.add(name, span).is_none()
                }
            };
            if !plain {
                self.ast.bindings.truncate(first);
                self.ast.dynamic_bindings.truncate(first_dynamic);
                self.ast.lists.truncate(first_from);
                return false;
            }
        }
        let set = &mut self.ast.attrs[id.index()];
        set.bindings = Slice::new(first, self.ast.bindings.len());
        set.dynamic = Slice::new(first_dynamic, self.ast.dynamic_bindings.len());
        set.inherit_from = Slice::new(first_from, self.ast.lists.len());
        true
    }

    /// Adds the bindings to the set one by one, as Nix does.
    fn finish_merging(&mut self, id: AttrsId, mark: usize) {
        let set = self.open_set(id);
        let mut kind = BindingKind::Inherit;
        for i in mark..self.bindings.pending.len() {
            match self.bindings.pending[i] {
                Pending::Single { name, value } => {
                    let path = Slice::new(self.ast.attr_names.len(), self.ast.attr_names.len() + 1);
                    self.ast.attr_names.push(name);
                    self.add_at_path(set, path, value);
                }
                Pending::Nested { path, value } => self.add_at_path(set, path, value),
                Pending::Inherit => kind = BindingKind::Inherit,
                Pending::InheritFrom(from) => {
                    let sources = &mut self.bindings.open[set].inherit_from;
                    kind = BindingKind::InheritFrom(sources.len() as u32);
                    sources.push(from);
                }
                Pending::Inherited { name, span, value } => {
                    let binding =
                        Binding { name, value, kind, name_span: span, offset: span.start, doc: None };
                    match self.bindings.open[set].find(name) {
                        None => self.bindings.open[set].push(binding),
                        Some(place) => self.already_defined(&[name], span, set, place),
                    }
                }
            }
        }
    }

    /// Returns the place of a set among the open ones.
    fn open_set(&mut self, id: AttrsId) -> usize {
        if let Some(&index) = self.bindings.open_of.get(&id) {
            return index;
        }
        let AttrSet { bindings, dynamic, inherit_from, .. } = self.ast.attrs(id);
        let mut set = OpenSet {
            dynamic: self.ast.dynamic_bindings(dynamic).to_vec(),
            inherit_from: self.ast.exprs(inherit_from).to_vec(),
            ..OpenSet::default()
        };
        for &binding in self.ast.bindings(bindings) {
            set.push(binding);
        }
        let index = self.bindings.open.len();
        self.bindings.open.push(set);
        self.bindings.open_of.insert(id, index);
        index
    }

    /// `a.b.c = value;`
    fn add_at_path(&mut self, mut set: usize, path: Slice<AttrName>, value: ExprId) {
        let names = path.range();
        let last = names.end - 1;
        let start = self.ast.attr_names[names.start].span.start;
        let doc = self.document_binding(start, value);
        for i in names.start..last {
            let AttrName { kind, span } = self.ast.attr_names[i];
            let inside = match kind {
                AttrNameKind::Static(name) => match self.bindings.open[set].find(name) {
                    Some(place) => match self.plain_set(self.bindings.open[set].bindings[place]) {
                        Some(inside) => inside,
                        None => {
                            let path = self.static_names(names.start..i + 1);
                            self.already_defined(&path, Span::new(start, span.end), set, place);
                            return;
                        }
                    },
                    None => {
                        let (inside, value) = self.implied_set(i + 1, value);
                        let kind = BindingKind::Plain;
                        let binding =
                            Binding { name, value, kind, name_span: span, offset: start, doc: None };
                        self.bindings.open[set].push(binding);
                        inside
                    }
                },
                AttrNameKind::Dynamic(name) => {
                    let (inside, value) = self.implied_set(i + 1, value);
                    let binding = DynamicBinding { name, value, name_span: span, offset: start };
                    self.bindings.open[set].dynamic.push(binding);
                    inside
                }
            };
            set = self.open_set(inside);
        }
        let AttrName { kind, span } = self.ast.attr_names[last];
        match kind {
            AttrNameKind::Dynamic(name) => {
                let binding = DynamicBinding { name, value, name_span: span, offset: start };
                self.bindings.open[set].dynamic.push(binding);
            }
            AttrNameKind::Static(name) => {
                let kind = BindingKind::Plain;
                let binding = Binding { name, value, kind, name_span: span, offset: start, doc };
                self.merge(set, binding, names.start..last);
            }
        }
    }

    /// Makes the set that a nested path implies from its name `i` on.
    fn implied_set(&mut self, i: usize, value: ExprId) -> (AttrsId, ExprId) {
        let id = self.new_set(false);
        let span = Span::new(self.ast.attr_names[i].span.start, self.ast.span(value).end);
        (id, self.push_expr(Expr::Attrs(id), span))
    }

    /// Returns the set that a binding is bound to, if it is written as one.
    fn plain_set(&self, binding: Binding) -> Option<AttrsId> {
        match (binding.kind, self.ast.expr(binding.value)) {
            (BindingKind::Plain, Expr::Attrs(id)) => Some(id),
            _ => None,
        }
    }

    /// Adds a binding to a set; if the name is there and both values are sets, adds what is in it instead.
    fn merge(&mut self, set: usize, binding: Binding, around: std::ops::Range<usize>) {
        let mut paths: Vec<(PathId, Symbol)> = Vec::new();
        let mut todo: Vec<(usize, Binding, PathId)> = vec![(set, binding, None)];
        while let Some((set, binding, parent)) = todo.pop() {
            let Some(place) = self.bindings.open[set].find(binding.name) else {
                self.bindings.open[set].push(binding);
                continue;
            };
            let there = self.bindings.open[set].bindings[place];
            let (Some(into), Some(from)) = (self.plain_set(there), self.plain_set(binding)) else {
                let mut path = self.static_names(around.clone());
                path.extend(names_of(&paths, parent));
                path.push(binding.name);
                let start = if parent.is_none() { binding.offset } else { binding.name_span.start };
                self.already_defined(&path, Span::new(start, binding.name_span.end), set, place);
                continue;
            };
            paths.push((parent, binding.name));
            let path = Some(paths.len() - 1);
            let into = self.open_set(into);
            let from = self.open_set(from);
            let from = std::mem::take(&mut self.bindings.open[from]);
            let sources = self.bindings.open[into].inherit_from.len() as u32;
            for mut binding in from.bindings.into_iter().rev() {
                if let BindingKind::InheritFrom(n) = &mut binding.kind {
                    *n += sources;
                }
                todo.push((into, binding, path));
            }
            let into = &mut self.bindings.open[into];
            into.dynamic.extend(from.dynamic);
            into.inherit_from.extend(from.inherit_from);
        }
    }

    fn static_names(&self, names: std::ops::Range<usize>) -> Vec<Symbol> {
        let names = self.ast.attr_names[names].iter();
        names
            .filter_map(|name| match name.kind {
                AttrNameKind::Static(symbol) => Some(symbol),
                AttrNameKind::Dynamic(_) => None,
            })
            .collect()
    }

    #[cold]
    fn already_defined(&mut self, path: &[Symbol], span: Span, set: usize, place: usize) {
        let first = self.bindings.open[set].bindings[place];
        let first = Span::new(first.offset, first.name_span.end.max(first.offset));
        let error = errors::already_defined(self.source, path, span, first);
        self.errors.push(error);
    }

    /// Gives a value the doc comment before its name.
    #[inline]
    fn document_binding(&mut self, offset: u32, value: ExprId) -> Option<crate::ast::DocId> {
        let doc = self.doc_before(offset)?;
        self.document(value, doc);
        Some(doc)
    }
}

fn names_of(paths: &[(PathId, Symbol)], mut path: PathId) -> Vec<Symbol> {
    let mut names = Vec::new();
    while let Some(index) = path {
        names.push(paths[index].1);
        path = paths[index].0;
    }
    names.reverse();
    names
}

fn extend<T: Copy>(pool: &mut Vec<T>, entries: &[T]) -> Slice<T> {
    let start = pool.len();
    pool.extend_from_slice(entries);
    Slice::new(start, pool.len())
}
