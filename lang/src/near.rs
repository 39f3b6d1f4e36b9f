//! "Did you mean": the name in scope that a misspelt one was probably meant to be.

/// Returns the candidate nearest to `name`, if one is near enough to be worth saying.
///
/// Near is an edit distance (insertions, deletions, substitutions, swapped neighbours) of at most a
/// third of the name's length, and at least one. Of equally near ones the first in byte order wins,
/// so that the answer does not depend on the order in which the candidates come.
pub fn near_name<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * limit && *candidate != name)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    if a.eq_ignore_ascii_case(b) { 0 } else { strsim::osa_distance(a, b) }
}

#[cfg(test)]
mod tests {
    use super::near_name;

    #[test]
    fn near_is_a_third_of_the_name() {
        let check = |name: &str, candidates: &[&str], expected: Option<&str>| {
            assert_eq!(near_name(name, candidates.iter().copied()), expected, "{name} among {candidates:?}");
        };
        check("lenght", &["length", "head"], Some("length"));
        check("Map", &["map", "mop"], Some("map"));
        check("x", &["y", "foo"], Some("y"));
        check("ab", &["b", "a"], Some("a"));
        check("build", &["throw"], None);
        check("foo", &["foo"], None);
        check("buildInput", &["nativeBuildInputs", "buildInputs"], Some("buildInputs"));
    }
}
