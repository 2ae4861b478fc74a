//! The machine's owner first: runs of this donor stand still, or give their memory back, when the owner wants the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::Status;
use worldcompute_microvm::Control;
use worldcompute_preempt::{Freezable, Registered, Report, Settings, Supervisor};
use worldcompute_sandbox::{CancelToken, Reins};

use super::ended::Ended;

/// Watches the machine for its owner.
pub struct Yielding {
    supervisor: Supervisor,
    changed: Arc<Notify>,
}

/// A run under the owner's hand as long as this lives.
pub struct Held {
    run: Arc<Run>,
    _registered: Registered,
}

/// What a run is held by.
pub enum Grip {
    /// A module in this process.
    Guest(Reins),
    /// An image in a machine of its own.
    Machine(Control),
}

struct Run {
    grip: Grip,
    cancel: CancelToken,
    given_up: AtomicBool,
}

impl Yielding {
    /// # Errors
    /// WC-007 when the system gives no thread to watch with.
    pub fn start(settings: &Settings) -> Result<Self> {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let supervisor = Supervisor::start(settings.clone(), move |_| tell.notify_one())?;
        Ok(Self {
            supervisor,
            changed,
        })
    }

    /// Whether the owner has the machine now.
    pub fn now(&self) -> bool {
        self.supervisor.is_yielding()
    }

    /// How things stand.
    pub fn report(&self) -> Report {
        self.supervisor.report()
    }

    /// The owner wants the work to go on.
    pub fn go_on(&self) {
        self.supervisor.go_on();
    }

    /// Resolves when yielding has begun or ended since it was last asked; the log has it then.
    pub async fn changed(&self) {
        self.changed.notified().await;
        let report = self.report();
        match (report.yielding, report.last.last()) {
            (Some(trigger), _) => tracing::info!(%trigger, "the machine is its owner's"),
            (None, Some(last)) => tracing::info!(
                trigger = %last.trigger,
                ended = last.released,
                would_not_stop = last.would_not_stop,
                went_on = last.resumed,
                "the machine's owner is gone"
            ),
            (None, None) => {}
        }
    }

    /// Takes a run that is about to begin. While the machine is yielded, it begins frozen.
    pub fn hold(&self, grip: Grip, cancel: &CancelToken) -> Held {
        let run = Arc::new(Run {
            grip,
            cancel: cancel.clone(),
            given_up: AtomicBool::new(false),
        });
        Held {
            _registered: self.supervisor.register(run.clone()),
            run,
        }
    }
}

impl Held {
    /// The run is over: one that was ended for the owner's sake says so, in its receipt too, beside the time and the fuel
    /// that were lost.
    pub fn over(self, ended: Ended) -> Ended {
        let given_up = self.run.given_up.load(Ordering::Acquire);
        match ended.status {
            Status::Cancelled if given_up => Ended {
                error: Some("ended for the owner of the machine".to_owned()),
                ..ended
            },
            _ => ended,
        }
    }
}

/// A machine that cannot be told to stop does not stand still, and is ended for that.
impl Freezable for Run {
    fn freeze(&self) {
        match &self.grip {
            Grip::Guest(reins) => reins.freeze(),
            Grip::Machine(control) => drop(control.begin_freeze()),
        }
    }

    fn stands_still(&self) -> bool {
        match &self.grip {
            Grip::Guest(reins) => reins.stands_still(),
            Grip::Machine(control) => control.stands_still().unwrap_or(false),
        }
    }

    fn resume(&self) {
        match &self.grip {
            Grip::Guest(reins) => reins.resume(),
            // One that does not go on runs into the end of its lease.
            Grip::Machine(control) => drop(control.resume()),
        }
    }

    fn release(&self) {
        self.given_up.store(true, Ordering::Release);
        // The run directly, and what comes before it, such as compiling, by the token.
        match &self.grip {
            Grip::Guest(reins) => reins.cancel(),
            Grip::Machine(control) => control.cancel(),
        }
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Grip {
        Grip::Guest(Reins::new())
    }

    fn cancelled() -> Ended {
        Ended {
            status: Status::Cancelled,
            exit_code: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            outputs: Vec::new(),
            fuel_used: 7,
            wall_ms: 9,
            error: Some("cancelled".to_owned()),
            machine: None,
        }
    }

    #[test]
    fn only_a_run_that_was_ended_for_the_owner_says_so_and_what_it_had_done() {
        let yielding = Yielding::start(&Settings::never()).unwrap();
        let cancel = CancelToken::new();
        let held = yielding.hold(guest(), &cancel);
        held.run.release();
        assert!(cancel.is_cancelled());
        let over = held.over(cancelled());
        assert_eq!(
            over.error.as_deref(),
            Some("ended for the owner of the machine")
        );
        assert_eq!((over.fuel_used, over.wall_ms), (7, 9));

        let held = yielding.hold(guest(), &CancelToken::new());
        assert_eq!(
            held.over(cancelled()),
            cancelled(),
            "its submitter cancelled it"
        );
        let held = yielding.hold(guest(), &CancelToken::new());
        held.run.release();
        let done = Ended {
            status: Status::Succeeded,
            error: None,
            ..cancelled()
        };
        assert_eq!(held.over(done.clone()), done, "it had ended before");
    }
}
