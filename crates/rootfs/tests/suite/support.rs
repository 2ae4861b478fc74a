//! Archives made by hand, and images made of them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;
use worldcompute_fault::Fault;
use worldcompute_rootfs::{Assembly, Devices, Limits, RootfsImage, Size};

use crate::look::fsck;

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
