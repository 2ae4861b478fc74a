//! Guests that want more than they may have. Each limit ends in a status of its own, and never in success.

use std::time::Duration;

use worldcompute_sandbox::{Outcome, Status, is_by_host};

use crate::lab::{Lab, guest, output, text};

fn assert_ended(outcome: &Outcome, status: Status) {
    assert_eq!(outcome.status, status, "{:?}", outcome.error);
    assert!(outcome.error.is_some());
    assert!(outcome.outputs.is_empty());
    assert_eq!(outcome.exit_code, None);
}

#[tokio::test]
async fn a_guest_that_never_ends_runs_out_of_fuel() {
    for guest in [guest!("spin"), guest!("spin_in_start_function")] {
        let lab = Lab::new();
        let mut request = lab.request(guest);
        request.limits.fuel = 1_000_000;
        let outcome = lab.run(&request).await;
        assert_ended(&outcome, Status::OutOfFuel);
        assert_eq!(outcome.fuel_used, 1_000_000);
    }
}

#[tokio::test]
async fn a_guest_without_any_fuel_does_not_get_far() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("hello"));
    request.limits.fuel = 0;
    let outcome = lab.run(&request).await;
    assert_ended(&outcome, Status::OutOfFuel);
    assert_eq!(outcome.stdout, b"");
}

#[tokio::test]
async fn calls_to_the_host_use_fuel_as_well() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("print_for_ever").replace("FD", "1"));
    // The instructions of these calls come to a few hundred.
    request.limits = worldcompute_sandbox::Limits {
        fuel: 20_000,
        output_bytes: 1 << 30,
        ..request.limits
    };
    assert_ended(&lab.run(&request).await, Status::OutOfFuel);
}

#[tokio::test]
async fn the_names_of_a_path_use_fuel_as_calls_do() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("walk_for_ever"));
    request.limits.fuel = 10_000_000;
    // Uncounted, the lookups of this much fuel took minutes.
    request.limits.wall_ms = 30_000;
    assert_ended(&lab.run(&request).await, Status::OutOfFuel);
}

#[tokio::test]
async fn exactly_the_fuel_a_guest_needs_is_enough_and_one_less_is_not() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("hello"));
    request.limits.fuel = lab.run(&request).await.fuel_used;
    assert_eq!(lab.run(&request).await.status, Status::Succeeded);
    request.limits.fuel -= 1;
    assert_ended(&lab.run(&request).await, Status::OutOfFuel);
}

#[tokio::test]
async fn a_guest_that_never_ends_is_timed_out() {
    for guest in [
        guest!("spin"),
        guest!("spin_in_start_function"),
        guest!("sleep_for_ever"),
    ] {
        let lab = Lab::new();
        let mut request = lab.request(guest);
        request.limits.fuel = worldcompute_sandbox::MAX_NUMBER;
        request.limits.wall_ms = 50;
        // Nothing else ends it: were the limit not kept, the test would not end either.
        let ended = tokio::time::timeout(Duration::from_secs(60), lab.run(&request)).await;
        let outcome = ended.expect("the guest outlasted its limit by a minute");
        assert_ended(&outcome, Status::TimedOut);
        assert!(outcome.wall_ms >= 50);
    }
}

#[tokio::test]
async fn a_guest_without_any_time_is_timed_out() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("spin"));
    request.limits.wall_ms = 0;
    assert_ended(&lab.run(&request).await, Status::TimedOut);
}

#[tokio::test]
async fn waiting_takes_no_time_but_on_the_guests_clock() {
    let lab = Lab::new();
    let outcome = lab.run_guest(guest!("sleep_an_hour")).await;
    assert_eq!(outcome.status, Status::Succeeded);
    // No error, one event, and an hour plus one tick of the clock.
    assert_eq!(text(&outcome.stdout), "0 1 3600000001000 ");
}

#[tokio::test]
async fn a_guest_that_dies_of_a_refused_growth_is_out_of_memory() {
    for guest in [
        guest!("grow_8_gib_at_once"),
        guest!("grow_and_touch"),
        guest!("grow_table"),
        guest!("born_too_large"),
        guest!("grow_many_memories").replace("(memory 10)", "(memory 100)"),
    ] {
        assert_ended(&Lab::new().run_guest(guest).await, Status::OutOfMemory);
    }
}

#[tokio::test]
async fn a_guest_that_survives_a_refused_growth_succeeds() {
    let outcome = Lab::new().run_guest(guest!("grow_and_live")).await;
    assert_eq!(outcome.status, Status::Succeeded);
}

#[tokio::test]
async fn a_refused_growth_that_was_made_up_for_does_not_excuse_a_later_trap() {
    let guest = guest!("grow_and_live").replace(
        "(then unreachable))",
        "(then unreachable)) (drop (memory.grow (i32.const 1))) unreachable",
    );
    assert_ended(&Lab::new().run_guest(guest).await, Status::Trapped);
}

