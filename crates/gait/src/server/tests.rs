use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;

/// Long enough for any machine: what does not end within it never does.
const FOREVER: Duration = Duration::from_secs(60);
/// So short that a test waits for it gladly.
const SHORT: Duration = Duration::from_millis(50);

/// A service in a directory of its own.
struct Serving {
    dir: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    fn start(limits: Limits, router: Router) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::unix(&dir.path().join("run/socket")).unwrap();
        let guard = Guard {
            token: None,
            loopback: false,
            limits,
            correlation_id: || "refused".to_owned(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router, guard, async {
            let _ = stopped.await;
        }));
        Self { dir, stop, task }
    }

    async fn connect(&self) -> UnixStream {
        let path: &Path = self.dir.path();
        UnixStream::connect(path.join("run/socket")).await.unwrap()
    }

    /// What is answered to `request` before the service closes the connection.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // A service that has read enough closes before everything is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        to_the_end(&mut stream).await
    }
}

/// Everything up to the end of the connection.
async fn to_the_end(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(FOREVER, stream.read_to_end(&mut answer));
    // A connection that is cut off with requests unread ends in an error.
    let _ = read.await.expect("the connection stays open");
    String::from_utf8(answer).unwrap()
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/", post(|body: String| async { body }))
        .route("/large", get(|| async { "x".repeat(8 << 20) }))
}

fn limits() -> Limits {
    Limits {
        connections: 1,
        head_bytes: 8192,
        head_lines: 8,
        body_bytes: 100,
        ..Limits::default()
    }
}

fn posted(length: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n{length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn requests_within_the_limits_are_answered() {
    let serving = Serving::start(limits(), router());
    let body = "b".repeat(100);
    let answer = serving.ask(&posted("content-length: 100", &body)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(&body),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_past_its_size_or_its_lines_is_refused() {
    let serving = Serving::start(limits(), router());
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n",
        "x".repeat(8192)
    );
    let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "line: x\r\n".repeat(9));
    for request in [long, lines] {
        let answer = serving.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_past_its_size_is_refused_announced_or_not() {
    let serving = Serving::start(limits(), router());
    let body = "b".repeat(101);
    let chunk = format!("65\r\n{body}\r\n0\r\n\r\n");
    for request in [
        posted("content-length: 101", &body),
        // Nothing of it has to arrive.
        posted("content-length: 1000000000000", ""),
        posted("transfer-encoding: chunked", &chunk),
    ] {
        let answer = serving.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_stays_silent_loses_its_connection() {
    let limits = Limits {
        head_time: SHORT,
        body_time: SHORT,
        ..limits()
    };
    let serving = Serving::start(limits, router());
    assert_eq!(serving.ask("").await, "");
    let unfinished = serving.ask("GET / HTTP/1.1\r\nhost").await;
    assert!(!unfinished.starts_with("HTTP/1.1 2"), "{unfinished}");
    let between = serving.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(between.ends_with("hello"), "{between}");
    let body = serving.ask(&posted("content-length: 100", "b")).await;
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_makes_room_for_others() {
    let limits = Limits {
        answer_time: SHORT,
        ..limits()
    };
    let serving = Serving::start(limits, router());
    let mut deaf = serving.connect().await;
    let large = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    deaf.write_all(large).await.unwrap();
    let answer = serving
        .ask("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.ends_with("hello"), "{answer}");
    let cut = to_the_end(&mut deaf).await;
    assert!(cut.len() < 8 << 20, "{}", cut.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_past_the_limit_wait_and_are_served() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let busy = || async {
        let now = NOW.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(SHORT).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
        "done"
    };
    let limits = Limits {
        connections: 3,
        ..limits()
    };
    let serving = Arc::new(Serving::start(limits, Router::new().route("/", get(busy))));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let serving = Arc::clone(&serving);
            let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            tokio::spawn(async move { serving.ask(request).await })
        })
        .collect();
    for client in clients {
        assert!(client.await.unwrap().ends_with("done"));
    }
    assert!(MOST.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn a_service_ends_when_it_is_asked_to_with_every_connection_taken_and_finishes_its_answers() {
    let begun = Arc::new(Notify::new());
    let release = Arc::new(Notify::new());
    let (here, there) = (Arc::clone(&begun), Arc::clone(&release));
    let slow = move || async move {
        here.notify_one();
        there.notified().await;
        "finished"
    };
    let serving = Serving::start(limits(), Router::new().route("/", get(slow)));
    let mut client = serving.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    client.write_all(request).await.unwrap();
    begun.notified().await;
    serving.stop.send(()).unwrap();
    release.notify_one();
    let answer = to_the_end(&mut client).await;
    assert!(answer.ends_with("finished"), "{answer}");
    let ended = tokio::time::timeout(FOREVER, serving.task).await;
    ended.expect("the service does not end").unwrap();
}
