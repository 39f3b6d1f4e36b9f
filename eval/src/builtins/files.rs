//! Files, the search path, the store, and what little else of the outside a program may see.
//!
//! Nothing here opens a file: [`crate::World`] does, and decides what may be seen.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use ampoule_lang::Symbol;
use ampoule_lang::resolve::Place;
use ampoule_store::{ContentAddress, Hash, HashAlgo, HashFormat, Method, PathRef, StorePath, check_name};

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::coerce::Coercion;
use crate::context::ContextElem;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{AttrsBuilder, Value};
use crate::world::{AddError, Fetch, FileType, FilterStopped};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "currentSystem",
        params: &[],
        doc: "The system that the command evaluates for (`--system`), such as `x86_64-linux`. Unlike in Nix also when pure: it is an argument, not the machine.",
        examples: &[("builtins.isString builtins.currentSystem", Shows("true"))],
        run: current_system,
    },
    Builtin {
        name: "currentTime",
        params: &[],
        doc: "Seconds since 1970, the same throughout an evaluation. Unlike in Nix, not there unless the evaluation is impure (in Nix: unless it is pure), since we are pure unless told otherwise.",
        examples: &[("builtins ? currentTime", Shows("false"))],
        run: current_time,
    },
    Builtin {
        name: "fetchTarball",
        params: &["args"],
        doc: "Fetches an archive and returns the store path of its contents, a single top directory stripped. Takes a URL, or \
              a set of `url`, `sha256` and `name`; without `sha256` only when impure. Blocks evaluation: `fetchTarball` of the \
              library describes a fetch instead.",
        examples: &[
            (
                "builtins.fetchTarball \"https://example.org/a.tar.gz\"",
                Fails("in pure evaluation mode, 'fetchTarball' requires a 'sha256' argument"),
            ),
            ("builtins.fetchTarball { }", Fails("'url' argument required")),
        ],
        run: fetch_tarball,
    },
    Builtin {
        name: "fetchurl",
        params: &["args"],
        doc: "Fetches a file and returns its store path. Takes a URL, or a set of `url`, `sha256` and `name`; without `sha256` \
              only when impure. Blocks evaluation: `fetchurl` of the library describes a fetch instead.",
        examples: &[
            (
                "builtins.fetchurl \"https://example.org/a\"",
                Fails("in pure evaluation mode, 'fetchurl' requires a 'sha256' argument"),
            ),
            ("builtins.fetchurl { url = \"a\"; b = 1; }", Fails("unsupported argument 'b' to 'fetchurl'")),
        ],
        run: fetch_url,
    },
    Builtin {
        name: "filterSource",
        params: &["filter", "path"],
        doc: "Adds a tree to the store, leaving out what `filter path type` is false for. `path` is better: it names the \
              result. O(size of the tree).",
        examples: &[("builtins.filterSource 1 ./.", Fails("expected a function but found an integer: 1"))],
        run: filter_source,
    },
    Builtin {
        name: "findFile",
        params: &["search-path", "name"],
        doc: "Looks `name` up in a list of `{ path; prefix; }`, as `<name>` does in the search path of the command. O(n).",
        examples: &[(
            "builtins.findFile [ ] \"x\"",
            Fails("file 'x' was not found in the Nix search path (add it using $NIX_PATH or -I)"),
        )],
        run: find_file,
    },
    Builtin {
        name: "getEnv",
        params: &["name"],
        doc: "Returns an environment variable; \"\" if there is none, and always when pure.",
        examples: &[("builtins.getEnv \"HOME\"", Shows("\"\""))],
        run: get_env,
    },
    Builtin {
        name: "hashFile",
        params: &["algorithm", "path"],
        doc: "Returns the hash of a file's bytes in base 16. The algorithm is md5, sha1, sha256 or sha512. O(size).",
        examples: &[("builtins.hashFile \"foo\" ./x", Fails("unknown hash algorithm 'foo'"))],
        run: hash_file,
    },
    Builtin {
        name: "nixPath",
        params: &[],
        doc: "The search path of the command as a list of `{ path; prefix; }`: what `-I` and, when impure, NIX_PATH say.",
        examples: &[("builtins.nixPath", Shows("[ ]"))],
        run: nix_path,
    },
    Builtin {
        name: "path",
        params: &["args"],
        doc: "Adds a file or tree to the store and returns its store path. Takes `path`, and perhaps `name`, `filter`, \
              `recursive` (default true; false hashes a single file as it is) and `sha256`, which is checked. O(size).",
        examples: &[
            (
                "builtins.path { }",
                Fails("missing required 'path' attribute in the first argument to 'builtins.path'"),
            ),
            (
                "builtins.path { path = ./.; foo = 1; }",
                Fails("unsupported argument 'foo' to 'builtins.path'"),
            ),
        ],
        run: path,
    },
    Builtin {
        name: "pathExists",
        params: &["path"],
        doc: "Returns whether a file or directory is there; with a slash at the end, whether a directory is.",
        examples: &[
            ("builtins.pathExists /nowhere/at/all", Shows("false")),
            ("builtins.pathExists \"x\"", Fails("string 'x' doesn't represent an absolute path")),
        ],
        run: path_exists,
    },
    Builtin {
        name: "readDir",
        params: &["path"],
        doc: "Returns a set with the type of each entry: \"regular\", \"directory\", \"symlink\" or \"unknown\". O(n log n).",
        examples: &[("builtins.readDir /nowhere/at/all", Fails("path '/nowhere/at/all' does not exist"))],
        run: read_dir,
    },
    Builtin {
        name: "readFile",
        params: &["path"],
        doc: "Returns the contents of a file, which must not hold a zero byte. O(size).",
        examples: &[("builtins.readFile /nowhere/at/all", Fails("path '/nowhere/at/all' does not exist"))],
        run: read_file,
    },
    Builtin {
        name: "readFileType",
        params: &["path"],
        doc: "Returns what is at a path, links not followed: \"regular\", \"directory\", \"symlink\" or \"unknown\".",
        examples: &[(
            "builtins.readFileType /nowhere/at/all",
            Fails("path '/nowhere/at/all' does not exist"),
        )],
        run: read_file_type,
    },
    Builtin {
        name: "storePath",
        params: &["path"],
        doc: "Makes a text that names a store object depend on that object. Not allowed when pure: a name proves nothing.",
        examples: &[(
            "builtins.storePath /nix/store/x",
            Fails("'builtins.storePath' is not allowed in pure evaluation mode"),
        )],
        run: store_path,
    },
    Builtin {
        name: "toFile",
        params: &["name", "text"],
        doc: "Adds a text to the store and returns its path. The text may depend on sources and other such files, not on \
              what must be built. O(size).",
        examples: &[
            ("builtins.toFile \"a\" \"x\"", Shows("\"/nix/store/12wigjpizrn8axaqxj288q1b751qmwya-a\"")),
            (
                "builtins.toFile \"x\" \"${derivation { name = \"a\"; system = \"b\"; builder = \"c\"; }}\"",
                Fails("files created by builtins.toFile may not reference derivations, but x references"),
            ),
        ],
        run: to_file,
    },
    Builtin {
        name: "toPath",
        params: &["path"],
        doc: "Returns an absolute path as a string, without `.` and `..`. Of historical interest: `/. + text` makes a path.",
        examples: &[
            ("builtins.toPath \"/x/../y\"", Shows("\"/y\"")),
            ("builtins.toPath \"x\"", Fails("string 'x' doesn't represent an absolute path")),
        ],
        run: to_path,
    },
];

