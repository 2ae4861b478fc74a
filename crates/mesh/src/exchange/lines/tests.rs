//! Which connection is used, how many requests there may be, and what closing one has to wait for.

use super::*;
use crate::wire::{Dispatch, Offer};
use worldcompute_proof::SigningKey;

fn introduced(lines: &Lines, peer: PeerId, id: usize, route: Route) -> Ends {
    let ends = added(lines, peer, id, route);
    lines.introduce(&peer, ConnectionId::new_unchecked(id), false);
    ends
}

fn added(lines: &Lines, peer: PeerId, id: usize, route: Route) -> Ends {
    lines.add(peer, ConnectionId::new_unchecked(id), route)
}

fn line(lines: &Lines, peer: PeerId) -> Option<Line> {
    lines.line::<Offer>(&peer).unwrap()
}

/// Whether somebody may ask over the connection with these ends. The table has one sender for itself.
fn is_used(ends: &Ends) -> bool {
    ends.orders.sender_strong_count() > 1
}

#[test]
fn a_connection_carries_nothing_before_it_is_introduced_nor_after_it_is_gone() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    assert!(line(&lines, peer).is_none());
    let mut ends = added(&lines, peer, 1, Route::Direct);
    assert!(line(&lines, peer).is_none());
    assert!(ends.begun.try_recv().is_err());
    lines.introduce(&peer, ConnectionId::new_unchecked(1), false);
    assert!(ends.begun.try_recv().is_ok());
    assert!(line(&lines, peer).is_some());
    lines.remove(&peer, ConnectionId::new_unchecked(1));
    assert!(line(&lines, peer).is_none());
    assert!(lines.lock().peers.is_empty());
}

#[test]
fn a_direct_connection_comes_before_a_relayed_one_and_the_newest_before_the_others() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let relayed = introduced(&lines, peer, 1, Route::Relayed);
    let asked = line(&lines, peer);
    assert!(is_used(&relayed));
    drop(asked);
    let direct = introduced(&lines, peer, 2, Route::Direct);
    let later = introduced(&lines, peer, 3, Route::Relayed);
    let asked = line(&lines, peer);
    assert!(is_used(&direct) && !is_used(&relayed) && !is_used(&later));
    drop(asked);
    let newest = introduced(&lines, peer, 4, Route::Direct);
    let _asked = line(&lines, peer);
    assert!(is_used(&newest) && !is_used(&direct));
}

#[test]
fn requests_to_a_peer_and_from_it_are_bounded_each_for_itself() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let _ends = introduced(&lines, peer, 1, Route::Direct);
    let dispatch = || lines.line::<Dispatch>(&peer);
    let admit = || lines.admit::<Dispatch>(peer, ConnectionId::new_unchecked(1));
    let mut asked: Vec<_> = (0..Dispatch::STREAMS)
        .map(|_| dispatch().unwrap())
        .collect();
    assert!(matches!(dispatch(), Err(CallError::Busy)));
    let mut answered: Vec<_> = (0..Dispatch::STREAMS).map(|_| admit().unwrap()).collect();
    assert!(admit().is_none());
    assert!(line(&lines, peer).is_some(), "another protocol has its own");
    asked.pop();
    answered.pop();
    assert!(dispatch().is_ok());
    assert!(admit().is_some());
}

#[test]
fn requests_of_all_peers_together_are_bounded() {
    let lines = Lines::default();
    let admit = || lines.admit::<Offer>(PeerId::random(), ConnectionId::new_unchecked(1));
    let mut held: Vec<_> = (0..MAX_ANSWERING).map(|_| admit().unwrap()).collect();
    assert!(admit().is_none());
    held.pop();
    assert!(admit().is_some());
}

#[test]
fn a_connection_is_not_retired_from_under_a_request_and_carries_none_afterwards() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let _ends = introduced(&lines, peer, 1, Route::Relayed);
    let id = [ConnectionId::new_unchecked(1)];
    let asked = line(&lines, peer).unwrap();
    let later = Instant::now() + 2 * LINGER;
    assert!(lines.is_engaged(&peer) && !lines.retire(&peer, &id));
    assert!(!lines.retire_drained(&peer, id[0], later));
    drop(asked);
    assert!(!lines.is_engaged(&peer));
    let now = Instant::now();
    assert!(
        !lines.retire_drained(&peer, id[0], now),
        "its answer may be on its way"
    );
    assert!(line(&lines, peer).is_some());
    assert!(lines.retire_drained(&peer, id[0], later));
    assert!(line(&lines, peer).is_none());
}

