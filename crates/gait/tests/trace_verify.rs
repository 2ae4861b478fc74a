//! `gait trace verify`, as a caller sees it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use support::Gait;

const TRACE: &str = include_str!("data/gait-1.4.0-trace.json");
const KEY: &str = include_str!("data/gait-1.4.0-public.key");

fn verify(trace: &str) -> (i32, Value) {
    let gait = Gait::new();
    let (path, key) = (gait.file("trace.json", trace), gait.file("public.key", KEY));
    gait.json(&["trace", "verify", &path, "--public-key", &key])
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut trace = serde_json::from_str(TRACE).unwrap();
    change(&mut trace);
    trace.to_string()
}

#[test]
fn a_trace_of_the_reference_implementation_verifies() {
    let (code, json) = verify(TRACE);
    assert_eq!(
        (code, &json["ok"], &json["signature_status"]),
        (0, &true.into(), &"verified".into())
    );
    assert_eq!(
        json["trace_id"],
        serde_json::from_str::<Value>(TRACE).unwrap()["trace_id"]
    );
    assert_eq!(json["key_id"].as_str().unwrap().len(), 64);
}

#[test]
fn a_field_outside_of_the_signature_is_a_failed_verification() {
    for extra in ["x_unknown", "reason_codes", "Verdict"] {
        let (code, json) = verify(&with(|trace| trace[extra] = "allow".into()));
        assert_eq!(
            (code, &json["error_code"], &json["signature_status"]),
            (2, &"verification_failed".into(), &"failed".into()),
            "{extra}"
        );
    }
}

#[test]
fn a_stripped_or_replaced_signature_is_a_failed_verification() {
    for signature in [
        Value::Null,
        "".into(),
        serde_json::json!({}),
        serde_json::json!({"alg": "none"}),
    ] {
        let (code, json) = verify(&with(|trace| trace["signature"] = signature.clone()));
        assert_eq!((code, &json["ok"]), (2, &false.into()), "{signature}");
    }
    let (code, json) = verify(&with(|trace| {
        drop(trace.as_object_mut().unwrap().remove("signature"))
    }));
    assert_eq!(
        (code, &json["error"]),
        (2, &"trace signature missing".into())
    );
}

#[test]
fn what_is_no_trace_is_invalid_what_is_damaged_fails_and_what_is_not_there_is_a_matter_of_the_disk()
{
    for (garbage, exit, category) in [
        ("[]", 6, "invalid_input"),
        // What is not even JSON may be a trace that was damaged.
        ("", 2, "verification_failed"),
        ("{", 2, "verification_failed"),
        ("\u{feff}{}", 2, "verification_failed"),
        ("{\"a\":1,\"a\":1}", 2, "verification_failed"),
        (&"[".repeat(10_000), 2, "verification_failed"),
    ] {
        let (code, json) = verify(garbage);
        assert_eq!(
            (code, &json["error_category"]),
            (exit, &category.into()),
            "{garbage:.20}"
        );
    }
    let gait = Gait::new();
    let key = gait.file("public.key", KEY);
    let (code, json) = gait.json(&["trace", "verify", "nope.json", "--public-key", &key]);
    assert_eq!(
        (code, &json["error_category"], &json["error_code"]),
        (1, &"io_failure".into(), &"not_found".into())
    );
}

#[test]
fn a_missing_path_or_key_is_refused_in_words_of_its_own() {
    let gait = Gait::new();
    let (code, json) = gait.json(&["trace", "verify"]);
    assert_eq!((code, &json["error"]), (6, &"expected trace path".into()));
    let (code, json) = gait.json(&["trace", "verify", "trace.json"]);
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"verify_key_required".into())
    );
}
