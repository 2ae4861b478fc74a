//! Reading: first the whole structure, then entries one at a time.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::OFlags;
use worldcompute_durable::scratch_file;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Sha256;

use super::header::{
    Central, Common, DATE, DEFLATED, DESCRIPTOR_LEN, END_LEN, End, FILE, Fields, LOCAL_LEN,
    MADE_BY, STORED, STREAMED, Sums, TIME_STAMP, UNSAID_FILE, UTF8, VERSION,
};
use super::inflate::EntryReader;
use super::{error_of, excess, fault_of, name};
use crate::in_file::InFile;
use crate::limits::{MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_ENTRY_NAME};
use crate::signature::unverified;

/// Bytes of content from which on it takes longer to hash them than to start a thread, by far.
const TOGETHER_FROM: u64 = 4 << 20;
/// Bytes of that thread's stack.
const STACK: usize = 256 << 10;
/// Bytes of an entry of the directory.
const MAX_LISTED: usize = 46 + MAX_ENTRY_NAME + TIME_STAMP.len();

/// Bytes that can be read anywhere, by several readers at a time.
pub trait ReadAt: Sync {
    /// Bytes there are.
    ///
    /// # Errors
    /// The refusals of the disk.
    fn size(&self) -> io::Result<u64>;

    /// Reads what stands at `at`, as [`Read::read`] does.
    ///
    /// # Errors
    /// The refusals of the disk.
    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        (&mut &*self).seek(SeekFrom::End(0))
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, out, at)
    }
}

impl ReadAt for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.get(at..).unwrap_or_default().read(out)
    }
}

/// What stands in a source from one place on, read in order.
#[derive(Debug)]
pub(super) struct ReadFrom<'a, R> {
    source: &'a R,
    at: u64,
}

impl<R: ReadAt> Read for ReadFrom<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read_at(out, self.at)?;
        self.at = self.at.saturating_add(got as u64);
        Ok(got)
    }
}

/// An archive whose structure was read and found sound.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    label: String,
    entries: Vec<Entry>,
}

/// A file in an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    name: String,
    pub(super) deflated: bool,
    pub(super) sums: Sums,
    /// Whether it says that it is a file, as every entry of a pack does.
    is_file: bool,
    /// Where its bytes start.
    data: u64,
}

impl Entry {
    /// Its path below the folder the archive would be unpacked to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its content, at most [`MAX_ENTRY_BYTES`].
    pub const fn size(&self) -> u64 {
        self.sums.size as u64
    }
}

impl Archive<File> {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// `verification_failed` when it is no sound archive; `not_found` and the other refusals of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        // Not blocking: opening a pipe must not wait for its writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))?;
        Self::new(file, path.display().to_string())
    }
}

