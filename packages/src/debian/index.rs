//! An archive's package index, ready to be asked.
//!
//! Made once from the text of a `Packages` file, in parallel, and kept as one run
//! of bytes that can be written to a cache and taken back without parsing:
//!
//! ```text
//! header | ends of names | ends of records | mentions | provides, sorted by name | names | records
//! record: name ␟ version ␟ architecture ␟ depends ␟ … ␞
//! ```
//!
//! A mention is where in the file a name first stands, as a package or in a relation: apt
//! numbers packages so, and of providers that are alike it takes the last.
//!
//! Records are sorted by name, newest first. A resolution looks at a few hundred of
//! 63,440: of a cache only what stands before the records is read at once (a fifth of
//! 18 MB), records when they are looked at, some 32 neighbours together, and they are
//! cut into fields even later.

use super::control::{fields, split_into_pieces, stanzas};
use super::version::{compare_versions, without_epoch};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

const MAGIC: &[u8; 8] = b"ampidx04";
const HEADER_BYTES: usize = 8 + 4 * 4;
const PROVIDE_WORDS: usize = 3;
/// Words of each record in the tables: ends and mention.
const RECORD_WORDS: usize = 3;
/// Records that are read together.
const CHUNK: usize = 32;
const FIELD_END: u8 = 0x1f;
const RECORD_END: u8 = 0x1e;
const FIELD_COUNT: usize = 13;

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    /// The text of a `Packages` file lacks something.
    #[error("stanza {stanza} of the package index has no `{field}`")]
    MissingField {
        /// Counted from 1.
        stanza: usize,
        /// As in the file.
        field: &'static str,
    },
    /// The text of a `Packages` file has something that must not be there.
    #[error("stanza {stanza} of the package index has a `{field}` that is none: `{value}`")]
    BadField {
        /// Counted from 1.
        stanza: usize,
        /// As in the file.
        field: &'static str,
        /// What it is, cut short.
        value: String,
    },
    /// The cached form is of another version or cut short.
    #[error("the cached package index is not usable: {0}")]
    BadCache(&'static str),
    /// Offsets are 32 bits wide.
    #[error("the package index is larger than 4 GiB")]
    TooLarge,
}

/// Bytes that were kept, to be read where they are wanted.
pub trait Kept: Send + Sync {
    /// How many there are.
    fn len_bytes(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// The system's; that there are fewer bytes is one.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Kept for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// One archive suite's packages of one architecture.
pub struct Index {
    /// Everything before the records.
    head: Vec<u8>,
    count: usize,
    name_ends: Range<usize>,
    record_ends: Range<usize>,
    mentions: Range<usize>,
    provides: Range<usize>,
    names: Range<usize>,
    records: Records,
    is_damaged: AtomicBool,
}

/// Where the records are.
enum Records {
    Memory(Vec<u8>),
    Kept { bytes: Box<dyn Kept>, start: u64, chunks: Vec<OnceLock<Vec<u8>>> },
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index of {} packages", self.count)
    }
}

/// One binary package of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Package<'a> {
    /// `Package`
    pub name: &'a str,
    /// `Version`
    pub version: &'a str,
    /// `Architecture`; `all` for packages of every architecture.
    pub arch: &'a str,
    /// `Pre-Depends`, unparsed.
    pub pre_depends: &'a str,
    /// `Depends`, unparsed.
    pub depends: &'a str,
    /// `Provides`, unparsed.
    pub provides: &'a str,
    /// `Conflicts` and `Breaks`, unparsed.
    pub conflicts: &'a str,
    /// Rank of `Priority`: 0 required, 1 important, 2 standard, 3 optional, 4 extra.
    pub priority_rank: u8,
    /// `Essential: yes`
    pub is_essential: bool,
    /// `Multi-Arch`, may be empty.
    pub multi_arch: &'a str,
    /// `Size`, of the archive file.
    pub size_bytes: u64,
    /// `SHA256`, base 16.
    pub sha256: &'a str,
    source: &'a str,
    filename: &'a str,
}

