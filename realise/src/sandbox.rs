//! The sandbox: a world that holds what a derivation declares, and nothing else.
//!
//! A [`SandboxSpec`] says what the build sees. A [`Spawner`], a small process of its own, makes it:
//! user, mount, pid, net, ipc, uts and cgroup namespaces; a tmpfs root with the inputs mounted
//! read-only at their logical paths; private `/dev`, `/proc` and `/tmp`; loopback only; a fixed user,
//! host name, umask, limits and signals; no capabilities, no new privileges, a session keyring of its
//! own; Landlock and a system call filter. A [`Sandbox`] is one build, from its start until no process
//! of it lives.
//!
//! There is no silent fallback: a step that the machine refuses is named, with the way to allow it
//! ([`SandboxError`]). Weaker tiers are asked for by name.
//!
//! All of the crate's `unsafe` is in [`sys`], one system call a function.

mod child;
mod error;
mod landlock;
mod limits;
mod network;
mod roots;
mod seccomp;
mod spawner;
mod spec;
mod step;
#[expect(unsafe_code, reason = "system calls that no safe crate has, between clone and execve")]
mod sys;
mod wire;

pub use error::SandboxError;
pub use spawner::{SPAWNER_ARGUMENT, Sandbox, SandboxEvent, Spawner, Usage, serve_if_asked, wait_readable};
pub use spec::{
    Bind, BindKind, BindSource, INNER_GID, INNER_UID, Identity, SandboxSpec, check_target, host_bind,
};
pub use step::Step;

/// Lets a program that is about to be started die when this thread does.
pub(crate) fn dies_with_us(command: &mut std::process::Command) {
    sys::die_with_starter(command);
}

/// The newest Landlock interface of this kernel, 0 for none.
#[must_use]
pub fn landlock_abi() -> u32 {
    sys::landlock_abi()
}
