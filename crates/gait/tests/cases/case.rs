//! One line of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Why a case, or the run as a whole, does not come out.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// In words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A command, and what is expected of it.
pub struct Case {
    /// Its name.
    pub id: String,
    /// Its family.
    pub kind: String,
    /// Files, relative to the folder.
    pub inputs: Vec<String>,
    /// The words after the program's name.
    pub command: String,
    /// What comes after the command's `#`.
    pub comment: String,
    /// What has to come out.
    pub expected: Value,
    /// Why that is a defect; empty when it is none.
    pub note: String,
    /// Files that it brings along.
    pub files: BTreeMap<String, String>,
}

impl Case {
    /// An expected field; null when the case does not name it.
    pub fn expects(&self, field: &str) -> &Value {
        self.expected.get(field).unwrap_or(&Value::Null)
    }

    /// An expected field that the case has to name, as text.
    pub fn demands(&self, field: &str) -> Result<&str, Failure> {
        let demanded = self.expects(field).as_str();
        demanded.ok_or_else(|| Failure::new(format!("the case does not say {field}")))
    }

    /// An input by its place.
    pub fn input(&self, place: usize) -> Result<&str, Failure> {
        let input = self.inputs.get(place).map(String::as_str);
        input.ok_or_else(|| Failure::new("an input is missing from the case"))
    }

    /// The folder that its command goes into.
    pub fn folder(&self) -> Option<&str> {
        let rest = self.command.strip_prefix("(cd ")?;
        rest.split_once(')').map(|(folder, _)| folder)
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        let inputs = self.inputs.iter().flat_map(|input| input.split(','));
        let inputs = inputs.map(|input| input.split_once(':').map_or(input, |(file, _)| file));
        inputs.filter(|input| *input != "-")
    }
}

/// The families, each of which some case has to be of.
pub const KINDS: [&str; 30] = [
    "cli_error",
    "error_envelope",
    "gate_eval",
    "gate_eval_approval",
    "gate_eval_concurrent",
    "gate_eval_sequence",
    "guard_verify",
    "intent_digest",
    "intent_digest_eq",
    "jcs",
    "mcp_proxy",
    "mcp_verify",
    "pack_diff",
    "pack_roundtrip",
    "pack_verify",
    "policy_test",
    "policy_validate",
    "registry_install",
    "registry_install_remote",
    "regress_run",
    "run_diff",
    "run_inspect",
    "run_record",
    "run_record_entries",
    "run_reduce",
    "run_replay",
    "runpack_verify",
    "schema_validate",
    "trace_verify",
    "verify_session_chain",
];

const HEADER: &str = "case\tkind\tinputs\tcommand\texpected\texpected_source\tnote";

/// Every case of the index at `path`.
pub fn read(path: &Path) -> Result<Vec<Case>, Failure> {
    let index = fs::read_to_string(path)?;
    let mut lines = index.lines();
    if lines.next() != Some(HEADER) {
        return Err(Failure::new(format!("{}: not an index", path.display())));
    }
    lines.map(parse).collect()
}

fn parse(line: &str) -> Result<Case, Failure> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, kind, inputs, command, expected, _, note] = fields.as_slice() else {
        return Err(Failure::new(format!("not a case: {line}")));
    };
    let (command, comment) = command.split_once("   # ").unwrap_or((command, ""));
    Ok(Case {
        id: (*id).to_owned(),
        kind: (*kind).to_owned(),
        inputs: inputs.split(';').map(str::to_owned).collect(),
        command: command.to_owned(),
        comment: comment.to_owned(),
        expected: serde_json::from_str(expected)?,
        note: (*note).to_owned(),
        files: BTreeMap::new(),
    })
}

/// A case of our own, with what it needs in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    case: String,
    kind: String,
    #[serde(default)]
    inputs: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    command: String,
    expected: Value,
}

/// The cases of our own, one a line of `text`.
pub fn own(text: &str) -> Result<Vec<Case>, Failure> {
    let parse = |line: &str| {
        let own: Own = serde_json::from_str(line)?;
        let inputs = own.inputs.into_iter().chain(own.files.keys().cloned());
        Ok(Case {
            id: own.case,
            kind: own.kind,
            inputs: inputs.collect(),
            command: own.command,
            comment: String::new(),
            expected: own.expected,
            note: String::new(),
            files: own.files,
        })
    };
    text.lines().map(parse).collect()
}

/// Inputs that are not there, which is what their cases are about.
const MEANT_TO_BE_MISSING: [&str; 5] = [
    "approvals/nope.json",
    "gate/scenarios/wrkr-missing-fail-closed-high-risk/missing_wrkr_inventory.json",
    "registry/nope.json",
    "regress/no_config/gait.yaml",
    "traces/nope.json",
];

/// Files that no case is about: texts for people, what expectations were taken from, and what other files refer to.
const NO_CASES: [&str; 11] = [
    "README.md",
    "/expected.yaml",
    "/flags.yaml",
    "/expected-verdicts.jsonl",
    "/intents.jsonl",
    "/src.zip",
    "gate/goldens/",
    "gate/examples/external_tool_allowlist.json",
    "gate/examples/kill_switch/kill_switch_journal.jsonl",
    "schemas/",
    "index.tsv",
];

/// What is wrong with the index as such: two cases of a name, a family that is unknown or has no case, a case without its
/// files or expectations, a file without a case.
pub fn faults(folder: &Path, cases: &[Case]) -> Result<Vec<Result<(), Failure>>, Failure> {
    let mut faults = Vec::new();
    let mut fault = |why: String| faults.push(Err(Failure::new(why)));
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for case in cases {
        *by_kind.entry(&case.kind).or_default() += 1;
        if !ids.insert(&case.id) {
            fault(format!("{}: there are two of that name", case.id));
        }
        if case
            .expected
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
        {
            fault(format!("{}: it expects nothing", case.id));
        }
        for file in case.files() {
            let missing = !folder.join(file).is_file();
            if missing != MEANT_TO_BE_MISSING.contains(&file) {
                let what = if missing { "is not there" } else { "is there" };
                fault(format!("{}: {file} {what}", case.id));
            }
        }
    }
    for kind in KINDS.iter().filter(|kind| !by_kind.contains_key(*kind)) {
        fault(format!("no case is of the family {kind}"));
    }
    for file in unused(folder, cases)? {
        fault(format!("no case is about {file}"));
    }
    Ok(faults)
}

fn unused(folder: &Path, cases: &[Case]) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    for case in cases {
        text += &format!(
            "{} {} {}\n",
            case.inputs.join(" "),
            case.command,
            case.expected
        );
    }
    let folders: Vec<&str> = cases.iter().filter_map(Case::folder).collect();
    let mut files = Vec::new();
    walk(folder, folder, &mut files)?;
    let used = |file: &String| {
        text.contains(file.as_str())
            || folders
                .iter()
                .any(|folder| file.starts_with(&format!("{folder}/")))
            || NO_CASES
                .iter()
                .any(|part| file.starts_with(part) || file.ends_with(part))
    };
    files.retain(|file| !used(file));
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