impl<'a> Package<'a> {
    /// Name of the source package.
    pub fn source_name(&self) -> &'a str {
        match self.source.split_whitespace().next() {
            Some(name) => name,
            None => self.name,
        }
    }

    /// Version of the source package; the binary's may carry a rebuild's `+b1`.
    pub fn source_version(&self) -> &'a str {
        let written = self.source.split_once('(').and_then(|(_, rest)| rest.split(')').next());
        written.map_or(self.version, str::trim)
    }

    /// Path under the archive: `pool/main/h/hello/hello_2.10-3_amd64.deb`.
    pub fn path(&self) -> String {
        if self.filename.contains('/') {
            self.filename.to_owned()
        } else {
            usual_path(self.filename, self.name, self.version, self.arch, self.source_name())
        }
    }
}

/// Where an archive keeps a package unless it says otherwise.
fn usual_path(component: &str, name: &str, version: &str, arch: &str, source: &str) -> String {
    let folder_chars = if source.starts_with("lib") { 4 } else { 1 };
    let folder = source.get(..folder_chars).unwrap_or(source);
    let version = without_epoch(version);
    format!("pool/{component}/{folder}/{source}/{name}_{version}_{arch}.deb")
}

#[derive(Default)]
struct Stanza<'a> {
    values: [&'a str; FIELD_COUNT],
    breaks: &'a str,
    /// Relations that a resolution does not follow: they mention names all the same.
    weak: [&'a str; 4],
}

const NAME: usize = 0;
const VERSION: usize = 1;
const ARCH: usize = 2;
const PRE_DEPENDS: usize = 3;
const DEPENDS: usize = 4;
const PROVIDES: usize = 5;
const CONFLICTS: usize = 6;
const PRIORITY: usize = 7;
const ESSENTIAL: usize = 8;
const MULTI_ARCH: usize = 9;
const SIZE: usize = 10;
const SHA256: usize = 11;
const SOURCE: usize = 12;

impl<'a> Stanza<'a> {
    fn read(text: &'a str) -> (Self, &'a str) {
        let mut stanza = Self::default();
        let mut filename = "";
        for (name, value) in fields(text) {
            let slot = match name {
                "Package" => NAME,
                "Version" => VERSION,
                "Architecture" => ARCH,
                "Pre-Depends" => PRE_DEPENDS,
                "Depends" => DEPENDS,
                "Provides" => PROVIDES,
                "Conflicts" => CONFLICTS,
                "Priority" => PRIORITY,
                "Essential" => ESSENTIAL,
                "Multi-Arch" => MULTI_ARCH,
                "Size" => SIZE,
                "SHA256" => SHA256,
                "Source" => SOURCE,
                "Breaks" => {
                    stanza.breaks = value;
                    continue;
                }
                "Recommends" | "Suggests" | "Replaces" | "Enhances" => {
                    let order = ["Recommends", "Suggests", "Replaces", "Enhances"];
                    let slot = order.iter().position(|field| *field == name).unwrap_or_default();
                    stanza.weak[slot] = value;
                    continue;
                }
                "Filename" => {
                    filename = value;
                    continue;
                }
                _ => continue,
            };
            stanza.values[slot] = value;
        }
        (stanza, filename)
    }

    /// Calls `see` with the names that the stanza mentions, in the order in which apt reads its fields.
    fn mentions(&self, mut see: impl FnMut(&'a [u8])) {
        let [name, pre_depends, depends, provides, conflicts] =
            [NAME, PRE_DEPENDS, DEPENDS, PROVIDES, CONFLICTS].map(|slot| self.values[slot]);
        see(name.as_bytes());
        let [recommends, suggests, replaces, enhances] = self.weak;
        for field in
            [pre_depends, depends, conflicts, self.breaks, recommends, suggests, replaces, enhances, provides]
        {
            let mut rest = field.as_bytes();
            loop {
                let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                rest = &rest[blanks..];
                let is_name = |byte: &&u8| !matches!(byte, b' ' | b'\n' | b'\t' | b'(' | b':' | b',' | b'|');
                let length = rest.iter().take_while(is_name).count();
                if length > 0 {
                    see(&rest[..length]);
                }
                let Some(end) = memchr::memchr2(b',', b'|', &rest[length..]) else { break };
                rest = &rest[length + end + 1..];
            }
        }
    }
}

struct Piece<'a> {
    text: Vec<u8>,
    starts: Vec<u32>,
    /// Where each name is first mentioned: the stanza, counted in the piece, and the place in it.
    mentions: FxHashMap<&'a [u8], u32>,
}

/// Places in a stanza that are told apart.
const PLACE_BITS: u32 = 12;

impl Index {
    /// Number of the cached form; another program's cache is not for us.
    pub const FORMAT: u32 = 4;

    /// Scans the text of a `Packages` file on all cores.
    ///
    /// # Errors
    /// A stanza without name, version, file name, size or SHA-256.
    pub fn from_packages(text: &str) -> Result<Self, IndexError> {
        let pieces = split_into_pieces(text, 4 * rayon::current_num_threads());
        let pieces: Vec<Result<Piece<'_>, BadStanza>> = pieces.into_par_iter().map(scan_piece).collect();
        let mut stanzas_before = 0;
        let mut whole = Vec::with_capacity(text.len() / 3);
        let mut starts = Vec::new();
        let mut mentions: Vec<(u32, FxHashMap<&[u8], u32>)> = Vec::new();
        for piece in pieces {
            let piece = piece.map_err(|bad| bad.into_error(stanzas_before))?;
            let before = u32::try_from(stanzas_before << PLACE_BITS).unwrap_or(u32::MAX);
            mentions.push((before, piece.mentions));
            stanzas_before += piece.starts.len();
            let base = u32::try_from(whole.len()).map_err(|_| IndexError::TooLarge)?;
            starts.extend(piece.starts.iter().map(|start| base + start));
            whole.extend_from_slice(&piece.text);
        }
        u32::try_from(whole.len()).map_err(|_| IndexError::TooLarge)?;
        let mention = |name: &[u8]| {
            let found = mentions
                .iter()
                .find_map(|(before, of_piece)| Some(before.saturating_add(*of_piece.get(name)?)));
            found.unwrap_or(u32::MAX)
        };
        Ok(Self::assemble(&whole, starts, &mention))
    }

    /// `starts` are the places of records in `text`, in any order.
    fn assemble(text: &[u8], mut starts: Vec<u32>, mention: &(dyn Fn(&[u8]) -> u32 + Sync)) -> Self {
        starts.par_sort_unstable_by(|&left, &right| order_of_records(text, left as usize, right as usize));
        let mut provides: Vec<(&[u8], u32)> = starts
            .par_iter()
            .enumerate()
            .flat_map_iter(|(number, &start)| {
                provided_names(text, start as usize).into_iter().map(move |name| (name, number as u32))
            })
            .collect();
        provides.par_sort_unstable();
        // Only who provides something is ever asked for.
        let mut is_provider = vec![false; starts.len()];
        provides.iter().for_each(|&(_, number)| is_provider[number as usize] = true);
        let mention_of = |(&start, is_provider): (&u32, bool)| {
            if is_provider { mention(first_field(&text[start as usize..])) } else { 0 }
        };
        let mentions: Vec<u32> = starts.par_iter().zip(is_provider).map(mention_of).collect();

        let (mut names, mut name_ends) = (Vec::new(), Vec::with_capacity(starts.len()));
        let (mut records, mut record_ends) =
            (Vec::with_capacity(text.len()), Vec::with_capacity(starts.len()));
        for &start in &starts {
            let rest = &text[start as usize..];
            names.extend_from_slice(first_field(rest));
            name_ends.push(names.len() as u32);
            let length = memchr::memchr(RECORD_END, rest).map_or(rest.len(), |at| at + 1);
            records.extend_from_slice(&rest[..length]);
            record_ends.push(records.len() as u32);
        }
        let provide_count = provides.len();
        let mut provide_words = Vec::with_capacity(PROVIDE_WORDS * provide_count);
        for (name, record) in provides {
            provide_words.extend([names.len() as u32, name.len() as u32, record]);
            names.extend_from_slice(name);
        }

        let mut head = Vec::with_capacity(
            HEADER_BYTES + 4 * (RECORD_WORDS * starts.len() + provide_words.len()) + names.len(),
        );
        head.extend_from_slice(MAGIC);
        for count in [starts.len(), provide_count, names.len(), records.len()] {
            head.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for word in name_ends.iter().chain(&record_ends).chain(&mentions).chain(&provide_words) {
            head.extend_from_slice(&word.to_le_bytes());
        }
        head.extend_from_slice(&names);
        let mut index = Self::of_head(head).expect("the writer and the reader of the cached form agree");
        index.records = Records::Memory(records);
        index
    }

    /// Takes back what [`Index::write_cache`] wrote. Records are read when they are looked at.
    ///
    /// # Errors
    /// [`IndexError::BadCache`] if the bytes are of another version, cut short or not readable.
    pub fn from_cache(bytes: Box<dyn Kept>) -> Result<Self, IndexError> {
        let read = |range: Range<usize>| {
            let mut buffer = vec![0; range.len()];
            bytes
                .read_at(range.start as u64, &mut buffer)
                .map_err(|_| IndexError::BadCache("it is cut short"))?;
            Ok(buffer)
        };
        let header = read(0..HEADER_BYTES)?;
        if !header.starts_with(MAGIC) {
            return Err(IndexError::BadCache("it was written by another version"));
        }
        let (head_bytes, record_bytes) = sizes(&header);
        if bytes.len_bytes() != head_bytes as u64 + record_bytes as u64 {
            return Err(IndexError::BadCache("it is cut short"));
        }
        let mut index = Self::of_head(read(0..head_bytes)?)?;
        let chunks = (0..index.count.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        index.records = Records::Kept { bytes, start: head_bytes as u64, chunks };
        Ok(index)
    }

    fn of_head(head: Vec<u8>) -> Result<Self, IndexError> {
        let [count, provides, names, _] = counts(&head);
        let name_ends = HEADER_BYTES..HEADER_BYTES + 4 * count;
        let record_ends = name_ends.end..name_ends.end + 4 * count;
        let mentions = record_ends.end..record_ends.end + 4 * count;
        let provides = mentions.end..mentions.end + 4 * PROVIDE_WORDS * provides;
        let names = provides.end..provides.end + names;
        if names.end != head.len() {
            return Err(IndexError::BadCache("it is cut short"));
        }
        let (records, is_damaged) = (Records::Memory(Vec::new()), AtomicBool::new(false));
        Ok(Self { head, count, name_ends, record_ends, mentions, provides, names, records, is_damaged })
    }

    /// The bytes to keep in a cache, in two parts.
    pub fn as_cache(&self) -> [&[u8]; 2] {
        let records = match &self.records {
            Records::Memory(records) => records.as_slice(),
            // What came from a cache is not written to it again.
            Records::Kept { .. } => &[],
        };
        [&self.head, records]
    }

    /// Whether a record could not be read. What was found in this index is not to be trusted then.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Memory::Relaxed)
    }

    /// Number of packages.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no package.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Record `number`, in the order of names. Of a damaged cache, a package without a name.
    pub fn package(&self, number: usize) -> Package<'_> {
        let name = self.name_at(number);
        let found = self.record(number).and_then(cut).filter(|package| package.name.as_bytes() == name);
        found.unwrap_or_else(|| {
            self.is_damaged.store(true, Memory::Relaxed);
            Package::default()
        })
    }

    /// Numbers of the packages called `name`, newest first. O(log n).
    pub fn named(&self, name: &str) -> Range<usize> {
        let wanted = name.as_bytes();
        let start = partition_point(self.len(), |number| self.name_at(number) < wanted);
        let length = (start..self.len()).take_while(|&number| self.name_at(number) == wanted).count();
        start..start + length
    }

    /// Numbers of the packages that provide the virtual name `name`, in the order of their names.
    pub fn providing(&self, name: &str) -> Vec<usize> {
        let wanted = name.as_bytes();
        let count = self.provides.len() / (4 * PROVIDE_WORDS);
        let start = partition_point(count, |i| self.provided(i).0 < wanted);
        let mut numbers: Vec<usize> = (start..count)
            .map(|i| self.provided(i))
            .take_while(|(found, _)| *found == wanted)
            .map(|(_, record)| record)
            .filter(|&record| record < self.count)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Where in the file the name of package `number` first stands, if it provides something: a number that grows.
    pub fn mention(&self, number: usize) -> u32 {
        word_at(&self.head[self.mentions.clone()], number)
    }

    /// Names of all packages, each once per version.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.count).filter_map(|number| std::str::from_utf8(self.name_at(number)).ok())
    }

    fn name_at(&self, number: usize) -> &[u8] {
        self.head[self.names.clone()].get(self.bounds(&self.name_ends, number)).unwrap_or_default()
    }

    /// Where item `number` lies among others of which the ends are known.
    fn bounds(&self, ends: &Range<usize>, number: usize) -> Range<usize> {
        let ends = &self.head[ends.clone()];
        let start = number.checked_sub(1).map_or(0, |before| word_at(ends, before) as usize);
        start..word_at(ends, number) as usize
    }

    fn record(&self, number: usize) -> Option<&[u8]> {
        let bounds = self.bounds(&self.record_ends, number);
        let (bytes, start, chunks) = match &self.records {
            Records::Memory(records) => return records.get(bounds),
            Records::Kept { bytes, start, chunks } => (bytes, *start, chunks),
        };
        let first = number / CHUNK * CHUNK;
        let last = (first + CHUNK - 1).min(self.count - 1);
        let from = self.bounds(&self.record_ends, first).start;
        let to = self.bounds(&self.record_ends, last).end;
        let chunk = chunks[number / CHUNK].get_or_init(|| {
            let length = to.checked_sub(from).filter(|&length| (length as u64) < bytes.len_bytes());
            let mut chunk = vec![0; length.unwrap_or_default()];
            // An empty chunk has no record, which is what the reader finds.
            if bytes.read_at(start + from as u64, &mut chunk).is_ok() { chunk } else { Vec::new() }
        });
        chunk.get(bounds.start.checked_sub(from)?..bounds.end.checked_sub(from)?)
    }

    fn provided(&self, i: usize) -> (&[u8], usize) {
        let words = &self.head[self.provides.clone()];
        let [offset, length, record] = [0, 1, 2].map(|k| word_at(words, PROVIDE_WORDS * i + k) as usize);
        let name = self.head[self.names.clone()].get(offset..offset.saturating_add(length));
        (name.unwrap_or_default(), record)
    }
}

/// Records, provides, bytes of names, bytes of records.
fn counts(header: &[u8]) -> [usize; 4] {
    [0, 1, 2, 3].map(|i| word_at(&header[8..], i) as usize)
}

/// Bytes before the records, and of the records.
fn sizes(header: &[u8]) -> (usize, usize) {
    let [records, provides, names, text] = counts(header);
    (HEADER_BYTES + 4 * (RECORD_WORDS * records + PROVIDE_WORDS * provides) + names, text)
}

/// Cuts a record into its fields.
fn cut(record: &[u8]) -> Option<Package<'_>> {
    let mut values = [""; FIELD_COUNT + 1];
    let mut rest = record;
    for value in &mut values {
        let end = memchr::memchr(FIELD_END, rest)?;
        *value = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
    }
    Some(Package {
        name: values[NAME],
        version: values[VERSION],
        arch: values[ARCH],
        pre_depends: values[PRE_DEPENDS],
        depends: values[DEPENDS],
        provides: values[PROVIDES],
        conflicts: values[CONFLICTS],
        priority_rank: values[PRIORITY].parse().ok()?,
        is_essential: values[ESSENTIAL] == "yes",
        multi_arch: values[MULTI_ARCH],
        size_bytes: values[SIZE].parse().ok()?,
        sha256: values[SHA256],
        source: values[SOURCE],
        filename: values[FIELD_COUNT],
    })
}

