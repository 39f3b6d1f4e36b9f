//! Blocks and cells: where objects live, and how they are found again.
//!
//! The heap is one reserved range of addresses, cut into blocks of 32 KiB. A block
//! is free, or holds cells of one size, or is part of a large object that spans
//! blocks. Cells are handed out from *runs*: stretches of free cells of one block,
//! so that making an object is an addition and a comparison. Nothing ever moves,
//! therefore any word that looks like an address inside a cell keeps that cell,
//! which is how Rust code can hold values in plain locals (see `collect`).
//!
//! ```text
//! block   [ aaaa aaaa .... aa.. .... aaaa ]     a: allocated at the last collection
//! run                 ^cur ^end                 next object at cur
//! ```
//!
//! The cells of a run count as allocated as soon as the run is taken, though those from
//! `cur` on hold nothing yet. A header is written as soon as its cell is handed out, before
//! anything else is allocated. So a word found on the stack can be checked: in the range,
//! allocated bit set, not in what is left of the run of its class.

use super::layout::{self, Kind};

/// Bytes of a block, as a power of two.
const BLOCK_SHIFT: u32 = 15;
/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 1 << BLOCK_SHIFT;
/// Objects larger than this have blocks of their own.
const LARGE_BYTES: usize = 8 << 10;
/// Words of a bitmap: one bit for each cell of 16 bytes.
const MAP_WORDS: usize = BLOCK_BYTES / 16 / 64;
/// Bytes at the start of the heap whose pages come as they are touched: most programs need no more.
const TOUCHED_BYTES: usize = 4 << 20;
/// Bytes that the kernel is asked to fill at once from there on.
const FILLED_BYTES: usize = 512 << 10;
/// Addresses to reserve, where there are as many.
const RESERVE_BYTES: usize = 256 << 30;

/// What unwinds an evaluator whose values need more addresses than there are.
pub struct HeapFull {
    /// How many there are; 0 if the system gave none.
    pub reserved_bytes: usize,
}

/// Sizes of cells in bytes: every multiple of 8 up to 128, then four steps for each doubling.
const CELL_BYTES: [u32; CLASSES] = cell_sizes();
const CLASSES: usize = 15 + 24;
/// Class of a size in words, up to `LARGE_BYTES`.
static CLASS_OF_WORDS: [u8; LARGE_BYTES / 8 + 1] = class_table();

const fn cell_sizes() -> [u32; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut class = 0;
    while class < 15 {
        sizes[class] = 16 + 8 * class as u32;
        class += 1;
    }
    let mut base = 128;
    while class < CLASSES {
        let mut step = 1;
        while step <= 4 {
            sizes[class] = base + base / 4 * step;
            class += 1;
            step += 1;
        }
        base *= 2;
    }
    sizes
}

const fn class_table() -> [u8; LARGE_BYTES / 8 + 1] {
    let mut table = [0; LARGE_BYTES / 8 + 1];
    let sizes = cell_sizes();
    let mut words = 0;
    let mut class = 0;
    while words <= LARGE_BYTES / 8 {
        while sizes[class] < 8 * words as u32 {
            class += 1;
        }
        table[words] = class as u8;
        words += 1;
    }
    table
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Cells,
    LargeHead,
    LargeTail,
}

/// What is known of a block.
struct Block {
    state: State,
    class: u8,
    marked: bool,
    /// Large head: number of blocks. Large tail: distance to the head.
    span: u32,
    cells: u32,
    cell_bytes: u32,
    /// 2^32 / `cell_bytes`, rounded up.
    reciprocal: u32,
}

/// The bitmaps of a block, one bit for each cell. They lie apart, so that what marking asks of every
/// block stays in the processor's caches.
#[derive(Clone)]
struct Maps {
    allocated: [u64; MAP_WORDS],
    marks: [u64; MAP_WORDS],
}

const NO_MAPS: Maps = Maps { allocated: [0; MAP_WORDS], marks: [0; MAP_WORDS] };

impl Block {
    const fn free() -> Self {
        Self { state: State::Free, class: 0, marked: false, span: 0, cells: 0, cell_bytes: 0, reciprocal: 0 }
    }

    /// Returns which cell holds the byte at `offset`.
    fn cell_at(&self, offset: usize) -> usize {
        ((offset as u64 * u64::from(self.reciprocal)) >> 32) as usize
    }
}

/// Free cells that lie side by side, and where to look for more.
#[derive(Clone, Copy)]
struct Run {
    cur: usize,
    end: usize,
    /// Block being allocated from; `u32::MAX` for none.
    block: u32,
    /// First cell of it that was not looked at yet.
    next_cell: u32,
}

