//! Unpacking archives that nobody vouches for.
//!
//! tar (plain, gz, xz, zst, bz2), zip and wheels, crates, Debian packages. The rules,
//! which `docs/unpack.md` states for people: names lead downwards or are refused; no
//! link is ever followed; only directories, files and links exist; the compressed
//! stream is read to its end, so that its checksum counts; what an archive may give is
//! limited; modes become 0444 and 0555, owners, times and attributes go. Nothing is
//! remapped or dropped in silence.
//!
//! ```text
//! file → codec (all members) → limit → tar entries → Placer (strip, subdir) → Tree (directory handles)
//! ```

mod ar;
mod error;
mod path;
mod sparse;
mod stream;
pub mod tar;
mod tree;
pub(crate) mod zip;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use ampoule_net::Cancel;

pub use ar::{Archive as ArArchive, Member as ArMember};
pub use error::UnpackError;
pub use path::{MAX_DEPTH, NameProblem, RelPath, shown};
pub use stream::{Codec, Limited, Limits};
pub use tree::{Found, Tree};

use crate::builtin::Place;
use stream::Stoppable;
use tar::{Entry, Kind};

/// What kind of archive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// tar, compressed in any of the ways of [`Codec`] or not at all.
    Tar,
    /// zip, and what is zip: wheels.
    Zip,
    /// A Debian package: its files.
    Deb,
}

impl Format {
    /// Parses the name of a format; none means that the first bytes decide.
    ///
    /// # Errors
    /// A name that is not known.
    pub fn parse(name: &str) -> Result<Option<Self>, UnpackError> {
        match name {
            "" | "auto" => Ok(None),
            "tar" | "tar.gz" | "tgz" | "tar.xz" | "txz" | "tar.zst" | "tar.zstd" | "tar.bz2" | "tbz2"
            | "tar.lzma" | "tar.lz" | "crate" | "npm" => Ok(Some(Self::Tar)),
            "zip" | "whl" | "wheel" | "jar" => Ok(Some(Self::Zip)),
            "deb" => Ok(Some(Self::Deb)),
            other => Err(UnpackError::archive(format!(
                "unknown format `{other}`; known are tar, tar.gz, tar.xz, tar.zst, tar.bz2, tar.lzma, tar.lz, zip, whl, crate, deb"
            ))),
        }
    }

    /// Returns the format that the first bytes of `file` show.
    ///
    /// # Errors
    /// Those of reading, and formats that are known but not read.
    pub fn detect(file: &mut File) -> Result<Self, UnpackError> {
        let start = first_bytes(file)?;
        match start.as_slice() {
            [] => Err(UnpackError::archive("the archive is empty")),
            [b'!', b'<', b'a', b'r', ..] => Ok(Self::Deb),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            [b'P', b'K', 7, 8, ..] => Err(UnpackError::archive("a zip archive in several parts")),
            [b'M', b'Z', ..] | [b'#', b'!', ..] | [0x7f, b'E', b'L', b'F', ..] => Err(UnpackError::archive(
                "begins with a program; if a zip archive follows it, say `format = \"zip\"`",
            )),
            start => Codec::detect(start).map(|_| Self::Tar),
        }
    }
}

/// How to unpack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format, if it is known.
    pub format: Option<Format>,
    /// Takes the one top directory away.
    pub strip_root: bool,
    /// Keeps only what lies below this path (after stripping).
    pub subdir: RelPath,
    /// Limits; by the archive's size, if none are given.
    pub limits: Option<Limits>,
    /// Tells when to stop.
    pub cancel: Cancel,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How many entries were placed.
    pub entries: u64,
    /// How many bytes their contents have.
    pub size_bytes: u64,
}