fn partition_point(count: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn word_at(bytes: &[u8], i: usize) -> u32 {
    let word: [u8; 4] = bytes[4 * i..4 * i + 4].try_into().expect("four bytes were taken");
    u32::from_le_bytes(word)
}

fn first_field(record: &[u8]) -> &[u8] {
    &record[..memchr::memchr(FIELD_END, record).unwrap_or(record.len())]
}

/// A stanza that is refused: its number in its piece, the field, and the value if it is not missing.
struct BadStanza {
    number: usize,
    field: &'static str,
    value: String,
}

impl BadStanza {
    fn into_error(self, stanzas_before: usize) -> IndexError {
        let Self { number, field, value } = self;
        let stanza = stanzas_before + number + 1;
        if value.is_empty() {
            IndexError::MissingField { stanza, field }
        } else {
            IndexError::BadField { stanza, field, value }
        }
    }
}

/// Fields of which something is made (a name, an address, a hash), each with what it may be.
type Test = fn(&str) -> bool;
const CHECKED: [(usize, &str, Test); 4] = [
    (NAME, "Package", |name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))),
    (VERSION, "Version", |version| {
        version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:_".contains(&b))
    }),
    (SIZE, "Size", |size| size.parse::<u64>().is_ok()),
    (SHA256, "SHA256", |hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())),
];

