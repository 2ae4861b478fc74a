//! The list of what is in a tar archive: names, and where their bytes are.
//!
//! Nothing is unpacked. Headers are read by the `tar` crate; long names are taken here, because it would read them whole
//! however long they say they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tar::{Archive, Entry, EntryType, PaxExtensions};
use worldcompute_fault::{Fault, Result};

use crate::refusal::{excerpt, invalid};

/// The most entries of an archive.
pub const MAX_ENTRIES: usize = 100_000;
/// The longest extended header of an entry, such as a long name, in bytes.
pub const MAX_HEADER_BYTES: u64 = 64 << 10;
/// The longest name of an entry, and of what a link leads to, in bytes (`PATH_MAX`).
pub const MAX_ENTRY_NAME_BYTES: usize = 4_096;
/// How many links lead to a file at most.
const MAX_LINKS: usize = 4;

/// The files of an archive, by name.
pub struct Tarball {
    file: File,
    entries: BTreeMap<String, Place>,
}

/// Where something in an archive is.
enum Place {
    Bytes { offset: u64, size: u64 },
    Link(String),
}

impl Tarball {
    /// Reads all headers.
    ///
    /// # Errors
    /// `archive_unreadable`, `archive_name_unsafe`, `archive_duplicate_entry`, `archive_too_many_entries`,
    /// `archive_header_too_long`, `archive_name_too_long`; what the disk says.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|error| Fault::io(format_args!("open {}", path.display()), &error))?;
        let entries = list(&file)?;
        Ok(Self { file, entries })
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The bytes of a file. Links within the archive are followed.
    ///
    /// # Errors
    /// `archive_incomplete`; what the disk says.
    pub fn read(&self, name: &str) -> Result<Section<'_>> {
        let (offset, size) = self.find(name)?;
        Ok(Section {
            file: &self.file,
            offset,
            end: offset.saturating_add(size),
        })
    }

    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let mut at = name.to_owned();
        for _ in 0..=MAX_LINKS {
            match self.entries.get(&at) {
                Some(Place::Bytes { offset, size }) => return Ok((*offset, *size)),
                Some(Place::Link(target)) => at.clone_from(target),
                None => break,
            }
        }
        let message = format!("the archive has no file {}", excerpt(name));
        Err(invalid("archive_incomplete", message).hint("save the image again"))
    }
}

