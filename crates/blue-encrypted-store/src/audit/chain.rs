//! Reading a lane: its end, and what was added to it.

use worldcompute_fault::Result;

use super::event::{CryptoAuditEvent, parse_sort_key, sort_key};
use super::flaw::{BreakKind, ChainBreak};
use super::head::{self, Head};
use super::{Lane, Signer};
use crate::anchor::Mark;
use crate::check::Check;
use crate::crypto::Digest;
use crate::row::Row;
use crate::table::{Order, Page, Table};

/// How many events before the head are verified when a store is opened.
pub(super) const TAIL: usize = 16;
/// Rows of one read.
const PAGE: usize = 500;
/// Rows of one read backwards: what is looked for is hardly ever far from the end.
const LOOK_BACK: usize = 64;
/// How often a chain that looks broken is read anew: others may write while its rows are read, one after another.
const MAX_ATTEMPTS: usize = 4;

/// The outcome of looking at rows: what was found, or what is wrong with them.
pub(super) type Checked<T> = Result<T, ChainBreak>;

/// One lane as it is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) table: &'a Table,
    pub(super) signer: &'a Signer,
    pub(super) lane: Lane,
}

/// Where a walk along a chain has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) seq: u64,
    pub(super) hash: Digest,
}

impl From<Head> for Step {
    fn from(head: Head) -> Self {
        let Head { seq, hash, .. } = head;
        Self { seq, hash }
    }
}

