//! `worldcompute cluster`: who is there.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::api::{ClusterStatus, Peer};

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
    format!(
        "{} nodes, {} of them donors with {} slots; {}",
        status.nodes, status.donors, status.slots, status.reach
    )
}

fn peers_in_words(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers known".to_owned();
    }
    let header = format!(
        "{:<52}  {:<9}  {:<12}  {:<15}  {:>9}  DONOR",
        "PEER", "CONNECTED", "PATH", "TRANSPORT", "RTT"
    );
    std::iter::once(header)
        .chain(peers.iter().map(row))
        .collect::<Vec<_>>()
        .join("\n")
}

fn row(peer: &Peer) -> String {
    let connected = if peer.connected { "yes" } else { "no" };
    let transport = match (peer.transport.as_str(), peer.inspected) {
        ("", _) => "-".to_owned(),
        (transport, false) => transport.to_owned(),
        (transport, true) => format!("{transport}, inspected"),
    };
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
        "{:<52}  {connected:<9}  {:<12}  {transport:<15}  {rtt:>9}  {donor}",
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
    fn what_a_donor_calls_its_classes_cannot_steer_the_terminal() {
        let shown = visible(&["general".to_owned(), "a\n\u{1b}[2J\u{202e}b".to_owned()]);
        assert!(shown.starts_with("general a"), "{shown}");
        assert!(
            !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{shown:?}"
        );
    }
}
