//! The handle that everybody above uses.

use std::time::Duration;

use libp2p::Multiaddr;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::{Cid, PeerId};

use crate::behaviour::MAX_CONNECTIONS_PER_PEER;
use crate::config::MeshConfig;
use crate::driver::{self, Command};
use crate::exchange::{CONNECTION_LOST, CallError, Line, Lines};
use crate::fetch;
use crate::inbound::Inbound;
use crate::status::{
    KnownRelay, MeshEvent, MeshStatus, PeerInfo, ReservationInfo, ReservationState,
};
use crate::wire::{
    Capacity, Content, ContentReply, ContentRequest, Dispatch, DispatchReply, DispatchRequest,
    Exchange, Lease, LeaseMessage, LeaseReply, MAX_PUBLISH, Offer, OfferReply, OfferRequest, Topic,
};

/// A node of the mesh. Clones are the same node; it leaves the mesh when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Mesh {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    lines: Lines,
    events: broadcast::WeakSender<MeshEvent>,
}

impl Mesh {
    /// Joins the mesh. Returns when the node listens, with the requests of others.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `io_failure` codes when an address cannot be listened on; `invalid_bootstrap` for an address that cannot be
    /// dialled.
    pub async fn start(config: MeshConfig) -> Result<(Self, mpsc::Receiver<Inbound>)> {
        let (commands, lines, events, inbound) = driver::start(&config).await?;
        let peer = config.key.peer_id();
        Ok((
            Self {
                peer,
                commands,
                lines,
                events,
            },
            inbound,
        ))
    }

    /// Who this node is.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Everybody this node knows of, connected or not. Empty after [`shutdown`](Self::shutdown).
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Where this node stands.
    ///
    /// # Errors
    /// `mesh_stopped`.
    pub async fn status(&self) -> Result<MeshStatus> {
        self.ask(Command::Status).await
    }

    /// The relays that this node reached, to be given to its next run. They may have changed after every
    /// [`MeshEvent::Relays`].
    ///
    /// # Errors
    /// `mesh_stopped`.
    pub async fn known_relays(&self) -> Result<Vec<KnownRelay>> {
        self.ask(Command::KnownRelays).await
    }

    /// Whether a box that this machine trusts opens the TLS on the way to a peer. False for one that is not connected,
    /// and after [`shutdown`](Self::shutdown).
    pub async fn is_inspected(&self, peer: PeerId) -> bool {
        let asked = self.ask(|reply| Command::Inspects(peer, reply)).await;
        asked.unwrap_or_default()
    }

    /// Asks a donor whether it would take a task.
    ///
    /// # Errors
    /// WC-022 when the peer cannot be reached; `network_timeout`, `connection_lost` and `peer_busy`, which may pass;
    /// whatever the peer refused with.
    pub async fn offer(&self, peer: PeerId, request: OfferRequest) -> Result<OfferReply> {
        self.call::<Offer>(peer, request).await
    }

    /// Hands a task to a donor and waits for what comes of it, up to ten minutes.
    ///
    /// After `connection_lost` or `network_timeout` it is unknown whether the task ran.
    ///
    /// # Errors
    /// As [`offer`](Self::offer).
    pub async fn dispatch(&self, peer: PeerId, request: DispatchRequest) -> Result<DispatchReply> {
        self.call::<Dispatch>(peer, request).await
    }

    /// Keeps a lease alive or ends it.
    ///
    /// # Errors
    /// As [`offer`](Self::offer).
    pub async fn lease(&self, peer: PeerId, message: LeaseMessage) -> Result<LeaseReply> {
        self.call::<Lease>(peer, message).await
    }

    /// Fetches an object of at most `max_bytes` from a peer, in chunks, and checks it against its name.
    ///
    /// # Errors
    /// As [`offer`](Self::offer); `content_too_large`; `content_mismatch` when the peer's bytes are other bytes.
    pub async fn fetch(&self, peer: PeerId, cid: &Cid, max_bytes: u64) -> Result<Vec<u8>> {
        fetch::fetch(self, peer, cid, max_bytes).await
    }

    /// Tells the mesh what this node can take, now and again until it is told otherwise.
    ///
    /// The mesh fills in the addresses.
    pub async fn announce(&self, capacity: Capacity) {
        // A node that has left the mesh has nobody to tell.
        let _ = self
            .commands
            .send(Command::Announce(Box::new(capacity)))
            .await;
    }

    /// Publishes `bytes` on a topic, signed. A message that nobody hears is no error.
    ///
    /// # Errors
    /// `message_too_large` past [`MAX_PUBLISH`]; `reserved_topic` for capacity, see [`announce`](Self::announce), and for
    /// relays, which announce themselves.
    pub async fn publish(&self, topic: Topic, bytes: Vec<u8>) -> Result<()> {
        if matches!(topic, Topic::CapacityUpdates | Topic::RelayAnnouncements) {
            return Err(invalid(
                "reserved_topic",
                "capacity is published by announcing it, and relays announce themselves",
            ));
        }
        if bytes.len() > MAX_PUBLISH {
            return Err(invalid(
                "message_too_large",
                format!("a message has at most {MAX_PUBLISH} bytes"),
            ));
        }
        self.commands
            .send(Command::Publish(topic, bytes))
            .await
            .map_err(|_| stopped())
    }

