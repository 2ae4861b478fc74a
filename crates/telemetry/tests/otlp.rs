//! What a collector receives: spans, log records and metrics of the whole process, with nothing in them to redact.
//! And what a collector that is not there costs: its data and a warning, never the program.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use support::{Collector, attribute};
use worldcompute_telemetry::metrics::{Counter, Histogram};
use worldcompute_telemetry::{
    Config, CorrelationId, Names, Redactor, build, init, spawn, with_correlation,
};

static TASKS: Counter = Counter::new("worldcompute.tasks", "{task}", "Tasks run to an end");
static DISPATCH: Histogram = Histogram::new(
    "worldcompute.dispatch.duration",
    "s",
    "From dispatch to reply",
);

const SENSITIVE: [&str; 9] = [
    "donor-box",
    "alice",
    "/home/bob",
    "00:1a:2b:3c:4d:5e",
    "192.168.1.5",
    "10.9.8.7",
    "fe80::17",
    "fd12:3456::9",
    "hunter2",
];

fn with_names(collector: &Collector) -> Config {
    let names = Names {
        hosts: vec!["donor-box".into()],
        users: vec!["alice".into()],
        homes: vec![],
    };
    Config {
        stderr: false,
        otlp_endpoint: Some(collector.endpoint() + "/"),
        instance: Some("instance-7".into()),
        redact: Redactor::new(&names),
        filter: "info".into(),
        ..Config::default()
    }
}

/// Everything sensitive, in a span's attributes, in an event of the span, in an error and in its message.
#[tracing::instrument(skip_all, fields(from = "donor-box", nic = %"00:1a:2b:3c:4d:5e", password = "hunter2", later))]
async fn dispatch() {
    tracing::Span::current().record(
        "later",
        tracing::field::debug(["192.168.1.5", "/home/bob/x"]),
    );
    let error = std::io::Error::other("no route to fd12:3456::9 for alice");
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "cannot reach {}", "fe80::17");
    TASKS.add(2, &[("status", "succeeded"), ("donor", "10.9.8.7")]);
    DISPATCH.record(0.02, &[("path", "relayed")]);
    spawn(inner()).await.unwrap();
}

#[tracing::instrument]
async fn inner() {
    tracing::info!("deep inside");
}

/// One test, because a process installs one subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_signal_with_the_correlation_id_and_not_one_unredacted_token() {
    let collector = Collector::start();
    TASKS.add(1000, &[]); // before init: nobody is counting
    let guard = init(with_names(&collector)).unwrap();
    let id = CorrelationId::random();
    with_correlation(id, dispatch()).await;
    log_crate_speaks();
    assert_eq!(
        init(with_names(&collector)).unwrap_err().code(),
        "telemetry_already_installed"
    );
    tokio::task::spawn_blocking(|| guard.shutdown())
        .await
        .unwrap();

    let received = collector.received();
    for token in SENSITIVE {
        assert_eq!(received.occurrences(token), 0, "{token} was sent");
    }

    let id = id.to_string();
    for name in ["request", "dispatch", "inner"] {
        let ids = received
            .span(name)
            .attributes
            .iter()
            .filter(|pair| pair.key == "correlation_id");
        assert_eq!(ids.count(), 1, "{name}");
        assert_eq!(
            attribute(&received.span(name).attributes, "correlation_id").as_ref(),
            Some(&id),
            "{name}"
        );
    }
    let (request, dispatch, inner) = (
        received.span("request"),
        received.span("dispatch"),
        received.span("inner"),
    );
    assert_eq!(dispatch.parent_span_id, request.span_id);
    assert_eq!(
        (&inner.parent_span_id, &inner.trace_id),
        (&dispatch.span_id, &request.trace_id)
    );
    assert_eq!(attribute(&dispatch.attributes, "from").unwrap(), "[host]");
    assert_eq!(attribute(&dispatch.attributes, "nic").unwrap(), "[mac]");
    assert_eq!(
        attribute(&dispatch.attributes, "password").unwrap(),
        "[redacted]"
    );
    assert_eq!(
        attribute(&dispatch.attributes, "later").unwrap(),
        r#"["[private-ip]", "~/x"]"#
    );
    assert_eq!(dispatch.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(dispatch.events[0].name, "cannot reach [private-ip]");

    let logs = received.log_records();
    let (_, attributes) = logs
        .iter()
        .find(|(message, _)| message == "cannot reach [private-ip]")
        .unwrap();
    assert_eq!(
        attribute(attributes, "error").unwrap(),
        "no route to [private-ip] for [user]"
    );
    assert_eq!(attribute(attributes, "correlation_id").as_ref(), Some(&id));
    assert!(
        logs.iter()
            .any(|(message, _)| message == "through the log crate as [user]"),
        "{logs:?}"
    );

    let resource = &received.traces[0].resource_spans[0]
        .resource
        .as_ref()
        .unwrap()
        .attributes;
    assert_eq!(attribute(resource, "service.name").unwrap(), "worldcompute");
    assert_eq!(
        attribute(resource, "service.instance.id").unwrap(),
        "instance-7"
    );

    let Some(Data::Sum(sum)) = &received.metric("worldcompute.tasks").data else {
        panic!("not a sum")
    };
    assert_eq!(sum.data_points[0].value, Some(Value::AsInt(2)));
    assert_eq!(
        attribute(&sum.data_points[0].attributes, "donor").unwrap(),
        "[private-ip]"
    );
    let Some(Data::Histogram(histogram)) = &received.metric("worldcompute.dispatch.duration").data
    else {
        panic!("not a histogram")
    };
    assert_eq!(
        (histogram.data_points[0].count, histogram.data_points[0].sum),
        (1, Some(0.02))
    );
}

