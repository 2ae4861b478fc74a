//! One partition: load it whole, change it by batches.

use std::fmt;
use std::slice::Chunks;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::Mark;
use crate::audit::{AuditOutcome, Audited, Draft, Lane, Operation};
use crate::erasure::refuse_erased;
use crate::keyring::Keyring;
use crate::name::ROOT;
use crate::plan::{self, FirstKey, MAX_FLIP_ACTIONS, Open, Prepared, Stray};
use crate::reader::{self, Loaded, Read};
use crate::record::Scope;
use crate::store::Inner;
use crate::table::{Action, When};
use crate::task::computing;
use crate::{Batch, PartitionKey, Snapshot};

/// The most data keys that are destroyed at a time: each is on record for itself, in the same transaction.
pub(crate) const MAX_SWEPT_KEYS: usize = 40;
/// The version of a partition's first data key.
const FIRST_KEY: u32 = 1;

/// Counts the commits of a partition, and its changes of data keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionVersion(u64);

impl PartitionVersion {
    /// Nothing was ever committed.
    pub const NONE: Self = Self(0);

    pub(crate) const fn new(version: u64) -> Self {
        Self(version)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PartitionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A handle on one partition. Handles of the same partition of one store share what they know of it.
#[derive(Clone)]
pub struct Partition(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) store: Arc<Inner>,
    pub(crate) scope: Arc<Scope>,
    /// What the last load or commit left; taken out while a commit is under way, so that one that fails or is dropped
    /// half way leaves nothing behind that is not in the table.
    pub(crate) open: Mutex<Option<Open>>,
    /// Payloads that were encrypted for commits that failed: no version of the partition counts them, but the next will.
    pub(crate) spent: AtomicU64,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({})", self.key())
    }
}

impl Partition {
    /// Which one.
    pub fn key(&self) -> &PartitionKey {
        &self.0.scope.key
    }

    /// Reads and verifies all of it; `None` when nothing was ever committed.
    ///
    /// # Errors
    /// Category `verification_failed`, with the code of the check that failed: `attributes_malformed`,
    /// `address_mismatch`, `commitment_mismatch`, `tag_mismatch`, `seal_mismatch`, `manifest_mismatch`,
    /// `version_rolled_back`, `key_check_mismatch`, `key_epoch_retired`. `partition_erased`. Failures of the engine and of
    /// the key provider.
    pub async fn load(&self) -> Result<Option<Snapshot>> {
        let metrics = &self.0.store.metrics;
        metrics.of("load", self.load_whole()).await
    }

    async fn load_whole(&self) -> Result<Option<Snapshot>> {
        // Not held while the table is read: whoever loads at the same time reads beside this one, and waits for commits alone.
        let known = {
            let open = self.0.open.lock().await;
            open.as_ref().map(|open| open.keyring.clone())
        };
        let snapshot = match self.0.read_knowing(known.as_deref()).await {
            Ok(Read::Loaded(loaded)) => {
                let (open, snapshot) = loaded.into_parts(&self.0.store, &self.0.scope);
                self.0.learn(open).await;
                snapshot
            }
            Ok(Read::Torn(_)) => self.load_alone().await?,
            Err(fault) => {
                *self.0.open.lock().await = None;
                return Err(fault);
            }
        };
        snapshot.hand_out().await?;
        Ok((snapshot.version() != PartitionVersion::NONE).then_some(snapshot))
    }

    /// Commits of this process may be what has changed the partition during every attempt: they wait for this one.
    async fn load_alone(&self) -> Result<Snapshot> {
        let mut open = self.0.open.lock().await;
        *open = None;
        let loaded = self.0.read().await?;
        let (read, snapshot) = loaded.into_parts(&self.0.store, &self.0.scope);
        *open = Some(read);
        Ok(snapshot)
    }

