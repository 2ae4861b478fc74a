//! The conformance cases of the gate, run against the `gait` program, with a tally per family.
//!
//! Every case runs in a scratch copy of the folder of cases, which is `GAIT_CASES` or `shared/cases/gait` in or beside
//! the checkout. The cases in `own.jsonl` beside this file bring their files along; their expectations follow from the
//! same contract. An index that leaves something out fails as a case does. A case whose note marks a defect of the
//! implementation that the expectation was taken from has to come out as its note says, not as that implementation does.

#![expect(
    clippy::indexing_slicing,
    reason = "a field that a JSON value lacks is null"
)]

mod artefacts;
mod case;
mod compare;
mod data;
mod expected;
mod program;
mod served;
#[expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a service that does not answer ends the test"
)]
#[path = "../support/serving.rs"]
mod serving;
mod tally;

use std::path::{Path, PathBuf};

use case::{Case, Failure, KINDS};
use program::Program;
use tally::Tally;

#[test]
fn the_conformance_cases_hold() {
    let Some(folder) = folder() else {
        println!("skipped: no folder shared/cases/gait in or beside the checkout");
        return;
    };
    let tally = run(&folder).unwrap_or_else(|failure| panic!("{}: {failure}", folder.display()));
    println!("{tally}");
    assert!(!tally.failed(), "{tally}");
}

#[test]
fn a_served_decision_is_the_one_shot_decision_byte_for_byte() {
    let Some(folder) = folder() else {
        println!("skipped: no folder shared/cases/gait in or beside the checkout");
        return;
    };
    let tally = served::run(&folder).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally}");
    assert!(!tally.failed(), "{tally}");
}

fn folder() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let beside = ["shared/cases/gait", "../shared/cases/gait"].map(|folder| checkout.join(folder));
    let named = std::env::var_os("GAIT_CASES").map(PathBuf::from);
    match named {
        Some(named) => Some(named),
        None => beside
            .into_iter()
            .find(|folder| folder.join("index.tsv").is_file()),
    }
}

/// Cases of our own: neighbours of the shared ones, and what the shared ones leave out.
const OWN: &str = include_str!("own.jsonl");

fn run(folder: &Path) -> Result<Tally, Failure> {
    let mut cases = case::read(&folder.join("index.tsv"))?;
    cases.extend(case::own(OWN)?);
    let program = Program::new(folder, &cases)?;
    let mut tally = Tally::default();
    tally.conclude("index", case::faults(&program.path(""), &cases)?);
    let schemas = data::Schemas::read(&program.path("schemas"))?;
    for case in &cases {
        let outcome = check(&program, &schemas, case);
        tally.note(case, outcome);
    }
    tally.conclude("artefacts", artefacts::check(&program, &schemas));
    Ok(tally)
}

fn check(program: &Program, schemas: &data::Schemas, case: &Case) -> Result<(), Failure> {
    match case.kind.as_str() {
        "jcs" => data::canonical(program, case),
        "schema_validate" => schemas.check(program, case),
        "error_envelope" => data::envelope(program, case),
        "intent_digest_eq" => compare::equal_digests(program, case),
        "gate_eval_sequence" => compare::sequence(program, case),
        "gate_eval_concurrent" => compare::concurrent(program, case),
        "pack_roundtrip" => compare::roundtrip(program, case),
        "run_record_entries" => compare::entries(program, case),
        kind if KINDS.contains(&kind) => compare::one(program, case),
        kind => Err(Failure::new(format!("the family {kind} is unknown"))),
    }
}