/// Whether a path stays below the archive's root.
fn is_below(path: &str) -> bool {
    !path.starts_with('/')
        && path.split('/').all(|part| !matches!(part, "" | ".."))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte))
}

fn scan_piece(piece: &str) -> Result<Piece<'_>, BadStanza> {
    let mut text = Vec::with_capacity(piece.len() / 3);
    let mut starts = Vec::new();
    let mut mentions = FxHashMap::with_capacity_and_hasher(piece.len() / 512, Default::default());
    for (number, stanza) in stanzas(piece).enumerate() {
        // A control file has no such bytes; we end fields with them.
        let has_ends = memchr::memchr2(FIELD_END, RECORD_END, stanza.as_bytes()).is_some();
        let (stanza, filename) = Stanza::read(stanza);
        let bad = |field, value: &str| BadStanza { number, field, value: value.chars().take(80).collect() };
        for (slot, field, is_good) in CHECKED {
            let value = stanza.values[slot];
            if value.is_empty() || !is_good(value) {
                return Err(bad(field, value));
            }
        }
        if !is_below(filename) {
            return Err(bad("Filename", filename));
        }
        if has_ends {
            return Err(bad("Package", "a control character is in its stanza"));
        }
        starts.push(text.len() as u32);
        write_record(&mut text, &stanza, filename);
        let before = (number as u32) << PLACE_BITS;
        let mut place = 0;
        let own = stanza.values[NAME].as_bytes();
        stanza.mentions(|name| {
            // Archives sort their stanzas: who comes before this one was met with its own.
            if name >= own {
                mentions.entry(name).or_insert(before + place);
            }
            place = (place + 1).min((1 << PLACE_BITS) - 1);
        });
    }
    Ok(Piece { text, starts, mentions })
}

