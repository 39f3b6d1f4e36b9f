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

    /// How the program is asked whether it could take an image now.
    fn probe(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["version", "--format", "{{.Server.Version}}"],
            Self::Podman => &["version", "--format", "{{.Version}}"],
            Self::Containerd => &["version"],
            Self::Kind => &["get", "clusters"],
        }
    }

    /// How the program takes the archive: on its standard input, or as the file `archive`.
    fn arguments(self, archive: &str) -> Vec<&str> {
        match self {
            Self::Docker => vec!["load"],
            Self::Podman => vec!["load", "--quiet"],
            Self::Containerd => vec!["images", "import", "-"],
            Self::Kind => vec!["load", "image-archive", archive],
        }
    }

    /// Whether the program opens the archive by name, maybe several times: once for each
    /// node of a cluster.
    fn wants_file(self) -> bool {
        self == Self::Kind
    }

    /// Asks the program whether it could take an image.
    fn ask(self) -> std::result::Result<(), String> {
        let output = Command::new(self.program()).args(self.probe()).stdin(Stdio::null()).output();
        let output = output.map_err(|e| e.to_string())?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not answer");
            return Err(last.trim().to_owned());
        }
        let clusters = String::from_utf8_lossy(&output.stdout);
        if self == Self::Kind && clusters.trim().is_empty() {
            return Err("it has no cluster".to_owned());
        }
        Ok(())
    }
}

/// Finds the first engine that answers, of those whose programs lie in `path`'s directories.
///
/// # Errors
/// [`ImageError::Invalid`] saying of each why it is not taken.
pub fn find(path: &[PathBuf]) -> Result<Engine> {
    let mut reasons = Vec::new();
    for engine in ENGINES {
        let program = engine.program();
        if !path.iter().any(|dir| dir.join(program).is_file()) {
            reasons.push(format!("`{program}` is not installed"));
            continue;
        }
        match engine.ask() {
            Ok(()) => return Ok(engine),
            Err(why) => reasons.push(format!("`{program}`: {why}")),
        }
    }
    Err(ImageError::invalid(format!("no container engine takes images here: {}", reasons.join("; "))))
}

/// Hands the image to `engine`, as the archive that all of them read.
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
    let mut archive = None;
    if engine.wants_file() {
        let file = cache.start()?;
        image.write_archive_to(cache, platform, &mut file.file())?;
        archive = Some(file);
    }
    let name = archive.as_ref().map(|file| file.path().to_string_lossy().into_owned()).unwrap_or_default();
    let mut child = Command::new(engine.program())
        .args(engine.arguments(&name))
        .stdin(if archive.is_some() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => fail("it is not installed".to_owned()),
            _ => fail(e.to_string()),
        })?;
    let stdin = child.stdin.take();
    // Its words are read while it is fed: neither pipe may fill up.
    let (written, output) = std::thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            let Some(mut stdin) = stdin else { return Ok(()) };
            let written = image.write_archive_to(cache, platform, &mut stdin);
            let flushed = stdin.flush();
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_does_not_answer_is_told_with_its_reason() {
        let none = find(&[]).unwrap_err().to_string();
        for engine in ENGINES {
            assert!(none.contains(&format!("`{}` is not installed", engine.program())), "{none}");
        }
        // A program that is there is asked by its name: what answers is the machine's own.
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("kind");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let found = find(&[dir.path().to_owned()]);
        assert!(found.is_ok() || !found.unwrap_err().to_string().contains("`kind` is not installed"));
    }
}
