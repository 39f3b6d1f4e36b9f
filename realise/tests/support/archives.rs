//! Archives made byte by byte, so that tests can make those that no tool would.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::Write;

/// A tar stream being written.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A tar header whose fields can be anything.
#[derive(Clone)]
pub struct Header {
    pub block: [u8; 512],
}

impl Header {
    pub fn new(name: &str, kind: u8, size: u64) -> Self {
        let mut header = Self { block: [0; 512] };
        header.set(0, name.as_bytes());
        header.set(100, b"0000644\0");
        header.set(108, b"0001750\0");
        header.set(116, b"0001750\0");
        header.set(124, format!("{size:011o}\0").as_bytes());
        header.set(136, b"14371573321\0");
        header.block[156] = kind;
        header.set(257, b"ustar\x0000");
        header
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.set(100, format!("{mode:07o}\0").as_bytes());
        self
    }

    pub fn link(mut self, target: &str) -> Self {
        self.set(157, target.as_bytes());
        self
    }

    pub fn summed(mut self) -> [u8; 512] {
        self.set(148, b"        ");
        let sum: u32 = self.block.iter().map(|b| u32::from(*b)).sum();
        self.set(148, format!("{sum:06o}\0 ").as_bytes());
        self.block
    }
}

impl Tar {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn header(self, header: Header) -> Self {
        self.raw(&header.summed())
    }

    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.header(Header::new(name, b'0', data.len() as u64)).data(data.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.header(Header::new(name, b'5', 0).mode(0o755))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'2', 0).link(target))
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'1', 0).link(target))
    }

    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let data: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
        self.pax_raw(data.as_bytes())
    }

    pub fn pax_raw(self, data: &[u8]) -> Self {
        self.header(Header::new("PaxHeaders/x", b'x', data.len() as u64)).data(data)
    }

    /// Ends the archive.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    format!("{len} {key}={value}\n")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

pub fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(1).expect("a preset of LZMA");
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).expect("an encoder of LZMA");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory does not fail")
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// A zip file being written.
#[derive(Default)]
pub struct Zip {
    pub data: Vec<u8>,
    pub directory: Vec<u8>,
    pub entries: u16,
}

impl Zip {
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name, name, 0o100_644, data, data.len() as u32)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, name, 0o120_777, target.as_bytes(), target.len() as u32)
    }

    /// An entry whose local header may have another name, and another size, than the directory.
    pub fn entry(mut self, name: &str, local_name: &str, mode: u32, data: &[u8], local_size: u32) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let offset = self.data.len() as u32;
        let common = |size: u32, name: &str| {
            let mut bytes = Vec::new();
            bytes.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
            bytes.extend(crc.sum().to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(0u16.to_le_bytes());
            bytes
        };
        self.data.extend(b"PK\x03\x04");
        self.data.extend(common(local_size, local_name));
        self.data.extend(local_name.as_bytes());
        self.data.extend(data);
        self.directory.extend(b"PK\x01\x02\x14\x03");
        self.directory.extend(common(data.len() as u32, name));
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
        self
    }

    pub fn end(self) -> Vec<u8> {
        let mut bytes = self.data;
        let offset = bytes.len() as u32;
        bytes.extend(&self.directory);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend((self.directory.len() as u32).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }
}

/// An entry of a zip file whose headers can say anything.
#[derive(Clone)]
pub struct Member<'a> {
    pub name: &'a [u8],
    /// As it lies in the archive.
    pub packed: Vec<u8>,
    /// What it unpacks to.
    pub plain: &'a [u8],
    pub method: u16,
    pub flags: u16,
    /// Which system wrote it: 3 is Unix, 0 is DOS.
    pub host: u8,
    pub mode: u32,
    /// Size, packed size and checksum in the entry's own header, where they are not the directory's.
    pub local: Option<(u32, u32, u32)>,
    /// The extra field of the entry's own header.
    pub extra: Vec<u8>,
}

impl<'a> Member<'a> {
    pub fn stored(name: &'a str, plain: &'a [u8]) -> Self {
        let (name, packed) = (name.as_bytes(), plain.to_vec());
        Self {
            name,
            packed,
            plain,
            method: 0,
            flags: 0,
            host: 3,
            mode: 0o100_644,
            local: None,
            extra: Vec::new(),
        }
    }
}

impl Zip {
    pub fn member(mut self, member: &Member<'_>) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(member.plain);
        let real = (member.plain.len() as u32, member.packed.len() as u32, crc.sum());
        let offset = self.data.len() as u32;
        let common = |(size, packed, crc): (u32, u32, u32), extra: usize| {
            let mut bytes = vec![20, 0];
            bytes.extend(member.flags.to_le_bytes());
            bytes.extend(member.method.to_le_bytes());
            bytes.extend([0, 0, 0x21, 0]);
            bytes.extend([crc, packed, size].into_iter().flat_map(u32::to_le_bytes));
            bytes.extend((member.name.len() as u16).to_le_bytes());
            bytes.extend((extra as u16).to_le_bytes());
            bytes
        };
        self.data.extend(b"PK\x03\x04");
        self.data.extend(common(member.local.unwrap_or(real), member.extra.len()));
        self.data.extend(member.name);
        self.data.extend(&member.extra);
        self.data.extend(&member.packed);
        self.directory.extend([b'P', b'K', 1, 2, 20, member.host]);
        self.directory.extend(common(real, 0));
        self.directory.extend([0; 6]);
        self.directory.extend((member.mode << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(member.name);
        self.entries += 1;
        self
    }
}

/// An ar file of these members.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, data) in members {
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).as_bytes(),
        );
        bytes.extend(*data);
        if data.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// A Debian package with this control file, maintainer scripts and data.
pub fn deb(control: &str, scripts: &[(&str, &str)], data: Tar) -> Vec<u8> {
    let mut members = Tar::default().dir("./").file("./control", control);
    for (name, text) in scripts {
        members = members
            .header(Header::new(&format!("./{name}"), b'0', text.len() as u64).mode(0o755))
            .data(text.as_bytes());
    }
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", &gzip(&members.end())),
        ("data.tar.xz", &xz(&data.end())),
    ])
}
