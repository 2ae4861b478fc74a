//! What one commit changes.

use worldcompute_fault::Result;

use crate::{Entity, Stored};

/// Changes of one partition that happen together or not at all. Any number; one change per record.
#[derive(Default)]
pub struct Batch {
    len: usize,
}

impl Batch {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new record; the commit fails with `already_exists` when the partition has one of that type and id.
    ///
    /// # Errors
    /// `invalid_id`, `invalid_record` (not serialisable as promised in [`Entity`]), `item_too_large`.
    pub fn insert<E: Entity>(&mut self, _entity: E) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// A record that replaces the one of that type and id, or is new.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn put<E: Entity>(&mut self, _entity: E) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// A record that replaces `stored`; the commit fails with `state_contention` when that has changed since.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn update<E: Entity>(&mut self, _stored: &Stored<E>, _entity: E) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// New cleartext fields for `stored`; what is sealed stays sealed as it is.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn update_clear<E: Entity>(
        &mut self,
        _stored: &Stored<E>,
        _clear: E::Clear,
    ) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// `stored` is no more.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn delete<E: Entity>(&mut self, _stored: &Stored<E>) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// The record of that type and id is no more; the commit fails with `record_not_found` when there is none.
    ///
    /// # Errors
    /// `invalid_id`.
    pub fn remove<E: Entity>(&mut self, _id: &str) -> Result<&mut Self> {
        self.len += 1;
        Ok(self)
    }

    /// How many records change.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing changes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}
