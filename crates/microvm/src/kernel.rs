//! The kernel of the guests: checked, unpacked, and kept with its initramfs.

mod drivers;
mod unpack;

use std::path::{Path, PathBuf};

use worldcompute_durable::{Mode, open_to_read, private_dir, read_bounded, write_atomic};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::Sha256;

use crate::config::{KERNEL_HINT, KernelSource};
use crate::{copy, initramfs};

/// Most bytes of a kernel's image, packed or not.
pub const MAX_KERNEL: u64 = 256 << 20;
/// The hypervisor's user is not the owner.
const READABLE: u32 = 0o444;

/// A kernel that is what its source says, unpacked, with an initramfs that fits it.
#[derive(Clone, Debug)]
pub struct Kernel {
    digest: Sha256,
    folder: PathBuf,
}

impl Kernel {
    /// Checks the image against its digest and makes what a hypervisor boots in a folder below `cache`, unless it is
    /// there already, to the bit.
    ///
    /// # Errors
    /// WC-007 for an image or a driver that is not there or cannot be used; `kernel_digest_mismatch`; what the disk says.
    pub fn prepare(source: &KernelSource, cache: &Path) -> Result<Self> {
        let image = read(&source.image)?;
        let digest = Sha256::of(&image);
        if source.sha256.is_some_and(|pinned| pinned != digest) {
            let path = source.image.display();
            let message = format!(
                "the kernel {path} has the SHA-256 {digest}, which is not the one that is pinned"
            );
            return Err(Fault::new(
                Category::VerificationFailed,
                "kernel_digest_mismatch",
                message,
            )
            .hint("install the kernel that is pinned, or pin the one that is there"));
        }
        let drivers = source.modules.as_deref().map(drivers::load).transpose()?;
        let initramfs = initramfs::build(&drivers.unwrap_or_default());
        let folder = cache.join(
            Sha256::of(
                [
                    digest.as_bytes().as_slice(),
                    Sha256::of(&initramfs).as_bytes(),
                ]
                .concat(),
            )
            .to_string(),
        );
        private_dir(&folder)?;
        let kernel = Self { digest, folder };
        keep(&kernel.image(), &unpack::vmlinux(image)?)?;
        keep(&kernel.initramfs(), &initramfs)?;
        Ok(kernel)
    }

    /// The SHA-256 of the image as it was packed.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What tells this kernel, its drivers and its agent from any other.
    pub fn key(&self) -> String {
        self.folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Copies both files into `dir`: `vmlinux` and `initramfs`. No hypervisor gets hold of those that others boot.
    pub(crate) fn copy_into(&self, dir: &Path) -> Result<()> {
        for path in [self.image(), self.initramfs()] {
            let copied = copy::new_file(
                &open_to_read(&path)?,
                &dir.join(path.file_name().unwrap_or_default()),
                READABLE,
            );
            copied.map_err(|error| Fault::io(format_args!("copy {}", path.display()), &error))?;
        }
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs")
    }
}

/// Somebody may have written to it since it was made: it is read before it is used again.
fn keep(path: &Path, content: &[u8]) -> Result<()> {
    let there = read_bounded(path, MAX_KERNEL);
    match there.is_ok_and(|there| there == content) {
        true => Ok(()),
        false => write_atomic(path, content, Mode::Public),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    read_bounded(path, MAX_KERNEL).map_err(|fault| {
        let message = format!("the kernel {} cannot be read", path.display());
        Fault::wc(WcCode::SandboxUnavailable, message)
            .caused_by(fault)
            .hint(KERNEL_HINT)
    })
}

#[cfg(test)]
mod tests;