const NO_RUN: Run = Run { cur: 0, end: 0, block: u32::MAX, next_cell: 0 };

/// All objects that can be collected.
pub(super) struct Space {
    base: usize,
    reserved_blocks: u32,
    runs: [Run; CLASSES],
    blocks: Vec<Block>,
    maps: Vec<Maps>,
    /// For each class, blocks with room that were not allocated from since the last collection.
    partial: [Vec<u32>; CLASSES],
    /// Free blocks, lowest last; may name blocks that a large object took meanwhile.
    free: Vec<u32>,
    free_count: usize,
    /// Where to look for several free blocks next, and how many there are nowhere.
    span_from: usize,
    no_span: usize,
    allocated_bytes: usize,
    threshold_bytes: usize,
    /// What may be allocated before the first collection, and at least between two.
    min_threshold_bytes: usize,
    /// Whether the threshold stays where it is however much is alive, and no cell is taken beyond it: in tests of
    /// the collector.
    is_stressed: bool,
    pub(super) live_bytes: usize,
    pub(super) total_bytes: u64,
    /// Bytes from the base on whose pages are there or are left to come as they are touched.
    filled_bytes: usize,
    mapping: (usize, usize),
}

/// Asked for when a collection is due.
pub(super) enum Allocation {
    At(*mut u64),
    CollectFirst,
}

impl Space {
    pub(super) fn new(min_threshold_bytes: usize) -> Self {
        let (start, bytes) = reserve(RESERVE_BYTES);
        let base = start.next_multiple_of(BLOCK_BYTES);
        let reserved_blocks = ((start + bytes - base) >> BLOCK_SHIFT) as u32;
        Self {
            base,
            reserved_blocks,
            runs: [NO_RUN; CLASSES],
            blocks: Vec::new(),
            maps: Vec::new(),
            partial: [const { Vec::new() }; CLASSES],
            free: Vec::new(),
            free_count: 0,
            span_from: 0,
            no_span: usize::MAX,
            allocated_bytes: 0,
            threshold_bytes: min_threshold_bytes,
            min_threshold_bytes,
            is_stressed: false,
            live_bytes: 0,
            total_bytes: 0,
            filled_bytes: TOUCHED_BYTES,
            mapping: (start, bytes),
        }
    }

    /// Returns a cell of at least `words` words with an unspecified content. The caller writes its header
    /// before anything else is allocated.
    #[inline(always)]
    pub(super) fn allocate(&mut self, words: usize) -> Allocation {
        if words <= LARGE_BYTES / 8 {
            let class = CLASS_OF_WORDS[words] as usize;
            let size = CELL_BYTES[class] as usize;
            let run = &mut self.runs[class];
            let at = run.cur;
            if at + size <= run.end {
                run.cur = at + size;
                return Allocation::At(at as *mut u64);
            }
        }
        self.allocate_slow(words)
    }

    #[cold]
    #[inline(never)]
    fn allocate_slow(&mut self, words: usize) -> Allocation {
        if self.allocated_bytes >= self.threshold_bytes {
            return Allocation::CollectFirst;
        }
        if words > LARGE_BYTES / 8 {
            return Allocation::At(self.allocate_large(words));
        }
        let class = CLASS_OF_WORDS[words] as usize;
        self.refill(class);
        self.allocate(words)
    }

    /// From now on a collection is due whenever so much was allocated.
    pub(super) fn stress(&mut self, every_bytes: usize) {
        // A cell at least fits in between.
        self.threshold_bytes = every_bytes.max(1);
        self.min_threshold_bytes = self.threshold_bytes;
        self.is_stressed = true;
    }

    /// Finds the next run of free cells of `class`.
    fn refill(&mut self, class: usize) {
        loop {
            let run = self.runs[class];
            if run.block != u32::MAX && self.next_run(class) {
                return;
            }
            let block = match self.partial[class].pop() {
                Some(block) => block,
                None => self.fresh_block(class),
            };
            forget_stack();
            self.runs[class] = Run { cur: 0, end: 0, block, next_cell: 0 };
        }
    }

