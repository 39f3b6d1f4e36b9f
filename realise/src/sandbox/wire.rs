//! The packets between realiser, spawner and child.
//!
//! The realiser opens a packet socket for each build and gives one end away with the request. On it
//! it hears, in this order: `Failed` or `Exited` (from the child's pid 1), `Reaped` (from the spawner,
//! when every process of the build is dead). Of a build that needs a way out of its network it hears
//! `Started` first (from the spawner, with its pid) and `WantsUplink` (from the child, which waits for the
//! one packet that is sent the other way).
//!
//! Orders to the spawner go over one socket: to start a build, with what it is and two descriptors, or
//! to kill one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::child::Failure;
use super::step::Step;
use super::sys::{self, Errno, Usage};

const STARTED: u8 = 1;
const FAILED: u8 = 2;
const EXITED: u8 = 3;
const REAPED: u8 = 4;
const WANTS_UPLINK: u8 = 5;

const SIZE: usize = 40;

fn packet(kind: u8, step: u8, a: i32, b: u32) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0] = kind;
    bytes[1] = step;
    bytes[4..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..12].copy_from_slice(&b.to_le_bytes());
    bytes
}

// ---- orders -----------------------------------------------------------------------------------

/// Starts the build that the rest of the packet describes, or a file that comes along.
pub(crate) const START: u8 = 1;
/// Kills the build of this number.
pub(crate) const KILL: u8 = 2;
/// How many bytes stand before a description.
pub(crate) const ORDER_SIZE: usize = 8;
/// What is longer than this is sent as a file: a packet lies in the kernel's memory.
pub(crate) const LONGEST_ORDER: usize = 32 << 10;

pub(crate) fn order(kind: u8, id: u32) -> [u8; ORDER_SIZE] {
    let mut bytes = [0; ORDER_SIZE];
    bytes[0] = kind;
    bytes[4..].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// What is asked for, and of which build.
pub(crate) fn read_order(packet: &[u8]) -> Option<(u8, u32)> {
    let head: &[u8; ORDER_SIZE] = packet.first_chunk()?;
    let id = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    Some((head[0], id))
}

// ---- reports ----------------------------------------------------------------------------------

pub(crate) fn send_failure(report: RawFd, failure: Failure) {
    sys::ignore(sys::send(report, &packet(FAILED, failure.step as u8, failure.errno.0, failure.index), &[]));
}

pub(crate) fn send_exited(report: RawFd, status: i32) {
    sys::ignore(sys::send(report, &packet(EXITED, 0, status, 0), &[]));
}

pub(crate) fn send_started(report: &OwnedFd, pid: i32) {
    sys::ignore(sys::send(report.as_raw_fd(), &packet(STARTED, 0, pid, 0), &[]));
}

pub(crate) fn send_reaped(report: &OwnedFd, status: i32, usage: Usage) {
    let mut bytes = packet(REAPED, 0, status, 0);
    for (slot, number) in
        bytes[16..].chunks_exact_mut(8).zip([usage.user_us, usage.system_us, usage.max_rss_kib])
    {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    sys::ignore(sys::send(report.as_raw_fd(), &bytes, &[]));
}

/// Says that the network is made, and waits until it is connected.
pub(crate) fn wait_for_uplink(report: RawFd) -> sys::SysResult<()> {
    sys::send(report, &packet(WANTS_UPLINK, 0, 0, 0), &[])?;
    match sys::read(report, &mut [0; SIZE])? {
        0 => Err(Errno(libc::EPIPE)),
        _ => Ok(()),
    }
}

/// Lets a build go on that waits for its network.
pub(crate) fn send_uplink(report: &OwnedFd) {
    sys::ignore(sys::send(report.as_raw_fd(), &packet(WANTS_UPLINK, 0, 0, 0), &[]));
}

/// What the realiser hears of one build.
#[derive(Debug)]
pub(crate) enum Report {
    Started {
        pid: i32,
    },
    /// Its network is made, and leads nowhere.
    WantsUplink,
    Failed(Failure),
    Exited {
        status: i32,
    },
    Reaped {
        usage: Usage,
    },
    /// The spawner is gone.
    Lost,
}

pub(crate) fn receive_report(socket: &OwnedFd) -> io::Result<Report> {
    let mut bytes = [0; SIZE];
    let length = match sys::receive(socket.as_raw_fd(), &mut bytes, &mut Vec::new()) {
        Err(Errno(libc::ECONNRESET)) => 0,
        other => other?,
    };
    if length == 0 {
        return Ok(Report::Lost);
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "unknown packet from the sandbox");
    let status = word(4) as i32;
    match bytes[0] {
        STARTED => Ok(Report::Started { pid: status }),
        FAILED => {
            let step = Step::from_byte(bytes[1]).ok_or_else(unknown)?;
            Ok(Report::Failed(Failure { step, errno: Errno(status), index: word(8) }))
        }
        WANTS_UPLINK => Ok(Report::WantsUplink),
        EXITED => Ok(Report::Exited { status }),
        REAPED => {
            let usage = Usage { user_us: long(16), system_us: long(24), max_rss_kib: long(32) };
            Ok(Report::Reaped { usage })
        }
        _ => Err(unknown()),
    }
}
