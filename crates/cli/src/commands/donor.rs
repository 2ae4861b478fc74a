//! `worldcompute donor`: this machine at the service of others.

mod yielding;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::{Client, DonorStatus};
use worldcompute_node::{Config, Left, Roles, Storage};
use worldcompute_proof::PeerId;

use super::daemon::StopSignal;
use super::{Context, daemon, logs};
use crate::args::{DonorCommand, JoinArgs, LeaveArgs};

/// How long `--daemon` waits until the daemon can be reached: a relay reservation may take up to a minute.
const DAEMON_START: Duration = Duration::from_secs(75);

/// Runs one donor command.
pub async fn run(context: &Context, command: DonorCommand) -> Result<ExitCode> {
    match command {
        DonorCommand::Enroll => enroll(context),
        DonorCommand::Join(args) if args.daemon => detach(context).await,
        DonorCommand::Join(args) => join(context, args).await,
        DonorCommand::Status => print(context, context.client()?.donor_status().await?),
        DonorCommand::Pause => act(context, "pause").await,
        DonorCommand::Resume => act(context, "resume").await,
        DonorCommand::Leave(args) => leave(context, args).await,
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

/// Starts the same command again without `--daemon`, in a process group of its own, and waits until it can be reached. What
/// it said when it ended instead is passed on, with its exit status.
async fn detach(context: &Context) -> Result<ExitCode> {
    let client = context.client()?;
    let mut stop = StopSignal::listen(false)?;
    if stop.unless_told(is_running(&client)).await? {
        return Err(already_running());
    }
    let mut daemon = start_again()?;
    let said = tokio::spawn(all_of(daemon.stderr.take()));
    match stop.unless_told(ready(&mut daemon)).await {
        Ok(true) => print(context, client.donor_status().await?),
        Ok(false) => {
            let ended = daemon.wait().await.map_err(|error| lost(&error))?;
            context
                .output
                .error_bytes(&said.await.unwrap_or_default())?;
            let code = ended.code().and_then(|code| u8::try_from(code).ok());
            Ok(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1)))
        }
        Err(fault) => daemon
            .kill()
            .await
            .map_err(|error| lost(&error))
            .and(Err(fault)),
    }
}

/// Whether a daemon answers in this home; anything but that there is none is an error.
pub async fn is_running(client: &Client) -> Result<bool> {
    match client.health().await {
        Ok(_) => Ok(true),
        Err(fault) if fault.code() == "not_connected" => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn start_again() -> Result<Child> {
    let program =
        std::env::current_exe().map_err(|error| Fault::io("find this program", &error))?;
    let arguments = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--daemon");
    Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Fault::io("start the daemon", &error))
}

/// Waits until the daemon says that it can be reached. False when it ended instead.
async fn ready(daemon: &mut Child) -> Result<bool> {
    tokio::time::timeout(DAEMON_START, daemon::first_line(daemon))
        .await
        .map(|line| line.is_some())
        .map_err(|_| {
            Fault::new(
                Category::NetworkTransient,
                "daemon_not_ready",
                "the daemon could not be reached in time, and was ended",
            )
            .hint("run the same without --daemon to see what it waits for")
        })
}

/// Reads along what the daemon says, so that it never waits for a reader. Its own log has it all.
async fn all_of(output: Option<ChildStderr>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(mut output) = output {
        // What was read before an error is what there is to tell.
        drop(output.read_to_end(&mut said).await);
    }
    said
}

fn lost(error: &std::io::Error) -> Fault {
    Fault::io("wait for the daemon", error)
}

fn already_running() -> Fault {
    Fault::new(
        Category::StateContention,
        "already_running",
        "a daemon already runs in this home",
    )
    .hint("ask it with 'worldcompute donor status', or end it with 'worldcompute donor leave'")
}

async fn act(context: &Context, action: &str) -> Result<ExitCode> {
    let status = context.client()?.donor_action(action).await?;
    print(context, status)
}

/// What a donor that left was doing last, where a daemon ran, and what leaving came to.
#[derive(Serialize)]
struct Leaving {
    #[serde(flatten)]
    last: Option<DonorStatus>,
    #[serde(flatten)]
    left: Left,
}

/// The daemon hands back what runs and ends; then its home is this process's.
async fn leave(context: &Context, args: LeaveArgs) -> Result<ExitCode> {
    let client = context.client()?;
    let last = match is_running(&client).await? {
        true => Some(client.donor_action("leave").await?),
        false => None,
    };
    let left = worldcompute_node::leave(&context.home()?, args.all, Storage::Configured).await?;
    let leaving = Leaving { last, left };
    context.output.data(&leaving, leaving_in_words)?;
    leaving.left.complete()?;
    Ok(ExitCode::SUCCESS)
}

fn leaving_in_words(leaving: &Leaving) -> String {
    let left = &leaving.left;
    let mut lines: Vec<String> = leaving.last.iter().map(in_words).collect();
    lines.push(format!("home       {}", left.home));
    if !left.was_donor {
        lines.push("no donor's".to_owned());
    }
    lines.push(format!(
        "let go     {} answers, {} objects, {} bytes",
        left.answers, left.objects, left.bytes
    ));
    lines.extend(left.removed.iter().map(|path| format!("removed    {path}")));
    lines.extend(left.kept.iter().map(|path| format!("kept       {path}")));
    lines.join("\n")
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
    let mut lines = vec![
        format!("peer id    {}", status.peer_id),
        format!("state      {}", state_in_words(status)),
        format!("uptime     {} s", status.uptime_s),
        format!("running    {} of {} slots", status.running, status.slots),
        format!("finished   {finished}, {} refused", status.refused),
        format!("last exit  no. {}", status.last_exit),
        format!("consent    {}", status.consent.join(", ")),
        format!("policy     {}", status.policy_digest),
    ];
    lines.extend(yielding::in_words(&status.yielding));
    lines.join("\n")
}

fn state_in_words(status: &DonorStatus) -> String {
    serde_json::to_value(status.state)
        .ok()
        .and_then(|value| value.as_str().map(String::from))
        .unwrap_or_default()
}
