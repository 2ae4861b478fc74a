//! Every step that touches the disk, failed, torn or cut off in turn: what is there afterwards is old or new, whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::common::{names, put};
use worldcompute_durable::{
    AtomicFile, Disk, Journal, Limits, Mode, OsDisk, append_line, append_line_on, create_new_on,
    last_line, write_atomic, write_atomic_on,
};

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    /// The step fails, those after it work. A write fails half way.
    Fails,
    /// The step and all after it do nothing: the process is dead. A write gets half way.
    Dies,
    /// As [`Mishap::Dies`], and then the power is cut.
    PowerCut(Loss),
}

/// What a power cut leaves of what was not yet on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// New names are lost, and so is content.
    Everything,
    /// Names survive; content is lost.
    Content,
    /// Names and sizes survive; content reads as zeros.
    Zeros,
    /// Names survive, and half of the content.
    Half,
}

const MISHAPS: [Mishap; 6] = [
    Mishap::Fails,
    Mishap::Dies,
    Mishap::PowerCut(Loss::Everything),
    Mishap::PowerCut(Loss::Content),
    Mishap::PowerCut(Loss::Zeros),
    Mishap::PowerCut(Loss::Half),
];

/// A disk on which step number `at` goes wrong, and that knows what is on stable storage.
struct Faulty {
    at: usize,
    mishap: Mishap,
    attic: tempfile::TempDir,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: usize,
    happened: bool,
    /// Bytes on stable storage, by inode.
    stable: BTreeMap<u64, u64>,
    /// Changes of names not yet on stable storage, oldest first.
    names: Vec<NameChange>,
}

enum NameChange {
    Created(PathBuf),
    /// Renamed to, with what had the name before.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        before: Option<PathBuf>,
    },
}

impl Faulty {
    fn new(at: usize, mishap: Mishap) -> Self {
        Self {
            at,
            mishap,
            attic: tempfile::tempdir().unwrap(),
            state: Mutex::default(),
        }
    }

    /// True when the mishap happened.
    fn happened(&self) -> bool {
        self.state.lock().unwrap().happened
    }

    /// Counts a step; true when this is where it goes wrong.
    fn strikes(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let strikes = state.steps == self.at || (state.happened && self.mishap != Mishap::Fails);
        state.steps += 1;
        state.happened |= strikes;
        strikes
    }

    fn step<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.strikes() {
            Err(io::Error::other("mishap"))
        } else {
            act()
        }
    }

    fn note(&self, change: NameChange) {
        self.state.lock().unwrap().names.push(change);
    }

    fn note_stable(&self, file: &File) {
        let metadata = file.metadata().unwrap();
        self.state
            .lock()
            .unwrap()
            .stable
            .insert(metadata.ino(), metadata.len());
    }

    fn renamed(
        &self,
        from: &Path,
        to: &Path,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let before = fs::read(to).ok().map(|content| {
            let kept = self
                .attic
                .path()
                .join(self.state.lock().unwrap().names.len().to_string());
            File::create(&kept).unwrap().write_all(&content).unwrap();
            kept
        });
        act()?;
        self.note(NameChange::Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
            before,
        });
        Ok(())
    }

    /// If the mishap was to cut the power: takes away what was not on stable storage.
    fn aftermath(&self, dir: &Path) {
        if let Mishap::PowerCut(loss) = self.mishap {
            self.cut_power(dir, loss);
        }
    }

    fn cut_power(&self, dir: &Path, loss: Loss) {
        let mut state = self.state.lock().unwrap();
        if loss == Loss::Everything {
            while let Some(change) = state.names.pop() {
                undo(change);
            }
        }
        for entry in fs::read_dir(dir).unwrap() {
            let file = File::options()
                .write(true)
                .open(entry.unwrap().path())
                .unwrap();
            let metadata = file.metadata().unwrap();
            // A file this disk did not make was there before, whole.
            let stable = state
                .stable
                .get(&metadata.ino())
                .copied()
                .unwrap_or(metadata.len());
            lose(&file, stable, metadata.len(), loss);
        }
    }
}

