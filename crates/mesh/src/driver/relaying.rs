//! Relays tell the mesh where they are, and peers tell each other which of them they reached.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use libp2p::gossipsub::MessageAcceptance;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use rand::seq::SliceRandom as _;
use worldcompute_proof as proof;

use super::{Command, Driver};
use crate::address::{is_relayed, without_peer};
use crate::hearsay::{Need, Proven, Source, Way};
use crate::inbound::Responder;
use crate::network::{Network, Scope, scope};
use crate::status::{KnownRelay, MeshEvent};
use crate::wire::{
    Answer, Exchange as _, MAX_RELAY_ADDRESSES, MAX_RELAY_ANNOUNCEMENT, MAX_RELAYS, Malformed,
    PeerExchange, RelayAnnouncement, RelayRecord, RelaysReply, RelaysRequest, Topic, decode,
    encode,
};

/// A relay says again where it is after this time.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two such words, whoever comes and whatever changes.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(15);
/// A relay is asked again which others it knows after this time, and when it has no room, after the shorter one.
const ASK_INTERVAL: Duration = Duration::from_secs(600);
const ASK_PAUSE: Duration = Duration::from_secs(30);
/// One whose connection breaks before it answers is asked again on the next, but at once no more than once in this time: it
/// may break every one.
const FORGIVING_PAUSE: Duration = Duration::from_secs(30);
/// Peers that are asked at once when no relay is left to try.
const ASKED_IN_NEED: usize = 3;
/// When connections to relays are looked at, and what is known of them is told for keeping.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// When what is said and asked next.
pub(super) struct Rounds {
    announced: Option<Instant>,
    announce_due: Option<Instant>,
    asked: HashMap<PeerId, Asked>,
    need_asked: Option<Instant>,
    looked: Instant,
}

/// When a peer was asked which relays it knows.
#[derive(Clone, Copy, Default)]
struct Asked {
    at: Option<Instant>,
    /// Whether the connection broke before it answered.
    broke: bool,
    /// When it was last forgotten for that that it was asked.
    forgiven: Option<Instant>,
}

fn is_within(pause: Duration, at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < pause)
}

impl Rounds {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            announced: None,
            announce_due: None,
            asked: HashMap::new(),
            need_asked: None,
            looked: now,
        }
    }

    /// The connection to the peer broke before it answered.
    pub(super) fn unanswered(&mut self, peer: &PeerId, now: Instant) {
        let asked = self.asked.entry(*peer).or_default();
        asked.broke = true;
        if !is_within(FORGIVING_PAUSE, asked.forgiven, now) {
            (asked.at, asked.forgiven) = (None, Some(now));
        }
    }

    fn asks(&mut self, peer: &PeerId, now: Instant) {
        let asked = self.asked.entry(*peer).or_default();
        (asked.at, asked.broke) = (Some(now), false);
    }

    fn was_asked_within(&self, pause: Duration, peer: &PeerId, now: Instant) -> bool {
        self.asked.get(peer).is_some_and(|asked| {
            let pause = match asked.broke {
                true => pause.min(FORGIVING_PAUSE),
                false => pause,
            };
            is_within(pause, asked.at, now)
        })
    }

    fn forget_old(&mut self, now: Instant) {
        let recent = |at| is_within(ASK_INTERVAL, at, now);
        self.asked
            .retain(|_, asked| recent(asked.at) || recent(asked.forgiven));
    }
}

