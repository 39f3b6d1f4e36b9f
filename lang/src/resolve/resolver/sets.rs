//! Lists, sets, and bindings that see each other: `rec`, `let`, and the formals of a function.

use super::{Binding, N, Resolver};
use crate::ast::{self, AttrSet, AttrsId, BindingKind, ExprId};
use crate::resolve::ir::{
    Attrs, DynamicAttrs, Eager, Field, Hint, Let, List, Node, Overrides, Patch, Place, Runtime, Var, With,
};
use crate::span::Span;
use crate::symbol::{Symbol, sym};

/// A binding of a `let`, `rec` or pattern, before its value is resolved.
pub(super) struct Member {
    pub(super) name: Option<Symbol>,
    pub(super) binding: Binding,
    pub(super) value: MemberValue,
}

#[derive(Clone, Copy)]
pub(super) enum MemberValue {
    Expr(ExprId),
    /// `inherit a;`: resolved outside.
    Outer(ExprId),
    /// `inherit (e) a;`: attribute of a hidden member.
    From(Binding, Symbol, Span),
}

impl<'a, R: Runtime> Resolver<'a, '_, '_, R> {
    pub(super) fn list(&mut self, elements: ast::Slice<ExprId>) -> N<'a, R> {
        let nodes: Vec<N<'a, R>> =
            self.ast.exprs(elements).iter().map(|&element| self.lazy(element)).collect();
        self.list_of(&nodes)
    }

    fn list_of(&mut self, nodes: &[N<'a, R>]) -> N<'a, R> {
        if let Some(values) = self.all_constant(nodes) {
            return Node::Const(self.constants.list(&values));
        }
        let elements = self.arena.alloc_slice_copy(nodes);
        Node::List(self.arena.alloc(List { elements }))
    }

    fn all_constant(&mut self, nodes: &[N<'a, R>]) -> Option<Vec<R::Value>> {
        if self.fresh_literals && !nodes.is_empty() && self.ctx().in_function {
            return None;
        }
        let constant = |node: &N<'a, R>| match node {
            Node::Const(value) if self.constants.is_value(*value) => Some(*value),
            _ => None,
        };
        nodes.iter().map(constant).collect()
    }

    pub(super) fn attrs(&mut self, id: ExprId, attrs: AttrsId) -> N<'a, R> {
        let set = self.ast.attrs(attrs);
        if set.recursive {
            return self.recursive_attrs(id, set);
        }
        let saved = self.ctx().slots;
        // The sources of `inherit (e)` wait in hidden slots.
        let mut hidden = Vec::new();
        let mut sources = Vec::new();
        for &source in self.ast.exprs(set.inherit_from) {
            let node = self.lazy(source);
            let binding = self.new_binding(true);
            hidden.push((binding.slot, node));
            sources.push(binding);
        }
        let mut values: Vec<(Symbol, u32, N<'a, R>)> = Vec::with_capacity(set.bindings.len());
        for binding in self.ast.bindings(set.bindings) {
            let node = match binding.kind {
                BindingKind::Plain => self.lazy_named(binding.value, binding.name),
                BindingKind::Inherit => self.lazy(binding.value),
                BindingKind::InheritFrom(n) => {
                    let source = self.ast.exprs(set.inherit_from)[n as usize];
                    self.inherited(sources[n as usize], binding.name, binding.name_span, source)
                }
            };
            values.push((binding.name, self.base.saturating_add(binding.offset), node));
        }
        let node = self.finish_attrs(id, set, values, None);
        self.ctx().slots = saved;
        if hidden.is_empty() {
            return node;
        }
        let bindings = self.arena.alloc_slice_copy(&hidden);
        Node::Let(self.arena.alloc(Let { bindings, patches: &[], body: node }))
    }

    /// Sorts the attributes, adds the dynamic ones.
    fn finish_attrs(
        &mut self,
        id: ExprId,
        set: AttrSet,
        mut values: Vec<(Symbol, u32, N<'a, R>)>,
        overrides: Option<&'a Overrides<'a>>,
    ) -> N<'a, R> {
        values.sort_unstable_by_key(|&(name, ..)| name);
        let names: Vec<(Symbol, u32)> = values.iter().map(|&(name, offset, _)| (name, offset)).collect();
        let keys = self.constants.keys(&names);
        let nodes: Vec<N<'a, R>> = values.iter().map(|&(.., node)| node).collect();
        if set.dynamic.is_empty() && overrides.is_none() {
            if let Some(values) = self.all_constant(&nodes) {
                return Node::Const(self.constants.attrs(keys, &values));
            }
            let values = self.arena.alloc_slice_copy(&nodes);
            return Node::Attrs(self.arena.alloc(Attrs { keys, values }));
        }
        let fixed = Attrs { keys, values: self.arena.alloc_slice_copy(&nodes) };
        let mut dynamic = Vec::new();
        for binding in self.ast.dynamic_bindings(set.dynamic) {
            let name = self.strict(binding.name);
            let value = self.lazy(binding.value);
            let start = self.base.saturating_add(binding.offset);
            let place = Place { start, end: self.place(binding.name_span).end.max(start) };
            dynamic.push((name, value, place));
        }
        let dynamic = self.arena.alloc_slice_copy(&dynamic);
        Node::DynamicAttrs(self.arena.alloc(DynamicAttrs {
            fixed,
            dynamic,
            overrides,
            place: self.place_of(id),
        }))
    }

    /// Attribute `name` of what is in a hidden slot, to be computed when needed.
    fn inherited(&mut self, source: Binding, name: Symbol, span: Span, expr: ExprId) -> N<'a, R> {
        let place = self.place(span);
        let base_place = self.place_of(expr);
        let select = |this: &mut Self| {
            let base = this.var_node(source, base_place.start);
            Node::Field(this.arena.alloc(Field { base, name, place, base_place, hint: Hint::default() }))
        };
        if self.is_unwritten_here(source) || self.waits(expr) {
            return self.suspended(select, span);
        }
        let now = select(self);
        let later = self.suspension(select, span);
        Node::Eager(self.arena.alloc(Eager { now, later }))
    }

    // ---- bindings that see each other

    /// Lists the members of a `let` or `rec`, and gives them slots. Names are not in scope yet.
    fn members(&mut self, set: AttrSet) -> Vec<Member> {
        let mut members = Vec::new();
        let mut sources = Vec::new();
        for &source in self.ast.exprs(set.inherit_from) {
            let binding = self.new_binding(false);
            sources.push(binding);
            members.push(Member { name: None, binding, value: MemberValue::Expr(source) });
        }
        for binding in self.ast.bindings(set.bindings) {
            let value = match binding.kind {
                BindingKind::Plain => MemberValue::Expr(binding.value),
                BindingKind::Inherit => MemberValue::Outer(binding.value),
                BindingKind::InheritFrom(n) => {
                    MemberValue::From(sources[n as usize], binding.name, binding.name_span)
                }
            };
            let slot = self.new_binding(false);
            members.push(Member { name: Some(binding.name), binding: slot, value });
        }
        members
    }

    /// Resolves the values of members, in order, and what must be patched afterwards.
    ///
    /// With `all_patches`, every capture of a member by a member is patched, for `__overrides`.
    fn bind(&mut self, members: &[Member], all_patches: bool) -> (Vec<(u32, N<'a, R>)>, Vec<Patch>) {
        let outer: Vec<Option<N<'a, R>>> = members
            .iter()
            .map(|member| match member.value {
                MemberValue::Outer(expr) => Some(self.lazy(expr)),
                _ => None,
            })
            .collect();
        for member in members {
            if let Some(name) = member.name {
                self.push_name(name, member.binding);
            }
        }
        let mut nodes = Vec::with_capacity(members.len());
        let mut patches = Vec::new();
        for (member, outer) in members.iter().zip(outer) {
            let node = match (member.value, outer) {
                (_, Some(node)) => node,
                (MemberValue::Expr(expr), None) => match member.name {
                    Some(name) => self.lazy_named(expr, name),
                    None => self.lazy(expr),
                },
                (MemberValue::From(source, name, span), None) => self.inherited_member(source, name, span),
                (MemberValue::Outer(_), None) => unreachable!("resolved above"),
            };
            self.patches(&node, member.binding, members, all_patches, &mut patches);
            nodes.push((member.binding.slot, node));
            // What `__overrides` may replace is not looked at before.
            self.written[member.binding.id as usize] = !all_patches;
        }
        for member in members {
            self.written[member.binding.id as usize] = true;
        }
        (nodes, patches)
    }

    fn inherited_member(&mut self, source: Binding, name: Symbol, span: Span) -> N<'a, R> {
        let place = self.place(span);
        let select = |this: &mut Self| {
            let base = this.var_node(source, place.start);
            Node::Field(this.arena.alloc(Field {
                base,
                name,
                place,
                base_place: place,
                hint: Hint::default(),
            }))
        };
        self.suspended(select, span)
    }

    /// Finds the captures of `node`, in the slot of `holder`, that are not written before it.
    pub(super) fn patches(
        &self,
        node: &N<'a, R>,
        holder: Binding,
        members: &[Member],
        all: bool,
        patches: &mut Vec<Patch>,
    ) {
        let captures: &[Var] = match node {
            Node::Thunk(code) => code.captures,
            Node::Eager(eager) => eager.later.captures,
            Node::Lambda(lambda) => lambda.captures,
            _ => return,
        };
        let Some((first, last)) = members.first().zip(members.last()) else { return };
        let group = first.binding.slot..=last.binding.slot;
        for (index, var) in captures.iter().enumerate() {
            if let Var::Local(slot) = *var
                && group.contains(&slot)
            {
                let member = &members[(slot - first.binding.slot) as usize];
                if all || !self.written[member.binding.id as usize] {
                    patches.push(Patch { holder: holder.slot, capture: index as u32, slot });
                }
            }
        }
    }

    fn pop_members(&mut self, members: &[Member]) {
        for member in members {
            if let Some(name) = member.name {
                self.pop_name(name);
            }
        }
    }

    pub(super) fn let_in(&mut self, attrs: AttrsId, body: ExprId) -> N<'a, R> {
        let set = self.ast.attrs(attrs);
        let saved = self.ctx().slots;
        let members = self.members(set);
        let (bindings, patches) = self.bind(&members, false);
        let body = self.strict(body);
        self.pop_members(&members);
        self.ctx().slots = saved;
        let bindings = self.arena.alloc_slice_copy(&bindings);
        let patches = self.arena.alloc_slice_copy(&patches);
        Node::Let(self.arena.alloc(Let { bindings, patches, body }))
    }

    fn recursive_attrs(&mut self, id: ExprId, set: AttrSet) -> N<'a, R> {
        let saved = self.ctx().slots;
        let members = self.members(set);
        let overriding = members.iter().find(|member| member.name == Some(sym::OVERRIDES));
        let overriding = overriding.map(|member| member.binding);
        let (bindings, patches) = self.bind(&members, overriding.is_some());
        let patches: &'a [Patch] = self.arena.alloc_slice_copy(&patches);
        let named = self.ast.bindings(set.bindings);
        let hidden = members.len() - named.len();
        let values = named
            .iter()
            .zip(&members[hidden..])
            .map(|(binding, member)| {
                let start = self.base.saturating_add(binding.offset);
                (binding.name, start, Node::Local(member.binding.slot, start))
            })
            .collect();
        let overrides = overriding.map(|binding| {
            let slots: Vec<(Symbol, u32)> =
                members.iter().filter_map(|member| Some((member.name?, member.binding.slot))).collect();
            let slots = self.arena.alloc_slice_copy(&slots);
            let at = named.iter().find(|binding| binding.name == sym::OVERRIDES).expect("found above");
            let place = self.place(at.name_span);
            &*self.arena.alloc(Overrides { slots, slot: binding.slot, patches, place })
        });
        let body = self.finish_attrs(id, set, values, overrides);
        self.pop_members(&members);
        self.ctx().slots = saved;
        let bindings = self.arena.alloc_slice_copy(&bindings);
        let patches = if overrides.is_some() { &[] } else { patches };
        Node::Let(self.arena.alloc(Let { bindings, patches, body }))
    }

    pub(super) fn with(&mut self, attrs: ExprId, body: ExprId) -> N<'a, R> {
        let saved = self.ctx().slots;
        let scope = self.lazy(attrs);
        let binding = self.new_binding(true);
        let place = self.place_of(attrs);
        self.withs.push((binding, place));
        let body = self.strict(body);
        self.withs.pop();
        self.ctx().slots = saved;
        Node::With(self.arena.alloc(With { slot: binding.slot, scope, body }))
    }
}
