//! From a batch to the requests that commit it.
//!
//! A commit is one transaction, the flip: it writes the manifest's root under the condition that the partition has not
//! changed, and with it everything that fits. What does not fit is staged before, under keys that no manifest lists
//! yet, so nobody sees it until the flip; what became garbage is swept after. A record that is replaced but does not
//! fit into the flip moves to a new sort key. A crash at any point leaves the old version or the new one, and perhaps
//! rows that no manifest lists, which the next commit sweeps: after its flip, or before it stages anything when they are
//! many.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use crate::audit::{AUDIT_ACTIONS, Draft as Event, Operation};
use crate::batch::{Change, What};
use crate::check::Check;
use crate::crypto::TAG_BYTES;
use crate::draft::{Clear, Draft};
use crate::keyring::{DataKey, Keyring};
use crate::manifest::{
    Entry, Listed, MAX_CHUNKS, MAX_PARTITION_RECORDS, Manifest, REFILL_BELOW, SealPrefix, Written,
    prefix,
};
use crate::name::{Place, ROOT, RecordId, SortKey};
use crate::record::{Content, Scope, VerifiedRow, build, rebuild, row_bytes};
use crate::row::Row;
use crate::sources::Sources;
use crate::table::{Action, MAX_ACTIONS, MAX_TRANSACTION_BYTES, When};

/// Upper bounds of the sizes of a manifest's root and of one of its chunks, in bytes.
const ROOT_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 24 << 10;
/// What a transaction may have in it already when the row of a data key joins it, in bytes.
const MAX_FLIP_BYTES: usize = MAX_TRANSACTION_BYTES - (4 << 10);
/// The most actions of a flip: the audit adds its own.
pub(crate) const MAX_FLIP_ACTIONS: usize = MAX_ACTIONS - AUDIT_ACTIONS;
/// The most rows that one transaction stages.
const MAX_STAGED: usize = MAX_ACTIONS - 1;
/// With more changed chunks than this, they are staged rather than written in the flip.
const MAX_FLIPPED_CHUNKS: usize = MAX_ACTIONS / 2;

/// What a process knows of a partition between two commits.
pub(crate) struct Open {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) manifest: Manifest,
    /// Rows that no manifest lists.
    pub(crate) strays: Vec<Stray>,
}

impl Open {
    /// What there is to know of a partition that does not exist.
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            keyring: Arc::new(Keyring::empty(scope)),
            manifest: Manifest::empty(BTreeSet::new()),
            strays: Vec::new(),
        }
    }
}

/// A row to be swept, if it is still the one with this seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) sk: String,
    pub(crate) seal: SealPrefix,
    /// Bytes of its row; of keys and of chunks, which are small, none are counted.
    pub(crate) bytes: usize,
}

impl Stray {
    /// Which data key is in it, if it is one's.
    pub(crate) fn data_key(&self) -> Option<u32> {
        SortKey::data_key(&self.sk)
    }

    /// Whether these are more than another commit may be staged beside, which may be interrupted as well.
    pub(crate) fn are_many(strays: &[Self], limit: u64) -> bool {
        let bytes = strays.iter().map(|stray| stray.bytes as u64);
        strays.len() > MAX_PARTITION_RECORDS || bytes.fold(0, u64::saturating_add) > limit
    }

    /// Data keys, and what is no key.
    pub(crate) fn keys_apart(strays: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        let is_key = |stray: &Self| stray.data_key().is_some();
        strays.into_iter().partition(is_key)
    }
}

impl From<Stray> for Action {
    fn from(stray: Stray) -> Self {
        Self::Delete {
            sk: stray.sk,
            when: When::Sealed(stray.seal),
        }
    }
}

/// One change, checked against the manifest.
pub(crate) enum Step {
    Write {
        record: RecordId,
        source: Source,
        old: Option<Old>,
    },
    Drop {
        record: RecordId,
        old: Old,
    },
}

/// Where a row's fields come from.
pub(crate) enum Source {
    Both(Draft),
    /// Cleartext fields anew, the payload as it is in this row.
    Clear(Clear, Arc<VerifiedRow>),
}

/// The row that is there.
pub(crate) struct Old {
    sk: Arc<str>,
    entry: Entry,
}

impl Old {
    const fn bytes(&self) -> usize {
        self.entry.bytes
    }

    fn stray(&self) -> Stray {
        Stray {
            sk: self.sk.to_string(),
            seal: self.entry.listed.seal,
            bytes: self.bytes(),
        }
    }
}

