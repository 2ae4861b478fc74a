//! Writing a bundle: built beside its place, verified, then moved there whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use worldcompute_durable::{LockOptions, OwnedLock};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::{Cid, Hasher, Sha256, SigningKey};

use super::index::Index;
use super::part::{FOLDERS, Part};
use super::{Pins, bundle};
use crate::manifest::VerifiedManifest;

/// How many files and folders are synced at the same time.
const SYNCS: usize = 16;

/// What a bundle is made of, besides the objects.
#[derive(Clone, Copy)]
pub struct Contents<'a> {
    /// The job.
    pub manifest: &'a VerifiedManifest,
    /// One receipt for each task.
    pub receipts: &'a [SignedReceipt],
    /// The signed traces of all decisions that the receipts refer to.
    pub traces: &'a [Vec<u8>],
}

/// Writes the bundle of a job to `root/<job id>` and returns that path. `object` writes out the bytes of one object;
/// `key` is the submitter's.
///
/// The bundle appears whole and verified, or not at all; whatever is wrong with the contents, the fault of [`verify`]
/// says so.
///
/// [`verify`]: super::verify
///
/// # Errors
/// Those of [`verify`]; `already_exists`; `state_contention`; those of `object` and of writing.
pub fn write(
    root: &Path,
    contents: Contents<'_>,
    object: &mut dyn FnMut(&Cid, &mut dyn Write) -> Result<()>,
    key: &SigningKey,
) -> Result<PathBuf> {
    fs::create_dir_all(root).map_err(|error| cannot_write(root, &error))?;
    let _only_writer = OwnedLock::acquire(&root.join(".lock"), LockOptions::default())?;
    let place = root.join(contents.manifest.job_id().to_string());
    if place.exists() {
        return Err(already_there(&place));
    }
    let draft = Draft::new(root.join(format!(".{}.partial", contents.manifest.job_id())))?;
    let files = draft.fill(contents, object)?;
    let mut written: Vec<_> = files.keys().map(|name| draft.0.join(name)).collect();
    written.push(draft.0.join(Part::Index.to_string()));
    draft.write(Part::Index, &Index::seal(files, contents.manifest, key)?)?;
    bundle::verify(&draft.0, &Pins::default())?;
    draft.publish(written, root, &place)?;
    Ok(place)
}

/// A bundle that is not in its place yet: removed on drop, and what a crash left behind, before a new one.
struct Draft(PathBuf);

impl Draft {
    fn new(path: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_write(&path, &error));
            }
            _ => {}
        }
        let draft = Self(path);
        for folder in FOLDERS {
            let folder = draft.0.join(folder);
            fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
        }
        Ok(draft)
    }

    /// Writes everything but the index; returns what it has to say.
    fn fill(
        &self,
        contents: Contents<'_>,
        object: &mut dyn FnMut(&Cid, &mut dyn Write) -> Result<()>,
    ) -> Result<BTreeMap<String, Sha256>> {
        let mut files = BTreeMap::new();
        let mut note = |part: Part, digest: Sha256| {
            files.insert(part.to_string(), digest);
        };
        note(
            Part::Manifest,
            self.write(Part::Manifest, contents.manifest.bytes())?,
        );
        for signed in contents.receipts {
            let part = Part::Receipt(signed.receipt().task_index);
            note(part, self.write(part, signed.bytes())?);
        }
        let traces: BTreeMap<_, _> = contents
            .traces
            .iter()
            .map(|trace| (Cid::raw(trace), trace))
            .collect();
        for (cid, trace) in traces {
            note(Part::Decision(cid), self.write(Part::Decision(cid), trace)?);
        }
        for cid in objects(contents.receipts) {
            note(
                Part::Object(cid),
                self.write_with(Part::Object(cid), |file| object(&cid, file))?,
            );
        }
        Ok(files)
    }

    fn write(&self, part: Part, bytes: &[u8]) -> Result<Sha256> {
        let path = self.0.join(part.to_string());
        self.write_with(part, |file| {
            file.write_all(bytes)
                .map_err(|error| cannot_write(&path, &error))
        })
    }

    /// Creates the file, once.
    fn write_with(
        &self,
        part: Part,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Sha256> {
        let path = self.0.join(part.to_string());
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Fault::new(
                Category::InvalidInput,
                "evidence_twice",
                format!("{part}: given twice"),
            ),
            _ => cannot_write(&path, &error),
        };
        let mut file = Hashed {
            file: io::BufWriter::new(File::create_new(&path).map_err(failed)?),
            hasher: Hasher::new(),
        };
        fill(&mut file)?;
        let Hashed { file, hasher } = file;
        file.into_inner()
            .map_err(|error| failed(error.into_error()))?;
        Ok(hasher.finish())
    }

    /// Moves the draft to its place once all of it is on stable storage.
    fn publish(&self, mut written: Vec<PathBuf>, root: &Path, place: &Path) -> Result<()> {
        written.extend(FOLDERS.map(|folder| self.0.join(folder)));
        written.push(self.0.clone());
        sync_all(&written)?;
        fs::rename(&self.0, place).map_err(|error| cannot_write(place, &error))?;
        sync(root)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already where it was published; where removing fails, the next writer of this job tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Hashes what it writes.
struct Hashed {
    file: io::BufWriter<File>,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Everything that the receipts say was run, read or left behind.
fn objects(receipts: &[SignedReceipt]) -> BTreeSet<Cid> {
    let mut objects = BTreeSet::new();
    for receipt in receipts.iter().map(SignedReceipt::receipt) {
        objects.extend([
            receipt.workload_cid,
            receipt.outcome.stdout_cid,
            receipt.outcome.stderr_cid,
        ]);
        objects.extend(receipt.stdin);
        objects.extend(receipt.inputs.iter().map(|input| input.cid));
        objects.extend(receipt.outcome.outputs.iter().map(|output| output.cid));
    }
    objects
}

/// Syncs files and folders, several at a time: a file system that syncs one can sync others with it.
fn sync_all(paths: &[PathBuf]) -> Result<()> {
    let parts = paths.chunks(paths.len().div_ceil(SYNCS).max(1));
    std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().try_for_each(|path| sync(path))))
            .collect();
        running
            .into_iter()
            .try_for_each(|part| part.join().unwrap_or_else(|_| Err(not_synced())))
    })
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| cannot_write(path, &error))
}

fn not_synced() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "evidence_not_synced",
        "a thread that syncs evidence broke off",
    )
}

fn cannot_write(path: &Path, error: &io::Error) -> Fault {
    Fault::io(format_args!("write {}", path.display()), error)
}

fn already_there(place: &Path) -> Fault {
    Fault::new(
        Category::IoFailure,
        "already_exists",
        format!("there is evidence at {} already", place.display()),
    )
    .hint("evidence is never overwritten: move the folder away to write it anew")
}
