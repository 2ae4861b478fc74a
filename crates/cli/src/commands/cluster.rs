//! `worldcompute cluster`: who is there.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::api::{ClusterStatus, Peer, Tier};

use super::Context;
use crate::args::ClusterCommand;

/// Runs one cluster command.
pub async fn run(context: &Context, command: ClusterCommand) -> Result<ExitCode> {
    let client = context.client()?;
    match command {
        ClusterCommand::Status => context
            .output
            .data(&client.cluster_status().await?, status_in_words)?,
        ClusterCommand::Peers => context
            .output
            .data(&client.cluster_peers().await?, |peers| {
                peers_in_words(peers)
            })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn status_in_words(status: &ClusterStatus) -> String {
    let alone = status
        .alone
        .as_ref()
        .map_or_else(String::new, |advice| format!("\n{advice}"));
    format!(
        "{} nodes, {} of them donors with {} slots; {}{alone}",
        status.nodes, status.donors, status.slots, status.reach
    )
}

fn peers_in_words(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers known".to_owned();
    }
    let header = format!(
        "{:<52}  {:<9}  {:<12}  {:<9}  {:<9}  {:>9}  DONOR",
        "PEER", "CONNECTED", "PATH", "TRANSPORT", "TIER", "RTT"
    );
    std::iter::once(header)
        .chain(peers.iter().map(row))
        .collect::<Vec<_>>()
        .join("\n")
}

fn row(peer: &Peer) -> String {
    let connected = if peer.connected { "yes" } else { "no" };
    let transport = match peer.transport.as_str() {
        "" => "-",
        transport => transport,
    };
    let tier = peer.tier.map_or("-", Tier::as_str);
    let rtt = peer
        .rtt_ms
        .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let donor = peer.capacity.as_ref().map_or_else(
        || "-".to_owned(),
        |capacity| {
            let paused = if capacity.paused { ", paused" } else { "" };
            format!(
                "{} slots, {}{paused}",
                capacity.slots,
                visible(&capacity.classes)
            )
        },
    );
    format!(
        "{:<52}  {connected:<9}  {:<12}  {transport:<9}  {tier:<9}  {rtt:>9}  {donor}",
        peer.peer_id.to_string(),
        peer.path
    )
}

/// A stranger's words: they neither steer the terminal nor pose as another row.
fn visible(classes: &[String]) -> String {
    let escaped = classes.iter().map(|class| class.escape_debug().to_string());
    escaped.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_transport_path_tier_and_latency_of_a_peer() {
        let peer: Peer = serde_json::from_value(serde_json::json!({
            "peer_id": "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
            "connected": true, "path": "direct", "transport": "wss", "inspected": true,
            "tier": "Inspected", "rtt_ms": 12.34, "agent": null, "addresses": [], "capacity": null,
        }))
        .unwrap();
        let words = peers_in_words(&[peer]);
        let columns = |line: &str| -> Vec<String> {
            line.split_whitespace().map(ToOwned::to_owned).collect()
        };
        let rows: Vec<Vec<String>> = words.lines().map(columns).collect();
        assert_eq!(
            rows[0],
            [
                "PEER",
                "CONNECTED",
                "PATH",
                "TRANSPORT",
                "TIER",
                "RTT",
                "DONOR"
            ]
        );
        assert_eq!(
            rows[1][1..],
            ["yes", "direct", "wss", "Inspected", "12.3", "ms", "-"]
        );
    }

    #[test]
    fn what_a_donor_calls_its_classes_cannot_steer_the_terminal() {
        let shown = visible(&["general".to_owned(), "a\n\u{1b}[2J\u{202e}b".to_owned()]);
        assert!(shown.starts_with("general a"), "{shown}");
        assert!(
            !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{shown:?}"
        );
    }
}
