//! A store in a temporary directory, a shell in it, and derivations that run scripts.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ampoule_net::Cancel;
use ampoule_realise::{Builders, Event, EventSink, Options, RealiseError, Realised, Realiser, Wanted};
use ampoule_store::cache::Substituters;
use ampoule_store::{
    AddOptions, ContentAddress, Derivation, DerivationDraft, HashAlgo, Method, ObjectInfo, OutputNames,
    Outputs, Store, StorePath, StoreRoot, StoreSettings,
};

/// Remembers every event.
#[derive(Debug, Default)]
pub struct Heard(pub Mutex<Vec<Event>>);

impl EventSink for Heard {
    fn event(&self, event: Event) {
        self.0.lock().expect("no test panics here").push(event);
    }
}

impl Heard {
    /// All log lines, in order.
    pub fn log(&self) -> String {
        let events = self.0.lock().expect("no test panics here");
        let lines = events.iter().filter_map(|event| match event {
            Event::Log { line, .. } => Some(format!("{line}\n")),
            _ => None,
        });
        lines.collect()
    }
}

/// Where a static shell with the usual tools lies, if this machine has one.
pub fn busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| {
        std::fs::read(path).is_ok_and(|bytes| {
            // A static program names no interpreter.
            bytes.starts_with(b"\x7fELF") && !bytes.windows(8).take(4096).any(|part| part == b"/ld-linu")
        })
    });
    if found.is_none() {
        eprintln!("skipped: no static busybox (Debian: busybox-static)");
    }
    found
}

/// A store with a shell in it.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub shell: StorePath,
    pub options: Options,
    pub builders: Builders,
    pub substituters: Option<Substituters>,
}

/// Ends the test, with a word, where there is no shell.
#[macro_export]
macro_rules! lab {
    () => {
        match $crate::lab::Lab::new() {
            Some(lab) => lab,
            None => return,
        }
    };
}

impl Lab {
    pub fn new() -> Option<Self> {
        Self::with(StoreSettings::default())
    }

