//! Fields with a limit, in both directions: a reader stops there instead of collecting what a frame claims to hold,
//! and a writer refuses to send what its peer would refuse to read.
//!
//! For serde's `with`: `#[serde(with = "Text::<MAX_ID>")]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

/// A text of at most `MAX` bytes.
pub(super) struct Text<const MAX: usize>;

impl<const MAX: usize> Text<MAX> {
    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        within::<MAX>(text).map_err(S::Error::custom)?;
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        within::<MAX>(&text).map_err(D::Error::custom)?;
        Ok(text)
    }
}

/// A text of at most `MAX` bytes, or nothing.
pub(super) struct MaybeText<const MAX: usize>;

impl<const MAX: usize> MaybeText<MAX> {
    pub(super) fn serialize<S: Serializer>(
        text: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        within::<MAX>(text.as_deref().unwrap_or_default()).map_err(S::Error::custom)?;
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        within::<MAX>(text.as_deref().unwrap_or_default()).map_err(D::Error::custom)?;
        Ok(text)
    }
}

/// At most `MAX` items.
pub(super) struct List<const MAX: usize>;

impl<const MAX: usize> List<MAX> {
    pub(super) fn serialize<S: Serializer, T: Serialize>(
        items: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if items.len() > MAX {
            return Err(S::Error::custom(too_many(MAX)));
        }
        serializer.collect_seq(items)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(Items::<T, MAX>(PhantomData))
    }
}

/// At most `MAX` texts of at most `MAX_NAME` bytes.
pub(super) struct Names<const MAX: usize>;

impl<const MAX: usize> Names<MAX> {
    pub(super) fn serialize<S: Serializer>(
        names: &[String],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        for name in names {
            within::<{ super::MAX_NAME }>(name).map_err(S::Error::custom)?;
        }
        List::<MAX>::serialize(names, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        let names: Vec<Name> = List::<MAX>::deserialize(deserializer)?;
        Ok(names.into_iter().map(|name| name.0).collect())
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::<{ super::MAX_NAME }>::deserialize(deserializer).map(Self)
    }
}

fn within<const MAX: usize>(text: &str) -> Result<(), String> {
    match text.len() {
        len if len > MAX => Err(format!("a text longer than {MAX} bytes")),
        _ => Ok(()),
    }
}

fn too_many(max: usize) -> String {
    format!("more than {max} items")
}

struct Items<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::custom(too_many(MAX)));
            }
            list.push(item);
        }
        Ok(list)
    }
}
