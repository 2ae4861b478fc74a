//! What is stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worldcompute_fault::Result;

use crate::record::VerifiedRow;
use crate::{Id, Label};

/// The type of the one record that is about the partition itself. Its id is no part of its key and must be empty.
pub const META: &str = "meta";

/// A record: which of its fields may be read by whoever reads the table, and which are sealed.
///
/// Derived, it seals every field but those that say otherwise, so that nothing is cleartext by accident:
///
/// ```
/// use blue_encrypted_store::{Entity, Id, Label};
///
/// #[derive(Entity)]
/// #[entity(name = "task")]
/// struct Task {
///     #[id]
///     id: Id,
///     #[clear(listed)]
///     status: Label,
///     stdout: String,
/// }
/// # let (id, status) = (Id::parse("t1").unwrap(), Label::parse("done").unwrap());
/// # let task = Task { id, status, stdout: "secret".into() };
/// let (clear, sealed): (TaskClear, TaskSealed) = task.split();
/// assert_eq!((clear.status.as_str(), sealed.stdout.as_str()), ("done", "secret"));
/// ```
///
/// - `#[entity(name = "..")]` is [`Entity::TYPE`], `#[entity(padded_to = ..)]` [`Entity::PADDED_TO`].
/// - `#[id]` is the id, which is cleartext like the fields that say so: a [`ClearField`] that prints as an [`Id`](crate::Id)
///   and is read from a `String` (`TryFrom`), such as `Id` itself; the [`META`] record has none.
/// - `#[clear]` makes a field cleartext, if its type is a [`ClearField`]; `#[clear(listed)]` also lists the record under it
///   ([`Entity::listed_as`]). Names that the store's own attributes have do not compile.
/// - The halves are `{Name}Clear`, which [`crate::Batch::update_clear`] takes, and `{Name}Sealed`. Their fields need
///   serde's `Serialize` and `DeserializeOwned`. `#[serde]` on a field would not reach them, so it is refused. Records that
///   have a field more, or one less, are not read (`invalid_record`): give a field that is new an `Option`.
///
/// A type that was not declared fit for cleartext cannot be cleartext, and text is not:
///
/// ```compile_fail,E0277
/// # use blue_encrypted_store::Entity;
/// #[derive(Entity)]
/// #[entity(name = "meta")]
/// struct Question {
///     #[clear]
///     prompt: String,
/// }
/// ```
///
/// Without `#[clear]` it is sealed, and the cleartext half has no such field:
///
/// ```
/// # use blue_encrypted_store::Entity;
/// #[derive(Entity)]
/// #[entity(name = "meta")]
/// struct Question {
///     prompt: String,
/// }
/// # let (QuestionClear {}, QuestionSealed { prompt: _ }) = Question { prompt: "why?".into() }.split();
/// ```
///
/// ```compile_fail,E0560
/// # use blue_encrypted_store::Entity;
/// # #[derive(Entity)]
/// # #[entity(name = "meta")]
/// # struct Question {
/// #     prompt: String,
/// # }
/// QuestionClear { prompt: "why?".into() };
/// ```
///
/// A record whose halves are not its fields says by hand how it is taken apart, and of the one half that all of it may be
/// read ([`ClearHalf`]). `Clear` serialises to a flat JSON object
/// of strings, numbers, booleans and nulls (or to null, for no field at all); `Sealed` to any JSON. Integers lie within
/// ±(2^53 - 1), as in RFC 8785. `join(id, clear, sealed)` undoes `id` and `split`.
///
/// ```
/// use blue_encrypted_store::{ClearHalf, Entity};
/// use serde::{Deserialize, Serialize};
/// # use blue_encrypted_store::Result;
///
/// struct Task { id: String, state: u8, stdout: String }
///
/// #[derive(Serialize, Deserialize)]
/// struct TaskStatus { finished: bool }
///
/// impl ClearHalf for TaskStatus {}
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
///     fn join(id: String, _: TaskStatus, (state, stdout): Self::Sealed) -> Result<Self> {
///         Ok(Self { id, state, stdout })
///     }
/// }
/// ```
pub trait Entity: Sized {
    /// Unique per kind of record: a lowercase slug other than `dek` and `manifest`, or [`META`].
    const TYPE: &'static str;
    /// Whoever reads the table sees how long a payload is. A type whose payloads tell something by their length has them
    /// filled up, before they are encrypted, to a multiple of this many bytes; it costs the difference in storage.
    const PADDED_TO: usize = 1;
    /// The fields that are stored as they are, authenticated but not encrypted.
    type Clear: ClearHalf + Serialize + DeserializeOwned;
    /// The fields that are encrypted.
    type Sealed: Serialize + DeserializeOwned;

