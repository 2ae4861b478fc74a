//! More notes than one would want to hold, put in order: sorted batch by batch into a scratch file, then merged.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use worldcompute_durable::scratch_file;
use worldcompute_fault::{Fault, Result};

/// Bytes of notes that are sorted in memory at a time.
const BATCH: usize = 2 << 20;
/// Bytes of memory that a note takes besides its own.
const OVERHEAD: usize = 64;
/// Bytes read at once of each batch while they are merged.
const CHUNK: usize = 8 << 10;

/// Takes notes on keys in any order. Holds one batch while it takes them, and then a chunk and a note of every batch.
pub(crate) struct Sorter {
    file: BufWriter<File>,
    /// Where in the file each batch ends.
    ends: Vec<u64>,
    /// The batch that is being gathered, and the memory it takes.
    held: Vec<Note>,
    size: usize,
    limit: usize,
}

/// A key and what is noted on it.
type Note = (Box<str>, Box<str>);

impl Sorter {
    /// Errors: those of making a scratch file.
    pub(crate) fn new() -> Result<Self> {
        Self::in_batches(BATCH)
    }

    fn in_batches(limit: usize) -> Result<Self> {
        Ok(Self {
            file: BufWriter::new(scratch_file()?),
            ends: Vec::new(),
            held: Vec::new(),
            size: 0,
            limit,
        })
    }

    /// Notes `text` on `key`.
    pub(crate) fn push(&mut self, key: &str, text: &str) -> Result<()> {
        let size = key
            .len()
            .saturating_add(text.len())
            .saturating_add(OVERHEAD);
        if self.size.saturating_add(size) > self.limit {
            self.spill().map_err(refused)?;
        }
        self.size = self.size.saturating_add(size);
        self.held.push((key.into(), text.into()));
        Ok(())
    }

    /// Hands all notes to `each`: in the byte order of their keys, those on one key as they came.
    ///
    /// Errors: those of the disk and of `each`.
    pub(crate) fn finish(mut self, mut each: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
        self.spill().map_err(refused)?;
        let file = self
            .file
            .into_inner()
            .map_err(|error| refused(error.into_error()))?;
        let mut heads = heads(&file, &self.ends).map_err(refused)?;
        while let Some(mut head) = heads.peek_mut() {
            each(&head.note.0, &head.note.1)?;
            match read_note(&mut head.rest).map_err(refused)? {
                Some(next) => head.note = next,
                None => drop(PeekMut::pop(head)),
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut end = self.ends.last().copied().unwrap_or_default();
        for (key, text) in self.held.drain(..) {
            end = end.saturating_add(write_note(&mut self.file, &key, &text)?);
        }
        self.ends.push(end);
        self.size = 0;
        Ok(())
    }
}

fn refused(error: io::Error) -> Fault {
    Fault::io("sort in a temporary file", &error)
}

/// A batch as far as it was read: its next note, and all that come after.
struct Head<'a> {
    note: Note,
    number: usize,
    rest: BufReader<Batch<'a>>,
}

/// The first note of every batch that has one.
fn heads<'a>(file: &'a File, ends: &[u64]) -> io::Result<BinaryHeap<Head<'a>>> {
    let starts = std::iter::once(&0).chain(ends);
    let mut heads = BinaryHeap::new();
    for (number, (&at, &end)) in starts.zip(ends).enumerate() {
        let mut rest = BufReader::with_capacity(CHUNK, Batch { file, at, end });
        if let Some(note) = read_note(&mut rest)? {
            heads.push(Head { note, number, rest });
        }
    }
    Ok(heads)
}

impl Ord for Head<'_> {
    /// The greatest comes first: the least key, and for one key the earliest batch.
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.note.0, other.number).cmp(&(&self.note.0, self.number))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

/// The part of the scratch file that is one batch. Batches are read in turns, so each keeps its own place.
struct Batch<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Batch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let got = self
            .file
            .read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(got as u64);
        Ok(got)
    }
}

/// Returns the number of bytes written: both texts, each behind its length.
fn write_note(file: &mut impl Write, key: &str, text: &str) -> io::Result<u64> {
    let mut written = 0;
    for part in [key, text] {
        let len = u32::try_from(part.len()).map_err(io::Error::other)?;
        file.write_all(&len.to_le_bytes())?;
        file.write_all(part.as_bytes())?;
        written += u64::from(len) + 4;
    }
    Ok(written)
}

fn read_note(batch: &mut impl io::BufRead) -> io::Result<Option<Note>> {
    if batch.fill_buf()?.is_empty() {
        return Ok(None);
    }
    Ok(Some((read_text(batch)?, read_text(batch)?)))
}

fn read_text(batch: &mut impl Read) -> io::Result<Box<str>> {
    let mut len = [0; 4];
    batch.read_exact(&mut len)?;
    let mut text = String::new();
    batch
        .take(u32::from_le_bytes(len).into())
        .read_to_string(&mut text)?;
    Ok(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorts with room for `limit` bytes at a time.
    fn sorted(limit: usize, notes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut sorter = Sorter::in_batches(limit).unwrap();
        for (key, text) in notes {
            sorter.push(key, text).unwrap();
        }
        let mut sorted = Vec::new();
        let each = |key: &str, text: &str| {
            sorted.push((key.to_owned(), text.to_owned()));
            Ok(())
        };
        sorter.finish(each).unwrap();
        sorted
    }

    #[test]
    fn notes_come_in_the_order_of_their_keys_and_those_on_one_key_as_they_came() {
        let keys = ["b", "", "ab", "b", "a\n", "a", "é", "b", "a", "\u{0}"];
        let texts: Vec<String> = (0..keys.len()).map(|number| number.to_string()).collect();
        let notes: Vec<_> = keys
            .into_iter()
            .zip(texts.iter().map(String::as_str))
            .collect();
        let mut expected: Vec<_> = notes
            .iter()
            .map(|(key, text)| (key.to_string(), text.to_string()))
            .collect();
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        for limit in [0, 200, 300, BATCH] {
            assert_eq!(sorted(limit, &notes), expected, "batches of {limit} bytes");
        }
        assert!(sorted(BATCH, &[]).is_empty());
    }

    #[test]
    fn no_more_than_a_batch_is_held() {
        let mut sorter = Sorter::in_batches(10_000).unwrap();
        for number in 0..10_000 {
            sorter.push(&format!("key {number}"), "text").unwrap();
            assert!(sorter.size <= 10_000 && sorter.held.len() <= 10_000 / OVERHEAD);
        }
    }

    #[test]
    fn a_refusal_ends_the_reading_with_it() {
        let mut sorter = Sorter::new().unwrap();
        sorter.push("a", "").unwrap();
        let full = || Fault::new(worldcompute_fault::Category::IoFailure, "disk_full", "full");
        assert_eq!(
            sorter.finish(|_, _| Err(full())).unwrap_err().code(),
            "disk_full"
        );
    }
}
