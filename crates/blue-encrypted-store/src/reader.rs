//! Reading a partition: every row, checked against the manifest.

mod sparing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::META;
use crate::anchor::{Mark, check_floor};
use crate::audit::Lane;
use crate::check::Check;
use crate::erasure::refuse_erased;
use crate::identity::STORE;
use crate::keyring::{Keyring, latest_epoch};
use crate::manifest::{
    Header, Listed, Listing, Live, MAX_CHUNKS, MAX_PARTITION_RECORDS, Manifest, SealPrefix,
    VerifiedRoot, prefix,
};
use crate::name::{ROOT, RecordId, SortKey};
use crate::plan::{Open, Stray};
use crate::record::{Scope, VerifiedRow, verify};
use crate::row::{Row, SEAL};
use crate::snapshot::Snapshot;
use crate::store::Inner;
use crate::table::{Order, is_overfull};
use crate::task::computing;
use crate::verify::{Finding, Problem};

/// How often a read is repeated when somebody else commits while its pages are read.
const MAX_ATTEMPTS: usize = 8;

/// More rows than a partition has in the middle of its largest commit, if none before it was interrupted.
pub(crate) const MAX_ROWS: usize = 2 * (MAX_PARTITION_RECORDS + MAX_CHUNKS);

/// A verified partition.
pub(crate) struct Loaded {
    pub(crate) open: Open,
    records: BTreeMap<RecordId, Arc<VerifiedRow>>,
    uncommitted: Vec<String>,
}

impl Loaded {
    /// What to go on from, and what its records are.
    pub(crate) fn into_parts(self, store: &Inner, scope: &Arc<Scope>) -> (Open, Snapshot) {
        let snapshot = Snapshot::new(
            scope.clone(),
            self.open.keyring.clone(),
            store.audit.clone(),
            self.open.manifest.header.version,
            self.records,
            self.uncommitted,
        );
        (self.open, snapshot)
    }
}

/// What came of reading a partition that somebody may be writing.
pub(crate) enum Read {
    Loaded(Box<Loaded>),
    /// It changed during every attempt: what did not verify may be of two versions.
    Torn(Fault),
}

/// Reads all pages of a partition and verifies them. The data keys in `known` are not unwrapped again.
pub(crate) async fn read(store: &Arc<Inner>, scope: &Arc<Scope>, known: &Keyring) -> Result<Read> {
    let pk = scope.key.to_string();
    let floor = store.anchor.mark(&pk);
    let mut attempts = 0;
    let mut before = None;
    let loaded = loop {
        let read = match store.table.partition(&pk, store.limits.room()).await {
            Err(fault) if is_overfull(&fault) => Box::pin(sparing::read(store, scope, known)).await,
            rows => verified(store, scope, known, rows?).await,
        };
        let fault = match read {
            Ok(loaded) => break loaded,
            Err(fault) => fault,
        };
        if fault.category() != Category::VerificationFailed {
            return Err(fault);
        }
        // Pages are read one after another: a commit in between looks like tampering, and so does an epoch that ends. What
        // is wrong with rows that were all read under one root is.
        let after = Some(store.table.get(&pk, ROOT).await?);
        attempts += 1;
        if before == after {
            return Err(fault);
        }
        if attempts == MAX_ATTEMPTS {
            return Ok(Read::Torn(fault));
        }
        before = after;
    };
    let header = loaded.open.manifest.header;
    let found = Mark::new(header.version, &header.seal);
    check_floor(&scope.key, floor.as_ref(), &found)?;
    if header.version > 0 && floor.is_none_or(|floor| floor != found) {
        store.anchor.advance(vec![(pk, found)]).await?;
    }
    Ok(Read::Loaded(Box::new(loaded)))
}

async fn verified(
    store: &Inner,
    scope: &Arc<Scope>,
    known: &Keyring,
    rows: Vec<Row>,
) -> Result<Loaded> {
    let count = rows.len();
    let mut sorted = Sorted::of(scope, rows)?;
    Box::pin(refuse_erased(store, scope, sorted.root.as_ref())).await?;
    let deks = std::mem::take(&mut sorted.deks);
    follow(store, &deks).await?;
    let keyring = store.wrapping().open_knowing(known, scope, deks).await?;
    let keyring = Arc::new(keyring);
    let scope = scope.clone();
    computing(count, move || sorted.assemble(&scope, keyring)).await
}

