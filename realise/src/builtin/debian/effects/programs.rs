//! Programs that scripts call: what each one does, by its name and arguments.

use super::condition::compare_versions;
use super::reader::{Reader, Status, plain};
use crate::builtin::debian::Special;
use crate::builtin::debian::accounts::AccountRequest;
use crate::builtin::debian::alternatives::Alternative;
use crate::builtin::debian::script::Word;
use crate::unpack::Found;

/// Commands that only look.
const READS: &str = "\
    awk basename cat cmp comm cut date df diff dirname dpkg dpkg-architecture dpkg-query \
    dpkg-vendor egrep expr fgrep file gawk getconf grep groups head hostname ischroot locale \
    ls lsb_release mawk md5sum mountpoint nproc paste pgrep pidof ps pwd readlink \
    realpath rev runlevel seq sha1sum sha256sum sort stat tail tr tty uname uniq wc whoami \
    zcat zgrep getopt systemd-detect-virt ss netstat getcap deb-systemd-escape ucfq \
    dpkg-realpath pam_getenv phpquery chronyd squid";

/// Commands of the shell that change nothing outside it.
const NEUTRAL: &str = "\
    cd hash let sleep stty sync trap ulimit umask wait getopts alias times logger clear";

/// Commands whose effect has no meaning in a tree, and what kind it is.
const IGNORED: &[(&str, &str)] = &[
    (
        "service",
        "deb-systemd-helper deb-systemd-invoke initctl init insserv invoke-rc.d \
         journalctl kill killall modprobe mount pkill rc-update reload restart service \
         start-stop-daemon sysctl systemctl systemd-tmpfiles telinit udevadm umount \
         update-inetd update-rc.d systemd-machine-id-setup systemd-hwdb dbus-send \
         dbus-uuidgen start stop status needrestart rsyslog-rotate aa-enabled aa-status \
         apparmor_parser apparmor_status runit-helper udevcontrol a2query chattr lsattr",
    ),
    (
        "cache",
        "appstreamcli dpkg-trigger fc-cache gio-querymodules glib-compile-schemas \
         gtk-update-icon-cache install-info ldconfig mandb update-desktop-database \
         update-fonts-alias update-fonts-dir update-fonts-scale update-grub \
         update-icon-caches update-info-dir update-initramfs update-menus update-mime \
         update-mime-database update-gconf-defaults update-catalog update-xmlcatalog \
         apt-cache gdk-pixbuf-query-loaders pg_updatedicts emacs-package-install \
         emacs-package-remove",
    ),
    (
        "byte-code",
        "py3clean py3compile pyclean pycompile pypy3clean pypy3compile pypyclean \
         pypycompile",
    ),
    (
        "debconf",
        "debconf-communicate debconf-set-selections debconf-show ucfr update-locale \
         debconf",
    ),
    (
        "upgrade",
        "dpkg-maintscript-helper rm unlink remove-shell deluser delgroup userdel \
         groupdel symlink_to_dir savelog rename",
    ),
    ("pam", "pam-auth-update"),
    // Keys and certificates that each machine makes for itself.
    ("machine", "make-ssl-cert ssh-keygen rndc-confgen"),
];

/// Returns whether a program's effect has no meaning in a tree.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|(_, names)| has_word(names, name))
}

/// Returns whether `words` has `word` as one of its words.
fn has_word(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|known| known == word)
}

