//! From a bundle to a partition: everything is verified, then everything is written, or nothing.
//!
//! Rows are put in transactions under keys that no manifest of a partition that is whole lists; the flip puts the root.
//! A crash before it leaves what was there before: nothing, or a partition that was damaged.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use super::codec::{Header, Reader};
use super::proof::{Frame, Proof};
use super::{BundleInfo, Imported, codec, key_of};
use crate::anchor::{Mark, check_floor};
use crate::audit::{AuditOutcome, Audited, Draft, Operation};
use crate::check::Check;
use crate::crypto::{Key, same};
use crate::draft::Clear;
use crate::erasure::TOMBSTONE;
use crate::kek::{Keks, KeyLifetime};
use crate::keyring::{DataKey, Epochs, Wrapping};
use crate::keys::KekContext;
use crate::manifest::{Manifest, SealPrefix, prefix};
use crate::name::{ROOT, SortKey};
use crate::partition::{MAX_SWEPT_KEYS, Shared};
use crate::plan::{self, partition_full};
use crate::reader::{Loaded, Stand};
use crate::record::{Content, Scope, VerifiedRow, build};
use crate::row::{Attribute, Row, SEAL};
use crate::table::{Action, MAX_ACTIONS, MAX_TRANSACTION_BYTES, Order, Outcome, When};
use crate::task::blocking;
use crate::verify::history::History;
use crate::{KeyProvider, PartitionKey, Store};

/// Rows that one transaction stages, and their bytes: a row may be as large as an item.
const MAX_STAGED: usize = MAX_ACTIONS - 2;
const MAX_STAGED_BYTES: usize = MAX_TRANSACTION_BYTES - crate::MAX_ITEM_BYTES;
/// Rows of the target that are looked at, at a time.
const PAGE: usize = 500;
/// The most rows that a target may have: more are not this store's.
const MAX_PRESENT: usize = 2 * codec::MAX_ROWS as usize;

impl Store {
    /// Imports the bundle at `path`: verifies all of it, then writes all of it or nothing. A bundle of this store goes
    /// where nothing is, or where what is there is not what was written; its rows are put back as they were. A bundle of
    /// another store needs `source`, the keys of that one, and goes where nothing is: its records are encrypted anew.
    ///
    /// # Errors
    /// Of the bundle: `bundle_malformed`, `bundle_too_large`, `bundle_seal_mismatch` (it was changed), `bundle_of_another_key`,
    /// `bundle_of_another_store` (and no `source`); those of [`crate::Partition::load`] for what is in it; `key_epoch_retired`.
    /// Of the target: `version_rolled_back` (it is, or was, at a later version), `partition_exists`, `partition_erased`,
    /// `audit_chain_broken` (what became of it cannot be told), `state_contention`.
    pub async fn import(
        &self,
        path: &Path,
        source: Option<Arc<dyn KeyProvider>>,
    ) -> Result<Imported> {
        let metrics = &self.0.metrics;
        metrics
            .timed("import", self.import_whole(path, source))
            .await
    }

    async fn import_whole(
        &self,
        path: &Path,
        source: Option<Arc<dyn KeyProvider>>,
    ) -> Result<Imported> {
        self.0.check_lease().await?;
        let path: PathBuf = path.to_owned();
        let (file, header) = blocking(move || {
            let file = codec::open(&path)?;
            let header = Header::read(&file)?;
            Ok((file, header))
        })
        .await?;
        let shared = self.handle(header.partition.clone());
        shared.0.store.audit.settle(shared.0.lane()).await?;
        let name = format!("import#{}#{}", header.store, header.partition);
        let imported = shared.0.import(Bundle { file, header }, source).await;
        if let Err(fault) = &imported
            && fault.category() == Category::VerificationFailed
        {
            let failed = Draft::new(Operation::Boundary, name).ended(AuditOutcome::of(fault));
            self.0.audit.record(shared.0.lane(), failed)?;
        }
        imported
    }
}

