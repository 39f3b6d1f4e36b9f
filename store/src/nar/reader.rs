//! Reads NARs.

use std::io::{self, Read};

use super::{
    MAGIC, MAX_DEPTH, MAX_NAME_LEN, MAX_TARGET_LEN, NarError, name_problem, padding_len, target_problem,
};

/// One step through a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A directory begins.
    BeginDirectory,
    /// The next node is this entry of the open directory. Names grow.
    Entry(Vec<u8>),
    /// The open directory ends.
    EndDirectory,
    /// A regular file; its contents are read through the reader's [`Read`].
    File {
        /// Its one bit of mode.
        executable: bool,
        /// How many bytes follow. An announcement: allocate nothing by it.
        size_bytes: u64,
    },
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// The tree is whole. Nothing after it has been read from the stream.
    End,
}

/// Reads one NAR from `R`, event by event.
///
/// Not recursive; what it keeps is the last name of each open directory. Reads are small: give it
/// something buffered. While an [`Event::File`] is current, [`Read`] gives its contents.
pub struct Reader<R> {
    from: R,
    at: u64,
    names: Vec<Option<Vec<u8>>>,
    state: State,
    contents_left: u64,
    contents_padding: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Node,
    Contents,
    EntryOrEnd,
    Done,
}

/// Longest string of the format's own words.
const MAX_WORD_LEN: usize = 16;

impl<R: Read> Reader<R> {
    /// Reads the magic string.
    ///
    /// # Errors
    /// [`NarError`].
    pub fn new(from: R) -> Result<Self, NarError> {
        let mut r = Self {
            from,
            at: 0,
            names: Vec::new(),
            state: State::Node,
            contents_left: 0,
            contents_padding: 0,
        };
        let magic = r.string(MAX_WORD_LEN, "magic string");
        match magic {
            Ok(magic) if magic == MAGIC => Ok(r),
            Ok(_) => r.bad("not a NAR: wrong magic string"),
            Err(NarError::Bad { .. }) => r.bad("not a NAR: wrong magic string"),
            Err(error) => Err(error),
        }
    }

    /// Returns the next step.
    ///
    /// # Errors
    /// [`NarError`]; after one, the reader is of no use.
    pub fn next_event(&mut self) -> Result<Event, NarError> {
        match self.state {
            State::Node => self.node(),
            State::Contents => {
                self.skip_contents()?;
                self.entry_or_end()
            }
            State::EntryOrEnd => self.entry_or_end(),
            State::Done => Ok(Event::End),
        }
    }

    /// Returns how many bytes of the stream have been read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Returns the stream.
    pub fn into_inner(self) -> R {
        self.from
    }

    fn bad<T>(&self, problem: impl Into<String>) -> Result<T, NarError> {
        Err(NarError::Bad { at: self.at, problem: problem.into() })
    }

