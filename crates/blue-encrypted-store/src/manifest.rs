//! The closed set of a partition's live records: which row, in which version, under which seal.
//!
//! The set is kept in one root row and, when it is large, in chunk rows. The root holds the most recent entries itself
//! and binds every chunk by the first half of its seal, so an older chunk cannot be put back under a newer root. A
//! commit writes the root and the chunks that changed: its cost does not grow with the number of records.
//!
//! The root is sealed under the partition's active data key, which it thereby names, and counts what that key has
//! encrypted. A chunk stays under the key that was active when it was written. `min_dek` is the oldest key that an entry
//! or a chunk needs: rows under an older one are refused.
//!
//! Entries are `lp(sk) ‖ u64 version ‖ seal[..16]`, sorted by `sk`; references to chunks are `u64 number ‖ seal[..16]`,
//! sorted by number. Root and chunks are sealed under `HKDF-Expand(DEK, "blue/v1/manifest", 32)`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::check::Check;
use crate::crypto::lp;
use crate::envelope::Suite;
use crate::keyring::{DataKey, Keyring};
use crate::name::{ROOT, RecordId, SortKey, key_id, parse_time, time};
use crate::record::Scope;
use crate::row::{Row, SEAL};

/// The most records of a partition.
pub const MAX_PARTITION_RECORDS: usize = 100_000;
/// The most chunks of a manifest: the root that refers to them fits into one item.
pub(crate) const MAX_CHUNKS: usize = 8_192;
/// The most entries of a chunk, and of the root.
pub(crate) const CHUNK_ENTRIES: usize = 64;
/// A chunk with this few entries takes more when there are more to place.
pub(crate) const REFILL_BELOW: usize = CHUNK_ENTRIES / 2;
/// Entries that the root holds itself.
const INLINE: u64 = 0;
/// The attribute that counts; not there while it is zero.
const ENCRYPTIONS: &str = "encryptions";
const PREFIX_BYTES: usize = 16;
const REFERENCE_BYTES: usize = 8 + PREFIX_BYTES;

const ROOT_ATTRIBUTES: [&str; 12] = [
    "pk",
    "sk",
    "entity_type",
    "updated_at",
    "env",
    "key_id",
    "partition_version",
    "min_env",
    "min_dek",
    ENCRYPTIONS,
    "entries",
    "chunks",
];
const CHUNK_ATTRIBUTES: [&str; 7] = [
    "pk",
    "sk",
    "entity_type",
    "updated_at",
    "env",
    "key_id",
    "entries",
];

/// The first half of a seal: enough to bind a row.
pub(crate) type SealPrefix = [u8; PREFIX_BYTES];

/// The first half of `seal`.
pub(crate) fn prefix(seal: &[u8; 32]) -> SealPrefix {
    seal.first_chunk().copied().unwrap_or_default()
}

/// What the manifest says about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) version: u64,
    pub(crate) seal: SealPrefix,
}

/// A live record, as an open partition remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) listed: Listed,
    pub(crate) created_at: Timestamp,
    /// The version of the data key that its row is under.
    pub(crate) key: u32,
    chunk: u64,
    /// Bytes of its row.
    pub(crate) bytes: usize,
}

/// A chunk's row, as the root binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    seal: SealPrefix,
    /// The version of the data key that it is sealed under.
    key: u32,
}

#[derive(Default)]
struct Chunk {
    /// None before the row is first written.
    row: Option<Bound>,
    keys: BTreeSet<Arc<str>>,
}

/// What holds for a partition besides its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Counts the commits.
    pub(crate) version: u64,
    /// The root's seal, all zero before the first commit.
    pub(crate) seal: [u8; 32],
    pub(crate) min_suite: Suite,
    pub(crate) min_dek: u32,
    /// How many payloads the active data key has encrypted.
    pub(crate) encryptions: u64,
}

/// The manifest of an open partition.
pub(crate) struct Manifest {
    pub(crate) header: Header,
    entries: HashMap<Arc<str>, Entry>,
    records: HashMap<RecordId, Arc<str>>,
    /// By number; [`INLINE`] is the root itself.
    chunks: BTreeMap<u64, Chunk>,
    dirty: BTreeSet<u64>,
    /// Numbers under which there is, or was, a chunk row: also when no root refers to it any more, it may not be swept
    /// yet.
    taken: BTreeSet<u64>,
    /// How many entries are under each data key.
    in_use: BTreeMap<u32, usize>,
    /// Bytes of all live rows.
    bytes: u64,
}