fn write_record(text: &mut Vec<u8>, stanza: &Stanza<'_>, filename: &str) {
    let rank = priority_rank(stanza.values[PRIORITY]);
    for (slot, value) in stanza.values.iter().enumerate() {
        match slot {
            PRIORITY => text.push(b'0' + rank),
            CONFLICTS if !stanza.breaks.is_empty() => {
                text.extend_from_slice(value.as_bytes());
                text.extend_from_slice(b", ");
                text.extend_from_slice(stanza.breaks.as_bytes());
            }
            _ => text.extend_from_slice(value.as_bytes()),
        }
        text.push(FIELD_END);
    }
    text.extend_from_slice(short_filename(stanza, filename).as_bytes());
    text.extend_from_slice(&[FIELD_END, RECORD_END]);
}

/// Keeps only the component of a path that is where one would look: a third of the text.
fn short_filename<'a>(stanza: &Stanza<'a>, filename: &'a str) -> &'a str {
    let Some(component) = filename.strip_prefix("pool/").and_then(|rest| rest.split('/').next()) else {
        return filename;
    };
    let [name, version, arch, source] = [NAME, VERSION, ARCH, SOURCE].map(|slot| stanza.values[slot]);
    let source = source.split_whitespace().next().unwrap_or(name);
    let usual = usual_path(component, name, version, arch, source);
    if usual == filename { component } else { filename }
}

