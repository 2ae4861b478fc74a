//! Compiled programs, each compiled once however many ask for it at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{Semaphore, watch};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Cid;

use crate::engine::{Engine, Program};
use crate::run::read;

/// Most compiled programs kept.
const MAX_PROGRAMS: u64 = 1024;
/// How long those who asked wait for a compilation. It goes on without them, for it cannot be stopped, and whoever
/// asks again meanwhile is refused at once.
const MAX_COMPILE: Duration = Duration::from_secs(60);

type Compiled = Result<Arc<Program>>;

/// A cache for one engine: another engine's programs are of no use to it.
#[derive(Clone)]
pub struct Programs {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    workers: Arc<Semaphore>,
    cache: Cache<Cid, Arc<Program>>,
    patience: Duration,
    /// Compilations under way: the result, once there is one.
    flights: Mutex<HashMap<Cid, watch::Receiver<Option<Compiled>>>>,
}

impl Programs {
    pub fn new(engine: Arc<Engine>, workers: Arc<Semaphore>, max_bytes: u64) -> Self {
        Self::with_patience(engine, workers, max_bytes, MAX_COMPILE)
    }

    fn with_patience(
        engine: Arc<Engine>,
        workers: Arc<Semaphore>,
        max_bytes: u64,
        patience: Duration,
    ) -> Self {
        // Each program weighs its share at least, so that the bytes bound the number as well.
        let share = max_bytes / MAX_PROGRAMS;
        let weight = move |program: &Arc<Program>| (program.size() as u64).max(share);
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |_, program| u32::try_from(weight(program)).unwrap_or(u32::MAX))
            .build();
        Self {
            inner: Arc::new(Inner {
                engine,
                workers,
                cache,
                patience,
                flights: Mutex::default(),
            }),
        }
    }

    /// The compiled workload.
    ///
    /// # Errors
    /// WC-001 for a workload that is missing, corrupt, or not a program, or that takes too long to compile.
    pub async fn get(&self, workload: &Cid, content: &ContentStore) -> Compiled {
        if let Some(program) = self.inner.cache.get(workload) {
            return Ok(program);
        }
        let mut flight = self.join_flight(workload, content);
        match flight.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(compiled)) => compiled.clone(),
            _ => Err(Fault::wc(WcCode::Internal, "a compilation broke off")),
        }
    }

    /// The compilation under way, or a new one.
    fn join_flight(
        &self,
        workload: &Cid,
        content: &ContentStore,
    ) -> watch::Receiver<Option<Compiled>> {
        let mut flights = self.inner.flights();
        if let Some(flight) = flights.get(workload) {
            return flight.clone();
        }
        let (done, flight) = watch::channel(None);
        if let Some(program) = self.inner.cache.get(workload) {
            done.send_replace(Some(Ok(program)));
            return flight;
        }
        flights.insert(*workload, flight.clone());
        tokio::spawn(self.inner.clone().fly(*workload, content.clone(), done));
        flight
    }
}

impl Inner {
    async fn fly(
        self: Arc<Self>,
        workload: Cid,
        content: ContentStore,
        done: watch::Sender<Option<Compiled>>,
    ) {
        let landing = Landing {
            inner: self.clone(),
            workload,
        };
        let Ok(worker) = self.workers.clone().acquire_owned().await else {
            return;
        };
        let engine = self.engine.clone();
        let mut compiling = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            engine.compile(&read("the workload", &workload, &content)?)
        });
        let compiled = match tokio::time::timeout(self.patience, &mut compiling).await {
            Ok(compiled) => compiled,
            Err(_) => {
                done.send_replace(Some(Err(too_slow(self.patience))));
                compiling.await
            }
        };
        let compiled = compiled.unwrap_or_else(|error| {
            Err(Fault::wc(WcCode::Internal, "the compiler broke off").caused_by(error))
        });
        let compiled = compiled.map(Arc::new);
        if let Ok(program) = &compiled {
            self.cache.insert(workload, program.clone());
        }
        // Whoever asks after those who waited were answered starts anew: a missing workload may have come meanwhile.
        drop(landing);
        done.send_if_modified(|result| {
            let first = result.is_none();
            result.get_or_insert(compiled);
            first
        });
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Cid, watch::Receiver<Option<Compiled>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the flight off the board, however it ends.
struct Landing {
    inner: Arc<Inner>,
    workload: Cid,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights().remove(&self.workload);
    }
}