/// Learns of the epoch that somebody else has begun, if a data key's row names a later one.
async fn follow(store: &Inner, deks: &[Row]) -> Result<()> {
    if latest_epoch(deks) > store.row().epochs.current {
        store.learn_anew().await?;
    }
    store.learn().await
}

/// What looking through a partition found.
pub(crate) struct Inspected {
    /// How many records are sound.
    pub(crate) records: usize,
    pub(crate) findings: Vec<Finding>,
    pub(crate) stand: Stand,
}

/// How far a partition was found to have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// What says so does not verify.
    Unknown,
    /// It has ended.
    Erased,
    /// Its version; 0 when nothing is there.
    At(u64),
}

impl Inspected {
    fn nothing(stand: Stand, findings: Vec<Finding>) -> Self {
        Self {
            records: 0,
            findings,
            stand,
        }
    }
}

/// Looks through all of a partition, beyond the first thing that is wrong.
///
/// # Errors
/// Failures of the table, `audit_unavailable`.
pub(crate) async fn inspect(store: &Arc<Inner>, scope: &Arc<Scope>) -> Result<Inspected> {
    let pk = scope.key.to_string();
    let lane = Lane::of(&scope.key);
    if !store.audit.is_set_aside(lane) {
        store.audit.settle(lane).await?;
    }
    let floor = store.anchor.mark(&pk);
    let mut findings = Vec::new();
    let rows = match sound_rows(store, &pk, &mut findings).await {
        Err(fault) if is_overfull(&fault) => sparing::inspect(store, scope, &mut findings).await,
        rows => rows,
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(fault) => {
            findings.push(Finding::told(&pk, None, fault)?);
            return Ok(Inspected::nothing(Stand::Unknown, findings));
        }
    };
    let count = rows.len();
    let mut sorted = Sorted::of(scope, rows)?;
    if let Err(fault) = Box::pin(refuse_erased(store, scope, sorted.root.as_ref())).await {
        if fault.code() == "partition_erased" {
            let extra = sorted.beside_the_root();
            findings.extend(extra.iter().map(|sk| Finding::extra(&pk, Some(sk))));
            return Ok(Inspected::nothing(Stand::Erased, findings));
        }
        findings.push(Finding::failed(&pk, Some(ROOT), &fault));
        return Ok(Inspected::nothing(Stand::Unknown, findings));
    }
    let deks = std::mem::take(&mut sorted.deks);
    if let Err(fault) = follow(store, &deks).await {
        findings.push(Finding::told(STORE, Some(META), fault)?);
        return Ok(Inspected::nothing(Stand::Unknown, findings));
    }
    let Some(keyring) = sound_keys(store, scope, deks, &mut findings).await? else {
        return Ok(Inspected::nothing(Stand::Unknown, findings));
    };
    let is_locked = |finding: &Finding| finding.problem == Problem::Unreadable;
    if findings.iter().any(is_locked) {
        return Ok(Inspected::nothing(Stand::Unknown, findings));
    }
    let scope = scope.clone();
    computing(count, move || {
        Ok(sorted.inspect(&scope, &keyring, floor.as_ref(), findings))
    })
    .await
}

/// The rows that have no attribute of a type that is never written.
async fn sound_rows(store: &Inner, pk: &str, findings: &mut Vec<Finding>) -> Result<Vec<Row>> {
    let (mut rows, mut after) = (Vec::new(), None);
    let mut room = store.limits.room();
    loop {
        let page = store
            .table
            .page(pk, Order::Forward, after.as_deref(), MAX_ROWS)
            .await?;
        let Some((last, _)) = page.rows.last() else {
            return Ok(rows);
        };
        after = Some(last.clone());
        for (sk, row) in page.rows {
            room.take(pk, row.as_ref().map_or(sk.len(), Row::size))?;
            match row {
                Ok(row) => rows.push(row),
                Err(check) => {
                    let found = Finding::of(pk, Some(&sk), Problem::Tampered, check.code());
                    findings.push(found);
                }
            }
        }
        if !page.more {
            return Ok(rows);
        }
    }
}