fn priority_rank(priority: &str) -> u8 {
    match priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "optional" => 3,
        _ => 4,
    }
}

fn order_of_records(text: &[u8], left: usize, right: usize) -> Ordering {
    let (left_name, right_name) = (first_field(&text[left..]), first_field(&text[right..]));
    left_name.cmp(right_name).then_with(|| {
        let version = |start: usize, name: &[u8]| {
            std::str::from_utf8(first_field(&text[start + name.len() + 1..])).unwrap_or_default()
        };
        compare_versions(version(right, right_name), version(left, left_name))
    })
}

fn provided_names(text: &[u8], start: usize) -> Vec<&[u8]> {
    let mut rest = &text[start..];
    for _ in 0..PROVIDES {
        rest = &rest[first_field(rest).len() + 1..];
    }
    let bare = |item: &'_ [u8]| {
        let blanks = item.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let length =
            item[blanks..].iter().take_while(|&&byte| !byte.is_ascii_whitespace() && byte != b'(').count();
        blanks..blanks + length
    };
    let items = first_field(rest).split(|&byte| byte == b',');
    items.map(|item| &item[bare(item)]).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, version: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}\
             Filename: pool/main/{0}/{name}/{name}_{version}_amd64.deb\nSize: 12\nSHA256: {1}\n\n",
            &name[..1],
            "0".repeat(64)
        )
    }

    fn sample() -> Index {
        let text = stanza("b", "1", "Provides: v (= 2), w,\n x\nPriority: required\n")
            + &stanza("a", "1", "Provides: v\nSource: aa (3)\nBreaks: c\n")
            + &stanza("b", "10", "Essential: yes\nConflicts: c\nBreaks: d\n");
        Index::from_packages(&text).expect("well formed")
    }

    #[test]
    fn packages_are_found_by_name_newest_first_and_by_what_they_provide() {
        let index = sample();
        let versions: Vec<_> = index.named("b").map(|i| index.package(i).version).collect();
        assert_eq!(versions, ["10", "1"]);
        let providers =
            |name| -> Vec<_> { index.providing(name).into_iter().map(|i| index.package(i).name).collect() };
        assert_eq!((providers("v"), providers("x"), providers("u")), (vec!["a", "b"], vec!["b"], vec![]));
        assert!(index.named("c").is_empty());
    }

    #[test]
    fn fields_are_read_as_written() {
        let index = sample();
        let a = index.package(0);
        assert_eq!((a.source_name(), a.source_version(), a.conflicts), ("aa", "3", ", c"));
        let b = index.package(1);
        assert_eq!((b.is_essential, b.conflicts, b.size_bytes), (true, "c, d", 12));
        assert_eq!(b.path(), "pool/main/b/b/b_10_amd64.deb");
        assert_eq!((b.source_name(), b.source_version()), ("b", "10"));
    }

    /// As apt numbers packages: a name counts from where it is first mentioned, in whichever relation.
    #[test]
    fn names_are_known_by_where_they_are_mentioned_first() {
        let text = stanza("m", "1", "Suggests: z (>= 1) | y:any,\n x\nDepends: w\nProvides: p\n")
            + &stanza("n", "1", "Provides: v\n")
            + &["v", "w", "x", "y", "z"].map(|name| stanza(name, "1", "Provides: p\n")).concat();
        let index = Index::from_packages(&text).expect("well formed");
        let again = Index::from_cache(Box::new(kept(&index))).expect("just written");
        let mut names: Vec<usize> = (0..index.len()).collect();
        names.sort_by_key(|&number| again.mention(number));
        let names: Vec<_> = names.into_iter().map(|number| index.package(number).name).collect();
        assert_eq!(names, ["m", "w", "z", "y", "x", "n", "v"]);
    }

    fn kept(index: &Index) -> Vec<u8> {
        index.as_cache().concat()
    }

    #[test]
    fn the_cached_form_comes_back_and_damage_is_noticed() {
        let bytes = kept(&sample());
        let again = Index::from_cache(Box::new(bytes.clone())).expect("just written");
        for number in 0..3 {
            assert_eq!(again.package(number), sample().package(number));
        }
        assert!(!again.is_damaged());
        assert!(Index::from_cache(Box::new(bytes[..bytes.len() - 1].to_vec())).is_err());
        assert!(Index::from_cache(Box::new(b"something else entirely, and longer".to_vec())).is_err());
    }

    #[test]
    fn no_byte_of_a_cache_can_be_changed_so_that_it_panics() {
        let bytes = kept(&sample());
        for at in 0..bytes.len() {
            for value in [0, 0x1e, 0x1f, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let Ok(index) = Index::from_cache(Box::new(changed)) else { continue };
                for name in ["a", "b", "v", "x"] {
                    let numbers = index.named(name).chain(index.providing(name));
                    let sizes: Vec<u64> = numbers.map(|number| index.package(number).size_bytes).collect();
                    assert!(sizes.len() < 9);
                }
            }
        }
    }

    #[test]
    fn chunks_of_records_are_read_where_they_are_wanted() {
        let text: String = (0..100).map(|n| stanza(&format!("p{n:03}"), "1", "")).collect();
        let whole = Index::from_packages(&text).expect("well formed");
        let index = Index::from_cache(Box::new(kept(&whole))).expect("just written");
        for number in [99, 0, 31, 32, 64, 95] {
            assert_eq!(index.package(number), whole.package(number), "{number}");
        }
    }

    #[test]
    fn a_stanza_without_hash_is_an_error_that_counts() {
        let text = stanza("a", "1", "") + "Package: b\nVersion: 1\nSize: 3\nFilename: x\n";
        let error = Index::from_packages(&text).err();
        assert_eq!(error, Some(IndexError::MissingField { stanza: 2, field: "SHA256" }));
    }

    #[test]
    fn what_no_archive_writes_is_refused_with_its_stanza() {
        let good = stanza("a", "1", "");
        let check = |from: &str, to: &str, field: &str| {
            let text = good.clone() + &good.replacen(from, to, 1);
            let error = Index::from_packages(&text).expect_err(to).to_string();
            assert!(error.contains("stanza 2") && error.contains(&format!("`{field}`")), "{to}: {error}");
        };
        check("pool/main/a", "pool/../../etc", "Filename");
        check("pool/main/a", "/etc", "Filename");
        check("pool/main/a", "pool//a", "Filename");
        check("pool/main/a", "pool/a?b=/a", "Filename");
        check("Package: a", "Package: a/../b", "Package");
        check("Package: a", "Package: a b", "Package");
        check("Version: 1", "Version: 1 $(id)", "Version");
        check("Size: 12", "Size: -1", "Size");
        check("Size: 12", "Size: 99999999999999999999", "Size");
        check("SHA256: 0", "SHA256: g", "SHA256");
        check("Architecture: amd64", "Architecture: a\u{1f}b", "Package");
    }

    #[test]
    fn a_field_may_be_as_long_as_the_file() {
        let depends = (0..200_000).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ");
        let text = stanza("a", "1", &format!("Depends: {depends}\n")) + &stanza("b", "1", "");
        let index = Index::from_packages(&text).expect("well formed");
        let again = Index::from_cache(Box::new(kept(&index))).expect("just written");
        assert_eq!(again.package(0).depends.len(), depends.len());
        assert_eq!(again.package(1).name, "b");
    }
}
