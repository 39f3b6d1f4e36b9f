//! From texts to code and back: reading, parsing and resolving files, and saying where things stand.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_lang::resolve::{Body, Constants, Deferred, How, Place, resolve, resolve_deferred};
use ampoule_lang::{Diagnostic, FileId, FileSpan, Position, Source, Span, Symbol};

use crate::error::{EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{BuiltinId, Heap, Keys, Life, Root, Value};
use crate::runtime::Words;
use crate::walk::Code;

/// The evaluator's part in resolving: constants become values at once.
struct Maker<'e> {
    evaluator: &'e mut Evaluator,
}

impl Maker<'_> {
    fn heap(&mut self) -> &mut Heap {
        &mut self.evaluator.heap
    }
}

impl Constants<'static, Words> for Maker<'_> {
    fn int(&mut self, n: i64) -> Value {
        self.heap().constant_int(n)
    }

    fn float(&mut self, x: f64) -> Value {
        self.heap().constant_float(x)
    }

    fn string(&mut self, bytes: &[u8]) -> Value {
        self.heap().constant_string(bytes)
    }

    fn path(&mut self, bytes: &[u8]) -> Value {
        self.heap().path(Life::Permanent, bytes)
    }

    fn canonical_path(&mut self, bytes: &[u8]) -> Value {
        let bytes = crate::path::canonical(bytes);
        self.heap().path(Life::Permanent, &bytes)
    }

    fn home(&mut self) -> Option<Vec<u8>> {
        self.evaluator.world.env("HOME").map(String::into_bytes)
    }

    fn list(&mut self, elements: &[Value]) -> Value {
        self.heap().constant_list(elements)
    }

    fn attrs(&mut self, keys: Keys, values: &[Value]) -> Value {
        self.heap().constant_attrs(keys, values)
    }

    fn keys(&mut self, names: &[(Symbol, u32)]) -> Keys {
        self.heap().keys(Life::Permanent, names)
    }

    fn global(&mut self, name: Symbol) -> Option<Value> {
        self.evaluator.globals.get(&name).copied()
    }

    fn global_names(&self) -> Vec<Symbol> {
        self.evaluator.globals.keys().copied().collect()
    }

    fn builtin(&mut self, name: Symbol) -> Option<Value> {
        let value = self.evaluator.builtins_set.as_attrs()?.get(name)?;
        (!value.is_thunk()).then_some(value)
    }

    fn is_value(&self, value: Value) -> bool {
        !value.is_thunk()
    }

    fn put_off(&mut self) {
        self.evaluator.put_off.made += 1;
    }

    fn lambda(&mut self, lambda: &'static ampoule_lang::resolve::Lambda<'static, Words>) -> Value {
        self.heap().constant_closure(lambda)
    }
}

/// How many functions were put off, and how many of them were entered after all.
#[derive(Default)]
pub(crate) struct PutOff {
    made: u32,
    entered: u32,
}

impl PutOff {
    /// Whether this program calls most of its functions. One that is put off and called costs 1.4 times what it
    /// would have cost; one that is not called costs half.
    fn is_in_vain(&self) -> bool {
        const ENOUGH: u32 = 256;
        self.made >= ENOUGH && self.entered > self.made / 2
    }
}