impl EvalError {
    /// A path could not be used.
    #[cold]
    pub(crate) fn file(error: &std::io::Error, path: &Path) -> Self {
        use std::io::ErrorKind as Io;
        let shown = path.display();
        let message = match error.kind() {
            // Worded already: what may not be seen.
            _ if error.get_ref().is_some() => error.to_string(),
            Io::NotFound => format!("path '{shown}' does not exist"),
            kind => format!("cannot read '{shown}': {}", plain(kind, error)),
        };
        Self::new(ErrorKind::World, message)
    }
}

/// What to do about a file whose name cannot be that of a store object.
const OTHER_NAME: &str = "name it: `builtins.path { path = …; name = \"…\"; }`";

impl EvalError {
    /// A path could not be added to the store.
    #[cold]
    pub(crate) fn adding(world: &dyn crate::world::World, error: &std::io::Error, path: &Path) -> Self {
        match world.file_type(path) {
            Ok(None) => Self::file(&std::io::ErrorKind::NotFound.into(), path),
            _ if check_name(&base_name(path)).is_err() => Self::file(error, path).help(OTHER_NAME),
            _ => Self::file(error, path),
        }
    }
}

/// The system's words, without Rust's number behind them.
fn plain(kind: std::io::ErrorKind, error: &std::io::Error) -> String {
    match kind {
        std::io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        std::io::ErrorKind::NotADirectory => "Not a directory".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error ").next().unwrap_or_default().to_owned()
        }
    }
}

