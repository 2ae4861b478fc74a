//! Equal requests, equal outcomes: on another sandbox, beside other guests, and on a module compiled anew.

use worldcompute_sandbox::{Outcome, Profile, SandboxConfig, Status};

use crate::lab::{Lab, guest};

/// All of an outcome but the time it took here.
fn result(outcome: Outcome) -> Outcome {
    Outcome {
        wall_ms: 0,
        ..outcome
    }
}

#[tokio::test]
async fn what_a_guest_senses_is_the_same_on_every_machine() {
    let lab = Lab::new();
    let first = result(lab.run_guest(guest!("senses")).await);
    assert_eq!(first.status, Status::Succeeded, "{:?}", first.error);
    assert_eq!(result(lab.run_guest(guest!("senses")).await), first);
    for workers in [1, 3] {
        let lab = Lab::with(SandboxConfig {
            workers,
            cache_bytes: 0,
            ..SandboxConfig::default()
        });
        let request = lab.request(guest!("senses"));
        let outcomes = futures::future::join_all((0..6).map(|_| lab.run(&request))).await;
        for outcome in outcomes {
            assert_eq!(result(outcome), first, "{workers} workers");
        }
    }
}

#[tokio::test]
async fn what_a_guest_senses_is_what_it_was_when_this_was_written() {
    let outcome = Lab::new().run_guest(guest!("senses")).await;
    let digest = worldcompute_proof::Sha256::of(&outcome.stdout);
    assert_eq!(
        (digest.to_string().as_str(), outcome.fuel_used),
        (
            "25847f34113a1e3e34dd798f1bec9c58327c1328ddbddd437321514f074a80aa",
            884
        )
    );
}

#[tokio::test]
async fn nan_has_one_bit_pattern() {
    let stdout = Lab::new().run_guest(guest!("senses")).await.stdout;
    let bits: Vec<u64> = stdout[stdout.len() - 72..]
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    assert_eq!(&bits[2..5], [0x7ff8_0000_0000_0000; 3]);
    assert_eq!(&bits[5..7], [0x7fc0_0000; 2]);
}

#[tokio::test]
async fn another_seed_gives_other_randomness_and_nothing_else() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("senses"));
    let first = lab.run(&request).await;
    request.profile = Profile::Deterministic { seed: 43 };
    let second = lab.run(&request).await;
    assert_ne!(first.stdout[..100], second.stdout[..100]);
    assert_eq!(first.stdout[100..], second.stdout[100..]);
    assert_eq!(first.fuel_used, second.fuel_used);
}

#[tokio::test]
async fn randomness_follows_its_formula() {
    use worldcompute_proof::Sha256;
    let stdout = Lab::new().run_guest(guest!("senses")).await.stdout;
    let block = |index: u64| {
        let message = [
            b"worldcompute/random/v1".as_slice(),
            &42_u64.to_be_bytes(),
            &index.to_be_bytes(),
        ]
        .concat();
        *Sha256::of(message).as_bytes()
    };
    assert_eq!(stdout[..32], block(0));
    assert_eq!(stdout[32..64], block(1));
    assert_eq!(stdout[96..100], block(3)[..4]);
}

#[tokio::test]
async fn a_guest_that_fails_uses_the_same_fuel_every_time() {
    let lab = Lab::new();
    for guest in [
        guest!("deep_recursion"),
        guest!("grow_and_touch"),
        guest!("print_for_ever").replace("FD", "1"),
    ] {
        let (first, second) = (lab.run_guest(&guest).await, lab.run_guest(&guest).await);
        assert_eq!(result(first), result(second));
    }
}
