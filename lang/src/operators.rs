//! Operators: the language's table of precedences, and the one function that applies it.
//!
//! The grammar hands over operands and operators one after the other. An operator
//! that binds less tightly than the one before it closes that one; of two that bind
//! equally, associativity decides. This is what a grammar with the same table
//! does, without a reduction for every level that an operand does not use.

use crate::ast::{AttrPathId, BinaryOp, Expr, ExprId};
use crate::builder::{Builder, Mark};
use crate::span::Span;

/// An operator of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Infix {
    /// No operator: the place where an operation began.
    Start,
    PipeInto,
    PipeFrom,
    Implies,
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Update,
    Not,
    Add,
    Sub,
    Mul,
    Div,
    Concat,
    Negate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Left,
    Right,
    Neither,
}

/// Where `?` stands in the table; it is no infix operator, because a path follows it.
pub(crate) const HAS_ATTR_LEVEL: u8 = 12;

impl Infix {
    /// The table: how tightly it binds, and to which side equals go.
    pub const fn level(self) -> (u8, Side) {
        match self {
            Self::Start => (0, Side::Neither),
            Self::PipeInto => (1, Side::Left),
            Self::PipeFrom => (1, Side::Right),
            Self::Implies => (2, Side::Right),
            Self::Or => (3, Side::Left),
            Self::And => (4, Side::Left),
            Self::Equal | Self::NotEqual => (5, Side::Neither),
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual => (6, Side::Neither),
            Self::Update => (7, Side::Right),
            Self::Not => (8, Side::Right),
            Self::Add | Self::Sub => (9, Side::Left),
            Self::Mul | Self::Div => (10, Side::Left),
            Self::Concat => (11, Side::Right),
            // Between these two: `?`.
            Self::Negate => (13, Side::Right),
        }
    }

    /// Returns how it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "",
            Self::PipeInto => "|>",
            Self::PipeFrom => "<|",
            Self::Not => "!",
            Self::Negate => "-",
            _ => match self.binary() {
                Some(op) => op.as_str(),
                None => "",
            },
        }
    }

    const fn binary(self) -> Option<BinaryOp> {
        Some(match self {
            Self::Implies => BinaryOp::Implies,
            Self::Or => BinaryOp::Or,
            Self::And => BinaryOp::And,
            Self::Equal => BinaryOp::Equal,
            Self::NotEqual => BinaryOp::NotEqual,
            Self::Less => BinaryOp::Less,
            Self::LessEqual => BinaryOp::LessEqual,
            Self::Greater => BinaryOp::Greater,
            Self::GreaterEqual => BinaryOp::GreaterEqual,
            Self::Update => BinaryOp::Update,
            Self::Add => BinaryOp::Add,
            Self::Sub => BinaryOp::Sub,
            Self::Mul => BinaryOp::Mul,
            Self::Div => BinaryOp::Div,
            Self::Concat => BinaryOp::Concat,
            Self::Start | Self::PipeInto | Self::PipeFrom | Self::Not | Self::Negate => return None,
        })
    }
}

/// Operands and operators of the operations that are not finished yet.
#[derive(Default)]
pub(crate) struct OperatorStack {
    operands: Vec<Operand>,
    operators: Vec<(Infix, u32)>,
}

impl OperatorStack {
    pub fn clear(&mut self) {
        self.operands.clear();
        self.operators.clear();
    }
}

/// A node and where it stands, parentheses included.
#[derive(Clone, Copy)]
struct Operand {
    id: ExprId,
    span: Span,
}

impl Builder<'_> {
    /// Begins an operation with an operand that starts at `start` and ends before `end`.
    pub fn open_operation(&mut self, left: ExprId, start: u32, end: u32) -> &mut Self {
        self.operators.operators.push((Infix::Start, start));
        self.operand(left, start, end);
        self
    }

    /// Begins an operation with a prefix operator.
    pub fn open_prefix(&mut self, op: Infix, at: u32) {
        self.operators.operators.push((Infix::Start, at));
        self.prefix(op, at);
    }

    /// Adds a prefix operator. It closes nothing: what stands before it waits for an operand.
    pub fn prefix(&mut self, op: Infix, at: u32) {
        self.operators.operators.push((op, at));
    }

    /// Adds an operand.
    pub fn operand(&mut self, id: ExprId, start: u32, end: u32) {
        self.operators.operands.push(Operand { id, span: Span::new(start, end) });
    }

    /// Adds an infix operator, which closes those before it that bind more tightly.
    pub fn infix(&mut self, op: Infix, at: u32) {
        let (level, side) = op.level();
        loop {
            let (top, top_at) = self.top_operator();
            let (top_level, top_side) = top.level();
            if top_level < level || (top_level == level && side == Side::Right && top_side == Side::Right) {
                break;
            }
            if top_level == level && (side == Side::Neither || side != top_side) {
                self.not_associative(top, top_at, op, at);
            }
            self.close_operator();
        }
        if matches!(op, Infix::PipeInto | Infix::PipeFrom) {
            self.check_pipe(op, at);
        }
        self.operators.operators.push((op, at));
    }

    /// Applies `? path` to the last operand.
    pub fn has_attr(&mut self, path: Mark, end: u32) {
        while self.top_operator().0.level().0 > HAS_ATTR_LEVEL {
            self.close_operator();
        }
        let path: AttrPathId = self.finish_attr_path(path);
        let base = self.pop_operand();
        let span = Span::new(base.span.start, end);
        let id = self.push_expr(Expr::HasAttr { base: base.id, path }, span);
        self.operators.operands.push(Operand { id, span });
    }

    /// Closes all operators of the operation and returns its node.
    pub fn finish_operation(&mut self) -> ExprId {
        while self.top_operator().0 != Infix::Start {
            self.close_operator();
        }
        self.operators.operators.pop();
        self.pop_operand().id
    }

    fn top_operator(&self) -> (Infix, u32) {
        *self.operators.operators.last().expect("an operation has begun")
    }

    fn pop_operand(&mut self) -> Operand {
        self.operators.operands.pop().expect("the grammar gives each operator its operands")
    }

    /// Makes a node of the last operator and its operands.
    fn close_operator(&mut self) {
        let (op, at) = self.operators.operators.pop().expect("an operation has begun");
        let right = self.pop_operand();
        let operand = match op {
            Infix::Not | Infix::Negate => {
                let expr = if op == Infix::Not { Expr::Not(right.id) } else { Expr::Negate(right.id) };
                let span = Span::new(at, right.span.end);
                Operand { id: self.push_expr(expr, span), span }
            }
            _ => {
                let left = self.pop_operand();
                let span = left.span.to(right.span);
                let id = match (op, op.binary()) {
                    (_, Some(op)) => {
                        let expr = Expr::Binary { op, left: left.id, right: right.id, op_offset: at };
                        self.push_expr(expr, span)
                    }
                    (Infix::PipeInto, _) => self.call(right.id, left.id, span),
                    _ => self.call(left.id, right.id, span),
                };
                Operand { id, span }
            }
        };
        self.operators.operands.push(operand);
    }
}
