//! A build's log: on disk compressed, in memory its last lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ampoule_store::StorePath;

use crate::events::safe_line;

/// Where logs lie: one file a derivation, the latest build's.
#[derive(Clone, Debug)]
pub struct LogDir(PathBuf);

impl LogDir {
    /// Logs in this directory; it is made when the first is written.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Returns where the log of `drv` lies, if there is one.
    #[must_use]
    pub fn path_of(&self, drv: &StorePath) -> PathBuf {
        self.0.join(&drv.as_str()[..2]).join(format!("{}.zst", &drv.as_str()[2..]))
    }

    /// Writes a log to `to` while it is being written, until `runs` says that nobody writes it any more.
    ///
    /// # Errors
    /// If there is none when nothing runs, and if `to` cannot be written.
    pub fn follow(&self, drv: &StorePath, runs: impl FnMut() -> bool, to: &mut dyn Write) -> io::Result<()> {
        let mut growing = Growing { file: None, path: self.path_of(drv), runs, ran: false };
        // Until something was printed, there is no file.
        if growing.open()?.is_none() {
            return Ok(());
        }
        let mut decoder = zstd::stream::read::Decoder::new(growing)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match decoder.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a whole log, as far as it is written.
    ///
    /// # Errors
    /// If there is none. One that is still being written ends where it ends.
    pub fn read(&self, drv: &StorePath, to: &mut dyn Write) -> io::Result<()> {
        let file = File::open(self.path_of(drv))?;
        let mut decoder = zstd::stream::read::Decoder::new(file)?;
        match io::copy(&mut decoder, &mut { to }) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            other => other.map(drop),
        }
    }
}

/// A file that grows: its end is its end only when nobody writes it any more.
struct Growing<F> {
    file: Option<File>,
    path: PathBuf,
    runs: F,
    /// Whether its writer was seen at work.
    ran: bool,
}

impl<F: FnMut() -> bool> Growing<F> {
    /// Waits for the file; nothing if its writer ended without one.
    fn open(&mut self) -> io::Result<Option<&mut File>> {
        while self.file.is_none() {
            let runs = (self.runs)();
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound && runs => {
                    std::thread::sleep(LOOK_EVERY)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.ran => return Ok(None),
                Err(error) => return Err(error),
            }
            self.ran |= runs;
        }
        Ok(self.file.as_mut())
    }
}

impl<F: FnMut() -> bool> Read for Growing<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let runs = (self.runs)();
            let file = self.file.as_mut().expect("opened before it is read");
            match file.read(buffer)? {
                0 if runs => std::thread::sleep(LOOK_EVERY),
                length => return Ok(length),
            }
        }
    }
}

/// Hears each line, safe to show.
pub(crate) type LineSink<'a> = Box<dyn FnMut(String) + Send + 'a>;

/// Takes what a build prints.
pub(crate) struct Logger<'a> {
    path: PathBuf,
    encoder: Option<zstd::stream::write::Encoder<'static, File>>,
    flushed: Instant,
    /// Whether something was written since.
    is_stale: bool,
    total_bytes: u64,
    line: Vec<u8>,
    tail: VecDeque<String>,
    tail_lines: usize,
    on_line: Option<LineSink<'a>>,
    failed: Option<io::Error>,
}

/// A line is cut here for what is shown; the file has it whole.
const LONGEST_LINE: usize = 8192;
/// How often one who follows a log looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How old the file on disk may be for one who follows it.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

impl<'a> Logger<'a> {
    /// Begins a log; that of an earlier build is gone, so that nobody takes it for this one's.
    pub(crate) fn new(path: PathBuf, tail_lines: usize, on_line: Option<LineSink<'a>>) -> Self {
        let failed = std::fs::remove_file(&path).err().filter(|e| e.kind() != io::ErrorKind::NotFound);
        Self {
            path,
            encoder: None,
            flushed: Instant::now(),
            is_stale: false,
            total_bytes: 0,
            line: Vec::new(),
            tail: VecDeque::new(),
            tail_lines,
            on_line,
            failed,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        if let Err(error) = self.write(bytes) {
            self.failed.get_or_insert(error);
        }
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.add(text);
            if ends {
                self.end_line();
            }
        }
    }

