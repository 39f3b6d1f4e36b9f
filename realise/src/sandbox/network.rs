//! Network namespaces, each for one build at a time, and for a later one only if it is as new.
//!
//! Making a network namespace costs as much as all else of a sandbox (measured: 0.4 of 1.0 ms). The
//! spawner therefore makes them, with loopback up, and goes into one before it clones a build, which
//! inherits it. The build's user has no right over it: it belongs to a user namespace further out.
//!
//! What a build could leave in it is little, since it can change no setting and all its sockets are
//! closed when it is dead: packets that went over loopback (whose connections wait for their end),
//! and labels of IPv6 flows, which linger. Both show in what the kernel counts. A namespace in which
//! anything of that has changed is not used again.

use std::os::fd::{AsRawFd, OwnedFd};

use super::sys::{self, CWD, SysResult};

/// What is looked at, of those that this kernel has.
const COUNTERS: [&std::ffi::CStr; 5] = [
    c"/proc/thread-self/net/dev",
    c"/proc/thread-self/net/snmp",
    c"/proc/thread-self/net/netstat",
    c"/proc/thread-self/net/snmp6",
    c"/proc/thread-self/net/ip6_flowlabel",
];

/// A network namespace, and how to tell whether it was used.
#[derive(Debug)]
pub(crate) struct Network {
    namespace: OwnedFd,
    /// Open files of its own: they count what is in it, wherever we are.
    counters: Vec<OwnedFd>,
    when_new: Vec<u8>,
}

impl Network {
    /// Makes one; this process is in it afterwards.
    fn make() -> SysResult<Self> {
        sys::unshare(libc::CLONE_NEWNET)?;
        sys::loopback_up()?;
        let namespace = sys::openat(CWD, c"/proc/thread-self/ns/net", libc::O_RDONLY, 0)?;
        let open = |path: &&std::ffi::CStr| sys::openat(CWD, path, libc::O_RDONLY, 0).ok();
        let counters: Vec<OwnedFd> = COUNTERS.iter().filter_map(open).collect();
        let mut network = Self { namespace, counters, when_new: Vec::new() };
        network.when_new = network.look()?;
        Ok(network)
    }

    fn look(&self) -> SysResult<Vec<u8>> {
        let mut text = Vec::with_capacity(self.when_new.len().max(16 << 10));
        let mut part = [0; 8 << 10];
        for file in &self.counters {
            let mut at = 0;
            loop {
                match sys::pread(file.as_raw_fd(), &mut part, at)? {
                    0 => break,
                    length => {
                        text.extend(&part[..length]);
                        at += length as u64;
                    }
                }
            }
        }
        Ok(text)
    }

    fn is_as_new(&self) -> bool {
        !self.counters.is_empty() && self.look().is_ok_and(|now| now == self.when_new)
    }
}

/// The namespaces that wait for a build.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    idle: Vec<Network>,
    /// They cannot be had here: each build makes its own then, and says what is missing.
    is_refused: bool,
}

impl Networks {
    /// Takes this process into a namespace that is as new; nothing if it has no right to.
    pub(crate) fn enter_one(&mut self) -> Option<Network> {
        while let Some(network) = self.idle.pop() {
            if sys::set_namespace(network.namespace.as_raw_fd(), libc::CLONE_NEWNET).is_ok() {
                return Some(network);
            }
        }
        if self.is_refused {
            return None;
        }
        let made = Network::make();
        self.is_refused = made.is_err();
        made.ok()
    }

    /// Takes one back whose build is dead, all of it.
    pub(crate) fn give_back(&mut self, network: Network) {
        if network.is_as_new() {
            self.idle.push(network);
        }
    }
}