impl Reader<'_> {
    /// The head, if it, the events before it and `mark` agree.
    pub(super) async fn tail(self, mark: Option<&Mark>) -> Result<Checked<Head>> {
        let mut found = self.tail_once(mark).await?;
        for _ in 1..MAX_ATTEMPTS {
            if found.is_ok() {
                break;
            }
            found = self.tail_once(mark).await?;
        }
        Ok(found)
    }

    async fn tail_once(self, mark: Option<&Mark>) -> Result<Checked<Head>> {
        let page = self
            .table
            .page(&self.lane.pk(), Order::Backward, None, TAIL + 1)
            .await?;
        let (head, events) = match self.end(&page.rows) {
            Ok(end) => end,
            Err(broken) => return Ok(Err(broken)),
        };
        let Some(mark) = mark else {
            return Ok(Ok(head));
        };
        let lost = ChainBreak::new(mark.version(), BreakKind::RolledBack);
        let known = match events.iter().find(|event| event.seq == mark.version()) {
            Some(event) => Some(event.event_hash),
            None if mark.version() > head.seq => None,
            None => self
                .event(mark.version())
                .await?
                .ok()
                .map(|event| event.event_hash),
        };
        let same = known.is_some_and(|hash| Mark::new(mark.version(), &hash) == *mark);
        Ok(if same { Ok(head) } else { Err(lost) })
    }

    /// The head and the last events, newest first, out of the last rows.
    fn end(self, rows: &[Found]) -> Checked<(Head, Vec<CryptoAuditEvent>)> {
        let Some((first, rest)) = rows.split_first() else {
            return Ok((Head::genesis(self.signer, self.lane), Vec::new()));
        };
        let head = self.head(first)?;
        let mut events: Vec<CryptoAuditEvent> = Vec::with_capacity(rest.len());
        let (mut seq, mut hash) = (head.seq, head.hash);
        for row in rest {
            let kind = if events.is_empty() {
                BreakKind::Truncated
            } else {
                BreakKind::Missing
            };
            let event = self.open(row, seq, kind)?;
            if event.event_hash != hash {
                let kind = if events.is_empty() {
                    BreakKind::HeadMismatch
                } else {
                    BreakKind::Forked
                };
                return Err(ChainBreak::new(event.seq, kind));
            }
            (seq, hash) = (seq.saturating_sub(1), event.previous_hash);
            events.push(event);
        }
        let complete = events.len() == TAIL;
        match seq {
            0 if hash != self.lane.genesis(&self.signer.store) => {
                Err(ChainBreak::new(1, BreakKind::Forked))
            }
            1.. if !complete => Err(ChainBreak::new(seq, BreakKind::Missing)),
            _ => Ok((head, events)),
        }
    }

    /// The head in the last row of a lane.
    fn head(self, (sk, row): &Found) -> Checked<Head> {
        let broken = |kind| ChainBreak::new(parse_sort_key(sk).unwrap_or_default(), kind);
        if sk != head::SK {
            let is_event = parse_sort_key(sk).is_some();
            let kind = if is_event {
                BreakKind::HeadMismatch
            } else {
                BreakKind::UnknownRow
            };
            return Err(broken(kind));
        }
        let row = row.as_ref().map_err(|_| broken(BreakKind::HeadMismatch))?;
        Head::open(row, self.signer, self.lane).map_err(|_| broken(BreakKind::HeadMismatch))
    }

    /// The event of that number out of its row; `missing` when the row is that of an earlier one.
    fn open(self, (sk, row): &Found, seq: u64, missing: BreakKind) -> Checked<CryptoAuditEvent> {
        let kind = match parse_sort_key(sk) {
            Some(found) if found == seq => {
                let row = row
                    .as_ref()
                    .map_err(|_| ChainBreak::new(seq, BreakKind::Edited))?;
                let event = CryptoAuditEvent::open(row, seq, self.signer, self.lane);
                return event.map_err(|flaw| ChainBreak::new(seq, flaw.into()));
            }
            Some(found) if found > seq => BreakKind::HeadMismatch,
            Some(_) => missing,
            None => BreakKind::UnknownRow,
        };
        Err(ChainBreak::new(seq, kind))
    }

    /// One event.
    pub(super) async fn event(self, seq: u64) -> Result<Checked<CryptoAuditEvent>> {
        let page = self.after(seq.saturating_sub(1), 1).await?;
        Ok(match page.rows.first() {
            Some(row) => self.open(row, seq, BreakKind::Missing),
            None => Err(ChainBreak::new(seq, BreakKind::Missing)),
        })
    }

    /// Before the first event.
    pub(super) fn genesis(self) -> Step {
        Head::genesis(self.signer, self.lane).into()
    }

    /// The head, if the events after `from` lead to it; `see` is shown each of them.
    pub(super) async fn catch_up(
        self,
        from: Step,
        see: &mut impl FnMut(&CryptoAuditEvent),
    ) -> Result<Checked<Head>> {
        let mut at = from;
        let mut attempts = 0;
        loop {
            let page = self.after(at.seq, PAGE).await?;
            let kind = match self.follow(&page, &mut at, see) {
                Err(broken) => return Ok(Err(broken)),
                Ok(Some(head)) if Step::from(head) == at => return Ok(Ok(head)),
                Ok(None) if page.more => continue,
                Ok(None) if at.seq == 0 => return Ok(Ok(Head::genesis(self.signer, self.lane))),
                Ok(Some(head)) if head.seq > at.seq => BreakKind::Truncated,
                Ok(_) => BreakKind::HeadMismatch,
            };
            // Unless an event and the head were not read at one moment.
            attempts += 1;
            if attempts == MAX_ATTEMPTS {
                let missing = u64::from(kind == BreakKind::Truncated);
                return Ok(Err(ChainBreak::new(at.seq.saturating_add(missing), kind)));
            }
        }
    }

    /// The last event up to `at` that `wanted` takes. Each is the one that its successor names, down to the lane's beginning.
    pub(super) async fn latest(
        self,
        mut at: Step,
        wanted: &impl Fn(&CryptoAuditEvent) -> bool,
    ) -> Result<Checked<Option<CryptoAuditEvent>>> {
        let pk = self.lane.pk();
        while at.seq > 0 {
            let before = sort_key(at.seq.saturating_add(1));
            let page = self
                .table
                .page(&pk, Order::Backward, Some(&before), LOOK_BACK);
            let rows = page.await?.rows;
            if rows.is_empty() {
                return Ok(Err(ChainBreak::new(at.seq, BreakKind::Missing)));
            }
            for row in &rows {
                match self.back(row, &mut at) {
                    Err(broken) => return Ok(Err(broken)),
                    Ok(event) if wanted(&event) => return Ok(Ok(Some(event))),
                    Ok(_) => {}
                }
            }
        }
        let is_beginning = at == self.genesis();
        Ok(is_beginning
            .then_some(None)
            .ok_or(ChainBreak::new(1, BreakKind::Forked)))
    }

    /// The event that is at `at`, which becomes the one before it.
    fn back(self, row: &Found, at: &mut Step) -> Checked<CryptoAuditEvent> {
        let event = self.open(row, at.seq, BreakKind::Missing)?;
        if event.event_hash != at.hash {
            return Err(ChainBreak::new(at.seq, BreakKind::Forked));
        }
        *at = Step {
            seq: at.seq.saturating_sub(1),
            hash: event.previous_hash,
        };
        Ok(event)
    }

    /// The events after the one with the number `seq`, at most a page; up to the first that is not sound, and what is wrong
    /// with that one.
    pub(super) async fn events(
        self,
        seq: u64,
    ) -> Result<(Vec<CryptoAuditEvent>, Option<ChainBreak>)> {
        let page = self.after(seq, PAGE).await?;
        let rows = page.rows.iter().filter(|(sk, _)| sk != head::SK);
        let mut events = Vec::new();
        for (row, seq) in rows.zip(seq.saturating_add(1)..) {
            match self.open(row, seq, BreakKind::Missing) {
                Ok(event) => events.push(event),
                Err(broken) => return Ok((events, Some(broken))),
            }
        }
        Ok((events, None))
    }

    /// The rows after the event with the number `seq`; all rows when it is zero.
    async fn after(self, seq: u64, limit: usize) -> Result<Page> {
        let after = (seq > 0).then(|| sort_key(seq));
        let pk = self.lane.pk();
        self.table
            .page(&pk, Order::Forward, after.as_deref(), limit)
            .await
    }

    /// Follows the events in `page`; the head, when it is among them. It is the last row.
    fn follow(
        self,
        page: &Page,
        at: &mut Step,
        see: &mut impl FnMut(&CryptoAuditEvent),
    ) -> Checked<Option<Head>> {
        let mut rows = page.rows.iter();
        while let Some(row) = rows.next() {
            if row.0 == head::SK {
                return match rows.next().is_none() && !page.more {
                    true => self.head(row).map(Some),
                    false => Err(ChainBreak::new(at.seq, BreakKind::UnknownRow)),
                };
            }
            let event = self.next(row, *at)?;
            see(&event);
            *at = Step {
                seq: event.seq,
                hash: event.event_hash,
            };
        }
        Ok(None)
    }

    /// The event after `at`.
    fn next(self, row: &Found, at: Step) -> Checked<CryptoAuditEvent> {
        let seq = at.seq.saturating_add(1);
        if parse_sort_key(&row.0).is_some_and(|found| found > seq) {
            return Err(ChainBreak::new(seq, BreakKind::Missing));
        }
        let event = self.open(row, seq, BreakKind::Reordered)?;
        match event.previous_hash == at.hash {
            true => Ok(event),
            false => Err(ChainBreak::new(seq, BreakKind::Forked)),
        }
    }
}

/// A row and its sort key.
pub(super) type Found = (String, Result<Row, Check>);
