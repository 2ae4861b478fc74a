//! Two local networks without internet, each of which runs jobs, and what comes of them when both get a way to a relay.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::internet::{Internet, Lan};
use super::means::{Means, Report};
use super::node::{ANSWER_TIME, Node, run_for, text};
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// In which the two are one.
const LIMIT: Duration = Duration::from_secs(60);
/// In which neighbours find each other, a job ends, and the two are one at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at who is there.
const LOOK: Duration = Duration::from_millis(200);
/// Tasks of the job that is under way when the two become one.
const TASKS: u32 = 60;
const HELLO: &str = include_str!("../../../examples/hello/hello.wat");

/// A local network with a donor and somebody who has only jobs.
struct Island<'a> {
    lan: &'a Lan,
    donor: Node<'a>,
    submitter: Node<'a>,
}

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let internet = Internet::make(claim, "island", Duration::ZERO)?;
    let host = internet.host("relay", 1)?;
    let lans = [internet.lan("north", 2)?, internet.lan("south", 3)?];
    let start = |namespace, name: &str, words: &[&str]| {
        let home = claim.dir(&format!("island/{name}"))?;
        let node = Node::start(namespace, &means.worldcompute, home, words, stop)?;
        node.map_err(|why| Failure::new(format!("{name}: {why}")))
    };
    let relay = start(
        &host.namespace,
        "relay",
        &["relay", "--no-mdns", "--wss-listen"],
    )?;
    let public = format!("/ip4/{}/", host.addresses[0]);
    let known = relay
        .addresses
        .iter()
        .filter(|one| one.starts_with(&public));
    let known = known.cloned().collect::<Vec<_>>().join(",");
    let join = ["donor", "join", "--bootstrap", &known];
    let island = |lan, name: &str| {
        let [one, other] = Lan::machines(lan);
        let jobs_only = [&join[..], &["--consent", "rendering"]].concat();
        Ok(Island {
            lan,
            donor: start(one, &format!("{name}-donor"), &join)?,
            submitter: start(other, &format!("{name}-submitter"), &jobs_only)?,
        })
    };
    let [north, south] = &lans;
    let islands = [island(north, "north")?, island(south, "south")?];
    let jobs = Jobs::write(&claim.dir("island/jobs")?, means, stop)?;
    told(&islands, &jobs, stop)
}

fn told(islands: &[Island<'_>; 2], jobs: &Jobs<'_>, stop: &Stop) -> Result<Report> {
    let mut broken = Vec::new();
    let [north, south] = islands;
    for island in islands {
        sees(&island.submitter, &island.donor.peer, stop)?;
    }
    for island in islands {
        let alone = jobs.run(&island.submitter, "one")?;
        broken.extend(jobs.wrong("a job on an island", &alone, &island.donor)?);
    }
    let under_way = [
        jobs.submit(&north.submitter, "many")?,
        jobs.submit(&south.submitter, "many")?,
    ];
    islands.iter().try_for_each(|island| island.lan.connect())?;
    let since = Instant::now();
    sees(&north.submitter, &south.donor.peer, stop)?;
    sees(&south.submitter, &north.donor.peer, stop)?;
    let merged = since.elapsed();
    if merged > LIMIT {
        broken.push(format!("the two were one after {merged:?}"));
    }
    for (island, job) in islands.iter().zip(&under_way) {
        let ended = jobs.end(&island.submitter, job)?;
        broken.extend(jobs.whole("a job that was under way", &ended)?);
    }
    north.donor.ask(&["donor", "pause"], ANSWER_TIME, stop)?;
    let across = jobs.run(&north.submitter, "one")?;
    broken.extend(jobs.wrong("a job across", &across, &south.donor)?);
    Ok(Report {
        data: json!({
            "scenario": "island",
            "merged_ms": merged.as_millis(),
            "tasks_under_way": 2 * TASKS,
        }),
        text: format!(
            "two islands became one in {:.1} s; {} tasks that were under way came to verified receipts, and a job went across\n",
            merged.as_secs_f64(),
            2 * TASKS
        ),
        broken,
    })
}

/// Waits until a node sees another as a donor that is there.
pub fn sees(node: &Node<'_>, donor: &str, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let peers = node.ask_json(&["cluster", "peers"], ANSWER_TIME, stop)?;
        let there = |peer: &Value| {
            text(peer, "peer_id") == donor && peer.get("capacity").is_some_and(Value::is_object)
        };
        if peers
            .as_array()
            .is_some_and(|peers| peers.iter().any(there))
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("a donor is not seen: {peers}")));
        }
        stop.wait(LOOK)?;
    }
}

