//! The subscriber: one layer that writes records, and one that makes spans for OTLP.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use opentelemetry_sdk::logs::SdkLogger;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Dispatch, Event, Subscriber};
use tracing_log::{AsLog, LogTracer, NormalizeEvent};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};
use worldcompute_fault::{Category, Fault, Result};

use crate::log_file::LogFile;
use crate::otlp::{self, Otlp};
use crate::record::{Collector, Record, SpanRecord};
use crate::{Config, Format, Redactor, correlation, metrics};

/// Keeps the export alive. Dropping it sends what is left to the collector, for two seconds at most.
#[must_use = "telemetry is exported while the guard lives"]
#[derive(Debug)]
pub struct Guard {
    otlp: Option<Otlp>,
    lost: Arc<AtomicU64>,
}

impl Guard {
    /// Sends what is left to the collector, for two seconds at most, and stops the export. Logging goes on.
    pub fn shutdown(self) {
        drop(self);
    }

    /// How many records could not be written to standard error or the log file.
    pub fn lost_records(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(otlp) = self.otlp.take() {
            otlp.shutdown();
        }
    }
}

/// Installs the subscriber of this process, collects the metrics of every crate, and turns panics into records.
///
/// # Errors
/// `log_filter_invalid`, `otlp_endpoint_invalid`, a failure to open the log file, and `telemetry_already_installed`
/// when this was done before.
pub fn init(config: Config) -> Result<Guard> {
    let (redact, to_stderr) = (config.redact.clone(), config.stderr);
    let (dispatch, guard) = build(config)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| already_installed())?;
    let level = LevelFilter::current().as_log();
    LogTracer::builder()
        .with_max_level(level)
        .init()
        .map_err(|_| already_installed())?;
    if let Some(otlp) = &guard.otlp {
        metrics::install(otlp.meter(), redact.clone());
        otlp.count_for_libraries();
    }
    report_panics(redact, to_stderr);
    Ok(guard)
}

/// A panic is a record like any other, instead of raw text on standard error. Where no record would get there, its
/// redacted text does.
fn report_panics(redact: Redactor, to_stderr: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(target: "panic", "{panic}");
        if !to_stderr || !tracing::enabled!(target: "panic", tracing::Level::ERROR) {
            // `eprintln!` would panic in turn where nobody is left to read.
            drop(writeln!(
                std::io::stderr(),
                "{}",
                redact.redact(&panic.to_string())
            ));
        }
    }));
}

/// The same subscriber without installing it: for tests, and for several instances in one process. Metrics and
/// records of the `log` crate go to the one that [`init`] installs.
///
/// # Errors
/// As for [`init`].
pub fn build(config: Config) -> Result<(Dispatch, Guard)> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| {
        Fault::new(
            Category::InvalidInput,
            "log_filter_invalid",
            format!("the log filter {:?} cannot be read", config.filter),
        )
        .caused_by(error)
        .hint("give directives such as info,libp2p=warn")
    })?;
    let otlp = Otlp::start(&config)?;
    let lost = Arc::new(AtomicU64::new(0));
    let spans = otlp
        .as_ref()
        .map(|otlp| tracing_opentelemetry::layer().with_tracer(otlp.tracer()));
    let records = Records::new(config, otlp.as_ref().map(Otlp::logger), Arc::clone(&lost))?;
    let subscriber = Registry::default().with(filter).with(spans).with(records);
    Ok((Dispatch::new(subscriber), Guard { otlp, lost }))
}

fn already_installed() -> Fault {
    Fault::new(
        Category::StateContention,
        "telemetry_already_installed",
        "this process already has a subscriber",
    )
    .hint("call init once, at the start of main")
}

/// Writes each event as a record to every sink.
struct Records {
    service: String,
    instance: Option<String>,
    redact: Redactor,
    stderr: Option<Stderr>,
    file: Option<Mutex<LogFile>>,
    logger: Option<SdkLogger>,
    lost: Arc<AtomicU64>,
}

struct Stderr {
    format: Format,
    colour: bool,
}

impl Records {
    fn new(config: Config, logger: Option<SdkLogger>, lost: Arc<AtomicU64>) -> Result<Self> {
        let limit = config.log_file_bytes;
        let file = config
            .log_file
            .as_deref()
            .map(|path| LogFile::open(path, limit))
            .transpose()?;
        let colour = std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            service: config.redact.redact(&config.service).into_owned(),
            instance: config
                .instance
                .map(|instance| config.redact.redact(&instance).into_owned()),
            redact: config.redact,
            stderr: config.stderr.then_some(Stderr {
                format: config.format,
                colour,
            }),
            file: file.map(Mutex::new),
            logger,
            lost,
        })
    }

    fn write(&self, record: &Record<'_>) {
        let json = || record.json_line().map_err(std::io::Error::from);
        let to_stderr = self.stderr.as_ref().map(|stderr| {
            let line = match stderr.format {
                Format::Human => record.human_line(stderr.colour).into_bytes(),
                Format::Json => json()?,
            };
            std::io::stderr().lock().write_all(&line)
        });
        let to_file = self.file.as_ref().map(|file| {
            file.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&json()?)
        });
        let failed = [to_stderr, to_file]
            .into_iter()
            .flatten()
            .filter(std::io::Result::is_err)
            .count();
        self.lost.fetch_add(failed as u64, Ordering::Relaxed);
        if let Some(logger) = &self.logger {
            otlp::emit(logger, record);
        }
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Records {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collected = Collector::new(&self.redact);
        attributes.record(&mut collected);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanRecord {
                name: span.name(),
                fields: collected.fields,
            });
        }
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let mut collected = Collector::new(&self.redact);
        values.record(&mut collected);
        if let Some(span) = context.span(id)
            && let Some(record) = span.extensions_mut().get_mut::<SpanRecord>()
        {
            record.fields.extend(collected.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let normalised = event.normalized_metadata();
        let metadata = normalised.as_ref().unwrap_or_else(|| event.metadata());
        let mut collected = Collector::new(&self.redact);
        event.record(&mut collected);
        let scope = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root());
        self.write(&Record {
            time: Timestamp::now(),
            level: *metadata.level(),
            target: metadata.target(),
            message: collected.message,
            correlation_id: correlation::current(),
            service: &self.service,
            instance: self.instance.as_deref(),
            fields: collected.fields,
            spans: scope
                .filter_map(|span| span.extensions().get::<SpanRecord>().cloned())
                .collect(),
        });
    }
}
