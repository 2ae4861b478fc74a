//! The conformance cases of Gait 1.4, as data: every evaluation, policy and trace case whose policy this gate accepts
//! and whose command asks for nothing but an evaluation.
//!
//! What is set aside is not listed here: it follows from the options of the command and from what an intent or a policy
//! asks of services that the library's own gate has not got. The cases are skipped, with a printed reason, where they are not at hand.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gait::intent::Intent;
use gait::{Clock, Decision, Evaluation, Evidence, Gate, Policy, Verdict};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::{SigningKey, VerifyingKey};

/// How many cases have to run, so that a change cannot quietly set them aside.
const FLOOR: usize = 778;

const SERVICE: &str = "service_missing";

#[test]
fn the_conformance_cases_hold() {
    let Some(folder) = folder() else {
        println!("skipped: no folder shared/cases/gait beside or inside the checkout");
        return;
    };
    let mut tally = Tally::default();
    for case in cases(&folder) {
        tally.note(&case, run(&folder, &case));
    }
    println!("{tally}");
    assert!(tally.failed.is_empty(), "{}", tally.failed.join("\n"));
    assert!(tally.ran.values().sum::<usize>() >= FLOOR);
}

fn folder() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    ["shared/cases/gait", "../shared/cases/gait"]
        .map(|relative| checkout.join(relative))
        .into_iter()
        .find(|folder| folder.join("index.tsv").is_file())
}

/// One line of the index.
struct Case {
    id: String,
    kind: String,
    inputs: Vec<String>,
    command: Vec<String>,
    expected: Map<String, Value>,
}

fn cases(folder: &Path) -> Vec<Case> {
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let goldens = matrix_goldens(folder);
    let mut cases: Vec<Case> = index
        .lines()
        .skip(1)
        .filter_map(|line| case(folder, line))
        .collect();
    for case in &mut cases {
        if let Some(golden) = goldens.get(&case.id) {
            case.expected.extend(golden.clone());
        }
    }
    cases
}

fn case(folder: &Path, line: &str) -> Option<Case> {
    let fields: Vec<&str> = line.split('\t').collect();
    let Value::Object(mut expected) = serde_json::from_str(fields[4]).ok()? else {
        return None;
    };
    if let Some(detail) = expected.remove("detail") {
        let detail = fs::read(folder.join(detail.as_str()?)).unwrap();
        let detail: Map<String, Value> = serde_json::from_slice(&detail).unwrap();
        expected = exactly(detail);
    }
    let command = fields[3].split("   # ").next().unwrap();
    Some(Case {
        id: fields[0].to_owned(),
        kind: fields[1].to_owned(),
        inputs: fields[2].split(';').map(str::to_owned).collect(),
        command: command.split_whitespace().map(str::to_owned).collect(),
        expected,
    })
}

fn matrix_goldens(folder: &Path) -> BTreeMap<String, Map<String, Value>> {
    let lines = fs::read_to_string(folder.join("gate/goldens/policy_test_matrix.jsonl")).unwrap();
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let expected = line["expected"].as_object().unwrap().clone();
        (line["case"].as_str().unwrap().to_owned(), exactly(expected))
    };
    lines.lines().map(read).collect()
}

/// A full golden output leaves empty fields out, so what it leaves out has to be empty.
fn exactly(mut golden: Map<String, Value>) -> Map<String, Value> {
    if golden.contains_key("verdict") {
        golden.entry("violations").or_insert(json!([]));
        golden.entry("matched_rule").or_insert(json!(""));
    }
    golden
}

/// How a case went.
enum Run {
    /// It ran; these fields came out.
    Ran(Value),
    /// It asks for something that is not here.
    SetAside(String),
    /// It is about something else than evaluating, validating and verifying.
    Elsewhere,
}

