//! Users and groups: base-passwd's master files, `sysusers.d`, what scripts add, what is declared.
//!
//! Numbers that are not given are taken as the programs take them: `adduser --system`
//! from 100 upwards, systemd-sysusers from 999 downwards; always in the order of the
//! packages' names, so that the same packages give the same numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Composed, Special};
use crate::builtin::{Attributes, BuiltinError};
use crate::unpack::RelPath;

/// What a script, or a file, asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountRequest {
    user: Option<String>,
    group: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    home: Option<String>,
    shell: Option<String>,
    gecos: Option<String>,
    /// Whether `user` becomes a member of `group`.
    member: bool,
    /// Whether numbers are taken from above.
    from_above: bool,
}

impl AccountRequest {
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Reads the arguments of adduser, addgroup, useradd, groupadd, usermod or gpasswd.
    pub(super) fn parse(program: &str, fields: &[String]) -> Option<Self> {
        let mut request = Self::default();
        let mut plain = Vec::new();
        let (mut own_group, mut system_group) = (false, false);
        let mut fields = fields.iter().flat_map(|field| match field.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
            _ => vec![field.clone()],
        });
        let short = program.starts_with("user") || program.starts_with("group") || program == "gpasswd";
        while let Some(field) = fields.next() {
            match field.as_str() {
                "--home" | "-d" | "--home-dir" => request.home = Some(fields.next()?),
                "--shell" | "-s" => request.shell = Some(fields.next()?),
                "--gecos" | "-c" | "--comment" => request.gecos = Some(fields.next()?),
                "--uid" | "-u" => request.uid = fields.next()?.parse().ok(),
                "--gid" | "-g" => {
                    let value = fields.next()?;
                    match value.parse() {
                        Ok(gid) => request.gid = Some(gid),
                        Err(_) => request.group = Some(value),
                    }
                }
                "--ingroup" => request.group = Some(fields.next()?),
                "-G" | "--groups" => {
                    request.group = Some(fields.next()?);
                    request.member = true;
                }
                "-a" if program == "gpasswd" => {
                    request.user = Some(fields.next()?);
                    request.member = true;
                }
                "-K" | "--key" | "-k" | "-b" | "-e" | "-f" | "-p" => drop(fields.next()),
                "--group" | "--user-group" | "-U" => own_group = true,
                "--system" | "-r" => system_group = short,
                field if field.starts_with('-') => {}
                _ => plain.push(field),
            }
        }
        let _ = system_group;
        match (program, &plain[..]) {
            ("addgroup" | "groupadd", [name]) => request.group = Some(name.clone()),
            ("adduser", [name]) if own_group && request.group.is_none() => {
                request.user = Some(name.clone());
                request.group = Some(name.clone());
            }
            ("adduser", [user, group]) => {
                request.user = Some(user.clone());
                request.group = Some(group.clone());
                request.member = true;
            }
            ("adduser" | "useradd" | "usermod", [name]) => request.user = Some(name.clone()),
            ("gpasswd", [group]) => request.group = Some(group.clone()),
            _ => return None,
        }
        Some(request)
    }
}

#[derive(Clone)]
struct User {
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
}

struct Group {
    gid: u32,
    members: BTreeSet<String>,
}

/// Users and groups in the order in which they are written.
#[derive(Default)]
struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
    order: Vec<String>,
    group_order: Vec<String>,
}

const PASSWD_MASTER: &str = "usr/share/base-passwd/passwd.master";
const GROUP_MASTER: &str = "usr/share/base-passwd/group.master";

