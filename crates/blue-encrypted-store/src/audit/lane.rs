//! Writing a lane: events are linked to its head and written with what they record.
//!
//! One writer at a time within a process, from linking to the answer. Of several processes the table lets one through:
//! every event is put where none is, and the head is exchanged for exactly the one it was linked to. Whoever comes second
//! reads what was added and links again.

use std::collections::HashSet;
use std::sync::{Mutex as Slot, MutexGuard, PoisonError};

use tokio::sync::Mutex;
use uuid::Uuid;
use worldcompute_fault::{Category, Fault, Result};

use super::head::Head;
use super::queue::{Queue, Waiting};
use super::{AUDIT_ACTIONS, Audit, Audited, CryptoAuditEvent, Lane};
use crate::anchor::Mark;
use crate::table::{Action, MAX_ACTIONS, Outcome, When};

/// How often events are linked anew because others wrote to the lane.
const MAX_ATTEMPTS: u32 = 32;

/// What a process knows of a lane.
pub(super) struct State {
    queue: Slot<Queue>,
    chain: Mutex<Chain>,
}

impl State {
    /// Of a lane with that verified head, or of one that is broken.
    pub(super) fn new(head: Head, broken: Option<Fault>) -> Self {
        let mut queue = Queue::default();
        if let Some(fault) = &broken {
            queue.fail(fault);
        }
        Self {
            queue: Slot::new(queue),
            chain: Mutex::new(Chain {
                known: head,
                is_current: true,
                riding: Vec::new(),
                sent: None,
                broken,
            }),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a chain, as its writers hand it on.
struct Chain {
    /// The last head that was verified.
    known: Head,
    /// Whether that is the head to link to. Not while a transaction is under way: one that is never answered leaves
    /// nothing to rely on.
    is_current: bool,
    /// Buffered events that no answered transaction wrote.
    riding: Vec<Waiting>,
    /// The last event of a transaction whose answer is not known.
    sent: Option<Uuid>,
    /// Set once the lane is not what it was.
    broken: Option<Fault>,
}

/// One attempt's end.
enum Attempt {
    Done(Option<Mark>),
    /// The work's own conditions do not hold.
    Refused,
    /// Others wrote to the lane in between.
    Overtaken,
}

/// Does `work` on the partition `pk` together with `events`, and with what is buffered and fits.
pub(super) async fn transact(
    audit: &Audit,
    lane: Lane,
    (pk, work): (&str, Vec<Action>),
    events: Vec<Waiting>,
) -> Result<Audited> {
    let state = audit.state(lane);
    let mut chain = state.chain.lock().await;
    chain.catch_up(audit, lane).await?;
    // One action is the head's.
    let taken = work.len().saturating_add(events.len()).saturating_add(1);
    let room = MAX_ACTIONS.saturating_sub(taken).min(AUDIT_ACTIONS - 1);
    let waiting = chain.riding.len().saturating_add(state.queue().len());
    if waiting > room {
        chain.write_buffered(audit, lane).await?;
    }
    let riders = state.queue().take(room);
    chain.riding.extend(riders);
    chain.write(audit, lane, (pk, work), events).await
}

/// Writes all that is buffered; says how far the lane has come then, unless there was nothing to write.
pub(super) async fn flush(audit: &Audit, lane: Lane) -> Result<Option<Mark>> {
    let mut chain = audit.state(lane).chain.lock().await;
    chain.catch_up(audit, lane).await?;
    chain.write_buffered(audit, lane).await
}

impl Chain {
    async fn write_buffered(&mut self, audit: &Audit, lane: Lane) -> Result<Option<Mark>> {
        let mut mark = None;
        loop {
            let most = (MAX_ACTIONS - 1).saturating_sub(self.riding.len());
            let next = audit.state(lane).queue().take(most);
            self.riding.extend(next);
            if self.riding.is_empty() {
                return Ok(mark);
            }
            let pk = lane.pk();
            match self
                .write(audit, lane, (&pk, Vec::new()), Vec::new())
                .await?
            {
                Audited::Done(done) => mark = done,
                Audited::Refused => return Err(overtaken(lane)),
            }
        }
    }

    /// Writes what rides, and `events`, with `work`.
    async fn write(
        &mut self,
        audit: &Audit,
        lane: Lane,
        (pk, work): (&str, Vec<Action>),
        events: Vec<Waiting>,
    ) -> Result<Audited> {
        for attempt in 0..MAX_ATTEMPTS {
            if self.catch_up(audit, lane).await? {
                return Ok(Audited::Done(Some(self.known.mark())));
            }
            match self.attempt(audit, lane, (pk, &work), &events).await? {
                Attempt::Done(mark) => return Ok(Audited::Done(mark)),
                Attempt::Refused => return Ok(Audited::Refused),
                Attempt::Overtaken => audit.sources.pause(attempt).await?,
            }
        }
        Err(overtaken(lane))
    }

    async fn attempt(
        &mut self,
        audit: &Audit,
        lane: Lane,
        (pk, work): (&str, &[Action]),
        events: &[Waiting],
    ) -> Result<Attempt> {
        let events: Vec<&Waiting> = self.riding.iter().chain(events).collect();
        let Some(last) = events.last().map(|event| event.event_id) else {
            return unrecorded(audit, pk, work).await;
        };
        let (next, mut rows) = link(audit, lane, self.known, &events);
        let head_at = work.len().saturating_add(events.len());
        let mut actions = work.to_vec();
        actions.append(&mut rows);
        self.sent = Some(last);
        self.is_current = false;
        match audit.table.transact(pk, actions).await? {
            Outcome::Done => {
                self.arrive(next);
                self.riding.clear();
                Ok(Attempt::Done(Some(next.mark())))
            }
            Outcome::Refused(at) => self.refused(audit, lane, work.len(), head_at, &at).await,
        }
    }

    /// After a refusal because of the actions `at`, of which the work's come first and the head's last.
    async fn refused(
        &mut self,
        audit: &Audit,
        lane: Lane,
        work: usize,
        head_at: usize,
        at: &[usize],
    ) -> Result<Attempt> {
        let is_work = at.iter().any(|index| *index < work);
        if !is_work {
            return Ok(Attempt::Overtaken);
        }
        if !at.contains(&head_at) {
            // The head is as it was: nobody else wrote.
            self.arrive(self.known);
            return Ok(Attempt::Refused);
        }
        // Unless it is this very transaction that was done, and its answer lost.
        let done = self.catch_up(audit, lane).await?;
        let mark = Some(self.known.mark());
        Ok(if done {
            Attempt::Done(mark)
        } else {
            Attempt::Refused
        })
    }

    fn arrive(&mut self, head: Head) {
        self.sent = None;
        self.known = head;
        self.is_current = true;
    }

    /// Makes sure that the known head is the head to link to. Whether the transaction whose answer was not known turns
    /// out to be done.
    async fn catch_up(&mut self, audit: &Audit, lane: Lane) -> Result<bool> {
        if let Some(fault) = &self.broken {
            return Err(fault.clone());
        }
        if self.is_current {
            return Ok(false);
        }
        let mut names = HashSet::new();
        let see = &mut |event: &CryptoAuditEvent| {
            names.insert(event.event_id);
        };
        let head = match audit.reader(lane).catch_up(self.known.into(), see).await? {
            Ok(head) => head,
            Err(broken) => return Err(self.break_off(audit.broken(lane, broken))),
        };
        let done = self.sent.is_some_and(|name| names.contains(&name));
        self.riding.retain(|event| !names.contains(&event.event_id));
        self.arrive(head);
        Ok(done)
    }

    fn break_off(&mut self, fault: Fault) -> Fault {
        self.broken = Some(fault.clone());
        fault
    }
}

/// Work that leaves no event, because it is part of work that does.
async fn unrecorded(audit: &Audit, pk: &str, work: &[Action]) -> Result<Attempt> {
    if work.is_empty() {
        return Ok(Attempt::Done(None));
    }
    Ok(match audit.table.transact(pk, work.to_vec()).await? {
        Outcome::Done => Attempt::Done(None),
        Outcome::Refused(_) => Attempt::Refused,
    })
}

/// The events in their places, and the head after them.
fn link(audit: &Audit, lane: Lane, head: Head, events: &[&Waiting]) -> (Head, Vec<Action>) {
    let (mut seq, mut hash) = (head.seq, head.hash);
    let mut actions = Vec::with_capacity(events.len().saturating_add(1));
    for event in events {
        seq = seq.saturating_add(1);
        let event = event.link(seq, hash, &audit.signer, lane);
        hash = event.event_hash;
        actions.push(Action::Put {
            row: event.row(lane),
            when: When::Absent,
        });
    }
    let (next, action) = head.advance((seq, hash), &audit.signer, lane, &audit.sources);
    actions.push(action);
    (next, actions)
}

pub(super) fn overtaken(lane: Lane) -> Fault {
    let message = format!("others write to {} all the time", lane.pk());
    Fault::new(Category::StateContention, "state_contention", message)
        .hint("repeat the change in a moment")
}
