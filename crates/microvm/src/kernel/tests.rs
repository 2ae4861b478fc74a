//! Kernels that are not what they should be, and how one is unpacked.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use worldcompute_durable::output_dir;

use super::*;

fn bzimage(packed: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    image.extend([0; 16]);
    image.extend_from_slice(packed);
    image
}

fn elf() -> Vec<u8> {
    [b"\x7fELF".as_slice(), &[7; 5000]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Literals only: token with a length, and bytes (lz4_Block_format.md).
fn lz4_block(bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0];
    let mut left = bytes.len() - 15;
    while left >= 255 {
        block.push(255);
        left -= 255;
    }
    block.push(left as u8);
    block.extend_from_slice(bytes);
    block
}

fn lz4(bytes: &[u8], claimed: u32) -> Vec<u8> {
    let block = lz4_block(bytes);
    let mut packed = b"\x02\x21\x4c\x18".to_vec();
    packed.extend((block.len() as u32).to_le_bytes());
    packed.extend(block);
    packed.extend(claimed.to_le_bytes());
    packed
}

fn source(dir: &Path, image: &[u8]) -> KernelSource {
    let path = dir.join("vmlinuz");
    write_atomic(&path, image, Mode::Public).unwrap();
    KernelSource {
        image: path,
        modules: None,
        sha256: None,
    }
}

#[test]
fn a_kernel_is_unpacked_from_every_form_that_is_known() {
    let kernel = elf();
    for image in [
        kernel.clone(),
        bzimage(&gzip(&kernel)),
        bzimage(&lz4(&kernel, kernel.len() as u32)),
    ] {
        assert_eq!(unpack::vmlinux(image).unwrap(), kernel);
    }
}

#[test]
fn what_is_no_kernel_or_a_damaged_one_is_refused() {
    let kernel = elf();
    let mut cut = bzimage(&gzip(&kernel));
    cut.truncate(cut.len() - 1);
    let bomb = gzip(&vec![0; MAX_KERNEL as usize + 1]);
    for image in [
        vec![],
        b"MZ".to_vec(),
        vec![0; 4096],
        bzimage(b"\xfd7zXZ\0 and so on"),
        bzimage(&gzip(b"no kernel")),
        cut,
        bzimage(&lz4(&kernel, 1)),
        bzimage(&lz4(&kernel, 0)[..40]),
        bzimage(b"\x02\x21\x4c\x18\xff\xff\xff\xff"),
        bzimage(&bomb),
    ] {
        let fault = unpack::vmlinux(image).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::SandboxUnavailable));
    }
}

#[test]
fn a_kernel_other_than_the_pinned_one_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), &elf());
    source.sha256 = Some(Sha256::of("another"));
    let cache = dir.path().join("cache");
    assert_eq!(
        Kernel::prepare(&source, &cache).unwrap_err().code(),
        "kernel_digest_mismatch"
    );
    assert!(!cache.exists());
    source.sha256 = Some(Sha256::of(elf()));
    let kernel = Kernel::prepare(&source, &cache).unwrap();
    assert_eq!(kernel.digest(), Sha256::of(elf()));
    assert_eq!(std::fs::read(kernel.image()).unwrap(), elf());
}

#[test]
fn what_is_kept_is_made_again_when_somebody_wrote_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), &bzimage(&gzip(&elf())));
    let cache = dir.path().join("cache");
    let kernel = Kernel::prepare(&source, &cache).unwrap();
    let first = std::fs::read(kernel.initramfs()).unwrap();
    for path in [kernel.image(), kernel.initramfs()] {
        let mut content = std::fs::read(&path).unwrap();
        content[100] ^= 1;
        write_atomic(&path, &content, Mode::Public).unwrap();
    }
    Kernel::prepare(&source, &cache).unwrap();
    assert_eq!(std::fs::read(kernel.image()).unwrap(), elf());
    assert_eq!(std::fs::read(kernel.initramfs()).unwrap(), first);
}

#[test]
fn a_hypervisor_that_writes_to_its_kernel_writes_to_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = Kernel::prepare(&source(dir.path(), &elf()), &dir.path().join("cache")).unwrap();
    let run = dir.path().join("run");
    private_dir(&run).unwrap();
    kernel.copy_into(&run).unwrap();
    for path in [kernel.image(), kernel.initramfs()] {
        let copy = run.join(path.file_name().unwrap());
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&path).unwrap());
        let inode = |path| std::fs::metadata(path).unwrap().ino();
        assert_ne!(inode(copy), inode(path));
    }
}

#[test]
fn a_kernel_that_is_not_there_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("missing");
    let fault = Kernel::prepare(
        &KernelSource {
            image,
            modules: None,
            sha256: None,
        },
        dir.path(),
    )
    .unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::SandboxUnavailable));
    assert!(fault.hint_text().contains("linux-image-cloud-amd64"));
}

#[test]
fn drivers_come_after_those_that_they_need_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        output_dir(path.parent().unwrap()).unwrap();
        write_atomic(&path, text.as_bytes(), Mode::Public).unwrap();
    };
    put(
        "modules.dep",
        "k/virtio.ko: k/virtio_ring.ko\nk/virtio_ring.ko:\nk/virtio-mmio.ko: k/virtio.ko k/virtio_ring.ko\n\
                        k/virtio_console.ko: k/virtio.ko k/virtio_ring.ko\n",
    );
    put(
        "modules.builtin",
        "kernel/drivers/block/virtio_blk.ko\nkernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko\n",
    );
    for name in ["virtio", "virtio_ring", "virtio-mmio", "virtio_console"] {
        put(&format!("k/{name}.ko"), name);
    }
    let names: Vec<_> = drivers::load(dir.path())
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        ["virtio_ring", "virtio", "virtio_mmio", "virtio_console"]
    );

    put("modules.builtin", "");
    let fault = drivers::load(dir.path()).unwrap_err();
    assert!(fault.message().contains("no driver virtio_blk"), "{fault}");
    put(
        "modules.dep",
        "k/virtio_mmio.ko.xz:\nk/virtio_blk.ko.xz:\nk/virtio_console.ko.xz:\nk/vmw_vsock_virtio_transport.ko.xz:\n",
    );
    let fault = drivers::load(dir.path()).unwrap_err();
    assert!(fault.message().contains("is packed"), "{fault}");
}
