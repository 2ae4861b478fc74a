//! `worldcompute donor`: this machine at the service of others.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::process::{Child, Command};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::{Client, DonorStatus};
use worldcompute_node::{Config, Roles};
use worldcompute_proof::PeerId;

use super::{Context, daemon, logs};
use crate::args::{DonorCommand, JoinArgs};

/// How long `--daemon` waits for the daemon to answer: a relay reservation may take up to a minute.
const DAEMON_START: Duration = Duration::from_secs(75);

/// Between two looks at whether the daemon answers.
const DAEMON_POLL: Duration = Duration::from_millis(100);

/// Runs one donor command.
pub async fn run(context: &Context, command: DonorCommand) -> Result<ExitCode> {
    match command {
        DonorCommand::Enroll => enroll(context),
        DonorCommand::Join(args) if args.daemon => detach(context).await,
        DonorCommand::Join(args) => join(context, args).await,
        DonorCommand::Status => print(context, context.client()?.donor_status().await?),
        DonorCommand::Pause => act(context, "pause").await,
        DonorCommand::Resume => act(context, "resume").await,
        DonorCommand::Leave => act(context, "leave").await,
        DonorCommand::Logs(args) => logs::run(context, args).await,
    }
}

#[derive(Serialize)]
struct Enrolled {
    peer_id: PeerId,
    home: String,
}

fn enroll(context: &Context) -> Result<ExitCode> {
    let home = context.home()?;
    let peer_id = home.enroll(&Config::default())?;
    let enrolled = Enrolled {
        peer_id,
        home: home.root().display().to_string(),
    };
    context.output.data(&enrolled, |it| {
        format!("enrolled {}\nhome     {}", it.peer_id, it.home)
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn join(context: &Context, args: JoinArgs) -> Result<ExitCode> {
    let home = context.home()?;
    let mut config = daemon::configure(Config::load(&home.config())?, &args.listen)?;
    config.circuit_only |= args.circuit_only;
    config.slots = args.slots.unwrap_or(config.slots);
    if !args.consent.is_empty() {
        config.consent = args.consent.into_iter().collect();
    }
    daemon::run(
        context,
        home,
        daemon::checked(config)?,
        Roles::DONOR,
        args.listen.port.is_some(),
        args.process.end_with_stdin,
    )
    .await
}

/// Starts the same command again without `--daemon`, in a process group of its own, and waits until it answers. What it said
/// when it ended instead is passed on, with its exit status.
async fn detach(context: &Context) -> Result<ExitCode> {
    let client = context.client()?;
    if client.health().await.is_ok() {
        return Err(already_running());
    }
    let daemon = start_again()?;
    tokio::select! {
        status = answering(&client) => print(context, status?),
        ended = daemon.wait_with_output() => {
            let ended = ended.map_err(|error| Fault::io("waiting for the daemon", &error))?;
            context.output.error_bytes(&ended.stderr)?;
            let code = ended.status.code().and_then(|code| u8::try_from(code).ok());
            Ok(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1)))
        }
    }
}

fn start_again() -> Result<Child> {
    let program =
        std::env::current_exe().map_err(|error| Fault::io("finding this program", &error))?;
    let arguments = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--daemon");
    Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Fault::io("starting the daemon", &error))
}

fn already_running() -> Fault {
    Fault::new(
        Category::StateContention,
        "already_running",
        "a daemon already runs in this home",
    )
    .hint("ask it with 'worldcompute donor status', or end it with 'worldcompute donor leave'")
}

async fn answering(client: &Client) -> Result<DonorStatus> {
    let deadline = tokio::time::Instant::now() + DAEMON_START;
    loop {
        match client.donor_status().await {
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(DAEMON_POLL).await
            }
            ended => return ended,
        }
    }
}

async fn act(context: &Context, action: &str) -> Result<ExitCode> {
    let status = context.client()?.donor_action(action).await?;
    print(context, status)
}

fn print(context: &Context, status: DonorStatus) -> Result<ExitCode> {
    context.output.data(&status, in_words)?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(status: &DonorStatus) -> String {
    let finished: Vec<String> = status
        .finished
        .iter()
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    let finished = if finished.is_empty() {
        "nothing yet".to_owned()
    } else {
        finished.join(", ")
    };
    [
        format!("peer id    {}", status.peer_id),
        format!("state      {}", state_in_words(status)),
        format!("uptime     {} s", status.uptime_s),
        format!("running    {} of {} slots", status.running, status.slots),
        format!("finished   {finished}, {} refused", status.refused),
        format!("last exit  no. {}", status.last_exit),
        format!("consent    {}", status.consent.join(", ")),
        format!("policy     {}", status.policy_digest),
    ]
    .join("\n")
}

fn state_in_words(status: &DonorStatus) -> String {
    serde_json::to_value(status.state)
        .ok()
        .and_then(|value| value.as_str().map(String::from))
        .unwrap_or_default()
}
