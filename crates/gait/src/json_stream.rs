//! Long JSON, read piece by piece: an object with one long array in it, and files of one value a line.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::rc::Rc;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{StrictJson, parse_json_within};

use crate::archive::{error_of, fault_of};
use crate::limits::MAX_JSONL_LINE;
use crate::signature::unverified;

/// Reads a JSON object named `what`. The elements of its member `list` are handed to `each` one after the other; the
/// other members are returned.
///
/// Errors: `verification_failed` for what is no such object, a member twice, or a piece larger than
/// [`MAX_JSONL_LINE`]; those of `each` and of the reader.
pub(crate) fn object_with_list<T: DeserializeOwned>(
    what: &str,
    reader: impl Read,
    list: &'static str,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<Map<String, Value>> {
    let left = Rc::new(Cell::new(MAX_JSONL_LINE as u64));
    let refused = RefCell::new(None);
    // The buffer is outermost: the parser asks for one byte at a time.
    let metered = BufReader::new(Metered {
        inner: reader,
        left: Rc::clone(&left),
    });
    let mut take = |element: T| {
        left.set(MAX_JSONL_LINE as u64);
        each(element)
    };
    let seed = Object {
        list,
        each: &mut take,
        refused: &refused,
        element: PhantomData,
    };
    let mut json = serde_json::Deserializer::from_reader(metered);
    let read = seed.deserialize(&mut json).and_then(|members| {
        json.end()?;
        Ok(members)
    });
    match (read, refused.into_inner()) {
        (_, Some(fault)) => Err(fault),
        (Ok(members), None) => Ok(members),
        (Err(error), None) if error.is_io() => Err(fault_of(&format!("read {what}"), error.into())),
        (Err(error), None) => Err(unverified(format!("{what} is malformed: {error}"))),
    }
}

/// Hands every line of the file named `what` to `each`, without its break and with its number, counted from 1. Blank
/// lines count and are left out.
///
/// Errors: `verification_failed` for a line of more than [`MAX_JSONL_LINE`] bytes; those of `each` and of the reader.
pub(crate) fn lines(
    what: &str,
    reader: impl Read,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut reader, mut line) = (BufReader::new(reader), Vec::new());
    for number in 1.. {
        line.clear();
        let limit = MAX_JSONL_LINE as u64 + 1;
        let read = Read::take(&mut reader, limit).read_until(b'\n', &mut line);
        if read.map_err(|error| fault_of(&format!("read {what}"), error))? == 0 {
            break;
        }
        let whole = line.strip_suffix(b"\n").unwrap_or(&line);
        if whole.len() > MAX_JSONL_LINE {
            let message =
                format!("{what} line {number} is past the limit of {MAX_JSONL_LINE} bytes");
            return Err(unverified(message));
        }
        if !whole.trim_ascii().is_empty() {
            each(number, whole.trim_ascii())?;
        }
    }
    Ok(())
}

/// Hands the value of every line of the file named `what` to `each`, with its line's number; `limit` in bytes.
///
/// Errors: `verification_failed` for what is no strict JSON of a `T`; those of [`lines`] and of `each`.
pub(crate) fn values<T: DeserializeOwned>(
    what: &str,
    reader: impl Read,
    limit: usize,
    mut each: impl FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    lines(what, reader, |number, line| {
        let malformed = |why: &str| unverified(format!("parse {what} line {number}: {why}"));
        let value = parse_json_within(line, limit).map_err(|fault| malformed(fault.message()))?;
        let value = serde_json::from_value(value).map_err(|error| malformed(&error.to_string()))?;
        each(number, value)
    })
}

/// Refuses to hand out more than `left` bytes between two pieces, give or take a buffer.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(got as u64);
        self.left.set(left.ok_or_else(|| {
            error_of(unverified(format!(
                "a JSON value is past the limit of {MAX_JSONL_LINE} bytes"
            )))
        })?);
        Ok(got)
    }
}

