//! Looking through the whole table: which items are not what this store wrote.

pub(crate) mod history;

use std::sync::Arc;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::{Mark, check_floor};
use crate::audit::ChainReport;
use crate::identity::STORE;
use crate::manifest::Header;
use crate::name::ROOT;
use crate::reader::{self, Inspected, Stand};
use crate::record::Scope;
use crate::store::Inner;
use crate::table::Order;
use crate::{Id, Kind, META, PartitionKey, Store};

use self::history::History;

/// The most partitions that one walk looks through.
pub const MAX_VERIFIED_PARTITIONS: usize = 1_000_000;
/// The most findings that a report lists; the others are counted, and told as they are found.
pub const MAX_LISTED_FINDINGS: usize = 10_000;
/// How often a partition is read anew that others change while it is read.
const MAX_ATTEMPTS: usize = 8;

/// What is wrong with an item or a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It is not what this store wrote there.
    Tampered,
    /// It should be there and is not.
    Missing,
    /// It is there and should not: nobody reads it, and this store did not write it.
    Extra,
    /// This store wrote it, and no commit lists it: what a commit that was interrupted leaves, or a row that was deleted
    /// and put back. Nobody reads it, so nothing is wrong with what is read; the next commit sweeps it.
    Leftover,
    /// It is older than this machine knows it.
    RolledBack,
    /// Its keys are not to be had, so nothing can be said about it.
    Unreadable,
    /// It has commits that the audit does not tell of.
    Unrecorded,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The partition key.
    pub partition: String,
    /// The sort key; `None` when the partition as a whole is meant.
    pub item: Option<String>,
    /// What.
    pub problem: Problem,
    /// The code of the fault that reading it gives.
    pub code: String,
}

/// What a walk tells on its way.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A partition was looked through.
    Partition {
        /// Its partition key.
        name: &'a str,
        /// How many of its records are sound.
        records: usize,
    },
    /// Something is wrong, or was left over.
    Found(&'a Finding),
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// How many partitions were looked through.
    pub partitions: u64,
    /// How many records are sound.
    pub records: u64,
    /// How many things are wrong, besides the audit.
    pub found: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// How many rows interrupted commits have left, or somebody has put back ([`Problem::Leftover`]): nothing that is wrong.
    pub left: u64,
    /// The first of them.
    pub leftovers: Vec<Finding>,
    /// The audit.
    pub audit: ChainReport,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.found == 0 && self.audit.is_whole()
    }
}

impl Store {
    /// Looks through every partition, and through the audit. Payloads are authenticated, not decrypted.
    ///
    /// Which partitions there are is taken from the table, and from the anchor and the audit those that the table does not
    /// have any more. What the audit tells of commits, erasures and epochs is compared with what is there, so a partition
    /// that was put back alone is noticed also by who has never seen it. `custom` are the kinds of the caller's own: partitions of other kinds
    /// are told as extra, unless the audit or the anchor knows them.
    ///
    /// # Errors
    /// Failures of the table, `audit_unavailable`; `too_many_rows` above [`MAX_VERIFIED_PARTITIONS`]. What is wrong with
    /// the table is in the report.
    pub async fn verify(
        &self,
        custom: &[Kind],
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<VerifyReport> {
        let (history, audit) = History::read(self).await?;
        let mut names = self.0.table.partitions(MAX_VERIFIED_PARTITIONS).await?;
        names.extend(self.0.anchor.names());
        names.extend(history.names().cloned());
        let mut walk = Walk {
            store: &self.0,
            history,
            suspects: Vec::new(),
            report: VerifyReport {
                partitions: 0,
                records: 0,
                found: 0,
                findings: Vec::new(),
                left: 0,
                leftovers: Vec::new(),
                audit,
            },
            progress,
        };
        walk.store_row().await?;
        for name in names.iter().filter(|name| *name != STORE) {
            match key_of(name, custom).or_else(|| walk.known(name)) {
                Some(key) if key.kind == Kind::AUDIT => {}
                Some(key) => walk.partition(key).await?,
                None => walk.found(Finding::extra(name, None)),
            }
        }
        if !walk.suspects.is_empty() {
            // What was committed since the audit was read is on record by now.
            let (history, audit) = History::read(self).await?;
            if audit.is_whole() {
                walk.judge(&history);
            }
        }
        Ok(walk.report)
    }
}

/// `None` for a partition that no program with these kinds writes.
fn key_of(name: &str, custom: &[Kind]) -> Option<PartitionKey> {
    let (kind, id) = name.split_once('#')?;
    let mut kinds = Kind::ALL.iter().chain(custom);
    Some(PartitionKey {
        kind: *kinds.find(|known| known.as_str() == kind)?,
        id: Id::parse(id).ok()?,
    })
}

impl Finding {
    pub(crate) fn of(partition: &str, item: Option<&str>, problem: Problem, code: &str) -> Self {
        Self {
            partition: partition.to_owned(),
            item: item.map(ToOwned::to_owned),
            problem,
            code: code.to_owned(),
        }
    }

    /// An item that no manifest lists; `ours` says whether this store wrote it there.
    pub(crate) fn unlisted(partition: &str, item: &str, ours: bool) -> Self {
        match ours {
            true => Self::of(partition, Some(item), Problem::Leftover, "uncommitted"),
            false => Self::extra(partition, Some(item)),
        }
    }

    pub(crate) fn extra(partition: &str, item: Option<&str>) -> Self {
        Self::of(partition, item, Problem::Extra, "uncommitted")
    }

