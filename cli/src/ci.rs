//! Services that run jobs, and the marks by which their logs fold and point at files.

/// A service whose logs can be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ci {
    /// GitHub Actions: workflow commands.
    GitHub,
    /// GitLab: section marks.
    GitLab,
}

impl Ci {
    /// The service that this job runs on, by the variables that it sets.
    pub fn detect() -> Option<Self> {
        let set = |name: &str| std::env::var(name).is_ok_and(|value| value == "true");
        if set("GITHUB_ACTIONS") {
            Some(Self::GitHub)
        } else if set("GITLAB_CI") {
            Some(Self::GitLab)
        } else {
            None
        }
    }

    /// Begins a fold with a title.
    fn open(self, title: &str) -> String {
        match self {
            Self::GitHub => format!("::group::{}", github_data(title)),
            Self::GitLab => {
                format!(
                    "section_start:{}:{}[collapsed=true]\r\x1b[0K{title}",
                    unix_seconds(),
                    section_name(title)
                )
            }
        }
    }

    /// A fold with what somebody else's program printed in it: none of it is a mark of the service.
    pub fn fold(self, title: &str, lines: &[String]) -> String {
        let (open, text, close) = (self.open(title), lines.join("\n"), self.close(title));
        match self {
            Self::GitHub => {
                // Commands are not read until a word that nobody inside can know.
                let word = unforeseen();
                format!("{open}\n::stop-commands::{word}\n{text}\n::{word}::\n{close}")
            }
            Self::GitLab => format!("{open}\n{text}\n{close}"),
        }
    }

    /// Ends the fold of that title.
    fn close(self, title: &str) -> String {
        match self {
            Self::GitHub => "::endgroup::".to_owned(),
            Self::GitLab => format!("section_end:{}:{}\r\x1b[0K", unix_seconds(), section_name(title)),
        }
    }

    /// Marks an error, at a file and line if there is one; nothing where the service has no such mark.
    pub fn annotate(self, message: &str, at: Option<(&str, u32, u32)>) -> Option<String> {
        match self {
            Self::GitHub => {
                let place = at.map_or_else(String::new, |(file, line, column)| {
                    format!(" file={},line={line},col={column}", github_property(file))
                });
                Some(format!("::error{place}::{}", github_data(message)))
            }
            Self::GitLab => None,
        }
    }
}

/// A word that cannot be guessed.
fn unforeseen() -> String {
    use std::hash::{BuildHasher, Hasher};
    let number = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", number(), number())
}

/// Escapes as GitHub's workflow commands ask for.
fn github_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn github_property(text: &str) -> String {
    github_data(text).replace(':', "%3A").replace(',', "%2C")
}

fn section_name(title: &str) -> String {
    title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_ci_services_cannot_be_forged_by_a_message() {
        let mark = Ci::GitHub.annotate("a\n::error::b 100%", Some(("x,y.img", 3, 4))).unwrap();
        assert_eq!(mark, "::error file=x%2Cy.img,line=3,col=4::a%0A::error::b 100%25");
        let fold = Ci::GitHub.fold("log of x", &["::error::mine".to_owned()]);
        let lines: Vec<&str> = fold.lines().collect();
        let word = lines[1].strip_prefix("::stop-commands::").expect("commands are stopped");
        assert_eq!(lines[2..], ["::error::mine", &format!("::{word}::"), "::endgroup::"]);
        assert_ne!(
            fold,
            Ci::GitHub.fold("log of x", &["::error::mine".to_owned()]),
            "another word each time"
        );
        assert!(Ci::GitLab.open("build x-1.0").contains(":build_x_1_0[collapsed=true]"));
    }
}
