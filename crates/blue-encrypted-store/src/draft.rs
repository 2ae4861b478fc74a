//! A record on its way into the table: its two halves as bytes and attributes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::canonical_json;

use crate::Entity;
use crate::name::RecordId;
use crate::plaintext::Plaintext;
use crate::record::{OVERHEAD_BYTES, STATUS_KEY, is_reserved};
use crate::row::{Attribute, MAX_ITEM_BYTES, Row, canonical_number};

/// The most cleartext fields of a record.
pub const MAX_CLEAR_FIELDS: usize = 64;
/// The longest name of a cleartext field, and the longest status that a record is listed under, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The cleartext half of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clear {
    pub(crate) fields: BTreeMap<String, Attribute>,
    pub(crate) listed_as: Option<String>,
}

/// Both halves.
pub(crate) struct Draft {
    pub(crate) clear: Clear,
    /// The canonical JSON of the sealed half.
    pub(crate) sealed: Plaintext,
}

impl Draft {
    /// # Errors
    /// `invalid_record`, `item_too_large`, and those of canonical JSON.
    pub(crate) fn of<E: Entity>(record: &RecordId, entity: E) -> Result<Self> {
        let (clear, sealed) = entity.split();
        let clear = Clear::of::<E>(record, &clear)?;
        let sealed = Plaintext::new(canonical_json(&sealed).map_err(|fault| at(record, fault))?);
        let padded = padded_size(sealed.len(), E::PADDED_TO);
        let size = clear.size().saturating_add(padded);
        check_size(record, size, || largest_field(&clear, &sealed))?;
        // Readers of JSON skip spaces after it, and the tag covers them: no length has to be kept beside it.
        let sealed = sealed.padded_to(padded);
        Ok(Self { clear, sealed })
    }

    /// An upper bound of the row's size.
    pub(crate) fn size(&self) -> usize {
        let fields = self.clear.size().saturating_add(self.sealed.len());
        fields.saturating_add(OVERHEAD_BYTES)
    }
}

fn padded_size(size: usize, multiple: usize) -> usize {
    size.checked_next_multiple_of(multiple.max(1))
        .unwrap_or(usize::MAX)
}

impl Clear {
    pub(crate) fn of<E: Entity>(record: &RecordId, clear: &E::Clear) -> Result<Self> {
        let fields = fields(record, clear)?;
        let listed_as = E::listed_as(clear);
        let too_long = |name: &String| name.is_empty() || name.len() > MAX_NAME_BYTES;
        if listed_as.as_ref().is_some_and(too_long) {
            return Err(invalid(
                record,
                format!("its status has 1 to {MAX_NAME_BYTES} bytes"),
            ));
        }
        Ok(Self { fields, listed_as })
    }

    /// That of a record's row.
    pub(crate) fn of_row(row: &Row) -> Self {
        let fields = row.0.iter().filter(|(name, _)| !is_reserved(name));
        let status = row.text(STATUS_KEY).ok();
        Self {
            fields: fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            listed_as: status
                .and_then(|status| status.strip_prefix("status#"))
                .map(ToOwned::to_owned),
        }
    }

    pub(crate) fn size(&self) -> usize {
        let sizes = self
            .fields
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.size()));
        sizes.fold(0, usize::saturating_add)
    }

    /// Refuses fields that do not fit beside a payload of `sealed` bytes.
    pub(crate) fn check_size(&self, record: &RecordId, sealed: usize) -> Result<()> {
        let size = self.size().saturating_add(sealed);
        check_size(record, size, || largest_field(self, b"null"))
    }
}

fn fields<T: Serialize>(record: &RecordId, clear: &T) -> Result<BTreeMap<String, Attribute>> {
    let text = canonical_json(clear).map_err(|fault| at(record, fault))?;
    let fields = match serde_json::from_slice(&text) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) => Map::new(),
        _ => {
            return Err(invalid(
                record,
                "its cleartext half is no object of named fields",
            ));
        }
    };
    if fields.len() > MAX_CLEAR_FIELDS {
        let why = format!("it has more than {MAX_CLEAR_FIELDS} cleartext fields");
        return Err(invalid(record, why));
    }
    fields
        .into_iter()
        .map(|(name, value)| field(record, name, value))
        .collect()
}

fn field(record: &RecordId, name: String, value: Value) -> Result<(String, Attribute)> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || is_reserved(&name) {
        let why = format!("a cleartext field cannot be named {name:.80?}");
        return Err(invalid(record, why));
    }
    let value = match value {
        Value::Null => Attribute::Null,
        Value::Bool(value) => Attribute::Bool(value),
        Value::String(text) => Attribute::Text(text),
        Value::Number(number) => canonical_number(&number.to_string())
            .map(Attribute::Number)
            .ok_or_else(|| invalid(record, format!("{name} is out of the range of numbers")))?,
        Value::Array(_) | Value::Object(_) => {
            let why = format!("the cleartext field {name} is no string, number, boolean or null");
            return Err(invalid(record, why));
        }
    };
    Ok((name, value))
}

/// The reverse of [`fields`].
pub(crate) fn json<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Attribute)>,
) -> Map<String, Value> {
    fields
        .filter_map(|(name, value)| Some((name.clone(), value_of(value)?)))
        .collect()
}

