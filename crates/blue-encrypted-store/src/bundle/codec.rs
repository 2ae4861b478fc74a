//! The bytes of a bundle: a header, rows, and the MAC of both. Lengths are big endian.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use worldcompute_durable::open_to_read;
use worldcompute_fault::{Category, Fault, Result};

use super::{BundleInfo, malformed};
use crate::crypto::{Digest, Key, hmac_key, lp, same};
use crate::keyring::MAX_DATA_KEYS;
use crate::keys::KCV_BYTES;
use crate::manifest::MAX_CHUNKS;
use crate::name::{Kinds, MAX_ID_BYTES, PartitionKey, parse_time, time};
use crate::row::{Attribute, Row, SEAL};
use crate::{Id, MAX_PARTITION_RECORDS};

/// What a bundle begins with.
const MAGIC: &[u8; 15] = b"blue/v1/bundle\n";
const MAC_BYTES: u64 = 32;
/// The largest file that is read, in bytes.
pub const MAX_BUNDLE_BYTES: u64 = 16 << 30;
/// The largest row that is read, in bytes: an item of the largest size in its encoding.
pub const MAX_BUNDLE_ROW_BYTES: usize = 512 << 10;
/// The most rows of a bundle: data keys, root, chunks, records.
pub(super) const MAX_ROWS: u64 = (MAX_DATA_KEYS + 1 + MAX_CHUNKS + MAX_PARTITION_RECORDS) as u64;

/// What a bundle says before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: String,
    pub(super) tenant: String,
    pub(super) user: String,
    /// The epoch that the store was at.
    pub(super) epoch: u64,
    /// The check value of the key of the MAC: tells another key from a changed file.
    pub(super) check: [u8; KCV_BYTES],
    pub(super) partition: PartitionKey,
    pub(super) version: u64,
    pub(super) created_at: Timestamp,
    pub(super) rows: u64,
}

impl Header {
    /// Its bytes, the magic before them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for text in [&self.store, &self.tenant, &self.user] {
            lp(&mut out, text.as_bytes());
        }
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.check);
        lp(&mut out, self.partition.to_string().as_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        lp(&mut out, time(self.created_at).as_bytes());
        out.extend_from_slice(&self.rows.to_be_bytes());
        out
    }

    /// Reads it from the start of the file, which keeps its place.
    pub(super) fn read(file: &File) -> Result<Self> {
        let mut from = At(file, 0);
        if array::<15>(&mut from)? != *MAGIC {
            return Err(malformed("it begins with something else"));
        }
        let mut name = || {
            let name = Id::parse(&text(&mut from)?).map_err(|_| malformed("a name is none"))?;
            Ok::<_, Fault>(name.to_string())
        };
        let (store, tenant, user) = (name()?, name()?, name()?);
        Ok(Self {
            store,
            tenant,
            user,
            epoch: integer(&mut from)?,
            check: array(&mut from)?,
            partition: Kinds::default()
                .partition_of_records(&text(&mut from)?)
                .map_err(|_| malformed("a name is none"))?,
            version: integer(&mut from)?,
            created_at: parse_time(&text(&mut from)?)
                .ok_or_else(|| malformed("its time is none"))?,
            rows: integer(&mut from)?,
        })
        .and_then(Self::checked)
    }

    fn checked(self) -> Result<Self> {
        if self.rows > MAX_ROWS || self.version == 0 {
            return Err(malformed(format!("no partition has {} rows", self.rows)));
        }
        Ok(self)
    }
}

/// Reads from a place of its own in a file that others read, too.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.0, buffer, self.1)?;
        self.1 = self.1.saturating_add(read as u64);
        Ok(read)
    }
}

fn array<const N: usize>(from: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(from, &mut bytes)?;
    Ok(bytes)
}

fn integer(from: &mut impl Read) -> Result<u64> {
    array(from).map(u64::from_be_bytes)
}

