//! Layers of an image: what is taken is a whole tree that can be written, is read alike however it is packed, and can
//! be hidden by a layer over it; what is refused names its layer.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;
use worldcompute_fault::Fault;
use worldcompute_rootfs::{Assembly, Devices, DiffId, Limits, Size};

/// A layer that hides all others: an empty file of the name that the format has for that.
const NAME: &[u8] = b".wh..wh.opq";

/// Room for what fits into the limits of most inputs: a smaller image is written sooner.
const SIZE: u64 = 8 << 20;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let home = TempDir::new().expect("a folder");
    let plain = match assembled(&home, &[bytes]) {
        Ok(assembly) => assembly,
        Err(fault) => {
            assert!(fault.message().starts_with("layer 0: "), "{fault}");
            return;
        }
    };
    let ids = plain.diff_ids().to_vec();
    let image = home.path().join("image");
    if let Err(fault) = plain.build(&image, Size::Declared(SIZE)) {
        assert_eq!(fault.code(), "rootfs_too_small", "{fault}");
        return;
    }
    if ids != [DiffId::of(bytes)] {
        return;
    }
    let packed = assembled(&home, &[&gzip(bytes)]).expect("the same, packed");
    assert_eq!(packed.diff_ids(), ids);
    let again = home.path().join("again");
    let built = packed.build(&again, Size::Declared(SIZE));
    built.expect("the same image");
    assert_eq!(digest(&image), digest(&again));
    let hidden = assembled(&home, &[bytes, &opaque()]).expect("a layer over any other");
    assert_eq!(hidden.diff_ids().len(), 2);
}

fn digest(path: &std::path::Path) -> DiffId {
    DiffId::of(&std::fs::read(path).expect("an image"))
}

fn assembled(home: &TempDir, layers: &[&[u8]]) -> Result<Assembly, Fault> {
    let limits = Limits {
        max_entries: 10_000,
        max_unpacked: 64 << 20,
        max_metadata: 16 << 20,
        ..Limits::default()
    };
    let empty = Assembly::new(limits, Devices::Keep, home.path())?;
    let mut numbered = layers.iter().enumerate();
    numbered.try_fold(empty, |assembly, (number, layer)| {
        assembly.layer(number, None, *layer)
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

fn opaque() -> Vec<u8> {
    let mut archive = vec![0; 3 * 512];
    archive[..NAME.len()].copy_from_slice(NAME);
    archive[148..156].fill(b' ');
    archive[156] = b'0';
    let sum: u32 = archive.iter().map(|byte| u32::from(*byte)).sum();
    archive[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    archive
}
