//! A daemon in the foreground: started, announced on standard output, and ended by a signal, the API, or its parent's end.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::{Config, Home, Node, NodeOptions, Roles, Storage, listen};
use worldcompute_proof::PeerId;
use worldcompute_telemetry as telemetry;

use super::{Context, key_loss};
use crate::args::{ListenArgs, TrustArgs};

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
    config.default_relays &= !listen.no_default_relays;
    config.mdns &= !listen.no_mdns;
    config.external.extend(listen.external.iter().cloned());
    config.wss_port = listen.wss_listen.or(config.wss_port);
    if listen.tls_cert.is_some() {
        config.tls_cert.clone_from(&listen.tls_cert);
        config.tls_key.clone_from(&listen.tls_key);
    }
    checked(trusting(config, &listen.trust))
}

/// Applies the flags of whom a node believes.
pub fn trusting(mut config: Config, trust: &TrustArgs) -> Config {
    config.dangerously_allow_ssl_inspection |= trust.allow_ssl_inspection;
    config.doh_only |= trust.doh_only;
    if !trust.doh.is_empty() {
        config.doh.clone_from(&trust.doh);
    }
    if trust.doh_authorities.is_some() {
        config.doh_authorities.clone_from(&trust.doh_authorities);
    }
    config
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
    let guard = context.telemetry(telemetry::DEFAULT_FILTER, Some(&home), &config)?;
    let mut stop = StopSignal::listen(end_with_stdin)?;
    let storage = Storage::Configured;
    let running = key_loss::or_reset(context, &home, storage, async || {
        Node::start_unreached(NodeOptions {
            home: home.clone(),
            config: config.clone(),
            roles,
            exact_port,
            storage,
        })
        .await
    })
    .await?;
    let served = tokio::select! {
        served = serve(context, running.node(), &home, roles) => served,
        () = stop.told() => Ok(()),
    };
    if served.is_ok() {
        context
            .output
            .note("stopping: tasks that run are handed back");
    }
    let ended = running.stop().await;
    guard.shutdown();
    served.and(ended).map(|()| ExitCode::SUCCESS)
}

/// Says when the node can be reached, and waits until it is asked to end.
async fn serve(context: &Context, node: &Node, home: &Home, roles: Roles) -> Result<()> {
    node.until_reachable().await?;
    announce(context, node, home, roles).await?;
    node.stopped().await;
    Ok(())
}

async fn announce(context: &Context, node: &Node, home: &Home, roles: Roles) -> Result<()> {
    let ready = Ready {
        event: "ready".to_owned(),
        peer_id: *node.peer_id(),
        addresses: node.reachable_at().await?,
        home: home.root().display().to_string(),
    };
    if roles == Roles::RELAY && !listen::is_public(&ready.addresses) {
        context.output.note(
            "warning: these addresses are private ones: nobody beyond this network reaches the relay. Give the one that \
             is forwarded to it with --external",
        );
    }
    context.output.data(&ready, in_words)
}

fn in_words(ready: &Ready) -> String {
    let mut lines = vec![
        format!("peer id    {}", ready.peer_id),
        format!("home       {}", ready.home),
    ];
    lines.extend(
        listen::worth_giving(&ready.addresses)
            .iter()
            .map(|address| format!("reachable  {address}")),
    );
    lines.push("Ctrl-C stops it.".to_owned());
    lines.join("\n")
}

/// What a daemon prints first, which is that it is [`Ready`]; nothing when it ended instead.
pub async fn first_line(daemon: &mut Child) -> Option<String> {
    let output = daemon.stdout.as_mut()?;
    let line = BufReader::new(output).lines().next_line().await;
    line.ok().flatten()
}

/// The ways in which a process is told to stop. From the moment it listens, a signal does not end the process by itself.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    with_stdin: bool,
}

impl StopSignal {
    /// Listens from now on.
    pub fn listen(with_stdin: bool) -> Result<Self> {
        let on = |kind| signal(kind).map_err(|error| Fault::io("listen for signals", &error));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            with_stdin,
        })
    }

    /// Resolves on SIGINT, SIGTERM, SIGHUP, or when the parent closes standard input; also when that was before.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            () = stdin_closed(), if self.with_stdin => {}
        }
    }

    /// What the work comes to, unless it is told to stop before.
    ///
    /// # Errors
    /// Those of the work, and [`interrupted`].
    pub async fn unless_told<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.told() => Err(interrupted("interrupted")),
        }
    }
}

/// The end of a command that was told to stop before it was done.
pub fn interrupted(what: impl Into<String>) -> Fault {
    Fault::new(Category::InternalFailure, "interrupted", what).hint("run it again")
}

async fn stdin_closed() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0_u8; 256];
    while matches!(input.read(&mut buffer).await, Ok(read) if read > 0) {}
}