impl Manifest {
    /// That of a partition without any commit. `taken` are the numbers of chunk rows that are there nevertheless.
    pub(crate) fn empty(taken: BTreeSet<u64>) -> Self {
        Self {
            header: Header {
                version: 0,
                seal: [0; 32],
                min_suite: Suite::V1,
                min_dek: 1,
                encryptions: 0,
            },
            entries: HashMap::new(),
            records: HashMap::new(),
            chunks: [(INLINE, Chunk::default())].into(),
            dirty: BTreeSet::new(),
            taken,
            in_use: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// How many bytes the live rows have.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Remembers how many bytes a listed row has.
    pub(crate) fn weigh(&mut self, sk: &str, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(sk) {
            let before = std::mem::replace(&mut entry.bytes, bytes);
            self.bytes = self.bytes.saturating_sub(before as u64);
            self.bytes = self.bytes.saturating_add(bytes as u64);
        }
    }

    /// The sort key and entry of a live record.
    pub(crate) fn find(&self, record: &RecordId) -> Option<(&Arc<str>, &Entry)> {
        let sk = self.records.get(record)?;
        Some((sk, self.entries.get(sk)?))
    }

    /// How many records are live.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many chunks there are besides the root.
    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.len().saturating_sub(1)
    }

    /// An upper bound of the chunks that change when the entries `touched` change and `added` more are placed.
    pub(crate) fn chunks_touched<'a>(
        &self,
        touched: impl Iterator<Item = &'a Arc<str>>,
        added: usize,
    ) -> usize {
        let numbers: BTreeSet<u64> = touched
            .filter_map(|sk| Some(self.entries.get(sk)?.chunk))
            .filter(|number| *number != INLINE)
            .collect();
        let inline = self.entries_of(INLINE).saturating_add(added);
        let spilled = if inline > CHUNK_ENTRIES {
            (inline / REFILL_BELOW).saturating_add(1)
        } else {
            0
        };
        numbers.len().saturating_add(spilled)
    }

    /// Whether an entry or a chunk needs the data key of that version.
    pub(crate) fn needs_key(&self, version: u32) -> bool {
        let mut chunks = self.chunks.values().filter_map(|chunk| chunk.row);
        self.in_use.contains_key(&version) || chunks.any(|row| row.key == version)
    }

    fn oldest_key(&self, active: u32) -> u32 {
        let chunks = self.chunks.values().filter_map(|chunk| chunk.row);
        let keys = chunks
            .map(|row| row.key)
            .chain(self.in_use.keys().next().copied());
        keys.fold(active, u32::min)
    }