impl Composed<'_> {
    /// Returns the names of users and groups that are there from the start.
    pub(super) fn base_names(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut names = |path: &str| -> BTreeSet<String> {
            let text = self.text(path).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.to_owned())
                .chain(["root".to_owned()])
                .collect()
        };
        (names(PASSWD_MASTER), names(GROUP_MASTER))
    }

    /// Writes `/etc/passwd` and `/etc/group`.
    pub(super) fn write_accounts(&mut self, requests: &[AccountRequest]) -> Result<(), BuiltinError> {
        let mut accounts = Accounts::default();
        accounts.read_group(&self.text(GROUP_MASTER).unwrap_or_default());
        accounts.read_passwd(&self.text(PASSWD_MASTER).unwrap_or_default());
        if accounts.users.is_empty() {
            accounts.read_group("root:x:0:\nnogroup:x:65534:\n");
            accounts.read_passwd(
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
            );
        }
        for (request, line) in self.sysusers() {
            accounts
                .add(&request)
                .map_err(|reason| BuiltinError::build(format!("sysusers.d: `{line}`: {reason}")))?;
        }
        for request in requests {
            accounts
                .add(request)
                .map_err(|reason| BuiltinError::build(format!("a maintainer script's account: {reason}")))?;
        }
        let extra = self
            .settings
            .extra_groups
            .iter()
            .map(|v| ("extraGroups", v))
            .chain(self.settings.extra_users.iter().map(|v| ("extraUsers", v)));
        for (attribute, value) in extra {
            for request in declared(attribute, value)? {
                accounts.add(&request).map_err(|reason| Attributes::error(attribute, reason))?;
            }
        }
        // Scripts name owners; an image needs their numbers.
        for special in self.special.values_mut() {
            let user = special.user.as_ref().and_then(|name| accounts.users.get(name));
            let group = special.group.as_ref().and_then(|name| accounts.groups.get(name));
            special.uid = user.map(|user| u64::from(user.uid)).or(special.uid);
            special.gid = group.map(|group| u64::from(group.gid)).or(special.gid);
        }
        self.write("etc/passwd", &accounts.passwd())?;
        self.write("etc/group", &accounts.group())?;
        // What the package `passwd` makes when it is installed: programs that log people in look there.
        let shadowconfig = RelPath::parse(b"usr/sbin/shadowconfig").expect("a good path");
        if self.owners.contains_key(&shadowconfig) {
            self.write_secret("etc/shadow", &accounts.shadow(), &accounts)?;
            self.write_secret("etc/gshadow", &accounts.gshadow(), &accounts)?;
        }
        Ok(())
    }

    /// Writes a file that only root and the group `shadow` may read.
    fn write_secret(&mut self, path: &str, text: &str, accounts: &Accounts) -> Result<(), BuiltinError> {
        self.write(path, text)?;
        let group = if accounts.groups.contains_key("shadow") { "shadow" } else { "root" };
        let mut special = Special { mode: Some(0o640), ..Special::default() };
        special.set_owner("root", group);
        special.uid = Some(0);
        special.gid = accounts.groups.get(group).map(|group| u64::from(group.gid));
        self.special.insert(RelPath::parse(path.as_bytes()).expect("a good path"), special);
        Ok(())
    }

    /// Reads `usr/lib/sysusers.d/*.conf`.
    fn sysusers(&mut self) -> Vec<(AccountRequest, String)> {
        let dir = RelPath::parse(b"usr/lib/sysusers.d").expect("a good path");
        let mut requests = Vec::new();
        for name in self.tree.names(&dir) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let text = self.text(&format!("usr/lib/sysusers.d/{name}")).unwrap_or_default();
            for line in
                text.lines().filter(|line| name.ends_with(".conf") && !line.trim_start().starts_with('#'))
            {
                requests.extend(sysusers_line(line).map(|request| (request, line.to_owned())));
            }
        }
        requests
    }
}

/// `u name 123:45 "gecos" home shell`, `g name 123`, `m user group`.
fn sysusers_line(line: &str) -> Option<AccountRequest> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    let field = |n: usize| words.get(n).filter(|w| *w != "-" && !w.is_empty()).cloned();
    let name = field(1)?;
    let mut request = AccountRequest { from_above: true, ..AccountRequest::default() };
    match words.first()?.trim_end_matches('!') {
        "u" => {
            request.user = Some(name.clone());
            request.group = Some(name);
            let id = field(2).unwrap_or_default();
            let (uid, gid) = id.split_once(':').unwrap_or((&id, ""));
            request.uid = uid.parse().ok();
            match gid.parse() {
                Ok(gid) => request.gid = Some(gid),
                Err(_) if !gid.is_empty() => request.group = Some(gid.to_owned()),
                Err(_) => request.gid = request.uid,
            }
            (request.gecos, request.home, request.shell) = (field(3), field(4), field(5));
        }
        "g" => {
            request.group = Some(name);
            request.gid = field(2).and_then(|id| id.parse().ok());
        }
        "m" => {
            request.user = Some(name);
            request.group = field(2);
            request.member = true;
        }
        _ => return None,
    }
    Some(request)
}

/// Reads an element of `extraUsers` or `extraGroups`.
fn declared(attribute: &str, value: &Value) -> Result<Vec<AccountRequest>, BuiltinError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let name = text("name").ok_or_else(|| Attributes::error(attribute, "an element has no `name`"))?;
    if name.is_empty() || name.contains([':', '\n', '/', ' ']) {
        return Err(Attributes::error(attribute, format!("`{name}` cannot be a name")).into());
    }
    if attribute == "extraGroups" {
        let mut requests = vec![AccountRequest {
            group: Some(name.clone()),
            gid: number("gid"),
            ..AccountRequest::default()
        }];
        let members = value.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
        requests.extend(members.iter().filter_map(Value::as_str).map(|user| AccountRequest {
            user: Some(user.to_owned()),
            group: Some(name.clone()),
            member: true,
            ..AccountRequest::default()
        }));
        return Ok(requests);
    }
    let group = text("group").or_else(|| Some(name.clone()));
    Ok(vec![AccountRequest {
        user: Some(name),
        group,
        uid: number("uid"),
        gid: number("gid").or(number("uid")),
        home: text("home"),
        shell: text("shell"),
        gecos: text("gecos"),
        ..AccountRequest::default()
    }])
}