impl<R: ReadAt> Archive<R> {
    /// Reads the structure of the archive in `source`; `label` names it in messages.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn new(source: R, label: impl Into<String>) -> Result<Self> {
        let label = label.into();
        let entries = read_structure(&source).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => unverified(format!("{label} is cut off")),
            _ => fault_of(&format!("read {label}"), error).in_file(Path::new(&label)),
        })?;
        Ok(Self {
            source,
            label,
            entries,
        })
    }

    /// What it is read from.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The entries, in the order of their bytes.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the entries come in the order of their names, as they do in every pack.
    pub fn is_in_order(&self) -> bool {
        self.entries.is_sorted_by(|one, next| one.name < next.name)
    }

    /// What to say of one that [is not](Archive::is_in_order).
    pub(crate) fn disorder(&self) -> Fault {
        let label = &self.label;
        unverified(format!(
            "the entries of {label} are not in the order of their names"
        ))
    }

    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Starts to read the entry `name`.
    ///
    /// # Errors
    /// `verification_failed` when there is none, or one that no pack has; the refusals of the disk.
    pub fn read(&self, name: &str) -> Result<EntryReader<'_, R>> {
        let entry = self
            .entry(name)
            .ok_or_else(|| unverified(format!("missing {name}")))?;
        if !entry.is_file {
            let message = format!("zip entry {name} does not say that it is a file");
            return Err(unverified(message));
        }
        let bytes = ReadFrom {
            source: &self.source,
            at: entry.data,
        };
        Ok(EntryReader::new(bytes, entry))
    }

    /// All bytes of an entry, at most `limit`.
    ///
    /// # Errors
    /// `verification_failed` when there is none, it is damaged or larger; the refusals of the disk.
    pub fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let size = self.entry(name).map_or(0, Entry::size);
        if size > limit {
            let message = format!("{name} of {size} bytes is past the limit of {limit}");
            return Err(unverified(message));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let read = self.read(name)?.read_to_end(&mut bytes);
        read.map_err(|error| self.fault(error))?;
        Ok(bytes)
    }

    /// The digest of an entry's content, in constant memory.
    ///
    /// # Errors
    /// As [`Archive::bytes`].
    pub fn digest(&self, name: &str) -> Result<Sha256> {
        let digest = Sha256::of_reader(self.read(name)?);
        Ok(digest.map_err(|error| self.fault(error))?.0)
    }

    /// The digests of several entries' contents, in constant memory; where there is much of it, two at a time.
    ///
    /// # Errors
    /// As [`Archive::bytes`], of the first entry that is refused.
    pub fn digests(&self, names: &[&str]) -> Result<Vec<Sha256>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let taken = || {
                let at = next.fetch_add(1, Ordering::Relaxed);
                names.get(at).map(|name| (at, name))
            };
            let digests = std::iter::from_fn(taken).map(|(at, name)| (at, self.digest(name)));
            digests.collect::<Vec<_>>()
        };
        let sizes = names.iter().filter_map(|name| self.entry(name));
        let much = sizes.map(Entry::size).sum::<u64>() >= TOGETHER_FROM;
        let mut digests = thread::scope(|scope| {
            // Where there cannot be another thread, this one does all of it.
            let other = thread::Builder::new().stack_size(STACK);
            let other = much.then(|| other.spawn_scoped(scope, work).ok()).flatten();
            let own = work();
            let others =
                other.map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            own.into_iter()
                .chain(others.unwrap_or_default())
                .collect::<Vec<_>>()
        });
        digests.sort_by_key(|(at, _)| *at);
        digests.into_iter().map(|(_, digest)| digest).collect()
    }

    /// Opens the archive that is the entry `name`, by way of a scratch file.
    ///
    /// # Errors
    /// As [`Archive::bytes`], and those of opening it.
    pub fn nested(&self, name: &str) -> Result<Archive<File>> {
        let mut scratch = scratch_file()?;
        let copied = io::copy(&mut self.read(name)?, &mut scratch);
        copied.map_err(|error| self.fault(error))?;
        Archive::new(scratch, format!("{name} in {}", self.label))
    }

    /// The fault behind an error of reading one of its entries.
    pub fn fault(&self, error: io::Error) -> Fault {
        fault_of(&format!("read {}", self.label), error)
    }
}

fn unsound<T>(message: impl Into<String>) -> io::Result<T> {
    Err(error_of(unverified(message)))
}

fn read_structure<R: ReadAt>(source: &R) -> io::Result<Vec<Entry>> {
    let len = source.size()?;
    let end = read_end(source, len)?;
    let directory = read_at(source, end.offset.into(), end.size as usize)?;
    let listed = read_directory(&directory, end.entries)?;
    let mut entries = Vec::with_capacity(listed.len());
    let mut next = 0;
    for listed in &listed {
        entries.push(place(source, listed, &mut next)?);
    }
    if next != u64::from(end.offset) {
        return unsound("zip has bytes between its entries and its directory");
    }
    let size = entries.iter().map(Entry::size).sum();
    match excess(size, len) {
        Some(excess) => unsound(format!("zip {excess}")),
        None => Ok(entries),
    }
}

fn read_end<R: ReadAt>(source: &R, len: u64) -> io::Result<End> {
    let Some(at) = len.checked_sub(END_LEN) else {
        return unsound("not a zip archive: too short");
    };
    let bytes = read_at(source, at, END_LEN as usize)?;
    let Some(end) = End::read(&bytes) else {
        return unsound("not a zip archive, or bytes after its end");
    };
    if end.comment_len != 0 || end.disk != 0 || end.directory_disk != 0 {
        return unsound("zip has a comment or several parts");
    }
    let count = usize::from(end.entries);
    if end.entries != end.entries_here || count > MAX_ENTRIES {
        return unsound(format!(
            "zip has {count} entries; the limit is {MAX_ENTRIES}"
        ));
    }
    if end.size as usize > count.saturating_mul(MAX_LISTED)
        || u64::from(end.offset).saturating_add(end.size.into()) != at
    {
        return unsound("zip directory is not where its end says");
    }
    Ok(end)
}

fn read_at<R: ReadAt>(source: &R, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    ReadFrom { source, at }.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An entry as the directory lists it.
struct Listed<'a> {
    central: Central,
    name: &'a str,
    extra: &'a [u8],
}