    /// Shuts a peer out until [`unban`](Self::unban): its connections end, none is made in either direction, directly or
    /// over circuits, and nothing that it says is heard or passed on.
    pub async fn ban(&self, peer: PeerId) {
        // A node that has left the mesh is connected to nobody.
        let _ = self.commands.send(Command::Ban(peer)).await;
    }

    /// Lets a peer in again that was banned.
    pub async fn unban(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Unban(peer)).await;
    }

    /// Remembers where a peer can be dialled.
    pub async fn add_peer(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        // A node that has left the mesh dials nobody.
        let _ = self.commands.send(Command::AddPeer(peer, addresses)).await;
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<MeshEvent> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Waits until a relay passes circuits on to this node.
    ///
    /// # Errors
    /// WC-023 with the cause for every relay, when none does `within` the time.
    pub async fn reserved(&self, within: Duration) -> Result<ReservationInfo> {
        let deadline = Instant::now() + within;
        let mut events = self.subscribe();
        loop {
            let reservations = self.status().await?.reservations;
            if let Some(held) = reservations.iter().find(|held| is_held(held)) {
                return Ok(held.clone());
            }
            match timeout_at(deadline, next_reservation(&mut events)).await {
                Ok(()) => {}
                Err(_) => return Err(unreserved(&reservations, within)),
            }
        }
    }

    /// Leaves the mesh: tells every peer, waits until they know, gives up its ports. Requests under way fail.
    pub async fn shutdown(&self) {
        let (done, gone) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // The sender is dropped when the node is gone, which is all there is to know.
            let _ = gone.await;
        }
    }

    pub(crate) async fn content(
        &self,
        peer: PeerId,
        request: ContentRequest,
    ) -> Result<ContentReply> {
        self.call::<Content>(peer, request).await
    }

    async fn call<E: Exchange>(&self, peer: PeerId, request: E::Request) -> Result<E::Reply> {
        // Connections break at any moment, also while a request waits on one, and all that there are may break at once, as
        // when they go through one relay. The one after them is new.
        let again = match E::IDEMPOTENT {
            true => MAX_CONNECTIONS_PER_PEER,
            false => 0,
        };
        for _ in 0..again {
            match self.call_once::<E>(peer, request.clone()).await {
                Err(fault) if fault.code() == CONNECTION_LOST => {}
                outcome => return outcome,
            }
        }
        self.call_once::<E>(peer, request).await
    }

    async fn call_once<E: Exchange>(
        &self,
        peer: PeerId,
        mut request: E::Request,
    ) -> Result<E::Reply> {
        let line = self.line::<E>(peer).await?;
        if line.inspected {
            E::mark_inspected(&mut request);
        }
        match line.ask::<E>(request).await {
            Ok(answer) => answer.into_result(),
            Err(CallError::Lost(_)) if self.commands.is_closed() => Err(stopped()),
            Err(error) => {
                self.blame(peer, &error).await;
                Err(error.into())
            }
        }
    }

    /// A way to ask a peer, after connecting if need be.
    async fn line<E: Exchange>(&self, peer: PeerId) -> Result<Line> {
        if let Some(line) = self.known_line::<E>(peer)? {
            return Ok(line);
        }
        self.ask(|connected| Command::Connect(peer, connected))
            .await??;
        self.known_line::<E>(peer)?.ok_or_else(|| {
            CallError::Lost("it closed before the request was sent".to_owned()).into()
        })
    }

    fn known_line<E: Exchange>(&self, peer: PeerId) -> Result<Option<Line>> {
        match known(&peer) {
            Some(peer) => Ok(self.lines.line::<E>(&peer)?),
            None => Ok(None),
        }
    }

    /// An answer that is none counts against the peer.
    async fn blame(&self, peer: PeerId, error: &CallError) {
        let offence = error.offence().zip(known(&peer));
        if let Some((offence, peer)) = offence {
            // A node that has left the mesh counts nothing.
            let _ = self
                .commands
                .send(Command::Offence(peer, offence, None))
                .await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

/// The peer as libp2p knows it, who can be connected to.
fn known(peer: &PeerId) -> Option<libp2p::PeerId> {
    libp2p::PeerId::from_bytes(&peer.to_bytes()).ok()
}

fn is_held(reservation: &ReservationInfo) -> bool {
    matches!(
        reservation.state,
        ReservationState::Active | ReservationState::Renewing
    )
}

/// Resolves when a reservation may have changed, or the node is gone.
async fn next_reservation(events: &mut broadcast::Receiver<MeshEvent>) {
    loop {
        match events.recv().await {
            Ok(MeshEvent::Reservation(_)) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn unreserved(reservations: &[ReservationInfo], within: Duration) -> Fault {
    let causes: Vec<String> = reservations
        .iter()
        .map(|held| {
            format!(
                "{}: {}",
                held.address,
                held.last_error.as_deref().unwrap_or("no answer")
            )
        })
        .collect();
    let causes = match causes.as_slice() {
        [] => "no relay is known or can be reached".to_owned(),
        causes => causes.join("; "),
    };
    Fault::wc(
        WcCode::ReservationAcquisitionFailed,
        format!(
            "no reservation on any relay within {} s: {causes}",
            within.as_secs()
        ),
    )
    .hint("name relays with --bootstrap and see the dial failures in the log")
}

fn invalid(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, code, message)
}

pub(crate) fn stopped() -> Fault {
    Fault::new(
        Category::NetworkPermanent,
        "mesh_stopped",
        "this node has left the mesh",
    )
    .hint("start the daemon again")
}
