//! Against Debian's `docker-registry`, and against servers that misbehave.

mod credentials;
mod pulls;
mod pushes;
mod real;
mod servers;
#[path = "../support/mod.rs"]
mod support;
