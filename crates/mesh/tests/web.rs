//! Peers on networks that let nothing out but the web, and networks that look into it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use futures_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
};
use futures_rustls::{TlsAcceptor, TlsConnector};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use worldcompute_mesh::wire::DispatchStatus;
use worldcompute_mesh::{
    Certificate, DialCounts, Inbound, Inspection, Mesh, MeshConfig, MeshEvent, Multiaddr, Path,
    Request, ReservationState, Transport,
};

const WEB: &str = "/ip4/127.0.0.1/tcp/0/tls/ws";

/// A relay that listens for the web, and on `others`.
async fn web_relay(seed: u8, others: &[&str]) -> Mesh {
    let config = web_relay_config(seed, others);
    Mesh::start(config).await.unwrap().0
}

fn web_relay_config(seed: u8, others: &[&str]) -> MeshConfig {
    let mut config = MeshConfig::new(key(seed));
    config.listen = addresses(&[&[WEB], others].concat());
    config.certificate = Some(Arc::new(Certificate::self_signed().unwrap().0));
    config.relay_server = true;
    config
}

async fn web_address(relay: &Mesh) -> Multiaddr {
    let all = dialled(relay).await;
    let web = all.into_iter().find(|a| a.to_string().contains("/ws/"));
    web.unwrap()
}

