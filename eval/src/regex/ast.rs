//! The tree of a pattern: what can be told from it, and how the `regex` crate writes it.

use super::bytes::ByteSet;

/// A pattern, parsed.
#[derive(Clone, Debug)]
pub(super) enum Ast {
    Empty,
    Begin,
    End,
    Set(ByteSet),
    Group(usize, Box<Ast>),
    Sequence(Vec<Ast>),
    Choice(Vec<Ast>),
    Repeat { body: Box<Ast>, min: u32, max: Option<u32> },
}

impl Ast {
    /// Returns about how many states the C++ library would make.
    pub(super) fn states(&self) -> usize {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => 1,
            Ast::Group(_, body) => body.states().saturating_add(3),
            Ast::Sequence(parts) | Ast::Choice(parts) => {
                parts.iter().fold(1, |n, part| n.saturating_add(part.states()))
            }
            Ast::Repeat { body, min, max } => {
                let copies = max.unwrap_or(min.saturating_add(1)).max(1) as usize;
                body.states().saturating_add(1).saturating_mul(copies)
            }
        }
    }

    /// Writes the pattern in the crate's syntax.
    pub(super) fn emit(&self, out: &mut String) {
        use std::fmt::Write;
        match self {
            Ast::Empty => {}
            Ast::Begin => out.push_str(r"\A"),
            Ast::End => out.push_str(r"\z"),
            Ast::Set(set) => emit_set(set, out),
            Ast::Group(_, body) => {
                out.push('(');
                body.emit(out);
                out.push(')');
            }
            Ast::Sequence(parts) => parts.iter().for_each(|part| part.emit(out)),
            Ast::Choice(parts) => {
                out.push_str("(?:");
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        out.push('|');
                    }
                    part.emit(out);
                }
                out.push(')');
            }
            Ast::Repeat { body, min, max } => {
                out.push_str("(?:");
                body.emit(out);
                out.push(')');
                let written = match (min, max) {
                    (0, None) => write!(out, "*"),
                    (1, None) => write!(out, "+"),
                    (0, Some(1)) => write!(out, "?"),
                    (min, None) => write!(out, "{{{min},}}"),
                    (min, Some(max)) => write!(out, "{{{min},{max}}}"),
                };
                written.expect("writing to a string does not fail");
            }
        }
    }

    pub(super) fn can_be_empty(&self) -> bool {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => true,
            Ast::Set(_) => false,
            Ast::Group(_, body) => body.can_be_empty(),
            Ast::Sequence(parts) => parts.iter().all(Ast::can_be_empty),
            Ast::Choice(parts) => parts.iter().any(Ast::can_be_empty),
            Ast::Repeat { body, min, .. } => *min == 0 || body.can_be_empty(),
        }
    }

    fn has_group(&self) -> bool {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => false,
            Ast::Group(..) => true,
            Ast::Sequence(parts) | Ast::Choice(parts) => parts.iter().any(Ast::has_group),
            Ast::Repeat { body, .. } => body.has_group(),
        }
    }

    fn children(&self) -> &[Ast] {
        match self {
            Ast::Empty | Ast::Begin | Ast::End | Ast::Set(_) => &[],
            Ast::Group(_, body) | Ast::Repeat { body, .. } => std::slice::from_ref(body),
            Ast::Sequence(parts) | Ast::Choice(parts) => parts,
        }
    }

    /// Tells whether a loop around something that can be empty has a group inside: running it once
    /// more over nothing changes the group.
    pub(super) fn has_visible_empty_loop(&self) -> bool {
        let here = matches!(self, Ast::Repeat { body, .. } if body.can_be_empty() && body.has_group());
        here || self.children().iter().any(Ast::has_visible_empty_loop)
    }

    /// Tells whether two branches of a choice can both lead to a match, of different length.
    pub(super) fn has_ambiguous_choice(&self) -> bool {
        let here = matches!(self, Ast::Choice(branches) if !branches_agree(branches));
        here || self.children().iter().any(Ast::has_ambiguous_choice)
    }

    /// Returns how many bytes this matches, if that is always the same number.
    fn fixed_len(&self) -> Option<usize> {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => Some(0),
            Ast::Set(_) => Some(1),
            Ast::Group(_, body) => body.fixed_len(),
            Ast::Sequence(parts) => parts.iter().try_fold(0, |n, part| Some(n + part.fixed_len()?)),
            Ast::Choice(parts) => {
                let first = parts.first()?.fixed_len()?;
                parts.iter().all(|part| part.fixed_len() == Some(first)).then_some(first)
            }
            Ast::Repeat { body, min, max } => {
                let len = body.fixed_len()?;
                (Some(*min) == *max).then(|| len.saturating_mul(*min as usize))
            }
        }
    }

    /// Returns the bytes a match can start with, or `None` if it can be empty.
    fn first_bytes(&self) -> Option<ByteSet> {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => None,
            Ast::Set(set) => Some(set.clone()),
            Ast::Group(_, body) => body.first_bytes(),
            Ast::Sequence(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.possible_first_bytes());
                    if !part.can_be_empty() {
                        return Some(all);
                    }
                }
                None
            }
            Ast::Choice(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.first_bytes()?);
                }
                Some(all)
            }
            Ast::Repeat { body, min, .. } => {
                if *min == 0 {
                    None
                } else {
                    body.first_bytes()
                }
            }
        }
    }

    fn possible_first_bytes(&self) -> ByteSet {
        match self {
            Ast::Empty | Ast::Begin | Ast::End => ByteSet::empty(),
            Ast::Set(set) => set.clone(),
            Ast::Group(_, body) | Ast::Repeat { body, .. } => body.possible_first_bytes(),
            Ast::Choice(parts) => {
                let mut all = ByteSet::empty();
                parts.iter().for_each(|part| all.union(&part.possible_first_bytes()));
                all
            }
            Ast::Sequence(parts) => {
                let mut all = ByteSet::empty();
                for part in parts {
                    all.union(&part.possible_first_bytes());
                    if !part.can_be_empty() {
                        break;
                    }
                }
                all
            }
        }
    }
}

/// Tells whether it cannot be seen which branch is tried first: all are equally long, or no two can
/// start at the same byte.
fn branches_agree(branches: &[Ast]) -> bool {
    let len = branches[0].fixed_len();
    if len.is_some() && branches.iter().all(|branch| branch.fixed_len() == len) {
        return true;
    }
    let mut seen = ByteSet::empty();
    branches.iter().all(|branch| {
        let Some(first) = branch.first_bytes() else { return false };
        let apart = !seen.intersects(&first);
        seen.union(&first);
        apart
    })
}

fn emit_set(set: &ByteSet, out: &mut String) {
    use std::fmt::Write;
    let mut bytes = set.bytes();
    if let (Some(byte), None) = (bytes.next(), bytes.next()) {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, r"\x{byte:02x}").expect("writing to a string does not fail");
        }
        return;
    }
    if set.0 == [u64::MAX; 4] {
        out.push('.');
        return;
    }
    out.push('[');
    if set.0 == [0; 4] {
        // The crate has no empty class; this one is.
        out.push_str(r"^\x00-\xff");
    }
    let mut start: Option<u16> = None;
    for byte in 0..=256_u16 {
        let inside = u8::try_from(byte).is_ok_and(|byte| set.contains(byte));
        match (start, inside) {
            (None, true) => start = Some(byte),
            (Some(first), false) => {
                write!(out, r"\x{first:02x}-\x{:02x}", byte - 1).expect("writing to a string does not fail");
                start = None;
            }
            _ => {}
        }
    }
    out.push(']');
}
