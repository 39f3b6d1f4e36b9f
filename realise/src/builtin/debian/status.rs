//! dpkg's records, for scanners: which package, which version, which files.

use super::Composed;
use crate::builtin::BuiltinError;

impl Composed<'_> {
    /// Writes `status.d`, as distroless images have it, or dpkg's own `status`.
    pub(super) fn write_status(&mut self) -> Result<(), BuiltinError> {
        const BASE: &str = "var/lib/dpkg";
        let style = self.settings.dpkg_status.clone();
        let mut files: Vec<(String, String)> = Vec::new();
        let mut status = String::new();
        for package in &self.packages {
            let paragraph = with_status(&package.control);
            match style.as_str() {
                "status.d" => {
                    // One name in two architectures has two files.
                    let twice = self.packages.iter().filter(|p| p.name == package.name).count() > 1;
                    let name = if twice {
                        format!("{}:{}", package.name, package.architecture)
                    } else {
                        package.name.clone()
                    };
                    files.push((format!("{BASE}/status.d/{name}"), paragraph));
                    files.push((format!("{BASE}/status.d/{name}.md5sums"), package.md5sums.clone()));
                }
                "status" => {
                    status.push_str(&paragraph);
                    status.push('\n');
                    // dpkg names files of co-installable packages with their architecture.
                    let same = package.field("Multi-Arch").as_deref() == Some("same");
                    let qualified = if same {
                        format!("{}:{}", package.name, package.architecture)
                    } else {
                        package.name.clone()
                    };
                    files.push((format!("{BASE}/info/{qualified}.md5sums"), package.md5sums.clone()));
                }
                _ => {}
            }
        }
        if style == "status" {
            files.push((format!("{BASE}/status"), status));
        }
        for (path, text) in files {
            self.write(&path, &text)?;
        }
        Ok(())
    }
}

/// Returns a control file with the field that dpkg adds, after the name.
fn with_status(control: &str) -> String {
    let (first, rest) = control.split_once('\n').unwrap_or((control, ""));
    format!("{first}\nStatus: install ok installed\n{rest}\n")
}