/// Libraries that speak through the `log` crate are heard, and redacted, as well.
fn log_crate_speaks() {
    let record = tracing_log::log::Record::builder()
        .level(tracing_log::log::Level::Info)
        .target("library")
        .args(format_args!("through the log crate as alice"))
        .build();
    tracing_log::log::logger().log(&record);
}

fn quiet(endpoint: String, log: &Path) -> Config {
    Config {
        stderr: false,
        log_file: Some(log.to_owned()),
        otlp_endpoint: Some(endpoint),
        filter: "info".into(),
        ..Config::default()
    }
}

/// More than the queues hold. Inside a runtime, where a careless drop of the exporter's own would panic.
#[tokio::test]
async fn an_unreachable_collector_neither_blocks_nor_fails_the_program() {
    let free = nobody_listens();
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("test.log");
    let (dispatch, guard) = build(quiet(format!("http://{free}"), &log)).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        for n in 0..5000 {
            tracing::info_span!("busy", n).in_scope(|| tracing::info!(n, "working"));
        }
    });
    guard.shutdown();
    assert_eq!(
        std::fs::read_to_string(&log).unwrap().lines().count(),
        5000,
        "the log file has every record"
    );
}

/// It accepts and never answers, which is worse: only time-outs help.
#[tokio::test]
async fn a_silent_collector_does_not_keep_the_program_from_ending() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (dispatch, guard) = build(quiet(endpoint, &directory.path().join("test.log"))).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("busy").in_scope(|| tracing::info!("working"))
    });
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        guard.shutdown();
        done.send(())
    });
    wait.recv_timeout(std::time::Duration::from_secs(30))
        .expect("shutdown hangs on a collector that never answers");
}

/// The variable is read by a process of its own, because a test must not change its environment.
#[test]
fn the_collector_that_the_environment_names_is_used() {
    let (collector, directory) = (Collector::start(), tempfile::TempDir::new().unwrap());
    export_in_a_child(&collector.endpoint(), &directory.path().join("test.log"));
    assert_eq!(collector.received().span("in a child").name, "in a child");
}

#[test]
fn a_collector_that_takes_nothing_is_named_once_in_the_log() {
    let (free, directory) = (nobody_listens(), tempfile::TempDir::new().unwrap());
    let log = directory.path().join("test.log");
    export_in_a_child(&format!("http://{free}"), &log);
    let text = std::fs::read_to_string(log).unwrap();
    let warnings: Vec<_> = text
        .lines()
        .filter(|line| line.contains("takes no telemetry"))
        .collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(
        warnings[0].contains("onnect"),
        "it says why: {}",
        warnings[0]
    );
}

fn export_in_a_child(endpoint: &str, log: &Path) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_exports", "--ignored"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("CHILD_LOG", log)
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
#[ignore = "the child process of the two tests above"]
fn child_that_exports() {
    let log_file = std::env::var_os("CHILD_LOG").map(Into::into);
    let guard = init(Config {
        stderr: false,
        log_file,
        filter: "info".into(),
        ..Config::default()
    })
    .unwrap();
    tracing::info_span!("in a child").in_scope(|| tracing::info!("working"));
    guard.shutdown();
}

/// An address that was free a moment ago.
fn nobody_listens() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
