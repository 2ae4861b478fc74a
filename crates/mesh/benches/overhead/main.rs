//! What the mesh costs beside bare libp2p of the same version, over the same transports, in the same run, on loopback.
//!
//! `cargo bench -p worldcompute-mesh` prints the memory of a node with 200 peers; the time of an answer of 1 KiB and of
//! 10 MiB, directly and through a relay; and how many offers a second are answered through one relay, alone and beside
//! something large. Everything but the 200 peers runs in this one process: relay, both peers and the clock share the machine's
//! cores. Rounds of the two sides take turns, so that other load is on both.

mod bare;
mod idle;
mod mesh;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};

/// Bytes of a small answer, and of a large one.
const SMALL: usize = 1024;
const LARGE: usize = 10 * 1024 * 1024;
/// Turns of each side, and what is asked for in one.
const TURNS: usize = 10;
const SMALL_IN_TURN: usize = 100;
/// Questions under way at once through one relay.
const IN_FLIGHT: usize = 64;
const QUESTIONS: usize = 4096;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Somebody who asks somebody for so many bytes.
trait Asks: Send + Sync {
    fn ask(&self, bytes: usize) -> BoxFuture<'_, Outcome>;
}

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [word, address] = words.as_slice()
        && word == idle::PEERS
    {
        return runtime.block_on(idle::stay(address));
    }
    runtime.block_on(async {
        idle::measure().await?;
        println!(
            "{:<14} {:>11} {:>11} {:>7} {:>11} {:>11} {:>7}",
            "path", "1 KiB mesh", "bare", "ratio", "10 MiB mesh", "bare", "ratio"
        );
        for transport in ["tcp", "quic"] {
            let pair = (
                mesh::direct(transport).await?,
                bare::direct(transport).await?,
            );
            compare(transport, &pair.0, &pair.1).await?;
        }
        alone("wss", &mesh::direct("wss").await?).await?;
        let pair = (mesh::relayed().await?, bare::relayed().await?);
        compare("relayed tcp", &pair.0, &pair.1).await?;
        in_flight(&pair.0).await
    })
}

/// Medians of both, in turns.
async fn compare(name: &str, mesh: &impl Asks, bare: &impl Asks) -> Outcome {
    let (mut small, mut large) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..TURNS {
        small[0].extend(times(mesh, SMALL, SMALL_IN_TURN).await?);
        small[1].extend(times(bare, SMALL, SMALL_IN_TURN).await?);
        large[0].extend(times(mesh, LARGE, 1).await?);
        large[1].extend(times(bare, LARGE, 1).await?);
    }
    let [small, large] = [small.map(median), large.map(median)];
    let ratio = |pair: &[Duration; 2]| pair[0].as_secs_f64() / pair[1].as_secs_f64();
    println!(
        "{name:<14} {:>11.1?} {:>11.1?} {:>7.2} {:>11.1?} {:>11.1?} {:>7.2}",
        small[0],
        small[1],
        ratio(&small),
        large[0],
        large[1],
        ratio(&large)
    );
    Ok(())
}

/// The same where libp2p has nothing to compare with.
async fn alone(name: &str, mesh: &impl Asks) -> Outcome {
    let small = median(times(mesh, SMALL, TURNS * SMALL_IN_TURN).await?);
    let large = median(times(mesh, LARGE, TURNS).await?);
    println!(
        "{name:<14} {small:>11.1?} {:>11} {:>7} {large:>11.1?} {:>11} {:>7}",
        "-", "-", "-", "-"
    );
    Ok(())
}

async fn times(asks: &impl Asks, bytes: usize, count: usize) -> Outcome<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        asks.ask(bytes).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Many offers at once through one relay: alone, and while somebody fetches something large over the same circuit.
async fn in_flight(mesh: &mesh::Pair) -> Outcome {
    for (name, beside) in [("alone", false), ("beside 10 MiB", true)] {
        let (asked, began) = (AtomicUsize::new(0), Instant::now());
        let large = async {
            while beside && asked.load(Ordering::Relaxed) < QUESTIONS {
                mesh.ask(LARGE).await?;
            }
            Outcome::Ok(())
        };
        let worker = async || {
            let mut times = Vec::new();
            while asked.fetch_add(1, Ordering::Relaxed) < QUESTIONS {
                let began = Instant::now();
                mesh.offer().await?;
                times.push(began.elapsed());
            }
            Outcome::Ok(times)
        };
        let workers = join_all((0..IN_FLIGHT).map(|_| worker()));
        let small = async { (workers.await, began.elapsed()) };
        let ((small, took), large) = tokio::join!(small, large);
        large?;
        let mut all = Vec::new();
        for times in small {
            all.extend(times?);
        }
        all.sort();
        let at = |share: usize| {
            all.get(all.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        let rate = all.len() as f64 / took.as_secs_f64();
        println!(
            "{IN_FLIGHT} in flight through one relay, {name}: {rate:.0} answers/s, p50 {:.1?}, p99 {:.1?}",
            at(50),
            at(99)
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
