//! What this node tells everybody, and what it makes of what others tell.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::gossipsub::{self, IdentTopic, Message, MessageAcceptance, PublishError, TopicHash};
use libp2p::{Multiaddr, PeerId};

use super::Driver;
use crate::address::{is_loopback, is_relayed};
use crate::book::Verdict;
use crate::codec::Offence;
use crate::network::scope;
use crate::status::MeshEvent;
use crate::wire::{
    Announcement, Capacity, MAX_ADDRESSES, MAX_ANNOUNCEMENT, MAX_PUBLISH, Malformed, Topic, decode,
    encode,
};

/// An announcement is made again after this time.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// The least time between two announcements, however many newcomers there are.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(500);
/// With many peers the pause grows by this for each, so that their greetings stay bounded together.
const PAUSE_PER_PEER: Duration = Duration::from_millis(5);

/// What this node has to say, and when it says it next.
pub(super) struct Voice {
    capacity: Option<Capacity>,
    sequence: u64,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Voice {
    pub(super) const fn new() -> Self {
        Self {
            capacity: None,
            sequence: 0,
            last: None,
            due: None,
        }
    }

    /// Grows across restarts too, as long as the clock does.
    pub(super) fn next_sequence(&mut self) -> u64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        self.sequence = millis.max(self.sequence.saturating_add(1));
        self.sequence
    }
}

impl Driver {
    pub(super) fn announce(&mut self, capacity: Capacity) {
        if self.voice.capacity.replace(capacity).is_none() {
            // Whatever was said before was a question.
            self.voice.last = None;
        }
        self.speak_soon(Instant::now());
    }

    /// There is a newcomer, or another address: those who have a capacity announce it anew.
    pub(super) fn announce_again(&mut self, now: Instant) {
        if self.voice.capacity.is_some() {
            self.speak_soon(now);
        }
    }

    /// Publishes to whoever listens. False when nobody does.
    pub(super) fn publish(&mut self, topic: Topic, bytes: Vec<u8>) -> bool {
        let topic = IdentTopic::new(topic.as_str());
        match self.swarm.behaviour_mut().gossip.publish(topic, bytes) {
            Ok(_) => true,
            Err(PublishError::NoPeersSubscribedToTopic) => false,
            Err(error) => {
                tracing::warn!(%error, "a message was not published");
                false
            }
        }
    }

    /// Speaks as soon as the pause since the last time allows.
    fn speak_soon(&mut self, now: Instant) {
        let peers = u32::try_from(self.swarm.network_info().num_peers()).unwrap_or(u32::MAX);
        let pause = ANNOUNCE_PAUSE.max(PAUSE_PER_PEER.saturating_mul(peers));
        let allowed = self.voice.last.map_or(now, |last| (last + pause).max(now));
        self.voice.due = Some(self.voice.due.map_or(allowed, |due| due.min(allowed)));
        self.speak(now);
    }

    /// Announces what this node can take, if that is due. One that takes nothing asks who is there; a relay need not.
    pub(super) fn speak(&mut self, now: Instant) {
        if self.voice.due.is_none_or(|due| now < due) || (self.hub && self.voice.capacity.is_none())
        {
            return;
        }
        let capacity = self.voice.capacity.clone().map(|capacity| Capacity {
            addresses: self.advertised(),
            ..capacity
        });
        self.voice.due = capacity.is_some().then(|| now + ANNOUNCE_INTERVAL);
        let announcement = Announcement {
            sequence: self.voice.next_sequence(),
            capacity,
        };
        match encode(&announcement, MAX_ANNOUNCEMENT) {
            Ok(bytes) => {
                if self.publish(Topic::CapacityUpdates, bytes) {
                    self.voice.last = Some(now);
                }
            }
            Err(error) => tracing::warn!(%error, "the capacity does not fit into an announcement"),
        }
    }

