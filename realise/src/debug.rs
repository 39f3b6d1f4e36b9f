//! A person in a build's sandbox: the same inputs, environment, user and walls, with a terminal.
//!
//! The terminal is a new one (a pty), so that nothing typed or printed inside reaches the caller's
//! but as bytes, and so that ^C goes to what runs inside.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ampoule_store::{Derivation, StorePath};

use crate::build::job::{Job, Shared};
use crate::error::{Failure, FailureKind, RealiseError};
use crate::events::Activity;
use crate::graph::Wanted;
use crate::realise::Realiser;
use crate::sandbox::{BindSource, SandboxError, SandboxEvent, SandboxSpec, Step, wait_readable};

/// Shells that a builder may be, and that may be started without arguments.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

impl Realiser<'_> {
    /// Builds what `drv` needs, and runs `command` (or a shell) in its sandbox, with our terminal.
    /// Returns the exit status. Nothing is registered.
    ///
    /// # Errors
    /// If an input cannot be built, there is no shell in the sandbox, or no sandbox.
    pub fn debug(&self, drv: &StorePath, command: &[String]) -> Result<i32, RealiseError> {
        let derivation = self.source.derivation(drv).map_err(|error| Failure::from(error).of(drv))?;
        // Before the inputs are built: that may take an hour.
        self.check_enterable(&derivation, command).map_err(|failure| failure.of(drv))?;
        let inputs: Vec<Wanted> = derivation
            .input_derivations
            .iter()
            .map(|(drv, outputs)| Wanted { drv: drv.clone(), outputs: outputs.to_set() })
            .collect();
        let realised = self.realise(&inputs)?;
        let shared =
            Shared::new(self.store, self.source, self.builders, self.options, self.events, &self.cancel);
        let job = Job {
            shared: &shared,
            drv,
            derivation: &derivation,
            inputs: crate::build::resolve::late_inputs(self.source, &realised.outputs)?,
            substituters: None,
            activity: Activity::Build,
            on_start: &|| {},
        };
        let status = job.enter(|spec| {
            choose_program(spec, command)?;
            run_interactively(&shared, spec)
        });
        status.map_err(|failure| failure.of(drv).into())
    }

    /// Refuses what can be seen beforehand to have no sandbox, or no shell in it.
    fn check_enterable(&self, derivation: &Derivation, command: &[String]) -> Result<(), Failure> {
        let builder = String::from_utf8_lossy(&derivation.builder);
        if builder.starts_with("builtin:") {
            return Err(crate::build::job::without_sandbox());
        }
        // What a tree brings that is mounted as `/` is known when it is built.
        let has_root = [b"sandboxRoot".as_slice(), b"__json"]
            .iter()
            .any(|name| derivation.environment.contains_key(*name));
        let brings_shell = self.options.host_paths.iter().any(|bind| is_shell_place(&bind.target));
        if command.is_empty() && !is_shell(&builder) && !has_root && !brings_shell {
            return Err(no_shell(&builder));
        }
        Ok(())
    }
}

fn is_shell(builder: &str) -> bool {
    SHELLS.contains(&builder.rsplit('/').next().unwrap_or_default())
}

/// Whether what is mounted there makes a `/bin/sh`.
fn is_shell_place(target: &Path) -> bool {
    ["/bin", "/bin/sh"].iter().any(|place| target == Path::new(place))
}

fn no_shell(builder: &str) -> Failure {
    let text = format!("its builder `{builder}` is not a shell, and its sandbox has no /bin/sh");
    Failure::new(FailureKind::Build, text)
        .hint("say what to run: `ampoule debug DRV -- COMMAND`, or add a shell with `--sandbox-path`")
}

/// Where bash finds how to begin.
const BEGINNING: &str = "/etc/ampoule-debug.bashrc";

