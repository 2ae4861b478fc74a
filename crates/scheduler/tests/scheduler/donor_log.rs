//! Every exit has a number of its own, for ever; a number without a result shows.

use std::collections::BTreeSet;

use crate::support::{donor, file, memory};
use blue_encrypted_store::Store;
use worldcompute_fault::WcCode;
use worldcompute_proof::PeerId;
use worldcompute_scheduler::donor_log::{BLOCK, DonorLog, MAX_RESULT_BYTES, MAX_RESULTS, Range};

fn submitter() -> PeerId {
    donor(1).peer_id()
}

async fn open(store: &Store) -> DonorLog {
    DonorLog::open(store).await.unwrap()
}

async fn serve(log: &DonorLog, lease: &str) -> u64 {
    let exit = log.next_exit().await.unwrap();
    log.finished(&submitter(), lease, exit, lease.as_bytes())
        .await
        .unwrap();
    exit
}

#[tokio::test]
async fn exits_are_numbered_from_one_without_a_gap() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    assert_eq!(log.last_exit(), 0);
    for expected in 1..=BLOCK * 2 + 3 {
        assert_eq!(serve(&log, &format!("lease-{expected}")).await, expected);
        assert_eq!(log.last_exit(), expected);
    }
    log.close().await.unwrap();
    let log = open(&store).await;
    assert!(log.gaps().await.is_empty());
    assert_eq!(log.next_exit().await.unwrap(), BLOCK * 2 + 4);
}

#[tokio::test]
async fn a_log_that_was_not_closed_leaves_a_gap_that_shows_and_no_number_comes_twice() {
    let home = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let store = file(home.path()).await;
        let log = open(&store).await;
        for _ in 0..5 {
            let exit = log.next_exit().await.unwrap();
            assert!(seen.insert(exit), "{exit} was given out twice");
            if exit % 2 == 0 {
                log.finished(&submitter(), &format!("lease-{exit}"), exit, b"done")
                    .await
                    .unwrap();
            }
        }
    }
    let log = open(&file(home.path()).await).await;
    let gaps = log.gaps().await;
    let kept: BTreeSet<_> = log.served().iter().map(|served| served.exit).collect();
    let missing = |exit: u64| {
        gaps.iter()
            .any(|gap| (gap.first..=gap.last).contains(&exit))
    };
    for exit in 1..=3 * BLOCK {
        assert_ne!(kept.contains(&exit), missing(exit), "exit {exit}");
    }
    assert_eq!(log.next_exit().await.unwrap(), 3 * BLOCK + 1);
}

#[tokio::test]
async fn an_exit_that_was_open_when_the_log_was_closed_is_a_gap() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    serve(&log, "a").await;
    log.next_exit().await.unwrap();
    serve(&log, "c").await;
    log.close().await.unwrap();
    assert_eq!(
        open(&store).await.gaps().await,
        [Range { first: 2, last: 2 }]
    );
}

#[tokio::test]
async fn a_result_is_given_again_under_its_lease_and_submitter_only_and_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    {
        let log = open(&file(home.path()).await).await;
        serve(&log, "lease-1").await;
    }
    let log = open(&file(home.path()).await).await;
    assert_eq!(
        log.reply_of(&submitter(), "lease-1").unwrap().unwrap(),
        b"lease-1"
    );
    assert_eq!(log.reply_of(&donor(2).peer_id(), "lease-1").unwrap(), None);
    assert_eq!(log.reply_of(&submitter(), "lease-2").unwrap(), None);
}

#[tokio::test]
async fn a_lease_that_ran_twice_gives_its_newest_result() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    for result in ["old", "new"] {
        let exit = log.next_exit().await.unwrap();
        log.finished(&submitter(), "lease", exit, result.as_bytes())
            .await
            .unwrap();
    }
    assert_eq!(
        log.reply_of(&submitter(), "lease").unwrap().unwrap(),
        b"new"
    );
    assert_eq!(
        open(&store)
            .await
            .reply_of(&submitter(), "lease")
            .unwrap()
            .unwrap(),
        b"new"
    );
}

#[tokio::test]
async fn old_results_give_way_without_leaving_a_gap() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    let straggler = log.next_exit().await.unwrap();
    for number in 0..MAX_RESULTS + 10 {
        serve(&log, &format!("lease-{number}")).await;
    }
    log.finished(&submitter(), "slow", straggler, b"at last")
        .await
        .unwrap();
    assert_eq!(log.served().len(), MAX_RESULTS);
    assert_eq!(log.reply_of(&submitter(), "lease-0").unwrap(), None);
    log.close().await.unwrap();
    let log = open(&store).await;
    assert_eq!(log.served().len(), MAX_RESULTS);
    assert!(log.gaps().await.is_empty(), "{:?}", log.gaps().await);
}

#[tokio::test]
async fn a_result_is_taken_at_its_limit_and_refused_past_it() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    let exit = log.next_exit().await.unwrap();
    let large = vec![7; MAX_RESULT_BYTES + 1];
    let fault = log
        .finished(&submitter(), "a", exit, &large)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "result_too_large");
    log.finished(&submitter(), "a", exit, &large[1..])
        .await
        .unwrap();
    assert_eq!(
        open(&store)
            .await
            .reply_of(&submitter(), "a")
            .unwrap()
            .unwrap(),
        large[1..]
    );
}

#[tokio::test]
async fn only_a_number_that_was_given_out_gets_a_result_and_only_one() {
    let (store, _home) = memory().await;
    let log = open(&store).await;
    let exit = serve(&log, "a").await;
    for wrong in [0, exit, exit + 1, u64::MAX] {
        let fault = log
            .finished(&submitter(), "b", wrong, b"x")
            .await
            .unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::Internal), "{wrong}");
    }
    assert_eq!(log.served().len(), 1);
}

#[tokio::test]
async fn numbers_taken_at_the_same_time_are_different() {
    let (store, _home) = memory().await;
    let log = std::sync::Arc::new(open(&store).await);
    let takers: Vec<_> = (0..200)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.next_exit().await.unwrap() })
        })
        .collect();
    let mut seen = BTreeSet::new();
    for taker in takers {
        assert!(seen.insert(taker.await.unwrap()));
    }
    assert_eq!(seen, (1..=200).collect());
}

#[tokio::test]
async fn a_log_that_forgets_its_results_goes_on_counting_and_shows_no_gap() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&file(home.path()).await).await;
    assert_eq!((log.forget().await.unwrap(), log.oldest()), (0, None));
    for number in 1..=MAX_RESULTS as u64 {
        serve(&log, &format!("lease-{number}")).await;
    }
    assert_eq!(log.oldest(), Some(1));
    assert_eq!(log.forget().await.unwrap(), MAX_RESULTS);
    assert!(log.reply_of(&submitter(), "lease-1").unwrap().is_none());
    let next = serve(&log, "next").await;
    assert_eq!((next, log.oldest()), (MAX_RESULTS as u64 + 1, Some(next)));
    assert_eq!(log.forget().await.unwrap(), 1);
    log.close().await.unwrap();
    drop(log);
    let log = open(&file(home.path()).await).await;
    assert!(log.served().is_empty());
    assert!(log.gaps().await.is_empty());
    assert_eq!(log.next_exit().await.unwrap(), next + 1);
}
