//! The engine for patterns in which it can be seen how the C++ library searches, and for small ones at first.
//!
//! It explores all ways, keeps the longest, and remembers for each step at each place of the text how far it led:
//! no place is tried twice, so the time is linear in the text.

use super::Found;
use super::ast::Ast;
use super::bytes::ByteSet;

#[derive(Clone, Debug)]
enum Step {
    Set(ByteSet, usize),
    Begin(usize),
    End(usize),
    Save(usize, usize),
    /// Both ways are tried; the longer result wins, the first if they are equal.
    Choice(usize, usize),
    /// The body is tried first; the way on only if the body leads nowhere. `bit` is set for bodies
    /// that can be empty: it tells whether the text has advanced since the body was entered.
    Loop {
        body: usize,
        next: usize,
        bit: u64,
    },
    Accept,
}

/// The automaton that [`Backtracker`] runs.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
    start: usize,
    group_count: usize,
    loop_count: u32,
}

impl Program {
    pub(super) fn new(ast: &Ast, group_count: usize) -> Self {
        let mut program = Program { steps: vec![Step::Accept], start: 0, group_count, loop_count: 0 };
        program.start = program.add(ast, 0);
        program
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Adds `ast` before the step `next` and returns where it starts.
    fn add(&mut self, ast: &Ast, next: usize) -> usize {
        match ast {
            Ast::Empty => next,
            Ast::Begin => self.push(Step::Begin(next)),
            Ast::End => self.push(Step::End(next)),
            Ast::Set(set) => self.push(Step::Set(set.clone(), next)),
            Ast::Group(number, body) => {
                let close = self.push(Step::Save(2 * number - 1, next));
                let body = self.add(body, close);
                self.push(Step::Save(2 * number - 2, body))
            }
            Ast::Sequence(parts) => parts.iter().rev().fold(next, |next, part| self.add(part, next)),
            Ast::Choice(branches) => {
                let mut starts: Vec<usize> = branches.iter().map(|branch| self.add(branch, next)).collect();
                let last = starts.pop().expect("a choice has branches");
                starts.into_iter().rev().fold(last, |other, start| self.push(Step::Choice(start, other)))
            }
            Ast::Repeat { body, min, max } => {
                let mut start = next;
                match max {
                    None => start = self.add_loop(body, next),
                    Some(max) => {
                        for _ in *min..*max {
                            let body = self.add(body, start);
                            start = self.push(Step::Loop { body, next, bit: 0 });
                        }
                    }
                }
                (0..*min).fold(start, |next, _| self.add(body, next))
            }
        }
    }

    fn add_loop(&mut self, body: &Ast, next: usize) -> usize {
        let bit = if body.can_be_empty() {
            // More than 64 such loops share a bit: then one may run over nothing once less.
            self.loop_count += 1;
            1 << (self.loop_count % 64)
        } else {
            0
        };
        let at = self.push(Step::Loop { body: 0, next, bit });
        let start = self.add(body, at);
        self.steps[at] = Step::Loop { body: start, next, bit };
        at
    }
}

/// Which ends of a match count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    Anywhere,
    NotEmpty,
    AtEnd,
}

/// A step at a place of the text, and which loops have advanced since their body was entered.
type Place = (usize, usize, u64);

/// What is known of a place: the end of the best match from there, and the way to it.
#[derive(Clone, Copy)]
enum Known {
    Open,
    Fails,
    Ends { at: usize, via: Option<Place> },
}

/// Finds the match that the C++ library would find, trying every place once.
pub(super) struct Backtracker<'a> {
    program: &'a Program,
    text: &'a [u8],
    ends: Ends,
    from: usize,
    known: rustc_hash::FxHashMap<Place, Known>,
}

impl<'a> Backtracker<'a> {
    pub(super) fn new(program: &'a Program, text: &'a [u8], ends: Ends) -> Self {
        Backtracker { program, text, ends, from: 0, known: Default::default() }
    }

