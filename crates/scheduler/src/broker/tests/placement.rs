//! Who gets which task, and what a job waits for.

use super::*;

#[test]
fn tasks_wait_for_slots_and_follow_each_other() {
    let mut desk = Desk::with_donors(1, 2);
    let job = desk.submit(manifest(1, 3, &[]));
    assert_eq!(desk.dispatched.len(), 2);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Dispatching);
    desk.ran(desk.dispatched[0], Status::Succeeded);
    assert_eq!(desk.dispatched.len(), 3);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Running);
}

#[test]
fn work_spreads_over_equal_donors() {
    let mut desk = Desk::with_donors(4, 4);
    desk.submit(manifest(1, 8, &[]));
    for number in 0..4 {
        let given = desk
            .dispatched
            .iter()
            .filter(|(_, donor)| *donor == peer(number))
            .count();
        assert_eq!(given, 2);
    }
}

#[test]
fn jobs_share_the_slots_whatever_their_size() {
    let mut desk = Desk::with_donors(1, 4);
    let large = desk.submit(manifest(1, 100, &[]));
    let small = desk.submit(manifest(2, 2, &[]));
    for _ in 0..3 {
        desk.ran(
            desk.dispatched[desk.dispatched.len() - 4],
            Status::Succeeded,
        );
    }
    let given = |job| {
        desk.dispatched
            .iter()
            .filter(|(lease, _)| lease.task.job == job)
            .count()
    };
    assert_eq!((given(large), given(small)), (5, 2));
}

#[test]
fn a_job_of_long_tasks_does_not_take_the_slots_back_from_a_job_of_short_ones() {
    let mut desk = Desk::with_donors(1, 4);
    let long = desk.submit(manifest(1, 100, &[]));
    let short = desk.submit(manifest(2, 20, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    desk.ran(desk.dispatched[1], Status::Succeeded);
    for _ in 0..10 {
        assert_eq!(desk.last().0.task.job, short);
        let in_flight = |job| desk.broker.job(job).unwrap().tally.in_flight;
        assert_eq!((in_flight(long), in_flight(short)), (2, 2));
        desk.ran(desk.last(), Status::Succeeded);
    }
}

#[test]
fn a_single_slot_alternates_between_jobs() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 3, &[]));
    desk.submit(manifest(2, 3, &[]));
    for _ in 0..5 {
        desk.ran(desk.last(), Status::Succeeded);
    }
    let order: Vec<_> = desk
        .dispatched
        .iter()
        .map(|(lease, _)| lease.task.job)
        .collect();
    let (a, b) = (job_id(1), job_id(2));
    assert_eq!(order, [a, b, a, b, a, b]);
}

#[test]
fn only_a_donor_that_fits_gets_the_task_and_the_job_says_why_it_waits() {
    let wants = [
        "resources: {cpu: 2, memory: 1Gi}",
        "acceptable_use_classes: [rendering, general]",
    ];
    let fits = capacity(1);
    let unfit = [
        (
            Capacity {
                classes: Classes::of(["general", "scientific"]),
                ..fits
            },
            "consented to rendering",
        ),
        (
            Capacity {
                cpu_millicores: 1_999,
                ..fits
            },
            "cores",
        ),
        (
            Capacity {
                memory_bytes: (1 << 30) - 1,
                ..fits
            },
            "memory",
        ),
        (
            Capacity {
                paused: true,
                ..fits
            },
            "paused",
        ),
        (Capacity { slots: 0, ..fits }, "busy"),
    ];
    for (capacity, reason) in unfit {
        let mut desk = Desk::new();
        desk.tell(Event::Donor {
            peer: peer(0),
            capacity,
        });
        let job = desk.submit(manifest(1, 1, &wants));
        assert!(desk.dispatched.is_empty(), "{reason}");
        let record = desk.broker.job(job).unwrap();
        assert_eq!(record.state, JobState::Queued);
        assert!(record.waiting.unwrap().contains(reason), "{reason}");
        desk.tell(Event::Donor {
            peer: peer(1),
            capacity: Capacity {
                memory_bytes: 1 << 30,
                cpu_millicores: 2_000,
                ..fits
            },
        });
        assert_eq!(desk.last().1, peer(1));
        assert_eq!(desk.broker.job(job).unwrap().waiting, None);
    }
}

#[test]
fn the_memory_of_running_tasks_is_taken() {
    let mut desk = Desk::new();
    desk.tell(Event::Donor {
        peer: peer(0),
        capacity: Capacity {
            memory_bytes: 5 << 29,
            ..capacity(8)
        },
    });
    desk.submit(manifest(1, 4, &["resources: {memory: 1Gi}"]));
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn a_silent_donor_gets_no_task() {
    let mut desk = Desk::with_donors(1, 1);
    desk.pass(DONOR_SILENCE.as_secs_f64() + 1.0);
    let job = desk.submit(manifest(1, 1, &[]));
    assert!(desk.dispatched.is_empty());
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("heard")
    );
    desk.donor(0, 1);
    assert_eq!(desk.dispatched.len(), 1);
}

