//! One build: its environment, its sandbox, its log, its outputs.

mod checks;
mod environment;
mod inputs;
mod log;
mod rewrite;
mod supervise;

pub use log::LogDir;
