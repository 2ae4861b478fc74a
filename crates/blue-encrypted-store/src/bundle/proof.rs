//! Whether rows are a whole partition: each is what was written, and together they are what the manifest lists.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use worldcompute_fault::Result;

use super::codec::Reader;
use super::malformed;
use crate::check::Check;
use crate::keyring::{Keyring, MAX_DATA_KEYS, Wrapping};
use crate::manifest::{Header, Listed, VerifiedRoot};
use crate::name::{ROOT, RecordId, SortKey};
use crate::reader::is_current;
use crate::record::{Scope, VerifiedRow, verify};
use crate::row::Row;
use crate::task::blocking;

/// What a partition's keys and manifest say of its records.
pub(super) struct Proof {
    pub(super) scope: Scope,
    pub(super) keyring: Arc<Keyring>,
    pub(super) header: Header,
    /// The records, in the order of their sort keys.
    listed: Vec<(Arc<str>, Listed)>,
    next: usize,
    seen: HashSet<RecordId>,
}

/// The rows that come before records.
pub(super) struct Frame {
    pub(super) keys: Vec<Row>,
    pub(super) root: Row,
    pub(super) chunks: BTreeMap<u64, Row>,
}

impl Frame {
    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        self.keys.len() + 1 + self.chunks.len()
    }

    /// The rows in the order of a bundle.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let root = std::iter::once(&self.root);
        self.keys.iter().chain(root).chain(self.chunks.values())
    }

    /// Takes it from a bundle. The reader goes on behind it.
    pub(super) async fn read(
        mut reader: Reader,
        scope: &Scope,
        wrapping: &Wrapping<'_>,
    ) -> Result<(Reader, Self, Proof)> {
        let (mut reader, keys, root) = blocking(move || {
            let (mut keys, mut last) = (Vec::new(), 0);
            loop {
                let row = reader.row()?.ok_or_else(no_manifest)?;
                match row.text("sk").ok().and_then(SortKey::parse) {
                    Some(SortKey::Dek(version)) if version > last && keys.len() < MAX_DATA_KEYS => {
                        keys.push(row);
                        last = version;
                    }
                    Some(SortKey::Root) => return Ok((reader, keys, row)),
                    _ => return Err(malformed("its rows are in another order")),
                }
            }
        })
        .await?;
        let keyring = Arc::new(wrapping.open(scope, keys.clone()).await?);
        let opened = VerifiedRoot::open(scope, &keyring, &root)
            .map_err(|check| broken_manifest(scope, check))?;
        let numbers: Vec<u64> = opened.chunks.keys().copied().collect();
        let (reader, chunks) = blocking(move || {
            let mut chunks = BTreeMap::new();
            for number in numbers {
                let row = reader.row()?.ok_or_else(no_manifest)?;
                chunks.insert(number, row);
            }
            Ok((reader, chunks))
        })
        .await?;
        let frame = Self { keys, root, chunks };
        let proof = Proof::new(scope, keyring, opened, &frame.chunks)?;
        Ok((reader, frame, proof))
    }
}

impl Proof {
    pub(super) fn new(
        scope: &Scope,
        keyring: Arc<Keyring>,
        root: VerifiedRoot,
        chunks: &BTreeMap<u64, Row>,
    ) -> Result<Self> {
        let header = root.header;
        let listing = root
            .listing(scope, &keyring, |number| chunks.get(&number))
            .map_err(|check| broken_manifest(scope, check))?;
        let rows = listing.rows();
        let mut listed: Vec<_> = rows.map(|(sk, listed)| (sk.clone(), listed)).collect();
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self {
            scope: scope.clone(),
            keyring,
            header,
            listed,
            next: 0,
            seen: HashSet::new(),
        })
    }

    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        self.listed.len()
    }

    /// Whether the manifest lists a row.
    pub(super) fn lists(&self, sk: &str) -> bool {
        let found = self
            .listed
            .binary_search_by(|(listed, _)| (**listed).cmp(sk));
        found.is_ok()
    }

    /// Takes the next record, which has to be the next that is listed.
    pub(super) fn record(&mut self, row: Row) -> Result<VerifiedRow> {
        let sk = row.text("sk").unwrap_or_default().to_owned();
        let failed =
            |check: Check, why: &str| check.failed(format_args!("{}: {sk}", self.scope.key), why);
        let expected = self.listed.get(self.next);
        let Some((_, listed)) = expected.filter(|(listed, _)| **listed == *sk) else {
            return Err(failed(
                Check::Manifest,
                "another record belongs in its place",
            ));
        };
        let row = verify(&self.scope, &self.keyring, row)
            .map_err(|check| failed(check, "the record is not as it was written"))?;
        if !is_current(&row, *listed, self.header) {
            return Err(failed(
                Check::Manifest,
                "this is not the record's current version",
            ));
        }
        if !self.seen.insert(row.place.record.clone()) {
            return Err(failed(Check::Manifest, "the record is listed twice"));
        }
        self.next = self.next.saturating_add(1);
        Ok(row)
    }

    /// Whether all that is listed was there.
    pub(super) fn end(&self) -> Result<()> {
        match self.listed.get(self.next) {
            None => Ok(()),
            Some((sk, _)) => Err(Check::Manifest.failed(
                format_args!("{}: {sk}", self.scope.key),
                "the record is missing",
            )),
        }
    }

    /// Begins anew, for another reading of the same rows.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
        self.seen.clear();
    }
}

fn no_manifest() -> worldcompute_fault::Fault {
    malformed("it has no manifest")
}

pub(super) fn broken_manifest(scope: &Scope, check: Check) -> worldcompute_fault::Fault {
    let place = format!("{}: {ROOT}", scope.key);
    check.failed(place, "the manifest is not as it was written")
}
