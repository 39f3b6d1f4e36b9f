//! The heap against a model: random values are made of each other while memory is collected all the time, and must
//! stay what they are. Only roots keep them, as far as the native stack allows to tell.

use std::collections::BTreeMap;

use ampoule_lang::Symbol;

use super::{AttrsBuilder, Heap, Root, Value};
use crate::context::ContextId;

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Model>),
    Set(BTreeMap<Vec<u8>, Model>),
}

impl Model {
    fn size(&self) -> usize {
        match self {
            Self::Int(_) => 1,
            Self::Text(text) => 1 + text.len() / 8,
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Self::Set(set) => 1 + set.values().map(Self::size).sum::<usize>(),
        }
    }

    fn of(heap: &mut Heap, value: Value) -> Self {
        if let Some(n) = value.as_int() {
            return Self::Int(n);
        }
        if let Some(text) = value.as_str() {
            return Self::Text(text.as_bytes().to_vec());
        }
        if let Some(list) = value.as_list() {
            return Self::List(list.iter().map(|item| Self::of(heap, item)).collect());
        }
        let attrs = value.as_attrs().expect("nothing else is made here");
        let sorted = heap.sorted(attrs);
        Self::Set(
            (0..sorted.len())
                .map(|index| sorted.get(index))
                .map(|(name, value)| (name.as_bytes().to_vec(), Self::of(heap, value)))
                .collect(),
        )
    }
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

const KEPT: usize = 48;
const MAX_SIZE: usize = 3000;

struct Stress {
    heap: Heap,
    dice: Dice,
    kept: Vec<(Root, Model)>,
}

impl Stress {
    fn any(&mut self) -> (Value, Model) {
        let (root, model) = &self.kept[self.dice.below(self.kept.len())];
        (self.heap.rooted(*root), model.clone())
    }

    /// Makes a value of those that there are.
    fn made(&mut self) -> (Value, Model) {
        let ((a, a_model), (b, b_model)) = (self.any(), self.any());
        match (self.dice.below(8), a_model, b_model) {
            (0..3, Model::Text(mut text), Model::Text(more)) => {
                let value = self.heap.append(a, &more, ContextId::EMPTY);
                text.extend(more);
                (value, Model::Text(text))
            }
            (3..5, Model::Text(text), _) => {
                let start = self.dice.below(text.len() + 1);
                let end = start + self.dice.below(text.len() - start + 1);
                let value = self.heap.substring(a, start, end, ContextId::EMPTY);
                (value, Model::Text(text[start..end].to_vec()))
            }
            (0..3, Model::List(mut items), Model::List(more)) => {
                items.extend(more);
                (self.heap.concat(a, b), Model::List(items))
            }
            (3..5, Model::List(items), _) => {
                let start = self.dice.below(items.len() + 1);
                let end = start + self.dice.below(items.len() - start + 1);
                (self.heap.sublist(a, start, end), Model::List(items[start..end].to_vec()))
            }
            (0..5, Model::Set(mut set), Model::Set(more)) => {
                let (left, right) = (a.as_attrs().expect("a set"), b.as_attrs().expect("a set"));
                set.extend(more);
                (self.heap.update(left, right), Model::Set(set))
            }
            (5, ..) => self.text(),
            (6, ..) => self.list(),
            (7, ..) => self.set(),
            _ => {
                let n = (self.dice.0 as i64) >> self.dice.below(40);
                (self.heap.int(n), Model::Int(n))
            }
        }
    }

    fn text(&mut self) -> (Value, Model) {
        let len = self.dice.below(300);
        let text: Vec<u8> = (0..len).map(|_| self.dice.below(256) as u8).collect();
        (self.heap.string(&text, ContextId::EMPTY), Model::Text(text))
    }

    fn list(&mut self) -> (Value, Model) {
        let len = self.dice.below(40);
        let list = self.heap.list(len);
        let mut items = Vec::new();
        for index in 0..len {
            let (item, model) = self.any();
            list.as_list().expect("a list").settle(index, item);
            items.push(model);
        }
        (list, Model::List(items))
    }

    fn set(&mut self) -> (Value, Model) {
        let (mut builder, mut set) = (AttrsBuilder::new(), BTreeMap::new());
        for _ in 0..self.dice.below(40) {
            let name = format!("n{}", self.dice.below(200)).into_bytes();
            let (value, model) = self.any();
            if set.insert(name.clone(), model).is_none() {
                builder.push(&mut self.heap, Symbol::intern(&name), value);
            } else {
                set = BTreeMap::new();
                builder = AttrsBuilder::new();
            }
        }
        (builder.finish(&mut self.heap), Model::Set(set))
    }

    #[inline(never)]
    fn step(&mut self) {
        let (value, model) = self.made();
        if model.size() > MAX_SIZE {
            return;
        }
        let root = self.heap.root(value);
        if self.kept.len() < KEPT {
            self.kept.push((root, model));
        } else {
            let place = self.dice.below(KEPT);
            let (old, _) = std::mem::replace(&mut self.kept[place], (root, model));
            self.heap.unroot(old);
        }
    }

    #[inline(never)]
    fn check(&mut self) {
        for (root, model) in &self.kept {
            let value = self.heap.rooted(*root);
            assert_eq!(&Model::of(&mut self.heap, value), model);
        }
    }
}

#[inline(never)]
fn stress(stack_base: usize, nursery_bytes: usize, seed: u64) {
    let mut heap = Heap::new(stack_base, nursery_bytes);
    let (text, list, set) = (heap.empty_string, heap.empty_list, heap.empty_attrs);
    let kept = vec![
        (heap.root(text), Model::Text(Vec::new())),
        (heap.root(list), Model::List(Vec::new())),
        (heap.root(set), Model::Set(BTreeMap::new())),
    ];
    let mut stress = Stress { heap, dice: Dice(seed), kept };
    for step in 0..4000 {
        stress.step();
        if step % 7 == 0 {
            stress.heap.collect();
        }
        if step % 50 == 0 {
            stress.check();
        }
    }
    stress.check();
    assert!(stress.heap.collections > 500);
    assert!(stress.heap.size_bytes() < 64 << 20, "what nothing refers to is used again");
}

#[test]
fn values_stay_what_they_are() {
    // Above everything that this test has on its stack.
    let marker = 0u64;
    let base = std::ptr::from_ref(std::hint::black_box(&marker)) as usize;
    for seed in 1..6 {
        stress(base, 0, seed);
        stress(base, 1 << 20, seed);
    }
}

/// Objects of several blocks come and go beside others that stay: their blocks are found again.
#[test]
fn blocks_of_large_objects_are_used_again() {
    let marker = 0u64;
    large_objects(std::ptr::from_ref(std::hint::black_box(&marker)) as usize);
}

#[inline(never)]
fn large_objects(stack_base: usize) {
    const ROUNDS: usize = 1000;
    let mut heap = Heap::new(stack_base, 1 << 20);
    let text = vec![b'x'; 40 << 10];
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let blocks = 1 + round % 5;
        let value = heap.string(&text.repeat(blocks), ContextId::EMPTY);
        if round % 50 == 0 {
            kept.push((heap.root(value), text.len() * blocks));
        }
        super::forget_stack();
    }
    for (root, len) in kept {
        let kept = heap.rooted(root).as_str().expect("a text");
        assert_eq!(kept.len(), len);
        assert!(kept.as_bytes().iter().all(|&byte| byte == b'x'));
    }
    assert!(heap.allocated_bytes() > 100 << 20, "{}", heap.allocated_bytes());
    assert!(heap.size_bytes() < 40 << 20, "{} of blocks", heap.size_bytes());
}
