//! Archives made by hand, and images looked at from outside: by e2fsck, and through the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use worldcompute_fault::Fault;
use worldcompute_rootfs::{Assembly, Devices, Limits, RootfsImage, Size};

/// An entry in the making.
#[derive(Clone, Debug)]
pub struct Head {
    pub name: Vec<u8>,
    pub kind: u8,
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
}

impl Head {
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            size: 0,
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            link: Vec::new(),
            device: (0, 0),
        }
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let name = &self.name[..self.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[156] = self.kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        sealed(block)
    }
}

/// With its checksum.
pub fn sealed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

/// An archive; [`Tar::end`] closes it.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn head(mut self, head: &Head) -> Self {
        if head.name.len() > 100 || head.link.len() > 100 {
            self = self.pax(&[(b"path", &head.name), (b"linkpath", &head.link)]);
        }
        self.0.extend_from_slice(&head.block());
        self
    }

    pub fn data(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let size = content.len() as u64;
        let head = Head {
            size,
            ..Head::new(b'0', name)
        };
        self.head(&head).data(content)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.head(&Head::new(b'5', name))
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let link = target.as_ref().to_vec();
        self.head(&Head {
            link,
            mode: 0o777,
            ..Head::new(b'2', name)
        })
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let link = target.as_ref().to_vec();
        self.head(&Head {
            link,
            ..Head::new(b'1', name)
        })
    }

    pub fn whiteout(self, name: &str) -> Self {
        self.file(name, b"")
    }

    /// An extended header for the entry that comes next.
    pub fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
            let body = key.len() + value.len() + 3;
            let mut len = body + 1;
            while len.to_string().len() + body > len {
                len += 1;
            }
            write!(text, "{len} ").unwrap();
            text.extend_from_slice(&[key, b"=".as_slice(), value, b"\n"].concat());
        }
        let size = text.len() as u64;
        let head = Head {
            size,
            ..Head::new(b'x', "pax")
        };
        let mut this = self;
        this.0.extend_from_slice(&head.block());
        this.data(&text)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_at(flate2::Compression::fast(), bytes)
}

pub fn gzip_well(bytes: &[u8]) -> Vec<u8> {
    gzip_at(flate2::Compression::best(), bytes)
}

fn gzip_at(level: flate2::Compression, bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A folder for one test, and images in it.
pub struct Lab {
    pub dir: TempDir,
    pub limits: Limits,
    pub devices: Devices,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            limits: Limits::default(),
            devices: Devices::Keep,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("rootfs.ext4")
    }

    pub fn assemble(&self, layers: &[Vec<u8>]) -> Result<Assembly, Fault> {
        let empty = Assembly::new(self.limits, self.devices, self.dir.path())?;
        let mut named = layers.iter().enumerate();
        named.try_fold(empty, |assembly, (number, layer)| {
            assembly.layer(number, None, layer.as_slice())
        })
    }

    pub fn try_build(&self, layers: &[Vec<u8>], size: Size) -> Result<RootfsImage, Fault> {
        self.assemble(layers)?.build(&self.path(), size)
    }

    /// The image of these layers, which e2fsck has nothing to say about.
    pub fn build(&self, layers: &[Vec<u8>]) -> RootfsImage {
        let image = self.try_build(layers, Size::Fitting).unwrap();
        fsck(image.path());
        image
    }

    /// The code of the refusal of the last of these layers, which leaves nothing.
    pub fn refused(&self, layers: &[Vec<u8>]) -> String {
        let fault = self.try_build(layers, Size::Fitting).unwrap_err();
        let layer = format!("layer {}: ", layers.len() - 1);
        assert!(fault.message().starts_with(&layer), "{fault}");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "{fault}");
        fault.code().to_owned()
    }
}

/// Fails unless e2fsck finds the image clean without changing it.
pub fn fsck(image: &Path) {
    let Ok(run) = Command::new("e2fsck").arg("-fn").arg(image).output() else {
        println!("skipped: no e2fsck (package e2fsprogs) to look at the image");
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}\n{complained}");
    // Nothing to mend is one thing, nothing to remark another.
    assert_eq!(said.lines().count(), 6, "{said}");
}

/// What the kernel sees of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub links: u64,
    pub device: u64,
    pub body: SeenBody,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub inode: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenBody {
    Directory,
    File(Vec<u8>),
    /// A file too large to be looked at whole: its length.
    Large(u64),
    Symlink(Vec<u8>),
    Other,
}

/// Mounted read-only as long as this lives.
pub struct Mounted(TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

/// At once where it can be seen, and for good as soon as nobody has a file of it open: a program that another test
/// starts at this moment has all of them for an instant.
pub fn unmount(path: &Path) {
    let unmounted = Command::new("umount").arg("--lazy").arg(path).status();
    assert!(unmounted.unwrap().success());
}

impl Mounted {
    /// `None`, saying so, where this may not be done.
    pub fn new(image: &Path) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,ro,noload"])
            .args([image, place.path()])
            .output();
        match mount {
            Ok(mount) if mount.status.success() => Some(Self(place)),
            Ok(mount)
                if rustix::process::geteuid().is_root()
                    && Path::new("/dev/loop-control").exists() =>
            {
                panic!("{}", String::from_utf8_lossy(&mount.stderr))
            }
            _ => {
                println!("skipped: mounting takes root and a loop device");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Everything, by path; the root is the empty path.
    pub fn seen(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut all = BTreeMap::new();
        let mut left = vec![self.0.path().to_owned()];
        while let Some(path) = left.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                left.extend(entries.map(|entry| entry.unwrap().path()));
            }
            let below = path.strip_prefix(self.0.path()).unwrap();
            all.insert(
                below.as_os_str().as_bytes().to_vec(),
                seen(&path, &metadata),
            );
        }
        all
    }
}

fn seen(path: &Path, metadata: &fs::Metadata) -> Seen {
    let kind = metadata.file_type();
    let body = if kind.is_dir() {
        SeenBody::Directory
    } else if kind.is_symlink() {
        SeenBody::Symlink(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_file() && metadata.len() > 64 << 20 {
        SeenBody::Large(metadata.len())
    } else if kind.is_file() {
        SeenBody::File(fs::read(path).unwrap())
    } else {
        assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device());
        SeenBody::Other
    };
    for (secs, nanos) in [
        (metadata.ctime(), metadata.ctime_nsec()),
        (metadata.atime(), metadata.atime_nsec()),
    ] {
        assert_eq!(
            (secs, nanos),
            (metadata.mtime(), metadata.mtime_nsec()),
            "{path:?}"
        );
    }
    Seen {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        links: metadata.nlink(),
        device: metadata.rdev(),
        body,
        xattrs: xattrs(path),
        inode: metadata.ino(),
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap();
    names.truncate(len);
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = vec![0; 64 << 10];
            let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(len);
            (name.to_owned(), value)
        })
        .collect()
}

/// Paths with what they hold: `/` for directories, `-> target`, else the content.
pub fn listed(tree: &BTreeMap<Vec<u8>, Seen>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = tree.iter().skip(1).map(|(path, seen)| match &seen.body {
        SeenBody::Directory => format!("{}/", text(path)),
        SeenBody::File(content) => format!("{} = {}", text(path), text(content)),
        SeenBody::Symlink(target) => format!("{} -> {}", text(path), text(target)),
        SeenBody::Large(size) => format!("{} of {size}", text(path)),
        SeenBody::Other => format!("{} ?", text(path)),
    });
    shown.collect()
}
