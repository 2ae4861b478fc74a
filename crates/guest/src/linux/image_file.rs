//! Files of the image that the host names. Whose they are does not matter: whoever names them has made the image.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open as open_folder, openat2};

/// Opens the regular file at `path` of the image at `root`, on its disk, to read it. Links on the way lead where they lead
/// in the image; one at the end leads nowhere. What is no regular file is not opened: that could block, or do something.
pub fn open(root: &str, path: &str) -> Result<File> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open_folder(root, folder, Mode::empty())?;
    let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, path, look, Mode::empty(), within)?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(Error::other("it is no regular file"));
    }
    // By what was found: the path is not walked again.
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}
