//! What tests of this crate share: a table whose rows they can change behind the store's back.

use std::collections::HashMap;
use std::sync::Arc;

use dynoxide::AttributeValue;
use dynoxide::actions::delete_item::DeleteItemRequest;
use dynoxide::actions::put_item::PutItemRequest;
use dynoxide::actions::scan::ScanRequest;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use zeroize::Zeroizing;

use crate::anchor::Anchor;
use crate::client;
use crate::config::DEFAULT_TABLE;
use crate::embedded::Engine;
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
};
use crate::sources::Sources;
use crate::store::Ground;
use crate::table::Table;
use crate::{
    Batch, ClearHalf, Entity, Kind, META, Partition, PartitionVersion, Realm, Store, StoreConfig,
    StorePath,
};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A master key in memory.
pub(crate) struct MemoryKey(pub(crate) [u8; 32]);

#[async_trait::async_trait]
impl KeyProvider for MemoryKey {
    fn realm(&self) -> Realm {
        Realm::Any
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        Ok(UmkHandle::new(Zeroizing::new(self.0)))
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.get_umk().await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        EncryptedDek::wrap(kek, dek, context)
    }
}

/// What a test has happen where a provider of keys is asked for one.
#[async_trait::async_trait]
pub(crate) trait Meddling: Send + Sync {
    /// The master key of now.
    fn master_key(&self) -> u8 {
        1
    }

    /// Which key is derived when one is asked for.
    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        Ok(context.clone())
    }

    /// Before a data key is wrapped.
    async fn wrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        Ok(())
    }

    /// Before a data key is unwrapped.
    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        Ok(())
    }
}

fn key_of(meddler: &impl Meddling) -> MemoryKey {
    MemoryKey([meddler.master_key(); 32])
}

#[async_trait::async_trait]
impl<M: Meddling> KeyProvider for M {
    fn realm(&self) -> Realm {
        Realm::Any
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        key_of(self).get_umk().await
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        key_of(self).create_umk().await
    }

    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        let context = self.deriving(context).await?;
        key_of(self).derive_kek(umk, &context).await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        self.wrapping(context).await?;
        key_of(self).encrypt_dek(kek, dek, context).await
    }

    async fn decrypt_dek(
        &self,
        kek: &KekHandle,
        encrypted: &EncryptedDek,
        context: &DekContext,
    ) -> Result<DekHandle, KeyError> {
        self.unwrapping(context).await?;
        key_of(self).decrypt_dek(kek, encrypted, context).await
    }
}

/// One engine that stores come and go on.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) anchor: Arc<Anchor>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            engine: Engine::memory().unwrap(),
            anchor: Arc::new(Anchor::memory()),
        }
    }

    /// A process that opens the table on the machine that has always had it.
    pub(crate) async fn store(&self) -> Store {
        self.open(self.anchor.clone(), 1).await.unwrap()
    }

    /// A process that opens the table on a machine that has never seen it.
    pub(crate) async fn stranger(&self) -> Store {
        self.open(Arc::new(Anchor::memory()), 1).await.unwrap()
    }

    pub(crate) async fn open(&self, anchor: Arc<Anchor>, key: u8) -> Result<Store> {
        self.open_with(anchor, key, Sources::system()).await
    }

    pub(crate) async fn open_with(
        &self,
        anchor: Arc<Anchor>,
        key: u8,
        sources: Sources,
    ) -> Result<Store> {
        let config = StoreConfig::new(StorePath::Memory);
        let keys = Arc::new(MemoryKey([key; 32]));
        Store::open_on(self.ground(anchor), config, keys, sources).await
    }

    /// A process on the machine that has always had the table, with these settings and keys.
    pub(crate) async fn try_store_with(
        &self,
        config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
    ) -> Result<Store> {
        let ground = self.ground(self.anchor.clone());
        Store::open_on(ground, config, keys, Sources::system()).await
    }

    fn ground(&self, anchor: Arc<Anchor>) -> Ground {
        Ground {
            table: table(&self.engine),
            anchor,
            set_up: true,
        }
    }

    /// All rows of the table.
    pub(crate) fn dump(&self) -> Vec<Item> {
        let mut rows = Vec::new();
        let mut start = None;
        loop {
            let request = ScanRequest {
                table_name: DEFAULT_TABLE.to_owned(),
                exclusive_start_key: start.take(),
                ..ScanRequest::default()
            };
            let answer = self.engine.database().scan(request).unwrap();
            rows.extend(answer.items.unwrap());
            match answer.last_evaluated_key {
                Some(key) => start = Some(key),
                None => return rows,
            }
        }
    }

    /// The rows of one partition, by sort key.
    pub(crate) fn rows(&self, pk: &str) -> HashMap<String, Item> {
        self.dump()
            .into_iter()
            .filter(|row| text(row, "pk") == pk)
            .map(|row| (text(&row, "sk").to_owned(), row))
            .collect()
    }

    /// The sort keys of a partition that start so, sorted.
    pub(crate) fn keys(&self, pk: &str, prefix: &str) -> Vec<String> {
        let mut keys: Vec<_> = self.rows(pk).into_keys().collect();
        keys.retain(|sk| sk.starts_with(prefix));
        keys.sort();
        keys
    }

    pub(crate) fn put(&self, item: &Item) {
        let request = PutItemRequest {
            table_name: DEFAULT_TABLE.to_owned(),
            item: item.clone(),
            ..PutItemRequest::default()
        };
        self.engine.database().put_item(request).unwrap();
    }

    pub(crate) fn delete(&self, item: &Item) {
        let request = DeleteItemRequest {
            table_name: DEFAULT_TABLE.to_owned(),
            key: ["pk", "sk"]
                .map(|name| (name.to_owned(), item[name].clone()))
                .into(),
            ..DeleteItemRequest::default()
        };
        self.engine.database().delete_item(request).unwrap();
    }

    /// Puts the whole table back as it was.
    pub(crate) fn restore(&self, rows: &[Item]) {
        for row in self.dump() {
            self.delete(&row);
        }
        for row in rows {
            self.put(row);
        }
    }
}