/// Unpacks `archive` into a new directory at `place`.
///
/// # Errors
/// [`UnpackError`]; what was placed by then is left for the caller to throw away.
pub fn unpack(mut archive: File, options: &Options, place: &Place) -> Result<Unpacked, UnpackError> {
    let size_bytes = archive.metadata()?.len();
    let limits = options.limits.unwrap_or_else(|| Limits::for_archive(size_bytes));
    let format = match options.format {
        Some(format) => format,
        None => Format::detect(&mut archive)?,
    };
    let tree = Tree::create(place)
        .map_err(|e| UnpackError::place(place.name.as_bytes(), "make the directory", e))?;
    let mut placer = Placer::new(tree, options, limits);
    // What follows the last entry, and what is passed over, ends when somebody asks, too.
    let cancel = || options.cancel.clone();
    match format {
        Format::Tar => {
            archive.seek(SeekFrom::Start(0))?;
            let input = Stoppable { input: archive, cancel: cancel() };
            read_tar(input, limits, &mut |entry, data| placer.place(entry, data))?;
        }
        Format::Zip => unpack_zip(archive, limits, &mut placer)?,
        Format::Deb => {
            let package = ArArchive::open(archive)?;
            let input = Stoppable { input: deb_member(&package, "data.tar")?, cancel: cancel() };
            read_tar(input, limits, &mut |entry, data| placer.place(entry, data))?;
        }
    }
    placer.finish()
}

/// Returns the member `stem` (`control.tar`, `data.tar`) of a Debian package.
///
/// # Errors
/// When the file is not a Debian package of format 2, or lacks the member.
pub fn deb_member(package: &ArArchive, stem: &str) -> Result<impl Read + Send + use<>, UnpackError> {
    if package.first() != Some("debian-binary") {
        return Err(UnpackError::archive("not a Debian package: `debian-binary` does not come first"));
    }
    let mut version = String::new();
    if let Some(member) = package.find("debian-binary")? {
        package.read(member)?.take(16).read_to_string(&mut version)?;
    }
    if !version.starts_with("2.") {
        let found = version.trim_end().escape_debug();
        return Err(UnpackError::archive(format!("a Debian package of format `{found}`, expected 2")));
    }
    let member = package
        .find(stem)?
        .ok_or_else(|| UnpackError::archive(format!("not a Debian package: `{stem}` is missing")))?;
    package.read(member)
}

/// What is done with each entry of a tar stream.
pub type OnEntry<'a> = dyn FnMut(&Entry, &mut dyn Read) -> Result<(), UnpackError> + 'a;

/// Reads all entries of `input`, whose compression shows in its first bytes, and then
/// whatever follows, to the end.
///
/// # Errors
/// Those of the stream, and of `on_entry`.
pub fn read_tar(
    mut input: impl Read + Send,
    limits: Limits,
    on_entry: &mut OnEntry<'_>,
) -> Result<(), UnpackError> {
    let mut start = Vec::new();
    (&mut input).take(6).read_to_end(&mut start)?;
    let codec = Codec::detect(&start)?;
    let whole = io::Cursor::new(start).chain(input);
    let mut reader = tar::Reader::new(Limited::new(codec.reader(whole)?, limits.max_bytes));
    let (mut entries, mut size_bytes) = (0, 0_u64);
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        if entries > limits.max_entries {
            return Err(UnpackError::archive(format!("more than {} entries", limits.max_entries)));
        }
        // Before a byte of it is read, or a file made for it. Holes count too.
        size_bytes = size_bytes.saturating_add(entry.size_bytes);
        if size_bytes > limits.max_bytes {
            return Err(stream::too_much(limits.max_bytes).within(&entry.name));
        }
        on_entry(&entry, &mut reader).map_err(|error| error.within(&entry.name))?;
    }
    reader.drain()
}

fn unpack_zip(archive: File, limits: Limits, placer: &mut Placer<'_>) -> Result<(), UnpackError> {
    let is_named = placer.options.format == Some(Format::Zip);
    let archive = zip::Archive::open(archive, limits, is_named)?;
    let total = archive.entries().iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.size_bytes));
    if total.is_none_or(|total| total > limits.max_bytes) {
        return Err(stream::too_much(limits.max_bytes));
    }
    for entry in archive.entries() {
        let mut data = archive.read(entry).map_err(|error| error.within(&entry.name))?;
        let kind = match entry.mode & 0o170_000 {
            0o120_000 => Kind::Symlink,
            0o040_000 => Kind::Directory,
            0 | 0o100_000 if entry.name.last() == Some(&b'/') => Kind::Directory,
            0 | 0o100_000 => Kind::File,
            // What `zip` read from a pipe.
            0o010_000 if entry.size_bytes > 0 => Kind::File,
            _ => Kind::Special("a special file"),
        };
        let mut link = Vec::new();
        if kind == Kind::Symlink {
            let read = (&mut data).take(4097).read_to_end(&mut link);
            read.map_err(|error| UnpackError::from(error).within(&entry.name))?;
        }
        let as_tar = Entry {
            name: entry.name.clone(),
            kind,
            link,
            size_bytes: entry.size_bytes,
            is_sparse: false,
            mode: entry.mode & 0o7777,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
        };
        placer.place(&as_tar, &mut data).map_err(|error| error.within(&entry.name))?;
    }
    Ok(())
}

