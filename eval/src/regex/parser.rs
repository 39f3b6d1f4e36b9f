//! Reads POSIX extended syntax as the GNU C++ library does, and refuses what it refuses.

use super::RegexError;
use super::ast::Ast;
use super::bytes::{ByteSet, class_named, collating_element};

/// Parentheses nested deeper than this are refused as too large.
const NESTING_LIMIT: usize = 1000;

/// Reads a pattern from left to right, one method for each production.
pub(super) struct Parser<'a> {
    rest: &'a [u8],
    groups: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(pattern: &'a [u8]) -> Self {
        Parser { rest: pattern, groups: 0, depth: 0 }
    }

    /// Returns the tree and how many groups it has.
    pub(super) fn parse(mut self) -> Result<(Ast, usize), RegexError> {
        let ast = self.choice()?;
        if self.rest.is_empty() { Ok((ast, self.groups)) } else { Err(RegexError::Invalid) }
    }

    fn take(&mut self) -> Result<u8, RegexError> {
        let (first, rest) = self.rest.split_first().ok_or(RegexError::Invalid)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take_if(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    // a|b|c
    fn choice(&mut self) -> Result<Ast, RegexError> {
        self.depth += 1;
        if self.depth > NESTING_LIMIT {
            return Err(RegexError::TooLarge);
        }
        let mut branches = vec![self.sequence()?];
        while self.take_if(b'|') {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Ast::Choice(branches) })
    }

    // a quantifier binds to the atom before it; `^` and `$` are not atoms
    fn sequence(&mut self) -> Result<Ast, RegexError> {
        let mut parts = Vec::new();
        while let Some(&byte) = self.rest.first() {
            let part = match byte {
                b'|' | b')' => break,
                b'*' | b'+' | b'?' | b'{' => return Err(RegexError::Invalid),
                b'^' | b'$' => {
                    self.rest = &self.rest[1..];
                    if byte == b'^' { Ast::Begin } else { Ast::End }
                }
                _ => {
                    let atom = self.atom()?;
                    self.quantifiers(atom)?
                }
            };
            parts.push(part);
        }
        Ok(match parts.len() {
            0 => Ast::Empty,
            1 => parts.remove(0),
            _ => Ast::Sequence(parts),
        })
    }

    fn atom(&mut self) -> Result<Ast, RegexError> {
        let byte = self.take()?;
        let mut set = ByteSet::empty();
        match byte {
            b'(' => {
                self.groups += 1;
                let number = self.groups;
                let body = self.choice()?;
                if !self.take_if(b')') {
                    return Err(RegexError::Invalid);
                }
                return Ok(Ast::Group(number, Box::new(body)));
            }
            b'.' => {
                // A string of the language holds no NUL, so that it need not be left out.
                return Ok(Ast::Set(ByteSet::empty().complement()));
            }
            b'[' => return self.bracket(),
            b'\\' => {
                let escaped = self.take()?;
                if !br"^$\.*+?()[{|".contains(&escaped) {
                    return Err(RegexError::Invalid);
                }
                set.insert(escaped);
            }
            0 => return Err(RegexError::Invalid),
            byte => set.insert(byte),
        }
        Ok(Ast::Set(set))
    }

    fn quantifiers(&mut self, mut atom: Ast) -> Result<Ast, RegexError> {
        loop {
            let (min, max) = match self.rest.first() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    self.rest = &self.rest[1..];
                    let (min, max) = self.interval()?;
                    atom = Ast::Repeat { body: Box::new(atom), min, max };
                    continue;
                }
                _ => return Ok(atom),
            };
            self.rest = &self.rest[1..];
            atom = Ast::Repeat { body: Box::new(atom), min, max };
        }
    }

    // {m}  {m,}  {m,n}: the brace is taken
    fn interval(&mut self) -> Result<(u32, Option<u32>), RegexError> {
        let min = self.number()?;
        let max = if !self.take_if(b',') {
            Some(min)
        } else if self.rest.first() == Some(&b'}') {
            None
        } else {
            Some(self.number()?)
        };
        if !self.take_if(b'}') || max.is_some_and(|max| max < min) {
            return Err(RegexError::Invalid);
        }
        Ok((min, max))
    }

    fn number(&mut self) -> Result<u32, RegexError> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        if digits.is_empty() {
            return Err(RegexError::Invalid);
        }
        let text = std::str::from_utf8(digits).expect("ASCII digits");
        text.parse::<i32>().map(i32::unsigned_abs).map_err(|_| RegexError::Invalid)
    }

    // [abc]  [^a-z]  []]  [[:alpha:]_]  [[.hyphen.]]  [[=a=]]: the bracket is taken
    fn bracket(&mut self) -> Result<Ast, RegexError> {
        let negated = self.take_if(b'^');
        let mut set = ByteSet::empty();
        let mut last = Last::Nothing;
        let mut at_start = true;
        loop {
            let first = std::mem::take(&mut at_start);
            match self.bracket_token(first)? {
                Token::Close => break,
                Token::Char(byte) | Token::Collating(byte) => {
                    last.flush(&mut set);
                    last = Last::Char(byte);
                }
                Token::Class(class) => {
                    last.flush(&mut set);
                    set.union(&class);
                    last = Last::Class;
                }
                Token::Dash if first => last = Last::Char(b'-'),
                Token::Dash => match last {
                    // Only as the last character does it stand for itself here.
                    Last::Class | Last::Nothing if self.take_if(b']') => {
                        set.insert(b'-');
                        break;
                    }
                    Last::Class | Last::Nothing => return Err(RegexError::Invalid),
                    Last::Char(from) => {
                        let to = match self.bracket_token(false)? {
                            Token::Char(to) => to,
                            Token::Dash => b'-',
                            Token::Close => {
                                last.flush(&mut set);
                                set.insert(b'-');
                                last = Last::Nothing;
                                break;
                            }
                            Token::Class(_) | Token::Collating(_) => return Err(RegexError::Invalid),
                        };
                        if from > to {
                            return Err(RegexError::Invalid);
                        }
                        (from..=to).for_each(|byte| set.insert(byte));
                        last = Last::Nothing;
                    }
                },
            }
        }
        last.flush(&mut set);
        Ok(Ast::Set(if negated { set.complement() } else { set }))
    }

    fn bracket_token(&mut self, first: bool) -> Result<Token, RegexError> {
        let byte = self.take()?;
        match byte {
            b']' if !first => Ok(Token::Close),
            b'-' => Ok(Token::Dash),
            b'[' => match *self.rest.first().ok_or(RegexError::Invalid)? {
                kind @ (b'.' | b':' | b'=') => {
                    self.rest = &self.rest[1..];
                    self.named(kind)
                }
                _ => Ok(Token::Char(b'[')),
            },
            byte => Ok(Token::Char(byte)),
        }
    }

    // [:name:]  [.name.]  [=name=]: up to and with the second character
    fn named(&mut self, kind: u8) -> Result<Token, RegexError> {
        let len = self.rest.iter().position(|byte| *byte == kind).ok_or(RegexError::Invalid)?;
        let name = &self.rest[..len];
        self.rest = &self.rest[len + 1..];
        if !self.take_if(b']') {
            return Err(RegexError::Invalid);
        }
        match kind {
            b':' => class_named(name).map(Token::Class).ok_or(RegexError::Invalid),
            b'.' => collating_element(name).map(Token::Collating).ok_or(RegexError::Invalid),
            _ => {
                // Equivalence looks at lower case only, as the C++ library does.
                let element = collating_element(name).ok_or(RegexError::Invalid)?.to_ascii_lowercase();
                let mut set = ByteSet::empty();
                (0..=255_u8)
                    .filter(|byte| byte.to_ascii_lowercase() == element)
                    .for_each(|byte| set.insert(byte));
                Ok(Token::Class(set))
            }
        }
    }
}

enum Token {
    Close,
    Dash,
    Char(u8),
    /// `[.x.]`: a character, but not the end of a range.
    Collating(u8),
    Class(ByteSet),
}

/// What a `-` would follow.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Char(u8),
    Class,
}

impl Last {
    fn flush(self, set: &mut ByteSet) {
        if let Last::Char(byte) = self {
            set.insert(byte);
        }
    }
}
