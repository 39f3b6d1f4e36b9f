//! `builtin:fetchurl`: a file from the network, or what it unpacks to.
//!
//! A flat output is the file itself, verified while it streams. With `executable` or
//! `unpack` the promised hash is that of the NAR of what is made, so that each place is
//! tried in turn until what it gives hashes right. What unpacks may be an archive, or a
//! NAR, which is what Nix's own `builtin:fetchurl` means by `unpack`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

use ampoule_store::nar::{self, Event};
use ampoule_store::{ContentAddress, Method, hash_at};

use super::unpack::unpack_options;
use super::{Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, Mismatch, Place, Wanted, wheel_index};
use crate::fetch::{Failure, FetchError, FetchRequest, Fetched, Fetcher, ReadAt};
use crate::unpack::{Codec, Limited, Limits, Options, RelPath, Tree, UnpackError, unpack};

/// The builder.
pub struct FetchUrl {
    fetcher: Arc<Fetcher>,
}

impl FetchUrl {
    /// Makes it.
    pub fn new(fetcher: Arc<Fetcher>) -> Self {
        Self { fetcher }
    }

    fn request(&self, attrs: &Attributes) -> Result<FetchRequest, BuiltinError> {
        let mut urls: Vec<String> = attrs.text("url")?.map(str::to_owned).into_iter().collect();
        urls.extend(
            attrs.texts("urls")?.into_iter().filter(|url| Some(url) != urls.first()).collect::<Vec<_>>(),
        );
        Ok(FetchRequest {
            urls,
            expected: None,
            size_bytes: attrs.number("size")?,
            snapshot: attrs.text("snapshot")?.map(str::to_owned),
            ..FetchRequest::default()
        })
    }

    /// Fetches what no place had from where Python's index says that the file of the project `pypiProject` lies: not
    /// every index keeps files at the addresses that can be told beforehand. Other bytes than promised are not asked
    /// for a second time.
    fn fetch_indexed(
        &self,
        cx: &BuiltinContext<'_>,
        request: &mut FetchRequest,
        mut first: FetchError,
    ) -> Result<Fetched, BuiltinError> {
        let is_missing =
            |failure: &Failure| matches!(failure, Failure::Net(_) | Failure::Local(_) | Failure::Name(_));
        let project = cx.attrs.text("pypiProject")?;
        let Some(project) = project.filter(|_| first.attempts.iter().all(|(_, failure)| is_missing(failure)))
        else {
            return Err(first.into());
        };
        let file = request.urls.first().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        let page = wheel_index::fetch(&self.fetcher, cx, project)?;
        let Some(url) = page.and_then(|page| page.address_of(file)) else { return Err(first.into()) };
        request.urls = vec![url];
        self.fetcher.fetch(request, cx.output("out")?.dir.as_fd(), cx.events).map_err(|second| {
            first.attempts.extend(second.attempts);
            first.into()
        })
    }
}

impl BuiltinBuilder for FetchUrl {
    fn name(&self) -> &str {
        "fetchurl"
    }

    fn is_fetch(&self) -> bool {
        true
    }

    fn wants(&self, attrs: &Attributes) -> Vec<Wanted> {
        // Attributes that do not read fail in the build, with words.
        let Ok(request) = self.request(attrs) else { return Vec::new() };
        let urls = self.fetcher.network_urls(&request.urls, request.snapshot.as_deref());
        // One thing is wanted, however many places have it. It is named as the derivation names it.
        let first = request.urls.first().filter(|_| !urls.is_empty());
        first
            .map(|url| Wanted { url: ampoule_net::shown_text(url), size_bytes: request.size_bytes })
            .into_iter()
            .collect()
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        refuse_unknown(cx.attrs)?;
        let out = cx.output("out")?;
        let mut request = self.request(cx.attrs)?;
        request.cancel = cx.cancel.clone();
        let unpacks = cx.attrs.flag("unpack", false)?;
        let executable = cx.attrs.flag("executable", false)?;
        let Some(expected) = cx.expected else {
            return Err(BuiltinError::build(
                "only a fixed-output derivation may fetch: `outputHash` is missing",
            ));
        };
        if expected.method == Method::Flat && !unpacks && !executable {
            request.expected = Some(expected.hash);
            let fetched = self.fetcher.fetch(&request, out.dir.as_fd(), cx.events);
            let fetched = fetched.or_else(|first| self.fetch_indexed(cx, &mut request, first))?;
            return link(&fetched, out, 0o444);
        }
        if expected.method == Method::Flat {
            return Err(BuiltinError::build(
                "`executable` and `unpack` need `outputHashMode = \"recursive\"`",
            ));
        }
        let options = unpack_options(cx, true)?;
        let make = |fetched: &Fetched| {
            let made = if unpacks {
                unpack_fetched(fetched, &options, out)
            } else {
                link(fetched, out, if executable { 0o555 } else { 0o444 })
            };
            made.and_then(|()| check_tree(out, expected, fetched)).or_else(|error| {
                out.clear()?;
                Err(error)
            })
        };
        let mut hard: Option<BuiltinError> = None;
        let mut accept = |fetched: &Fetched| {
            make(fetched).map_err(|error| match &error.mismatch {
                Some(hashes) => {
                    Failure::Mismatch { hashes: hashes.clone(), looks_like: fetched.looks_like.clone() }
                }
                None => {
                    let reason = error.message.clone();
                    hard = Some(error);
                    Failure::Local(format!("{reason} (what came: {})", fetched.looks_like))
                }
            })
        };
        match self.fetcher.fetch_accepted(&request, out.dir.as_fd(), cx.events, &mut accept) {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut told = BuiltinError::from(error);
                // An archive that is refused is no trouble of the network's.
                if let (Some(hard), None) = (hard, &told.mismatch) {
                    told.kind = hard.kind;
                }
                Err(told)
            }
        }
    }
}

