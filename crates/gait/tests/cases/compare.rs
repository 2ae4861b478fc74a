//! Cases that run a command and look at its exit code and its JSON.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

use serde_json::{Map, Value, json};
use worldcompute_proof::Sha256;

use crate::case::{Case, Failure};
use crate::expected::{is_compared, right, same};
use crate::program::{Program, Ran};

/// One command.
pub fn one(program: &Program, case: &Case) -> Result<(), Failure> {
    let ran = program.run(case)?;
    if let Some(right) = right(case) {
        let category = ran.output["error_category"].as_str();
        // A verdict on an artefact is no error, and has no category; everything else has one.
        let verdict = right.exit == 2 && ran.output["error"].is_null();
        let fits = verdict || category.is_some_and(|category| right.categories.contains(&category));
        return match ran.exit == right.exit && ran.output["ok"] == json!(false) && fits {
            true => Ok(()),
            false => Err(differs(
                "exit, ok, category",
                &json!(right.exit),
                &outcome(&ran),
            )),
        };
    }
    exit(case, &ran)?;
    let expected = case.expected.as_object().cloned();
    let mut expected = expected.ok_or_else(|| Failure::new("the case expects no fields"))?;
    if let Some(detail) = expected.remove("detail") {
        let detail = detail
            .as_str()
            .ok_or_else(|| Failure::new("detail names no file"))?;
        let detail = fs::read(program.path(detail))?;
        let detail: Map<String, Value> = serde_json::from_slice(&detail)?;
        expected.extend(detail);
    }
    for (field, expected) in expected {
        check_field(&field, &expected, &ran)?;
    }
    repeated(program, case, &ran)
}

fn exit(case: &Case, ran: &Ran) -> Result<(), Failure> {
    let expected = case.expects("exit_code");
    let unsaid = expected.is_null() && case.kind == "intent_digest";
    match unsaid || *expected == json!(ran.exit) {
        true => Ok(()),
        false => Err(differs("exit_code", expected, &outcome(ran))),
    }
}

fn check_field(field: &str, expected: &Value, ran: &Ran) -> Result<(), Failure> {
    let output = &ran.output;
    let found = match field {
        "exit_code" => return Ok(()),
        "reason_codes_must_include" => return includes(expected, output),
        "error_contains" => return mentions(expected, output),
        "step_verdict_count" => output["step_verdicts"]
            .as_array()
            .map(|steps| json!(steps.len())),
        "audit" => return audit(expected, ran),
        "audit_entry_errors" => Some(audit_errors(ran)?),
        "grader_results" => Some(graders(ran)?),
        "report" => return report(expected, ran),
        _ if !is_compared(field) => return Ok(()),
        _ => output.get(field).cloned(),
    };
    match same(expected, found.as_ref()) {
        true => Ok(()),
        false => Err(differs(field, expected, &found.unwrap_or(json!(null)))),
    }
}

fn differs(what: &str, expected: &Value, found: &Value) -> Failure {
    Failure::new(format!("{what}: expected {expected}, found {found}"))
}

fn outcome(ran: &Ran) -> Value {
    json!({ "exit": ran.exit, "output": ran.output })
}

fn includes(expected: &Value, output: &Value) -> Result<(), Failure> {
    let (Some(expected), Some(codes)) = (expected.as_array(), output["reason_codes"].as_array())
    else {
        return Err(differs("reason_codes", expected, &output["reason_codes"]));
    };
    match expected.iter().find(|code| !codes.contains(code)) {
        None => Ok(()),
        Some(code) => Err(differs("reason_codes", code, &json!(codes))),
    }
}

fn mentions(expected: &Value, output: &Value) -> Result<(), Failure> {
    let (expected_text, error) = (expected.as_str(), output["error"].as_str());
    match expected_text
        .zip(error)
        .is_some_and(|(part, error)| error.contains(part))
    {
        true => Ok(()),
        false => Err(differs("error", expected, &output["error"])),
    }
}

fn read_json(ran: &Ran, name: &str) -> Result<Value, Failure> {
    let path = ran.places.of(name);
    let bytes = fs::read(&path).map_err(|error| Failure::new(format!("{name}: {error}")))?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn audit(expected: &Value, ran: &Ran) -> Result<(), Failure> {
    let audit = read_json(ran, "approval_audit.json")?;
    part_of("audit", expected, &audit)
}

fn part_of(what: &str, expected: &Value, found: &Value) -> Result<(), Failure> {
    let expected = expected
        .as_object()
        .ok_or_else(|| Failure::new(format!("{what}: the case expects no fields")))?;
    for (field, value) in expected {
        if is_compared(field) && !same(value, found.get(field)) {
            return Err(differs(&format!("{what}.{field}"), value, &found[field]));
        }
    }
    Ok(())
}

fn audit_errors(ran: &Ran) -> Result<Value, Failure> {
    let audit = read_json(ran, "approval_audit.json")?;
    let entries = list(&audit, "entries")?;
    let errors = entries
        .iter()
        .map(|entry| entry["error_code"].as_str().unwrap_or_default());
    Ok(errors.collect())
}

fn list<'v>(value: &'v Value, field: &str) -> Result<&'v Vec<Value>, Failure> {
    let list = value[field].as_array();
    list.ok_or_else(|| Failure::new(format!("{field} is no list: {value}")))
}

fn graders(ran: &Ran) -> Result<Value, Failure> {
    let result = read_json(ran, "R")?;
    let graders = list(&result, "graders")?;
    let brief = |grader: &Value| {
        json!({
            "name": grader["name"],
            "status": grader["status"],
            "reason_codes": grader["reason_codes"],
        })
    };
    Ok(graders.iter().map(brief).collect())
}

