//! The records of the zip format (APPNOTE 4.3), without Zip64.

/// What a file's data is preceded by.
const LOCAL: u32 = 0x0403_4b50;
/// What it is followed by.
const DESCRIPTOR: u32 = 0x0807_4b50;
/// An entry of the directory.
const CENTRAL: u32 = 0x0201_4b50;
/// The end of the directory.
const END: u32 = 0x0605_4b50;

/// Bytes of the fixed part of each.
pub(super) const LOCAL_LEN: u64 = 30;
pub(super) const DESCRIPTOR_LEN: u64 = 16;
pub(super) const END_LEN: u64 = 22;

/// Version 2.0 of the format, which knows deflate and nothing later.
pub(super) const VERSION: u16 = 20;
/// The same, on Unix: what Go's writer and Python's say, too.
pub(super) const MADE_BY: u16 = 3 << 8 | VERSION;

/// 1980-01-01, the first day of the format: the date of every entry, at midnight.
pub(super) const DATE: u16 = 1 << 5 | 1;
/// The same moment as Go's writer adds it to what it streams, in seconds since 1970.
pub(super) const TIME_STAMP: [u8; 9] = [0x55, 0x54, 5, 0, 1, 0x00, 0xa6, 0xce, 0x12];
/// A regular file of mode 0644.
pub(super) const FILE: u32 = 0o100_644 << 16;
/// A file of mode 0644 that does not say that it is one.
pub(super) const UNSAID_FILE: u32 = 0o644 << 16;

/// Flag: checksum and sizes follow the data.
pub(super) const STREAMED: u16 = 1 << 3;
/// Flag: the name is UTF-8.
pub(super) const UTF8: u16 = 1 << 11;

pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

/// What the record before a file and the one in the directory both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub version: u16,
    pub flags: u16,
    pub method: u16,
    pub time: u16,
    pub date: u16,
    pub sums: Sums,
    pub name_len: u16,
    pub extra_len: u16,
}

/// Checksum and sizes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub crc: u32,
    pub packed: u32,
    pub size: u32,
}

/// An entry of the directory, without name and extra field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Central {
    pub made_by: u16,
    pub common: Common,
    pub comment_len: u16,
    pub disk: u16,
    pub internal: u16,
    pub external: u32,
    pub offset: u32,
}

/// The end of the directory, without comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub disk: u16,
    pub directory_disk: u16,
    pub entries_here: u16,
    pub entries: u16,
    pub size: u32,
    pub offset: u32,
    pub comment_len: u16,
}

impl Common {
    /// Reads the fixed part of what precedes a file.
    pub(super) fn read_local(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        fields.signature(LOCAL)?;
        Self::read(&mut fields)
    }

    pub(super) fn write_local(&self, out: &mut Vec<u8>) {
        out.extend(LOCAL.to_le_bytes());
        self.write(out);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            version: fields.u16()?,
            flags: fields.u16()?,
            method: fields.u16()?,
            time: fields.u16()?,
            date: fields.u16()?,
            sums: Sums::read(fields)?,
            name_len: fields.u16()?,
            extra_len: fields.u16()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        for field in [self.version, self.flags, self.method, self.time, self.date] {
            out.extend(field.to_le_bytes());
        }
        self.sums.write(out);
        out.extend(self.name_len.to_le_bytes());
        out.extend(self.extra_len.to_le_bytes());
    }
}

impl Sums {
    /// Reads what follows a streamed file.
    pub(super) fn read_descriptor(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        fields.signature(DESCRIPTOR)?;
        Self::read(&mut fields)
    }

    pub(super) fn write_descriptor(&self, out: &mut Vec<u8>) {
        out.extend(DESCRIPTOR.to_le_bytes());
        self.write(out);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            crc: fields.u32()?,
            packed: fields.u32()?,
            size: fields.u32()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        for field in [self.crc, self.packed, self.size] {
            out.extend(field.to_le_bytes());
        }
    }
}

impl Central {
    /// Takes the next entry off the directory.
    pub(super) fn take(fields: &mut Fields<'_>) -> Option<Self> {
        fields.signature(CENTRAL)?;
        Some(Self {
            made_by: fields.u16()?,
            common: Common::read(fields)?,
            comment_len: fields.u16()?,
            disk: fields.u16()?,
            internal: fields.u16()?,
            external: fields.u32()?,
            offset: fields.u32()?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(CENTRAL.to_le_bytes());
        out.extend(self.made_by.to_le_bytes());
        self.common.write(out);
        for field in [self.comment_len, self.disk, self.internal] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.external.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
    }
}

impl End {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        fields.signature(END)?;
        Some(Self {
            disk: fields.u16()?,
            directory_disk: fields.u16()?,
            entries_here: fields.u16()?,
            entries: fields.u16()?,
            size: fields.u32()?,
            offset: fields.u32()?,
            comment_len: fields.u16()?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(END.to_le_bytes());
        for field in [
            self.disk,
            self.directory_disk,
            self.entries_here,
            self.entries,
        ] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.size.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.comment_len.to_le_bytes());
    }
}

/// Little-endian fields one after the other.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn signature(&mut self, expected: u32) -> Option<()> {
        (self.u32()? == expected).then_some(())
    }
}
