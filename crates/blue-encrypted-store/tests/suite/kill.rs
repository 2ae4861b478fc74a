//! A process is killed at random moments. What it had acknowledged is there, and nothing is half done.
//!
//! With the embedded engine that process is client and engine in one. On DynamoDB Local there are two to kill.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::common::{Note, note, open, partition};
use blue_encrypted_store::{Batch, PartitionVersion, Snapshot, Store};

pub const CHILD: &str = "BLUE_STORE_KILL_CHILD";
/// The server on which the child works, instead of the embedded engine.
pub const ENDPOINT: &str = "BLUE_STORE_KILL_ENDPOINT";
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
    let endpoint = std::env::var(ENDPOINT).ok();
    let store = reopen(Path::new(&dir), endpoint.as_deref()).await;
    let partition = partition(&store);
    let loaded = partition.load().await.unwrap();
    let mut at = loaded.map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
    let mut out = std::io::stdout();
    loop {
        at = partition.commit(generation(at), at).await.unwrap();
        writeln!(out, "ack {at}").unwrap();
    }
}

/// The commit after version `at`.
fn generation(at: PartitionVersion) -> Batch {
    let size = SIZES[usize::try_from(at.get()).unwrap() % SIZES.len()];
    let mut batch = Batch::new();
    for id in 0..size {
        batch
            .put(note(format!("n{id:03}"), (at.get() + 1).to_string()))
            .unwrap();
    }
    batch
}

pub async fn reopen(dir: &Path, endpoint: Option<&str>) -> Store {
    let Some(endpoint) = endpoint else {
        return open(dir).await.unwrap();
    };
    #[cfg(feature = "aws")]
    return crate::common::open_at(endpoint, &table_of(dir), dir)
        .await
        .unwrap();
    #[cfg(not(feature = "aws"))]
    panic!("{endpoint} is out of reach without the feature aws");
}

/// A table for each test that has a directory of its own.
#[cfg(feature = "aws")]
fn table_of(dir: &Path) -> String {
    let name = dir.file_name().unwrap().to_str().unwrap();
    format!("kill-{}", name.trim_start_matches('.'))
}

/// The test that a child runs, where it works, and the server that it works on.
#[derive(Clone, Copy)]
pub struct Victim<'a> {
    pub test: &'a str,
    pub dir: &'a Path,
    pub endpoint: Option<&'a str>,
}

