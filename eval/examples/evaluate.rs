//! Evaluates a file or `-E TEXT` strictly, with files read as they are: a harness for measuring.
#![allow(missing_docs)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_eval::{AddError, ContextElem, Fetch, FileType, Filter, Settings, World};
use ampoule_store::{ContentAddress, Method, StoreDir, StorePath};

struct Plain(StoreDir);

fn file_type(kind: std::fs::FileType) -> FileType {
    if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_dir() {
        FileType::Directory
    } else if kind.is_file() {
        FileType::Regular
    } else {
        FileType::Unknown
    }
}

fn no<T>() -> io::Result<T> {
    Err(io::Error::other("not in this harness"))
}

impl World for Plain {
    fn store_dir(&self) -> &StoreDir {
        &self.0
    }
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        use std::os::unix::ffi::OsStringExt;
        std::fs::read_dir(path)?
            .map(|entry| entry.and_then(|e| Ok((e.file_name().into_vec(), file_type(e.file_type()?)))))
            .collect()
    }
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        Ok(std::fs::symlink_metadata(path).ok().map(|meta| file_type(meta.file_type())))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }
    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }
    fn find_file(&self, _: &str) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
    fn search_path(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn search_entry(&self, path: &str) -> io::Result<Option<PathBuf>> {
        Ok(Some(PathBuf::from(path)))
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
    fn current_time(&self) -> Option<i64> {
        None
    }
    fn add_text(&self, _: &StorePath, _: &[u8], _: &[StorePath]) -> io::Result<()> {
        Ok(())
    }
    fn add_path(
        &self,
        _: &str,
        _: &Path,
        _: Method,
        _: Option<Filter<'_>>,
        _: Option<&ContentAddress>,
    ) -> Result<StorePath, AddError> {
        Ok(no()?)
    }
    fn is_valid(&self, _: &StorePath) -> io::Result<bool> {
        Ok(false)
    }
    fn fetch(&self, _: &Fetch) -> io::Result<StorePath> {
        no()
    }
    fn realise(&self, _: &[ContextElem]) -> io::Result<()> {
        no()
    }
    fn message(&self, text: &str) {
        eprintln!("{text}");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = std::env::current_dir().expect("there is a current directory");
    let world = Arc::new(Plain(StoreDir::default()));
    let stats = std::env::var_os("AMPOULE_STATS").is_some();
    let mut settings = Settings::default();
    if let Some(bytes) = std::env::var("AMPOULE_NURSERY").ok().and_then(|text| text.parse().ok()) {
        settings.nursery_bytes = bytes;
    }
    let result = ampoule_eval::run(settings, world, move |ev| {
        let value = if arguments[0] == "-E" {
            ev.eval_text("«string»", &dir, arguments[1].as_bytes())
        } else {
            ev.eval_file(&dir.join(&arguments[0]))
        };
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        if stats {
            eprintln!("{:?} {}", ev.stats(), ev.memory());
        }
        printed.map_err(|error| {
            let mut text = format!("error: {error}\n       at {}\n", ev.show_position(error.place().start));
            for frame in error.frames() {
                text += &format!("       … {} at {}\n", frame.text, ev.show_position(frame.place.start));
            }
            for (place, label) in error.labels() {
                text += &format!("       {label}: {}\n", ev.show_position(place.start));
            }
            for hint in error.hints() {
                text += &format!("       hint: {hint}\n");
            }
            text + &error.diagnostics().iter().map(|d| format!("{d:?}\n")).collect::<String>()
        })
    });
    match result.expect("the system gives a thread") {
        Ok(text) => println!("{text}"),
        Err(text) => {
            eprint!("{text}");
            std::process::exit(1);
        }
    }
}
