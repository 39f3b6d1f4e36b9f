//! The REPL's own commands: one record each, from which `:?`, completion and dispatch are made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use ampoule_eval::{Evaluator, FoundDerivation, NamedArguments, Value, View};
use ampoule_image::plan::PLAN_FILE;
use ampoule_lang::Symbol;
use ampoule_realise::{DerivationSource, Wanted};
use ampoule_store::StorePath;

use super::state::State;
use super::{Repl, Wrong, show};
use crate::commands::{doc, why};
use crate::error::{CliError, IoContext};
use crate::images::Images;
use crate::realising::{BuildArgs, Derivations};

/// A command.
pub struct Command {
    /// Its names, the usual one first.
    names: &'static [&'static str],
    /// What stands behind it.
    argument: &'static str,
    /// What it does.
    doc: &'static str,
    run: fn(&Repl<'_>, &mut State<'_>, &str) -> Result<(), Wrong>,
}

/// All of them, as `:?` lists them.
const COMMANDS: &[Command] = &[
    Command {
        names: &[":a", ":add"],
        argument: "EXPR",
        doc: "bring the attributes of a set into scope",
        run: add,
    },
    Command { names: &[":b", ":build"], argument: "EXPR", doc: "build a derivation or an image", run: build },
    Command {
        names: &[":doc"],
        argument: "NAME",
        doc: "what a function does, or what a package is",
        run: document,
    },
    Command {
        names: &[":e", ":edit"],
        argument: "EXPR",
        doc: "open where it is defined in $EDITOR",
        run: edit,
    },
    Command {
        names: &[":i", ":inspect"],
        argument: "EXPR",
        doc: "inspect a value: a set's names, a derivation's paths, an image",
        run: inspect,
    },
    Command {
        names: &[":l", ":load"],
        argument: "FILE",
        doc: "bring the attributes of a file into scope",
        run: load,
    },
    Command { names: &[":log"], argument: "EXPR", doc: "the log of a derivation's last build", run: log },
    Command { names: &[":p", ":print"], argument: "EXPR", doc: "print all of a value", run: print },
    Command {
        names: &[":q", ":quit"],
        argument: "",
        doc: "leave; so does ^D",
        run: |_, _, _| Err(Wrong::Leave),
    },
    Command { names: &[":r", ":reload"], argument: "", doc: "read the files again", run: reload },
    Command { names: &[":t", ":type"], argument: "EXPR", doc: "the type of a value", run: kind },
    Command {
        names: &[":why"],
        argument: "EXPR WHAT",
        doc: "what keeps a file or an object in a result, or brings a derivation into its build",
        run: say_why,
    },
    Command { names: &[":?", ":h", ":help"], argument: "", doc: "this list", run: help },
];

/// Every name of a command.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|command| command.names).copied()
}

