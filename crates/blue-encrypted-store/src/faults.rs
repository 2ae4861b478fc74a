//! Engines and networks that fail: what passes is retried within a bound, what stays is a fault with a code of its own,
//! and no commit is done in part or twice. Time stands still in these tests but for the waits.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::Anchor;
use crate::client::{self, MAX_ATTEMPTS};
use crate::commits::puts;
use crate::config::DEFAULT_TABLE;
use crate::embedded::Engine;
use crate::lab::{Lab, MemoryKey, partition, put, secrets, text, version};
use crate::metrics::tests::Tally;
use crate::sources::Sources;
use crate::store::Ground;
use crate::table::{Room, Table};
use crate::{Batch, CrossPartition, Kind, PartitionVersion, Store, StoreConfig, StorePath};

const WRITE: &str = "TransactWriteItems";
const READ: &str = "Query";
/// Those of the audit's chains.
const LANES: &str = "Query of a lane";
const PK: &str = "job#j1";
const INDEX: &str = "ByStatus";

/// What a request gets instead of being answered.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// A refusal with this code.
    Refused(&'static str),
    /// A transaction that was cancelled for these reasons.
    Cancelled(&'static [&'static str]),
    /// An engine that failed.
    Crash,
    /// No connection.
    Disconnected,
    /// An answer of something that is no DynamoDB.
    Garbage,
    /// A page without rows that says that there are more.
    EmptyPage,
}

/// An engine whose requests of one operation meet troubles, one after another.
#[derive(Clone, Debug)]
struct Faulty {
    engine: Engine,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    operation: &'static str,
    /// Requests that are answered before the first trouble.
    passes: usize,
    troubles: VecDeque<Trouble>,
    /// Requests of that operation so far.
    calls: u32,
}

impl Script {
    fn is_about(&self, target: &str, body: &str) -> bool {
        match self.operation {
            "" => false,
            LANES => target.ends_with(READ) && body.contains("audit#"),
            // The audit writes and reads by itself, beside the partition.
            WRITE | READ => {
                target.ends_with(self.operation) && (body.contains(PK) || body.contains(INDEX))
            }
            other => target.ends_with(other),
        }
    }
}

impl Faulty {
    fn new() -> Self {
        Self {
            engine: Engine::memory().unwrap(),
            script: Arc::default(),
        }
    }

    /// From now on.
    fn meet(&self, operation: &'static str, troubles: impl IntoIterator<Item = Trouble>) {
        self.meet_after(0, operation, troubles);
    }

    /// From the request after the first `passes` on.
    fn meet_after(
        &self,
        passes: usize,
        operation: &'static str,
        troubles: impl IntoIterator<Item = Trouble>,
    ) {
        *self.script.lock().unwrap() = Script {
            operation,
            passes,
            troubles: troubles.into_iter().collect(),
            calls: 0,
        };
    }

    fn calls(&self) -> u32 {
        self.script.lock().unwrap().calls
    }

    fn trouble(&self, request: &HttpRequest) -> Option<Trouble> {
        let mut script = self.script.lock().unwrap();
        let target = request.headers().get("x-amz-target").unwrap();
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
        if !script.is_about(target, body) {
            return None;
        }
        script.calls += 1;
        if script.passes > 0 {
            script.passes -= 1;
            return None;
        }
        script.troubles.pop_front()
    }

    fn client(&self) -> Client {
        let client = client::answered_by(self.clone());
        // Retries have a budget that all clients of a name share; no test is to use up that of another.
        static TESTS: AtomicU64 = AtomicU64::new(0);
        let name = format!("test {}", TESTS.fetch_add(1, Ordering::Relaxed));
        let partition = aws_sdk_dynamodb::config::retry::RetryPartition::new(name);
        let config = client.config().to_builder().retry_partition(partition);
        Client::from_conf(config.build())
    }

    async fn store(&self) -> Result<Store> {
        self.store_with(StoreConfig::new(StorePath::Memory)).await
    }

    async fn store_with(&self, config: StoreConfig) -> Result<Store> {
        let ground = Ground {
            table: Table::new(self.client(), DEFAULT_TABLE),
            anchor: Arc::new(Anchor::memory()),
            set_up: true,
        };
        let keys = Arc::new(MemoryKey([1; 32]));
        Store::open_on(ground, config, keys, Sources::system()).await
    }

