//! Nodes for tests: on loopback, on ports of the system's choice, with waits that end by an event or a deadline.

#![expect(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, SwarmBuilder, noise, relay, tcp, yamux};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use worldcompute_fault::{Fault, WcCode};
use worldcompute_mesh::wire::{
    Capacity, ContentReply, ContentRequest, DispatchReply, DispatchRequest, DispatchStatus,
    LeaseReply, OfferReply, OfferRequest,
};
use worldcompute_mesh::{
    Inbound, Mesh, MeshConfig, MeshEvent, Multiaddr, PeerInfo, Request, ReservationInfo,
    ReservationState,
};
use worldcompute_proof::{Cid, PeerId, SigningKey};

/// No single wait of a test takes longer on any machine that still makes progress.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A key that no other test has, here or in another process: the system may give a port that one of them let go to this one,
/// and whoever still dials it there must not find the peer that it looks for.
pub fn key(seed: u8) -> SigningKey {
    let (thread, process) = (std::thread::current(), std::process::id());
    let test = thread.name().unwrap();
    assert!(
        !test.starts_with("tokio"),
        "ask for keys in the test itself"
    );
    SigningKey::from_seed(Sha256::digest(format!("{process} {test} {seed}")).into())
}

/// What comes of `wait`, or a failed test that says what it waited for.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", DEADLINE.as_secs()),
    }
}

pub const LOOPBACK: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];

pub fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A relay that listens on `listen`.
pub async fn relay(seed: u8, listen: &[&str]) -> Mesh {
    let mut config = MeshConfig::new(key(seed));
    config.listen = addresses(listen);
    config.relay_server = true;
    Mesh::start(config).await.unwrap().0
}

/// A libp2p node that is none of ours, on TCP, QUIC and circuits. Its connections stand as long as a test waits for anything.
pub fn foreign<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair, relay::client::Behaviour) -> B,
) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(2 * DEADLINE))
        .build()
}

/// The addresses of a node with its peer id.
pub async fn dialled(mesh: &Mesh) -> Vec<Multiaddr> {
    let status = mesh.status().await.unwrap();
    let suffix = format!("/p2p/{}", status.peer);
    status
        .listen
        .iter()
        .map(|address| format!("{address}{suffix}").parse().unwrap())
        .collect()
}

/// The first address of a node by `transport`, without its peer id.
pub async fn listens_by(mesh: &Mesh, transport: &str) -> Multiaddr {
    let listen = mesh.status().await.unwrap().listen;
    let mut by = listen
        .into_iter()
        .filter(|address| address.to_string().contains(transport));
    by.next().unwrap()
}

pub async fn tcp_of(mesh: &Mesh) -> Multiaddr {
    listens_by(mesh, "/tcp/").await
}

/// A node on ports that another had before it. Whoever dials that one meanwhile may have them for a moment.
pub async fn start_again(config: &MeshConfig) -> Mesh {
    within("the ports", async {
        loop {
            match Mesh::start(config.clone()).await {
                Ok((mesh, _inbound)) => return mesh,
                Err(fault) => assert_eq!(fault.code(), "cannot_listen", "{fault}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Takes connections and says nothing, as an address of another network would that leads to somebody else here. Returns
/// where, and how many came so far.
pub async fn silent() -> (Multiaddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = at_port_of(listener.local_addr().unwrap());
    let (came, coming) = watch::channel(0);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            held.push(connection);
            came.send_modify(|came| *came += 1);
        }
    });
    (at, coming)
}

/// A port that refuses connections, and that nobody else gets for as long as the socket is kept.
pub fn refusing() -> (TcpSocket, Multiaddr) {
    refusing_at(Ipv4Addr::LOCALHOST)
}

/// The same at an address of this machine.
pub fn refusing_at(ip: Ipv4Addr) -> (TcpSocket, Multiaddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    let at = at_port_of(socket.local_addr().unwrap());
    (socket, at)
}

/// Passes connections on to a port of this machine, each after a while.
pub fn pass_through(listener: TcpListener, port: u16, late: Duration) {
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let mut outside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // Either side may go when it likes.
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
}

/// A relay on an address of this machine that is not of this machine alone, if there is one.
pub async fn relay_on_a_network() -> Option<(Mesh, Vec<Multiaddr>)> {
    let relay = relay(1, &["/ip4/0.0.0.0/tcp/0"]).await;
    let own = dialled(&relay).await.into_iter();
    let on_a_network = |address: &Multiaddr| !address.to_string().starts_with("/ip4/127.");
    let found: Vec<Multiaddr> = own.filter(on_a_network).collect();
    (!found.is_empty()).then_some((relay, found))
}

pub fn at_port_of(socket: SocketAddr) -> Multiaddr {
    format!("/ip4/{}/tcp/{}", socket.ip(), socket.port())
        .parse()
        .unwrap()
}

/// A node that listens on nothing and is reached through `relays` only.
pub async fn hidden(seed: u8, relays: &[&Mesh]) -> (Mesh, mpsc::Receiver<Inbound>) {
    let mut config = MeshConfig::new(key(seed));
    for relay in relays {
        config.bootstrap.extend(dialled(relay).await);
    }
    let (mesh, inbound) = Mesh::start(config).await.unwrap();
    within("a reservation", mesh.reserved(DEADLINE))
        .await
        .unwrap();
    (mesh, inbound)
}

/// A node on loopback that knows nobody.
pub async fn open(seed: u8) -> (Mesh, mpsc::Receiver<Inbound>) {
    let mut config = MeshConfig::new(key(seed));
    config.listen = addresses(&LOOPBACK);
    Mesh::start(config).await.unwrap()
}

/// Objects that a node serves.
pub type Objects = HashMap<String, Vec<u8>>;

/// Answers whatever is asked: takes offers, runs tasks by echoing their manifest, knows every lease, serves objects.
pub fn serve(mut inbound: mpsc::Receiver<Inbound>, objects: Objects) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(Inbound { request, .. }) = inbound.recv().await {
            match request {
                Request::Offer(_, responder) => {
                    responder.send(OfferReply {
                        accepted: true,
                        load: 0.5,
                        reason: None,
                    });
                }
                Request::Dispatch(request, responder) => {
                    responder.send(ran(&request));
                }
                Request::Lease(_, responder) => {
                    responder.send(LeaseReply { known: true });
                }
                Request::Content(request, responder) => match part(&objects, &request) {
                    Some(reply) => drop(responder.send(reply)),
                    None => drop(responder.refuse(&Fault::wc(WcCode::NotFound, "no such object"))),
                },
            }
        }
    })
}

