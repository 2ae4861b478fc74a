//! Reading what may be too big, or too open.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, StatVfsMountFlags, fcntl_getfl, fcntl_setfl, statvfs};
use rustix::io::Errno;
use worldcompute_fault::{Category, Fault, Result};

/// Opens what is at `path` to be read from its start to its end.
///
/// A pipe that nobody has open for writing is at its end: nobody waits for a writer who may never come. One that has a
/// writer, such as a shell's `<(command)`, is read until the writer is done.
///
/// Errors: `not_found`, `permission_denied`, `io_failure`.
pub fn open_to_read(path: &Path) -> Result<File> {
    open_unblocked(path).map_err(|error| cannot_read(path, &error))
}

fn open_unblocked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    }
    Ok(file)
}

/// All bytes of the file at `path`, at most `limit`.
///
/// Errors: `file_too_large` past the limit, and those of [`open_to_read`].
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_at_most(&open_to_read(path)?, path, limit)
}

/// All bytes of a file that decides something, at most `limit`: a regular file, not a symbolic link, and not one that
/// everybody may write or replace.
///
/// Errors: `insecure_permissions`, else those of [`read_bounded`].
pub fn read_trusted(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, metadata) = open_checked(path)?;
    check_writers(path, &metadata)?;
    check_folder(path)?;
    read_at_most(&file, path, limit)
}

/// All bytes of what others are checked against, such as a public key or a policy, at most `limit`: not a file that
/// everybody may write or replace. A symbolic link is followed, as where settings are mounted.
///
/// Errors: `insecure_permissions`, else those of [`read_bounded`].
pub fn read_guarded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_to_read(path)?;
    let metadata = file.metadata().map_err(|error| cannot_read(path, &error))?;
    check_writers(path, &metadata)?;
    check_folder(path)?;
    if let Ok(target) = path.canonicalize() {
        check_folder(&target)?;
    }
    read_at_most(&file, path, limit)
}

/// Refuses a file that everybody may write or replace, before it decides something without being read here: a program
/// to run.
///
/// Errors: `insecure_permissions`, those of looking at it.
pub fn check_guarded(path: &Path) -> Result<()> {
    let metadata = path.metadata().map_err(|error| cannot_read(path, &error))?;
    check_writers(path, &metadata)?;
    check_folder(path)?;
    match path.canonicalize() {
        Ok(target) => check_folder(&target),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// All bytes of a secret file, at most `limit`: a regular file, not a symbolic link, owned by this user, closed to
/// everybody else, and in a folder where not everybody may replace it.
///
/// The buffer is allocated once, so that no copy of the secret is left behind in freed memory; wiping it is the
/// caller's part.
///
/// Errors: `insecure_permissions`, else those of [`read_bounded`].
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, metadata) = open_checked(path)?;
    check_private(path, &metadata)?;
    check_folder(path)?;
    read_at_most(&file, path, limit)
}

fn open_checked(path: &Path) -> Result<(File, Metadata)> {
    // Not blocking: opening a pipe must not wait for its writer.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| open_refused(path, &error))?;
    let metadata = file.metadata().map_err(|error| cannot_read(path, &error))?;
    if !metadata.is_file() {
        return Err(insecure(
            format!("{} is not a regular file", path.display()),
            "replace it by the file itself".to_owned(),
        ));
    }
    Ok((file, metadata))
}

fn read_at_most(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let expected = file
        .metadata()
        .map_err(|error| cannot_read(path, &error))?
        .len()
        .min(limit);
    // One byte more than expected, so that reading to the end finds it without growing the buffer.
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| cannot_read(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(bytes)
}

fn check_writers(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.mode() & 0o002 == 0 {
        return Ok(());
    }
    let shown = path.display();
    let message = format!(
        "{shown} can be written by everybody (mode {:04o})",
        metadata.mode() & 0o7777
    );
    Err(insecure(message, format!("chmod o-w {shown}")))
}

/// Who may write to the folder puts another file in the place of this one. A sticky folder, such as `/tmp`, leaves that
/// to the owner of the file; on a file system that is mounted for reading only, such as that of mounted settings, nobody
/// does.
fn check_folder(path: &Path) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let metadata = dir.metadata().map_err(|error| cannot_read(dir, &error))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o1002 != 0o002 || is_read_only(dir) {
        return Ok(());
    }
    let (shown, dir) = (path.display(), dir.display());
    let message = format!("{shown} can be replaced by everybody: {dir} has mode {mode:04o}");
    Err(insecure(message, format!("chmod o-w {dir}")))
}

fn is_read_only(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|mounted| mounted.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn check_private(path: &Path, metadata: &Metadata) -> Result<()> {
    let shown = path.display();
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("{shown} belongs to user {}", metadata.uid());
        return Err(insecure(
            message,
            format!("run as its owner or copy it: install -m 600 {shown} <path>"),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        let message = format!(
            "{shown} is open to others (mode {:04o})",
            metadata.mode() & 0o7777
        );
        return Err(insecure(message, format!("chmod 600 {shown}")));
    }
    Ok(())
}

fn open_refused(path: &Path, error: &io::Error) -> Fault {
    if Errno::from_io_error(error) == Some(Errno::LOOP) {
        let message = format!("{} is a symbolic link", path.display());
        return insecure(message, "replace it by the file itself".to_owned());
    }
    cannot_read(path, error)
}

pub(crate) fn insecure(message: String, hint: String) -> Fault {
    Fault::new(Category::InvalidInput, "insecure_permissions", message).hint(hint)
}

pub(crate) fn cannot_read(path: &Path, error: &io::Error) -> Fault {
    Fault::io(format_args!("read {}", path.display()), error)
}

/// The refusal of what is no file of bytes that stay.
pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

pub(crate) fn too_large(path: &Path, limit: u64) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "file_too_large",
        format!("{} has more than {limit} bytes", path.display()),
    )
    .hint("check that this is the file you meant")
}
