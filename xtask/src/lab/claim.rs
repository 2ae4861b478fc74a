//! Whose a thing of the lab is: everything carries the id of the run that made it, and a run that lives holds a lock.
//!
//! A run that was killed leaves its namespaces. The next one knows by the lock that nobody owns them, and removes them.
//! Nothing is touched that does not carry the lab's prefix and the id of a run that is gone.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::namespace;
use crate::shell::{Failure, Result};

/// What every name of the lab begins with.
const PREFIX: &str = "wclab-";
/// Where runs keep their locks, and what their nodes write.
const RUNS: &str = "/run/wclab";

/// A run of the lab, until it is dropped.
pub struct Claim {
    id: String,
    _lock: File,
}

impl Claim {
    /// Begins a run, and removes what dead ones left.
    pub fn take() -> Result<Self> {
        private_dir(Path::new(RUNS))?;
        let _turn = turn()?;
        sweep_all()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = since.map_or(0, |since| since.subsec_nanos());
        let id = format!("{:x}x{nanoseconds:x}", std::process::id());
        private_dir(&Path::new(RUNS).join(&id))?;
        let path = lock_of(&id);
        let lock = File::create_new(&path).map_err(|error| cannot("make", &path, &error))?;
        lock.try_lock()
            .map_err(|error| Failure::new(format!("cannot lock {}: {error}", path.display())))?;
        Ok(Self { id, _lock: lock })
    }

    /// A name that says whose it is.
    pub fn name(&self, what: &str) -> String {
        format!("{PREFIX}{}-{what}", self.id)
    }

    /// A private directory of this run.
    pub fn dir(&self, what: &str) -> Result<PathBuf> {
        let dir = Path::new(RUNS).join(&self.id).join(what);
        private_dir(&dir)?;
        Ok(dir)
    }

    /// Its id, by which [`left_of`] finds what it left.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let dir = Path::new(RUNS).join(&self.id);
        if let Err(error) = fs::remove_dir_all(&dir) {
            eprintln!("{}", cannot("remove", &dir, &error).message);
        }
    }
}

/// Removes what runs left that are gone; the names of the namespaces.
pub fn sweep() -> Result<Vec<String>> {
    private_dir(Path::new(RUNS))?;
    let _turn = turn()?;
    sweep_all()
}

/// What there is of a run: namespaces, their configuration, its directory.
pub fn left_of(id: &str) -> Result<Vec<String>> {
    let of_run = |name: &String| id_of(name) == Some(id);
    let mut left: Vec<String> = names(namespace::PATH)?.into_iter().filter(of_run).collect();
    left.extend(names(namespace::CONFIGURATION)?.into_iter().filter(of_run));
    let dir = Path::new(RUNS).join(id);
    left.extend(dir.exists().then(|| dir.display().to_string()));
    Ok(left)
}

fn sweep_all() -> Result<Vec<String>> {
    let mut found: BTreeSet<String> = names(namespace::PATH)?.into_iter().collect();
    found.extend(names(namespace::CONFIGURATION)?);
    found.retain(|name| id_of(name).is_some_and(|id| !lives(id)));
    found.iter().try_for_each(|name| namespace::remove(name))?;
    for id in names(RUNS)? {
        let dir = Path::new(RUNS).join(&id);
        if dir.is_dir() && !lives(&id) {
            fs::remove_dir_all(&dir).map_err(|error| cannot("remove", &dir, &error))?;
        }
    }
    Ok(found.into_iter().collect())
}

/// One at a time begins or sweeps: between the making of a lock and its taking, a run looks dead.
fn turn() -> Result<File> {
    let path = Path::new(RUNS).join("turn");
    let file = File::create(&path).map_err(|error| cannot("make", &path, &error))?;
    file.lock().map_err(|error| cannot("lock", &path, &error))?;
    Ok(file)
}

fn lives(id: &str) -> bool {
    File::open(lock_of(id))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn lock_of(id: &str) -> PathBuf {
    Path::new(RUNS).join(id).join("lock")
}

/// The id in a name of the lab's.
fn id_of(name: &str) -> Option<&str> {
    let (id, what) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let hex = |c: char| c.is_ascii_hexdigit() || c == 'x';
    (!id.is_empty() && !what.is_empty() && id.chars().all(hex)).then_some(id)
}

fn names(dir: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| cannot("list", Path::new(dir), &error))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

fn private_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| cannot("make", dir, &error))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_with_the_prefix_and_a_run_is_the_labs() {
        assert_eq!(id_of("wclab-1fx2a-net-1"), Some("1fx2a"));
        for foreign in [
            "wc-a",
            "wclab-",
            "wclab-1f",
            "wclab--net",
            "wclab-1f-",
            "wclab-my-own",
            "xwclab-1f-a",
        ] {
            assert_eq!(id_of(foreign), None, "{foreign}");
        }
    }
}
