//! The table's file: private, owned by one process, without plaintext, and never trusted to be whole.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::common::{key_path, note, open, partition, store_path};
use blue_encrypted_store::{
    Batch, LocalFileKeyProvider, PartitionVersion, Store, StoreConfig, StorePath,
};
use worldcompute_fault::Category;

async fn filled(dir: &Path, notes: usize) {
    let store = open(dir).await.unwrap();
    let mut batch = Batch::new();
    for id in 0..notes {
        batch
            .insert(note(format!("n{id}"), "x".repeat(200)))
            .unwrap();
    }
    partition(&store)
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
}

/// The names of all files beside the table, with their content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let parent = store_path(dir).parent().unwrap().to_owned();
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_store_is_found_again_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let id = store.id().to_owned();
    drop(store);
    filled(dir.path(), 3).await;
    let store = open(dir.path()).await.unwrap();
    assert_eq!(store.id(), id);
    assert_eq!(partition(&store).load().await.unwrap().unwrap().len(), 3);
}

#[tokio::test]
async fn a_store_in_a_file_that_is_to_remember_nothing_writes_no_anchor() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let keys = Arc::new(LocalFileKeyProvider::new(key_path(dir.path())));
        let config = StoreConfig::new(StorePath::File(store_path(dir.path())));
        let store = Store::open(config.without_anchor(), keys).await.unwrap();
        assert!(!store.is_anchored());
        store.close().await.unwrap();
    }
    let names: Vec<_> = files(dir.path())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(!names.is_empty());
    assert!(
        names.iter().all(|name| !name.ends_with(".anchor")),
        "{names:?}"
    );
}

#[tokio::test]
async fn every_file_of_a_store_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let parent = store_path(dir.path()).parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&parent).unwrap().mode() & 0o777, 0o700);
    let entries: Vec<_> = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert!(entries.len() >= 4, "table, write-ahead log, lock, anchor");
    for entry in entries {
        let mode = entry.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    drop(store);
}

#[tokio::test]
async fn a_table_that_others_can_touch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1).await;
    let path = store_path(dir.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let fault = open(dir.path()).await.err().unwrap();
    assert_eq!(fault.code(), "insecure_permissions");
    assert!(fault.hint_text().starts_with("chmod 600"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let real = dir.path().join("elsewhere.db");
    fs::rename(&path, &real).unwrap();
    symlink(&real, &path).unwrap();
    assert_eq!(
        open(dir.path()).await.err().unwrap().code(),
        "insecure_permissions"
    );
}

#[tokio::test]
async fn a_directory_that_others_can_enter_gets_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let parent = store_path(dir.path()).parent().unwrap().to_owned();
    fs::create_dir(&parent).unwrap();
    for bits in [0o777, 0o770, 0o750, 0o705] {
        fs::set_permissions(&parent, fs::Permissions::from_mode(bits)).unwrap();
        let fault = open(dir.path()).await.err().unwrap();
        assert_eq!(fault.code(), "insecure_permissions", "{bits:o}");
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0, "nothing is made");
    }
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
    open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_open_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    // The handle of a partition keeps it open as well.
    let handle = partition(&store);
    drop(store);
    let fault = open(dir.path()).await.err().unwrap();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::StateContention, "state_contention")
    );
    drop(handle);
    open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn no_plaintext_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let partition = partition(&store);
    let secret = "MARKER-7f3a";
    let mut batch = Batch::new();
    for id in 0..250 {
        batch
            .insert(note(format!("n{id}"), format!("{secret}-{id}")))
            .unwrap();
    }
    let at = partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let mut batch = Batch::new();
    batch.put(note("n1", format!("{secret} again"))).unwrap();
    partition.commit(batch, at).await.unwrap();
    let contains = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|at| at == needle);
    let check = |when: &str| {
        let (mut cleartext, files) = (false, files(dir.path()));
        assert!(
            files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 100_000,
            "{when}"
        );
        // As text, and in the three alignments of base64 that the engine stores bytes in.
        for needle in [
            secret.as_bytes(),
            b"TUFSS0VSLTdm",
            b"1BUktFUi03Zj",
            b"NQVJLRVItN2",
        ] {
            for (name, bytes) in &files {
                assert!(!contains(bytes, needle), "{when}: {name}");
                cleartext |= contains(bytes, b"status#") || contains(bytes, b"note#");
            }
        }
        assert!(cleartext, "the search finds what is there in the clear");
        let key = fs::read(key_path(dir.path())).unwrap();
        for (name, bytes) in &files {
            assert!(!contains(bytes, &key), "{when}: {name} has the master key");
        }
    };
    check("while it is open");
    drop((partition, store));
    check("after it was closed");
}

