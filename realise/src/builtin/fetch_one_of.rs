//! `builtin:fetch-one-of`: a file of which one of several hashes is known.
//!
//! `requirements.txt` has the hashes of all the files that an index has of one version (a
//! wheel for each machine, the source), and does not say which is whose. What is fetched
//! is believed if it has one of them. So this is no fixed-output derivation in Nix's
//! sense: which file comes depends on which of the addresses there is, in their order.
//!
//! With `project` (and `python`, `cpu`) the index that the machine is set up for is asked
//! first for the address: `urls` are what is tried without its answer.

use std::os::fd::AsFd;
use std::sync::Arc;

use ampoule_store::{HashAlgo, Hasher};

use super::wheel_index::{self, Target};
use super::{Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, BuiltinErrorKind, Wanted};
use crate::fetch::{Failure, FetchRequest, Fetched, Fetcher, ReadAt};

/// The builder.
pub struct FetchOneOf {
    fetcher: Arc<Fetcher>,
}

impl FetchOneOf {
    /// Makes it.
    pub fn new(fetcher: Arc<Fetcher>) -> Self {
        Self { fetcher }
    }
}

impl BuiltinBuilder for FetchOneOf {
    fn name(&self) -> &str {
        "fetch-one-of"
    }

    fn is_fetch(&self) -> bool {
        true
    }

    fn wants(&self, attrs: &Attributes) -> Vec<Wanted> {
        let first = attrs.texts("urls").ok().and_then(|urls| urls.into_iter().next());
        first.map(|url| Wanted { url, size_bytes: None }).into_iter().collect()
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let (urls, hashes) = (cx.attrs.texts("urls")?, cx.attrs.texts("sha256s")?);
        if let Some(wrong) = hashes.iter().find(|hash| hash.len() != 64) {
            return Err(Attributes::error("sha256s", format!("`{wrong}` is no SHA-256 in base 16")).into());
        }
        if urls.is_empty() || hashes.is_empty() {
            return Err(BuiltinError::build("`urls` and `sha256s` must not be empty"));
        }
        let out = cx.output("out")?;
        let urls = match self.indexed(cx, &hashes)? {
            Some(found) => found.into_iter().chain(urls).collect(),
            None => urls,
        };
        let request = FetchRequest { urls, cancel: cx.cancel.clone(), ..FetchRequest::default() };
        let mut is_other = false;
        let mut accept = |fetched: &Fetched| {
            let found = sha256_of(fetched)?;
            if hashes.iter().any(|hash| hash.eq_ignore_ascii_case(&found)) {
                return Ok(());
            }
            is_other = true;
            Err(Failure::Local(format!(
                "its SHA-256 is {found}, which is none of the {} named",
                hashes.len()
            )))
        };
        let fetched = self.fetcher.fetch_accepted(&request, out.dir.as_fd(), cx.events, &mut accept);
        let fetched = fetched.map_err(|error| {
            let error = BuiltinError::from(error);
            if is_other { BuiltinError { kind: BuiltinErrorKind::HashMismatch, ..error } } else { error }
        })?;
        super::fetchurl::link(&fetched, out, 0o444)
    }
}

impl FetchOneOf {
    /// Asks the index for the wheels of the project that have one of the hashes and fit. Nothing if there is no index to ask,
    /// or if the project's page is not there.
    fn indexed(
        &self,
        cx: &BuiltinContext<'_>,
        hashes: &[String],
    ) -> Result<Option<Vec<String>>, BuiltinError> {
        let Some(project) = cx.attrs.text("project")? else { return Ok(None) };
        let target = Target { python: cx.attrs.required("python")?, cpu: cx.attrs.required("cpu")? };
        let Some(page) = wheel_index::fetch(&self.fetcher, cx, project)? else { return Ok(None) };
        let found = page.fitting(hashes, &target);
        if found.is_empty() {
            return Err(BuiltinError::build(format!(
                "{} has no wheel of `{project}` with one of the {} hashes for Python {} on {}",
                page.url,
                hashes.len(),
                target.python,
                target.cpu
            )));
        }
        Ok(Some(found))
    }
}

fn sha256_of(fetched: &Fetched) -> Result<String, Failure> {
    let mut hasher = Hasher::new(HashAlgo::Sha256);
    let mut reader = ReadAt { file: &fetched.file, at: 0 };
    std::io::copy(&mut reader, &mut Sink(&mut hasher)).map_err(|error| Failure::Local(error.to_string()))?;
    Ok(hasher.finish().to_base16())
}

/// What is written goes into the hash.
struct Sink<'a>(&'a mut Hasher);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