/// Checks a batch against what the partition holds; changes nothing.
///
/// # Errors
/// `already_exists`, `record_not_found`, `state_contention`, `partition_full`.
pub(crate) fn resolve(
    scope: &Scope,
    manifest: &Manifest,
    changes: Vec<Change>,
) -> Result<Vec<Step>> {
    let steps = changes
        .into_iter()
        .map(|change| resolve_one(scope, manifest, change))
        .collect::<Result<Vec<_>>>()?;
    let new = steps
        .iter()
        .filter(|step| matches!(step, Step::Write { old: None, .. }))
        .count();
    let chunks = manifest
        .chunk_count()
        .saturating_add(steps.len() / REFILL_BELOW);
    if manifest.len().saturating_add(new) > MAX_PARTITION_RECORDS || chunks >= MAX_CHUNKS {
        let message = format!(
            "{} holds {} of at most {MAX_PARTITION_RECORDS} records; {new} more do not fit",
            scope.key,
            manifest.len()
        );
        return Err(partition_full(message));
    }
    Ok(steps)
}

/// That there is no room for more in a partition.
pub(crate) fn partition_full(message: String) -> Fault {
    Fault::new(Category::InvalidInput, "partition_full", message)
        .hint("spread the records over several partitions")
}

/// That the records of the partition do not get more bytes than `limit`.
///
/// # Errors
/// `partition_full`.
pub(crate) fn check_bytes(
    scope: &Scope,
    manifest: &Manifest,
    steps: &[Step],
    limit: u64,
) -> Result<()> {
    let at_most = Growth::of(steps, size).on(manifest.bytes());
    // Hardly any commit comes near the limit, and upper bounds are had for nothing.
    if at_most <= limit {
        return Ok(());
    }
    let growth = Growth::of(steps, |step| measured(scope, step));
    let bytes = growth.on(manifest.bytes());
    // What does not make a partition larger is taken, however large it is.
    if bytes <= limit || growth.more <= growth.less {
        return Ok(());
    }
    Err(partition_full(format!(
        "the records of {} have {} of at most {limit} bytes; these changes make them {bytes}",
        scope.key,
        manifest.bytes()
    )))
}

/// Bytes of the rows that come, and of those that go.
struct Growth {
    more: u64,
    less: u64,
}

impl Growth {
    fn of(steps: &[Step], size: impl Fn(&Step) -> usize) -> Self {
        let (mut more, mut less) = (0_u64, 0_u64);
        for step in steps {
            let (new, old) = match step {
                Step::Write { old, .. } => (size(step), old.as_ref()),
                Step::Drop { old, .. } => (0, Some(old)),
            };
            more = more.saturating_add(new as u64);
            less = less.saturating_add(old.map_or(0, Old::bytes) as u64);
        }
        Self { more, less }
    }

    /// What a partition of `bytes` has then.
    const fn on(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.less).saturating_add(self.more)
    }
}

/// The size of the row that a step writes; in the place of another one as if that one's version and data key stayed, lest
/// a digit more of either counts as growth.
fn measured(scope: &Scope, step: &Step) -> usize {
    let Step::Write {
        record,
        source,
        old: Some(old),
    } = step
    else {
        return size(step);
    };
    let (clear, payload) = match source {
        Source::Both(draft) => (&draft.clear, draft.sealed.len().saturating_add(TAG_BYTES)),
        Source::Clear(clear, row) => (clear, row.payload_bytes()),
    };
    let place = Place::new(record.clone(), old.entry.created_at);
    let under = (old.entry.key, old.entry.listed.version);
    row_bytes(scope, &place, under, clear.clone(), payload)
}

fn resolve_one(scope: &Scope, manifest: &Manifest, change: Change) -> Result<Step> {
    let Change { record, what } = change;
    let old = manifest.find(&record).map(|(sk, entry)| Old {
        sk: sk.clone(),
        entry: entry.clone(),
    });
    let write = |record, source, old| {
        Ok(Step::Write {
            record,
            source,
            old,
        })
    };
    match (what, old) {
        (What::Insert(_), Some(_)) => Err(already_exists(scope, &record)),
        (What::Insert(draft) | What::Put(draft), old) => write(record, Source::Both(draft), old),
        (What::Update(draft, read), old) => {
            let old = unchanged(scope, &record, old, &read)?;
            write(record, Source::Both(draft), Some(old))
        }
        (What::UpdateClear(clear, read), old) => {
            let old = unchanged(scope, &record, old, &read)?;
            write(record, Source::Clear(clear, read), Some(old))
        }
        (What::Delete(read), old) => {
            let old = unchanged(scope, &record, old, &read)?;
            Ok(Step::Drop { record, old })
        }
        (What::Remove, Some(old)) => Ok(Step::Drop { record, old }),
        (What::Remove, None) => Err(not_found(scope, &record)),
    }
}