/// A bundle whose header was read.
struct Bundle {
    file: File,
    header: Header,
}

impl Bundle {
    /// From its start.
    fn reader(&self, key: &Key) -> Result<Reader> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| Fault::io("read the bundle", &error))?;
        Reader::new(file, self.header.clone(), key)
    }

    /// Refuses one that was changed since it was made. Of each row only its length is looked at before that.
    async fn authenticate(&self, key: &Key) -> Result<BundleInfo> {
        let mut reader = self.reader(key)?;
        let (info, holds) = blocking(move || {
            while reader.row()?.is_some() {}
            reader.end()
        })
        .await?;
        match holds {
            true => Ok(info),
            false => Err(changed()),
        }
    }
}

/// Keys and names of the store that a bundle is from.
struct Origin<'a> {
    scope: Scope,
    wrapping: Wrapping<'a>,
    key: Key,
    /// Whether that is the store it comes to.
    is_here: bool,
}

impl Shared {
    async fn import(
        &self,
        bundle: Bundle,
        source: Option<Arc<dyn KeyProvider>>,
    ) -> Result<Imported> {
        let is_here = bundle.header.store == self.store.id();
        let foreign = match (is_here, source) {
            (true, _) => None,
            (false, Some(source)) => Some(keks_of(&bundle.header, source)),
            (false, None) => return Err(another_store(&bundle.header)),
        };
        let keks = foreign.as_ref().unwrap_or(&self.store.keks);
        let (key, check) = key_of(keks).await?;
        if !same(&check, &bundle.header.check) {
            return Err(another_key());
        }
        let origin = Origin {
            scope: Scope {
                store: bundle.header.store.clone(),
                key: self.scope.key.clone(),
            },
            wrapping: match is_here {
                true => self.store.wrapping(),
                false => foreign_wrapping(keks, bundle.header.epoch),
            },
            key,
            is_here,
        };
        let info = bundle.authenticate(&origin.key).await?;
        let proof = self.prove(&bundle, &origin).await.map_err(of_the_bundle)?;
        let mut guard = self.open.lock().await;
        *guard = None;
        let landing = Landing {
            shared: self,
            bundle: &bundle,
            origin: &origin,
            info,
        };
        landing.land(proof).await
    }

    /// Verifies every row; writes nothing.
    async fn prove(&self, bundle: &Bundle, origin: &Origin<'_>) -> Result<Proof> {
        let reader = bundle.reader(&origin.key)?;
        let (mut reader, _, mut proof) =
            Frame::read(reader, &origin.scope, &origin.wrapping).await?;
        let version = bundle.header.version;
        if proof.header.version != version {
            return Err(super::malformed("its version is not its manifest's"));
        }
        let (limit, key) = (self.store.limits.bytes, self.scope.key.clone());
        blocking(move || {
            let mut bytes = 0_u64;
            while let Some(row) = reader.row()? {
                bytes = bytes.saturating_add(proof.record(row)?.size() as u64);
                check_bytes(&key, bytes, limit)?;
            }
            proof.end()?;
            proof.rewind();
            Ok(proof)
        })
        .await
    }
}

/// What is about to be written, and where.
struct Landing<'a> {
    shared: &'a Shared,
    bundle: &'a Bundle,
    origin: &'a Origin<'a>,
    info: BundleInfo,
}

