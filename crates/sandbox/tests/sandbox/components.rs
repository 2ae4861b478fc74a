//! WASI preview 2.

use worldcompute_sandbox::{Limits, Status};

use crate::lab::{Lab, guest, text};

fn component(body: &str) -> String {
    guest!("component_body").replace("BODY", body)
}

#[tokio::test]
async fn a_component_prints_and_gets_no_socket_and_no_name() {
    let outcome = Lab::new().run_guest(guest!("component")).await;
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.error);
    // access-denied for each socket, permanent-resolver-failure for the name.
    assert_eq!(text(&outcome.stdout), "a component\nbbu");
    assert!(outcome.fuel_used > 0);
}

#[tokio::test]
async fn a_component_says_by_its_result_whether_it_succeeded() {
    let lab = Lab::new();
    for (body, status, code) in [
        ("(i32.const 0)", Status::Succeeded, 0),
        ("(i32.const 1)", Status::Failed, 1),
        (
            "(call $exit (i32.const 0)) unreachable",
            Status::Succeeded,
            0,
        ),
        ("(call $exit (i32.const 1)) unreachable", Status::Failed, 1),
    ] {
        let outcome = lab.run_guest(component(body)).await;
        assert_eq!(
            (outcome.status, outcome.exit_code),
            (status, Some(code)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_component_ends_at_its_limits() {
    let lab = Lab::new();
    let mut request = lab.request(component("(loop (br 0)) unreachable"));
    assert_eq!(lab.run(&request).await.status, Status::OutOfFuel);
    request.limits = Limits {
        fuel: worldcompute_sandbox::MAX_NUMBER,
        wall_ms: 50,
        ..request.limits
    };
    assert_eq!(lab.run(&request).await.status, Status::TimedOut);
    assert_eq!(
        lab.run_guest(component("unreachable")).await.status,
        Status::Trapped
    );
}

#[tokio::test]
async fn a_component_pays_for_its_calls() {
    let lab = Lab::new();
    let mut request = lab.request(component("(loop (drop (call $random)) (br 0)) unreachable"));
    request.limits.fuel = 100_000;
    assert_eq!(lab.run(&request).await.status, Status::OutOfFuel);
    let free = lab.run_guest(component("(i32.const 0)")).await.fuel_used;
    let paid = lab
        .run_guest(component("(drop (call $random)) (i32.const 0)"))
        .await
        .fuel_used;
    assert!(paid >= free + 64, "{free} {paid}");
}

#[tokio::test]
async fn a_component_waits_on_the_virtual_clock() {
    let hour = "(local.set $n (call $now))
        (local.set $a (call $after (i64.const 3600000000000)))
        (call $assert (i32.eqz (call $ready (local.get $a))))
        (call $block (local.get $a))
        (call $assert (call $ready (local.get $a)))
        (call $assert (i64.ge_u (i64.sub (call $now) (local.get $n)) (i64.const 3600000000000)))
        (call $assert (i64.lt_u (i64.sub (call $now) (local.get $n)) (i64.const 3600001000000)))
        (i32.const 0)";
    let outcome = Lab::new().run_guest(component(hour)).await;
    assert_eq!(outcome.status, Status::Succeeded, "{:?}", outcome.error);
}

#[tokio::test]
async fn a_component_that_asks_whether_time_has_passed_sees_it_pass() {
    let millisecond = "(local.set $a (call $after (i64.const 1000000)))
        (loop $wait (br_if $wait (i32.eqz (call $ready (local.get $a)))))
        (i32.const 0)";
    assert_eq!(
        Lab::new().run_guest(component(millisecond)).await.status,
        Status::Succeeded
    );
}

#[tokio::test]
async fn a_component_cannot_pile_up_resources() {
    let outcome = Lab::new()
        .run_guest(component(
            "(loop (drop (call $after (i64.const 1))) (br 0)) unreachable",
        ))
        .await;
    assert_eq!(outcome.status, Status::Trapped, "{:?}", outcome.error);
}

#[tokio::test]
async fn a_component_may_have_so_many_instances_and_no_more() {
    let component = |instances: usize| {
        let others = "(core instance (instantiate $m)) ".repeat(instances - 1);
        format!(
            "(component
                (core module $m)
                {others}
                (core module $main (func (export \"run\") (result i32) (i32.const 0)))
                (core instance $main (instantiate $main))
                (func $run (result (result)) (canon lift (core func $main \"run\")))
                (instance (export \"wasi:cli/run@0.2.0\") (export \"run\" (func $run))))"
        )
    };
    let lab = Lab::new();
    assert_eq!(lab.run_guest(component(32)).await.status, Status::Succeeded);
    let outcome = lab.run_guest(component(33)).await;
    assert_eq!(outcome.status, Status::Trapped, "{:?}", outcome.error);
}