    /// Unique per type within a partition: a lowercase slug or a ULID ([`crate::Id`]).
    fn id(&self) -> String;
    /// Takes the record apart.
    fn split(self) -> (Self::Clear, Self::Sealed);
    /// Puts it together again.
    ///
    /// # Errors
    /// Why the halves are no record of this type.
    fn join(id: String, clear: Self::Clear, sealed: Self::Sealed) -> Result<Self>;

    /// The status under which [`crate::CrossPartition::list`] finds this record; `None` keeps it out of the index.
    fn listed_as(_clear: &Self::Clear) -> Option<String> {
        None
    }
}

/// What a derived [`Entity`] may have as a cleartext field: a type of which every value may be read by whoever reads the
/// table, and that serialises to a string, a number, a boolean or null.
///
/// Implement it for types that name states and amounts, never for one that holds what somebody said or a key. `String` is
/// none; a word is a [`Label`](crate::Label).
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` may not be cleartext",
    note = "without `#[clear]` it is sealed; a word that names a state is a `Label`, an id an `Id`"
)]
pub trait ClearField {}

macro_rules! clear_fields {
    ($($field:ty),*) => { $(impl ClearField for $field {})* };
}
clear_fields!(
    bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, Timestamp, Label, Id
);

impl<T: ClearField> ClearField for Option<T> {}

/// The cleartext half of an [`Entity`]. Derived, each of its fields is a [`ClearField`]; whoever writes a half by hand says
/// by this that all of it may be read by whoever reads the table.
#[diagnostic::on_unimplemented(
    message = "nothing says that all of `{Self}` may be cleartext",
    note = "derive the `Entity`, or implement `ClearHalf` after a look at every field"
)]
pub trait ClearHalf {}

/// No cleartext at all.
impl ClearHalf for () {}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entity;
    use crate::derived::{is_field_name, is_type_name};
    use crate::record::is_reserved;

    /// Compiles only while none of the types is what the trait says: else there would be two ways to call `is_not`.
    macro_rules! is_not {
        ($trait:path: $($type:ty),*) => {{
            trait Either<Way> {
                fn is_not() {}
            }
            struct Marked;
            impl<T: ?Sized> Either<()> for T {}
            impl<T: ?Sized + $trait> Either<Marked> for T {}
            $(<$type as Either<_>>::is_not();)*
        }};
    }

    #[test]
    fn text_bytes_and_whatever_holds_them_are_no_cleartext() {
        is_not!(ClearField: String, &str, Box<str>, Vec<u8>, [u8; 32], Option<String>, serde_json::Value);
        is_not!(ClearField: crate::UmkHandle, std::path::PathBuf, (String,), Vec<Label>);
        is_not!(ClearHalf: String, serde_json::Value, serde_json::Map<String, bool>, crate::lab::Task);
    }

    #[test]
    fn the_compiler_and_the_table_have_one_list_of_names() {
        let own = "pk sk entity_type created_at updated_at env ver key_id content_encrypted content_nonce commit aad_hash";
        let own = own.split(' ').chain(["seal", "gsi1pk", "gsi1sk", "gsi9"]);
        let others = ["status", "pks", "p", "", "sealed", "gs", "type"];
        for name in own.clone().chain(others) {
            assert_eq!(is_field_name(name), !is_reserved(name), "{name}");
        }
        assert!(own.clone().all(is_reserved));
        assert!(is_type_name("task") && !is_type_name("dek"));
    }

    #[test]
    fn an_id_that_the_type_does_not_take_is_told_and_not_believed() {
        #[derive(Entity)]
        #[entity(name = "step")]
        struct Step {
            #[id]
            number: Number,
        }
        struct Number(u8);
        impl ClearField for Number {}
        impl std::fmt::Display for Number {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl TryFrom<String> for Number {
            type Error = worldcompute_fault::Fault;

            fn try_from(text: String) -> Result<Self> {
                let number = text.parse().map_err(|_| Label::parse("").unwrap_err());
                number.map(Self)
            }
        }
        let step = Step { number: Number(7) };
        assert_eq!(step.id(), "7");
        assert_eq!(
            Step::join("9".into(), StepClear {}, StepSealed {})
                .unwrap()
                .number
                .0,
            9
        );
        assert!(Step::join("nine".into(), StepClear {}, StepSealed {}).is_err());
    }
}
