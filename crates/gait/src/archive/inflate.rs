//! The content of one entry, checked on the way.

use std::io::{self, BufRead, BufReader, Read, Take};

use flate2::bufread::DeflateDecoder;

use super::error_of;
use super::reader::{Entry, ReadAt, ReadFrom};
use crate::signature::unverified;

/// Reads one entry. The last byte is only given out once length and checksum of all of them were found right; an error
/// that is damage, not the disk's, carries a fault (see [`super::fault_of`]).
pub struct EntryReader<'a, R> {
    body: Body<BufReader<Take<ReadFrom<'a, R>>>>,
    name: &'a str,
    crc: crc32fast::Hasher,
    expected_crc: u32,
    /// Bytes still to come.
    left: u64,
    checked: bool,
}

enum Body<R> {
    Stored(R),
    Deflated(DeflateDecoder<R>),
}

impl<'a, R: ReadAt> EntryReader<'a, R> {
    /// Reads `entry` from `source`, which starts with its first byte.
    pub(super) fn new(source: ReadFrom<'a, R>, entry: &'a Entry) -> Self {
        let packed = BufReader::new(source.take(entry.sums.packed.into()));
        Self {
            body: match entry.deflated {
                true => Body::Deflated(DeflateDecoder::new(packed)),
                false => Body::Stored(packed),
            },
            name: entry.name(),
            crc: crc32fast::Hasher::new(),
            expected_crc: entry.sums.crc,
            left: entry.size(),
            checked: false,
        }
    }

    fn check(&mut self) -> io::Result<()> {
        if self.checked {
            return Ok(());
        }
        if self.left > 0
            || self.crc.clone().finalize() != self.expected_crc
            || !self.body.is_spent()?
        {
            return Err(self.damaged());
        }
        self.checked = true;
        Ok(())
    }

    fn damaged(&self) -> io::Error {
        error_of(unverified(format!("zip entry {} is damaged", self.name)))
    }
}

impl<R: ReadAt> Read for EntryReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = match self.body.read(out) {
            Err(error) if is_damage(&error) => return Err(self.damaged()),
            read => read?,
        };
        self.left = match self.left.checked_sub(got as u64) {
            Some(left) => left,
            None => return Err(self.damaged()),
        };
        self.crc.update(out.get(..got).unwrap_or_default());
        if self.left == 0 || (got == 0 && !out.is_empty()) {
            self.check()?;
        }
        Ok(got)
    }
}

impl<R: BufRead> Body<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(packed) => packed.read(out),
            Self::Deflated(inflater) => inflater.read(out),
        }
    }

    /// True when nothing is left: neither content nor bytes that no content came from.
    fn is_spent(&mut self) -> io::Result<bool> {
        let more = self.read(&mut [0])?;
        let rest = match self {
            Self::Stored(packed) => packed.fill_buf()?,
            Self::Deflated(inflater) => inflater.get_mut().fill_buf()?,
        };
        Ok(more == 0 && rest.is_empty())
    }
}

/// What the inflater says of bytes that are no deflate stream, or only the start of one.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}
