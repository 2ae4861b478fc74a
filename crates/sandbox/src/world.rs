//! The guest's world: everything it can see, as one value of this process's memory.
//!
//! No call of a guest becomes a call to the operating system: its files, its clock, its randomness and its standard
//! streams live here. That is what confines it, and what makes its run the same on every machine. Both WASI
//! previews are thin translations onto this.

mod account;
mod clock;
mod files;
mod random;

pub use account::Account;
pub use clock::{Clock, TICK};
pub use files::{EntryKind, Filesystem, Listed, NodeId, OpenHow, SetTimes, Stat};
pub use random::Random;

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::WasiSocketsCtx;

use crate::meter::Meter;
use crate::preview1::Descriptors;
use crate::request::RunRequest;
use crate::stop::{Result, Stop};

/// Most resources of WASI preview 2 a guest may hold: streams, pollables, open files.
const MAX_RESOURCES: usize = 4096;

/// Where a guest prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printer {
    Stdout,
    Stderr,
}

pub struct World {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Stdin,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub files: Filesystem,
    pub account: Account,
    pub clock: Clock,
    pub random: Random,
    pub meter: Meter,
    /// Open files of a preview 1 guest.
    pub descriptors: Descriptors,
    /// Open files, streams and pollables of a preview 2 guest.
    pub table: ResourceTable,
    /// Allows nothing: preview 2 guests link against sockets even if they never open one.
    pub sockets: WasiSocketsCtx,
}

/// Standard input: bytes, read once from front to back.
#[derive(Default)]
pub struct Stdin {
    bytes: Arc<[u8]>,
    read: usize,
}

impl Stdin {
    pub fn new(bytes: Arc<[u8]>) -> Self {
        Self { bytes, read: 0 }
    }

    /// The next bytes, `most` at most; none at the end.
    pub fn take(&mut self, most: usize) -> &[u8] {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let taken = rest.get(..most).unwrap_or(rest);
        self.read += taken.len();
        taken
    }

    pub fn rest(&self) -> usize {
        self.bytes.len() - self.read
    }
}

impl World {
    /// The world `request` asks for, without its inputs, and with the randomness of `seed`.
    pub fn new(request: &RunRequest, seed: u64) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            args: request.args.clone(),
            env: request.env.clone().into_iter().collect(),
            stdin: Stdin::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            files: Filesystem::new(),
            account: Account::new(request.limits.fuel, request.limits.output_bytes),
            clock: Clock::default(),
            random: Random::new(seed),
            meter: Meter::new(request.limits.memory_bytes),
            descriptors: Descriptors::default(),
            table,
            sockets: WasiSocketsCtx::default(),
        }
    }

    /// Prints all of `bytes`, or what fits and then ends the guest.
    pub fn print(&mut self, printer: Printer, bytes: &[u8]) -> Result<()> {
        let (fits, over) = match self.account.take_up_to(bytes.len()) {
            taken if taken == bytes.len() => (bytes, false),
            taken => (bytes.get(..taken).unwrap_or_default(), true),
        };
        match printer {
            Printer::Stdout => self.stdout.extend_from_slice(fits),
            Printer::Stderr => self.stderr.extend_from_slice(fits),
        }
        if over {
            Err(Stop::OutputLimit.into())
        } else {
            Ok(())
        }
    }
}
