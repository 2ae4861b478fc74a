//! Reading a folder that somebody else filled: no links, no pipes, no way out.

use std::ffi::CStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Take};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Sha256;

use super::part::{FOLDERS, Part};
use super::refusal::{missing, too_large, unexpected};

/// A bundle's folder. Everything is opened relative to it, one name at a time.
pub(super) struct Folder(OwnedFd);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self(folder)),
            Err(error) => Err(Fault::io(
                format_args!("open {}", path.display()),
                &error.into(),
            )),
        }
    }

    /// The names of all files, at most `limit`, each of which is a part's.
    pub(super) fn list(&self, limit: usize) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in entries(&self.0, "the folder", limit)? {
            if FOLDERS.contains(&name.as_str()) {
                let inner = entries(self.folder(&name)?, &name, limit)?;
                names.extend(inner.into_iter().map(|file| format!("{name}/{file}")));
            } else {
                names.push(name);
            }
        }
        match names.iter().find(|name| Part::parse(name).is_none()) {
            Some(name) => Err(unexpected(
                name.escape_debug(),
                "no part of a bundle has that name",
            )),
            None if names.len() > limit => {
                Err(too_large("the folder", format_args!("{limit} files")))
            }
            None => Ok(names),
        }
    }

    /// All bytes of a part that has at most `limit`.
    pub(super) fn read(&self, part: Part, limit: usize) -> Result<Vec<u8>> {
        read(self.file(part)?, part, limit)
    }

    /// Digest and length of a part that has at most `limit` bytes, in constant memory.
    pub(super) fn digest(&self, part: Part, limit: u64) -> Result<(Sha256, u64)> {
        digest(self.file(part)?, part, limit)
    }

    fn file(&self, part: Part) -> Result<File> {
        let name = part.to_string();
        match name.split_once('/') {
            Some((folder, name)) => open_file(self.folder(folder)?, name, part),
            None => open_file(&self.0, name, part),
        }
    }

    fn folder(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::empty())
            .map_err(|error| refused(name, error))
    }
}

/// Opens a regular file by its name; what waits for a writer (a pipe) is not waited for.
pub(super) fn open_file(
    folder: impl AsFd,
    name: impl rustix::path::Arg,
    part: impl Display,
) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) => return Err(refused(part, error)),
    };
    let metadata = file
        .metadata()
        .map_err(|error| cannot_read(&part, &error))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(unexpected(part, "not a regular file"))
    }
}

/// All bytes of a file that has at most `limit`.
pub(super) fn read(file: File, part: impl Display, limit: usize) -> Result<Vec<u8>> {
    let mut file = bounded(file, &part, limit as u64)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| cannot_read(&part, &error))?;
    Ok(bytes)
}

/// Digest and length of a file that has at most `limit` bytes, in constant memory.
pub(super) fn digest(file: File, part: impl Display, limit: u64) -> Result<(Sha256, u64)> {
    let file = bounded(file, &part, limit)?;
    Sha256::of_reader(file).map_err(|error| cannot_read(&part, &error))
}

/// What a file has now, not what is added while it is read.
fn bounded(file: File, part: &impl Display, limit: u64) -> Result<Take<File>> {
    let length = file
        .metadata()
        .map_err(|error| cannot_read(part, &error))?
        .len();
    if length > limit {
        return Err(too_large(part, format_args!("{limit} bytes")));
    }
    Ok(file.take(length))
}

/// What the refusal to open a name means for the evidence.
fn refused(part: impl Display, error: Errno) -> Fault {
    match error {
        Errno::NOENT => missing(part, "there is no such file"),
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
            unexpected(part, "a link or something else in place of a file")
        }
        other => cannot_read(part, &other.into()),
    }
}

fn cannot_read(part: impl Display, error: &io::Error) -> Fault {
    Fault::io(format_args!("read {part}"), error)
}

/// The names in a folder, at most `limit` besides the folders of a bundle.
fn entries(folder: impl AsFd, shown: &str, limit: usize) -> Result<Vec<String>> {
    let failed = |error: Errno| cannot_read(shown, &error.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_itself_or_parent(entry.file_name()) {
            continue;
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
        if names.len() > limit.saturating_add(FOLDERS.len()) {
            return Err(too_large(shown, format_args!("{limit} files")));
        }
    }
    Ok(names)
}

fn is_itself_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use worldcompute_proof::Cid;

    use super::*;

    fn folder_with(objects: usize) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("objects")).unwrap();
        for number in 0..objects {
            let name = format!("objects/{}", Cid::raw(number.to_be_bytes()));
            File::create(dir.path().join(name)).unwrap();
        }
        File::create(dir.path().join("manifest.cbor")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn a_folder_is_listed_to_the_limit_and_refused_past_it() {
        for files in [1, 2, 20] {
            let (_dir, folder) = folder_with(files - 1);
            assert_eq!(folder.list(files).unwrap().len(), files);
            assert_eq!(
                folder.list(files - 1).unwrap_err().code(),
                "evidence_too_large"
            );
        }
    }

    #[test]
    fn a_file_is_read_to_the_limit_and_refused_past_it() {
        let (dir, folder) = folder_with(0);
        let file = File::options()
            .write(true)
            .open(dir.path().join("manifest.cbor"))
            .unwrap();
        file.set_len(100).unwrap();
        assert_eq!(folder.read(Part::Manifest, 100).unwrap().len(), 100);
        assert_eq!(folder.digest(Part::Manifest, 100).unwrap().1, 100);
        assert_eq!(
            folder.read(Part::Manifest, 99).unwrap_err().code(),
            "evidence_too_large"
        );
        assert_eq!(
            folder.digest(Part::Manifest, 99).unwrap_err().code(),
            "evidence_too_large"
        );
    }
}
