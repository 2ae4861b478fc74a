//! A layer as it was before it was packed: what a `diff_id` is the digest of (image spec, "Layer DiffID").

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::MediaType;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use crate::carried::fault_of;
use crate::refusal::{invalid, unproven};

/// The largest window of a zstd frame, in bytes: what its decoder holds in memory (RFC 8878, 3.1.1.1.2, asks for 8 MiB).
pub const MAX_WINDOW_BYTES: u64 = 128 << 20;
/// The most that all layers of an image unpack to, in bytes, unless said otherwise.
pub const MAX_UNPACKED_BYTES: u64 = 32 << 30;

const BUFFER: usize = 64 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The first of 16 (RFC 8878, 3.1.2).
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Checks that `layer` unpacks to the bytes that `diff_id` names, of which there may be `limit`. How it is packed is told by
/// its first bytes, whatever its media type says: gzip, zstd, or not at all.
///
/// Returns how many bytes there are.
///
/// # Errors
/// `diff_id_mismatch`; `unpacked_too_large`; `layer_unreadable` for a broken stream; those of the reader.
pub fn verify(layer: impl Read, what: &str, diff_id: &Sha256, limit: u64) -> Result<u64> {
    let failed = |error: io::Error| fault_of(&error).unwrap_or_else(|| broken(what, &error));
    let unpacked = unpacked(layer).map_err(failed)?;
    let (digest, length) =
        Sha256::of_reader(unpacked.take(limit.saturating_add(1))).map_err(failed)?;
    if length > limit {
        let message =
            format!("{what} unpacks to more than the {limit} bytes that are left to the image");
        return Err(invalid("unpacked_too_large", message).hint("use a smaller image"));
    }
    if digest != *diff_id {
        let message =
            format!("{what} unpacks to sha256:{digest}, the configuration says sha256:{diff_id}");
        return Err(
            unproven("diff_id_mismatch", message).hint("get the image again from whoever made it")
        );
    }
    Ok(length)
}

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes.
    pub fn of(head: &[u8]) -> Self {
        match head {
            head if head.starts_with(&GZIP) => Self::Gzip,
            head if head.starts_with(&ZSTD) => Self::Zstd,
            [first, rest @ ..] if first >> 4 == 5 && rest.starts_with(&ZSTD_SKIPPABLE) => {
                Self::Zstd
            }
            _ => Self::None,
        }
    }

    /// What a layer that is packed so is called.
    pub const fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

fn unpacked<'a>(layer: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut layer = BufReader::with_capacity(BUFFER, layer);
    Ok(match Packing::of(layer.fill_buf()?) {
        Packing::None => Box::new(layer),
        Packing::Gzip => Box::new(MultiGzDecoder::new(layer)),
        Packing::Zstd => Box::new(Zstd::new(layer)),
    })
}

/// All frames of a stream, one after the other; skippable ones are skipped (RFC 8878, 3.1).
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    is_within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW_BYTES);
        Self {
            source,
            decoder,
            is_within: false,
        }
    }

    /// Whether there is another frame.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.is_within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    self.skip(length.into())?;
                }
                Err(error) => return Err(undecodable(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
        match skipped == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn decode(&mut self) -> io::Result<()> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder
                .decode_blocks(&mut self.source, one)
                .map_err(undecodable)?;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.is_within || self.enter()? {
            self.decode()?;
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.is_within = false;
        }
        Ok(0)
    }
}

fn undecodable(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn broken(what: &str, error: &io::Error) -> worldcompute_fault::Fault {
    invalid("layer_unreadable", format!("{what} is packed wrongly"))
        .caused_by(error)
        .hint("get the image again from whoever made it")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use worldcompute_fault::Fault;

    use super::*;
    use crate::carried::carry;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn skippable(length: u32) -> Vec<u8> {
        [
            &[0x5f, 0x2a, 0x4d, 0x18],
            length.to_le_bytes().as_slice(),
            &vec![7; length as usize],
        ]
        .concat()
    }

    fn check(layer: &[u8], unpacked: &[u8]) -> Result<u64> {
        verify(layer, "layer 1", &Sha256::of(unpacked), 1 << 20)
    }

    fn code(layer: &[u8], unpacked: &[u8]) -> String {
        check(layer, unpacked).unwrap_err().code().to_owned()
    }

    #[test]
    fn how_a_layer_is_packed_is_told_by_its_bytes() {
        let text = b"some bytes of a layer".repeat(1000);
        let packings = [
            text.clone(),
            gzip(&text),
            [gzip(&text[..7]), gzip(&text[7..])].concat(),
            zstd(&text),
            [
                skippable(9),
                zstd(&text[..7]),
                skippable(0),
                zstd(&text[7..]),
                skippable(70_000),
            ]
            .concat(),
        ];
        for packed in &packings {
            assert_eq!(check(packed, &text).unwrap(), text.len() as u64);
        }
        assert_eq!(check(b"", b"").unwrap(), 0);
    }

    #[test]
    fn a_layer_that_unpacks_to_other_bytes_is_refused() {
        for packed in [b"one".to_vec(), gzip(b"one"), zstd(b"one")] {
            assert_eq!(code(&packed, b"two"), "diff_id_mismatch");
        }
    }

    #[test]
    fn a_layer_that_is_cut_or_goes_on_after_its_end_is_refused() {
        let text = b"some bytes of a layer".repeat(1000);
        for packed in [gzip(&text), zstd(&text)] {
            for cut in [5, packed.len() / 2, packed.len() - 1] {
                assert_eq!(code(&packed[..cut], &text), "layer_unreadable", "{cut}");
            }
            let longer = [packed, b"more than one byte".to_vec()].concat();
            assert_eq!(code(&longer, &text), "layer_unreadable");
        }
        let cut = [zstd(&text), skippable(9)[..10].to_vec()].concat();
        assert_eq!(code(&cut, &text), "layer_unreadable");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; (1 << 20) + 1];
        for packed in [gzip(&zeros), zstd(&zeros), zeros.clone()] {
            assert_eq!(code(&packed, &zeros), "unpacked_too_large");
            assert!(
                verify(
                    packed.as_slice(),
                    "layer 1",
                    &Sha256::of(&zeros),
                    zeros.len() as u64
                )
                .is_ok()
            );
        }
    }

    #[test]
    fn a_zstd_window_past_the_limit_is_refused_before_it_is_taken() {
        // A frame header that asks for a window of 2^30 bytes (RFC 8878, 3.1.1.1.2), and one block that fills nothing.
        let wide = [ZSTD.as_slice(), &[0, (30 - 10) << 3], &[1, 0, 0]].concat();
        assert_eq!(code(&wide, b""), "layer_unreadable");
        let narrow = [ZSTD.as_slice(), &[0, (20 - 10) << 3], &[1, 0, 0]].concat();
        assert_eq!(check(&narrow, b"").unwrap(), 0);
    }

    #[test]
    fn what_stopped_the_reader_is_what_is_told() {
        struct Lost(Vec<u8>);
        impl Read for Lost {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let bytes = std::mem::take(&mut self.0);
                match bytes.as_slice().read(buffer)? {
                    0 => Err(carry(Fault::usage("lost"))),
                    read => Ok(read),
                }
            }
        }
        for head in [
            b"plain".as_slice(),
            &GZIP,
            &gzip(&[1; 100])[..20],
            &zstd(&[1; 100])[..8],
        ] {
            let fault = verify(Lost(head.to_vec()), "layer 1", &Sha256::of(""), 1_000).unwrap_err();
            assert_eq!(fault.code(), "usage", "{head:?}");
        }
    }
}