    pub(super) fn run(mut self, from: usize) -> Option<Found> {
        self.from = from;
        let start = (self.program.start, from, u64::MAX);
        let mut stack = vec![start];
        while let Some(&place) = stack.last() {
            match self.attempt(place) {
                Attempt::Needs(other) => {
                    self.known.entry(place).or_insert(Known::Open);
                    stack.push(other);
                }
                Attempt::Done(known) => {
                    self.known.insert(place, known);
                    stack.pop();
                }
            }
        }
        self.trace(start)
    }

    /// Looks at one place, given what is known of those that follow.
    fn attempt(&self, (step, at, bits): Place) -> Attempt {
        match &self.program.steps[step] {
            Step::Set(set, next) => match self.text.get(at) {
                Some(byte) if set.contains(*byte) => self.follow((*next, at + 1, u64::MAX)),
                _ => Attempt::Done(Known::Fails),
            },
            Step::Begin(next) if at == 0 => self.follow((*next, at, bits)),
            Step::End(next) if at == self.text.len() => self.follow((*next, at, bits)),
            Step::Begin(_) | Step::End(_) => Attempt::Done(Known::Fails),
            Step::Save(_, next) => self.follow((*next, at, bits)),
            Step::Choice(first, second) => {
                let (first, second) = ((*first, at, bits), (*second, at, bits));
                match (self.known(first), self.known(second)) {
                    (None, _) => Attempt::Needs(first),
                    (_, None) => Attempt::Needs(second),
                    (Some(one), Some(two)) => Attempt::Done(longer((first, one), (second, two))),
                }
            }
            Step::Loop { body, next, bit } => {
                let next = (*next, at, bits);
                if *bit != 0 && bits & bit == 0 {
                    return self.follow(next);
                }
                let body = (*body, at, bits & !bit);
                match self.known(body) {
                    None => Attempt::Needs(body),
                    Some(Some(end)) => Attempt::Done(Known::Ends { at: end, via: Some(body) }),
                    Some(None) => self.follow(next),
                }
            }
            Step::Accept => {
                let counts = match self.ends {
                    Ends::Anywhere => true,
                    Ends::NotEmpty => at > self.from,
                    Ends::AtEnd => at == self.text.len(),
                };
                Attempt::Done(if counts { Known::Ends { at, via: None } } else { Known::Fails })
            }
        }
    }

    fn follow(&self, place: Place) -> Attempt {
        match self.known(place) {
            None => Attempt::Needs(place),
            Some(None) => Attempt::Done(Known::Fails),
            Some(Some(end)) => Attempt::Done(Known::Ends { at: end, via: Some(place) }),
        }
    }

    /// Returns the end of the best match from `place`, if there is one; `None` if not known yet.
    fn known(&self, place: Place) -> Option<Option<usize>> {
        match self.known.get(&place) {
            None => None,
            // A place that waits for itself is a loop that does not advance: that way leads nowhere.
            Some(Known::Open | Known::Fails) => Some(None),
            Some(Known::Ends { at, .. }) => Some(Some(*at)),
        }
    }

    /// Walks the best way and notes the groups.
    fn trace(&self, start: Place) -> Option<Found> {
        let mut slots = vec![None; 2 * self.program.group_count];
        let mut place = start;
        loop {
            let Some(Known::Ends { at, via }) = self.known.get(&place) else { return None };
            let Some(next) = via else {
                let groups = slots.chunks(2).map(|pair: &[Option<usize>]| Some(pair[0]?..pair[1]?)).collect();
                return Some(Found { range: self.from..*at, groups });
            };
            if let Step::Save(slot, _) = self.program.steps[place.0] {
                slots[slot] = Some(place.1);
            }
            place = *next;
        }
    }
}

enum Attempt {
    Needs(Place),
    Done(Known),
}

fn longer(first: (Place, Option<usize>), second: (Place, Option<usize>)) -> Known {
    match (first.1, second.1) {
        (Some(one), Some(two)) if two > one => Known::Ends { at: two, via: Some(second.0) },
        (Some(one), _) => Known::Ends { at: one, via: Some(first.0) },
        (None, Some(two)) => Known::Ends { at: two, via: Some(second.0) },
        (None, None) => Known::Fails,
    }
}