fn unchanged(
    scope: &Scope,
    record: &RecordId,
    old: Option<Old>,
    read: &VerifiedRow,
) -> Result<Old> {
    old.filter(|old| old.entry.listed.seal == prefix(&read.seal))
        .ok_or_else(|| {
            let message = format!("{}: {record} has changed since it was read", scope.key);
            Fault::new(Category::StateContention, "state_contention", message)
                .hint("load the partition again and repeat the change")
        })
}

fn already_exists(scope: &Scope, record: &RecordId) -> Fault {
    let message = format!("{}: there is already a {record}", scope.key);
    Fault::new(Category::InvalidInput, "already_exists", message)
        .hint("choose another id, or put the record instead of inserting it")
}

fn not_found(scope: &Scope, record: &RecordId) -> Fault {
    let message = format!("{}: there is no {record}", scope.key);
    Fault::new(Category::InvalidInput, "record_not_found", message).hint("load the partition again")
}

/// An upper bound of the payloads that are encrypted.
pub(crate) fn encryptions(steps: &[Step]) -> u64 {
    let writes = steps
        .iter()
        .filter(|step| matches!(step, Step::Write { .. }));
    writes.count() as u64
}

/// The row of a partition's first data key.
pub(crate) struct FirstKey {
    pub(crate) row: Row,
    /// Holds while the epoch that it is wrapped under is the current one.
    pub(crate) same_epoch: Action,
}

/// The requests of one commit, in order.
pub(crate) struct Prepared {
    /// The last of them is the flip.
    pub(crate) transactions: Vec<Vec<Action>>,
    /// What to sweep after the flip.
    pub(crate) sweep: Vec<Stray>,
    /// What the flip records.
    pub(crate) events: Vec<Event>,
}

impl Prepared {
    /// With the row of a first data key: part of the flip if that is all there is and has room, else before everything,
    /// provided that there is no root, and held until the flip. Of two that make one at a time, the table refuses the second.
    pub(crate) fn with_key(mut self, first: FirstKey, root: Action, held: Action) -> Self {
        let put = Action::Put {
            row: first.row,
            when: When::Absent,
        };
        let store = first.same_epoch;
        match self.transactions.as_mut_slice() {
            [flip] if flip.len() + 2 <= MAX_FLIP_ACTIONS && bytes(flip) <= MAX_FLIP_BYTES => {
                flip.extend([put, store]);
            }
            _ => {
                self.transactions.insert(0, vec![put, store, root]);
                return self.holding(held);
            }
        }
        self
    }

    /// With the row of the data key as it is now. Before there is a root, that row alone tells a commit that what it has
    /// staged was swept.
    pub(crate) fn holding(mut self, held: Action) -> Self {
        if let Some(flip) = self.transactions.last_mut() {
            flip.push(held);
        }
        self
    }
}

fn bytes(actions: &[Action]) -> usize {
    actions.iter().map(Action::size).sum()
}

/// Encrypts, seals and arranges. Afterwards `open` is the partition as it will be once the flip is done.
pub(crate) fn prepare(
    scope: &Scope,
    sources: &Sources,
    open: &mut Open,
    steps: Vec<Step>,
) -> Result<Prepared> {
    let keyring = open.keyring.clone();
    let key = keyring.active().ok_or_else(no_key)?;
    let before = open.manifest.header;
    let changed = steps.len();
    let arranged = arrange(&open.manifest, steps);
    let mut commit = Commit {
        scope,
        sources,
        keyring: &keyring,
        key,
        manifest: &mut open.manifest,
        flip: Vec::new(),
        staged: Vec::new(),
        sweep: std::mem::take(&mut open.strays),
        events: vec![Event::dek(Operation::Encrypt, &scope.key, key.version).times(changed)],
    };
    for (step, fits) in arranged.steps {
        match step {
            Step::Write {
                record,
                source,
                old,
            } => commit.write(record, source, old, fits)?,
            Step::Drop { record, old } => commit.drop_record(&record, &old, fits),
        }
    }
    let relocate = arranged.relocate_chunks;
    let written = commit.manifest.write(scope, key, sources.tick(), relocate);
    let root = match before.version {
        0 => When::Absent,
        version => When::Root {
            version,
            seal: before.seal,
        },
    };
    let mut prepared = commit.finish(written, root, relocate);
    let unneeded = keyring.unneeded(&open.manifest);
    if !unneeded.is_empty() {
        Arc::make_mut(&mut open.keyring).forget(&unneeded);
        prepared.sweep.extend(unneeded);
    }
    Ok(prepared)
}

