//! Reservations: carries out what the state machine in [`crate::relays`] decides, and tells it what happened.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use libp2p::core::transport::ListenerId;
use libp2p::relay::outbound::hop::{ProtocolViolation, ReserveError};
use libp2p::{Multiaddr, PeerId, relay};

use super::Driver;
use crate::address::is_relayed;
use crate::dial;
use crate::network::Network;
use crate::refusals::Refused;
use crate::relays::{Action, Refusal};
use crate::status::{MeshEvent, ReservationInfo};

/// A relay that refuses is asked for others, unless it was within this time.
const ASK_WHERE_REFUSED: Duration = Duration::from_secs(30);
/// Addresses under which a relay says that it is reachable.
const MAX_EXTERNAL: usize = 32;

impl Driver {
    pub(super) fn tend_relays(&mut self, now: Instant) {
        let actions = self.relays.tick(now);
        self.perform_all(actions);
    }

    pub(super) fn perform_all(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Dial { peer, addresses } => self.dial_bootstrap(peer, addresses),
                Action::Upgrade { peer, addresses } => self.upgrade(peer, addresses),
                Action::Reserve { relay, listen } => self.reserve(relay, listen),
                Action::Disconnect(peer) => {
                    // Fails only when the relay has just gone by itself.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                Action::GiveUp {
                    peer,
                    listener,
                    works,
                } => self.give_up(&peer, listener, works),
                Action::Report(peer) => self.report(&peer),
            }
        }
    }

    fn give_up(&mut self, peer: &PeerId, listener: Option<ListenerId>, works: bool) {
        tracing::info!(%peer, works, "a relay is given up");
        if !works {
            self.hearsay.failed(peer, Instant::now());
        }
        if let Some(listener) = listener {
            // Tells only whether it was still there.
            let _ = self.swarm.remove_listener(listener);
        }
        if !self.is_needed(peer) {
            // Fails only where there is no connection.
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        self.announce_again(Instant::now());
    }

    fn reserve(&mut self, relay: PeerId, listen: Multiaddr) {
        match self.swarm.listen_on(listen) {
            Ok(listener) => self.relays.asked(&relay, listener),
            Err(error) => {
                let why = dial::root_cause(&dial::causes(&error));
                let action = self.relays.unaskable(&relay, &why, Instant::now());
                self.perform_all(action);
            }
        }
    }

    pub(super) fn on_relay_client(&mut self, event: &relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted {
            relay_peer_id,
            renewal,
            ..
        } = event
        {
            let action = self.relays.granted(relay_peer_id, *renewal, Instant::now());
            self.perform_all(action);
            if let Some(held) = self.reservation(relay_peer_id) {
                tracing::info!(relay = %held.relay, address = %held.address, renewal, "reservation_accepted");
            }
        }
    }

    /// What happened on this node as a relay.
    pub(super) fn on_relay_server(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationClosed { src_peer_id } if !self.is_direct(src_peer_id) => {
                self.admission.left(src_peer_id);
            }
            relay::Event::ReservationReqDenied {
                src_peer_id,
                status,
            } => {
                self.counts.reservations_refused += 1;
                if let Some(refused) = self.refused(Refused::Reservation, src_peer_id) {
                    tracing::info!(peer = %src_peer_id, ?status, refused, "a reservation was refused");
                }
            }
            relay::Event::CircuitReqDenied {
                src_peer_id,
                dst_peer_id,
                status,
            } => {
                self.counts.circuits_refused += 1;
                if let Some(refused) = self.refused(Refused::Circuit, src_peer_id) {
                    tracing::info!(peer = %src_peer_id, to = %dst_peer_id, ?status, refused, "a circuit was refused");
                }
            }
            relay::Event::CircuitClosed {
                src_peer_id,
                dst_peer_id,
                error,
            } => {
                self.circuits.ended(src_peer_id);
                let line = error.as_ref().zip(self.peer_lines.next(Instant::now()));
                if let Some((error, left_out)) = line {
                    tracing::info!(peer = %src_peer_id, to = %dst_peer_id, %error, left_out, "a circuit was cut");
                }
            }
            #[expect(
                deprecated,
                reason = "nothing else tells that the circuit came to nothing"
            )]
            relay::Event::CircuitReqOutboundConnectFailed { src_peer_id, .. }
            | relay::Event::CircuitReqAcceptFailed { src_peer_id, .. } => {
                self.circuits.failed(src_peer_id);
            }
            relay::Event::CircuitReqAccepted { src_peer_id, .. } => {
                self.circuits.stands(src_peer_id);
            }
            event => tracing::debug!(?event, "relay"),
        }
    }

    /// How many were refused to the peer's network since the last time that this was told, if it is to be told now.
    fn refused(&mut self, what: Refused, peer: &PeerId) -> Option<u64> {
        let remote = self.book.get(peer).and_then(|entry| entry.remote());
        let network = remote.and_then(|(remote, _)| Network::of(remote));
        self.refusals.note(what, network, Instant::now())
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, reason: &io::Result<()>) {
        let (refusal, why) = match reason {
            Ok(()) => (
                Refusal::Lost,
                "the connection to the relay was lost".to_owned(),
            ),
            Err(error) => {
                let chain = dial::causes(error);
                (refusal(&chain), why(&chain))
            }
        };
        tracing::debug!(%listener, why, "a listener closed");
        let now = Instant::now();
        if refusal != Refusal::Lost
            && let Some(relay) = self.relays.relay_of(listener)
        {
            self.ask_for_relays(&relay, ASK_WHERE_REFUSED, now);
        }
        let action = self
            .relays
            .closed(listener, refusal, &why, now, rand::random());
        self.perform_all(action);
    }

    /// A relay's own addresses are where its circuits begin.
    pub(super) fn on_listening(&mut self, address: Multiaddr) {
        tracing::debug!(%address, "listening");
        let room = self.swarm.external_addresses().count() < MAX_EXTERNAL;
        if self.hub && room && !is_relayed(&address) {
            self.swarm.add_external_address(address);
        }
    }

    pub(super) fn on_reachable(&mut self, address: Multiaddr) {
        tracing::info!(%address, "reachable");
        self.tell(MeshEvent::Reachable(address));
        self.announce_relay_soon(Instant::now());
        self.announce_again(Instant::now());
    }

    fn report(&mut self, relay: &PeerId) {
        self.remember(relay);
        let Some(info) = self.reservation(relay) else {
            return;
        };
        let (state, last_error) = (info.state, info.last_error.as_deref());
        tracing::info!(relay = %info.relay, address = %info.address, ?state, last_error, "reservation");
        self.tell(MeshEvent::Reservation(info));
        self.announce_again(Instant::now());
    }

    fn remember(&mut self, relay: &PeerId) {
        let mut slots = self.relays.reservations();
        if let Some((_, slot)) = slots.find(|(of, slot)| of == relay && slot.is_reported()) {
            let named = |relay: &PeerId| self.relays.contains(relay);
            self.histories
                .note(*relay, slot.state(), slot.last_error(), named);
        }
    }

    fn reservation(&self, relay: &PeerId) -> Option<ReservationInfo> {
        self.reservations()
            .into_iter()
            .find_map(|(of, info)| (of == *relay).then_some(info))
    }

    pub(super) fn reservations(&self) -> Vec<(PeerId, ReservationInfo)> {
        let (now, me) = (Instant::now(), *self.swarm.local_peer_id());
        let reported = self
            .relays
            .reservations()
            .filter(|(_, slot)| slot.is_reported());
        reported
            .filter_map(|(relay, slot)| {
                let info = ReservationInfo {
                    relay: worldcompute_proof::PeerId::from_bytes(&relay.to_bytes()).ok()?,
                    address: slot.address(me)?,
                    state: slot.state(),
                    expires: slot.expires_in(now).map(|left| SystemTime::now() + left),
                    renewals: slot.renewals(),
                    attempts: slot.attempts(),
                    last_error: slot.last_error().map(ToOwned::to_owned),
                    since: self.histories.since(&relay),
                    last_loss: self.histories.last_loss(&relay),
                };
                Some((relay, info))
            })
            .collect()
    }
}

