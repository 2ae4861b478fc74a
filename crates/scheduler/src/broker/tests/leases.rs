//! The life of a lease, and what ends it.

use super::*;

#[test]
fn a_busy_donor_is_left_alone_longer_each_time_and_costs_no_attempt() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let mut moments = vec![];
    for _ in 0..8 {
        moments.push(desk.now.monotonic.as_secs());
        desk.reply(desk.last().0, peer(0), busy());
        let before = desk.dispatched.len();
        while desk.dispatched.len() == before {
            desk.pass(1.0);
            desk.donor(0, 1);
        }
    }
    assert_eq!(moments, [0, 1, 3, 7, 15, 31, 63, 95]);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
    assert_eq!(desk.last().0.attempt, 8, "an attempt number was used twice");
}

#[test]
fn a_donor_that_did_what_it_was_asked_is_left_alone_only_briefly_again() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 2, &[]));
    for _ in 0..5 {
        desk.reply(desk.last().0, peer(0), busy());
        desk.pass(40.0);
        desk.donor(0, 1);
    }
    desk.ran(desk.last(), Status::Succeeded);
    let before = desk.dispatched.len();
    desk.reply(desk.last().0, peer(0), busy());
    desk.pass(1.0);
    assert_eq!(desk.dispatched.len(), before + 1);
}

#[test]
fn a_lost_task_goes_to_a_donor_that_has_not_had_it() {
    let mut desk = Desk::with_donors(3, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let mut tried = vec![desk.last().1];
    for _ in 0..2 {
        desk.reply(desk.last().0, desk.last().1, lost("sandbox broke"));
        tried.push(desk.last().1);
    }
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), 3);
    assert_eq!(
        desk.task(job, 0).leases[0].reason.as_deref(),
        Some("sandbox broke")
    );
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Released);
}

#[test]
fn a_task_whose_leases_expire_goes_round_all_donors_before_any_gets_it_again() {
    let mut desk = Desk::with_donors(6, 1);
    desk.submit(manifest(1, 1, &[]));
    for _ in 0..5 {
        (0..6).for_each(|number| desk.donor(number, 1));
        desk.pass(31.0);
    }
    let mut donors: Vec<_> = desk.dispatched.iter().map(|(_, donor)| *donor).collect();
    donors.sort();
    donors.dedup();
    assert_eq!((desk.dispatched.len(), donors.len()), (6, 6));
}

#[test]
fn a_run_the_donor_stopped_is_tried_elsewhere() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    desk.ran(desk.last(), Status::Cancelled);
    assert_eq!(desk.dispatched.len(), 2);
    assert_ne!(desk.dispatched[0].1, desk.dispatched[1].1);
}

#[test]
fn a_donor_that_numbers_two_exits_alike_settles_one_task_and_is_not_asked_again() {
    let mut desk = Desk::with_donors(1, 2);
    let job = desk.submit(manifest(1, 2, &[]));
    let [(first, donor), (second, _)] = desk.dispatched[..] else {
        panic!("{:?}", desk.dispatched)
    };
    let ran = |lease| Execution {
        exit: 7,
        ..execution(lease, donor, Status::Succeeded)
    };
    desk.reply(first, donor, Reply::Ran(Box::new(ran(first))));
    assert_eq!(desk.task(job, 0).leases[0].exit, Some(7));
    desk.reply(second, donor, Reply::Ran(Box::new(ran(second))));
    let refused = desk.task(job, 1);
    assert_eq!(refused.state, TaskState::Ready);
    let reason = refused.leases[0].reason.as_deref().unwrap();
    assert!(reason.contains("exit number 7"), "{reason}");
    assert_eq!(desk.dispatched.len(), 2);

    // The number is another donor's own.
    desk.donor(1, 1);
    let (third, other) = desk.last();
    assert_ne!(other, donor);
    let ran = Execution {
        executor: other,
        ..ran(third)
    };
    desk.reply(third, other, Reply::Ran(Box::new(ran)));
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_donor_that_goes_down_loses_its_tasks_to_others_at_once() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let (first, dead) = desk.last();
    desk.pass(5.0);
    desk.tell(Event::DonorDown { peer: dead });
    let (second, heir) = desk.last();
    assert_ne!(dead, heir);
    assert_eq!(second.attempt, first.attempt + 1);
    let old = desk.task(job, 0).leases[0].clone();
    assert_eq!((old.id, old.state), (first, LeaseState::Superseded));

    desk.tell(Event::Donor {
        peer: dead,
        capacity: capacity(1),
    });
    desk.ran((first, dead), Status::Succeeded);
    assert!(desk.finished.is_empty(), "a superseded lease was settled");
    desk.ran((second, heir), Status::Succeeded);
    assert_eq!(desk.finished.len(), 1);
    let receipts: Vec<_> = desk
        .commits
        .iter()
        .flat_map(|commit| &commit.receipts)
        .collect();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].lease, second);
}

#[test]
fn a_donor_that_comes_back_before_anyone_took_its_task_goes_on_under_the_same_lease() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.tell(Event::DonorDown { peer: lease.1 });
    desk.pass(20.0);
    assert_eq!(desk.dispatched.len(), 1);
    desk.donor(0, 1);
    assert_eq!(desk.dispatched, [lease, lease]);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
    desk.ran(lease, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_donor_that_stays_away_longer_than_a_lease_gets_a_new_one() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.tell(Event::DonorDown { peer: lease.1 });
    desk.pass(31.0);
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Expired);
    desk.donor(0, 1);
    assert_eq!(desk.last().0.attempt, 1);
    desk.ran(lease, Status::Succeeded);
    assert!(desk.finished.is_empty());
}