impl Landing<'_> {
    async fn land(self, proof: Proof) -> Result<Imported> {
        let records = proof.records();
        let found = Mark::new(proof.header.version, &proof.header.seal);
        // Before it is judged: what changes from here on has everything refused that is written.
        let target = Target::look(self.shared, self.same_epoch()).await?;
        let is_there = self.look(&found).await?;
        let written = !is_there;
        if written && self.origin.is_here {
            self.check_history(found.version()).await?;
        }
        if written && self.origin.is_here {
            self.put_back(target, proof).await?;
        } else if written {
            self.encrypt_anew(target, proof).await?;
        }
        let loaded = self.read_target().await?;
        Ok(Imported {
            version_now: loaded.open.manifest.header.version,
            bundle: self.info,
            records,
            written,
        })
    }

    /// The partition in the table. Checks that the bundle fails are not the table's.
    async fn read_target(&self) -> Result<Loaded> {
        let read = self.shared.read().await;
        read.inspect_err(|fault| self.shared.store.metrics.failed(fault))
    }

    /// Holds while the store is at the epochs by which the bundle was judged, or is about to be encrypted anew.
    fn same_epoch(&self) -> Action {
        match self.origin.is_here {
            true => self.origin.wrapping.same_epoch(),
            false => self.shared.store.wrapping().same_epoch(),
        }
    }

    /// Whether the target is the bundle's content already; an error where it is anything else that is whole.
    async fn look(&self, found: &Mark) -> Result<bool> {
        let shared = self.shared;
        let floor = shared.store.anchor.mark(&shared.scope.key.to_string());
        let floor = floor.filter(|_| self.origin.is_here);
        let put_back = || check_floor(&shared.scope.key, floor.as_ref(), found).map(|()| false);
        match self.read_target().await {
            Ok(loaded) => {
                let there = loaded.open.manifest.header;
                let is_same = *found == Mark::new(there.version, &there.seal);
                match there.version {
                    0 => put_back(),
                    _ if self.origin.is_here && is_same => Ok(true),
                    version if self.origin.is_here && version > found.version() => {
                        Err(older(shared, version, found))
                    }
                    version => Err(exists(shared, version)),
                }
            }
            // What is there is damaged: the bundle mends it.
            Err(fault)
                if self.origin.is_here && fault.category() == Category::VerificationFailed =>
            {
                put_back()
            }
            Err(fault) => Err(fault),
        }
    }

    /// What neither the table nor this machine remembers, the audit may: that the partition went on, or has ended.
    async fn check_history(&self, version: u64) -> Result<()> {
        let store = Store(self.shared.store.clone());
        let (history, audit) = History::read(&store).await?;
        audit.check()?;
        let key = &self.shared.scope.key;
        match history.contradiction(key, Stand::At(version)) {
            None => Ok(()),
            Some(_) => Err(Check::VersionFloor.failed(
                key,
                "the audit tells of a later version than the bundle's, or of its end",
            )),
        }
    }

    /// Puts the rows of a bundle of this store as they are.
    async fn put_back(&self, mut target: Target<'_>, mut proof: Proof) -> Result<()> {
        let reader = self.bundle.reader(&self.origin.key)?;
        let (mut reader, frame, _) =
            Frame::read(reader, &self.origin.scope, &self.origin.wrapping).await?;
        let (root, records) = (frame.root, proof.records());
        let frame = frame.keys.into_iter().chain(frame.chunks.into_values());
        target.stage(frame.collect()).await?;
        loop {
            let rows;
            (reader, proof, rows) = batch(reader, proof).await?;
            if rows.is_empty() {
                break;
            }
            target
                .stage(rows.into_iter().map(VerifiedRow::into_row).collect())
                .await?;
        }
        let (_, holds) = blocking(move || reader.end()).await?;
        if !holds {
            return Err(changed());
        }
        target.drop_other_keys().await?;
        let seal = proof.header.seal;
        let events = vec![self.event(records)];
        let mark = Mark::new(proof.header.version, &seal);
        target.flip(root, events, mark).await
    }

    /// Encrypts the records of another store's bundle for this one.
    async fn encrypt_anew(&self, mut target: Target<'_>, mut proof: Proof) -> Result<()> {
        let shared = self.shared;
        let open = self.read_target().await?.open;
        let (open, first) = shared.with_key(open).await?;
        target
            .stage(first.into_iter().map(|first| first.row).collect())
            .await?;
        let keyring = open.keyring.clone();
        let key = keyring.active().ok_or_else(plan::no_key)?;
        let mut manifest = open.manifest;
        let reader = self.bundle.reader(&self.origin.key)?;
        let (mut reader, _, _) =
            Frame::read(reader, &self.origin.scope, &self.origin.wrapping).await?;
        let records = proof.records();
        loop {
            let rows;
            (reader, proof, rows) = batch(reader, proof).await?;
            if rows.is_empty() {
                break;
            }
            let mut built = Vec::with_capacity(rows.len());
            for row in &rows {
                built.push(self.rebuilt(&proof, row, key, &mut manifest)?);
            }
            target.stage(built).await?;
        }
        let (_, holds) = blocking(move || reader.end()).await?;
        if !holds {
            return Err(changed());
        }
        manifest.header.encryptions = records as u64;
        let now = shared.store.sources.tick();
        let written = manifest.write(&shared.scope, key, now, false);
        target.stage(written.chunks).await?;
        let encrypted = Draft::dek(Operation::Encrypt, &shared.scope.key, key.version);
        let events = vec![encrypted.times(records), self.event(records)];
        let mark = Mark::new(manifest.header.version, &manifest.header.seal);
        target.flip(written.root, events, mark).await
    }

    /// The record under the target's key, listed in its manifest.
    fn rebuilt(
        &self,
        proof: &Proof,
        row: &VerifiedRow,
        key: &DataKey,
        manifest: &mut Manifest,
    ) -> Result<Row> {
        let place = &row.place;
        let payload = row
            .payload(&proof.scope, &proof.keyring)
            .map_err(|check| check.failed(&place.record, "the payload does not open"))?;
        let content = Content {
            place,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: 1,
            clear: Clear::of_row(row.row()),
            sealed: &payload,
        };
        let random = self.shared.store.sources.random()?;
        let (built, listed) = build(&self.shared.scope, key, content, &random)?;
        let (record, sk) = (place.record.clone(), place.sort_key().into());
        manifest.insert(record, sk, listed, row.created_at, key.version);
        Ok(built)
    }

    fn event(&self, records: usize) -> Draft {
        let BundleInfo {
            store,
            partition,
            version,
            mac,
            ..
        } = &self.info;
        let key_id = format!("import#{store}#{partition}#{version}#{mac}");
        Draft::new(Operation::Boundary, key_id).times(records)
    }
}

