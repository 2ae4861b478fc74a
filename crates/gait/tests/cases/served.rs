//! The same decision asked of `gate eval` and of `gate serve`.
//!
//! What may differ is what names one asking: the correlation id, the paths with it, and the times.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::case::{self, Case, Failure};
use crate::program::{Program, Ran};
use crate::serving::Serving;
use crate::tally::Tally;

/// Members of an answer that name this asking.
const NAMES: [&str; 5] = [
    "correlation_id",
    "trace_path",
    "approval_audit_path",
    "delegation_audit_path",
    "credential_evidence_path",
];
/// Members of a trace that name this asking, or its time.
const TIMES: [&str; 5] = [
    "correlation_id",
    "event_id",
    "latency_ms",
    "observed_at",
    "signature",
];
/// Both sign with one key, and count in files of their own.
const COMMON: [&str; 4] = ["--key-mode", "prod", "--private-key-env", "GK"];

/// What is asked: how the service is set up, and what its client sends.
#[derive(Default)]
struct Question {
    setup: Vec<String>,
    body: Map<String, Value>,
}

/// Asks every case of a single decision both ways.
pub fn run(folder: &Path) -> Result<Tally, Failure> {
    let cases = case::read(&folder.join("index.tsv"))?;
    let program = Program::new(folder, &cases)?;
    let mut services = BTreeMap::new();
    let mut tally = Tally::default();
    let single = |case: &&Case| ["gate_eval", "gate_eval_approval"].contains(&case.kind.as_str());
    for case in cases.iter().filter(single) {
        match Question::of(&program, case)? {
            None => println!(
                "skipped: {}: an input is no JSON object, and no request",
                case.id
            ),
            Some(question) => tally.note(case, compare(&program, case, question, &mut services)),
        }
    }
    Ok(tally)
}

impl Question {
    /// `None` for a case whose input cannot be part of a request.
    fn of(program: &Program, case: &Case) -> Result<Option<Self>, Failure> {
        let mut question = Self::default();
        let mut words = case.command.split_whitespace().skip(2).peekable();
        while let Some(flag) = words.next() {
            let value = words
                .next_if(|next| !next.starts_with("--"))
                .unwrap_or_default();
            let taken = match flag {
                "--json" => true,
                "--simulate" => {
                    question.setup.push("--allow-simulate".to_owned());
                    question.put("simulate", json!(true))
                }
                "--intent" => match object(program, value)? {
                    Some(intent) => question.put("intent", intent),
                    None => false,
                },
                "--approval-token" | "--approval-token-chain" => {
                    question.tokens(program, "approval_tokens", value)?
                }
                "--delegation-token" | "--delegation-token-chain" => {
                    question.tokens(program, "delegation_tokens", value)?
                }
                _ => {
                    question.setup.push(flag.to_owned());
                    question.setup.extend(
                        [value.to_owned()]
                            .into_iter()
                            .filter(|value| !value.is_empty()),
                    );
                    true
                }
            };
            if !taken {
                return Ok(None);
            }
        }
        Ok(Some(question))
    }

    fn put(&mut self, name: &str, value: Value) -> bool {
        self.body.insert(name.to_owned(), value).is_none()
    }

