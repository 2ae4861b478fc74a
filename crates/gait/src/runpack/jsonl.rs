//! Records one a line, read one at a time.

use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use worldcompute_fault::Result;

use crate::archive::{EntryReader, fault_of};
use crate::limits::MAX_RECORD_BYTES;
use crate::signature::unverified;

/// The records of one entry, in order. After an error there are no more.
pub struct Records<'a, R, T> {
    lines: BufReader<EntryReader<'a, R>>,
    name: &'static str,
    number: usize,
    line: Vec<u8>,
    ended: bool,
    record: PhantomData<fn() -> T>,
}

impl<'a, R: Read, T: DeserializeOwned> Records<'a, R, T> {
    pub(super) fn new(entry: EntryReader<'a, R>, name: &'static str) -> Self {
        Self {
            lines: BufReader::with_capacity(64 << 10, entry),
            name,
            number: 0,
            line: Vec::new(),
            ended: false,
            record: PhantomData,
        }
    }

    /// The next line that is not blank.
    fn advance(&mut self) -> Result<Option<T>> {
        loop {
            self.line.clear();
            self.number += 1;
            let limit = MAX_RECORD_BYTES as u64 + 1;
            let read = (&mut self.lines)
                .take(limit)
                .read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| fault_of(&format!("read {}", self.name), error))?;
            if self.line.trim_ascii().len() > MAX_RECORD_BYTES {
                return Err(self.malformed(&format!("is longer than {MAX_RECORD_BYTES} bytes")));
            }
            match self.line.trim_ascii() {
                [] if read == 0 => return Ok(None),
                [] => {}
                line => return self.parsed(line).map(Some),
            }
        }
    }

    fn parsed(&self, line: &[u8]) -> Result<T> {
        serde_json::from_slice(line).map_err(|error| self.malformed(&error.to_string()))
    }

    fn malformed(&self, why: &str) -> worldcompute_fault::Fault {
        unverified(format!("parse {}: line {}: {why}", self.name, self.number))
    }
}

impl<R: Read, T: DeserializeOwned> Iterator for Records<'_, R, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
