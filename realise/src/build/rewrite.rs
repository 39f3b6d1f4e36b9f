//! Replaces texts by others of the same length in a stream: placeholders before a build, temporary
//! store paths after it.

use std::io::{self, Write};

/// Replaces every `from` by its `to` in `text`. Longer ones are not preferred: none contains another.
pub(crate) fn replace_all(text: &[u8], pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    'next: while at < text.len() {
        for (from, to) in pairs {
            if !from.is_empty() && text[at..].starts_with(from) {
                out.extend_from_slice(to);
                at += from.len();
                continue 'next;
            }
        }
        out.push(text[at]);
        at += 1;
    }
    out
}

/// A text, and another of the same length.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// A writer that passes everything on with hash parts replaced.
pub(crate) struct Rewriter<W> {
    to: W,
    /// Each of two texts of one length.
    pairs: Vec<Pair>,
    longest: usize,
    /// The end of what came, which may be the beginning of a match.
    held: Vec<u8>,
}

impl<W: Write> Rewriter<W> {
    pub(crate) fn new(to: W, pairs: Vec<Pair>) -> Self {
        debug_assert!(pairs.iter().all(|(from, to)| from.len() == to.len() && !from.is_empty()));
        let longest = pairs.iter().map(|(from, _)| from.len()).max().unwrap_or(1);
        Self { to, pairs, longest, held: Vec::new() }
    }

    /// Passes the last bytes on.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&self.held)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Rewriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut data = std::mem::take(&mut self.held);
        data.extend_from_slice(bytes);
        for (from, to) in &self.pairs {
            let mut at = 0;
            while let Some(found) = memchr::memmem::find(&data[at..], from) {
                at += found;
                data[at..at + to.len()].copy_from_slice(to);
                at += to.len();
            }
        }
        let keep = data.len().min(self.longest - 1);
        let pass = data.len() - keep;
        self.to.write_all(&data[..pass])?;
        self.held = data.split_off(pass);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_everywhere() {
        let pairs = vec![(b"/aa".to_vec(), b"/nix/store/x".to_vec()), (b"bb".to_vec(), b"c".to_vec())];
        assert_eq!(replace_all(b"-L/aa/lib:bb/aa", &pairs), b"-L/nix/store/x/lib:c/nix/store/x");
        assert_eq!(replace_all(b"", &pairs), b"");
    }

    #[test]
    fn matches_are_found_however_the_stream_is_cut() {
        let (from, to) = ([b'a'; 32], [b'z'; 32]);
        let text = [b"1234".as_slice(), &from, b"56", &from, b"7"].concat();
        let expected = [b"1234".as_slice(), &to, b"56", &to, b"7"].concat();
        for size in 1..text.len() {
            let mut rewriter = Rewriter::new(Vec::new(), vec![(from.to_vec(), to.to_vec())]);
            for piece in text.chunks(size) {
                rewriter.write_all(piece).expect("a vector takes everything");
            }
            let out = rewriter.finish().expect("a vector takes everything");
            assert_eq!(out, expected, "in pieces of {size}");
        }
    }
}