/// The data keys that open; none when these are more than there can be.
async fn sound_keys(
    store: &Inner,
    scope: &Scope,
    deks: Vec<Row>,
    findings: &mut Vec<Finding>,
) -> Result<Option<Keyring>> {
    let (pk, mut sound) = (scope.key.to_string(), Vec::with_capacity(deks.len()));
    for row in deks {
        match store.wrapping().open(scope, vec![row.clone()]).await {
            Ok(_) => sound.push(row),
            Err(fault) if fault.code() == "audit_unavailable" => return Err(fault),
            Err(fault) => findings.push(Finding::failed(&pk, row.text("sk").ok(), &fault)),
        }
    }
    match store.wrapping().open(scope, sound).await {
        Ok(keyring) => Ok(Some(keyring)),
        Err(fault) => {
            findings.push(Finding::told(&pk, None, fault)?);
            Ok(None)
        }
    }
}

/// A row that no manifest lists.
struct Unlisted {
    sk: String,
    /// If this store wrote it.
    seal: Option<SealPrefix>,
    bytes: usize,
}

impl Unlisted {
    fn record(scope: &Scope, keyring: &Keyring, sk: String, row: Row) -> Self {
        let bytes = row.size();
        let row = verify(scope, keyring, row).ok();
        let seal = row.map(|row| row.listed().seal);
        Self { sk, seal, bytes }
    }

    fn stranger(sk: String) -> Self {
        Self {
            sk,
            seal: None,
            bytes: 0,
        }
    }

    fn finding(&self, pk: &str) -> Finding {
        Finding::unlisted(pk, &self.sk, self.seal.is_some())
    }

    /// What this store wrote is to be swept; the rest may be somebody else's, or a later version's, and is only reported.
    fn sort_into(self, uncommitted: &mut Vec<String>, strays: &mut Vec<Stray>) {
        let Self { sk, seal, bytes } = self;
        uncommitted.push(sk.clone());
        strays.extend(seal.map(|seal| Stray { sk, seal, bytes }));
    }
}

/// The rows of a partition by what they are.
#[derive(Default)]
struct Sorted {
    deks: Vec<Row>,
    root: Option<Row>,
    chunks: BTreeMap<u64, Row>,
    records: HashMap<String, Row>,
    unknown: Vec<String>,
}

impl Sorted {
    fn of(scope: &Scope, rows: Vec<Row>) -> Result<Self> {
        let mut sorted = Self::default();
        for row in rows {
            let sk = row
                .text("sk")
                .map_err(|check| check.failed(&scope.key, "a row has no sort key"))?
                .to_owned();
            match SortKey::parse(&sk) {
                Some(SortKey::Dek(_)) => sorted.deks.push(row),
                Some(SortKey::Root) => sorted.root = Some(row),
                Some(SortKey::Chunk(number)) => drop(sorted.chunks.insert(number, row)),
                Some(SortKey::Record(_)) => drop(sorted.records.insert(sk, row)),
                None => sorted.unknown.push(sk),
            }
        }
        Ok(sorted)
    }

    /// The sort keys of all rows but the root's.
    fn beside_the_root(self) -> Vec<String> {
        let deks = self.deks.iter().filter_map(|row| row.text("sk").ok());
        let deks: Vec<_> = deks.map(ToOwned::to_owned).collect();
        let chunks = self.chunks.into_keys();
        let chunks = chunks.map(|number| SortKey::Chunk(number).to_string());
        let records = self.records.into_keys();
        let mut names: Vec<_> = deks.into_iter().chain(chunks).chain(records).collect();
        names.extend(self.unknown);
        names.sort_unstable();
        names
    }