    pub fn with(settings: StoreSettings) -> Option<Self> {
        let busybox = busybox()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = StoreRoot::new(dir.path().join("ampoule"));
        let store = Store::open(&root, settings).expect("a new store");
        let tree = dir.path().join("busybox");
        std::fs::create_dir_all(tree.join("bin")).expect("made");
        std::fs::copy(&busybox, tree.join("bin/busybox")).expect("copied");
        let applets =
            std::process::Command::new(&busybox).arg("--list").output().expect("busybox runs").stdout;
        for applet in String::from_utf8_lossy(&applets).lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).expect("linked");
            }
        }
        let shell = store.add_path(&tree, &AddOptions::source("busybox"), None).expect("added").path;
        let options =
            Options { spawner: env!("CARGO_BIN_EXE_ampoule-sandbox").into(), jobs: 4, ..Options::default() };
        Some(Self { dir, store, shell, options, builders: Builders::default(), substituters: None })
    }

    /// A derivation that runs `script`, not finished yet.
    pub fn draft(&self, name: &str, script: &str) -> DerivationDraft {
        let bin = format!("{}/bin", self.store.dir().print(&self.shell));
        let mut draft = DerivationDraft::new(name, Outputs::InputAddressed(vec!["out".to_owned()]));
        draft.input_sources = BTreeSet::from([self.shell.clone()]);
        draft.system = self.options.system.as_str().into();
        draft.builder = format!("{bin}/sh").into();
        draft.arguments = vec!["-c".into(), script.into()];
        draft.environment = BTreeMap::from([
            ("PATH".into(), bin.into()),
            ("name".into(), name.into()),
            ("builder".into(), draft.builder.clone()),
            ("system".into(), draft.system.clone()),
        ]);
        draft
    }

    /// Writes a derivation into the store.
    pub fn write(&self, draft: DerivationDraft) -> StorePath {
        for input in draft.input_derivations.keys() {
            self.store.modulo_hash(input).expect("inputs are written");
        }
        let derivation = draft.finish(self.store.dir(), self.store.modulo_hashes()).expect("a good draft");
        self.store.write_derivation(&derivation).expect("written")
    }

    /// A derivation that runs `script`.
    pub fn drv(&self, name: &str, script: &str) -> StorePath {
        self.write(self.draft(name, script))
    }

    /// The same, with the outputs `out` of other derivations as inputs, in variables `in0`, `in1`, …
    pub fn drv_with(&self, name: &str, script: &str, inputs: &[&StorePath]) -> StorePath {
        let mut draft = self.draft(name, script);
        self.add_inputs(&mut draft, inputs);
        self.write(draft)
    }

    pub fn add_inputs(&self, draft: &mut DerivationDraft, inputs: &[&StorePath]) {
        for (index, input) in inputs.iter().enumerate() {
            draft.input_derivations.insert((*input).clone(), OutputNames::out());
            let derivation = self.read(input);
            let value = match derivation.output_path("out") {
                Some(path) => self.store.dir().print(path),
                None => ampoule_store::downstream_placeholder(input, "out").expect("a good name"),
            };
            draft.environment.insert(format!("in{index}").into(), value.into());
        }
    }

    /// A derivation of which the output's hash is promised.
    pub fn fixed(&self, name: &str, script: &str, method: Method, hash: ampoule_store::Hash) -> StorePath {
        let mut draft = self.draft(name, script);
        draft.outputs = Outputs::Fixed(ContentAddress { method, hash });
        draft.environment.insert("outputHash".into(), hash.to_sri().into());
        self.write(draft)
    }

    /// A derivation whose output's path its contents decide.
    pub fn floating(&self, name: &str, script: &str, inputs: &[&StorePath]) -> StorePath {
        let mut draft = self.draft(name, script);
        draft.outputs =
            Outputs::Floating { names: vec!["out".to_owned()], method: Method::Nar, algo: HashAlgo::Sha256 };
        self.add_inputs(&mut draft, inputs);
        self.write(draft)
    }

    pub fn read(&self, drv: &StorePath) -> Derivation {
        self.store.read_derivation(drv).expect("written before")
    }

    pub fn realise_all(&self, drvs: &[&StorePath]) -> (Result<Realised, RealiseError>, Heard) {
        let heard = Heard::default();
        let realiser = Realiser {
            store: &self.store,
            source: &self.store,
            builders: &self.builders,
            substituters: self.substituters.as_ref(),
            options: &self.options,
            events: &heard,
            cancel: Cancel::default(),
        };
        let wanted: Vec<Wanted> =
            drvs.iter().map(|drv| Wanted { drv: (*drv).clone(), outputs: BTreeSet::new() }).collect();
        let result = realiser.realise(&wanted);
        (result, heard)
    }

    pub fn realise(&self, drv: &StorePath) -> Result<BTreeMap<String, StorePath>, RealiseError> {
        Ok(self.realise_all(&[drv]).0?.outputs.remove(drv).expect("it was wanted"))
    }

    /// Builds, and returns where the output lies.
    #[track_caller]
    pub fn build(&self, drv: &StorePath) -> PathBuf {
        match self.realise(drv) {
            Ok(outputs) => self.store.real_path(&outputs["out"]),
            Err(error) => panic!("{}: {error}\n{}", drv, tails(&error)),
        }
    }

    /// Runs a script and returns what it wrote to `$out`.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let path = self.build(&self.drv("case", script));
        std::fs::read_to_string(path).expect("a file")
    }

    /// Runs a script that fails, and returns why.
    #[track_caller]
    pub fn fails(&self, drv: &StorePath) -> ampoule_realise::Failure {
        match self.realise(drv) {
            Ok(outputs) => panic!("it should have failed, and made {outputs:?}"),
            Err(error) => error.failures[0].clone(),
        }
    }

    pub fn info(&self, path: &Path) -> ObjectInfo {
        let path = self.store.root().object_of(path).expect("below the store");
        self.store.expect_info(&path).expect("valid")
    }
}