impl Driver {
    /// What time changes about relays that are known.
    pub(super) fn tend_hearsay(&mut self, now: Instant) {
        self.announce_relay(now);
        self.seek(now);
        if now.saturating_duration_since(self.rounds.looked) >= LOOK_INTERVAL {
            self.rounds.looked = now;
            self.look(now);
        }
        // Tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Connections that still stand prove that their relays are there.
    fn look(&mut self, now: Instant) {
        let connected: Vec<PeerId> = self.relays.connected_relays().collect();
        for relay in connected {
            self.hearsay.still_reached(&relay, now);
            self.ask_for_relays(&relay, ASK_INTERVAL, now);
        }
        self.rounds.forget_old(now);
        self.tell(MeshEvent::Relays);
    }

    /// Tries another relay where one is wanted.
    fn seek(&mut self, now: Instant) {
        let Some(need) = self.relays.need(now) else {
            return;
        };
        let (relays, banned) = (&self.relays, &self.banned);
        let out_of_question = |peer: &PeerId| relays.contains(peer) || banned.contains(peer);
        match self.hearsay.next(need, now, out_of_question) {
            Some((peer, addresses)) => {
                tracing::info!(%peer, ?addresses, "trying a relay that others told of");
                self.relays.try_out(peer, addresses, now);
            }
            None if need == Need::Relay => self.ask_around(now),
            None => {}
        }
    }

    /// Nobody is left to try: some of those that are connected may know somebody.
    fn ask_around(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < ASK_PAUSE;
        if self.rounds.need_asked.is_some_and(lately) {
            return;
        }
        let members = self.book.iter();
        let members = members.filter(|(_, entry)| entry.is_connected() && entry.exchanges);
        let mut members: Vec<PeerId> = members.map(|(peer, _)| *peer).collect();
        members.shuffle(&mut rand::rng());
        let unasked = |peer: &&PeerId| !self.rounds.was_asked_within(ASK_PAUSE, peer, now);
        let asked: Vec<PeerId> = members
            .iter()
            .filter(unasked)
            .take(ASKED_IN_NEED)
            .copied()
            .collect();
        for peer in asked {
            self.rounds.need_asked = Some(now);
            self.ask_for_relays(&peer, ASK_PAUSE, now);
        }
    }

    /// Asks a peer for relays, unless it was asked within `pause`.
    pub(super) fn ask_for_relays(&mut self, peer: &PeerId, pause: Duration, now: Instant) {
        let exchanges = self.book.get(peer).is_some_and(|entry| entry.exchanges);
        if !exchanges || self.rounds.was_asked_within(pause, peer, now) {
            return;
        }
        let Ok(Some(line)) = self.lines.line::<PeerExchange>(peer) else {
            return;
        };
        self.rounds.asks(peer, now);
        let (own, peer) = (self.own.clone(), *peer);
        self.tasks.spawn(async move {
            let told = match line.ask::<PeerExchange>(RelaysRequest {}).await {
                Ok(Answer::Ok(reply)) => Some(Command::Told(peer, reply)),
                Ok(Answer::Refused(_)) => None,
                Err(error) => Some(match error.offence() {
                    Some(offence) => Command::Offence(peer, offence, None),
                    None => Command::Unanswered(peer),
                }),
            };
            if let Some((told, own)) = told.zip(own.upgrade()) {
                // A node that has left the mesh needs no relays.
                let _ = own.send(told).await;
            }
        });
    }

    /// A peer told which relays it reached.
    pub(super) fn on_told(&mut self, from: &PeerId, reply: RelaysReply) {
        let (source, within) = self.source(from, Way::Exchange);
        for relay in reply.relays {
            if let Ok(peer) = PeerId::from_bytes(&relay.peer.to_bytes()) {
                let now = Instant::now();
                self.hearsay
                    .hear(peer, relay.addresses, &source, within, now);
            }
        }
    }

    /// A peer asks which relays this node reached.
    pub(super) fn on_asked(&mut self, by: &PeerId, responder: Responder<RelaysReply>) {
        let now = Instant::now();
        let entry = self.book.get_mut(by);
        // Whoever gave up meanwhile needs no answer.
        let _ = match entry.is_some_and(|entry| entry.may_ask_for_relays(now)) {
            true => responder.send(self.relays_for_peer(by)),
            false => responder.refuse(&self.desk.refuse()),
        };
    }

    fn relays_for_peer(&self, asking: &PeerId) -> RelaysReply {
        let (_, within) = self.source(asking, Way::Exchange);
        let others = self.hearsay.told_on(within, MAX_RELAYS + 1).into_iter();
        let record = |(peer, addresses): (PeerId, Vec<Multiaddr>)| {
            let peer = proof::PeerId::from_bytes(&peer.to_bytes()).ok()?;
            Some(RelayRecord { peer, addresses })
        };
        let others = others.filter(|(peer, _)| peer != asking && !self.banned.contains(peer));
        RelaysReply {
            relays: others.filter_map(record).take(MAX_RELAYS).collect(),
        }
    }

    /// A node told what it is. If it relays, and was dialled, that is proof; if it dialled, these are words.
    pub(super) fn on_relay_identified(
        &mut self,
        peer: &PeerId,
        listen: Vec<Multiaddr>,
        protocols: &[StreamProtocol],
    ) {
        let now = Instant::now();
        let Some(entry) = self.book.get_mut(peer) else {
            return;
        };
        entry.exchanges = protocols.iter().any(|id| id.as_ref() == PeerExchange::ID);
        if !protocols.contains(&libp2p::relay::HOP_PROTOCOL_NAME) {
            return;
        }
        let way = entry
            .remote()
            .map(|(remote, dialled)| (remote.clone(), dialled));
        let Some((remote, dialled)) = way.filter(|(remote, _)| !is_relayed(remote)) else {
            return;
        };
        let mut stated = listen;
        stated.truncate(2 * MAX_RELAY_ADDRESSES);
        if dialled {
            let named = self.relays.is_named(peer);
            if self.hearsay.reached(*peer, &remote, stated, named, now) {
                self.tell(MeshEvent::Relays);
            }
            self.ask_for_relays(peer, ASK_INTERVAL, now);
        } else {
            let (source, within) = self.source(peer, Way::Exchange);
            self.hearsay.hear(*peer, stated, &source, within, now);
        }
    }

    /// A relay says where it is. Its signature was checked; that it is there at all is not known.
    pub(super) fn hear_relay(
        &mut self,
        via: &PeerId,
        relay: PeerId,
        bytes: &[u8],
    ) -> Result<MessageAcceptance, Malformed> {
        let announcement: RelayAnnouncement = decode(bytes, MAX_RELAY_ANNOUNCEMENT)?;
        let now = Instant::now();
        let neighbour = self.book.get_mut(via);
        let heard = neighbour.is_some_and(|entry| entry.may_pass_on_a_relay(now));
        let speaker = self.book.newcomer(relay, now).filter(|_| heard);
        if !speaker.is_some_and(|entry| entry.may_announce_a_relay(announcement.sequence, now)) {
            return Ok(MessageAcceptance::Ignore);
        }
        let (source, within) = self.source(via, Way::Gossip);
        self.hearsay
            .hear(relay, announcement.addresses, &source, within, now);
        Ok(MessageAcceptance::Accept)
    }

    /// The network from which a peer speaks, and from where it is reached. Through a circuit it may be anybody.
    fn source(&self, peer: &PeerId, by: Way) -> (Source, Scope) {
        let remote = self.book.get(peer).and_then(|entry| entry.remote());
        let remote = remote.map(|(remote, _)| remote);
        let network = remote.and_then(Network::of);
        let within = remote.and_then(scope).unwrap_or(Scope::World);
        (Source { network, by }, within)
    }

    /// A relay says where it is as soon as the pause since the last time allows.
    pub(super) fn announce_relay_soon(&mut self, now: Instant) {
        if !self.hub {
            return;
        }
        let last = self.rounds.announced;
        let allowed = last.map_or(now, |last| (last + ANNOUNCE_PAUSE).max(now));
        let due = self.rounds.announce_due;
        self.rounds.announce_due = Some(due.map_or(allowed, |due| due.min(allowed)));
    }

    fn announce_relay(&mut self, now: Instant) {
        if self.rounds.announce_due.is_none_or(|due| now < due) {
            return;
        }
        self.rounds.announce_due = Some(now + ANNOUNCE_INTERVAL);
        let announcement = RelayAnnouncement {
            sequence: self.voice.next_sequence(),
            addresses: self.own_addresses(),
        };
        match encode(&announcement, MAX_RELAY_ANNOUNCEMENT) {
            Ok(_) if announcement.addresses.is_empty() => {}
            Ok(bytes) => {
                if self.publish(Topic::RelayAnnouncements, bytes) {
                    self.rounds.announced = Some(now);
                }
            }
            Err(error) => tracing::warn!(%error, "the relay cannot say where it is"),
        }
    }

    /// Where this relay is, the widest reach first; what leads to this machine alone where there is nothing else.
    fn own_addresses(&self) -> Vec<Multiaddr> {
        let external = self.swarm.external_addresses().cloned().map(without_peer);
        let mut reach: Vec<(Scope, Multiaddr)> = external
            .filter_map(|address| Some((scope(&address)?, address)))
            .collect();
        let confined = reach.iter().all(|(scope, _)| *scope == Scope::Machine);
        reach.retain(|(scope, _)| confined || *scope != Scope::Machine);
        reach.sort_by(|(one, _), (other, _)| other.cmp(one));
        let addresses = reach.into_iter().map(|(_, address)| address);
        addresses.take(MAX_RELAY_ADDRESSES).collect()
    }

    /// The relays that this node reached, for whoever keeps them.
    pub(super) fn known_relays(&self) -> Vec<KnownRelay> {
        let known = |relay: Proven| {
            Some(KnownRelay {
                peer: proof::PeerId::from_bytes(&relay.peer.to_bytes()).ok()?,
                addresses: relay.addresses,
                reached: relay.last,
            })
        };
        self.hearsay
            .proven()
            .into_iter()
            .filter_map(known)
            .collect()
    }
}

/// What was kept of an earlier run.
pub(super) fn kept(relays: &[KnownRelay]) -> Vec<Proven> {
    let proven = |relay: &KnownRelay| {
        Some(Proven {
            peer: PeerId::from_bytes(&relay.peer.to_bytes()).ok()?,
            addresses: relay.addresses.clone(),
            last: relay.reached.min(SystemTime::now()),
        })
    };
    relays.iter().filter_map(proven).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_whose_connections_break_before_it_answers_is_asked_again_once_in_a_while() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut rounds = Rounds::new(start);
        let asked = |rounds: &Rounds, now| rounds.was_asked_within(ASK_INTERVAL, &peer, now);
        rounds.asks(&peer, start);
        assert!(asked(&rounds, start));
        rounds.unanswered(&peer, start);
        assert!(!asked(&rounds, start));
        rounds.asks(&peer, start);
        rounds.unanswered(&peer, start);
        assert!(asked(&rounds, start), "it may break every one");
        let later = start + FORGIVING_PAUSE;
        assert!(!asked(&rounds, later), "it may have been by chance");
        rounds.asks(&peer, later);
        rounds.unanswered(&peer, later);
        assert!(!asked(&rounds, later));
        rounds.asks(&peer, later);
        assert!(
            asked(&rounds, later + ASK_INTERVAL / 2),
            "this time it answers"
        );
    }

    #[test]
    fn who_was_asked_long_ago_is_forgotten() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut rounds = Rounds::new(start);
        rounds.asks(&peer, start);
        rounds.unanswered(&peer, start);
        rounds.forget_old(start + ASK_INTERVAL / 2);
        assert_eq!(rounds.asked.len(), 1);
        rounds.forget_old(start + ASK_INTERVAL);
        assert!(rounds.asked.is_empty());
    }
}
