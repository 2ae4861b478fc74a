//! Modules that nobody wrote: whatever they are, they are refused or end within their limits, and each time alike.
//!
//! They come of wasm-smith. Those of [`any`] may use what this sandbox does without; those of [`command`] use what it
//! takes, and call WASI with arguments that nobody thought of.

use std::collections::BTreeMap;

use worldcompute_fault::WcCode;
use worldcompute_sandbox::{Limits, Outcome, RunRequest, SandboxConfig, Status};

use crate::generated::{any, command};
use crate::lab::Lab;

/// How many modules of each kind.
const MODULES: u64 = 100;

/// With limits that many of them meet.
fn request(lab: &Lab, module: &[u8]) -> RunRequest {
    let mut request = lab.request(module);
    request.limits = Limits {
        fuel: 200_000,
        memory_bytes: 3 << 20,
        output_bytes: 64 << 10,
        ..request.limits
    };
    request
}

/// All of an outcome but the time it took here.
fn result(outcome: Outcome) -> Outcome {
    Outcome {
        wall_ms: 0,
        ..outcome
    }
}

/// How a module ended, or nothing if it was refused as it should be.
async fn end(lab: &Lab, module: &[u8], seed: u64) -> Option<Outcome> {
    let request = request(lab, module);
    let outcome = match lab.try_run(&request).await {
        Ok(outcome) => outcome,
        Err(fault) => {
            assert_eq!(
                fault.number(),
                Some(WcCode::InvalidManifest),
                "seed {seed}: {fault}"
            );
            return None;
        }
    };
    let limits = request.limits;
    let printed = (outcome.stdout.len() + outcome.stderr.len()) as u64;
    assert!(outcome.fuel_used <= limits.fuel, "seed {seed}: {outcome:?}");
    assert!(printed <= limits.output_bytes, "seed {seed}: {outcome:?}");
    let alone = [Status::TimedOut, Status::Cancelled];
    assert!(!alone.contains(&outcome.status), "seed {seed}: {outcome:?}");
    Some(result(outcome))
}

/// How many ended in which way.
fn tally(ends: &[Option<Outcome>]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for end in ends {
        let status = end
            .as_ref()
            .map_or("refused", |outcome| outcome.status.as_str());
        *tally.entry(status).or_default() += 1;
    }
    tally
}

#[tokio::test]
async fn whatever_a_module_uses_it_is_refused_or_ends_within_its_limits() {
    let lab = Lab::new();
    let mut ends = Vec::new();
    for seed in 0..MODULES {
        ends.push(end(&lab, &any(seed), seed).await);
    }
    let tally = tally(&ends);
    println!("any: seeds 0..{MODULES}: {tally:?}");
    assert!(
        tally.contains_key("refused") && tally.len() > 1,
        "{tally:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_alike_alone_beside_others_and_compiled_anew() {
    let alone = Lab::new();
    let crowded = Lab::with(SandboxConfig {
        workers: 4,
        cache_bytes: 0,
        ..SandboxConfig::default()
    });
    let modules: Vec<_> = (0..MODULES).map(command).collect();
    let mut first = Vec::new();
    for (seed, module) in (0..).zip(&modules) {
        first.push(end(&alone, module, seed).await);
    }
    let tally = tally(&first);
    println!("commands: seeds 0..{MODULES}: {tally:?}");
    let twice = || (0..).zip(&modules);
    let again = twice().chain(twice());
    let again = again.map(|(seed, module)| end(&crowded, module, seed));
    let again = futures::future::join_all(again).await;
    for (seed, ended) in again.iter().enumerate() {
        let seed = seed % modules.len();
        assert_eq!(ended, &first[seed], "seed {seed}");
    }
    // Else they would show nothing.
    for needed in ["succeeded", "trapped", "out_of_fuel", "out_of_memory"] {
        assert!(tally.contains_key(needed), "none {needed}: {tally:?}");
    }
}
