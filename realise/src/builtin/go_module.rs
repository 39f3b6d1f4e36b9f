//! `builtin:go-module`: a module of Go, known by its lines in `go.sum`.
//!
//! `go.sum` has no hash of a file: `h1:` is the SHA-256 of a list of the SHA-256 of each
//! file in the archive. So this is no fixed-output derivation in Nix's sense, and what
//! comes is believed for the same reason: it has the hash that the project names.
//!
//! ```text
//! sha256("<sha256 of a file>  module@version/a.go\n<sha256>  module@version/b.go\n…")  → h1:<base 64>
//! ```
//!
//! The output is laid out as a module proxy: `github.com/!burnt!sushi/toml/@v/v1.0.0.zip`.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

use ampoule_store::{HashAlgo, Hasher};

use super::{Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, BuiltinErrorKind, Wanted};
use crate::fetch::{Failure, FetchRequest, Fetched, Fetcher, ReadAt};
use crate::unpack::{Limits, RelPath, Tree, UnpackError, zip};

/// The builder.
pub struct GoModule {
    fetcher: Arc<Fetcher>,
}

impl GoModule {
    /// Makes it.
    pub fn new(fetcher: Arc<Fetcher>) -> Self {
        Self { fetcher }
    }
}

/// What one derivation asks for.
struct Module<'a> {
    path: &'a str,
    version: &'a str,
    /// Of the archive; a module may be known by its `go.mod` only.
    zip_hash: Option<&'a str>,
    mod_hash: &'a str,
}

impl<'a> Module<'a> {
    fn read(attrs: &'a Attributes) -> Result<Self, BuiltinError> {
        let module = Self {
            path: attrs.required("path")?,
            version: attrs.required("version")?,
            zip_hash: attrs.text("zipHash")?,
            mod_hash: attrs.required("modHash")?,
        };
        for hash in module.zip_hash.iter().chain([&module.mod_hash]) {
            if !hash.starts_with("h1:") {
                return Err(BuiltinError::build(format!("`{hash}` is not of the form `h1:…`")));
            }
        }
        Ok(module)
    }

    /// Where a proxy keeps a file: upper case letters are `!` and the lower case letter.
    fn proxy_path(&self, suffix: &str) -> String {
        format!("{}/@v/{}.{suffix}", escaped(self.path), escaped(self.version))
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl BuiltinBuilder for GoModule {
    fn name(&self) -> &str {
        "go-module"
    }

    fn is_fetch(&self) -> bool {
        true
    }

    fn wants(&self, attrs: &Attributes) -> Vec<Wanted> {
        let Ok(module) = Module::read(attrs) else { return Vec::new() };
        let url = format!("mirror://go/{}", module.proxy_path("zip"));
        vec![Wanted { url, size_bytes: None }]
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let module = Module::read(cx.attrs)?;
        let out = cx.output("out")?;
        let mut tree = Tree::create(out).map_err(UnpackError::from)?;
        let mut get = |suffix: &str, wanted: &str, hash: &dyn Fn(&Fetched) -> Result<String, Failure>| {
            let request = FetchRequest {
                urls: vec![format!("mirror://go/{}", module.proxy_path(suffix))],
                cancel: cx.cancel.clone(),
                ..FetchRequest::default()
            };
            let mut is_other = false;
            let mut accept = |fetched: &Fetched| match hash(fetched)? {
                found if found == wanted => Ok(()),
                found => {
                    is_other = true;
                    Err(Failure::Local(format!("it has {found}, go.sum says {wanted}")))
                }
            };
            let fetched = self.fetcher.fetch_accepted(&request, out.dir.as_fd(), cx.events, &mut accept);
            let fetched = fetched.map_err(|error| {
                let error = BuiltinError::from(error);
                if is_other { BuiltinError { kind: BuiltinErrorKind::HashMismatch, ..error } } else { error }
            })?;
            let path = rel_path(&module.proxy_path(suffix))?;
            tree.file(&path, false, &mut ReadAt { file: &fetched.file, at: 0 })?;
            Ok::<_, BuiltinError>(())
        };
        get("mod", module.mod_hash, &|fetched| hash_of_mod(fetched).map_err(local))?;
        if let Some(wanted) = module.zip_hash {
            get("zip", wanted, &|fetched| hash_of_zip(fetched))?;
        }
        let info = format!("{{\"Version\":\"{}\"}}", module.version);
        tree.file(&rel_path(&module.proxy_path("info"))?, false, &mut info.as_bytes())?;
        Ok(())
    }
}

fn rel_path(path: &str) -> Result<RelPath, BuiltinError> {
    RelPath::parse(path.as_bytes()).map_err(|problem| UnpackError::name(path.as_bytes(), problem).into())
}

fn local(error: io::Error) -> Failure {
    Failure::Local(error.to_string())
}

/// The hash of a list of files, by their names and hashes in base 16.
fn h1(mut files: Vec<(Vec<u8>, String)>) -> String {
    files.sort();
    let mut hasher = Hasher::new(HashAlgo::Sha256);
    for (name, hash) in files {
        hasher.update(format!("{hash}  ").as_bytes());
        hasher.update(&name);
        hasher.update(b"\n");
    }
    format!("h1:{}", hasher.finish().to_base64())
}

fn hash_of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = Hasher::new(HashAlgo::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish().to_base16()),
            len => hasher.update(&buffer[..len]),
        }
    }
}

fn hash_of_mod(fetched: &Fetched) -> io::Result<String> {
    let hash = hash_of_reader(ReadAt { file: &fetched.file, at: 0 })?;
    Ok(h1(vec![(b"go.mod".to_vec(), hash)]))
}

fn hash_of_zip(fetched: &Fetched) -> Result<String, Failure> {
    let refused = |error: UnpackError| Failure::Local(error.to_string());
    let archive = zip::Archive::open(
        fetched.file.try_clone().map_err(local)?,
        Limits::for_archive(fetched.size_bytes),
        false,
    )
    .map_err(refused)?;
    let mut files = Vec::new();
    for entry in archive.entries().iter().filter(|entry| !entry.name.ends_with(b"/")) {
        let hash = hash_of_reader(archive.read(entry).map_err(refused)?).map_err(local)?;
        files.push((entry.name.clone(), hash));
    }
    Ok(h1(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_files_has_the_hash_that_go_gives_it() {
        // SHA-256 of nothing, as the one file `go.mod`; the line's hash was taken with sha256sum and base64.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned();
        let one = h1(vec![(b"go.mod".to_vec(), empty.clone())]);
        assert_eq!(one, "h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY=");
        let there = h1(vec![(b"b".to_vec(), empty.clone()), (b"a".to_vec(), empty.clone())]);
        assert_eq!(there, h1(vec![(b"a".to_vec(), empty.clone()), (b"b".to_vec(), empty)]), "in any order");
    }

    #[test]
    fn names_are_escaped_as_proxies_keep_them() {
        let module = Module {
            path: "github.com/BurntSushi/toml",
            version: "v1.0.0-RC1",
            zip_hash: None,
            mod_hash: "h1:",
        };
        assert_eq!(module.proxy_path("zip"), "github.com/!burnt!sushi/toml/@v/v1.0.0-!r!c1.zip");
    }
}