/// A static program that tries what a shell cannot, compiled here; none without a compiler.
pub fn probe() -> Option<&'static [u8]> {
    static PROBE: std::sync::OnceLock<Option<Vec<u8>>> = std::sync::OnceLock::new();
    let found = PROBE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/probe.c");
        let program = dir.path().join("probe");
        let mut compiler = std::process::Command::new("gcc");
        let status = compiler.args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(&source).status();
        match status {
            Ok(status) if status.success() => Some(std::fs::read(&program).expect("just made")),
            _ => {
                eprintln!("skipped: no C compiler that links statically (Debian: gcc, libc6-dev)");
                None
            }
        }
    });
    found.as_deref()
}

impl Lab {
    /// A derivation that runs `script` with the probe as `$probe`.
    pub fn with_probe(&self, name: &str, script: &str) -> Option<DerivationDraft> {
        let tree = self.dir.path().join("probe");
        std::fs::write(&tree, probe()?).expect("written");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        let path = self.store.add_path(&tree, &AddOptions::source("probe"), None).expect("added").path;
        // A child that another test has cloned in this moment, and that is no other program yet, has it open
        // for writing: then a shell says that it is busy.
        let is_busy = |error: std::io::Error| error.kind() == std::io::ErrorKind::ExecutableFileBusy;
        let run = || std::process::Command::new(self.store.real_path(&path)).output().map(drop);
        while run().is_err_and(is_busy) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut draft = self.draft(name, script);
        draft.environment.insert("probe".into(), self.store.dir().print(&path).into());
        draft.input_sources.insert(path);
        Some(draft)
    }
}

/// Runs the tests of this file again as an ordinary user, if we are root: what holds for one must
/// hold for the other.
pub fn again_as_an_ordinary_user(this_test: &str) {
    if !rustix::process::geteuid().is_root() || std::env::var_os("AMPOULE_TEST_AS_USER").is_some() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::chown(home.path(), Some(12_321), Some(12_321)).expect("root may");
    let program = std::env::current_exe().expect("our own name");
    let run = std::process::Command::new("setpriv")
        .args(["--reuid=12321", "--regid=12321", "--clear-groups"])
        .arg(program)
        .args(["--skip", this_test])
        .env("AMPOULE_TEST_AS_USER", "1")
        .env("TMPDIR", home.path())
        .env("HOME", home.path())
        .current_dir("/")
        .output();
    match run {
        Err(error) => eprintln!("skipped: no setpriv ({error})"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "as an ordinary user:\n{text}");
        }
    }
}

/// What a test program that is run once more realises, and in which store.
pub fn tell_child(command: &mut std::process::Command, lab: &Lab, drvs: &[&StorePath]) {
    let drvs: Vec<&str> = drvs.iter().map(|drv| drv.as_str()).collect();
    command.env("AMPOULE_TEST_STORE", lab.store.root().path()).env("AMPOULE_TEST_DRVS", drvs.join(" "));
}

/// Realises what [`tell_child`] said; nothing if this process was not told.
pub fn realise_as_child() -> Option<Result<Realised, RealiseError>> {
    let store = std::env::var("AMPOULE_TEST_STORE").ok()?;
    let drvs = std::env::var("AMPOULE_TEST_DRVS").ok()?;
    let store = Store::open(&StoreRoot::new(store), StoreSettings::default()).expect("a store");
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let timeout = number("AMPOULE_TEST_TIMEOUT_MS");
    let options = Options {
        spawner: env!("CARGO_BIN_EXE_ampoule-sandbox").into(),
        jobs: number("AMPOULE_TEST_JOBS").map_or(4, |jobs| jobs as usize),
        timeout: timeout.map(std::time::Duration::from_millis),
        ..Options::default()
    };
    let realiser = Realiser {
        store: &store,
        source: &store,
        builders: &Builders::default(),
        substituters: None,
        options: &options,
        events: &ampoule_realise::Silent,
        cancel: Cancel::default(),
    };
    let wanted = |drv| Wanted { drv: StorePath::parse(drv).expect("a path"), outputs: BTreeSet::new() };
    let wanted: Vec<Wanted> = drvs.split(' ').map(wanted).collect();
    Some(realiser.realise(&wanted))
}

pub fn tails(error: &RealiseError) -> String {
    error
        .failures
        .iter()
        .flat_map(|failure| failure.log_tail.iter().chain(&failure.hints))
        .cloned()
        .collect::<Vec<_>>()
        .join("\n")
}
