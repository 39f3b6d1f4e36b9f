//! An archive's package index, ready to be asked.
//!
//! Made once from the text of a `Packages` file, in parallel, and kept as one run
//! of bytes that can be written to a cache and taken back without parsing:
//!
//! ```text
//! header | offset of each record, sorted by name, newest first | provides, sorted by name | text
//! record: name ␟ version ␟ architecture ␟ depends ␟ … ␞
//! ```
//!
//! A record is cut into fields only when it is looked at: a resolution looks at a
//! few hundred of 63,440.

use super::control::{fields, split_into_pieces, stanzas};
use super::version::{compare_versions, without_epoch};
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"ampidx02";
const HEADER_BYTES: usize = 8 + 3 * 4;
const PROVIDE_WORDS: usize = 3;
const FIELD_END: u8 = 0x1f;
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
    /// The cached form is of another version or cut short.
    #[error("the cached package index is not usable: {0}")]
    BadCache(&'static str),
    /// Offsets are 32 bits wide.
    #[error("the package index is larger than 4 GiB")]
    TooLarge,
}

/// One archive suite's packages of one architecture.
pub struct Index {
    bytes: Vec<u8>,
    records: Range<usize>,
    provides: Range<usize>,
    text: Range<usize>,
}

/// One binary package of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

struct Piece {
    text: Vec<u8>,
    starts: Vec<u32>,
}

