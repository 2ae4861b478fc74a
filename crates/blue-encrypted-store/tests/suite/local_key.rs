//! The master key in a file: made once, for its owner only.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use crate::common::{key_path, note, open, partition, store_path};
use blue_encrypted_store::{KeyError, KeyProvider, LocalFileKeyProvider, PartitionVersion};

fn code(error: KeyError) -> String {
    match error {
        KeyError::Refused(fault) => fault.code().to_owned(),
        other => panic!("{other}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A directory that only we can enter.
fn private() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

async fn refusal(path: &Path) -> String {
    code(
        LocalFileKeyProvider::new(path)
            .get_umk()
            .await
            .err()
            .unwrap(),
    )
}

#[tokio::test]
async fn a_key_is_made_once_with_32_bytes_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_path(dir.path());
    let keys = LocalFileKeyProvider::new(&path);
    assert!(matches!(keys.get_umk().await, Err(KeyError::Missing(_))));
    assert!(!path.exists(), "asking makes none");
    keys.create_umk().await.unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let key = fs::read(&path).unwrap();
    assert_eq!(key.len(), 32);
    keys.create_umk().await.unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        key,
        "the second time finds the first"
    );
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn first_runs_that_race_end_up_with_one_key() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..8)
            .map(|_| {
                let path = key_path(dir.path());
                tokio::spawn(async move {
                    LocalFileKeyProvider::new(&path).create_umk().await.unwrap();
                    fs::read(&path).unwrap()
                })
            })
            .collect();
        let mut keys = Vec::new();
        for run in runs {
            keys.push(run.await.unwrap());
        }
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }
}

#[tokio::test]
async fn a_key_of_another_length_is_refused() {
    let dir = private();
    let path = dir.path().join("umk.key");
    for length in [0, 31, 33, 64, 100_000] {
        fs::write(&path, vec![1; length]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refusal(&path).await, "encryption_key_malformed", "{length}");
    }
}

#[tokio::test]
async fn a_key_that_others_can_touch_is_refused() {
    let dir = private();
    let path = dir.path().join("umk.key");
    fs::write(&path, [1; 32]).unwrap();
    for bits in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        assert_eq!(refusal(&path).await, "insecure_permissions", "{bits:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    LocalFileKeyProvider::new(&path).get_umk().await.unwrap();
}

#[tokio::test]
async fn a_key_behind_a_symbolic_link_is_refused_and_never_made_there() {
    let dir = private();
    let (real, link) = (dir.path().join("real"), dir.path().join("umk.key"));
    fs::write(&real, [1; 32]).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&real, &link).unwrap();
    assert_eq!(refusal(&link).await, "insecure_permissions");
    LocalFileKeyProvider::new(&real).get_umk().await.unwrap();
    fs::remove_file(&real).unwrap();
    let created = LocalFileKeyProvider::new(&link).create_umk().await;
    assert!(created.is_err() && !real.exists());
}

#[tokio::test]
async fn a_key_of_another_owner_is_refused() {
    let dir = private();
    let path = dir.path().join("umk.key");
    fs::write(&path, [1; 32]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    LocalFileKeyProvider::new(&path).get_umk().await.unwrap();
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    assert_eq!(refusal(&path).await, "insecure_permissions");
}

#[tokio::test]
async fn a_directory_that_others_can_enter_gets_no_key_and_gives_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_path(dir.path());
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    let open_to = |bits| fs::set_permissions(parent, fs::Permissions::from_mode(bits)).unwrap();
    open_to(0o755);
    let keys = LocalFileKeyProvider::new(&path);
    let error = keys.create_umk().await;
    assert_eq!(code(error.err().unwrap()), "insecure_permissions");
    assert!(!path.exists());
    open_to(0o700);
    keys.create_umk().await.unwrap();
    open_to(0o710);
    assert_eq!(refusal(&path).await, "insecure_permissions");
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_where_there_is_something_to_decrypt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let mut batch = blue_encrypted_store::Batch::new();
    batch.insert(note("n1", "x")).unwrap();
    partition(&store)
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    drop(store);
    let key = fs::read(key_path(dir.path())).unwrap();
    fs::remove_file(key_path(dir.path())).unwrap();
    let fault = open(dir.path()).await.err().unwrap();
    assert_eq!(fault.code(), "encryption_key_missing");
    assert!(!key_path(dir.path()).exists());
    // Another key is told from tampering by the memory beside the table, and by nothing else.
    LocalFileKeyProvider::new(key_path(dir.path()))
        .create_umk()
        .await
        .unwrap();
    let fault = open(dir.path()).await.err().unwrap();
    assert_eq!(fault.code(), "encryption_key_changed");
    let mut anchor = store_path(dir.path()).into_os_string();
    anchor.push(".anchor");
    fs::remove_file(anchor).unwrap();
    let fault = open(dir.path()).await.err().unwrap();
    assert_eq!(fault.code(), "encryption_key_unconfirmed");
    // Back with the right one, nothing is lost.
    fs::write(key_path(dir.path()), key).unwrap();
    let store = open(dir.path()).await.unwrap();
    assert_eq!(partition(&store).load().await.unwrap().unwrap().len(), 1);
}
