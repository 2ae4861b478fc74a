//! What outsiders can feed is bounded.

use super::*;

#[test]
fn a_claim_of_endless_slots_is_capped() {
    let mut desk = Desk::new();
    desk.tell(Event::Donor {
        peer: peer(0),
        capacity: Capacity {
            memory_bytes: u64::MAX,
            ..capacity(u32::MAX)
        },
    });
    desk.submit(manifest(1, MAX_SLOTS + 1, &[]));
    assert_eq!(desk.dispatched.len(), MAX_SLOTS as usize);
}

#[test]
fn jobs_donors_and_words_are_bounded() {
    let mut desk = Desk::new();
    for number in 0..MAX_OPEN_JOBS as u64 {
        desk.broker
            .submit(desk.now, manifest(number, 1, &[]), Options::default())
            .unwrap();
    }
    let one_more = manifest(MAX_OPEN_JOBS as u64, 1, &[]);
    let refused = desk.broker.submit(desk.now, one_more, Options::default());
    assert_eq!(refused.unwrap_err().number(), Some(WcCode::RateLimited));
    let again = desk
        .broker
        .submit(desk.now, manifest(0, 1, &[]), Options::default());
    assert_eq!(again.unwrap_err().number(), Some(WcCode::AlreadyExists));
    assert_eq!(
        ends::bounded(&"é\u{7}".repeat(1_000)).len() / 3,
        MAX_REASON_BYTES / 3
    );
    assert!(!ends::bounded("a\nb\u{1b}").contains(char::is_control));
}

#[test]
fn a_flood_of_donors_displaces_the_longest_silent_idle_one_and_no_working_one() {
    let peer = |number: u32| {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        worldcompute_proof::SigningKey::from_seed(seed).peer_id()
    };
    let mut donors = Donors::default();
    let lease = LeaseId {
        task: crate::TaskId {
            job: job_id(1),
            index: 0,
        },
        replica: 0,
        attempt: 0,
    };
    for number in 0..MAX_DONORS as u32 {
        donors.seen(
            Duration::from_secs(number.into()),
            peer(number),
            capacity(1),
        );
    }
    donors.occupy(peer(0), lease, 1);
    donors.seen(Duration::from_secs(1 << 20), peer(u32::MAX), capacity(1));
    assert_eq!(donors.occupation().len(), MAX_DONORS);
    assert!(donors.is_up(peer(0)) && !donors.is_up(peer(1)) && donors.is_up(peer(u32::MAX)));
}
