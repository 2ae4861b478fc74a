//! Runpacks: how long the demo takes to verify, and what recording, replaying and packing 100,000 intents cost beside
//! reading, hashing and writing the same bytes: at most twice as much. What they cost in processor time does not depend
//! on what else the machine does.

#![expect(clippy::unwrap_used, reason = "a bench")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gait::guard::{self, Template};
use gait::pack::{self, Build};
use gait::runpack::{self, CaptureMode, RecordInput, Recorder, Requirements, Stamp};
use worldcompute_durable::{AtomicFile, Mode, write_atomic};
use worldcompute_proof::{Hasher, SigningKey};

const RECORDS: usize = 100_000;
/// Rounds of which the medians are compared; the two sides take turns.
const ROUNDS: usize = 7;

fn verify_demo(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = gait::demo::record(dir.path()).unwrap();
    criterion.bench_function("verify_demo_runpack", |bencher| {
        bencher.iter(|| runpack::verify(black_box(&path), &Requirements::default()).unwrap());
    });
}

fn ratios(_: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let input = input(dir.path());
    let pack = dir.path().join("run.zip");
    let copy = dir.path().join("copy");
    compare(
        "record",
        || record(&input, &pack),
        || copy_hashing(&input, &copy),
    );
    let lines = fs::metadata(&input).unwrap().len();
    println!(
        "runpack: {} bytes of {lines}",
        fs::metadata(&pack).unwrap().len()
    );
    compare("verify", || verify(&pack), || copy_hashing(&input, &copy));
    compare("replay", || replay(&pack), || copy_hashing(&input, &copy));
    let out = dir.path().join("out.zip");
    compare(
        "pack build",
        || build(&pack, &out),
        || copy_hashing(&input, &copy),
    );
    compare(
        "guard pack",
        || guard(&pack, &out),
        || copy_hashing(&input, &copy),
    );
}

/// Prints the medians of both and what the first costs in units of the second.
fn compare(name: &str, mut ours: impl FnMut(), mut bytes: impl FnMut()) {
    let (mut of_ours, mut of_bytes) = (Vec::new(), Vec::new());
    let mut ticks = [0; 2];
    for _ in 0..ROUNDS {
        let started = processor_ticks();
        of_ours.push(timed(&mut ours));
        let turned = processor_ticks();
        of_bytes.push(timed(&mut bytes));
        ticks = [
            ticks[0] + turned - started,
            ticks[1] + processor_ticks() - turned,
        ];
    }
    let (ours, bytes) = (median(of_ours), median(of_bytes));
    let ratio = ours.as_secs_f64() / bytes.as_secs_f64();
    let work = ticks[0] as f64 / ticks[1] as f64;
    println!(
        "{name} of {RECORDS} intents: {ours:?}; read, hash and write the bytes: {bytes:?}; ratio {ratio:.2}; of processor time {work:.2}"
    );
}

fn timed(act: &mut impl FnMut()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

/// Processor time of all threads of this process, those that ended included.
fn processor_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap()
}

fn input(dir: &Path) -> PathBuf {
    let digest = "a".repeat(64);
    let list = |fields: &str| -> String {
        let one = |number| {
            format!("{{\"intent_id\":\"intent_{number}\",{fields}\"run_id\":\"run_big\"}}")
        };
        (0..RECORDS).map(one).collect::<Vec<_>>().join(",")
    };
    let intents = list(&format!(
        "\"tool_name\":\"tool.read\",\"args_digest\":\"{digest}\","
    ));
    let results = list(&format!(
        "\"status\":\"ok\",\"result_digest\":\"{digest}\","
    ));
    let run = "{\"run_id\":\"run_big\",\"created_at\":\"2026-02-14T00:00:00Z\"}";
    let path = dir.join("input.json");
    let text =
        format!("{{\"run\":{run},\"intents\":[{intents}],\"results\":[{results}],\"refs\":{{}}}}");
    write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
    path
}

fn record(input: &Path, pack: &Path) {
    let input = RecordInput::open(input).unwrap();
    let (run, refs) = (input.run.clone(), input.refs.clone());
    let mut recorder = Recorder::new(run, refs, CaptureMode::Reference, Stamp::default()).unwrap();
    input.record(&mut recorder, false).unwrap();
    recorder.finish(pack, None).unwrap();
}

fn verify(pack: &Path) {
    assert!(
        runpack::verify(pack, &Requirements::default())
            .unwrap()
            .holds()
    );
}

fn replay(pack: &Path) {
    let mut steps = 0;
    runpack::replay(pack, None, |_| {
        steps += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(steps, RECORDS);
}

fn build(pack: &Path, out: &Path) {
    let build = Build {
        output: Some(out),
        producer_version: gait::VERSION,
        key: None,
    };
    pack::build_run(pack, &build).unwrap();
}

fn guard(pack: &Path, out: &Path) {
    let key = SigningKey::from_seed([7; 32]);
    let request = guard::Request {
        runpack: pack,
        output: Some(out),
        case_id: "",
        template: Template::Soc2,
        inventory: Vec::new(),
        traces: Vec::new(),
        trace_key: None,
        regress: Vec::new(),
        approval_audits: Vec::new(),
        credential_evidence: Vec::new(),
        discover: false,
        render_pdf: false,
        producer_version: gait::VERSION,
        key: &key,
    };
    guard::build(&request).unwrap();
}

/// What nobody can do without: the bytes read, hashed and written, all or nothing.
fn copy_hashing(input: &Path, copy: &Path) {
    let (mut input, mut hasher) = (File::open(input).unwrap(), Hasher::new());
    let mut file = AtomicFile::create(copy, Mode::Private).unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = input.read(&mut buffer).unwrap();
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
        file.write_all(bytes).unwrap();
    }
    black_box(hasher.finish());
    file.commit().unwrap();
}

criterion_group!(benches, verify_demo, ratios);
criterion_main!(benches);
