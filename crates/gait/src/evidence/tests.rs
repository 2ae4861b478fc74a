use worldcompute_fault::Category;

use super::*;
use serde_json::{Value, json};

fn intent(context: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.x",
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    for (name, value) in context.as_object().unwrap() {
        intent["context"][name] = value.clone();
    }
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn dated(at: &str) -> Intent {
    let context = json!({"identity": "alice", "workspace": "w", "risk_class": "low"});
    let intent = json!({"tool_name": "tool.x", "created_at": at, "context": context});
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn now() -> Timestamp {
    "2026-02-05T00:01:00Z".parse().unwrap()
}

fn envelope() -> ContextEnvelope {
    let record = |id: &str| {
        json!({
            "ref_id": id, "source_type": "store", "source_locator": "x", "redaction_mode": "none",
            "query_digest": "1".repeat(64), "content_digest": "2".repeat(64),
            "retrieved_at": "2026-02-05T00:00:00Z"
        })
    };
    let envelope = json!({
        "context_set_id": "s", "evidence_mode": "required", "records": [record("b"), record("a")]
    });
    ContextEnvelope::parse(envelope.to_string().as_bytes()).unwrap()
}

#[test]
fn an_intent_without_claims_and_evidence_stays_as_it_is() {
    let asked = intent(json!({}));
    let prepared = asked.prepare(&Evidence::at(now())).unwrap();
    assert_eq!(prepared.intent().digest(), asked.digest());
    assert_eq!(prepared.context_source(), "");
}

#[test]
fn claims_are_stripped_where_nothing_was_verified() {
    let claiming = intent(json!({
        "context_set_digest": "d".repeat(64), "context_evidence_mode": "required", "context_refs": ["x"],
        "auth_context": {"context_age_seconds": 1}
    }));
    let prepared = claiming.prepare(&Evidence::at(now())).unwrap();
    assert_eq!(prepared.intent().digest(), intent(json!({})).digest());
}

#[test]
fn a_verified_envelope_takes_the_place_of_the_claims() {
    let envelope = envelope();
    let asked = dated("2026-02-05T00:01:00Z");
    let evidence = Evidence::at(now()).with_envelope(Some(&envelope));
    let prepared = asked.prepare(&evidence).unwrap();
    let context = prepared.intent().context();
    assert_eq!(context.context_set_digest, envelope.digest().to_string());
    assert_eq!(context.context_evidence_mode, "required");
    assert_eq!(context.context_refs, ["a", "b"]);
    assert_eq!(context.auth_context[AGE], json!(60));
    assert_eq!(prepared.context_source(), "context_envelope");
    assert_eq!(prepared.context_ref_count(), 2);
    let bound = prepared.intent().prepare(&evidence).unwrap();
    assert_eq!(bound.intent().digest(), prepared.intent().digest());
}

#[test]
fn the_digest_of_an_intent_with_an_envelope_does_not_age() {
    let envelope = envelope();
    let later = now() + jiff::SignedDuration::from_mins(9);
    for asked in [intent(json!({})), dated("2026-02-05T00:01:00Z")] {
        let at = |time| {
            let evidence = Evidence::at(time).with_envelope(Some(&envelope));
            let prepared = asked.prepare(&evidence).unwrap();
            (
                prepared.intent().digest(),
                prepared.context().unwrap().age_seconds,
            )
        };
        assert_eq!((at(now()).1, at(later).1), (Some(60), Some(600)));
        assert_eq!(at(now()).0, at(later).0);
    }
}

#[test]
fn an_envelope_other_than_the_claimed_one_is_refused() {
    let envelope = envelope();
    for claim in [
        json!({"context_set_digest": "d".repeat(64)}),
        json!({"context_evidence_mode": "best_effort"}),
    ] {
        let claiming = intent(claim);
        let evidence = Evidence::at(now()).with_envelope(Some(&envelope));
        assert_eq!(
            claiming.prepare(&evidence).unwrap_err().code(),
            "invalid_input"
        );
    }
}

#[test]
fn the_inventory_is_written_into_the_intent_of_a_known_tool_only() {
    let inventory = Inventory::parse(br#"[{"tool_name": "tool.x", "data_class": "pii"}]"#).unwrap();
    let asked = intent(json!({}));
    let evidence = Evidence::at(now()).with_inventory(Some(&inventory));
    let prepared = asked.prepare(&evidence).unwrap();
    let claims = &prepared.intent().context().auth_context;
    assert_eq!(claims["wrkr.data_class"], json!("pii"));
    assert_eq!(prepared.context_source(), "wrkr_inventory");
    let other = Inventory::parse(br#"[{"tool_name": "tool.y"}]"#).unwrap();
    let evidence = Evidence::at(now()).with_inventory(Some(&other));
    let prepared = asked.prepare(&evidence).unwrap();
    assert_eq!(prepared.intent().digest(), asked.digest());
    assert_eq!(prepared.context_source(), "");
}

#[test]
fn nothing_is_decided_by_a_clock_that_was_never_set() {
    let asked = intent(json!({}));
    let fault = asked
        .prepare(&Evidence::at("1979-12-31T23:59:59Z".parse().unwrap()))
        .unwrap_err();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::DependencyMissing, "clock_not_set")
    );
    assert!(fault.hint_text().contains("clock"));
    assert!(
        asked
            .prepare(&Evidence::at("1980-01-01T00:00:00Z".parse().unwrap()))
            .is_ok()
    );
}
