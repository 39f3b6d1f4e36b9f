//! A place to run builtin builders in, without a realiser around them.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ampoule_net::{Cancel, ClientConfig};
use ampoule_realise::builtin::{
    Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, BuiltinEvents, InputPaths, Place,
};
use ampoule_realise::fetch::{Fetcher, FetcherConfig, MirrorSettings};
use ampoule_store::{ContentAddress, Hash, HashAlgo, Method, StoreDir};
use tempfile::TempDir;

/// Inputs, outputs and the log of one build.
pub struct Yard {
    pub dir: TempDir,
    pub log: Mutex<Vec<String>>,
    pub inputs: BTreeMap<String, PathBuf>,
    pub expected: Option<ContentAddress>,
    pub outputs: Vec<&'static str>,
    pub cores: usize,
}

impl BuiltinEvents for Yard {
    fn log(&self, line: &str) {
        self.log.lock().expect("no test panics with the log").push(line.to_owned());
    }
}

impl InputPaths for Yard {
    fn physical(&self, logical: &str) -> Option<PathBuf> {
        let (input, below) =
            self.inputs.iter().find_map(|(name, path)| Some((path, logical.strip_prefix(name)?)))?;
        Some(if below.is_empty() { input.clone() } else { input.join(below.trim_start_matches('/')) })
    }
}

impl Yard {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("outputs")).expect("room");
        Self {
            dir,
            log: Mutex::default(),
            inputs: BTreeMap::new(),
            expected: None,
            outputs: vec!["out"],
            cores: 2,
        }
    }

    /// Adds an input with these bytes; returns its logical path.
    pub fn input(&mut self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("room");
        self.input_at(name, path)
    }

    pub fn input_at(&mut self, name: &str, path: PathBuf) -> String {
        let logical = format!("/nix/store/{}-{name}", "0".repeat(32));
        self.inputs.insert(logical.clone(), path);
        logical
    }

    pub fn expect(mut self, method: Method, hash: Hash) -> Self {
        self.expected = Some(ContentAddress { method, hash });
        self
    }

    pub fn run(&self, builder: &dyn BuiltinBuilder, attrs: &serde_json::Value) -> Result<(), BuiltinError> {
        let attrs = Attributes::from_json(attrs.to_string().as_bytes()).expect("an object");
        let dir = File::open(self.dir.path().join("outputs")).expect("our directory");
        let place = |name: &str| Place {
            dir: dir.try_clone().expect("a descriptor is free").into(),
            name: name.to_owned(),
        };
        let outputs = self.outputs.iter().map(|name| ((*name).to_owned(), place(name))).collect();
        builder.build(&BuiltinContext {
            name: "test",
            attrs: &attrs,
            store_dir: &StoreDir::new("/nix/store").expect("a store directory"),
            inputs: self,
            outputs: &outputs,
            expected: self.expected,
            events: self,
            cancel: Cancel::default(),
            cores: self.cores,
        })
    }

    pub fn out(&self) -> PathBuf {
        self.dir.path().join("outputs/out")
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.out()).expect("the output is a file")
    }
}

/// A fetcher that waits for milliseconds, and knows no machine but what `mirrors` says.
pub fn fetcher(mirrors: &[(&str, Vec<String>)]) -> Arc<Fetcher> {
    fetcher_with(quick(), mirrors)
}

pub fn fetcher_with(net: ClientConfig, mirrors: &[(&str, Vec<String>)]) -> Arc<Fetcher> {
    let configured = mirrors.iter().map(|(name, bases)| ((*name).to_owned(), bases.clone())).collect();
    let mirrors = MirrorSettings { configured, ..MirrorSettings::default() };
    Arc::new(Fetcher::new(FetcherConfig { net, mirrors, max_transfers: 8 }))
}

pub fn quick() -> ClientConfig {
    ClientConfig {
        head_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(20),
        backoff: Duration::from_millis(10),
        max_wait: Duration::from_secs(5),
        max_attempts: 3,
        ..ClientConfig::default()
    }
}

pub fn sha256(bytes: &[u8]) -> Hash {
    Hash::of(HashAlgo::Sha256, bytes)
}