fn current_system(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    let system = ev.settings().system.clone();
    Ok(ev.string(system))
}

fn current_time(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    match ev.world().current_time() {
        Some(seconds) => Ok(ev.int(seconds)),
        None => Err(EvalError::new(ErrorKind::MissingAttribute, "attribute 'currentTime' missing")),
    }
}

fn get_env(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.string_no_context(ev, 0)?.to_text().into_owned();
    let value = ev.world().env(&name).unwrap_or_default();
    Ok(ev.string(value))
}

fn nix_path(ev: &mut Evaluator, _: &Args) -> EvalResult<Value> {
    let entries = ev.world().search_path();
    let list = ev.heap().list(entries.len());
    let slots = list.as_list().expect("a list");
    for (index, (prefix, path)) in entries.iter().enumerate() {
        let path = ev.string(path);
        let prefix = ev.string(prefix);
        let entry =
            ev.heap().attrs_from(&[(Symbol::intern("path"), path), (Symbol::intern("prefix"), prefix)]);
        slots.settle(index, entry);
    }
    Ok(list)
}

fn read_file(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let path = args.readable_path(ev, 0)?;
    let bytes = ev.world().read_file(&path).map_err(|error| EvalError::file(&error, &path))?;
    if bytes.contains(&0) {
        return Err(EvalError::new(
            ErrorKind::Invalid,
            format!("the contents of the file '{}' cannot be represented as a Nix string", path.display()),
        ));
    }
    Ok(ev.string(bytes))
}

fn read_dir(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let path = args.readable_path(ev, 0)?;
    let mut entries = ev.world().read_dir(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotADirectory => EvalError::new(
            ErrorKind::World,
            format!("cannot read directory \"{}\": Not a directory", path.display()),
        ),
        _ => EvalError::file(&error, &path),
    })?;
    // The names are met in their order, not in the system's: it decides what is told first.
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut set = AttrsBuilder::with_capacity(ev.heap(), entries.len());
    for (name, kind) in entries {
        let kind = ev.string(kind.as_str());
        set.push(ev.heap(), Symbol::intern(name), kind);
    }
    Ok(set.finish(ev.heap()))
}

fn read_file_type(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let path = args.readable_path(ev, 0)?;
    refuse_links_before(ev, &path)?;
    match ev.world().file_type(&path).map_err(|error| EvalError::file(&error, &path))? {
        Some(kind) => Ok(ev.string(kind.as_str())),
        None => Err(EvalError::file(&std::io::Error::from(std::io::ErrorKind::NotFound), &path)),
    }
}