    /// Whether the table has no row of it at all, not even one that an interrupted first commit has left: what
    /// [`Partition::load`] does not find may still be there to be erased. Not authenticated.
    ///
    /// # Errors
    /// Failures of the engine.
    pub async fn is_absent(&self) -> Result<bool> {
        let (table, pk) = (&self.0.store.table, self.key().to_string());
        Ok(table.sort_keys(&pk, None, 1).await?.is_empty())
    }

    /// Makes all changes of `batch` or none, provided that the partition is still at `expected`.
    ///
    /// Of a partition that this process has loaded or committed to before, it writes the changed records, the
    /// manifest's root and the changed chunks of the manifest, and reads nothing; nor does it read a partition that
    /// nobody here has ever heard of when [`PartitionVersion::NONE`] is expected. An empty batch changes nothing. After
    /// an error other than `state_contention` and `invalid_input`, the changes may have been made or not: load again. The
    /// version moves by one more when the commit changes the data key as well, and by one more when interrupted commits
    /// have left more than a partition holds, which it sweeps first.
    ///
    /// # Errors
    /// `state_contention` when the partition has changed; `partition_erased`; `already_exists`, `record_not_found`, `partition_full`;
    /// `commit_not_anchored` when all is done but could not be remembered outside of the table, `rotation_not_anchored` when
    /// that is so of the new data key that the changes needed, and none of them is made; `leftovers_not_swept` when too much
    /// of what interrupted commits have left cannot be deleted; those of [`Partition::load`].
    pub async fn commit(
        &self,
        batch: Batch,
        expected: PartitionVersion,
    ) -> Result<PartitionVersion> {
        let metrics = &self.0.store.metrics;
        metrics
            .of("commit", self.commit_whole(batch, expected))
            .await
    }

    async fn commit_whole(
        &self,
        batch: Batch,
        expected: PartitionVersion,
    ) -> Result<PartitionVersion> {
        self.0.store.learn().await?;
        self.0.store.check_lease().await?;
        let mut guard = self.0.open.lock().await;
        let open = match guard.take() {
            Some(open) => open,
            None if self.0.seems_new(expected) => Open::new(&self.0.scope),
            None => self.0.read().await?.open,
        };
        let version = open.manifest.header.version;
        if version != expected.get() {
            // A version from the future tells that ours is outdated: read it anew next time.
            *guard = (version > expected.get()).then_some(open);
            return Err(self.0.changed(expected));
        }
        if batch.is_empty() {
            *guard = Some(open);
            return Ok(expected);
        }
        match self.0.resolve(&open, batch) {
            Ok(steps) => {
                let open = self.0.write(open, steps, expected).await?;
                let version = open.manifest.header.version;
                *guard = Some(open);
                Ok(PartitionVersion(version))
            }
            Err(fault) => {
                *guard = Some(open);
                Err(fault)
            }
        }
    }
}

impl Shared {
    /// Goes on from what was read, unless a commit has gone further meanwhile, or the partition has ended.
    async fn learn(&self, read: Open) {
        let mut open = self.open.lock().await;
        if self.store.audit.has_ended(&self.scope.key) {
            return;
        }
        let version = |open: &Open| open.manifest.header.version;
        if open
            .as_ref()
            .is_none_or(|known| version(known) <= version(&read))
        {
            *open = Some(read);
        }
    }

    /// Whether a first commit may be tried unread: the table refuses it if there is anything.
    fn seems_new(&self, expected: PartitionVersion) -> bool {
        let key = self.scope.key.to_string();
        expected == PartitionVersion::NONE && self.store.anchor.mark(&key).is_none()
    }

    /// Reads and verifies the partition. A failed check is on record: with which of the keys is what it could not tell.
    pub(crate) async fn read(&self) -> Result<Loaded> {
        match self.read_knowing(None).await? {
            Read::Loaded(loaded) => Ok(*loaded),
            Read::Torn(fault) => {
                self.record_failure(&fault)?;
                Err(fault)
            }
        }
    }

