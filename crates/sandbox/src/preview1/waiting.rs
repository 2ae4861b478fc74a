//! `poll_oneoff`: waiting for files, which are always ready, and for the virtual clock, which jumps.

use super::Guest;
use super::abi::{Record, at, put, put_u32};
use super::descriptors::Descriptor;
use crate::stop::{Errno, Result};
use crate::world::Clock;

/// Most subscriptions of one call.
const MAX_SUBSCRIPTIONS: u32 = 1024;
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
const ABSOLUTE: u64 = 1;

/// What is waited for.
enum Awaited {
    /// The monotonic clock to show this.
    Instant(u64),
    /// A file, with the bytes that can be read from it, or the reason why it cannot be waited for.
    File {
        event: u8,
        result: Result<u64, Errno>,
    },
}

struct Subscription {
    userdata: u64,
    awaited: Awaited,
}

impl Guest<'_> {
    pub fn poll_oneoff(
        &mut self,
        subscriptions: u32,
        events: u32,
        count: u32,
        ready: u32,
    ) -> Result<()> {
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        let subscriptions = self.subscriptions(subscriptions, count)?;
        self.wait(&subscriptions);
        let now = self.world.clock.now();
        let mut happened = 0;
        for subscription in &subscriptions {
            if let Some(event) = subscription.event(now) {
                put(self.memory, at(events, happened * EVENT as u32)?, &event.0)?;
                happened += 1;
            }
        }
        put_u32(self.memory, ready, happened)
    }

    fn subscriptions(&mut self, pointer: u32, count: u32) -> Result<Vec<Subscription>> {
        let bytes = u64::from(count) * SUBSCRIPTION as u64;
        self.world.account.moves(bytes)?;
        let mut subscriptions = Vec::new();
        for index in 0..count {
            let pointer = at(pointer, index * SUBSCRIPTION as u32)?;
            let record = Record::<SUBSCRIPTION>::read(self.memory, pointer)?;
            let awaited = match record.field(8, 1) {
                0 => Awaited::Instant(self.instant(&record)?),
                event @ (1 | 2) => self.file_event(event as u8, record.field(16, 4) as u32),
                _ => return Err(Errno::Inval.into()),
            };
            subscriptions.push(Subscription {
                userdata: record.field(0, 8),
                awaited,
            });
        }
        Ok(subscriptions)
    }

    fn instant(&self, record: &Record<SUBSCRIPTION>) -> Result<u64> {
        let (clock, timeout) = (record.field(16, 4), record.field(24, 8));
        match (record.field(40, 2) & ABSOLUTE != 0, clock) {
            (false, 0..=3) => Ok(self.world.clock.now().saturating_add(timeout)),
            (true, 0) => Ok(Clock::of_wall(timeout)),
            (true, 1..=3) => Ok(timeout),
            _ => Err(Errno::Inval.into()),
        }
    }

    fn file_event(&self, event: u8, fd: u32) -> Awaited {
        let reading = event == 1;
        let result = match self.world.descriptors.get(fd) {
            Ok(Descriptor::Stdin) if reading => Ok(self.world.stdin.rest() as u64),
            Ok(Descriptor::Print(_)) if !reading => Ok(self.world.account.left()),
            Ok(Descriptor::File(file)) => {
                let size = self.world.files.stat(file.node).map_or(0, |stat| stat.size);
                Ok(size.saturating_sub(file.offset))
            }
            _ => Err(Errno::Badf),
        };
        Awaited::File { event, result }
    }

    /// Lets time pass if nothing but time is waited for.
    fn wait(&mut self, subscriptions: &[Subscription]) {
        let instants = subscriptions
            .iter()
            .map(|subscription| match subscription.awaited {
                Awaited::Instant(instant) => instant,
                Awaited::File { .. } => 0,
            });
        if let Some(first) = instants.min() {
            self.world.clock.wait_until(first);
        }
    }
}

impl Subscription {
    fn event(&self, now: u64) -> Option<Record<EVENT>> {
        let (event, error, bytes) = match &self.awaited {
            Awaited::Instant(instant) if *instant > now => return None,
            Awaited::Instant(_) => (0, 0, 0),
            Awaited::File {
                event,
                result: Ok(bytes),
            } => (*event, 0, *bytes),
            Awaited::File {
                event,
                result: Err(errno),
            } => (*event, super::number(*errno), 0),
        };
        let record = Record::zeroed().with(0, &self.userdata.to_le_bytes());
        let record = record
            .with(8, &(error as u16).to_le_bytes())
            .with(10, &[event]);
        Some(record.with(16, &bytes.to_le_bytes()))
    }
}