pub(crate) fn no_key() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "no_data_key",
        "the partition has no data key for new content",
    )
}

struct Arranged {
    /// Every step, and whether it happens in the flip.
    steps: Vec<(Step, bool)>,
    relocate_chunks: bool,
}

/// Decides what the flip has room for: first what cannot be staged, then what would have to move, then the rest.
fn arrange(manifest: &Manifest, mut steps: Vec<Step>) -> Arranged {
    let touched = steps.iter().filter_map(|step| match step {
        Step::Write { old, .. } => Some(&old.as_ref()?.sk),
        Step::Drop { old, .. } => Some(&old.sk),
    });
    let chunks = manifest.chunks_touched(touched, steps.len());
    let relocate_chunks = chunks > MAX_FLIPPED_CHUNKS;
    let flipped = if relocate_chunks { 0 } else { chunks };
    // The root, and in a first commit the data key.
    let others = if manifest.header.version == 0 { 2 } else { 1 };
    let mut room = MAX_FLIP_ACTIONS.saturating_sub(others + flipped);
    let mut bytes = MAX_TRANSACTION_BYTES
        .saturating_sub(ROOT_BYTES)
        .saturating_sub(flipped.saturating_mul(CHUNK_BYTES));
    steps.sort_by_key(urgency);
    let steps = steps
        .into_iter()
        .map(|step| {
            let size = size(&step);
            let fits = room > 0 && size <= bytes;
            if fits {
                room = room.saturating_sub(1);
                bytes = bytes.saturating_sub(size);
            }
            (step, fits)
        })
        .collect();
    Arranged {
        steps,
        relocate_chunks,
    }
}

fn urgency(step: &Step) -> u8 {
    match step {
        // Its key has no time in it, so it can neither move nor be staged.
        Step::Write { record, .. } | Step::Drop { record, .. } if record.is_meta() => 0,
        Step::Write { old: Some(_), .. } => 1,
        Step::Write { old: None, .. } => 2,
        Step::Drop { .. } => 3,
    }
}

fn size(step: &Step) -> usize {
    match step {
        Step::Write { source, .. } => match source {
            Source::Both(draft) => draft.size(),
            Source::Clear(clear, row) => clear.size().saturating_add(row.size()),
        },
        Step::Drop { old, .. } => old.sk.len(),
    }
}

/// A commit being put together.
struct Commit<'a> {
    scope: &'a Scope,
    sources: &'a Sources,
    keyring: &'a Keyring,
    key: &'a DataKey,
    manifest: &'a mut Manifest,
    flip: Vec<Action>,
    staged: Vec<Action>,
    sweep: Vec<Stray>,
    events: Vec<Event>,
}