    fn count(&mut self, key: u32) {
        let count = self.in_use.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn discount(&mut self, key: u32) {
        if let Some(count) = self.in_use.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_use.remove(&key);
            }
        }
    }

    /// Counts payloads that the active data key has encrypted for no version; says how many it had before.
    pub(crate) fn count_encryptions(&mut self, more: u64) -> u64 {
        let before = self.header.encryptions;
        self.header.encryptions = before.saturating_add(more);
        before
    }

    /// Lists a new row, which is under the data key `key`. Its record must not be listed.
    pub(crate) fn insert(
        &mut self,
        record: RecordId,
        sk: Arc<str>,
        listed: Listed,
        created_at: Timestamp,
        key: u32,
    ) {
        self.records.insert(record, sk.clone());
        self.place(INLINE, sk.clone());
        let entry = Entry {
            listed,
            created_at,
            key,
            chunk: INLINE,
            bytes: 0,
        };
        self.count(key);
        self.entries.insert(sk, entry);
    }

    /// Lists a row anew that was written over under the data key `key`.
    pub(crate) fn update(&mut self, sk: &Arc<str>, listed: Listed, key: u32) {
        let Some(entry) = self.entries.get_mut(sk) else {
            return;
        };
        let before = std::mem::replace(&mut entry.key, key);
        entry.listed = listed;
        self.dirty.insert(entry.chunk);
        self.discount(before);
        self.count(key);
    }

    /// Lists a row no longer.
    pub(crate) fn remove(&mut self, record: &RecordId) {
        let Some(sk) = self.records.remove(record) else {
            return;
        };
        if let Some(entry) = self.entries.remove(&sk) {
            self.bytes = self.bytes.saturating_sub(entry.bytes as u64);
            self.discount(entry.key);
            self.dirty.insert(entry.chunk);
            if let Some(chunk) = self.chunks.get_mut(&entry.chunk) {
                chunk.keys.remove(&sk);
            }
        }
    }

    fn place(&mut self, number: u64, sk: Arc<str>) {
        self.chunks.entry(number).or_default().keys.insert(sk);
        self.dirty.insert(number);
    }

    /// Moves what the root cannot hold into chunks.
    fn spill(&mut self) {
        while self.entries_of(INLINE) > CHUNK_ENTRIES {
            let number = self.roomy_chunk();
            let room = CHUNK_ENTRIES.saturating_sub(self.entries_of(number));
            for sk in self.take_inline(room) {
                if let Some(entry) = self.entries.get_mut(&sk) {
                    entry.chunk = number;
                }
                self.place(number, sk);
            }
        }
    }

    fn entries_of(&self, number: u64) -> usize {
        self.chunks.get(&number).map_or(0, |chunk| chunk.keys.len())
    }

    /// Takes the first `count` entries out of the root: neighbours by type and time, which change together.
    fn take_inline(&mut self, count: usize) -> Vec<Arc<str>> {
        let Some(inline) = self.chunks.get_mut(&INLINE) else {
            return Vec::new();
        };
        let taken: Vec<_> = inline.keys.iter().take(count).cloned().collect();
        for sk in &taken {
            inline.keys.remove(sk);
        }
        taken
    }

    /// The emptiest chunk if it is less than half full, else a new one.
    fn roomy_chunk(&mut self) -> u64 {
        let emptiest = self
            .chunks
            .iter()
            .filter(|(number, _)| **number != INLINE)
            .map(|(number, chunk)| (chunk.keys.len(), *number))
            .min();
        match emptiest {
            Some((entries, number)) if entries < REFILL_BELOW => number,
            _ => self.new_chunk(),
        }
    }

    /// A chunk under the lowest number that has no row. A number is used once: a row under it may still be swept.
    fn new_chunk(&mut self) -> u64 {
        let used = |number: &u64| self.chunks.contains_key(number) || self.taken.contains(number);
        let number = (INLINE + 1..)
            .find(|number| !used(number))
            .unwrap_or(INLINE);
        self.taken.insert(number);
        self.chunks.insert(number, Chunk::default());
        number
    }

    /// The rows that make the changes since the last call the partition's next version.
    ///
    /// With `relocate`, changed chunks get new numbers, so that their rows can be written before the root's.
    pub(crate) fn write(
        &mut self,
        scope: &Scope,
        key: &DataKey,
        now: Timestamp,
        relocate: bool,
    ) -> Written {
        self.spill();
        let mut written = Written::default();
        for number in std::mem::take(&mut self.dirty) {
            if number != INLINE {
                self.write_chunk(scope, key, now, (number, relocate), &mut written);
            }
        }
        self.header.version = self.header.version.saturating_add(1);
        self.header.min_dek = self.oldest_key(key.version);
        let mut root = self.root_row(scope, key, now);
        self.header.seal = root.seal(&key.manifest_key);
        written.root = root;
        written
    }

    fn write_chunk(
        &mut self,
        scope: &Scope,
        key: &DataKey,
        now: Timestamp,
        (number, relocate): (u64, bool),
        written: &mut Written,
    ) {
        let Some(chunk) = self.chunks.get(&number) else {
            return;
        };
        let (empty, old) = (chunk.keys.is_empty(), chunk.row);
        if let Some(row) = old.filter(|_| empty || relocate) {
            let sk = SortKey::Chunk(number).to_string();
            written.dropped.push((sk, row.seal));
        }
        if empty {
            self.chunks.remove(&number);
            return;
        }
        let number = match old {
            Some(_) if relocate => self.relocate(number),
            _ => number,
        };
        written
            .chunks
            .extend(self.chunk_row(scope, key, now, number));
    }

    fn relocate(&mut self, number: u64) -> u64 {
        let to = self.new_chunk();
        if let Some(chunk) = self.chunks.remove(&number) {
            for sk in &chunk.keys {
                if let Some(entry) = self.entries.get_mut(sk) {
                    entry.chunk = to;
                }
            }
            self.chunks.insert(to, chunk);
        }
        to
    }

    fn chunk_row(
        &mut self,
        scope: &Scope,
        key: &DataKey,
        now: Timestamp,
        number: u64,
    ) -> Option<Row> {
        let mut row = header_row(scope, key, now, &SortKey::Chunk(number).to_string());
        row.set_bytes("entries", self.encode(self.chunks.get(&number)?));
        let seal = row.seal(&key.manifest_key);
        self.chunks.get_mut(&number)?.row = Some(Bound {
            seal: prefix(&seal),
            key: key.version,
        });
        Some(row)
    }

    fn root_row(&self, scope: &Scope, key: &DataKey, now: Timestamp) -> Row {
        let mut row = header_row(scope, key, now, ROOT);
        row.set_integer("partition_version", self.header.version);
        row.set_integer("min_env", u64::from(self.header.min_suite.byte()));
        row.set_integer("min_dek", u64::from(self.header.min_dek));
        if self.header.encryptions > 0 {
            row.set_integer(ENCRYPTIONS, self.header.encryptions);
        }
        let inline = self.chunks.get(&INLINE).map(|chunk| self.encode(chunk));
        row.set_bytes("entries", inline.unwrap_or_default());
        let mut references = Vec::with_capacity(self.chunks.len() * REFERENCE_BYTES);
        for (number, chunk) in &self.chunks {
            if let Some(row) = chunk.row {
                references.extend_from_slice(&number.to_be_bytes());
                references.extend_from_slice(&row.seal);
            }
        }
        row.set_bytes("chunks", references);
        row
    }

    fn encode(&self, chunk: &Chunk) -> Vec<u8> {
        let mut out = Vec::new();
        for sk in &chunk.keys {
            if let Some(Entry { listed, .. }) = self.entries.get(sk) {
                lp(&mut out, sk.as_bytes());
                out.extend_from_slice(&listed.version.to_be_bytes());
                out.extend_from_slice(&listed.seal);
            }
        }
        out
    }
}