    fn exact(&mut self, buf: &mut [u8]) -> Result<(), NarError> {
        match self.from.read_exact(buf) {
            Ok(()) => {
                self.at += buf.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(NarError::Truncated { at: self.at }),
            Err(e) => Err(e.into()),
        }
    }

    fn number(&mut self) -> Result<u64, NarError> {
        let mut buf = [0; 8];
        self.exact(&mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    fn padding(&mut self, len: usize) -> Result<(), NarError> {
        let mut buf = [0; 8];
        self.exact(&mut buf[..len])?;
        if buf == [0; 8] { Ok(()) } else { self.bad("padding is not zero") }
    }

    fn string(&mut self, max_len: usize, what: &str) -> Result<Vec<u8>, NarError> {
        let len = self.number()?;
        if len > max_len as u64 {
            return self.bad(format!("{what} of {len} bytes, more than {max_len}"));
        }
        let mut buf = vec![0; len as usize];
        self.exact(&mut buf)?;
        self.padding(padding_len(len))?;
        Ok(buf)
    }

    /// Reads one of the format's own words without allocating.
    fn word<'b>(&mut self, buf: &'b mut [u8; MAX_WORD_LEN]) -> Result<&'b [u8], NarError> {
        let len = self.number()?;
        if len > MAX_WORD_LEN as u64 {
            return self.bad(format!("tag of {len} bytes"));
        }
        let len = len as usize;
        self.exact(&mut buf[..len])?;
        self.padding(padding_len(len as u64))?;
        Ok(&buf[..len])
    }

    fn expect(&mut self, expected: &str) -> Result<(), NarError> {
        let mut buf = [0; MAX_WORD_LEN];
        let found = self.word(&mut buf)?;
        if found == expected.as_bytes() {
            return Ok(());
        }
        let found = String::from_utf8_lossy(found).escape_default().to_string();
        self.bad(format!("expected tag '{expected}', found '{found}'"))
    }

    fn node(&mut self) -> Result<Event, NarError> {
        self.expect("(")?;
        self.expect("type")?;
        let mut buf = [0; MAX_WORD_LEN];
        match self.word(&mut buf)? {
            b"directory" => {
                if self.names.len() >= MAX_DEPTH {
                    return self.bad(format!("more than {MAX_DEPTH} directories in one another"));
                }
                self.names.push(None);
                self.state = State::EntryOrEnd;
                Ok(Event::BeginDirectory)
            }
            b"symlink" => self.symlink(),
            b"regular" => self.file(),
            other => {
                let other = String::from_utf8_lossy(other).escape_default().to_string();
                self.bad(format!("unknown file type '{other}'"))
            }
        }
    }

    fn symlink(&mut self) -> Result<Event, NarError> {
        self.expect("target")?;
        let target = self.string(MAX_TARGET_LEN, "symlink target")?;
        if let Some(problem) = target_problem(&target) {
            return self.bad(problem);
        }
        self.expect(")")?;
        self.end_node()?;
        Ok(Event::Symlink(target))
    }

    fn file(&mut self) -> Result<Event, NarError> {
        let mut buf = [0; MAX_WORD_LEN];
        let executable = match self.word(&mut buf)? {
            b"contents" => false,
            b"executable" => {
                if !self.word(&mut buf)?.is_empty() {
                    return self.bad("executable marker has non-empty value");
                }
                self.expect("contents")?;
                true
            }
            other => {
                let other = String::from_utf8_lossy(other).escape_default().to_string();
                return self.bad(format!("expected tag 'contents', found '{other}'"));
            }
        };
        let size_bytes = self.number()?;
        // What no file system holds, and what would overflow with its padding.
        if size_bytes > i64::MAX as u64 {
            return self.bad(format!("file of {size_bytes} bytes"));
        }
        self.contents_left = size_bytes;
        self.contents_padding = padding_len(size_bytes);
        self.state = State::Contents;
        Ok(Event::File { executable, size_bytes })
    }

    fn skip_contents(&mut self) -> Result<(), NarError> {
        let left = self.contents_left;
        let skipped = io::copy(&mut (&mut self.from).take(left), &mut io::sink())?;
        self.at += skipped;
        if skipped != left {
            return Err(NarError::Truncated { at: self.at });
        }
        self.contents_left = 0;
        self.padding(self.contents_padding)?;
        self.expect(")")?;
        self.end_node()
    }

    /// After a node inside a directory, its entry must be closed.
    fn end_node(&mut self) -> Result<(), NarError> {
        if self.names.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.expect(")")?;
        self.state = State::EntryOrEnd;
        Ok(())
    }

    fn entry_or_end(&mut self) -> Result<Event, NarError> {
        if self.state == State::Done {
            return Ok(Event::End);
        }
        let mut buf = [0; MAX_WORD_LEN];
        match self.word(&mut buf)? {
            b")" => {
                self.names.pop();
                self.end_node()?;
                Ok(Event::EndDirectory)
            }
            b"entry" => self.entry(),
            other => {
                let other = String::from_utf8_lossy(other).escape_default().to_string();
                self.bad(format!("expected tag 'entry' or ')', found '{other}'"))
            }
        }
    }

    fn entry(&mut self) -> Result<Event, NarError> {
        self.expect("(")?;
        self.expect("name")?;
        let name = self.string(MAX_NAME_LEN, "name")?;
        if let Some(problem) = name_problem(&name) {
            return self.bad(problem);
        }
        let last = self.names.last_mut().expect("an entry is read in a directory only");
        if last.as_ref().is_some_and(|last| *last >= name) {
            return self.bad("NAR directory is not sorted");
        }
        *last = Some(name.clone());
        self.expect("node")?;
        self.state = State::Node;
        Ok(Event::Entry(name))
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads contents of the current file; 0 at their end.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.state != State::Contents || self.contents_left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let want = usize::try_from(self.contents_left).unwrap_or(usize::MAX).min(buf.len());
        let got = self.from.read(&mut buf[..want])?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, NarError::Truncated { at: self.at }));
        }
        self.at += got as u64;
        self.contents_left -= got as u64;
        Ok(got)
    }
}
