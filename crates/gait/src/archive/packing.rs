//! Content that is hashed and deflated while it is made.

use std::io::Write;
use std::mem::take;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Hasher, Sha256};

use super::fault_of;
use super::writer::{Deflated, Deflating};

/// Bytes that are hashed and deflated at once.
const BLOCK: usize = 256 << 10;
/// Blocks that wait for the thread which does that.
const WAITING: usize = 2;
/// Bytes of that thread's stack.
const STACK: usize = 256 << 10;

/// Content on its way into a [`Deflated`]. When there is more than a block of it, a thread of its own hashes and deflates
/// while the next blocks are made.
pub struct Packing {
    name: String,
    block: Vec<u8>,
    worker: Option<Worker>,
}

impl Packing {
    /// The content of the entry `name`, which is empty yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            block: Vec::new(),
            worker: None,
        }
    }

    /// Adds to the content.
    ///
    /// # Errors
    /// `archive_limit` past the size of an entry; those of the disk. They may come at a later call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.append(|content| {
            content.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// Adds what `write` appends to the content.
    ///
    /// # Errors
    /// As [`Packing::push`]; those of `write`, which then has added nothing.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let before = self.block.len();
        if let Err(fault) = write(&mut self.block) {
            self.block.truncate(before);
            return Err(fault);
        }
        match self.block.len() >= BLOCK {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    /// All content was added.
    ///
    /// # Errors
    /// As [`Packing::push`].
    pub fn finish(mut self) -> Result<(Deflated, Sha256)> {
        if self.worker.is_none() {
            return pressed(&self.name, [self.block], |_| {});
        }
        self.hand_over()?;
        match self.worker {
            Some(worker) => worker.finish(),
            None => Err(unfinished()),
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start(self.name.clone())?),
        };
        self.block = worker.take(take(&mut self.block))?;
        Ok(())
    }
}

/// The thread that hashes and deflates.
struct Worker {
    blocks: SyncSender<Vec<u8>>,
    /// Blocks that it is done with, to be filled again.
    spent: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Result<(Deflated, Sha256)>>>,
}

impl Worker {
    fn start(name: String) -> Result<Self> {
        let (blocks, waiting) = sync_channel(WAITING);
        let (done, spent): (Sender<Vec<u8>>, _) = channel();
        let give_back = move |block| {
            // Whoever made it may not need another one.
            let _ = done.send(block);
        };
        let thread = thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || pressed(&name, waiting, give_back))
            .map_err(|error| Fault::io("start a thread", &error))?;
        Ok(Self {
            blocks,
            spent,
            thread: Some(thread),
        })
    }

    /// Hands over a block and returns an empty one.
    fn take(&mut self, block: Vec<u8>) -> Result<Vec<u8>> {
        if self.blocks.send(block).is_err() {
            return Err(self.refusal());
        }
        let mut spent = self.spent.try_recv().unwrap_or_default();
        spent.clear();
        Ok(spent)
    }

    /// Why the thread ended before its time.
    fn refusal(&mut self) -> Fault {
        match self.thread.take().map(joined) {
            Some(Err(fault)) => fault,
            _ => unfinished(),
        }
    }

    fn finish(self) -> Result<(Deflated, Sha256)> {
        drop(self.blocks);
        joined(self.thread.ok_or_else(unfinished)?)
    }
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

fn unfinished() -> Fault {
    let message = "an archive entry was refused before and is not finished";
    Fault::new(Category::InternalFailure, "archive_unfinished", message)
}

fn pressed(
    name: &str,
    blocks: impl IntoIterator<Item = Vec<u8>>,
    give_back: impl Fn(Vec<u8>),
) -> Result<(Deflated, Sha256)> {
    let (mut deflating, mut hasher) = (Deflating::begin()?, Hasher::new());
    for block in blocks {
        hasher.update(&block);
        deflating
            .write_all(&block)
            .map_err(|error| fault_of(&format!("write {name}"), error))?;
        give_back(block);
    }
    Ok((deflating.finish()?, hasher.finish()))
}
