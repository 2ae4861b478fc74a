//! How long a decision takes, beside what merely naming the intent costs (its canonical JSON and SHA-256), both
//! measured in this run. The promise is a p99 under 50 µs for a decision in process.

#![expect(clippy::expect_used, reason = "a benchmark has nobody to report to")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use gait::intent::{Context, IntentDraft, Target};
use gait::{Evidence, Gate, Intent, Policy, SystemClock, starter};
use jiff::Timestamp;
use serde_json::json;
use worldcompute_proof::{Sha256, SigningKey};

/// Decisions timed one by one for the percentiles.
const SAMPLES: usize = 20_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let intent = intent();
    let prepared = intent
        .prepare(&Evidence::at(Timestamp::now()))
        .expect("the intent is sound");
    let small = gate(&starter::donor_policy(&["scientific", "general"]));
    let large = gate(&many_rules(200));
    criterion.bench_function("baseline: name the intent", |b| b.iter(|| name(&intent)));
    criterion.bench_function("evaluate: donor policy", |b| {
        b.iter(|| small.policy().evaluate(black_box(&prepared)))
    });
    criterion.bench_function("decide and sign: donor policy", |b| {
        b.iter(|| small.decide(black_box(&intent)))
    });
    criterion.bench_function("decide and sign: 200 rules", |b| {
        b.iter(|| large.decide(black_box(&intent)))
    });
    let evaluations = [
        ("evaluate: typical policy, 20 rules", policy(&typical())),
        (
            "evaluate: 1,000 rules that name other tools",
            policy(&many_rules(1000)),
        ),
        (
            "evaluate: 1,000 rules of any tool",
            policy(&many_rules_of_any_tool(1000)),
        ),
        (
            "evaluate: 100 rules that name other tools",
            policy(&many_rules(100)),
        ),
    ];
    for (what, policy) in &evaluations {
        criterion.bench_function(what, |b| b.iter(|| policy.evaluate(black_box(&prepared))));
    }
    criterion.final_summary();
    let baseline = percentiles(|| name(&intent));
    report("name the intent", baseline, baseline);
    for (what, policy) in &evaluations {
        report(what, percentiles(|| policy.evaluate(&prepared)), baseline);
    }
    report(
        "decide, donor policy",
        percentiles(|| small.decide(&intent)),
        baseline,
    );
    report(
        "decide, 200 rules",
        percentiles(|| large.decide(&intent)),
        baseline,
    );
}

fn name(intent: &Intent) -> Sha256 {
    Sha256::of(intent.canonical_bytes().unwrap_or_default())
}

fn policy(yaml: &str) -> Policy {
    Policy::parse(yaml.as_bytes()).expect("the policy is sound")
}

fn gate(yaml: &str) -> Gate {
    Gate::new(
        policy(yaml),
        SigningKey::from_seed([7; 32]),
        SystemClock::shared(),
    )
}

/// A policy whose every rule but the last has to be looked at in vain.
fn many_rules(count: usize) -> String {
    let rule = |index| {
        format!(
            "- {{name: r{index}, priority: {index}, effect: block, match: {{tool_names: [tool.{index}], target_kinds: [path]}}}}\n"
        )
    };
    let rules: String = (0..count).map(rule).collect();
    format!("rules:\n{rules}- {{name: last, priority: {count}, effect: allow}}\n")
}

/// A policy whose every rule has to be looked at in vain, because none names its tools.
fn many_rules_of_any_tool(count: usize) -> String {
    let rule = |index| {
        format!(
            "- {{name: r{index}, priority: {index}, effect: block, match: {{target_values: [v{index}], identities: [i{index}]}}}}\n"
        )
    };
    let rules: String = (0..count).map(rule).collect();
    format!("rules:\n{rules}- {{name: last, priority: {count}, effect: allow}}\n")
}

/// A policy as people write them: two rules for each of ten tools, and what fails closed; the task is allowed by the
/// last of them, within the limits of its endpoint and with its agent, flow of data and freeze window looked at.
fn typical() -> String {
    let pair = |tool: &str, priority: usize| {
        format!(
            "- {{name: block-{tool}, priority: {priority}, effect: block, match: {{tool_names: [{tool}], data_classes: [secret]}}}}
- name: allow-{tool}
  priority: {}
  effect: allow
  match: {{tool_names: [{tool}], risk_classes: [low, medium]}}
  endpoint: {{domain_allowlist: ['public.class:*', 'example.com']}}
  dataflow: {{enabled: true}}
  denied_agent_ids: [nobody]
  freeze_window: {{timezone: Europe/Berlin, windows: [{{start: '2020-01-01T00:00:00', end: '2020-01-02T00:00:00'}}]}}
",
            priority + 1
        )
    };
    let tools = (0..9).map(|index| format!("tool.{index}"));
    let pairs = tools.chain([starter::TASK_RUN.to_owned()]).enumerate();
    let rules: String = pairs.map(|(index, tool)| pair(&tool, index * 2)).collect();
    format!(
        "default_verdict: block\nfail_closed: {{enabled: true, required_fields: [targets]}}\nrules:\n{rules}"
    )
}

/// The intent of running one task, at its usual size.
fn intent() -> Intent {
    let args = json!({
        "job_id": "01JZ0000000000000000000000",
        "task_index": 17,
        "workload_cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        "args": ["--input", "/in/points.csv", "--output", "/out/result.json"],
        "env": {"LANG": "C.UTF-8"},
        "inputs": [{"cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "path": "/in/points.csv"}],
        "outputs": [{"name": "result", "path": "/out/result.json", "max_bytes": 1_048_576}],
        "limits": {"fuel": 1_000_000_000, "memory_bytes": 268_435_456, "wall_ms": 60_000, "output_bytes": 1_048_576},
        "profile": {"deterministic": {"seed": 42}}
    });
    let draft = IntentDraft {
        tool_name: starter::TASK_RUN.to_owned(),
        args: args.as_object().cloned().unwrap_or_default(),
        targets: vec![Target::label("class:scientific", starter::PUBLIC)],
        context: Context {
            identity: "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".to_owned(),
            workspace: "worldcompute".to_owned(),
            risk_class: "low".to_owned(),
            ..Context::default()
        },
        ..IntentDraft::default()
    };
    draft.normalise().expect("the intent is sound")
}

fn percentiles<T>(mut once: impl FnMut() -> T) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            let outcome = once();
            let elapsed = start.elapsed();
            drop(outcome);
            elapsed
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    (at(50), at(99))
}

fn report(what: &str, (p50, p99): (Duration, Duration), (baseline, _): (Duration, Duration)) {
    let ratio = p50.as_secs_f64() / baseline.as_secs_f64();
    println!("{what}: p50 {p50:?}, p99 {p99:?}, {ratio:.1} x naming the intent");
}
