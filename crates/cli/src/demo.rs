//! `worldcompute demo`: the whole system at work on this machine, with real processes and nothing faked. A relay, two donors
//! that can only be reached through it, and this process as the submitter turn one manifest into one picture, and the
//! evidence is verified at the end as a stranger would verify it.

mod cluster;
pub mod picture;
mod progress;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::{Client, JobView};
use worldcompute_node::durable::{self, Mode};
use worldcompute_node::{Config, Home, evidence, receipt};
use worldcompute_proof::PeerId;

use crate::args::DemoArgs;
use crate::commands::daemon::{StopSignal, interrupted};
use crate::commands::manifest::Prepared;
use crate::commands::{Context, job};
use cluster::Cluster;
use picture::Picture;
use progress::Progress;

/// The module that draws, in text form: no toolchain is needed to read or change it.
const MODULE: &[u8] = include_bytes!("../../../examples/mandelbrot/mandelbrot.wat");

/// How long both donors may take to be seen by the submitter.
const MEETING_TIME: Duration = Duration::from_secs(30);

/// Runs the demo; Ctrl-C at any moment ends it and everything it started.
pub async fn run(context: &Context, args: DemoArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let _telemetry = context.telemetry("error", None, &Config::default())?;
    let mut stop = StopSignal::listen(false)?;
    let out = OutDirectory::make(&args)?;
    let mut cluster = Cluster::new()?;
    let shown = tokio::select! {
        shown = show(context, &args, &out.path, &mut cluster, started) => shown,
        () = stop.told() => Err(interrupted("interrupted; everything the demo started has been stopped")),
    };
    if shown.is_ok() && args.keep {
        context.output.note(&cluster.how_to_talk());
        stop.told().await;
    }
    let stopped = cluster.stop().await;
    if shown.is_err() {
        out.remove_if_empty();
    }
    shown.and(stopped).map(|()| ExitCode::SUCCESS)
}

async fn show(
    context: &Context,
    args: &DemoArgs,
    out: &Path,
    cluster: &mut Cluster,
    started: Instant,
) -> Result<()> {
    let progress = Progress::new(context.output);
    cluster.start(&progress).await?;
    cluster.meet(MEETING_TIME).await?;
    let client = cluster.client()?;
    let picture = Picture::of_tiles(args.tiles);
    let job = draw(&client, &picture, &progress).await?;
    let first = progress.first_result().map(|at| at.duration_since(started));
    let report = conclude(&client, &picture, &job, out, started, first).await?;
    progress.finish();
    context.output.data(&report, Report::in_words)
}

/// Submits the picture as one job and follows it to its end.
async fn draw(client: &Client, picture: &Picture, progress: &Progress) -> Result<JobView> {
    let module = client.add_content(MODULE.to_vec()).await?;
    let prepared = Prepared::from_document(picture.manifest(&module).as_bytes(), Path::new(""))?;
    let submitted = prepared.hand_over(client, Some(MEETING_TIME)).await?;
    let job = job::follow(client, &submitted.job_id, |event| progress.event(event)).await?;
    match &job.error {
        Some(error) => Err(Fault::from_problem(error.clone())),
        None => Ok(job),
    }
}

/// Assembles the picture, moves the evidence beside it, and verifies it as anyone could: offline, from the files alone.
async fn conclude(
    client: &Client,
    picture: &Picture,
    job: &JobView,
    out: &Path,
    started: Instant,
    first: Option<Duration>,
) -> Result<Report> {
    let mut tiles = Vec::new();
    for task in 0..job.tasks.total {
        tiles.push(client.result(&job.job_id, task, "stdout").await?);
    }
    let png = out.join("mandelbrot.png");
    durable::write_atomic(&png, &picture.assemble(&tiles)?, Mode::Public)?;
    let bundle = out.join("evidence");
    copy_tree(
        Path::new(job.evidence.as_deref().ok_or_else(no_evidence)?),
        &bundle,
    )?;
    let verified = evidence::verify(&bundle, &evidence::Pins::default())?;
    Ok(Report {
        ok: true,
        job_id: job.job_id.clone(),
        tiles: job.tasks.total,
        executors: job
            .executors
            .iter()
            .map(|(peer, count)| (*peer, *count))
            .collect(),
        redispatched: job.redispatched,
        first_result_ms: first.map(|first| first.as_millis()),
        elapsed_ms: started.elapsed().as_millis(),
        receipt: first_receipt(&bundle)?,
        verified: verified.summary,
        picture: png,
        receipts: bundle.join("receipts"),
        evidence: bundle,
    })
}

