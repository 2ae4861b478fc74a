//! Leaving: what a home has for being a donor's goes. What its user has in another role stays, unless all of it is to go.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use worldcompute_content::{Collect, Collected};
use worldcompute_durable::{LockOptions, OwnedLock};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_scheduler::donor_log::DonorLog;
use worldcompute_scheduler::records::Records;

use crate::config::Config;
use crate::home::{Home, OpenHome};
use crate::storage::Storage;
use crate::{images, needed};

/// How long a daemon that was asked to end may still have the home.
const DAEMON_END: Duration = Duration::from_secs(60);

/// What leaving came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The home that it is about.
    pub home: String,
    /// Whether it was a donor's. If not, nothing was touched, unless all of it had to go.
    pub was_donor: bool,
    /// Answers that were kept for their submitters, and are no longer.
    pub answers: usize,
    /// Objects of the content store that nobody else needed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was removed from the home: files, and folders with all that was in them.
    pub removed: Vec<String>,
    /// What stays in it.
    pub kept: Vec<String>,
    /// What could not be removed, with the reason.
    pub residue: Vec<Residue>,
}

/// Something that should be gone and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Residue {
    /// Where it is.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Removes what this home has for being a donor's: the answers that it keeps for submitters, their results and whatever
/// else in the content store neither jobs nor images of the user need, the donor's policy where it is the starter's, the
/// disks and the kernels of microVMs, and the mark of a donor. With `all`, everything that a node ever writes into a home, the identity last. Waits a minute for a
/// daemon that is about to end.
///
/// # Errors
/// `state_contention` for a home that a daemon has; those of the store, unless all is to go. What cannot be removed is no
/// error here: see [`Left::complete`].
pub async fn leave(home: &Home, all: bool, storage: Storage) -> Result<Left> {
    let mut left = Left::nothing(home);
    if !home.is_enrolled() {
        return Ok(left);
    }
    match all {
        true => left.remove_all(home)?,
        false => left.remove_donor(home, storage).await?,
    }
    left.note_kept(home)?;
    Ok(left)
}

impl Left {
    fn nothing(home: &Home) -> Self {
        Self {
            home: home.root().display().to_string(),
            was_donor: false,
            answers: 0,
            objects: 0,
            bytes: 0,
            removed: Vec::new(),
            kept: Vec::new(),
            residue: Vec::new(),
        }
    }

    /// Whether all is gone that had to go.
    ///
    /// # Errors
    /// `residue_left`, naming every path and why it is still there.
    pub fn complete(&self) -> Result<()> {
        if self.residue.is_empty() {
            return Ok(());
        }
        let stays = |one: &Residue| format!("{} ({})", one.path, one.reason);
        let named: Vec<String> = self.residue.iter().map(stays).collect();
        let message = format!("could not be removed: {}", named.join(", "));
        Err(Fault::new(Category::IoFailure, "residue_left", message)
            .hint("see to it that they can be removed, then leave again"))
    }

    /// The mark goes last: a leave that broke off before is taken up again.
    async fn remove_donor(&mut self, home: &Home, storage: Storage) -> Result<()> {
        self.was_donor = is_marked(home);
        if !self.was_donor {
            return Ok(());
        }
        let config = Config::load(&home.config())?;
        let site = storage.site(home).await?.used_by("leave");
        let open = home.open_within(&config, DAEMON_END)?;
        let store = site.open(&open).await?;
        let log = DonorLog::open(&store).await?;
        self.answers = log.forget().await?;
        log.close().await?;
        let collected = collect(&open, &config, Records::new(store)).await?;
        (self.objects, self.bytes) = (collected.objects, collected.bytes);
        if home.has_starter_donor_policy() {
            self.remove(&home.donor_policy());
        }
        self.remove(&home.rootfs());
        self.remove(&home.microvm());
        // One that is there now is of a daemon that was killed.
        self.remove(&home.socket());
        self.remove(&home.donor_mark());
        Ok(())
    }

    /// Under the home's lock, which goes with the folder that it is in.
    fn remove_all(&mut self, home: &Home) -> Result<()> {
        self.was_donor = is_marked(home);
        let lock = home.lock();
        let _held = match lock.parent().is_some_and(Path::is_dir) {
            true => Some(acquire(&lock)?),
            false => None,
        };
        for path in home.everything() {
            self.remove(&path);
        }
        // Without the identity nothing would tell that this is a home, and that it is to be left once more.
        if self.residue.is_empty() {
            self.remove(&home.identity());
        }
        // Others' files in it stay, and so does it then.
        if fs::remove_dir(home.root()).is_ok() {
            self.removed.push(home.root().display().to_string());
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        let shown = path.display().to_string();
        match remove(path) {
            Ok(()) => self.removed.push(shown),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.residue.push(Residue {
                path: shown,
                reason: error.to_string(),
            }),
        }
    }

    fn note_kept(&mut self, home: &Home) -> Result<()> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let paths = fs::read_dir(home.root())?.map(|entry| Ok(entry?.path()));
            paths.collect()
        };
        let mut kept = match list() {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            listed => {
                listed.map_err(|error| Fault::io(format_args!("list {}", self.home), &error))?
            }
        };
        kept.sort();
        self.kept = kept.iter().map(|path| path.display().to_string()).collect();
        Ok(())
    }
}

fn is_marked(home: &Home) -> bool {
    home.donor_mark().symlink_metadata().is_ok()
}

/// Removes what neither jobs nor images of this home need.
async fn collect(home: &OpenHome, config: &Config, records: Records) -> Result<Collected> {
    let content = Arc::new(images::content(home.paths(), config)?);
    let _needed = needed::of_records(&records, &content).await?;
    crate::blocking(move || content.collect(Collect::All)).await
}

fn acquire(lock: &Path) -> Result<OwnedLock> {
    let options = LockOptions {
        wait: DAEMON_END,
        ..LockOptions::default()
    };
    OwnedLock::acquire(lock, options)
}

/// A link is removed, not what it leads to.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_is_told_by_its_path_and_what_is_not_there_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::File::create(&file).unwrap();
        let mut left = Left::nothing(&Home::at(dir.path()));
        left.remove(&dir.path().join("absent"));
        left.complete().unwrap();
        let stuck = file.join("below");
        left.remove(&stuck);
        left.remove(&file);
        let fault = left.complete().unwrap_err();
        assert_eq!((fault.code(), fault.exit_code()), ("residue_left", 1));
        assert!(fault.message().contains(stuck.to_str().unwrap()), "{fault}");
        assert_eq!(left.removed, [file.display().to_string()]);
    }

    #[test]
    fn a_link_goes_and_what_it_leads_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        remove(&link).unwrap();
        assert!(target.is_dir() && link.symlink_metadata().is_err());
    }
}