fn undo(change: NameChange) {
    match change {
        NameChange::Created(path) => fs::remove_file(path).unwrap_or_default(),
        NameChange::Renamed { from, to, before } => {
            fs::rename(&to, from).unwrap();
            if let Some(before) = before {
                fs::copy(before, to).unwrap();
            }
        }
    }
}

fn lose(file: &File, stable: u64, len: u64, loss: Loss) {
    let lost = len.saturating_sub(stable);
    match loss {
        Loss::Everything | Loss::Content => file.set_len(stable.min(len)).unwrap(),
        Loss::Half => file.set_len(stable.min(len) + lost / 2).unwrap(),
        Loss::Zeros => file
            .write_all_at(&vec![0; usize::try_from(lost).unwrap()], stable.min(len))
            .unwrap(),
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = self.step(|| OsDisk.create(path))?;
        self.note(NameChange::Created(path.to_owned()));
        self.state
            .lock()
            .unwrap()
            .stable
            .insert(file.metadata()?.ino(), 0);
        Ok(file)
    }

    fn set_mode(&self, file: &File, mode: Mode) -> io::Result<()> {
        self.step(|| OsDisk.set_mode(file, mode))
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let ino = file.metadata()?.ino();
        let before = file.metadata()?.len();
        self.state
            .lock()
            .unwrap()
            .stable
            .entry(ino)
            .or_insert(before);
        let dead = self.state.lock().unwrap().happened;
        if self.strikes() {
            if !dead {
                OsDisk.write(file, bytes.split_at(bytes.len() / 2).0)?;
            }
            return Err(io::Error::other("mishap"));
        }
        OsDisk.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step(|| OsDisk.sync(file))?;
        self.note_stable(file);
        Ok(())
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(|| OsDisk.truncate(file, len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| self.renamed(from, to, || OsDisk.rename(from, to)))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| self.renamed(from, to, || OsDisk.rename_new(from, to)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| OsDisk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(|| OsDisk.sync_dir(dir))?;
        self.state.lock().unwrap().names.clear();
        Ok(())
    }
}

/// Runs `case` with the mishap at step 0, 1, 2 and so on, until it comes through unharmed, and says at how many.
fn walk(mishap: Mishap, case: impl Fn(&Arc<Faulty>, &Path)) -> usize {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Faulty::new(at, mishap));
        case(&disk, dir.path());
        if !disk.happened() {
            return at;
        }
    }
    unreachable!("a case takes finitely many steps")
}

#[test]
fn a_replaced_file_is_old_or_new_and_new_once_acknowledged() {
    for mishap in MISHAPS {
        let steps = walk(mishap, |disk, dir| {
            let path = dir.join("state");
            write_atomic(&path, b"the old content", Mode::Private).unwrap();
            let done = write_atomic_on(&**disk, &path, b"the new content, longer", Mode::Private);
            assert_eq!(done.is_ok(), !disk.happened(), "{mishap:?}");
            disk.aftermath(dir);
            let content = fs::read(&path).unwrap();
            let allowed: &[&[u8]] = match done {
                Ok(()) => &[b"the new content, longer"],
                Err(_) => &[b"the old content", b"the new content, longer"],
            };
            assert!(
                allowed.contains(&&*content),
                "{mishap:?}: {:?}",
                String::from_utf8_lossy(&content)
            );
            write_atomic(&path, b"next", Mode::Private).unwrap();
            assert_eq!(
                (names(dir), fs::read(&path).unwrap()),
                (vec!["state".to_owned()], b"next".to_vec())
            );
        });
        assert_eq!(
            steps, 6,
            "create, set mode, write, sync, rename, sync directory"
        );
    }
}

/// Larger than what is gathered before a write, so that there are several.
fn streamed(fill: u8) -> Vec<u8> {
    vec![fill; 200_000]
}

fn stream(disk: &Faulty, path: &Path, content: &[u8]) -> worldcompute_fault::Result<()> {
    let mut file = AtomicFile::create_on(disk, path, Mode::Private)?;
    for piece in content.chunks(30_000) {
        if file.write_all(piece).is_err() {
            break;
        }
    }
    file.commit()
}

