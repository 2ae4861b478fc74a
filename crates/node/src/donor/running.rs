//! What runs now, by lease: each lease runs once, however often it is asked for, and ends when its submitter says so or has
//! gone silent.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_mesh::wire::DispatchReply;
use worldcompute_proof::PeerId;
use worldcompute_sandbox::CancelToken;
use worldcompute_scheduler::broker::LEASE_TTL;
use worldcompute_telemetry::spawn;

type Ending = Shared<BoxFuture<'static, Result<Arc<DispatchReply>>>>;

/// A lease is a submitter's: another peer that names the same one gets nothing.
type Key = (PeerId, String);

/// The leases under which something runs.
#[derive(Clone, Default)]
pub struct Leases(Arc<State>);

#[derive(Default)]
struct State {
    running: Mutex<HashMap<Key, Lease>>,
    ended: Notify,
}

struct Lease {
    ending: Ending,
    cancel: CancelToken,
    heard: Instant,
}

impl Leases {
    /// Runs `work` under a lease, or joins the run that is under way. The run goes on when the caller gives up: its result
    /// is asked for again.
    pub async fn once<W>(
        &self,
        from: &PeerId,
        lease: &str,
        work: impl FnOnce(CancelToken) -> W,
    ) -> Result<DispatchReply>
    where
        W: Future<Output = Result<DispatchReply>> + Send + 'static,
    {
        let ending = self.join_or_start((*from, lease.to_owned()), work);
        ending.await.map(|reply| (*reply).clone())
    }

    /// Takes note that the submitter still waits.
    pub fn heartbeat(&self, from: &PeerId, lease: &str) -> bool {
        let mut running = self.running_map();
        let lease = running.get_mut(&(*from, lease.to_owned()));
        lease.map(|lease| lease.heard = Instant::now()).is_some()
    }

    /// Ends the run under a lease.
    pub fn cancel(&self, from: &PeerId, lease: &str) -> bool {
        let running = self.running_map();
        running
            .get(&(*from, lease.to_owned()))
            .map(|lease| lease.cancel.cancel())
            .is_some()
    }

    /// Ends every run whose submitter was not heard for the life of a lease.
    pub fn end_abandoned(&self) {
        self.cancel_where(|lease| lease.heard.elapsed() > LEASE_TTL);
    }

    /// Ends every run.
    pub fn cancel_all(&self) {
        self.cancel_where(|_| true);
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running_map().len()
    }

    /// Resolves once nothing runs.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.0.ended.notified();
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// The map stays locked from the look to the insertion, so that two askers share one run, and a run that ends at once
    /// is not forgotten before it was noted.
    fn join_or_start<W>(&self, key: Key, work: impl FnOnce(CancelToken) -> W) -> Ending
    where
        W: Future<Output = Result<DispatchReply>> + Send + 'static,
    {
        let mut running = self.running_map();
        if let Some(lease) = running.get_mut(&key) {
            lease.heard = Instant::now();
            return lease.ending.clone();
        }
        let cancel = CancelToken::new();
        let ending = self.spawn(key.clone(), work(cancel.clone()));
        running.insert(
            key,
            Lease {
                ending: ending.clone(),
                cancel,
                heard: Instant::now(),
            },
        );
        ending
    }

    fn spawn(
        &self,
        key: Key,
        work: impl Future<Output = Result<DispatchReply>> + Send + 'static,
    ) -> Ending {
        let task = spawn(work);
        let state = self.0.clone();
        let ending = spawn(async move {
            let ended = task.await.unwrap_or_else(|_| Err(broke_off()));
            state.forget(&key);
            ended.map(Arc::new)
        });
        ending
            .map(|joined| joined.unwrap_or_else(|_| Err(broke_off())))
            .boxed()
            .shared()
    }

    fn cancel_where(&self, which: impl Fn(&Lease) -> bool) {
        self.running_map()
            .values()
            .filter(|lease| which(lease))
            .for_each(|lease| lease.cancel.cancel());
    }

    fn running_map(&self) -> MutexGuard<'_, HashMap<Key, Lease>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&self, key: &Key) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.ended.notify_waiters();
    }
}

fn broke_off() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "run_broke_off",
        "the run broke off inside the donor",
    )
}
