//! Names of relays, found where the network's own resolver is of no use.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::pki_types::PrivateKeyDer;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, TXT};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use support::*;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use worldcompute_mesh::{Inspection, Mesh, MeshConfig, NameConfig, ReservationState};

/// A resolver over HTTPS (RFC 8484) that knows `relay.example`, whose addresses of the mesh are `entries`.
struct Resolver {
    config: NameConfig,
    asked: Arc<AtomicUsize>,
    entries: Entries,
}

type Entries = Arc<Mutex<Vec<String>>>;

impl Resolver {
    async fn start(entries: Vec<String>) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["dns.example".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let entries: Entries = Arc::new(Mutex::new(entries));
        let told = entries.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(talk(
                    socket,
                    acceptor.clone(),
                    told.clone(),
                    counted.clone(),
                ));
            }
        });
        let config = NameConfig {
            doh_only: true,
            doh: vec![format!("dns.example@{at}").parse().unwrap()],
            doh_authorities: certificate.pem().into_bytes(),
            ..NameConfig::default()
        };
        Self {
            config,
            asked,
            entries,
        }
    }
}

async fn talk(socket: TcpStream, acceptor: TlsAcceptor, entries: Entries, asked: Arc<AtomicUsize>) {
    // Who does not believe the certificate goes away.
    let Ok(tls) = acceptor.accept(socket.compat()).await else {
        return;
    };
    let mut connection = h2::server::handshake(tls.compat()).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/dns-query");
        let mut body = request.into_body();
        let mut question = Vec::new();
        let entries = entries.clone();
        let asked = asked.clone();
        tokio::spawn(async move {
            while let Some(Ok(part)) = body.data().await {
                question.extend_from_slice(&part);
            }
            asked.fetch_add(1, Ordering::SeqCst);
            let entries = entries.lock().unwrap().clone();
            let answer = answer(&question, &entries);
            let response = http::Response::builder()
                .header("content-type", "application/dns-message")
                .body(())
                .unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(Bytes::from(answer), true).unwrap();
        });
    }
}

fn answer(question: &[u8], entries: &[String]) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries.first().unwrap().clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.add_query(query.clone());
    let record = |data| Record::from_rdata(query.name().clone(), 0, data);
    match (query.name().to_ascii().as_str(), query.query_type()) {
        ("relay.example.", RecordType::A) => {
            answer.add_answer(record(RData::A(A(Ipv4Addr::LOCALHOST))));
        }
        ("_dnsaddr.relay.example.", RecordType::TXT) => {
            for entry in entries {
                answer.add_answer(record(RData::TXT(TXT::new(vec![entry.clone()]))));
            }
        }
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    answer.to_vec().unwrap()
}

