//! The guest's memory: integers, texts and lists of buffers in it, little end first.

use crate::request::MAX_PATH;
use crate::stop::{Errno, Result};

/// Most buffers of one call.
const MAX_IOVECS: u32 = 1024;

/// Bytes of one entry of a list of buffers.
pub const IOVEC: u64 = 8;

/// Buffers in the guest's memory.
pub struct Iovec {
    pub buffer: u32,
    pub length: u32,
}

pub fn slice(memory: &[u8], pointer: u32, length: u32) -> Result<&[u8]> {
    let start = pointer as usize;
    Ok(memory
        .get(start..start + length as usize)
        .ok_or(Errno::Fault)?)
}

pub fn slice_mut(memory: &mut [u8], pointer: u32, length: u32) -> Result<&mut [u8]> {
    let start = pointer as usize;
    Ok(memory
        .get_mut(start..start + length as usize)
        .ok_or(Errno::Fault)?)
}

/// The pointer `offset` bytes further.
pub fn at(pointer: u32, offset: u32) -> Result<u32> {
    Ok(pointer.checked_add(offset).ok_or(Errno::Fault)?)
}

pub fn put(memory: &mut [u8], pointer: u32, bytes: &[u8]) -> Result<()> {
    slice_mut(memory, pointer, bytes.len() as u32)?.copy_from_slice(bytes);
    Ok(())
}

pub fn put_u32(memory: &mut [u8], pointer: u32, value: u32) -> Result<()> {
    put(memory, pointer, &value.to_le_bytes())
}

pub fn put_u64(memory: &mut [u8], pointer: u32, value: u64) -> Result<()> {
    put(memory, pointer, &value.to_le_bytes())
}

/// A path, which is looked at only if it is no longer than paths are.
pub fn path(memory: &[u8], pointer: u32, length: u32) -> Result<&str> {
    if length as usize > MAX_PATH {
        return Err(Errno::NameTooLong.into());
    }
    Ok(str::from_utf8(slice(memory, pointer, length)?).map_err(|_| Errno::Ilseq)?)
}

pub fn iovecs(memory: &[u8], pointer: u32, count: u32) -> Result<Vec<Iovec>> {
    if count > MAX_IOVECS {
        return Err(Errno::Inval.into());
    }
    let list = slice(memory, pointer, count * 8)?;
    Ok(list.as_chunks::<8>().0.iter().map(Iovec::read).collect())
}

impl Iovec {
    fn read(bytes: &[u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Self {
            buffer: u32::from_le_bytes([a, b, c, d]),
            length: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// A record being read or written field by field at its offsets.
pub struct Record<const N: usize>(pub [u8; N]);

impl<const N: usize> Record<N> {
    pub const fn zeroed() -> Self {
        Self([0; N])
    }

    pub fn read(memory: &[u8], pointer: u32) -> Result<Self> {
        let bytes = slice(memory, pointer, N as u32)?;
        Ok(Self(bytes.try_into().map_err(|_| Errno::Fault)?))
    }

    pub fn with(mut self, offset: usize, field: &[u8]) -> Self {
        for (to, from) in self.0.iter_mut().skip(offset).zip(field) {
            *to = *from;
        }
        self
    }

    /// The field at `offset`, as an unsigned integer of `width` bytes.
    pub fn field(&self, offset: usize, width: usize) -> u64 {
        let bytes = self.0.iter().skip(offset).take(width);
        bytes
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}
