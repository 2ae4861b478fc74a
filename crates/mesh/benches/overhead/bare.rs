//! Two nodes of libp2p with its own request-response and nothing around it; for the web, its own WebSocket over TLS.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self as rr, Message, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, relay, tcp, yamux,
};
use libp2p_websocket as websocket;
use tokio::sync::{mpsc, oneshot};
use worldcompute_proof::Cid;

use super::{Asks, Outcome};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/1.0.0");

#[derive(Clone, Default)]
struct Codec;

impl rr::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[derive(NetworkBehaviour)]
struct Bare {
    answers: rr::Behaviour<Codec>,
    identify: identify::Behaviour,
    client: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
}

/// What every byte of an answer is.
pub const FILLING: u8 = 7;

type Question = (usize, oneshot::Sender<Vec<u8>>);

/// Somebody who asks somebody.
pub struct Pair {
    questions: mpsc::Sender<Question>,
}

/// The same, who compares what comes with its name.
pub struct Checked<'a> {
    pub pair: &'a Pair,
    pub name: Cid,
}

impl Pair {
    async fn answer(&self, bytes: usize) -> Outcome<Vec<u8>> {
        let (done, answer) = oneshot::channel();
        self.questions.send((bytes, done)).await?;
        let answer = answer.await?;
        assert_eq!(answer.len(), bytes);
        Ok(answer)
    }
}

impl Asks for Pair {
    fn ask(&self, bytes: usize) -> BoxFuture<'_, Outcome> {
        async move { self.answer(bytes).await.map(drop) }.boxed()
    }
}

impl Asks for Checked<'_> {
    fn ask(&self, bytes: usize) -> BoxFuture<'_, Outcome> {
        async move {
            let answer = self.pair.answer(bytes).await?;
            assert!(self.name.matches(&answer));
            Ok(())
        }
        .boxed()
    }
}

pub async fn direct(transport: &str) -> Outcome<Pair> {
    let tls = tls()?;
    let (mut asked, asking) = (swarm(false, &tls)?, swarm(false, &tls)?);
    let at = match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0/tls/ws",
    };
    let address = listen(&mut asked, at).await?;
    let peer = *asked.local_peer_id();
    tokio::spawn(answer(asked));
    Ok(pair(asking, peer, address))
}

pub async fn relayed() -> Outcome<Pair> {
    let tls = tls()?;
    let (mut relay, mut asked) = (swarm(true, &tls)?, swarm(false, &tls)?);
    let asking = swarm(false, &tls)?;
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await?;
    relay.add_external_address(address.clone());
    let through: Multiaddr =
        format!("{address}/p2p/{}/p2p-circuit", relay.local_peer_id()).parse()?;
    tokio::spawn(answer(relay));
    let circuit = listen(&mut asked, &through.to_string()).await?;
    let peer = *asked.local_peer_id();
    tokio::spawn(answer(asked));
    Ok(pair(asking, peer, circuit))
}

/// A certificate that all of them trust.
fn tls() -> Outcome<websocket::tls::Config> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = params.self_signed(&key)?.der().to_vec();
    let certificate = websocket::tls::Certificate::new(certificate);
    let mut config = websocket::tls::Config::builder();
    config.add_trust(&certificate)?;
    let key = websocket::tls::PrivateKey::new(key.serialize_der());
    config.server(key, [certificate])?;
    Ok(config.finish())
}

fn web(key: &Keypair, tls: websocket::tls::Config) -> Outcome<Boxed<(PeerId, StreamMuxerBox)>> {
    let mut web = websocket::Config::new(tcp::tokio::Transport::default());
    web.set_tls_config(tls);
    Ok(web
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}

fn swarm(relays: bool, tls: &websocket::tls::Config) -> Outcome<Swarm<Bare>> {
    let limits = relay::Config {
        max_circuit_bytes: 0,
        max_circuit_duration: Duration::from_secs(3600),
        ..relay::Config::default()
    };
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_other_transport(|key| web(key, tls.clone()))?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, client| Bare {
            answers: rr::Behaviour::with_codec(
                Codec,
                [(PROTOCOL, ProtocolSupport::Full)],
                rr::Config::default().with_max_concurrent_streams(256),
            ),
            identify: identify::Behaviour::new(identify::Config::new(
                "/bench".to_owned(),
                key.public(),
            )),
            client,
            relay: relays
                .then(|| relay::Behaviour::new(key.public().to_peer_id(), limits))
                .into(),
        })?
        .with_swarm_config(|config| {
            config
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
                .with_notify_handler_buffer_size(NonZeroUsize::MIN.saturating_add(31))
                .with_idle_connection_timeout(Duration::from_secs(3600))
        })
        .build())
}

async fn listen(swarm: &mut Swarm<Bare>, at: &str) -> Outcome<Multiaddr> {
    swarm.listen_on(at.parse()?)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
            SwarmEvent::ListenerClosed { reason, .. } => reason?,
            _ => {}
        }
    }
}

/// Answers every question with as many bytes as it asks for.
async fn answer(mut swarm: Swarm<Bare>) {
    loop {
        let SwarmEvent::Behaviour(BareEvent::Answers(rr::Event::Message { message, .. })) =
            swarm.select_next_some().await
        else {
            continue;
        };
        if let Message::Request {
            request, channel, ..
        } = message
        {
            let size = request.first_chunk().copied().unwrap_or_default();
            let bytes = vec![FILLING; u32::from_be_bytes(size) as usize];
            // Whoever asked is gone when this fails.
            let _ = swarm.behaviour_mut().answers.send_response(channel, bytes);
        }
    }
}

fn pair(mut asking: Swarm<Bare>, peer: PeerId, address: Multiaddr) -> Pair {
    let (questions, mut asked) = mpsc::channel::<Question>(1024);
    asking.add_peer_address(peer, address);
    tokio::spawn(async move {
        let mut waiting = std::collections::HashMap::new();
        loop {
            tokio::select! {
                question = asked.recv() => {
                    let Some((bytes, done)) = question else { return };
                    let size = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
                    let id = asking.behaviour_mut().answers.send_request(&peer, size.to_vec());
                    waiting.insert(id, done);
                }
                event = asking.select_next_some() => {
                    if let SwarmEvent::Behaviour(BareEvent::Answers(rr::Event::Message {
                        message: Message::Response { request_id, response }, ..
                    })) = event
                        && let Some(done) = waiting.remove(&request_id)
                    {
                        // Whoever asked is gone when this fails.
                        let _ = done.send(response);
                    }
                }
            }
        }
    });
    Pair { questions }
}