/// Nix does not follow links here, and those before the last name neither.
fn refuse_links_before(ev: &mut Evaluator, path: &Path) -> EvalResult<()> {
    let world = ev.world();
    let is_link = |dir: &&Path| matches!(world.file_type(dir), Ok(Some(FileType::Symlink)));
    let outermost = path.ancestors().skip(1).filter(is_link).last();
    match outermost {
        Some(dir) => {
            let words = format!("path '{}' is a symlink", dir.display());
            Err(EvalError::new(ErrorKind::World, words))
        }
        None => Ok(()),
    }
}

fn path_exists(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    // A path value has no slash at its end; only a text can ask for a directory.
    let must_be_dir = value.as_str().is_some_and(|text| {
        let bytes = text.as_bytes();
        bytes.ends_with(b"/") || bytes.ends_with(b"/.")
    });
    let path = args.readable_path(ev, 0)?;
    let world = ev.world();
    let found = if must_be_dir {
        world.resolve_links(&path).and_then(|resolved| world.file_type(&resolved))
    } else {
        world.file_type(&path)
    };
    let exists = match found {
        Ok(kind) => kind.is_some_and(|kind| !must_be_dir || kind == FileType::Directory),
        Err(_) => false,
    };
    Ok(if exists { Value::TRUE } else { Value::FALSE })
}

fn to_path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (path, context) = ev.coerce_to_path(args.at(0)).map_err(|error| args.wanted_for(error, 0))?;
    let bytes = path.as_path().expect("coerced").as_bytes().to_vec();
    Ok(ev.string_with(bytes, context))
}

/// Reads an algorithm's name.
fn algorithm(name: &str) -> EvalResult<HashAlgo> {
    HashAlgo::parse(name).map_err(|error| EvalError::invalid(error.to_string()))
}

fn hash_file(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.string_no_context(ev, 0)?.to_text().into_owned();
    let algo = algorithm(&name)?;
    let path = args.readable_path(ev, 1)?;
    let bytes = ev.world().read_file(&path).map_err(|error| EvalError::file(&error, &path))?;
    Ok(ev.string(Hash::of(algo, &bytes).format(HashFormat::Base16, false)))
}

fn find_file(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = args.list(ev, 0)?;
    let name = args.string_no_context(ev, 1)?.to_text().into_owned();
    let world = ev.world();
    for index in 0..list.len() {
        let entry = ev.force_element(list, index)?;
        let entry = ev
            .force_attrs(entry)
            .part("while evaluating an element of the list passed to builtins.findFile")?;
        let prefix = match ev.force_attr(entry, Symbol::intern("prefix"))? {
            Some(prefix) => {
                let prefix = ev.force_string_no_context(prefix);
                let words = "while evaluating the `prefix` attribute of an element of the list passed to builtins.findFile";
                prefix.part(words)?.to_text().into_owned()
            }
            None => String::new(),
        };
        let Some(path) = ev.force_attr(entry, Symbol::intern("path"))? else {
            return Err(EvalError::missing_attribute(Symbol::intern("path"))
                .in_part("in an element of the __nixPath", Place::NONE));
        };
        let words =
            "while evaluating the `path` attribute of an element of the list passed to builtins.findFile";
        let text = ev.coerce_to_string(path, Coercion::PLAIN);
        let text = text.map_err(|error| error.wanted_for(words, Place::NONE))?;
        let text = text.as_str().expect("coerced");
        ev.realise_context(text.context())?;
        let Some(below) = below_prefix(&name, &prefix) else { continue };
        let base = world
            .search_entry(&text.to_text())
            .map_err(|error| EvalError::file(&error, Path::new(&*text.to_text())))?;
        let Some(base) = base else { continue };
        let found = if below.is_empty() { base } else { base.join(below) };
        if world.file_type(&found).is_ok_and(|kind| kind.is_some()) {
            return Ok(ev.path(found.as_os_str().as_encoded_bytes()));
        }
    }
    let (first, _) = name.split_once('/').unwrap_or((&name, ""));
    if matches!(first, "nix" | "nixpkgs" | "std")
        && let Some(found) = world.find_file(&name).map_err(|error| EvalError::world(&error))?
    {
        return Ok(ev.path(found.as_os_str().as_encoded_bytes()));
    }
    Err(EvalError::new(
        ErrorKind::Thrown,
        format!("file '{name}' was not found in the Nix search path (add it using $NIX_PATH or -I)"),
    ))
}