/// A name: `kind#id` is the longest.
fn text(from: &mut impl Read) -> Result<String> {
    let length = u32::from_be_bytes(array(from)?) as usize;
    if length > 2 * MAX_ID_BYTES + 1 {
        return Err(malformed("a name is too long"));
    }
    let mut bytes = vec![0; length];
    fill(from, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| malformed("a name is not UTF-8"))
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => malformed("it ends too early"),
        _ => cannot_read(&error),
    })
}

fn cannot_read(error: &std::io::Error) -> Fault {
    Fault::io("read the bundle", error)
}

/// Opens a bundle. A pipe cannot be read twice, so it is refused.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = open_to_read(path)?;
    let found = file.metadata().map_err(|error| cannot_read(&error))?;
    if !found.is_file() {
        return Err(malformed(format!("{} is no file", path.display())));
    }
    check_size(found.len())?;
    Ok(file)
}

fn check_size(bytes: u64) -> Result<()> {
    if bytes <= MAX_BUNDLE_BYTES {
        return Ok(());
    }
    let message = format!("a bundle has at most {MAX_BUNDLE_BYTES} bytes, and this {bytes}");
    Err(
        Fault::new(Category::InvalidInput, "bundle_too_large", message)
            .hint("this file was not written by an export"),
    )
}

/// A row as it is in a bundle, its length before it.
pub(super) fn encode_row(row: &Row) -> Result<Vec<u8>> {
    let seal: Digest = row
        .array(SEAL)
        .map_err(|check| check.failed("a row", "it has no seal"))?;
    let mut out = Vec::new();
    lp(&mut out, &[row.canonical().as_slice(), &seal].concat());
    Ok(out)
}

/// The row of its canonical encoding and seal, if that is how it would be written.
pub(super) fn decode_row(bytes: &[u8]) -> Option<Row> {
    let (mut rest, seal) = bytes.split_last_chunk::<32>()?;
    let mut row = Row::default();
    let mut last = String::new();
    while !rest.is_empty() {
        let name = String::from_utf8(taken(&mut rest)?.to_vec()).ok()?;
        let (tag, after) = rest.split_first()?;
        rest = after;
        if name <= last || name == SEAL {
            return None;
        }
        row.set(&name, Attribute::decode(*tag, taken(&mut rest)?)?);
        last = name;
    }
    row.set_bytes(SEAL, *seal);
    Some(row)
}

/// Bytes with their length before them.
fn taken<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(value)
}

/// Reads a bundle from its start to its end, and computes its MAC meanwhile.
pub(super) struct Reader {
    file: BufReader<File>,
    mac: hmac::Context,
    pub(super) header: Header,
    bytes: u64,
    /// Bytes before the MAC.
    left: u64,
    rows_left: u64,
}

impl Reader {
    /// From the start of `file`, which begins with `header`.
    pub(super) fn new(mut file: File, header: Header, key: &Key) -> Result<Self> {
        let found = file.metadata().map_err(|error| cannot_read(&error))?;
        let bytes = found.len();
        check_size(bytes)?;
        let encoded = header.encode();
        let before = (encoded.len() as u64).saturating_add(MAC_BYTES);
        let left = bytes
            .checked_sub(before)
            .ok_or_else(|| malformed("it ends too early"))?;
        let start = SeekFrom::Start(encoded.len() as u64);
        file.seek(start).map_err(|error| cannot_read(&error))?;
        let mut mac = hmac::Context::with_key(&hmac_key(key));
        mac.update(&encoded);
        Ok(Self {
            file: BufReader::new(file),
            mac,
            rows_left: header.rows,
            header,
            bytes,
            left,
        })
    }