impl Evaluator {
    /// Parses and resolves a text. `scope` names what is bound beyond the globals: slots 0, 1, … of
    /// the body's frame.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub(crate) fn compile(
        &mut self,
        source: &Source,
        scope: &[Symbol],
    ) -> EvalResult<&'static Body<'static, Words>> {
        let base = self.bases.last().map_or(1, |&(base, _)| base);
        let end = base.saturating_add(source.bytes().len() as u32 + 1);
        // The last entry is where the next file begins.
        self.bases.pop();
        self.bases.push((base, source.id()));
        self.bases.push((end, source.id()));
        let parsed = match ampoule_lang::parse_with(source, self.settings.parse) {
            // A file that cannot run: say in one go which of its names are bound nowhere, too.
            Err(_) if scope.is_empty() => ampoule_lang::parse_and_check(source, self.settings.parse),
            parsed => parsed,
        };
        let ampoule_lang::Parsed { ast, warnings } = parsed.map_err(EvalError::syntax)?;
        if !warnings.is_empty() {
            self.world.warnings(&warnings, &self.settings.sources);
        }
        let arena = self.arena;
        let max_depth = u32::try_from(self.stack_left() / 4096).unwrap_or(u32::MAX);
        let waits_as_nix = self.settings.shows_unforced;
        let min_deferred_bytes = self.min_deferred_bytes();
        let fresh_literals = self.settings.shows_sameness;
        let mut maker = Maker { evaluator: self };
        let how = How { max_depth, waits_as_nix, fresh_literals, min_deferred_bytes };
        let resolved = resolve(&ast, source, base, arena, &mut maker, scope, how);
        ast.recycle();
        resolved.map_err(|problems| self.interrupted().unwrap_or_else(|| EvalError::syntax(problems)))
    }

    fn min_deferred_bytes(&self) -> usize {
        if self.put_off.is_in_vain() { usize::MAX } else { self.settings.min_deferred_bytes }
    }

    /// Resolves the body of a function that is entered for the first time. Its frame, which is on top of the stack,
    /// gets the slots that it needs.
    #[cold]
    #[inline(never)]
    pub(crate) fn resolve_body(
        &mut self,
        deferred: &'static Deferred<'static, Words>,
    ) -> EvalResult<&'static Code> {
        let lambda = deferred.lambda.get().expect("it has a function");
        // Binding the arguments of this call may have called it.
        if matches!(lambda.body.get().node, Code::Deferred(_)) {
            let source = self.settings.sources.get(deferred.file);
            let ast = ampoule_lang::parse_part(&source, deferred.span, self.settings.parse);
            let ast = ast.expect("the text was parsed before");
            let max_depth = u32::try_from(self.stack_left() / 4096).unwrap_or(u32::MAX);
            let arena = self.arena;
            self.put_off.entered += 1;
            let min_deferred_bytes = self.min_deferred_bytes();
            let fresh_literals = self.settings.shows_sameness;
            let mut maker = Maker { evaluator: self };
            let how = How { max_depth, waits_as_nix: false, fresh_literals, min_deferred_bytes };
            let body = resolve_deferred(deferred, &ast, &source, arena, &mut maker, how);
            ast.recycle();
            // Its names are bound: they were looked for when the file was read.
            lambda.body.set(body.map_err(|_| self.stopped())?);
        }
        let body = lambda.body.get();
        match self.heap.push_frame((body.slots - deferred.frame_slots) as usize) {
            Some(_) => Ok(&body.node),
            None => Err(EvalError::stack_overflow()),
        }
    }

    /// Adds a text to the sources and compiles it. `name` is what messages call it.
    pub(crate) fn compile_text(
        &mut self,
        name: &str,
        base_dir: &Path,
        text: Vec<u8>,
        scope: &[Symbol],
    ) -> EvalResult<&'static Body<'static, Words>> {
        let sources = Arc::clone(&self.settings.sources);
        let source = sources.add(name, base_dir, text);
        self.compile(&source, scope)
    }

    /// Reads and compiles a file.
    pub(crate) fn compile_file(
        &mut self,
        path: &Path,
        scope: &[Symbol],
    ) -> EvalResult<&'static Body<'static, Words>> {
        let world = self.world();
        let text = world.read_program(path).map_err(|error| EvalError::file(&error, path))?;
        self.stats.files += 1;
        let dir = path.parent().unwrap_or(path);
        self.compile_text(&path.to_string_lossy(), dir, text, scope)
    }

    /// Finds the file that importing `path` reads: for a directory its
    /// `default.img`, else `default.nix`.
    ///
    /// # Errors
    /// If it is not there or must not be read.
    pub fn import_path(&mut self, path: &Path) -> EvalResult<PathBuf> {
        let world = self.world();
        let fail = |error: std::io::Error| EvalError::file(&error, path);
        let (resolved, kind) = world.resolve_to_file(path).map_err(fail)?;
        let named = if resolved == path { resolved } else { self.named_path(path)? };
        if kind != Some(crate::world::FileType::Directory) {
            return Ok(named);
        }
        let ours = named.join("default.img");
        let has_ours = world.file_type(&ours).map_err(fail)?.is_some();
        Ok(if has_ours { ours } else { named.join("default.nix") })
    }

    /// Follows a link that a path ends with, and no other: relative paths in the file start where that leads.
    fn named_path(&mut self, path: &Path) -> EvalResult<PathBuf> {
        const MOST_LINKS: usize = 40;
        let world = self.world();
        let canonical = |path: &Path| {
            let bytes = crate::path::canonical(path.as_os_str().as_encoded_bytes());
            PathBuf::from(std::ffi::OsString::from_vec(bytes))
        };
        let mut named = canonical(path);
        for _ in 0..MOST_LINKS {
            let kind = world.file_type(&named).map_err(|error| EvalError::file(&error, path))?;
            if kind != Some(crate::world::FileType::Symlink) {
                break;
            }
            let target = world.read_link(&named).map_err(|error| EvalError::file(&error, path))?;
            named = canonical(&named.parent().unwrap_or(&named).join(target));
        }
        Ok(named)
    }

    /// Evaluates a file, once.
    ///
    /// # Errors
    /// If it cannot be read, is no program, or fails.
    pub fn import(&mut self, path: &Path) -> EvalResult<Value> {
        if let Some(&root) = self.imports.get(path) {
            return Ok(self.heap.rooted(root));
        }
        let resolved = self.import_path(path)?;
        if let Some(&root) = self.imports.get(&resolved) {
            self.imports.insert(path.to_owned(), root);
            return Ok(self.heap.rooted(root));
        }
        self.check_depth()?;
        let body = self.compile_file(&resolved, &[])?;
        let value = self.eval_body(body).map_err(|error| self.in_file(error, &resolved))?;
        let root = self.heap.root(value);
        self.imports.insert(resolved, root);
        self.imports.insert(path.to_owned(), root);
        Ok(value)
    }

    /// Adds the file that a value came from to the trace: its start, if it was read.
    #[cold]
    pub fn in_file(&self, error: EvalError, path: &Path) -> EvalError {
        let named = |&&(_, file): &&(u32, FileId)| Path::new(self.settings.sources.get(file).name()) == path;
        let start = self.bases.iter().find(named).map_or(0, |&(base, _)| base);
        error.in_part(format!("while evaluating the file '{}':", path.display()), Place { start, end: start })
    }

    /// Forgets what files contained: the next import reads them again (a REPL's reload). Values that were made of
    /// them stay.
    pub fn forget_files(&mut self) {
        let roots: std::collections::BTreeSet<Root> = self.imports.drain().map(|(_, root)| root).collect();
        roots.into_iter().for_each(|root| self.heap.unroot(root));
        self.copied.clear();
    }

    /// Evaluates a file with more names in scope (`scopedImport`): not remembered.
    ///
    /// # Errors
    /// As [`Evaluator::import`].
    pub fn import_scoped(&mut self, path: &Path, names: &[Symbol], values: &[Value]) -> EvalResult<Value> {
        assert_eq!(names.len(), values.len());
        let resolved = self.import_path(path)?;
        let body = self.compile_file(&resolved, names)?;
        let mark = self.heap.stack_mark();
        let Some(frame) = self.heap.push_frame(body.slots as usize) else {
            return Err(EvalError::stack_overflow());
        };
        for (index, &value) in values.iter().enumerate() {
            frame.set(index as u32, value);
        }
        let value = self.eval(&body.node, frame, crate::heap::Captures::NONE)?;
        self.heap.pop_to(mark);
        Ok(value)
    }

    // ---- places

    /// Returns file and span of a place. A name's place may be only its start; the end is found in the text.
    pub fn file_span(&self, place: Place) -> Option<FileSpan> {
        if !place.is_some() {
            return None;
        }
        let index = self.bases.partition_point(|&(base, _)| base <= place.start).checked_sub(1)?;
        let (base, file) = self.bases[index];
        if index + 1 == self.bases.len() {
            return None;
        }
        let start = place.start - base;
        let mut end = place.end.saturating_sub(base).max(start);
        if end == start {
            let source = self.settings.sources.get(file);
            let rest = source.bytes().get(start as usize..).unwrap_or_default();
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-');
            end += rest.iter().take_while(|byte| is_part(byte)).count() as u32;
        }
        Some(FileSpan { file, span: Span::new(start, end) })
    }

    /// Returns the name of the file and line and column of a position.
    pub(crate) fn position(&self, pos: u32) -> Option<(String, Position)> {
        let at = self.file_span(Place { start: pos, end: pos })?;
        let source = self.settings.sources.get(at.file);
        Some((source.name().to_owned(), source.position(at.span.start)))
    }

    /// Returns a position as `file:line:column`.
    pub fn show_position(&self, pos: u32) -> String {
        match self.position(pos) {
            Some((file, at)) => format!("{file}:{}:{}", at.line_number, at.column_number),
            None => "«none»".to_owned(),
        }
    }

    /// Returns the text at a place.
    pub(crate) fn source_text(&self, place: Place) -> String {
        match self.file_span(place) {
            Some(at) => {
                let source = self.settings.sources.get(at.file);
                String::from_utf8_lossy(source.slice(at.span)).into_owned()
            }
            None => String::new(),
        }
    }

    /// Returns an error so that it can be shown: what is wrong, where, and what else is to be said.
    pub fn diagnostics(&self, error: &EvalError) -> Vec<Diagnostic> {
        if !error.diagnostics().is_empty() {
            return error.diagnostics().to_vec();
        }
        let label = |place: Place, text: &str| {
            self.file_span(place).map(|at| ampoule_lang::diagnostic::Label { at, message: text.to_owned() })
        };
        vec![Diagnostic {
            code: ampoule_lang::diagnostic::Code(error.kind().code()),
            severity: ampoule_lang::diagnostic::Severity::Error,
            message: error.message().to_owned(),
            primary: label(error.place(), error.words_at_place()),
            secondary: error.labels().iter().filter_map(|(place, text)| label(*place, text)).collect(),
            hints: error.hints().to_vec(),
        }]
    }
}

/// Constants hold builtins by number only.
const _: () = assert!(size_of::<BuiltinId>() == 4);