impl Reader<'_, '_> {
    /// A program: what it does, by its name and arguments.
    pub(super) fn program(&mut self, name: &str, fields: Option<&[String]>, words: &[Word]) -> Status {
        let line = || {
            let rest: Vec<String> = match fields {
                Some(fields) => fields.to_vec(),
                None => words.iter().map(plain).collect(),
            };
            format!("{name} {}", rest.join(" ")).trim_end().to_owned()
        };
        if let Some((kind, _)) = IGNORED.iter().find(|(_, names)| has_word(names, name)) {
            self.ignore(kind);
            self.output(None);
            return None;
        }
        if name.starts_with("db_") {
            self.ignore("debconf");
            return self.question(name, fields);
        }
        if has_word(NEUTRAL, name) {
            return Some(true);
        }
        let known = match name {
            "dpkg" if fields.is_some_and(|f| f == ["--print-architecture"]) => {
                let text = self.architecture().map(|name| name + "\n");
                self.output(text.as_deref());
                return Some(true);
            }
            "dpkg" => return compare_versions(fields?),
            "dirname" | "basename" => {
                let text = fields.and_then(|f| path_part(name, f)).map(|part| part + "\n");
                self.output(text.as_deref());
                return Some(true);
            }
            "runuser" if fields.is_some_and(|f| f.iter().any(|a| a.ends_with("/mandb"))) => {
                self.ignore("cache");
                Some(())
            }
            // Modules are enabled for every way to run PHP, so that a way enables nothing that its modules have not.
            "phpenmod" => fields.map_or(Some(()), |f| self.enable_php_module(f)),
            "a2enmod" | "a2enconf" | "a2ensite" => fields.and_then(|f| self.enable_apache(name, f)),
            "openssl" if fields.and_then(|f| f.first()).is_some_and(|f| f == "rand") => {
                self.ignore("machine");
                self.output(None);
                return None;
            }
            "mktemp" => {
                let path = format!("/tmp/file-{}", self.temporaries.len());
                self.output(Some(&(path.clone() + "\n")));
                self.temporaries.insert(path, Some(String::new()));
                return Some(true);
            }
            name if name.ends_with("/configure-symlinks") => {
                fields.and_then(|f| self.choose_mysql_settings(f))
            }
            "getent" | "id" => return self.exists_account(fields),
            "sed" if !words.iter().map(plain).any(|w| w == "--in-place" || w.starts_with("-i")) => {
                self.output(None);
                return None;
            }
            "sed" if fields.and_then(|f| f.last()).is_some_and(|f| f.starts_with("/tmp/")) => {
                let file = fields.and_then(|f| f.last()).cloned().expect("it was just looked at");
                self.temporaries.insert(file, None);
                Some(())
            }
            "find" => {
                let acts = |f: &String| matches!(f.as_str(), "-exec" | "-execdir" | "-ok" | "-delete");
                let removes = |f: &[String]| f.iter().any(|a| a == "rm" || a == "rmdir" || a == "-delete");
                match fields {
                    Some(f) if !f.iter().any(acts) => {}
                    Some(f) if removes(f) => self.ignore("upgrade"),
                    _ => self.refuse(&line()),
                }
                self.output(None);
                return None;
            }
            "xargs" => fields
                .is_some_and(|f| f.iter().any(|a| a == "rm" || a == "rmdir" || has_word(READS, a)))
                .then_some(()),
            "dpkg-divert" => fields
                .filter(|f| {
                    f.iter()
                        .any(|a| matches!(a.as_str(), "--list" | "--truename" | "--remove" | "--listpackage"))
                })
                .map(|_| ()),
            "dpkg-statoverride" => {
                if fields.is_some_and(|f| f.iter().any(|a| a == "--list")) {
                    return Some(false);
                }
                fields.and_then(|f| self.stat_override(f))
            }
            "update-alternatives" => fields.and_then(|f| self.alternative(f)),
            "adduser" | "addgroup" | "useradd" | "groupadd" | "usermod" | "gpasswd" => {
                fields.and_then(|f| self.account(name, f))
            }
            "systemd-sysusers"
            | "update-passwd"
            | "update-ca-certificates"
            | "update-shells"
            | "shadowconfig" => Some(()),
            "add-shell" => fields.map(|f| self.effects.shells.extend(f.iter().cloned())),
            "mkdir" => fields.and_then(|f| self.make_directories(f, &["-m", "--mode"])),
            "install" => fields.and_then(|f| self.install(f)),
            "cp" | "ucf" => fields.and_then(|f| self.copy(f)),
            "ln" => fields.and_then(|f| self.link(f)),
            // Where it is not known what is moved, it is what an older version left.
            "mv" => match fields {
                Some(fields) => self.rename(fields),
                None => {
                    self.ignore("upgrade");
                    Some(())
                }
            },
            "rmdir" => {
                self.remove_directories(fields.unwrap_or_default());
                Some(())
            }
            name if name.starts_with("python3")
                && words.iter().any(|w| plain(w).ends_with("py_compile.py")) =>
            {
                self.ignore("byte-code");
                Some(())
            }
            "setcap" if fields.is_some_and(|f| f.iter().any(|a| a == "-r")) => Some(()),
            "restorecon" => {
                self.ignore("owner");
                Some(())
            }
            "touch" => fields.and_then(|f| self.touch(f)),
            "chown" | "chgrp" | "chmod" => {
                if fields.and_then(|f| self.owner_or_mode(name, f)).is_none() {
                    self.ignore("owner");
                }
                Some(())
            }
            name if has_word(READS, name) => {
                self.output(None);
                return None;
            }
            _ => None,
        };
        if known.is_none() {
            self.refuse(&line());
            return None;
        }
        Some(true)
    }