    /// The same, but the data keys of `known` are not unwrapped again.
    async fn read_knowing(&self, known: Option<&Keyring>) -> Result<Read> {
        let none = Keyring::empty(&self.scope);
        let known = known.unwrap_or(&none);
        self.store.audit.settle(self.lane()).await?;
        let read = reader::read(&self.store, &self.scope, known).await;
        if let Err(fault) = &read
            && fault.category() == Category::VerificationFailed
        {
            self.record_failure(fault)?;
        }
        read
    }

    fn record_failure(&self, fault: &Fault) -> Result<()> {
        let failed = Draft::some_dek(Operation::Decrypt, &self.scope.key);
        let failed = failed.ended(AuditOutcome::of(fault));
        self.store.audit.record(self.lane(), failed)
    }

    fn resolve(&self, open: &Open, batch: Batch) -> Result<Vec<plan::Step>> {
        let (scope, manifest) = (&self.scope, &open.manifest);
        let steps = plan::resolve(scope, manifest, batch.changes)?;
        plan::check_bytes(scope, manifest, &steps, self.store.limits.bytes)?;
        Ok(steps)
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane::of(&self.scope.key)
    }

    async fn write(
        &self,
        open: Open,
        steps: Vec<plan::Step>,
        expected: PartitionVersion,
    ) -> Result<Open> {
        // In boxes, so that the futures of those who commit stay of a depth that the compiler takes.
        let open = Box::pin(self.up_to_date(open)).await?;
        let open = Box::pin(self.with_little_left(open)).await?;
        let open = Box::pin(self.with_room(open, &steps)).await?;
        let (mut open, key) = self.with_key(open).await?;
        let first = key.is_some();
        let held = open.keyring.held(&self.scope).ok_or_else(plan::no_key)?;
        let counted = open.manifest.count_encryptions(self.spent());
        let (scope, store) = (self.scope.clone(), self.store.clone());
        let (mut open, prepared) = computing(steps.len(), move || {
            let prepared = plan::prepare(&scope, &store.sources, &mut open, steps)?;
            Ok((open, prepared))
        })
        .await?;
        self.spend(open.manifest.header.encryptions.saturating_sub(counted));
        let Prepared {
            transactions,
            sweep,
            mut events,
        } = match key {
            Some(first) => prepared.with_key(first, self.no_root(), held),
            None if expected == PartitionVersion::NONE => prepared.holding(held),
            None => prepared,
        };
        let pk = self.scope.key.to_string();
        let flip = transactions.len().saturating_sub(1);
        let mut lane_mark = None;
        for (number, actions) in transactions.into_iter().enumerate() {
            let events = match number == flip {
                true => std::mem::take(&mut events),
                false => Vec::new(),
            };
            let audit = &self.store.audit;
            match audit.transact(self.lane(), &pk, actions, events).await? {
                Audited::Done(mark) => lane_mark = mark,
                Audited::Refused => {
                    if first {
                        Box::pin(self.refused_first(&pk)).await?;
                    }
                    return Err(self.changed(expected));
                }
            }
        }
        self.spend(0);
        let advanced = self.advance(&open, lane_mark).await;
        advanced.map_err(|fault| self.not_anchored(&open, "commit_not_anchored", fault))?;
        open.strays = self.sweep(&pk, sweep).await;
        Ok(open)
    }

    /// A first commit makes the partition's data key, and writes its row before or with what is encrypted with it.
    pub(crate) async fn with_key(&self, open: Open) -> Result<(Open, Option<FirstKey>)> {
        if open.keyring.active().is_some() {
            return Ok((open, None));
        }
        let wrapping = self.store.wrapping();
        let row = wrapping
            .fresh(&self.scope, FIRST_KEY, self.store.sources.tick())
            .await?;
        let keyring = Arc::new(wrapping.open(&self.scope, vec![row.clone()]).await?);
        let same_epoch = wrapping.same_epoch();
        Ok((Open { keyring, ..open }, Some(FirstKey { row, same_epoch })))
    }

