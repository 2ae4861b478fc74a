//! A daemon in the foreground: started, announced on standard output, and ended by a signal, the API, or its parent's end.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use worldcompute_fault::{Fault, Result};
use worldcompute_node::{Config, Home, Node, NodeOptions, Roles};
use worldcompute_proof::PeerId;
use worldcompute_telemetry as telemetry;

use super::Context;
use crate::args::ListenArgs;

/// What a daemon prints once it can be reached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: String,
    /// Who it is.
    pub peer_id: PeerId,
    /// Where others reach it, `/p2p/<peer id>` included.
    pub addresses: Vec<String>,
    /// Where its home is.
    pub home: String,
}

/// Applies the flags on top of the configuration file.
///
/// # Errors
/// `usage` for a flag whose value could not work: what the file says was checked when it was read.
pub fn configure(config: Config, listen: &ListenArgs) -> Result<Config> {
    let mut config = config;
    config.port = listen.port.unwrap_or(config.port);
    config.bootstrap.extend(listen.bootstrap.iter().cloned());
    config.mdns &= !listen.no_mdns;
    checked(config)
}

/// Settings and their flags have the same names.
pub fn checked(config: Config) -> Result<Config> {
    config.checked().map_err(|fault| {
        Fault::usage(format!("--{}", fault.message())).hint(fault.hint_text().to_owned())
    })
}

/// Runs a node until it is told to stop.
pub async fn run(
    context: &Context,
    home: Home,
    config: Config,
    roles: Roles,
    exact_port: bool,
    end_with_stdin: bool,
) -> Result<ExitCode> {
    let guard = context.telemetry(telemetry::DEFAULT_FILTER, Some(home.log()), &config)?;
    let running = Node::start(NodeOptions {
        home: home.clone(),
        config,
        roles,
        exact_port,
    })
    .await?;
    let node = running.node().clone();
    announce(context, &node, &home).await?;
    tokio::select! {
        () = node.stopped() => {}
        ended = told_to_stop(end_with_stdin) => ended?,
    }
    context
        .output
        .note("stopping: tasks that run are handed back");
    let ended = running.stop().await;
    guard.shutdown();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn announce(context: &Context, node: &Node, home: &Home) -> Result<()> {
    let ready = Ready {
        event: "ready".to_owned(),
        peer_id: *node.peer_id(),
        addresses: node.reachable_at().await?,
        home: home.root().display().to_string(),
    };
    context.output.data(&ready, in_words)
}

fn in_words(ready: &Ready) -> String {
    let mut lines = vec![
        format!("peer id    {}", ready.peer_id),
        format!("home       {}", ready.home),
    ];
    lines.extend(
        ready
            .addresses
            .iter()
            .map(|address| format!("reachable  {address}")),
    );
    lines.push("Ctrl-C stops it.".to_owned());
    lines.join("\n")
}

/// Resolves on SIGINT, SIGTERM, SIGHUP, or when the parent closes standard input.
pub async fn told_to_stop(end_with_stdin: bool) -> Result<()> {
    let on = |kind| signal(kind).map_err(|error| Fault::io("listening for signals", &error));
    let (mut interrupt, mut terminate, mut hangup) = (
        on(SignalKind::interrupt())?,
        on(SignalKind::terminate())?,
        on(SignalKind::hangup())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        () = stdin_closed(), if end_with_stdin => {}
    }
    Ok(())
}

async fn stdin_closed() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0_u8; 256];
    while matches!(input.read(&mut buffer).await, Ok(read) if read > 0) {}
}
