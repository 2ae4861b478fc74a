//! `worldcompute job`: work for the cluster.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::{Client, JobEvent, JobPage, JobView, SubmitRequest, Submitted};
use worldcompute_node::durable::{self, Mode};

use super::manifest::Prepared;
use super::{Context, run};
use crate::args::{JobCommand, ListArgs, ResultsArgs, SubmitArgs};

/// Runs one job command.
pub async fn run(context: &Context, command: JobCommand) -> Result<ExitCode> {
    match command {
        JobCommand::Submit(args) => submit(context, args).await,
        JobCommand::Run(args) => run::run(context, args).await,
        JobCommand::Status(args) if args.watch => {
            watch(context, &context.client()?, &args.id).await
        }
        JobCommand::Status(args) => print(context, &context.client()?.job(&args.id).await?),
        JobCommand::Results(args) => results(context, &args).await,
        JobCommand::Cancel { id } => print(context, &context.client()?.cancel(&id).await?),
        JobCommand::List(args) => list(context, args).await,
    }
}

async fn submit(context: &Context, args: SubmitArgs) -> Result<ExitCode> {
    let prepared = Prepared::read(&args.manifest)?;
    if args.dry_run {
        return dry_run(context, prepared.request());
    }
    let client = context.client()?;
    let submitted = prepared.hand_over(&client, None).await?;
    if !args.watch {
        context.output.data(&submitted, submitted_in_words)?;
        return Ok(ExitCode::SUCCESS);
    }
    context.output.note(&submitted_in_words(&submitted));
    watch(context, &client, &submitted.job_id).await
}

#[derive(Serialize)]
struct DryRun<'a> {
    valid: bool,
    #[serde(flatten)]
    request: &'a SubmitRequest,
}

