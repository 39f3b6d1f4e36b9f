//! Why a build failed, in words that help.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::inputs::InputClosure;
use crate::builtin::InputPaths;
use crate::error::{Failure, FailureKind};
use crate::sandbox::{SandboxError, Step};

fn build_failed(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Build, text)
}

/// A builder that ended with a wait status other than 0.
pub(crate) fn exit(status: i32) -> Failure {
    let signal = status & 0x7f;
    if signal == 0 {
        return build_failed(format!("builder failed with exit code {}", status >> 8 & 0xff));
    }
    let failure = build_failed(format!("builder failed due to signal {signal} ({})", signal_name(signal)));
    if signal == libc::SIGKILL {
        return failure.hint("look whether memory ran out: `dmesg` says so");
    }
    if signal == libc::SIGSYS {
        return failure.hint("the builder made a system call of another architecture, which is killed");
    }
    failure
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => "unknown",
    }
}

/// A sandbox that this machine does not give.
pub(crate) fn machine(error: &SandboxError) -> Failure {
    let mut failure = Failure::new(FailureKind::Sandbox, format!("no sandbox can be made here: {error}"));
    failure.hints.clone_from(&error.remedies);
    failure
}

/// A sandbox that could not be made, or a builder that could not be executed.
pub(crate) fn sandbox(error: &SandboxError, closure: &InputClosure) -> Failure {
    match error.step {
        Step::Execute => builder(error, closure),
        _ if error.is_of_the_machine() => machine(error),
        _ => build_failed(error.to_string()),
    }
}

/// Case 153: says which of the many reasons it is that a builder cannot be executed.
fn builder(error: &SandboxError, closure: &InputClosure) -> Failure {
    let name = &error.subject;
    let physical = closure.physical(name).or_else(|| Some(PathBuf::from(name)).filter(|path| path.exists()));
    match error.errno {
        libc::ELOOP => build_failed(format!(
            "builder `{name}` is not a file of the sandbox, but a link to what runs now"
        )),
        libc::E2BIG => build_failed("arguments and environment together are too long for the kernel")
            .hint("pass large values by file (`passAsFile`), or use structured attributes"),
        libc::EACCES => build_failed(format!("builder `{name}` is not executable")),
        libc::ENOENT | libc::ENOTDIR if !error.builder_exists => missing(name, closure),
        libc::ENOENT => {
            let interpreter = physical.as_deref().and_then(interpreter_of);
            match interpreter {
                Some(found) => build_failed(format!(
                    "builder `{name}` needs the interpreter `{found}`, which does not exist in the sandbox"
                )),
                None => build_failed(format!(
                    "an interpreter that builder `{name}` needs does not exist in the sandbox"
                )),
            }
        }
        libc::ENOEXEC => {
            let found = physical.as_deref().and_then(machine_of);
            match found {
                Some(machine) => {
                    build_failed(format!("builder `{name}` is a program for another machine: {machine}"))
                }
                None => build_failed(format!(
                    "builder `{name}` is neither a program nor a script that starts with `#!`"
                )),
            }
        }
        _ => build_failed(format!(
            "builder `{name}` cannot be executed: {}",
            std::io::Error::from_raw_os_error(error.errno)
        )),
    }
}

fn missing(name: &str, closure: &InputClosure) -> Failure {
    let failure = build_failed(format!("builder `{name}` does not exist in the sandbox"));
    if closure.store.dir().contains(name) {
        return failure
            .hint("check that the path in the object is right: the object itself is an input, or is not");
    }
    if Path::new(name).exists() {
        return failure.hint(format!(
            "make it an input: a build sees nothing of this machine; or declare it with `--sandbox-path {name}`"
        ));
    }
    failure
}

/// The interpreter in a script's first line, or in a program's header.
fn interpreter_of(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(64 * 1024).read_to_end(&mut start).ok()?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        let text = String::from_utf8_lossy(line);
        return text.split_whitespace().next().map(str::to_owned);
    }
    elf_interpreter(&start)
}

/// `PT_INTERP` of a 64-bit little-endian ELF file, if it lies in what was read.
fn elf_interpreter(bytes: &[u8]) -> Option<String> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let slice = bytes.get(at..at.checked_add(length)?)?;
        let value = slice.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let header = table.checked_add(index.checked_mul(size)?)?;
        if number(header, 4)? != 3 {
            return None;
        }
        let (offset, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
        let text = bytes.get(offset..offset.checked_add(length)?)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    })
}

/// The machine that an ELF file is for.
fn machine_of(path: &Path) -> Option<&'static str> {
    let mut start = [0; 20];
    File::open(path).ok()?.read_exact(&mut start).ok()?;
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    let code = if start[5] == 2 { [start[19], start[18]] } else { [start[18], start[19]] };
    Some(match u16::from_le_bytes(code) {
        3 => "i686",
        8 => "mips",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        _ => "unknown",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_named() {
        assert_eq!(exit(3 << 8).message, "builder failed with exit code 3");
        assert_eq!(exit(9).message, "builder failed due to signal 9 (SIGKILL)");
        assert_eq!(exit(11 | 0x80).message, "builder failed due to signal 11 (SIGSEGV)");
    }

    #[test]
    fn the_interpreter_of_a_program_is_found() {
        let own = std::fs::read("/proc/self/exe").expect("our own program");
        let found = elf_interpreter(&own[..own.len().min(64 * 1024)]);
        // A test program is linked dynamically, unless the target is static.
        assert!(found.is_none_or(|path| path.starts_with('/')));
        assert_eq!(elf_interpreter(b"\x7fELF\x02\x01"), None);
    }
}