async fn joined(seed: u8, bootstrap: &str, names: NameConfig) -> Mesh {
    let mut config = MeshConfig::new(key(seed));
    config.bootstrap = vec![bootstrap.parse().unwrap()];
    config.names = names;
    Mesh::start(config).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_found_by_its_name_over_https_alone() {
    let relay = relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let at = dialled(&relay).await.remove(0).to_string();
    let named = at.replace("/ip4/127.0.0.1", "/dns4/relay.example");
    let resolver = Resolver::start(Vec::new()).await;
    let donor = joined(2, &named, resolver.config.clone()).await;
    let held = within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    assert!(held.address.to_string().starts_with("/dns4/relay.example/"));
    assert!(resolver.asked.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_stands_for_the_relays_that_its_entries_say() {
    let relay = relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let at = dialled(&relay).await.remove(0).to_string();
    let resolver = Resolver::start(vec![
        "dnsaddr=nonsense".to_owned(),
        "some other text".to_owned(),
        // Whoever answers there would be believed whoever it is.
        "dnsaddr=/ip4/127.0.0.1/tcp/1".to_owned(),
        format!("dnsaddr={at}"),
    ])
    .await;
    let donor = joined(2, "/dnsaddr/relay.example", resolver.config.clone()).await;
    let held = within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    assert_eq!(held.relay, relay.peer_id());
    assert!(held.address.to_string().starts_with(&at));
    assert_eq!(donor.status().await.unwrap().reservations.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_left_its_name_is_given_up_for_the_one_that_came() {
    logged();
    let (first, second) = (relay(1, &LOOPBACK).await, relay(5, &LOOPBACK).await);
    let entry = async |relay: &Mesh| format!("dnsaddr={}", dialled(relay).await[0]);
    let resolver = Resolver::start(vec![entry(&first).await]).await;
    let mut config = MeshConfig::new(key(2));
    config.bootstrap = vec!["/dnsaddr/relay.example".parse().unwrap()];
    config.names = resolver.config.clone();
    config.names.again_after = Duration::from_millis(200);
    config.reservations = 1;
    let (donor, _donor_in) = Mesh::start(config).await.unwrap();
    let mut events = donor.subscribe();
    let held = within("a reservation", donor.reserved(DEADLINE))
        .await
        .unwrap();
    assert_eq!(held.relay, first.peer_id());
    let new = entry(&second).await;
    *resolver.entries.lock().unwrap() = vec![new];
    while reservation(ReservationState::Active, &mut events).await != second.peer_id() {}
    within("the end of the first", async {
        while donor.status().await.unwrap().reservations.len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let left = &donor.status().await.unwrap().reservations[0];
    assert_eq!(
        (left.relay, left.state),
        (second.peer_id(), ReservationState::Active)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_told_with_what_everybody_said() {
    let resolver = Resolver::start(Vec::new()).await;
    let peer = key(9).peer_id();
    let unknown = format!("/dns4/nobody.example/tcp/1/p2p/{peer}");
    let donor = joined(2, &unknown, resolver.config.clone()).await;
    let told = within("a failed dial", async {
        loop {
            let refused = donor.offer(peer, an_offer()).await.unwrap_err();
            let held = donor.status().await.unwrap().reservations;
            match held.into_iter().find_map(|held| held.last_error) {
                Some(error) => break error,
                None => drop(refused),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(told.contains("nobody.example is unknown"), "{told}");
    assert!(!told.contains("the system"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_whose_certificate_is_another_s_is_not_believed() {
    let relay = relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let at = dialled(&relay).await.remove(0).to_string();
    let named = at.replace("/ip4/127.0.0.1", "/dns4/relay.example");
    let resolver = Resolver::start(Vec::new()).await;
    let other = Resolver::start(Vec::new()).await;
    let mut names = resolver.config.clone();
    names.doh_authorities = other.config.doh_authorities;
    let donor = joined(2, &named, names).await;
    let held = donor.reserved(std::time::Duration::from_secs(3)).await;
    assert!(held.is_err());
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}

const CHILD: &str = "WORLDCOMPUTE_TEST_INSPECTED_NAMES";

/// The authorities of a machine are an environment variable's, so this test is a process of its own.
#[test]
fn where_the_operator_allows_it_names_are_found_through_a_box_that_opens_tls() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inspected_names_in_a_process_of_its_own",
            "--nocapture",
        ])
        .env("SSL_CERT_FILE", file.path())
        .env(CHILD, file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success() && said.contains("found: true"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inspected_names_in_a_process_of_its_own() {
    let Some(authorities) = std::env::var_os(CHILD) else {
        println!(
            "part of where_the_operator_allows_it_names_are_found_through_a_box_that_opens_tls"
        );
        return;
    };
    let relay = relay(1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let at = dialled(&relay).await.remove(0).to_string();
    let mut resolver = Resolver::start(vec![format!("dnsaddr={at}")]).await;
    // Nobody but this machine vouches for whoever answers.
    let vouched = std::mem::take(&mut resolver.config.doh_authorities);
    let mut file = OpenOptions::new().write(true).open(authorities).unwrap();
    file.write_all(&vouched).unwrap();
    let mut config = MeshConfig::new(key(2));
    config.bootstrap = addresses(&["/dnsaddr/relay.example"]);
    config.names = resolver.config.clone();
    config.inspection = Inspection::DangerouslyAllowed;
    let (donor, _inbound) = Mesh::start(config).await.unwrap();
    let held = within("a reservation", donor.reserved(DEADLINE)).await;
    println!("found: {}", held.unwrap().relay == relay.peer_id());
}
