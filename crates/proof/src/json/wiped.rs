//! Bytes that may be secret while they are written: what they outgrow and what is dropped is wiped.

use std::io::{self, Write};

use zeroize::optimization_barrier;

/// Overwrites all that `bytes` has room for. In one piece, and not byte by byte as `Zeroize` does: for 100 KiB that takes
/// 1 us instead of 14.
pub fn wipe(bytes: &mut Vec<u8>) {
    bytes.fill(0);
    // Whoever made it may have cut it.
    bytes.resize(bytes.capacity(), 0);
    // Nobody reads them any more, but the compiler is not to know.
    optimization_barrier(bytes.as_slice());
    bytes.clear();
}

/// A text that is being written.
#[derive(Default)]
pub(super) struct Wiped(Vec<u8>);

impl Wiped {
    pub(super) fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// What was written, for its new owner to wipe.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.reserve(1);
        self.0.push(byte);
    }

    #[inline]
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Makes room for `more` bytes. A vector that grows by itself leaves its content behind.
    #[inline]
    pub(super) fn reserve(&mut self, more: usize) {
        if self.0.capacity().wrapping_sub(self.0.len()) < more {
            self.grow(self.0.len().saturating_add(more));
        }
    }

    #[cold]
    fn grow(&mut self, length: usize) {
        // What follows a long text is short.
        let room = length.saturating_add(length / 8).saturating_add(16);
        let room = room.max(self.0.capacity().saturating_mul(2));
        let mut larger = Vec::with_capacity(room);
        larger.extend_from_slice(&self.0);
        drop(Self(std::mem::replace(&mut self.0, larger)));
    }
}

impl Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // It was never cut, so there is nothing behind its end.
        self.0.fill(0);
        optimization_barrier(self.0.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use serde::Serialize;

    use super::*;

    /// What is looked for, the other way round: in this spelling it may be anywhere.
    const BACKWARDS: &[u8] = b"egassap terces a si siht";

    #[derive(Serialize)]
    struct Outer<'a> {
        passages: Vec<&'a str>,
        inner: Inner<'a>,
    }

    #[derive(Serialize)]
    struct Inner<'a> {
        whole: &'a str,
    }

    fn is_passage(bytes: &[u8]) -> bool {
        let Some((first, rest)) = BACKWARDS.split_last() else {
            return false;
        };
        let mut at = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
        at.any(|(at, _)| {
            let found = bytes.iter().skip(at + 1).take(rest.len());
            found.eq(rest.iter().rev())
        })
    }

    /// Whether the passage is in memory that this process can write.
    fn is_in_memory() -> bool {
        let (maps, memory) = ("/proc/self/maps", File::open("/proc/self/mem").unwrap());
        let maps = std::fs::read_to_string(maps).unwrap();
        let areas = maps.lines().filter(|area| area.contains(" rw-p "));
        let address = |text: &str| u64::from_str_radix(text, 16).unwrap();
        areas.into_iter().any(|area| {
            let (from, to) = area.split_once(' ').unwrap().0.split_once('-').unwrap();
            let size = address(to) - address(from);
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            // An area may have gone since it was listed.
            let read = memory.read_at(&mut bytes, address(from)).unwrap_or(0);
            is_passage(&bytes[..read])
        })
    }

    #[test]
    fn a_text_that_was_written_is_nowhere_once_its_owner_has_wiped_it() {
        let passage: Vec<u8> = BACKWARDS.iter().rev().copied().collect();
        let mut secret = String::with_capacity(passage.len() * 2_000);
        (0..2_000).for_each(|_| secret.push_str(std::str::from_utf8(&passage).unwrap()));
        let passages = (0..2_000).map(|at| &secret[at * passage.len()..][..passage.len()]);
        let outer = Outer {
            passages: passages.collect(),
            inner: Inner { whole: &secret },
        };
        let mut json = crate::canonical_json(&outer).unwrap();
        assert!(is_passage(&json) && is_in_memory());
        drop(outer);
        for mut secret in [passage, secret.into_bytes()] {
            wipe(&mut secret);
        }
        wipe(&mut json);
        assert!(!is_in_memory());
    }

    #[test]
    fn what_is_written_comes_back_however_often_it_outgrows_its_room() {
        let mut text = Wiped::with_room(1);
        let mut expected = Vec::new();
        for round in 0_u8..200 {
            text.push(round);
            text.extend(&vec![round; usize::from(round)]);
            expected.push(round);
            expected.extend(vec![round; usize::from(round)]);
        }
        assert_eq!(text.bytes(), expected);
        assert_eq!(text.into_bytes(), expected);
    }
}
