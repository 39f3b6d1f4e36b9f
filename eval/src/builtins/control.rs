//! Forcing, failing, tracing, importing.

use ampoule_lang::resolve::Place;
use ampoule_lang::{Symbol, sym};

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::coerce::Coercion;
use crate::context::{ContextElem, ContextId};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Value, View};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "abort",
        params: &["message"],
        doc: "Stops the evaluation with a message. `tryEval` does not catch it.",
        examples: &[
            ("abort \"no way\"", Fails("evaluation aborted with the following error message: 'no way'")),
            ("builtins.tryEval (abort \"no way\")", Fails("evaluation aborted")),
        ],
        run: abort,
    },
    Builtin {
        name: "addErrorContext",
        params: &["message", "x"],
        doc: "Returns `x`; if it fails, the message is part of the trace. The message is evaluated only then.",
        examples: &[
            ("builtins.addErrorContext (throw \"no\") 1", Shows("1")),
            ("builtins.addErrorContext \"while at it\" (throw \"no\")", Fails("no")),
        ],
        run: add_error_context,
    },
    Builtin {
        name: "break",
        params: &["x"],
        doc: "Returns `x`. Unlike in Nix there is no debugger that would stop here.",
        examples: &[("break 1", Shows("1"))],
        run: |_, args| Ok(args.at(0)),
    },
    Builtin {
        name: "deepSeq",
        params: &["a", "b"],
        doc: "Forces `a` and everything in it, then returns `b`. O(size of a).",
        examples: &[
            ("builtins.deepSeq [ 1 ] 2", Shows("2")),
            ("builtins.deepSeq { a = [ (throw \"inside\") ]; } 2", Fails("inside")),
            ("let x = { inherit x; }; in builtins.deepSeq x 1", Shows("1")),
        ],
        run: deep_seq,
    },
    Builtin {
        name: "import",
        params: &["path"],
        doc: "Returns the value of the program at a path; of a directory, that of its `default.img`, else its \
              `default.nix`. A file is read and evaluated once.",
        examples: &[
            ("import \"a\"", Fails("string 'a' doesn't represent an absolute path")),
            ("import 1", Fails("cannot coerce an integer to a string: 1")),
        ],
        run: import,
    },
    Builtin {
        name: "scopedImport",
        params: &["scope", "path"],
        doc: "Imports a program in whose scope the attributes of a set are, too: also over global names. It is \
              evaluated anew each time.",
        examples: &[("builtins.scopedImport 1 /x", Fails("expected a set but found an integer: 1"))],
        run: scoped_import,
    },
    Builtin {
        name: "seq",
        params: &["a", "b"],
        doc: "Forces `a`, not what is in it, then returns `b`.",
        examples: &[
            ("builtins.seq [ (throw \"no\") ] 2", Shows("2")),
            ("builtins.seq (throw \"forced\") 2", Fails("forced")),
        ],
        run: seq,
    },
    Builtin {
        name: "throw",
        params: &["message"],
        doc: "Fails with a message. `tryEval` catches it.",
        examples: &[
            ("throw \"not today\"", Fails("not today")),
            ("throw 1", Fails("cannot coerce an integer to a string: 1")),
            ("(builtins.tryEval (throw \"x\")).success", Shows("false")),
        ],
        run: throw,
    },
    Builtin {
        name: "trace",
        params: &["message", "x"],
        doc: "Tells the user the message (a string as it is, another value as it is printed, not forced inside), then \
              returns `x`.",
        examples: &[("builtins.trace \"hello\" 1", Shows("1"))],
        run: trace,
    },
    Builtin {
        name: "traceVerbose",
        params: &["message", "x"],
        doc: "As `trace` if verbose traces are asked for; else returns `x` and leaves the message unevaluated.",
        examples: &[("builtins.traceVerbose (throw \"no\") 1", Shows("1"))],
        run: trace_verbose,
    },
    Builtin {
        name: "tryEval",
        params: &["x"],
        doc: "Forces `x`, not what is in it. Returns `{ success = true; value = x; }`, or `{ success = false; value = \
              false; }` if it throws or an assertion fails. Other errors are not caught.",
        examples: &[
            ("builtins.tryEval 1", Shows("{ success = true; value = 1; }")),
            ("builtins.tryEval (assert false; 1)", Shows("{ success = false; value = false; }")),
            ("(builtins.tryEval [ (throw \"inside\") ]).success", Shows("true")),
            ("builtins.tryEval { }.a", Fails("attribute 'a' missing")),
        ],
        run: try_eval,
    },
    Builtin {
        name: "warn",
        params: &["message", "x"],
        doc: "Warns the user, then returns `x`. The message has to be a string.",
        examples: &[
            ("builtins.warn \"careful\" 1", Shows("1")),
            ("builtins.warn 1 2", Fails("expected a string but found an integer: 1")),
        ],
        run: warn,
    },
];