#[test]
fn a_streamed_file_is_old_or_new_and_new_once_acknowledged() {
    for mishap in MISHAPS {
        let steps = walk(mishap, |disk, dir| {
            let path = dir.join("pack");
            write_atomic(&path, &streamed(b'o'), Mode::Private).unwrap();
            let done = stream(disk, &path, &streamed(b'n'));
            assert_eq!(done.is_ok(), !disk.happened(), "{mishap:?}");
            disk.aftermath(dir);
            let content = fs::read(&path).unwrap();
            let old = content == streamed(b'o') && done.is_err();
            assert!(old || content == streamed(b'n'), "{mishap:?}: a mixture");
            write_atomic(&path, b"next", Mode::Private).unwrap();
            assert_eq!(names(dir), ["pack"]);
        });
        assert_eq!(steps, 9, "the six of a whole file and three more writes");
    }
}

#[test]
fn a_streamed_file_that_is_given_up_leaves_the_old_content_and_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pack");
    write_atomic(&path, b"old", Mode::Private).unwrap();
    let mut file = AtomicFile::create(&path, Mode::Private).unwrap();
    file.write_all(&streamed(b'n')).unwrap();
    drop(file);
    assert_eq!(
        (names(dir.path()), fs::read(&path).unwrap()),
        (vec!["pack".to_owned()], b"old".to_vec())
    );
}

#[test]
fn a_created_file_is_absent_or_whole_and_whole_once_acknowledged() {
    for mishap in MISHAPS {
        let steps = walk(mishap, |disk, dir| {
            let path = dir.join("key");
            let done = create_new_on(&**disk, &path, b"the content", Mode::Private);
            disk.aftermath(dir);
            match fs::read(&path) {
                Ok(content) => assert_eq!(content, b"the content", "{mishap:?}"),
                Err(_) => assert!(done.is_err(), "{mishap:?}: acknowledged and lost"),
            }
            write_atomic(&path, b"next", Mode::Private).unwrap();
            assert_eq!(names(dir), ["key"]);
        });
        assert_eq!(
            steps, 6,
            "create, set mode, write, sync, rename, sync directory"
        );
    }
}

#[test]
fn an_appended_line_is_absent_or_whole_and_whole_once_acknowledged() {
    for mishap in MISHAPS {
        for before in [None, Some("first"), Some("first\nto")] {
            walk(mishap, |disk, dir| {
                let path = dir.join("events.jsonl");
                if let Some(text) = before {
                    put(&path, text.replace("first", "first\n"));
                }
                let done = append_line_on(&**disk, &path, b"the new line", Mode::Private);
                disk.aftermath(dir);
                let last = last_line(&path, 64).unwrap();
                match (&done, last.as_deref()) {
                    (_, Some(b"the new line")) => {}
                    (Err(_), old) => assert!(matches!(old, None | Some(b"" | b"first"))),
                    (Ok(()), other) => panic!("{mishap:?}: acknowledged, and then {other:?}"),
                }
                append_line(&path, b"next", Mode::Private).unwrap();
                let text = fs::read_to_string(&path).unwrap();
                assert!(text.ends_with("\nnext\n") || text == "next\n", "{text:?}");
                assert!(!text.contains("the new linenext"), "{text:?}");
            });
        }
    }
}

#[test]
fn a_failed_write_removes_its_temporary_file_at_once() {
    walk(Mishap::Fails, |disk, dir| {
        let _ = write_atomic_on(&**disk, &dir.join("state"), b"content", Mode::Private);
        assert!(
            names(dir).iter().all(|name| name == "state"),
            "{:?}",
            names(dir)
        );
    });
}

const RECORDS: [&[u8]; 4] = [
    b"one",
    b"",
    b"three, which is longer than the others",
    b"four",
];

/// Appends until something fails; what was acknowledged.
fn append_all(disk: &Arc<Faulty>, path: &Path) -> usize {
    let opened = Journal::open_on(Arc::clone(disk) as Arc<dyn Disk>, path, Limits::default());
    let Ok((mut journal, _)) = opened else {
        return 0;
    };
    RECORDS
        .iter()
        .take_while(|record| journal.append(record).is_ok())
        .count()
}

