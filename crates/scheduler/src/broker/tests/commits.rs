//! What is stored when, and what waits for it.

use super::*;

#[test]
fn a_job_is_acknowledged_dispatched_and_finished_only_after_the_commit_that_says_so() {
    let mut broker = Broker::new(0);
    let now = at(0.0);
    broker.handle(
        now,
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(now, manifest(1, 1, &[]), Options::default())
        .unwrap();
    let [Action::Commit(commit)] = exactly(&mut broker, now) else {
        panic!()
    };
    assert!(commit.first);
    assert_eq!(commit.tasks[0].state, TaskState::Dispatched);
    assert!(broker.poll(now).is_empty());

    broker.handle(
        now,
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [
        Action::Submitted { .. },
        Action::Dispatch { lease, donor, .. },
    ] = exactly(&mut broker, now)
    else {
        panic!()
    };
    let ran = Reply::Ran(Box::new(execution(lease, donor, Status::Succeeded)));
    broker.handle(
        now,
        Event::Reply {
            lease,
            from: donor,
            reply: ran,
        },
    );
    assert_eq!(broker.tasks(job).unwrap()[0].state, TaskState::Verifying);
    assert_eq!(broker.job(job).unwrap().state, JobState::Verifying);
    let [Action::Commit(commit)] = exactly(&mut broker, now) else {
        panic!()
    };
    assert!(!commit.first);
    assert_eq!(commit.job.state, JobState::Completed);
    assert_eq!(commit.tasks[0].state, TaskState::Accepted);
    assert_eq!(commit.receipts.len(), 1);
    assert!(broker.poll(now).is_empty());
    assert_eq!(broker.job(job).unwrap().state, JobState::Verifying);

    broker.handle(
        now,
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [Action::JobFinished { job: finished }] = exactly(&mut broker, now) else {
        panic!()
    };
    assert_eq!(*finished, commit.job);
    assert!(broker.job(job).is_none());
}

#[test]
fn a_commit_that_fails_is_asked_for_again_with_all_it_held_and_nothing_happens_before() {
    let mut broker = Broker::new(0);
    broker.handle(
        at(0.0),
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(at(0.0), manifest(1, 1, &[]), Options::default())
        .unwrap();
    let [Action::Commit(first)] = exactly(&mut broker, at(0.0)) else {
        panic!()
    };
    broker.handle(
        at(0.0),
        Event::CommitFailed {
            job,
            number: first.number,
        },
    );
    assert!(broker.poll(at(0.0)).is_empty());
    assert_eq!(broker.next_wakeup(at(0.0)), Some(Duration::from_secs(1)));
    let [Action::Commit(second)] = exactly(&mut broker, at(1.0)) else {
        panic!()
    };
    assert!(second.first);
    assert_eq!(second.tasks, first.tasks);
    broker.handle(
        at(1.0),
        Event::Committed {
            job,
            number: first.number,
        },
    );
    assert!(
        broker.poll(at(1.0)).is_empty(),
        "an old number acknowledged a new commit"
    );
    broker.handle(
        at(1.0),
        Event::Committed {
            job,
            number: second.number,
        },
    );
    assert_eq!(broker.poll(at(1.0)).len(), 2);
}

#[test]
fn many_tasks_are_stored_in_small_portions() {
    let mut desk = Desk::with_donors(4, 250);
    let job = desk.submit(manifest(1, 1_000, &[]));
    assert_eq!(desk.dispatched.len(), 1_000);
    for lease in desk.dispatched.clone() {
        desk.broker.handle(
            desk.now,
            Event::Reply {
                lease: lease.0,
                from: lease.1,
                reply: Reply::Ran(Box::new(execution(lease.0, lease.1, Status::Succeeded))),
            },
        );
    }
    desk.settle();
    assert!(
        desk.commits
            .iter()
            .all(|commit| commit.tasks.len() <= COMMIT_TASKS)
    );
    let receipts: usize = desk
        .commits
        .iter()
        .map(|commit| commit.receipts.len())
        .sum();
    assert_eq!(receipts, 1_000);
    assert_eq!(desk.finished[0].id, job);
    assert_eq!(desk.finished[0].tally.accepted, 1_000);
    let last = desk
        .commits
        .iter()
        .filter(|commit| commit.job.state.is_final())
        .count();
    assert_eq!(last, 1);
}

#[test]
fn a_second_answer_while_the_first_is_being_stored_changes_nothing() {
    let mut broker = Broker::new(0);
    broker.handle(
        at(0.0),
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(at(0.0), manifest(1, 1, &[]), Options::default())
        .unwrap();
    broker.poll(at(0.0));
    broker.handle(at(0.0), Event::Committed { job, number: 1 });
    broker.poll(at(0.0));
    let lease = broker.tasks(job).unwrap()[0].active_lease().unwrap().id;
    let ran = |status| Event::Reply {
        lease,
        from: peer(0),
        reply: Reply::Ran(Box::new(execution(lease, peer(0), status))),
    };
    broker.handle(at(0.0), ran(Status::Succeeded));
    let [Action::Commit(commit)] = exactly(&mut broker, at(0.0)) else {
        panic!()
    };
    broker.handle(at(0.0), ran(Status::Failed));
    broker.handle(
        at(0.0),
        Event::Reply {
            lease,
            from: peer(0),
            reply: lost("changed my mind"),
        },
    );
    broker.handle(at(0.0), Event::DonorDown { peer: peer(0) });
    assert!(broker.poll(at(100.0)).is_empty());
    broker.handle(
        at(100.0),
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [Action::JobFinished { job }] = exactly(&mut broker, at(100.0)) else {
        panic!()
    };
    assert_eq!(job.state, JobState::Completed);
}
