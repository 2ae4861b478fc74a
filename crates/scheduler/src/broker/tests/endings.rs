//! How jobs end other than by success.

use super::*;

#[test]
fn a_task_that_is_lost_too_often_fails_and_says_by_whom() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    for _ in 0..MAX_ATTEMPTS {
        assert!(desk.finished.is_empty());
        let count = desk.dispatched.len();
        desk.reply(desk.last().0, desk.last().1, lost("power cut"));
        for _ in 0..40 {
            if desk.dispatched.len() == count {
                desk.donor(0, 1);
                desk.pass(1.0);
            }
        }
    }
    assert_eq!(desk.dispatched.len(), MAX_ATTEMPTS);
    let fault = desk.finished[0].fault.as_ref().unwrap();
    assert_eq!(fault.code, "WC-016");
    assert_eq!(fault.detail.matches("power cut").count(), MAX_ATTEMPTS);
    assert!(fault.detail.contains(&peer(0).to_string()));
}

#[test]
fn three_donors_that_decline_end_the_job_with_all_their_reasons() {
    let mut desk = Desk::with_donors(5, 1);
    desk.submit(manifest(1, 1, &[]));
    for reason in ["policy_blocked", "no kvm", "no such class"] {
        assert!(desk.finished.is_empty());
        desk.reply(desk.last().0, desk.last().1, declined(reason));
    }
    assert_eq!(desk.dispatched.len(), MAX_REFUSING_DONORS);
    let record = &desk.finished[0];
    assert_eq!((record.state, record.tally.failed), (JobState::Failed, 1));
    let fault = record.fault.as_ref().unwrap();
    assert_eq!(fault.code, "WC-004");
    for reason in ["policy_blocked", "no kvm", "no such class"] {
        assert!(fault.detail.contains(reason), "{}", fault.detail);
    }
}

#[test]
fn a_donor_that_declined_is_not_asked_again_by_the_same_job() {
    let mut desk = Desk::with_donors(1, 4);
    let job = desk.submit(manifest(1, 10, &[]));
    for lease in desk.dispatched.clone() {
        desk.reply(lease.0, lease.1, declined("not this"));
    }
    desk.donor(0, 4);
    desk.pass(100.0);
    assert_eq!(desk.dispatched.len(), 4);
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("declined")
    );
    desk.submit(manifest(2, 1, &[]));
    assert_eq!(desk.last().0.task.job, job_id(2));
}

#[test]
fn donors_that_decline_do_not_end_a_job_that_others_run() {
    let mut desk = Desk::with_donors(4, 1);
    let job = desk.submit(manifest(1, 12, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    let worker = desk.dispatched[0].1;
    for lease in desk
        .dispatched
        .clone()
        .into_iter()
        .filter(|(_, donor)| *donor != worker)
    {
        desk.reply(lease.0, lease.1, declined("no"));
    }
    assert!(desk.finished.is_empty());
    while desk.broker.job(job).is_some() {
        desk.ran(desk.last(), Status::Succeeded);
    }
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_program_that_fails_is_the_jobs_failure_and_is_not_run_again() {
    let statuses = [
        (Status::Failed, "task_failed", "--task 0 --name stderr"),
        (Status::Trapped, "task_failed", "--task 0 --name stderr"),
        (Status::OutOfFuel, "task_failed", "spec.resources.fuel"),
        (Status::OutOfMemory, "task_failed", "spec.resources.memory"),
        (Status::OutputLimit, "task_failed", "spec.resources.scratch"),
        (Status::TimedOut, "WC-017", "spec.max_wall_time"),
    ];
    for (status, code, remedy) in statuses {
        let mut desk = Desk::with_donors(3, 1);
        let job = desk.submit(manifest(1, 1, &[]));
        desk.ran(desk.last(), status);
        assert_eq!(desk.dispatched.len(), 1);
        assert_eq!(desk.finished[0].state, JobState::Failed);
        let fault = desk.finished[0].fault.as_ref().unwrap();
        assert_eq!(fault.code, code);
        assert!(fault.detail.contains("it went wrong"));
        assert!(fault.hint.contains(remedy), "{}", fault.hint);
        let names_the_job = fault.hint.contains(&job.to_string());
        assert_eq!(names_the_job, remedy.contains("stderr"));
        let commit = desk.commits.last().unwrap();
        assert_eq!(commit.receipts.len(), 1, "the receipt of a failure is kept");
        assert_eq!(commit.tasks[0].fault, desk.finished[0].fault);
    }
}

#[test]
fn one_failed_task_leaves_its_siblings_running_and_too_many_stop_them() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 40, &[]));
    desk.ran(desk.last(), Status::Succeeded);
    for failed in 1..=MAX_FAILED_TASKS {
        assert_eq!(desk.broker.job(job).unwrap().tally.failed, failed - 1);
        desk.ran(desk.last(), Status::Trapped);
    }
    let record = &desk.finished[0];
    assert_eq!(record.state, JobState::Failed);
    assert_eq!(record.tally.accepted, 1);
    assert_eq!(record.tally.failed, MAX_FAILED_TASKS);
    assert_eq!(record.tally.cancelled, 40 - 1 - MAX_FAILED_TASKS);
    assert!(
        record
            .fault
            .as_ref()
            .unwrap()
            .detail
            .contains("16 tasks failed")
    );
    assert!(
        record
            .fault
            .as_ref()
            .unwrap()
            .hint
            .contains("--name stderr")
    );
}

#[test]
fn a_job_with_a_failed_task_is_failed_in_the_end() {
    let mut desk = Desk::with_donors(1, 2);
    desk.submit(manifest(1, 2, &[]));
    desk.ran(desk.dispatched[0], Status::Failed);
    assert!(desk.finished.is_empty());
    desk.ran(desk.dispatched[1], Status::Succeeded);
    let record = &desk.finished[0];
    assert_eq!(
        (record.state, record.tally.accepted, record.tally.failed),
        (JobState::Failed, 1, 1)
    );
}

#[test]
fn cancelling_stops_what_runs_and_keeps_what_is_done() {
    let mut desk = Desk::with_donors(1, 2);
    let job = desk.submit(manifest(1, 5, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    desk.broker
        .cancel(desk.now, job, "no longer\nneeded")
        .unwrap();
    desk.settle();
    let record = &desk.finished[0];
    assert_eq!(
        (record.state, record.tally.accepted, record.tally.cancelled),
        (JobState::Cancelled, 1, 4)
    );
    assert_eq!(
        record.fault.as_ref().unwrap().detail,
        "cancelled: no longer needed"
    );
    assert_eq!(desk.stopped.len(), 2);
    assert_eq!(
        desk.broker
            .cancel(desk.now, job, "again")
            .unwrap_err()
            .number(),
        Some(WcCode::NotFound)
    );
    assert!(desk.broker.leases.is_empty());
}

#[test]
fn a_job_past_its_deadline_fails_by_the_clock_on_the_wall() {
    let deadline = ["deadline: 2026-01-01T00:01:00Z"];
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 2, &deadline));
    desk.pass(59.0);
    assert!(desk.finished.is_empty());
    desk.pass(1.0);
    assert_eq!(desk.finished[0].fault.as_ref().unwrap().code, "WC-017");
    let late = desk
        .broker
        .submit(desk.now, manifest(2, 1, &deadline), Options::default());
    assert_eq!(late.unwrap_err().number(), Some(WcCode::DeadlineExceeded));
}
