//! Nothing is dialled in silence: one record for each address, counted once, and a line that says why what answered is
//! not the best there is.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::sync::Arc;

use support::*;
use tempfile::NamedTempFile;
use worldcompute_mesh::{DialCounts, Multiaddr, Transport};

struct Lines(NamedTempFile);

impl Lines {
    /// Those that a node of this process wrote, at info and above.
    fn listen() -> Self {
        let lines = NamedTempFile::new().unwrap();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(Arc::new(lines.reopen().unwrap()))
            .init();
        Self(lines)
    }

    fn with(&self, parts: &[&str]) -> Vec<String> {
        let all = std::fs::read_to_string(self.0.path()).unwrap();
        let matching = all
            .lines()
            .filter(|line| parts.iter().all(|part| line.contains(part)));
        matching.map(ToOwned::to_owned).collect()
    }
}

/// Every outcome together.
fn sum(dials: DialCounts) -> u64 {
    let DialCounts {
        succeeded,
        timed_out,
        transport_errors,
        denied,
        abandoned,
    } = dials;
    succeeded + timed_out + transport_errors + denied + abandoned
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_leaves_one_record_and_what_is_fallen_back_from_is_told_with_its_reason() {
    let lines = Lines::listen();
    let (submitter, _submitter_in) = open(2).await;
    let (donor, donor_in) = open(3).await;
    serve(donor_in, Objects::new());
    // What is sent there is lost, as at a firewall that drops it; nobody listens at the other.
    let black_hole = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let lost = black_hole.local_addr().unwrap().port();
    let (_kept, nobody) = refusing();
    let quic: Multiaddr = format!("/ip4/127.0.0.1/udp/{lost}/quic-v1")
        .parse()
        .unwrap();
    let at = vec![nobody.clone(), quic.clone(), tcp_of(&donor).await];
    submitter.add_peer(donor.peer_id(), at).await;
    within("an offer", async {
        // On a machine that is busy a dial may take too long altogether.
        while submitter.offer(donor.peer_id(), an_offer()).await.is_err() {}
    })
    .await;
    let seen = peer_info(&submitter, donor.peer_id()).await.unwrap();
    assert_eq!(seen.transport, Some(Transport::Tcp));

    let dials = submitter.status().await.unwrap().dials;
    assert_eq!((dials.succeeded, dials.abandoned), (1, 1), "{dials:?}");
    let records = lines.with(&["INFO", " dial ", "outcome="]);
    assert_eq!(records.len() as u64, sum(dials), "{records:#?}");
    let given_up = lines.with(&[" dial ", &quic.to_string(), "Abandoned"]);
    assert_eq!(given_up.len(), 1, "{records:#?}");
    let why = given_up.first().unwrap();
    assert!(why.contains("no answer after") && why.contains("tcp was first"));
    let fallen_back = lines.with(&["falling back to tcp", &quic.to_string(), "no answer after"]);
    assert_eq!(fallen_back.len(), 1);
}
