//! Interned names: 4 bytes each, compared by number.
//!
//! There is one interner for the process. Making a symbol takes the lock of one
//! of 64 shards; reading its text takes no lock (two loads). Texts live as long as the
//! process. A text is bytes and not `str`: attribute names may be any string.
//!
//! Symbols of [`sym`] have fixed numbers, so that they can stand in patterns.

use std::cell::Cell;
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, OnceLock};

use rustc_hash::FxHasher;

/// An interned name.
///
/// Equal texts have equal symbols. The derived order is that of first use in this
/// process and must not be shown to anyone; [`Symbol::cmp_text`] is the order of texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(u32);

impl Symbol {
    /// Returns the symbol of `text`.
    pub fn intern(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let hash = hash_of(text);
        RECENT.with(|recent| {
            let place = &recent[hash as usize % RECENT_NAMES];
            match place.get() {
                Some((known, symbol)) if known == text => symbol,
                _ => {
                    let symbol = INTERNER.intern(text, hash);
                    place.set(Some((INTERNER.text(symbol), symbol)));
                    symbol
                }
            }
        })
    }

    /// Returns the symbol of `text` if someone made it before.
    pub fn lookup(text: impl AsRef<[u8]>) -> Option<Self> {
        let text = text.as_ref();
        INTERNER.lookup(text, hash_of(text))
    }

    /// Returns its text.
    pub fn as_bytes(self) -> &'static [u8] {
        INTERNER.text(self)
    }

    /// Returns its text; bytes that are no UTF-8 become U+FFFD.
    pub fn as_str(self) -> std::borrow::Cow<'static, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// Compares the texts.
    pub fn cmp_text(self, other: Self) -> Ordering {
        if self == other { Ordering::Equal } else { self.as_bytes().cmp(other.as_bytes()) }
    }

    /// Returns its number: dense from 0 in order of first use.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Returns the symbol of a number that [`Symbol::index`] gave.
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }
}

impl std::fmt::Debug for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.as_str())
    }
}

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.as_str())
    }
}

/// Names that a thread made or asked for lately, found without the lock: a text has few, and they come often.
const RECENT_NAMES: usize = 512;

type Recent = Option<(&'static [u8], Symbol)>;

thread_local! {
    static RECENT: [Cell<Recent>; RECENT_NAMES] = const { [const { Cell::new(None) }; RECENT_NAMES] };
}

fn hash_of(text: &[u8]) -> u32 {
    let mut hasher: FxHasher = rustc_hash::FxBuildHasher.build_hasher();
    hasher.write(text);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

const SHARDS: usize = 64;
/// Chunk `k` holds `FIRST_CHUNK << k` texts, so that 23 chunks reach 2^32. The first has room for what a small
/// program needs: memory that is only filled with nothing takes time, too.
const FIRST_CHUNK: u32 = 512;
const CHUNKS: usize = 24;

type Chunk = Box<[OnceLock<&'static [u8]>]>;

struct Interner {
    shards: [Mutex<Shard>; SHARDS],
    chunks: [OnceLock<Chunk>; CHUNKS],
    next: AtomicU32,
}

#[derive(Default)]
struct Shard {
    table: Table,
    /// Rest of the block that short texts are copied to.
    block: &'static mut [u8],
    kept_bytes: usize,
}

static INTERNER: LazyLock<Interner> = LazyLock::new(Interner::with_known);

impl Interner {
    fn with_known() -> Self {
        let interner = Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            chunks: std::array::from_fn(|_| OnceLock::new()),
            next: AtomicU32::new(0),
        };
        for (index, text) in ORDER.split(' ').enumerate() {
            let symbol = interner.intern(text.as_bytes(), hash_of(text.as_bytes()));
            assert_eq!(symbol.0 as usize, index, "`{text}` stands twice in the order of known symbols");
        }
        interner
    }

    fn intern(&self, text: &[u8], hash: u32) -> Symbol {
        let (shard, hash) = self.shard(hash);
        let mut shard = shard.lock().expect("no holder of this lock panics");
        if let Some(symbol) = shard.table.find(hash, |symbol| self.text(symbol) == text) {
            return symbol;
        }
        let symbol = Symbol(self.next.fetch_add(1, Relaxed));
        assert!(symbol.0 != u32::MAX, "fewer than 2^32 names");
        let kept = shard.keep(text);
        let (chunk, index) = locate(symbol);
        let chunk = self.chunks[chunk]
            .get_or_init(|| (0..(FIRST_CHUNK as usize) << chunk).map(|_| OnceLock::new()).collect());
        chunk[index].set(kept).expect("each number is given once");
        shard.table.insert(hash, symbol);
        symbol
    }

    fn lookup(&self, text: &[u8], hash: u32) -> Option<Symbol> {
        let (shard, hash) = self.shard(hash);
        let shard = shard.lock().expect("no holder of this lock panics");
        shard.table.find(hash, |symbol| self.text(symbol) == text)
    }

    fn text(&self, symbol: Symbol) -> &'static [u8] {
        let (chunk, index) = locate(symbol);
        self.chunks[chunk].get().expect("a symbol has a text")[index].get().expect("a symbol has a text")
    }

    fn shard(&self, hash: u32) -> (&Mutex<Shard>, u32) {
        (&self.shards[hash as usize % SHARDS], hash.rotate_right(6).wrapping_mul(0x9E37_79B1))
    }
}

impl Shard {
    /// Copies `text` to where it stays.
    fn keep(&mut self, text: &[u8]) -> &'static [u8] {
        const MAX_BLOCK_BYTES: usize = 16 << 10;
        if text.len() > 1024 {
            return Box::leak(text.into());
        }
        if self.block.len() < text.len() {
            // As large as all before it: there are many shards, and most programs have few names.
            let bytes = (self.kept_bytes + text.len()).next_power_of_two().clamp(128, MAX_BLOCK_BYTES);
            self.block = Box::leak(vec![0; bytes].into_boxed_slice());
        }
        self.kept_bytes += text.len();
        let (kept, rest) = std::mem::take(&mut self.block).split_at_mut(text.len());
        self.block = rest;
        kept.copy_from_slice(text);
        kept
    }
}

