//! One build: its environment, its sandbox, its log, its outputs.

mod cgroup;
mod checks;
mod compare;
mod diagnose;
mod dirs;
mod environment;
mod inputs;
pub(crate) mod job;
mod log;
mod outputs;
pub(crate) mod resolve;
mod rewrite;
mod spawners;
mod supervise;
mod uplink;

pub use cgroup::GroupLimits;
pub use log::LogDir;