/// Puts entries into a tree: names checked, the top directory taken away.
struct Placer<'o> {
    tree: Tree,
    options: &'o Options,
    limits: Limits,
    top: Option<Vec<u8>>,
    top_is_directory: bool,
    done: Unpacked,
}

impl<'o> Placer<'o> {
    fn new(tree: Tree, options: &'o Options, limits: Limits) -> Self {
        Self { tree, options, limits, top: None, top_is_directory: false, done: Unpacked::default() }
    }

    fn place(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), UnpackError> {
        if self.options.cancel.is_asked() {
            return Err(UnpackError::archive("interrupted"));
        }
        let path = RelPath::parse(&entry.name).map_err(|problem| UnpackError::name(&entry.name, problem))?;
        if let Kind::Special(what) = entry.kind {
            return Err(UnpackError::entry(
                &entry.name,
                format!("is {what}; only files, directories and links are unpacked"),
            ));
        }
        if path.is_root() {
            // `./` itself, which many archives have.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(UnpackError::entry(&entry.name, "the top entry is not a directory")),
            };
        }
        let Some(path) = self.stripped(entry, path)? else { return Ok(()) };
        let Some(path) = path.below(&self.options.subdir) else { return Ok(()) };
        self.done.entries += 1;
        match entry.kind {
            Kind::Directory => self.tree.directory(&path),
            Kind::Symlink => self.tree.symlink(&path, &entry.link),
            Kind::HardLink => {
                let target = RelPath::parse(&entry.link).map_err(|problem| {
                    UnpackError::entry(
                        &entry.name,
                        format!("a hard link to `{}`: {problem}", shown(&entry.link)),
                    )
                })?;
                let target = self.stripped(entry, target)?.and_then(|t| t.below(&self.options.subdir));
                let Some(target) = target else {
                    return Err(UnpackError::entry(&entry.name, "a hard link to what is not unpacked"));
                };
                self.tree.hard_link(&path, &target)
            }
            Kind::File => {
                let data = Stoppable { input: data, cancel: self.options.cancel.clone() };
                let mut data = Limited::new(data, self.limits.max_bytes.saturating_sub(self.done.size_bytes));
                let executable = entry.mode & 0o100 != 0;
                self.done.size_bytes += match entry.is_sparse {
                    true => self.tree.sparse_file(&path, executable, &mut data)?,
                    false => self.tree.file(&path, executable, &mut data)?,
                };
                Ok(())
            }
            Kind::Special(_) => unreachable!("refused above"),
        }
    }

    /// Takes the top directory off `path`; none for that directory itself.
    fn stripped(&mut self, entry: &Entry, path: RelPath) -> Result<Option<RelPath>, UnpackError> {
        if !self.options.strip_root {
            return Ok(Some(path));
        }
        let Some((first, rest)) = path.split_first() else { return Ok(None) };
        match &self.top {
            None => self.top = Some(first.to_vec()),
            Some(top) if top != first => {
                return Err(UnpackError::archive(format!(
                    "more than one entry at the top, `{}` and `{}`, where one directory is to be taken away",
                    shown(top),
                    shown(first)
                )));
            }
            Some(_) => {}
        }
        if !rest.is_root() {
            self.top_is_directory = true;
            return Ok(Some(rest));
        }
        if entry.kind != Kind::Directory {
            return Err(UnpackError::entry(
                &entry.name,
                "the top entry is not a directory, which is to be taken away",
            ));
        }
        self.top_is_directory = true;
        Ok(None)
    }

    fn finish(self) -> Result<Unpacked, UnpackError> {
        let nothing = self.done.entries == 0;
        if nothing && !self.options.subdir.is_root() {
            return Err(UnpackError::archive(format!(
                "the archive has nothing at `{}`",
                self.options.subdir
            )));
        }
        if nothing && !self.top_is_directory {
            return Err(UnpackError::archive("the archive holds nothing"));
        }
        Ok(self.done)
    }
}

fn first_bytes(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(6).read_to_end(&mut start)?;
    Ok(start)
}