    /// Adds to the line that is shown; what is written over (`10 %\r20 %\r`) takes no room.
    fn add(&mut self, text: &[u8]) {
        let end = text.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let over = text[..end].iter().rposition(|byte| *byte == b'\r');
        if end > 0 && (over.is_some() || self.line.ends_with(b"\r")) {
            self.line.clear();
        }
        let text = &text[over.map_or(0, |at| at + 1)..];
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.line.extend(&text[..text.len().min(room)]);
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        if self.encoder.is_none() {
            self.encoder = Some(zstd::stream::write::Encoder::new(create(&self.path)?, 1)?);
        }
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        encoder.write_all(bytes)?;
        self.is_stale = true;
        self.flush_if_old()
    }

    /// Brings what was taken to the file, now and then: called also when nothing comes.
    pub(crate) fn look(&mut self) {
        if let Err(error) = self.flush_if_old() {
            self.failed.get_or_insert(error);
        }
    }

    fn flush_if_old(&mut self) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        if self.is_stale && self.flushed.elapsed() > FLUSH_EVERY {
            encoder.flush()?;
            self.is_stale = false;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let line = safe_line(&self.line);
        self.line.clear();
        if let Some(on_line) = &mut self.on_line {
            on_line(line.clone());
        }
        if self.tail.len() >= self.tail_lines {
            self.tail.pop_front();
        }
        if self.tail_lines > 0 {
            self.tail.push_back(line);
        }
    }

    /// How much came so far.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Ends the log: its last lines, and whether it could be written.
    pub(crate) fn finish(mut self) -> (Vec<String>, io::Result<()>) {
        if !self.line.is_empty() {
            self.end_line();
        }
        let ended = match (self.failed.take(), self.encoder.take()) {
            (Some(error), _) => Err(error),
            (None, Some(encoder)) => encoder.finish().map(drop),
            // A build that prints nothing has no log.
            (None, None) => Ok(()),
        };
        (std::mem::take(&mut self.tail).into(), ended)
    }
}

fn create(path: &Path) -> io::Result<File> {
    let create = || File::options().write(true).create_new(true).open(path);
    create().or_else(|_| {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        create()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(pieces: &[&[u8]], lines: usize) -> (Vec<String>, Vec<u8>) {
        let dir = tempfile::tempdir().expect("a directory");
        let logs = LogDir::new(dir.path().join("log"));
        let drv = StorePath::parse("00000000000000000000000000000000-x.drv").expect("valid");
        let mut logger = Logger::new(logs.path_of(&drv), lines, None);
        for piece in pieces {
            logger.take(piece);
        }
        let (tail, ended) = logger.finish();
        ended.expect("written");
        let mut whole = Vec::new();
        drop(logs.read(&drv, &mut whole));
        (tail, whole)
    }

    #[test]
    fn the_file_has_all_and_memory_the_end() {
        let (tail, whole) = log_of(&[b"one\ntw", b"o\nthree\nfo", b"ur"], 2);
        assert_eq!(tail, ["three", "four"]);
        assert_eq!(whole, b"one\ntwo\nthree\nfour");
    }

    /// Case 63: one line without end stays whole on disk and small in memory.
    #[test]
    fn a_line_without_end_is_cut_for_showing_only() {
        let part = vec![b'x'; 1 << 16];
        let pieces: Vec<&[u8]> = (0..16).map(|_| part.as_slice()).collect();
        let (tail, whole) = log_of(&pieces, 5);
        assert_eq!(whole.len(), 1 << 20);
        assert!(tail.len() == 1 && tail[0].len() < LONGEST_LINE);
    }

    #[test]
    fn of_a_line_that_is_written_over_the_end_is_shown() {
        let progress: Vec<u8> = (0..10_000).flat_map(|n| format!("{n} done\r").into_bytes()).collect();
        let (tail, whole) =
            log_of(&[b"begin\r\n", &progress[..5000], &progress[5000..], b"all ", b"done\r", b"\n"], 5);
        assert_eq!(tail, ["begin", "all done"]);
        assert_eq!(whole.len(), progress.len() + 17);
    }

    #[test]
    fn nothing_printed_leaves_no_file() {
        assert_eq!(log_of(&[], 5), (Vec::new(), Vec::new()));
    }
}
