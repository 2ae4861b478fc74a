//! Maps of sparse files, in the four ways that GNU tar has written them.

use worldcompute_fault::{Fault, Result};

use super::header::{number, unsigned};
use super::pax::{SparseKeys, decimal};
use super::{BLOCK, invalid};
use crate::limits::{MAX_FILE, MAX_SPARSE_PIECES};
use crate::refusal::refuse;
use crate::unpack::Unpacked;

/// A part of a file that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its place in the file.
    pub at: u64,
    pub len: u64,
}

/// What was declared, before anybody believes it.
pub(super) struct Map {
    size: u64,
    pieces: Vec<Piece>,
}

/// A file without holes.
pub(super) fn whole(size: u64) -> Vec<Piece> {
    match size {
        0 => Vec::new(),
        len => vec![Piece { at: 0, len }],
    }
}

pub(super) fn too_many() -> Fault {
    let message = format!("has a sparse file of more than {MAX_SPARSE_PIECES} pieces");
    refuse(
        "invalid_sparse_map",
        message,
        "store the file with fewer holes",
    )
}

impl Map {
    /// Size and pieces: in order, apart, within the file, and as long as what is stored.
    pub(super) fn checked(mut self, stored: u64) -> Result<(u64, Vec<Piece>)> {
        if self.size > MAX_FILE {
            let message = format!("has a file of {} bytes: {MAX_FILE} is the most", self.size);
            return Err(refuse("entry_too_large", message, "use a smaller file"));
        }
        let (mut end, mut sum) = (0, 0_u64);
        for piece in &self.pieces {
            let after = piece.at.checked_add(piece.len);
            let after = after.filter(|after| *after <= self.size && piece.at >= end);
            end = after.ok_or_else(|| broken("pieces overlap or lie outside of the file"))?;
            sum += piece.len;
        }
        if sum != stored {
            return Err(broken("its pieces are not what is stored"));
        }
        self.pieces.retain(|piece| piece.len > 0);
        Ok((self.size, self.pieces))
    }

    fn push(&mut self, at: u64, len: u64) -> Result<()> {
        if self.pieces.len() >= MAX_SPARSE_PIECES {
            return Err(too_many());
        }
        self.pieces.push(Piece { at, len });
        Ok(())
    }

    fn of(size: u64, numbers: &[u64]) -> Result<Self> {
        let mut map = Self {
            size,
            pieces: Vec::new(),
        };
        for pair in numbers.chunks(2) {
            match *pair {
                [at, len] => map.push(at, len)?,
                _ => return Err(broken("a piece has no length")),
            }
        }
        Ok(map)
    }
}

/// The map in the header of type `S` and in the blocks after it.
pub(super) fn old_gnu(header: &[u8; BLOCK], input: &mut Unpacked<'_>) -> Result<Map> {
    let size = unsigned(header.get(483..495).unwrap_or_default(), "size")?;
    let mut map = Map::of(size, &[])?;
    let mut block = *header;
    let mut place = (386, 4, 482);
    loop {
        let (from, count, more) = place;
        let table = block.get(from..from + count * 24).unwrap_or_default();
        table
            .chunks_exact(24)
            .try_for_each(|pair| old_piece(pair, &mut map))?;
        if block.get(more).is_none_or(|more| *more == 0) {
            return Ok(map);
        }
        if !input.read_block(&mut block)? {
            return Err(crate::unpack::cut());
        }
        place = (0, 21, 504);
    }
}

fn old_piece(pair: &[u8], map: &mut Map) -> Result<()> {
    let (at, len) = pair.split_at_checked(12).unwrap_or_default();
    // A table that is not full ends with an empty field.
    if at.first().is_none_or(|byte| *byte == 0) && number(len, "sparse map")? == 0 {
        return Ok(());
    }
    map.push(unsigned(at, "sparse map")?, unsigned(len, "sparse map")?)
}

/// The map that an extended header declares, and how many of the stored bytes it took: version 1.0 has it before
/// the contents. `None` for a file without holes.
pub(super) fn of_pax(
    keys: &SparseKeys,
    input: &mut Unpacked<'_>,
    stored: u64,
) -> Result<(Option<Map>, u64)> {
    match (keys.major, keys.minor) {
        (None, None) | (Some(0), Some(0 | 1)) => {}
        (Some(1), Some(0)) => return in_content(keys, input, stored),
        _ => return Err(broken("its version is unknown")),
    }
    match (&keys.map, keys.size) {
        (None, None) => Ok((None, 0)),
        (Some(map), Some(size)) => Ok((Some(Map::of(size, map)?), 0)),
        (None, Some(_)) | (Some(_), None) => Err(broken("it is there in part")),
    }
}

/// Decimal numbers, a line each, padded to whole blocks.
fn in_content(
    keys: &SparseKeys,
    input: &mut Unpacked<'_>,
    stored: u64,
) -> Result<(Option<Map>, u64)> {
    let size = keys.size.ok_or_else(|| broken("it names no size"))?;
    let mut lines = Lines {
        input,
        left: stored,
        block: [0; BLOCK],
        at: BLOCK,
    };
    let count = lines.next()?;
    let mut map = Map::of(size, &[])?;
    for _ in 0..count {
        map.push(lines.next()?, lines.next()?)?;
    }
    Ok((Some(map), stored - lines.left))
}

struct Lines<'a, 'b> {
    input: &'a mut Unpacked<'b>,
    /// Stored bytes that were not read yet.
    left: u64,
    block: [u8; BLOCK],
    at: usize,
}

impl Lines<'_, '_> {
    fn next(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if digits.len() > 20 => return Err(broken("a number is too long")),
                digit => digits.push(digit),
            }
        }
        decimal(&digits).ok_or_else(|| broken("a number is none"))
    }

    fn byte(&mut self) -> Result<u8> {
        if self.at == BLOCK {
            let left = self.left.checked_sub(BLOCK as u64);
            self.left = left.ok_or_else(|| broken("it does not end"))?;
            if !self.input.read_block(&mut self.block)? {
                return Err(crate::unpack::cut());
            }
            self.at = 0;
        }
        self.at += 1;
        let byte = self.block.get(self.at - 1).copied();
        byte.ok_or_else(|| invalid("a sparse map does not end"))
    }
}

fn broken(why: &str) -> Fault {
    let message = format!("has a sparse file whose map is broken: {why}");
    refuse("invalid_sparse_map", message, "pack the layer again")
}
