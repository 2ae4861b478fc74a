//! What strangers may make us read, keep and write, and what is done with device nodes.

/// Layers of one image.
pub const MAX_LAYERS: usize = 128;
/// Bytes of a path, as Linux has it.
pub const MAX_PATH: usize = 4096;
/// Bytes of one name in a directory, as ext4 has it.
pub const MAX_NAME: usize = 255;
/// Directories above a name, after links were followed.
pub const MAX_DEPTH: usize = 256;
/// Parts that the targets of the links of one path may have, all together.
pub const MAX_LINK_STEPS: usize = 1024;
/// Names of one file, as ext4 has it; of a directory, its own, `.`, and a `..` in each directory in it.
pub const MAX_HARD_LINKS: u32 = 65_000;
/// Bytes of the extended headers (pax, GNU long names) before one entry, all together.
pub const MAX_EXTENDED_HEADER: u64 = 1 << 20;
/// Pieces of a sparse file.
pub const MAX_SPARSE_PIECES: usize = 1 << 16;
/// Bytes of one file, holes included.
pub const MAX_FILE: u64 = 1 << 40;
/// Bytes of an image.
pub const MAX_IMAGE: u64 = 1 << 40;
/// Bytes of an image for which no size was declared, at least.
pub const MIN_IMAGE: u64 = 64 << 20;
/// How many times larger a layer may get by unpacking, past the first [`FREE_UNPACKED`] bytes.
pub const MAX_RATIO: u64 = 256;
/// Bytes that a layer may unpack to, however small it is.
pub const FREE_UNPACKED: u64 = 64 << 20;

/// How much all layers of an image may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archives together, and directories that they imply.
    pub max_entries: u32,
    /// Bytes of the unpacked archives together.
    pub max_unpacked: u64,
    /// Bytes of names, link targets, extended attributes and sparse maps together: what is held in memory.
    pub max_metadata: u64,
    /// Bytes of the image that hold something, whatever its length: files, directories, attributes and inodes.
    pub max_image: u64,
    /// Names of one directory.
    pub max_names: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let max_unpacked = 16 << 30;
        Self {
            max_entries: 1 << 20,
            max_unpacked,
            max_metadata: 256 << 20,
            max_image: 2 * max_unpacked,
            max_names: 1 << 17,
        }
    }
}

/// What is done with a device node in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Devices {
    /// The image is refused with `device_refused`.
    #[default]
    Refuse,
    /// An empty regular file of the same mode and owner stands in its place: the guest mounts its own `/dev`.
    EmptyFile,
    /// It is a device node in the image, too. Numbers are the guest's, so it names a device of the guest.
    Keep,
}

impl Devices {
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::Refuse => 0,
            Self::EmptyFile => 1,
            Self::Keep => 2,
        }
    }
}
