//! Guests beside each other, and beside everything else.

use std::sync::Arc;
use std::time::Duration;

use worldcompute_sandbox::{CancelToken, MAX_NUMBER, Outcome, RunRequest, SandboxConfig, Status};

use crate::lab::{Lab, guest};

const TWO: SandboxConfig = SandboxConfig {
    workers: 2,
    cache_bytes: 1 << 20,
    max_input_bytes: 1 << 20,
};
const ONE: SandboxConfig = SandboxConfig { workers: 1, ..TWO };

/// A request that a cancellation ends. If it does not, the test fails two minutes later rather than never.
fn endless(lab: &Lab) -> RunRequest {
    let mut request = lab.request(guest!("spin"));
    request.limits.fuel = MAX_NUMBER;
    request.limits.wall_ms = 120_000;
    request
}

/// Has the program of [`endless`] compiled, so that a worker that is busy from here on has a guest.
async fn compile_endless(lab: &Lab) {
    let mut request = endless(lab);
    request.limits.fuel = 1;
    assert_eq!(lab.run(&request).await.status, Status::OutOfFuel);
}

fn spawn(
    lab: &Arc<Lab>,
    request: &RunRequest,
    cancel: &CancelToken,
) -> tokio::task::JoinHandle<Outcome> {
    let (lab, request, cancel) = (lab.clone(), request.clone(), cancel.clone());
    tokio::spawn(async move {
        let permit = lab.permit(&request);
        lab.sandbox
            .run(permit, &request, &lab.content, cancel)
            .await
            .unwrap()
    })
}

#[tokio::test(flavor = "current_thread")]
async fn spinning_guests_do_not_keep_the_async_loop_from_working() {
    let lab = Arc::new(Lab::with(TWO));
    let cancel = CancelToken::new();
    compile_endless(&lab).await;
    let guests: Vec<_> = (0..3)
        .map(|_| spawn(&lab, &endless(&lab), &cancel))
        .collect();
    let (to, mut from) = tokio::sync::mpsc::channel(1);
    let echo = tokio::spawn(async move {
        for n in 0..10_000 {
            to.send(n).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for n in 0..10_000 {
        assert_eq!(from.recv().await, Some(n));
    }
    echo.await.unwrap();
    assert!(guests.iter().all(|guest| !guest.is_finished()));
    cancel.cancel();
    for guest in guests {
        assert_eq!(guest.await.unwrap().status, Status::Cancelled);
    }
}

#[tokio::test]
async fn a_cancelled_guest_leaves_what_it_printed() {
    let lab = Arc::new(Lab::with(ONE));
    let mut request =
        lab.request(guest!("hello").replace("(i32.const 7))))", "(i32.const 7))) (loop (br 0)))"));
    request.limits = endless(&lab).limits;
    let cancel = CancelToken::new();
    let guest = spawn(&lab, &request, &cancel);
    // One worker: once this one waits for it, the guest before it has it.
    let waiting = spawn(&lab, &endless(&lab), &cancel);
    lab.until_busy().await;
    cancel.cancel();
    let outcome = guest.await.unwrap();
    assert_eq!(outcome.status, Status::Cancelled);
    assert_eq!((outcome.exit_code, outcome.outputs), (None, vec![]));
    assert!(outcome.error.is_some());
    assert_eq!(waiting.await.unwrap().status, Status::Cancelled);
}

#[tokio::test]
async fn a_run_cancelled_before_it_begins_does_not_begin() {
    let lab = Lab::new();
    let request = lab.request(guest!("hello"));
    let cancel = CancelToken::new();
    cancel.cancel();
    let outcome = lab
        .sandbox
        .run(lab.permit(&request), &request, &lab.content, cancel)
        .await
        .unwrap();
    assert_eq!(outcome.status, Status::Cancelled);
    assert_eq!((outcome.stdout, outcome.fuel_used), (vec![], 0));
}

#[tokio::test]
async fn cancelling_one_guest_leaves_the_others_alone() {
    let lab = Arc::new(Lab::with(TWO));
    let (first, second) = (CancelToken::new(), CancelToken::new());
    let one = spawn(&lab, &endless(&lab), &first);
    let other = spawn(&lab, &endless(&lab), &second);
    first.cancel();
    assert_eq!(one.await.unwrap().status, Status::Cancelled);
    // A third guest runs to its end while the second still spins.
    assert_eq!(
        lab.run_guest(guest!("hello")).await.status,
        Status::Succeeded
    );
    assert!(!other.is_finished());
    second.cancel();
    assert_eq!(other.await.unwrap().status, Status::Cancelled);
}

#[tokio::test]
async fn dropping_the_future_ends_the_guest_and_frees_its_worker() {
    let lab = Arc::new(Lab::with(ONE));
    compile_endless(&lab).await;
    let guest = spawn(&lab, &endless(&lab), &CancelToken::new());
    lab.until_busy().await;
    guest.abort();
    // The worker comes free long before the guest's own time is over.
    let next = tokio::time::timeout(Duration::from_secs(60), lab.run_guest(guest!("hello")));
    let outcome = next.await.expect("the dropped guest keeps its worker");
    assert_eq!(outcome.status, Status::Succeeded);
}

#[tokio::test]
async fn the_wall_clock_of_a_guest_starts_when_it_does() {
    let lab = Arc::new(Lab::with(ONE));
    let mut first = endless(&lab);
    first.limits.wall_ms = 300;
    let mut second = lab.request(guest!("hello"));
    second.limits.wall_ms = 250;
    let cancel = CancelToken::new();
    let first = spawn(&lab, &first, &cancel);
    lab.until_busy().await;
    assert_eq!(lab.run(&second).await.status, Status::Succeeded);
    assert_eq!(first.await.unwrap().status, Status::TimedOut);
}

#[tokio::test]
async fn a_hundred_guests_on_two_workers_all_end_as_they_should() {
    let lab = Arc::new(Lab::with(TWO));
    let cancel = CancelToken::new();
    let kinds = [
        (lab.request(guest!("hello")), Status::Succeeded),
        (lab.request(guest!("unreachable")), Status::Trapped),
        (
            lab.request(guest!("exit").replace("CODE", "3")),
            Status::Failed,
        ),
        (lab.request(guest!("fill_scratch")), Status::OutputLimit),
    ];
    let guests: Vec<_> = (0..100)
        .map(|index| {
            (
                spawn(&lab, &kinds[index % 4].0, &cancel),
                kinds[index % 4].1,
            )
        })
        .collect();
    for (guest, status) in guests {
        assert_eq!(guest.await.unwrap().status, status);
    }
}
