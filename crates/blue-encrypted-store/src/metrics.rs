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
use worldcompute_fault::{Category, Fault, Result};

use crate::check::Check;

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

    /// Does `work` on the table and counts it under that name, with how it ended and the check that failed.
    pub(crate) fn of<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let timed = self.timed(operation, work);
        async move { timed.await.inspect_err(|fault| self.failed(fault)) }
    }

    /// The same for work whose checks are not all of the table.
    pub(crate) fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        // In a box, so that futures of those who call stay of a depth that the compiler takes.
        let work = Box::pin(work);
        async move {
            let begun = Instant::now();
            let done = work.await;
            self.ended(operation, begun, done.as_ref().err());
            done
        }
    }

    fn ended(&self, operation: &'static str, begun: Instant, fault: Option<&Fault>) {
        let labels = [
            KeyValue::new("operation", operation),
            outcome(fault.map(Fault::category)),
        ];
        self.operations.add(1, &labels);
        self.duration.record(begun.elapsed().as_secs_f64(), &labels);
    }

    /// Counts a check that failed, if that is what went wrong. A broken chain is counted where it is read: it fails
    /// everything that comes after it as well.
    pub(crate) fn failed(&self, fault: &Fault) {
        if fault.category() == Category::VerificationFailed
            && fault.code() != Check::AuditChain.code()
        {
            self.failed_check(fault.code());
        }
    }

    /// Counts that something did not pass the check with this code.
    pub(crate) fn failed_check(&self, code: &str) {
        let code = KeyValue::new("code", code.to_owned());
        self.failed_checks.add(1, &[code]);
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
pub(crate) mod tests {
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

    /// What stores count that are opened with its configuration.
    pub(crate) struct Tally {
        memory: Memory,
        provider: SdkMeterProvider,
    }

    impl Tally {
        pub(crate) fn new() -> Self {
            let memory = Memory::default();
            let reader = PeriodicReader::builder(memory.clone()).build();
            let provider = SdkMeterProvider::builder().with_reader(reader).build();
            Self { memory, provider }
        }

        pub(crate) fn config(&self) -> StoreConfig {
            StoreConfig::new(StorePath::Memory).meter(self.provider.meter(SCOPE))
        }

        fn all(&self) -> BTreeMap<String, u64> {
            self.provider.force_flush().unwrap();
            self.memory.0.lock().unwrap().clone()
        }

        /// What was counted under this name and these labels.
        pub(crate) fn of(&self, name: &str) -> u64 {
            self.all().get(name).copied().unwrap_or_default()
        }

        /// How many checks failed, by code.
        fn failed(&self) -> Vec<(String, u64)> {
            let name = |name: String| {
                let code = name.strip_prefix("blue.store.check.failed{code=")?;
                code.strip_suffix('}').map(ToOwned::to_owned)
            };
            let all = self.all().into_iter();
            all.filter_map(|(of, count)| Some((name(of)?, count)))
                .collect()
        }
    }

    async fn store(lab: &Lab, tally: &Tally, key: u8) -> Result<crate::Store> {
        let keys = Arc::new(MemoryKey([key; 32]));
        lab.try_store_with(tally.config(), keys).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn operations_calls_failed_checks_and_what_waits_are_counted() {
        let (lab, tally) = (Lab::new(), Tally::new());
        let store = store(&lab, &tally, 1).await.unwrap();
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
        let counted = tally.all();
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

    #[tokio::test(flavor = "multi_thread")]
    async fn what_opening_asks_of_the_provider_of_keys_is_counted() {
        let (lab, tally) = (Lab::new(), Tally::new());
        let derived = || tally.of("blue.store.kms.calls{operation=derive_kek,outcome=success}");
        drop(store(&lab, &tally, 1).await.unwrap());
        let made = derived();
        assert!(made > 3, "{made}");
        drop(store(&lab, &tally, 1).await.unwrap());
        assert_eq!(
            derived() - made,
            2,
            "the current epoch's, and the store's own"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_walk_finds_is_counted() {
        let (lab, tally) = (Lab::new(), Tally::new());
        let store = store(&lab, &tally, 1).await.unwrap();
        put(&partition(&store, "j1"), &[("t1", "x"), ("t2", "x")]).await;
        store.verify(&[], &mut |_| {}).await.unwrap();
        assert_eq!(tally.failed(), []);
        for sk in lab.keys("job#j1", "task") {
            lab.delete(&lab.rows("job#j1")[&sk]);
        }
        store.verify(&[], &mut |_| {}).await.unwrap();
        assert_eq!(tally.failed(), [("manifest_mismatch".to_owned(), 2)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broken_chain_is_counted_by_who_reads_it() {
        let (lab, tally) = (Lab::new(), Tally::new());
        let first = store(&lab, &tally, 1).await.unwrap();
        first.clone().close().await.unwrap();
        for sk in lab.keys("audit#00", "event#") {
            lab.delete(&lab.rows("audit#00")[&sk]);
        }
        assert!(!first.verify_chain().await.unwrap().is_whole());
        let broken = |times| vec![("audit_chain_broken".to_owned(), times)];
        assert_eq!(tally.failed(), broken(1));
        store(&lab, &tally, 1).await.unwrap_err();
        assert_eq!(tally.failed(), broken(2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_does_not_open_with_its_key_is_counted() {
        let (lab, tally) = (Lab::new(), Tally::new());
        drop(store(&lab, &tally, 1).await.unwrap());
        let fault = store(&lab, &tally, 2).await.unwrap_err();
        assert_eq!(tally.failed(), [(fault.code().to_owned(), 1)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrong_key_for_a_bundle_is_no_check_that_the_table_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (lab, path, tally) = (Lab::new(), dir.path().join("bundle"), Tally::new());
        let handle = partition(&lab.store().await, "j1");
        put(&handle, &[("t1", "x")]).await;
        handle.export(&path).await.unwrap();
        let store = store(&Lab::new(), &tally, 2).await.unwrap();
        let refused = store.import(&path, Some(Arc::new(MemoryKey([3; 32]))));
        assert_eq!(refused.await.unwrap_err().code(), "bundle_of_another_key");
        let name = "blue.store.operations{operation=import,outcome=verification_failed}";
        assert_eq!(tally.of(name), 1);
        assert_eq!(tally.failed(), []);
    }
}