/// What a person's bash reads in a build of `stdenv`: the phases are there, as in `nix-shell`, and a phase that fails
/// does not end the shell. Structured attributes become variables as the builder would have made them.
const STDENV_BEGINNING: &str = r#"
[ -z "${NIX_ATTRS_SH_FILE:-}" ] || . "$NIX_ATTRS_SH_FILE"
. "$stdenv/setup" || echo "the set-up of the build failed" >&2
set +eu +o pipefail
shopt -u nullglob
PS1='[${name:-build}:\w]\$ '
if [ -t 1 ]; then
    echo "a shell in the sandbox of ${name:-the build}; each step of it is a function here:"
    if [ -n "${buildCommand:-}${buildCommandPath:-}" ]; then
        echo "  genericBuild    all of it: it has one step"
    else
        echo "  genericBuild                                        all of it"
        echo "  runPhase unpackPhase; runPhase patchPhase;          or step by step"
        echo "  runPhase configurePhase; runPhase buildPhase; runPhase checkPhase; runPhase installPhase"
    fi
fi
"#;

fn failed(what: &str, error: impl Into<io::Error>) -> Failure {
    Failure::new(FailureKind::Store, format!("cannot {what}: {}", error.into()))
}

/// What runs: the command that was given, or the builder if it is a shell, or `/bin/sh`.
fn choose_program(spec: &mut SandboxSpec, command: &[String]) -> Result<(), Failure> {
    spec.interactive = true;
    if let Some(program) = command.first() {
        spec.builder = find_program(spec, program).into_bytes();
        spec.args = command.iter().map(|word| word.clone().into_bytes()).collect();
        return Ok(());
    }
    let builder = String::from_utf8_lossy(&spec.builder).into_owned();
    let name = builder.rsplit('/').next().unwrap_or_default().to_owned();
    let is_stdenv = name == "bash" && spec.env.iter().any(|(name, _)| name == b"stdenv");
    if is_stdenv {
        spec.files.push((BEGINNING.into(), STDENV_BEGINNING.into()));
        spec.args = vec![name.into_bytes(), b"--rcfile".to_vec(), BEGINNING.into()];
    } else if is_shell(&builder) {
        spec.args = vec![name.into_bytes()];
    } else if spec.binds.iter().any(|bind| is_shell_place(&bind.target)) {
        spec.builder = b"/bin/sh".to_vec();
        spec.args = vec![b"sh".to_vec()];
    } else {
        return Err(no_shell(&builder));
    }
    Ok(())
}

/// Where programs usually are, if the build's `PATH` is none, as that of a build which sets it itself.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Looks a bare name up as the build's own `PATH` would; what has a slash is taken as it is.
fn find_program(spec: &SandboxSpec, program: &str) -> String {
    if program.contains('/') {
        return program.to_owned();
    }
    let path = spec.env.iter().find(|(name, _)| name == b"PATH");
    let path = path.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    // Where attributes are structured, `PATH` is one of them; what the builder lies beside is a good guess.
    let builder = String::from_utf8_lossy(&spec.builder);
    let beside = builder.rsplit_once('/').map(|(dir, _)| dir);
    path.split(':')
        .chain(USUAL_PATH.split(':'))
        .chain(beside)
        .map(|dir| format!("{dir}/{program}"))
        .find(|candidate| is_inside(spec, Path::new(candidate)))
        .unwrap_or_else(|| program.to_owned())
}

/// Whether there is something at a path of the sandbox: in the store, or in what is mounted elsewhere.
fn is_inside(spec: &SandboxSpec, path: &Path) -> bool {
    if let Ok(below) = path.strip_prefix(&spec.store_dir) {
        return spec.store_root.join(below).exists();
    }
    spec.binds.iter().any(|bind| {
        let Ok(below) = path.strip_prefix(&bind.target) else { return false };
        let source = match &bind.source {
            BindSource::Store(source) => spec.store_root.join(source),
            BindSource::Host(source) => source.clone(),
        };
        // Links within may lead to places that are there only inside.
        source.join(below).symlink_metadata().is_ok()
    })
}

/// Our terminal, passing every key on; as it was when this goes.
struct RawTerminal(rustix::termios::Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        rustix::termios::tcsetattr(io::stdin(), now, &self.0).ok();
    }
}

fn open_terminal() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    Ok((master, slave))
}