#[test]
fn a_connection_need_not_wait_for_requests_on_a_better_one() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let _relayed = introduced(&lines, peer, 1, Route::Relayed);
    let _direct = introduced(&lines, peer, 2, Route::Direct);
    let _asked = line(&lines, peer).unwrap();
    let id = [ConnectionId::new_unchecked(1)];
    assert!(!lines.retire(&peer, &id));
    assert!(lines.retire_drained(&peer, id[0], Instant::now()));
}

#[test]
fn a_circuit_need_not_wait_for_requests_on_a_newer_one() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
    let _one = introduced(&lines, peer, 1, Route::Relayed);
    let asked = line(&lines, peer).unwrap();
    let _two = introduced(&lines, peer, 2, Route::Relayed);
    let _later = line(&lines, peer).unwrap();
    let later = Instant::now() + 2 * LINGER;
    assert!(!lines.retire_drained(&peer, first, later));
    drop(asked);
    assert!(lines.retire_drained(&peer, first, later));
    assert!(!lines.retire_drained(&peer, second, later));
}

#[test]
fn a_request_is_marked_by_the_connection_that_it_is_on_and_not_by_a_better_one() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let ids = [1, 2].map(ConnectionId::new_unchecked);
    let _opened = added(&lines, peer, 1, Route::Relayed);
    lines.introduce(&peer, ids[0], true);
    let _clean = added(&lines, peer, 2, Route::Direct);
    let standing = Standing {
        id: SigningKey::from_seed([1; 32]).peer_id(),
        path: Path::Direct,
    };
    lines.stands(&peer, Some(standing));
    assert!(line(&lines, peer).unwrap().inspected);
    lines.introduce(&peer, ids[1], false);
    assert!(!line(&lines, peer).unwrap().inspected);
    let marks = ids.map(|id| lines.standing(&peer, id).map(|(_, inspected)| inspected));
    assert_eq!(marks, [Some(true), Some(false)]);
    lines.end(&peer, ids[1]);
    assert!(lines.standing(&peer, ids[1]).is_none());
    assert!(line(&lines, peer).unwrap().inspected);
}

#[test]
fn that_a_request_was_cut_off_is_told_once_and_only_if_there_was_one() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let end = || lines.end(&peer, ConnectionId::new_unchecked(1));
    end();
    assert!(!lines.take_cut(&peer));
    let answered = lines.admit::<Offer>(peer, ConnectionId::new_unchecked(1));
    end();
    drop(answered);
    assert!(lines.take_cut(&peer));
    assert!(!lines.take_cut(&peer));
}

#[test]
fn a_connection_that_ends_is_asked_no_more_though_the_swarm_has_not_told_yet() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let _ends = introduced(&lines, peer, 1, Route::Direct);
    assert!(lines.lead_to(&peer));
    lines.end(&peer, ConnectionId::new_unchecked(1));
    assert!(!lines.lead_to(&peer) && line(&lines, peer).is_none());
}

#[test]
fn a_connection_is_not_drained_while_a_stream_of_the_peer_is_read() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let id = ConnectionId::new_unchecked(1);
    let _ends = introduced(&lines, peer, 1, Route::Relayed);
    let reading = lines.occupy(peer, id);
    let later = Instant::now() + 2 * LINGER;
    assert!(!lines.is_engaged(&peer), "nothing is asked yet");
    assert!(!lines.retire_drained(&peer, id, later));
    drop(reading);
    assert!(lines.retire_drained(&peer, id, later));
}

#[test]
fn a_peer_is_in_use_while_a_request_is_under_way_and_for_a_while() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let _ends = introduced(&lines, peer, 1, Route::Relayed);
    let (while_, now) = (Duration::from_secs(60), Instant::now());
    assert!(!lines.is_used(&peer, while_, now));
    let asked = line(&lines, peer);
    assert!(lines.is_used(&peer, while_, now + 2 * while_));
    drop(asked);
    assert!(lines.is_used(&peer, while_, now + while_ / 2));
    assert!(!lines.is_used(&peer, while_, now + 2 * while_));
}
