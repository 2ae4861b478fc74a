//! A libp2p node that speaks the mesh's protocols and keeps none of their rules.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::request_response::{self as rr, Message, ProtocolSupport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, ping, relay};
use tokio::sync::{mpsc, oneshot};
use worldcompute_mesh::Mesh;

use crate::support::{DEADLINE, foreign};

pub const OFFER: &str = "/worldcompute/offer/1.0.0";
pub const DISPATCH: &str = "/worldcompute/dispatch/1.0.0";
pub const CONTENT: &str = "/worldcompute/content/1.0.0";
pub const CAPACITY: &str = "wc/capacity-updates/1.0.0";
pub const EXCHANGE: &str = "/worldcompute/relays/1.0.0";
pub const RELAYS: &str = "wc/relay-announcements/1.0.0";

/// Less than a test waits for anything, so that what went wrong is told before the test gives up.
const PATIENCE: Duration = DEADLINE.saturating_sub(Duration::from_secs(5));

pub fn id_of(mesh: &Mesh) -> PeerId {
    PeerId::from_bytes(&mesh.peer_id().to_bytes()).unwrap()
}

/// What goes onto a stream.
#[derive(Clone, Debug)]
pub struct Raw {
    pub bytes: Vec<u8>,
    /// Whether the stream then stays open and silent.
    pub hang: bool,
}

impl Raw {
    pub fn whole(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            hang: false,
        }
    }

    pub fn half(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            hang: true,
        }
    }
}

/// What it answers to every request.
type Answers = Box<dyn FnMut(&[u8]) -> Raw + Send>;

#[derive(Clone, Default)]
struct RawCodec;