#[test]
fn heartbeats_keep_a_lease_alive_and_silence_ends_it_after_its_ttl() {
    let mut desk = Desk::with_donors(2, 1);
    desk.prove_all(2);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 1h"]));
    let lease = desk.last();
    for _ in 0..20 {
        desk.pass(9.0);
        desk.heartbeat(lease, true);
        (0..2).for_each(|number| desk.donor(number, 1));
    }
    assert_eq!(desk.dispatched.len(), 1);
    assert_eq!(desk.task(job, 0).state, TaskState::Running);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Running);
    assert!(desk.asked.len() >= 18);
    desk.pass(29.9);
    assert_eq!(desk.dispatched.len(), 1);
    desk.pass(0.1);
    assert_eq!(desk.dispatched.len(), 2);
    assert_eq!(desk.stopped, [lease.0]);
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Expired);
}

#[test]
fn questions_come_at_least_every_ten_seconds() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    for second in 1..=100 {
        desk.pass(1.0);
        desk.heartbeat(lease, true);
        assert!(
            desk.asked.len() > (second - 1) / 10,
            "second {second}: {}",
            desk.asked.len()
        );
    }
}

#[test]
fn the_only_donor_that_confirms_for_ever_without_answering_is_given_up_after_the_tasks_time() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 10s"]));
    let lease = desk.last();
    for _ in 0..61 {
        assert!(desk.task(job, 0).active_lease().is_some());
        desk.pass(10.0);
        desk.heartbeat(lease, true);
    }
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Expired);
    assert_eq!(desk.dispatched.len(), 1);
    let waiting = desk.broker.job(job).unwrap().waiting.unwrap();
    assert!(waiting.contains("did nothing"), "{waiting}");
    desk.donor(0, 1);
    desk.pass(10.0);
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn a_donor_that_knows_nothing_of_a_confirmed_task_loses_it_within_seconds() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.pass(2.0);
    desk.heartbeat(lease, false);
    desk.pass(6.0);
    assert_eq!(
        desk.dispatched.len(),
        1,
        "the question may have overtaken the task"
    );
    desk.heartbeat(lease, true);
    desk.heartbeat(lease, false);
    desk.pass(4.0);
    assert_eq!(desk.dispatched.len(), 1, "the answer may be on its way");
    desk.pass(1.0);
    assert_eq!(desk.dispatched.len(), 2);
    let reason = desk.task(job, 0).leases[0].reason.as_deref();
    assert_eq!(reason, Some("the donor knows nothing of the task"));
}

#[test]
fn an_answer_that_was_on_its_way_when_the_donor_had_forgotten_the_task_counts() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.heartbeat(lease, true);
    desk.heartbeat(lease, false);
    desk.pass(3.0);
    desk.ran(lease, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
    assert_eq!(desk.dispatched.len(), 1);
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_lease() {
    let mut desk = Desk::with_donors(2, 1);
    desk.prove_all(2);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let lease = desk.last();
    for _ in 0..50 {
        for _ in 0..60 {
            desk.pass(10.0);
            desk.heartbeat(lease, true);
        }
        desk.reply(lease.0, lease.1, unreachable());
        desk.pass(2.0);
    }
    assert!(desk.dispatched.iter().all(|again| *again == lease));
    assert_eq!(desk.dispatched.len(), 51);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
}

#[test]
fn answers_that_get_lost_again_and_again_end_the_lease() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    for _ in 0..3 {
        desk.reply(lease.0, lease.1, unreachable());
        desk.pass(1.0);
    }
    assert_eq!(desk.dispatched[..3], [lease, lease, lease]);
    assert_ne!(desk.last().1, lease.1);
}

#[test]
fn replies_of_strangers_copies_and_contradictions_change_nothing() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let (lease, donor) = desk.last();
    let other = [peer(0), peer(1)]
        .into_iter()
        .find(|each| *each != donor)
        .unwrap();
    let unknown = LeaseId {
        attempt: 9,
        ..lease
    };
    let foreign =
        |lease, executor| Reply::Ran(Box::new(execution(lease, executor, Status::Succeeded)));
    desk.reply(lease, other, foreign(lease, other));
    desk.reply(lease, other, lost("let me have it"));
    desk.reply(lease, donor, foreign(lease, other));
    desk.reply(lease, donor, foreign(unknown, donor));
    desk.reply(unknown, donor, foreign(unknown, donor));
    desk.heartbeat((lease, other), false);
    assert_eq!(desk.task(job, 0).state, TaskState::Dispatched);
    desk.ran((lease, donor), Status::Succeeded);
    desk.ran((lease, donor), Status::Succeeded);
    desk.ran((lease, donor), Status::Failed);
    assert_eq!(desk.finished.len(), 1);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_jump_of_the_clock_on_the_wall_does_not_touch_leases() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let year = jiff::SignedDuration::from_hours(24 * 365);
    for wall in [desk.now.wall + year, desk.now.wall - year] {
        desk.now.wall = wall;
        desk.settle();
        assert_eq!(desk.dispatched.len(), 1);
    }
    assert!(desk.task(job, 0).active_lease().is_some());
}
