//! What a maintainer script does to a system on which nothing was before, as data.
//!
//! The script's tree is walked with what is known: `configure` and no older version as
//! parameters, the composed tree for tests on files, the accounts for tests on users.
//! Where a condition is not known both ways are looked at. No process is started and
//! nothing outside the tree is touched; a command is one of these:
//!
//! * **reads** (`grep`, `dpkg --compare-versions`): no effect;
//! * **lasts and is data**: alternatives, users and groups, directories, links, copies of
//!   files that packages bring, owners and modes;
//! * **has no meaning in a tree** (services, debconf's questions, caches that are made
//!   again, byte code, removal of what older versions left): listed as ignored;
//! * **anything else**: the package is refused, with the command.

mod condition;
mod programs;
mod reader;

use std::collections::BTreeSet;

use super::Composed;
use super::accounts::AccountRequest;
use super::alternatives::Alternative;
use crate::builtin::BuiltinError;
use reader::Reader;

/// Effects that are applied when all scripts are read.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) alternatives: Vec<Alternative>,
    pub(super) accounts: Vec<AccountRequest>,
    pub(super) shells: Vec<String>,
}

/// Packages whose scripts are known as a whole, and what stands in their place.
const KNOWN: &[(&str, &str)] = &[
    ("ca-certificates", "the bundle is made of the certificates in /usr/share/ca-certificates"),
    ("locales", "no locale is generated; C.UTF-8 is part of libc-bin"),
    ("libc6", "it looks at the running system and restarts services"),
    ("python3", "byte code is compiled by others"),
    ("python3-minimal", "byte code is compiled by others"),
    ("ucf", "it renames records of older versions"),
];

/// Packages whose scripts are read, and what of them is not known is known not to matter in a tree: by the beginning of
/// their name.
const PARTLY_KNOWN: &[(&str, &str)] = &[
    ("mariadb-server", "databases are made by `mariadb-install-db` where the image runs"),
    ("openjdk-", "programs have their alternatives; helpers of the kernel's formats have not"),
    ("openssh-server", "keys of the host are made where the image runs"),
    ("postgresql-", "clusters are made by `initdb` where the image runs"),
    ("ssl-cert", "certificates of a machine are made there"),
    ("unbound", "the root's key is fetched where the image runs"),
    ("varnish", "the secret of its control is made where the image runs"),
];

/// Returns why what is not known of a package's scripts does not matter.
fn partly_known(package: &str) -> Option<&'static str> {
    PARTLY_KNOWN.iter().find(|(known, _)| package.starts_with(known)).map(|(_, why)| *why)
}

/// Returns why a package's scripts need not be read.
fn known(package: &str) -> Option<&'static str> {
    let version = package.strip_prefix("python3.").map(|rest| rest.trim_end_matches("-minimal"));
    let interpreter = version.is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
    let name = if interpreter { "python3" } else { package };
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

impl Composed<'_> {
    /// Reads all scripts, applies to the tree what concerns files, and returns the rest.
    pub(super) fn read_scripts(&mut self) -> Result<Effects, BuiltinError> {
        let mut effects = Effects::default();
        let mut refused: Vec<String> = Vec::new();
        let users = self.base_names();
        let mut names = Names { users: users.0, groups: users.1 };
        let scripts: Vec<(usize, String, String)> = self
            .packages
            .iter()
            .enumerate()
            .flat_map(|(i, p)| {
                p.scripts.iter().rev().map(move |(name, text)| (i, name.clone(), text.clone()))
            })
            .collect();
        // `preinst` after `postinst` in the alphabet: `rev` gives them in their order of time.
        for (index, script, text) in scripts {
            let package = self.packages[index].name.clone();
            if let Some(why) = known(&package) {
                self.ignored.insert((package, script, why.to_owned()));
                continue;
            }
            let accepted = self.packages[index].accepted || self.settings.accept.contains(&package);
            let mut reader = Reader::new(self, &mut effects, &mut names, &package, &script);
            let unknown = reader.read(&text);
            if unknown.is_empty() {
                continue;
            }
            let list = unknown.into_iter().take(6).collect::<Vec<_>>().join("; ");
            if accepted {
                self.ignored.insert((package, script, format!("accepted: {list}")));
            } else if let Some(why) = partly_known(&package) {
                self.ignored.insert((package, script, why.to_owned()));
            } else {
                refused.push(format!("  `{package}`: its {script} {list}"));
            }
        }
        if refused.is_empty() {
            return Ok(effects);
        }
        Err(BuiltinError::policy(format!(
            "{} packages do more when they are installed than is known here, and their scripts are not run:\n{}\n\
             accept them by name if the tree is good without: `accept = [ … ]`, or `{{ deb = …; accept = \"why\"; }}`",
            refused.len(),
            refused.join("\n")
        )))
    }
}

/// Users and groups that exist by now.
struct Names {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}