#[test]
fn a_journal_has_every_acknowledged_record_and_at_most_one_more() {
    for mishap in MISHAPS {
        let steps = walk(mishap, |disk, dir| {
            let path = dir.join("journal");
            let acknowledged = append_all(disk, &path);
            disk.aftermath(dir);
            let (mut journal, recovered) = Journal::open(&path, Limits::default()).unwrap();
            let found = recovered.records.len();
            assert!(
                (acknowledged..=acknowledged + 1).contains(&found),
                "{mishap:?}: {acknowledged} {found}"
            );
            assert_eq!(recovered.records, RECORDS[..found]);
            assert_eq!(journal.append(b"next").unwrap(), found as u64);
            drop(journal);
            let (_, again) = Journal::open(&path, Limits::default()).unwrap();
            assert_eq!((again.torn_bytes, again.records.len()), (0, found + 1));
            assert_eq!(names(dir), ["journal"]);
        });
        assert_eq!(
            steps,
            8 + 2 * RECORDS.len(),
            "create and settle the file, then write and sync each record"
        );
    }
}

#[test]
fn a_mishap_while_a_torn_tail_is_cut_loses_nothing() {
    for mishap in MISHAPS {
        let steps = walk(mishap, |disk, dir| {
            let path = dir.join("journal");
            let (mut journal, _) = Journal::open(&path, Limits::default()).unwrap();
            journal.append(b"kept").unwrap();
            drop(journal);
            File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(b"torn")
                .unwrap();
            let _ = Journal::open_on(Arc::clone(disk) as Arc<dyn Disk>, &path, Limits::default());
            disk.aftermath(dir);
            let (_, recovered) = Journal::open(&path, Limits::default()).unwrap();
            assert_eq!(recovered.records, [b"kept"], "{mishap:?}");
        });
        assert_eq!(steps, 3, "truncate, sync, sync directory");
    }
}

#[test]
fn a_journal_goes_on_after_a_write_that_could_be_undone_and_stops_after_one_that_could_not() {
    let open = |disk: &Arc<Faulty>, dir: &Path| {
        Journal::open_on(
            Arc::clone(disk) as Arc<dyn Disk>,
            &dir.join("journal"),
            Limits::default(),
        )
        .unwrap()
        .0
    };
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&Arc::new(Faulty::new(8, Mishap::Fails)), dir.path());
    assert_eq!(
        journal.append(b"half written").unwrap_err().code(),
        "io_failure"
    );
    assert_eq!(journal.append(b"whole").unwrap(), 0);

    for (what, mishap, at) in [
        ("sync", Mishap::Fails, 9),
        ("write and undo", Mishap::Dies, 8),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&Arc::new(Faulty::new(at, mishap)), dir.path());
        assert_eq!(
            journal.append(b"x").unwrap_err().code(),
            "io_failure",
            "{what}"
        );
        assert_eq!(
            journal.append(b"y").unwrap_err().code(),
            "journal_broken",
            "{what}"
        );
    }
}

#[test]
fn a_name_that_failed_to_settle_is_settled_before_the_first_record_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let disk = Arc::new(Faulty::new(5, Mishap::Fails));
    assert_eq!(append_all(&disk, &path), 0, "the directory did not sync");
    assert_eq!(append_all(&disk, &path), RECORDS.len());
    disk.cut_power(dir.path(), Loss::Everything);
    assert_eq!(
        Journal::open(&path, Limits::default()).unwrap().1.records,
        RECORDS
    );
}

#[test]
fn a_record_that_was_found_at_an_opening_is_there_at_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let disk = Arc::new(Faulty::new(9, Mishap::Fails));
    assert_eq!(append_all(&disk, &path), 0, "the first record did not sync");
    let open = || Journal::open_on(Arc::clone(&disk) as Arc<dyn Disk>, &path, Limits::default());
    assert_eq!(open().unwrap().1.records, [b"one"]);
    disk.cut_power(dir.path(), Loss::Everything);
    assert_eq!(open().unwrap().1.records, [b"one"]);
}