/// Gives the terminal inside the size of ours, if that has changed.
fn follow_size(known: &mut Option<(u16, u16)>, inside: impl AsFd) {
    let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) else { return };
    if known.replace((size.ws_row, size.ws_col)) != Some((size.ws_row, size.ws_col)) {
        rustix::termios::tcsetwinsize(inside, size).ok();
    }
}

fn run_interactively(shared: &Shared, spec: &SandboxSpec) -> Result<i32, Failure> {
    let (master, slave) = open_terminal().map_err(|error| failed("open a terminal", error))?;
    let mut size = None;
    follow_size(&mut size, &master);
    let typed = io::stdin().is_terminal();
    if !typed && let Ok(mut mode) = rustix::termios::tcgetattr(&slave) {
        // What comes from a file or a pipe is not shown again.
        mode.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &mode).ok();
    }
    let spawner = shared.spawner()?;
    let mut sandbox =
        spawner.spawn(spec, slave).map_err(|error| Failure::new(FailureKind::Sandbox, error.to_string()))?;
    let _raw = if typed { RawTerminal::enter() } else { None };
    let keys = File::from(master.as_fd().try_clone_to_owned().map_err(|e| failed("open a terminal", e))?);
    // Ends with the process: it waits for a key that may never come.
    std::thread::spawn(move || pass_keys(keys));
    let mut screen = File::from(master);
    let mut status = 1;
    let mut problem = None;
    loop {
        let [shown, event] =
            wait_readable([screen.as_raw_fd(), sandbox.event_fd()], Duration::from_millis(200));
        follow_size(&mut size, &screen);
        if shown {
            pass_output(&mut screen);
        }
        if !event {
            continue;
        }
        match sandbox.next_event() {
            Ok(SandboxEvent::Started(_)) => {}
            // A person gets a network without a way out.
            Ok(SandboxEvent::WantsUplink) => sandbox.go_on(),
            Ok(SandboxEvent::Exited(wait)) => {
                status = if wait & 0x7f == 0 { wait >> 8 & 0xff } else { 128 + (wait & 0x7f) };
            }
            Ok(SandboxEvent::Failed(error)) => problem = Some(error),
            Ok(SandboxEvent::Gone(_)) => {
                while wait_readable([screen.as_raw_fd(), -1], Duration::ZERO)[0] && pass_output(&mut screen) {
                }
                break;
            }
            Err(error) => {
                problem = Some(error);
                break;
            }
        }
    }
    match problem {
        None => Ok(status),
        Some(error) if error.step == Step::Execute => Err(not_run(spec, &error)),
        Some(error) => {
            let mut failure = Failure::new(FailureKind::Sandbox, error.to_string());
            failure.hints = error.remedies;
            Err(failure)
        }
    }
}

/// What was to run is not there inside, or is no program.
fn not_run(spec: &SandboxSpec, error: &SandboxError) -> Failure {
    let program = String::from_utf8_lossy(&spec.builder);
    let why = io::Error::from_raw_os_error(error.errno);
    let failure =
        Failure::new(FailureKind::Build, format!("`{program}` cannot be run in the sandbox: {why}"));
    if error.errno != libc::ENOENT {
        return failure;
    }
    failure
        .hint("name a program of an input by its whole path, or bring one with `--sandbox-path INSIDE=PATH`")
}

/// How long a shell may take to hear that nothing more comes.
const AGAIN: Duration = Duration::from_millis(200);

fn pass_keys(mut to: File) {
    let mut buffer = [0; 4096];
    let mut from = io::stdin().lock();
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => {
                // End of input, as a terminal says it; again until somebody hears: a shell that edits its lines changes
                // the terminal's mode between them, and then what was sent before is no end any more.
                while to.write_all(&[4]).is_ok() {
                    std::thread::sleep(AGAIN);
                }
                return;
            }
            Ok(length) if to.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Shows what was printed; false at the end.
fn pass_output(screen: &mut File) -> bool {
    let mut buffer = [0; 4096];
    match screen.read(&mut buffer) {
        Ok(length) if length > 0 => {
            let mut out = io::stdout().lock();
            out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_ok()
        }
        // The other side is closed: EIO.
        _ => false,
    }
}
