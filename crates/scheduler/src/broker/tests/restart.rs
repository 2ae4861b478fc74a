//! What a new broker makes of the records of the last one.

use super::*;

/// What [`crate::records`] would read back.
fn stored(desk: &Desk, manifest: &Arc<VerifiedManifest>) -> StoredJob {
    let mut tasks = std::collections::BTreeMap::new();
    for task in desk.commits.iter().flat_map(|commit| &commit.tasks) {
        tasks.insert(task.index, task.clone());
    }
    let last = desk.commits.last().unwrap();
    StoredJob {
        job: last.job.clone(),
        manifest: manifest.clone(),
        options: last.options,
        tasks: tasks.into_values().collect(),
    }
}

#[test]
fn a_restored_job_keeps_what_was_accepted_and_asks_live_leases_again() {
    let manifest = manifest(1, 3, &[]);
    let mut before = Desk::with_donors(2, 1);
    let job = before.submit(manifest.clone());
    before.ran(before.dispatched[0], Status::Succeeded);
    let live: Vec<_> = before.dispatched[1..].to_vec();
    assert_eq!(live.len(), 2);

    let mut after = Desk::new();
    after.now = at(500.0);
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.settle();
    assert!(after.submitted.is_empty(), "a job was acknowledged twice");
    assert!(after.dispatched.is_empty());
    after.donor(0, 1);
    after.donor(1, 1);
    after.donor(2, 9);
    let mut again = after.dispatched.clone();
    again.sort();
    assert_eq!(again, {
        let mut live = live.clone();
        live.sort();
        live
    });
    for lease in live {
        after.ran(lease, Status::Succeeded);
    }
    assert_eq!(after.finished[0].id, job);
    assert_eq!(after.finished[0].tally.accepted, 3);
    assert_eq!(
        after
            .commits
            .iter()
            .map(|commit| commit.receipts.len())
            .sum::<usize>(),
        2
    );
}

#[test]
fn an_exit_that_counted_before_a_restart_counts_no_second_time() {
    let manifest = manifest(1, 2, &[]);
    let mut before = Desk::with_donors(1, 2);
    before.submit(manifest.clone());
    let leases = before.dispatched.clone();
    before.ran(leases[0], Status::Succeeded);
    let counted = before.commits.last().unwrap().tasks[0].leases[0].exit;

    let mut after = Desk::with_donors(1, 2);
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.settle();
    let (lease, donor) = after.last();
    assert_eq!((lease, donor), leases[1]);
    let again = Execution {
        exit: counted.unwrap(),
        ..execution(lease, donor, Status::Succeeded)
    };
    after.reply(lease, donor, Reply::Ran(Box::new(again)));
    assert!(after.finished.is_empty());
    assert_eq!(after.task(lease.task.job, 1).state, TaskState::Ready);
}

#[test]
fn a_restored_lease_whose_donor_stays_away_expires_and_goes_to_another() {
    let manifest = manifest(1, 1, &[]);
    let mut before = Desk::with_donors(1, 1);
    before.submit(manifest.clone());
    let mut after = Desk::new();
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.donor(3, 1);
    after.pass(29.0);
    assert!(after.dispatched.is_empty());
    after.pass(2.0);
    assert_eq!(
        after.last(),
        (
            LeaseId {
                attempt: 1,
                ..before.last().0
            },
            peer(3)
        )
    );
}

#[test]
fn a_cancellation_that_was_under_way_is_finished_after_a_restart() {
    let manifest = manifest(1, 200, &[]);
    let mut before = Desk::with_donors(1, 200);
    let job = before.submit(manifest.clone());
    before.broker.cancel(before.now, job, "enough").unwrap();
    let Action::Commit(first) = before.broker.poll(before.now).pop().unwrap() else {
        panic!()
    };
    assert!(
        !first.job.state.is_final(),
        "it takes more than one portion"
    );
    before.commits.push(*first);

    let mut after = Desk::with_donors(1, 200);
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.settle();
    assert!(after.dispatched.is_empty());
    assert_eq!(after.finished[0].state, JobState::Cancelled);
    assert_eq!(after.finished[0].tally.cancelled, 200);
}

#[test]
fn records_that_contradict_the_manifest_are_refused() {
    let manifest = manifest(1, 2, &[]);
    let mut before = Desk::with_donors(1, 1);
    before.submit(manifest.clone());
    let good = stored(&before, &manifest);
    let refused = |change: fn(&mut StoredJob)| {
        let mut stored = good.clone();
        change(&mut stored);
        let fault = Broker::new(0).restore(at(0.0), stored).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::Internal));
    };
    refused(|stored| stored.tasks[0].index = 2);
    refused(|stored| stored.tasks[0].index = 1);
    refused(|stored| stored.tasks[0].next_attempt = 0);
    refused(|stored| stored.job.id = job_id(2));
    refused(|stored| stored.tasks.push(stored.tasks[0].clone()));
    refused(|stored| stored.tasks[0] = TaskRecord::untouched(1));
    assert!(Broker::new(0).restore(at(0.0), good.clone()).is_ok());
}
