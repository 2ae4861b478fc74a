//! The end of a partition: its data keys are destroyed, and nothing is ever written there again.
//!
//! A tombstone takes the place of the manifest's root, in one transaction with the deletion of the data keys: whoever is
//! about to commit fails, for the root is not the one they know. Then every other row is deleted. Erasing needs no row
//! of the partition to verify, because destroying needs no trust. The tombstone is sealed under a key of the store that
//! no rotation retires, and the anchor remembers the partition as ended: what somebody puts back is older than that.

mod certificate;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::hmac::Key;
use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::Mark;
use crate::audit::{Audited, Draft, Lane, Operation};
use crate::check::Check;
use crate::crypto::{expand, hmac_key};
use crate::envelope::Suite;
use crate::kek::OWN;
use crate::keys::KekHandle;
use crate::name::{PartitionKey, ROOT, SortKey, parse_time, time};
use crate::partition::{Partition, Shared};
use crate::plan::MAX_FLIP_ACTIONS;
use crate::record::Scope;
use crate::row::{Row, SEAL};
use crate::store::Inner;
use crate::table::{Action, DATA_KEYS, Outcome, When};

pub use self::certificate::{Confirmed, Erasure, ErasureCertificate, ErasureEvent, ResidualCopy};

/// What a tombstone's `entity_type` is.
pub(crate) const TOMBSTONE: &str = "tombstone";
const ATTRIBUTES: [&str; 6] = ["pk", "sk", "entity_type", "updated_at", "env", SEAL];
/// The most transactions of one erasure: somebody may add rows as fast as they are deleted.
const MAX_TRANSACTIONS: usize = 20_000;
impl Partition {
    /// Erases the partition for good: deletes its wrapped data keys, then all its rows, and sets a tombstone. From then
    /// on loads and commits fail with `partition_erased`.
    ///
    /// Needs no row to verify. What breaks off is completed by calling it again. Snapshots of this process give out nothing
    /// any more. Copies that it cannot reach are listed in the certificate. Once the key epoch they are from is retired
    /// ([`Store::retire_keks`]) they are of no use in the table either, to any machine that knows that it is.
    ///
    /// # Errors
    /// `erasure_incomplete` when rows come as fast as they go; `erasure_not_on_record` when all of it is gone, and the
    /// audit tells nothing of it; those of the key provider and of the engine.
    pub async fn erase(&self) -> Result<ErasureCertificate> {
        let erasing = async {
            let keys = OwnKeys::of(&self.0.store).await?;
            let ended = self.end(&keys).await?;
            certificate::issue(&self.0, &keys, &ended).await
        };
        self.0.store.metrics.of("erase", erasing).await
    }

    /// The same without a certificate, for what only has to be gone.
    pub(crate) async fn erase_again(&self) -> Result<()> {
        let keys = OwnKeys::of(&self.0.store).await?;
        self.end(&keys).await.map(drop)
    }

    async fn end(&self, keys: &OwnKeys) -> Result<Ended> {
        let Shared { store, scope, .. } = &*self.0;
        let mut guard = self.0.open.lock().await;
        *guard = None;
        let mut undertaker = Undertaker {
            store,
            scope,
            pk: scope.key.to_string(),
            transactions: 0,
            lane_mark: None,
        };
        let (tombstone, data_keys) = undertaker.bury(keys).await?;
        // Whoever puts the partition back while its rows are deleted is too late.
        remember(store, scope, &tombstone, undertaker.lane_mark.take()).await?;
        let rows = undertaker.clear().await?;
        Ok(Ended {
            tombstone,
            data_keys,
            rows,
        })
    }
}

/// What an erasure came to.
struct Ended {
    tombstone: Tombstone,
    data_keys: u64,
    rows: u64,
}

/// Keys of the store for what outlives its epochs.
pub(crate) struct OwnKeys {
    tombstones: Key,
    certificates: Key,
}

impl OwnKeys {
    async fn of(store: &Inner) -> Result<Self> {
        Self::new(&*store.keks.get(OWN).await?)
    }

    pub(crate) fn new(kek: &KekHandle) -> Result<Self> {
        let derive = |label: &[u8]| expand(kek.bytes(), label).map(|key| hmac_key(&key));
        Ok(Self {
            tombstones: derive(b"blue/v1/tombstone")?,
            certificates: derive(certificate::FORMAT.as_bytes())?,
        })
    }
}

/// A tombstone whose seal holds.
pub(crate) struct Tombstone {
    erased_at: String,
    seal: [u8; 32],
}

impl Tombstone {
    /// Whether the row says that it is one.
    pub(crate) fn is(row: &Row) -> bool {
        row.text("entity_type") == Ok(TOMBSTONE)
    }

    /// That of a partition which is erased at `now`.
    pub(crate) fn row(scope: &Scope, keys: &OwnKeys, now: Timestamp) -> Row {
        let mut row = Row::new(&scope.key.to_string(), ROOT, TOMBSTONE);
        row.set_text("updated_at", time(now));
        row.set_integer("env", u64::from(Suite::CURRENT.byte()));
        row.seal(&keys.tombstones);
        row
    }

    fn open(scope: &Scope, keys: &OwnKeys, row: &Row) -> Result<Self, Check> {
        row.only(&ATTRIBUTES)?;
        if !Self::is(row) || row.text("pk")? != scope.key.to_string() || row.text("sk")? != ROOT {
            return Err(Check::Address);
        }
        Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?;
        let erased_at = row.text("updated_at")?;
        parse_time(erased_at).ok_or(Check::Attributes)?;
        Ok(Self {
            erased_at: erased_at.to_owned(),
            seal: row.check_seal(&keys.tombstones)?,
        })
    }
}

