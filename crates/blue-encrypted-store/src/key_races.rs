//! Keys that change while somebody is in the middle of using them.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::Notify;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::Anchor;
use crate::client;
use crate::commits::puts;
use crate::config::DEFAULT_TABLE;
use crate::embedded::Engine;
use crate::keys::{DekContext, KekContext, KeyError};
use crate::lab::{Lab, Meddling, MemoryKey, Task, partition, put, secrets, task, version};
use crate::name::{Kind, MAX_KINDS};
use crate::sources::Sources;
use crate::store::Ground;
use crate::table::Table;
use crate::{Batch, Entity, KeyLifetime, PartitionVersion, Store, StoreConfig, StorePath};

const PK: &str = "job#j1";

/// Ends the store's epoch while it wraps a data key, as long as it has a store.
struct Meddler(Arc<Mutex<OnceLock<Store>>>);

#[async_trait]
impl Meddling for Meddler {
    async fn wrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        let store = self.0.lock().unwrap().take();
        if let Some(store) = store {
            store.rotate_kek().await.unwrap();
            store.retire_keks().await.unwrap();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_partition_that_is_born_while_its_epoch_ends_is_refused_and_not_lost() {
    for size in [1, 300] {
        let (lab, meddled) = (Lab::new(), Arc::new(Mutex::new(OnceLock::new())));
        let config = StoreConfig::new(StorePath::Memory);
        let keys = Arc::new(Meddler(meddled.clone()));
        let store = lab.try_store_with(config, keys).await.unwrap();
        meddled.lock().unwrap().set(store.clone()).ok().unwrap();
        let born = partition(&store, "j1");
        let commit = || born.commit(puts(0..size, "x"), PartitionVersion::NONE);
        assert_eq!(commit().await.unwrap_err().code(), "state_contention");
        assert!(lab.rows(PK).is_empty());
        commit().await.unwrap();
        let found = secrets(&partition(&lab.stranger().await, "j1")).await;
        assert_eq!(found.len(), size);
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_brings_no_epoch_back() {
    let lab = Lab::new();
    let store = lab.store().await;
    let first = store.0.row();
    store.rotate_kek().await.unwrap();
    let second = store.0.row();
    store.retire_keks().await.unwrap();
    let last = store.0.row();
    for late in [first, second] {
        store.0.set_row(late);
        assert_eq!(store.0.row().epochs, last.epochs);
    }
}

#[tokio::test]
async fn an_epoch_does_not_end_in_a_table_of_more_kinds_than_can_be_looked_through() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let kind = Kind::custom("never-looked-at").unwrap();
    let odd = store.partition(kind, "1").unwrap();
    odd.commit(puts(0..1, "x"), PartitionVersion::NONE)
        .await
        .unwrap();
    let kinds = &store.0.kinds;
    let found = (0..MAX_KINDS).filter(|number| kinds.kind(&format!("kind-{number}")).is_ok());
    assert_eq!(found.count(), MAX_KINDS);
    store.rotate_kek().await.unwrap();
    let fault = store.retire_keks().await.unwrap_err();
    assert_eq!(fault.code(), "too_many_kinds");
    assert!(odd.load().await.unwrap().is_some());
    assert!(!lab.rows("store")["meta"].contains_key("min_kek_epoch"));
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An engine beside which something happens between the first page of a partition and the second.
#[derive(Clone)]
struct Between {
    engine: Engine,
    work: Arc<Mutex<Option<Work>>>,
}

impl Between {
    /// A process on a machine that has never seen the table.
    async fn store(&self) -> Store {
        self.store_with(KeyLifetime::default()).await
    }

    async fn store_with(&self, lifetime: KeyLifetime) -> Store {
        let ground = Ground {
            table: Table::new(client::answered_by(self.clone()), DEFAULT_TABLE),
            anchor: Arc::new(Anchor::memory()),
            set_up: false,
        };
        let config = StoreConfig::new(StorePath::Memory).key_lifetime(lifetime);
        let keys = Arc::new(MemoryKey([1; 32]));
        let store = Store::open_on(ground, config, keys, Sources::system());
        store.await.unwrap()
    }
}

impl fmt::Debug for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Between")
    }
}

impl HttpClient for Between {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Between {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
        let is_page = target.ends_with("Query") && body.contains(PK);
        let (engine, work) = (self.engine.clone(), self.work.clone());
        HttpConnectorFuture::new(async move {
            let answer = engine.call(request).await;
            let work = work.lock().unwrap().take_if(|_| is_page);
            if let Some(work) = work {
                work.await;
            }
            answer
        })
    }
}

/// Its rows come before the manifest's.
struct Early(String);

impl Entity for Early {
    const TYPE: &'static str = "early";
    type Clear = ();
    type Sealed = String;

    fn id(&self) -> String {
        self.0.clone()
    }

    fn split(self) -> ((), String) {
        ((), "x".repeat(40_000))
    }

    fn join(id: String, _clear: (), _sealed: String) -> Result<Self> {
        Ok(Self(id))
    }
}

/// A partition of more than a page before its manifest, and a reader beside whom `work` is done after the first page.
async fn read_in_two_pages(work: impl FnOnce(Store) -> Work) -> usize {
    let lab = Lab::new();
    let writer = lab.store().await;
    let mut batch = Batch::new();
    for number in 0..30 {
        batch.insert(Early(format!("e{number}"))).unwrap();
    }
    batch.insert(task("t1", "x")).unwrap();
    let partition = partition(&writer, "j1");
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let engine = Between {
        engine: lab.engine.clone(),
        work: Arc::new(Mutex::new(Some(work(writer)))),
    };
    // It knows at once what the writer has done to the epochs, unlike to the rows that it has read already.
    let lifetime = KeyLifetime {
        max_age: Duration::ZERO,
        ..KeyLifetime::default()
    };
    let reader = engine.store_with(lifetime).await;
    let reader = crate::lab::partition(&reader, "j1");
    let snapshot = reader.load().await.unwrap().unwrap();
    assert!(engine.work.lock().unwrap().is_none());
    assert_eq!(snapshot.entities::<Task>().unwrap().len(), 1);
    snapshot.len()
}

#[tokio::test]
async fn a_rotation_between_two_pages_is_no_tampering() {
    let rotate = |store: Store| -> Work {
        Box::pin(async move {
            partition(&store, "j1").rotate().await.unwrap();
        })
    };
    assert_eq!(read_in_two_pages(rotate).await, 31);
}

#[tokio::test]
async fn an_early_record_that_changes_between_two_pages_is_no_tampering() {
    let change = |store: Store| -> Work {
        Box::pin(async move {
            let partition = partition(&store, "j1");
            let mut batch = Batch::new();
            batch.put(Early("e7".to_owned())).unwrap();
            let at = version(&partition).await;
            partition.commit(batch, at).await.unwrap();
        })
    };
    assert_eq!(read_in_two_pages(change).await, 31);
}

#[tokio::test]
async fn an_epoch_that_ends_between_two_pages_is_no_tampering() {
    let end = |store: Store| -> Work {
        Box::pin(async move {
            store.rotate_kek().await.unwrap();
            store.retire_keks().await.unwrap();
        })
    };
    assert_eq!(read_in_two_pages(end).await, 31);
}

#[tokio::test]
async fn an_epoch_that_ends_while_its_own_process_looks_through_the_table_is_no_finding() {
    let lab = Lab::new();
    put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let engine = Between {
        engine: lab.engine.clone(),
        work: Arc::default(),
    };
    let store = engine.store().await;
    store.rotate_kek().await.unwrap();
    let ending = store.clone();
    *engine.work.lock().unwrap() = Some(Box::pin(async move {
        assert_eq!(ending.retire_keks().await.unwrap(), 1);
    }));
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(engine.work.lock().unwrap().is_none());
    assert_eq!(
        (report.findings.len(), report.records),
        (0, 1),
        "{report:?}"
    );
}

/// Lets nobody have a key before it is opened.
#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
    refuses: AtomicBool,
    refusals: AtomicUsize,
    /// The epochs whose keys were asked for while it was shut.
    asked: Mutex<Vec<u64>>,
    opened: Notify,
}

impl Gate {
    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until somebody stands before it, and everybody else has come as far as they do meanwhile.
    async fn crowd(&self) {
        while self.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Meddling for Gate {
    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        let opened = self.opened.notified();
        if self.is_shut.load(Ordering::SeqCst) {
            self.asked.lock().unwrap().push(context.epoch);
            opened.await;
        }
        if self.refuses.load(Ordering::SeqCst) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(Fault::new(Category::NetworkTransient, "refused", "no").into());
        }
        Ok(context.clone())
    }
}

#[tokio::test]
async fn of_many_whose_row_of_the_store_is_old_one_asks_and_its_refusal_is_everybodys() {
    let (lab, gate) = (Lab::new(), Arc::new(Gate::default()));
    let config = StoreConfig::new(StorePath::Memory).key_lifetime(KeyLifetime {
        max_age: Duration::ZERO,
        ..KeyLifetime::default()
    });
    let store = lab.try_store_with(config, gate.clone()).await.unwrap();
    gate.shut();
    let learn = || {
        let store = store.clone();
        tokio::spawn(async move { store.0.learn().await })
    };
    let waiting: Vec<_> = (0..100).map(|_| learn()).collect();
    gate.crowd().await;
    gate.refuses.store(true, Ordering::SeqCst);
    gate.open();
    for refused in waiting {
        let fault = refused.await.unwrap().unwrap_err();
        assert_eq!(fault.code(), "refused");
    }
    assert_eq!(gate.refusals.load(Ordering::SeqCst), 1);
    gate.refuses.store(false, Ordering::SeqCst);
    store.0.learn().await.unwrap();
}

#[tokio::test]
async fn of_many_who_read_of_a_later_epoch_one_asks_for_its_key() {
    let (lab, gate) = (Lab::new(), Arc::new(Gate::default()));
    let writer = lab.store().await;
    let config = StoreConfig::new(StorePath::Memory);
    let stale = lab.try_store_with(config, gate.clone()).await.unwrap();
    let names: Vec<_> = (0..20).map(|number| format!("j{number}")).collect();
    for name in &names {
        put(&partition(&writer, name), &[("t1", "x")]).await;
    }
    writer.rotate_kek().await.unwrap();
    writer.retire_keks().await.unwrap();
    gate.shut();
    let load = |name: &String| {
        let partition = partition(&stale, name);
        tokio::spawn(async move { partition.load().await.map(drop) })
    };
    let loads: Vec<_> = names.iter().map(load).collect();
    gate.crowd().await;
    gate.open();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    // The one that wraps nothing shows that the master key is still the same.
    assert_eq!(gate.asked(), [0]);
}
