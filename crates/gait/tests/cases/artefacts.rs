//! What the program writes, against the JSON Schemas of what it claims to write.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::case::Failure;
use crate::data::{Schemas, values};
use crate::program::Program;

/// A command that writes something, and where that lies: a file, or an entry of an archive.
struct Artefact {
    command: &'static str,
    file: &'static str,
    entry: &'static str,
    schema: &'static str,
}

const fn artefact(
    command: &'static str,
    file: &'static str,
    entry: &'static str,
    schema: &'static str,
) -> Artefact {
    Artefact {
        command,
        file,
        entry,
        schema,
    }
}

const EVAL: &str = "gate eval --policy approvals/policy.yaml --intent approvals/intent_write.json \
    --approval-token approvals/ok.json --approval-public-key approvals/a_public.key --json";
const APPROVE: &str = "approve --intent-digest aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
    --policy-digest bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb --ttl 1h \
    --scope tool:tool.write --approver boss --reason-code reviewed --out OUT --json";
const DEMO: &str = "demo --json";
const DEMO_RUNPACK: &str = "gait-out/runpack_run_demo.zip";
const PACK: &str = "pack build --type run --from run_demo --out OUT --json";
const GUARD: &str = "guard pack --run run_demo --out OUT --json";
const REGRESS: &str = "(cd regress/pass) regress run --output R --junit J --json";

const ARTEFACTS: [Artefact; 13] = [
    artefact(EVAL, "trace.json", "", "gate/trace_record"),
    artefact(
        EVAL,
        "approval_audit.json",
        "",
        "gate/approval_audit_record",
    ),
    artefact(APPROVE, "OUT", "", "gate/approval_token"),
    artefact(DEMO, DEMO_RUNPACK, "manifest.json", "runpack/manifest"),
    artefact(DEMO, DEMO_RUNPACK, "run.json", "runpack/run"),
    artefact(DEMO, DEMO_RUNPACK, "intents.jsonl", "runpack/intent"),
    artefact(DEMO, DEMO_RUNPACK, "results.jsonl", "runpack/result"),
    artefact(DEMO, DEMO_RUNPACK, "refs.json", "runpack/refs"),
    artefact(PACK, "OUT", "pack_manifest.json", "pack/manifest"),
    artefact(PACK, "OUT", "run_payload.json", "pack/run"),
    artefact(GUARD, "OUT", "pack_manifest.json", "guard/pack_manifest"),
    artefact(REGRESS, "R", "", "regress/regress_result"),
    artefact(
        "kill-switch add --state OUT --tool-name tool.write --json",
        "OUT",
        "",
        "gate/kill_switch_state",
    ),
];

/// Makes every artefact and checks it.
pub fn check(program: &Program, schemas: &Schemas) -> Vec<Result<(), Failure>> {
    let one = |artefact: &Artefact| {
        check_one(program, schemas, artefact)
            .map_err(|why| Failure::new(format!("{} {}: {why}", artefact.schema, artefact.command)))
    };
    ARTEFACTS.iter().map(one).collect()
}

fn check_one(program: &Program, schemas: &Schemas, artefact: &Artefact) -> Result<(), Failure> {
    let ran = program.run_line(artefact.command, "")?;
    if ran.exit != 0 {
        return Err(Failure::new(format!("exit {}: {}", ran.exit, ran.output)));
    }
    let path = match artefact.file {
        DEMO_RUNPACK => program.path(DEMO_RUNPACK),
        name => ran.places.of(name),
    };
    let text = match artefact.entry {
        "" => fs::read_to_string(&path)?,
        entry => entry_of(&path, entry)?,
    };
    let schema = format!("schemas/v1/{}.schema.json", artefact.schema);
    let found: Vec<Value> = values(&text);
    if found.is_empty() {
        return Err(Failure::new("it is empty"));
    }
    found
        .iter()
        .try_for_each(|value| schemas.validate(&schema, value))
}

fn entry_of(archive: &Path, entry: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    archive.by_name(entry)?.read_to_string(&mut text)?;
    Ok(text)
}