    /// The next row, none after the last.
    pub(super) fn row(&mut self) -> Result<Option<Row>> {
        let Some(rows_left) = self.rows_left.checked_sub(1) else {
            return match self.left {
                0 => Ok(None),
                _ => Err(malformed("something follows its rows")),
            };
        };
        self.rows_left = rows_left;
        let length = array::<4>(&mut self.file)?;
        let count = u32::from_be_bytes(length);
        let size = u64::from(count).saturating_add(4);
        if count as usize > MAX_BUNDLE_ROW_BYTES || size > self.left {
            return Err(malformed("a row is too long"));
        }
        self.left = self.left.saturating_sub(size);
        let mut bytes = vec![0; count as usize];
        fill(&mut self.file, &mut bytes)?;
        self.mac.update(&length);
        self.mac.update(&bytes);
        let row = decode_row(&bytes).ok_or_else(|| malformed("a row is none"))?;
        Ok(Some(row))
    }

    /// What was read, and whether its MAC is that of the key, once there is no row left.
    pub(super) fn end(mut self) -> Result<(BundleInfo, bool)> {
        let found: Digest = array(&mut self.file)?;
        let holds = same(self.mac.sign().as_ref(), &found);
        let info = BundleInfo::of(&self.header, self.bytes, &found);
        Ok((info, holds))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute() -> impl Strategy<Value = Attribute> {
        prop_oneof![
            ".{0,9}".prop_map(Attribute::Text),
            any::<u64>().prop_map(Attribute::integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Attribute::Bytes),
            any::<bool>().prop_map(Attribute::Bool),
            Just(Attribute::Null),
        ]
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_went(fields in proptest::collection::btree_map("[a-r]{1,6}", attribute(), 0..6), seal: [u8; 32]) {
            let mut row = Row(fields);
            row.set_bytes(SEAL, seal);
            let bytes = encode_row(&row).unwrap();
            prop_assert_eq!(decode_row(&bytes[4..]), Some(row));
        }

        #[test]
        fn bytes_that_are_a_row_are_its_only_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(row) = decode_row(&bytes) {
                prop_assert_eq!(&encode_row(&row).unwrap()[4..], bytes.as_slice());
            }
        }
    }

    #[test]
    fn a_row_has_one_encoding() {
        let good = |name: &str, tag: u8, value: &[u8]| {
            let mut out = Vec::new();
            lp(&mut out, name.as_bytes());
            out.push(tag);
            lp(&mut out, value);
            out
        };
        let row = |parts: &[Vec<u8>]| decode_row(&[parts.concat(), vec![0; 32]].concat());
        assert!(row(&[good("a", b'N', b"1"), good("b", b'T', &[1])]).is_some());
        for bad in [
            vec![good("b", b'S', b""), good("a", b'S', b"")],
            vec![good("a", b'S', b""), good("a", b'S', b"")],
            vec![good("", b'S', b"")],
            vec![good("seal", b'B', &[0; 32])],
            vec![good("a", b'X', b"")],
            vec![good("a", b'S', b"\xff")],
            vec![good("a", b'N', b"01")],
            vec![good("a", b'N', b"1e1")],
            vec![good("a", b'T', &[2])],
            vec![good("a", b'T', &[])],
            vec![good("a", b'0', &[0])],
            vec![vec![0, 0, 0]],
        ] {
            assert!(row(&bad).is_none(), "{bad:?}");
        }
        assert!(decode_row(&[0; 31]).is_none());
    }

    #[test]
    fn no_file_is_read_that_is_larger_than_a_bundle_can_be() {
        check_size(MAX_BUNDLE_BYTES).unwrap();
        let fault = check_size(MAX_BUNDLE_BYTES + 1).unwrap_err();
        assert_eq!(fault.code(), "bundle_too_large");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        File::create(&path)
            .and_then(|file| file.set_len(MAX_BUNDLE_BYTES + 1))
            .unwrap();
        assert_eq!(open(&path).unwrap_err().code(), "bundle_too_large");
        assert_eq!(open(dir.path()).unwrap_err().code(), "bundle_malformed");
    }
}
