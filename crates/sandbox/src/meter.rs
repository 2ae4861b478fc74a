//! How much memory a guest may grow to.

use wasmtime::ResourceLimiter;

use crate::stop::Stop;

/// What one element of a table takes.
const TABLE_ELEMENT: usize = size_of::<usize>();
/// Most core instances of one guest: a component brings several.
const MAX_INSTANCES: usize = 32;
const MAX_MEMORIES: usize = 32;
const MAX_TABLES: usize = 64;

/// Counts all linear memories and tables against one limit.
///
/// A refused growth is answered with -1, as WebAssembly has it, and the guest may live on. The meter remembers
/// whether the last growth was refused: a guest that traps then died of it.
pub struct Meter {
    limit: u64,
    used: u64,
    starved: bool,
}

impl Meter {
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            starved: false,
        }
    }

    /// Whether the last growth asked for was refused.
    pub const fn starved(&self) -> bool {
        self.starved
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let after = self
            .used
            .saturating_add(desired.saturating_sub(current) as u64);
        let granted = after <= self.limit && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.used = after;
        }
        self.starved = !granted;
        granted
    }

    /// A growth failed that this meter was not asked about, or that it granted. If the machine could not give the
    /// memory, another machine could have: the guest must not live to end differently.
    fn failed(&mut self, error: &wasmtime::Error) -> wasmtime::Result<()> {
        self.starved = true;
        match error.downcast_ref::<std::io::Error>() {
            Some(_) => Err(Stop::HostMemory.into()),
            None => Ok(()),
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT);
        Ok(self.grow(bytes(current), bytes(desired), maximum.map(bytes)))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(&error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(&error)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}
