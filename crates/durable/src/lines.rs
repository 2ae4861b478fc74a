//! Text files that grow by whole lines.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use worldcompute_fault::{Category, Fault, Result};

use crate::read::{cannot_read, not_regular, too_large};
use crate::temp::Target;
use crate::{Disk, Mode, OsDisk};

/// Bytes looked at in one step on the way back to a line break.
const STEP: u64 = 4096;

/// Bytes after the last whole line that may be a torn one; what is longer is no text of lines.
const MAX_TORN: u64 = 16 << 20;

/// Appends `line` and a line break to the file at `path`, or creates it. When this returns `Ok`, the line is on stable
/// storage.
///
/// A last line that a dead writer left without its break was never acknowledged: it is cut off first. After an error
/// the file ends in the old last line, in the new one, or in such a torn one. The caller holds the lock that keeps
/// other writers away.
///
/// Errors: `invalid_line` for a line with a break in it, `disk_full`, `permission_denied`, `io_failure`.
pub fn append_line(path: &Path, line: &[u8], mode: Mode) -> Result<()> {
    append_line_on(&OsDisk, path, line, mode)
}

/// [`append_line`] on a given disk.
pub fn append_line_on(disk: &dyn Disk, path: &Path, line: &[u8], mode: Mode) -> Result<()> {
    if line.contains(&b'\n') {
        let message = format!("a line of {} has a line break in it", path.display());
        return Err(Fault::new(Category::InvalidInput, "invalid_line", message)
            .hint("write one record a line"));
    }
    let mut bytes = Vec::with_capacity(line.len().saturating_add(1));
    bytes.extend_from_slice(line);
    bytes.push(b'\n');
    append(disk, path, &bytes, mode)
        .map_err(|error| Fault::io(format_args!("append to {}", path.display()), &error))
}

/// The last whole line of the file at `path`, without its break; `None` when there is no file or no whole line in it.
///
/// Errors: `file_too_large` for a line of more than `limit` bytes or more than 16 MiB after it, and those of reading.
pub fn last_line(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match open_with(path, &mut OpenOptions::new()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| cannot_read(path, &error))?,
    };
    let refused = |error| cannot_read(path, &error);
    let start_of = |end, limit| {
        let start = after_last_break(&file, end, limit).map_err(refused)?;
        start.ok_or_else(|| too_large(path, limit))
    };
    let len = file.metadata().map_err(refused)?.len();
    let Some(end) = start_of(len, MAX_TORN.max(limit))?.checked_sub(1) else {
        return Ok(None);
    };
    let start = start_of(end, limit)?;
    let len = end.saturating_sub(start);
    let mut line = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut line, start).map_err(refused)?;
    Ok(Some(line))
}

/// What stands after the last whole line of the file at `path`; nothing when there is no file.
///
/// [`append_line`] cuts it off. Who appends to files that others name asks here first whether it is his to cut.
///
/// Errors: `file_too_large` past `limit` bytes, and those of reading.
pub fn torn_tail(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| cannot_read(path, &error))?,
    };
    let refused = |error| cannot_read(path, &error);
    let end = file.metadata().map_err(refused)?.len();
    let start = after_last_break(&file, end, limit).map_err(refused)?;
    let start = start.ok_or_else(|| too_large(path, limit))?;
    let mut tail = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut tail, start).map_err(refused)?;
    Ok(tail)
}

fn append(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
        opened => opened?,
    };
    let end = whole_lines(&file)?;
    if end < file.metadata()?.len() {
        disk.truncate(&file, end)?;
    }
    if end == 0 {
        disk.set_mode(&file, mode)?;
        // The name settles before the first line, so that no line is acknowledged under a name that a crash takes.
        Target::of(path).map_or(Ok(()), |target| disk.sync_dir(target.dir))?;
    }
    if let Err(error) = disk.write(&file, bytes) {
        // Half a line may be there. Should this fail as well, the next append cuts it off.
        let _ = disk.truncate(&file, end);
        return Err(error);
    }
    disk.sync(&file)
}

/// A pipe or a device would take the lines and keep none.
fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().append(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// Bytes up to the end of the last whole line.
fn whole_lines(file: &File) -> io::Result<u64> {
    let start = after_last_break(file, file.metadata()?.len(), u64::MAX)?;
    Ok(start.unwrap_or_default())
}

/// Where the line that reaches up to `end` starts; `None` when that is more than `limit` bytes away, which is as far as
/// this looks.
fn after_last_break(file: &File, end: u64, limit: u64) -> io::Result<Option<u64>> {
    let farthest = end.saturating_sub(limit);
    let mut end = end;
    let mut buffer = [0; STEP as usize];
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let step = usize::try_from(end.saturating_sub(start)).unwrap_or(buffer.len());
        let chunk = buffer.get_mut(..step).unwrap_or_default();
        file.read_exact_at(chunk, start)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            let start = start.saturating_add(at as u64).saturating_add(1);
            return Ok(Some(start).filter(|start| *start >= farthest));
        }
        if start < farthest {
            return Ok(None);
        }
        end = start;
    }
    Ok(Some(0).filter(|start| *start >= farthest))
}
