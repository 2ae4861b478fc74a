//! Where scenarios are played: two public relays, a donor that is reached through them alone, and somebody outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::claim::Claim;
use super::internet::{Host, Internet, Site};
use super::means::Means;
use super::namespace::Namespace;
use super::nat::Nat;
use super::node::{ANSWER_TIME, Node, text};
use super::profile::Profile;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// In which both relays are reserved on, and a node that comes back is.
const RESERVED_TIME: Duration = Duration::from_secs(90);
/// Between two looks at what a node says.
const LOOK: Duration = Duration::from_millis(250);

/// The network, without nodes.
pub struct Ground<'c> {
    claim: &'c Claim,
    label: String,
    relays: [Host; 2],
    /// Nothing in, and nothing out but TCP to port 443.
    donor: Site,
    /// Whatever is dialled from here gets there.
    pub outside: Host,
    /// The same, in another network.
    elsewhere: Host,
    internet: Internet<'c>,
}

/// The nodes on it, all up.
pub struct Nodes<'a> {
    pub relays: [Node<'a>; 2],
    pub donor: Node<'a>,
}

/// A reservation as its holder lists it.
pub struct Held {
    pub relay: String,
    pub state: String,
    /// Where others dial it.
    pub address: String,
}

impl<'c> Ground<'c> {
    /// Makes the network. All of its namespaces carry the label.
    pub fn make(claim: &'c Claim, label: &str) -> Result<Self> {
        let internet = Internet::make(claim, label, Duration::ZERO)?;
        Ok(Self {
            claim,
            label: label.to_owned(),
            relays: [internet.host("relay1", 1)?, internet.host("relay2", 2)?],
            donor: internet.site("donor", 3, Nat::PortRestricted, Profile::DenyDrop)?,
            outside: internet.host("outside", 4)?,
            elsewhere: internet.host("elsewhere", 5)?,
            internet,
        })
    }