/// Symbols by the hashes of their texts. One look at memory finds most of them: large programs have
/// more names than caches hold.
#[derive(Default)]
struct Table {
    /// Hash and symbol, from the place that the hash says on; free ones have [`NOBODY`]. A power of two.
    entries: Vec<(u32, u32)>,
    count: usize,
}

/// No symbol has this number.
const NOBODY: u32 = u32::MAX;

impl Table {
    fn find(&self, hash: u32, is_it: impl Fn(Symbol) -> bool) -> Option<Symbol> {
        let mask = self.entries.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let (known, symbol) = self.entries[at];
            if symbol == NOBODY {
                return None;
            }
            if known == hash && is_it(Symbol(symbol)) {
                return Some(Symbol(symbol));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a symbol that is not in it.
    fn insert(&mut self, hash: u32, symbol: Symbol) {
        if (self.count + 1) * 4 > self.entries.len() * 3 {
            let doubled = (self.entries.len() * 2).max(64);
            let old = std::mem::replace(&mut self.entries, vec![(0, NOBODY); doubled]);
            old.into_iter().filter(|entry| entry.1 != NOBODY).for_each(|entry| self.put(entry));
        }
        self.count += 1;
        self.put((hash, symbol.0));
    }

    fn put(&mut self, entry: (u32, u32)) {
        let mask = self.entries.len() - 1;
        let mut at = entry.0 as usize & mask;
        while self.entries[at].1 != NOBODY {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }
}

/// Returns chunk and place in it.
fn locate(symbol: Symbol) -> (usize, usize) {
    let shifted = symbol.0 / FIRST_CHUNK + 1;
    let chunk = shifted.ilog2();
    let first = ((1u32 << chunk) - 1).wrapping_mul(FIRST_CHUNK);
    (chunk as usize, (symbol.0 - first) as usize)
}

/// Symbols that exist from the start, in the order in which Nix makes them before it reads a program: what it looks
/// for, the builtins, and what `derivation` is written with. Where several attributes of a set fail, that order decides
/// which is told. Last is what Nix does not name; between two blanks is the empty name.
const ORDER: &str = "\
outPath drvPath type meta name value system __overrides outputs outputName __ignoreNulls file line column \
__functor __toString right wrong __structuredAttrs __json allowedReferences allowedRequisites \
disallowedReferences disallowedRequisites maxSize maxClosureSize builder args __contentAddressed __impure \
outputHash outputHashAlgo outputHashMode recurseForDerivations description self  startSet operator key path \
prefix outputSpecified __sub __lessThan __mul __div or __findFile __nixPath body builtins true false null \
__currentTime currentTime __currentSystem currentSystem __nixVersion nixVersion __storeDir storeDir \
__langVersion langVersion __traceVerbose traceVerbose nixPath scopedImport import __typeOf typeOf isNull \
__isFunction isFunction __isInt isInt __isFloat isFloat __isString isString __isBool isBool __isPath isPath \
__genericClosure genericClosure break abort throw __addErrorContext addErrorContext __ceil ceil __floor floor \
__tryEval tryEval __getEnv getEnv __seq seq __deepSeq deepSeq __trace trace __warn warn derivationStrict \
placeholder __toPath toPath __storePath storePath __pathExists pathExists baseNameOf dirOf __readFile readFile \
findFile __hashFile hashFile __readFileType readFileType __readDir readDir __toXML toXML __toJSON toJSON \
__fromJSON fromJSON __toFile toFile __filterSource filterSource __path __attrNames attrNames __attrValues \
attrValues __getAttr getAttr __unsafeGetAttrPos unsafeGetAttrPos __hasAttr hasAttr __isAttrs isAttrs removeAttrs \
__listToAttrs listToAttrs __intersectAttrs intersectAttrs __catAttrs catAttrs __functionArgs functionArgs \
__mapAttrs mapAttrs __zipAttrsWith zipAttrsWith __isList isList __elemAt elemAt __head head __tail tail map \
__filter filter __elem elem __concatLists concatLists __length length __foldl' foldl' __any any __all all \
__genList genList __sort sort __partition partition __groupBy groupBy __concatMap concatMap __add add sub mul \
div __bitAnd bitAnd __bitOr bitOr __bitXor bitXor lessThan toString __substring substring __stringLength \
stringLength __hashString hashString __convertHash convertHash __match match __split split __concatStringsSep \
concatStringsSep __replaceStrings replaceStrings __parseDrvName parseDrvName __compareVersions compareVersions \
__splitVersion splitVersion __unsafeDiscardStringContext unsafeDiscardStringContext __hasContext hasContext \
__unsafeDiscardOutputDependency unsafeDiscardOutputDependency __addDrvOutputDependencies \
addDrvOutputDependencies __getContext getContext __appendContext appendContext fetchMercurial __fetchurl \
fetchurl fetchTarball fetchGit fromTOML __getFlake getFlake __parseFlakeRef parseFlakeRef __flakeRefToString \
flakeRefToString derivation strict drvAttrs commonAttrs outputsList x outputToAttrListElement __curPos out";

/// Returns the number of a symbol that exists from the start.
const fn number_of(text: &str) -> u32 {
    let (order, text) = (ORDER.as_bytes(), text.as_bytes());
    let (mut number, mut start) = (0, 0);
    loop {
        let mut end = start;
        let mut is_same = true;
        while end < order.len() && order[end] != b' ' {
            is_same = is_same && end - start < text.len() && order[end] == text[end - start];
            end += 1;
        }
        if is_same && end - start == text.len() {
            return number;
        }
        assert!(end < order.len(), "a known symbol stands in the order");
        (number, start) = (number + 1, end + 1);
    }
}

macro_rules! known_symbols {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Symbols with fixed numbers.
        pub mod sym {
            #![allow(missing_docs, reason = "each is named after its text")]
            use super::Symbol;

            $($(#[$doc])* pub const $name: Symbol = Symbol(super::number_of($text));)*
        }
    };
}

// Whoever needs one more adds a line, and a word to the order if it is not there.
known_symbols! {
    EMPTY = "";
    OR = "or";
    BODY = "body";
    CUR_POS = "__curPos";
    SUB = "__sub";
    MUL = "__mul";
    DIV = "__div";
    LESS_THAN = "__lessThan";
    FIND_FILE = "__findFile";
    NIX_PATH = "__nixPath";
    BUILTINS = "builtins";
    TRUE = "true";
    FALSE = "false";
    NULL = "null";
    NAME = "name";
    VALUE = "value";
    TYPE = "type";
    OUT_PATH = "outPath";
    DRV_PATH = "drvPath";
    FUNCTOR = "__functor";
    TO_STRING = "__toString";
    OVERRIDES = "__overrides";
    FILE = "file";
    LINE = "line";
    COLUMN = "column";
    STRUCTURED_ATTRS = "__structuredAttrs";
    IGNORE_NULLS = "__ignoreNulls";
    CONTENT_ADDRESSED = "__contentAddressed";
    IMPURE = "__impure";
    ARGS = "args";
    BUILDER = "builder";
    SYSTEM = "system";
    OUT = "out";
    OUTPUTS = "outputs";
    OUTPUT_NAME = "outputName";
    OUTPUT_HASH = "outputHash";
    OUTPUT_HASH_ALGO = "outputHashAlgo";
    OUTPUT_HASH_MODE = "outputHashMode";
    ALL = "all";
    DRV_ATTRS = "drvAttrs";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_symbols() {
        let many: Vec<_> = (0..20_000).map(|i| Symbol::intern(format!("name-{i}"))).collect();
        for (i, &symbol) in many.iter().enumerate() {
            assert_eq!(symbol, Symbol::intern(format!("name-{i}")));
            assert_eq!(symbol.as_bytes(), format!("name-{i}").as_bytes());
        }
        assert_eq!(Symbol::intern("or"), sym::OR);
        assert_eq!(Symbol::intern(vec![b'x'; 5000]).as_bytes().len(), 5000);
        assert_eq!(Symbol::lookup("nobody made this one before"), None);
        assert_eq!(Symbol::intern(b"\xff").as_bytes(), b"\xff");
    }

    #[test]
    fn threads_agree() {
        let texts: Vec<_> = (0..5_000).map(|i| format!("shared-{i}")).collect();
        let of_threads: Vec<Vec<Symbol>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| texts.iter().map(Symbol::intern).collect())).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        assert!(of_threads.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