    /// Why a first commit was refused, if that was not because somebody else was quicker.
    async fn refused_first(&self, pk: &str) -> Result<()> {
        self.store.learn_from_now_on().await?;
        let root = self.store.table.get(pk, ROOT).await?;
        refuse_erased(&self.store, &self.scope, root.as_ref()).await
    }

    pub(crate) fn no_root(&self) -> Action {
        Action::Check {
            pk: self.scope.key.to_string(),
            sk: ROOT.to_owned(),
            when: When::Absent,
        }
    }

    /// Remembers outside of the table how far the partition has come, and the lane of its audit.
    pub(crate) async fn advance(&self, open: &Open, lane_mark: Option<Mark>) -> Result<()> {
        let header = open.manifest.header;
        let mark = Mark::new(header.version, &header.seal);
        let mut marks = vec![(self.scope.key.to_string(), mark)];
        marks.extend(lane_mark.map(|mark| (self.lane().pk(), mark)));
        self.store.anchor.advance(marks).await
    }

    /// That this version is in the table, and could not be remembered outside of it.
    pub(crate) fn not_anchored(&self, open: &Open, code: &'static str, fault: Fault) -> Fault {
        let message = format!(
            "version {} of {} is in the table, but not remembered outside of it: {}",
            open.manifest.header.version,
            self.scope.key,
            fault.message()
        );
        Fault::new(fault.category(), code, message).hint(fault.hint_text().to_owned())
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    pub(crate) fn spend(&self, encryptions: u64) {
        self.spent.store(encryptions, Ordering::Relaxed);
    }

    /// Deletes what no manifest lists; returns what could not be deleted, for the next commit to try. What is under a key
    /// that has gone verifies nowhere, and nobody would ever sweep it: so keys go last, and not before all rows have gone.
    pub(crate) async fn sweep(&self, pk: &str, strays: Vec<Stray>) -> Vec<Stray> {
        let (keys, rows) = Stray::keys_apart(strays);
        let (mut left, refused) = self.sweep_some(pk, rows.chunks(MAX_FLIP_ACTIONS)).await;
        if refused {
            return left;
        }
        match left.is_empty() {
            true => left = self.sweep_some(pk, keys.chunks(MAX_SWEPT_KEYS)).await.0,
            false => left.extend(keys),
        }
        left
    }

    /// What could not be deleted, and whether something was not what it was, or gone: the next load sees what there is.
    async fn sweep_some(&self, pk: &str, parts: Chunks<'_, Stray>) -> (Vec<Stray>, bool) {
        let (mut left, mut refused) = (Vec::new(), false);
        for part in parts {
            match self.delete(pk, part).await {
                Ok(Audited::Done(_)) => {}
                Ok(Audited::Refused) => {
                    refused = true;
                    tracing::debug!(partition = pk, rows = part.len(), "rows not swept");
                }
                Err(fault) => {
                    tracing::warn!(partition = pk, rows = part.len(), %fault, "rows not swept");
                    left.extend_from_slice(part);
                }
            }
        }
        (left, refused)
    }

    /// Deletes rows if they are what they were, with a record of the data keys among them.
    pub(crate) async fn delete(&self, pk: &str, strays: &[Stray]) -> Result<Audited> {
        let keys = strays.iter().filter_map(Stray::data_key);
        let events = keys.map(|version| Draft::dek(Operation::Erase, &self.scope.key, version));
        let actions = strays.iter().cloned().map(Into::into).collect();
        let audit = &self.store.audit;
        audit
            .transact(self.lane(), pk, actions, events.collect())
            .await
    }

    fn changed(&self, expected: PartitionVersion) -> Fault {
        contention(format!(
            "{} is not at version {expected} any more",
            self.scope.key
        ))
    }

    /// Somebody else wrote at the same time.
    pub(crate) fn contended(&self) -> Fault {
        contention(format!(
            "{} or its store was written by somebody else",
            self.scope.key
        ))
    }
}

fn contention(message: String) -> Fault {
    Fault::new(Category::StateContention, "state_contention", message)
        .hint("load the partition again and repeat the change")
}