/// The rows of one new version of a manifest.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) root: Row,
    /// Chunks that are new or changed.
    pub(crate) chunks: Vec<Row>,
    /// Sort key and seal of chunk rows that the new root does not refer to.
    pub(crate) dropped: Vec<(String, SealPrefix)>,
}

fn header_row(scope: &Scope, key: &DataKey, now: Timestamp, sk: &str) -> Row {
    let mut row = Row::new(&scope.key.to_string(), sk, ROOT);
    row.set_text("updated_at", time(now));
    row.set_integer("env", u64::from(Suite::CURRENT.byte()));
    row.set_text("key_id", key_id(&scope.key.id, key.version));
    row
}

/// A root row whose seal holds.
pub(crate) struct VerifiedRoot {
    pub(crate) header: Header,
    /// The version of the active data key.
    pub(crate) key: u32,
    entries: Vec<(Arc<str>, Listed)>,
    /// The chunks it refers to.
    pub(crate) chunks: BTreeMap<u64, SealPrefix>,
}

impl VerifiedRoot {
    pub(crate) fn open(scope: &Scope, keyring: &Keyring, row: &Row) -> Result<Self, Check> {
        let seal = check_row(scope, keyring, row, &SortKey::Root, &ROOT_ATTRIBUTES)?;
        let min_suite = Suite::parse(row.integer("min_env")?).ok_or(Check::Attributes)?;
        let min_dek = u32::try_from(row.integer("min_dek")?).map_err(|_| Check::Attributes)?;
        let header = Header {
            version: row.integer("partition_version")?,
            seal,
            min_suite,
            min_dek,
            encryptions: counted(row)?,
        };
        let key = keyring.named(row.text("key_id")?)?.version;
        if key < min_dek {
            return Err(Check::Manifest);
        }
        let chunks = decode_references(row.bytes("chunks")?).ok_or(Check::Manifest)?;
        let entries = decode_entries(row.bytes("entries")?).ok_or(Check::Manifest)?;
        Ok(Self {
            header,
            key,
            entries,
            chunks,
        })
    }

    /// Whether `row` is a chunk of this partition, of whatever version.
    pub(crate) fn is_chunk(scope: &Scope, keyring: &Keyring, row: &Row, number: u64) -> bool {
        check_row(
            scope,
            keyring,
            row,
            &SortKey::Chunk(number),
            &CHUNK_ATTRIBUTES,
        )
        .is_ok()
    }

    /// All live rows: `chunk_row` gives the row of each chunk.
    pub(crate) fn listing<'a>(
        self,
        scope: &Scope,
        keyring: &Keyring,
        chunk_row: impl Fn(u64) -> Option<&'a Row>,
    ) -> Result<Listing, Check> {
        let mut listing = Listing {
            header: self.header,
            chunks: BTreeMap::new(),
            rows: HashMap::new(),
        };
        listing.add(INLINE, self.entries)?;
        for (number, seal) in self.chunks {
            let row = chunk_row(number).ok_or(Check::Manifest)?;
            let sk = SortKey::Chunk(number);
            let found = check_row(scope, keyring, row, &sk, &CHUNK_ATTRIBUTES)?;
            let key = keyring.named(row.text("key_id")?)?.version;
            if prefix(&found) != seal || key < self.header.min_dek {
                return Err(Check::Manifest);
            }
            listing.chunks.insert(number, Bound { seal, key });
            let entries = decode_entries(row.bytes("entries")?).ok_or(Check::Manifest)?;
            listing.add(number, entries)?;
        }
        Ok(listing)
    }
}

/// A row that is there and is the one that is listed.
pub(crate) struct Live {
    pub(crate) sk: Arc<str>,
    pub(crate) record: RecordId,
    pub(crate) created_at: Timestamp,
    /// The version of the data key that it is under.
    pub(crate) key: u32,
    /// Bytes of its row.
    pub(crate) bytes: usize,
}

/// The live rows of a partition, by sort key.
pub(crate) struct Listing {
    header: Header,
    chunks: BTreeMap<u64, Bound>,
    rows: HashMap<Arc<str>, (Listed, u64)>,
}

impl Listing {
    fn add(&mut self, chunk: u64, entries: Vec<(Arc<str>, Listed)>) -> Result<(), Check> {
        for (sk, listed) in entries {
            if self.rows.insert(sk, (listed, chunk)).is_some() {
                return Err(Check::Manifest);
            }
        }
        if self.rows.len() > MAX_PARTITION_RECORDS {
            return Err(Check::Manifest);
        }
        Ok(())
    }