    /// That a partition with this manifest, or without one, is older than the anchor knows it.
    pub(crate) fn of_age(
        scope: &Scope,
        header: Option<Header>,
        floor: Option<&Mark>,
    ) -> Option<Self> {
        let found = header.map_or_else(
            || Mark::new(0, &[0; 32]),
            |header| Mark::new(header.version, &header.seal),
        );
        let fault = check_floor(&scope.key, floor, &found).err()?;
        let problem = match header {
            Some(_) => Problem::RolledBack,
            None => Problem::Missing,
        };
        let name = scope.key.to_string();
        Some(Self::of(&name, None, problem, fault.code()))
    }

    /// The finding that reading an item failed with this fault.
    pub(crate) fn failed(partition: &str, item: Option<&str>, fault: &Fault) -> Self {
        let problem = match fault.category() {
            Category::VerificationFailed => Problem::Tampered,
            _ => Problem::Unreadable,
        };
        Self::of(partition, item, problem, fault.code())
    }
}

impl Finding {
    /// That an item does not verify.
    ///
    /// # Errors
    /// The fault, when it is none of the item's.
    pub(crate) fn told(partition: &str, item: Option<&str>, fault: Fault) -> Result<Self> {
        match fault.category() {
            Category::VerificationFailed => Ok(Self::failed(partition, item, &fault)),
            _ => Err(fault),
        }
    }
}

struct Walk<'a> {
    store: &'a Arc<Inner>,
    /// What the audit said before anything else was read.
    history: History,
    /// Partitions that have come further than that.
    suspects: Vec<(PartitionKey, Stand)>,
    report: VerifyReport,
    progress: &'a mut (dyn FnMut(Progress<'_>) + Send),
}

impl Walk<'_> {
    /// A partition of a kind that this program does not write, and that this store was told to hold nevertheless.
    fn known(&self, name: &str) -> Option<PartitionKey> {
        let known = self.history.tells_of(name) || self.store.anchor.mark(name).is_some();
        let key = known.then(|| self.store.kinds.partition(name).ok());
        key.flatten()
    }

    fn found(&mut self, finding: Finding) {
        (self.progress)(Progress::Found(&finding));
        let report = &mut self.report;
        let (count, list) = match finding.problem {
            Problem::Leftover => (&mut report.left, &mut report.leftovers),
            _ => {
                self.store.metrics.failed_check(&finding.code);
                (&mut report.found, &mut report.findings)
            }
        };
        *count = count.saturating_add(1);
        if list.len() < MAX_LISTED_FINDINGS {
            list.push(finding);
        }
    }

    /// The store's own row, and what lies beside it.
    async fn store_row(&mut self) -> Result<()> {
        let page = self
            .store
            .table
            .page(STORE, Order::Forward, None, MAX_LISTED_FINDINGS);
        let mut is_there = false;
        for (sk, row) in page.await?.rows {
            if sk != META {
                self.found(Finding::extra(STORE, Some(&sk)));
                continue;
            }
            is_there = true;
            let broken = match row {
                Ok(row) => self.store.check_own_row(&row).await?,
                Err(check) => Some(check),
            };
            if let Some(check) = broken {
                self.found(Finding::of(
                    STORE,
                    Some(META),
                    Problem::Tampered,
                    check.code(),
                ));
            }
        }
        if !is_there {
            self.found(Finding::of(
                STORE,
                Some(META),
                Problem::Missing,
                "manifest_mismatch",
            ));
        }
        let (known, told) = (self.store.row().epochs, self.history.epochs);
        if !known.reach(told) {
            let code = "version_rolled_back";
            self.found(Finding::of(STORE, Some(META), Problem::RolledBack, code));
        }
        Ok(())
    }

    /// Tells the suspects that the audit knows nothing of at all.
    fn judge(&mut self, history: &History) {
        for (key, stand) in std::mem::take(&mut self.suspects) {
            if history.is_behind(&key, stand) {
                self.found(History::unrecorded(&key));
            }
        }
    }

    async fn partition(&mut self, key: PartitionKey) -> Result<()> {
        let name = key.to_string();
        let scope = Arc::new(Scope {
            store: self.store.id().to_owned(),
            key: key.clone(),
        });
        let Inspected {
            records,
            mut findings,
            stand,
        } = settled(self.store, &scope, &name).await?;
        // Unless the anchor has said so.
        if findings.iter().all(|finding| finding.item.is_some()) {
            findings.extend(self.history.contradiction(&key, stand));
        }
        if self.history.is_behind(&key, stand) {
            self.suspects.push((key, stand));
        }
        for finding in findings {
            self.found(finding);
        }
        self.report.partitions = self.report.partitions.saturating_add(1);
        let count = u64::try_from(records).unwrap_or(u64::MAX);
        self.report.records = self.report.records.saturating_add(count);
        (self.progress)(Progress::Partition {
            name: &name,
            records,
        });
        Ok(())
    }
}

/// Pages are read one after another: what looks wrong is looked at again when there was a commit in between, or when this
/// process has learned of other epochs than the keys were read under.
async fn settled(store: &Arc<Inner>, scope: &Arc<Scope>, name: &str) -> Result<Inspected> {
    let mut attempts = 0;
    let now = async || {
        let root = store.table.get(name, ROOT).await.ok().flatten();
        (root, store.row().epochs)
    };
    loop {
        let before = now().await;
        let inspected = reader::inspect(store, scope).await?;
        attempts += 1;
        if inspected.findings.is_empty() || attempts == MAX_ATTEMPTS {
            return Ok(inspected);
        }
        if now().await == before {
            return Ok(inspected);
        }
    }
}

#[cfg(test)]
mod tests;
