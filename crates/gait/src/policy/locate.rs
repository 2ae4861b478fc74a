//! Where in a policy file something is, for messages: only asked after the file was refused.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use worldcompute_fault::Fault;

use super::normalise::Misplaced;
use super::yaml_options;
use crate::limits::invalid;

/// The refusal of a file that is no policy by its shape: what the reader says, with the key that it stumbled over.
pub(super) fn unreadable(error: &serde_saphyr::Error, bytes: &[u8]) -> Fault {
    if let Some(said) = in_our_words(error) {
        return refusal(&invalid(format!("parse policy yaml: {said}")));
    }
    let keys = Keys::of(bytes);
    let place = error.location().map(|location| Place::of(&location));
    let key = place.and_then(|place| keys.at(place));
    let at = key.map(|key| format!(" (key {key})")).unwrap_or_default();
    refusal(&invalid(format!("parse policy yaml: {error}{at}")))
}

/// What the reader says in words that mean something to programmers only, in words for the writer of the file.
pub(crate) fn in_our_words(error: &serde_saphyr::Error) -> Option<String> {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |location| location.line());
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            Some(format!(
                "a key is there twice, again in line {line} (key {key})"
            ))
        }
        serde_saphyr::Error::Budget { breach, .. } => Some(match breach {
            serde_saphyr::budget::BudgetBreach::Documents { .. } => {
                format!("a second document begins in line {line}: a file holds one")
            }
            _ => format!("it is deeper, longer or has more anchors than is read, in line {line}"),
        }),
        _ => None,
    }
}

/// The refusal of a file that is no policy by its meaning, with the key and its line.
pub(super) fn misplaced(misplaced: &Misplaced, bytes: &[u8]) -> Fault {
    let fault = &misplaced.fault;
    if fault.migration().is_some() {
        // It says key by key what to write instead.
        return Fault::clone(fault);
    }
    let place = Keys::of(bytes).place(&misplaced.key);
    let at = place.map(|place| format!(" (line {}, key {})", place.line, misplaced.key));
    let message = format!("{}{}", fault.message(), at.unwrap_or_default());
    if fault.code() == "invalid_input" {
        return refusal(&invalid(message));
    }
    Fault::new(fault.category(), fault.code().to_owned(), message)
}

fn refusal(fault: &Fault) -> Fault {
    fault.clone().because(
        "policy_invalid",
        "correct the key that the message names, then run gait policy validate",
    )
}

/// Bytes of all keys that are looked through for a place.
const MAX_KEYS_BYTES: usize = 4 << 20;

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    pub(super) fn of(location: &Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// Every key of the file with its place, in the order of the file: `rules[0].match.tool_names[1]`.
pub(super) struct Keys(Vec<(String, Place)>);

impl Keys {
    /// The keys of a file; none when it is no YAML.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut options = yaml_options();
        options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::FirstWins;
        let root = serde_saphyr::from_slice_with_options::<Node>(bytes, options);
        let mut listing = Listing {
            keys: Vec::new(),
            room: MAX_KEYS_BYTES,
        };
        if let Ok(root) = root {
            root.list("", &mut listing);
        }
        Self(listing.keys)
    }

    /// The key that `place` is in: the last one that starts before it or there.
    pub(super) fn at(&self, place: Place) -> Option<&str> {
        let before = self.0.iter().filter(|(_, start)| *start <= place);
        before
            .max_by_key(|(_, start)| *start)
            .map(|(key, _)| key.as_str())
    }

    /// Where `key` is, or else the nearest key around it.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        let mut key = key;
        loop {
            if let Some((_, place)) = self.0.iter().find(|(known, _)| known == key) {
                return Some(*place);
            }
            key = key.get(..key.rfind(['.', '['])?)?;
        }
    }
}

/// A value of which only the keys and places count.
enum Node {
    Leaf,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Self)>),
}

impl Node {
    fn list(&self, path: &str, listing: &mut Listing) {
        match self {
            Self::Leaf => {}
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = Place::of(&item.referenced);
                    listing.add(place, &item.value, || format!("{path}[{index}]"));
                }
            }
            Self::Map(members) => {
                let dot = if path.is_empty() { "" } else { "." };
                for (key, value) in members {
                    let place = Place::of(&key.referenced);
                    listing.add(place, value, || format!("{path}{dot}{}", key.value));
                }
            }
        }
    }
}

/// The keys found so far. A refusal without a place is one all the same, so there is an end to what is kept for it.
struct Listing {
    keys: Vec<(String, Place)>,
    /// Bytes that the keys to come may take.
    room: usize,
}

impl Listing {
    fn add(&mut self, place: Place, value: &Node, path: impl FnOnce() -> String) {
        if self.room == 0 {
            return;
        }
        let path = path();
        self.room = self.room.saturating_sub(path.len());
        self.keys.push((path.clone(), place));
        value.list(&path, self);
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! leaves {
    ($($visit:ident($kind:ty)),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Node, E> {
            Ok(Node::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    leaves!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_i128(i128),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str)
    );

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(Node::Map(members))
    }
}