/// What of `name` is looked up below an entry with this prefix; nothing if the entry is not for it.
fn below_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    let rest = name.strip_prefix(prefix)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

fn to_file(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.string_no_context(ev, 0)?.to_text().into_owned();
    let text = args.string(ev, 1)?;
    let world = ev.world();
    let dir = world.store_dir();
    let mut references = Vec::new();
    for elem in ev.contexts.elems(text.context()) {
        match elem {
            ContextElem::Opaque(path) => references.push(path),
            ContextElem::Built { drv, output } => {
                return Err(no_derivations(&name, &format!("!{output}!{drv}", drv = drv.as_str())));
            }
            ContextElem::DrvDeep(drv) => return Err(no_derivations(&name, &format!("={}", drv.as_str()))),
        }
    }
    let path = dir
        .text_path(&name, text.as_bytes(), references.iter())
        .map_err(|error| EvalError::invalid(error.to_string()))?;
    let borrowed: Vec<PathRef> = references.iter().map(PathRef::from).collect();
    world.add_text(&path, text.as_bytes(), &borrowed).map_err(|error| EvalError::world(&error))?;
    if !references.is_empty() {
        ev.tools.texts.insert(path.clone(), references.into());
    }
    Ok(opaque(ev, path))
}

#[cold]
fn no_derivations(name: &str, elem: &str) -> EvalError {
    EvalError::invalid(format!(
        "files created by builtins.toFile may not reference derivations, but {name} references {elem}"
    ))
}

/// A store path as a string that depends on it.
fn opaque(ev: &mut Evaluator, path: StorePath) -> Value {
    let text = ev.world().store_dir().print(&path);
    let context = ev.contexts().single(ContextElem::Opaque(path));
    ev.string_with(text, context)
}

fn store_path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    if !ev.settings().impure {
        return Err(EvalError::new(
            ErrorKind::Unsupported,
            "'builtins.storePath' is not allowed in pure evaluation mode",
        ));
    }
    let (path, context) = ev.coerce_to_path(args.at(0)).map_err(|error| args.wanted_for(error, 0))?;
    let text = path.as_path().expect("coerced").as_path().to_string_lossy().into_owned();
    let world = ev.world();
    if !world.store_dir().contains(&text) {
        return Err(EvalError::invalid(format!("path '{text}' is not in the Nix store")));
    }
    let (object, _) =
        world.store_dir().split(&text).map_err(|error| EvalError::invalid(error.to_string()))?;
    let own = ev.contexts().single(ContextElem::Opaque(object));
    let context = ev.contexts().union(context, own);
    Ok(ev.string_with(text, context))
}

/// What to add to the store.
struct Addition {
    name: String,
    source: PathBuf,
    method: Method,
    filter: Option<Value>,
    expected: Option<ContentAddress>,
}

fn add(ev: &mut Evaluator, addition: &Addition) -> EvalResult<Value> {
    if let Err(error) = check_name(&addition.name) {
        let words = format!("path '{}' is not a valid store path: {error}", addition.name);
        return Err(EvalError::invalid(words).help(OTHER_NAME));
    }
    let world = ev.world();
    let mut failed = None;
    let mut decide = |path: &Path, kind: FileType| {
        let filter = addition.filter.expect("only called if there is one");
        let answer = ask_filter(ev, filter, path, kind);
        answer.map_err(|error| {
            failed = Some(error);
            FilterStopped
        })
    };
    let added = match addition.filter {
        Some(_) => world.add_path(
            &addition.name,
            &addition.source,
            addition.method,
            Some(&mut decide),
            addition.expected.as_ref(),
        ),
        None => world.add_path(
            &addition.name,
            &addition.source,
            addition.method,
            None,
            addition.expected.as_ref(),
        ),
    };
    let path = added.map_err(|error| match error {
        AddError::Stopped => {
            let error = failed.take().expect("a filter that stops says why");
            error.in_part(format!("while adding path '{}'", addition.source.display()), Place::NONE)
        }
        AddError::Io(error) => EvalError::adding(&*world, &error, &addition.source)
            .in_part(format!("while adding path '{}'", addition.source.display()), Place::NONE),
        AddError::HashMismatch { .. } => EvalError::invalid(format!(
            "store path mismatch in (possibly filtered) path added from '{}'",
            addition.source.display()
        )),
    })?;
    Ok(opaque(ev, path))
}

