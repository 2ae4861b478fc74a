//! A job whose input and result are large, and circuits that are cut in the middle of both: what has come is not sent
//! again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claim::Claim;
use super::ground::{Ground, Nodes};
use super::means::{Means, Report};
use super::namespace::Namespace;
use super::node::{Node, text};
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// Bytes of the input, and of the result.
const SIZE: u64 = 50 << 20;
/// The circuits are cut when so much has come.
const CUT_AT: u64 = SIZE / 2;
/// For how long there is no relay.
const DOWN: Duration = Duration::from_secs(2);
/// What may come twice: the chunks of 1 MiB that are asked for at a time.
const TWICE: u64 = 4 << 20;
/// What is around the bytes on the wire, in percent of them: encryption, frames, acknowledgements of what goes the
/// other way.
const AROUND: u64 = 12;
/// From one moment of the job to the next.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a counter.
const LOOK: Duration = Duration::from_millis(20);
/// What relays grant.
const RESERVATION_S: u32 = 120;
/// Takes `/data/in`, leaves `/out/inverse`: other bytes, or they would be there before they are sent.
const INVERT: &str = include_str!("invert.wat");
const MANIFEST: &str = "\
apiVersion: worldcompute/v1
kind: Job
metadata: {name: invert}
spec:
  wasm: ./invert.wat
  inputs: [{file: ./in, mount: /data/in}]
  outputs: [{name: inverse, path: /out/inverse, max_bytes: 64Mi}]
  resources: {scratch: 128Mi}
  max_wall_time: 2m
  acceptable_use_classes: [general]
";

/// Plays it.
pub fn play(claim: &Claim, means: &Means, stop: &Stop) -> Result<Report> {
    let ground = Ground::make(claim, "cut")?;
    let mut nodes = ground.start(means, RESERVATION_S, stop)?;
    nodes.all_held(stop)?;
    let submitter = ground.submitter(means, &nodes, stop)?;
    let files = Files::write(&claim.dir("cut/job")?)?;
    let begun = Instant::now();
    let [to_donor, to_submitter] = [ground.donor(), ground.submitters()];
    let mut input = Leg::begin("input", to_donor)?;
    let manifest = files.manifest.display().to_string();
    let job = submitter.ask_json(&["job", "submit", &manifest], PATIENCE, stop)?;
    let id = text(&job, "job_id");
    if id.is_empty() {
        return Err(Failure::new(format!("the job was not taken: {job}")));
    }
    input.until(CUT_AT, stop)?;
    cut(&ground, &mut nodes, means, stop)?;
    input.until(SIZE, stop)?;
    let mut result = Leg::begin("result", to_submitter)?;
    result.until(CUT_AT, stop)?;
    cut(&ground, &mut nodes, means, stop)?;
    let ended = submitter.ask_json(&["job", "status", &id, "--watch"], PATIENCE, stop)?;
    let took = begun.elapsed();
    let came = [input.came()?, result.came()?];
    let same = files.came_back(&submitter, &id, stop)?;
    Ok(report(came, took, &ended, same))
}

/// Both relays die and come back.
fn cut<'a>(
    ground: &'a Ground<'_>,
    nodes: &mut Nodes<'a>,
    means: &'a Means,
    stop: &Stop,
) -> Result<()> {
    nodes.relays.iter_mut().for_each(Node::kill);
    stop.wait(DOWN)?;
    for (index, relay) in nodes.relays.iter_mut().enumerate() {
        *relay = ground.relay(index, means, RESERVATION_S, stop)?;
    }
    Ok(())
}

/// What comes to a machine.
struct Leg<'a> {
    name: &'static str,
    to: &'a Namespace,
    before: u64,
}

impl<'a> Leg<'a> {
    fn begin(name: &'static str, to: &'a Namespace) -> Result<Self> {
        let before = received(to)?;
        Ok(Self { name, to, before })
    }

    fn came(&self) -> Result<u64> {
        Ok(received(self.to)?.saturating_sub(self.before))
    }

    fn until(&mut self, bytes: u64, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.came()? < bytes {
            if Instant::now() > deadline {
                let (name, came) = (self.name, self.came()?);
                return Err(Failure::new(format!(
                    "{came} bytes of the {name} came, and no more of {SIZE}"
                )));
            }
            stop.wait(LOOK)?;
        }
        Ok(())
    }
}

