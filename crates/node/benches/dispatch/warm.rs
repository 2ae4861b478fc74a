//! Jobs of one task, one after the other, with every connection open and every module compiled.

use std::io::Write;
use std::time::{Duration, Instant};

use worldcompute_fault::{Fault, Result};
use worldcompute_mesh::wire::OfferRequest;
use worldcompute_mesh::{Mesh, MeshConfig};
use worldcompute_proof::{Cid, SigningKey};

use crate::cluster::{Cluster, broken};
use crate::figures::{Figures, kept};
use crate::spans::Spans;

/// Jobs that are not counted: they compile the module and open the streams.
const WARM_UP: u32 = 20;

/// Jobs that are counted.
const JOBS: u32 = 300;

/// The design's promise for the median job.
const PROMISE: Duration = Duration::from_millis(10);

/// Prints how long jobs take, and how long the way alone does.
pub async fn run(cluster: &Cluster, spans: &Spans) -> Result<()> {
    let manifest = cluster.job(1).await?;
    for _ in 0..WARM_UP {
        cluster.run(manifest.clone()).await?;
    }
    let baseline = round_trips(cluster).await?;
    spans.clear();
    let disk = syncs(cluster)?;
    let mut dispatch = Figures::default();
    let mut receipt = Figures::default();
    let mut evidence = Figures::default();
    for _ in 0..JOBS {
        let course = cluster.run(manifest.clone()).await?;
        dispatch.add(course.settled - course.accepted);
        receipt.add(course.settled - course.submitted);
        evidence.add(course.ended - course.submitted);
    }
    println!(
        "\nwarm: {JOBS} jobs of one task, one after the other; donors are {}",
        Vec::from_iter(cluster.paths().await?).join(" and ")
    );
    baseline.print("baseline: a bare offer through the relay");
    disk.print("baseline: 4 KiB appended and synced");
    dispatch.print("dispatch: sent to receipt stored");
    receipt.print("job: submitted to receipt stored");
    evidence.print("job: submitted to evidence written");
    let p50 = receipt.quantile(50);
    println!(
        "  p50 under 10 ms: {}; a job takes as long as {:.1} bare round trips",
        kept(p50 < PROMISE),
        p50.as_secs_f64() / baseline.quantile(50).as_secs_f64()
    );
    spans.print(JOBS);
    Ok(())
}

/// What the mesh alone takes: a node of its own asks a donor through the relay, and gets a short answer.
async fn round_trips(cluster: &Cluster) -> Result<Figures> {
    let mut config = MeshConfig::new(SigningKey::generate()?);
    config.bootstrap = vec![address(cluster.relay_address())?];
    let (mesh, _inbound) = Mesh::start(config).await?;
    mesh.reserved(Duration::from_secs(30)).await?;
    let mut figures = Figures::default();
    for donor in cluster.donors() {
        let addresses = donor.reachable_at().await?;
        let addresses = addresses
            .iter()
            .map(|text| address(text))
            .collect::<Result<_>>()?;
        mesh.add_peer(*donor.peer_id(), addresses).await;
        mesh.offer(*donor.peer_id(), offer()).await?;
        for _ in 0..JOBS / 2 {
            let asked = Instant::now();
            mesh.offer(*donor.peer_id(), offer()).await?;
            figures.add(asked.elapsed());
        }
    }
    mesh.shutdown().await;
    Ok(figures)
}

/// What the disk alone takes.
fn syncs(cluster: &Cluster) -> Result<Figures> {
    let path = cluster.directory().join("baseline");
    let failed = |error: std::io::Error| Fault::io("sync a file", &error);
    let mut file = std::fs::File::create(path).map_err(failed)?;
    let mut figures = Figures::default();
    for _ in 0..JOBS {
        let began = Instant::now();
        file.write_all(&[0; 4096]).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        figures.add(began.elapsed());
    }
    Ok(figures)
}

fn offer() -> OfferRequest {
    OfferRequest {
        task_id: "bench".to_owned(),
        manifest_cid: Cid::raw(b"bench"),
        min_cpu_cores: 1,
        min_memory_mb: 1,
        needs_gpu: false,
        max_wallclock_ms: 1_000,
        classes: vec!["general".to_owned()],
    }
}

fn address(text: &str) -> Result<worldcompute_mesh::Multiaddr> {
    text.parse()
        .map_err(|_| broken("an address does not parse"))
}
