//! What is stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::record::VerifiedRow;

/// The type of the one record that is about the partition itself. Its id is no part of its key and must be empty.
pub const META: &str = "meta";

/// A record: which of its fields may be read by whoever reads the table, and which are sealed.
///
/// `Clear` serialises to a flat JSON object of strings, numbers, booleans and nulls (or to null, for no field at all);
/// `Sealed` to any JSON. Integers lie within ±(2^53 - 1), as in RFC 8785. `join(id, clear, sealed)` undoes `id` and
/// `split`.
///
/// ```
/// use blue_encrypted_store::Entity;
/// use serde::{Deserialize, Serialize};
///
/// struct Task { id: String, status: String, stdout: String }
///
/// #[derive(Serialize, Deserialize)]
/// struct TaskStatus { status: String }
///
/// impl Entity for Task {
///     const TYPE: &'static str = "task";
///     type Clear = TaskStatus;
///     type Sealed = String;
///
///     fn id(&self) -> String { self.id.clone() }
///     fn split(self) -> (TaskStatus, String) { (TaskStatus { status: self.status }, self.stdout) }
///     fn join(id: String, clear: TaskStatus, stdout: String) -> Self { Self { id, status: clear.status, stdout } }
/// }
/// ```
pub trait Entity: Sized {
    /// Unique per kind of record: a lowercase slug other than `dek` and `manifest`, or [`META`].
    const TYPE: &'static str;
    /// Whoever reads the table sees how long a payload is. A type whose payloads tell something by their length has them
    /// filled up, before they are encrypted, to a multiple of this many bytes; it costs the difference in storage.
    const PADDED_TO: usize = 1;
    /// The fields that are stored as they are, authenticated but not encrypted.
    type Clear: Serialize + DeserializeOwned;
    /// The fields that are encrypted.
    type Sealed: Serialize + DeserializeOwned;

    /// Unique per type within a partition: a lowercase slug or a ULID ([`crate::Id`]).
    fn id(&self) -> String;
    /// Takes the record apart.
    fn split(self) -> (Self::Clear, Self::Sealed);
    /// Puts it together again.
    fn join(id: String, clear: Self::Clear, sealed: Self::Sealed) -> Self;

    /// The status under which [`crate::CrossPartition::list`] finds this record; `None` keeps it out of the index.
    fn listed_as(_clear: &Self::Clear) -> Option<String> {
        None
    }
}

/// A record as it was read, and the proof that it was there.
#[derive(Clone)]
pub struct Stored<E> {
    pub(crate) value: E,
    pub(crate) row: Arc<VerifiedRow>,
}

impl<E> Stored<E> {
    /// The record.
    pub const fn value(&self) -> &E {
        &self.value
    }

    /// The record, by value.
    pub fn into_value(self) -> E {
        self.value
    }

    /// Its id within type and partition.
    pub fn id(&self) -> &str {
        &self.row.place.record.id
    }

    /// When it was inserted.
    pub fn created_at(&self) -> Timestamp {
        self.row.created_at
    }

    /// When it was last changed.
    pub fn updated_at(&self) -> Timestamp {
        self.row.updated_at
    }
}