fn run(folder: &Path, case: &Case) -> Run {
    let options = case.command.iter().filter(|word| word.starts_with("--"));
    let plain = [
        "--policy",
        "--intent",
        "--json",
        "--public-key",
        "--evaluation-time",
    ];
    let verb = case.command.first().map(String::as_str).unwrap_or_default();
    if let Some(option) = options
        .clone()
        .find(|option| !plain.contains(&option.as_str()))
    {
        return match (verb, case.kind.as_str()) {
            ("gate", _) => Run::SetAside(format!("option {option}")),
            _ => Run::Elsewhere,
        };
    }
    let done = match case.kind.as_str() {
        "gate_eval" | "gate_eval_concurrent" => gate_eval(folder, case),
        "policy_test" | "intent_digest" => policy_test(folder, case),
        "policy_validate" => policy_validate(folder, &case.inputs),
        "trace_verify" => trace_verify(folder, case),
        "intent_digest_eq" => intent_digest_eq(folder, &case.inputs),
        _ => return Run::Elsewhere,
    };
    match done {
        Ok(output) => Run::Ran(output),
        Err(fault) if fault.code() == SERVICE => Run::SetAside(fault.message().to_owned()),
        Err(fault) if fault.code() == "not_found" => {
            Run::SetAside("input file that does not exist".to_owned())
        }
        Err(fault) => Run::Ran(refusal(&fault)),
    }
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, Fault> {
    fs::read(folder.join(path)).map_err(|error| Fault::io(format_args!("read {path}"), &error))
}

fn policy_and_intent(folder: &Path, inputs: &[String]) -> Result<(Policy, Intent), Fault> {
    let policy = Policy::parse(&read(folder, &inputs[0])?)?;
    Ok((policy, Intent::parse(&read(folder, &inputs[1])?)?))
}

/// The time that the case asks for, or a fixed one.
fn time(case: &Case) -> Timestamp {
    let place = case
        .command
        .iter()
        .position(|word| word == "--evaluation-time");
    let given = place.map(|place| case.command[place + 1].as_str());
    given.unwrap_or("2026-02-05T00:00:00Z").parse().unwrap()
}

struct Frozen(Timestamp);

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn gate_eval(folder: &Path, case: &Case) -> Result<Value, Fault> {
    let (policy, intent) = policy_and_intent(folder, &case.inputs)?;
    let gate = Gate::new(
        policy,
        SigningKey::from_seed([7; 32]),
        Arc::new(Frozen(time(case))),
    );
    let decision = gate.decide(&intent)?;
    if let Some(service) = missing_service(decision.evaluation()) {
        return Err(Fault::new(Category::DependencyMissing, SERVICE, service));
    }
    let verified = gait::trace::verify(decision.trace().bytes(), &gate.verifying_key())?;
    assert_eq!(verified.trace_id(), decision.trace().trace_id());
    assert_eq!(
        decision.permit().is_ok(),
        decision.verdict() == Verdict::Allow
    );
    let mut output = evaluated(decision.evaluation());
    output["policy_digest"] = json!(decision.policy_digest());
    output["intent_digest"] = json!(decision.intent_digest());
    output["trace_id"] = json!(decision.trace().trace_id());
    output["phase"] = json!(intent.context().phase);
    output["successful_runs"] = json!(decided_at_once(&gate, &intent, &decision));
    for (name, clause) in [
        ("freeze_window", json!(decision.evaluation().freeze_window)),
        ("sandbox", json!(decision.evaluation().sandbox)),
    ] {
        output[name] = clause;
    }
    Ok(with_script(output, &decision, &intent))
}

/// What the library's own gate has not got and the command line's gate has.
fn missing_service(evaluation: &Evaluation) -> Option<&'static str> {
    let has = |code: &str| evaluation.reason_codes.iter().any(|have| have == code);
    ["rate_limit_state_unavailable", "broker_credential_missing"]
        .into_iter()
        .find(|code| has(code))
}

fn decided_at_once(gate: &Gate, intent: &Intent, first: &Decision) -> usize {
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| gate.decide(intent).unwrap()))
            .collect();
        let decisions = racers.into_iter().map(|racer| racer.join().unwrap());
        decisions
            .filter(|one| one.trace().trace_id() == first.trace().trace_id())
            .count()
    })
}

fn with_script(mut output: Value, decision: &Decision, intent: &Intent) -> Value {
    if let (Some(script), Some((_, hash))) = (&decision.evaluation().script, intent.script()) {
        output["script"] = json!(true);
        output["step_count"] = json!(script.steps.len());
        output["step_verdict_count"] = json!(script.steps.len());
        output["script_hash"] = json!(hash);
        output["composite_risk_class"] = json!(script.composite_risk_class);
        output["step_verdicts"] = json!(script.steps);
    }
    output
}

fn policy_test(folder: &Path, case: &Case) -> Result<Value, Fault> {
    let operands = &case.command[2..4];
    let (policy, intent) = policy_and_intent(folder, operands)?;
    let mut output = evaluated(&policy.evaluate(&intent.prepare(&Evidence::at(time(case)))?));
    output["policy_digest"] = json!(policy.digest());
    output["intent_digest"] = json!(intent.digest());
    Ok(output)
}

