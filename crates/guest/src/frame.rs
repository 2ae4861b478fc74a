//! Frames: `[kind: u8][sequence: u32][length: u32][payload]`, numbers in little-endian order.

use std::fmt;

use crate::{MAX_DATA, MAX_REASON, MAX_RUN};

/// Bytes before the payload.
pub const HEADER: usize = 9;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Run = 2,
    Credit = 3,
    NotStarted = 4,
    Stdout = 5,
    Stderr = 6,
    Heartbeat = 7,
    Exited = 8,
    Killed = 9,
    File = 10,
    NoFile = 11,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 11] = [
        Self::Hello,
        Self::Run,
        Self::Credit,
        Self::NotStarted,
        Self::Stdout,
        Self::Stderr,
        Self::Heartbeat,
        Self::Exited,
        Self::Killed,
        Self::File,
        Self::NoFile,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Most bytes of a payload of this kind.
    pub const fn max_payload(self) -> usize {
        match self {
            Self::Hello => 2,
            Self::Run => MAX_RUN,
            Self::Credit => 5,
            Self::Heartbeat => 0,
            Self::NotStarted | Self::NoFile => MAX_REASON,
            Self::Stdout | Self::Stderr | Self::File => MAX_DATA,
            Self::Exited | Self::Killed => 9,
        }
    }
}

/// A frame as it was read: its kind is known, its sequence right, its payload within the limit and not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Vec<u8>,
}

/// Why bytes are not the frame that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No frame has this number, or none that this side sends.
    UnknownKind(u8),
    /// The length is past the limit of the kind.
    TooLong { kind: Kind, length: u32 },
    /// A frame was left out, repeated or made up.
    OutOfSequence { expected: u32, found: u32 },
    /// The payload is not one of this kind.
    Malformed(Kind),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(number) => write!(f, "no frame is of kind {number}"),
            Self::TooLong { kind, length } => {
                let max = kind.max_payload();
                write!(f, "a frame {kind:?} of {length} bytes: {max} is the most")
            }
            Self::OutOfSequence { expected, found } => {
                write!(f, "frame {found} where {expected} was due")
            }
            Self::Malformed(kind) => write!(f, "a frame {kind:?} that says nothing"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Frames out of bytes that come in pieces. Holds at most one unfinished frame of a kind that the other side may send.
#[derive(Debug)]
pub struct Reader {
    kinds: &'static [Kind],
    sequence: u32,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader of what the agent sends.
    pub const fn of_agent() -> Self {
        Self::of(&[
            Kind::Hello,
            Kind::NotStarted,
            Kind::Stdout,
            Kind::Stderr,
            Kind::Heartbeat,
            Kind::Exited,
            Kind::Killed,
            Kind::File,
            Kind::NoFile,
        ])
    }

    /// A reader of what the host sends.
    pub const fn of_host() -> Self {
        Self::of(&[Kind::Run, Kind::Credit])
    }

    const fn of(kinds: &'static [Kind]) -> Self {
        Self {
            kinds,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// Takes what it needs from the front of `bytes`: the frame that is complete now, if one is.
    ///
    /// # Errors
    /// The first thing that is wrong; the stream is of no use after that.
    pub fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Refusal> {
        self.fill(HEADER, bytes);
        let Some(&header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        // Before a byte of the payload is kept.
        let (kind, length) = self.check(header)?;
        self.fill(HEADER + length, bytes);
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let payload = self.buffer.split_off(HEADER);
        self.buffer.clear();
        Ok(Some(Frame { kind, payload }))
    }

    /// Bytes of an unfinished frame.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    fn fill(&mut self, target: usize, bytes: &mut &[u8]) {
        let wanted = target.saturating_sub(self.buffer.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(wanted);
        self.buffer.extend_from_slice(taken);
        *bytes = rest;
    }

    fn check(&self, header: [u8; HEADER]) -> Result<(Kind, usize), Refusal> {
        let [number, s0, s1, s2, s3, l0, l1, l2, l3] = header;
        let kind = Kind::of(number).filter(|kind| self.kinds.contains(kind));
        let kind = kind.ok_or(Refusal::UnknownKind(number))?;
        let found = u32::from_le_bytes([s0, s1, s2, s3]);
        let expected = self.sequence;
        if found != expected {
            return Err(Refusal::OutOfSequence { expected, found });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        match usize::try_from(length) {
            Ok(fits) if fits <= kind.max_payload() => Ok((kind, fits)),
            _ => Err(Refusal::TooLong { kind, length }),
        }
    }
}

/// The bytes of a frame. A payload past the limit of its kind is the caller's defect: it is cut there, so that what is
/// sent is always a frame.
pub(crate) fn encode(kind: Kind, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..kind.max_payload()).unwrap_or(payload);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.push(kind as u8);
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