impl Commit<'_> {
    fn write(
        &mut self,
        record: RecordId,
        source: Source,
        old: Option<Old>,
        fits: bool,
    ) -> Result<()> {
        match old {
            Some(old) if fits => self.replace(record, source, &old),
            Some(old) => {
                self.sweep.push(old.stray());
                self.manifest.remove(&record);
                let version = old.entry.listed.version.saturating_add(1);
                self.add(record, source, version, Some(old.entry.created_at), fits)
            }
            None => self.add(record, source, 1, None, fits),
        }
    }

    /// Writes over the row that is there.
    fn replace(&mut self, record: RecordId, source: Source, old: &Old) -> Result<()> {
        let now = self.sources.tick();
        let version = old.entry.listed.version;
        let source = self.under_active_key(source, &record)?;
        let (row, listed) = match source {
            Source::Clear(clear, read) => rebuild(self.scope, self.keyring, &read, clear, now)
                .map_err(|check| check.failed(&self.scope.key, &record))?,
            Source::Both(draft) => {
                let place = place_of(&old.sk)?;
                let times = (old.entry.created_at, now);
                self.build(&place, &draft, times, version.saturating_add(1))?
            }
        };
        self.manifest.update(&old.sk, listed, self.key.version);
        self.manifest.weigh(&old.sk, row.size());
        self.flip.push(Action::Put {
            row,
            when: When::Always,
        });
        Ok(())
    }

    /// A payload that stays may not stay under an older data key: what is written is under the active one.
    fn under_active_key(&mut self, source: Source, record: &RecordId) -> Result<Source> {
        match source {
            Source::Clear(clear, read) if read.key_version != self.key.version => {
                self.decrypt(clear, &read, record).map(Source::Both)
            }
            source => Ok(source),
        }
    }

    fn decrypt(&mut self, clear: Clear, read: &VerifiedRow, record: &RecordId) -> Result<Draft> {
        let payload = read.payload(self.scope, self.keyring);
        let sealed = payload.map_err(|check| check.failed(&self.scope.key, record))?;
        self.decrypted(read.key_version);
        Ok(Draft { clear, sealed })
    }

    /// Writes a row under a key that was never used.
    fn add(
        &mut self,
        record: RecordId,
        source: Source,
        version: u64,
        created_at: Option<Timestamp>,
        fits: bool,
    ) -> Result<()> {
        let now = self.sources.tick();
        let draft = match source {
            Source::Both(draft) => draft,
            Source::Clear(clear, read) => self.decrypt(clear, &read, &record)?,
        };
        let place = Place::new(record.clone(), now);
        let created_at = created_at.unwrap_or(now);
        let (row, listed) = self.build(&place, &draft, (created_at, now), version)?;
        let sk: Arc<str> = place.sort_key().into();
        self.manifest
            .insert(record, sk.clone(), listed, created_at, self.key.version);
        self.manifest.weigh(&sk, row.size());
        let when = if place.record.is_meta() {
            When::Always
        } else {
            When::Absent
        };
        let to = if fits {
            &mut self.flip
        } else {
            &mut self.staged
        };
        to.push(Action::Put { row, when });
        Ok(())
    }

    /// A record that moves, or changes its key, is encrypted anew.
    fn decrypted(&mut self, version: u32) {
        let event = Event::dek(Operation::Decrypt, &self.scope.key, version);
        let same = |known: &&mut Event| {
            (known.operation, &known.key_id) == (event.operation, &event.key_id)
        };
        match self.events.iter_mut().find(same) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => self.events.push(event),
        }
    }

    fn build(
        &mut self,
        place: &Place,
        draft: &Draft,
        (created_at, updated_at): (Timestamp, Timestamp),
        version: u64,
    ) -> Result<(Row, Listed)> {
        let content = Content {
            place,
            created_at,
            updated_at,
            version,
            clear: draft.clear.clone(),
            sealed: &draft.sealed,
        };
        let encryptions = &mut self.manifest.header.encryptions;
        *encryptions = encryptions.saturating_add(1);
        build(self.scope, self.key, content, &self.sources.random()?)
    }

    fn drop_record(&mut self, record: &RecordId, old: &Old, fits: bool) {
        self.manifest.remove(record);
        if fits {
            self.flip.push(Action::Delete {
                sk: old.sk.to_string(),
                when: When::Always,
            });
        } else {
            self.sweep.push(old.stray());
        }
    }

    fn finish(mut self, written: Written, root: When, relocate: bool) -> Prepared {
        let pk = self.scope.key.to_string();
        let mut flip = vec![Action::Put {
            row: written.root,
            when: root.clone(),
        }];
        for row in written.chunks {
            if relocate {
                let when = When::Absent;
                self.staged.push(Action::Put { row, when });
            } else {
                let when = When::Always;
                flip.push(Action::Put { row, when });
            }
        }
        flip.append(&mut self.flip);
        let dropped = written.dropped.into_iter();
        self.sweep
            .extend(dropped.map(|(sk, seal)| Stray { sk, seal, bytes: 0 }));
        let mut transactions = group(self.staged);
        for staged in &mut transactions {
            // Nothing is left lying in a partition that has changed, or was erased, meanwhile.
            staged.push(Action::Check {
                pk: pk.clone(),
                sk: ROOT.to_owned(),
                when: root.clone(),
            });
        }
        transactions.push(flip);
        Prepared {
            transactions,
            sweep: self.sweep,
            events: self.events,
        }
    }
}

fn place_of(sk: &str) -> Result<Place> {
    match SortKey::parse(sk) {
        Some(SortKey::Record(place)) => Ok(place),
        _ => Err(Check::Manifest.failed(sk, "this is no record's sort key")),
    }
}

/// Transactions of what they can hold beside the check of the root.
pub(crate) fn group(actions: Vec<Action>) -> Vec<Vec<Action>> {
    let mut groups: Vec<Vec<Action>> = Vec::new();
    let mut bytes = 0_usize;
    for action in actions {
        bytes = bytes.saturating_add(action.size());
        match groups.last_mut() {
            Some(group) if group.len() < MAX_STAGED && bytes <= MAX_TRANSACTION_BYTES => {
                group.push(action);
            }
            _ => {
                bytes = action.size();
                groups.push(vec![action]);
            }
        }
    }
    groups
}
