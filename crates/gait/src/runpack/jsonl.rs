//! Records one a line, read one at a time.

use std::fs::File;
use std::io;
use std::marker::PhantomData;

use serde::Deserialize;
use worldcompute_fault::Result;

use super::record::{Intent, ResultRecord};
use super::window::Window;
use super::{INTENTS, RESULTS};
use crate::archive::{EntryReader, ReadAt, fault_of};
use crate::limits::MAX_RECORD_BYTES;
use crate::signature::unverified;

/// Something that a runpack has an entry of, one a line.
pub trait Record {
    /// The entry.
    const ENTRY: &'static str;

    /// The same, with the texts that it was read from.
    type Of<'a>: Deserialize<'a>;
}

impl Record for Intent<'static> {
    const ENTRY: &'static str = INTENTS;
    type Of<'a> = Intent<'a>;
}

impl Record for ResultRecord<'static> {
    const ENTRY: &'static str = RESULTS;
    type Of<'a> = ResultRecord<'a>;
}

/// The records of one entry, in order.
pub struct Records<'a, T, R = File> {
    lines: Window<EntryReader<'a, R>>,
    number: usize,
    record: PhantomData<fn() -> T>,
}

impl<'a, T: Record, R: ReadAt> Records<'a, T, R> {
    pub(super) fn new(entry: EntryReader<'a, R>) -> Self {
        Self {
            lines: Window::new(entry),
            number: 0,
            record: PhantomData,
        }
    }

    /// The next record, unless there are no more.
    ///
    /// # Errors
    /// `verification_failed` for what is no such record or too long; the refusals of the disk.
    pub fn advance(&mut self) -> Result<Option<T::Of<'_>>> {
        let line = loop {
            self.number += 1;
            let len = self.line_len();
            let len = len.map_err(|error| fault_of(&format!("read {}", T::ENTRY), error))?;
            let line = self.lines.rest().get(..len).unwrap_or_default();
            match line.trim_ascii() {
                [] if len == 0 => return Ok(None),
                [] => self.lines.take(len),
                _ => break len,
            };
        };
        let number = self.number;
        let malformed = |why: &str| unverified(format!("parse {}: line {number}: {why}", T::ENTRY));
        let line = self.lines.take(line).trim_ascii();
        if line.len() > MAX_RECORD_BYTES {
            return Err(malformed(&format!(
                "is longer than {MAX_RECORD_BYTES} bytes"
            )));
        }
        parsed(line).map_err(|error| malformed(&error.to_string()))
    }

    /// Bytes of the next line with its break, or of as much of it as is past the limit; 0 at the end.
    fn line_len(&mut self) -> io::Result<usize> {
        const LIMIT: usize = MAX_RECORD_BYTES + 1;
        let mut seen = 0;
        loop {
            let rest = self.lines.rest();
            let unseen = rest.get(seen..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                return Ok(LIMIT.min(seen + at + 1));
            }
            seen = rest.len();
            if seen >= LIMIT || !self.lines.fill()? {
                return Ok(LIMIT.min(seen));
            }
        }
    }
}

/// Texts are checked to be UTF-8 all at once, which is faster than one by one.
fn parsed<'a, T: Deserialize<'a>>(line: &'a [u8]) -> serde_json::Result<Option<T>> {
    match std::str::from_utf8(line) {
        Ok(line) => serde_json::from_str(line).map(Some),
        Err(_) => serde_json::from_slice(line).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_read_as_its_bytes_are(
            id in "[a-z\\\\\"é]{0,6}",
            at: prop::sample::Index,
            byte: u8,
        ) {
            let intent = Intent { intent_id: (&id).into(), ..Intent::default() };
            let mut line = serde_json::to_vec(&intent).unwrap();
            let at = at.index(line.len());
            line[at] = byte;
            let said = |read: serde_json::Result<Intent<'_>>| format!("{read:?}");
            let read = parsed::<Intent<'_>>(&line).map(Option::unwrap);
            prop_assert_eq!(said(read), said(serde_json::from_slice(&line)));
        }
    }
}