    /// Where others may dial this node: through its relays, at its public addresses, on its networks. Addresses of
    /// this machine alone only where there is nothing else.
    fn advertised(&self) -> Vec<Multiaddr> {
        let external = || self.swarm.external_addresses();
        let listening = || {
            self.swarm
                .listeners()
                .filter(|address| !is_relayed(address))
        };
        let confined = listening().all(is_loopback);
        let mut addresses: Vec<Multiaddr> = external()
            .filter(|address| is_relayed(address))
            .cloned()
            .collect();
        addresses.extend(external().filter(|address| !is_relayed(address)).cloned());
        addresses.extend(
            listening()
                .filter(|address| confined || !is_loopback(address))
                .filter(|address| scope(address).is_some())
                .cloned(),
        );
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Subscribed { peer_id, .. } => {
                let newcomer = self
                    .book
                    .get_mut(&peer_id)
                    .is_some_and(|entry| !std::mem::replace(&mut entry.subscribed, true));
                if newcomer {
                    let now = Instant::now();
                    self.speak_soon(now);
                    self.announce_relay_soon(now);
                }
            }
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let acceptance = self.judge(&propagation_source, &message);
                self.swarm
                    .behaviour_mut()
                    .gossip
                    .report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            _ => {}
        }
    }

    /// Whether a message is passed on. gossipsub has checked that its source signed it; but sources cost nothing, so
    /// a neighbour is heard at a bounded rate, whoever it speaks for.
    fn judge(&mut self, via: &PeerId, message: &Message) -> MessageAcceptance {
        let neighbour = self.book.get_mut(via);
        if !neighbour.is_some_and(|entry| entry.may_pass_on(message.data.len(), Instant::now())) {
            return MessageAcceptance::Ignore;
        }
        let (Some(source), Some(topic)) = (message.source, topic_of(&message.topic)) else {
            return MessageAcceptance::Reject;
        };
        if self.banned.contains(&source) {
            return MessageAcceptance::Ignore;
        }
        let heard = match topic {
            Topic::CapacityUpdates => self.hear_announcement(source, &message.data),
            Topic::RelayAnnouncements => self.hear_relay(via, source, &message.data),
            topic => self.hear(source, topic, &message.data),
        };
        heard.unwrap_or_else(|malformed| self.refuse(via, &source, malformed))
    }

    /// What does not read is the fault of whoever signed it. A neighbour that passed it on may be older or newer than
    /// this node and right about it: a relay is not shut out for words of another.
    fn refuse(&mut self, via: &PeerId, source: &PeerId, malformed: Malformed) -> MessageAcceptance {
        if via != source {
            tracing::debug!(%via, %source, %malformed, "a message was not passed on");
            return MessageAcceptance::Ignore;
        }
        self.on_offence(*via, &Offence::Malformed(malformed));
        MessageAcceptance::Reject
    }

    fn hear_announcement(
        &mut self,
        source: PeerId,
        bytes: &[u8],
    ) -> Result<MessageAcceptance, Malformed> {
        let announcement: Announcement = decode(bytes, MAX_ANNOUNCEMENT)?;
        announcement.check()?;
        let now = Instant::now();
        let Some(entry) = self.book.newcomer(source, now) else {
            return Ok(MessageAcceptance::Ignore);
        };
        let Verdict::Fresh { new } = entry.announced(&announcement, now) else {
            return Ok(MessageAcceptance::Ignore);
        };
        let asked = announcement.capacity.is_none();
        if let Some(capacity) = announcement.capacity {
            entry.learn(&source, capacity.addresses.iter().cloned());
            let id = entry.id;
            self.tell(MeshEvent::Capacity(id, capacity));
            self.dial_beside(source);
        }
        // A newcomer is greeted. One who only asks is not asked back.
        if asked || (new && self.voice.capacity.is_some()) {
            self.announce_again(now);
        }
        Ok(MessageAcceptance::Accept)
    }

    fn hear(
        &mut self,
        source: PeerId,
        topic: Topic,
        bytes: &[u8],
    ) -> Result<MessageAcceptance, Malformed> {
        if bytes.len() > MAX_PUBLISH {
            return Err(Malformed::TooLong(MAX_PUBLISH));
        }
        let now = Instant::now();
        let Some(entry) = self.book.newcomer(source, now) else {
            return Ok(MessageAcceptance::Ignore);
        };
        if !entry.may_publish(now) {
            return Ok(MessageAcceptance::Ignore);
        }
        let from = entry.id;
        self.tell(MeshEvent::Gossip {
            topic,
            from,
            bytes: bytes.into(),
        });
        Ok(MessageAcceptance::Accept)
    }
}

fn topic_of(hash: &TopicHash) -> Option<Topic> {
    Topic::ALL
        .into_iter()
        .find(|topic| topic.as_str() == hash.as_str())
}
