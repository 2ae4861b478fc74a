//! The ELF file inside of a bzImage (`Documentation/arch/x86/boot.rst` of Linux: `payload_offset`).

use std::io::Read;

use flate2::read::GzDecoder;
use worldcompute_fault::{Fault, Result, WcCode};

use super::MAX_KERNEL;

const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = b"\x1f\x8b";
/// The form without frames that the kernel's build writes (`lz4 -l`).
const LZ4: &[u8] = b"\x02\x21\x4c\x18";
/// Most bytes that one block of it unpacks to.
const LZ4_BLOCK: usize = 8 << 20;

const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD: usize = 0x248;
const SECTOR: usize = 512;

/// The kernel as hypervisors boot it fastest. A file that is one already stays as it is.
///
/// # Errors
/// WC-007 for what is no kernel, is packed in another way, or is larger than [`MAX_KERNEL`].
pub fn vmlinux(image: Vec<u8>) -> Result<Vec<u8>> {
    if image.starts_with(ELF) {
        return Ok(image);
    }
    let payload =
        payload(&image).ok_or_else(|| unusable("it is neither a bzImage nor a vmlinux"))?;
    let unpacked = match payload {
        packed if packed.starts_with(GZIP) => gunzip(packed),
        packed if packed.starts_with(LZ4) => unlz4(packed.get(LZ4.len()..).unwrap_or_default()),
        _ => return Err(unusable("it is packed with neither gzip nor LZ4")),
    };
    match unpacked {
        Some(kernel) if kernel.starts_with(ELF) => Ok(kernel),
        _ => Err(unusable("what is packed in it is damaged")),
    }
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    (image.get(MAGIC..)?.starts_with(b"HdrS")).then_some(())?;
    let setup = match usize::from(*image.get(SETUP_SECTORS)?) {
        0 => 4,
        sectors => sectors,
    };
    let number = |at: usize| {
        let bytes = image.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let start = ((setup + 1) * SECTOR).checked_add(number(PAYLOAD)?)?;
    image.get(start..start.checked_add(number(PAYLOAD + 4)?)?)
}

fn gunzip(packed: &[u8]) -> Option<Vec<u8>> {
    let mut kernel = Vec::new();
    // What follows the stream is its length once more.
    let read = GzDecoder::new(packed)
        .take(MAX_KERNEL + 1)
        .read_to_end(&mut kernel)
        .ok()?;
    (read as u64 <= MAX_KERNEL).then_some(kernel)
}

/// Blocks of `[length: u32][bytes]`; the last number is the length of the whole, without a block.
fn unlz4(mut packed: &[u8]) -> Option<Vec<u8>> {
    let mut kernel = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    loop {
        let (length, rest) = packed.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        if rest.is_empty() {
            return (kernel.len() == length as usize).then_some(kernel);
        }
        let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let unpacked = lz4_flex::block::decompress_into(bytes, &mut block).ok()?;
        if (kernel.len() + unpacked) as u64 > MAX_KERNEL {
            return None;
        }
        kernel.extend_from_slice(block.get(..unpacked)?);
        packed = rest;
    }
}

fn unusable(why: &str) -> Fault {
    Fault::wc(
        WcCode::SandboxUnavailable,
        format!("the kernel is of no use: {why}"),
    )
    .hint("name another bzImage or a vmlinux for x86-64 in the configuration")
}
