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
//! Where the user has one hash and the name of the file, the page says where the file lies.

use std::io::Read;
use std::os::fd::AsFd;

use ampoule_net::Url;

use super::{BuiltinContext, BuiltinError};
use crate::fetch::{FetchRequest, Fetcher, ReadAt};

/// The page of a project.
pub(super) struct Page {
    /// Where it came from.
    pub(super) url: String,
    text: String,
}

/// No page of an index is larger: the largest are some ten megabytes.
const MAX_PAGE_BYTES: u64 = 64 << 20;

/// Fetches the page of `project` from the index that the machine is set up for; nothing if
/// there is no index to ask, or if it has no such page.
pub(super) fn fetch(
    fetcher: &Fetcher,
    cx: &BuiltinContext<'_>,
    project: &str,
) -> Result<Option<Page>, BuiltinError> {
    // A directory that mirrors an index has files for its pages.
    let page = format!("mirror://pypi/simple/{project}/");
    let request = FetchRequest {
        urls: vec![page.clone(), page + "index.html"],
        cancel: cx.cancel.clone(),
        ..FetchRequest::default()
    };
    let Ok(page) = fetcher.fetch(&request, cx.output("out")?.dir.as_fd(), cx.events) else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let reader = ReadAt { file: &page.file, at: 0 };
    reader
        .take(MAX_PAGE_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| BuiltinError::build(format!("{}: {error}", page.url)))?;
    Ok(Some(Page { url: page.url, text: String::from_utf8_lossy(&text).into_owned() }))
}

/// What a wheel has to run on.
pub(super) struct Target<'a> {
    /// Python's version: `3.11`.
    pub(super) python: &'a str,
    /// The processor, as Linux calls it: `x86_64`.
    pub(super) cpu: &'a str,
}

impl Page {
    /// Returns the addresses of the wheels that fit, the best first.
    ///
    /// A wheel for every machine comes before one for this machine: the same choice as for `uv.lock`. Of several that fit
    /// alike their names decide, which are the same on every mirror, and not where they lie.
    pub(super) fn fitting(&self, hashes: &[String], target: &Target<'_>) -> Vec<String> {
        let mut found: Vec<(u8, String, String)> = self
            .links()
            .filter(|link| hashes.iter().any(|hash| hash.eq_ignore_ascii_case(&link.sha256)))
            .filter_map(|link| Some((target.fit(link.file())?, link.file().to_owned(), self.address(&link)?)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, _, url)| url).collect()
    }

    /// Returns where the file `name` lies. Names are written in several ways: `Flask-3.0.tar.gz`
    /// is `flask-3.0.tar.gz`.
    pub(super) fn address_of(&self, name: &str) -> Option<String> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', '.'], "-");
        let found = self.links().find(|link| plain(link.file()) == plain(name));
        found.and_then(|link| self.address(&link))
    }

    fn address(&self, link: &Link) -> Option<String> {
        Some(Url::parse(&self.url).ok()?.join(&link.href).ok()?.into())
    }

    fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.text.split("href=").skip(1).filter_map(|rest| {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let href = rest[1..].split(quote).next()?.replace("&amp;", "&");
            let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
            let sha256 = fragment.strip_prefix("sha256=").unwrap_or_default();
            Some(Link { href: url.to_owned(), sha256: sha256.to_owned() })
        })
    }
}

/// A link of a page.
struct Link {
    /// The address, as it is written, without a hash.
    href: String,
    /// The hash; empty if the page has none.
    sha256: String,
}

impl Link {
    /// The name of the file that it leads to.
    fn file(&self) -> &str {
        self.href.rsplit('/').next().unwrap_or_default()
    }
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

    fn on(url: &str, text: &str) -> Page {
        Page { url: url.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_is_found_by_its_name_however_it_is_written() {
        let page = on(
            "https://i.example/simple/a-b/",
            "<a href='../../p/a_b-1.0.tar.gz#sha256=ab'>x</a><a href=\"../../p/A.B-2.0.zip\">x</a>",
        );
        assert_eq!(page.address_of("a-b-1.0.tar.gz").as_deref(), Some("https://i.example/p/a_b-1.0.tar.gz"));
        assert_eq!(page.address_of("a_b-2.0.zip").as_deref(), Some("https://i.example/p/A.B-2.0.zip"));
        assert_eq!(page.address_of("a-b-1.0.zip"), None);
    }

    #[track_caller]
    fn check(href: &str, expected: Option<&str>) {
        let page = format!("<a data-x='1' href=\"{href}#sha256=AB\" data-requires-python=\"&gt;=3.8\">x</a>");
        let target = Target { python: "3.11", cpu: "x86_64" };
        let found = on("https://index.example/simple/a/", &page).fitting(&["ab".to_owned()], &target);
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
        assert!(on("https://index.example/", page).fitting(&["ab".to_owned()], &target).is_empty());
    }

    #[test]
    fn of_wheels_that_fit_alike_the_same_is_first_on_every_mirror() {
        let target = Target { python: "3.11", cpu: "x86_64" };
        let (old, new) =
            ("a-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl");
        for (first, second) in [("x", "y"), ("y", "x")] {
            let page =
                format!("<a href='/{first}/{new}#sha256=ab'></a><a href='/{second}/{old}#sha256=ab'></a>");
            let found = on("https://i.example/", &page).fitting(&["ab".to_owned()], &target);
            assert_eq!(found[0], format!("https://i.example/{second}/{old}"));
        }
    }

    #[test]
    fn a_wheel_for_every_machine_comes_first() {
        let page = "<a href='a-1-cp311-cp311-linux_x86_64.whl#sha256=ab'></a><a href='a-1-py3-none-any.whl#sha256=ab'></a>";
        let target = Target { python: "3.11", cpu: "x86_64" };
        let found = on("https://i.example/", page).fitting(&["ab".to_owned()], &target);
        assert_eq!(found[0], "https://i.example/a-1-py3-none-any.whl");
        assert_eq!(found.len(), 2);
    }
}
