//! The 512 bytes before each entry.

use worldcompute_fault::Result;

use super::{BLOCK, invalid};

/// The fixed header, in the form that it has in all dialects.
#[derive(Debug)]
pub(super) struct Header {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: i64,
    pub device: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
    GnuSparse,
    Extended,
    Global,
    LongName,
    LongLink,
    Label,
    Unknown,
}

impl Kind {
    const fn of(flag: u8) -> Self {
        match flag {
            // Type 7 is a file in one piece, which nobody cares for any more.
            b'0' | 0 | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::Char,
            b'4' => Self::Block,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            b'S' => Self::GnuSparse,
            b'x' => Self::Extended,
            b'g' => Self::Global,
            b'L' => Self::LongName,
            b'K' => Self::LongLink,
            b'V' => Self::Label,
            _ => Self::Unknown,
        }
    }
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self> {
        check_sum(block)?;
        let field = |from: usize, len: usize| block.get(from..from + len).unwrap_or_default();
        let kind = Kind::of(field(156, 1).first().copied().unwrap_or_default());
        let is_device = matches!(kind, Kind::Char | Kind::Block);
        let device = |from| match is_device {
            true => unsigned(field(from, 8), "device number"),
            false => Ok(0),
        };
        Ok(Self {
            path: path(block),
            link: until_nul(field(157, 100)).to_vec(),
            kind,
            // The bits above say the type once more.
            mode: (number(field(100, 8), "mode")? & 0o7777) as u16,
            uid: id(field(108, 8), "uid")?,
            gid: id(field(116, 8), "gid")?,
            size: unsigned(field(124, 12), "size")?,
            mtime: number(field(136, 12), "mtime")?,
            device: (device(329)?, device(337)?),
        })
    }
}

/// A number as every header has it: octal digits, or base 256 where they do not suffice (a GNU extension).
///
/// Empty means 0.
pub(super) fn number(field: &[u8], what: &str) -> Result<i64> {
    let value = match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => base_256(*first, rest),
        _ => octal(field),
    };
    value.ok_or_else(|| invalid(format_args!("its {what} is no number")))
}

/// A [`number`] that is not negative and fits.
pub(super) fn unsigned<T: TryFrom<i64>>(field: &[u8], what: &str) -> Result<T> {
    T::try_from(number(field, what)?)
        .map_err(|_| invalid(format_args!("its {what} is out of range")))
}

/// The owner of a file. The highest number means "nobody" to the kernel.
fn id(field: &[u8], what: &str) -> Result<u32> {
    match unsigned(field, what)? {
        u32::MAX => Err(invalid(format_args!("its {what} is out of range"))),
        id => Ok(id),
    }
}

/// Big-endian two's complement without the topmost bit.
fn base_256(first: u8, rest: &[u8]) -> Option<i64> {
    let negative = first & 0x40 != 0;
    let head = i64::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    rest.iter().try_fold(head, |value, byte| {
        value.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    match field.iter().position(|byte| !is_blank(byte)) {
        Some(start) => octal_digits(field.get(start..)?),
        None => Some(0),
    }
}

fn octal_digits(text: &[u8]) -> Option<i64> {
    let end = text.iter().position(|byte| matches!(byte, b' ' | 0));
    let (digits, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
    if !rest.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Some archivers added up signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let told = number(block.get(148..156).unwrap_or_default(), "checksum")?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    match told == unsigned || told == signed {
        true => Ok(()),
        false => Err(invalid("the checksum of a header does not match")),
    }
}

/// Only POSIX has a prefix; GNU keeps other things in its place.
fn path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(block.get(..100).unwrap_or_default());
    let prefix = until_nul(block.get(345..500).unwrap_or_default());
    if block.get(257..263) != Some(b"ustar\0") || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