fn read_directory(bytes: &[u8], count: u16) -> io::Result<Vec<Listed<'_>>> {
    let mut fields = Fields(bytes);
    let mut names = HashSet::new();
    let mut listed = Vec::new();
    for _ in 0..count {
        let Some(next) = Listed::take(&mut fields) else {
            return unsound("zip directory is malformed");
        };
        if let Some(objection) = next.objection() {
            return unsound(format!("zip entry {:?} {objection}", next.name));
        }
        if !names.insert(next.name) {
            return unsound(format!("zip contains duplicate entries: {}", next.name));
        }
        listed.push(next);
    }
    match fields.0 {
        [] => Ok(listed),
        _ => unsound("zip directory has bytes after its entries"),
    }
}

impl<'a> Listed<'a> {
    fn take(fields: &mut Fields<'a>) -> Option<Self> {
        let central = Central::take(fields)?;
        let name = fields.bytes(central.common.name_len.into())?;
        let extra = fields.bytes(central.common.extra_len.into())?;
        Some(Self {
            central,
            name: std::str::from_utf8(name).ok()?,
            extra,
        })
    }

    /// Why this entry is refused, if it is.
    fn objection(&self) -> Option<&'static str> {
        let Central {
            made_by,
            common,
            comment_len,
            disk,
            internal,
            external,
            ..
        } = self.central;
        if common.flags & !(STREAMED | UTF8) != 0 || self.misstates_its_name() {
            return Some("is encrypted or uses an unknown feature");
        }
        if ![STORED, DEFLATED].contains(&common.method) {
            return Some("is compressed by a method other than deflate");
        }
        if common.method == STORED && common.sums.packed != common.sums.size {
            return Some("is stored in another size than it has");
        }
        if u64::from(common.sums.size) > MAX_ENTRY_BYTES {
            return Some("is larger than 100 MiB");
        }
        if ![FILE, UNSAID_FILE].contains(&external) {
            return Some("is no plain file of mode 0644");
        }
        if (made_by, common.version) != (MADE_BY, VERSION) {
            return Some("was made by another version of the format than 2.0 on Unix");
        }
        if (common.date, common.time) != (DATE, 0) {
            return Some("is of another time than 1980-01-01");
        }
        if comment_len != 0 || disk != 0 || internal != 0 || !self.has_its_stamp() {
            return Some("has a comment, another part or an unknown extra field");
        }
        name::objection(self.name)
    }

    /// Whether it says that its name is UTF-8 where ASCII was enough, or the other way round. Go's writer takes a
    /// tilde, which some code pages lack, for more than ASCII.
    fn misstates_its_name(&self) -> bool {
        let says = self.central.common.flags & UTF8 != 0;
        let tilde = self.name.is_ascii() && self.name.contains('~');
        says == self.name.is_ascii() && !tilde
    }

    /// Whether it has the time stamp of what is streamed, or, not being streamed, none.
    fn has_its_stamp(&self) -> bool {
        match self.central.common.flags & STREAMED {
            0 => self.extra.is_empty(),
            _ => self.extra == TIME_STAMP,
        }
    }
}

/// Checks that a listed entry stands at `next`, and that what stands there agrees; moves `next` behind it.
fn place<R: ReadAt>(source: &R, listed: &Listed<'_>, next: &mut u64) -> io::Result<Entry> {
    let common = listed.central.common;
    let head = common.name_len.saturating_add(common.extra_len);
    let bytes = read_at(source, *next, LOCAL_LEN as usize + usize::from(head))?;
    let (fixed, rest) = bytes.split_at(LOCAL_LEN as usize);
    let streamed = common.flags & STREAMED != 0;
    let expected = Common {
        sums: if streamed {
            Sums::default()
        } else {
            common.sums
        },
        ..common
    };
    let agrees = Common::read_local(fixed) == Some(expected);
    let names = [listed.name.as_bytes(), listed.extra].concat();
    if !agrees || rest != names || u64::from(listed.central.offset) != *next {
        return unsound(format!(
            "zip entry {} is not where, or not what, its directory says",
            listed.name
        ));
    }
    let data = *next + bytes.len() as u64;
    *next = data + u64::from(common.sums.packed);
    if streamed {
        check_descriptor(source, listed, next)?;
    }
    Ok(Entry {
        name: listed.name.to_owned(),
        deflated: common.method == DEFLATED,
        sums: common.sums,
        is_file: listed.central.external == FILE,
        data,
    })
}

fn check_descriptor<R: ReadAt>(source: &R, listed: &Listed<'_>, next: &mut u64) -> io::Result<()> {
    let bytes = read_at(source, *next, DESCRIPTOR_LEN as usize)?;
    if Sums::read_descriptor(&bytes) != Some(listed.central.common.sums) {
        return unsound(format!(
            "zip entry {} is not followed by what its directory says",
            listed.name
        ));
    }
    *next += DESCRIPTOR_LEN;
    Ok(())
}