fn value_of(attribute: &Attribute) -> Option<Value> {
    Some(match attribute {
        Attribute::Text(text) => Value::String(text.clone()),
        Attribute::Number(text) => Value::Number(number(text)?),
        Attribute::Bool(value) => Value::Bool(*value),
        Attribute::Null => Value::Null,
        Attribute::Bytes(_) => return None,
    })
}

fn number(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    Number::from_f64(text.parse().ok()?)
}

fn check_size(record: &RecordId, size: usize, largest: impl FnOnce() -> String) -> Result<()> {
    if size.saturating_add(OVERHEAD_BYTES) <= MAX_ITEM_BYTES {
        return Ok(());
    }
    let message = format!(
        "{record}: {size} bytes of fields exceed the {} that fit into one record; the largest is {}",
        MAX_ITEM_BYTES.saturating_sub(OVERHEAD_BYTES),
        largest()
    );
    Err(
        Fault::new(Category::InvalidInput, "item_too_large", message)
            .hint("keep large bytes in the content store and their name in the record"),
    )
}

/// Names the largest field of either half, never its content.
fn largest_field(clear: &Clear, sealed: &[u8]) -> String {
    let sealed_fields = match serde_json::from_slice(sealed) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) => Map::new(),
        _ => [("the whole sealed half".to_owned(), Value::Null)]
            .into_iter()
            .collect(),
    };
    let clear = clear
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), value.size()));
    let sealed = sealed_fields.into_iter().map(|(name, value)| {
        let size = if value.is_null() {
            sealed.len()
        } else {
            value.to_string().len()
        };
        (name, size)
    });
    let largest = clear.chain(sealed).max_by_key(|(_, size)| *size);
    largest.map_or_else(String::new, |(name, size)| format!("{name} ({size} bytes)"))
}

fn invalid(record: &RecordId, why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "invalid_record",
        format!("{record}: {why}"),
    )
    .hint("change what the record's type declares as cleartext")
}

fn at(record: &RecordId, fault: Fault) -> Fault {
    let message = format!("{record}: {}", fault.message());
    Fault::new(fault.category(), fault.code().to_owned(), message)
        .hint(fault.hint_text().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, partition};
    use crate::{Batch, PartitionVersion};

    /// Text in multiples of `N` bytes.
    #[derive(Clone, Debug, PartialEq)]
    struct Padded<const N: usize>(String, String);

    impl<const N: usize> Entity for Padded<N> {
        const TYPE: &'static str = "padded";
        const PADDED_TO: usize = N;
        type Clear = ();
        type Sealed = String;

        fn id(&self) -> String {
            self.0.clone()
        }

        fn split(self) -> ((), String) {
            ((), self.1)
        }

        fn join(id: String, _: (), sealed: String) -> Result<Self> {
            Ok(Self(id, sealed))
        }
    }

    fn sealed_size<const N: usize>(text: &str) -> usize {
        let entity = Padded::<N>("p1".to_owned(), text.to_owned());
        let record = RecordId::new("padded", "p1").unwrap();
        Draft::of(&record, entity).unwrap().sealed.len()
    }

    #[test]
    fn payloads_are_padded_to_a_multiple_of_what_their_type_says() {
        // Two bytes are the quotes.
        for (text, bytes) in [(0, 64), (1, 64), (62, 64), (63, 128), (126, 128)] {
            assert_eq!(sealed_size::<64>(&"x".repeat(text)), bytes, "{text}");
        }
        for size in [0, 1] {
            assert_eq!(sealed_size::<0>(&"x".repeat(size)), size + 2);
            assert_eq!(sealed_size::<1>(&"x".repeat(size)), size + 2);
        }
    }

    #[test]
    fn padding_past_the_largest_item_is_refused_before_anything_is_made_of_that_size() {
        let record = RecordId::new("padded", "p1").unwrap();
        let refused = |result: Result<Draft>| result.err().unwrap().code().to_owned();
        let text = || ("p1".to_owned(), "x".to_owned());
        let (id, content) = text();
        let largest = Draft::of(&record, Padded::<{ usize::MAX }>(id, content));
        assert_eq!(refused(largest), "item_too_large");
        let (id, content) = text();
        let large = Draft::of(&record, Padded::<{ MAX_ITEM_BYTES }>(id, content));
        assert_eq!(refused(large), "item_too_large");
    }

    #[tokio::test]
    async fn padded_payloads_have_one_length_in_the_table_and_come_back_without_padding() {
        let lab = Lab::new();
        let store = lab.store().await;
        let (short, long) = ("", "a secret of some length");
        let mut batch = Batch::new();
        for (id, text) in [("short", short), ("long", long)] {
            let padded = Padded::<64>(id.to_owned(), text.to_owned());
            batch.insert(padded).unwrap();
        }
        let partition = partition(&store, "j1");
        let none = PartitionVersion::NONE;
        partition.commit(batch, none).await.unwrap();
        let rows = lab.rows("job#j1");
        for sk in lab.keys("job#j1", "padded") {
            let dynoxide::AttributeValue::B(bytes) = &rows[&sk]["content_encrypted"] else {
                panic!("{sk}");
            };
            assert_eq!(bytes.len(), 64 + 16);
        }
        let snapshot = partition.load().await.unwrap().unwrap();
        for (id, text) in [("short", short), ("long", long)] {
            let found = snapshot.get::<Padded<64>>(id).unwrap().unwrap();
            assert_eq!(found.into_value().1, text);
        }
    }
}
