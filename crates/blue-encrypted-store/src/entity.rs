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
/// Derived, it seals every field but those that say otherwise, so that nothing is cleartext by accident:
///
/// ```
/// use blue_encrypted_store::Entity;
///
/// #[derive(Entity)]
/// #[entity(name = "task")]
/// struct Task {
///     #[id]
///     id: String,
///     #[clear(listed)]
///     status: String,
///     stdout: String,
/// }
/// # let task = Task { id: "t1".into(), status: "done".into(), stdout: "secret".into() };
/// let (clear, sealed): (TaskClear, TaskSealed) = task.split();
/// assert_eq!((clear.status.as_str(), sealed.stdout.as_str()), ("done", "secret"));
/// ```
///
/// - `#[entity(name = "..")]` is [`Entity::TYPE`], `#[entity(padded_to = ..)]` [`Entity::PADDED_TO`].
/// - `#[id]` is the id, a `String`; the [`META`] record has none.
/// - `#[clear]` makes a field cleartext, if its type is a [`ClearField`]; `#[clear(listed)]` also lists the record under it
///   ([`Entity::listed_as`]).
/// - The halves are `{Name}Clear`, which [`crate::Batch::update_clear`] takes, and `{Name}Sealed`. Their fields need
///   serde's `Serialize` and `DeserializeOwned`.
///
/// A type that was not declared fit for cleartext cannot be cleartext:
///
/// ```compile_fail,E0277
/// # use blue_encrypted_store::Entity;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Prompt(String);
///
/// #[derive(Entity)]
/// #[entity(name = "meta")]
/// struct Question {
///     #[clear]
///     prompt: Prompt,
/// }
/// ```
///
/// Without `#[clear]` it is sealed, and the cleartext half has no such field:
///
/// ```
/// # use blue_encrypted_store::Entity;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Prompt(String);
/// #[derive(Entity)]
/// #[entity(name = "meta")]
/// struct Question {
///     prompt: Prompt,
/// }
/// # let (QuestionClear {}, QuestionSealed { prompt: _ }) = Question { prompt: Prompt("why?".into()) }.split();
/// ```
///
/// ```compile_fail,E0560
/// # use blue_encrypted_store::Entity;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Prompt(String);
/// # #[derive(Entity)]
/// # #[entity(name = "meta")]
/// # struct Question {
/// #     prompt: Prompt,
/// # }
/// QuestionClear { prompt: Prompt("why?".into()) };
/// ```
///
/// A record whose halves are not its fields says by hand how it is taken apart. `Clear` serialises to a flat JSON object
/// of strings, numbers, booleans and nulls (or to null, for no field at all); `Sealed` to any JSON. Integers lie within
/// ±(2^53 - 1), as in RFC 8785. `join(id, clear, sealed)` undoes `id` and `split`.
///
/// ```
/// use blue_encrypted_store::Entity;
/// use serde::{Deserialize, Serialize};
///
/// struct Task { id: String, state: u8, stdout: String }
///
/// #[derive(Serialize, Deserialize)]
/// struct TaskStatus { finished: bool }
///
/// impl Entity for Task {
///     const TYPE: &'static str = "task";
///     type Clear = TaskStatus;
///     type Sealed = (u8, String);
///
///     fn id(&self) -> String { self.id.clone() }
///     fn split(self) -> (TaskStatus, Self::Sealed) {
///         (TaskStatus { finished: self.state == 2 }, (self.state, self.stdout))
///     }
///     fn join(id: String, _: TaskStatus, (state, stdout): Self::Sealed) -> Self { Self { id, state, stdout } }
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

/// What a derived [`Entity`] may have as a cleartext field: a type of which every value may be read by whoever reads the
/// table, and that serialises to a string, a number, a boolean or null.
///
/// Implement it for types that name states and amounts, never for one that holds what somebody said or a key.
pub trait ClearField {}

macro_rules! clear_fields {
    ($($field:ty),*) => { $(impl ClearField for $field {})* };
}
clear_fields!(
    bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, String, Timestamp
);

impl<T: ClearField> ClearField for Option<T> {}

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
