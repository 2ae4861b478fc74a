//! The audit of every use of a key: who did what with which key, when, and with which outcome.
//!
//! Events lie in the table itself, in [`AUDIT_LANES`] chains, the lanes; a partition's events are all in one lane. Each
//! event holds the hash of the one before it, and a MAC under a key that is derived from the store's. What a commit did is
//! written by the same transaction as the commit: neither is there without the other. What was read is buffered for at
//! most [`FLUSH_WITHIN`], and rides in the lane's next commit if there is one sooner. The head of every lane is
//! remembered outside of the table, in the anchor. Whoever cannot record does nothing: operations fail with
//! `audit_unavailable`, or with `audit_chain_broken` when the lane is not what it was.
//!
//! ```text
//! Partition ─► Audit::transact ─┬► buffered reads ─┐
//! Snapshot  ─► Audit::record ───┘                  ├► one transaction: rows, events, head ─► anchor
//! provider of keys ─► Recorded ─► Audit::record    ┘
//! ```

#[cfg(test)]
mod attacks;
mod boundary;
mod chain;
mod checkpoint;
mod event;
#[cfg(test)]
mod faulty;
mod flaw;
mod head;
mod lane;
mod queue;
mod recorded;
mod report;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::{Anchor, Mark};
use crate::check::Check;
use crate::crypto::{Digest, expand, hmac_key, lp, sha256};
use crate::keys::KekHandle;
use crate::metrics::Metrics;
use crate::name::{Kind, PartitionKey};
use crate::sources::Sources;
use crate::table::{Action, Table};

use self::chain::Reader;
pub use self::checkpoint::{AuditCheckpoint, LaneHead};
pub use self::event::{AuditOutcome, CryptoAuditEvent, Operation};
pub use self::flaw::{BreakKind, ChainBreak};
use self::head::Head;
use self::lane::State;
pub(crate) use self::queue::Draft;
pub(crate) use self::recorded::Recorded;
pub use self::report::{ChainReport, LaneReport};
pub use self::trace::TraceSource;

/// How many chains a store's audit has.
pub const AUDIT_LANES: usize = 8;
/// Actions that a commit leaves for its audit: events, and the lane's head.
pub(crate) const AUDIT_ACTIONS: usize = 10;
/// How long an event of a read may wait for a commit to ride in.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// How long a flush may outlive everybody who could hear of it.
const ABANDONED_WITHIN: Duration = Duration::from_millis(20);

/// When the record of a read is in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditReads {
    /// At most about a second after the read, or when the store is closed. A process that is killed in that second takes
    /// the record with it.
    #[default]
    Buffered,
    /// Before anything that was read is handed out. A load then counts as the decryption of every record it holds, and
    /// costs a transaction.
    Strict,
}

/// What opening a store does when the end of a chain is not what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAuditBreak {
    /// It fails with `audit_chain_broken`.
    #[default]
    Refuse,
    /// It succeeds, to look into the matter. A broken chain takes no events: whatever needs a record there fails, loads
    /// and exports too. Only [`crate::Store::verify`], which hands nothing out, goes on without one.
    Inspect,
}

/// How the audit of a store is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) reads: AuditReads,
    pub(crate) on_break: OnAuditBreak,
    pub(crate) trace: TraceSource,
}

/// One chain of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(u8);

impl Lane {
    /// The lane of the store's own events.
    pub(crate) const STORE: Self = Self(0);

    /// The lane of a partition: the first byte of SHA-256 of its canonical address, modulo their number.
    pub(crate) fn of(PartitionKey { kind, id }: &PartitionKey) -> Self {
        let [first, ..] = sha256(format!("{}:{id}", kind.as_str()).as_bytes());
        Self(first % AUDIT_LANES as u8)
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..AUDIT_LANES as u8).map(Self)
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its partition of the table, `audit#{lane:02}`, by which the anchor knows it too.
    pub(crate) fn pk(self) -> String {
        format!("{}#{:02}", Kind::AUDIT.as_str(), self.0)
    }

    /// The hash that the first event refers to: no lane of any store continues another.
    fn genesis(self, store: &str) -> Digest {
        let mut bytes = b"blue/v1/audit/genesis".to_vec();
        lp(&mut bytes, store.as_bytes());
        lp(&mut bytes, &[self.0]);
        sha256(&bytes)
    }
}

/// Who writes events, and with which keys.
pub(crate) struct Signer {
    store: String,
    principal: String,
    epoch: u64,
    event_key: aws_lc_rs::hmac::Key,
    head_key: aws_lc_rs::hmac::Key,
    checkpoint_key: aws_lc_rs::hmac::Key,
}

impl Signer {
    /// The keys are `HKDF-Expand(KEK, info)`, info being `blue/v1/audit` for events, with `/head` appended for heads and
    /// with `/checkpoint` for checkpoints. The KEK is that of epoch 0, so that no rotation leaves a chain behind that
    /// nobody can verify.
    pub(crate) fn new(store: &str, principal: String, kek: &KekHandle, epoch: u64) -> Result<Self> {
        let derive = |label: &[u8]| expand(kek.bytes(), label).map(|key| hmac_key(&key));
        Ok(Self {
            store: store.to_owned(),
            principal,
            epoch,
            event_key: derive(b"blue/v1/audit")?,
            head_key: derive(b"blue/v1/audit/head")?,
            checkpoint_key: derive(b"blue/v1/audit/checkpoint")?,
        })
    }
}

