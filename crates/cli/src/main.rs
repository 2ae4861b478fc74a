//! `worldcompute`: the command line of World Compute. It parses, asks the local daemon, and prints; it holds no logic of its own.

mod args;
mod commands;
mod demo;
mod output;

use std::process::ExitCode;

use clap::Parser;
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
        Err(fault) => report(output, &fault),
    }
}

/// Help and versions go to standard output with 0; anything else is a usage error, 2.
fn refuse(error: &clap::Error) -> ExitCode {
    let output = Output::new(asks_for_json(), CorrelationId::random());
    let is_wrong = error.use_stderr();
    if is_wrong && output.is_json() {
        return report(output, &usage(error));
    }
    match error.print() {
        Ok(()) if is_wrong => ExitCode::from(2),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(output, &Fault::io("print", &error)),
    }
}

/// The flag, where the command line that holds it cannot be read as a whole.
fn asks_for_json() -> bool {
    std::env::args_os()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// What the parser says first, in one line; the rest tells a person where to read on.
fn usage(error: &clap::Error) -> Fault {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first.split_whitespace().collect();
    let message = words.join(" ");
    Fault::usage(message.strip_prefix("error: ").unwrap_or(&message))
        .hint("--help shows the commands and flags that there are")
}

fn report(output: Output, fault: &Fault) -> ExitCode {
    output.fault(fault);
    ExitCode::from(fault.exit_code())
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
        Command::Image(command) => commands::image::run(&context, command).await,
        Command::Cluster(command) => commands::cluster::run(&context, command).await,
        Command::Verify(args) => commands::verify::run(&context, &args).await,
        Command::Admin(command) => commands::admin::run(&context, command).await,
        Command::Doctor => commands::doctor::run(&context).await,
        Command::Store(command) => commands::store::run(&context, command).await,
        Command::Completions { shell } => commands::completions(&context, shell),
    }
}
