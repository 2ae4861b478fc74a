//! From a partition to a bundle.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use super::codec::{Header, encode_row};
use super::proof::{Frame, Proof, broken_manifest};
use super::sheet::Sheet;
use super::{BundleInfo, key_of};
use crate::Partition;
use crate::anchor::{Mark, check_floor};
use crate::audit::{Draft, Operation};
use crate::check::Check;
use crate::crypto::hmac_key;
use crate::erasure::refuse_erased;
use crate::keyring::MAX_DATA_KEYS;
use crate::manifest::VerifiedRoot;
use crate::name::{ROOT, SortKey};
use crate::partition::Shared;
use crate::row::Row;
use crate::table::{Order, Page};
use crate::task::blocking;

/// How often a partition is read anew that others change meanwhile.
const MAX_ATTEMPTS: usize = 8;
/// Rows that are read at a time; a page has at most 1 MB.
const PAGE: usize = 500;

impl Partition {
    /// Writes the partition, verified row by row, as a bundle to `path`, which appears whole or not at all, for this user
    /// alone. That it was exported is on record before it has its name.
    ///
    /// Whoever has the bundle and the master key can read it, also after the partition was erased, until the epoch
    /// that its data keys are wrapped under is retired. What is in it is visible as it is in the table: names, times,
    /// sizes, cleartext fields.
    ///
    /// # Errors
    /// `already_exists` when something has the path; `partition_not_found`, `partition_erased`; those of [`Partition::load`]; those of writing the file; the audit's.
    pub async fn export(&self, path: &Path) -> Result<BundleInfo> {
        let metrics = &self.0.store.metrics;
        metrics.of("export", self.export_whole(path)).await
    }

    async fn export_whole(&self, path: &Path) -> Result<BundleInfo> {
        let shared = &*self.0;
        check_free(path)?;
        shared.store.check_lease().await?;
        shared.store.audit.settle(shared.lane()).await?;
        let mut attempts = 0;
        loop {
            let Some(root) = shared.root().await? else {
                return Err(not_found(shared));
            };
            refuse_erased(&shared.store, &shared.scope, Some(&root)).await?;
            attempts += 1;
            match shared.export(root.clone(), path).await {
                // Pages are read one after another: a commit in between looks like tampering.
                Err(_)
                    if attempts < MAX_ATTEMPTS && shared.root().await?.as_ref() != Some(&root) => {}
                exported => return exported,
            }
        }
    }
}

impl Shared {
    async fn root(&self) -> Result<Option<Row>> {
        let pk = self.scope.key.to_string();
        self.store.table.get(&pk, ROOT).await
    }

    async fn export(&self, root: Row, path: &Path) -> Result<BundleInfo> {
        let (frame, proof) = self.frame(root).await?;
        self.check_age(&proof)?;
        let (key, check) = key_of(&self.store.keks).await?;
        let owner = &self.store.keks.owner;
        let records = proof.records();
        let header = Header {
            store: owner.store.clone(),
            tenant: owner.tenant.clone(),
            user: owner.user.clone(),
            epoch: self.store.row().epochs.current,
            check,
            partition: self.scope.key.clone(),
            version: proof.header.version,
            created_at: self.store.sources.tick(),
            rows: frame.len().saturating_add(records) as u64,
        };
        let mut head = header.encode();
        for row in frame.rows() {
            head.extend_from_slice(&encode_row(row)?);
        }
        let sheet = Sheet::begin(path, &hmac_key(&key)).put(head).await?;
        let sheet = self.write_records(sheet, proof).await?;
        if self.root().await?.as_ref() != Some(&frame.root) {
            return Err(self.contended());
        }
        self.finish(sheet, header, records).await
    }

    /// Records that the bundle is made, and gives it its name.
    async fn finish(&self, sheet: Sheet, header: Header, records: usize) -> Result<BundleInfo> {
        let (sealed, mac) = sheet.seal().await?;
        let info = BundleInfo::of(&header, sealed.bytes(), &mac);
        let key_id = format!("export#{}#{}#{}", info.partition, info.version, info.mac);
        let event = Draft::new(Operation::Boundary, key_id).times(records);
        self.store.audit.append(self.lane(), event).await?;
        sealed.commit().await?;
        Ok(info)
    }

    /// Data keys, root and chunks, verified.
    async fn frame(&self, root: Row) -> Result<(Frame, Proof)> {
        let (scope, store) = (&*self.scope, &self.store);
        let keys = store
            .table
            .data_keys(&scope.key.to_string(), MAX_DATA_KEYS)
            .await?;
        let keyring = Arc::new(store.wrapping().open(scope, keys.clone()).await?);
        let opened = VerifiedRoot::open(scope, &keyring, &root)
            .map_err(|check| broken_manifest(scope, check))?;
        let mut chunks = BTreeMap::new();
        for number in opened.chunks.keys() {
            let sk = SortKey::Chunk(*number).to_string();
            let row = store.table.get(&scope.key.to_string(), &sk).await?;
            let row = row.ok_or_else(|| broken_manifest(scope, Check::Manifest))?;
            chunks.insert(*number, row);
        }
        let proof = Proof::new(scope, keyring, opened, &chunks)?;
        Ok((Frame { keys, root, chunks }, proof))
    }

    fn check_age(&self, proof: &Proof) -> Result<()> {
        let floor = self.store.anchor.mark(&self.scope.key.to_string());
        let found = Mark::new(proof.header.version, &proof.header.seal);
        check_floor(&self.scope.key, floor.as_ref(), &found)
    }

    /// Appends the live records, in the order of their sort keys.
    async fn write_records(&self, mut sheet: Sheet, mut proof: Proof) -> Result<Sheet> {
        let pk = self.scope.key.to_string();
        let mut after: Option<String> = None;
        loop {
            let table = &self.store.table;
            let page = table.page(&pk, Order::Forward, after.as_deref(), PAGE);
            let Page { rows, more } = page.await?;
            after = rows.last().map(|(sk, _)| sk.clone());
            let (next, piece) = blocking(move || piece_of(proof, rows)).await?;
            proof = next;
            if !piece.is_empty() {
                sheet = sheet.put(piece).await?;
            }
            if !more || after.is_none() {
                proof.end()?;
                return Ok(sheet);
            }
        }
    }
}

/// An export replaces nothing: the path may be that of a key, for a slip of the hand.
fn check_free(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} exists already", path.display());
    Err(
        Fault::new(Category::InvalidInput, "already_exists", message)
            .hint("remove it or choose another path"),
    )
}

/// The live ones of these rows, verified.
fn piece_of(mut proof: Proof, rows: Vec<(String, Result<Row, Check>)>) -> Result<(Proof, Vec<u8>)> {
    let mut piece = Vec::new();
    for (sk, row) in rows {
        if proof.lists(&sk) {
            let row = row.map_err(|check| check.failed(&sk, "it has attributes of other types"))?;
            piece.extend_from_slice(&encode_row(&row)?);
            proof.record(row)?;
        }
    }
    Ok((proof, piece))
}

fn not_found(shared: &Shared) -> Fault {
    let message = format!("there is no partition {}", shared.scope.key);
    Fault::new(Category::InvalidInput, "partition_not_found", message)
        .hint("a partition is named kind#id, as a walk through the store tells")
}
