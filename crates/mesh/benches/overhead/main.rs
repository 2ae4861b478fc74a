//! What the mesh costs beside bare libp2p of the same version, over the same transports, in the same run, on loopback.
//!
//! `cargo bench -p worldcompute-mesh` prints the memory of a node with 200 peers; the time of an answer of 1 KiB and of
//! 10 MiB, directly and through a relay; and how many offers a second are answered through one relay, alone and beside
//! something large. With the names of paths (`-- tcp relayed`) it prints the times over these and nothing else.
//! Everything but the 200 peers runs in this one process: relay, both peers and the clock share the machine's cores. The
//! sides take turns, so that other load is on all of them: the mesh, whose answers are checked against their names; bare
//! libp2p, which checks nothing; and bare libp2p whose answers are compared with their names too.

mod bare;
mod idle;
mod mesh;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use worldcompute_proof::Cid;

/// Bytes of a small answer, and of a large one.
const SMALL: usize = 1024;
const LARGE: usize = 10 * 1024 * 1024;
/// Turns of each side, and how often each size is asked for in one.
const TURNS: usize = 25;
const IN_TURN: [(usize, usize); 2] = [(SMALL, 40), (LARGE, 1)];
/// The names of what is measured.
const PATHS: [&str; 4] = ["tcp", "quic", "wss", "relayed"];
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
    let named = |path: &&str| words.iter().any(|word| word == path);
    let paths: Vec<&str> = PATHS.into_iter().filter(named).collect();
    runtime.block_on(async {
        if paths.is_empty() {
            idle::measure().await?;
            compare(&PATHS).await?;
            in_flight(&mesh::relayed().await?).await
        } else {
            compare(&paths).await
        }
    })
}

/// Prints the medians of all sides, and what the mesh takes beside the others.
async fn compare(paths: &[&str]) -> Outcome {
    println!(
        "{:<8} {:>6} {:>10} {:>10} {:>7} {:>13} {:>7}",
        "path", "size", "mesh", "bare", "more", "bare, checked", "more"
    );
    for path in paths {
        let (mesh, bare) = match *path {
            "relayed" => (mesh::relayed().await?, bare::relayed().await?),
            direct => (mesh::direct(direct).await?, bare::direct(direct).await?),
        };
        for (size, count) in IN_TURN {
            let name = Cid::raw(vec![bare::FILLING; size]);
            let checked = bare::Checked { pair: &bare, name };
            let sides: [&dyn Asks; 3] = [&mesh, &bare, &checked];
            let [mesh, bare, checked] = in_turns(sides, size, count).await?;
            let more = |than: Duration| 100.0 * (mesh.as_secs_f64() / than.as_secs_f64() - 1.0);
            println!(
                "{path:<8} {:>6} {mesh:>10.1?} {bare:>10.1?} {:>5.0} % {checked:>13.1?} {:>5.0} %",
                if size == SMALL { "1 KiB" } else { "10 MiB" },
                more(bare),
                more(checked)
            );
        }
    }
    Ok(())
}

/// The median of each.
async fn in_turns(sides: [&dyn Asks; 3], size: usize, count: usize) -> Outcome<[Duration; 3]> {
    let mut taken = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        for (side, taken) in sides.iter().zip(&mut taken) {
            taken.extend(times(*side, size, count).await?);
        }
    }
    Ok(taken.map(median))
}

async fn times(asks: &dyn Asks, bytes: usize, count: usize) -> Outcome<Vec<Duration>> {
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
