//! `ampoule tree`: what a result holds, or how it is built, as a tree.

use std::collections::{BTreeMap, HashSet, VecDeque};

use ampoule_realise::DerivationSource;
use ampoule_store::{ObjectInfo, StoreDir, StorePath, human_size};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::target::{Looking, Target, TargetArgs};
use crate::ui::Ui;

/// Show what a result holds as a tree with sizes, or how it is built
///
/// Each object stands with its own size. What is shown above already is marked `(*)`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule tree result                   the objects that a result needs
  ampoule tree --depth 1 hello.img      what it refers to itself
  ampoule tree --drv hello.img          the derivations that it is built from
  ampoule image tree result             the files of an image")]
pub struct Args {
    /// A file, a result, a store path, or an image that was made here
    #[arg(default_value = "result")]
    target: String,

    #[command(flatten)]
    how: TargetArgs,

    /// How many levels to show
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
}

/// One line of the tree.
struct Node {
    /// What is printed.
    text: String,
    /// What programs are told.
    json: serde_json::Map<String, serde_json::Value>,
    below: Vec<StorePath>,
}

/// What makes a line of an object or a derivation.
type Make<'a> = dyn Fn(&StorePath) -> Result<Node, CliError> + 'a;

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let mut looking = Looking::new(global, ui)?;
    let (top, make): (_, Box<Make<'_>>) = match looking.find(&args.target, &args.how)? {
        Target::Object(path) => {
            let infos = looking.store().closure_infos([path.clone()])?;
            let total: u64 = infos.values().map(|info| info.nar_size_bytes).sum();
            let looking = &looking;
            (
                path.clone(),
                Box::new(move |at| Ok(object(looking, &infos, at, (*at == path).then_some(total)))),
            )
        }
        Target::Derivation(path) => {
            let looking = &looking;
            (path, Box::new(move |at| derivation(looking, at)))
        }
        Target::Image(_) => {
            return Err(CliError::usage(format!("`{}` was not made here", args.target))
                .hint("`ampoule image tree` shows the files of any image"));
        }
    };
    let mut drawing = Drawing {
        make: &*make,
        most: args.depth.unwrap_or(usize::MAX),
        seen: HashSet::new(),
        ui,
        dir: looking.store().dir(),
    };
    if ui.json() {
        let tree = drawing.json(&top)?;
        ui.print_json(&tree)?;
    } else {
        drawing.draw(&top)?;
    }
    Ok(ExitStatus::Success)
}

fn object(
    looking: &Looking<'_>,
    infos: &BTreeMap<StorePath, ObjectInfo>,
    at: &StorePath,
    total: Option<u64>,
) -> Node {
    let info = &infos[at];
    let path = looking.store().dir().print(at);
    let mut json = serde_json::Map::new();
    json.insert("path".into(), path.clone().into());
    json.insert("narSize".into(), info.nar_size_bytes.into());
    let mut text = format!("{path}  {}", human_size(info.nar_size_bytes));
    if let Some(total) = total {
        json.insert("closureSize".into(), total.into());
        text.push_str(&format!(" of {} in {} objects", human_size(total), infos.len()));
    }
    let below = info.references.iter().filter(|path| *path != at).cloned().collect();
    Node { text, json, below }
}

fn derivation(looking: &Looking<'_>, at: &StorePath) -> Result<Node, CliError> {
    let found = looking.derivation(at)?;
    let store = looking.store();
    let mut json = serde_json::Map::new();
    let path = store.dir().print(at);
    json.insert("path".into(), path.clone().into());
    let mut sizes = Some(0);
    for output in found.outputs.values() {
        let info = output.path().map(|path| store.info(path)).transpose()?.flatten();
        sizes = sizes.zip(info).map(|(sum, info)| sum + info.nar_size_bytes);
    }
    json.insert("builder".into(), found.builder.to_string().into());
    json.insert("isThere".into(), sizes.is_some().into());
    json.insert("narSize".into(), sizes.into());
    let state = sizes.map_or_else(|| "not there".to_owned(), human_size);
    Ok(Node {
        text: format!("{path}  {state}"),
        json,
        below: found.input_derivations.keys().cloned().collect(),
    })
}

/// A line to draw: what is in front of it, and of what is below it.
struct Line {
    at: StorePath,
    first: String,
    rest: String,
    level: usize,
}

struct Drawing<'a> {
    make: &'a Make<'a>,
    most: usize,
    seen: HashSet<StorePath>,
    ui: &'a Ui,
    dir: &'a StoreDir,
}

impl Drawing<'_> {
    fn node(&self, at: &StorePath) -> Result<Node, CliError> {
        let mut node = (self.make)(at)?;
        // By name: the digits in front of it have no order that means anything.
        node.below.sort_by(|a, b| (a.name(), a).cmp(&(b.name(), b)));
        Ok(node)
    }

    /// Draws line by line, with a stack of its own: a chain of builds may be long.
    fn draw(&mut self, top: &StorePath) -> Result<(), CliError> {
        let mut todo = vec![Line { at: top.clone(), first: String::new(), rest: String::new(), level: 0 }];
        while let Some(line) = todo.pop() {
            let node = self.node(&line.at)?;
            let is_new = self.seen.insert(line.at);
            let mark = if is_new || node.below.is_empty() { "" } else { " (*)" };
            self.ui.print(format!("{}{}{mark}", line.first, node.text))?;
            if !mark.is_empty() || node.below.is_empty() {
                continue;
            }
            let rest = line.rest;
            if line.level == self.most {
                self.ui.print(format!("{rest}└─ … {} below", node.below.len()))?;
                continue;
            }
            for (index, at) in node.below.into_iter().rev().enumerate() {
                let (turn, bar) = if index == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let (first, rest) = (format!("{rest}{turn}"), format!("{rest}{bar}"));
                todo.push(Line { at, first, rest, level: line.level + 1 });
            }
        }
        Ok(())
    }

    /// All that is drawn, nearest first, each once and with the paths of what is below it: flat, since a chain of builds
    /// may be deeper than readers of JSON go.
    fn json(&mut self, top: &StorePath) -> Result<serde_json::Value, CliError> {
        let mut objects = Vec::new();
        let mut todo = VecDeque::from([(top.clone(), 0)]);
        while let Some((at, level)) = todo.pop_front() {
            if !self.seen.insert(at.clone()) {
                continue;
            }
            let mut node = self.node(&at)?;
            node.json
                .insert("references".into(), node.below.iter().map(|below| self.dir.print(below)).collect());
            objects.push(serde_json::Value::from(node.json));
            if level < self.most {
                todo.extend(node.below.into_iter().map(|below| (below, level + 1)));
            }
        }
        Ok(objects.into())
    }
}
