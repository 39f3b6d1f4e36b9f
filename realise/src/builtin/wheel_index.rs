//! Which files of a Python index fit: the page of a project, read as PEP 503 says.
//!
//! `requirements.txt` has the hashes of all files of a version and no addresses. The index
//! has a page for each project, with a link to each file and its hash:
//!
//! ```text
//! <a href="../../packages/aa/bb/alpha-1.0-py3-none-any.whl#sha256=8ed3…" data-requires-python="&gt;=3.8">alpha-1.0-…</a>
//! ```
//!
//! A file counts if its hash is one of those that the user's file has: the page is not believed.

use ampoule_net::Url;

/// What a wheel has to run on.
pub(super) struct Target<'a> {
    /// Python's version: `3.11`.
    pub(super) python: &'a str,
    /// The processor, as Linux calls it: `x86_64`.
    pub(super) cpu: &'a str,
}

/// Returns the addresses of the wheels on `page` that fit, the best first.
///
/// A wheel for every machine comes before one for this machine: the same choice as for `uv.lock`.
pub(super) fn fitting(page: &str, page_url: &str, hashes: &[String], target: &Target<'_>) -> Vec<String> {
    let Ok(base) = Url::parse(page_url) else { return Vec::new() };
    let mut found: Vec<(u8, String)> = links(page)
        .filter(|(_, sha256)| hashes.iter().any(|hash| hash.eq_ignore_ascii_case(sha256)))
        .filter_map(|(href, _)| {
            let name = href.rsplit('/').next()?;
            Some((target.fit(name)?, base.join(&href).ok()?.into()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, url)| url).collect()
}

/// The links of a page that have a SHA-256: the address without it, and the hash.
fn links(page: &str) -> impl Iterator<Item = (String, String)> + '_ {
    page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let href = rest[1..].split(quote).next()?.replace("&amp;", "&");
        let (url, sha256) = href.split_once("#sha256=")?;
        Some((url.to_owned(), sha256.to_owned()))
    })
}

impl Target<'_> {
    /// How well a file fits: 0 for every machine, 1 for this one, nothing if it is no wheel for it.
    fn fit(&self, file: &str) -> Option<u8> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let [.., interpreters, abis, platforms] = parts[..] else { return None };
        if parts.len() < 5 {
            return None;
        }
        let own = format!("cp{}", self.python.replace('.', ""));
        let has = |tags: &str, tag: &str| tags.split('.').any(|one| one == tag);
        let is_stable = has(abis, "abi3") && interpreters.split('.').any(|tag| tag.starts_with("cp3"));
        let is_python = has(interpreters, "py3") || has(interpreters, &own) || is_stable;
        let is_abi = has(abis, "none") || has(abis, "abi3") || has(abis, &own);
        let is_here = |tag: &str| {
            (tag.starts_with("manylinux") || tag.starts_with("linux"))
                && tag.ends_with(&format!("_{}", self.cpu))
        };
        match (is_python && is_abi, has(platforms, "any")) {
            (true, true) => Some(0),
            (true, false) if platforms.split('.').any(is_here) => Some(1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(href: &str, expected: Option<&str>) {
        let page = format!("<a data-x='1' href=\"{href}#sha256=AB\" data-requires-python=\"&gt;=3.8\">x</a>");
        let target = Target { python: "3.11", cpu: "x86_64" };
        let found = fitting(&page, "https://index.example/simple/a/", &["ab".to_owned()], &target);
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{href}");
    }

    #[test]
    fn wheels_that_fit_are_found_wherever_they_lie() {
        check(
            "https://files.example/a-1-py3-none-any.whl",
            Some("https://files.example/a-1-py3-none-any.whl"),
        );
        check(
            "../../packages/a-1-py3-none-any.whl",
            Some("https://index.example/packages/a-1-py3-none-any.whl"),
        );
        check("/p/a-1-py2.py3-none-any.whl", Some("https://index.example/p/a-1-py2.py3-none-any.whl"));
        check("//f.example/a-1-py3-none-any.whl", Some("https://f.example/a-1-py3-none-any.whl"));
        check(
            "a-1-cp311-cp311-manylinux_2_34_x86_64.whl",
            Some("https://index.example/simple/a/a-1-cp311-cp311-manylinux_2_34_x86_64.whl"),
        );
        check(
            "a-1-7-cp38-abi3-linux_x86_64.whl",
            Some("https://index.example/simple/a/a-1-7-cp38-abi3-linux_x86_64.whl"),
        );
    }

    #[test]
    fn what_does_not_fit_is_left() {
        for file in [
            "a-1.tar.gz",
            "a-1-cp312-cp312-manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
            "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
            "a-1-cp311-cp311-win_amd64.whl",
            "a-1-py2-none-any.whl",
            "py3-none-any.whl",
        ] {
            check(file, None);
        }
    }

    #[test]
    fn a_file_whose_hash_is_not_named_is_left() {
        let page =
            "<a href='a-1-py3-none-any.whl#sha256=cd'>x</a><a href='a-1-py3-none-any.whl'>x</a><a href=x>";
        let target = Target { python: "3.11", cpu: "x86_64" };
        assert!(fitting(page, "https://index.example/", &["ab".to_owned()], &target).is_empty());
    }

    #[test]
    fn a_wheel_for_every_machine_comes_first() {
        let page = "<a href='a-1-cp311-cp311-linux_x86_64.whl#sha256=ab'></a><a href='a-1-py3-none-any.whl#sha256=ab'></a>";
        let target = Target { python: "3.11", cpu: "x86_64" };
        let found = fitting(page, "https://i.example/", &["ab".to_owned()], &target);
        assert_eq!(found[0], "https://i.example/a-1-py3-none-any.whl");
        assert_eq!(found.len(), 2);
    }
}