#[test]
fn a_job_for_one_donor_waits_for_that_donor() {
    let mut desk = Desk::with_donors(2, 1);
    let options = Options {
        donor: Some(peer(5)),
        ..Options::default()
    };
    let job = desk.submit_with(manifest(1, 1, &[]), options);
    assert!(desk.dispatched.is_empty());
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("asked for")
    );
    desk.donor(5, 1);
    assert_eq!(desk.last().1, peer(5));
}

#[test]
fn without_donors_a_job_waits_for_ever_unless_its_patience_ends() {
    let mut desk = Desk::new();
    let patient = desk.submit(manifest(1, 1, &[]));
    let options = Options {
        patience: Some(Duration::from_secs(5)),
        ..Options::default()
    };
    let impatient = desk.submit_with(manifest(2, 1, &[]), options);
    desk.pass(4.0);
    assert!(desk.finished.is_empty());
    assert_eq!(
        desk.broker.job(patient).unwrap().waiting.as_deref(),
        Some("no donor is connected")
    );
    desk.pass(2.0);
    assert_eq!(desk.finished[0].id, impatient);
    assert_eq!(desk.finished[0].state, JobState::Failed);
    assert_eq!(desk.finished[0].fault.as_ref().unwrap().code, "WC-004");
    desk.pass(100_000.0);
    assert_eq!(desk.finished.len(), 1);
}

#[test]
fn endless_patience_is_not_too_long() {
    let mut desk = Desk::new();
    let options = Options {
        patience: Some(Duration::MAX),
        ..Options::default()
    };
    desk.submit_with(manifest(1, 1, &[]), options);
    assert_eq!(
        desk.broker.next_wakeup(desk.now),
        Some(Duration::from_secs(3_600))
    );
    desk.pass(1_000_000.0);
    assert!(desk.finished.is_empty());
}

#[test]
fn patience_does_not_run_while_a_fitting_donor_is_busy() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    let options = Options {
        patience: Some(Duration::from_secs(5)),
        ..Options::default()
    };
    desk.submit_with(manifest(2, 1, &[]), options);
    for _ in 0..20 {
        desk.pass(1.0);
        desk.donor(0, 1);
        desk.heartbeat(desk.last(), true);
    }
    assert!(desk.finished.is_empty());
}

#[test]
fn the_same_seed_and_events_give_the_same_choices() {
    let run = || {
        let mut desk = Desk::with_donors(5, 3);
        desk.submit(manifest(1, 12, &[]));
        desk.dispatched
    };
    assert_eq!(run(), run());
}

#[test]
fn a_task_that_a_donor_keeps_losing_waits_for_another_that_is_busy() {
    let mut desk = Desk::new();
    desk.donor(0, 1);
    let long = desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let busy = desk.last();
    desk.donor(1, 1);
    let job = desk.submit(manifest(2, 2, &[]));
    for _ in 0..MAX_LOSSES {
        let (lease, donor) = desk.last();
        assert_eq!((lease.task.index, donor), (0, peer(1)));
        desk.reply(lease, donor, lost("its bytes cannot be had"));
        desk.pass(5.0);
        desk.heartbeat(busy, true);
    }
    let sibling = desk.last();
    assert_eq!((sibling.0.task.index, sibling.1), (1, peer(1)));
    desk.ran(sibling, Status::Succeeded);
    let waiting = desk.broker.job(job).unwrap().waiting;
    assert_eq!(waiting.as_deref(), Some("1 donor is busy"));
    desk.ran(busy, Status::Succeeded);
    assert!(desk.broker.job(long).is_none());
    assert_eq!((desk.last().0.task.index, desk.last().1), (0, peer(0)));
}

#[test]
fn a_task_that_its_only_donor_keeps_losing_is_tried_there_again() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    for _ in 0..=MAX_LOSSES {
        desk.reply(
            desk.last().0,
            desk.last().1,
            lost("its bytes cannot be had"),
        );
        desk.pass(8.0);
    }
    assert_eq!(desk.dispatched.len(), MAX_LOSSES + 2);
}

#[test]
fn an_image_waits_for_a_donor_that_runs_images() {
    let mut desk = Desk::new();
    let peers = [(0, false), (1, true)];
    let donor = |(number, images)| Event::Donor {
        peer: peer(number),
        capacity: Capacity {
            images,
            ..capacity(1)
        },
    };
    desk.tell(donor(peers[0]));
    let job = desk.submit(image_manifest(1));
    let record = desk.broker.job(job).unwrap();
    assert!(record.waiting.unwrap().contains("runs no images"));
    desk.tell(donor(peers[1]));
    assert_eq!(desk.last().1, peer(1));
}
