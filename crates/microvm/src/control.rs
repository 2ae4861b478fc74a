//! A run from outside: freeze it, let it go on, end it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use worldcompute_fault::{Category, Fault, Result};

/// How long a hypervisor has to stand still once it is told to: it does not before a call that cannot be interrupted is
/// over, such as one to a disk that does not answer.
const MAX_STOP: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

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
    /// `freeze_timeout` for a VM that does not stand still in 10 s: it will as soon as it can. What the system says. A VM
    /// that is gone already is no error.
    pub fn freeze(&self) -> Result<()> {
        let process = self.tell_to_stop()?;
        self.wake();
        match process {
            Some(process) => self.wait_for_stop(&process, MAX_STOP),
            None => Ok(()),
        }
    }

    /// The same, and does not wait for it: see [`Self::stands_still`].
    ///
    /// # Errors
    /// What the system says. A VM that is gone already is no error.
    pub fn begin_freeze(&self) -> Result<()> {
        self.tell_to_stop()?;
        self.wake();
        Ok(())
    }

    /// Whether nothing of the VM runs: it stands still, has not begun, or has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn stands_still(&self) -> Result<bool> {
        self.state().process.as_ref().map_or(Ok(true), stands_still)
    }

    /// Waits for as long as the run is frozen, where there is no process yet that could be. False for one that is to end.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait_while_frozen(&self) -> Result<bool> {
        loop {
            // Before looking, so that what changes after that is not missed.
            self.noticed();
            if self.is_cancelled() || !self.is_frozen() {
                return Ok(!self.is_cancelled());
            }
            match poll(&mut [PollFd::new(&self.inner.wake, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::io("wait for a run to go on", &error.into())),
            }
        }
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
            signal(&process, Signal::STOP)?;
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

    /// The process that was told.
    fn tell_to_stop(&self) -> Result<Option<OwnedFd>> {
        let mut state = self.state();
        state.frozen_since.get_or_insert_with(Instant::now);
        let Some(process) = &state.process else {
            return Ok(None);
        };
        signal(process, Signal::STOP)?;
        let process = process.try_clone();
        process
            .map(Some)
            .map_err(|error| Fault::io("watch a hypervisor", &error))
    }

    /// Until the last thread stands, or the process has ended, or is to go on. The state is free meanwhile: the run looks
    /// at it all the time.
    fn wait_for_stop(&self, process: &OwnedFd, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.is_frozen() && !stands_still(process)? {
            if start.elapsed() > limit {
                let message = "the hypervisor does not stand still";
                return Err(Fault::new(Category::IoFailure, "freeze_timeout", message)
                    .hint("wait for its disk, resume it, or cancel the run"));
            }
            // Nothing but its end can be waited for with a deadline.
            let mut end = [PollFd::new(process, PollFlags::IN)];
            match poll(&mut end, Some(&LOOK)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::io("wait for a hypervisor", &error.into())),
            }
        }
        Ok(())
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

/// Or has ended; what there is to know of an end is left to the run.
fn stands_still(process: &OwnedFd) -> Result<bool> {
    let what = WaitIdOptions::STOPPED | WaitIdOptions::EXITED;
    let how = WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(process.as_fd()), what | how) {
        Ok(found) => Ok(found.is_some()),
        Err(Errno::CHILD) => Ok(true),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Fault::io("wait for a hypervisor to stop", &error.into())),
    }
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Fault::io("signal a hypervisor", &error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;
    use crate::hypervisor::Process;

    fn sleeping() -> (Process, OwnedFd) {
        let mut command = Command::new("sleep");
        command.arg("60");
        let process = Process::start(command).unwrap();
        let handle = process.handle().try_clone().unwrap();
        (process, handle)
    }

    #[test]
    fn a_process_that_does_not_stand_still_is_not_waited_for_for_ever() {
        let control = Control::new().unwrap();
        let (_process, handle) = sleeping();
        control.freeze().unwrap();
        let fault = control
            .wait_for_stop(&handle, Duration::from_millis(20))
            .unwrap_err();
        assert_eq!(fault.code(), "freeze_timeout");
        signal(&handle, Signal::STOP).unwrap();
        control.wait_for_stop(&handle, MAX_STOP).unwrap();
    }

    #[test]
    fn a_run_goes_on_and_may_be_resumed_while_its_process_is_waited_for() {
        let control = Control::new().unwrap();
        let (_process, handle) = sleeping();
        control.freeze().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| control.wait_for_stop(&handle, 6 * MAX_STOP));
            control.elapsed();
            assert!(!waits.is_finished());
            control.resume().unwrap();
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_process_that_is_gone_stands_still() {
        let control = Control::new().unwrap();
        let (process, handle) = sleeping();
        control.attach(handle).unwrap();
        drop(process);
        control.freeze().unwrap();
    }
}
