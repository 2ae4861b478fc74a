//! The scoreboard as a bundle of evidence, as `worldcompute admin firewall-diagnose` writes them.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use worldcompute_evidence::{
    Area, Assertion, Bundle, Commit, Machine, Metadata, Overall, Results, run_id,
};

use super::scenario::{Outcome, Played};
use super::tools;
use crate::shell::{Failure, Result};

/// The phase of the project that evidence of networks belongs to, and what it is evidence for.
const PHASE: u8 = 1;
const SPEC: &str = "world-compute 1.A";

/// A run of which there is to be evidence.
pub struct Witness {
    commit: Commit,
    /// Whether the checkout is that commit and nothing else.
    clean: bool,
    began: Timestamp,
    dir: PathBuf,
}

impl Witness {
    /// Of a run that begins now on the checkout in `root`, whose evidence goes below `dir`.
    ///
    /// # Errors
    /// When git cannot tell which commit that is: nobody could tell of what the evidence was.
    pub fn begin(root: &Path, dir: PathBuf) -> Result<Self> {
        let root = root.display().to_string();
        let git = |words: &[&str]| tools::call("git", &[&["-C", &root], words].concat());
        let commit = git(&["rev-parse", "HEAD"])?.trim().parse();
        Ok(Self {
            commit: commit.map_err(|_| failed("git names no commit"))?,
            clean: git(&["status", "--porcelain"])?.is_empty(),
            began: Timestamp::now(),
            dir,
        })
    }

    /// Writes what came of it: the scoreboard as `table` and cell by cell. Returns where.
    pub fn write(
        &self,
        (program, sum): (&str, &str),
        played: &[Played],
        cells: &[Value],
        table: &str,
    ) -> Result<PathBuf> {
        let trace: Vec<String> = cells.iter().map(|cell| format!("{cell}\n")).collect();
        let overall = overall(played);
        let bundle = Bundle {
            phase: PHASE,
            metadata: self.metadata(program, sum),
            results: Results {
                overall,
                assertions: played.iter().map(assertion).collect(),
            },
            run_log: table.to_owned(),
            trace: Some(trace.concat()),
            index: format!(
                "# Whole jobs behind NATs and firewalls\n\n{program}: {overall:?}. `run.log` is the scoreboard, \
                 `trace.jsonl` has every cell with its times.\n"
            ),
        };
        let written = bundle.write(&self.dir);
        written.map_err(|fault| failed(fault.message()))
    }

    fn metadata(&self, program: &str, sum: &str) -> Metadata {
        Metadata {
            run_id: run_id(),
            area: Area::firewall_traversal(),
            spec: SPEC.to_owned(),
            git_sha: self.commit.to_string(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.began,
            ended_at: Timestamp::now().max(self.began),
            machines: vec![Machine::this()],
            env: [
                ("program".to_owned(), json!(program)),
                ("program_sha256".to_owned(), json!(sum)),
                ("checkout_is_commit".to_owned(), json!(self.clean)),
            ]
            .into(),
        }
    }
}

fn overall(played: &[Played]) -> Overall {
    let failed = |played: &&Played| played.outcome == Outcome::Failed;
    match played.iter().filter(failed).count() {
        0 => Overall::Pass,
        count if count < played.len() => Overall::Partial,
        _ => Overall::Fail,
    }
}

fn assertion(played: &Played) -> Assertion {
    let profile = played.cell.profile;
    let refused = profile.inspects() && !profile.trusts_inspection();
    let expected = match refused {
        true => "refused, and both sides said so",
        false => "a verified result",
    };
    let observed = match played.outcome {
        Outcome::Failed => json!(played.why),
        outcome => json!(outcome.name()),
    };
    Assertion {
        name: played.cell.to_string(),
        expected: json!(expected),
        observed,
        pass: played.outcome != Outcome::Failed,
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(format!("no evidence was written: {why}"))
}
