use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Time that moves only when told to, or when somebody waits.
#[derive(Clone)]
struct FakeClock {
    start: Instant,
    passed_ms: Arc<AtomicU64>,
    waited_ms: Arc<AtomicU64>,
}

impl FakeClock {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            passed_ms: Arc::default(),
            waited_ms: Arc::default(),
        }
    }

    fn advance(&self, ms: u64) {
        self.passed_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.passed_ms.load(Ordering::Relaxed))
    }

    fn wait(&self, duration: Duration) {
        let ms = duration.as_millis() as u64;
        self.waited_ms.fetch_add(ms, Ordering::Relaxed);
        self.advance(ms);
    }
}

/// Each reading is 1 % busier than the one before; the first says nothing, as a kernel's does.
#[derive(Default)]
struct FakeProbe {
    readings: f64,
}

impl Probe for FakeProbe {
    fn read(&mut self) -> HostDetail {
        self.readings += 1.0;
        HostDetail {
            cpu: (self.readings - 1.0) / 100.0,
            mem: 0.0,
            gpu: None,
        }
    }
}

fn sampler() -> (LoadSampler, FakeClock) {
    let clock = FakeClock::new();
    (
        LoadSampler::with(Box::new(FakeProbe::default()), Box::new(clock.clone())),
        clock,
    )
}

#[test]
fn the_first_sample_waits_for_what_is_missing_of_the_spacing_and_no_longer() {
    let (sampler, clock) = sampler();
    clock.advance(150);
    assert_eq!(sampler.sample().cpu, 0.01);
    assert_eq!(clock.waited_ms.load(Ordering::Relaxed), 50);
}

#[test]
fn a_first_sample_that_comes_later_does_not_wait() {
    let (sampler, clock) = sampler();
    clock.advance(10_000);
    assert_eq!(sampler.sample().cpu, 0.01);
    assert_eq!(clock.waited_ms.load(Ordering::Relaxed), 0);
}

#[test]
fn a_sample_is_given_again_for_half_a_second_and_then_measured_anew() {
    let (sampler, clock) = sampler();
    assert_eq!(sampler.sample().cpu, 0.01);
    clock.advance(499);
    assert_eq!(sampler.sample().cpu, 0.01);
    clock.advance(1);
    assert_eq!(sampler.sample().cpu, 0.02);
}

#[test]
fn the_overall_load_is_that_of_the_busiest_part() {
    let gpu = |utilization| GpuLoad {
        name: "gpu".into(),
        utilization,
        memory: None,
    };
    let detail = HostDetail {
        cpu: 0.1,
        mem: 0.2,
        gpu: Some(vec![gpu(Some(0.3)), gpu(None), gpu(Some(0.9))]),
    };
    assert_eq!(
        detail.load(),
        HostLoad {
            cpu: 0.1,
            gpu: 0.9,
            mem: 0.2
        }
    );
    assert_eq!(detail.load().overall(), 0.9);
    let without = HostDetail {
        gpu: None,
        ..detail
    };
    assert_eq!((without.load().gpu, without.load().overall()), (0.0, 0.2));
}

#[test]
fn this_machine_is_measured_from_the_first_sample_on() {
    let sampler = LoadSampler::new();
    let detail = sampler.detail();
    let load = sampler.sample();
    assert!(
        [load.cpu, load.gpu, load.mem]
            .iter()
            .all(|part| (0.0..=1.0).contains(part)),
        "{load:?}"
    );
    assert!(load.mem > 0.0, "no machine runs without memory");
    assert_eq!(
        detail.load(),
        load,
        "within half a second it is the same sample"
    );
    let Some(devices) = detail.gpu else {
        eprintln!("skipped: graphics processors, because NVML is not installed");
        return;
    };
    eprintln!("graphics processors: {devices:?}");
    for device in devices {
        assert!(!device.name.is_empty());
        assert!(
            device
                .memory
                .is_some_and(|share| (0.0..=1.0).contains(&share)),
            "{device:?}"
        );
    }
}

/// One thread per core computes, so that nothing is left over.
#[test]
fn a_machine_that_computes_on_every_core_is_reported_as_busy() {
    let mut system = sysinfo::System::new().unwrap();
    system.refresh_cpu_usage();
    let cores = system.cpus().len();
    if std::thread::available_parallelism().unwrap().get() < cores {
        eprintln!("skipped: this process may not use every core of the machine");
        return;
    }
    let stop = AtomicBool::new(false);
    let load = std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let load = LoadSampler::new().sample();
        stop.store(true, Ordering::Relaxed);
        load
    });
    assert!(load.cpu >= 0.9, "{load:?}");
}
