//! A JSON text that is too large to hold, taken apart into values that are not.

use std::io::{self, Read};

use serde::Deserialize;
use worldcompute_fault::{Fault, Result};

use super::jsonl::Record;
use super::plain::{plain, special};
use super::window::Window;
use crate::limits::invalid;

/// Walks a JSON text from value to value. It finds where values end and checks what stands between them; what is
/// inside a value is for whoever parses it.
pub(super) struct Splitter<R>(Window<R>);

impl<R: Read> Splitter<R> {
    pub(super) const fn new(source: R) -> Self {
        Self(Window::new(source))
    }

    /// Hands each member of the object that comes next to `take`, which has to consume the value.
    pub(super) fn members(
        &mut self,
        mut take: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        self.list(b'{', b'}', |splitter| {
            let name = splitter.name()?;
            splitter.expect(b':')?;
            take(splitter, &name)
        })
    }

    /// Hands each record of the array that comes next, of at most `limit` bytes, to `take`; `null` has none.
    pub(super) fn records<T: Record>(
        &mut self,
        limit: usize,
        mut take: impl FnMut(T::Of<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.peek()? == Some(b'n') {
            return match self.value(limit)? {
                b"null" => Ok(()),
                _ => Err(malformed("expected an array")),
            };
        }
        self.list(b'[', b']', |splitter| {
            match splitter.records_in_sight::<T>(limit, &mut take)? {
                0 => take(parse(splitter.value(limit)?)?),
                _ => Ok(()),
            }
        })
    }

    /// Takes the next records as far as all of them was read and nothing is wrong with them: how many that are.
    fn records_in_sight<T: Record>(
        &mut self,
        limit: usize,
        take: &mut impl FnMut(T::Of<'_>) -> Result<()>,
    ) -> Result<usize> {
        // That they are UTF-8 is checked for all at once, which is faster than text by text.
        let (text, mut end, mut count) = (utf8(self.0.rest()), 0, 0);
        let mut rest = text;
        while let Some((record, len)) = record_in_sight(rest).filter(|(_, len)| *len <= limit) {
            take(record)?;
            let behind = rest.get(len..).unwrap_or_default();
            (end, count) = (text.len() - behind.len(), count + 1);
            match behind.trim_start_matches(SPACE).strip_prefix(',') {
                Some(next) => rest = next.trim_start_matches(SPACE),
                None => break,
            }
        }
        self.0.take(end);
        Ok(count)
    }

    /// The bytes of the next value, of at most `limit` bytes.
    pub(super) fn value(&mut self, limit: usize) -> Result<&[u8]> {
        self.peek()?.ok_or_else(|| malformed("ends early"))?;
        let (mut scan, mut seen) = (Scan::default(), 0);
        loop {
            let unseen = self.0.rest().get(seen..).unwrap_or_default();
            let end = scan.end(unseen);
            seen += end.unwrap_or(unseen.len());
            if seen > limit {
                return Err(malformed(&format!("a value is larger than {limit} bytes")));
            }
            if end.is_some() || !self.fill()? {
                return Ok(self.0.take(seen));
            }
        }
    }

    /// Leaves out the next value, however long it is. What is inside of it is not looked at, but for where it ends.
    pub(super) fn skip(&mut self) -> Result<()> {
        self.peek()?.ok_or_else(|| malformed("ends early"))?;
        let mut scan = Scan::default();
        loop {
            let rest = self.0.rest();
            let end = scan.end(rest);
            let len = end.unwrap_or(rest.len());
            self.0.take(len);
            if end.is_some() || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(malformed("bytes after the value")),
        }
    }

    fn name(&mut self) -> Result<String> {
        const MAX_NAME: usize = 256;
        parse(self.value(MAX_NAME)?)
    }

    fn list(
        &mut self,
        open: u8,
        close: u8,
        mut take: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.expect(open)?;
        if self.peek()? == Some(close) {
            return self.expect(close);
        }
        loop {
            // What takes a value finds it at the start of the rest.
            self.peek()?;
            take(self)?;
            if self.peek()? == Some(close) {
                return self.expect(close);
            }
            self.expect(b',')?;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        match self.peek()? {
            Some(found) if found == byte => {
                self.0.take(1);
                Ok(())
            }
            Some(found) => Err(malformed(&format!(
                "expected {:?}, found {:?}",
                char::from(byte),
                char::from(found)
            ))),
            None => Err(malformed("ends early")),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let rest = self.0.rest();
            let next = rest
                .iter()
                .position(|byte| !SPACE.contains(&char::from(*byte)));
            self.0.take(next.unwrap_or(rest.len()));
            if next.is_some() || !self.fill()? {
                return Ok(self.0.rest().first().copied());
            }
        }
    }

    fn fill(&mut self) -> Result<bool> {
        self.0
            .fill()
            .map_err(|error: io::Error| Fault::io("read the input", &error))
    }
}

/// White space between values.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// The text up to where it is none.
fn utf8(bytes: &[u8]) -> &str {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.valid_up_to(),
    };
    std::str::from_utf8(bytes.get(..valid).unwrap_or_default()).unwrap_or_default()
}

/// The record at the start of `text` with its length, if nothing is wrong with it: its parser finds its end as well.
fn record_in_sight<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, usize)> {
    if let Some(record) = plain(text) {
        return Some(record);
    }
    if !text.starts_with('{') {
        return None;
    }
    let mut records = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let record = records.next()?.ok()?;
    Some((record, records.byte_offset()))
}

/// How far the end of a value was looked for.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    scalar: bool,
}