fn message(ev: &mut Evaluator, args: &Args) -> EvalResult<String> {
    let (text, _) = args.text(ev, 0)?;
    Ok(text.as_str().expect("coerced").to_text().into_owned())
}

fn abort(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let message = message(ev, args)?;
    let text = format!("evaluation aborted with the following error message: '{message}'");
    Err(EvalError::new(ErrorKind::Aborted, text))
}

fn throw(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let message = message(ev, args)?;
    Err(EvalError::new(ErrorKind::Thrown, message))
}

fn add_error_context(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    match ev.guarded(|ev| ev.force(args.at(1))) {
        Ok(value) => Ok(value),
        Err(error) => {
            let text = args.coerced(ev, 0, Coercion::PLAIN)?;
            let text = text.as_str().expect("coerced").to_text().into_owned();
            Err(error.while_(text, args.place()))
        }
    }
}

fn seq(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    ev.force(args.at(0))?;
    Ok(args.at(1))
}

fn deep_seq(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    ev.force_deep(args.at(0))?;
    Ok(args.at(1))
}

fn trace(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    let text = match value.view() {
        View::Str(text) => text.to_text().into_owned(),
        View::List(_) | View::Attrs(_) if ev.settings().stops_at_traces => return Err(EvalError::too_early()),
        _ => ev.print_traced(value)?,
    };
    ev.world().message(&format!("trace: {text}"));
    Ok(args.at(1))
}

fn trace_verbose(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    if ev.settings().trace_verbose { trace(ev, args) } else { Ok(args.at(1)) }
}

fn warn(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let text = args.string(ev, 0)?.to_text().into_owned();
    // As in Nix, the lines of a text stand below each other.
    let text = text.replace('\n', "\n                    ");
    ev.world().message(&format!("evaluation warning: {text}"));
    if ev.settings().abort_on_warn {
        let message = "aborting to reveal stack trace of warning, as abort-on-warn is set";
        return Err(EvalError::new(ErrorKind::Aborted, message));
    }
    Ok(args.at(1))
}

fn try_eval(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (success, value) = match ev.guarded(|ev| ev.force(args.at(0))) {
        Ok(value) => (Value::TRUE, value),
        Err(error) if error.is_catchable() => (Value::FALSE, Value::FALSE),
        Err(error) => return Err(error),
    };
    Ok(ev.heap().attrs_from(&[(Symbol::intern("success"), success), (sym::VALUE, value)]))
}

impl Evaluator {
    /// Forces to a path that can be read: what the path depends on is built first, if that is allowed.
    ///
    /// # Errors
    /// If it is no path, or needs a build that is not allowed or fails.
    pub(crate) fn readable_path(&mut self, value: Value) -> EvalResult<std::path::PathBuf> {
        let (path, context) = self.coerce_to_path(value)?;
        self.realise_context(context).map_err(|error| {
            let path = path.as_path().expect("coerced");
            let words = format!("while realising the context of path '{}'", path.as_path().display());
            error.in_part(words, Place::NONE)
        })?;
        Ok(path.as_path().expect("coerced").as_path().to_owned())
    }

    /// Builds what a context names, so that it can be read.
    ///
    /// # Errors
    /// If that is not allowed or fails.
    pub(crate) fn realise_context(&mut self, context: ContextId) -> EvalResult<()> {
        if context.is_empty() {
            return Ok(());
        }
        let world = self.world();
        let mut needed = Vec::new();
        // Sources are there already.
        for elem in self.contexts().elems(context) {
            if let ContextElem::Built { .. } = elem {
                needed.push(elem);
            }
        }
        let Some(ContextElem::Built { drv, .. }) = needed.first() else { return Ok(()) };
        if !self.settings().allow_import_from_derivation {
            let drv = world.store_dir().print(drv);
            let words = format!(
                "cannot build '{drv}' during evaluation because the option 'allow-import-from-derivation' is disabled"
            );
            return Err(EvalError::new(ErrorKind::Unsupported, words)
                .help("pass --allow-import-from-derivation, and evaluation waits for the build"));
        }
        world.realise(&needed).map_err(|error| EvalError::world(&error))
    }
}

fn import(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let path = args.readable_path(ev, 0)?;
    ev.import(&path)
}

fn scoped_import(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let path = args.readable_path(ev, 1)?;
    let scope = args.attrs(ev, 0)?;
    let scope = ev.heap().flat(scope);
    let names: Vec<Symbol> = scope.iter().map(|(name, _)| name).collect();
    // Kept alive by the set, whose view is a local here.
    let values: Vec<Value> = scope.iter().map(|(_, value)| value).collect();
    ev.import_scoped(&path, &names, &values)
}
