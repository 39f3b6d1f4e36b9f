//! The realiser: fetches, sandboxed builds, and the scheduler.

#![expect(clippy::result_large_err, reason = "a failure ends a build: it is rare, and moved once or twice")]

mod build;
mod builders;
pub mod builtin;
mod debug;
mod error;
mod events;
pub mod fetch;
mod graph;
mod options;
mod plan;
mod realise;
pub mod sandbox;
mod schedule;
mod substitute;
pub mod unpack;

pub use build::{GroupLimits, LogDir};
pub use builders::Builders;
pub use error::{Failure, FailureKind, RealiseError};
pub use events::{Activity, Event, EventSink, FileDifference, Planned, PlannedList, Silent, safe_line};
pub use graph::{DerivationSource, Wanted};
pub use options::Options;
pub use realise::{Realised, Realiser};
