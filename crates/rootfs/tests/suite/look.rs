//! Images looked at from outside: by e2fsck, and through the kernel or debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Says why nobody looks; where all has to run, that is a failure.
pub fn has_to_run(why: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!is_ci, "{why}: where CI is set this has to run");
    println!("skipped: {why}");
}

/// Fails unless e2fsck finds the image clean without changing it.
pub fn fsck(image: &Path) {
    let Ok(run) = Command::new("e2fsck").arg("-fn").arg(image).output() else {
        has_to_run("no e2fsck (package e2fsprogs) to look at the image");
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}\n{complained}");
    // Nothing to mend is one thing, nothing to remark another.
    assert_eq!(said.lines().count(), 6, "{said}");
}

/// What others than us see of an inode.
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

pub const NO_MOUNT: &str = "skipped: mounting takes root and a loop device";

/// What is in a file of more is not looked at.
pub const MAX_LOOKED_AT: u64 = 64 << 20;

/// Everything in an image, by path, as the kernel sees it, or else debugfs; the root is the empty path. `None`, saying so,
/// where neither can.
pub fn seen(image: &Path) -> Option<BTreeMap<Vec<u8>, Seen>> {
    match mount(image, "loop,ro,noload") {
        Some(place) => Some(Mounted(place).seen()),
        None => crate::debugfs::seen(image),
    }
}

/// Where it is mounted; `None` where this may not be done. Root is refused nothing.
pub fn mount(image: &Path, options: &str) -> Option<TempDir> {
    let place = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "ext4", "-o", options])
        .args([image, place.path()])
        .output();
    match mount {
        Ok(mount) if mount.status.success() => Some(place),
        Ok(mount)
            if rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists() =>
        {
            panic!("{}", String::from_utf8_lossy(&mount.stderr))
        }
        _ => None,
    }
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
        let mounted = mount(image, "loop,ro,noload");
        if mounted.is_none() {
            println!("{NO_MOUNT}");
        }
        mounted.map(Self)
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
                inode(&path, &metadata),
            );
        }
        all
    }
}

fn inode(path: &Path, metadata: &fs::Metadata) -> Seen {
    let kind = metadata.file_type();
    let body = if kind.is_dir() {
        SeenBody::Directory
    } else if kind.is_symlink() {
        SeenBody::Symlink(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_file() && metadata.len() > MAX_LOOKED_AT {
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
