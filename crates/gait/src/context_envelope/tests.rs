use super::*;
use serde_json::json;

fn record(id: &str) -> Value {
    json!({
        "ref_id": id, "source_type": "doc_store", "source_locator": "docs://x", "redaction_mode": "reference",
        "query_digest": "1".repeat(64), "content_digest": "2".repeat(64),
        "retrieved_at": "2026-02-14T00:00:00Z", "immutability": "immutable"
    })
}

fn envelope(changes: Value) -> Value {
    let mut envelope = json!({
        "schema_id": SCHEMA_ID, "schema_version": SCHEMA_VERSION, "created_at": "2026-02-14T00:00:00Z",
        "producer_version": "0.0.0-dev", "context_set_id": "s", "evidence_mode": "required",
        "records": [record("b"), record("a")]
    });
    for (name, value) in changes.as_object().unwrap() {
        envelope[name] = value.clone();
    }
    envelope
}

fn parse(envelope: &Value) -> Result<ContextEnvelope> {
    ContextEnvelope::parse(envelope.to_string().as_bytes())
}

#[test]
fn the_digest_is_that_of_the_sorted_records() {
    let one = parse(&envelope(json!({}))).unwrap();
    let other = parse(&envelope(json!({"records": [record("a"), record("b")]}))).unwrap();
    assert_eq!(one.digest(), other.digest());
    assert_eq!(
        one.digest(),
        Sha256::of(canonical_json(&[record("a"), record("b")]).unwrap())
    );
    assert_eq!(one.refs(), ["a", "b"]);
    let claimed = envelope(json!({"context_set_digest": one.digest().to_string().to_uppercase()}));
    assert!(parse(&claimed).is_ok());
}

#[test]
fn an_envelope_that_was_changed_is_refused() {
    let digest = parse(&envelope(json!({}))).unwrap().digest().to_string();
    let changed = envelope(json!({"context_set_digest": digest, "records": [record("a")]}));
    assert_eq!(
        parse(&changed).unwrap_err().code(),
        "context_envelope_digest_mismatch"
    );
}

#[test]
fn what_is_no_envelope_is_refused() {
    let with = |name: &str, value: Value| {
        let mut record = record("a");
        record[name] = value;
        json!({ "records": [record] })
    };
    for change in [
        json!({"schema_id": "x"}),
        json!({"schema_version": "2.0.0"}),
        json!({"context_set_id": " "}),
        json!({"evidence_mode": "maybe"}),
        json!({"context_set_digest": "d".repeat(63)}),
        json!({"more": 1}),
        json!({"records": 7}),
        json!({"records": [["a", "t", "l", "1".repeat(64), "2".repeat(64), "2026-02-14T00:00:00Z", "n", "", 0, "", {}]]}),
        with("ref_id", json!(" ")),
        with("query_digest", json!("x")),
        with("immutability", json!("perhaps")),
        with("freshness_sla_seconds", json!(-1)),
        with("retrieved_at", json!("yesterday")),
        with("more", json!(1)),
    ] {
        assert!(parse(&envelope(change.clone())).is_err(), "{change}");
    }
    for text in ["", "[]", "null", "{}", "{\"a\": 1, \"a\": 1}"] {
        assert!(ContextEnvelope::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn limits_hold_at_the_limit_and_not_past_it() {
    let many = |count: usize| json!({"records": vec![record("a"); count]});
    assert!(parse(&envelope(many(MAX_ENVELOPE_RECORDS))).is_ok());
    assert_eq!(
        parse(&envelope(many(MAX_ENVELOPE_RECORDS + 1)))
            .unwrap_err()
            .code(),
        TOO_LARGE
    );
    let padded = envelope(json!({})).to_string() + &" ".repeat(MAX_ENVELOPE_BYTES);
    assert_eq!(
        ContextEnvelope::parse(padded.as_bytes())
            .unwrap_err()
            .code(),
        TOO_LARGE
    );
}

#[test]
fn the_age_is_that_of_the_oldest_record_and_unknown_when_dated_ahead() {
    let envelope = parse(&envelope(json!({}))).unwrap();
    let at = |time: &str| envelope.age_seconds(time.parse().unwrap());
    assert_eq!(at("2026-02-14T00:01:00.9Z"), Some(60));
    assert_eq!(at("2026-02-13T23:55:00Z"), Some(0));
    assert_eq!(at("2026-02-13T23:54:59Z"), None);
}