    /// The table, to change it behind the store's back.
    fn lab(&self) -> Lab {
        Lab {
            engine: self.engine.clone(),
            anchor: Arc::new(Anchor::memory()),
        }
    }
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.trouble(&request) {
            None => self.engine.call(request),
            Some(trouble) => HttpConnectorFuture::ready(trouble.answer()),
        }
    }
}

impl Trouble {
    fn answer(self) -> Result<HttpResponse, ConnectorError> {
        let (status, body) = match self {
            Self::Refused(code) => (400, error(code, "")),
            Self::Cancelled(reasons) => (400, cancelled(reasons)),
            Self::Crash => (500, error("InternalServerError", "")),
            Self::Garbage => (200, "<html>".to_owned()),
            Self::EmptyPage => (200, empty_page()),
            Self::Disconnected => {
                let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                return Err(ConnectorError::io(refused.into()));
            }
        };
        let status = StatusCode::try_from(status).unwrap();
        Ok(HttpResponse::new(status, SdkBody::from(body)))
    }
}

fn error(code: &str, rest: &str) -> String {
    format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"as scripted"{rest}}}"#
    )
}

fn cancelled(reasons: &[&str]) -> String {
    let reasons: Vec<_> = reasons
        .iter()
        .map(|code| format!(r#"{{"Code":"{code}"}}"#))
        .collect();
    let reasons = format!(r#","CancellationReasons":[{}]"#, reasons.join(","));
    error("TransactionCanceledException", &reasons)
}

/// Each with another key to go on from.
fn empty_page() -> String {
    static PAGES: AtomicU64 = AtomicU64::new(0);
    let page = PAGES.fetch_add(1, Ordering::Relaxed);
    format!(
        r#"{{"Count":0,"Items":[],"LastEvaluatedKey":{{"pk":{{"S":"job#j1"}},"sk":{{"S":"{page}"}}}}}}"#
    )
}

fn forever(trouble: Trouble) -> impl Iterator<Item = Trouble> {
    std::iter::repeat_n(trouble, 100)
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_retried_until_it_has_passed() {
    let troubles = [
        Trouble::Refused("ThrottlingException"),
        Trouble::Refused("ProvisionedThroughputExceededException"),
        Trouble::Refused("RequestLimitExceeded"),
        Trouble::Refused("TransactionInProgressException"),
        Trouble::Cancelled(&["None", "ThrottlingError"]),
        Trouble::Cancelled(&["ProvisionedThroughputExceeded", "None"]),
        Trouble::Cancelled(&["TransactionConflict", "None"]),
        Trouble::Cancelled(&["TransactionConflict", "ThrottlingError"]),
        Trouble::Crash,
        Trouble::Disconnected,
    ];
    for trouble in troubles {
        let faulty = Faulty::new();
        let store = faulty.store().await.unwrap();
        faulty.meet(WRITE, [trouble; MAX_ATTEMPTS as usize - 1]);
        let none = PartitionVersion::NONE;
        let committed = partition(&store, "j1").commit(puts(0..2, "x"), none).await;
        assert_eq!(committed.unwrap().get(), 1, "{trouble:?}");
        assert_eq!(faulty.calls(), MAX_ATTEMPTS, "{trouble:?}");
        if !matches!(trouble, Trouble::Cancelled(_)) {
            faulty.meet(READ, [trouble; 2]);
        }
        let found = secrets(&partition(&faulty.store().await.unwrap(), "j1")).await;
        assert_eq!(found.len(), 2, "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_sent_again_are_counted() {
    let (faulty, tally) = (Faulty::new(), Tally::new());
    let store = faulty.store_with(tally.config()).await.unwrap();
    let handle = partition(&store, "j1");
    let at = put(&handle, &[("t0000", "x")]).await;
    assert_eq!(tally.of("blue.store.retries{}"), 0);
    faulty.meet(WRITE, [Trouble::Refused("ThrottlingException"); 2]);
    handle.commit(puts(0..1, "y"), at).await.unwrap();
    assert_eq!(tally.of("blue.store.retries{}"), 2);
}

/// What does not pass, how often it is tried, and what is then said of it.
const LASTING: [(Trouble, u32, Category, &str); 17] = [
    (
        Trouble::Refused("ThrottlingException"),
        MAX_ATTEMPTS,
        Category::NetworkTransient,
        "store_throttled",
    ),
    (
        Trouble::Cancelled(&["ThrottlingError"]),
        MAX_ATTEMPTS,
        Category::NetworkTransient,
        "store_throttled",
    ),
    (
        Trouble::Cancelled(&["TransactionConflict"]),
        MAX_ATTEMPTS,
        Category::StateContention,
        "state_contention",
    ),
    (
        Trouble::Cancelled(&["ConditionalCheckFailed", "None"]),
        1,
        Category::StateContention,
        "state_contention",
    ),
    (
        Trouble::Cancelled(&["ConditionalCheckFailed", "TransactionConflict"]),
        1,
        Category::StateContention,
        "state_contention",
    ),
    (
        Trouble::Cancelled(&["ConditionalCheckFailed", "ThrottlingError"]),
        1,
        Category::StateContention,
        "state_contention",
    ),
    (
        Trouble::Cancelled(&["ConditionalCheckFailed", "ValidationError"]),
        1,
        Category::InternalFailure,
        "store_request_refused",
    ),
    (
        Trouble::Cancelled(&["ItemCollectionSizeLimitExceeded"]),
        1,
        Category::InternalFailure,
        "store_request_refused",
    ),
    (
        Trouble::Cancelled(&["None"]),
        1,
        Category::InternalFailure,
        "store_request_refused",
    ),
    (
        Trouble::Cancelled(&[]),
        1,
        Category::InternalFailure,
        "store_request_refused",
    ),
    (
        Trouble::Refused("ValidationException"),
        1,
        Category::InternalFailure,
        "store_request_refused",
    ),
    (
        Trouble::Refused("AccessDeniedException"),
        1,
        Category::PolicyBlocked,
        "access_denied",
    ),
    (
        Trouble::Refused("ExpiredTokenException"),
        1,
        Category::DependencyMissing,
        "credentials_refused",
    ),
    (
        Trouble::Refused("ResourceNotFoundException"),
        1,
        Category::DependencyMissing,
        "table_not_found",
    ),
    (
        Trouble::Crash,
        MAX_ATTEMPTS,
        Category::IoFailure,
        "store_engine_failed",
    ),
    (
        Trouble::Disconnected,
        MAX_ATTEMPTS,
        Category::NetworkTransient,
        "store_unreachable",
    ),
    (
        Trouble::Garbage,
        1,
        Category::NetworkPermanent,
        "store_answer_malformed",
    ),
];

#[tokio::test(start_paused = true)]
async fn what_stays_is_told_by_its_code_after_a_bounded_number_of_tries() {
    for (trouble, calls, category, code) in LASTING {
        let faulty = Faulty::new();
        let store = faulty.store().await.unwrap();
        let partition = partition(&store, "j1");
        let at = put(&partition, &[("t0000", "before")]).await;
        faulty.meet(WRITE, forever(trouble));
        let fault = partition.commit(puts(0..2, "x"), at).await.unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (category, code),
            "{trouble:?}"
        );
        assert_eq!(faulty.calls(), calls, "{trouble:?}");
        assert_says_no_more_than_it_should(&fault);
        // Nothing was done, and the same handle goes on once the trouble is over.
        faulty.meet("", []);
        assert_eq!(
            secrets(&partition).await,
            [("t0000".to_owned(), "before".to_owned())]
        );
        partition.commit(puts(0..2, "x"), at).await.unwrap();
    }
}

/// A fault is for logs and strangers.
fn assert_says_no_more_than_it_should(fault: &Fault) {
    for secret in ["before", "content_encrypted", "AWS4-HMAC", "authorization"] {
        assert!(!fault.to_string().contains(secret), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_half_way_through_its_staging_changes_nothing() {
    for staged in 0..3 {
        let faulty = Faulty::new();
        let store = faulty.store().await.unwrap();
        let partition = partition(&store, "j1");
        let at = partition
            .commit(puts(0..120, "old"), PartitionVersion::NONE)
            .await
            .unwrap();
        let throttled = forever(Trouble::Refused("ThrottlingException"));
        faulty.meet_after(staged, WRITE, throttled);
        let fault = partition.commit(puts(0..330, "new"), at).await.unwrap_err();
        assert_eq!(fault.code(), "store_throttled", "after {staged}");
        faulty.meet("", []);
        let found = secrets(&partition).await;
        assert_eq!(found.len(), 120, "after {staged}");
        assert!(found.iter().all(|(_, secret)| secret == "old"));
        partition.commit(puts(0..330, "new"), at).await.unwrap();
        let snapshot = partition.load().await.unwrap().unwrap();
        assert_eq!((snapshot.len(), snapshot.uncommitted()), (330, &[][..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_stops_before_any_of_its_requests_leaves_nothing_that_is_never_swept() {
    for passes in 0..20 {
        let faulty = Faulty::new();
        let store = faulty.store().await.unwrap();
        let handle = partition(&store, "j1");
        let first = handle.commit(puts(0..330, "old"), PartitionVersion::NONE);
        first.await.unwrap();
        let at = handle.rotate().await.unwrap();
        faulty.meet_after(
            passes,
            WRITE,
            forever(Trouble::Refused("AccessDeniedException")),
        );
        let done = handle.commit(puts(0..330, "new"), at).await;
        if faulty.script.lock().unwrap().passes > 0 {
            assert!(passes > 8, "{passes} requests");
            return;
        }
        faulty.meet("", []);
        let other = faulty.lab().stranger().await;
        let other = partition(&other, "j1");
        let snapshot = other.load().await.unwrap().unwrap();
        assert_eq!(snapshot.version().get(), at.get() + u64::from(done.is_ok()));
        let swept = other.commit(puts(0..1, "newer"), snapshot.version());
        swept.await.unwrap();
        let snapshot = other.load().await.unwrap().unwrap();
        assert_eq!(snapshot.uncommitted(), [""; 0], "after {passes} requests");
    }
    panic!("the commit has more requests than were looked at");
}

#[tokio::test(start_paused = true)]
async fn what_a_first_commit_that_broke_off_has_left_is_nothing_wrong_and_is_erased() {
    let faulty = Faulty::new();
    let store = faulty.store().await.unwrap();
    let handle = partition(&store, "j1");
    faulty.meet_after(3, WRITE, forever(Trouble::Disconnected));
    let broken = handle.commit(puts(0..300, "said"), PartitionVersion::NONE);
    assert_eq!(broken.await.unwrap_err().code(), "store_unreachable");
    faulty.meet("", []);
    let (store, lab) = (faulty.lab().store().await, faulty.lab());
    let rows = lab.keys(PK, "task").len();
    assert!(rows > 100, "{rows}");
    let handle = partition(&store, "j1");
    assert!(handle.load().await.unwrap().is_none());
    assert!(!handle.is_absent().await.unwrap());
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.findings.first());
    assert_eq!(report.left, rows as u64);
    let certificate = handle.erase().await.unwrap();
    assert_eq!(certificate.erasure.data_keys_destroyed, 1);
    let left: Vec<_> = lab.rows(PK).into_keys().collect();
    assert_eq!(left, ["manifest"]);
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(report.is_sound() && report.left == 0, "{report:?}");
    assert!(partition(&store, "j2").is_absent().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_sweeps_what_a_commit_that_broke_off_has_left() {
    let faulty = Faulty::new();
    let store = faulty.store().await.unwrap();
    let handle = partition(&store, "j1");
    let at = handle.commit(puts(0..2, "x"), PartitionVersion::NONE);
    let at = at.await.unwrap();
    faulty.meet_after(2, WRITE, forever(Trouble::Disconnected));
    handle.commit(puts(2..300, "y"), at).await.unwrap_err();
    faulty.meet("", []);
    let store = faulty.lab().store().await;
    let handle = partition(&store, "j1");
    let snapshot = handle.load().await.unwrap().unwrap();
    assert!(!snapshot.uncommitted().is_empty());
    handle.rotate().await.unwrap();
    let snapshot = handle.load().await.unwrap().unwrap();
    assert_eq!((snapshot.len(), snapshot.uncommitted().len()), (2, 0));
}

/// Many more tasks than a flip holds, of about 300 KB.
fn many(secret: char) -> Batch {
    puts(0..330, &secret.to_string().repeat(500))
}

/// Requests that pass before the flip of a commit of [`many`].
fn staged(is_first: bool) -> usize {
    3 + usize::from(is_first)
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_interrupted_again_and_again_do_not_fill_a_partition() {
    for is_first in [true, false] {
        let faulty = Faulty::new();
        let lab = faulty.lab();
        let config = StoreConfig::new(StorePath::Memory).max_partition_bytes(1_000_000);
        let store = faulty.store_with(config).await.unwrap();
        let handle = partition(&store, "j1");
        if !is_first {
            put(&handle, &[("t0000", "x")]).await;
        }
        let mut most = 0;
        for _ in 0..12 {
            faulty.meet("", []);
            let at = version(&handle).await;
            let troubles = forever(Trouble::Disconnected);
            faulty.meet_after(staged(is_first), WRITE, troubles);
            let fault = handle.commit(many('y'), at).await.unwrap_err();
            match fault.code() {
                "store_unreachable" => {}
                // While as much is left as that, nothing more is staged.
                code => assert_eq!((code, fault.retryable()), ("leftovers_not_swept", true)),
            }
            most = most.max(lab.keys(PK, "task").len());
        }
        faulty.meet("", []);
        assert!((600..1_600).contains(&most), "{most} rows");
        let at = version(&handle).await;
        handle.commit(many('z'), at).await.unwrap();
        let snapshot = handle.load().await.unwrap().unwrap();
        assert_eq!((snapshot.len(), snapshot.uncommitted()), (330, &[][..]));
        let report = store.verify(&[], &mut |_| {}).await.unwrap();
        assert!(report.is_sound() && report.left == 0, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_more_leftovers_than_are_read_is_loaded_and_a_rotation_sweeps_them() {
    for is_first in [true, false] {
        let faulty = Faulty::new();
        let lab = faulty.lab();
        // For this one it is not many yet.
        let writer = faulty.store().await.unwrap();
        let handle = partition(&writer, "j1");
        if !is_first {
            put(&handle, &[("t0000", "x")]).await;
        }
        for _ in 0..8 {
            faulty.meet("", []);
            let at = version(&handle).await;
            let troubles = forever(Trouble::Disconnected);
            faulty.meet_after(staged(is_first), WRITE, troubles);
            handle.commit(many('y'), at).await.unwrap_err();
        }
        faulty.meet("", []);
        let left = lab.keys(PK, "task").len() - usize::from(!is_first);
        assert!(left > 1_600, "{left}");
        let config = StoreConfig::new(StorePath::Memory).max_partition_bytes(100_000);
        let store = faulty.store_with(config).await.unwrap();
        let handle = partition(&store, "j1");
        let before = version(&handle).await;
        assert_eq!(before.get(), u64::from(!is_first));
        let report = store.verify(&[], &mut |_| {}).await.unwrap();
        assert!(report.is_sound(), "{:?}", report.findings.first());
        assert!(report.left >= left as u64, "{}", report.left);
        let after = handle.rotate().await.unwrap();
        assert_eq!(after.get(), 2 * before.get());
        assert_eq!(lab.keys(PK, "task").len(), usize::from(!is_first));
        handle.commit(puts(0..2, "z"), after).await.unwrap();
        assert_eq!(secrets(&handle).await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn leftovers_hide_no_record_that_has_gone() {
    let (faulty, small) = (Faulty::new(), StoreConfig::new(StorePath::Memory));
    let (writer, lab) = (faulty.store().await.unwrap(), faulty.lab());
    let handle = partition(&writer, "j1");
    let at = put(&handle, &[("t0000", "x")]).await;
    let listed = lab.rows(PK)[&lab.keys(PK, "task")[0]].clone();
    for _ in 0..8 {
        faulty.meet_after(staged(false), WRITE, forever(Trouble::Disconnected));
        handle.commit(many('y'), at).await.unwrap_err();
        faulty.meet("", []);
    }
    let small = faulty.store_with(small.max_partition_bytes(100_000));
    let handle = partition(&small.await.unwrap(), "j1");
    assert_eq!(handle.load().await.unwrap().unwrap().len(), 1);
    lab.delete(&listed);
    assert_eq!(handle.load().await.unwrap_err().code(), "manifest_mismatch");
}

#[tokio::test(start_paused = true)]
async fn payloads_of_commits_that_failed_count_against_their_key() {
    let faulty = Faulty::new();
    let config = StoreConfig::new(StorePath::Memory).max_encryptions_per_key(5);
    let store = faulty.store_with(config).await.unwrap();
    let partition = partition(&store, "j1");
    let at = put(&partition, &[("t0000", "x"), ("t0001", "x")]).await;
    let root = || faulty.lab().rows(PK).remove("manifest").unwrap();
    assert_eq!(text(&root(), "key_id"), "dek#j1#1");
    faulty.meet(WRITE, forever(Trouble::Disconnected));
    partition.commit(puts(0..2, "y"), at).await.unwrap_err();
    faulty.meet("", []);
    // Two in the table and two that were seen on their way there: another two would be too many.
    let at = partition.commit(puts(0..2, "z"), at).await.unwrap();
    assert_eq!(text(&root(), "key_id"), "dek#j1#2");
    let fits = partition.commit(puts(0..3, "z"), at).await;
    fits.unwrap();
    assert_eq!(text(&root(), "key_id"), "dek#j1#2");
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_breaks_off_has_ended_the_partition_and_the_next_completes_it() {
    let faulty = Faulty::new();
    let (store, lab) = (faulty.store().await.unwrap(), faulty.lab());
    let handle = partition(&store, "j1");
    put(&handle, &[("t1", "x")]).await;
    let before = lab.rows(PK);
    faulty.meet_after(1, WRITE, forever(Trouble::Disconnected));
    let fault = handle.erase().await.unwrap_err();
    assert_eq!(fault.code(), "store_unreachable");
    faulty.meet("", []);
    assert!(lab.keys(PK, "dek").is_empty());
    assert_eq!(lab.keys(PK, "task").len(), 1);
    let tombstone = lab.rows(PK).remove("manifest").unwrap();
    // Nobody has looked at the partition since.
    before.values().for_each(|row| lab.put(row));
    assert_eq!(
        handle.load().await.unwrap_err().code(),
        "version_rolled_back"
    );
    lab.put(&tombstone);
    handle.erase().await.unwrap();
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
    assert_eq!(handle.load().await.unwrap_err().code(), "partition_erased");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_comes_to_an_end_is_not_followed() {
    let faulty = Faulty::new();
    let store = faulty.store().await.unwrap();
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let table = Table::new(faulty.client(), DEFAULT_TABLE);
    let room = Room {
        rows: 9,
        bytes: 1 << 20,
    };
    faulty.meet(READ, std::iter::repeat_n(Trouble::EmptyPage, 16));
    assert_eq!(table.partition(PK, room).await.unwrap().len(), 3);
    faulty.meet(READ, forever(Trouble::EmptyPage));
    let fault = table.partition(PK, room).await.unwrap_err();
    assert_eq!(fault.code(), "too_many_rows");
    assert!(faulty.calls() < 30, "{}", faulty.calls());
    faulty.meet(READ, forever(Trouble::EmptyPage));
    let fault = table.by_status("open", 9).await.unwrap_err();
    assert_eq!(fault.code(), "too_many_rows");
}

/// How often the beginning of a lane is read while every entry of the index is confirmed that a stranger has made.
async fn chains_read(strangers: usize) -> u32 {
    let faulty = Faulty::new();
    let (store, lab) = (faulty.store().await.unwrap(), faulty.lab());
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let rows = lab.rows(PK);
    for stranger in 0..strangers {
        for row in rows.values() {
            let mut row = row.clone();
            let pk = dynoxide::AttributeValue::S(format!("job#s{stranger}"));
            row.insert("pk".to_owned(), pk);
            lab.put(&row);
        }
    }
    let hints = store.list(Kind::JOB, "open").await.unwrap();
    assert_eq!(hints.len(), strangers + 1);
    let mut confirming = store.confirming();
    let mut confirmed = 0;
    faulty.meet(LANES, []);
    for hint in &hints {
        confirmed += usize::from(confirming.confirm(hint).await.unwrap().is_some());
    }
    assert_eq!(confirmed, 1);
    faulty.calls()
}

#[tokio::test(start_paused = true)]
async fn a_list_reads_the_audit_once_however_many_strangers_are_in_it() {
    let one = chains_read(1).await;
    assert!(one >= 8, "{one}");
    assert_eq!(chains_read(20).await, one);
}

#[tokio::test(start_paused = true)]
async fn set_up_survives_what_passes_and_is_not_done_in_part() {
    for operation in ["DescribeTable", "CreateTable", "GetItem", "PutItem", "Scan"] {
        let faulty = Faulty::new();
        faulty.meet(
            operation,
            [Trouble::Refused("ThrottlingException"), Trouble::Crash],
        );
        let id = faulty.store().await.unwrap().id().to_owned();
        assert_eq!(faulty.store().await.unwrap().id(), id, "{operation}");

        let faulty = Faulty::new();
        faulty.meet(operation, forever(Trouble::Disconnected));
        let fault = faulty.store().await.err().unwrap();
        assert_eq!(fault.code(), "store_unreachable", "{operation}");
        faulty.meet("", []);
        faulty.store().await.unwrap();
    }
}

#[cfg(feature = "aws")]
mod on_a_network {
    use std::sync::atomic::AtomicBool;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::LocalEndpoint;

    async fn open_at(endpoint: &str, table: &str) -> Result<Store> {
        let endpoint = LocalEndpoint::parse(endpoint).unwrap();
        let client = Client::from_conf(client::to_endpoint(&endpoint).build());
        let ground = Ground {
            table: Table::new(client, table),
            anchor: Arc::new(Anchor::memory()),
            set_up: true,
        };
        let config = StoreConfig::new(StorePath::Memory).table(table);
        let keys = Arc::new(MemoryKey([1; 32]));
        Store::open_on(ground, config, keys, Sources::system()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_requests_and_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let start = Instant::now();
        let opened = open_at(&endpoint, DEFAULT_TABLE);
        let silent = async {
            let mut taken = Vec::new();
            loop {
                taken.push(listener.accept().await.unwrap());
            }
        };
        let fault = tokio::select! {
            opened = opened => opened.err().unwrap(),
            () = silent => unreachable!("it goes on for ever"),
        };
        assert_eq!(fault.code(), "store_unreachable");
        assert!(
            start.elapsed() < Duration::from_secs(50),
            "{:?}",
            start.elapsed()
        );
    }

    /// Passes everything on to `server`, but loses the next answer whenever it is told to.
    async fn lossy(server: String) -> (String, Arc<AtomicBool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let lose = Arc::new(AtomicBool::new(false));
        let told = lose.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass_on(client, server, told.clone()));
            }
        });
        (endpoint, lose)
    }

    async fn pass_on(mut client: TcpStream, mut server: TcpStream, lose: Arc<AtomicBool>) {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let answers = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = from_server.read(&mut buffer).await.unwrap_or(0);
                let lost = lose.swap(false, Ordering::SeqCst);
                if count == 0 || lost || to_client.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = answers => {}
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        }
    }

    /// The engine does what it is asked, and nobody hears of it: asked again, it must not do it again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_whose_answer_is_lost_is_done_once_and_acknowledged() {
        let Ok(endpoint) = std::env::var("DYNAMODB_ENDPOINT") else {
            println!("skipped: DYNAMODB_ENDPOINT is not set");
            return;
        };
        let mut unique = [0; 8];
        crate::crypto::random(&mut unique).unwrap();
        let table = format!("lost-{}", hex::encode(unique));
        let server = endpoint.trim_start_matches("http://").to_owned();
        let (through, lose) = lossy(server).await;
        let store = open_at(&through, &table).await.unwrap();
        let handle = partition(&store, "j1");
        let mut at = PartitionVersion::NONE;
        for round in 1..=3 {
            lose.store(true, Ordering::SeqCst);
            at = handle.commit(puts(0..2, "x"), at).await.unwrap();
            assert!(!lose.load(Ordering::SeqCst), "an answer was lost");
            assert_eq!(at.get(), round);
        }
        let direct = open_at(&endpoint, &table).await.unwrap();
        let snapshot = partition(&direct, "j1").load().await.unwrap().unwrap();
        assert_eq!((snapshot.version(), snapshot.len()), (at, 2));
    }
}