#[tokio::test]
async fn a_file_that_is_no_table_is_refused_with_a_code_of_its_own() {
    for bytes in [
        &b"not a database, but long enough to look for a header .........."[..],
        &[0xff; 8192],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let parent = store_path(dir.path()).parent().unwrap().to_owned();
        fs::create_dir(&parent).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(store_path(dir.path()), bytes).unwrap();
        fs::set_permissions(store_path(dir.path()), fs::Permissions::from_mode(0o600)).unwrap();
        let fault = open(dir.path()).await.err().unwrap();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::VerificationFailed, "store_corrupt")
        );
        let path = store_path(dir.path()).display().to_string();
        assert!(fault.message().contains(&path), "{fault}");
        for library in ["encrypt", "feature", "SQLite", "Database::"] {
            assert!(!fault.message().contains(library), "{fault}");
        }
        assert!(
            fault.hint_text().contains("backup"),
            "{}",
            fault.hint_text()
        );
        assert_eq!(
            fs::read(store_path(dir.path())).unwrap(),
            bytes,
            "it is left as it is"
        );
    }
}

async fn read_all(dir: &Path) -> Result<usize, worldcompute_fault::Fault> {
    let store = open(dir).await?;
    let snapshot = partition(&store).load().await?;
    Ok(snapshot.map_or(0, |snapshot| snapshot.len()))
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 120).await;
    let path = store_path(dir.path());
    let whole = fs::read(&path).unwrap();
    let anchor = fs::read(path.with_extension("db.anchor")).unwrap();
    let (mut refused, mut corrupt) = (0, 0);
    let pages = whole.len() / 4096;
    assert!(pages > 20);
    for page in 0..pages {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0x5a);
        for name in ["db-wal", "db-shm"] {
            drop(fs::remove_file(path.with_extension(name)));
        }
        fs::write(&path, &damaged).unwrap();
        fs::write(path.with_extension("db.anchor"), &anchor).unwrap();
        match read_all(dir.path()).await {
            // A page that holds nothing of this partition.
            Ok(found) => assert_eq!(found, 120, "page {page}"),
            Err(fault) => {
                refused += 1;
                corrupt += usize::from(fault.code() == "store_corrupt");
                assert_ne!(
                    fault.category(),
                    Category::InternalFailure,
                    "page {page}: {fault}"
                );
            }
        }
    }
    assert!(refused > 10 && corrupt > 5, "{refused} {corrupt}");
    for cut in [1, 100, 4096, whole.len() / 2] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(read_all(dir.path()).await.is_err(), "cut to {cut}");
    }
}

#[tokio::test]
async fn a_table_that_is_put_back_is_refused_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3).await;
    let path = store_path(dir.path());
    let before = fs::read(&path).unwrap();
    let store = open(dir.path()).await.unwrap();
    let partition = partition(&store);
    let mut batch = Batch::new();
    batch.put(note("n1", "newer")).unwrap();
    let at = partition.load().await.unwrap().unwrap().version();
    partition.commit(batch, at).await.unwrap();
    drop((partition, store));
    for name in ["db-wal", "db-shm"] {
        drop(fs::remove_file(path.with_extension(name)));
    }
    fs::write(&path, &before).unwrap();
    assert_eq!(
        read_all(dir.path()).await.unwrap_err().code(),
        "audit_chain_broken"
    );
    // Another store in its place is no store of ours.
    let other = tempfile::tempdir().unwrap();
    fs::create_dir(other.path().join("keys")).unwrap();
    fs::set_permissions(other.path().join("keys"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(key_path(dir.path()), key_path(other.path())).unwrap();
    filled(other.path(), 3).await;
    fs::copy(store_path(other.path()), &path).unwrap();
    assert_eq!(
        read_all(dir.path()).await.unwrap_err().code(),
        "address_mismatch"
    );
}

#[tokio::test]
async fn a_store_of_another_user_is_told_from_tampering() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1).await;
    let config = StoreConfig::new(StorePath::File(store_path(dir.path()))).user("somebody-else");
    let keys = Arc::new(LocalFileKeyProvider::new(key_path(dir.path())));
    let fault = Store::open(config, keys.clone()).await.err().unwrap();
    assert_eq!(fault.code(), "store_of_another_owner");
    let config = StoreConfig::new(StorePath::Memory).tenant("Not A Slug");
    assert_eq!(
        Store::open(config, keys).await.err().unwrap().code(),
        "invalid_id"
    );
}

