//! What the mesh knows, in the shapes of the control API.

use std::collections::BTreeMap;
use std::time::SystemTime;

use worldcompute_mesh::{PeerInfo, ReservationInfo, ReservationState};

use crate::api::{Peer, PeerCapacity, Reservation, Tier};

/// A row of `GET /v1/cluster/peers`.
pub fn peer(info: PeerInfo) -> Peer {
    Peer {
        peer_id: info.peer,
        connected: info.connected,
        path: info
            .path
            .map_or("none", worldcompute_mesh::Path::as_str)
            .to_owned(),
        transport: info
            .transport
            .map_or_else(String::new, |transport| transport.as_str().to_owned()),
        inspected: info.inspected,
        tier: info.connected.then(|| tier(&info)),
        rtt_ms: info.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        agent: info.agent,
        addresses: info.addresses.iter().map(ToString::to_string).collect(),
        capacity: info.capacity.map(|capacity| PeerCapacity {
            slots: capacity.slots,
            memory_mb: capacity.memory_mb,
            load: capacity.load,
            classes: capacity.classes,
            paused: capacity.paused,
        }),
    }
}

/// Reservations, each with what is known of the connection to its relay.
pub fn reservations(held: &[ReservationInfo], peers: &[PeerInfo]) -> Vec<Reservation> {
    let of = |info: &ReservationInfo| {
        let relay = peers.iter().find(|peer| peer.peer == info.relay);
        reservation(info, relay.filter(|relay| relay.connected))
    };
    held.iter().map(of).collect()
}

/// Whether a relay holds a reservation for this node, or a peer beyond its network is connected.
pub fn reaches_out(reservations: &[ReservationInfo], peers: &[PeerInfo]) -> bool {
    let held = |reservation: &ReservationInfo| {
        matches!(
            reservation.state,
            ReservationState::Active | ReservationState::Renewing
        )
    };
    reservations.iter().any(held) || peers.iter().any(|peer| peer.from_afar)
}

/// Connected peers by the tier of the connection.
pub fn tiers(peers: &[PeerInfo]) -> BTreeMap<Tier, usize> {
    let mut tiers = BTreeMap::new();
    for peer in peers.iter().filter(|peer| peer.connected) {
        *tiers.entry(tier(peer)).or_default() += 1;
    }
    tiers
}

const fn tier(peer: &PeerInfo) -> Tier {
    match peer.inspected {
        true => Tier::Inspected,
        false => Tier::Standard,
    }
}

fn reservation(info: &ReservationInfo, relay: Option<&PeerInfo>) -> Reservation {
    let time = |at: SystemTime| {
        let at = jiff::Timestamp::try_from(at).ok();
        at.map(|at| at.to_string())
    };
    let transport = relay.and_then(|relay| relay.transport);
    let rtt = relay.and_then(|relay| relay.rtt);
    let path = relay.and_then(|relay| relay.path);
    Reservation {
        relay: info.relay.to_string(),
        address: Some(info.address.to_string()),
        state: serde_json::to_value(info.state)
            .ok()
            .and_then(|state| state.as_str().map(String::from))
            .unwrap_or_default(),
        expires_at: info.expires.and_then(time),
        since: info.since.and_then(time),
        renewals: info.renewals,
        last_error: info.last_error.clone(),
        lost_at: info.last_loss.as_ref().and_then(|loss| time(loss.at)),
        lost_because: info.last_loss.as_ref().map(|loss| loss.why.clone()),
        path: path.map(|path| path.as_str().to_owned()),
        transport: transport.map(|transport| transport.as_str().to_owned()),
        rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        tier: relay.map(tier),
    }
}

#[cfg(test)]
mod tests {
    use worldcompute_proof::SigningKey;

    use super::*;

    fn reservation(state: ReservationState) -> ReservationInfo {
        ReservationInfo {
            relay: SigningKey::from_seed([1; 32]).peer_id(),
            address: "/ip4/192.0.2.1/tcp/1/p2p-circuit".parse().unwrap(),
            state,
            expires: None,
            renewals: 0,
            attempts: 0,
            last_error: None,
            since: None,
            last_loss: None,
        }
    }

    fn neighbour(from_afar: bool) -> PeerInfo {
        PeerInfo {
            peer: SigningKey::from_seed([2; 32]).peer_id(),
            addresses: Vec::new(),
            connected: true,
            path: None,
            transport: None,
            from_afar,
            inspected: false,
            rtt: None,
            agent: None,
            capacity: None,
            last_seen: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_island_is_one_until_a_relay_grants_or_somebody_beyond_is_connected() {
        let held = |state| reaches_out(&[reservation(state)], &[neighbour(false)]);
        for waiting in [
            ReservationState::Requesting,
            ReservationState::Lost,
            ReservationState::Failed,
        ] {
            assert!(!held(waiting), "{waiting:?}");
        }
        assert!(held(ReservationState::Active) && held(ReservationState::Renewing));
        assert!(reaches_out(&[], &[neighbour(false), neighbour(true)]));
    }
}
