//! Users and groups of an image: `etc/passwd` and `etc/group`.

use std::collections::BTreeMap;

use crate::error::{ImageError, Result};
use crate::spec::{GroupSpec, UserSpec};

/// The user that runs unless the file says otherwise, by number and name.
pub const NONROOT: (u32, &str) = (65532, "nonroot");

/// The two tables, line by line.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: Vec<String>,
    group: Vec<String>,
    changed: bool,
}

impl Accounts {
    /// Reads what a tree brings.
    pub fn read(passwd: Option<&[u8]>, group: Option<&[u8]>) -> Self {
        let lines = |bytes: Option<&[u8]>| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
        };
        Self { passwd: lines(passwd), group: lines(group), changed: false }
    }

    /// Adds root, the default user, and what the file names.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] for a name that is taken by another number, a name
    /// that a table cannot hold, or a member that is no user.
    pub fn add(
        &mut self,
        users: &BTreeMap<String, UserSpec>,
        groups: &BTreeMap<String, GroupSpec>,
    ) -> Result<()> {
        let root = UserSpec { home: Some("/root".to_owned()), ..UserSpec::default() };
        let nonroot =
            UserSpec { uid: NONROOT.0, home: Some("/home/nonroot".to_owned()), ..UserSpec::default() };
        for (name, user) in [("root", &root), (NONROOT.1, &nonroot)] {
            if !users.contains_key(name) && self.user(name).is_none() && self.name_of(user.uid).is_none() {
                self.add_user(name, user)?;
            }
        }
        for (name, group) in groups {
            self.add_group(name, group.gid, &group.members)?;
        }
        for (name, user) in users {
            self.add_user(name, user)?;
        }
        for (name, user) in users {
            for group in &user.groups {
                self.join(name, group)?;
            }
        }
        Ok(())
    }

    fn add_user(&mut self, name: &str, user: &UserSpec) -> Result<()> {
        let gid = user.gid.unwrap_or(user.uid);
        let home = user.home.clone().unwrap_or_else(|| "/".to_owned());
        let shell = user.shell.as_deref().unwrap_or("/sbin/nologin");
        let real = user.description.as_deref().unwrap_or(name);
        for field in [name, &home, shell, real] {
            check_field(field)?;
        }
        if self.gid_name(gid).is_none() {
            self.add_group(name, gid, &[])?;
        }
        let line = format!("{name}:x:{}:{gid}:{real}:{home}:{shell}", user.uid);
        let taken = self.passwd.iter().position(|l| first(l) == name);
        match taken {
            Some(i) if self.passwd[i] == line => {}
            Some(i) if field(&self.passwd[i], 2) == user.uid.to_string() => {
                self.passwd[i] = line;
                self.changed = true;
            }
            Some(i) => {
                return Err(ImageError::invalid(format!(
                    "user `{name}` is wanted with number {}, but the tree has it with {}",
                    user.uid,
                    field(&self.passwd[i], 2)
                )));
            }
            None => {
                self.passwd.push(line);
                self.changed = true;
            }
        }
        Ok(())
    }

    fn add_group(&mut self, name: &str, gid: u32, members: &[String]) -> Result<()> {
        check_field(name)?;
        match self.group.iter().find(|l| first(l) == name) {
            None => {
                self.group.push(format!("{name}:x:{gid}:"));
                self.changed = true;
            }
            Some(line) if field(line, 2) == gid.to_string() => {}
            Some(line) => {
                return Err(ImageError::invalid(format!(
                    "group `{name}` is wanted with number {gid}, but it is there with {}",
                    field(line, 2)
                )));
            }
        }
        members.iter().try_for_each(|member| self.join(member, name))
    }

    fn join(&mut self, user: &str, group: &str) -> Result<()> {
        check_field(user)?;
        let Some(line) = self.group.iter_mut().find(|l| first(l) == group) else {
            return Err(ImageError::invalid(format!(
                "user `{user}` is to be in group `{group}`, which does not exist"
            )));
        };
        let members = field(line, 3).to_owned();
        if !members.split(',').any(|m| m == user) {
            if !members.is_empty() {
                line.push(',');
            }
            line.push_str(user);
            self.changed = true;
        }
        Ok(())
    }

    fn user(&self, name: &str) -> Option<&String> {
        self.passwd.iter().find(|l| first(l) == name)
    }

    fn name_of(&self, uid: u32) -> Option<&str> {
        self.passwd.iter().find(|l| field(l, 2) == uid.to_string()).map(|l| first(l))
    }

    fn gid_name(&self, gid: u32) -> Option<&str> {
        self.group.iter().find(|l| field(l, 2) == gid.to_string()).map(|l| first(l))
    }

    /// Returns the number of a user, by number or name.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] naming those that there are.
    pub fn uid(&self, user: &str) -> Result<u32> {
        if let Ok(number) = user.parse() {
            return Ok(number);
        }
        let line = self.user(user).ok_or_else(|| unknown("user", user, &self.passwd))?;
        field(line, 2).parse().map_err(|_| ImageError::malformed("etc/passwd", format!("line `{line}`")))
    }

    /// Returns the number of a group, by number or name.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] naming those that there are.
    pub fn gid(&self, group: &str) -> Result<u32> {
        if let Ok(number) = group.parse() {
            return Ok(number);
        }
        let line = self.group.iter().find(|l| first(l) == group);
        let line = line.ok_or_else(|| unknown("group", group, &self.group))?;
        field(line, 2).parse().map_err(|_| ImageError::malformed("etc/group", format!("line `{line}`")))
    }

    /// Returns the two files, if they differ from what the tree brought.
    pub fn changed_files(&self) -> Option<(String, String)> {
        let text = |lines: &[String]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
        self.changed.then(|| (text(&self.passwd), text(&self.group)))
    }
}

