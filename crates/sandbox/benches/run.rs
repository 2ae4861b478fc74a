//! What a run costs beyond its guest's own work, against a bare engine in the same process.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::time::Instant;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Linker, Module, Store};
use worldcompute_sandbox::{CancelToken, RunRequest, SandboxConfig};

#[path = "../tests/sandbox/lab.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod lab;

use lab::{Lab, guest};

/// A megabyte of memory and nothing to do.
const SMALL: &str = "(module (memory (export \"memory\") 16) (func (export \"_start\")))";
const MANDELBROT: &str = include_str!("mandelbrot.wat");

/// The same module on the engine alone: no fuel, no clock, no world, no thread.
fn bare(criterion: &mut Criterion, name: &str, allocation: InstanceAllocationStrategy) {
    let mut config = Config::new();
    let engine = Engine::new(config.allocation_strategy(allocation)).unwrap();
    let module = Module::new(&engine, SMALL).unwrap();
    let ready = Linker::<()>::new(&engine).instantiate_pre(&module).unwrap();
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut store = Store::new(&engine, ());
            let instance = ready.instantiate(&mut store).unwrap();
            instance
                .get_typed_func::<(), ()>(&mut store, "_start")
                .unwrap()
                .call(&mut store, ())
                .unwrap();
        });
    });
}

fn baselines(criterion: &mut Criterion) {
    bare(
        criterion,
        "baseline/bare engine, on demand",
        InstanceAllocationStrategy::OnDemand,
    );
    bare(
        criterion,
        "baseline/bare engine, pooling",
        InstanceAllocationStrategy::pooling(),
    );
    let runtime = Runtime::new().unwrap();
    criterion.bench_function("baseline/empty job on a blocking thread", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| tokio::task::spawn_blocking(|| ()));
    });
    let lab = Lab::new();
    let request = lab.request(SMALL);
    criterion.bench_function("baseline/intent and digest of the request", |bencher| {
        bencher.iter(|| request.intent().unwrap().digest());
    });
}

/// One run from permit to outcome, the gate's decision not counted.
fn run(criterion: &mut Criterion, name: &str, lab: &Lab, request: &RunRequest) {
    let runtime = Runtime::new().unwrap();
    criterion.bench_function(name, |bencher| {
        bencher.to_async(&runtime).iter_batched(
            || lab.permit(request),
            |permit| {
                lab.sandbox
                    .run(permit, request, &lab.content, CancelToken::new())
            },
            BatchSize::SmallInput,
        );
    });
}

fn warm(criterion: &mut Criterion) {
    let lab = Lab::new();
    run(
        criterion,
        "warm/empty module",
        &lab,
        &lab.request(guest!("empty")),
    );
    run(
        criterion,
        "warm/module with a megabyte of memory",
        &lab,
        &lab.request(SMALL),
    );
    run(
        criterion,
        "warm/module that prints",
        &lab,
        &lab.request(guest!("hello")),
    );
    let component = guest!("component_body").replace("BODY", "(i32.const 0)");
    run(criterion, "warm/component", &lab, &lab.request(component));
}

/// From permit to outcome, so that it is more than making the instance: reported, not compared.
fn warm_percentiles(_: &mut Criterion) {
    const RUNS: usize = 5000;
    let (lab, runtime) = (Lab::new(), Runtime::new().unwrap());
    let request = lab.request(SMALL);
    let mut took: Vec<_> = (0..RUNS)
        .map(|_| {
            let permit = lab.permit(&request);
            let start = Instant::now();
            let run = lab
                .sandbox
                .run(permit, &request, &lab.content, CancelToken::new());
            runtime.block_on(run).unwrap();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |percent: usize| {
        let one = took.get(RUNS * percent / 100).copied();
        one.unwrap_or_default().as_micros()
    };
    println!(
        "warm, a megabyte of memory: p50 {} us, p99 {} us of {RUNS}",
        at(50),
        at(99)
    );
}

fn cold(criterion: &mut Criterion) {
    let lab = Lab::with(SandboxConfig {
        cache_bytes: 0,
        ..SandboxConfig::default()
    });
    run(
        criterion,
        "cold/empty module",
        &lab,
        &lab.request(guest!("empty")),
    );
    let mut compile_only = lab.request(MANDELBROT);
    compile_only.limits.fuel = 1;
    run(
        criterion,
        "cold/mandelbrot, compiled and stopped at once",
        &lab,
        &compile_only,
    );
}

/// How fast guests work: reported, not compared.
fn fuel_per_millisecond(_: &mut Criterion) {
    let lab = Lab::new();
    let runtime = Runtime::new().unwrap();
    let outcomes = (0..10).map(|_| runtime.block_on(lab.run(&lab.request(MANDELBROT))));
    let mut rates: Vec<u64> = outcomes
        .map(|outcome| outcome.fuel_used / outcome.wall_ms.max(1))
        .collect();
    rates.sort_unstable();
    let median = rates.get(rates.len() / 2).copied().unwrap_or_default();
    println!(
        "mandelbrot: {median} fuel per millisecond in the median of {}",
        rates.len()
    );
}

criterion_group!(
    benches,
    baselines,
    warm,
    warm_percentiles,
    cold,
    fuel_per_millisecond
);
criterion_main!(benches);
