//! Packages: Debian's indexes, dependency resolution and lock files.