    /// Adds the tokens in these files, in the order in which the command takes them.
    fn tokens(&mut self, program: &Program, name: &str, paths: &str) -> Result<bool, Failure> {
        let mut paths: Vec<&str> = paths.split(',').collect();
        paths.sort_unstable();
        let list = self.body.entry(name).or_insert_with(|| json!([]));
        for path in paths {
            match (object(program, path)?, list.as_array_mut()) {
                (Some(token), Some(list)) => list.push(token),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn object(program: &Program, path: &str) -> Result<Option<Value>, Failure> {
    let Ok(text) = fs::read(program.path(path)) else {
        return Ok(None);
    };
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    // A text with two members of one name reads as one here, and the request would not be what the file is.
    Ok(Some(value).filter(Value::is_object))
}

fn compare(
    program: &Program,
    case: &Case,
    question: Question,
    services: &mut BTreeMap<String, Result<Serving, String>>,
) -> Result<(), Failure> {
    let once = once(program, case)?;
    let name = question.setup.join(" ");
    if !services.contains_key(&name) {
        services.insert(name.clone(), serve(program, case, &question.setup)?);
    }
    let service = match services.get(&name) {
        Some(Ok(service)) => service,
        // A service that does not start says what the command says.
        Some(Err(line)) => return same(&once, line, None),
        None => return Err(Failure::new("there is no service")),
    };
    let (_, answer) = service.post("/v1/eval", "", &Value::Object(question.body).to_string());
    same(&once, &answer, Some(once.exit))?;
    same_trace(program, &once, &answer)
}

fn with_common(mut words: Vec<String>, state: &Path) -> Vec<String> {
    if !words.iter().any(|word| word == "--key-mode") {
        words.extend(COMMON.map(str::to_owned));
    }
    for flag in ["--rate-limit-state", "--approval-redemption-state"] {
        words.extend([flag.to_owned(), state.join(flag).display().to_string()]);
    }
    words
}

fn once(program: &Program, case: &Case) -> Result<Ran, Failure> {
    let places = program.places()?;
    let words = case.command.split_whitespace().map(str::to_owned).collect();
    let line = with_common(words, &places.of("state")).join(" ");
    program.run_line(&line, &case.comment)
}

fn serve(
    program: &Program,
    case: &Case,
    setup: &[String],
) -> Result<Result<Serving, String>, Failure> {
    let places = program.places()?;
    let mut words = with_common(setup.to_vec(), &places.of("state"));
    for (flag, name) in [("--socket", "run/socket"), ("--trace-dir", "traces")] {
        words.extend([flag.to_owned(), places.of(name).display().to_string()]);
    }
    let words = words
        .iter()
        .map(|word| program.word(word, &case.comment, &places));
    let words: Vec<String> = words.collect();
    let words = words.iter().map(String::as_str);
    let words: Vec<&str> = ["gate", "serve", "--json"]
        .into_iter()
        .chain(words)
        .collect();
    Ok(Serving::start(program.command(&words, &program.path("."))))
}

/// What the command says of a file that the service gets in the request, and so without a name.
fn without_file(line: &str) -> String {
    const ERROR: &str = "\"error\":\"";
    let parts = line.split_once(ERROR).and_then(|(before, error)| {
        let (file, error) = error.split_once(": ")?;
        let is_file = file.ends_with(".json") && !file.contains([' ', '"']);
        is_file.then(|| format!("{before}{ERROR}{error}"))
    });
    parts.unwrap_or_else(|| line.to_owned())
}

/// Whether `answer` has the bytes of what the command printed, once it has the names of that asking.
fn same(once: &Ran, answer: &str, exit: Option<i64>) -> Result<(), Failure> {
    let served: Value = serde_json::from_str(answer)?;
    let mut renamed = answer.to_owned();
    for name in NAMES {
        let member = |value: &Value| format!("\"{name}\":{}", value[name]);
        renamed = renamed.replace(&member(&served), &member(&once.output));
    }
    let time = |answer: &Value| answer["kill_switch"]["evaluated_at"].to_string();
    renamed = renamed.replace(&time(&served), &time(&once.output));
    if let Some(exit) = exit {
        renamed = renamed.replacen(&format!("\"exit_code\":{exit},"), "", 1);
    }
    match renamed == without_file(&once.line) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "once: {}served: {renamed}",
            once.line
        ))),
    }
}

fn same_trace(program: &Program, once: &Ran, answer: &str) -> Result<(), Failure> {
    let served: Value = serde_json::from_str(answer)?;
    let trace = |answer: &Value| -> Result<Value, Failure> {
        let Some(path) = answer["trace_path"].as_str() else {
            return Ok(Value::Null);
        };
        let mut trace: Value = serde_json::from_slice(&fs::read(program.path(".").join(path))?)?;
        for time in TIMES {
            trace.as_object_mut().map(|trace| trace.remove(time));
        }
        let switch = trace.get_mut("kill_switch").and_then(Value::as_object_mut);
        switch.map(|switch| switch.remove("evaluated_at"));
        Ok(trace)
    };
    let (once, served) = (trace(&once.output)?, trace(&served)?);
    match once == served {
        true => Ok(()),
        false => Err(Failure::new(format!("trace once: {once} served: {served}"))),
    }
}