    /// Starts both relays, which grant reservations of this many seconds, and the donor.
    pub fn start<'a>(
        &'a self,
        means: &'a Means,
        reservation_s: u32,
        stop: &Stop,
    ) -> Result<Nodes<'a>> {
        let relays = self.relays(means, reservation_s, stop)?;
        let donor = self.start_donor("donor", &relays, means, stop)?;
        Ok(Nodes { relays, donor })
    }

    /// Starts both relays alone.
    pub fn relays<'a>(
        &'a self,
        means: &'a Means,
        reservation_s: u32,
        stop: &Stop,
    ) -> Result<[Node<'a>; 2]> {
        let relay = |index| self.relay(index, means, reservation_s, stop);
        Ok([relay(0)?, relay(1)?])
    }

    /// Starts a donor of that name, which has a home of its own.
    pub fn start_donor<'a>(
        &'a self,
        name: &str,
        relays: &[Node<'_>; 2],
        means: &'a Means,
        stop: &Stop,
    ) -> Result<Node<'a>> {
        let known = self.known(relays);
        let join = ["donor", "join", "--no-mdns", "--bootstrap", &known];
        self.node(name, &self.donor.host, means, &join, stop)
    }

    /// Starts a relay, also one that was there before: it is the same again.
    pub fn relay<'a>(
        &'a self,
        index: usize,
        means: &'a Means,
        reservation_s: u32,
        stop: &Stop,
    ) -> Result<Node<'a>> {
        let host = self.relay_host(index)?;
        let seconds = reservation_s.to_string();
        let words = [
            "relay",
            "--no-mdns",
            "--wss-listen",
            "--reservation-s",
            &seconds,
        ];
        self.node(
            &format!("relay{index}"),
            &host.namespace,
            means,
            &words,
            stop,
        )
    }

    /// Starts a submitter elsewhere, whose own donor consents to nothing that the jobs of the lab are.
    pub fn submitter<'a>(
        &'a self,
        means: &'a Means,
        nodes: &Nodes<'_>,
        stop: &Stop,
    ) -> Result<Node<'a>> {
        let known = self.known(&nodes.relays);
        let words = ["donor", "join", "--no-mdns", "--consent", "rendering"];
        let words = [&words[..], &["--bootstrap", &known]].concat();
        self.node("submitter", self.submitters(), means, &words, stop)
    }

    /// The submitter's machine.
    pub fn submitters(&self) -> &Namespace {
        &self.elsewhere.namespace
    }

    /// Where the first relay is.
    pub fn relay_address(&self) -> Ipv4Addr {
        let [first, _] = &self.relays;
        first.addresses[0]
    }

    /// A port of the donor's machine, as its own network has it.
    pub fn donor_inside(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.donor.inside.into(), port)
    }

    /// A machine on the donor's own network.
    pub fn beside_donor(&self) -> &Namespace {
        &self.donor.gate
    }

    /// The donor's machine.
    pub fn donor(&self) -> &Namespace {
        &self.donor.host
    }

    fn known(&self, relays: &[Node<'_>; 2]) -> String {
        let known = relays.iter().enumerate();
        let known = known.flat_map(|(index, relay)| self.public(index, relay));
        known.collect::<Vec<_>>().join(",")
    }

    /// The public addresses of a relay.
    pub fn public(&self, index: usize, relay: &Node<'_>) -> Vec<String> {
        let own = self
            .relays
            .get(index)
            .map(|host| format!("/ip4/{}/", host.addresses[0]));
        let own = own.unwrap_or_default();
        relay
            .addresses
            .iter()
            .filter(|address| address.starts_with(&own))
            .cloned()
            .collect()
    }

    /// The donor's machine gets another address in place of the one it has: the first is its own from the start.
    pub fn readdress(&self, from: u8, to: u8) -> Result<()> {
        let donor = &self.donor;
        let [a, b, c, first] = donor.inside.octets();
        let address = |number| Ipv4Addr::new(a, b, c, first + number);
        donor
            .host
            .ip(&format!("addr del {}/24 dev eth0", address(from)))?;
        donor
            .host
            .ip(&format!("addr add {}/24 dev eth0", address(to)))?;
        let route = format!("route replace default via {}", donor.near);
        donor.host.ip(&route).map(drop)
    }

    /// One more public machine, on link `number` above 5.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        self.internet.host(name, number)
    }

    /// From now on nothing reaches a relay, and nothing leaves it.
    pub fn part(&self, index: usize) -> Result<()> {
        self.relay_host(index)?.namespace.nft(
            "table inet parted {\n\
             chain inbound { type filter hook input priority -300; iifname \"eth0\" drop; }\n\
             chain outbound { type filter hook output priority -300; oifname \"eth0\" drop; }\n\
             }\n",
        )
    }

    /// Undoes [`Self::part`].
    pub fn mend(&self, index: usize) -> Result<()> {
        self.relay_host(index)?
            .namespace
            .nft("delete table inet parted\n")
    }

    fn relay_host(&self, index: usize) -> Result<&Host> {
        self.relays
            .get(index)
            .ok_or_else(|| Failure::new(format!("there is no relay {index}")))
    }

    fn node<'a>(
        &'a self,
        name: &str,
        namespace: &'a Namespace,
        means: &'a Means,
        words: &[&str],
        stop: &Stop,
    ) -> Result<Node<'a>> {
        let home = self.claim.dir(&format!("{}/{name}", self.label))?;
        let node = Node::start(namespace, &means.worldcompute, home, words, stop)?;
        node.map_err(|why| Failure::new(format!("{name}: {why}")))
    }
}

impl Nodes<'_> {
    /// Waits until the donor's list has every relay as reserved on.
    pub fn all_held(&self, stop: &Stop) -> Result<Vec<Held>> {
        let deadline = Instant::now() + RESERVED_TIME;
        loop {
            let held = list(&self.donor, stop)?;
            if held.iter().filter(|held| held.stands()).count() == self.relays.len() {
                return Ok(held);
            }
            if Instant::now() > deadline {
                let states = held
                    .iter()
                    .map(|held| format!("{} {}", held.relay, held.state));
                let states: Vec<String> = states.collect();
                return Err(Failure::new(format!(
                    "not reserved on both relays: {}",
                    states.join(", ")
                )));
            }
            stop.wait(LOOK)?;
        }
    }
}

impl Held {
    /// Whether the relay passes circuits on.
    pub fn stands(&self) -> bool {
        matches!(self.state.as_str(), "active" | "renewing")
    }
}

/// The reservations that a node lists.
pub fn list(node: &Node<'_>, stop: &Stop) -> Result<Vec<Held>> {
    let status = node.ask_json(&["admin", "status"], ANSWER_TIME, stop)?;
    let held = status.get("reservations").and_then(Value::as_array);
    let held = held.into_iter().flatten().map(|held| Held {
        relay: text(held, "relay"),
        state: text(held, "state"),
        address: text(held, "address"),
    });
    Ok(held.collect())
}