    fn assemble(mut self, scope: &Scope, mut keyring: Arc<Keyring>) -> Result<Loaded> {
        let Some(root) = self.root.take() else {
            let manifest = Manifest::empty(self.chunk_numbers());
            return Ok(self.finish(scope, keyring, manifest, BTreeMap::new()));
        };
        let failed =
            |check: Check| check.failed(&scope.key, "the manifest is not as it was written");
        let root = VerifiedRoot::open(scope, &keyring, &root).map_err(failed)?;
        if keyring.active().is_none_or(|key| key.version != root.key) {
            Arc::make_mut(&mut keyring).activate(root.key);
        }
        let (header, referred) = (root.header, root.chunks.clone());
        let listing = root
            .listing(scope, &keyring, |number| self.chunks.get(&number))
            .map_err(failed)?;
        self.chunks
            .retain(|number, _| !referred.contains_key(number));
        let mut records = BTreeMap::new();
        let mut live = Vec::with_capacity(listing.len());
        for (sk, listed) in listing.rows() {
            let row = self.live(scope, &keyring, sk, listed, header)?;
            let record = row.place.record.clone();
            live.push(Live {
                sk: sk.clone(),
                record: record.clone(),
                created_at: row.created_at,
                key: row.key_version,
                bytes: row.size(),
            });
            if records.insert(record, Arc::new(row)).is_some() {
                return Err(Check::Manifest.failed(&scope.key, "a record is listed twice"));
            }
        }
        let manifest = listing.into_manifest(self.chunk_numbers(), live.into_iter());
        Ok(self.finish(scope, keyring, manifest, records))
    }

    /// Looks at every row, and at every row that should be there.
    fn inspect(
        mut self,
        scope: &Scope,
        keyring: &Keyring,
        floor: Option<&Mark>,
        mut findings: Vec<Finding>,
    ) -> Inspected {
        let pk = scope.key.to_string();
        let root = self.root.take();
        let opened = root.map(|root| VerifiedRoot::open(scope, keyring, &root));
        if !matches!(opened, Some(Err(_))) {
            let header = opened.as_ref().and_then(|root| root.as_ref().ok());
            let header = header.map(|root| root.header);
            findings.extend(Finding::of_age(scope, header, floor));
        }
        let listed = opened.transpose().and_then(|root| {
            let root = root.map(|root| {
                let (header, chunks) = (root.header, root.chunks.clone());
                let listing = root.listing(scope, keyring, |number| self.chunks.get(&number));
                listing.map(|listing| (header, chunks, listing))
            });
            root.transpose()
        });
        let (version, records) = match listed {
            Ok(Some((header, chunks, listing))) => {
                self.chunks.retain(|number, _| !chunks.contains_key(number));
                let sound = self.inspect_records(scope, keyring, header, &listing, &mut findings);
                (header.version, sound)
            }
            Ok(None) => (0, 0),
            Err(check) => {
                // What it lists cannot be known, so nothing else is called extra.
                let broken = Finding::of(&pk, Some(ROOT), Problem::Tampered, check.code());
                findings.push(broken);
                return Inspected::nothing(Stand::Unknown, findings);
            }
        };
        let unlisted = self.unlisted(scope, keyring).into_iter();
        findings.extend(unlisted.map(|row| row.finding(&pk)));
        Inspected {
            records,
            findings,
            stand: Stand::At(version),
        }
    }

    /// Looks at the records that the manifest lists; says how many are sound.
    fn inspect_records(
        &mut self,
        scope: &Scope,
        keyring: &Keyring,
        header: Header,
        listing: &Listing,
        findings: &mut Vec<Finding>,
    ) -> usize {
        let (pk, mut sound) = (scope.key.to_string(), 0_usize);
        for (sk, listed) in listing.rows() {
            let is_there = self.records.contains_key(&**sk);
            match self.live(scope, keyring, sk, listed, header) {
                Ok(_) => sound = sound.saturating_add(1),
                Err(fault) => {
                    let found = Finding::failed(&pk, Some(sk), &fault);
                    let problem = if is_there {
                        found.problem
                    } else {
                        Problem::Missing
                    };
                    findings.push(Finding { problem, ..found });
                }
            }
        }
        findings.sort_by(|a, b| a.item.cmp(&b.item));
        sound
    }

    /// The row that the manifest lists, if it is there and is that version.
    fn live(
        &mut self,
        scope: &Scope,
        keyring: &Keyring,
        sk: &str,
        listed: Listed,
        header: Header,
    ) -> Result<VerifiedRow> {
        let failed =
            |check: Check, why: &str| check.failed(format_args!("{}: {sk}", scope.key), why);
        let row = self
            .records
            .remove(sk)
            .ok_or_else(|| failed(Check::Manifest, "the record is missing"))?;
        let row = verify(scope, keyring, row)
            .map_err(|check| failed(check, "the record is not as it was written"))?;
        if !is_current(&row, listed, header) {
            let why = "this is not the record's current version";
            return Err(failed(Check::Manifest, why));
        }
        Ok(row)
    }

