//! Arguments, environment, clocks, randomness, and the calls that exist only to be refused.

use super::Guest;
use super::abi::{at, put, put_u32, put_u64, slice_mut};
use crate::stop::{Errno, Result};
use crate::world::TICK;

/// Most random bytes of one call: no guest can be ended while it waits for them, and these take a fraction of a second.
pub(super) const MAX_RANDOM: u32 = 16 << 20;
const REALTIME: u32 = 0;
/// Monotonic time; time on the processor is the same, for nothing else takes time here.
const MONOTONIC_AND_CPU: std::ops::RangeInclusive<u32> = 1..=3;

impl Guest<'_> {
    pub fn args_sizes_get(&mut self, count: u32, size: u32) -> Result<()> {
        let texts = self.arguments();
        self.put_sizes(&texts, count, size)
    }

    pub fn args_get(&mut self, argv: u32, buffer: u32) -> Result<()> {
        let texts = self.arguments();
        self.put_texts(&texts, argv, buffer)
    }

    pub fn environ_sizes_get(&mut self, count: u32, size: u32) -> Result<()> {
        let texts = self.environment();
        self.put_sizes(&texts, count, size)
    }

    pub fn environ_get(&mut self, environ: u32, buffer: u32) -> Result<()> {
        let texts = self.environment();
        self.put_texts(&texts, environ, buffer)
    }

    pub fn clock_res_get(&mut self, clock: u32, resolution: u32) -> Result<()> {
        if clock != REALTIME && !MONOTONIC_AND_CPU.contains(&clock) {
            return Err(Errno::Inval.into());
        }
        put_u64(self.memory, resolution, TICK)
    }

    pub fn clock_time_get(&mut self, clock: u32, _precision: u64, time: u32) -> Result<()> {
        let now = match clock {
            REALTIME => self.world.clock.read_wall(),
            clock if MONOTONIC_AND_CPU.contains(&clock) => self.world.clock.read(),
            _ => return Err(Errno::Inval.into()),
        };
        put_u64(self.memory, time, now)
    }

    pub fn random_get(&mut self, buffer: u32, length: u32) -> Result<()> {
        if length > MAX_RANDOM {
            return Err(Errno::Inval.into());
        }
        let place = slice_mut(self.memory, buffer, length)?;
        self.world.account.hashes(place.len() as u64)?;
        self.world.random.fill(place);
        Ok(())
    }

    pub fn sched_yield(&mut self) -> Result<()> {
        Ok(())
    }

    pub fn proc_raise(&mut self, _signal: u32) -> Result<()> {
        Err(Errno::Notsup.into())
    }

    pub fn sock_accept(&mut self, fd: u32, _flags: u32, _accepted: u32) -> Result<()> {
        self.not_a_socket(fd)
    }

    pub fn sock_recv(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32) -> Result<()> {
        self.not_a_socket(fd)
    }

    pub fn sock_send(&mut self, fd: u32, _: u32, _: u32, _: u32, _: u32) -> Result<()> {
        self.not_a_socket(fd)
    }

    pub fn sock_shutdown(&mut self, fd: u32, _how: u32) -> Result<()> {
        self.not_a_socket(fd)
    }

    fn not_a_socket(&self, fd: u32) -> Result<()> {
        self.world.descriptors.get(fd)?;
        Err(Errno::Notsock.into())
    }

    fn arguments(&self) -> Vec<Vec<u8>> {
        self.world
            .args
            .iter()
            .map(|arg| [arg.as_bytes(), b"\0"].concat())
            .collect()
    }

    fn environment(&self) -> Vec<Vec<u8>> {
        let variables = self.world.env.iter();
        variables
            .map(|(name, value)| format!("{name}={value}\0").into_bytes())
            .collect()
    }

    fn put_sizes(&mut self, texts: &[Vec<u8>], count: u32, size: u32) -> Result<()> {
        let bytes = texts.iter().map(Vec::len).sum::<usize>();
        self.world.account.moves(bytes as u64)?;
        put_u32(self.memory, count, texts.len() as u32)?;
        put_u32(self.memory, size, bytes as u32)
    }

    fn put_texts(&mut self, texts: &[Vec<u8>], mut pointers: u32, mut buffer: u32) -> Result<()> {
        for text in texts {
            self.world.account.moves(text.len() as u64)?;
            put_u32(self.memory, pointers, buffer)?;
            put(self.memory, buffer, text)?;
            pointers = at(pointers, 4)?;
            buffer = at(buffer, text.len() as u32)?;
        }
        Ok(())
    }
}
