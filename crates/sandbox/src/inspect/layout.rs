//! Whether the data of a module is laid out beforehand, or copied segment by segment by code of its own.
//!
//! The first is what becomes of every ordinary module: its segments lie in memories of its own, at offsets that are
//! plain numbers, closely enough together. The engine then makes one image of each memory, which takes memory; else it
//! compiles a copy for each segment, which takes time.

use wasmparser::{ConstExpr, Data, DataKind, MemoryType, Operator};

/// An image of up to so many bytes is made however little of it is data.
const SMALL_IMAGE: u64 = 16 << 20;
/// What a page of memory has if its type does not say otherwise, as a power of two.
const PAGE_LOG2: u32 = 16;

/// The memories of one module.
#[derive(Default)]
pub struct Layout {
    memories: Vec<Extent>,
    active: u64,
    scattered: bool,
}

/// Where in a memory there is data.
#[derive(Clone, Copy)]
struct Extent {
    /// Bytes of the memory at the beginning; none if it is another module's.
    size: u64,
    start: u64,
    end: u64,
    data: u64,
}

impl Layout {
    /// A memory of another module's.
    pub fn import(&mut self) {
        self.memories.push(Extent::of(0));
    }

    pub fn define(&mut self, memory: &MemoryType) {
        let page = memory.page_size_log2.unwrap_or(PAGE_LOG2).min(PAGE_LOG2);
        self.memories
            .push(Extent::of(memory.initial.saturating_mul(1 << page)));
    }

    pub fn place(&mut self, segment: &Data<'_>) {
        let DataKind::Active {
            memory_index,
            offset_expr,
        } = &segment.kind
        else {
            return;
        };
        self.active += 1;
        let memory = self.memories.get_mut(*memory_index as usize);
        let placed = memory
            .zip(plain(offset_expr))
            .is_some_and(|(memory, start)| memory.place(start, segment.data.len() as u64));
        self.scattered |= !placed;
    }

    /// Segments that are copied one by one, and bytes of images.
    pub fn cost(&self) -> (u64, u64) {
        if self.scattered || !self.memories.iter().all(Extent::is_dense) {
            return (self.active, 0);
        }
        (0, self.memories.iter().map(Extent::length).sum())
    }
}

impl Extent {
    const fn of(size: u64) -> Self {
        Self {
            size,
            start: u64::MAX,
            end: 0,
            data: 0,
        }
    }

    /// False where it does not fit.
    fn place(&mut self, start: u64, length: u64) -> bool {
        let end = start.saturating_add(length);
        if length > 0 {
            self.start = self.start.min(start);
            self.end = self.end.max(end);
            self.data += length;
        }
        end <= self.size
    }

    const fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn is_dense(&self) -> bool {
        self.length() < SMALL_IMAGE.max(self.data.saturating_mul(2))
    }
}

/// The offset, if it is a plain number.
fn plain(offset: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = offset.get_operators_reader();
    let start = match operators.read().ok()? {
        Operator::I32Const { value } => u64::from(value.cast_unsigned()),
        Operator::I64Const { value } => value.cast_unsigned(),
        _ => return None,
    };
    matches!(operators.read().ok()?, Operator::End).then_some(start)
}
