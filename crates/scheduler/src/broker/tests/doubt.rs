//! Donors that take a task and have nothing to show for it.

use super::*;

/// Passes time in which the donor says every second that it works.
fn confirm_for(desk: &mut Desk, lease: (LeaseId, PeerId), seconds: u32) {
    for _ in 0..seconds {
        desk.pass(1.0);
        desk.heartbeat(lease, true);
    }
}

/// The donors are heard of, so that none counts as silent.
fn announce(desk: &mut Desk, donors: u8, slots: u32) {
    (0..donors).for_each(|number| desk.donor(number, slots));
}

#[test]
fn a_newcomer_whose_only_sign_is_its_word_loses_the_task_to_another_within_a_minute() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let idler = desk.last();
    confirm_for(&mut desk, idler, 44);
    assert_eq!(desk.dispatched.len(), 1);
    confirm_for(&mut desk, idler, 1);
    let heir = desk.last();
    assert_ne!(heir.1, idler.1);
    assert_eq!(desk.stopped, [idler.0]);
    let lost = &desk.task(job, 0).leases[0];
    assert_eq!(lost.state, LeaseState::Superseded);
    assert_eq!(
        lost.reason.as_deref(),
        Some("the donor had nothing to show for it")
    );
    desk.ran(idler, Status::Succeeded);
    assert!(desk.finished.is_empty(), "a superseded lease was settled");
    desk.ran(heir, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn one_that_gave_a_receipt_is_believed_for_the_tasks_own_time() {
    let mut desk = Desk::with_donors(2, 1);
    desk.prove_all(2);
    desk.submit(manifest(1, 1, &["max_wall_time: 2m"]));
    let lease = desk.last();
    for _ in 0..16 {
        confirm_for(&mut desk, lease, 10);
        announce(&mut desk, 2, 1);
    }
    assert_eq!(desk.dispatched.len(), 1);
    confirm_for(&mut desk, lease, 5);
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn a_donor_keeps_a_task_that_nobody_else_has_room_for() {
    let mut desk = Desk::with_donors(1, 2);
    desk.submit(manifest(1, 2, &[]));
    let [first, second] = desk.dispatched[..] else {
        panic!("{:?}", desk.dispatched)
    };
    for _ in 0..100 {
        confirm_for(&mut desk, first, 1);
        desk.heartbeat(second, true);
    }
    assert_eq!(desk.dispatched.len(), 2);
    desk.ran(first, Status::Succeeded);
    desk.ran(second, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn tasks_that_wait_go_before_tasks_that_are_doubtful() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 2, &["max_wall_time: 7d"]));
    let idler = desk.last();
    confirm_for(&mut desk, idler, 100);
    desk.donor(1, 1);
    let waited = desk.last();
    assert_eq!((waited.0.task.index, waited.1), (1, peer(1)));
    desk.ran(waited, Status::Succeeded);
    let heir = desk.last();
    assert_eq!((heir.0.task.index, heir.1), (0, peer(1)));
}

#[test]
fn one_idle_donor_takes_one_of_many_doubtful_tasks() {
    let mut desk = Desk::with_donors(1, 8);
    let job = desk.submit(manifest(1, 8, &["max_wall_time: 7d"]));
    for _ in 0..60 {
        desk.pass(1.0);
        for lease in desk.dispatched.clone() {
            desk.heartbeat(lease, true);
        }
    }
    desk.donor(1, 1);
    assert_eq!(desk.dispatched.len(), 9);
    assert_eq!(desk.broker.job(job).unwrap().tally.in_flight, 8);
}

#[test]
fn fetching_what_the_task_needs_is_something_to_show_until_there_is_no_more_of_it() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    for mib in 1..=10 {
        confirm_for(&mut desk, lease, 40);
        announce(&mut desk, 2, 1);
        desk.heartbeat_of(lease, true, mib * MIN_PROGRESS);
    }
    assert_eq!(desk.dispatched.len(), 1);
    for _ in 0..44 {
        desk.pass(1.0);
        desk.heartbeat_of(lease, true, 11 * MIN_PROGRESS - 1);
    }
    assert_eq!(desk.dispatched.len(), 1);
    desk.pass(1.0);
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn fetching_for_ever_is_not_something_to_show() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let lease = desk.last();
    let mut fetched = 0;
    while desk.dispatched.len() == 1 {
        fetched += MIN_PROGRESS;
        confirm_for(&mut desk, lease, 10);
        announce(&mut desk, 2, 1);
        desk.heartbeat_of(lease, true, fetched);
    }
    let held = desk.now.monotonic;
    assert!(held > RUN_GRACE, "{held:?}");
    assert!(
        held <= RUN_GRACE + DOUBT_AFTER + HEARTBEAT_EVERY,
        "{held:?}"
    );
}