/// Attributes that other fetchers know and that would be ignored here.
fn refuse_unknown(attrs: &Attributes) -> Result<(), BuiltinError> {
    for name in ["curlOpts", "curlOptsList", "netrcPhase", "postFetch", "downloadToTemp", "showURLs"] {
        if attrs.text(name).map_or(true, |text| text.is_some()) {
            return Err(BuiltinError::build(format!(
                "attribute `{name}` is not supported: the fetch runs no program"
            )));
        }
    }
    Ok(())
}

pub(super) fn link(fetched: &Fetched, out: &Place, mode: u32) -> Result<(), BuiltinError> {
    fetched
        .link(out.dir.as_fd(), &out.name, mode)
        .map_err(|error| BuiltinError::build(format!("cannot write the output: {error}")))
}

/// Compares what was made with what was promised.
fn check_tree(out: &Place, expected: ContentAddress, fetched: &Fetched) -> Result<(), BuiltinError> {
    let name = CString::new(out.name.as_str()).map_err(|e| BuiltinError::build(e.to_string()))?;
    let (got, _) =
        hash_at(&out.dir, &name, expected.method, expected.hash.algo(), None).map_err(|error| {
            BuiltinError::build(format!("cannot hash what {} unpacked to: {error}", fetched.url))
        })?;
    if got == expected.hash {
        return Ok(());
    }
    let mismatch = Mismatch { specified: expected.hash, got };
    Err(BuiltinError { mismatch: Some(Box::new(mismatch)), ..BuiltinError::build("hash mismatch") })
}

fn unpack_fetched(fetched: &Fetched, options: &Options, out: &Place) -> Result<(), BuiltinError> {
    let file = fetched.file.try_clone().map_err(UnpackError::from)?;
    if let Some(nar) = as_nar(&file, fetched.size_bytes)? {
        return Ok(unpack_nar(nar, out)?);
    }
    unpack(file, options, out)?;
    Ok(())
}

/// Returns a reader of the NAR in `file`, compressed or not, if it is one.
fn as_nar(file: &File, size_bytes: u64) -> Result<Option<impl Read + use<'_>>, UnpackError> {
    let mut start = [0; 6];
    let mut head = ReadAt { file, at: 0 };
    let len = head.read(&mut start)?;
    let codec = Codec::detect(&start[..len]).unwrap_or(Codec::Plain);
    let limit = Limits::for_archive(size_bytes).max_bytes;
    let mut reader = Limited::new(codec.reader(ReadAt { file, at: 0 })?, limit);
    let mut magic = Vec::new();
    // Other archives may be shorter, or not decode: their own reader says so.
    let read = (&mut reader).take(21).read_to_end(&mut magic);
    if read.is_err() || magic != [&[13, 0, 0, 0, 0, 0, 0, 0][..], nar::MAGIC].concat() {
        return Ok(None);
    }
    Ok(Some(BufReader::new(io::Cursor::new(magic).chain(reader))))
}

/// Writes the tree of a NAR to `out`.
pub(crate) fn unpack_nar(from: impl Read, out: &Place) -> Result<(), UnpackError> {
    let bad = |error: nar::NarError| UnpackError::archive(format!("the NAR cannot be read: {error}"));
    let mut reader = nar::Reader::new(from).map_err(bad)?;
    let mut tree = None;
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut depth = 0_usize;
    loop {
        let event = reader.next_event().map_err(bad)?;
        let path =
            || RelPath::parse(&at.join(&b'/')).map_err(|problem| UnpackError::name(&at.join(&b'/'), problem));
        match event {
            Event::End => break,
            Event::Entry(name) => {
                at.truncate(depth.saturating_sub(1));
                at.push(name);
            }
            Event::BeginDirectory => {
                match &mut tree {
                    None => tree = Some(Tree::create(out).map_err(UnpackError::from)?),
                    Some(tree) => tree.directory(&path()?)?,
                }
                depth += 1;
            }
            Event::EndDirectory => {
                depth -= 1;
                at.truncate(depth);
            }
            Event::Symlink(target) => match &mut tree {
                Some(tree) => tree.symlink(&path()?, &target)?,
                None => Tree::around(out)?.symlink(&own_name(out)?, &target)?,
            },
            Event::File { executable, .. } => {
                match &mut tree {
                    Some(tree) => tree.file(&path()?, executable, &mut reader)?,
                    None => Tree::around(out)?.file(&own_name(out)?, executable, &mut reader)?,
                };
            }
        }
    }
    // To the end of the compressed stream, whose checksum stands there.
    if io::copy(&mut reader.into_inner(), &mut io::sink())? > 0 {
        return Err(UnpackError::archive("bytes follow the NAR"));
    }
    Ok(())
}

fn own_name(out: &Place) -> Result<RelPath, UnpackError> {
    RelPath::parse(out.name.as_bytes()).map_err(|problem| UnpackError::name(out.name.as_bytes(), problem))
}