impl Index {
    /// Scans the text of a `Packages` file on all cores.
    ///
    /// # Errors
    /// A stanza without name, version, file name, size or SHA-256.
    pub fn from_packages(text: &str) -> Result<Self, IndexError> {
        let pieces = split_into_pieces(text, 4 * rayon::current_num_threads());
        let pieces: Vec<Result<Piece, (usize, &'static str)>> =
            pieces.into_par_iter().map(scan_piece).collect();
        let mut stanzas_before = 0;
        let mut whole = Vec::with_capacity(text.len() / 3);
        let mut starts = Vec::new();
        for piece in pieces {
            let piece = piece
                .map_err(|(at, field)| IndexError::MissingField { stanza: stanzas_before + at + 1, field })?;
            stanzas_before += piece.starts.len();
            let base = u32::try_from(whole.len()).map_err(|_| IndexError::TooLarge)?;
            starts.extend(piece.starts.iter().map(|start| base + start));
            whole.extend_from_slice(&piece.text);
        }
        u32::try_from(whole.len()).map_err(|_| IndexError::TooLarge)?;
        Ok(Self::assemble(&whole, starts))
    }

    fn assemble(text: &[u8], mut starts: Vec<u32>) -> Self {
        starts.par_sort_unstable_by(|&left, &right| order_of_records(text, left as usize, right as usize));
        let mut provides: Vec<(u32, u32, u32)> = starts
            .par_iter()
            .enumerate()
            .flat_map_iter(|(number, &start)| provided_names(text, start as usize, number as u32))
            .collect();
        let name = |entry: &(u32, u32, u32)| &text[entry.0 as usize..][..entry.1 as usize];
        provides.par_sort_unstable_by(|left, right| name(left).cmp(name(right)).then(left.cmp(right)));

        let mut bytes =
            Vec::with_capacity(HEADER_BYTES + 4 * starts.len() + 12 * provides.len() + text.len());
        bytes.extend_from_slice(MAGIC);
        for count in [starts.len(), provides.len(), text.len()] {
            bytes.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for start in &starts {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        for (offset, length, record) in &provides {
            for word in [offset, length, record] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes.extend_from_slice(text);
        Self::from_cache(bytes).expect("the writer and the reader of the cached form agree")
    }

    /// Takes back what [`Index::as_cache`] gave.
    ///
    /// # Errors
    /// [`IndexError::BadCache`] if the bytes are of another version or cut short.
    pub fn from_cache(bytes: Vec<u8>) -> Result<Self, IndexError> {
        if bytes.get(..8) != Some(MAGIC) || bytes.len() < HEADER_BYTES {
            return Err(IndexError::BadCache("it was written by another version"));
        }
        let [records, provides, text] = [0, 1, 2].map(|i| word_at(&bytes[8..], i) as usize);
        let records = HEADER_BYTES..HEADER_BYTES + 4 * records;
        let provides = records.end..records.end + 4 * PROVIDE_WORDS * provides;
        let text = provides.end..provides.end + text;
        if text.end != bytes.len() {
            return Err(IndexError::BadCache("it is cut short"));
        }
        Ok(Self { bytes, records, provides, text })
    }

    /// The bytes to keep in a cache.
    pub fn as_cache(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of packages.
    pub fn len(&self) -> usize {
        self.records.len() / 4
    }

    /// Whether there is no package.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Record `number`, in the order of names. None if the cache is damaged there.
    pub fn package(&self, number: usize) -> Option<Package<'_>> {
        let mut values = [""; FIELD_COUNT + 1];
        let mut rest = self.record_text(number)?;
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
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Names of all packages, each once per version.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|number| std::str::from_utf8(self.name_at(number)).ok())
    }

    fn record_text(&self, number: usize) -> Option<&[u8]> {
        if number >= self.len() {
            return None;
        }
        let start = word_at(&self.bytes[self.records.clone()], number) as usize;
        self.bytes[self.text.clone()].get(start..)
    }

    fn name_at(&self, number: usize) -> &[u8] {
        first_field(self.record_text(number).unwrap_or_default())
    }

    fn provided(&self, i: usize) -> (&[u8], usize) {
        let words = &self.bytes[self.provides.clone()];
        let [offset, length, record] = [0, 1, 2].map(|k| word_at(words, PROVIDE_WORDS * i + k) as usize);
        let name = self.bytes[self.text.clone()].get(offset..offset + length);
        (name.unwrap_or_default(), record)
    }
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

fn scan_piece(piece: &str) -> Result<Piece, (usize, &'static str)> {
    let mut text = Vec::with_capacity(piece.len() / 3);
    let mut starts = Vec::new();
    for (number, stanza) in stanzas(piece).enumerate() {
        let (stanza, filename) = Stanza::read(stanza);
        for (slot, field) in [(NAME, "Package"), (VERSION, "Version"), (SIZE, "Size"), (SHA256, "SHA256")] {
            if stanza.values[slot].is_empty() {
                return Err((number, field));
            }
        }
        if filename.is_empty() {
            return Err((number, "Filename"));
        }
        starts.push(text.len() as u32);
        write_record(&mut text, &stanza, filename);
    }
    Ok(Piece { text, starts })
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
    text.extend_from_slice(&[FIELD_END, b'\n']);
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

fn provided_names(text: &[u8], start: usize, record: u32) -> Vec<(u32, u32, u32)> {
    let mut offset = start;
    for _ in 0..PROVIDES {
        offset += first_field(&text[offset..]).len() + 1;
    }
    let field = first_field(&text[offset..]);
    let mut found = Vec::new();
    for item in field.split(|&byte| byte == b',') {
        let blanks = item.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let length =
            item[blanks..].iter().take_while(|&&byte| !byte.is_ascii_whitespace() && byte != b'(').count();
        if length > 0 {
            found.push(((offset + blanks) as u32, length as u32, record));
        }
        offset += item.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, version: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}\
             Filename: pool/main/{0}/{name}/{name}_{version}_amd64.deb\nSize: 12\nSHA256: 00\n\n",
            &name[..1]
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
        let versions: Vec<_> = index.named("b").map(|i| index.package(i).expect("whole").version).collect();
        assert_eq!(versions, ["10", "1"]);
        let providers = |name| -> Vec<_> {
            index.providing(name).into_iter().map(|i| index.package(i).expect("whole").name).collect()
        };
        assert_eq!((providers("v"), providers("x"), providers("u")), (vec!["a", "b"], vec!["b"], vec![]));
        assert!(index.named("c").is_empty());
    }

    #[test]
    fn fields_are_read_as_written() {
        let index = sample();
        let a = index.package(0).expect("whole");
        assert_eq!((a.source_name(), a.source_version(), a.conflicts), ("aa", "3", ", c"));
        let b = index.package(1).expect("whole");
        assert_eq!((b.is_essential, b.conflicts, b.size_bytes), (true, "c, d", 12));
        assert_eq!(b.path(), "pool/main/b/b/b_10_amd64.deb");
        assert_eq!((b.source_name(), b.source_version()), ("b", "10"));
    }

    #[test]
    fn the_cached_form_comes_back_and_damage_is_noticed() {
        let bytes = sample().as_cache().to_vec();
        let again = Index::from_cache(bytes.clone()).expect("just written");
        assert_eq!(again.package(2), sample().package(2));
        assert!(Index::from_cache(bytes[..bytes.len() - 1].to_vec()).is_err());
        assert!(Index::from_cache(b"something else entirely".to_vec()).is_err());
    }

    #[test]
    fn a_stanza_without_hash_is_an_error_that_counts() {
        let text = stanza("a", "1", "") + "Package: b\nVersion: 1\nSize: 3\nFilename: x\n";
        let error = Index::from_packages(&text).err();
        assert_eq!(error, Some(IndexError::MissingField { stanza: 2, field: "SHA256" }));
    }
}
