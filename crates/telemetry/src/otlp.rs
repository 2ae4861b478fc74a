//! Export over OTLP/HTTP (protobuf): spans, log records and metrics. Off unless a collector is named; a collector
//! that cannot be reached costs a warning and the data, never the program's time.

mod client;
mod redacting;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use serde_json::Value;
use tracing::Level;
use worldcompute_fault::{Category, Fault, Result};

use crate::record::Record;
use crate::{Config, Redactor};
use client::{Background, Client};
use redacting::{CorrelationProcessor, RedactingExporter};

/// The variable of the OpenTelemetry specification.
pub(crate) const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// How often metrics are sent; spans and log records go every second.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);

/// How long one request to the collector may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a program that ends waits for the last data to be taken.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Spans, log records, metrics.
const SIGNALS: usize = 3;

const SCOPE: &str = "worldcompute";

/// The export of one process.
#[derive(Debug)]
pub(crate) struct Otlp {
    background: Background,
    spans: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

impl Otlp {
    /// Starts the export, where the configuration or the environment names a collector.
    pub(crate) fn start(config: &Config) -> Result<Option<Self>> {
        let from_environment = || std::env::var(ENDPOINT_VARIABLE).ok();
        match config
            .otlp_endpoint
            .clone()
            .or_else(from_environment)
            .filter(|endpoint| !endpoint.is_empty())
        {
            Some(endpoint) => Self::to(&endpoint, config).map(Some),
            None => Ok(None),
        }
    }

    fn to(endpoint: &str, config: &Config) -> Result<Self> {
        let base = checked(endpoint)?;
        let background = Background::start()?;
        let client = Client::new(base, REQUEST_TIMEOUT, &background)?;
        let resource = resource(config);
        Ok(Self {
            spans: span_provider(base, &client, &resource, &config.redact)?,
            logs: log_provider(base, &client, &resource)?,
            metrics: metric_provider(base, &client, &resource)?,
            background,
        })
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.spans.tracer(SCOPE)
    }

    pub(crate) fn logger(&self) -> SdkLogger {
        self.logs.logger(SCOPE)
    }

    pub(crate) fn meter(&self) -> Meter {
        self.metrics.meter(SCOPE)
    }

    /// Exports what libraries count through the global meter, too: they count under labels of their own, and none is of
    /// this machine.
    pub(crate) fn count_for_libraries(&self) {
        opentelemetry::global::set_meter_provider(self.metrics.clone());
    }

    /// Sends what is left, for two seconds at most, and stops. The three signals go side by side, each on a thread
    /// that is left behind when the time is over: not all of the library's own time-outs can be set.
    pub(crate) fn shutdown(self) {
        let Self {
            background,
            spans,
            logs,
            metrics,
        } = self;
        let (done, wait) = mpsc::channel();
        let ends: [Box<dyn FnOnce() -> OTelSdkResult + Send>; SIGNALS] = [
            Box::new(move || spans.shutdown()),
            Box::new(move || logs.shutdown()),
            Box::new(move || metrics.shutdown()),
        ];
        for end in ends {
            let done = done.clone();
            thread::spawn(move || done.send(end()));
        }
        drop(done);
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let taken = std::iter::from_fn(|| wait.recv_timeout(left()).ok())
            .filter(OTelSdkResult::is_ok)
            .count();
        if taken < SIGNALS {
            tracing::warn!("the OTLP collector did not take the last telemetry");
        }
        drop(background);
    }
}

/// Sends one record that is already redacted.
pub(crate) fn emit(logger: &SdkLogger, record: &Record<'_>) {
    let mut out = logger.create_log_record();
    out.set_timestamp(record.time.into());
    out.set_severity_number(severity(record.level));
    out.set_severity_text(record.level.as_str());
    out.set_target(record.target.to_owned());
    out.set_body(record.message.clone().into());
    let fields = record
        .spans
        .iter()
        .flat_map(|span| &span.fields)
        .chain(&record.fields);
    out.add_attributes(fields.map(|(name, value)| (name.clone(), any_value(value))));
    if let Some(id) = record.correlation_id {
        out.add_attribute("correlation_id", id.to_string());
    }
    logger.emit(out);
}

fn any_value(value: &Value) -> AnyValue {
    match value {
        Value::String(text) => text.clone().into(),
        Value::Bool(flag) => AnyValue::Boolean(*flag),
        Value::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default().into(),
        other => other
            .as_f64()
            .map_or_else(|| other.to_string().into(), AnyValue::from),
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

fn span_provider(
    base: &str,
    client: &Client,
    resource: &Resource,
    redact: &Redactor,
) -> Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{base}/v1/traces"))
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(refused)?;
    let schedule = opentelemetry_sdk::trace::BatchConfigBuilder::default()
        .with_scheduled_delay(Duration::from_secs(1));
    let exporter = RedactingExporter::new(exporter, redact.clone());
    let batches = BatchSpanProcessor::builder(exporter)
        .with_batch_config(schedule.build())
        .build();
    let provider = SdkTracerProvider::builder().with_resource(resource.clone());
    Ok(provider
        .with_span_processor(CorrelationProcessor)
        .with_span_processor(batches)
        .build())
}

fn log_provider(base: &str, client: &Client, resource: &Resource) -> Result<SdkLoggerProvider> {
    let exporter = LogExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{base}/v1/logs"))
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(refused)?;
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(exporter)
        .build())
}

fn metric_provider(base: &str, client: &Client, resource: &Resource) -> Result<SdkMeterProvider> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{base}/v1/metrics"))
        .with_timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(refused)?;
    let reader = PeriodicReader::builder(exporter)
        .with_interval(METRICS_INTERVAL)
        .build();
    Ok(SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_reader(reader)
        .build())
}

/// Who sends. Nothing is read from the machine: its name and addresses are nobody's business.
fn resource(config: &Config) -> Resource {
    let text = |key: &'static str, value: &str| {
        KeyValue::new(key, config.redact.redact_field(key, value).into_owned())
    };
    let instance = config
        .instance
        .as_deref()
        .map(|instance| text("service.instance.id", instance));
    let service = text("service.name", &config.service);
    Resource::builder_empty()
        .with_attributes(std::iter::once(service).chain(instance))
        .build()
}

fn checked(endpoint: &str) -> Result<&str> {
    let is_web = ["http://", "https://"]
        .iter()
        .any(|scheme| endpoint.starts_with(scheme));
    let has_host = endpoint
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    match is_web && has_host {
        true => Ok(endpoint.trim_end_matches('/')),
        false => Err(refused("not an http or https address")),
    }
}

fn refused(why: impl std::fmt::Display) -> Fault {
    Fault::new(Category::InvalidInput, "otlp_endpoint_invalid", format!("the OTLP collector cannot be used: {why}"))
        .hint(format!("give the base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318, in the configuration or in {ENDPOINT_VARIABLE}"))
}
