//! The realiser: fetches, sandboxed builds, and the scheduler.

pub mod builtin;
pub mod sandbox;
pub mod unpack;