    /// Takes the next free stretch of the current block, or returns false.
    fn next_run(&mut self, class: usize) -> bool {
        let run = &mut self.runs[class];
        let block = &self.blocks[run.block as usize];
        let maps = &mut self.maps[run.block as usize];
        let Some(first) = next_bit(&maps.allocated, run.next_cell as usize, block.cells as usize, false)
        else {
            run.next_cell = block.cells;
            run.cur = 0;
            run.end = 0;
            return false;
        };
        let last =
            next_bit(&maps.allocated, first, block.cells as usize, true).unwrap_or(block.cells as usize);
        let size = block.cell_bytes as usize;
        let last = if self.is_stressed {
            let room = self.threshold_bytes.saturating_sub(self.allocated_bytes) / size;
            last.min(first + room.max(1))
        } else {
            last
        };
        let start = self.base + ((run.block as usize) << BLOCK_SHIFT);
        set_bits(&mut maps.allocated, first, last);
        run.cur = start + first * size;
        run.end = start + last * size;
        run.next_cell = last as u32;
        self.allocated_bytes += run.end - run.cur;
        true
    }

    fn fresh_block(&mut self, class: usize) -> u32 {
        let index = loop {
            match self.free.pop() {
                Some(index) if self.blocks[index as usize].state == State::Free => {
                    self.free_count -= 1;
                    break index;
                }
                Some(_) => {}
                None => break self.extend(1),
            }
        };
        let block = &mut self.blocks[index as usize];
        let bytes = CELL_BYTES[class];
        block.state = State::Cells;
        block.class = class as u8;
        block.cell_bytes = bytes;
        block.cells = BLOCK_BYTES as u32 / bytes;
        block.reciprocal = ((1u64 << 32).div_ceil(u64::from(bytes))) as u32;
        self.maps[index as usize] = NO_MAPS;
        index
    }

    /// Adds `count` blocks at the end and returns the first.
    fn extend(&mut self, count: usize) -> u32 {
        let first = self.blocks.len();
        if first + count > self.reserved_blocks as usize {
            // Nothing that runs could go on: up to whoever started the evaluator, without a word.
            let reserved_bytes = (self.reserved_blocks as usize) << BLOCK_SHIFT;
            std::panic::resume_unwind(Box::new(HeapFull { reserved_bytes }));
        }
        self.blocks.resize_with(first + count, Block::free);
        self.maps.resize(first + count, NO_MAPS);
        self.fill_pages(count);
        first as u32
    }

    /// Asks the kernel for the pages of the blocks that come next, several in one call: an exception for
    /// each is half of what fresh memory costs. Large objects may have room that they never use.
    fn fill_pages(&mut self, added_blocks: usize) {
        let end_bytes = self.blocks.len() << BLOCK_SHIFT;
        if end_bytes <= self.filled_bytes {
            return;
        }
        if added_blocks > 1 {
            self.filled_bytes = end_bytes;
            return;
        }
        let from = end_bytes - BLOCK_BYTES;
        let until = (from + FILLED_BYTES).min((self.reserved_blocks as usize) << BLOCK_SHIFT);
        // SAFETY: pages of our own mapping; their contents stay. Where the kernel cannot do it, they come
        // as they are touched.
        unsafe {
            libc::madvise((self.base + from) as *mut libc::c_void, until - from, libc::MADV_POPULATE_WRITE);
        }
        self.filled_bytes = until;
    }

    fn allocate_large(&mut self, words: usize) -> *mut u64 {
        let count = (words * 8).div_ceil(BLOCK_BYTES);
        let first = self.find_span(count).unwrap_or_else(|| self.extend(count) as usize);
        for (distance, block) in self.blocks[first..first + count].iter_mut().enumerate() {
            block.state = State::LargeTail;
            block.span = distance as u32;
        }
        self.blocks[first].state = State::LargeHead;
        self.blocks[first].span = count as u32;
        self.blocks[first].marked = false;
        self.allocated_bytes += count * BLOCK_BYTES;
        let at = (self.base + (first << BLOCK_SHIFT)) as *mut u64;
        // SAFETY: the first word of a block of ours that nothing else uses.
        unsafe { *at = 0 };
        at
    }

    /// Returns the first of `count` free blocks that lie side by side. All calls between two collections look at
    /// each block a few times: they go on where the last one found something, and none looks for what was not there.
    fn find_span(&mut self, count: usize) -> Option<usize> {
        if self.free_count < count || count >= self.no_span {
            return None;
        }
        let found = self.span_after(self.span_from, count).or_else(|| self.span_after(0, count));
        match found {
            Some(first) => {
                self.free_count -= count;
                self.span_from = first + count;
            }
            None => self.no_span = count,
        }
        found
    }

    fn span_after(&self, from: usize, count: usize) -> Option<usize> {
        let mut length = 0;
        for (index, block) in self.blocks.iter().enumerate().skip(from) {
            length = if block.state == State::Free { length + 1 } else { 0 };
            if length == count {
                return Some(index + 1 - count);
            }
        }
        None
    }

