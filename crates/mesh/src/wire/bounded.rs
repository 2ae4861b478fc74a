//! Deserializers that stop at a limit instead of collecting what a frame claims to hold.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A text of at most `MAX` bytes.
pub(super) fn text<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<String, D::Error> {
    within::<_, MAX>(String::deserialize(deserializer)?)
}

/// A text of at most `MAX` bytes, or nothing.
pub(super) fn maybe_text<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(within::<_, MAX>)
        .transpose()
}

/// At most `MAX` items.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Items::<T, MAX>(PhantomData))
}

/// At most `ITEMS` texts of at most `MAX_NAME` bytes.
pub(super) fn names<'de, D: Deserializer<'de>, const ITEMS: usize>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    list::<_, Name, ITEMS>(deserializer).map(|names| names.into_iter().map(|name| name.0).collect())
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::<_, { super::MAX_NAME }>(deserializer).map(Self)
    }
}

fn within<E: Error, const MAX: usize>(text: String) -> Result<String, E> {
    if text.len() > MAX {
        return Err(E::custom(format_args!("a text longer than {MAX} bytes")));
    }
    Ok(text)
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
                return Err(A::Error::custom(format_args!("more than {MAX} items")));
            }
            list.push(item);
        }
        Ok(list)
    }
}
