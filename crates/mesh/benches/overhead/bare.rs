//! Two nodes of libp2p with its own request-response and nothing around it.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::request_response::{self as rr, Message, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, relay, tcp, yamux,
};
use tokio::sync::{mpsc, oneshot};

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

type Question = (usize, oneshot::Sender<usize>);

/// Somebody who asks somebody.
pub struct Pair {
    questions: mpsc::Sender<Question>,
}

impl Asks for Pair {
    fn ask(&self, bytes: usize) -> BoxFuture<'_, Outcome> {
        async move {
            let (done, answer) = oneshot::channel();
            self.questions.send((bytes, done)).await?;
            assert_eq!(answer.await?, bytes);
            Ok(())
        }
        .boxed()
    }
}

pub async fn direct(transport: &str) -> Outcome<Pair> {
    let (mut asked, asking) = (swarm(false)?, swarm(false)?);
    let at = match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        _ => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    let address = listen(&mut asked, at).await?;
    let peer = *asked.local_peer_id();
    tokio::spawn(answer(asked));
    Ok(pair(asking, peer, address))
}

pub async fn relayed() -> Outcome<Pair> {
    let (mut relay, mut asked, asking) = (swarm(true)?, swarm(false)?, swarm(false)?);
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

fn swarm(relays: bool) -> Outcome<Swarm<Bare>> {
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
            let bytes = vec![7; u32::from_be_bytes(size) as usize];
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
                        let _ = done.send(response.len());
                    }
                }
            }
        }
    });
    Pair { questions }
}
