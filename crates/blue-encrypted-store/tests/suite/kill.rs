//! A process is killed at random moments. What it had acknowledged is there, and nothing is half done.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::common::{Note, note, open, partition};
use blue_encrypted_store::{Batch, PartitionVersion};

const CHILD: &str = "BLUE_STORE_KILL_CHILD";
const ROUNDS: u64 = 12;
/// How finely the moment of a kill is chosen.
const PARTS: u32 = 1_000;
/// Small commits, commits at the limit of one transaction, commits that are staged.
const SIZES: [usize; 5] = [1, 3, 98, 130, 260];

/// Commits generation after generation, and says so when each is acknowledged. Runs until it is killed.
#[tokio::test]
#[ignore = "the process that acknowledged_commits_survive_and_none_is_torn starts and kills"]
async fn child() {
    let dir = std::env::var(CHILD).unwrap();
    let store = open(Path::new(&dir)).await.unwrap();
    let partition = partition(&store);
    let loaded = partition.load().await.unwrap();
    let mut at = loaded.map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
    let mut out = std::io::stdout();
    loop {
        let size = SIZES[usize::try_from(at.get()).unwrap() % SIZES.len()];
        let mut batch = Batch::new();
        for id in 0..size {
            batch
                .put(note(format!("n{id:03}"), (at.get() + 1).to_string()))
                .unwrap();
        }
        at = partition.commit(batch, at).await.unwrap();
        writeln!(out, "ack {at}").unwrap();
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The last version that a line of the child acknowledges.
fn acknowledged(line: &str) -> Option<u64> {
    line.split("ack ").nth(1)?.trim().parse().ok()
}

/// Kills the child at a random moment of the commits after its first `acks`; returns the last version it acknowledged.
fn run_and_kill(dir: &Path, acks: usize, part: u32) -> u64 {
    let mut child = start(dir);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = 0;
        for version in lines
            .map_while(Result::ok)
            .filter_map(|line| acknowledged(&line))
        {
            last = version;
            send.send(Instant::now()).ok();
        }
        last
    });
    let times: Vec<_> = receive.iter().take(acks).collect();
    // About as long as two commits take on this machine, or a part of that.
    let usual = (*times.last().unwrap() - times[0]) / u32::try_from(acks).unwrap();
    let (_hold, never) = mpsc::channel::<()>();
    never.recv_timeout(2 * usual * part / PARTS).ok();
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// The version that wrote each note is the highest one whose batch held it: a half-done commit would show.
fn expected(version: u64, id: usize) -> String {
    let writer = (1..=version).rev().find(|made| {
        let before = usize::try_from(made - 1).unwrap();
        SIZES[before % SIZES.len()] > id
    });
    writer.unwrap().to_string()
}

#[tokio::test]
async fn acknowledged_commits_survive_and_none_is_torn() {
    let seed: u64 = std::env::var("KILL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("KILL_SEED={seed}");
    let mut state = seed;
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..ROUNDS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let acks = 2 + usize::try_from(state >> 60).unwrap() % 5;
        let part = u32::try_from((state >> 33) % u64::from(PARTS)).unwrap();
        let last = run_and_kill(dir.path(), acks, part);
        let store = open(dir.path()).await.unwrap();
        let snapshot = partition(&store).load().await.unwrap();
        let version = snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.version().get());
        assert!(
            version >= last,
            "round {round}: {last} was acknowledged, {version} is there"
        );
        total = version;
        for stored in snapshot
            .iter()
            .flat_map(|found| found.entities::<Note>().unwrap())
        {
            let id = stored.id()[1..].parse().unwrap();
            let text = &stored.value().text;
            assert_eq!(*text, expected(version, id), "round {round}: note {id}");
        }
    }
    println!("{total} commits, {ROUNDS} kills");
    assert!(total >= 2 * ROUNDS);
}
