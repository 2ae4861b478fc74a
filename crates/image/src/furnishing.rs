//! What a job lays over its image: the files that it reads, and the folder in which it leaves others behind.

use std::io::{self, Cursor, Read};

use tar::{Builder, EntryType, Header};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Cid;

/// Where a job's standard input lies.
pub const STDIN_PATH: &str = "/.worldcompute/stdin";
/// Where a job leaves its files behind.
pub const OUTPUT_PATH: &str = "/out";

/// Everyone may read an input, and nobody needs to change it.
const INPUT_MODE: u32 = 0o444;
/// Whoever the image runs as may write there, and nobody may remove what another wrote.
const OUTPUT_MODE: u32 = 0o1777;
/// Entries of an archive are padded to this.
const BLOCK: u64 = 512;

/// What a job lays over its image, as one more layer: the same for all tasks of a job, and for all jobs with the same
/// inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Furnishing {
    /// Files by their absolute paths.
    pub inputs: Vec<(String, Cid)>,
    /// What is to lie at [`STDIN_PATH`].
    pub stdin: Option<Cid>,
    /// Whether there is to be a folder [`OUTPUT_PATH`] that everybody may write to.
    pub outputs: bool,
}

impl Furnishing {
    /// Whether there is nothing to lay over.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The layer, as a plain archive. What it reads from the content store is verified.
    ///
    /// # Errors
    /// `object_missing`; `invalid_archive` for a path that no archive takes; what the disk says.
    pub(crate) fn layer(&self, content: &ContentStore) -> Result<Box<dyn Read>> {
        let mut layer: Box<dyn Read> = Box::new(io::empty());
        if self.outputs {
            let header = entry(OUTPUT_PATH, EntryType::Directory, OUTPUT_MODE, 0)?;
            layer = Box::new(layer.chain(Cursor::new(header)));
        }
        let stdin = self.stdin.iter().map(|cid| (STDIN_PATH, cid));
        let inputs = self.inputs.iter().map(|(path, cid)| (path.as_str(), cid));
        for (path, cid) in stdin.chain(inputs) {
            let size = content.size(cid)?;
            let header = entry(path, EntryType::Regular, INPUT_MODE, size)?;
            let padding = io::repeat(0).take(size.next_multiple_of(BLOCK) - size);
            let file = Cursor::new(header).chain(content.reader(cid)?.chain(padding));
            layer = Box::new(layer.chain(file));
        }
        Ok(Box::new(layer.chain(io::repeat(0).take(2 * BLOCK))))
    }
}

/// The records before the bytes of an entry, a long name included.
fn entry(path: &str, kind: EntryType, mode: u32, size: u64) -> Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let mut archive = Builder::new(Vec::new());
    let written = archive.append_data(&mut header, path.trim_start_matches('/'), io::empty());
    written.map_err(|error| Fault::io(format_args!("lay out {path}"), &error))?;
    // Without the end that a finished archive has.
    Ok(archive.get_ref().clone())
}