    /// debconf, when nobody is asked: the templates' defaults.
    fn question(&mut self, name: &str, fields: Option<&[String]>) -> Status {
        match (name, fields) {
            ("db_get", Some([question])) => {
                let answer = self.answers.get(question).cloned();
                self.variables.insert("RET".to_owned(), Some(answer.clone().unwrap_or_default()));
                Some(answer.is_some())
            }
            ("db_set", Some([question, answer])) => {
                self.answers.insert(question.clone(), answer.clone());
                Some(true)
            }
            ("db_get" | "db_fget" | "db_metaget" | "db_version" | "db_x_loadtemplatefile", _) => {
                self.variables.insert("RET".to_owned(), None);
                None
            }
            _ => Some(true),
        }
    }

    fn exists_account(&mut self, fields: Option<&[String]>) -> Status {
        self.output(None);
        let fields = fields?;
        let name = fields.iter().rev().find(|f| !f.starts_with('-'))?;
        let group = fields.first().is_some_and(|f| f == "group");
        if group { Some(self.names.groups.contains(name)) } else { Some(self.names.users.contains(name)) }
    }

    fn alternative(&mut self, fields: &[String]) -> Option<()> {
        if fields.iter().any(|f| {
            matches!(
                f.as_str(),
                "--remove"
                    | "--remove-all"
                    | "--auto"
                    | "--query"
                    | "--list"
                    | "--display"
                    | "--get-selections"
            )
        }) {
            return Some(());
        }
        self.effects.alternatives.push(Alternative::parse(fields)?);
        Some(())
    }

    fn account(&mut self, program: &str, fields: &[String]) -> Option<()> {
        let request = AccountRequest::parse(program, fields)?;
        if let Some(user) = request.user() {
            self.names.users.insert(user.to_owned());
        }
        if let Some(group) = request.group() {
            self.names.groups.insert(group.to_owned());
        }
        self.effects.accounts.push(request);
        Some(())
    }

    fn stat_override(&mut self, fields: &[String]) -> Option<()> {
        let plain: Vec<&String> = fields.iter().filter(|f| !f.starts_with("--")).collect();
        let [user, group, mode, path] = plain[..] else { return None };
        self.set_special(path, |special| {
            special.mode = u32::from_str_radix(mode, 8).ok().or(special.mode);
            special.set_owner(user, group);
        })
    }

    fn set_special(&mut self, path: &str, set: impl FnOnce(&mut Special)) -> Option<()> {
        if !path.starts_with('/') || path.contains(['*', '?']) {
            return None;
        }
        let place = self.composed.settings.layout.absolute(path).ok()?;
        if self.composed.tree.look(&place) != Found::Nothing {
            set(self.composed.special.entry(place).or_default());
        }
        Some(())
    }

