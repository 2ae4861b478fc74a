//! Everything that bytes of strangers are read by, in one place for the fuzz target: what is read is written and read
//! again as the same.

use libp2p::{Multiaddr, PeerId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::{MAX_ADDRESS, Transport, dialable, is_relayed, peer_of};
use crate::network::{relay_scope, scope};
use crate::wire::{
    Announcement, Answer, Content, Dispatch, Exchange, Lease, MAX_ANNOUNCEMENT,
    MAX_RELAY_ANNOUNCEMENT, Offer, PeerExchange, RelayAnnouncement, decode, encode,
};
use crate::wss;

/// The name of a reader that does not keep its promise for these bytes.
type Reader = fn(&[u8]) -> Option<&'static str>;

/// The first reader that does not keep its promise for these bytes. There should be none.
pub fn misread(bytes: &[u8]) -> Option<&'static str> {
    let readers: [Reader; 8] = [
        exchange::<Offer>,
        exchange::<Dispatch>,
        exchange::<Lease>,
        exchange::<Content>,
        exchange::<PeerExchange>,
        announcements,
        address,
        visitor,
    ];
    readers.iter().find_map(|misread| misread(bytes))
}

/// A request, and an answer, whichever way it is read.
fn exchange<E: Exchange>(bytes: &[u8]) -> Option<&'static str> {
    let as_any_other = decode::<Answer<E::Reply>>(bytes, E::MAX_ANSWER).ok();
    let as_its_own = E::answer(bytes.to_vec()).ok();
    let written = |answer: Option<Answer<E::Reply>>| answer.map(|answer| write(&answer));
    let same = written(as_any_other) == written(as_its_own)
        && is_stable::<E::Request>(bytes, E::MAX_REQUEST)
        && is_stable::<Answer<E::Reply>>(bytes, E::MAX_ANSWER);
    (!same).then_some(E::ID)
}

fn announcements(bytes: &[u8]) -> Option<&'static str> {
    let load = decode::<Announcement>(bytes, MAX_ANNOUNCEMENT)
        .ok()
        .filter(|announcement| announcement.check().is_ok())
        .and_then(|announcement| Some(announcement.capacity?.load));
    match () {
        () if load.is_some_and(|load| !(0.0..=1.0).contains(&load)) => Some("load"),
        () if !is_stable::<Announcement>(bytes, MAX_ANNOUNCEMENT) => Some("capacity"),
        () if !is_stable::<RelayAnnouncement>(bytes, MAX_RELAY_ANNOUNCEMENT) => Some("relay"),
        () => None,
    }
}

/// An address in binary, and in text.
fn address(bytes: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(bytes).ok();
    let in_text = text.and_then(|text| text.parse::<Multiaddr>().ok());
    let in_binary = Multiaddr::try_from(bytes.to_vec()).ok();
    let holds = |address: Multiaddr| {
        let peer = peer_of(&address).unwrap_or_else(PeerId::random);
        // Wherever it is, it can be told.
        let _ = (scope(&address), relay_scope(&address));
        let circuit = Transport::of(&address) == Transport::Circuit;
        circuit == is_relayed(&address)
            && (!dialable(&address, &peer) || address.len() <= MAX_ADDRESS)
            && !dialable(
                &address.clone().with_p2p(peer).unwrap_or(address),
                &PeerId::random(),
            )
    };
    let mut addresses = in_text.into_iter().chain(in_binary);
    (!addresses.all(holds)).then_some("address")
}

/// A request of HTTP to the port that looks like the web: passed on, or answered.
fn visitor(bytes: &[u8]) -> Option<&'static str> {
    let holds = match wss::answer(bytes) {
        None => {
            bytes.starts_with(b"GET ") || bytes.starts_with(b"\r\n") || bytes.starts_with(b"\n")
        }
        Some(answer) => answer.starts_with(b"HTTP/1.1 ") && !answer.starts_with(b"HTTP/1.1 101"),
    };
    (!holds).then_some("visitor")
}

/// Whether what is read of the bytes is written as what is read as the same again.
fn is_stable<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> bool {
    let Ok(value) = decode::<T>(bytes, limit) else {
        return true;
    };
    let first = write(&value);
    let again = first.as_deref().map(|first| decode::<T>(first, usize::MAX));
    matches!(again, Some(Ok(again)) if write(&again) == first)
}

/// Whatever its peer may write, the longest form included.
fn write<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    encode(value, usize::MAX).ok()
}
