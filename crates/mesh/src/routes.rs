//! Who is in the routing table: no network, and no region, has more than a few places of it.
//!
//! Identities cost nothing: without a limit, one machine with a thousand of them has most places, and answers most questions.
//! Where a peer is, is where it was seen to be, whatever it says of itself.

use std::collections::{HashMap, HashSet};

use libp2p::{Multiaddr, PeerId, kad};

use crate::network::{Network, Scope, scope};

/// Places of one network (a /24, a /48).
pub(crate) const MAX_OF_NETWORK: usize = 8;
/// Places of one region (a /16, a /32).
pub(crate) const MAX_OF_REGION: usize = 32;

type Table = kad::Behaviour<kad::store::MemoryStore>;

/// The networks of those in the table. Private networks are not counted: nobody hands their addresses out to strangers.
#[derive(Default)]
pub(crate) struct Routes(HashMap<PeerId, Network>);

impl Routes {
    /// Tells the table where a peer is now, if its network has a place. What it said before counts no longer: the table
    /// keeps every address that it was ever told, and a peer can think of many.
    pub(crate) fn put(
        &mut self,
        table: &mut Table,
        peer: &PeerId,
        seen_at: &Multiaddr,
        addresses: impl IntoIterator<Item = Multiaddr>,
    ) {
        table.remove_peer(peer);
        self.0.remove(peer);
        let network = Network::of(seen_at).filter(|_| scope(seen_at) == Some(Scope::World));
        if let Some(network) = network {
            self.forget_absent(table);
            if !self.has_place(&network) {
                return;
            }
            self.0.insert(*peer, network);
        }
        for address in addresses {
            table.add_address(peer, address);
        }
    }

    fn has_place(&self, network: &Network) -> bool {
        let region = network.region();
        let neighbours = self.0.values().filter(|known| *known == network).count();
        let of_region = self.0.values().filter(|known| known.region() == region);
        neighbours < MAX_OF_NETWORK && of_region.count() < MAX_OF_REGION
    }

    /// The table itself drops who does not answer.
    fn forget_absent(&mut self, table: &mut Table) {
        let buckets = table.kbuckets();
        let present: HashSet<PeerId> = buckets
            .flat_map(|bucket| {
                let peers = bucket.iter().map(|entry| *entry.node.key.preimage());
                peers.collect::<Vec<_>>()
            })
            .collect();
        self.0.retain(|peer, _| present.contains(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviour::kademlia;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn known(table: &mut Table) -> Vec<kad::Addresses> {
        let buckets = table.kbuckets();
        let entries = buckets.flat_map(|bucket| {
            let values = bucket.iter().map(|entry| entry.node.value.clone());
            values.collect::<Vec<_>>()
        });
        entries.collect()
    }

    /// A thousand peers of one network come; how many of them are in the table.
    fn crowd(routes: &mut Routes, table: &mut Table, network: &str) -> usize {
        let before = known(table).len();
        for host in 0..1000 {
            let at = address(&format!("/ip4/{network}.{}/tcp/1", host % 250));
            routes.put(table, &PeerId::random(), &at, [at.clone()]);
        }
        known(table).len() - before
    }

    #[test]
    fn a_thousand_peers_of_one_network_have_few_places_and_leave_the_rest_to_others() {
        let (mut routes, mut table) = (Routes::default(), kademlia(PeerId::random(), true));
        assert_eq!(crowd(&mut routes, &mut table, "20.0.6"), MAX_OF_NETWORK);
        let others: usize = (7..20)
            .map(|third| crowd(&mut routes, &mut table, &format!("20.0.{third}")))
            .sum();
        assert_eq!(others, MAX_OF_REGION - MAX_OF_NETWORK);
        assert_eq!(crowd(&mut routes, &mut table, "20.1.6"), MAX_OF_NETWORK);
    }

    #[test]
    fn what_a_peer_says_of_itself_wins_no_place() {
        let (mut routes, mut table) = (Routes::default(), kademlia(PeerId::random(), true));
        let seen_at = address("/ip4/20.0.6.1/tcp/1");
        for number in 0..100 {
            let said = address(&format!("/ip4/20.{number}.1.1/tcp/1"));
            routes.put(&mut table, &PeerId::random(), &seen_at, [said]);
        }
        assert_eq!(known(&mut table).len(), MAX_OF_NETWORK);
    }

    #[test]
    fn a_place_that_is_left_is_anothers_and_who_is_told_of_again_keeps_its_own() {
        let (mut routes, mut table) = (Routes::default(), kademlia(PeerId::random(), true));
        let at = address("/ip4/20.0.6.1/tcp/1");
        let peers: Vec<PeerId> = (0..MAX_OF_NETWORK).map(|_| PeerId::random()).collect();
        for peer in peers.iter().chain(&peers) {
            routes.put(&mut table, peer, &at, [at.clone()]);
        }
        assert_eq!(known(&mut table).len(), MAX_OF_NETWORK);
        table.remove_peer(&peers[0]);
        let newcomer = PeerId::random();
        routes.put(&mut table, &newcomer, &at, [at.clone()]);
        assert!(routes.0.contains_key(&newcomer));
        assert_eq!(known(&mut table).len(), MAX_OF_NETWORK);
    }

    #[test]
    fn machines_of_a_private_network_are_not_counted() {
        let (mut routes, mut table) = (Routes::default(), kademlia(PeerId::random(), true));
        let places = crowd(&mut routes, &mut table, "192.168.1");
        assert!(places > MAX_OF_REGION, "{places}");
    }

    #[test]
    fn a_peer_that_moves_without_end_has_its_last_addresses_in_the_routing_table() {
        let (mut routes, mut table) = (Routes::default(), kademlia(PeerId::random(), true));
        let peer = PeerId::random();
        let at = |port: u16| address(&format!("/ip4/10.0.0.1/tcp/{port}"));
        for round in 1..100 {
            let addresses = (0..24).map(|n| at(100 * round + n));
            routes.put(&mut table, &peer, &at(1), addresses);
        }
        let known: Vec<Multiaddr> = known(&mut table)
            .into_iter()
            .flat_map(kad::Addresses::into_vec)
            .collect();
        assert_eq!(known.len(), 24);
        assert_eq!(known[0], at(9900).with_p2p(peer).unwrap());
    }
}
