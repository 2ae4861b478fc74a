//! What one commit changes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::draft::{Clear, Draft};
use crate::name::RecordId;
use crate::record::VerifiedRow;
use crate::{Entity, Stored};

/// The most records that one commit changes.
pub const MAX_BATCH_RECORDS: usize = 50_000;

/// Changes of one partition that happen together or not at all. One change per record.
#[derive(Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
    records: HashSet<RecordId>,
}

pub(crate) struct Change {
    pub(crate) record: RecordId,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// There must be none.
    Insert(Draft),
    /// There may be one.
    Put(Draft),
    /// It must be this one still.
    Update(Draft, Arc<VerifiedRow>),
    /// It must be this one still; its payload stays.
    UpdateClear(Clear, Arc<VerifiedRow>),
    /// It must be this one still.
    Delete(Arc<VerifiedRow>),
    /// There must be one.
    Remove,
}

impl fmt::Debug for Batch {
    /// Without any content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch(of {})", self.len())
    }
}

impl Batch {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new record; the commit fails with `already_exists` when the partition has one of that type and id.
    ///
    /// # Errors
    /// `invalid_id`, `invalid_record` (not serialisable as promised in [`Entity`]), `item_too_large` with the name of
    /// the largest field, `duplicate_change`, `batch_too_large`; `not_canonical_json`, `inexact_number`.
    pub fn insert<E: Entity>(&mut self, entity: E) -> Result<&mut Self> {
        let record = RecordId::new(E::TYPE, &entity.id())?;
        let draft = Draft::of(&record, entity)?;
        self.add(record, What::Insert(draft))
    }

    /// A record that replaces the one of that type and id, or is new.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn put<E: Entity>(&mut self, entity: E) -> Result<&mut Self> {
        let record = RecordId::new(E::TYPE, &entity.id())?;
        let draft = Draft::of(&record, entity)?;
        self.add(record, What::Put(draft))
    }

    /// A record that replaces `stored`, whose id it has; the commit fails with `state_contention` when that has changed
    /// since it was read.
    ///
    /// # Errors
    /// As [`Batch::insert`]; `invalid_record` when the ids differ.
    pub fn update<E: Entity>(&mut self, stored: &Stored<E>, entity: E) -> Result<&mut Self> {
        let record = stored.row.place.record.clone();
        if entity.id() != record.id {
            let message = format!("{record}: an update cannot change the id");
            return Err(
                Fault::new(Category::InvalidInput, "invalid_record", message)
                    .hint("delete the one record and insert the other"),
            );
        }
        let draft = Draft::of(&record, entity)?;
        self.add(record, What::Update(draft, stored.row.clone()))
    }

    /// New cleartext fields for `stored`; what is sealed stays as it is, without being encrypted anew.
    ///
    /// # Errors
    /// As [`Batch::update`].
    pub fn update_clear<E: Entity>(
        &mut self,
        stored: &Stored<E>,
        clear: E::Clear,
    ) -> Result<&mut Self> {
        let record = stored.row.place.record.clone();
        let clear = Clear::of::<E>(&record, &clear)?;
        clear.check_size(&record, stored.row.payload_bytes())?;
        self.add(record, What::UpdateClear(clear, stored.row.clone()))
    }

    /// `stored` is no more; the commit fails with `state_contention` when it has changed since it was read.
    ///
    /// # Errors
    /// `duplicate_change`, `batch_too_large`.
    pub fn delete<E: Entity>(&mut self, stored: &Stored<E>) -> Result<&mut Self> {
        let record = stored.row.place.record.clone();
        self.add(record, What::Delete(stored.row.clone()))
    }

    /// The record of that type and id is no more; the commit fails with `record_not_found` when there is none.
    ///
    /// # Errors
    /// `invalid_id`, `duplicate_change`, `batch_too_large`.
    pub fn remove<E: Entity>(&mut self, id: &str) -> Result<&mut Self> {
        self.add(RecordId::new(E::TYPE, id)?, What::Remove)
    }

    /// How many records change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn add(&mut self, record: RecordId, what: What) -> Result<&mut Self> {
        if self.changes.len() >= MAX_BATCH_RECORDS {
            let message = format!("a batch changes at most {MAX_BATCH_RECORDS} records");
            return Err(
                Fault::new(Category::InvalidInput, "batch_too_large", message)
                    .hint("commit it in parts"),
            );
        }
        if !self.records.insert(record.clone()) {
            let message = format!("{record} is changed twice in one batch");
            return Err(Fault::new(
                Category::InvalidInput,
                "duplicate_change",
                message,
            ));
        }
        self.changes.push(Change { record, what });
        Ok(self)
    }
}