/// A relay tells when a reservation ends by its own clock. One that has ended by ours when it comes is taken for a violation
/// of the protocol, whatever the relay.
fn why(chain: &[&(dyn std::error::Error + 'static)]) -> String {
    let refused = chain
        .iter()
        .find_map(|error| error.downcast_ref::<ReserveError>());
    match refused {
        Some(ReserveError::Protocol(ProtocolViolation::InvalidReservationExpiration)) => {
            "the reservation has ended by this machine's clock, which is ahead of the relay's: set it right"
                .to_owned()
        }
        _ => dial::root_cause(chain),
    }
}

fn refusal(chain: &[&(dyn std::error::Error + 'static)]) -> Refusal {
    let refused = chain
        .iter()
        .find_map(|error| error.downcast_ref::<ReserveError>());
    match refused {
        Some(ReserveError::Refused | ReserveError::Unsupported) => Refusal::Final,
        _ => Refusal::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_is_said_to_be() {
        let told = |violation| {
            let error = io::Error::other(ReserveError::Protocol(violation));
            why(&dial::causes(&error))
        };
        let ahead = told(ProtocolViolation::InvalidReservationExpiration);
        assert!(ahead.contains("clock"), "{ahead}");
        let other = told(ProtocolViolation::MissingReservationField);
        assert!(!other.contains("clock"), "{other}");
    }
}