impl Scan {
    /// Looks on in `bytes`, which follow those seen before: how many of them belong to the value, if it ends in them.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.in_text && !self.escaped {
                at += special(bytes.get(at..)?)?;
            }
            let byte = bytes.get(at)?;
            if self.scalar && b",]}: \t\r\n".contains(byte) {
                return Some(at);
            }
            at += 1;
            if self.step(*byte) {
                return Some(at);
            }
        }
    }

    fn step(&mut self, byte: u8) -> bool {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => return false,
            }
            return !self.in_text && self.depth == 0;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {
                self.scalar = self.depth == 0;
                return false;
            }
        }
        !self.in_text && self.depth == 0
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))
}

pub(super) fn malformed(why: &str) -> Fault {
    invalid(format!("parse input json: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;
    use crate::runpack::Intent;

    impl Record for &'static RawValue {
        const ENTRY: &'static str = "";
        type Of<'a> = &'a RawValue;
    }

    /// Gives out one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = out.len().min(1);
            self.0.read(out.get_mut(..len).unwrap())
        }
    }

    fn split(text: &[u8]) -> Result<Vec<(String, Vec<String>)>> {
        let found = read::<&'static RawValue>(Trickle(text), |value| value.get().to_owned());
        let at_once = read::<&'static RawValue>(text, |value| value.get().to_owned());
        assert_eq!(said(&found), said(&at_once));
        found
    }

    fn read<T: Record>(
        source: impl Read,
        seen: impl Fn(T::Of<'_>) -> String,
    ) -> Result<Vec<(String, Vec<String>)>> {
        let (mut splitter, mut found) = (Splitter::new(source), Vec::new());
        splitter.members(|splitter, name| {
            let mut elements = Vec::new();
            splitter.records::<T>(1000, |element| {
                elements.push(seen(element));
                Ok(())
            })?;
            found.push((name.to_owned(), elements));
            Ok(())
        })?;
        splitter.end()?;
        Ok(found)
    }

    fn said<T: Clone>(result: &Result<T>) -> Result<T, String> {
        result.clone().map_err(|fault| fault.to_string())
    }

    #[test]
    fn values_are_found_whatever_stands_in_and_between_them() {
        let text = br#" { "a" : [ 1 ,"x]}\"\\", {"b":[{}]},null, true ] ,"c\u0064":[],"e":null} "#;
        let found = split(text).unwrap();
        assert_eq!(
            found[0].1,
            ["1", r#""x]}\"\\""#, r#"{"b":[{}]}"#, "null", "true"]
        );
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "cd", "e"]);
        assert!(found[1].1.is_empty() && found[2].1.is_empty());
    }

    #[test]
    fn what_stands_wrongly_between_values_is_refused() {
        for text in [
            "",
            "[",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":[",
            "{\"a\":[1",
            "{\"a\":[1,",
            "{\"a\":[1 2]}",
            "{\"a\":[1]",
            "{\"a\":[1]}x",
            "{\"a\":[1]} {}",
            "{\"a\" [1]}",
            "{a:[1]}",
            "{\"a\":1}",
            "{\"a\":[1],}",
            "{\"a\":nul}",
            "\u{feff}{}",
        ] {
            let refused = split(text.as_bytes());
            assert_eq!(refused.expect_err(text).code(), "invalid_input");
        }
    }

    #[test]
    fn a_value_is_taken_at_the_limit_and_refused_past_it() {
        for text in ["[\"12345678\"]", "[{\"a\":1234}]"] {
            let elements = |limit: usize| {
                Splitter::new(text.as_bytes()).records::<&'static RawValue>(limit, |_| Ok(()))
            };
            assert!(elements(10).is_ok());
            assert!(elements(9).unwrap_err().message().contains("larger than 9"));
        }
        let endless = io::repeat(b'[');
        assert!(Splitter::new(endless).value(1000).is_err());
    }

    proptest! {
        #[test]
        fn what_is_json_is_split_into_the_same_json(values in prop::collection::vec("[a-z\\\\\"\\[\\]{},: 0-9]{0,12}", 0..8)) {
            let value: Vec<Value> = values.into_iter().map(Value::from).collect();
            let text = serde_json::to_vec(&serde_json::json!({"k": value})).unwrap();
            let found = split(&text).unwrap();
            let parsed: Vec<Value> = found[0].1.iter().map(|e| serde_json::from_str(e).unwrap()).collect();
            prop_assert_eq!(parsed, value);
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }

        #[test]
        fn a_record_in_sight_is_what_it_is_out_of_sight(
            ids in prop::collection::vec("[a-z\\\\\"é]{0,6}", 0..4),
            at: prop::sample::Index,
            byte in prop::sample::select(&b"{}[]\",:\\ \n\0ux1\xff"[..]),
            change in prop::sample::select(&[0, 1, 2][..]),
        ) {
            let intents: Vec<Intent<'_>> = ids.iter().map(|id| Intent { intent_id: id.into(), ..Intent::default() }).collect();
            let mut text = serde_json::to_vec(&serde_json::json!({"k": intents, "l": []})).unwrap();
            let at = at.index(text.len());
            match change {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => {}
            }
            let seen = |intent: Intent<'_>| format!("{intent:?}");
            let found = read::<Intent<'static>>(Trickle(&text), seen);
            prop_assert_eq!(said(&found), said(&read::<Intent<'static>>(&text[..], seen)));
            prop_assert!(change < 2 || found.is_ok());
        }

        #[test]
        fn what_is_left_out_ends_where_it_would_be_read_to(value in "[\\[\\]{}\",\\\\:1 a]{0,30}") {
            let text = format!("{{\"a\":{value},\"b\":[]}}");
            let skip = |text: &[u8]| {
                let (mut splitter, mut names) = (Splitter::new(text), Vec::new());
                let walked = splitter.members(|splitter, name| {
                    names.push(name.to_owned());
                    splitter.skip()
                });
                (names, walked.is_ok())
            };
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert!(skip(text.as_bytes()).1);
            }
        }
    }
}