#[tokio::test]
async fn all_memories_together_may_be_exactly_as_large_as_the_limit() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("grow_many_memories"));
    request.limits.memory_bytes = 30 * 65536;
    assert_eq!(lab.run(&request).await.status, Status::Succeeded);
    request.limits.memory_bytes -= 1;
    assert_ended(&lab.run(&request).await, Status::OutOfMemory);
}

#[tokio::test]
async fn printing_past_the_limit_ends_the_guest_with_what_fitted() {
    for fd in ["1", "2"] {
        let lab = Lab::new();
        let mut request = lab.request(guest!("print_for_ever").replace("FD", fd));
        request.limits.output_bytes = 100_000;
        let outcome = lab.run(&request).await;
        assert_ended(&outcome, Status::OutputLimit);
        assert_eq!(outcome.stdout.len() + outcome.stderr.len(), 100_000);
    }
}

#[tokio::test]
async fn exactly_what_is_allowed_can_be_printed_and_not_a_byte_more() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("hello"));
    request.limits.output_bytes = 20;
    assert_eq!(lab.run(&request).await.status, Status::Succeeded);
    request.limits.output_bytes = 19;
    let outcome = lab.run(&request).await;
    assert_ended(&outcome, Status::OutputLimit);
    assert_eq!(text(&outcome.stderr), "to err");
}

#[tokio::test]
async fn keeping_more_than_allowed_ends_the_guest() {
    for guest in [guest!("fill_scratch"), guest!("write_far_away")] {
        let lab = Lab::new();
        let mut request = lab.request(guest);
        request.outputs = vec![output("/out/result", 1 << 30)];
        assert_ended(&lab.run(&request).await, Status::OutputLimit);
    }
}

#[tokio::test]
async fn an_output_may_be_as_large_as_declared_and_not_a_byte_larger() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("write_output"));
    request.outputs = vec![output("/out/result", 999)];
    let outcome = lab.run(&request).await;
    assert_eq!(outcome.status, Status::OutputLimit);
    assert!(outcome.outputs.is_empty());
    assert!(outcome.error.unwrap().contains("1000 bytes"));
}

#[tokio::test]
async fn every_kind_of_trap_is_a_trap() {
    for (guest, why) in [
        (guest!("unreachable"), "unreachable"),
        (guest!("divide_by_zero"), "divide by zero"),
        (guest!("out_of_bounds"), "out of bounds"),
        (guest!("call_nothing"), "uninitialized element"),
        (guest!("deep_recursion"), "call stack exhausted"),
    ] {
        let outcome = Lab::new().run_guest(guest).await;
        assert_ended(&outcome, Status::Trapped);
        assert!(
            outcome.error.as_ref().unwrap().contains(why),
            "{:?}",
            outcome.error
        );
    }
}

#[tokio::test]
async fn data_that_does_not_fit_into_the_memory_is_a_trap() {
    let data = "x".repeat(100_000);
    let guest =
        format!("(module (memory 1) (data (i32.const 0) \"{data}\") (func (export \"_start\")))");
    assert_ended(&Lab::new().run_guest(guest).await, Status::Trapped);
}

#[tokio::test]
async fn data_that_fits_is_no_trouble_however_large() {
    let data = "x".repeat(8 << 20);
    let guest =
        format!("(module (memory 256) (data (i32.const 0) \"{data}\") (func (export \"_start\")))");
    let binary = wat::parse_str(guest).unwrap();
    assert_eq!(Lab::new().run_guest(binary).await.status, Status::Succeeded);
}

#[tokio::test]
async fn a_module_may_have_so_many_memories_and_tables_and_no_more() {
    let lab = Lab::new();
    for (item, most) in [("(memory 0)", 32), ("(table 0 funcref)", 64)] {
        let module =
            |items: usize| format!("(module {} (func (export \"_start\")))", item.repeat(items));
        assert_eq!(
            lab.run_guest(module(most)).await.status,
            Status::Succeeded,
            "{item}"
        );
        assert_ended(&lab.run_guest(module(most + 1)).await, Status::Trapped);
    }
}

#[tokio::test]
async fn an_end_that_the_machine_had_a_part_in_says_so_and_no_other_does() {
    let lab = Lab::new();
    let mut late = lab.request(guest!("spin"));
    late.limits.wall_ms = 0;
    let said = async |request| is_by_host(&lab.run(&request).await.error.unwrap());
    assert!(said(late).await);
    assert!(said(lab.request(guest!("deep_recursion"))).await);
    let out_of_fuel = guest!("spin");
    let greedy = guest!("grow_and_touch");
    let printing = guest!("print_for_ever").replace("FD", "1");
    let failing = guest!("exit").replace("CODE", "3");
    for own in [
        out_of_fuel,
        greedy,
        printing,
        failing,
        guest!("unreachable"),
    ] {
        assert!(!said(lab.request(&own)).await, "{own}");
    }
}
