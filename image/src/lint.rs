//! The image lint: what must not be shipped.
//!
//! | finding | what it means |
//! |---|---|
//! | `wrong-architecture` | a program for another machine than the platform's |
//! | `missing-entrypoint` | what runs is not there, or not executable |
//! | `missing-library` | a program needs a library that is not there |
//! | `missing-interpreter` | a script's or program's interpreter is not there |
//! | `dangling-link` | a link to nothing |
//! | `setuid` | a file that runs as its owner or group |
//! | `root-user` | the image runs as root |
//! | `secret` | a key, a token or a file of credentials, in a file, a variable or a label |
//!
//! A finding stops the build unless `lint.allow` names its kind or its path. In a
//! distribution's tree that is not slim, programs that nothing starts may lack what
//! their packages only suggest: those findings are told, and do not stop.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::elf::{self, ElfCache};
use crate::entry::EntryKind;
use crate::error::{ImageError, Result};
use crate::needs::{Need, Needs};
use crate::oci::{Platform, RunConfig};
use crate::plan::Permission;
use crate::secrets;
use crate::slim::{Kept, glob_match};
use crate::spec::{ImageSpec, LintSpec};
use crate::view::{Node, View};

/// What the lint looks at.
pub struct Check<'a> {
    /// The image.
    pub view: &'a View,
    /// How it runs.
    pub config: &'a RunConfig,
    /// For which machine it is.
    pub platform: &'a Platform,
    /// What was asked for.
    pub spec: &'a ImageSpec,
    /// Modes that differ from the trees'.
    pub permissions: &'a [Permission],
    /// Whether other layers lie below: then what is missing here may be there.
    pub has_base: bool,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Its kind.
    pub kind: &'static str,
    /// Where.
    pub path: String,
    /// What.
    pub text: String,
    /// Whether it only concerns what nothing starts, in a distribution's tree.
    pub is_mild: bool,
}

impl Finding {
    fn line(&self) -> String {
        format!("{}: {}: {}", self.kind, self.path, self.text)
    }
}

/// What to do about findings.
fn hints(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    let lacks = |finding: &&Finding| finding.kind.starts_with("missing-");
    // The programs of a distribution look for everything below `/`.
    let is_aside = |finding: &Finding| finding.path.find("/usr/").is_some_and(|at| at > 0);
    if findings.iter().filter(lacks).any(is_aside) {
        lines.push(
            "a tree of Debian packages belongs at `/`: put it into `contents` and name programs as `/usr/bin/…`, not `${tree}/usr/bin/…`"
                .to_owned(),
        );
    } else if findings.iter().any(|finding| lacks(&finding)) {
        lines.push(
            "add what has it to `contents` (`busybox` and `dash` are shells), or keep only what runs with `slim = true`"
                .to_owned(),
        );
    }
    // Nobody is invited to ship a secret.
    let kinds: BTreeSet<&str> =
        findings.iter().map(|finding| finding.kind).filter(|kind| *kind != "secret").collect();
    if !kinds.is_empty() {
        let quoted: Vec<String> = kinds.into_iter().map(|kind| format!("\"{kind}\"")).collect();
        let quoted = quoted.join(" ");
        lines.push(format!(
            "what is meant so is let through by `lint.allow = [ {quoted} ]`, or by its path there"
        ));
    }
    lines
}