/// The next records, as many as one transaction takes.
async fn batch(mut reader: Reader, mut proof: Proof) -> Result<(Reader, Proof, Vec<VerifiedRow>)> {
    blocking(move || {
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while rows.len() < MAX_STAGED && bytes < MAX_STAGED_BYTES {
            let Some(row) = reader.row()? else { break };
            let row = proof.record(row)?;
            bytes = bytes.saturating_add(row.size());
            rows.push(row);
        }
        Ok((reader, proof, rows))
    })
    .await
}

/// The partition that is written, and what lies there.
pub(super) struct Target<'a> {
    shared: &'a Shared,
    pk: String,
    present: HashMap<String, Seal>,
    staged: BTreeSet<String>,
    /// The newest data key among them.
    key: Option<(u32, SealPrefix)>,
    same_epoch: Action,
}

/// What tells a row that is there from one that takes its place.
enum Seal {
    /// The first half of it.
    Of(SealPrefix),
    Missing,
    /// One of another length, or of a row that cannot be read.
    Odd,
}

impl Seal {
    fn of(row: Option<&Row>) -> Self {
        match row {
            Some(row) if !matches!(row.0.get(SEAL), Some(Attribute::Bytes(_))) => Self::Missing,
            Some(row) => row
                .array::<32>(SEAL)
                .map_or(Self::Odd, |seal| Self::Of(prefix(&seal))),
            None => Self::Odd,
        }
    }
}

