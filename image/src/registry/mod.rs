//! Registries: push and pull over the distribution API.
//!
//! ```text
//! push   HEAD manifest ── there: done (one request)
//!        for each blob, several at a time:
//!          HEAD blob ── there: done
//!          POST ?mount=&from= ── a repository of the same registry has it: done
//!          POST, then PUT (small) or PATCH, PATCH, … PUT (large; goes on after a cut)
//!        PUT manifests, then the tag
//! pull   GET manifest (checked) → GET configuration and layers (checked while they come)
//! ```
//!
//! Everything that comes is checked against the digest that asked for it, and never
//! longer than announced. Credentials go to the registry (and the token server that
//! it names) only, never to a redirect's or a layer's other host. http is for
//! loopback and for hosts that are named.

mod attach;
mod auth;
mod certificates;
mod client;
mod docker_config;
mod pull;
mod push;
mod reference;

pub use attach::{Attached, Attachment, attach};
pub use auth::Challenge;
pub use certificates::directories_from_env as certificate_directories;
pub use client::{Registry, RegistrySettings};
pub use docker_config::{Credential, CredentialSources};
pub use pull::{PullReport, Pulled, open_remote, pull, pull_layout};
pub use push::{PushReport, PushedBlob, PushedHow, push};
pub use reference::Reference;

pub(crate) use push::Locations;
