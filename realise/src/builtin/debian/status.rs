//! dpkg's records, for scanners: which package, which version, which files.

use super::Composed;
use super::package::Package;
use crate::builtin::BuiltinError;

const BASE: &str = "var/lib/dpkg";

impl Composed<'_> {
    /// Writes `status.d`, as distroless images have it, or dpkg's own `status`.
    pub(super) fn write_status(&mut self) -> Result<(), BuiltinError> {
        let style = self.settings.dpkg_status.clone();
        let mut files: Vec<(String, String)> =
            self.packages.iter().flat_map(|package| self.records_of(package)).collect();
        let status: String = self.packages.iter().map(|p| with_status(&p.control) + "\n").collect();
        if style == "status" {
            files.push((format!("{BASE}/status"), status));
        }
        for (path, text) in files {
            self.write(&path, &text)?;
        }
        Ok(())
    }
}

impl Composed<'_> {
    /// Returns the records that only this package decides.
    pub(super) fn records_of(&self, package: &Package) -> Vec<(String, String)> {
        match self.settings.dpkg_status.as_str() {
            "status.d" => {
                let path = format!("{BASE}/status.d/{}", self.record_name(package));
                let sums = (format!("{path}.md5sums"), package.md5sums.clone());
                vec![(path, with_status(&package.control)), sums]
            }
            "status" => {
                // dpkg names files of co-installable packages with their architecture.
                let same = package.field("Multi-Arch").as_deref() == Some("same");
                let architecture = if same { format!(":{}", package.architecture) } else { String::new() };
                vec![(format!("{BASE}/info/{}{architecture}.md5sums", package.name), package.md5sums.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the package's name; of one that is there in two architectures, with its own.
    pub(super) fn record_name(&self, package: &Package) -> String {
        let twice = self.packages.iter().filter(|p| p.name == package.name).count() > 1;
        if twice { format!("{}:{}", package.name, package.architecture) } else { package.name.clone() }
    }
}

/// Returns a control file with the field that dpkg adds, after the name.
fn with_status(control: &str) -> String {
    let (first, rest) = control.split_once('\n').unwrap_or((control, ""));
    format!("{first}\nStatus: install ok installed\n{rest}\n")
}