fn report(expected: &Value, ran: &Ran) -> Result<(), Failure> {
    part_of("report", expected, &ran.output["report"])
}

/// What is said to be the same however often it is asked.
fn repeated(program: &Program, case: &Case, first: &Ran) -> Result<(), Failure> {
    if !case.comment.contains("outputs identical") {
        return Ok(());
    }
    let again = program.run(case)?;
    let brief = |ran: &Ran| {
        let mut output = ran.output.clone();
        for field in ["correlation_id", "trace_path", "approval_audit_path"] {
            output.as_object_mut().map(|output| output.remove(field));
        }
        output
    };
    match brief(first) == brief(&again) {
        true => Ok(()),
        false => Err(differs("the second run", &brief(first), &brief(&again))),
    }
}

/// Two spellings of one intent have one digest, another intent has another.
pub fn equal_digests(program: &Program, case: &Case) -> Result<(), Failure> {
    let digest = |place| -> Result<Value, Failure> {
        let line = format!(
            "policy test gate/intent-normalization/policy.yaml {} --json",
            case.input(place)?
        );
        Ok(program.run_line(&line, "")?.output["intent_digest"].clone())
    };
    let (a, b, other) = (digest(0)?, digest(1)?, digest(2)?);
    let found = json!({ "a_eq_b": a == b, "a_eq_different": a == other });
    match a.is_string() && found == case.expected {
        true => Ok(()),
        false => Err(differs("digests", &case.expected, &found)),
    }
}

/// One command after the other on one state, within one hour.
pub fn sequence(program: &Program, case: &Case) -> Result<(), Failure> {
    let words: Vec<&str> = case.command.split_whitespace().collect();
    let state = program.places()?.of("S");
    let state = state.to_string_lossy().into_owned();
    let at = ["--evaluation-time", "2026-02-05T10:00:00Z"];
    let words: Vec<&str> = words
        .iter()
        .skip(1)
        .take_while(|word| **word != "(same")
        .map(|word| if *word == "S" { state.as_str() } else { word })
        .chain(at)
        .collect();
    let expected = case.expected.as_array();
    let expected = expected.ok_or_else(|| Failure::new("the case expects no steps"))?;
    for (place, expected) in expected.iter().enumerate() {
        let ran = program.run_line(&words.join(" "), "")?;
        if expected["exit_code"] != json!(ran.exit) {
            return Err(differs(&format!("exit {place}"), expected, &outcome(&ran)));
        }
        for (field, value) in expected.as_object().into_iter().flatten() {
            check_field(field, value, &ran)?;
        }
    }
    Ok(())
}

/// The same command many times at once.
pub fn concurrent(program: &Program, case: &Case) -> Result<(), Failure> {
    let runs = case.expects("successful_runs").as_u64();
    let runs = runs.ok_or_else(|| Failure::new("the case does not say how many runs"))?;
    let ran: Vec<_> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..runs)
            .map(|_| scope.spawn(|| program.run(case)))
            .collect();
        spawned.into_iter().map(|run| run.join()).collect()
    });
    for run in ran {
        let run = run.map_err(|_| Failure::new("a run panicked"))??;
        exit(case, &run)?;
        check_field("verdict", case.expects("verdict"), &run)?;
    }
    Ok(())
}

/// The demo's runpack becomes a pack that verifies.
pub fn roundtrip(program: &Program, case: &Case) -> Result<(), Failure> {
    let mut pack: Option<String> = None;
    let mut last = None;
    for line in case.command.split("; ") {
        let line = match &pack {
            Some(path) => line.replace("p.zip", path),
            None => line.to_owned(),
        };
        let ran = program.run_line(&line, "")?;
        if ran.exit != 0 {
            return Err(differs(&line, &json!(0), &outcome(&ran)));
        }
        if line.contains("p.zip") && pack.is_none() {
            pack = Some(ran.places.of("p.zip").to_string_lossy().into_owned());
        }
        last = Some(ran.output);
    }
    let verify = last
        .map(|mut output| output["verify"].take())
        .unwrap_or_default();
    let found = json!({
        "exit_code": 0,
        "source_ref": verify["source_ref"],
        "verify_signature_status": verify["signature_status"],
    });
    match found == case.expected {
        true => Ok(()),
        false => Err(differs("verify", &case.expected, &found)),
    }
}

/// The entries of a recorded runpack, byte for byte.
pub fn entries(program: &Program, case: &Case) -> Result<(), Failure> {
    let ran = program.run(case)?;
    check_field("manifest_digest", case.expects("manifest_digest"), &ran)?;
    let bundle = ran.output["bundle"]
        .as_str()
        .or(ran.output["path"].as_str());
    let bundle =
        bundle.ok_or_else(|| differs("the runpack's path", &json!("bundle"), &ran.output))?;
    let mut archive = zip::ZipArchive::new(File::open(program.path(bundle))?)?;
    let mut found = BTreeMap::new();
    for place in 0..archive.len() {
        let mut entry = archive.by_index(place)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let mode = entry.unix_mode().map(|mode| format!("{mode:#o}"));
        let date = entry.last_modified().map(|at| {
            json!([
                at.year(),
                at.month(),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            ])
        });
        let entry_found = json!({
            "sha256": Sha256::of(&bytes).to_string(), "order": place, "mode": mode, "date": date,
        });
        found.insert(entry.name()?.into_owned(), entry_found);
    }
    let expected = fs::read(program.path(case.demands("entry_hashes")?))?;
    let expected: Value = serde_json::from_slice(&expected)?;
    let found = json!(found);
    match expected["entries"] == found {
        true => Ok(()),
        false => Err(differs("entries", &expected["entries"], &found)),
    }
}