fn start(
    Victim {
        test,
        dir,
        endpoint,
    }: Victim,
) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(CHILD, dir)
        .envs(endpoint.map(|endpoint| (ENDPOINT, endpoint)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The last version that a line of the child acknowledges.
fn acknowledged(line: &str) -> Option<u64> {
    line.split("ack ").nth(1)?.trim().parse().ok()
}

/// Kills the child at a random moment after its first `acks`; returns the last one.
pub fn run_and_kill(victim: Victim, (acks, part): (usize, u32)) -> u64 {
    let mut child = start(victim);
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

/// Every note is of the version that it has to be of: a commit that was done in part would show.
fn check_whole(snapshot: Option<&Snapshot>, when: &str) -> u64 {
    let version = snapshot.map_or(0, |snapshot| snapshot.version().get());
    for stored in snapshot
        .iter()
        .flat_map(|found| found.entities::<Note>().unwrap())
    {
        let id = stored.id()[1..].parse().unwrap();
        let text = &stored.value().text;
        assert_eq!(*text, expected(version, id), "{when}: note {id}");
    }
    version
}

/// Numbers that are the same for the same `KILL_SEED`.
pub struct Seeded(u64);

impl Seeded {
    pub fn new() -> Self {
        let seed: u64 = std::env::var("KILL_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| u64::from(std::process::id()));
        println!("KILL_SEED={seed}");
        Self(seed)
    }

    /// How many commits to wait for, and what part of two more.
    pub fn moment(&mut self) -> (usize, u32) {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let acks = 2 + usize::try_from(self.0 >> 60).unwrap() % 5;
        let part = u32::try_from((self.0 >> 33) % u64::from(PARTS)).unwrap();
        (acks, part)
    }
}

async fn kill_clients(endpoint: Option<&str>) {
    let mut seeded = Seeded::new();
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..ROUNDS {
        let victim = Victim {
            test: "kill::child",
            dir: dir.path(),
            endpoint,
        };
        let last = run_and_kill(victim, seeded.moment());
        let store = reopen(dir.path(), endpoint).await;
        let snapshot = partition(&store).load().await.unwrap();
        total = check_whole(snapshot.as_ref(), &format!("round {round}"));
        assert!(
            total >= last,
            "round {round}: {last} was acknowledged, {total} is there"
        );
    }
    println!("{total} commits, {ROUNDS} kills");
    assert!(total >= 2 * ROUNDS);
}

#[tokio::test]
async fn acknowledged_commits_survive_and_none_is_torn() {
    kill_clients(None).await;
}

#[cfg(feature = "aws")]
mod on_dynamodb_local {
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::time::Duration;

    use tempfile::TempDir;
    use worldcompute_fault::Result;

    use super::*;
    use crate::common::{key_path, open_at};

    const SERVER_ROUNDS: u64 = 5;
    /// How long a server may take to start on a busy machine.
    const START: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn acknowledged_commits_survive_the_client_and_none_is_torn() {
        let Ok(endpoint) = std::env::var("DYNAMODB_ENDPOINT") else {
            println!("skipped: DYNAMODB_ENDPOINT is not set");
            return;
        };
        kill_clients(Some(&endpoint)).await;
    }

    /// A DynamoDB Local of our own.
    struct Server {
        home: PathBuf,
        data: PathBuf,
        port: u16,
        process: Option<Child>,
    }

    impl Server {
        fn new(home: PathBuf, data: PathBuf) -> Self {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            let process = None;
            Self {
                home,
                data,
                port,
                process,
            }
        }

        fn endpoint(&self) -> String {
            format!("http://127.0.0.1:{}", self.port)
        }

        /// Starts it, and opens the store as soon as it answers.
        async fn start(&mut self, dir: &Path) -> Result<Store> {
            let libraries = self.home.join("DynamoDBLocal_lib");
            let child = Command::new("java")
                .arg("-Xmx512m")
                .arg(format!("-Djava.library.path={}", libraries.display()))
                .arg("-jar")
                .arg(self.home.join("DynamoDBLocal.jar"))
                .args(["-disableTelemetry", "-sharedDb", "-dbPath"])
                .arg(&self.data)
                .args(["-port", &self.port.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.process = Some(child.unwrap());
            let deadline = Instant::now() + START;
            loop {
                match open_at(&self.endpoint(), "kill-server", dir).await {
                    Err(fault) if fault.code() == "store_unreachable" => {
                        assert!(Instant::now() < deadline, "{fault}");
                    }
                    opened => return opened,
                }
            }
        }

        fn kill(&mut self) {
            if let Some(mut process) = self.process.take() {
                process.kill().unwrap();
                process.wait().unwrap();
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.kill();
        }
    }

    /// Commits until the server is gone; says how far that was acknowledged.
    async fn commit_until_it_ends(store: Store, acks: mpsc::Sender<u64>) -> u64 {
        let partition = partition(&store);
        let loaded = partition.load().await.unwrap();
        let mut at = loaded.map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
        loop {
            match partition.commit(generation(at), at).await {
                Ok(next) => at = next,
                Err(fault) => {
                    assert_eq!(fault.code(), "store_unreachable", "{fault}");
                    return at.get();
                }
            }
            acks.send(at.get()).ok();
        }
    }

    /// DynamoDB Local may forget what it acknowledged just before it is killed. That is told, never passed over; and a
    /// transaction that it forgets is forgotten whole.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_killed_server_forgets_is_told_and_nothing_is_torn() {
        let Ok(home) = std::env::var("DYNAMODB_LOCAL_HOME") else {
            println!("skipped: DYNAMODB_LOCAL_HOME is not set");
            return;
        };
        let mut seeded = Seeded::new();
        let (data, mut dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut server = Server::new(home.into(), data.path().to_owned());
        let mut store = server.start(dir.path()).await.unwrap();
        let (mut forgotten, mut total) = (0, 0);
        for round in 0..SERVER_ROUNDS {
            let (send, receive) = mpsc::channel();
            let writer = tokio::spawn(commit_until_it_ends(store, send));
            let (acks, _) = seeded.moment();
            let waited = tokio::task::spawn_blocking(move || receive.iter().take(acks).count());
            assert_eq!(waited.await.unwrap(), acks);
            server.kill();
            let last = writer.await.unwrap();
            let opened = server.start(dir.path()).await;
            match found(opened).await {
                Ok((opened, snapshot)) => {
                    total = check_whole(snapshot.as_ref(), &format!("round {round}"));
                    assert!(total >= last, "round {round}: {total}, acknowledged {last}");
                    store = opened;
                }
                Err(fault) => {
                    let told = ["version_rolled_back", "audit_chain_broken"];
                    assert!(told.contains(&fault.code()), "round {round}: {fault}");
                    forgotten += 1;
                    (dir, store) = as_a_stranger(&server, dir).await;
                    let snapshot = partition(&store).load().await.unwrap();
                    total = check_whole(snapshot.as_ref(), &format!("round {round}, stranger"));
                    assert!(
                        total <= last + 1,
                        "round {round}: {total}, acknowledged {last}"
                    );
                }
            }
        }
        println!(
            "{total} commits, {SERVER_ROUNDS} kills of the server, {forgotten} times it had forgotten"
        );
        assert!(total > SERVER_ROUNDS);
    }

    async fn found(opened: Result<Store>) -> Result<(Store, Option<Snapshot>)> {
        let store = opened?;
        let snapshot = partition(&store).load().await?;
        Ok((store, snapshot))
    }

    /// Opens the store on a machine that does not know how far it was.
    async fn as_a_stranger(server: &Server, old: TempDir) -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let keys = key_path(dir.path());
        std::fs::create_dir(keys.parent().unwrap()).unwrap();
        std::fs::copy(key_path(old.path()), &keys).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(keys.parent().unwrap(), private).unwrap();
        let store = open_at(&server.endpoint(), "kill-server", dir.path()).await;
        (dir, store.unwrap())
    }
}
