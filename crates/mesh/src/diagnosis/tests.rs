//! Whole diagnoses, on this machine alone.

use std::net::{TcpListener, UdpSocket};

use worldcompute_proof::SigningKey;

use super::*;
use crate::mesh::Mesh;
use crate::wss::Certificate;

const PATIENCE: Duration = Duration::from_secs(60);

/// A relay that is reached in three ways.
async fn relay() -> (Mesh, Vec<Multiaddr>) {
    let mut config = MeshConfig::new(SigningKey::generate().unwrap());
    config.relay_server = true;
    config.certificate = Some(Arc::new(Certificate::self_signed().unwrap().0));
    config.listen = [
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "/ip4/127.0.0.1/tcp/0/tls/ws",
    ]
    .map(|text| text.parse().unwrap())
    .into();
    let (relay, _requests) = Mesh::start(config).await.unwrap();
    let peer = relay.peer_id();
    let listens = relay.status().await.unwrap().listen;
    let named = listens
        .iter()
        .map(|address| format!("{address}/p2p/{peer}").parse().unwrap());
    (relay, named.collect())
}

fn through(bootstrap: Vec<Multiaddr>) -> MeshConfig {
    let mut config = MeshConfig::new(SigningKey::generate().unwrap());
    config.names.doh.clear();
    config.bootstrap = bootstrap;
    config
}

async fn found(bootstrap: Vec<Multiaddr>, within: Duration) -> Diagnosis {
    let (told, mut heard) = mpsc::unbounded_channel();
    let found = diagnose(&through(bootstrap), within, told).await.unwrap();
    let mut last = Vec::new();
    while let Ok(probe) = heard.try_recv() {
        last.push(probe);
    }
    // Everything that came to an end was told when it did.
    let known = |probe: &&Probe| probe.cause.as_deref() != Some("the time was up");
    assert!(found.probes.iter().filter(known).eq(last.iter()));
    found
}