    /// Gives back the cell that was handed out last for this many words, if it is the one at `at`. Nothing refers
    /// to it, and what an old word on the stack may say is what it says of any cell that is free.
    pub(super) fn take_back(&mut self, at: *mut u64, words: usize) {
        if words <= LARGE_BYTES / 8 {
            let class = CLASS_OF_WORDS[words] as usize;
            let run = &mut self.runs[class];
            if at as usize + CELL_BYTES[class] as usize == run.cur {
                run.cur = at as usize;
            }
        }
    }

    /// Gives a large object's blocks back at once. Small ones wait for the next collection.
    pub(super) fn free_large(&mut self, at: *mut u64) {
        let index = (at as usize - self.base) >> BLOCK_SHIFT;
        if self.blocks[index].state != State::LargeHead {
            return;
        }
        let count = self.blocks[index].span as usize;
        self.release(index, count);
        self.allocated_bytes = self.allocated_bytes.saturating_sub(count * BLOCK_BYTES);
    }

    fn release(&mut self, first: usize, count: usize) {
        for index in first..first + count {
            self.blocks[index].state = State::Free;
            self.free.push(index as u32);
        }
        self.free_count += count;
        self.span_from = self.span_from.min(first);
        self.no_span = usize::MAX;
    }

    /// Returns whether `address` lies where objects can be.
    #[inline(always)]
    pub(super) fn covers(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) >> BLOCK_SHIFT < self.blocks.len()
    }

    /// Marks the object at `address`, which is one. Returns it if it was not marked before.
    #[inline(always)]
    pub(super) fn mark_exact(&mut self, address: usize) -> Option<*mut u64> {
        let offset = address.wrapping_sub(self.base);
        let index = offset >> BLOCK_SHIFT;
        let block = self.blocks.get_mut(index)?;
        match block.state {
            State::Cells => {
                let cell = block.cell_at(offset & (BLOCK_BYTES - 1));
                let bit = 1 << (cell % 64);
                let word = &mut self.maps[index].marks[cell / 64];
                if *word & bit != 0 {
                    return None;
                }
                *word |= bit;
                self.live_bytes += block.cell_bytes as usize;
                Some((self.base + (index << BLOCK_SHIFT) + cell * block.cell_bytes as usize) as *mut u64)
            }
            State::LargeHead if !block.marked => {
                block.marked = true;
                self.live_bytes += block.span as usize * BLOCK_BYTES;
                Some((self.base + (index << BLOCK_SHIFT)) as *mut u64)
            }
            State::LargeTail => {
                let head = index - block.span as usize;
                self.mark_exact(self.base + (head << BLOCK_SHIFT))
            }
            State::LargeHead | State::Free => None,
        }
    }

    /// Returns the start of the object around `address`, if there is one.
    pub(super) fn find_object(&self, address: usize) -> Option<*mut u64> {
        let offset = address.wrapping_sub(self.base);
        let index = offset >> BLOCK_SHIFT;
        let block = self.blocks.get(index)?;
        let start = match block.state {
            State::Free => return None,
            State::Cells => {
                let cell = block.cell_at(offset & (BLOCK_BYTES - 1));
                let is_free = || self.maps[index].allocated[cell / 64] & (1 << (cell % 64)) == 0;
                if cell >= block.cells as usize || is_free() {
                    return None;
                }
                let start = self.base + (index << BLOCK_SHIFT) + cell * block.cell_bytes as usize;
                let run = &self.runs[block.class as usize];
                if (run.cur..run.end).contains(&start) {
                    return None;
                }
                start
            }
            State::LargeHead => self.base + (index << BLOCK_SHIFT),
            State::LargeTail => self.base + ((index - block.span as usize) << BLOCK_SHIFT),
        };
        // SAFETY: the start of a cell that was handed out, or of a large object: its header was written
        // (that of a large one as zero, when its span was taken).
        let header = unsafe { *(start as *const u64) };
        (layout::kind(header) != Kind::Free).then_some(start as *mut u64)
    }

    pub(super) fn begin_marking(&mut self) {
        self.live_bytes = 0;
    }

    /// Frees what was not marked. `extra_bytes` is what else counts as live (deep stacks).
    pub(super) fn sweep(&mut self, extra_bytes: usize) {
        self.total_bytes += self.allocated_bytes as u64;
        for list in &mut self.partial {
            list.clear();
        }
        self.runs = [NO_RUN; CLASSES];
        self.free.clear();
        self.free_count = 0;
        // From the end, so that low blocks are used first.
        for index in (0..self.blocks.len()).rev() {
            let block = &mut self.blocks[index];
            match block.state {
                State::Cells => {
                    let maps = &mut self.maps[index];
                    let used: u32 = maps.marks.iter().map(|word| word.count_ones()).sum();
                    maps.allocated = maps.marks;
                    maps.marks = [0; MAP_WORDS];
                    if used == 0 {
                        block.state = State::Free;
                    } else if used < block.cells {
                        self.partial[block.class as usize].push(index as u32);
                    }
                }
                State::LargeHead => {
                    if !std::mem::take(&mut block.marked) {
                        let count = block.span as usize;
                        for part in &mut self.blocks[index..index + count] {
                            part.state = State::Free;
                        }
                    }
                }
                State::LargeTail | State::Free => {}
            }
        }
        for index in (0..self.blocks.len()).rev() {
            if self.blocks[index].state == State::Free {
                self.free.push(index as u32);
            }
        }
        self.free_count = self.free.len();
        self.span_from = 0;
        self.no_span = usize::MAX;
        self.allocated_bytes = 0;
        let alive_bytes = self.live_bytes + extra_bytes;
        let grown_bytes = if self.is_stressed { 0 } else { alive_bytes + alive_bytes / 2 };
        self.threshold_bytes = self.min_threshold_bytes.max(grown_bytes);
    }

    /// Returns the bytes of address space that blocks cover.
    pub(super) fn block_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Returns the bytes allocated since the beginning.
    pub(super) fn allocated_total(&self) -> u64 {
        self.total_bytes + self.allocated_bytes as u64
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: the range that `reserve` mapped, once; no value outlives its evaluator
        // (see `Evaluator`: values cannot be sent out of its thread or scope).
        unsafe { libc::munmap(self.mapping.0 as *mut libc::c_void, self.mapping.1) };
    }
}