pub fn part(objects: &Objects, request: &ContentRequest) -> Option<ContentReply> {
    let object = objects.get(&request.cid.to_string())?;
    let rest = object.get(usize::try_from(request.offset).unwrap()..)?;
    let len = rest.len().min(request.len as usize);
    Some(ContentReply {
        total: object.len() as u64,
        bytes: rest[..len].to_vec(),
    })
}

pub fn ran(request: &DispatchRequest) -> DispatchReply {
    DispatchReply {
        task_id: request.task_id.clone(),
        status: DispatchStatus::Succeeded,
        output: request.manifest.clone(),
        output_cid: Some(Cid::raw(&request.manifest)),
        duration_ms: 1,
        error: None,
        receipt: b"receipt".to_vec(),
        trace: b"trace".to_vec(),
        outputs: Vec::new(),
    }
}

pub fn an_offer() -> OfferRequest {
    OfferRequest {
        task_id: "task-1".to_owned(),
        manifest_cid: Cid::raw(b"manifest"),
        min_cpu_cores: 1,
        min_memory_mb: 64,
        needs_gpu: false,
        max_wallclock_ms: 1000,
        classes: vec!["scientific".to_owned()],
    }
}

pub fn a_task(manifest: Vec<u8>) -> DispatchRequest {
    DispatchRequest {
        lease_id: "lease-1".to_owned(),
        job_id: "job-1".to_owned(),
        task_id: "task-1".to_owned(),
        task_index: 0,
        attempt: 1,
        manifest,
        inline_inputs: Vec::new(),
        trace: Vec::new(),
        correlation_id: "0123456789abcdef01234567".to_owned(),
        inspected: false,
    }
}

pub fn a_capacity() -> Capacity {
    Capacity {
        cores: 4,
        memory_mb: 1024,
        load: 0.25,
        classes: vec!["scientific".to_owned()],
        paused: false,
        addresses: Vec::new(),
        slots: 2,
        images: false,
    }
}

/// The next event that `wanted` makes something of.
pub async fn event<T>(
    what: &str,
    events: &mut broadcast::Receiver<MeshEvent>,
    mut wanted: impl FnMut(MeshEvent) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(value) = wanted(event) {
                        return value;
                    }
                }
                Err(error) => panic!("waiting for {what}: {error}"),
            }
        }
    })
    .await
}

/// Waits until `peer` announces its capacity.
pub async fn capacity_of(peer: PeerId, events: &mut broadcast::Receiver<MeshEvent>) -> Capacity {
    event("a capacity", events, |event| match event {
        MeshEvent::Capacity(from, capacity) if from == peer => Some(capacity),
        _ => None,
    })
    .await
}

/// Waits until a reservation of this node is in `state`, and returns its relay.
pub async fn reservation(
    state: ReservationState,
    events: &mut broadcast::Receiver<MeshEvent>,
) -> PeerId {
    event(
        &format!("a reservation in {state:?}"),
        events,
        |event| match event {
            MeshEvent::Reservation(info) if info.state == state => Some(info.relay),
            _ => None,
        },
    )
    .await
}

/// Waits until a node holds a reservation on a relay.
pub async fn has_reserved(mesh: &Mesh, relay: &Mesh) -> ReservationInfo {
    let relay = relay.peer_id();
    has_reserved_at(mesh, |at| at == relay).await
}

/// The same on such a relay.
pub async fn has_reserved_at(mesh: &Mesh, is: impl Fn(PeerId) -> bool) -> ReservationInfo {
    let mut events = mesh.subscribe();
    loop {
        let held = mesh.status().await.unwrap().reservations;
        let there =
            |info: &ReservationInfo| info.state == ReservationState::Active && is(info.relay);
        if let Some(info) = held.into_iter().find(there) {
            return info;
        }
        reservation(ReservationState::Active, &mut events).await;
    }
}

pub async fn peer_info(mesh: &Mesh, peer: PeerId) -> Option<PeerInfo> {
    mesh.peers()
        .await
        .into_iter()
        .find(|info| info.peer == peer)
}

/// Pseudo-random bytes of `seed`, so that chunks differ from each other.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

/// Prints the log of the nodes when `RUST_LOG` asks for it.
pub fn logged() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

/// Whether multicast works between two sockets on this machine's network. mDNS cannot work where it does not.
pub fn multicast() -> Result<(), String> {
    let group = Ipv4Addr::new(239, 255, 77, 77);
    let reason = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(reason("bind"))?;
    receiver
        .join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)
        .map_err(reason("join a group"))?;
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .map_err(reason("set a timeout"))?;
    let to = SocketAddr::from((
        group,
        receiver.local_addr().map_err(reason("address"))?.port(),
    ));
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(reason("bind"))?;
    sender
        .send_to(b"anybody?", to)
        .map_err(reason("send to a group"))?;
    receiver
        .recv_from(&mut [0; 16])
        .map_err(reason("hear the group"))?;
    Ok(())
}