fn too_slow(patience: Duration) -> Fault {
    let seconds = patience.as_secs();
    Fault::wc(
        WcCode::InvalidManifest,
        format!("the workload takes more than {seconds} s to compile"),
    )
    .hint("split the largest functions of the module")
}

#[cfg(test)]
mod tests {
    use worldcompute_content::Limits;

    use super::*;

    fn programs(max_bytes: u64) -> (tempfile::TempDir, ContentStore, Programs) {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        let engine = Arc::new(Engine::new().unwrap());
        (
            dir,
            content,
            Programs::new(engine, Arc::new(Semaphore::new(2)), max_bytes),
        )
    }

    /// A different module for every number.
    fn module(content: &ContentStore, number: usize) -> Cid {
        let text = format!("(module (func (export \"_start\") (drop (i32.const {number}))))");
        content.put(text.as_bytes()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_program_is_compiled_once_for_all_who_ask_at_the_same_time() {
        let (_dir, content, programs) = programs(1 << 20);
        let workload = module(&content, 0);
        let asked = (0..16).map(|_| {
            let (programs, content) = (programs.clone(), content.clone());
            tokio::spawn(async move { programs.get(&workload, &content).await.unwrap() })
        });
        let compiled = futures::future::join_all(asked).await;
        let first = compiled[0].as_ref().unwrap();
        assert!(
            compiled
                .iter()
                .all(|program| Arc::ptr_eq(program.as_ref().unwrap(), first))
        );
        assert!(programs.inner.flights().is_empty());
    }

    #[tokio::test]
    async fn a_compiled_program_is_kept_even_if_its_workload_is_gone() {
        let (dir, content, programs) = programs(1 << 20);
        let workload = module(&content, 0);
        let first = programs.get(&workload, &content).await.unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &programs.get(&workload, &content).await.unwrap()
        ));
    }

    #[tokio::test]
    async fn the_cache_stays_within_its_bytes() {
        let (_dir, content, programs) = programs(300_000);
        for number in 0..60 {
            programs
                .get(&module(&content, number), &content)
                .await
                .unwrap();
        }
        programs.inner.cache.run_pending_tasks();
        let kept = programs.inner.cache.weighted_size();
        assert!((1..=300_000).contains(&kept), "{kept}");
        assert!(programs.inner.cache.entry_count() < 60);
    }

    #[tokio::test]
    async fn a_refusal_is_not_kept() {
        let (_dir, content, programs) = programs(1 << 20);
        let workload = Cid::raw(b"(module (func (export \"_start\")))");
        assert!(programs.get(&workload, &content).await.is_err());
        content.put(b"(module (func (export \"_start\")))").unwrap();
        assert!(programs.get(&workload, &content).await.is_ok());
    }

    #[tokio::test]
    async fn a_compilation_that_takes_too_long_is_refused_and_kept_once_it_is_done() {
        let (_dir, content, patient) = programs(1 << 20);
        let (engine, workers) = (patient.inner.engine.clone(), patient.inner.workers.clone());
        let programs = Programs::with_patience(engine, workers, 1 << 20, Duration::ZERO);
        // Long enough that it is not done when it has just begun.
        let body = "(drop (i32.const 1))".repeat(50_000);
        let module = format!("(module (func (export \"_start\") {body}))");
        let workload = content.put(module.as_bytes()).unwrap();
        let fault = programs.get(&workload, &content).await.err().unwrap();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
        assert!(fault.message().contains("to compile"), "{fault}");
        while !programs.inner.flights().is_empty() {
            tokio::task::yield_now().await;
        }
        programs.get(&workload, &content).await.unwrap();
    }

    #[tokio::test]
    async fn a_compilation_goes_on_when_whoever_asked_for_it_goes_away() {
        let (_dir, content, programs) = programs(1 << 20);
        let workload = module(&content, 0);
        let held = programs
            .inner
            .workers
            .clone()
            .acquire_many_owned(2)
            .await
            .unwrap();
        {
            let asked = programs.get(&workload, &content);
            tokio::pin!(asked);
            assert!(futures::poll!(asked).is_pending());
        }
        assert_eq!(programs.inner.flights().len(), 1);
        drop(held);
        programs.get(&workload, &content).await.unwrap();
    }
}