/// How audited work ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Audited {
    /// Done and on record; how far the lane has come, unless nothing was to be recorded.
    Done(Option<Mark>),
    /// A condition of the work itself did not hold: nothing was done, nothing recorded.
    Refused,
}

/// The audit of one store, as one process writes it.
pub(crate) struct Audit {
    table: Table,
    anchor: Arc<Anchor>,
    sources: Arc<Sources>,
    signer: Signer,
    habits: Habits,
    lanes: [State; AUDIT_LANES],
    wake: mpsc::Sender<()>,
    metrics: Metrics,
}

/// What an audit is made of.
pub(crate) struct AuditParts {
    pub(crate) table: Table,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) signer: Signer,
    pub(crate) habits: Habits,
    pub(crate) metrics: Metrics,
}

impl Audit {
    /// Verifies the end of every lane, and starts the task that flushes what waits for no commit. The task ends with the
    /// audit.
    ///
    /// # Errors
    /// `audit_chain_broken`, failures of the table.
    pub(crate) async fn open(parts: AuditParts) -> Result<Arc<Self>> {
        let mut ends = Vec::with_capacity(AUDIT_LANES);
        for lane in Lane::all() {
            ends.push(parts.end(lane).await?);
        }
        parts.remember(&ends).await?;
        let mut ends = ends.into_iter();
        let lanes = std::array::from_fn(|lane| {
            let genesis = || Head::genesis(&parts.signer, Lane(lane as u8));
            let (head, broken) = ends.next().unwrap_or_else(|| (genesis(), None));
            State::new(head, broken)
        });
        let (wake, woken) = mpsc::channel(1);
        let audit = Arc::new(Self {
            table: parts.table,
            anchor: parts.anchor,
            sources: parts.sources,
            signer: parts.signer,
            habits: parts.habits,
            lanes,
            wake,
            metrics: parts.metrics,
        });
        let pause = || tokio::time::sleep(FLUSH_WITHIN);
        tokio::spawn(flush_when_due(Arc::downgrade(&audit), woken, pause));
        Ok(audit)
    }

    /// What its store counts.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The fault of a chain that was found broken, which is counted.
    fn broken(&self, lane: Lane, broken: ChainBreak) -> Fault {
        self.metrics.failed_check(Check::AuditChain.code());
        broken.fault(lane)
    }

    /// Whether reads are on record before anything is handed out.
    pub(crate) fn is_strict(&self) -> bool {
        self.habits.reads == AuditReads::Strict
    }

    /// Records what opening the store took, whose keys are at `epoch`.
    ///
    /// # Errors
    /// Those of [`Audit::record`].
    pub(crate) fn record_opening(&self, epoch: u64) -> Result<()> {
        let drafts = [Operation::DeriveKek, Operation::KcvCheck];
        let mut drafts = drafts
            .into_iter()
            .map(|operation| Draft::kek(operation, epoch));
        drafts.try_for_each(|draft| self.record(Lane::STORE, draft))
    }

    /// Records what changes nothing in the table. It is buffered: [`Audit::settle`] before long work keeps it short.
    ///
    /// # Errors
    /// `audit_unavailable` when earlier events could not be written, or too many wait.
    pub(crate) fn record(&self, lane: Lane, draft: Draft) -> Result<()> {
        let state = self.state(lane);
        if self.is_set_aside(lane) {
            return Ok(());
        }
        let event = draft.stamp(&self.sources, self.habits.trace)?;
        let waiting = {
            let mut queue = state.queue();
            queue.push(event)?;
            queue.len()
        };
        self.metrics.waiting(lane.index(), waiting);
        // The task is awake already if its channel is full.
        self.wake.try_send(()).ok();
        Ok(())
    }

    /// Whether anything can be recorded.
    ///
    /// # Errors
    /// `audit_unavailable`.
    pub(crate) fn check(&self, lane: Lane) -> Result<()> {
        match self.is_set_aside(lane) {
            true => Ok(()),
            false => self.state(lane).queue().check(),
        }
    }

    /// Whether a lane is broken and looked into nevertheless.
    pub(crate) fn is_set_aside(&self, lane: Lane) -> bool {
        self.habits.on_break == OnAuditBreak::Inspect && self.state(lane).queue().is_broken()
    }

    /// Tries again what could not be written, and makes room when many events wait. To be called before work begins.
    ///
    /// # Errors
    /// `audit_unavailable`, `audit_chain_broken`.
    pub(crate) async fn settle(&self, lane: Lane) -> Result<()> {
        if self.state(lane).queue().is_calm() {
            return Ok(());
        }
        self.flush(lane).await?;
        self.state(lane).queue().check()
    }