#[tokio::test]
async fn the_memory_outside_of_the_table_can_lie_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let anchor = dir.path().join("elsewhere.anchor");
    let config = StoreConfig::new(StorePath::File(store_path(dir.path()))).anchor(&anchor);
    let keys = Arc::new(LocalFileKeyProvider::new(key_path(dir.path())));
    let store = Store::open(config, keys).await.unwrap();
    assert!(anchor.exists() && !store_path(dir.path()).with_extension("db.anchor").exists());
    drop(store);
}

#[tokio::test]
async fn a_path_that_cannot_be_named_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"not-utf8-\xff.db");
    let config = StoreConfig::new(StorePath::File(dir.path().join(name)));
    let keys = Arc::new(LocalFileKeyProvider::new(key_path(dir.path())));
    assert_eq!(
        Store::open(config, keys).await.err().unwrap().code(),
        "invalid_path"
    );
}

/// A file system of one mebibyte, which root can mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(self.0.path())
                .status(),
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_the_store_opens_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let dir = disk.0.path();
    filled(dir, 3).await;
    let filler = dir.join("filler");
    drop(fs::write(&filler, vec![0; 2 << 20]));
    let fault = open(dir).await.err().unwrap();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::IoFailure, "disk_full")
    );
    assert!(fault.hint_text().contains("free disk space"));
    fs::remove_file(&filler).unwrap();
    assert_eq!(read_all(dir).await.unwrap(), 3);
}

#[tokio::test]
async fn a_commit_on_a_full_disk_changes_nothing_and_goes_through_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let dir = disk.0.path();
    filled(dir, 3).await;
    let store = open(dir).await.unwrap();
    let partition = partition(&store);
    let at = partition.load().await.unwrap().unwrap().version();
    let filler = dir.join("filler");
    drop(fs::write(&filler, vec![0; 2 << 20]));
    let large = || {
        let mut batch = Batch::new();
        batch.put(note("n0", "y".repeat(100_000))).unwrap();
        batch
    };
    let fault = partition.commit(large(), at).await.unwrap_err();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::IoFailure, "disk_full")
    );
    let found = partition.load().await.unwrap().unwrap();
    assert_eq!((found.version(), found.len()), (at, 3));
    fs::remove_file(&filler).unwrap();
    partition.commit(large(), at).await.unwrap();
    drop((found, partition, store));
    assert_eq!(read_all(dir).await.unwrap(), 3);
}

#[tokio::test]
async fn a_store_that_has_to_be_there_is_not_made_by_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let found = || async {
        let config = StoreConfig::new(StorePath::File(store_path(dir.path()))).must_exist();
        let keys = Arc::new(LocalFileKeyProvider::new(key_path(dir.path())));
        Store::open(config, keys).await
    };
    assert_eq!(found().await.err().unwrap().code(), "store_not_set_up");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let made = open(dir.path()).await.unwrap().id().to_owned();
    assert_eq!(found().await.unwrap().id(), made);
}

#[tokio::test]
async fn a_discarded_table_is_gone_with_all_that_was_remembered_of_it_and_one_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3).await;
    let path = store_path(dir.path());
    let store = open(dir.path()).await.unwrap();
    let id = store.id().to_owned();
    let refused = Store::discard(path.clone()).await.unwrap_err();
    assert_eq!(refused.category(), Category::StateContention);
    assert_eq!(partition(&store).load().await.unwrap().unwrap().len(), 3);
    store.close().await.unwrap();
    Store::discard(path.clone()).await.unwrap();
    let left: Vec<_> = files(dir.path())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(left, ["table.db.lock"]);
    let fresh = open(dir.path()).await.unwrap();
    assert_ne!(fresh.id(), id);
    assert!(partition(&fresh).load().await.unwrap().is_none());
    drop(fresh);
    Store::discard(path.clone()).await.unwrap();
    Store::discard(path).await.unwrap();
}
