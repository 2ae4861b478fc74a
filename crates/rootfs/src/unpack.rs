//! A layer as the plain archive that it is: decompressed, hashed, counted and bounded.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};
use worldcompute_fault::{Fault, Result};

use crate::layer::DiffId;
use crate::limits::{FREE_UNPACKED, MAX_RATIO};
use crate::refusal::refuse;

/// Bytes unpacked at once.
const BUFFER: usize = 256 << 10;
/// Memory that a frame of zstd may ask for: what `zstd --ultra -22` does without `--long`.
const MAX_WINDOW: u64 = 128 << 20;
/// Bytes of the longest magic number.
const MAGIC: usize = 6;

/// The unpacked bytes of one layer.
pub(crate) struct Unpacked<'a> {
    decoder: Box<dyn Read + 'a>,
    packed: Rc<RefCell<Packed>>,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    hash: Sha256,
    count: u64,
    max: u64,
}

impl<'a> Unpacked<'a> {
    /// Tells the compression by the first bytes: media types lie. `max` is the most that it may unpack to.
    pub(crate) fn new(source: impl Read + 'a, max: u64) -> Result<Self> {
        let packed = Rc::new(RefCell::new(Packed::default()));
        let watched = Watched {
            source,
            packed: Rc::clone(&packed),
        };
        let mut head = Vec::with_capacity(MAGIC);
        let mut source = BufReader::with_capacity(BUFFER, watched);
        let peeked = source.by_ref().take(MAGIC as u64).read_to_end(&mut head);
        peeked.map_err(|error| cannot_read(&error))?;
        let format = Format::of(&head);
        let whole = io::Cursor::new(head).chain(source);
        Ok(Self {
            decoder: format.decoder(whole)?,
            packed,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            hash: Sha256::new(),
            count: 0,
            max,
        })
    }

    /// What is there; empty at the end.
    pub(crate) fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    /// Fills `out`; false when the end came before the first byte.
    pub(crate) fn read_block(&mut self, out: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < out.len() {
            let there = self.fill()?;
            if there.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(cut()) };
            }
            let len = there.len().min(out.len() - filled);
            if let (Some(to), Some(from)) = (out.get_mut(filled..filled + len), there.get(..len)) {
                to.copy_from_slice(from);
            }
            filled += len;
            self.consume(len);
        }
        Ok(true)
    }

    /// Hands the next `len` bytes to `take`, piece by piece.
    pub(crate) fn pass(
        &mut self,
        mut len: u64,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while len > 0 {
            let there = self.fill()?;
            if there.is_empty() {
                return Err(cut());
            }
            let most = usize::try_from(len).unwrap_or(usize::MAX);
            let piece = there.get(..most).unwrap_or(there);
            let passed = piece.len();
            take(piece)?;
            self.consume(passed);
            len -= passed as u64;
        }
        Ok(())
    }

    /// Reads what is left; tells the digest of all of it, and how many bytes it is.
    pub(crate) fn finish(mut self) -> Result<(DiffId, u64)> {
        loop {
            let left = self.fill()?.len();
            if left == 0 {
                return Ok((DiffId::of_hash(self.hash), self.count));
            }
            self.consume(left);
        }
    }

    fn refill(&mut self) -> Result<()> {
        (self.start, self.end) = (0, 0);
        let read = loop {
            match self.decoder.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let len = read.map_err(|error| self.told_apart(&error))?;
        self.end = len;
        self.count += len as u64;
        self.hash.update(self.buffer.get(..len).unwrap_or_default());
        self.bound()
    }

    fn bound(&self) -> Result<()> {
        if self.count > self.max {
            let message = format!("unpacks to more than the {} bytes that are left", self.max);
            return Err(refuse("unpacked_too_large", message, "use a smaller image"));
        }
        let packed = self.packed.borrow().count;
        if self.count > FREE_UNPACKED.max(packed.saturating_mul(MAX_RATIO)) {
            let message = format!(
                "{} bytes of {packed}: more than {MAX_RATIO} times as many",
                self.count
            );
            let hint = "this looks like a bomb; a layer of real files packs less well";
            return Err(refuse("compression_ratio_exceeded", message, hint));
        }
        Ok(())
    }

    fn told_apart(&self, error: &io::Error) -> Fault {
        if self.packed.borrow().failed {
            return cannot_read(error);
        }
        if is_end(error) {
            return cut();
        }
        let hint = "fetch the layer again; its bytes are damaged";
        refuse("layer_corrupt", "cannot be decompressed", hint).caused_by(error)
    }
}

/// The layer ends in the middle of something.
pub(crate) fn cut() -> Fault {
    let hint = "fetch the layer again; a part of it is missing";
    refuse("layer_truncated", "ends too soon", hint)
}

fn cannot_read(error: &io::Error) -> Fault {
    Fault::io("read it", error)
}

/// Whether the end of the source is behind the error.
fn is_end(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        cause = error.source();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return true;
            }
            cause = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
        }
    }
    false
}

/// What came of the source.
#[derive(Default)]
struct Packed {
    count: u64,
    failed: bool,
}

struct Watched<R> {
    source: R,
    packed: Rc<RefCell<Packed>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer);
        let mut packed = self.packed.borrow_mut();
        match &read {
            Ok(len) => packed.count += *len as u64,
            Err(error) => packed.failed = error.kind() != io::ErrorKind::Interrupted,
        }
        read
    }
}

#[derive(Clone, Copy)]
enum Format {
    Plain,
    Gzip,
    Zstd,
    /// Compressed with something that layers are not compressed with.
    Foreign(&'static str),
}

impl Format {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one that is to be skipped (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Foreign("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Foreign("bzip2"),
            [b'P', b'K', 3, 4, ..] => Self::Foreign("zip"),
            _ => Self::Plain,
        }
    }

    fn decoder<'a>(self, source: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
        match self {
            Self::Plain => Ok(Box::new(source)),
            Self::Gzip => Ok(Box::new(MultiGzDecoder::new(source))),
            Self::Zstd => Ok(Box::new(ZstdFrames::new(source))),
            Self::Foreign(name) => Err(refuse(
                "unsupported_compression",
                format!("is packed with {name}"),
                "pack layers with gzip or zstd, or not at all",
            )),
        }
    }
}

/// Frames of zstd, one after the other (RFC 8878, 3).
struct ZstdFrames<R> {
    source: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW);
        Self {
            source,
            frame,
            in_frame: false,
        }
    }

    /// Begins the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => skip(&mut self.source, length)?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let told = self.frame.get_checksum_from_data();
        if told.is_some() && told != self.frame.get_calculated_checksum() {
            return Err(io::Error::other("the checksum of a frame does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.begin()? {
                return Ok(0);
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let decoded = self
                    .frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            }
            let len = self.frame.read(out)?;
            if len > 0 || out.is_empty() {
                return Ok(len);
            }
            self.end()?;
        }
    }
}

fn skip(source: &mut impl Read, len: u32) -> io::Result<()> {
    let skipped = io::copy(&mut source.take(u64::from(len)), &mut io::sink())?;
    match skipped == u64::from(len) {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