    fn make_directories(&mut self, fields: &[String], with_value: &[&str]) -> Option<()> {
        let (paths, mode) = operands(fields, with_value)?;
        for path in paths {
            if !path.starts_with('/') {
                return None;
            }
            if self.composed.exists(&path) || path.starts_with("/tmp/") {
                continue;
            }
            // `/var/run` is a link: what is made below it lies in `/run`.
            let path = self.composed.resolved(&path)?;
            let place = self.composed.settings.layout.absolute(&path).ok()?;
            self.done(|c| Ok(c.tree.directory(&place)?), "mkdir");
            if let Some(mode) =
                mode.as_deref().and_then(|m| u32::from_str_radix(m, 8).ok()).filter(|mode| *mode != 0o755)
            {
                self.set_special(&path, |special| special.mode = Some(mode))?;
            }
        }
        Some(())
    }

    fn install(&mut self, fields: &[String]) -> Option<()> {
        let with_value = ["-m", "-o", "-g", "--mode", "--owner", "--group"];
        let value = |short: &str, long: &str| {
            let at = fields.iter().position(|f| f == short || f == long);
            let joined = fields.iter().find_map(|f| f.strip_prefix(&format!("{long}="))).map(str::to_owned);
            at.and_then(|at| fields.get(at + 1).cloned()).or(joined)
        };
        let (paths, _) = operands(fields, &with_value)?;
        let mode = value("-m", "--mode");
        if fields.iter().any(|f| {
            f == "-d" || f == "--directory" || (f.starts_with('-') && !f.starts_with("--") && f.contains('d'))
        }) {
            for path in &paths {
                let mode_arguments = mode.iter().flat_map(|mode| ["-m".to_owned(), mode.clone()]);
                let arguments: Vec<String> = mode_arguments.chain([path.clone()]).collect();
                self.make_directories(&arguments, &["-m"])?;
                let (user, group) = (value("-o", "--owner"), value("-g", "--group"));
                if user.is_some() || group.is_some() {
                    self.set_special(path, |special| {
                        special.set_owner(&user.unwrap_or_default(), &group.unwrap_or_default());
                    })?;
                }
            }
            return Some(());
        }
        self.copy(&paths)
    }

    /// Copies a file that a package brought to where nothing is.
    fn copy(&mut self, fields: &[String]) -> Option<()> {
        let (paths, _) = operands(fields, &["--debconf-template", "--src-dir", "--sum-file"])?;
        let [from, to] = &paths[..] else { return None };
        if !from.starts_with('/') || !to.starts_with('/') {
            return None;
        }
        if to.starts_with("/tmp/") {
            let text = self.file_text(from);
            self.temporaries.insert(to.clone(), text);
            return Some(());
        }
        let mut to = to.clone();
        if self.composed.found(&to) == Found::Directory {
            to = format!("{}/{}", to.trim_end_matches('/'), from.rsplit('/').next()?);
        }
        if self.composed.exists(&to) {
            return Some(());
        }
        let text = self.file_text(from)?;
        self.done(|c| c.write(&to, &text), "cp");
        Some(())
    }

    /// Returns the architecture that packages are composed for.
    fn architecture(&self) -> Option<String> {
        let own = self.variables.get("DPKG_MAINTSCRIPT_ARCH").cloned().flatten();
        let known = |name: &String| name != "all";
        own.filter(known)
            .or_else(|| self.composed.packages.iter().map(|p| p.architecture.clone()).find(known))
    }