    /// How many rows are live.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What is said about every live row, by its sort key.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Arc<str>, Listed)> {
        self.rows.iter().map(|(sk, (listed, _))| (sk, *listed))
    }

    /// The manifest to go on from; `live` gives what every row is.
    pub(crate) fn into_manifest(
        self,
        taken: BTreeSet<u64>,
        live: impl Iterator<Item = Live>,
    ) -> Manifest {
        let mut manifest = Manifest::empty(taken);
        manifest.header = self.header;
        for (number, row) in self.chunks {
            let chunk = manifest.chunks.entry(number).or_default();
            chunk.row = Some(row);
            manifest.taken.insert(number);
        }
        for Live {
            sk,
            record,
            created_at,
            key,
            bytes,
        } in live
        {
            let Some((listed, chunk)) = self.rows.get(&sk).copied() else {
                continue;
            };
            manifest.place(chunk, sk.clone());
            manifest.records.insert(record, sk.clone());
            manifest.count(key);
            let entry = Entry {
                listed,
                created_at,
                key,
                chunk,
                bytes,
            };
            manifest.bytes = manifest.bytes.saturating_add(bytes as u64);
            manifest.entries.insert(sk, entry);
        }
        manifest.dirty.clear();
        manifest
    }
}

/// Checks the attributes that root and chunks share, and the seal.
fn check_row(
    scope: &Scope,
    keyring: &Keyring,
    row: &Row,
    key: &SortKey,
    names: &[&str],
) -> Result<[u8; 32], Check> {
    let names: Vec<&str> = names.iter().copied().chain([SEAL]).collect();
    row.only(&names)?;
    if row.text("pk")? != scope.key.to_string() || row.text("sk")? != key.to_string() {
        return Err(Check::Address);
    }
    if row.text("entity_type")? != ROOT {
        return Err(Check::Address);
    }
    Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?;
    parse_time(row.text("updated_at")?).ok_or(Check::Attributes)?;
    row.bytes("entries")?;
    row.check_seal(&keyring.named(row.text("key_id")?)?.manifest_key)
}

fn counted(row: &Row) -> Result<u64, Check> {
    if !row.0.contains_key(ENCRYPTIONS) {
        return Ok(0);
    }
    row.integer(ENCRYPTIONS)
}

fn decode_references(mut bytes: &[u8]) -> Option<BTreeMap<u64, SealPrefix>> {
    let mut chunks = BTreeMap::new();
    while !bytes.is_empty() {
        let number = u64::from_be_bytes(take(&mut bytes)?);
        if number == INLINE
            || chunks
                .last_key_value()
                .is_some_and(|(last, _)| *last >= number)
        {
            return None;
        }
        chunks.insert(number, take(&mut bytes)?);
    }
    (chunks.len() <= MAX_CHUNKS).then_some(chunks)
}

