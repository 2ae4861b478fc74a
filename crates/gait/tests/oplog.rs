//! The logs of commands, held to the schemas that are published beside the program.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use support::Gait;

fn schema(name: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&schema).unwrap()
}

/// What commands log that succeed, deny, find evidence broken, are asked wrongly and find no file.
fn logged(log: &str, variable: &str) -> Vec<Value> {
    let gait = Gait::new().env("GAIT_ADOPTION_WORKFLOW", "w");
    let path = gait.path().join(log);
    let gait = gait.env(variable, path.to_str().unwrap());
    gait.file("policy.yaml", "default_verdict: block\n");
    gait.file("call.json", r#"{"name": "tool.read"}"#);
    gait.file("broken.zip", "no archive");
    for (args, code) in [
        (&["demo"][..], 0),
        (&["verify", "run_demo"], 0),
        (
            &[
                "mcp",
                "proxy",
                "--policy",
                "policy.yaml",
                "--call",
                "call.json",
            ],
            3,
        ),
        (&["verify", "broken.zip"], 2),
        (&["gate", "eval"], 6),
        (&["policy", "validate", "none.yaml"], 1),
    ] {
        assert_eq!(gait.run(args).code, code, "{args:?}");
    }
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_line_of_the_operational_log_conforms_to_its_schema() {
    let (schema, events) = (
        schema("operational_event"),
        logged("operational.jsonl", "GAIT_OPERATIONAL_LOG"),
    );
    assert_eq!(events.len(), 12);
    for event in &events {
        assert!(schema.validate(event).is_ok(), "{event}");
    }
    let of = |member: &str| -> Vec<&Value> { events.iter().map(|event| &event[member]).collect() };
    assert_eq!(of("exit_code")[5], 3);
    assert_eq!(of("error_category")[9], "invalid_input");
    assert_eq!(of("error_category")[11], "io_failure");
}

#[test]
fn every_line_of_the_adoption_log_conforms_to_its_schema() {
    let (schema, events) = (
        schema("adoption_event"),
        logged("adoption.jsonl", "GAIT_ADOPTION_LOG"),
    );
    assert_eq!(events.len(), 6);
    for event in &events {
        assert!(schema.validate(event).is_ok(), "{event}");
    }
    assert_eq!(events[0]["milestones"], json!(["A1"]));
    assert_eq!(events[0]["workflow_id"], "w");
}

#[test]
fn the_schemas_refuse_what_no_command_logs() {
    let kinds = [
        (
            "operational_event",
            "operational.jsonl",
            "GAIT_OPERATIONAL_LOG",
        ),
        ("adoption_event", "adoption.jsonl", "GAIT_ADOPTION_LOG"),
    ];
    for (name, log, variable) in kinds {
        let schema = schema(name);
        let sound = logged(log, variable).swap_remove(0);
        for member in sound.as_object().unwrap().keys() {
            if ["workflow_id", "milestones"].contains(&member.as_str()) {
                continue;
            }
            let mut lacking = sound.clone();
            lacking.as_object_mut().unwrap().remove(member);
            assert!(!schema.is_valid(&lacking), "{name} without {member}");
        }
        for (member, value) in [
            ("path", json!("/secret")),
            ("exit_code", json!(256)),
            ("elapsed_ms", json!(-1)),
            ("created_at", json!("yesterday")),
            (
                "environment",
                json!({"os": "linux", "arch": "amd64", "user": "me"}),
            ),
        ] {
            let mut wrong = sound.clone();
            wrong[member] = value;
            assert!(!schema.is_valid(&wrong), "{name} with another {member}");
        }
    }
}