fn port(address: &Multiaddr) -> u16 {
    address
        .to_string()
        .split('/')
        .nth(4)
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_who_see_nothing_but_the_web_run_tasks_for_each_other() {
    let relay = web_relay(1, &[]).await;
    let (submitter, _submitter_in) = hidden(2, &[&relay]).await;
    let (donor, donor_in) = hidden(3, &[&relay]).await;
    let _serving = serve(donor_in, Objects::new());
    let held = &donor.status().await.unwrap().reservations[0];
    let address = held.address.to_string();
    assert!(address.contains("/tls/certhash/"), "{address}");
    assert_eq!(address.matches("/p2p-circuit").count(), 1);

    submitter
        .add_peer(donor.peer_id(), vec![held.address.clone()])
        .await;
    let task = a_task(vec![7; 300_000]);
    let reply = within("a task", submitter.dispatch(donor.peer_id(), task))
        .await
        .unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
    assert_eq!(reply.output.len(), 300_000);

    let seen = peer_info(&donor, relay.peer_id()).await.unwrap();
    assert_eq!(
        (seen.path, seen.transport, seen.inspected),
        (Some(Path::Direct), Some(Transport::Wss), false)
    );
    let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert_eq!(seen.transport, Some(Transport::Circuit));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_on_the_web_that_is_back_is_found_while_another_address_of_it_is_silent() {
    logged();
    let mut config = web_relay_config(1, &[]);
    let mut relay = start_again(&config).await;
    let web = web_address(&relay).await;
    config.listen = addresses(&[&format!("/ip4/127.0.0.1/tcp/{}/tls/ws", port(&web))]);
    let (elsewhere, came) = silent().await;
    let elsewhere = format!("{elsewhere}/p2p/{}", relay.peer_id());
    let mut joining = MeshConfig::new(key(2));
    joining.bootstrap = vec![elsewhere.parse().unwrap(), web];
    let (donor, _inbound) = Mesh::start(joining).await.unwrap();
    let reserved = async || within("a reservation", donor.reserved(DEADLINE)).await;
    reserved().await.unwrap();
    within("a return that is not held up", async {
        // A machine that is busy takes longer over a return than the silent address is waited for.
        loop {
            let before = *came.borrow();
            relay.shutdown().await;
            is_refused(&donor).await;
            relay = start_again(&config).await;
            reserved().await.unwrap();
            // Once when the relay was lost. It was not waited for until it would have been dialled once more.
            if *came.borrow() == before + 1 {
                return;
            }
        }
    })
    .await;
}

/// Waits until a dial of the node is refused.
async fn is_refused(mesh: &Mesh) {
    let refused = async || mesh.status().await.unwrap().dials.transport_errors;
    let before = refused().await;
    within("a refusal", async {
        while refused().await == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Dials a relay that is on the web, and said to be somewhere else too, and returns how the dials went.
async fn dialled_beside(seed: u8, relay: &Mesh, elsewhere: &Multiaddr) -> DialCounts {
    let mut config = MeshConfig::new(key(seed));
    let better = format!("{elsewhere}/p2p/{}", relay.peer_id());
    config.bootstrap = vec![better.parse().unwrap(), web_address(relay).await];
    let (donor, _inbound) = Mesh::start(config).await.unwrap();
    within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    let seen = peer_info(&donor, relay.peer_id()).await.unwrap();
    assert_eq!(seen.transport, Some(Transport::Wss));
    donor.status().await.unwrap().dials
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_the_web_is_dialled_when_nothing_better_answers() {
    let relay = web_relay(1, &[]).await;
    // Somebody takes the connection and says nothing: that is not waited for.
    let (at, _came) = silent().await;
    let unanswered = dialled_beside(2, &relay, &at).await;
    assert_eq!((unanswered.succeeded, unanswered.transport_errors), (1, 0));
    let (_kept, at) = refusing();
    let refused = dialled_beside(3, &relay, &at).await;
    assert_eq!((refused.succeeded, refused.transport_errors), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_the_web_is_not_dialled_where_something_better_answers() {
    let relay = web_relay(1, &LOOPBACK).await;
    within("an answer within the head start", async {
        // On a machine that is busy what is better may take longer than that.
        for seed in 2.. {
            let (donor, _inbound) = hidden(seed, &[&relay]).await;
            let status = donor.status().await.unwrap();
            let seen = peer_info(&donor, relay.peer_id()).await.unwrap();
            if (status.connections, status.dials.succeeded) == (1, 1) {
                assert!(seen.transport < Some(Transport::Wss), "{seen:?}");
                return;
            }
            donor.shutdown().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_upgraded_when_the_network_lets_a_better_one_through() {
    let relay = web_relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let all = dialled(&relay).await;
    let tcp = all
        .iter()
        .find(|a| !a.to_string().contains("/ws/"))
        .unwrap();
    let (closed, gate) = refusing();
    let mut config = MeshConfig::new(key(2));
    config.upgrade_after = Duration::from_millis(200);
    config.bootstrap = vec![
        format!("{gate}/p2p/{}", relay.peer_id()).parse().unwrap(),
        web_address(&relay).await,
    ];
    let (donor, _inbound) = Mesh::start(config).await.unwrap();
    within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    let seen = peer_info(&donor, relay.peer_id()).await.unwrap();
    assert_eq!(seen.transport, Some(Transport::Wss));

    pass_through(closed.listen(64).unwrap(), port(tcp), Duration::ZERO);
    let gate = gate.to_string();
    within("a better connection", async {
        loop {
            let seen = peer_info(&donor, relay.peer_id()).await.unwrap();
            let status = donor.status().await.unwrap();
            let held = status.reservations.iter().any(|held| {
                held.state == ReservationState::Active
                    && held.address.to_string().starts_with(&gate)
            });
            if seen.transport == Some(Transport::Tcp) && held && status.connections == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_that_both_come_late_one_is_kept_and_kept_up() {
    for (tcp_late, web_late) in [(900, 0), (900, 800)] {
        let relay = web_relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
        let all = dialled(&relay).await;
        let tcp = all
            .iter()
            .find(|a| !a.to_string().contains("/ws/"))
            .unwrap();
        let web = web_address(&relay).await;
        let mut config = MeshConfig::new(key(2));
        for (address, late) in [(tcp, tcp_late), (&web, web_late)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap().port();
            pass_through(listener, port(address), Duration::from_millis(late));
            config.bootstrap.push(at_port(address, at));
        }
        let (donor, _inbound) = Mesh::start(config).await.unwrap();
        let mut events = donor.subscribe();
        within("one connection by TCP", async {
            loop {
                let status = donor.status().await.unwrap();
                let seen = peer_info(&donor, relay.peer_id()).await;
                let by_tcp = seen.is_some_and(|seen| seen.transport == Some(Transport::Tcp));
                if by_tcp && status.connections == 1 && status.dials.succeeded == 2 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        within("a reservation", donor.reserved(DEADLINE))
            .await
            .unwrap();
        // A relay that sees two connections of one peer takes it for one that came back, after a second. What was made over
        // the web ends with that connection; what was made by TCP stays.
        let mut by_web = false;
        let lost = tokio::time::timeout(Duration::from_secs(3), async {
            loop {
                let MeshEvent::Reservation(held) = events.recv().await.unwrap() else {
                    continue;
                };
                match held.state {
                    ReservationState::Active => by_web = held.address.to_string().contains("/ws/"),
                    ReservationState::Lost if !by_web => return held,
                    _ => {}
                }
            }
        })
        .await;
        assert!(!by_web, "it came back by TCP");
        assert!(lost.is_err(), "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_by_sees_a_website() {
    let relay = web_relay(1, &[]).await;
    let at = SocketAddr::from(([127, 0, 0, 1], port(&web_address(&relay).await)));
    let mut config = anything_goes();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let socket = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("relay.example").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, socket.compat())
        .await
        .unwrap();
    assert_eq!(
        tls.get_ref().1.alpn_protocol(),
        Some(b"http/1.1".as_slice())
    );
    let mut tls = tls.compat();
    tls.write_all(b"GET / HTTP/1.1\r\nHost: relay.example\r\nUser-Agent: a browser\r\n\r\n")
        .await
        .unwrap();
    let mut page = String::new();
    within("the page", tls.read_to_string(&mut page))
        .await
        .unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("<title>World Compute</title>"), "{page}");
    assert_eq!(relay.status().await.unwrap().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_opens_tls_is_refused_and_told() {
    let relay = web_relay(1, &[]).await;
    let real = web_address(&relay).await;
    let inspector = inspector(port(&real)).await;
    let (donor, _inbound) = Mesh::start(through(2, &real, inspector)).await.unwrap();
    let mut events = donor.subscribe();
    let refused = within("a failed dial", async {
        loop {
            let reservations = donor.status().await.unwrap().reservations;
            if let Some(error) = reservations.iter().find_map(|held| held.last_error.clone()) {
                break error;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), events.recv()).await;
        }
    })
    .await;
    assert!(refused.contains("TLS is inspected on the way"), "{refused}");
    assert!(refused.contains("CN=a corporate authority"), "{refused}");
    assert!(donor.status().await.unwrap().dials.denied >= 1);
    let held = donor.status().await.unwrap().reservations;
    assert!(
        held.iter()
            .all(|held| held.state != ReservationState::Active)
    );
}

const CHILD: &str = "WORLDCOMPUTE_TEST_INSPECTOR";

/// The authorities of a machine are an environment variable's, so this test is a process of its own.
#[test]
fn where_the_operator_allows_it_an_inspected_connection_is_made_and_marked() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let authority = authority();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.0.pem().as_bytes()).unwrap();
    let mut key = tempfile::NamedTempFile::new().unwrap();
    key.write_all(authority.1.serialize_pem().as_bytes())
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inspected_in_a_process_of_its_own",
            "--nocapture",
        ])
        .env("SSL_CERT_FILE", file.path())
        .env(CHILD, key.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success() && said.contains("inspected: true"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inspected_in_a_process_of_its_own() {
    let Some(key) = std::env::var_os(CHILD) else {
        println!("part of where_the_operator_allows_it_an_inspected_connection_is_made_and_marked");
        return;
    };
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
    // The same name and key: what it signs is as good as what the one in the file would.
    let authority = (authority_with(&key), key);
    let relay = web_relay(1, &[]).await;
    let real = web_address(&relay).await;
    let inspector = inspector_by(port(&real), &authority).await;
    let mut config = through(2, &real, inspector);
    config.inspection = Inspection::DangerouslyAllowed;
    let (donor, mut donor_in) = Mesh::start(config).await.unwrap();
    within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    let (other, mut other_in) = hidden(3, &[&relay]).await;
    let reached = format!("{real}/p2p-circuit").parse().unwrap();
    donor.add_peer(other.peer_id(), vec![reached]).await;
    // Each side knows its own way alone, so who hands over a task says what it knows, the first time already.
    assert_eq!(
        handed_over(&donor, &other, &mut other_in).await,
        (true, false)
    );
    assert_eq!(
        handed_over(&other, &donor, &mut donor_in).await,
        (false, true)
    );
    for peer in [relay.peer_id(), other.peer_id()] {
        let seen = peer_info(&donor, peer).await.unwrap();
        assert!(seen.connected && seen.inspected, "{seen:?}");
        assert!(donor.is_inspected(peer).await);
    }
    assert!(!other.is_inspected(donor.peer_id()).await);
    println!("inspected: true");
}

/// Hands over a task; whether the one who asks says that somebody opens its TLS, and whether the one who is asked sees it.
async fn handed_over(
    from: &Mesh,
    to: &Mesh,
    inbound: &mut tokio::sync::mpsc::Receiver<Inbound>,
) -> (bool, bool) {
    let (from, peer) = (from.clone(), to.peer_id());
    let asking = tokio::spawn(async move { from.dispatch(peer, a_task(vec![7])).await });
    let arrived = within("a task", inbound.recv()).await.unwrap();
    let seen = arrived.inspected;
    let Request::Dispatch(request, responder) = arrived.request else {
        panic!("another request");
    };
    responder.send(ran(&request));
    within("its answer", asking).await.unwrap().unwrap();
    (request.inspected, seen)
}

fn at_port(address: &Multiaddr, port: u16) -> Multiaddr {
    let mut parts: Vec<String> = address.to_string().split('/').map(str::to_owned).collect();
    parts[4] = port.to_string();
    parts.join("/").parse().unwrap()
}

/// A donor that gets to the relay, whose address it knows, through the inspector's port only.
fn through(seed: u8, real: &Multiaddr, inspector: u16) -> MeshConfig {
    let mut config = MeshConfig::new(key(seed));
    config.bootstrap = vec![at_port(real, inspector)];
    config
}

type Authority = (rcgen::Certificate, rcgen::KeyPair);

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    (authority_with(&key), key)
}

fn authority_with(key: &rcgen::KeyPair) -> rcgen::Certificate {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "a corporate authority");
    params.self_signed(key).unwrap()
}

async fn inspector(real: u16) -> u16 {
    let authority = authority();
    inspector_by(real, &authority).await
}

/// A box that ends TLS with a certificate of its own making and passes on what is inside; its port.
async fn inspector_by(real: u16, authority: &Authority) -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority.0, &authority.1)
        .unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(pass_on(socket, acceptor.clone(), real));
        }
    });
    port
}

async fn pass_on(socket: TcpStream, acceptor: TlsAcceptor, real: u16) {
    let Ok(inside) = acceptor.accept(socket.compat()).await else {
        return;
    };
    let outside = TcpStream::connect(("127.0.0.1", real)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let outside = TlsConnector::from(Arc::new(anything_goes()))
        .connect(name, outside.compat())
        .await
        .unwrap();
    // Either side may go when it likes.
    let _ = tokio::io::copy_bidirectional(&mut inside.compat(), &mut outside.compat()).await;
}

/// What a box on the way, or a browser whose user clicks on, makes of certificates.
fn anything_goes() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnythingGoes))
        .with_no_client_auth()
}

#[derive(Debug)]
struct AnythingGoes;

impl ServerCertVerifier for AnythingGoes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