fn decode_entries(mut bytes: &[u8]) -> Option<Vec<(Arc<str>, Listed)>> {
    let mut entries: Vec<(Arc<str>, Listed)> = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32::from_be_bytes(take(&mut bytes)?)).ok()?;
        let (sk, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let sk: Arc<str> = std::str::from_utf8(sk).ok()?.into();
        let version = u64::from_be_bytes(take(&mut bytes)?);
        let seal = take(&mut bytes)?;
        if entries.last().is_some_and(|(last, _)| *last >= sk) {
            return None;
        }
        entries.push((sk, Listed { version, seal }));
    }
    (entries.len() <= CHUNK_ENTRIES).then_some(entries)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::keyring::Kept;
    use crate::keys::DekHandle;
    use crate::name::Place;
    use crate::row::Attribute;
    use crate::{Id, Kind, PartitionKey};

    fn scope() -> Scope {
        Scope {
            store: "s1".to_owned(),
            key: PartitionKey {
                kind: Kind::JOB,
                id: Id::parse("j1").unwrap(),
            },
        }
    }

    fn data_key() -> DataKey {
        DataKey::new(1, DekHandle::new(Zeroizing::new([7; 32]))).unwrap()
    }

    fn keyring() -> Keyring {
        let mut keyring = Keyring::empty(&scope());
        keyring.add(data_key().into(), Kept::default());
        keyring
    }

    fn place(id: usize) -> Place {
        let record = RecordId::new("task", &format!("t{id}")).unwrap();
        Place::new(record, Timestamp::UNIX_EPOCH)
    }

    fn listed(id: usize, version: u64) -> Listed {
        let mut seal = SealPrefix::default();
        seal[..8].copy_from_slice(&(id as u64).to_be_bytes());
        seal[8..].copy_from_slice(&version.to_be_bytes());
        Listed { version, seal }
    }

    fn insert(manifest: &mut Manifest, id: usize) {
        let Place { record, at } = place(id);
        let sk = place(id).sort_key().into();
        manifest.insert(record, sk, listed(id, 1), at, 1);
    }

    /// The rows of a table.
    #[derive(Default)]
    struct Rows {
        root: Row,
        chunks: BTreeMap<String, Row>,
    }

    impl Rows {
        fn write(&mut self, manifest: &mut Manifest, relocate: bool) -> usize {
            let written = manifest.write(&scope(), &data_key(), Timestamp::UNIX_EPOCH, relocate);
            let count = written.chunks.len();
            self.root = written.root;
            for row in written.chunks {
                let sk = row.text("sk").unwrap().to_owned();
                let replaced = self.chunks.insert(sk, row);
                assert!(
                    !relocate || replaced.is_none(),
                    "a staged chunk is a new row"
                );
            }
            for (sk, seal) in written.dropped {
                let row = self.chunks.remove(&sk).unwrap();
                assert_eq!(prefix(&row.array(SEAL).unwrap()), seal);
            }
            count
        }

        fn read(&self) -> Result<BTreeMap<String, Listed>, Check> {
            let root = VerifiedRoot::open(&scope(), &keyring(), &self.root)?;
            assert_eq!(root.chunks.len(), self.chunks.len());
            let listing = root.listing(&scope(), &keyring(), |number| {
                self.chunks.get(&SortKey::Chunk(number).to_string())
            })?;
            Ok(listing
                .rows()
                .map(|(sk, listed)| (sk.to_string(), listed))
                .collect())
        }
    }

    fn filled(records: usize) -> (Manifest, Rows) {
        let (mut manifest, mut rows) = (Manifest::empty(BTreeSet::new()), Rows::default());
        for id in 0..records {
            insert(&mut manifest, id);
        }
        rows.write(&mut manifest, false);
        (manifest, rows)
    }

    #[test]
    fn a_chunk_is_told_from_every_other_row_by_its_place_and_its_seal() {
        let (_, rows) = filled(2 * CHUNK_ENTRIES);
        let (sk, row) = rows.chunks.first_key_value().unwrap();
        let Some(SortKey::Chunk(number)) = SortKey::parse(sk) else {
            panic!("{sk}");
        };
        let is_chunk =
            |row: &Row, number| VerifiedRoot::is_chunk(&scope(), &keyring(), row, number);
        assert!(is_chunk(row, number));
        assert!(!is_chunk(row, number + 1) && !is_chunk(&rows.root, number));
        let mut changed = row.clone();
        changed.set_bytes("entries", Vec::new());
        assert!(!is_chunk(&changed, number));
    }

    #[test]
    fn as_many_rows_are_listed_as_a_partition_has_records_and_they_are_counted() {
        let mut listing = Listing {
            header: Manifest::empty(BTreeSet::new()).header,
            chunks: BTreeMap::new(),
            rows: HashMap::new(),
        };
        let entry = |id: usize| (Arc::from(format!("task#{id}")), listed(id, 1));
        listing.add(INLINE, (0..3).map(entry).collect()).unwrap();
        assert_eq!(listing.len(), 3);
        let most = (3..MAX_PARTITION_RECORDS).map(entry).collect();
        listing.add(1, most).unwrap();
        assert_eq!(listing.len(), MAX_PARTITION_RECORDS);
        let one_more = vec![entry(MAX_PARTITION_RECORDS)];
        assert_eq!(listing.add(2, one_more), Err(Check::Manifest));
    }

    #[test]
    fn small_partitions_have_no_chunks() {
        let (mut manifest, mut rows) = filled(CHUNK_ENTRIES);
        assert_eq!(
            (rows.chunks.len(), rows.read().unwrap().len()),
            (0, CHUNK_ENTRIES)
        );
        insert(&mut manifest, CHUNK_ENTRIES);
        rows.write(&mut manifest, false);
        assert_eq!(
            (rows.chunks.len(), rows.read().unwrap().len()),
            (1, CHUNK_ENTRIES + 1)
        );
    }

    fn numbers(rows: &Rows) -> Vec<&str> {
        rows.chunks.keys().map(String::as_str).collect()
    }

    fn sk(id: usize) -> Arc<str> {
        place(id).sort_key().into()
    }

    /// The ids that one chunk row lists.
    fn ids_in(rows: &Rows, name: &str) -> Vec<usize> {
        let entries = decode_entries(rows.chunks[name].bytes("entries").unwrap()).unwrap();
        let id = |sk: &str| sk.rsplit_once("#t").unwrap().1.parse().unwrap();
        entries.iter().map(|(sk, _)| id(sk)).collect()
    }

    #[test]
    fn a_number_under_which_a_chunk_lies_or_lay_is_not_used_again() {
        let (mut manifest, mut rows) = (Manifest::empty([1, 3].into()), Rows::default());
        for id in 0..3 * CHUNK_ENTRIES {
            insert(&mut manifest, id);
        }
        rows.write(&mut manifest, false);
        assert_eq!(numbers(&rows), ["manifest#02", "manifest#04"]);
        assert_eq!(manifest.chunk_count(), 2);

        let moved = ids_in(&rows, "manifest#02")[0];
        manifest.update(&sk(moved), listed(moved, 2), 1);
        rows.write(&mut manifest, true);
        assert_eq!(numbers(&rows), ["manifest#04", "manifest#05"]);
        for id in ids_in(&rows, "manifest#04") {
            manifest.remove(&place(id).record);
        }
        rows.write(&mut manifest, false);
        assert_eq!(numbers(&rows), ["manifest#05"]);
        for id in 1_000..1_000 + CHUNK_ENTRIES {
            insert(&mut manifest, id);
        }
        rows.write(&mut manifest, false);
        assert_eq!(numbers(&rows), ["manifest#05", "manifest#06"]);
    }

    #[test]
    fn a_chunk_is_filled_up_when_it_is_less_than_half_full() {
        for (left, expected) in [(REFILL_BELOW, 3), (REFILL_BELOW - 1, 2)] {
            let (mut manifest, mut rows) = filled(3 * CHUNK_ENTRIES);
            let emptied = ids_in(&rows, "manifest#02");
            for id in emptied.iter().skip(left) {
                manifest.remove(&place(*id).record);
            }
            rows.write(&mut manifest, false);
            insert(&mut manifest, 1_000);
            assert_eq!(rows.write(&mut manifest, false), 1);
            assert_eq!(rows.chunks.len(), expected, "{left}");
            if expected == 2 {
                assert_eq!(ids_in(&rows, "manifest#02").len(), CHUNK_ENTRIES);
            }
        }
    }

    #[test]
    fn what_a_commit_writes_is_known_before_it_is_written() {
        let (mut manifest, mut rows) = filled(CHUNK_ENTRIES - 1);
        let inline = sk(0);
        assert_eq!(manifest.chunks_touched([].iter(), 1), 0);
        assert_eq!(manifest.chunks_touched([&inline].into_iter(), 1), 0);
        let spilled = CHUNK_ENTRIES / REFILL_BELOW + 1;
        assert_eq!(manifest.chunks_touched([].iter(), 2), spilled);
        for id in CHUNK_ENTRIES..3 * CHUNK_ENTRIES + 1 {
            insert(&mut manifest, id);
        }
        rows.write(&mut manifest, false);

        let [one, two] = ["manifest#01", "manifest#02"].map(|name| ids_in(&rows, name));
        let touched = |manifest: &Manifest, ids: &[usize], added| {
            let touched: Vec<_> = ids.iter().map(|id| sk(*id)).collect();
            manifest.chunks_touched(touched.iter(), added)
        };
        assert_eq!(touched(&manifest, &one, 0), 1);
        assert_eq!(touched(&manifest, &[one[0], two[0]], 0), 2);
        assert_eq!(touched(&manifest, &[one[0], two[0]], 1), 2 + spilled);
        assert_eq!(touched(&manifest, &[9_999], 0), 0);
        for id in [one[0], two[0]] {
            manifest.update(&sk(id), listed(id, 2), 1);
        }
        insert(&mut manifest, 9_999);
        assert!(rows.write(&mut manifest, false) <= 2 + spilled);
    }

    #[test]
    fn one_change_writes_one_chunk() {
        let (mut manifest, mut rows) = filled(1_000);
        let sk: Arc<str> = place(500).sort_key().into();
        manifest.update(&sk, listed(500, 2), 1);
        assert_eq!(rows.write(&mut manifest, false), 1);
        insert(&mut manifest, 1_000);
        assert_eq!(rows.write(&mut manifest, false), 0);
        assert_eq!(rows.read().unwrap().len(), 1_001);
    }

    #[test]
    fn chunks_stay_few_when_most_records_go_and_others_come() {
        let (mut manifest, mut rows) = filled(2_000);
        for round in 1..20 {
            for id in (round - 1) * 2_000..round * 2_000 {
                if id % 16 != 0 {
                    manifest.remove(&place(id).record);
                }
            }
            for id in round * 2_000..(round + 1) * 2_000 {
                insert(&mut manifest, id);
            }
            rows.write(&mut manifest, round % 2 == 0);
        }
        let found = rows.read().unwrap().len();
        assert!(
            rows.chunks.len() <= 2 * found / CHUNK_ENTRIES + 2,
            "{}",
            rows.chunks.len()
        );
    }

    #[test]
    fn any_changed_byte_of_root_or_chunk_is_refused() {
        let (_, rows) = filled(2 * CHUNK_ENTRIES + 5);
        let names = std::iter::once(None).chain(rows.chunks.keys().cloned().map(Some));
        let mut changes = 0;
        for name in names {
            let row = name.as_ref().map_or(&rows.root, |name| &rows.chunks[name]);
            for (attribute, value) in &row.0 {
                let size = match value {
                    Attribute::Text(text) | Attribute::Number(text) => text.len(),
                    Attribute::Bytes(bytes) => bytes.len(),
                    other => panic!("{other:?}"),
                };
                for at in 0..size {
                    let mut row = row.clone();
                    match row.0.get_mut(attribute).unwrap() {
                        Attribute::Text(text) | Attribute::Number(text) => {
                            let other = if text.as_bytes()[at] == b'9' {
                                "8"
                            } else {
                                "9"
                            };
                            text.replace_range(at..=at, other);
                        }
                        Attribute::Bytes(bytes) => bytes[at] ^= 1,
                        other => panic!("{other:?}"),
                    }
                    let mut changed = Rows {
                        root: rows.root.clone(),
                        chunks: rows.chunks.clone(),
                    };
                    match &name {
                        None => changed.root = row,
                        Some(name) => drop(changed.chunks.insert(name.clone(), row)),
                    }
                    assert!(changed.read().is_err(), "{name:?} {attribute} {at}");
                    changes += 1;
                }
            }
        }
        println!("byte-flip matrix: a root and its 2 chunks: {changes} bytes changed, 0 accepted");
        assert_eq!((rows.chunks.len(), changes > 5_000), (2, true));
    }

    #[test]
    fn a_root_that_lists_a_record_twice_is_refused() {
        let (_, rows) = filled(CHUNK_ENTRIES + 1);
        let chunk = rows.chunks.values().next().unwrap();
        let mut root = rows.root.clone();
        root.set_bytes("entries", chunk.bytes("entries").unwrap());
        root.seal(&data_key().manifest_key);
        let twice = Rows { root, ..rows };
        assert_eq!(twice.read().unwrap_err(), Check::Manifest);
    }

    #[test]
    fn a_root_that_was_sealed_for_another_place_is_refused() {
        for (name, value) in [
            ("pk", "job#j2"),
            ("sk", "manifest#01"),
            ("entity_type", "meta"),
        ] {
            let (_, mut rows) = filled(1);
            rows.root.set_text(name, value);
            rows.root.seal(&data_key().manifest_key);
            assert_eq!(rows.read().unwrap_err(), Check::Address, "{name}");
        }
    }

    #[test]
    fn a_root_below_its_own_key_floor_is_refused() {
        let (_, mut rows) = filled(1);
        rows.root.set_integer("min_dek", 2);
        rows.root.seal(&data_key().manifest_key);
        assert_eq!(rows.read().unwrap_err(), Check::Manifest);
    }

    #[test]
    fn entries_and_references_out_of_order_or_too_many_are_refused() {
        let entry = |sk: &str| {
            let mut out = Vec::new();
            lp(&mut out, sk.as_bytes());
            out.extend_from_slice(&[0; 24]);
            out
        };
        assert!(decode_entries(&[entry("a"), entry("b")].concat()).is_some());
        assert!(decode_entries(&[entry("b"), entry("a")].concat()).is_none());
        assert!(decode_entries(&[entry("a"), entry("a")].concat()).is_none());
        let many = |count: usize| {
            (0..count)
                .map(|id| entry(&format!("{id:05}")))
                .collect::<Vec<_>>()
                .concat()
        };
        assert!(decode_entries(&many(CHUNK_ENTRIES)).is_some());
        assert!(decode_entries(&many(CHUNK_ENTRIES + 1)).is_none());
        let references = |numbers: &[u64]| {
            let parts = numbers
                .iter()
                .map(|number| [&number.to_be_bytes()[..], &[0; 16]].concat());
            decode_references(&parts.collect::<Vec<_>>().concat())
        };
        assert!(references(&[1, 2]).is_some() && references(&[]).is_some());
        assert!(references(&[2, 1]).is_none() && references(&[1, 1]).is_none());
        assert!(references(&[INLINE]).is_none());
        let numbers: Vec<u64> = (1..=MAX_CHUNKS as u64 + 1).collect();
        assert!(references(&numbers[1..]).is_some() && references(&numbers).is_none());
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_gives_nothing_or_what_encodes_to_them(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(entries) = decode_entries(&bytes) {
                let mut again = Vec::new();
                for (sk, listed) in entries {
                    lp(&mut again, sk.as_bytes());
                    again.extend_from_slice(&listed.version.to_be_bytes());
                    again.extend_from_slice(&listed.seal);
                }
                prop_assert_eq!(&again, &bytes);
            }
            if let Some(chunks) = decode_references(&bytes) {
                prop_assert_eq!(chunks.len() * REFERENCE_BYTES, bytes.len());
            }
        }

        #[test]
        fn what_was_listed_is_read(
            steps in prop::collection::vec(
                (prop::collection::vec((0_usize..400, 0_u8..3), 0..150), any::<bool>()),
                1..8,
            ),
        ) {
            let (mut manifest, mut rows) = (Manifest::empty(BTreeSet::new()), Rows::default());
            let mut model = BTreeMap::new();
            for (version, (changes, relocate)) in (2..).zip(steps) {
                for (id, change) in changes {
                    let sk: Arc<str> = place(id).sort_key().into();
                    match (change, model.contains_key(&*sk)) {
                        (0, true) => {
                            manifest.remove(&place(id).record);
                            model.remove(&*sk);
                        }
                        (_, true) => {
                            manifest.update(&sk, listed(id, version), 1);
                            model.insert(sk.to_string(), listed(id, version));
                        }
                        (_, false) => {
                            insert(&mut manifest, id);
                            model.insert(sk.to_string(), listed(id, 1));
                        }
                    }
                }
                rows.write(&mut manifest, relocate);
                prop_assert_eq!(rows.read().unwrap(), model.clone());
                prop_assert_eq!(manifest.len(), model.len());
            }
        }
    }
}