#[test]
fn a_verified_receipt_is_waited_for_however_long_its_results_take() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let (lease, from) = desk.last();
    desk.tell(Event::Answered { lease, from });
    for _ in 0..5 {
        confirm_for(&mut desk, (lease, from), 60);
        announce(&mut desk, 2, 1);
    }
    desk.ran((lease, from), Status::Succeeded);
    assert_eq!(desk.dispatched.len(), 1);
    assert_eq!(desk.finished.len(), 1);
}

#[test]
fn a_stream_that_breaks_again_and_again_wins_no_time() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let lease = desk.last();
    for _ in 0..2 {
        confirm_for(&mut desk, lease, 20);
        desk.reply(lease.0, lease.1, unreachable());
    }
    confirm_for(&mut desk, lease, 4);
    assert_eq!(desk.last(), lease);
    confirm_for(&mut desk, lease, 1);
    assert_ne!(desk.last().1, lease.1);
}

#[test]
fn an_idler_is_left_alone_and_then_asked_last_until_it_gives_a_receipt() {
    let mut desk = Desk::with_donors(2, 4);
    desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let idler = desk.last();
    confirm_for(&mut desk, idler, 45);
    let honest = desk.last();
    desk.ran(honest, Status::Succeeded);
    let share = |desk: &mut Desk, number| {
        announce(desk, 2, 4);
        desk.dispatched.clear();
        desk.submit(manifest(number, 4, &[]));
        let leases = desk.dispatched.clone();
        let of_idler = leases.iter().filter(|lease| lease.1 == idler.1).count();
        leases
            .iter()
            .for_each(|lease| desk.ran(*lease, Status::Succeeded));
        of_idler
    };
    assert_eq!(share(&mut desk, 2), 0);
    desk.pass(60.0);
    assert_eq!(share(&mut desk, 3), 0, "it is asked before one that works");
    // Too many for the other alone.
    desk.submit(manifest(4, 5, &[]));
    assert_eq!(desk.last().1, idler.1);
    let leases = desk.dispatched.clone();
    leases
        .iter()
        .for_each(|lease| desk.ran(*lease, Status::Succeeded));
    assert_eq!(share(&mut desk, 5), 2, "a receipt did not mend its name");
}

#[test]
fn who_goes_away_and_comes_back_is_who_it_was() {
    let mut desk = Desk::with_donors(2, 1);
    desk.prove_all(2);
    desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let believed = desk.last();
    desk.pass(1.0);
    for donor in [peer(0), peer(1)] {
        desk.tell(Event::DonorDown { peer: donor });
    }
    announce(&mut desk, 2, 1);
    let lease = desk.last();
    confirm_for(&mut desk, lease, 60);
    assert_eq!(desk.last(), lease, "a receipt was forgotten: {believed:?}");

    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let idler = desk.last();
    confirm_for(&mut desk, idler, 45);
    let heir = desk.last();
    desk.ran(heir, Status::Succeeded);
    desk.tell(Event::DonorDown { peer: idler.1 });
    announce(&mut desk, 2, 1);
    desk.dispatched.clear();
    desk.submit(manifest(2, 2, &[]));
    let asked: Vec<_> = desk.dispatched.iter().map(|(_, donor)| *donor).collect();
    assert_eq!(asked, [heir.1], "what it did not do was forgotten");
}

#[test]
fn a_long_task_among_newcomers_is_given_away_three_times_and_then_has_its_time() {
    let mut desk = Desk::with_donors(8, 1);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 10m"]));
    for _ in 0..4 * 45 + 300 {
        desk.pass(1.0);
        announce(&mut desk, 8, 1);
        let lease = desk.last();
        desk.heartbeat(lease, true);
    }
    assert_eq!(desk.dispatched.len(), 4);
    desk.ran(desk.last(), Status::Succeeded);
    assert_eq!(desk.finished[0].id, job);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn this_nodes_own_donor_is_believed_from_the_start() {
    let mut desk = Desk::with_donors(2, 1);
    for donor in [peer(0), peer(1)] {
        desk.broker.vouch_for(desk.now, donor);
    }
    desk.submit(manifest(1, 1, &["max_wall_time: 2m"]));
    let lease = desk.last();
    confirm_for(&mut desk, lease, 100);
    assert_eq!(desk.dispatched.len(), 1);
}
