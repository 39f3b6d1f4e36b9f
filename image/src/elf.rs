//! What an ELF file needs to run, read from its headers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, ReadCache, ReadRef};

use crate::error::{ImageError, Result};
use crate::oci::Platform;

/// An ELF file's needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfFacts {
    /// The machine, as a number of the ELF specification.
    pub machine: u16,
    /// Whether addresses have 64 bits.
    pub is_64: bool,
    /// Whether it is little-endian.
    pub is_little: bool,
    /// The program that loads it.
    pub interpreter: Option<Vec<u8>>,
    /// Libraries that it is linked with.
    pub needed: Vec<Vec<u8>>,
    /// Where they are looked for, inherited by what it loads (`DT_RPATH`).
    pub rpath: Vec<Vec<u8>>,
    /// Where they are looked for (`DT_RUNPATH`).
    pub runpath: Vec<Vec<u8>>,
    /// Libraries that it says it opens while running (`.note.dlopen`).
    pub dlopen: Vec<String>,
}

/// Reads the file at `path`; `None` if it is no ELF file that a kernel or loader
/// would take.
///
/// # Errors
/// [`ImageError::Io`] if it cannot be read.
pub fn read(path: &Path) -> Result<Option<ElfFacts>> {
    let file = std::fs::File::open(path).map_err(|e| ImageError::io("read", path, e))?;
    let data = ReadCache::new(file);
    let Ok(ident) = data.read_bytes_at(0, 20) else { return Ok(None) };
    if ident[..4] != elf::ELFMAG || !matches!(ident[5], 1 | 2) {
        return Ok(None);
    }
    Ok(match elf::FileClass(ident[4]) {
        elf::ELFCLASS64 => parse::<elf::FileHeader64<Endianness>, _>(&data),
        elf::ELFCLASS32 => parse::<elf::FileHeader32<Endianness>, _>(&data),
        _ => None,
    })
}

fn parse<'data, H, R>(data: R) -> Option<ElfFacts>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return None;
    }
    let mut facts = ElfFacts {
        machine: header.e_machine(endian).0,
        is_64: header.is_class_64(),
        is_little: header.is_little_endian(),
        ..ElfFacts::default()
    };
    for segment in header.program_headers(endian, data).ok()? {
        if let Ok(Some(interpreter)) = segment.interpreter(endian, data) {
            facts.interpreter = Some(interpreter.to_vec());
        }
        if let Ok(Some(dynamic)) = segment.dynamic(endian, data) {
            read_dynamic::<H, R>(header, endian, data, dynamic, &mut facts);
        }
        if segment.p_type(endian) == elf::PT_NOTE {
            read_notes::<H, R>(segment, endian, data, &mut facts);
        }
    }
    Some(facts)
}

fn read_dynamic<'data, H, R>(
    header: &H,
    endian: Endianness,
    data: R,
    dynamic: &'data [H::Dyn],
    facts: &mut ElfFacts,
) where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let value = |wanted: elf::DynamicTag| -> Option<u64> {
        dynamic.iter().find(|d| d.tag(endian) == wanted).map(|d| d.d_val(endian).into())
    };
    let (Some(table), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else { return };
    let Some(strings) = bytes_at_address::<H, R>(header, endian, data, table, size) else { return };
    let text = |offset: u64| -> Option<Vec<u8>> {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        rest.split(|&b| b == 0).next().map(<[u8]>::to_vec)
    };
    let paths = |offset: u64| -> Vec<Vec<u8>> {
        let list = text(offset).unwrap_or_default();
        list.split(|&b| b == b':').filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect()
    };
    for entry in dynamic {
        let value: u64 = entry.d_val(endian).into();
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => facts.needed.extend(text(value)),
            elf::DT_RPATH => facts.rpath = paths(value),
            elf::DT_RUNPATH => facts.runpath = paths(value),
            _ => {}
        }
    }
}

/// Reads bytes at an address of the loaded program.
fn bytes_at_address<'data, H, R>(
    header: &H,
    endian: Endianness,
    data: R,
    address: u64,
    size: u64,
) -> Option<&'data [u8]>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    for segment in header.program_headers(endian, data).ok()? {
        if let Ok(Some(bytes)) = segment.data_range(endian, data, address, size) {
            return Some(bytes);
        }
    }
    None
}

/// Reads the notes by which a program says what it opens: JSON, as the
/// specification of `.note.dlopen` has it.
fn read_notes<'data, H, R>(
    segment: &'data H::ProgramHeader,
    endian: Endianness,
    data: R,
    facts: &mut ElfFacts,
) where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    const DLOPEN: elf::NoteType = elf::NoteType(0x407c_0c0a);
    let Ok(Some(mut notes)) = segment.notes(endian, data) else { return };
    while let Ok(Some(note)) = notes.next() {
        if note.name() != b"FDO" || note.n_type(endian) != DLOPEN {
            continue;
        }
        let desc = note.desc();
        let end = desc.iter().position(|&b| b == 0).unwrap_or(desc.len());
        let Ok(serde_json::Value::Array(items)) = serde_json::from_slice(&desc[..end]) else { continue };
        for names in items.iter().filter_map(|item| item.get("soname")?.as_array()) {
            facts.dlopen.extend(names.iter().filter_map(|n| n.as_str()).map(str::to_owned));
        }
    }
}

/// Returns the machine number of a platform, its word size and byte order.
pub fn machine_of(platform: &Platform) -> Option<(u16, bool, bool)> {
    Some(match platform.architecture.as_str() {
        "amd64" => (elf::EM_X86_64.0, true, true),
        "386" => (elf::EM_386.0, false, true),
        "arm64" => (elf::EM_AARCH64.0, true, true),
        "arm" => (elf::EM_ARM.0, false, true),
        "riscv64" => (elf::EM_RISCV.0, true, true),
        "ppc64le" => (elf::EM_PPC64.0, true, true),
        "s390x" => (elf::EM_S390.0, true, false),
        "loong64" => (elf::EM_LOONGARCH.0, true, true),
        "mips64le" => (elf::EM_MIPS.0, true, true),
        _ => return None,
    })
}

/// Returns a machine's name for people.
pub fn machine_name(facts: &ElfFacts) -> String {
    let name = match elf::Machine(facts.machine) {
        elf::EM_X86_64 => "amd64",
        elf::EM_386 => "386",
        elf::EM_AARCH64 => "arm64",
        elf::EM_ARM => "arm",
        elf::EM_RISCV => "riscv64",
        elf::EM_PPC64 => "ppc64",
        elf::EM_S390 => "s390x",
        elf::EM_LOONGARCH => "loong64",
        elf::EM_MIPS => "mips",
        other => return format!("ELF machine {}", other.0),
    };
    name.to_owned()
}

/// ELF files by where they lie, each read once.
#[derive(Default)]
pub struct ElfCache {
    known: Mutex<BTreeMap<std::path::PathBuf, Option<ElfFacts>>>,
}

impl ElfCache {
    /// Returns the facts of the file at `path`.
    ///
    /// # Errors
    /// As [`read`].
    pub fn get(&self, path: &Path) -> Result<Option<ElfFacts>> {
        let known = || self.known.lock().expect("nothing panics while it holds the lock");
        if let Some(found) = known().get(path) {
            return Ok(found.clone());
        }
        let facts = read(path)?;
        known().insert(path.to_owned(), facts.clone());
        Ok(facts)
    }
}
