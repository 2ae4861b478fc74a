//! A small OTLP/HTTP collector on a port of its own, which decodes what it is sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Everything that one process sent.
#[derive(Default)]
pub struct Received {
    pub traces: Vec<ExportTraceServiceRequest>,
    pub logs: Vec<ExportLogsServiceRequest>,
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// The bodies as they came, for searching.
    pub bodies: Vec<Vec<u8>>,
}

pub struct Collector {
    pub address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// Listens on loopback, one thread per connection, until the test ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
        };
        let received = Arc::clone(&collector.received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                std::thread::spawn(move || while serve(&stream, &received).is_some() {});
            }
        });
        collector
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }
}

impl Received {
    pub fn spans(&self) -> Vec<&Span> {
        let scopes = self
            .traces
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|part| &part.scope_spans);
        scopes.flat_map(|scope| &scope.spans).collect()
    }

    pub fn span(&self, name: &str) -> &Span {
        self.spans()
            .into_iter()
            .find(|span| span.name == name)
            .unwrap()
    }

    pub fn log_records(&self) -> Vec<(String, &[KeyValue])> {
        let scopes = self
            .logs
            .iter()
            .flat_map(|request| &request.resource_logs)
            .flat_map(|part| &part.scope_logs);
        let records = scopes.flat_map(|scope| &scope.log_records);
        records
            .map(|record| (text(record.body.as_ref()), record.attributes.as_slice()))
            .collect()
    }

    pub fn metric(&self, name: &str) -> &Metric {
        let resources = self
            .metrics
            .iter()
            .flat_map(|request| &request.resource_metrics);
        let metrics = resources
            .flat_map(|part| &part.scope_metrics)
            .flat_map(|scope| &scope.metrics);
        metrics
            .into_iter()
            .find(|metric| metric.name == name)
            .unwrap()
    }

    /// How often a text stands anywhere in what was sent.
    pub fn occurrences(&self, text: &str) -> usize {
        let found = |body: &Vec<u8>| {
            body.windows(text.len())
                .filter(|window| *window == text.as_bytes())
                .count()
        };
        self.bodies.iter().map(found).sum()
    }
}

pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes
        .iter()
        .find(|pair| pair.key == key)
        .map(|pair| text(pair.value.as_ref()))
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// Answers one request; `None` when the other side is done.
fn serve(mut stream: &TcpStream, received: &Mutex<Received>) -> Option<()> {
    let head = read_head(stream)?;
    let mut body = vec![0; content_length(&head)];
    stream.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    {
        let mut received = received.lock().unwrap();
        match path.as_str() {
            "/v1/traces" => received
                .traces
                .push(Message::decode(body.as_slice()).unwrap()),
            "/v1/logs" => received
                .logs
                .push(Message::decode(body.as_slice()).unwrap()),
            "/v1/metrics" => received
                .metrics
                .push(Message::decode(body.as_slice()).unwrap()),
            other => panic!("nobody exports to {other}"),
        }
        received.bodies.push(body);
    }
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )
        .ok()
}

fn read_head(mut stream: &TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn content_length(head: &str) -> usize {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .unwrap();
    length.trim().parse().unwrap()
}
