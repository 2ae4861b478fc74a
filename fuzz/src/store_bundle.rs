//! Bundles of the encrypted store: what is read is read to its last byte, and no store takes what it did not export.

use std::fs;
use std::sync::{Arc, LazyLock};

use blue_encrypted_store::{BundleInfo, LocalFileKeyProvider, Store, StoreConfig, StorePath};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::files::file;

/// A store with nothing in it, and whoever waits for it.
static WORLD: LazyLock<(Runtime, Store, TempDir)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let home = TempDir::new().expect("a folder for a key");
    let keys = Arc::new(LocalFileKeyProvider::new(home.path().join("keys/umk.key")));
    let opened = runtime.block_on(Store::open(StoreConfig::new(StorePath::Memory), keys));
    (runtime, opened.expect("a store in memory"), home)
});

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let path = file("partition.bundle", bytes);
    if let Ok(info) = BundleInfo::read(&path) {
        assert_eq!(info.bytes, bytes.len() as u64);
        let (cut, longer) = (&bytes[..bytes.len() - 1], [bytes, b"0"].concat());
        for other in [cut, &longer] {
            let other = BundleInfo::read(&file("other.bundle", other));
            assert!(other.is_err(), "{info:?} and {other:?}");
        }
    }
    let (runtime, store, home) = &*WORLD;
    let here = runtime.block_on(store.import(&path, None));
    let keys = Arc::new(LocalFileKeyProvider::new(home.path().join("keys/umk.key")));
    let with_keys = runtime.block_on(store.import(&path, Some(keys)));
    assert!(here.is_err() && with_keys.is_err());
    let _ = fs::remove_file(path);
}
