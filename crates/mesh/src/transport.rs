//! How bytes travel: one place that composes every transport into the one the swarm uses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, quic, relay, yamux};
use worldcompute_fault::{Category, Fault};

use crate::config::MeshConfig;
use crate::given_up::{GivenUp, Watched};
use crate::names::{Names, Resolving};
use crate::parting::Parting;
use crate::socket::Sockets;
use crate::wss::{Sightings, Wss};

/// A connection stands within this time, or not at all.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// A process that is killed says nothing over QUIC; its peers notice after this time. (The kernel closes its TCP
/// connections at once.)
const QUIC_IDLE_MS: u32 = 4_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Streams of one connection, all protocols together. Past it yamux closes the connection.
const MAX_STREAMS: usize = 1024;

pub(crate) type Wire = Boxed<(PeerId, StreamMuxerBox)>;

/// What a node's connections are made of.
pub(crate) struct Composed {
    pub wire: Wire,
    pub relay_client: relay::client::Behaviour,
    pub beside: Beside,
}

/// What its transports find out beside connecting.
pub(crate) struct Beside {
    pub sightings: Sightings,
    pub names: Arc<Names>,
    pub given_up: GivenUp,
}

/// QUIC, TCP and WebSocket over TLS, all behind the names of hosts, and circuits over each of them.
pub(crate) fn compose(config: &MeshConfig, keypair: &Keypair) -> Result<Composed, Fault> {
    let (circuits, relay_client) = relay::client::new(keypair.public().to_peer_id());
    let sightings = Sightings::default();
    let dialled = web(config, keypair, &sightings)?
        .or_transport(direct(keypair)?)
        .map(|either, _| either.into_inner())
        .map_err(|either| either.into_inner());
    let names = Arc::new(Names::new(&config.names, config.inspection)?);
    // Looking for a name has limits of its own.
    let named = Resolving::new(in_time(dialled), names.clone());
    let all = in_time(secure(circuits, keypair)?)
        .or_transport(named)
        .map(|either, _| {
            let (peer, muxer) = either.into_inner();
            (peer, StreamMuxerBox::new(Parting::new(muxer)))
        })
        .map_err(|either| either.into_inner())
        .boxed();
    let given_up = GivenUp::default();
    let wire = Watched::new(all, given_up.clone()).boxed();
    Ok(Composed {
        wire,
        relay_client,
        beside: Beside {
            sightings,
            names,
            given_up,
        },
    })
}

fn in_time<T>(transport: T) -> Wire
where
    T: Transport<Output = (PeerId, StreamMuxerBox)> + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync + 'static,
{
    TransportTimeout::new(transport, CONNECTION_TIMEOUT).boxed()
}

fn web(config: &MeshConfig, keypair: &Keypair, sightings: &Sightings) -> Result<Wire, Fault> {
    let wss = Wss::new(
        Sockets::new(),
        config.certificate.as_deref(),
        config.inspection,
        sightings.clone(),
    )?;
    let sightings = sightings.clone();
    Ok(secure(wss, keypair)?
        .map(move |(peer, muxer), point| {
            if let ConnectedPoint::Dialer { address, .. } = point {
                sightings.met(&address, peer);
            }
            (peer, muxer)
        })
        .boxed())
}

fn direct(keypair: &Keypair) -> Result<Wire, Fault> {
    Ok(tcp(keypair)?
        .or_transport(quic(keypair))
        .map(|either, _| either.into_inner())
        .boxed())
}

fn tcp(keypair: &Keypair) -> Result<Wire, Fault> {
    secure(Sockets::new(), keypair)
}

fn quic(keypair: &Keypair) -> Wire {
    let mut config = quic::Config::new(keypair);
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_idle_timeout = QUIC_IDLE_MS;
    quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// Noise and yamux on top of plain bytes.
fn secure<T>(bytes: T, keypair: &Keypair) -> Result<Wire, Fault>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync + 'static,
{
    let noise = noise::Config::new(keypair).map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "noise_setup",
            "cannot derive the noise key",
        )
        .caused_by(error)
    })?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    Ok(bytes
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        // As a sum of types an error shows its words, and hides what it is.
        .map_err(|error| {
            let below = error.map_right(io::Error::other);
            below
                .map_left(|error| {
                    error
                        .map_either(io::Error::other, io::Error::other)
                        .into_inner()
                })
                .into_inner()
        })
        .boxed())
}
