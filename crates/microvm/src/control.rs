//! A run from outside: freeze it, let it go on, end it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use worldcompute_fault::{Fault, Result};

/// Holds one run by its reins. Clones hold the same.
#[derive(Clone, Debug)]
pub struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    cancelled: AtomicBool,
    /// Written to when something changes that the run has to look at.
    wake: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<OwnedFd>,
    frozen_since: Option<Instant>,
    frozen: Duration,
}

impl Control {
    /// # Errors
    /// What the system says where no more files can be opened.
    pub fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|error| Fault::io("watch a run", &error.into()))?;
        let inner = Inner {
            started: Instant::now(),
            cancelled: AtomicBool::new(false),
            wake,
            state: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Ends the run, also one that is frozen.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Release);
        self.wake();
    }

    /// Stops the VM with everything in it, and returns when it stands still. Its memory stays where it is, and its
    /// clocks stop as far as the limits are concerned. A run that has not begun will begin frozen.
    ///
    /// SIGSTOP to the hypervisor rather than a word to it: no answer is waited for from a program that may be busy, and
    /// nothing is allocated.
    ///
    /// # Errors
    /// What the system says; a VM that is gone already is no error.
    pub fn freeze(&self) -> Result<()> {
        let mut state = self.state();
        state.frozen_since.get_or_insert_with(Instant::now);
        if let Some(process) = &state.process {
            stop(process)?;
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Lets the VM go on where it was.
    ///
    /// # Errors
    /// What the system says; a VM that is gone already is no error.
    pub fn resume(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(since) = state.frozen_since.take() {
            state.frozen += since.elapsed();
        }
        if let Some(process) = &state.process {
            signal(process, Signal::CONT)?;
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Whether the VM is frozen.
    pub fn is_frozen(&self) -> bool {
        self.state().frozen_since.is_some()
    }

    /// Whether the run is to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Acquire)
    }

    /// Time since this was made in which nothing was frozen.
    pub(crate) fn elapsed(&self) -> Duration {
        let state = self.state();
        let now = state.frozen_since.unwrap_or_else(Instant::now);
        now.duration_since(self.inner.started)
            .saturating_sub(state.frozen)
    }

    /// From now on this is the process that is frozen.
    pub(crate) fn attach(&self, process: OwnedFd) -> Result<()> {
        let mut state = self.state();
        if state.frozen_since.is_some() {
            stop(&process)?;
        }
        state.process = Some(process);
        Ok(())
    }

    /// The process is gone.
    pub(crate) fn detach(&self) {
        self.state().process = None;
    }

    /// Readable when something has changed.
    pub(crate) fn changed(&self) -> BorrowedFd<'_> {
        self.inner.wake.as_fd()
    }

    /// Takes note of the change.
    pub(crate) fn noticed(&self) {
        // Another run of the loop is all that comes of a change that was noticed before.
        let _ = rustix::io::read(&self.inner.wake, &mut [0; 8]);
    }

    fn wake(&self) {
        // It fails only where it has been written to so often that it is readable anyway.
        let _ = rustix::io::write(&self.inner.wake, &1_u64.to_ne_bytes());
    }

    /// What is in it is consistent after every statement.
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn stop(process: &OwnedFd) -> Result<()> {
    signal(process, Signal::STOP)?;
    // Returns when the last thread stands, or has ended; what there is to know of an end is left to the run.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::PidFd(process.as_fd()), options) {
            Ok(_) | Err(Errno::CHILD) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::io("wait for a hypervisor to stop", &error.into())),
        }
    }
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Fault::io("signal a hypervisor", &error.into())),
    }
}
