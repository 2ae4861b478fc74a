//! Copies that cost no more than they have to: blocks are shared where the disk can do that, and holes stay holes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Makes `path`, which is not there yet, with the content of `from`. The position in `from` is another afterwards.
///
/// # Errors
/// What the disk says; half a file may be there then.
pub fn new_file(from: &File, path: &Path, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let to = options.write(true).create_new(true).mode(mode).open(path)?;
    // Whatever this process leaves out of the modes of its files.
    to.set_permissions(Permissions::from_mode(mode))?;
    match ioctl_ficlone(&to, from) {
        Ok(()) => Ok(()),
        Err(_) => copy_data(from, &to),
    }
}

fn copy_data(mut from: &File, mut to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut done = 0;
    while done < length {
        let start = match seek(from, SeekFrom::Data(done)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            start => start?,
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(length);
        seek(from, SeekFrom::Start(start))?;
        seek(to, SeekFrom::Start(start))?;
        let data = end.saturating_sub(start);
        if io::copy(&mut from.by_ref().take(data), &mut to)? != data {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("sparse"))
            .unwrap();
        sparse.set_len(64 << 20).unwrap();
        for at in [1 << 20, 33 << 20] {
            sparse.write_all_at(&[7; 5000], at).unwrap();
        }
        let path = dir.path().join("copy");
        copy_data(&sparse, &File::create_new(&path).unwrap()).unwrap();
        let copy = File::open(&path).unwrap();
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes == std::fs::read(dir.path().join("sparse")).unwrap());
        assert!(
            new_file(&sparse, &path, 0o600).is_err(),
            "it is there already"
        );
        let for_all = dir.path().join("for all");
        new_file(&sparse, &for_all, 0o666).unwrap();
        assert_eq!(std::fs::metadata(for_all).unwrap().mode() & 0o777, 0o666);
    }
}