impl<'a> Target<'a> {
    pub(super) async fn look(shared: &'a Shared, same_epoch: Action) -> Result<Self> {
        let pk = shared.scope.key.to_string();
        let mut present = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let table = &shared.store.table;
            let page = table
                .page(&pk, Order::Forward, after.as_deref(), PAGE)
                .await?;
            after = page.rows.last().map(|(sk, _)| sk.clone());
            for (sk, row) in page.rows {
                present.insert(sk, Seal::of(row.as_ref().ok()));
            }
            crate::table::check_count(&pk, present.len(), MAX_PRESENT)?;
            if !page.more || after.is_none() {
                return Ok(Self {
                    shared,
                    pk,
                    present,
                    staged: BTreeSet::new(),
                    key: None,
                    same_epoch,
                });
            }
        }
    }

    /// That nobody else has written the row since it was looked at.
    fn unchanged(&self, sk: &str) -> When {
        match self.present.get(sk) {
            None => When::Absent,
            Some(Seal::Of(seal)) => When::Sealed(*seal),
            Some(Seal::Missing) if sk == ROOT => When::Unsealed,
            Some(Seal::Odd) if sk == ROOT => When::Other(TOMBSTONE),
            Some(_) => When::Always,
        }
    }

    fn put(&mut self, row: Row) -> Action {
        let sk = row.text("sk").unwrap_or_default().to_owned();
        let when = self.unchanged(&sk);
        if let (Some(version), Ok(seal)) = (SortKey::data_key(&sk), row.array(SEAL)) {
            self.key = self.key.max(Some((version, prefix(&seal))));
        }
        self.staged.insert(sk);
        Action::Put { row, when }
    }

    /// Puts rows, in as many transactions as it takes.
    pub(super) async fn stage(&mut self, rows: Vec<Row>) -> Result<()> {
        let (mut actions, mut bytes) = (Vec::new(), 0_usize);
        for row in rows {
            bytes = bytes.saturating_add(row.size());
            actions.push(self.put(row));
            if actions.len() == MAX_STAGED || bytes >= MAX_STAGED_BYTES {
                self.transact(std::mem::take(&mut actions)).await?;
                bytes = 0;
            }
        }
        self.transact(actions).await
    }

    /// Hold while nobody has committed or erased the partition since it was looked at, nor ended an epoch.
    fn still(&self) -> [Action; 2] {
        let root = Action::Check {
            pk: self.pk.clone(),
            sk: ROOT.to_owned(),
            when: self.unchanged(ROOT),
        };
        [root, self.same_epoch.clone()]
    }

    /// Deletes the data keys that the bundle does not have: one that does not open closes the partition.
    async fn drop_other_keys(&self) -> Result<()> {
        let others = self.present.keys().filter(|sk| {
            sk.starts_with(crate::table::DATA_KEYS) && !self.staged.contains(sk.as_str())
        });
        let others: Vec<_> = others.collect();
        for part in others.chunks(MAX_SWEPT_KEYS) {
            self.drop_keys(part).await?;
        }
        Ok(())
    }

    async fn drop_keys(&self, keys: &[&String]) -> Result<()> {
        let deletions = keys.iter().map(|sk| Action::Delete {
            sk: (*sk).clone(),
            when: self.unchanged(sk),
        });
        let actions = deletions.chain(self.still()).collect();
        let key = &self.shared.scope.key;
        let versions = keys.iter().filter_map(|sk| SortKey::data_key(sk));
        let events = versions.map(|version| Draft::dek(Operation::Erase, key, version));
        self.on_record(actions, events.collect()).await.map(drop)
    }

    async fn transact(&self, mut actions: Vec<Action>) -> Result<()> {
        if actions.is_empty() {
            return Ok(());
        }
        actions.extend(self.still());
        match self.shared.store.table.transact(&self.pk, actions).await? {
            Outcome::Done => Ok(()),
            Outcome::Refused(_) => Err(self.refused().await?),
        }
    }

    /// How far the lane of the audit has come with it.
    async fn on_record(&self, actions: Vec<Action>, events: Vec<Draft>) -> Result<Option<Mark>> {
        let (lane, audit) = (self.shared.lane(), &self.shared.store.audit);
        match audit.transact(lane, &self.pk, actions, events).await? {
            Audited::Done(mark) => Ok(mark),
            Audited::Refused => Err(self.refused().await?),
        }
    }

    async fn refused(&self) -> Result<Fault> {
        self.shared.store.learn_from_now_on().await?;
        Ok(self.shared.contended())
    }

    /// Holds while nobody has swept what was staged here for leftovers of a first commit: that changes the newest data key.
    fn held(&self) -> Option<Action> {
        let there = self.present.iter().filter_map(|(sk, seal)| match seal {
            Seal::Of(seal) => Some((SortKey::data_key(sk)?, *seal)),
            _ => None,
        });
        let (version, seal) = self.key.or_else(|| there.max())?;
        Some(Action::Check {
            pk: self.pk.clone(),
            sk: SortKey::Dek(version).to_string(),
            when: When::Sealed(seal),
        })
    }

    /// Puts the root, together with the record of it: now the partition is there.
    pub(super) async fn flip(mut self, root: Row, events: Vec<Draft>, mark: Mark) -> Result<()> {
        let mut actions = vec![self.put(root), self.same_epoch.clone()];
        actions.extend(self.held());
        let lane_mark = self.on_record(actions, events).await?;
        let mut marks = vec![(self.pk.clone(), mark)];
        marks.extend(lane_mark.map(|mark| (self.shared.lane().pk(), mark)));
        self.shared.store.anchor.advance(marks).await
    }
}