/// What the demo did, for machines as for people.
#[derive(Serialize)]
struct Report {
    ok: bool,
    job_id: String,
    tiles: u32,
    executors: std::collections::BTreeMap<PeerId, u32>,
    redispatched: u32,
    first_result_ms: Option<u128>,
    elapsed_ms: u128,
    receipt: String,
    verified: String,
    picture: PathBuf,
    receipts: PathBuf,
    evidence: PathBuf,
}

impl Report {
    fn in_words(&self) -> String {
        let executors = self
            .executors
            .iter()
            .map(|(peer, count)| format!("  {count:>4} tiles by {peer}"));
        let first = self.first_result_ms.map_or_else(String::new, |ms| {
            format!(", the first after {:.1} s", seconds(ms))
        });
        [
            format!(
                "{} tiles in {:.1} s{first}",
                self.tiles,
                seconds(self.elapsed_ms)
            ),
            executors.collect::<Vec<_>>().join("\n"),
            format!("\nOne receipt, in words:\n{}", indent(&self.receipt)),
            format!("\nOffline, from the files alone:\n  {}", self.verified),
            format!("\npicture   {}", self.picture.display()),
            format!("receipts  {}", self.receipts.display()),
            format!("evidence  {}", self.evidence.display()),
            format!(
                "\nCheck it yourself:\n  worldcompute verify {}",
                self.evidence.display()
            ),
        ]
        .join("\n")
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of one run are far below 2^52"
)]
fn seconds(ms: u128) -> f64 {
    ms as f64 / 1000.0
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Where picture and evidence go. It is made before the work begins: a place that cannot be written to costs nothing.
struct OutDirectory {
    path: PathBuf,
    is_new: bool,
}

impl OutDirectory {
    fn make(args: &DemoArgs) -> Result<Self> {
        let path = match &args.out {
            Some(out) => out.clone(),
            None => Self::in_home(&Home::discover()?),
        };
        let path = std::path::absolute(&path)
            .map_err(|error| Fault::io("find the output directory", &error))?;
        let is_new = !path.exists();
        match args.out {
            Some(_) => std::fs::create_dir_all(&path)
                .map_err(|error| Fault::io(format!("make {}", path.display()), &error))?,
            // It lies in a node's home, which this may be the first to make, and a home is its owner's alone.
            None => durable::private_dir(&path)?,
        }
        Ok(Self { path, is_new })
    }

    fn in_home(home: &Home) -> PathBuf {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        home.root().join("demo").join(stamp.to_string())
    }

    /// What holds results is not empty, and stays.
    fn remove_if_empty(&self) {
        if self.is_new {
            drop(std::fs::remove_dir(&self.path));
        }
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let failed =
        |error: &std::io::Error| Fault::io(format!("copy the evidence to {}", to.display()), error);
    std::fs::create_dir_all(to).map_err(|error| failed(&error))?;
    for entry in std::fs::read_dir(from).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

fn first_receipt(bundle: &Path) -> Result<String> {
    let bytes = durable::read_bounded(
        &bundle.join("receipts/00000.json"),
        receipt::MAX_RECEIPT_BYTES as u64,
    )?;
    Ok(receipt::SignedReceipt::open(&bytes)?.in_words())
}

fn no_evidence() -> Fault {
    Fault::new(
        Category::InternalFailure,
        "no_evidence",
        "the job ended without an evidence bundle",
    )
}