/// Bytes that came in by the one cable of a machine.
fn received(to: &Namespace) -> Result<u64> {
    let read = to.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let table = read.map_err(|error| Failure::new(format!("cannot count bytes: {error}")))?;
    counted(&table).ok_or_else(|| Failure::new("the kernel counts no bytes of eth0"))
}

fn counted(table: &str) -> Option<u64> {
    let mut lines = table.lines().map(str::trim_start);
    let counts = lines.find_map(|line| line.strip_prefix("eth0:"))?;
    counts.split_ascii_whitespace().next()?.parse().ok()
}

/// The job, and where its result goes.
pub struct Files {
    /// What is submitted.
    pub manifest: PathBuf,
    input: PathBuf,
    inverse: PathBuf,
}

impl Files {
    /// Writes the job and its input.
    pub fn write(dir: &Path) -> Result<Self> {
        let files = Self {
            manifest: dir.join("job.yaml"),
            input: dir.join("in"),
            inverse: dir.join("inverse"),
        };
        let write = |path: &Path, bytes: &[u8]| {
            let written = File::create(path).and_then(|mut file| file.write_all(bytes));
            written
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
        };
        write(&files.manifest, MANIFEST.as_bytes())?;
        write(&dir.join("invert.wat"), INVERT.as_bytes())?;
        write(&files.input, &noise(SIZE))?;
        Ok(files)
    }

    /// Whether the result of the job is what it makes of its input.
    pub fn came_back(&self, submitter: &Node<'_>, job: &str, stop: &Stop) -> Result<bool> {
        let inverse = self.inverse.display().to_string();
        let words = [
            "job", "results", job, "--name", "inverse", "--output", &inverse,
        ];
        submitter.ask(&words, PATIENCE, stop)?;
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        let expected: Vec<u8> = read(&self.input).into_iter().map(|byte| !byte).collect();
        Ok(!expected.is_empty() && read(&self.inverse) == expected)
    }
}

/// Bytes that nothing on the way makes fewer (xorshift64, Marsaglia 2003).
pub fn noise(size: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..size / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

fn report([input, result]: [u64; 2], took: Duration, ended: &Value, same: bool) -> Report {
    let most = SIZE + SIZE * AROUND / 100 + TWICE;
    let mut broken = Vec::new();
    for (name, came) in [("input", input), ("result", result)] {
        if came > most {
            broken.push(format!(
                "{came} bytes came for the {name} of {SIZE}, {most} is the most"
            ));
        }
    }
    if text(ended, "status") != "completed" {
        broken.push(format!("the job ended otherwise: {ended}"));
    }
    if !same {
        broken.push("the result is not what the job makes of its input".to_owned());
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let text = format!(
        "a job with {:.0} MiB of input and as much of a result, both circuits cut in the middle of each: {} in {:.1} s\n\
         {:.1} MiB came for the input, {:.1} MiB for the result; {:.1} MiB is the most\n",
        mib(SIZE),
        text(ended, "status"),
        took.as_secs_f64(),
        mib(input),
        mib(result),
        mib(most)
    );
    let data = json!({
        "scenario": "cut",
        "bytes": SIZE,
        "input_bytes_received": input,
        "result_bytes_received": result,
        "most_bytes": most,
        "took_ms": took.as_millis(),
        "status": super::node::text(ended, "status"),
        "attempts": ended.get("attempts"),
        "result_is_right": same,
    });
    Report { data, text, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_came_are_read_from_the_table_of_the_kernel() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    lo:  7 1 0 0 0 0 0 0 7 1\n  eth0: 1234 5 0 0 0 0 0 0 99 1\n";
        assert_eq!(counted(table), Some(1234));
        assert_eq!(counted("    lo:  7 1 0\n"), None);
    }

    #[test]
    fn what_comes_twice_a_job_that_fails_and_another_result_are_each_named() {
        let done = json!({ "status": "completed" });
        let time = Duration::ZERO;
        assert!(report([SIZE; 2], time, &done, true).broken.is_empty());
        for (report, why) in [
            (
                report([SIZE + CUT_AT, SIZE], time, &done, true),
                "for the input",
            ),
            (
                report([SIZE, SIZE + CUT_AT], time, &done, true),
                "for the result",
            ),
            (report([SIZE; 2], time, &json!({}), true), "ended otherwise"),
            (
                report([SIZE; 2], time, &done, false),
                "not what the job makes",
            ),
        ] {
            assert_eq!(report.broken.len(), 1);
            assert!(report.broken[0].contains(why), "{:?}", report.broken);
        }
    }
}
