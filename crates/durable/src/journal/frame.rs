//! One record on disk: sequence number, length and checksums, then the bytes.
//!
//! ```text
//! sequence u64 | length u32 | CRC-32 of the bytes | CRC-32 of the 16 bytes before | bytes      (little endian)
//! ```
//!
//! The header has a checksum of its own, so that a damaged length is told from an append that never finished; the
//! sequence number is under it, so that a record cannot go missing from the middle.

/// Bytes before the record's own.
const HEADER: usize = 20;

/// What stands at the front of some bytes.
pub(super) enum Decoded<'a> {
    /// A record, and what follows it.
    Whole { record: &'a [u8], rest: &'a [u8] },
    /// Nothing, or what an append leaves that did not finish: it reaches to the end, and no record follows.
    Torn,
    /// Anything else.
    Damaged(&'static str),
}

/// The record as it stands on disk. The caller has checked that its length fits.
pub(super) fn encode(sequence: u64, record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER.saturating_add(record.len()));
    frame.extend(sequence.to_le_bytes());
    frame.extend(length.to_le_bytes());
    frame.extend(crc32fast::hash(record).to_le_bytes());
    frame.extend(crc32fast::hash(&frame).to_le_bytes());
    frame.extend(record);
    frame
}

/// Bytes that `record` takes on disk.
pub(super) const fn size(record: &[u8]) -> u64 {
    HEADER as u64 + record.len() as u64
}

pub(super) fn decode(bytes: &[u8], sequence: u64, max_record: u32) -> Decoded<'_> {
    let Some((header, body)) = bytes.split_first_chunk() else {
        return Decoded::Torn;
    };
    let Some(header) = Header::parse(header) else {
        return unreadable(bytes, max_record);
    };
    if header.sequence != sequence {
        return Decoded::Damaged("a record is missing");
    }
    if header.length > max_record {
        return Decoded::Damaged("a record is longer than the limit");
    }
    match body.split_at_checked(header.length as usize) {
        None => Decoded::Torn,
        Some((record, rest)) if header.fits(record) => Decoded::Whole { record, rest },
        Some((_, [])) => Decoded::Torn,
        Some(_) => Decoded::Damaged("a record's checksum does not match"),
    }
}

/// The header is not whole. An append that a power cut tore leaves this too, but at most one of them, at the end.
fn unreadable(bytes: &[u8], max_record: u32) -> Decoded<'static> {
    let longest = HEADER as u64 + u64::from(max_record);
    if bytes.len() as u64 > longest || record_follows(bytes) {
        return Decoded::Damaged("a record's header is unreadable");
    }
    Decoded::Torn
}

/// True when a whole record starts anywhere after the first byte.
fn record_follows(bytes: &[u8]) -> bool {
    (1..bytes.len())
        .filter_map(|start| bytes.get(start..)?.split_first_chunk())
        .any(|(header, body)| {
            let header = Header::parse(header);
            header.is_some_and(|header| {
                body.get(..header.length as usize)
                    .is_some_and(|record| header.fits(record))
            })
        })
}

struct Header {
    sequence: u64,
    length: u32,
    checksum: u32,
}

impl Header {
    /// `None` when its own checksum does not match.
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (fields, own) = bytes.split_last_chunk()?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*own) {
            return None;
        }
        let (sequence, fields) = fields.split_first_chunk()?;
        let (length, fields) = fields.split_first_chunk()?;
        let (checksum, _) = fields.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            length: u32::from_le_bytes(*length),
            checksum: u32::from_le_bytes(*checksum),
        })
    }

    fn fits(&self, record: &[u8]) -> bool {
        crc32fast::hash(record) == self.checksum
    }
}
