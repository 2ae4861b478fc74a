//! Counters and histograms: `static` items that any crate declares, exported once [`crate::init`] has set up OTLP.
//!
//! ```
//! use worldcompute_telemetry::metrics::{Counter, Histogram};
//!
//! static TASKS: Counter = Counter::new("worldcompute.tasks", "{task}", "Tasks run to an end");
//! static DISPATCH: Histogram = Histogram::new("worldcompute.dispatch.duration", "s", "From dispatch to reply");
//!
//! TASKS.add(1, &[("status", "succeeded")]);
//! DISPATCH.record(0.012, &[("path", "relayed")]);
//! ```

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::Redactor;

/// Name and value pairs that tell series apart. Keep the number of different values small.
pub type Attributes<'a> = &'a [(&'static str, &'a str)];

static SINK: OnceLock<Sink> = OnceLock::new();

#[derive(Debug)]
struct Sink {
    meter: Meter,
    redactor: Redactor,
}

/// From now on, what is counted goes to this meter. The first caller wins, as for the subscriber.
pub(crate) fn install(meter: Meter, redactor: Redactor) {
    let _first_wins = SINK.set(Sink { meter, redactor });
}

/// What was described, and the instrument once there is somebody to export it.
#[derive(Debug)]
struct Instrument<I> {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    inner: OnceLock<I>,
}

impl<I> Instrument<I> {
    const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self {
            name,
            unit,
            description,
            inner: OnceLock::new(),
        }
    }

    /// Runs `record` with the instrument and redacted attributes; does nothing where nothing is exported.
    fn with(
        &self,
        make: impl FnOnce(&Self, &Meter) -> I,
        attributes: Attributes<'_>,
        record: impl FnOnce(&I, &[KeyValue]),
    ) {
        let Some(sink) = SINK.get() else { return };
        let instrument = self.inner.get_or_init(|| make(self, &sink.meter));
        let redacted = |(key, value): &(&'static str, &str)| {
            KeyValue::new(*key, sink.redactor.redact_field(key, value).into_owned())
        };
        record(
            instrument,
            &attributes.iter().map(redacted).collect::<Vec<_>>(),
        );
    }
}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Instrument<opentelemetry::metrics::Counter<u64>>);

impl Counter {
    /// The unit is UCUM: `s`, `By`, or what is counted in braces, such as `{task}`.
    pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self(Instrument::new(name, unit, description))
    }

    /// Counts `amount` more. Nothing is kept from before [`crate::init`].
    pub fn add(&self, amount: u64, attributes: Attributes<'_>) {
        let make = |of: &Instrument<_>, meter: &Meter| {
            meter
                .u64_counter(of.name)
                .with_unit(of.unit)
                .with_description(of.description)
                .build()
        };
        self.0.with(make, attributes, |counter, attributes| {
            counter.add(amount, attributes)
        });
    }
}

/// How values are spread.
#[derive(Debug)]
pub struct Histogram(Instrument<opentelemetry::metrics::Histogram<f64>>);

/// Upper bounds of the buckets for durations in seconds, from a decision in process to a long job.
const BOUNDS: [f64; 16] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0,
    600.0,
];

impl Histogram {
    /// Meant for durations: the unit is `s`, and the buckets reach from 100 µs to 10 min.
    pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self(Instrument::new(name, unit, description))
    }

    /// Adds one value. Nothing is kept from before [`crate::init`].
    pub fn record(&self, value: f64, attributes: Attributes<'_>) {
        let make = |of: &Instrument<_>, meter: &Meter| {
            let builder = meter
                .f64_histogram(of.name)
                .with_unit(of.unit)
                .with_description(of.description);
            builder.with_boundaries(BOUNDS.to_vec()).build()
        };
        self.0.with(make, attributes, |histogram, attributes| {
            histogram.record(value, attributes)
        });
    }
}