/// The store's table in an engine.
pub(crate) fn table(engine: &Engine) -> Table {
    Table::new(client::answered_by(engine.clone()), DEFAULT_TABLE)
}

pub(crate) fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    match &item[name] {
        AttributeValue::S(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) clear: TaskClear,
    pub(crate) secret: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskClear {
    pub(crate) status: String,
    pub(crate) attempts: u64,
    pub(crate) score: f64,
    pub(crate) paused: bool,
    pub(crate) reason: Option<String>,
}

impl ClearHalf for TaskClear {}

impl Entity for Task {
    const TYPE: &'static str = "task";
    type Clear = TaskClear;
    type Sealed = String;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn split(self) -> (TaskClear, String) {
        (self.clear, self.secret)
    }

    fn join(id: String, clear: TaskClear, secret: String) -> Result<Self> {
        Ok(Self { id, clear, secret })
    }

    fn listed_as(clear: &TaskClear) -> Option<String> {
        (clear.status != "hidden").then(|| clear.status.clone())
    }
}

/// The record about the job itself, all of it sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
}

impl Entity for Job {
    const TYPE: &'static str = META;
    type Clear = ();
    type Sealed = Self;

    fn id(&self) -> String {
        String::new()
    }

    fn split(self) -> ((), Self) {
        ((), self)
    }

    fn join(_id: String, _clear: (), sealed: Self) -> Result<Self> {
        Ok(sealed)
    }
}

pub(crate) fn task(id: impl Into<String>, secret: impl Into<String>) -> Task {
    Task {
        id: id.into(),
        clear: TaskClear {
            status: "open".to_owned(),
            attempts: 7,
            score: 0.85,
            paused: true,
            reason: None,
        },
        secret: secret.into(),
    }
}

pub(crate) fn job(name: &str) -> Job {
    Job {
        name: name.to_owned(),
    }
}

pub(crate) fn partition(store: &Store, id: &str) -> Partition {
    store.partition(Kind::JOB, id).unwrap()
}

/// The version that a partition is at.
pub(crate) async fn version(partition: &Partition) -> PartitionVersion {
    let snapshot = partition.load().await.unwrap();
    snapshot.map_or(PartitionVersion::NONE, |snapshot| snapshot.version())
}

/// Puts tasks with these ids and secrets, in one commit.
pub(crate) async fn put(partition: &Partition, tasks: &[(&str, &str)]) -> PartitionVersion {
    let mut batch = Batch::new();
    for (id, secret) in tasks {
        batch.put(task(*id, *secret)).unwrap();
    }
    let at = version(partition).await;
    partition.commit(batch, at).await.unwrap()
}

/// The secrets of all tasks, by id.
pub(crate) async fn secrets(partition: &Partition) -> Vec<(String, String)> {
    let snapshot = partition.load().await.unwrap().unwrap();
    let tasks = snapshot.entities::<Task>().unwrap();
    let mut secrets: Vec<_> = tasks
        .into_iter()
        .map(|task| (task.value().id.clone(), task.into_value().secret))
        .collect();
    secrets.sort();
    secrets
}
