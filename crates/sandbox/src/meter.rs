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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_count_against_one_limit() {
        let mut meter = Meter::new(1000);
        assert!(meter.memory_growing(0, 600, None).unwrap());
        assert!(meter.table_growing(0, 50, None).unwrap());
        assert!(!meter.memory_growing(600, 601, None).unwrap());
        assert!(!meter.table_growing(50, usize::MAX, None).unwrap());
    }

    #[test]
    fn a_growth_past_the_types_own_maximum_is_refused_and_costs_nothing() {
        let mut meter = Meter::new(1000);
        assert!(!meter.memory_growing(0, 600, Some(599)).unwrap());
        assert!(meter.memory_growing(0, 1000, Some(1000)).unwrap());
    }

    #[test]
    fn only_the_last_refusal_counts_as_starving() {
        let mut meter = Meter::new(1000);
        assert!(!meter.starved());
        meter.memory_growing(0, 1001, None).unwrap();
        assert!(meter.starved());
        meter.memory_growing(0, 1000, None).unwrap();
        assert!(!meter.starved());
        meter
            .memory_grow_failed(wasmtime::Error::msg("past what 32 bits address"))
            .unwrap();
        assert!(meter.starved());
    }

    #[test]
    fn memory_that_the_machine_cannot_give_ends_the_guest() {
        let error = || wasmtime::Error::from(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        let mut meter = Meter::new(1000);
        for ended in [
            meter.memory_grow_failed(error()),
            meter.table_grow_failed(error()),
        ] {
            assert_eq!(
                ended.unwrap_err().downcast_ref::<Stop>(),
                Some(&Stop::HostMemory)
            );
        }
    }
}
