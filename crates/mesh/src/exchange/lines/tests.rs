//! Which connection is used, how many requests there may be, and what closing one has to wait for.

use super::*;
use crate::wire::{Dispatch, Offer};

fn introduced(lines: &Lines, peer: PeerId, id: usize, route: Route) -> Ends {
    let ends = added(lines, peer, id, route);
    lines.introduce(&peer, ConnectionId::new_unchecked(id));
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
    lines.introduce(&peer, ConnectionId::new_unchecked(1));
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
    let admit = || lines.admit::<Dispatch>(peer, Route::Direct);
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
    let admit = || lines.admit::<Offer>(PeerId::random(), Route::Direct);
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
    assert!(lines.is_engaged(&peer) && lines.relays_for(&peer, later));
    assert!(!lines.retire(&peer, &id));
    drop(asked);
    assert!(!lines.is_engaged(&peer) && !lines.relays_for(&peer, later));
    assert!(
        lines.relays_for(&peer, Instant::now()),
        "its answer may be on its way"
    );
    assert!(lines.retire(&peer, &id));
    assert!(line(&lines, peer).is_none());
}

#[test]
fn that_a_request_was_cut_off_is_told_once_and_only_if_there_was_one() {
    let (lines, peer) = (Lines::default(), PeerId::random());
    let end = || lines.end(&peer, ConnectionId::new_unchecked(1));
    end();
    assert!(!lines.take_cut(&peer));
    let answered = lines.admit::<Offer>(peer, Route::Direct);
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
