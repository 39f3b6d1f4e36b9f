//! NAR: a file tree as one stream of bytes, the same for the same tree.
//!
//! It has what a store object has and nothing else: directories with sorted names, regular files
//! with one executable bit, symbolic links. [`Writer`] and [`Reader`] stream; neither recurses, and
//! both refuse what is not canonical, so that a stream that is read has exactly one meaning.
//!
//! ```
//! use ampoule_store::nar::{Event, Reader, Writer};
//!
//! let mut w = Writer::new(Vec::new()).unwrap();
//! w.begin_directory().unwrap();
//! w.entry(b"hello").unwrap();
//! w.file(false, b"hello\n").unwrap();
//! w.end_directory().unwrap();
//! let bytes = w.finish().unwrap();
//!
//! let mut r = Reader::new(&bytes[..]).unwrap();
//! assert_eq!(r.next_event().unwrap(), Event::BeginDirectory);
//! assert_eq!(r.next_event().unwrap(), Event::Entry(b"hello".to_vec()));
//! assert_eq!(r.next_event().unwrap(), Event::File { executable: false, size_bytes: 6 });
//! assert_eq!(r.next_event().unwrap(), Event::EndDirectory); // contents that nobody read are skipped
//! assert_eq!(r.next_event().unwrap(), Event::End);
//! ```

mod reader;
mod writer;

pub use reader::{Event, Reader};
pub use writer::Writer;

/// First string of every NAR.
pub const MAGIC: &[u8] = b"nix-archive-1";
/// Longest name of a directory entry, in bytes: what Linux allows.
pub const MAX_NAME_LEN: usize = 255;
/// Longest target of a symbolic link, in bytes: what Linux allows.
pub const MAX_TARGET_LEN: usize = 4095;
/// How many directories may lie in one another. (Nix since 2.34.7 allows 64, which legal trees
/// exceed.)
pub const MAX_DEPTH: usize = 4096;

/// A stream that is not a NAR, or more than we take.
#[derive(Debug, thiserror::Error)]
pub enum NarError {
    /// The stream itself failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It ends too early.
    #[error("NAR ends at byte {at}, in the middle")]
    Truncated {
        /// Byte of the stream.
        at: u64,
    },
    /// It breaks the format.
    #[error("bad NAR at byte {at}: {problem}")]
    Bad {
        /// Byte of the stream.
        at: u64,
        /// In words.
        problem: String,
    },
}

/// Returns how many bytes fill up `len` to the next multiple of eight.
pub(crate) const fn padding_len(len: u64) -> usize {
    (8 - (len % 8) as usize) % 8
}

/// Returns what is wrong with a name of a directory entry, if anything.
pub(crate) fn name_problem(name: &[u8]) -> Option<String> {
    let shown = || bstr::BStr::new(&name[..name.len().min(64)]).to_string().escape_default().to_string();
    match name {
        b"" => Some("empty name".to_owned()),
        b"." | b".." => Some(format!("name '{}'", shown())),
        _ if name.len() > MAX_NAME_LEN => {
            Some(format!("name of {} bytes, more than {MAX_NAME_LEN}", name.len()))
        }
        _ if name.contains(&b'/') || name.contains(&0) => {
            Some(format!("slash or zero byte in name '{}'", shown()))
        }
        _ => None,
    }
}

/// Returns what is wrong with the target of a symbolic link, if anything.
pub(crate) fn target_problem(target: &[u8]) -> Option<String> {
    match target {
        b"" => Some("empty symlink target".to_owned()),
        _ if target.len() > MAX_TARGET_LEN => {
            Some(format!("symlink target of {} bytes, more than {MAX_TARGET_LEN}", target.len()))
        }
        _ if target.contains(&0) => Some("zero byte in symlink target".to_owned()),
        _ => None,
    }
}