    /// `phpenmod -v 8.2 -m -r NAME`: every way to run PHP reads the module's settings, in the order that they ask for.
    fn enable_php_module(&mut self, fields: &[String]) -> Option<()> {
        let version = &fields[fields.iter().position(|f| f == "-v")? + 1..].first()?.clone();
        let module = fields.last().filter(|name| !name.starts_with('-'))?;
        let settings = format!("/etc/php/{version}/mods-available/{module}.ini");
        let text = self.composed.text(&settings)?;
        let priority = text.lines().find_map(|line| line.strip_prefix("; priority=")).map_or("20", str::trim);
        let sapis = self.composed.settings.layout.absolute(&format!("/usr/lib/php/{version}/sapi")).ok()?;
        for sapi in self.composed.tree.names(&sapis) {
            let sapi = String::from_utf8(sapi).ok()?;
            let link = format!("/etc/php/{version}/{sapi}/conf.d/{priority}-{module}.ini");
            let place = self.composed.settings.layout.absolute(&link).ok()?;
            if self.composed.tree.look(&place) == Found::Nothing {
                self.done(|c| Ok(c.tree.symlink(&place, settings.as_bytes())?), "phpenmod");
            }
        }
        Some(())
    }

    /// `a2enmod NAME…`: links to what is available.
    fn enable_apache(&mut self, program: &str, fields: &[String]) -> Option<()> {
        let (kind, endings): (_, &[&str]) = match program {
            "a2enmod" => ("mods", &["load", "conf"]),
            "a2enconf" => ("conf", &["conf"]),
            _ => ("sites", &["conf"]),
        };
        for (name, ending) in fields
            .iter()
            .filter(|field| !field.starts_with('-'))
            .flat_map(|name| endings.iter().map(move |ending| (name, ending)))
        {
            let file = format!("{kind}-available/{name}.{ending}");
            let link = format!("/etc/apache2/{kind}-enabled/{name}.{ending}");
            let place = self.composed.settings.layout.absolute(&link).ok()?;
            if self.composed.exists(&format!("/etc/apache2/{file}"))
                && self.composed.tree.look(&place) == Found::Nothing
            {
                self.done(|c| Ok(c.tree.symlink(&place, format!("../{file}").as_bytes())?), program);
            }
        }
        Some(())
    }

    /// `configure-symlinks install mariadb FILE`: which server's settings are the system's, an alternative.
    fn choose_mysql_settings(&mut self, fields: &[String]) -> Option<()> {
        let [action, variant, file] = fields else { return None };
        if action == "install" {
            let priority = if variant == "fallback" { "100" } else { "500" };
            let words = ["--install", "/etc/mysql/my.cnf", "my.cnf", file, priority].map(str::to_owned);
            self.effects.alternatives.push(Alternative::parse(&words)?);
        }
        Some(())
    }

    /// Returns what a file holds: one of the tree, or one that the script made for a while.
    fn file_text(&mut self, path: &str) -> Option<String> {
        match self.temporaries.get(path) {
            Some(text) => text.clone(),
            None if path == "/dev/null" => Some(String::new()),
            None => self.composed.text(path),
        }
    }

    fn link(&mut self, fields: &[String]) -> Option<()> {
        let (paths, _) = operands(fields, &[])?;
        let [target, link] = &paths[..] else { return None };
        if !fields
            .iter()
            .any(|f| f == "--symbolic" || (f.starts_with('-') && !f.starts_with("--") && f.contains('s')))
            || !link.starts_with('/')
        {
            return None;
        }
        let mut link = link.clone();
        if self.composed.found(&link) == Found::Directory {
            link = format!("{}/{}", link.trim_end_matches('/'), target.rsplit('/').next()?);
        }
        let place = self.composed.settings.layout.absolute(&link).ok()?;
        if self.composed.tree.look(&place) == Found::Nothing {
            self.done(|c| Ok(c.tree.symlink(&place, target.as_bytes())?), "ln");
        }
        Some(())
    }

    /// Removes directories that are empty, as base-files does to put links in their place.
    fn remove_directories(&mut self, fields: &[String]) {
        for path in fields.iter().filter(|path| path.starts_with('/')) {
            let Ok(place) = self.composed.settings.layout.absolute(path) else { continue };
            if self.composed.tree.remove_empty(&place) {
                self.composed.special.remove(&place);
            }
        }
    }

