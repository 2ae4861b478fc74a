//! What each piece of an object holds, so that a part of it can be verified without the rest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use worldcompute_proof::{Cid, Hasher, Sha256};

use crate::room::lock;

/// Bytes of one piece. The last one of an object may be shorter.
pub const PIECE: usize = 256 << 10;

/// How many digests of pieces are remembered before all of them are dropped: 4 MiB of memory.
const MAX_REMEMBERED: usize = 1 << 17;

/// The digests of an object's pieces, taken in the very pass in which the whole matched its name: they are as much a
/// property of the object as its name is, whatever becomes of the file they were read from.
pub struct Pieces {
    length: u64,
    digests: Vec<Sha256>,
}

impl Pieces {
    /// Reads everything; `None` when it is not the object `cid`, or has more than `max` bytes.
    pub fn of(cid: &Cid, mut bytes: impl Read, max: u64) -> io::Result<Option<Self>> {
        let mut whole = Hasher::new();
        let mut piece = vec![0; PIECE];
        let (mut length, mut digests) = (0, Vec::new());
        loop {
            let bytes = fill(&mut bytes, &mut piece)?;
            length += bytes.len() as u64;
            if length > max {
                return Ok(None);
            }
            if bytes.is_empty() {
                let matches = whole.finish() == cid.digest();
                return Ok(matches.then_some(Self { length, digests }));
            }
            whole.update(bytes);
            digests.push(Sha256::of(bytes));
        }
    }

    /// Bytes of the whole object.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Puts piece `index` of the object into `buffer`; false when `file` holds something else there.
    pub fn read(&self, file: &File, index: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let Some(digest) = self.digests.get(index) else {
            buffer.clear();
            return Ok(true);
        };
        let start = index as u64 * PIECE as u64;
        buffer.resize((self.length - start).min(PIECE as u64) as usize, 0);
        match file.read_exact_at(buffer, start) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| Sha256::of(buffer) == *digest),
        }
    }
}

/// The pieces of the objects that were read last.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<Cid, Arc<Pieces>>>);

impl Remembered {
    pub fn get(&self, cid: &Cid) -> Option<Arc<Pieces>> {
        lock(&self.0).get(cid).cloned()
    }

    pub fn add(&self, cid: &Cid, pieces: &Arc<Pieces>) {
        let mut all = lock(&self.0);
        let digests: usize = all.values().map(|pieces| weight(pieces)).sum();
        if digests.saturating_add(weight(pieces)) > MAX_REMEMBERED {
            all.clear();
        }
        all.insert(*cid, pieces.clone());
    }
}

/// What an entry takes, in digests: its own are not all of it.
fn weight(pieces: &Pieces) -> usize {
    pieces.digests.len().saturating_add(4)
}

/// As much as there is, up to the buffer's length.
fn fill<'a>(bytes: &mut impl Read, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..)
        && !room.is_empty()
    {
        match bytes.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_object_itself_has_pieces() {
        let bytes = vec![7; PIECE + 1];
        let cid = Cid::raw(&bytes);
        let pieces = Pieces::of(&cid, bytes.as_slice(), u64::MAX)
            .unwrap()
            .unwrap();
        assert_eq!((pieces.length, pieces.digests.len()), (PIECE as u64 + 1, 2));
        for other in [&bytes[1..], &[bytes.as_slice(), b"x"].concat()] {
            assert!(Pieces::of(&cid, other, u64::MAX).unwrap().is_none());
        }
        assert!(
            Pieces::of(&cid, bytes.as_slice(), PIECE as u64)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_is_among_it() {
        let remembered = Remembered::default();
        let large = || {
            Arc::new(Pieces {
                length: 0,
                digests: vec![Sha256::of(""); MAX_REMEMBERED / 3],
            })
        };
        for number in 0..10_u8 {
            let cid = Cid::raw([number]);
            remembered.add(&cid, &large());
            assert!(remembered.get(&cid).is_some());
            assert!(lock(&remembered.0).len() <= 2);
        }
    }
}