/// Jobs, and what is to come of them.
pub struct Jobs<'a> {
    one: String,
    many: String,
    long: String,
    means: &'a Means,
    stop: &'a Stop,
}

impl<'a> Jobs<'a> {
    /// Writes their manifests.
    pub fn write(dir: &Path, means: &'a Means, stop: &'a Stop) -> Result<Self> {
        let write = |name: &str, content: &str| {
            let path = dir.join(name);
            let written =
                File::create(&path).and_then(|mut file| file.write_all(content.as_bytes()));
            written.map_err(|error| {
                Failure::new(format!("cannot write {}: {error}", path.display()))
            })?;
            Ok(path.display().to_string())
        };
        let job = |name: &str, count: u32, time: &str| {
            format!(
                "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  wasm: ./hello.wat\n  \
                 array: {{count: {count}}}\n  max_wall_time: {time}\n  acceptable_use_classes: [general]\n"
            )
        };
        write("hello.wat", HELLO)?;
        Ok(Self {
            one: write("one.yaml", &job("one", 1, "10s"))?,
            many: write("many.yaml", &job("many", TASKS, "10s"))?,
            long: write("long.yaml", &job("long", 1, "1h"))?,
            means,
            stop,
        })
    }

    /// Submits one of them: a small one, one of many tasks, or one whose task may take an hour.
    pub fn submit(&self, submitter: &Node<'_>, name: &str) -> Result<String> {
        let manifest = match name {
            "one" => &self.one,
            "long" => &self.long,
            _ => &self.many,
        };
        let job = submitter.ask_json(&["job", "submit", manifest], ANSWER_TIME, self.stop)?;
        match text(&job, "job_id") {
            id if id.is_empty() => Err(Failure::new(format!("a job was not taken: {job}"))),
            id => Ok(id),
        }
    }

    /// Waits for the end of one.
    pub fn end(&self, submitter: &Node<'_>, id: &str) -> Result<Value> {
        submitter.ask_json(&["job", "status", id, "--watch"], PATIENCE, self.stop)
    }

    /// Runs one to its end.
    pub fn run(&self, submitter: &Node<'_>, name: &str) -> Result<Value> {
        let id = self.submit(submitter, name)?;
        self.end(submitter, &id)
    }

    /// Runs one after the other until then, one at least, or until one is wrong: how many were done, and what was wrong.
    pub fn run_until(
        &self,
        until: Instant,
        what: &str,
        submitter: &Node<'_>,
        donor: &Node<'_>,
    ) -> Result<(u64, Vec<String>)> {
        let (mut done, mut wrong) = (0, Vec::new());
        while wrong.is_empty() && (done == 0 || Instant::now() < until) {
            let ended = self.run(submitter, "one")?;
            wrong.extend(self.wrong(what, &ended, donor)?);
            done += 1;
        }
        Ok((done, wrong))
    }

    /// What is wrong with a job that was to run on this donor.
    pub fn wrong(&self, what: &str, ended: &Value, donor: &Node<'_>) -> Result<Option<String>> {
        let executors = ended.get("executors");
        let ran = executors.is_some_and(|executors| executors.get(&donor.peer).is_some());
        match ran {
            true => self.whole(what, ended),
            false => Ok(Some(format!("{what} did not run where it was to: {ended}"))),
        }
    }

    /// What is wrong with a job: a task that did not complete, a receipt that is missing or does not verify offline.
    fn whole(&self, what: &str, ended: &Value) -> Result<Option<String>> {
        let mut verify = Command::new(&self.means.worldcompute);
        verify.args(["verify", &text(ended, "evidence"), "--json"]);
        let verdict = run_for(verify, PATIENCE, self.stop)?;
        let verdict = verdict.map(|said| said.json()).unwrap_or_default();
        let sound = text(ended, "status") == "completed"
            && ended.get("receipt_verified") == Some(&Value::Bool(true))
            && verdict.get("ok") == Some(&Value::Bool(true));
        Ok((!sound).then(|| format!("{what} came to {ended}, its evidence to {verdict}")))
    }
}