impl rr::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Raw;
    type Response = Raw;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Raw> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Raw> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        raw: Raw,
    ) -> io::Result<()> {
        write(io, raw).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        raw: Raw,
    ) -> io::Result<()> {
        write(io, raw).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Raw> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(Raw::whole(bytes))
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, raw: Raw) -> io::Result<()> {
    io.write_all(&raw.bytes).await?;
    io.flush().await?;
    if raw.hang {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[derive(NetworkBehaviour)]
struct Evil {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    relay: relay::Behaviour,
    offer: rr::Behaviour<RawCodec>,
    dispatch: rr::Behaviour<RawCodec>,
    content: rr::Behaviour<RawCodec>,
    exchange: rr::Behaviour<RawCodec>,
}

enum Command {
    Dial(PeerId, Multiaddr),
    Send(
        PeerId,
        &'static str,
        Raw,
        oneshot::Sender<Result<Vec<u8>, String>>,
    ),
    Publish(&'static str, Vec<u8>),
    Neighbours(&'static str, oneshot::Sender<usize>),
    HangUp(PeerId),
}

/// The handle of such a node. It is gone when the handle is.
pub struct Attacker {
    pub peer: PeerId,
    pub address: Multiaddr,
    /// Whom it dialled last, and where.
    dialled: Option<(PeerId, Multiaddr)>,
    commands: mpsc::UnboundedSender<Command>,
    pub connections: mpsc::UnboundedReceiver<Happening>,
}

#[derive(Debug, PartialEq)]
pub enum Happening {
    Connected,
    Refused(String),
    Disconnected,
    /// The peer has told what it listens to.
    Subscribed(PeerId),
}

impl Attacker {
    /// `version` is the protocol version it claims. It listens on loopback and answers with `answers`.
    pub async fn start(version: &str, answers: impl FnMut(&[u8]) -> Raw + Send + 'static) -> Self {
        Self::run(swarm(version, None), answers).await
    }

    /// One that gives reservations.
    pub async fn relaying(answers: impl FnMut(&[u8]) -> Raw + Send + 'static) -> Self {
        let mut swarm = swarm("/worldcompute/1.0.0", None);
        // Whoever says where it can be reached is a relay to libp2p.
        swarm.add_external_address("/ip4/127.0.0.1/tcp/1".parse().unwrap());
        Self::run(swarm, answers).await
    }

    /// One that publishes in the name of `another`.
    pub async fn posing_as(another: PeerId) -> Self {
        let swarm = swarm("/worldcompute/1.0.0", Some(another));
        Self::run(swarm, |_| Raw::whole([])).await
    }

    async fn run(
        mut swarm: Swarm<Evil>,
        answers: impl FnMut(&[u8]) -> Raw + Send + 'static,
    ) -> Self {
        swarm
            .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let peer = *swarm.local_peer_id();
        let (commands, commanded) = mpsc::unbounded_channel();
        let (happened, connections) = mpsc::unbounded_channel();
        tokio::spawn(run(swarm, commanded, happened, Box::new(answers)));
        Self {
            peer,
            address,
            dialled: None,
            commands,
            connections,
        }
    }

    pub fn dial(&mut self, peer: PeerId, address: &Multiaddr) {
        self.dialled = Some((peer, address.clone()));
        self.dial_again();
    }

    fn dial_again(&self) {
        if let Some((peer, address)) = self.dialled.clone() {
            self.commands
                .send(Command::Dial(peer, address))
                .ok()
                .unwrap();
        }
    }

    /// Puts `raw` on a stream of its own; the answer comes when the stream ends.
    pub fn send(
        &self,
        peer: PeerId,
        protocol: &'static str,
        raw: Raw,
    ) -> oneshot::Receiver<Result<Vec<u8>, String>> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command::Send(peer, protocol, raw, done))
            .ok()
            .unwrap();
        answer
    }

    pub fn publish(&self, topic: &'static str, bytes: Vec<u8>) {
        self.commands
            .send(Command::Publish(topic, bytes))
            .ok()
            .unwrap();
    }

    /// Ends every connection to a peer.
    pub fn hang_up(&self, peer: PeerId) {
        self.commands.send(Command::HangUp(peer)).ok().unwrap();
    }

    /// How many listen to this node, and it to them, on a topic.
    pub async fn neighbours(&self, topic: &'static str) -> usize {
        let (tell, told) = oneshot::channel();
        let asked = self.commands.send(Command::Neighbours(topic, tell));
        asked.ok().unwrap();
        told.await.unwrap()
    }

    /// A machine that is busy may let a handshake take too long, and a connection be cut on which too little was said: where
    /// something else is waited for, the node is dialled again.
    pub async fn happens(&mut self, wanted: impl Fn(&Happening) -> bool) -> Happening {
        let mut swallowed = Vec::new();
        match tokio::time::timeout(PATIENCE, self.sought(wanted, &mut swallowed)).await {
            Ok(happening) => happening,
            Err(_) => panic!("this came instead: {swallowed:?}"),
        }
    }

    /// Waits until what is published here gets to a peer.
    pub async fn is_heard_by(&mut self, peer: PeerId) {
        self.happens(|happening| *happening == Happening::Subscribed(peer))
            .await;
    }

    async fn sought(
        &mut self,
        wanted: impl Fn(&Happening) -> bool,
        swallowed: &mut Vec<Happening>,
    ) -> Happening {
        loop {
            let happening = self.connections.recv().await.unwrap();
            if wanted(&happening) {
                return happening;
            }
            if matches!(happening, Happening::Refused(_) | Happening::Disconnected) {
                self.dial_again();
            }
            swallowed.push(happening);
        }
    }
}

fn swarm(version: &str, posing_as: Option<PeerId>) -> Swarm<Evil> {
    let version = version.to_owned();
    foreign(|keypair, _| {
        let protocol = |id: &'static str| {
            let config = rr::Config::default()
                .with_request_timeout(Duration::from_secs(120))
                .with_max_concurrent_streams(10_000);
            rr::Behaviour::new([(StreamProtocol::new(id), ProtocolSupport::Full)], config)
        };
        let (authenticity, mode) = match posing_as {
            None => (
                MessageAuthenticity::Signed(keypair.clone()),
                ValidationMode::Strict,
            ),
            Some(another) => (
                MessageAuthenticity::Author(another),
                ValidationMode::Permissive,
            ),
        };
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(mode)
            .build()
            .unwrap();
        let mut gossip = gossipsub::Behaviour::new(authenticity, config).unwrap();
        for topic in [CAPACITY, RELAYS] {
            gossip.subscribe(&IdentTopic::new(topic)).unwrap();
        }
        Evil {
            identify: identify::Behaviour::new(identify::Config::new(version, keypair.public())),
            ping: ping::Behaviour::default(),
            gossip,
            relay: relay::Behaviour::new(keypair.public().to_peer_id(), relay::Config::default()),
            offer: protocol(OFFER),
            dispatch: protocol(DISPATCH),
            content: protocol(CONTENT),
            exchange: protocol(EXCHANGE),
        }
    })
}

async fn run(
    mut swarm: Swarm<Evil>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    happened: mpsc::UnboundedSender<Happening>,
    mut answers: Answers,
) {
    let mut pending = std::collections::HashMap::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Dial(peer, address)) => {
                    // The system may have given the port it listens on to somebody's connection too.
                    let dial = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).allocate_new_port().build();
                    swarm.dial(dial).unwrap();
                }
                Some(Command::Send(peer, protocol, raw, done)) => {
                    let id = protocol_of(&mut swarm, protocol).send_request(&peer, raw);
                    pending.insert((protocol, id), done);
                }
                Some(Command::Publish(topic, bytes)) => {
                    swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic), bytes).unwrap();
                }
                Some(Command::HangUp(peer)) => swarm.disconnect_peer_id(peer).unwrap(),
                Some(Command::Neighbours(topic, tell)) => {
                    let count = swarm.behaviour().gossip.mesh_peers(&IdentTopic::new(topic).hash()).count();
                    let _: Result<(), _> = tell.send(count);
                }
            },
            event = swarm.select_next_some() => {
                let (protocol, event) = match event {
                    SwarmEvent::Behaviour(EvilEvent::Offer(event)) => (OFFER, event),
                    SwarmEvent::Behaviour(EvilEvent::Dispatch(event)) => (DISPATCH, event),
                    SwarmEvent::Behaviour(EvilEvent::Content(event)) => (CONTENT, event),
                    SwarmEvent::Behaviour(EvilEvent::Exchange(event)) => (EXCHANGE, event),
                    other => {
                        tell(&happened, other);
                        continue;
                    }
                };
                match event {
                    rr::Event::Message { message: Message::Request { request, channel, .. }, .. } => {
                        let answer = answers(&request.bytes);
                        let _ = protocol_of(&mut swarm, protocol).send_response(channel, answer);
                    }
                    rr::Event::Message { message: Message::Response { request_id, response }, .. } => {
                        if let Some(done) = pending.remove(&(protocol, request_id)) {
                            let _: Result<(), _> = done.send(Ok(response.bytes));
                        }
                    }
                    rr::Event::OutboundFailure { request_id, error, .. } => {
                        if let Some(done) = pending.remove(&(protocol, request_id)) {
                            let _ = done.send(Err(error.to_string()));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn protocol_of<'a>(swarm: &'a mut Swarm<Evil>, protocol: &str) -> &'a mut rr::Behaviour<RawCodec> {
    let behaviour = swarm.behaviour_mut();
    match protocol {
        OFFER => &mut behaviour.offer,
        DISPATCH => &mut behaviour.dispatch,
        EXCHANGE => &mut behaviour.exchange,
        _ => &mut behaviour.content,
    }
}

fn tell(happened: &mpsc::UnboundedSender<Happening>, event: SwarmEvent<EvilEvent>) {
    let happening = match event {
        SwarmEvent::ConnectionEstablished { .. } => Happening::Connected,
        SwarmEvent::ConnectionClosed { .. } => Happening::Disconnected,
        SwarmEvent::OutgoingConnectionError { error, .. } => Happening::Refused(error.to_string()),
        SwarmEvent::Behaviour(EvilEvent::Gossip(gossipsub::Event::Subscribed {
            peer_id, ..
        })) => Happening::Subscribed(peer_id),
        _ => return,
    };
    let _ = happened.send(happening);
}
