//! Being told to stop: Ctrl-C, SIGTERM, SIGHUP. Whoever waits is woken, and what was made is removed on the way out.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::shell::{Failure, Result};

/// The exit code of a run that was interrupted, as shells give it.
const INTERRUPTED: u8 = 130;

/// Whether the run was told to stop. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Listens from now on: a signal no longer ends the process by itself.
    pub fn listen() -> Result<Self> {
        let stop = Self::default();
        let failed =
            |error: std::io::Error| Failure::new(format!("cannot listen for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let on = |kind| signal(kind).map_err(failed);
        let mut interrupt = on(SignalKind::interrupt())?;
        let mut terminate = on(SignalKind::terminate())?;
        let mut hangup = on(SignalKind::hangup())?;
        drop(entered);
        let told = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            told.tell();
        });
        Ok(stop)
    }

    /// Fails once the run was told to stop.
    pub fn check(&self) -> Result<()> {
        self.wait(Duration::ZERO)
    }

    /// Waits, unless the run is told to stop.
    pub fn wait(&self, time: Duration) -> Result<()> {
        let (told, woken) = &*self.0;
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, _) = woken
            .wait_timeout_while(told, time, |told| !*told)
            .unwrap_or_else(PoisonError::into_inner);
        match *told {
            false => Ok(()),
            true => Err(Failure {
                code: INTERRUPTED,
                message: "interrupted".to_owned(),
            }),
        }
    }

    fn tell(&self) {
        let (told, woken) = &*self.0;
        *told.lock().unwrap_or_else(PoisonError::into_inner) = true;
        woken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_woken_and_nobody_waits_after() {
        let stop = Stop::default();
        assert!(stop.check().is_ok());
        let other = stop.clone();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| stop.wait(Duration::from_secs(600)));
            other.tell();
            assert_eq!(waiter.join().unwrap().unwrap_err().code, INTERRUPTED);
        });
        assert!(stop.wait(Duration::from_secs(600)).is_err());
    }
}
