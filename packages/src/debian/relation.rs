//! Relations between packages: `Depends: a (>= 1) | b:any, c`.

use super::version::compare_versions;
use std::cmp::Ordering;
use std::fmt;

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`, and the old `<`
    EarlierEqual,
    /// `=`
    Equal,
    /// `>=`, and the old `>`
    LaterEqual,
    /// `>>`
    Later,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            "<=" | "<" => Self::EarlierEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::LaterEqual,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    /// Whether `version` stands in this relation to `wanted`.
    pub fn holds(self, version: &str, wanted: &str) -> bool {
        let order = compare_versions(version, wanted);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierEqual => "<=",
            Self::Equal => "=",
            Self::LaterEqual => ">=",
            Self::Later => ">>",
        })
    }
}

/// One name with what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// A package's name, or a virtual one.
    pub name: &'a str,
    /// What follows the colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The version asked for.
    pub constraint: Option<(Operator, &'a str)>,
}

impl Relation<'_> {
    /// Whether a real package of this version is enough.
    pub fn allows(&self, version: &str) -> bool {
        self.constraint.is_none_or(|(operator, wanted)| operator.holds(version, wanted))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.constraint {
            Some((operator, version)) => write!(f, " ({operator} {version})"),
            None => Ok(()),
        }
    }
}

/// Relations of which one is enough: `a | b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause<'a> {
    /// In the order written; never empty.
    pub alternatives: Vec<Relation<'a>>,
}

impl fmt::Display for Clause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, relation) in self.alternatives.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{relation}")?;
        }
        Ok(())
    }
}

/// Parses a whole field. Relations that cannot be read are left out, as apt does.
pub fn parse_clauses(field: &str) -> Vec<Clause<'_>> {
    field
        .split(',')
        .filter_map(|clause| {
            let alternatives: Vec<_> = clause.split('|').filter_map(parse_relation).collect();
            (!alternatives.is_empty()).then_some(Clause { alternatives })
        })
        .collect()
}

/// Parses `name[:qualifier] [(operator version)]`; `[…]` and `<…>` restrictions are ignored.
pub fn parse_relation(text: &str) -> Option<Relation<'_>> {
    let text = text.trim();
    let name_end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    if name.is_empty() {
        return None;
    }
    let constraint = match rest.trim_start().strip_prefix('(') {
        Some(inner) => Some(parse_constraint(inner.split(')').next()?)?),
        None => None,
    };
    Some(Relation { name, qualifier, constraint })
}

fn parse_constraint(text: &str) -> Option<(Operator, &str)> {
    let text = text.trim();
    let operator_end = text.find(|c: char| !"<>=".contains(c))?;
    let (operator, version) = text.split_at(operator_end);
    Some((Operator::parse(operator)?, version.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_clauses_of_alternatives() {
        let clauses = parse_clauses("a (>= 1:2.0~), b:any|c(<<3)|  d [amd64] <!nocheck> ,, e\n f");
        let shown: Vec<String> = clauses.iter().map(Clause::to_string).collect();
        assert_eq!(shown, ["a (>= 1:2.0~)", "b | c (<< 3) | d", "e"]);
        assert_eq!(clauses[1].alternatives[0].qualifier, Some("any"));
    }

    #[test]
    fn operators_compare_versions() {
        let relation = parse_relation("a (>> 1.0)").expect("well formed");
        assert!(relation.allows("1.0-1") && !relation.allows("1.0") && !relation.allows("1.0~rc1"));
    }
}