fn state(found: &Diagnosis, kind: ProbeKind) -> ProbeState {
    let mut probes = found.probes.iter().filter(|probe| probe.kind == kind);
    probes
        .next()
        .unwrap_or_else(|| panic!("{kind:?}: {found:?}"))
        .state
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_blocked_every_way_works_and_a_reservation_is_had() {
    let (relay, addresses) = relay().await;
    let found = found(addresses, PATIENCE).await;
    for kind in [
        ProbeKind::Quic,
        ProbeKind::Udp,
        ProbeKind::Tcp,
        ProbeKind::WebTcp,
        ProbeKind::WebTls,
        ProbeKind::Wss,
    ] {
        assert_eq!(state(&found, kind), ProbeState::Works, "{found:#?}");
    }
    assert_eq!(
        (found.verdict.blocker.as_str(), found.nat.kind),
        ("nothing_blocked", NatKind::None)
    );
    let path = found.path.unwrap();
    assert_eq!(path.relay, relay.peer_id().to_string());
    assert!(!path.inspected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_closed_is_told_from_one_that_says_nothing_and_the_rest_works() {
    let (relay, addresses) = relay().await;
    let peer = relay.peer_id();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = |port: u16| {
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}")
            .parse()
            .unwrap()
    };
    let tcp: Multiaddr = addresses
        .iter()
        .find(|address| Transport::of(address) == Transport::Tcp)
        .cloned()
        .unwrap();

    let bound = silent.local_addr().unwrap().port();
    let nothing = found(vec![at(bound), tcp.clone()], PATIENCE).await;
    assert_eq!(
        (
            state(&nothing, ProbeKind::Udp),
            state(&nothing, ProbeKind::Tcp)
        ),
        (ProbeState::Silent, ProbeState::Works)
    );
    let first = &nothing.verdict.blockers[0];
    assert_eq!(
        (first.name.as_str(), first.how),
        ("udp_blocked", ProbeState::Silent)
    );
    assert_eq!(nothing.path.unwrap().transport, "tcp");

    drop(silent);
    let closed = found(vec![at(bound), tcp], PATIENCE).await;
    let first = &closed.verdict.blockers[0];
    assert_eq!(
        (first.name.as_str(), first.how),
        ("udp_blocked", ProbeState::Refused)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_peer_at_the_address_is_no_way_to_the_relay() {
    let (_relay, addresses) = relay().await;
    let other = SigningKey::generate().unwrap().peer_id();
    let mut address = addresses
        .into_iter()
        .find(|address| Transport::of(address) == Transport::Tcp)
        .unwrap();
    address.pop();
    let address = format!("{address}/p2p/{other}").parse().unwrap();
    let found = found(vec![address], PATIENCE).await;
    assert_eq!(state(&found, ProbeKind::Tcp), ProbeState::Failed);
    assert!(found.path.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_another_is_shown() {
    let (_relay, addresses) = relay().await;
    let web = |address: &&Multiaddr| Transport::of(address) == Transport::Wss;
    let address = addresses.iter().find(web).unwrap().to_string();
    let (_other, others) = self::relay().await;
    let other = others.iter().find(web).unwrap().to_string();
    // The pin of one, at the port of the other.
    let pin = |text: &str| {
        text.split("/certhash/")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let wrong = address
        .replace(&pin(&address), &pin(&other))
        .parse()
        .unwrap();
    let found = found(vec![wrong], PATIENCE).await;
    assert_eq!(state(&found, ProbeKind::WebTls), ProbeState::Inspected);
    assert_eq!(found.verdict.blocker, "tls_inspection");
    let shown = found
        .probes
        .iter()
        .find_map(|probe| probe.certificate.as_ref())
        .unwrap();
    assert!(
        shown.expected.contains("the one that the address names"),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_there_is_no_way_out_and_no_waiting_for_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let peer = SigningKey::generate().unwrap().peer_id();
    let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}")
        .parse()
        .unwrap();
    let found = found(vec![address], Duration::from_secs(3600)).await;
    assert_eq!(
        (found.verdict.blocker.as_str(), found.path),
        ("no_way_out", None)
    );
    assert!(found.no_path.unwrap().contains("no reservation"));
    assert_eq!(found.nat.kind, NatKind::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_when_the_time_is_up_is_told_to_be_unknown() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let peer = SigningKey::generate().unwrap().peer_id();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}")
        .parse()
        .unwrap();
    let found = found(vec![address], Duration::ZERO).await;
    for kind in [ProbeKind::Quic, ProbeKind::Udp] {
        assert_eq!(state(&found, kind), ProbeState::Unknown);
    }
}

#[tokio::test]
async fn nobody_to_try_is_a_fault() {
    let (told, _heard) = mpsc::unbounded_channel();
    let fault = diagnose(&through(Vec::new()), PATIENCE, told)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "no_relays");
}

#[test]
fn every_address_is_tried_over_its_transport_and_the_port_of_the_web_where_nobody_named_one() {
    let address = |text: &str| -> Multiaddr { text.parse().unwrap() };
    let (quic, tcp) = (
        address("/ip4/192.0.2.1/udp/1/quic-v1"),
        address("/ip4/192.0.2.1/tcp/1"),
    );
    let web = address("/ip4/192.0.2.2/tcp/443/tls/ws");
    let mut config = through(vec![
        quic.clone(),
        tcp.clone(),
        web.clone(),
        address("/dns4/relay.example/tcp/1"),
    ]);
    let host = Step::Name(Question::of(&address("/dns4/relay.example/tcp/1")).unwrap());
    let expected = [
        host,
        Step::Web("192.0.2.1".parse().unwrap()),
        Step::Udp(quic.clone()),
        Step::Dial(quic),
        Step::Dial(tcp),
        Step::Tls(web.clone()),
        Step::Dial(web),
        Step::Host(address("/dns4/relay.example/tcp/1")),
    ];
    assert_eq!(first_steps(&config), expected);
    let many = (1..=MAX_TARGETS + 1).map(|port| address(&format!("/ip4/192.0.2.1/tcp/{port}")));
    config.bootstrap = many.collect();
    let dials = first_steps(&config)
        .into_iter()
        .filter(|step| matches!(step, Step::Dial(_)));
    assert_eq!(dials.count(), MAX_TARGETS);
}

/// Passes connections on to a port of this machine, each later than what looks like the web is dialled.
async fn slow(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                let there = tokio::net::TcpStream::connect(("127.0.0.1", port));
                let mut far = there.await.unwrap();
                // Ends with either side.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_is_the_best_that_works_though_another_was_first() {
    let (relay, addresses) = relay().await;
    let by = |transport| {
        let mut by = addresses.iter();
        by.find(|address| Transport::of(address) == transport)
            .unwrap()
    };
    let port = |address: &Multiaddr| crate::network::socket(address).unwrap().port();
    let late = slow(port(by(Transport::Tcp))).await;
    let late = format!("/ip4/127.0.0.1/tcp/{late}/p2p/{}", relay.peer_id());
    let bootstrap = vec![late.parse().unwrap(), by(Transport::Wss).clone()];
    let found = found(bootstrap, PATIENCE).await;
    assert_eq!(found.path.unwrap().transport, "tcp");
}