fn dry_run(context: &Context, request: &SubmitRequest) -> Result<ExitCode> {
    context.output.data(
        &DryRun {
            valid: true,
            request,
        },
        |_| "the manifest is valid; nothing was submitted".to_owned(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn submitted_in_words(submitted: &Submitted) -> String {
    format!(
        "job       {}\nmanifest  {}",
        submitted.job_id, submitted.manifest_cid
    )
}

/// Follows a job to its end and prints how it ended; fails when the job did.
pub async fn watch(context: &Context, client: &Client, id: &str) -> Result<ExitCode> {
    let last = follow(client, id, |event| {
        if let Some(line) = event_in_words(event) {
            context.output.note(&line);
        }
    })
    .await?;
    print(context, &last)?;
    Ok(if last.status == "completed" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Calls `on_event` for everything that happens to a job, and returns it as it ended.
pub async fn follow(
    client: &Client,
    id: &str,
    mut on_event: impl FnMut(&JobEvent),
) -> Result<JobView> {
    let mut events = client.events(id).await?;
    let mut last = None;
    while let Some(event) = events.next().await? {
        on_event(&event);
        if let JobEvent::Job { job } = event {
            last = Some(*job);
        }
    }
    last.filter(JobView::is_ended).ok_or_else(|| {
        Fault::new(
            Category::NetworkTransient,
            "watch_ended",
            "the daemon stopped before the job ended",
        )
        .hint(format!(
            "the job is kept: start the daemon again, then 'worldcompute job status {id} --watch'"
        ))
    })
}

fn event_in_words(event: &JobEvent) -> Option<String> {
    match event {
        JobEvent::TaskStarted {
            task,
            executor,
            attempt: 1,
        } => Some(format!("task {task} -> {executor}")),
        JobEvent::TaskStarted {
            task,
            executor,
            attempt,
        } => Some(format!("task {task} -> {executor} (try {attempt})")),
        JobEvent::TaskAccepted {
            task,
            executor,
            status,
        } => Some(format!(
            "task {task} {status}, receipt verified, by {executor}"
        )),
        JobEvent::TaskLost {
            task,
            executor,
            reason,
        } => Some(format!("task {task} taken back from {executor}: {reason}")),
        JobEvent::Job { .. } => None,
    }
}

fn print(context: &Context, job: &JobView) -> Result<ExitCode> {
    context.output.data(job, in_words)?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(job: &JobView) -> String {
    let tasks = &job.tasks;
    let mut lines = vec![
        format!("job        {} ({})", job.job_id, job.name),
        format!("status     {}", job.status),
        format!(
            "tasks      {} of {} accepted, {} running, {} waiting, {} failed",
            tasks.accepted, tasks.total, tasks.running, tasks.ready, tasks.failed
        ),
        format!("submitted  {}", job.submitted_at),
    ];
    lines.extend(job.ended_at.iter().map(|at| format!("ended      {at}")));
    lines.extend(
        job.executors
            .iter()
            .map(|(peer, count)| format!("executor   {peer}: {count}")),
    );
    lines.extend(
        job.exit_code
            .iter()
            .map(|code| format!("exit code  {code}")),
    );
    lines.extend(job.receipt_verified.iter().map(|yes| {
        format!(
            "receipts   {}",
            if *yes { "verified" } else { "not verified" }
        )
    }));
    lines.extend(job.evidence.iter().map(|path| format!("evidence   {path}")));
    lines.extend(
        job.reason
            .iter()
            .map(|reason| format!("reason     {reason}")),
    );
    lines.extend(
        job.error
            .iter()
            .map(|error| format!("error      {}\n  hint: {}", error.detail, error.hint)),
    );
    lines.join("\n")
}

async fn results(context: &Context, args: &ResultsArgs) -> Result<ExitCode> {
    let client = context.client()?;
    let job = client.job(&args.id).await?;
    let tasks = args
        .task
        .map_or(0..=job.tasks.total.saturating_sub(1), |task| task..=task);
    match &args.output {
        Some(path) if is_directory(path) => one_file_a_task(&client, args, tasks, path).await?,
        Some(path) => write(path, &all(&client, args, tasks).await?)?,
        None => {
            for task in tasks {
                context
                    .output
                    .bytes(&client.result(&args.id, task, &args.name).await?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One that is there, or one that is meant: `out/`.
fn is_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_bytes().ends_with(b"/")
}

/// A file is replaced as a whole. A pipe or a device is what the user names it for, and is written to.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    match path.metadata() {
        Ok(there) if !there.is_file() => {
            let opened = OpenOptions::new().write(true).open(path);
            opened
                .and_then(|mut to| to.write_all(bytes))
                .map_err(|error| Fault::io(format!("write {}", path.display()), &error))
        }
        _ => durable::write_atomic(path, bytes, Mode::Public),
    }
}

async fn all(client: &Client, args: &ResultsArgs, tasks: RangeInclusive<u32>) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    for task in tasks {
        whole.extend_from_slice(&client.result(&args.id, task, &args.name).await?);
    }
    Ok(whole)
}

async fn one_file_a_task(
    client: &Client,
    args: &ResultsArgs,
    tasks: RangeInclusive<u32>,
    directory: &Path,
) -> Result<()> {
    for task in tasks {
        let bytes = client.result(&args.id, task, &args.name).await?;
        durable::output_dir(directory)?;
        durable::write_atomic(
            &directory.join(format!("{task:05}-{}", args.name)),
            &bytes,
            Mode::Public,
        )?;
    }
    Ok(())
}

async fn list(context: &Context, args: ListArgs) -> Result<ExitCode> {
    let page = JobPage {
        limit: Some(args.limit),
        before: args.before,
    };
    let jobs = context.client()?.jobs(&page).await?;
    context.output.data(&jobs, |jobs| table(jobs))?;
    if let Some(first) = jobs.first().filter(|_| jobs.len() == args.limit) {
        let id = &first.job_id;
        let note = format!("there may be older ones: 'worldcompute job list --before {id}'");
        context.output.note(&note);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(jobs: &[JobView]) -> String {
    if jobs.is_empty() {
        return "no jobs here: 'worldcompute job submit job.yaml'".to_owned();
    }
    let header = format!("{:<26}  {:<11}  {:>11}  NAME", "JOB", "STATUS", "ACCEPTED");
    let row = |job: &JobView| {
        let accepted = format!("{}/{}", job.tasks.accepted, job.tasks.total);
        format!(
            "{:<26}  {:<11}  {accepted:>11}  {}",
            job.job_id, job.status, job.name
        )
    };
    std::iter::once(header)
        .chain(jobs.iter().map(row))
        .collect::<Vec<_>>()
        .join("\n")
}
