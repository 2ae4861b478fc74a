//! Images that were made before, by what they were made of.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use worldcompute_durable::private_dir;
use worldcompute_fault::{Category, Fault, Result};

use crate::assembly::{Assembly, Size};
use crate::image::RootfsImage;
use crate::layer::DiffId;
use crate::limits::Devices;

/// Raised with every change of the bytes that the same layers give.
const FORMAT: u32 = 2;
const SUFFIX: &str = ".ext4";
/// Nobody writes to an image that others copy.
const READ_ONLY: u32 = 0o400;
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// What an image is made of: equal recipes give equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe<'a> {
    /// The base first.
    pub layers: &'a [DiffId],
    /// What is done with device nodes.
    pub devices: Devices,
    /// How large it is to be.
    pub size: Size,
}

impl Recipe<'_> {
    /// SHA-256 over the recipe and the version of the format.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let (kind, size) = match self.size {
            Size::Fitting => (0, 0),
            Size::Declared(size) => (1, size),
            Size::WithRoom(room) => (2, room),
        };
        let mut hash = Sha256::new()
            .chain_update(b"worldcompute rootfs")
            .chain_update(FORMAT.to_le_bytes())
            .chain_update([self.devices.tag(), kind])
            .chain_update(size.to_le_bytes());
        for layer in self.layers {
            hash.update(layer.as_bytes());
        }
        hash.finalize().into()
    }

    fn file_name(&self) -> String {
        format!("{}{SUFFIX}", hex::encode(self.digest()))
    }
}

/// A directory of images, each under the digest of its recipe. Several processes may share it.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    max_bytes: u64,
}

impl Cache {
    /// Opens the cache in `dir`, which is made with mode 0700 where it is missing, and removes what writers that were
    /// killed left in it. Of more than `max_bytes` on the disk, the images that were not used for longest go.
    ///
    /// # Errors
    /// `insecure_permissions` for a directory that others may enter; what the disk says.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self> {
        private_dir(dir)?;
        let cache = Self {
            dir: dir.to_owned(),
            max_bytes,
        };
        cache.sweep()?;
        Ok(cache)
    }

    /// The image of this recipe: the one that is there, or else the one that `assemble` has the layers for. It is
    /// given a directory for [`Assembly::new`]. Two that build the same at once give the same.
    ///
    /// # Errors
    /// Those of `assemble` and of [`Assembly::build`]; `rootfs_recipe_mismatch` for layers that are not the recipe's.
    pub fn rootfs(
        &self,
        recipe: &Recipe<'_>,
        assemble: impl FnOnce(&Path) -> Result<Assembly>,
    ) -> Result<CachedImage> {
        if let Some(image) = self.get(recipe)? {
            return Ok(image);
        }
        let assembly = assemble(&self.dir)?;
        if assembly.diff_ids() != recipe.layers || assembly.devices() != recipe.devices {
            let message = "the layers assembled are not those that were asked for";
            let fault = Fault::new(
                Category::VerificationFailed,
                "rootfs_recipe_mismatch",
                message,
            );
            return Err(fault.hint("give the layers of the image's configuration, in its order"));
        }
        let image = assembly.build(&self.dir.join(recipe.file_name()), recipe.size)?;
        let kept = self.keep(image)?;
        self.evict()?;
        Ok(kept)
    }

    /// The image of this recipe, if it is there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn get(&self, recipe: &Recipe<'_>) -> Result<Option<CachedImage>> {
        let path = self.dir.join(recipe.file_name());
        let opened = File::open(&path).and_then(|file| {
            file.set_modified(SystemTime::now())?;
            let size = file.metadata()?.len();
            Ok(CachedImage { file, size })
        });
        match opened {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path, &error)),
        }
    }

    fn keep(&self, image: RootfsImage) -> Result<CachedImage> {
        let kept = File::open(image.path()).and_then(|file| {
            file.set_permissions(Permissions::from_mode(READ_ONLY))?;
            let size = image.size();
            Ok(CachedImage { file, size })
        });
        kept.map_err(|error| failed("keep", image.path(), &error))
    }

    /// Images that are open stay readable for who has them.
    fn evict(&self) -> Result<()> {
        let mut images = self.files(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))?;
        images.sort_by_key(|(_, metadata)| (metadata.mtime(), metadata.mtime_nsec()));
        let taken = |metadata: &Metadata| metadata.blocks() * 512;
        let mut used: u64 = images.iter().map(|(_, metadata)| taken(metadata)).sum();
        for (path, metadata) in images {
            if used <= self.max_bytes {
                break;
            }
            remove(&path)?;
            used -= taken(&metadata);
        }
        Ok(())
    }

    fn sweep(&self) -> Result<()> {
        for (path, _) in self.files(|name| name.starts_with('.'))? {
            remove_dead(&path)?;
        }
        Ok(())
    }

    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(PathBuf, Metadata)>> {
        let list = || -> io::Result<Vec<_>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                let is_wanted = entry.file_name().to_str().is_some_and(&wanted);
                match entry.metadata() {
                    Ok(metadata) if is_wanted && metadata.is_file() => {
                        files.push((entry.path(), metadata));
                    }
                    // Another process has removed it.
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(files)
        };
        list().map_err(|error| failed("list", &self.dir, &error))
    }
}

/// An image of the cache, which stays readable as long as this lives, whatever becomes of the cache.
#[derive(Debug)]
pub struct CachedImage {
    file: File,
    size: u64,
}

impl CachedImage {
    /// Its length in bytes, holes included.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The image itself, open for reading.
    pub fn into_file(self) -> File {
        self.file
    }

    /// A copy, mode 0600, for a run to write to: `path` must be free. It shares its blocks with the cache where the file
    /// system can do that, and has the same holes else. It is no longer there after a failure, but it is not safe from a
    /// power cut: a run does not outlive one either.
    ///
    /// # Errors
    /// `already_exists`; what the disk says.
    pub fn copy_to(&self, path: &Path) -> Result<RootfsImage> {
        let mut options = File::options();
        let made = options.write(true).create_new(true).mode(0o600).open(path);
        let copied = made.and_then(|to| {
            let filled = fill(&self.file, &to, self.size);
            if filled.is_err() {
                // What stopped the copy is told.
                let _ = fs::remove_file(path);
            }
            filled
        });
        copied.map_err(|error| failed("write", path, &error))?;
        Ok(RootfsImage::new(path.to_owned(), self.size))
    }
}

fn fill(from: &File, to: &File, size: u64) -> io::Result<()> {
    match share(from, to) {
        true => Ok(()),
        false => copy_sparse(from, to, size),
    }
}

#[cfg(target_os = "linux")]
fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share(_: &File, _: &File) -> bool {
    false
}

/// Copies what is not a hole. Several may do so at once with one file, so its position means nothing.
fn copy_sparse(from: &File, to: &File, size: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    to.set_len(size)?;
    let mut at = 0;
    loop {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
}

/// A writer holds the lock of its temporary file as long as it lives. The name may have become another writer's between
/// the look and the lock.
fn remove_dead(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let is_same = |file: &File| -> io::Result<bool> {
        let (ours, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    };
    match file.try_lock().is_ok() && is_same(&file).unwrap_or(false) {
        true => remove(path),
        false => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::io(format_args!("{what} {}", path.display()), error)
}
