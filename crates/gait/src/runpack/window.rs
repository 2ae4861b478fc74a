//! The part of a long text that is held: what comes next in it.

use std::io::{self, Read};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Bytes of a source from where it was consumed on, as far as they were read.
pub(super) struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Window<R> {
    pub(super) const fn new(source: R) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// What was read and not consumed.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Consumes `len` bytes of the rest and returns them.
    pub(super) fn take(&mut self, len: usize) -> &[u8] {
        let start = self.start;
        self.start = start.saturating_add(len).min(self.end);
        self.bytes.get(start..self.start).unwrap_or_default()
    }

    /// Reads more, behind the rest; false at the end.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        let needed = self.end.saturating_add(CHUNK);
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let got = loop {
            match self.source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end = self.end.saturating_add(got);
        Ok(got > 0)
    }
}
