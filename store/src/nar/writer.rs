//! Writes NARs.

use std::io::{self, Write};

use super::{MAGIC, MAX_DEPTH, name_problem, padding_len, target_problem};

/// Writes one NAR, piece by piece, into `W`.
///
/// Calls follow the tree: a node is [`Self::begin_directory`] … [`Self::end_directory`] with
/// [`Self::entry`] before each node inside, or [`Self::file`], or [`Self::begin_file`] with its
/// contents and [`Self::end_file`], or [`Self::symlink`]. Calls out of place, unsorted names and
/// names that no file can have are errors of kind `InvalidInput`. Writes are small: give it
/// something buffered, or a hasher.
pub struct Writer<W> {
    to: W,
    scratch: Vec<u8>,
    /// Last name in each open directory.
    names: Vec<Option<Vec<u8>>>,
    expects: Expects,
    file_left: u64,
    file_padding: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expects {
    Node,
    EntryOrEnd,
    Contents,
    Nothing,
}

fn misuse<T>(problem: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem.into()))
}

impl<W: Write> Writer<W> {
    /// Writes the magic string.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(to: W) -> io::Result<Self> {
        let mut w = Self {
            to,
            scratch: Vec::with_capacity(256),
            names: Vec::new(),
            expects: Expects::Node,
            file_left: 0,
            file_padding: 0,
        };
        w.strings(&[MAGIC])?;
        Ok(w)
    }

    fn strings(&mut self, strings: &[&[u8]]) -> io::Result<()> {
        self.scratch.clear();
        for string in strings {
            self.scratch.extend_from_slice(&(string.len() as u64).to_le_bytes());
            self.scratch.extend_from_slice(string);
            self.scratch.extend_from_slice(&[0; 8][..padding_len(string.len() as u64)]);
        }
        self.to.write_all(&self.scratch)
    }

    fn expect(&mut self, expected: Expects) -> io::Result<()> {
        if self.expects == expected {
            Ok(())
        } else {
            misuse(format!("NAR writer expects {:?}", self.expects))
        }
    }

    fn end_node(&mut self) -> io::Result<()> {
        self.expects = if self.names.is_empty() {
            Expects::Nothing
        } else {
            self.strings(&[b")"])?;
            Expects::EntryOrEnd
        };
        Ok(())
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// Those of the stream, and misuse.
    pub fn begin_directory(&mut self) -> io::Result<()> {
        self.expect(Expects::Node)?;
        if self.names.len() >= MAX_DEPTH {
            return misuse(format!("more than {MAX_DEPTH} directories in one another"));
        }
        self.names.push(None);
        self.expects = Expects::EntryOrEnd;
        self.strings(&[b"(", b"type", b"directory"])
    }

    /// Names the next node of the open directory.
    ///
    /// # Errors
    /// Those of the stream, and misuse; names must grow.
    pub fn entry(&mut self, name: &[u8]) -> io::Result<()> {
        self.expect(Expects::EntryOrEnd)?;
        if let Some(problem) = name_problem(name) {
            return misuse(problem);
        }
        match self.names.last_mut() {
            Some(Some(last)) if last.as_slice() >= name => return misuse("names are not sorted"),
            Some(Some(last)) => {
                last.clear();
                last.extend_from_slice(name);
            }
            Some(last) => *last = Some(name.to_vec()),
            None => return misuse("no open directory"),
        }
        self.expects = Expects::Node;
        self.strings(&[b"entry", b"(", b"name", name, b"node"])
    }

    /// Closes the open directory.
    ///
    /// # Errors
    /// Those of the stream, and misuse.
    pub fn end_directory(&mut self) -> io::Result<()> {
        self.expect(Expects::EntryOrEnd)?;
        self.names.pop();
        self.strings(&[b")"])?;
        self.end_node()
    }

    /// Writes a symbolic link.
    ///
    /// # Errors
    /// Those of the stream, and misuse.
    pub fn symlink(&mut self, target: &[u8]) -> io::Result<()> {
        self.expect(Expects::Node)?;
        if let Some(problem) = target_problem(target) {
            return misuse(problem);
        }
        self.strings(&[b"(", b"type", b"symlink", b"target", target, b")"])?;
        self.end_node()
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// Those of the stream, and misuse.
    pub fn file(&mut self, executable: bool, contents: &[u8]) -> io::Result<()> {
        self.begin_file(executable, contents.len() as u64)?;
        self.contents(contents)?;
        self.end_file()
    }

    /// Begins a file of exactly `size_bytes`.
    ///
    /// # Errors
    /// Those of the stream, and misuse.
    pub fn begin_file(&mut self, executable: bool, size_bytes: u64) -> io::Result<()> {
        self.expect(Expects::Node)?;
        self.expects = Expects::Contents;
        self.file_left = size_bytes;
        self.file_padding = padding_len(size_bytes);
        if executable {
            self.strings(&[b"(", b"type", b"regular", b"executable", b"", b"contents"])?;
        } else {
            self.strings(&[b"(", b"type", b"regular", b"contents"])?;
        }
        self.to.write_all(&size_bytes.to_le_bytes())
    }

    /// Writes a part of the file's contents.
    ///
    /// # Errors
    /// Those of the stream, and misuse; more than announced.
    pub fn contents(&mut self, part: &[u8]) -> io::Result<()> {
        self.expect(Expects::Contents)?;
        match self.file_left.checked_sub(part.len() as u64) {
            Some(left) => self.file_left = left,
            None => return misuse("file grew while it was read"),
        }
        self.to.write_all(part)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the stream, and misuse; less than announced.
    pub fn end_file(&mut self) -> io::Result<()> {
        self.expect(Expects::Contents)?;
        if self.file_left > 0 {
            return misuse("file shrank while it was read");
        }
        self.to.write_all(&[0; 8][..self.file_padding])?;
        self.strings(&[b")"])?;
        self.end_node()
    }

    /// Returns the stream, if the NAR is whole.
    ///
    /// # Errors
    /// Misuse: something is open.
    pub fn finish(self) -> io::Result<W> {
        if self.expects == Expects::Nothing { Ok(self.to) } else { misuse("NAR is not finished") }
    }

    /// Returns what it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.to
    }
}
