//! How quickly a job is done, as a submitter sees it: a relay, two donors that listen on nothing but circuits through
//! it, and a submitter, each with a home, a key and an encrypted store of its own.
//!
//! ```text
//! cargo bench -p worldcompute-node --bench dispatch             everything
//! cargo bench -p worldcompute-node --bench dispatch -- warm     one part: warm, array or daemon
//! ```
//!
//! The parts `warm` and `array` run every node in this process; `daemon` starts the real `worldcompute` beside it.

mod array;
mod cluster;
mod daemon;
mod figures;
mod process;
mod spans;
mod warm;

use std::process::ExitCode;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use worldcompute_fault::Result;

use cluster::Cluster;
use spans::Spans;

#[tokio::main]
async fn main() -> ExitCode {
    let spans = listen();
    match run(&Parts::chosen(), &spans).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{}", fault.human());
            ExitCode::FAILURE
        }
    }
}

async fn run(parts: &Parts, spans: &Spans) -> Result<()> {
    println!("{}", process::describe());
    if parts.has("warm") || parts.has("array") {
        let cluster = Cluster::start(2).await?;
        if parts.has("warm") {
            warm::run(&cluster, spans).await?;
        }
        if parts.has("array") {
            array::run(&cluster, spans).await?;
        }
        cluster.stop().await?;
    }
    if parts.has("daemon") {
        daemon::run().await?;
    }
    Ok(())
}

/// Which parts to run; `cargo bench` itself adds flags, which are not meant for us.
struct Parts(Vec<String>);

impl Parts {
    fn chosen() -> Self {
        let words = std::env::args().skip(1);
        Self(words.filter(|word| !word.starts_with('-')).collect())
    }

    fn has(&self, part: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|chosen| chosen == part)
    }
}

/// Times the spans of this project's own crates, and shows what they warn about.
fn listen() -> Spans {
    let spans = Spans::default();
    let own = Targets::new().with_targets(
        [
            "worldcompute_node",
            "worldcompute_scheduler",
            "blue_encrypted_store",
        ]
        .map(|name| (name, LevelFilter::DEBUG)),
    );
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(spans.clone().with_filter(own))
        .with(log)
        .init();
    spans
}
