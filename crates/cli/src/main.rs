//! `worldcompute`: the command line of World Compute. It parses, asks the local daemon, and prints; it holds no logic of its own.

mod args;
mod commands;
mod demo;
mod output;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_telemetry::{CorrelationId, with_correlation};

use args::{Cli, Command};
use output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let correlation = CorrelationId::random();
    let output = Output::new(cli.json, correlation);
    match run(cli, output, correlation) {
        Ok(code) => code,
        Err(fault) => {
            output.fault(&fault);
            ExitCode::from(fault.exit_code())
        }
    }
}

/// Help and versions go to standard output with 0; anything else is a usage error, 2.
fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion if printed.is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn run(cli: Cli, output: Output, correlation: CorrelationId) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Category::InternalFailure, "no_runtime", error.to_string()))?;
    let ended = runtime.block_on(with_correlation(correlation, dispatch(cli, output)));
    runtime.shutdown_background();
    ended
}

async fn dispatch(cli: Cli, output: Output) -> Result<ExitCode> {
    let context = commands::Context::new(cli.home, cli.log, output);
    match cli.command {
        Command::Demo(args) => demo::run(&context, args).await,
        Command::Relay(args) => commands::relay::run(&context, args).await,
        Command::Donor(command) => commands::donor::run(&context, command).await,
        Command::Job(command) => commands::job::run(&context, command).await,
        Command::Cluster(command) => commands::cluster::run(&context, command).await,
        Command::Verify(args) => commands::verify::run(&context, &args),
        Command::Admin(command) => commands::admin::run(&context, command).await,
        Command::Completions { shell } => commands::completions(&context, shell),
    }
}
