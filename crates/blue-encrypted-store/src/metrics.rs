//! What a store counts, through OpenTelemetry: names and labels are the same wherever the table and the keys are.

use std::fmt;
use std::time::Instant;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use worldcompute_fault::{Category, Result};

/// What the instruments belong to.
pub(crate) const SCOPE: &str = "blue-encrypted-store";
/// Upper bounds of the buckets in seconds, from a commit in memory to an import.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// The instruments of one store.
#[derive(Clone)]
pub(crate) struct Metrics {
    operations: Counter<u64>,
    duration: Histogram<f64>,
    failed_checks: Counter<u64>,
    kms_calls: Counter<u64>,
    retries: Counter<u64>,
    audit_waiting: Gauge<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counter = |name, unit, description| {
            let counter = meter.u64_counter(name).with_unit(unit);
            counter.with_description(description).build()
        };
        Self {
            operations: counter("blue.store.operations", "{operation}", "Operations"),
            duration: meter
                .f64_histogram("blue.store.duration")
                .with_unit("s")
                .with_description("How long operations took")
                .with_boundaries(BOUNDS.to_vec())
                .build(),
            failed_checks: counter(
                "blue.store.check.failed",
                "{check}",
                "Checks that something read from the table did not pass",
            ),
            kms_calls: counter(
                "blue.store.kms.calls",
                "{call}",
                "Calls of the key provider",
            ),
            retries: counter("blue.store.retries", "{request}", "Requests sent again"),
            audit_waiting: meter
                .u64_gauge("blue.store.audit.waiting")
                .with_unit("{event}")
                .with_description("Events of the audit that are not written yet")
                .build(),
        }
    }

    /// Does `work` and counts it under that name, with how it ended.
    pub(crate) async fn of<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        // In a box, so that futures of those who call stay of a depth that the compiler takes.
        let done = Box::pin(work).await;
        let labels = [
            KeyValue::new("operation", operation),
            outcome(done.as_ref().err().map(worldcompute_fault::Fault::category)),
        ];
        self.operations.add(1, &labels);
        self.duration.record(begun.elapsed().as_secs_f64(), &labels);
        if let Err(fault) = &done
            && fault.category() == Category::VerificationFailed
        {
            let code = fault.code().to_owned();
            self.failed_checks.add(1, &[KeyValue::new("code", code)]);
        }
        done
    }

    /// Counts a call of the key provider.
    pub(crate) fn called(&self, call: &'static str, refused: Option<Category>) {
        let labels = [KeyValue::new("operation", call), outcome(refused)];
        self.kms_calls.add(1, &labels);
    }

    /// How many events wait in a lane now.
    pub(crate) fn waiting(&self, lane: usize, events: usize) {
        let lane = i64::try_from(lane).unwrap_or(i64::MAX);
        self.audit_waiting
            .record(events as u64, &[KeyValue::new("lane", lane)]);
    }
}

/// `success`, or the category of the fault.
fn outcome(failed: Option<Category>) -> KeyValue {
    KeyValue::new("outcome", failed.map_or("success", Category::as_str))
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Counts the requests of a client that are sent again.
#[dyn_dispatch_hint]
impl Intercept for Metrics {
    fn name(&self) -> &'static str {
        "Metrics"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let attempt = config.load::<RequestAttempts>();
        if attempt.is_some_and(|attempt| attempt.attempts() > 1) {
            self.retries.add(1, &[]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
    use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
    use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

    use super::*;
    use crate::lab::{Lab, MemoryKey, partition, put};
    use crate::{StoreConfig, StorePath};

    /// What was exported: by name and labels, the sum or the number of values.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<BTreeMap<String, u64>>>);

    impl Memory {
        fn keep(&self, name: &str, labels: Vec<String>, value: u64) {
            let name = format!("{name}{{{}}}", labels.join(","));
            self.0.lock().unwrap().insert(name, value);
        }
    }

    fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Vec<String> {
        let mut labels: Vec<_> = attributes
            .map(|one| format!("{}={}", one.key, one.value))
            .collect();
        labels.sort();
        labels
    }

    impl PushMetricExporter for Memory {
        async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
            let metrics = metrics.scope_metrics().flat_map(|scope| scope.metrics());
            for metric in metrics {
                let name = metric.name();
                match metric.data() {
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                        sum.data_points().for_each(|point| {
                            self.keep(name, labels(point.attributes()), point.value())
                        })
                    }
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                        gauge.data_points().for_each(|point| {
                            self.keep(name, labels(point.attributes()), point.value())
                        })
                    }
                    AggregatedMetrics::F64(MetricData::Histogram(spread)) => {
                        spread.data_points().for_each(|point| {
                            self.keep(name, labels(point.attributes()), point.count())
                        })
                    }
                    _ => panic!("{name} is of another kind"),
                }
            }
            Ok(())
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
            Ok(())
        }

        fn temporality(&self) -> Temporality {
            Temporality::Cumulative
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn operations_calls_failed_checks_and_what_waits_are_counted() {
        let memory = Memory::default();
        let reader = PeriodicReader::builder(memory.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let lab = Lab::new();
        let config = StoreConfig::new(StorePath::Memory).meter(provider.meter(SCOPE));
        let keys = Arc::new(MemoryKey([1; 32]));
        let store = lab.try_store_with(config, keys).await.unwrap();
        let handle = partition(&store, "j1");
        let at = put(&handle, &[("t1", "x")]).await;
        let stale = crate::commits::puts(0..1, "y");
        handle
            .commit(stale, crate::PartitionVersion::NONE)
            .await
            .unwrap_err();
        assert_eq!(at.get(), 1);
        lab.delete(&lab.rows("job#j1")[&lab.keys("job#j1", "task")[0]]);
        handle.load().await.unwrap_err();
        provider.force_flush().unwrap();
        let counted = memory.0.lock().unwrap().clone();
        let count = |name: &str| counted.get(name).copied().unwrap_or_default();
        for (name, expected) in [
            ("blue.store.operations{operation=load,outcome=success}", 1),
            (
                "blue.store.operations{operation=load,outcome=verification_failed}",
                1,
            ),
            ("blue.store.operations{operation=commit,outcome=success}", 1),
            (
                "blue.store.operations{operation=commit,outcome=state_contention}",
                1,
            ),
            ("blue.store.duration{operation=commit,outcome=success}", 1),
            ("blue.store.check.failed{code=manifest_mismatch}", 1),
            (
                "blue.store.kms.calls{operation=generate_dek,outcome=success}",
                1,
            ),
        ] {
            assert_eq!(count(name), expected, "{name} of {counted:#?}");
        }
        let waiting = counted
            .keys()
            .filter(|name| name.starts_with("blue.store.audit.waiting"));
        assert!(waiting.count() > 0, "{counted:#?}");
    }
}