fn ask_filter(ev: &mut Evaluator, filter: Value, path: &Path, kind: FileType) -> EvalResult<bool> {
    let path = ev.string(path.as_os_str().as_encoded_bytes());
    let kind = ev.string(kind.as_str());
    let answer = ev.call(filter, &[path, kind])?;
    ev.force_bool(answer).part("while evaluating the return value of the path filter function")
}

fn filter_source(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let source = args.readable_path(ev, 1)?;
    let filter = args.function(ev, 0)?;
    let name = source_name(&source);
    let source = ev.without_links(&source)?;
    add(ev, &Addition { name, source, method: Method::Nar, filter: Some(filter), expected: None })
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of the store object that a path becomes.
fn source_name(path: &Path) -> String {
    // That of `/` is Nix's.
    Some(base_name(path)).filter(|name| !name.is_empty()).unwrap_or_else(|| "source".to_owned())
}

impl Evaluator {
    /// Follows all links of a path. One that leads nowhere leads to what is not there.
    fn without_links(&mut self, path: &Path) -> EvalResult<PathBuf> {
        let mut resolved = self.world().resolve_links(path).map_err(|error| EvalError::file(&error, path))?;
        const MOST_LINKS: usize = 40;
        for _ in 0..MOST_LINKS {
            match self.world().read_link(&resolved) {
                Ok(target) => {
                    let parent = resolved.parent().unwrap_or(&resolved);
                    let target = crate::path::canonical(parent.join(target).as_os_str().as_encoded_bytes());
                    resolved = PathBuf::from(std::ffi::OsString::from_vec(target));
                }
                Err(_) => break,
            }
        }
        Ok(resolved)
    }
}

fn path(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = args.attrs(ev, 0)?;
    let mut source = None;
    let mut name = None;
    let mut filter = None;
    let mut method = Method::Nar;
    let mut hash = None;
    // Not in the order of names: what is told first is what Nix tells first.
    for (key, value) in ev.heap().flat(attrs).iter() {
        match &*key.as_str() {
            "path" => {
                let words = "while evaluating the 'path' attribute passed to 'builtins.path'";
                source = Some(ev.readable_path(value).part(words)?);
            }
            "name" => {
                let words = "while evaluating the `name` attribute passed to builtins.path";
                name = Some(ev.force_string_no_context(value).part(words)?.to_text().into_owned());
            }
            "filter" => {
                let words = "while evaluating the `filter` parameter passed to builtins.path";
                filter = Some(ev.force_function(value).part(words)?);
            }
            "recursive" => {
                let words = "while evaluating the `recursive` attribute passed to builtins.path";
                method = if ev.force_bool(value).part(words)? { Method::Nar } else { Method::Flat };
            }
            "sha256" => {
                let words = "while evaluating the `sha256` attribute passed to builtins.path";
                hash = Some(ev.force_string_no_context(value).part(words)?.to_text().into_owned());
            }
            other => {
                return Err(EvalError::invalid(format!("unsupported argument '{other}' to 'builtins.path'")));
            }
        }
    }
    let Some(source) = source else {
        return Err(EvalError::invalid(
            "missing required 'path' attribute in the first argument to 'builtins.path'",
        ));
    };
    let expected = match hash {
        Some(text) => Some(ContentAddress { method, hash: promised(&text)? }),
        None => None,
    };
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| source_name(&source));
    let source = ev.without_links(&source)?;
    add(ev, &Addition { name, source, method, filter, expected })
}

