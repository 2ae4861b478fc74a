//! A record for the tests of files and processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blue_encrypted_store::{
    Entity, Id, Kind, Label, LocalFileKeyProvider, Partition, Store, StoreConfig, StorePath,
};
use worldcompute_fault::Result;

#[derive(Clone, Debug, Entity, PartialEq)]
#[entity(name = "note")]
pub struct Note {
    #[id]
    pub id: Id,
    #[clear]
    pub status: Label,
    pub text: String,
}

pub fn note(id: impl Into<String>, text: impl Into<String>) -> Note {
    Note {
        id: Id::parse(&id.into()).unwrap(),
        status: Label::parse("open").unwrap(),
        text: text.into(),
    }
}

pub fn key_path(dir: &Path) -> PathBuf {
    dir.join("keys/umk.key")
}

pub fn store_path(dir: &Path) -> PathBuf {
    dir.join("store/table.db")
}

pub async fn open(dir: &Path) -> Result<Store> {
    let config = StoreConfig::new(StorePath::File(store_path(dir)));
    let keys = LocalFileKeyProvider::new(key_path(dir));
    Store::open(config, Arc::new(keys)).await
}

/// The store in a table on the server at `endpoint`, set up when there is none; key and memory of it lie in `dir`.
#[cfg(feature = "aws")]
pub async fn open_at(endpoint: &str, table: &str, dir: &Path) -> Result<Store> {
    let endpoint = blue_encrypted_store::LocalEndpoint::parse(endpoint)?;
    let config = StoreConfig::on(blue_encrypted_store::Backend::Endpoint(endpoint))
        .table(table)
        .anchor(dir.join("anchor"));
    let keys = LocalFileKeyProvider::new(key_path(dir));
    Store::set_up(config, Arc::new(keys)).await
}

pub fn partition(store: &Store) -> Partition {
    store.partition(Kind::JOB, "j1").unwrap()
}