    fn chunk_numbers(&self) -> BTreeSet<u64> {
        self.chunks.keys().copied().collect()
    }

    /// What is left over is listed by no manifest.
    fn unlisted(self, scope: &Scope, keyring: &Keyring) -> Vec<Unlisted> {
        let chunks = self.chunks.into_iter().map(|(number, row)| {
            let ours = VerifiedRoot::is_chunk(scope, keyring, &row, number);
            let seal = ours.then(|| row.array(SEAL).ok()).flatten();
            Unlisted {
                sk: SortKey::Chunk(number).to_string(),
                seal: seal.map(|seal| prefix(&seal)),
                bytes: 0,
            }
        });
        let records = self.records.into_iter();
        let records = records.map(|(sk, row)| Unlisted::record(scope, keyring, sk, row));
        let unknown = self.unknown.into_iter().map(Unlisted::stranger);
        chunks.chain(records).chain(unknown).collect()
    }

    fn finish(
        self,
        scope: &Scope,
        mut keyring: Arc<Keyring>,
        manifest: Manifest,
        records: BTreeMap<RecordId, Arc<VerifiedRow>>,
    ) -> Loaded {
        let (mut uncommitted, mut strays) = (Vec::new(), Vec::new());
        for row in self.unlisted(scope, &keyring) {
            row.sort_into(&mut uncommitted, &mut strays);
        }
        let unneeded = keyring.unneeded(&manifest);
        if !unneeded.is_empty() {
            Arc::make_mut(&mut keyring).forget(&unneeded);
        }
        uncommitted.extend(unneeded.iter().map(|stray| stray.sk.clone()));
        strays.extend(unneeded);
        Loaded {
            open: Open {
                keyring,
                manifest,
                strays,
            },
            records,
            uncommitted,
        }
    }
}

/// Whether this is the version of a record that the manifest lists.
pub(crate) fn is_current(row: &VerifiedRow, listed: Listed, header: Header) -> bool {
    row.listed() == listed && row.suite >= header.min_suite && row.key_version >= header.min_dek
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use zeroize::Zeroizing;

    use super::*;
    use crate::draft::Clear;
    use crate::keyring::{DataKey, Kept};
    use crate::keys::DekHandle;
    use crate::name::Place;
    use crate::record::{Content, build};
    use crate::{Id, Kind, PartitionKey};

    fn data_key(version: u32) -> DataKey {
        let bytes = [u8::try_from(version).unwrap(); 32];
        DataKey::new(version, DekHandle::new(Zeroizing::new(bytes))).unwrap()
    }

    /// A partition with one record under its first data key, whose manifest is under its second and has that floor.
    fn read_with_floor(min_dek: u32) -> Result<usize, String> {
        let scope = Scope {
            store: "s1".to_owned(),
            key: PartitionKey {
                kind: Kind::JOB,
                id: Id::parse("j1").unwrap(),
            },
        };
        let now = Timestamp::UNIX_EPOCH;
        let place = Place::new(RecordId::new("task", "t1").unwrap(), now);
        let content = Content {
            place: &place,
            created_at: now,
            updated_at: now,
            version: 1,
            clear: Clear::default(),
            sealed: b"null",
        };
        let (row, listed) = build(&scope, &data_key(1), content, &[0; 32]).unwrap();
        let mut manifest = Manifest::empty(BTreeSet::new());
        let sk = place.sort_key().into();
        // What the manifest takes for the oldest key in use becomes its floor.
        manifest.insert(place.record.clone(), sk, listed, now, min_dek);
        let root = manifest.write(&scope, &data_key(2), now, false).root;
        let mut keyring = Keyring::empty(&scope);
        keyring.add(data_key(1).into(), Kept::default());
        keyring.add(data_key(2).into(), Kept::default());
        let sorted = Sorted::of(&scope, vec![row, root]).unwrap();
        match sorted.assemble(&scope, Arc::new(keyring)) {
            Ok(loaded) => Ok(loaded.records.len()),
            Err(fault) => Err(fault.code().to_owned()),
        }
    }

    #[test]
    fn a_record_under_a_data_key_below_the_floor_is_refused() {
        assert_eq!(read_with_floor(1), Ok(1));
        assert_eq!(read_with_floor(2), Err("manifest_mismatch".to_owned()));
    }
}