/// Does what a line that starts with `:` says.
///
/// # Errors
/// [`Wrong::Leave`] for the one that ends the loop, and what went wrong.
pub fn run(repl: &Repl<'_>, state: &mut State<'_>, line: &str) -> Result<(), Wrong> {
    let (name, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let text = text.trim();
    let Some(command) = COMMANDS.iter().find(|command| command.names.contains(&name)) else {
        let error = CliError::usage(format!("there is no command `{name}`"));
        return Err(Wrong::Cli(match ampoule_lang::near::near_name(name, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("type :? for all commands"),
        }));
    };
    if text.is_empty() && !command.argument.is_empty() {
        return Err(Wrong::Cli(CliError::usage(format!(
            "`{name}` asks for more: {name} {}",
            command.argument
        ))));
    }
    (command.run)(repl, state, text)
}

fn help(repl: &Repl<'_>, _: &mut State<'_>, _: &str) -> Result<(), Wrong> {
    let line = |usage: &str, doc: &str| repl.ui.print(format!("  {usage:<18} {doc}"));
    line("EXPR", "evaluate; the value is `it` from then on")?;
    line("NAME = EXPR", "give it a name; it is computed when it is used")?;
    for command in COMMANDS {
        line(format!("{} {}", command.names[0], command.argument).trim_end(), command.doc)?;
    }
    Ok(())
}

fn kind(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    Ok(repl.ui.print(state.ev.type_with_article(value).as_bytes())?)
}

fn print(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    state.ev.force_deep(value)?;
    let text = state.ev.print(value)?;
    Ok(repl.ui.print(text)?)
}

fn add(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    let count = state.bind_all(value)?;
    repl.ui.note(&format!("{count} names added"));
    Ok(())
}

fn load(repl: &Repl<'_>, state: &mut State<'_>, file: &str) -> Result<(), Wrong> {
    let path = state.dir.join(file);
    if !file.starts_with('<') {
        crate::session::find_entry(file, &state.dir)?;
    }
    // It was named by a person: that it may be read needs no more.
    repl.session.world.add_root(if path.is_dir() { &path } else { path.parent().unwrap_or(&path) });
    let text = if file.starts_with('<') { format!("import {file}") } else { import_text(&path) };
    let value = state.eval("«repl»", &text)?;
    let arguments = NamedArguments { set: Some(repl.session.argument_set(state.ev)?) };
    repl.session.check_lock(value, &arguments)?;
    repl.session.warn_of_lock(repl.ui);
    let value = repl.session.call_with_packages(state.ev, value, &arguments)?;
    let value = state.ev.auto_call(value, &arguments)?;
    let count = state.bind_all(value)?;
    if !state.loaded.iter().any(|loaded| loaded == file) {
        state.loaded.push(file.to_owned());
    }
    repl.ui.note(&format!("{count} names added from {file}"));
    Ok(())
}

fn import_text(path: &Path) -> String {
    let mut quoted = String::new();
    ampoule_eval::write_string(&mut quoted, path.to_string_lossy().as_bytes());
    format!("import (/. + {quoted})")
}

fn reload(repl: &Repl<'_>, state: &mut State<'_>, _: &str) -> Result<(), Wrong> {
    state.ev.forget_files();
    for file in state.loaded.clone() {
        load(repl, state, &file)?;
    }
    Ok(())
}

fn document(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    // By its name first: the same words that `ampoule doc` prints.
    let is_own = state.value(text).is_some();
    if let Some(entry) = crate::manual::find(text).filter(|_| !is_own) {
        return Ok(repl.ui.print(entry.page())?);
    }
    let value = state.eval(&state.line_name(), text)?;
    match show::documentation(state.ev, text, value) {
        Some(entry) => repl.ui.print(entry.page())?,
        None => match doc::described(state.ev, value)? {
            Some(package) => doc::print_package(text, &package, repl.ui)?,
            None => repl.ui.note("nothing is written about it"),
        },
    }
    Ok(())
}

fn inspect(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    let text = show::inspect(state.ev, value)?;
    repl.ui.print(text)?;
    let View::Attrs(attrs) = value.view() else { return Ok(()) };
    if !state.ev.is_derivation(attrs)? {
        return Ok(());
    }
    let store = repl.session.world.store().map_err(CliError::from)?;
    let drv = found_derivation(repl, state.ev, value)?.0;
    let derivation =
        Derivations { world: &repl.session.world, store }.derivation(&drv).map_err(CliError::from)?;
    for (name, output) in &derivation.outputs {
        let Some(path) = output.path() else { continue };
        match store.info(path).map_err(CliError::from)? {
            Some(info) => {
                repl.ui.print(format!(
                    "  {name} is there: {}",
                    ampoule_store::human_size(info.nar_size_bytes)
                ))?;
                let real = store.real_path(path);
                if real.join(PLAN_FILE).is_file() {
                    let images = Images::of(store.clone())?;
                    crate::commands::image::print_inspect(&images, &real.to_string_lossy(), repl.ui)?;
                }
            }
            None => repl.ui.print(format!("  {name} is not there: `:b` builds it"))?,
        }
    }
    Ok(())
}

/// The derivation that a value is, and which of its outputs is meant.
fn found_derivation(
    repl: &Repl<'_>,
    ev: &mut Evaluator,
    value: Value,
) -> Result<(StorePath, FoundDerivation), Wrong> {
    let found = ev.derivations(value, &NamedArguments::default())?;
    let first = found.into_iter().next().ok_or_else(|| CliError::failed("this is no derivation"))?;
    let store = repl.session.world.store().map_err(CliError::from)?;
    let drv = store.dir().parse(&first.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
    Ok((drv, first))
}

fn build(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    let found = state.ev.derivations(value, &NamedArguments::default())?;
    let store = repl.session.world.store().map_err(CliError::from)?;
    let mut wanted = Vec::new();
    for one in &found {
        let drv = store.dir().parse(&one.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
        wanted.push(Wanted { drv, outputs: Default::default() });
    }
    if wanted.is_empty() {
        repl.ui.note("nothing to build: there is no derivation in it");
    }
    let options = BuildArgs::default().options(repl.config)?;
    let events = crate::progress::sink(repl.ui, repl.config);
    let cancel = repl.stop.cancel.clone();
    let realised =
        crate::realising::realise(&repl.session.world, repl.config, &options, &events, cancel, &wanted)
            .map_err(|error| if events.failed() { CliError::told(error.status) } else { error })?;
    for path in realised.outputs.values().flat_map(BTreeMap::values) {
        repl.ui.print(store.real_path(path).to_string_lossy().as_bytes())?;
    }
    Ok(())
}

fn log(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let value = state.eval(&state.line_name(), text)?;
    let drv = found_derivation(repl, state.ev, value)?.0;
    let store = repl.session.world.store().map_err(CliError::from)?;
    let logs = ampoule_realise::LogDir::new(store.root().path().join("log"));
    let read = logs.read(&drv, &mut std::io::stdout());
    read.map_err(|_| CliError::failed(format!("there is no log of `{}` on this machine", drv.name())))?;
    Ok(())
}

fn say_why(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let (expression, what) = text
        .rsplit_once(char::is_whitespace)
        .ok_or_else(|| CliError::usage("`:why` asks for more: :why EXPR WHAT"))?;
    let value = state.eval(&state.line_name(), expression)?;
    let (drv, one) = found_derivation(repl, state.ev, value)?;
    let store = repl.session.world.store().map_err(CliError::from)?;
    let source = Derivations { world: &repl.session.world, store };
    let derivation = source.derivation(&drv).map_err(CliError::from)?;
    let output = if one.output_name.is_empty() { "out" } else { one.output_name.as_str() };
    match derivation.outputs.get(output).and_then(|output| output.path()) {
        Some(path) if store.is_valid(path).map_err(CliError::from)? => {
            why::of_object(&Images::of(store.clone())?, store, path, what, repl.ui)?;
        }
        _ => {
            why::along_inputs(store, &source, &drv, what, repl.ui)?;
        }
    }
    Ok(())
}

/// Opens the place where something is written: an attribute's, a function's, or a file's own beginning.
fn edit(repl: &Repl<'_>, state: &mut State<'_>, text: &str) -> Result<(), Wrong> {
    let (file, line) = defined_at(state, text)?.ok_or_else(|| {
        CliError::failed(format!("nothing says where `{text}` is written"))
            .hint("name an attribute, a function or a path")
    })?;
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let editor = editor.ok_or_else(|| {
        CliError::failed(format!("it is written at {}:{line}", file.display()))
            .hint("set EDITOR to have it opened there")
    })?;
    // The library lies in this program: a copy of its file can be read.
    let copy = match crate::world::library_file(&file) {
        Some(contents) => {
            let dir = tempfile::tempdir().while_doing(|| "cannot make a directory".to_owned())?;
            let path = dir.path().join(file.file_name().unwrap_or_default());
            std::fs::write(&path, contents).while_doing(|| format!("cannot write `{}`", path.display()))?;
            repl.ui.note(&format!("{} is part of this program: this is a copy", file.display()));
            Some((dir, path))
        }
        None => None,
    };
    let shown: PathBuf = copy.as_ref().map_or(file, |(_, path)| path.clone());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let mut process = Process::new(program);
    process.args(words);
    match Path::new(program).file_name().and_then(|name| name.to_str()) {
        Some("code" | "codium" | "subl" | "zed" | "hx" | "helix") => {
            if program.ends_with("code") || program.ends_with("codium") {
                process.arg("--goto");
            }
            process.arg(format!("{}:{line}", shown.display()));
        }
        _ => {
            process.arg(format!("+{line}")).arg(&shown);
        }
    }
    let status = process.status().while_doing(|| format!("cannot start `{editor}`"))?;
    if !status.success() {
        return Err(Wrong::Cli(CliError::failed(format!("`{editor}` ended with {status}"))));
    }
    if copy.is_none() && !state.loaded.is_empty() {
        reload(repl, state, "")?;
    }
    Ok(())
}

/// File and line where `text` is written.
fn defined_at(state: &mut State<'_>, text: &str) -> Result<Option<(PathBuf, u32)>, Wrong> {
    let name = state.line_name();
    if let Some((set, attribute)) = text.rsplit_once('.')
        && ampoule_eval::is_identifier(attribute.as_bytes())
        && let Ok(position) = state.eval(&name, &format!("builtins.unsafeGetAttrPos \"{attribute}\" ({set})"))
        && let View::Attrs(attrs) = position.view()
    {
        let file = state.ev.force_attr(attrs, Symbol::intern("file"))?;
        let line = state.ev.force_attr(attrs, Symbol::intern("line"))?;
        if let (Some(file), Some(line)) = (file, line) {
            let file = PathBuf::from(state.ev.force_string(file)?.to_text().into_owned());
            let line = u32::try_from(state.ev.force_int(line)?).unwrap_or(1);
            if file.is_absolute() {
                return Ok(Some((file, line)));
            }
        }
    }
    let value = state.eval(&name, text)?;
    Ok(match value.view() {
        View::Path(path) => Some((PathBuf::from(String::from_utf8_lossy(path.as_bytes()).into_owned()), 1)),
        View::Closure(closure) => state.ev.file_span(closure.lambda().place).and_then(|span| {
            let source = state.ev.settings().sources.get(span.file);
            let line = source.position(span.span.start).line_number;
            let file = PathBuf::from(source.name());
            file.is_absolute().then_some((file, line))
        }),
        _ => None,
    })
}