impl Accounts {
    fn read_group(&mut self, text: &str) {
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else { continue };
            let Ok(gid) = gid.parse() else { continue };
            let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            self.insert_group(name, Group { gid, members });
        }
    }

    fn read_passwd(&mut self, text: &str) {
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, gecos, home, shell] = fields[..] else { continue };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
            let user =
                User { uid, gid, gecos: gecos.to_owned(), home: home.to_owned(), shell: shell.to_owned() };
            self.insert_user(name, user);
        }
    }

    fn insert_group(&mut self, name: &str, group: Group) {
        if self.groups.insert(name.to_owned(), group).is_none() {
            self.group_order.push(name.to_owned());
        }
    }

    fn insert_user(&mut self, name: &str, user: User) {
        if self.users.insert(name.to_owned(), user).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Returns a number that neither a user nor a group has.
    fn free(&self, from_above: bool) -> Result<u32, String> {
        let taken = |id: &u32| {
            self.users.values().any(|u| u.uid == *id) || self.groups.values().any(|g| g.gid == *id)
        };
        let found = if from_above {
            (100..=999).rev().find(|id| !taken(id))
        } else {
            (100..=999).find(|id| !taken(id))
        };
        found.ok_or_else(|| "no number between 100 and 999 is free".to_owned())
    }

    fn add(&mut self, request: &AccountRequest) -> Result<(), String> {
        if request.member {
            if let (Some(user), Some(groups)) = (&request.user, &request.group) {
                for group in groups.split(',') {
                    self.ensure_group(group, None, request.from_above)?;
                    self.groups.get_mut(group).expect("made above").members.insert(user.clone());
                }
            }
            return Ok(());
        }
        let same_name = request.user.is_some() && request.user == request.group;
        // One number for both, where both are new.
        let shared = match (request.uid.or(request.gid), same_name) {
            (None, true) => Some(self.free(request.from_above)?),
            _ => None,
        };
        let gid = match &request.group {
            Some(group) => Some(self.ensure_group(group, request.gid.or(shared), request.from_above)?),
            None => request.gid,
        };
        let Some(name) = &request.user else { return Ok(()) };
        if let Some(user) = self.users.get_mut(name) {
            // usermod, or a second script: what it names changes.
            if let Some(home) = &request.home {
                user.home.clone_from(home)
            }
            if let Some(shell) = &request.shell {
                user.shell.clone_from(shell)
            }
            if let Some(gecos) = &request.gecos {
                user.gecos.clone_from(gecos)
            }
            return Ok(());
        }
        let uid = match request.uid.or(shared) {
            Some(uid) => uid,
            None => self.free(request.from_above)?,
        };
        if let Some((other, _)) = self.users.iter().find(|(_, u)| u.uid == uid) {
            return Err(format!("user `{name}` is to have the number {uid}, which `{other}` has"));
        }
        let user = User {
            uid,
            gid: gid.unwrap_or(65534),
            gecos: request.gecos.clone().unwrap_or_default().replace([':', '\n'], " "),
            home: request
                .home
                .clone()
                .unwrap_or_else(|| if request.from_above { "/" } else { "/nonexistent" }.to_owned()),
            shell: request.shell.clone().unwrap_or_else(|| "/usr/sbin/nologin".to_owned()),
        };
        self.insert_user(name, user);
        Ok(())
    }

    fn ensure_group(&mut self, name: &str, gid: Option<u32>, from_above: bool) -> Result<u32, String> {
        if let Some(group) = self.groups.get(name) {
            return Ok(group.gid);
        }
        let gid = match gid {
            Some(gid) => gid,
            None => self.free(from_above)?,
        };
        self.insert_group(name, Group { gid, members: BTreeSet::new() });
        Ok(gid)
    }

    fn passwd(&self) -> String {
        let line = |name: &String| {
            let User { uid, gid, gecos, home, shell } = &self.users[name];
            format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n")
        };
        self.order.iter().map(line).collect()
    }

    /// No one has a password; no day of its last change either, which would be the day of the build.
    fn shadow(&self) -> String {
        self.order.iter().map(|name| format!("{name}:*::0:99999:7:::\n")).collect()
    }

    fn gshadow(&self) -> String {
        let line = |name: &String| {
            let members: Vec<&str> = self.groups[name].members.iter().map(String::as_str).collect();
            format!("{name}:*::{}\n", members.join(","))
        };
        self.group_order.iter().map(line).collect()
    }

    fn group(&self) -> String {
        let line = |name: &String| {
            let group = &self.groups[name];
            let members: Vec<&str> = group.members.iter().map(String::as_str).collect();
            format!("{name}:x:{}:{}\n", group.gid, members.join(","))
        };
        self.group_order.iter().map(line).collect()
    }
}
