//! What an inode says of itself, whatever it is.

use std::collections::BTreeMap;

/// Seconds since 1970 and nanoseconds after them, below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, also negative.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

/// Mode, owner, time, extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: the lower twelve.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content was changed; the image has it in place of the other times, too.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Of a directory that an entry needs and no layer describes.
    pub(crate) fn implied() -> Self {
        Self {
            mode: 0o755,
            ..Self::default()
        }
    }
}

/// Extended attributes by their full names (`user.mime_type`, `security.capability`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(BTreeMap<Vec<u8>, Vec<u8>>);

impl Xattrs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.0.iter();
        all.map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.0.insert(name.to_vec(), value.to_vec());
    }

    /// Bytes of names and values in memory, with what holds them.
    pub(crate) fn size(&self) -> u64 {
        const HOLDER: usize = 128;
        self.iter()
            .map(|(name, value)| (HOLDER + name.len() + value.len()) as u64)
            .sum()
    }
}
