//! How bytes travel: one place that composes every transport into the one the swarm uses.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, dns, noise, quic, relay, tcp, yamux};
use worldcompute_fault::{Category, Fault};

/// A connection stands within this time, or not at all.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// A process that is killed says nothing over QUIC; its peers notice after this time. (The kernel closes its TCP
/// connections at once.)
const QUIC_IDLE_MS: u32 = 5_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Streams of one connection, all protocols together. Past it yamux closes the connection.
const MAX_STREAMS: usize = 1024;

pub(crate) type Wire = Boxed<(PeerId, StreamMuxerBox)>;

/// TCP and QUIC behind DNS, and circuits over both.
///
/// A further transport joins with one `or_transport`: beside [`named`] if it needs the host's name as it was dialled,
/// within [`direct`] otherwise.
pub(crate) fn compose(keypair: &Keypair) -> Result<(Wire, relay::client::Behaviour), Fault> {
    let (circuits, relay_client) = relay::client::new(keypair.public().to_peer_id());
    let all = secure(circuits, keypair)?
        .or_transport(named(keypair)?)
        .map(|either, _| either.into_inner());
    Ok((
        TransportTimeout::new(all, CONNECTION_TIMEOUT).boxed(),
        relay_client,
    ))
}

/// Resolves names with the system's resolver. Where there is none, addresses without names still work.
fn named(keypair: &Keypair) -> Result<Wire, Fault> {
    match dns::tokio::Transport::system(direct(keypair)?) {
        Ok(resolving) => Ok(resolving.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no system resolver: only numeric addresses can be dialled");
            direct(keypair)
        }
    }
}

fn direct(keypair: &Keypair) -> Result<Wire, Fault> {
    Ok(tcp(keypair)?
        .or_transport(quic(keypair))
        .map(|either, _| either.into_inner())
        .boxed())
}

fn tcp(keypair: &Keypair) -> Result<Wire, Fault> {
    secure(
        tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)),
        keypair,
    )
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
        .boxed())
}