    /// Does `work` on the partition `pk` together with its record: both, or neither. `events` may be empty; then only
    /// what is buffered rides along, if there is room.
    ///
    /// # Errors
    /// `audit_chain_broken`, `state_contention` when others write to the lane all the time, failures of the table: then
    /// both were done, or neither.
    pub(crate) async fn transact(
        &self,
        lane: Lane,
        pk: &str,
        work: Vec<Action>,
        events: Vec<Draft>,
    ) -> Result<Audited> {
        let events = events
            .into_iter()
            .map(|draft| draft.stamp(&self.sources, self.habits.trace))
            .collect::<Result<Vec<_>>>()?;
        // In a box, so that the futures of those who commit stay of a depth that the compiler takes.
        let done = Box::pin(lane::transact(self, lane, (pk, work), events)).await;
        match &done {
            // All that waited was written, or rode along.
            Ok(Audited::Done(Some(_))) => self.state(lane).queue().recover(),
            Ok(_) => {}
            Err(_) => drop(self.wake.try_send(())),
        }
        done
    }

    /// Writes all that is buffered in a lane.
    ///
    /// # Errors
    /// `audit_unavailable`, `audit_chain_broken`. Until a later flush succeeds, everything in this lane fails.
    pub(crate) async fn flush(&self, lane: Lane) -> Result<()> {
        if self.is_set_aside(lane) {
            return Ok(());
        }
        let flushed = match Box::pin(lane::flush(self, lane)).await {
            Ok(Some(mark)) => self.remember(lane, mark).await,
            other => other.map(drop),
        };
        let waiting = {
            let mut queue = self.state(lane).queue();
            match flushed {
                Ok(()) => queue.recover(),
                Err(fault) => queue.fail(&fault),
            }
            queue.len()
        };
        self.metrics.waiting(lane.index(), waiting);
        self.check(lane)
    }

    /// Writes all that is buffered.
    ///
    /// # Errors
    /// The first of [`Audit::flush`].
    pub(crate) async fn flush_all(&self) -> Result<()> {
        let mut flushed = Ok(());
        for lane in Lane::all() {
            flushed = flushed.and(self.flush(lane).await);
        }
        flushed
    }

    /// Whether it is known that a partition was erased.
    pub(crate) fn has_ended(&self, partition: &PartitionKey) -> bool {
        let mark = self.anchor.mark(&partition.to_string());
        mark.is_some_and(|mark| mark.is_end())
    }

    async fn remember(&self, lane: Lane, mark: Mark) -> Result<()> {
        self.anchor.advance(vec![(lane.pk(), mark)]).await
    }

    fn state(&self, lane: Lane) -> &State {
        let [first, ..] = &self.lanes;
        self.lanes.get(lane.index()).unwrap_or(first)
    }
}

impl AuditParts {
    /// The head of a lane, and why nothing can be added to it.
    async fn end(&self, lane: Lane) -> Result<(Head, Option<Fault>)> {
        let reader = Reader {
            table: &self.table,
            signer: &self.signer,
            lane,
        };
        let mark = self.anchor.mark(&lane.pk());
        let broken = match reader.tail(mark.as_ref()).await? {
            Ok(head) => return Ok((head, None)),
            Err(broken) => broken.fault(lane),
        };
        self.metrics.failed_check(broken.code());
        if self.habits.on_break == OnAuditBreak::Refuse {
            return Err(broken);
        }
        tracing::error!(
            code = broken.code(),
            reason = broken.message(),
            "the audit is broken"
        );
        Ok((Head::genesis(&self.signer, lane), Some(broken)))
    }

    /// Remembers heads that are further than the anchor knew.
    async fn remember(&self, ends: &[(Head, Option<Fault>)]) -> Result<()> {
        let lanes = Lane::all().zip(ends);
        let sound = lanes.filter(|(_, (head, broken))| head.seq > 0 && broken.is_none());
        let marks = sound
            .map(|(lane, (head, _))| (lane.pk(), head.mark()))
            .collect();
        self.anchor.advance(marks).await
    }
}

async fn flush_when_due<P: Future<Output = ()>>(
    audit: Weak<Audit>,
    mut woken: mpsc::Receiver<()>,
    pause: impl Fn() -> P,
) {
    while woken.recv().await.is_some() {
        pause().await;
        let Some(audit) = audit.upgrade() else {
            return;
        };
        let flushed = tokio::select! {
            flushed = audit.flush_all() => flushed,
            // Nobody is left to close the table, which retries against a dead server would keep locked.
            () = abandoned(&audit) => return,
        };
        if let Err(fault) = flushed {
            tracing::error!(
                code = fault.code(),
                reason = fault.message(),
                "audit not written"
            );
            // Try again in a while.
            audit.wake.try_send(()).ok();
        }
    }
}

/// Waits until nobody else holds the audit.
async fn abandoned(audit: &Arc<Audit>) {
    while Arc::strong_count(audit) > 1 {
        tokio::time::sleep(ABANDONED_WITHIN).await;
    }
}

/// The fault of everything that cannot be recorded because of `why`.
fn unavailable(category: Category, why: impl std::fmt::Display) -> Fault {
    let message = format!("what is not on record is not done: {why}");
    Fault::new(category, "audit_unavailable", message)
        .hint("make the table writable, then try again")
}