fn unknown(kind: &str, name: &str, lines: &[String]) -> ImageError {
    let there: Vec<&str> = lines.iter().map(|l| first(l)).collect();
    ImageError::invalid(format!("{kind} `{name}` is not in the image: it has `{}`", there.join("`, `")))
}

fn first(line: &str) -> &str {
    field(line, 0)
}

fn field(line: &str, n: usize) -> &str {
    line.split(':').nth(n).unwrap_or_default()
}

fn check_field(text: &str) -> Result<()> {
    if text.contains([':', '\n', '\0', ',']) && !text.is_empty() {
        return Err(ImageError::invalid(format!("{text:?} cannot be written in etc/passwd or etc/group")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_image_gets_root_and_nonroot() {
        let mut accounts = Accounts::default();
        accounts.add(&BTreeMap::new(), &BTreeMap::new()).unwrap();
        let (passwd, group) = accounts.changed_files().unwrap();
        assert_eq!(
            passwd,
            "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
        );
        assert_eq!(group, "root:x:0:\nnonroot:x:65532:\n");
    }

    #[test]
    fn the_trees_lines_stay() {
        let mut accounts = Accounts::read(
            Some(b"root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/x\n"),
            Some(b"root:x:0:\nwww-data:x:33:\n"),
        );
        let app = UserSpec { uid: 1000, groups: vec!["www-data".to_owned()], ..UserSpec::default() };
        accounts.add(&BTreeMap::from([("app".to_owned(), app)]), &BTreeMap::new()).unwrap();
        let (passwd, group) = accounts.changed_files().unwrap();
        assert!(passwd.starts_with("root:x:0:0:root:/root:/bin/bash\nwww-data:"));
        assert!(group.contains("www-data:x:33:app\n") && group.contains("app:x:1000:\n"));
        assert_eq!((accounts.uid("www-data").unwrap(), accounts.uid("12").unwrap()), (33, 12));
        assert!(accounts.uid("nobody").unwrap_err().to_string().contains("`www-data`"));
    }

    #[test]
    fn two_numbers_for_one_name_are_refused() {
        let mut accounts = Accounts::read(Some(b"app:x:5:5::/:/x\n"), None);
        let app = UserSpec { uid: 6, ..UserSpec::default() };
        assert!(accounts.add(&BTreeMap::from([("app".to_owned(), app)]), &BTreeMap::new()).is_err());
        let odd = UserSpec { uid: 7, home: Some("/a:b".to_owned()), ..UserSpec::default() };
        assert!(
            Accounts::default().add(&BTreeMap::from([("odd".to_owned(), odd)]), &BTreeMap::new()).is_err()
        );
    }
}
