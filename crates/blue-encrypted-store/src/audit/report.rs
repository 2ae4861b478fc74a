//! Whether the audit is what was written: every lane, from its first event to its last.

use serde::Serialize;
use worldcompute_fault::{Fault, Result};

use super::chain::Reader;
use super::flaw::{BreakKind, ChainBreak};
use super::{Audit, CryptoAuditEvent, Lane};
use crate::Store;
use crate::anchor::Mark;
use crate::check::Check;

/// What verifying the audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Every lane, in their order.
    pub lanes: Vec<LaneReport>,
}

/// What verifying one lane found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneReport {
    /// Which lane.
    pub lane: u8,
    /// How many events are sound, up to the first that is not.
    pub events: u64,
    /// The first thing that is wrong.
    pub broken: Option<ChainBreak>,
}

impl ChainReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.first_break().is_none()
    }

    /// # Errors
    /// `audit_chain_broken` when something is.
    pub(crate) fn check(&self) -> Result<()> {
        self.lanes.iter().try_for_each(LaneReport::check)
    }

    /// How many events are sound.
    pub fn events(&self) -> u64 {
        let events = self.lanes.iter().map(|lane| lane.events);
        events.fold(0, u64::saturating_add)
    }

    /// The first lane that is broken, and how.
    pub fn first_break(&self) -> Option<(u8, ChainBreak)> {
        let mut broken = self.lanes.iter();
        broken.find_map(|lane| Some((lane.lane, lane.broken?)))
    }
}

impl LaneReport {
    /// # Errors
    /// `audit_chain_broken` when something is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        match self.broken {
            Some(broken) => Err(broken.fault(Lane(self.lane))),
            None => Ok(()),
        }
    }
}

impl Store {
    /// Reads and verifies every event of the audit, and compares with the anchor what it remembers.
    ///
    /// # Errors
    /// Failures of the table. What is wrong with a chain is in the report.
    pub async fn verify_chain(&self) -> Result<ChainReport> {
        self.walk_chains(&mut |_, _| {}).await
    }

    /// The same; `see` is shown every event that is sound.
    pub(crate) async fn walk_chains(
        &self,
        see: &mut (dyn FnMut(Lane, &CryptoAuditEvent) + Send),
    ) -> Result<ChainReport> {
        let mut lanes = Vec::new();
        for lane in Lane::all() {
            let see = &mut |event: &CryptoAuditEvent| see(lane, event);
            lanes.push(self.0.audit.walk(lane, see).await?);
        }
        Ok(ChainReport { lanes })
    }

    /// The events of a lane after the one with the number `after`, verified one by one, some hundreds at a time; none
    /// after the last.
    ///
    /// # Errors
    /// `audit_chain_broken` when one of them is not what was written; failures of the table.
    pub async fn audit_events(&self, lane: u8, after: u64) -> Result<Vec<CryptoAuditEvent>> {
        match self.sound_audit_events(lane, after).await? {
            (events, None) => Ok(events),
            (_, Some(broken)) => Err(broken),
        }
    }

    /// The same for who looks into a broken lane: the events up to the first that is not what was written, and the fault of
    /// that one.
    ///
    /// # Errors
    /// Failures of the table.
    pub async fn sound_audit_events(
        &self,
        lane: u8,
        after: u64,
    ) -> Result<(Vec<CryptoAuditEvent>, Option<Fault>)> {
        let Some(lane) = Lane::all().find(|known| known.0 == lane) else {
            return Ok((Vec::new(), None));
        };
        let audit = &self.0.audit;
        let (events, broken) = audit.reader(lane).events(after).await?;
        Ok((events, broken.map(|broken| audit.broken(lane, broken))))
    }
}

impl Audit {
    /// Reads and verifies every event of a lane; `see` is shown each that is sound.
    pub(crate) async fn walk(
        &self,
        lane: Lane,
        see: &mut (dyn FnMut(&CryptoAuditEvent) + Send),
    ) -> Result<LaneReport> {
        // What the anchor knows now is there when it is looked for, whoever writes meanwhile.
        let mark = self.anchor.mark(&lane.pk());
        let report = self.reader(lane).walk(mark.as_ref(), see).await?;
        Ok(self.told(report))
    }

    /// A report, counted if it tells of a break.
    pub(super) fn told(&self, report: LaneReport) -> LaneReport {
        if report.broken.is_some() {
            self.metrics.failed_check(Check::AuditChain.code());
        }
        report
    }

    /// The last event of a lane that `wanted` takes, if the lane leads from its end to one.
    ///
    /// # Errors
    /// `audit_chain_broken`; failures of the table.
    pub(crate) async fn latest(
        &self,
        lane: Lane,
        wanted: impl Fn(&CryptoAuditEvent) -> bool,
    ) -> Result<Option<CryptoAuditEvent>> {
        let mark = self.anchor.mark(&lane.pk());
        let reader = self.reader(lane);
        let head = reader.tail(mark.as_ref()).await?;
        let head = head.map_err(|broken| self.broken(lane, broken))?;
        let found = reader.latest(head.into(), &wanted).await?;
        found.map_err(|broken| self.broken(lane, broken))
    }

    pub(super) fn reader(&self, lane: Lane) -> Reader<'_> {
        Reader {
            table: &self.table,
            signer: &self.signer,
            lane,
        }
    }
}

impl Reader<'_> {
    async fn walk(
        self,
        mark: Option<&Mark>,
        see: &mut (dyn FnMut(&CryptoAuditEvent) + Send),
    ) -> Result<LaneReport> {
        let (mut events, mut known) = (0, None);
        let walked = self
            .catch_up(self.genesis(), &mut |event| {
                see(event);
                events = event.seq;
                if mark.is_some_and(|mark| mark.version() == event.seq) {
                    known = Some(Mark::new(event.seq, &event.event_hash));
                }
            })
            .await?;
        let lost = mark.filter(|mark| known.as_ref() != Some(mark));
        let lost = lost.map(|mark| ChainBreak::new(mark.version(), BreakKind::RolledBack));
        Ok(LaneReport {
            lane: self.lane.0,
            events,
            broken: walked.err().or(lost),
        })
    }
}
