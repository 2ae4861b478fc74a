//! The real program: from its start to its first result, and at rest.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use worldcompute_fault::{Fault, Result};

use crate::cluster::{Cluster, broken};
use crate::figures::kept;
use crate::process;

/// Names the program to measure, where it is not the one beside this bench.
const BINARY_VARIABLE: &str = "WORLDCOMPUTE_BENCH_BINARY";

/// The promise for the first result of a donor that has just been started.
const COLD_PROMISE: Duration = Duration::from_secs(5);

/// The promises for a daemon at rest.
const MOST_RESIDENT: u64 = 60 << 20;
const MOST_CPU_PERCENT: f64 = 0.5;

/// After the first result, what it left behind is cleared up before the daemon counts as at rest.
const SETTLING_TIME: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(20);

/// Starts a donor with a fresh home behind a relay, lets it do a job that waits for it, then leaves it alone.
pub async fn run() -> Result<()> {
    let Some(program) = program() else {
        println!(
            "\ndaemon: skipped, there is no worldcompute beside this bench; build it, or name it in {BINARY_VARIABLE}"
        );
        return Ok(());
    };
    println!("\ndaemon: {}", program.display());
    let cluster = Cluster::start(0).await?;
    let job = cluster.job(1).await?;
    let started = Instant::now();
    let mut donor = spawn(&program, &cluster)?;
    let took = cluster.run(job).await?.settled - started;
    println!(
        "  cold: {:.2} s from the start of a donor without a home to its first result verified; under 5 s: {}",
        took.as_secs_f64(),
        kept(took < COLD_PROMISE)
    );
    rest(&donor).await?;
    drop(donor.stdin.take());
    donor
        .wait()
        .await
        .map_err(|error| Fault::io("wait for the donor", &error))?;
    cluster.stop().await
}

async fn rest(donor: &Child) -> Result<()> {
    let pid = donor
        .id()
        .ok_or_else(|| broken("the donor has ended"))?
        .to_string();
    tokio::time::sleep(SETTLING_TIME).await;
    let before = process::cpu(&pid);
    tokio::time::sleep(REST).await;
    let Some(((before, after), resident)) =
        before.zip(process::cpu(&pid)).zip(process::resident(&pid))
    else {
        println!("  at rest: skipped, there is no /proc, or the donor has ended");
        return Ok(());
    };
    let percent = (after - before).as_secs_f64() / REST.as_secs_f64() * 100.0;
    println!(
        "  at rest, connected, after a job: {} MiB resident, under 60 MiB: {}; {percent:.2} % of a core over {} s, under 0.5 %: {}",
        resident >> 20,
        kept(resident < MOST_RESIDENT),
        REST.as_secs(),
        kept(percent < MOST_CPU_PERCENT)
    );
    Ok(())
}

fn spawn(program: &Path, cluster: &Cluster) -> Result<Child> {
    Command::new(program)
        .arg("--home")
        .arg(cluster.directory().join("daemon"))
        .args([
            "donor",
            "join",
            "--circuit-only",
            "--no-mdns",
            "--end-with-stdin",
            "--bootstrap",
        ])
        .arg(cluster.relay_address())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Fault::io(format!("start {}", program.display()), &error))
}

/// The named program, or the one that Cargo built with the same profile: `target/<profile>/worldcompute`, beside the
/// `deps` folder of this bench.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.parent()?.join("worldcompute"))
    };
    named.or_else(beside).filter(|path| path.is_file())
}