fn keks_of(header: &Header, source: Arc<dyn KeyProvider>) -> Keks {
    let owner = KekContext::of(&header.store, &header.tenant, &header.user);
    Keks::new(source, owner, KeyLifetime::default())
}

/// Of a store that is not here, which epochs it has retired is not known.
fn foreign_wrapping(keks: &Keks, current: u64) -> Wrapping<'_> {
    Wrapping {
        keks,
        epochs: Epochs { current, floor: 1 },
        // Nothing is wrapped with it.
        row: SealPrefix::default(),
    }
}

/// It is the bundle that fails the check, and not the table.
fn of_the_bundle(fault: Fault) -> Fault {
    match fault.category() {
        Category::VerificationFailed => fault.hint(
            "the bundle does not pass this check: take another one; what is under a retired epoch stays out",
        ),
        _ => fault,
    }
}

/// What is not to be read again is not written.
fn check_bytes(key: &PartitionKey, bytes: u64, limit: u64) -> Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the records of {key} have more than {limit} bytes");
    Err(partition_full(message).hint("import it into a store whose partitions may be larger"))
}

fn changed() -> Fault {
    let message = "the bundle is not what was exported";
    Fault::new(
        Category::VerificationFailed,
        "bundle_seal_mismatch",
        message,
    )
    .hint("take another copy of the bundle: this one was changed")
}

fn another_key() -> Fault {
    let message = "the bundle was not exported with this key";
    Fault::new(
        Category::VerificationFailed,
        "bundle_of_another_key",
        message,
    )
    .hint("give the master key of the store that exported it")
}

fn another_store(header: &Header) -> Fault {
    let message = format!("the bundle is of the store {}", header.store);
    Fault::new(Category::InvalidInput, "bundle_of_another_store", message)
        .hint("import it there, or give that store's master key, too")
}

fn older(shared: &Shared, version: u64, found: &Mark) -> Fault {
    let message = format!(
        "{} is at version {version}, and the bundle at version {}",
        shared.scope.key,
        found.version()
    );
    Fault::new(Category::VerificationFailed, "version_rolled_back", message)
        .hint("export the partition anew; what is there is never replaced by what is older")
}

fn exists(shared: &Shared, version: u64) -> Fault {
    let message = format!("{} is there, at version {version}", shared.scope.key);
    Fault::new(Category::InvalidInput, "partition_exists", message)
        .hint("nothing that is whole is overwritten: import where nothing is")
}
