//! Watches one sandbox: reads its log, keeps its time, kills it when asked to.
//!
//! All times are by the monotonic clock, which stands still while the machine sleeps and goes on
//! while we are stopped; a time-out therefore counts only after we have looked once more (case 71).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ampoule_net::Cancel;

use super::log::Logger;
use super::uplink::Uplink;
use crate::error::{Failure, FailureKind};
use crate::sandbox::{Sandbox, SandboxError, SandboxEvent, SandboxSpec, Spawner, wait_readable};

/// What a build may do.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_silent: Option<Duration>,
    pub(crate) max_log_bytes: Option<u64>,
}

/// How a builder ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself, with this wait status.
    Exited(i32),
    /// The sandbox could not be made, or the builder not be executed.
    Sandbox(SandboxError),
    /// We stopped it.
    Stopped(Failure),
}

/// How often we look whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// A wait that took longer than this was not a wait: we were stopped, or the machine slept.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Runs `spec` to its end. When this returns, no process of it lives, but for a first one that has reaped all
/// others and is about to end itself.
pub(crate) fn supervise(
    spawner: &Spawner,
    spec: &SandboxSpec,
    limits: &Limits,
    cancel: &Cancel,
    logger: &mut Logger,
) -> Ending {
    let (reader, writer) = match io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return Ending::Stopped(machine("make a pipe for the log", &error)),
    };
    let sandbox = match spawner.spawn(spec, OwnedFd::from(writer)) {
        Ok(sandbox) => sandbox,
        Err(error) => return Ending::Sandbox(error),
    };
    let now = Instant::now();
    let mut watch = Watch {
        sandbox,
        log: Some(File::from(OwnedFd::from(reader))),
        limits,
        cancel,
        began: now,
        heard: now,
        buffer: Vec::new(),
        ending: None,
        killed: false,
        uplink: None,
    };
    watch.run(logger);
    watch.ending.unwrap_or(Ending::Exited(libc::SIGKILL))
}

fn machine(what: &str, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Store, format!("cannot {what}: {error}"))
}

struct Watch<'a> {
    sandbox: Sandbox,
    log: Option<File>,
    limits: &'a Limits,
    cancel: &'a Cancel,
    began: Instant,
    heard: Instant,
    buffer: Vec<u8>,
    ending: Option<Ending>,
    killed: bool,
    uplink: Option<Uplink>,
}

impl Watch<'_> {
    fn run(&mut self, logger: &mut Logger) {
        loop {
            let before = Instant::now();
            let log_fd = self.log.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let [log, event] = wait_readable([log_fd, self.sandbox.event_fd()], self.wait_for(before));
            if before.elapsed() > LONGEST_WAIT {
                // Time in which the build could not run either is not its time.
                let lost = before.elapsed();
                self.began += lost;
                self.heard += lost;
            }
            if log {
                self.read_log(logger);
            }
            if event {
                match self.sandbox.next_event() {
                    Ok(SandboxEvent::Started(_)) => {}
                    Ok(SandboxEvent::WantsUplink) => self.connect(),
                    Ok(SandboxEvent::Failed(error)) => {
                        self.ending.get_or_insert(Ending::Sandbox(error));
                    }
                    Ok(SandboxEvent::Exited(status)) => {
                        self.ending.get_or_insert(Ending::Exited(status));
                        if self.sandbox.ends_alone() {
                            return self.end(logger);
                        }
                    }
                    Ok(SandboxEvent::Gone(_)) => return self.end(logger),
                    Err(error) => {
                        self.ending.get_or_insert(Ending::Sandbox(error));
                        return;
                    }
                }
            }
            logger.look();
            self.check(logger);
        }
    }

    /// Everyone who could write is dead; takes what is still in the pipe.
    fn end(&mut self, logger: &mut Logger) {
        while self.log.is_some() {
            self.read_log(logger);
        }
    }

    /// Gives a build that waits for it a way out of its network.
    fn connect(&mut self) {
        match Uplink::connect(self.sandbox.pid().unwrap_or(0)) {
            Ok(uplink) => {
                self.uplink = Some(uplink);
                self.sandbox.go_on();
            }
            Err(failure) => {
                self.ending.get_or_insert(Ending::Stopped(failure));
                self.kill();
            }
        }
    }

    fn kill(&mut self) {
        self.sandbox.kill();
        self.killed = true;
    }

    fn wait_for(&self, now: Instant) -> Duration {
        let left = |limit: Option<Duration>, since: Instant| {
            limit.map_or(TICK, |limit| limit.saturating_sub(now.saturating_duration_since(since)))
        };
        // Rounded up, so that we do not look just before the time is over.
        TICK.min(left(self.limits.timeout, self.began)).min(left(self.limits.max_silent, self.heard))
            + Duration::from_millis(1)
    }

    fn read_log(&mut self, logger: &mut Logger) {
        let Some(log) = &mut self.log else { return };
        // Most builds print little, and many nothing: a large buffer is made for what fills a small one.
        let mut few = [0; 1 << 10];
        let buffer = if self.buffer.is_empty() { few.as_mut_slice() } else { &mut self.buffer };
        match log.read(buffer) {
            Ok(0) => self.log = None,
            Ok(length) => {
                logger.take(&buffer[..length]);
                self.heard = Instant::now();
                if length == buffer.len() {
                    self.buffer.resize(64 << 10, 0);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.log = None,
        }
    }

    fn check(&mut self, logger: &Logger) {
        if self.killed {
            return;
        }
        let now = Instant::now();
        let over = |limit: Option<Duration>, since: Instant| {
            limit.filter(|limit| now.saturating_duration_since(since) >= *limit)
        };
        let reason = if self.cancel.is_asked() {
            Failure::new(FailureKind::Interrupted, "interrupted")
        } else if let Some(limit) = over(self.limits.timeout, self.began) {
            let text = format!("timed out after {} seconds", limit.as_secs_f64());
            Failure::new(FailureKind::TimedOut, text).hint("allow more with `--timeout SECONDS`")
        } else if let Some(limit) = over(self.limits.max_silent, self.heard) {
            let text = format!("timed out after {} seconds of silence", limit.as_secs_f64());
            Failure::new(FailureKind::TimedOut, text).hint("allow more with `--max-silent SECONDS`")
        } else if let Some(limit) = self.limits.max_log_bytes.filter(|limit| logger.total_bytes() > *limit) {
            let text = format!("wrote more than {limit} bytes of log");
            Failure::new(FailureKind::TimedOut, text).hint("allow more with the setting `build.max-log`")
        } else {
            return;
        };
        // A builder that has ended by itself has ended by itself.
        if self.ending.is_none() {
            self.ending = Some(Ending::Stopped(reason));
        }
        self.kill();
    }
}