struct Object<'a, T> {
    list: &'static str,
    each: &'a mut dyn FnMut(T) -> Result<()>,
    refused: &'a RefCell<Option<Fault>>,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Object<'_, T> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<'_, T> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut others, mut listed) = (Map::new(), false);
        while let Some(key) = members.next_key::<String>()? {
            if others.contains_key(&key) || (listed && key == self.list) {
                return Err(A::Error::custom(format_args!(
                    "member {key:?} appears twice"
                )));
            }
            if key == self.list {
                listed = true;
                members.next_value_seed(List {
                    each: &mut *self.each,
                    refused: self.refused,
                })?;
            } else {
                others.insert(key, members.next_value::<StrictJson>()?.0);
            }
        }
        Ok(others)
    }
}

struct List<'a, T> {
    each: &'a mut dyn FnMut(T) -> Result<()>,
    refused: &'a RefCell<Option<Fault>>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON array or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<T>()? {
            if let Err(fault) = (self.each)(element) {
                self.refused.replace(Some(fault));
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Map<String, Value>, Vec<u64>)> {
        let mut seen = Vec::new();
        let members = object_with_list("refs.json", text.as_bytes(), "list", |element: u64| {
            seen.push(element);
            Ok(())
        })?;
        Ok((members, seen))
    }

    #[test]
    fn elements_come_one_by_one_and_the_rest_is_returned() {
        let (members, seen) = read(r#"{"a": {"b": 1}, "list": [1, 2, 3], "z": "x"}"#).unwrap();
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(
            Value::Object(members),
            serde_json::json!({"a": {"b": 1}, "z": "x"})
        );
        assert!(read(r#"{"list": null}"#).unwrap().1.is_empty());
        assert!(read("{}").unwrap().1.is_empty());
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "{\"list\": 1}",
            "{\"list\": [\"x\"]}",
            "{\"list\":[1],\"list\":[2]}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "{} {}",
            "{\"list\":[1,]}",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert_eq!(
                read(text).unwrap_err().code(),
                "verification_failed",
                "{text:?}"
            );
        }
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        assert_eq!(read(&deep).unwrap_err().code(), "verification_failed");
    }

    #[test]
    fn a_refusal_of_an_element_ends_the_reading_with_it() {
        let refused = object_with_list("x", &b"{\"list\":[1,2]}"[..], "list", |_: u64| {
            Err(Fault::new(
                worldcompute_fault::Category::IoFailure,
                "disk_full",
                "full",
            ))
        });
        assert_eq!(refused.unwrap_err().code(), "disk_full");
    }

    #[test]
    fn one_piece_past_the_limit_is_refused_and_many_below_it_are_read() {
        let half = "y".repeat(MAX_JSONL_LINE / 2);
        let many = format!(
            "{{\"list\":[{}]}}",
            vec![format!("\"{half}\""); 6].join(",")
        );
        let count = |text: &str| {
            let mut count = 0;
            object_with_list("x", text.as_bytes(), "list", |_: String| {
                count += 1;
                Ok(())
            })
            .map(|_| count)
        };
        assert_eq!(count(&many).unwrap(), 6);
        let large = format!("{{\"list\":[\"{}\"]}}", "y".repeat(MAX_JSONL_LINE + 1));
        assert_eq!(count(&large).unwrap_err().code(), "verification_failed");
    }

    #[test]
    fn lines_are_read_up_to_the_limit_and_no_further() {
        let read = |text: &[u8]| {
            let mut seen = Vec::new();
            lines("x", text, |number, line| {
                seen.push((number, line.len()));
                Ok(())
            })
            .map(|()| seen)
        };
        assert!(read(b"").unwrap().is_empty());
        assert_eq!(read(b"a\n\n  \nbc").unwrap(), [(1, 1), (4, 2)]);
        let mut full = vec![b'x'; MAX_JSONL_LINE];
        full.push(b'\n');
        assert_eq!(read(&full).unwrap(), [(1, MAX_JSONL_LINE)]);
        full.insert(0, b'x');
        assert_eq!(read(&full).unwrap_err().code(), "verification_failed");
    }
}
