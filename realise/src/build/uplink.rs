//! The way out of a build's network, for fixed-output builders that are allowed one.
//!
//! The build has a network namespace of its own, as any other. `pasta` (of the project passt) carries
//! what goes out of it over ordinary sockets of this user: no right of root is needed, the host's
//! loopback and what listens there stay out of reach, and nothing from outside can connect to the build.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Failure, FailureKind};
use crate::sandbox::dies_with_us;

const PROGRAM: &str = "pasta";
/// Names are asked for here; `pasta` passes that on to the resolver of the host.
const RESOLVER: &str = "169.254.1.53";
/// How long it may take until the build's network leads somewhere.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file by which a build finds its resolver.
pub(crate) fn resolver() -> (PathBuf, Vec<u8>) {
    (PathBuf::from("/etc/resolv.conf"), format!("nameserver {RESOLVER}\n").into_bytes())
}

/// A connection; it ends when this goes.
#[derive(Debug)]
pub(crate) struct Uplink(Child);

impl Uplink {
    /// Connects the network of the sandbox whose first process is `pid`.
    ///
    /// # Errors
    /// If `pasta` is not there, or says no.
    pub(crate) fn connect(pid: i32) -> Result<Self, Failure> {
        let mut command = Command::new(PROGRAM);
        command.args(["--foreground", "--quiet", "--config-net", "--no-map-gw"]);
        // No port of the host is forwarded to the build, none of the build's to the host.
        command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
        command.args(["--dns-forward", RESOLVER]);
        if rustix::process::geteuid().is_root() {
            // Else it becomes nobody, who may not go into the build's namespaces.
            command.args(["--runas", "0:0"]);
        }
        command.arg(format!("--userns=/proc/{pid}/ns/user")).arg(format!("--netns=/proc/{pid}/ns/net"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        dies_with_us(&mut command);
        let child = command.spawn().map_err(|error| {
            let failed = |why: &str| {
                Failure::new(
                    FailureKind::Sandbox,
                    format!("the build's network cannot be connected to the world: {why}"),
                )
            };
            if error.kind() == std::io::ErrorKind::NotFound {
                failed(&format!("`{PROGRAM}` is not installed"))
                    .hint("install it (Debian, Fedora: the package `passt`)")
                    .hint("fetch with `fetchurl`, which needs no network in builds")
            } else {
                failed(&format!("`{PROGRAM}` cannot be started: {error}"))
            }
        })?;
        let mut uplink = Self(child);
        uplink.wait_until_connected(pid)?;
        Ok(uplink)
    }

    fn wait_until_connected(&mut self, pid: i32) -> Result<(), Failure> {
        let began = Instant::now();
        // A header, then a line for each route.
        let has_route = |file: &str, header: usize| {
            std::fs::read_to_string(format!("/proc/{pid}/net/{file}"))
                .is_ok_and(|text| text.lines().skip(header).any(|line| !line.ends_with("lo")))
        };
        while !has_route("route", 1) && !has_route("ipv6_route", 0) {
            let ended = self.0.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > PATIENCE {
                return Err(self.failure());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What it said, when it did not do its work.
    fn failure(&mut self) -> Failure {
        drop(self.0.kill());
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            drop(std::io::Read::read_to_string(&mut stderr, &mut said));
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        let text = format!(
            "the build's network cannot be connected to the world: `{PROGRAM}`: {}",
            crate::events::safe_line(last.as_bytes())
        );
        let failure = Failure::new(FailureKind::Sandbox, text);
        if last.contains("tun") {
            return failure
                .hint("let everybody open `/dev/net/tun`, as udev does: `chmod 666 /dev/net/tun`, as root");
        }
        failure
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