    /// Moves what a script made itself a moment ago; nothing older is there to be moved.
    fn rename(&mut self, fields: &[String]) -> Option<()> {
        let (paths, _) = operands(fields, &[])?;
        let [from, to] = &paths[..] else { return None };
        if !from.starts_with('/') || !to.starts_with('/') {
            self.ignore("upgrade");
            return Some(());
        }
        let (from_at, to_at) = (
            self.composed.settings.layout.absolute(from).ok()?,
            self.composed.settings.layout.absolute(to).ok()?,
        );
        match self.composed.tree.look(&from_at) {
            Found::Nothing => self.ignore("upgrade"),
            Found::Symlink => {
                let target = self.composed.tree.read_link(&from_at)?;
                self.done(
                    |c| {
                        c.tree.remove_file(&to_at)?;
                        c.tree.symlink(&to_at, &target)?;
                        Ok(c.tree.remove_file(&from_at)?)
                    },
                    "mv",
                );
            }
            _ => return None,
        }
        Some(())
    }

    fn touch(&mut self, fields: &[String]) -> Option<()> {
        let (paths, _) = operands(fields, &["-r", "-d", "-t"])?;
        for path in paths {
            if !path.starts_with('/') {
                return None;
            }
            if !self.composed.exists(&path) {
                self.done(|c| c.write(&path, ""), "touch");
            }
        }
        Some(())
    }

    fn owner_or_mode(&mut self, program: &str, fields: &[String]) -> Option<()> {
        let (values, _) = operands(fields, &["--reference"])?;
        let (what, paths) = values.split_first()?;
        if fields.iter().any(|f| f == "-R" || f == "--recursive") {
            return None;
        }
        for path in paths {
            match program {
                "chmod" => {
                    let mode = u32::from_str_radix(what, 8).ok()?;
                    self.set_special(path, |special| special.mode = Some(mode))?;
                }
                "chgrp" => self.set_special(path, |special| special.set_owner("", what))?,
                _ => {
                    let (user, group) = what.split_once([':', '.']).unwrap_or((what, ""));
                    self.set_special(path, |special| special.set_owner(user, group))?;
                }
            }
        }
        Some(())
    }
}

/// Returns what `dirname PATH` or `basename PATH [SUFFIX]` says.
fn path_part(program: &str, fields: &[String]) -> Option<String> {
    let path = fields.first()?.trim_end_matches('/');
    let (folder, last) = path.rsplit_once('/').unwrap_or((".", path));
    let part = match (program, fields) {
        ("dirname", [_]) if folder.is_empty() => "/",
        ("dirname", [_]) => folder,
        ("basename", [_]) => last,
        ("basename", [_, suffix]) => last.strip_suffix(suffix.as_str()).unwrap_or(last),
        _ => return None,
    };
    Some(part.to_owned())
}

/// Returns what is not an option, and the value of the first option in `with_value`.
fn operands(fields: &[String], with_value: &[&str]) -> Option<(Vec<String>, Option<String>)> {
    let mut plain = Vec::new();
    let mut value = None;
    let mut fields = fields.iter();
    while let Some(field) = fields.next() {
        if with_value.contains(&field.as_str()) {
            value = value.or(Some(fields.next()?.clone()));
        } else if let Some(joined) = field.strip_prefix("--mode=") {
            value = Some(joined.to_owned());
        } else if field.len() > 2
            && with_value.contains(&&field[..2])
            && field.is_char_boundary(2)
            && !field.starts_with("--")
        {
            value = value.or(Some(field[2..].to_owned()));
        } else if !field.starts_with('-') {
            if field.contains(['*', '?']) {
                return None;
            }
            plain.push(field.clone());
        }
    }
    Some((plain, value))
}