/// A file in an archive.
pub struct Section<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Section<'_> {
    /// Where in the archive it is. No two files are at the same place.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes are left of it.
    pub const fn size(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self
            .file
            .read_at(buffer.get_mut(..length).unwrap_or_default(), self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn list(file: &File) -> Result<BTreeMap<String, Place>> {
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    let mut archive = Archive::new(file);
    let entries = archive
        .entries_with_seek()
        .map_err(|error| unreadable(&error))?;
    let mut list = List::default();
    for (number, entry) in entries.raw(true).enumerate() {
        if number >= MAX_ENTRIES {
            let message = format!("an archive of more than {MAX_ENTRIES} entries");
            return Err(
                invalid("archive_too_many_entries", message).hint("save one image at a time")
            );
        }
        list.take(entry.map_err(|error| unreadable(&error))?, length)?;
    }
    Ok(list.entries)
}

#[derive(Default)]
struct List {
    entries: BTreeMap<String, Place>,
    /// What headers before it say of the next entry.
    name: Option<String>,
    target: Option<String>,
}

impl List {
    fn take(&mut self, mut entry: Entry<'_, &File>, length: u64) -> Result<()> {
        if entry
            .raw_file_position()
            .checked_add(entry.size())
            .is_none_or(|end| end > length)
        {
            return Err(unreadable(&io::ErrorKind::UnexpectedEof.into()));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => self.name = Some(text(&extended(&mut entry)?)?),
            EntryType::GNULongLink => self.target = Some(text(&extended(&mut entry)?)?),
            EntryType::XHeader => self.extend(&extended(&mut entry)?)?,
            // Says nothing of names that matter; sizes and names are per entry.
            EntryType::XGlobalHeader => {}
            kind => self.add(kind, &entry)?,
        }
        Ok(())
    }

    fn extend(&mut self, header: &[u8]) -> Result<()> {
        for extension in PaxExtensions::new(header) {
            let extension = extension.map_err(|error| unreadable(&error))?;
            match extension.key_bytes() {
                b"path" => self.name = Some(text(extension.value_bytes())?),
                b"linkpath" => self.target = Some(text(extension.value_bytes())?),
                // Every other reader would see other files from here on.
                key if key == b"size" || key.starts_with(b"GNU.sparse.") => {
                    return Err(unsupported(key));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: EntryType, entry: &Entry<'_, &File>) -> Result<()> {
        let (long, target) = (self.name.take(), self.target.take());
        let name = long.map_or_else(|| text(&entry.header().path_bytes()), Ok)?;
        let place = match kind {
            EntryType::Regular | EntryType::Continuous => Place::Bytes {
                offset: entry.raw_file_position(),
                size: entry.size(),
            },
            EntryType::Symlink | EntryType::Link => {
                let own = || text(&entry.header().link_name_bytes().unwrap_or_default());
                let target = target.map_or_else(own, Ok)?;
                let base = if kind == EntryType::Symlink {
                    parent(&name)
                } else {
                    ""
                };
                Place::Link(resolve(base, &target)?)
            }
            EntryType::Directory => return Ok(()),
            kind => return Err(unsupported(&[kind.as_byte()])),
        };
        let name = resolve("", &name)?;
        if self.entries.insert(name.clone(), place).is_some() {
            let message = format!("the archive holds {} twice", excerpt(&name));
            return Err(invalid("archive_duplicate_entry", message).hint("save the image again"));
        }
        Ok(())
    }
}

fn extended(entry: &mut Entry<'_, &File>) -> Result<Vec<u8>> {
    if entry.size() > MAX_HEADER_BYTES {
        let message = format!(
            "an extended header of {} bytes: {MAX_HEADER_BYTES} is the most",
            entry.size()
        );
        return Err(invalid("archive_header_too_long", message).hint("save the image again"));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

/// A name as it is written: up to the first NUL.
fn text(bytes: &[u8]) -> Result<String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let name = bytes.get(..end).unwrap_or_default();
    String::from_utf8(name.to_vec()).map_err(|_| unsafe_name(&String::from_utf8_lossy(name)))
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The name within the archive that `path` means in the folder `base`.
fn resolve(base: &str, path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Err(unsafe_name(path));
    }
    let mut steps: Vec<&str> = Vec::new();
    for step in base.split('/').chain(path.split('/')) {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop().ok_or_else(|| unsafe_name(path))?),
            step => steps.push(step),
        }
    }
    let name = steps.join("/");
    match name.len() <= MAX_ENTRY_NAME_BYTES {
        true => Ok(name),
        false => Err(too_long(&name)),
    }
}

fn too_long(name: &str) -> Fault {
    let message = format!(
        "the archive holds a name of {} bytes: {MAX_ENTRY_NAME_BYTES} is the most",
        name.len()
    );
    invalid("archive_name_too_long", message).hint("save the image again")
}

fn unsafe_name(name: &str) -> Fault {
    let message = format!(
        "the archive holds the name {}, which leads out of it",
        excerpt(name)
    );
    invalid("archive_name_unsafe", message)
        .hint("do not use this archive: whoever made it may mean harm")
}

fn unsupported(what: &[u8]) -> Fault {
    let message = format!(
        "the archive holds an entry of the kind {}",
        excerpt(&String::from_utf8_lossy(what))
    );
    invalid("archive_unsupported", message)
        .hint("save the image again, with docker save or skopeo copy")
}

/// The reader's error quotes what it could not read: whoever made the file chose that, and a terminal would do what it says.
fn unreadable(error: &io::Error) -> Fault {
    let why = excerpt(&error.to_string());
    invalid("archive_unreadable", format!("no whole tar archive: {why}"))
        .hint("save the image again")
}
