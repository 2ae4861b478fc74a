//! Extended headers: `length key=value\n`, again and again (POSIX.1-2001, pax interchange format).

use std::str::FromStr;

use worldcompute_fault::Result;

use super::invalid;
use crate::ext4::has_place;
use crate::limits::MAX_SPARSE_PIECES;
use crate::meta::{Time, Xattrs};
use crate::refusal::{refuse, shown};

/// What the headers before an entry say of it.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Time>,
    pub xattrs: Xattrs,
    pub sparse: SparseKeys,
    any: bool,
}

/// What GNU tar says of a sparse file; its documentation, appendix D.2, has the three versions.
#[derive(Debug, Default)]
pub(super) struct SparseKeys {
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.size` of version 0, `GNU.sparse.realsize` of version 1.
    pub size: Option<u64>,
    pub major: Option<u64>,
    pub minor: Option<u64>,
    /// Offset and length in turn, of versions 0.0 and 0.1.
    pub map: Option<Vec<u64>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    pub(super) const fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn read(&mut self, records: &[u8]) -> Result<()> {
        self.any = true;
        each(records, |key, value| self.put(key, value))
    }

    /// A global header speaks for all entries after it. Archivers of layers pass over them, so one that would change
    /// anything makes two trees of one layer.
    pub(super) fn check_global(records: &[u8]) -> Result<()> {
        each(records, |key, _| {
            let mut probe = Self::default();
            // Whatever has a meaning refuses this value, or keeps it.
            let ignored = probe.put(key, b"?").is_ok() && probe.says_nothing();
            if ignored {
                return Ok(());
            }
            let message = format!("a global header sets {}", shown(key));
            let hint = "pack the layer without global headers";
            Err(refuse("unsupported_entry", message, hint))
        })
    }

    fn says_nothing(&self) -> bool {
        self.path.is_none()
            && self.link.is_none()
            && self.xattrs.is_empty()
            && self.sparse.name.is_none()
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if has_place(name) {
                self.xattrs.insert(name, value);
            }
            return Ok(());
        }
        if value.is_empty() {
            // No value: what the header itself says holds.
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(path(value)?),
            b"linkpath" => self.link = Some(path(value)?),
            b"size" => self.size = Some(number(key, value)?),
            b"uid" => self.uid = Some(id(key, value)?),
            b"gid" => self.gid = Some(id(key, value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => self.sparse.put(key, value)?,
        }
        Ok(())
    }
}

impl SparseKeys {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"GNU.sparse.name" => self.name = Some(path(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.size = Some(number(key, value)?),
            b"GNU.sparse.major" => self.major = Some(number(key, value)?),
            b"GNU.sparse.minor" => self.minor = Some(number(key, value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.add(number(key, value)?)?,
            b"GNU.sparse.map" => {
                for part in value.split(|byte| *byte == b',') {
                    self.add(number(key, part)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, number: u64) -> Result<()> {
        let map = self.map.get_or_insert_default();
        if map.len() >= 2 * MAX_SPARSE_PIECES {
            return Err(super::sparse::too_many());
        }
        map.push(number);
        Ok(())
    }
}

fn each(mut records: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    while !records.is_empty() {
        let (key, value, rest) =
            record(records).ok_or_else(|| invalid("a record of an extended header is broken"))?;
        take(key, value)?;
        records = rest;
    }
    Ok(())
}

/// Key, value, and the records after it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let len: usize = decimal(records.get(..space)?)?;
    let (this, rest) = records.split_at_checked(len)?;
    let text = this.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = text.split_at_checked(equals)?;
    (!key.is_empty()).then_some((key, value.get(1..)?, rest))
}

/// Digits alone: `FromStr` would take a sign.
pub(super) fn decimal<T: FromStr>(text: &[u8]) -> Option<T> {
    let digits = std::str::from_utf8(text).ok()?;
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

fn number<T: FromStr>(key: &[u8], value: &[u8]) -> Result<T> {
    decimal(value).ok_or_else(|| invalid(format_args!("its {} is no number", shown(key))))
}

fn id(key: &[u8], value: &[u8]) -> Result<u32> {
    match number(key, value)? {
        u32::MAX => Err(invalid(format_args!("its {} is out of range", shown(key)))),
        id => Ok(id),
    }
}

fn path(value: &[u8]) -> Result<Vec<u8>> {
    match value.contains(&0) {
        true => Err(invalid("a path has a NUL in it")),
        false => Ok(value.to_vec()),
    }
}

/// Seconds with a fraction, also before 1970: `-0.5` is half a second before.
fn time(value: &[u8]) -> Result<Time> {
    let parsed = || {
        let (negative, text) = match value.strip_prefix(b"-") {
            Some(text) => (true, text),
            None => (false, value),
        };
        let mut parts = text.splitn(2, |byte| *byte == b'.');
        let secs: i64 = decimal(parts.next()?)?;
        let nanos = nanos(parts.next().unwrap_or(b"0"))?;
        Some(match (negative, nanos) {
            (false, nanos) => Time { secs, nanos },
            (true, 0) => Time { secs: -secs, nanos },
            (true, nanos) => Time {
                secs: -secs - 1,
                nanos: 1_000_000_000 - nanos,
            },
        })
    };
    parsed().ok_or_else(|| invalid("its mtime is no number"))
}

/// Digits after the point; those past the ninth are dropped.
fn nanos(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    decimal(&padded.take(9).collect::<Vec<_>>())
}
