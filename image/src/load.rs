//! Hands an image to a container engine on this machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::blobs::BlobCache;
use crate::error::{ImageError, Result};
use crate::oci::Platform;
use crate::project::Image;

/// A program that takes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker's daemon.
    Docker,
    /// podman's storage.
    Podman,
    /// containerd, by `ctr`.
    Containerd,
    /// A kind cluster.
    Kind,
}

/// In the order in which they are looked for.
pub const ENGINES: [Engine; 4] = [Engine::Docker, Engine::Podman, Engine::Containerd, Engine::Kind];

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// Who took it.
    pub engine: Engine,
    /// What it said.
    pub said: String,
}

impl Engine {
    /// Reads `docker`, `podman`, `containerd` (or `ctr`), `kind`.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] for another word.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "docker" => Self::Docker,
            "podman" => Self::Podman,
            "containerd" | "ctr" => Self::Containerd,
            "kind" => Self::Kind,
            _ => {
                return Err(ImageError::invalid(format!(
                    "`{name}` takes no images: expected `docker`, `podman`, `containerd` or `kind`"
                )));
            }
        })
    }

    /// Returns the program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "ctr",
            Self::Kind => "kind",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["load"],
            Self::Podman => &["load", "--quiet"],
            Self::Containerd => &["images", "import", "-"],
            Self::Kind => &["load", "image-archive", "/dev/stdin"],
        }
    }
}

/// Finds the first engine whose program lies in one of `path`'s directories.
///
/// # Errors
/// [`ImageError::Invalid`] naming those that were looked for.
pub fn find(path: &[PathBuf]) -> Result<Engine> {
    let found = ENGINES.into_iter().find(|e| path.iter().any(|dir| dir.join(e.program()).is_file()));
    found.ok_or_else(|| {
        let names: Vec<&str> = ENGINES.iter().map(|e| e.program()).collect();
        ImageError::invalid(format!("no container engine is here: looked for `{}`", names.join("`, `")))
    })
}

/// Streams the image to `engine` as the archive that all of them read.
///
/// # Errors
/// [`ImageError::Program`] with what the engine said.
pub fn load(
    image: &Image,
    cache: &BlobCache,
    engine: Engine,
    platform: Option<&Platform>,
) -> Result<LoadReport> {
    let fail = |why: String| ImageError::Program { name: engine.program().to_owned(), why };
    let mut child = Command::new(engine.program())
        .args(engine.arguments())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(e.to_string()))?;
    let mut stdin = child.stdin.take().expect("it was asked to be piped");
    // Its words are read while it is fed: neither pipe may fill up.
    let (written, output) = std::thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            let written = image.write_archive_to(cache, platform, &mut stdin);
            let flushed = stdin.flush();
            drop(stdin);
            written.and(flushed.map_err(|e| ImageError::io("write", "the archive", e)))
        });
        let output = child.wait_with_output();
        (feeding.join().expect("feeding does not panic"), output)
    });
    let output = output.map_err(|e| fail(e.to_string()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(fail(format!("{}: {}", output.status, said(&output.stderr))));
    }
    written?;
    Ok(LoadReport { engine, said: said(&output.stdout) })
}