fn evaluated(evaluation: &Evaluation) -> Value {
    let exit_code = match evaluation.verdict {
        Verdict::Allow | Verdict::DryRun => 0,
        Verdict::Block => 3,
        Verdict::RequireApproval => 4,
    };
    json!({
        "ok": true,
        "exit_code": exit_code,
        "verdict": evaluation.verdict,
        "reason_codes": evaluation.reason_codes,
        "violations": evaluation.violations,
        "matched_rule": evaluation.matched_rule(),
        "required_approvals": evaluation.required_approvals,
    })
}

fn policy_validate(folder: &Path, inputs: &[String]) -> Result<Value, Fault> {
    let policy = Policy::parse(&read(folder, &inputs[0])?)?;
    Ok(json!({
        "ok": true,
        "exit_code": 0,
        "default_verdict": policy.default_verdict(),
        "policy_digest": policy.digest(),
    }))
}

fn trace_verify(folder: &Path, case: &Case) -> Result<Value, Fault> {
    let trace = read(folder, &case.inputs[0])?;
    let place = case
        .command
        .iter()
        .position(|word| word == "--public-key")
        .unwrap();
    let key = String::from_utf8(read(folder, &case.command[place + 1])?).unwrap();
    let verified = gait::trace::verify(&trace, &VerifyingKey::from_base64(key.trim()).unwrap())?;
    Ok(json!({
        "ok": true,
        "exit_code": 0,
        "signature_status": "verified",
        "verdict": verified.verdict(),
    }))
}

fn intent_digest_eq(folder: &Path, inputs: &[String]) -> Result<Value, Fault> {
    let digest = |path: &String| Ok::<_, Fault>(Intent::parse(&read(folder, path)?)?.digest());
    let [a, b, different] = [
        digest(&inputs[0])?,
        digest(&inputs[1])?,
        digest(&inputs[2])?,
    ];
    Ok(json!({ "a_eq_b": a == b, "a_eq_different": a == different }))
}

fn refusal(fault: &Fault) -> Value {
    let mut output = json!({
        "ok": false,
        "exit_code": fault.gait_exit_code(),
        "error": fault.message(),
        "error_code": fault.code(),
        "error_category": fault.category().as_str(),
        "retryable": fault.retryable(),
    });
    if fault.category() == Category::VerificationFailed {
        output["signature_status"] = json!("failed");
    }
    output
}

/// The fields of `expected` that `actual` does not have.
fn differences(expected: &Map<String, Value>, actual: &Value) -> Vec<String> {
    let differs = |(name, expected): (&String, &Value)| {
        let same = match name.as_str() {
            // Texts are each implementation's own; codes and exits are the contract.
            "error" | "error_contains" => actual["error"].is_string(),
            // Nothing is said about a trace that does not verify.
            "verdict" if actual["ok"] == false => true,
            "reason_codes_must_include" => includes(&actual["reason_codes"], expected),
            _ => actual[name.as_str()] == *expected,
        };
        (!same).then(|| format!("{name}: expected {expected}, got {}", actual[name.as_str()]))
    };
    expected.iter().filter_map(differs).collect()
}

fn includes(have: &Value, wanted: &Value) -> bool {
    let have = have.as_array().map(Vec::as_slice).unwrap_or_default();
    wanted
        .as_array()
        .unwrap()
        .iter()
        .all(|code| have.contains(code))
}

#[derive(Default)]
struct Tally {
    ran: BTreeMap<String, usize>,
    set_aside: BTreeMap<String, usize>,
    failed: Vec<String>,
}

impl Tally {
    fn note(&mut self, case: &Case, run: Run) {
        match run {
            Run::Elsewhere => {}
            Run::SetAside(why) => *self.set_aside.entry(why).or_default() += 1,
            Run::Ran(actual) => {
                *self.ran.entry(case.kind.clone()).or_default() += 1;
                let differences = differences(&case.expected, &actual);
                if !differences.is_empty() {
                    self.failed
                        .push(format!("{}: {}", case.id, differences.join("; ")));
                }
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
        let (ran, set_aside) = (count(&self.ran), count(&self.set_aside));
        writeln!(
            formatter,
            "{ran} ran, {} failed, {set_aside} set aside",
            self.failed.len()
        )?;
        for (kind, count) in &self.ran {
            writeln!(formatter, "  ran {count:4} {kind}")?;
        }
        for (why, count) in &self.set_aside {
            writeln!(formatter, "  set aside {count:4} for {why}")?;
        }
        Ok(())
    }
}