impl Check<'_> {
    /// Looks at the image, or at what `slim` keeps of it, and returns lines for the
    /// log.
    ///
    /// # Errors
    /// [`ImageError::Lint`] with every finding that is not allowed, and what to do about them.
    pub fn run(&self, kept: Option<&Kept>) -> Result<Vec<String>> {
        let allow: &[String] = match &self.spec.lint {
            LintSpec::Flag(false) => return Ok(Vec::new()),
            LintSpec::Flag(true) => &[],
            LintSpec::Full { allow } => allow,
        };
        let allowed = |finding: &Finding| {
            allow.iter().any(|word| {
                word == finding.kind
                    || (word.starts_with('/') && glob_match(word.as_bytes(), finding.path.as_bytes()))
            })
        };
        let mut findings = self.find(kept)?;
        findings.retain(|finding| !allowed(finding));
        findings.sort();
        findings.dedup();
        let (mild, hard): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(|f| f.is_mild);
        if !hard.is_empty() {
            let found = hard.iter().map(Finding::line).collect();
            return Err(ImageError::Lint { found, hints: hints(&hard) });
        }
        const SHOWN: usize = 20;
        let mut lines: Vec<String> =
            mild.iter().take(SHOWN).map(|finding| format!("warning: {}", finding.line())).collect();
        if mild.len() > SHOWN {
            lines.push(format!("warning: and {} more like these", mild.len() - SHOWN));
        }
        Ok(lines)
    }

    /// Returns every finding.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn find(&self, kept: Option<&Kept>) -> Result<Vec<Finding>> {
        let elves = ElfCache::default();
        let env = self.config.env.clone().unwrap_or_default();
        let needs = Needs::new(self.view, &elves, &env);
        let reached = self.reached(&needs)?;
        let distribution = distribution_parts(self.view);
        let nodes: Vec<(&[u8], &Node)> =
            self.view.iter().filter(|(path, _)| kept.is_none_or(|kept| kept.has(path))).collect();
        let found: Vec<Result<Vec<Finding>>> = nodes
            .par_iter()
            .map(|(path, node)| {
                let is_mild = kept.is_none() && distribution.contains(&node.part) && !reached.contains(*path);
                let mut found = self.find_at(path, node, &needs, &elves, is_mild)?;
                // What a distribution publishes is no secret.
                if !distribution.contains(&node.part) {
                    found.extend(secret_at(path, node));
                }
                Ok(found)
            })
            .collect();
        let mut findings = Vec::new();
        for more in found {
            findings.extend(more?);
        }
        self.find_config(&needs, kept, &mut findings);
        Ok(findings)
    }

    fn find_at(
        &self,
        path: &[u8],
        node: &Node,
        needs: &Needs<'_>,
        elves: &ElfCache,
        is_mild: bool,
    ) -> Result<Vec<Finding>> {
        let shown = format!("/{}", String::from_utf8_lossy(path));
        let finding = |kind, text: String| Finding { kind, path: shown.clone(), text, is_mild };
        let mut out = Vec::new();
        match &node.kind {
            EntryKind::Symlink(target)
                if self.view.resolve(path).end.is_none() && !self.has_base && !is_kernel_path(target) =>
            {
                out.push(finding("dangling-link", format!("leads to `{}`", String::from_utf8_lossy(target))));
            }
            EntryKind::File { .. } => {
                if node.mode & 0o6000 != 0 {
                    out.push(finding("setuid", format!("mode {:04o}", node.mode)));
                }
                let facts = self.view.source(path).map(|source| elves.get(source)).transpose()?.flatten();
                if let Some(facts) = &facts
                    && let Some(ours) = elf::machine_of(self.platform)
                    && (facts.machine, facts.is_64, facts.is_little) != ours
                {
                    // Firmware and the like is data to the processor; what it could
                    // never run as a program is not a program.
                    let text =
                        format!("for {}, not {}", elf::machine_name(facts), self.platform.architecture);
                    out.push(finding("wrong-architecture", text));
                    return Ok(out);
                }
                if facts.is_none() && node.mode & 0o111 == 0 {
                    return Ok(out);
                }
                if self.has_base {
                    return Ok(out);
                }
                for need in needs.of(path)? {
                    if let Need::Missing { kind, name } = need {
                        let kind = if kind == "library" { "missing-library" } else { "missing-interpreter" };
                        out.push(finding(kind, format!("needs `{name}`")));
                    }
                }
            }
            _ => {}
        }
        Ok(out)
    }

    fn find_config(&self, needs: &Needs<'_>, kept: Option<&Kept>, out: &mut Vec<Finding>) {
        let finding =
            |kind, path: &str, text: String| Finding { kind, path: path.to_owned(), text, is_mild: false };
        let user = self.config.user.split(':').next().unwrap_or_default();
        let numeric = user.parse::<u32>();
        if user.is_empty() || user == "root" || numeric == Ok(0) {
            out.push(finding("root-user", "config.user", "the image runs as root".to_owned()));
        }
        for rule in self.permissions {
            if rule.mode.is_some_and(|mode| mode & 0o6000 != 0)
                && !self.view.is_directory(rule.path.as_bytes())
            {
                let text = format!("mode {:04o} by `permissions`", rule.mode.unwrap_or_default());
                let there = self.view.get(rule.path.as_bytes()).is_some()
                    && kept.is_none_or(|kept| kept.has(rule.path.as_bytes()));
                if there || rule.recursive {
                    out.push(finding("setuid", &format!("/{}", rule.path), text));
                }
            }
        }
        for (place, what) in secrets::of_config(self.config) {
            out.push(finding("secret", &place, format!("{what}: give it when the image runs")));
        }
        if self.has_base {
            return;
        }
        let main = [&self.config.entrypoint, &self.config.cmd].into_iter().flatten().find(|c| !c.is_empty());
        if let Some(program) = main.and_then(|command| command.first()) {
            match self.command(needs, program) {
                None => {
                    out.push(finding("missing-entrypoint", program, "is not in the image".to_owned()));
                }
                Some(Need::Found { path, .. }) => {
                    let mode = self.view.get(&path).map_or(0, |node| node.mode);
                    let ruled = self.permissions.iter().rev().find(|r| r.path.as_bytes() == &*path);
                    if ruled.and_then(|r| r.mode).unwrap_or(mode) & 0o111 == 0 {
                        out.push(finding("missing-entrypoint", program, "is not executable".to_owned()));
                    }
                }
                Some(Need::Missing { .. }) => {}
            }
        }
    }

    fn command(&self, needs: &Needs<'_>, program: &str) -> Option<Need> {
        if program.contains('/') && !program.starts_with('/') {
            let dir = &self.config.working_dir;
            return needs.program(format!("{dir}/{program}").as_bytes());
        }
        needs.program(program.as_bytes())
    }

    /// Returns what the entrypoint needs, all the way.
    fn reached(&self, needs: &Needs<'_>) -> Result<BTreeSet<Box<[u8]>>> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<Box<[u8]>> = Vec::new();
        let commands = [&self.config.entrypoint, &self.config.cmd];
        for program in commands.into_iter().flatten().filter_map(|command| command.first()) {
            if let Some(Need::Found { path, links, .. }) = self.command(needs, program) {
                reached.extend(links);
                todo.push(path);
            }
        }
        while let Some(path) = todo.pop() {
            if !reached.insert(path.clone()) {
                continue;
            }
            for need in needs.of(&path)? {
                if let Need::Found { path, links, .. } = need {
                    reached.extend(links);
                    todo.push(path);
                }
            }
        }
        Ok(reached)
    }
}

fn secret_at(path: &[u8], node: &Node) -> Option<Finding> {
    let EntryKind::File { source, size } = &node.kind else { return None };
    let what = secrets::of_file(path, source, *size)?;
    let path = format!("/{}", String::from_utf8_lossy(path));
    Some(Finding {
        kind: "secret",
        path,
        text: format!("{what}: give it when the image runs"),
        is_mild: false,
    })
}

/// Links into what the kernel or the runtime mounts lead somewhere, though not here.
fn is_kernel_path(target: &[u8]) -> bool {
    [&b"/proc"[..], b"/dev", b"/sys", b"/run", b"../proc", b"../run", b"/etc/mtab", b"../proc/self/mounts"]
        .iter()
        .any(|prefix| target.starts_with(prefix))
}

/// Returns the parts that are a distribution's tree: they say what they are made of.
pub fn distribution_parts(view: &View) -> BTreeSet<usize> {
    let mut parts = BTreeSet::new();
    if let Some(node) = view.get(b"var/lib/dpkg/status") {
        parts.insert(node.part);
    }
    parts.extend(view.below(b"var/lib/dpkg/status.d").map(|(_, node)| node.part));
    parts
}
