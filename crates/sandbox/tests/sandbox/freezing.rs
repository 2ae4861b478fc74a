//! Guests that are frozen, let go on, and ended while they are frozen.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use worldcompute_sandbox::{CancelToken, MAX_NUMBER, Outcome, Reins, RunRequest, Status};

use crate::lab::{Lab, guest};

/// A guest that counts to 100 million and says so, and would do nothing else.
const COUNTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\05\00\00\00done\n")
    (func (export "_start") (local $n i32)
        (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 100000000))))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

/// A guest that does nothing but call its host.
const CALLS: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $again
            (drop (call $random (i32.const 0) (i32.const 1000)))
            (br $again))))"#;

fn endless(lab: &Lab, guest: impl AsRef<[u8]>) -> RunRequest {
    let mut request = lab.request(guest);
    request.limits.fuel = MAX_NUMBER;
    request.limits.wall_ms = 120_000;
    request
}

fn spawn(
    lab: &Arc<Lab>,
    request: &RunRequest,
    reins: &Reins,
    cancel: &CancelToken,
) -> JoinHandle<Outcome> {
    let (lab, request, reins, cancel) =
        (lab.clone(), request.clone(), reins.clone(), cancel.clone());
    tokio::spawn(async move {
        let permit = lab.permit(&request);
        let run = lab
            .sandbox
            .run_held(permit, &request, &lab.content, cancel, &reins);
        run.await.unwrap()
    })
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Once its code runs.
async fn begun(reins: &Reins) {
    until(|| !reins.stands_still()).await;
}

fn result(outcome: Outcome) -> Outcome {
    Outcome {
        wall_ms: 0,
        ..outcome
    }
}

#[tokio::test]
async fn freezing_changes_neither_what_a_guest_computes_nor_its_fuel() {
    let lab = Arc::new(Lab::new());
    let request = lab.request(COUNTS);
    let undisturbed = result(lab.run(&request).await);
    assert_eq!(
        undisturbed.status,
        Status::Succeeded,
        "{:?}",
        undisturbed.error
    );
    assert_eq!(undisturbed.stdout, b"done\n");
    let reins = Reins::new();
    let frozen = spawn(&lab, &request, &reins, &CancelToken::new());
    begun(&reins).await;
    let mut freezes = 0;
    while !frozen.is_finished() && freezes < 20 {
        reins.freeze();
        until(|| reins.stands_still()).await;
        reins.resume();
        until(|| !reins.stands_still() || frozen.is_finished()).await;
        freezes += 1;
    }
    assert!(freezes > 0);
    assert_eq!(
        result(frozen.await.unwrap()),
        undisturbed,
        "{freezes} times frozen"
    );
}

#[tokio::test]
async fn a_guest_stops_wherever_it_is_and_goes_on_as_often_as_it_is_told() {
    let lab = Arc::new(Lab::new());
    for guest in [guest!("spin").as_str(), CALLS] {
        let (reins, cancel) = (Reins::new(), CancelToken::new());
        let running = spawn(&lab, &endless(&lab, guest), &reins, &cancel);
        begun(&reins).await;
        for _ in 0..10 {
            reins.freeze();
            until(|| reins.stands_still()).await;
            reins.resume();
            begun(&reins).await;
        }
        cancel.cancel();
        assert_eq!(running.await.unwrap().status, Status::Cancelled);
        assert!(reins.stands_still());
    }
}

#[tokio::test]
async fn time_in_which_a_guest_is_frozen_does_not_count_against_it() {
    let lab = Arc::new(Lab::new());
    let mut request = endless(&lab, guest!("spin"));
    request.limits.wall_ms = 100;
    let reins = Reins::new();
    reins.freeze();
    let running = spawn(&lab, &request, &reins, &CancelToken::new());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!running.is_finished(), "it would be over by now");
    reins.resume();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.status, Status::TimedOut);
    assert!(outcome.wall_ms >= 100, "{}", outcome.wall_ms);
}

#[tokio::test]
async fn a_guest_that_is_frozen_before_it_begins_begins_frozen() {
    let lab = Arc::new(Lab::new());
    let reins = Reins::new();
    reins.freeze();
    let running = spawn(&lab, &lab.request(COUNTS), &reins, &CancelToken::new());
    until(|| lab.sandbox.idle_workers() < std::thread::available_parallelism().unwrap().get())
        .await;
    assert!(reins.stands_still() && !running.is_finished());
    reins.resume();
    assert_eq!(running.await.unwrap().status, Status::Succeeded);
}

#[tokio::test]
async fn a_frozen_guest_can_be_ended_in_every_way() {
    let lab = Arc::new(Lab::new());
    for way in 0..3 {
        let (reins, cancel) = (Reins::new(), CancelToken::new());
        let running = spawn(&lab, &endless(&lab, guest!("spin")), &reins, &cancel);
        begun(&reins).await;
        reins.freeze();
        until(|| reins.stands_still()).await;
        match way {
            0 => cancel.cancel(),
            1 => reins.cancel(),
            _ => running.abort(),
        }
        match running.await {
            Ok(outcome) => assert_eq!(outcome.status, Status::Cancelled),
            Err(aborted) => assert!(way == 2 && aborted.is_cancelled()),
        }
        let workers = std::thread::available_parallelism().unwrap().get();
        until(|| lab.sandbox.idle_workers() == workers).await;
    }
}

#[tokio::test]
async fn freezing_one_guest_leaves_the_others_alone() {
    let lab = Arc::new(Lab::new());
    let (reins, cancel) = (Reins::new(), CancelToken::new());
    let frozen = spawn(&lab, &endless(&lab, guest!("spin")), &reins, &cancel);
    begun(&reins).await;
    reins.freeze();
    until(|| reins.stands_still()).await;
    assert_eq!(
        lab.run_guest(guest!("hello")).await.status,
        Status::Succeeded
    );
    assert!(!frozen.is_finished());
    cancel.cancel();
    assert_eq!(frozen.await.unwrap().status, Status::Cancelled);
}
