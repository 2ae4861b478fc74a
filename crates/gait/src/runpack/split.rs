//! A JSON text that is too large to hold, taken apart into values that are not.

use std::io::{self, Read};

use worldcompute_fault::{Fault, Result};

use crate::limits::invalid;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Walks a JSON text from value to value. It finds where values end and checks what stands between them; what is
/// inside a value is for whoever parses it.
pub(super) struct Splitter<R> {
    source: R,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Splitter<R> {
    pub(super) const fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            at: 0,
            ended: false,
        }
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

    /// Hands each element of the array that comes next, of at most `limit` bytes, to `take`; `null` has none.
    pub(super) fn elements(
        &mut self,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.peek()? == Some(b'n') {
            return match self.value(limit)? {
                b"null" => Ok(()),
                _ => Err(malformed("expected an array")),
            };
        }
        self.list(b'[', b']', |splitter| take(splitter.value(limit)?))
    }

    /// The bytes of the next value, of at most `limit` bytes.
    pub(super) fn value(&mut self, limit: usize) -> Result<&[u8]> {
        self.peek()?.ok_or_else(|| malformed("ends early"))?;
        let mut scan = Scan::default();
        while !scan.advance(self.buffer.get(self.at..).unwrap_or_default()) {
            if scan.seen > limit {
                break;
            }
            if !self.fill()? {
                break;
            }
        }
        if scan.seen > limit {
            return Err(malformed(&format!("a value is larger than {limit} bytes")));
        }
        let start = self.at;
        self.at = start.saturating_add(scan.seen);
        Ok(self.buffer.get(start..self.at).unwrap_or_default())
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
        let text = self.value(MAX_NAME)?;
        serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))
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
                self.at += 1;
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
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            match rest.iter().position(|byte| !b" \t\r\n".contains(byte)) {
                Some(skip) => {
                    self.at += skip;
                    return Ok(self.buffer.get(self.at).copied());
                }
                None => {
                    self.at = self.buffer.len();
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Drops what was consumed and reads more; false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let read = (&mut self.source)
            .take(CHUNK as u64)
            .read_to_end(&mut self.buffer)
            .map_err(|error: io::Error| Fault::io("read the input", &error))?;
        self.ended = read == 0;
        Ok(!self.ended)
    }
}

/// How far the end of a value was looked for.
#[derive(Default)]
struct Scan {
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
    scalar: bool,
}

impl Scan {
    /// Looks on in `bytes`, which start where the value does; true when its end was found, just before `seen`.
    fn advance(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes.get(self.seen..).unwrap_or_default() {
            if self.scalar && b",]}: \t\r\n".contains(byte) {
                return true;
            }
            self.seen += 1;
            if self.step(*byte) {
                return true;
            }
        }
        false
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

pub(super) fn malformed(why: &str) -> Fault {
    invalid(format!("parse input json: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Gives out one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = out.len().min(1);
            self.0.read(out.get_mut(..len).unwrap())
        }
    }

    fn split(text: &[u8]) -> Result<Vec<(String, Vec<Vec<u8>>)>> {
        let mut splitter = Splitter::new(Trickle(text));
        let mut found = Vec::new();
        splitter.members(|splitter, name| {
            let mut elements = Vec::new();
            splitter.elements(1000, |element| {
                elements.push(element.to_vec());
                Ok(())
            })?;
            found.push((name.to_owned(), elements));
            Ok(())
        })?;
        splitter.end()?;
        Ok(found)
    }

    #[test]
    fn values_are_found_whatever_stands_in_and_between_them() {
        let text = br#" { "a" : [ 1 ,"x]}\"\\", {"b":[{}]},null, true ] ,"c\u0064":[],"e":null} "#;
        let found = split(text).unwrap();
        let texts: Vec<Vec<&str>> = found
            .iter()
            .map(|(_, elements)| {
                elements
                    .iter()
                    .map(|e| std::str::from_utf8(e).unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(
            texts[0],
            ["1", r#""x]}\"\\""#, r#"{"b":[{}]}"#, "null", "true"]
        );
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "cd", "e"]);
        assert!(texts[1].is_empty() && texts[2].is_empty());
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
        let text = b"[\"12345678\"]";
        let elements = |limit: usize| Splitter::new(&text[..]).elements(limit, |_| Ok(()));
        assert!(elements(10).is_ok());
        assert!(elements(9).unwrap_err().message().contains("larger than 9"));
        let endless = io::repeat(b'[');
        assert!(Splitter::new(endless).value(1000).is_err());
    }

    proptest! {
        #[test]
        fn what_is_json_is_split_into_the_same_json(values in prop::collection::vec("[a-z\\\\\"\\[\\]{},: 0-9]{0,12}", 0..8)) {
            let value: Vec<Value> = values.into_iter().map(Value::from).collect();
            let text = serde_json::to_vec(&serde_json::json!({"k": value})).unwrap();
            let found = split(&text).unwrap();
            let parsed: Vec<Value> = found[0].1.iter().map(|e| serde_json::from_slice(e).unwrap()).collect();
            prop_assert_eq!(parsed, value);
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }
    }
}
