//! `metadata.json` and `results.json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Area;

/// Which run this was. Further members are for other programs, and not looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The run's own id.
    pub run_id: Uuid,
    /// What it was about.
    pub area: Area,
    /// The part of the specification that it is evidence for.
    pub spec: String,
    /// The commit that the program was built of, in full.
    pub git_sha: String,
    /// The program's version.
    pub software_version: String,
    /// RFC 3339.
    pub started_at: Timestamp,
    /// RFC 3339.
    pub ended_at: Timestamp,
    /// What took part; one at least.
    pub machines: Vec<Machine>,
    /// Settings that matter to what came of it.
    pub env: BTreeMap<String, serde_json::Value>,
}

/// A machine that took part, by the names that the run gives it. Its name on its network is nobody's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Machine {
    /// What it was in this run, and what it is.
    Described {
        /// Its part in the run, e.g. `this` or `relay`.
        name: String,
        /// Operating system.
        os: String,
        /// Processor.
        arch: String,
    },
    /// Other programs' ways to say so.
    Other(serde_json::Map<String, serde_json::Value>),
    /// By its part in the run alone.
    Named(String),
}

impl Machine {
    /// The machine that this program runs on.
    pub fn this() -> Self {
        Self::Described {
            name: "this".to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// An id for a run that begins now.
pub fn run_id() -> Uuid {
    Uuid::now_v7()
}

/// What came of a run. Further members are for other programs, and not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// In one word.
    pub overall: Overall,
    /// One by one.
    pub assertions: Vec<Assertion>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// Every assertion holds, and there is one.
    Pass,
    /// What the run was for did not come about.
    Fail,
    /// It did, and something else did not.
    Partial,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assertion {
    /// What.
    pub name: String,
    /// What it should be.
    pub expected: serde_json::Value,
    /// What it was.
    pub observed: serde_json::Value,
    /// Whether that is as it should be.
    pub pass: bool,
}
