//! Reading ar, as far as Debian packages use it.
//!
//! ```text
//! !<arch>\n · debian-binary · control.tar.xz · data.tar.xz
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};

use super::error::UnpackError;

/// One member's place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name, without padding.
    pub name: String,
    offset: u64,
    /// How long it is.
    pub size_bytes: u64,
}

/// The members of an ar file.
#[derive(Debug)]
pub struct Archive {
    file: File,
    members: Vec<Member>,
}

/// A Debian package has three members; more than a handful is none.
const MAX_MEMBERS: usize = 64;

impl Archive {
    /// Reads the list of members.
    ///
    /// # Errors
    /// When it is not ar, or a member goes beyond the end.
    pub fn open(mut file: File) -> Result<Self, UnpackError> {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if magic != *b"!<arch>\n" {
            return Err(UnpackError::archive("not a Debian package: the ar signature is missing"));
        }
        let mut members: Vec<Member> = Vec::new();
        let mut at = 8;
        while at < end {
            if members.len() == MAX_MEMBERS {
                return Err(UnpackError::archive(format!("an ar file of more than {MAX_MEMBERS} members")));
            }
            file.seek(SeekFrom::Start(at))?;
            let mut header = [0; 60];
            file.read_exact(&mut header)?;
            let member = parse_header(&header, at + 60)?;
            let next = member.offset.saturating_add(member.size_bytes);
            if next > end {
                return Err(UnpackError::entry(member.name.as_bytes(), "goes beyond the end of the archive"));
            }
            if members.iter().any(|m| m.name == member.name) {
                return Err(UnpackError::entry(member.name.as_bytes(), "is there twice"));
            }
            members.push(member);
            at = next + next % 2;
        }
        Ok(Self { file, members })
    }

    /// Returns the member whose name is `stem` or starts with `stem.`.
    ///
    /// # Errors
    /// When there are two: some would read the first, and some the last.
    pub fn find(&self, stem: &str) -> Result<Option<&Member>, UnpackError> {
        let is_it = |name: &str| name.strip_prefix(stem).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        let mut found = self.members.iter().filter(|m| is_it(&m.name));
        match (found.next(), found.next()) {
            (first, None) => Ok(first),
            (_, Some(second)) => {
                Err(UnpackError::entry(second.name.as_bytes(), format!("`{stem}` is there twice")))
            }
        }
    }

    /// Returns the first member's name.
    pub fn first(&self) -> Option<&str> {
        self.members.first().map(|m| m.name.as_str())
    }

    /// Reads a member.
    ///
    /// # Errors
    /// Those of the file.
    pub fn read(&self, member: &Member) -> Result<Take<File>, UnpackError> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(member.offset))?;
        Ok(file.take(member.size_bytes))
    }
}

fn parse_header(header: &[u8; 60], offset: u64) -> Result<Member, UnpackError> {
    let bad = || UnpackError::archive("a damaged ar header");
    if header[58..] != *b"`\n" {
        return Err(bad());
    }
    let field = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim_end);
    let name = field(0..16).map_err(|_| bad())?.trim_end_matches('/').to_owned();
    let size = field(48..58).map_err(|_| bad())?;
    if name.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    Ok(Member { name, offset, size_bytes: size.parse().map_err(|_| bad())? })
}