/// Reads a promised SHA-256; an empty one is all zeros.
fn promised(text: &str) -> EvalResult<Hash> {
    if text.is_empty() {
        return Ok(Hash::from_bytes(HashAlgo::Sha256, &[0; 32]).expect("32 bytes"));
    }
    Hash::parse_any(text, Some(HashAlgo::Sha256)).map_err(|error| EvalError::invalid(error.to_string()))
}

fn fetch_url(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    fetch(ev, args.at(0), "fetchurl")
}

fn fetch_tarball(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    fetch(ev, args.at(0), "fetchTarball")
}

fn fetch(ev: &mut Evaluator, value: Value, who: &str) -> EvalResult<Value> {
    let unpack = who == "fetchTarball";
    let value = ev.force(value)?;
    let (mut url, mut hash, mut name) = (None, None, None);
    match value.as_attrs() {
        Some(attrs) => {
            for (key, value) in ev.heap().flat(attrs).iter() {
                if !matches!(key.as_bytes(), b"url" | b"sha256" | b"name") {
                    return Err(EvalError::invalid(format!("unsupported argument '{key}' to '{who}'")));
                }
                let words = match key.as_bytes() {
                    b"url" => "while evaluating the url we should fetch",
                    b"sha256" => "while evaluating the sha256 of the content we should fetch",
                    _ => "while evaluating the name of the content we should fetch",
                };
                let text = ev.force_string_no_context(value).part(words)?.to_text().into_owned();
                match key.as_bytes() {
                    b"url" => url = Some(text),
                    b"sha256" => hash = Some(promised(&text)?),
                    _ => name = Some(text),
                }
            }
        }
        None => {
            let text = ev.force_string_no_context(value);
            url = Some(text.part("while evaluating the url we should fetch")?.to_text().into_owned());
        }
    }
    let Some(url) = url else { return Err(EvalError::invalid("'url' argument required")) };
    if hash.is_none() && !ev.settings().impure {
        return Err(EvalError::new(
            ErrorKind::Unsupported,
            format!("in pure evaluation mode, '{who}' requires a 'sha256' argument"),
        ));
    }
    let given = name.filter(|name: &String| !name.is_empty());
    let name = given.clone().unwrap_or_else(|| {
        let named = url.strip_suffix('/').unwrap_or(&url);
        if unpack { "source".to_owned() } else { named.rsplit('/').next().unwrap_or_default().to_owned() }
    });
    if let Err(error) = check_name(&name) {
        let advice = match (&given, value.as_attrs()) {
            (Some(_), _) => {
                format!("Please change the value for the 'name' attribute passed to '{who}', so that")
            }
            (None, Some(_)) => {
                format!("Please add a valid 'name' attribute to the argument for '{who}', so that")
            }
            // The two blanks are Nix's.
            (None, None) => {
                format!("Please pass an attribute set with 'url' and 'name' attributes to '{who}',  so that")
            }
        };
        return Err(EvalError::invalid(format!(
            "invalid store path name when fetching URL '{url}': {error}. {advice} it can create a valid store path."
        )));
    }
    let world = ev.world();
    if let Some(hash) = hash {
        let method = if unpack { Method::Nar } else { Method::Flat };
        let path = world
            .store_dir()
            .fixed_path(&name, &ContentAddress { method, hash })
            .map_err(|error| EvalError::invalid(error.to_string()))?;
        // A store that cannot be opened has nothing.
        if world.is_valid(&path).unwrap_or(false) {
            return Ok(opaque(ev, path));
        }
    }
    let path = world.fetch(&Fetch { url, name, hash, unpack }).map_err(|error| EvalError::world(&error))?;
    Ok(opaque(ev, path))
}