/// Refuses a partition whose root is a tombstone; any other row passes.
pub(crate) async fn refuse_erased(store: &Inner, scope: &Scope, root: Option<&Row>) -> Result<()> {
    let Some(row) = root.filter(|row| Tombstone::is(row)) else {
        return Ok(());
    };
    let tombstone = Tombstone::open(scope, &OwnKeys::of(store).await?, row)
        .map_err(|check| check.failed(&scope.key, "the tombstone is not as it was written"))?;
    remember(store, scope, &tombstone, None).await?;
    Err(erased(
        &scope.key,
        format_args!("at {}", tombstone.erased_at),
    ))
}

/// The fault of everything in a partition that was erased.
pub(crate) fn erased(partition: &PartitionKey, when: impl fmt::Display) -> Fault {
    let message = format!("{partition} was erased {when}");
    Fault::new(Category::InvalidInput, "partition_erased", message)
        .hint("choose another id: nothing is written here any more")
}

async fn remember(
    store: &Inner,
    scope: &Scope,
    tombstone: &Tombstone,
    lane: Option<Mark>,
) -> Result<()> {
    let mut marks = vec![(scope.key.to_string(), Mark::erased(&tombstone.seal))];
    marks.extend(lane.map(|mark| (Lane::of(&scope.key).pk(), mark)));
    store.anchor.advance(marks).await
}

/// Deletes the rows of a partition, whatever they are.
struct Undertaker<'a> {
    store: &'a Inner,
    scope: &'a Scope,
    pk: String,
    transactions: usize,
    /// How far the lane of the partition's audit has come.
    lane_mark: Option<Mark>,
}

impl Undertaker<'_> {
    /// Puts the tombstone in the place of the root, unless there is one, and deletes the data keys with it; says how
    /// many these were.
    async fn bury(&mut self, keys: &OwnKeys) -> Result<(Tombstone, u64)> {
        let mut deleted = 0_u64;
        loop {
            let tombstone = self.tombstone(keys).await?;
            let found = self.keys(Some(DATA_KEYS)).await?;
            let mut actions = deletions(&found);
            match tombstone {
                Some(tombstone) if found.is_empty() => return Ok((tombstone, deleted)),
                Some(_) => {}
                None => actions.push(self.new_tombstone(keys)),
            }
            let is_key = |sk: &&String| matches!(SortKey::parse(sk), Some(SortKey::Dek(_)));
            let keys = found.iter().filter(is_key).count();
            if self.transact_on_record(actions, keys).await? {
                deleted = deleted.saturating_add(keys as u64);
            }
        }
    }

    /// Deletes all rows but the tombstone; says how many these were.
    async fn clear(&mut self) -> Result<u64> {
        let mut deleted = 0_u64;
        loop {
            let mut found = self.keys(None).await?;
            found.retain(|sk| sk != ROOT);
            if found.is_empty() {
                return Ok(deleted);
            }
            self.count()?;
            let deletions = deletions(&found);
            if self.store.table.transact(&self.pk, deletions).await? == Outcome::Done {
                deleted = deleted.saturating_add(found.len() as u64);
            }
        }
    }

    async fn tombstone(&self, keys: &OwnKeys) -> Result<Option<Tombstone>> {
        match self.store.table.get(&self.pk, ROOT).await {
            Ok(row) => Ok(row.and_then(|row| Tombstone::open(self.scope, keys, &row).ok())),
            // A row of types that are never written.
            Err(fault) if fault.category() == Category::VerificationFailed => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn new_tombstone(&self, keys: &OwnKeys) -> Action {
        let now = self.store.sources.tick();
        Action::Put {
            row: Tombstone::row(self.scope, keys, now),
            when: When::Always,
        }
    }

    /// Some sort keys, few enough for one transaction with the tombstone.
    async fn keys(&self, prefix: Option<&str>) -> Result<Vec<String>> {
        let table = &self.store.table;
        table
            .sort_keys(&self.pk, prefix, MAX_FLIP_ACTIONS - 1)
            .await
    }

    /// Whether it was done.
    async fn transact_on_record(&mut self, actions: Vec<Action>, keys: usize) -> Result<bool> {
        self.count()?;
        let event = Draft::some_dek(Operation::Erase, &self.scope.key).times(keys);
        let lane = Lane::of(&self.scope.key);
        let audit = &self.store.audit;
        let done = audit.transact(lane, &self.pk, actions, vec![event]).await?;
        let Audited::Done(mark) = done else {
            return Ok(false);
        };
        self.lane_mark = mark.or(self.lane_mark.take());
        Ok(true)
    }

    fn count(&mut self) -> Result<()> {
        self.transactions = self.transactions.saturating_add(1);
        if self.transactions <= MAX_TRANSACTIONS {
            return Ok(());
        }
        let message = format!("{} gets new rows while it is erased", self.pk);
        Err(
            Fault::new(Category::StateContention, "erasure_incomplete", message)
                .hint("stop whoever writes there, then erase it again"),
        )
    }
}

fn deletions(keys: &[String]) -> Vec<Action> {
    let delete = |sk: &String| Action::Delete {
        sk: sk.clone(),
        when: When::Always,
    };
    keys.iter().map(delete).collect()
}