/// Sets the bits `from..until`.
fn set_bits(map: &mut [u64; MAP_WORDS], from: usize, until: usize) {
    let (first, last) = (from / 64, (until - 1) / 64);
    for (index, word) in map.iter_mut().enumerate().take(last + 1).skip(first) {
        let low = if index == first { u64::MAX << (from % 64) } else { u64::MAX };
        let high = if index == last { u64::MAX >> (63 - (until - 1) % 64) } else { u64::MAX };
        *word |= low & high;
    }
}

/// Returns the first bit at or after `from` that is `wanted`, below `end`.
fn next_bit(map: &[u64; MAP_WORDS], from: usize, end: usize, wanted: bool) -> Option<usize> {
    if from >= end {
        return None;
    }
    let flip = if wanted { 0 } else { u64::MAX };
    let mut index = from / 64;
    let mut word = (map[index] ^ flip) & (u64::MAX << (from % 64));
    loop {
        if word != 0 {
            let bit = index * 64 + word.trailing_zeros() as usize;
            return (bit < end).then_some(bit);
        }
        index += 1;
        if index * 64 >= end {
            return None;
        }
        word = map[index] ^ flip;
    }
}

/// Overwrites what earlier calls left on the native stack below here.
///
/// A frame that comes to lie there later may have slots that it never writes, and a collection would
/// take old words in them for values: how much memory a program holds would depend on how the
/// compiler lays out frames.
#[inline(never)]
pub(crate) fn forget_stack() {
    std::hint::black_box(&mut [0u64; 256]);
}

/// Least that is reserved: less holds no program.
const LEAST_BYTES: usize = 4 << 20;

/// Reserves address space that costs nothing until it is touched: `bytes`, or less where there is less.
///
/// Of a space that is short it takes half at most, so that stacks, buffers and files have the other half.
/// Unwinds with [`HeapFull`] where there is next to none.
pub(super) fn reserve(mut bytes: usize) -> (usize, usize) {
    loop {
        if let Some(at) = map(2 * bytes) {
            // SAFETY: the upper half of what was just mapped, that nobody knows of yet.
            unsafe { libc::munmap((at + bytes) as *mut libc::c_void, bytes) };
            return (at, bytes);
        }
        bytes /= 2;
        if bytes < LEAST_BYTES {
            std::panic::resume_unwind(Box::new(HeapFull { reserved_bytes: 0 }));
        }
    }
}

/// Returns whether the system gives that much address space.
pub(crate) fn is_free(bytes: usize) -> bool {
    let found = map(bytes);
    if let Some(at) = found {
        // SAFETY: what was just mapped, that nobody knows of.
        unsafe { libc::munmap(at as *mut libc::c_void, bytes) };
    }
    found.is_some()
}

fn map(bytes: usize) -> Option<usize> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    (at != libc::MAP_FAILED).then_some(at as usize)
}
