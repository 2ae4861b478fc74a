//! One module a command group, and what they share.

pub mod admin;
pub mod cluster;
pub mod daemon;
pub mod diagnose;
pub mod doctor;
pub mod donor;
pub mod image;
pub mod job;
pub mod key_loss;
pub mod logs;
pub mod manifest;
pub mod question;
pub mod relay;
pub mod run;
pub mod store;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use worldcompute_fault::Result;
use worldcompute_node::api::Client;
use worldcompute_node::{Config, Home};
use worldcompute_telemetry as telemetry;

use crate::args::Cli;
use crate::output::Output;

/// What every command needs.
pub struct Context {
    home: Option<PathBuf>,
    log: Option<String>,
    /// Where results go.
    pub output: Output,
}

impl Context {
    /// From the global flags.
    pub fn new(home: Option<PathBuf>, log: Option<String>, output: Output) -> Self {
        Self { home, log, output }
    }

    /// The home that was named, or the user's own.
    pub fn home(&self) -> Result<Home> {
        self.home
            .clone()
            .map_or_else(Home::discover, |root| Ok(Home::at(root)))
    }

    /// Whether a home was named on the command line.
    pub fn has_own_home(&self) -> bool {
        self.home.is_some()
    }

    /// A client of the home's daemon.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.home()?.socket()))
    }

    /// Installs logging: to standard error, and to the log file of a daemon, which `daemon` is the home of.
    pub fn telemetry(
        &self,
        default_filter: &str,
        daemon: Option<&Home>,
        config: &Config,
    ) -> Result<telemetry::Guard> {
        telemetry::init(telemetry::Config {
            format: if self.output.is_json() {
                telemetry::Format::Json
            } else {
                telemetry::Format::Human
            },
            filter: self
                .log
                .clone()
                .unwrap_or_else(|| default_filter.to_owned()),
            log_file: daemon.map(Home::log),
            otlp_endpoint: config.otlp_endpoint.clone(),
            service: "worldcompute".to_owned(),
            instance: daemon.and_then(Home::enrolled).map(|peer| peer.to_string()),
            ..telemetry::Config::default()
        })
    }
}

/// Prints the completion script of one shell.
pub fn completions(context: &Context, shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "worldcompute", &mut script);
    context.output.bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
