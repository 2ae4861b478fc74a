use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

use super::*;
use crate::intent::Intent;
use crate::limits::MAX_SCOPE;
use crate::trace::Subject;
use crate::wire_time::WireTime;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 123_000_000);

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn policy() -> Sha256 {
    Sha256::of(b"policy")
}

fn intent(changes: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.delete",
        "targets": [{"kind": "path", "value": "/a", "operation": "delete"}],
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn plain() -> Intent {
    intent(json!({}))
}

fn mint(approver: &str) -> Mint {
    let scope = ["tool:tool.delete", "phase:apply", " Destructive:APPLY "];
    Mint {
        approver_identity: approver.to_owned(),
        reason_code: "T-1".to_owned(),
        intent_digest: plain().digest(),
        policy_digest: policy(),
        delegation_binding_digest: None,
        scope: scope.map(str::to_owned).to_vec(),
        max_targets: 0,
        max_ops: 0,
        ttl: SignedDuration::from_hours(1),
    }
}

fn token(mint: &Mint) -> Token {
    Token::mint(mint, &key(), NOW).unwrap().0
}

fn changed(change: impl FnOnce(&mut Mint)) -> Token {
    let mut mint = mint("boss");
    change(&mut mint);
    token(&mint)
}

fn expected(intent: &Intent, now: Timestamp) -> Expected {
    Expected::of(intent, policy(), now).unwrap()
}

fn check(token: &Token) -> Result<(), Flaw> {
    token.check(&key().verifying_key(), &expected(&plain(), NOW))
}

#[test]
fn a_minted_token_approves_its_intent_under_its_policy() {
    assert_eq!(check(&token(&mint("boss"))), Ok(()));
}

#[test]
fn the_id_and_the_signed_bytes_are_those_of_the_format() {
    let (token, bytes) = Token::mint(&mint("boss"), &key(), NOW).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let id = format!(
        "{}:{}:boss:T-1:destructive:apply,phase:apply,tool:tool.delete:0:0:2027-01-15T09:00:00.123Z",
        plain().digest(),
        policy()
    );
    assert_eq!(token.token_id(), &Sha256::of(id).to_string()[..24]);
    assert_eq!(file["expires_at"], "2027-01-15T09:00:00.123Z");
    assert!(file.get("max_targets").is_none());
    let mut signable = file.clone();
    signable.as_object_mut().unwrap().remove("signature");
    let digest = Sha256::of(canonical_json(&signable).unwrap());
    assert_eq!(file["signature"]["signed_digest"], digest.to_string());
    assert!(bytes.ends_with(b"}\n") && bytes.starts_with(b"{\n  \"schema_id\""));
}

#[test]
fn each_check_has_its_own_code_in_the_order_of_the_format() {
    let other = Sha256::of(b"other");
    let hour = SignedDuration::from_hours(1);
    // Each also has every later flaw, so the order shows.
    let late = |token: Token| {
        let far = expected(
            &intent(json!({"targets": [
                {"kind": "path", "value": "/a", "operation": "delete"},
                {"kind": "path", "value": "/b", "operation": "delete"}
            ]})),
            NOW + hour,
        );
        token.check(&key().verifying_key(), &far).unwrap_err()
    };
    assert_eq!(
        late(changed(|mint| mint.policy_digest = other)),
        Flaw::IntentMismatch
    );
    let two = intent(json!({"targets": [
        {"kind": "path", "value": "/a", "operation": "delete"},
        {"kind": "path", "value": "/b", "operation": "delete"}
    ]}));
    let flaw = |change: &dyn Fn(&mut Mint), now| {
        let token = changed(|mint| {
            mint.intent_digest = two.digest();
            mint.max_ops = 1;
            mint.max_targets = 1;
            mint.scope = vec!["tool:tool.delete".to_owned()];
            change(mint);
        });
        token
            .check(&key().verifying_key(), &expected(&two, now))
            .unwrap_err()
    };
    let full = || mint("boss").scope;
    assert_eq!(
        flaw(&|mint| mint.policy_digest = other, NOW + hour),
        Flaw::PolicyMismatch
    );
    assert_eq!(flaw(&|_| {}, NOW + hour), Flaw::Expired);
    assert_eq!(flaw(&|_| {}, NOW), Flaw::ScopeMismatch);
    assert_eq!(
        flaw(&|mint| mint.scope = full(), NOW),
        Flaw::MaxTargetsExceeded
    );
    assert_eq!(
        flaw(&|mint| (mint.scope, mint.max_targets) = (full(), 2), NOW),
        Flaw::MaxOpsExceeded
    );
}

#[test]
fn a_token_ends_exactly_at_its_expiry() {
    let token = token(&mint("boss"));
    let at = |now| token.check(&key().verifying_key(), &expected(&plain(), now));
    let end = NOW + SignedDuration::from_hours(1);
    assert_eq!(at(end - SignedDuration::from_nanos(1)), Ok(()));
    assert_eq!(at(end), Err(Flaw::Expired));
    let never_set = Timestamp::constant(157_766_400, 0);
    assert_eq!(at(never_set), Err(Flaw::Expired));
    let minted = Token::mint(&mint("boss"), &key(), never_set);
    assert_eq!(minted.unwrap_err().code(), "clock_not_set");
}

#[test]
fn a_delegated_intent_needs_a_token_for_that_delegation() {
    let delegated = intent(json!({"delegation": {"requester_identity": "alice"}}));
    let digest = delegated.delegation_digest().unwrap().unwrap();
    let with = |binding| {
        let token = changed(|mint| {
            mint.intent_digest = delegated.digest();
            mint.delegation_binding_digest = binding;
        });
        token.check(&key().verifying_key(), &expected(&delegated, NOW))
    };
    assert_eq!(with(Some(digest)), Ok(()));
    assert_eq!(with(None), Err(Flaw::DelegationBindingMismatch));
    assert_eq!(with(Some(policy())), Err(Flaw::DelegationBindingMismatch));
}

#[test]
fn a_star_stands_for_every_scope() {
    assert_eq!(
        check(&changed(|mint| mint.scope = vec!["*".to_owned()])),
        Ok(())
    );
}

#[test]
fn no_byte_of_a_token_can_be_changed_added_or_taken_away() {
    let (_, bytes) = Token::mint(&mint("boss"), &key(), NOW).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let flaw = |change: &dyn Fn(&mut Value)| {
        let mut changed = file.clone();
        change(&mut changed);
        check(&Token::parse(changed.to_string().as_bytes()).unwrap())
    };
    assert_eq!(flaw(&|_| {}), Ok(()));
    let invalid = Err(Flaw::SignatureInvalid);
    assert_eq!(
        flaw(&|file| file["approver_identity"] = json!("other")),
        invalid
    );
    assert_eq!(flaw(&|file| file["max_ops"] = json!(0)), invalid);
    assert_eq!(flaw(&|file| file["note"] = json!("unsigned")), invalid);
    assert_eq!(
        flaw(&|file| file["signature"]["alg"] = json!("none")),
        invalid
    );
    assert_eq!(flaw(&|file| file["signature"]["more"] = json!(1)), invalid);
    assert_eq!(flaw(&|file| file["signature"] = json!("x")), invalid);
    assert_eq!(
        flaw(&|file| drop(file.as_object_mut().unwrap().remove("producer_version"))),
        invalid
    );
    assert_eq!(
        flaw(&|file| drop(file.as_object_mut().unwrap().remove("signature"))),
        Err(Flaw::SignatureMissing)
    );
    for field in [
        "token_id",
        "approver_identity",
        "reason_code",
        "scope",
        "expires_at",
        "created_at",
    ] {
        let without = flaw(&|file| drop(file.as_object_mut().unwrap().remove(field)));
        assert_eq!(without, Err(Flaw::Invalid), "{field}");
    }
    assert_eq!(
        flaw(&|file| file["schema_version"] = json!("2.0.0")),
        Err(Flaw::Invalid)
    );
    assert_eq!(
        flaw(&|file| file["intent_digest"] = json!("ff")),
        Err(Flaw::Invalid)
    );
}

#[test]
fn a_token_of_another_key_approves_nothing() {
    let stranger = SigningKey::from_seed([8; 32]);
    let (token, _) = Token::mint(&mint("boss"), &stranger, NOW).unwrap();
    assert_eq!(check(&token), Err(Flaw::SignatureInvalid));
}

#[test]
fn what_is_no_token_is_refused_with_its_place() {
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"\xff",
        b"\xef\xbb\xbf{}",
        br#"{"scope":1}"#,
        br#"{"max_ops":"1"}"#,
        br#"{"a":1,"a":1}"#,
    ] {
        let fault = Token::parse(bytes).unwrap_err();
        assert_eq!(fault.code(), "invalid_input", "{fault}");
        assert!(
            fault.message().starts_with("parse approval token"),
            "{fault}"
        );
    }
}

#[test]
fn scopes_are_read_to_the_limit_and_refused_past_it() {
    let with = |count: usize| {
        let scope = (0..count).map(|n| n.to_string()).collect();
        Token::mint(
            &Mint {
                scope,
                ..mint("boss")
            },
            &key(),
            NOW,
        )
    };
    assert!(with(MAX_SCOPE).is_ok());
    assert_eq!(with(MAX_SCOPE + 1).unwrap_err().code(), "token_too_large");
}

#[test]
fn what_approves_nothing_is_not_minted() {
    let refused = |change: &dyn Fn(&mut Mint)| {
        let mut mint = mint("boss");
        change(&mut mint);
        Token::mint(&mint, &key(), NOW).unwrap_err()
    };
    for fault in [
        refused(&|mint| mint.approver_identity = " ".to_owned()),
        refused(&|mint| mint.reason_code.clear()),
        refused(&|mint| mint.scope = vec![" ".to_owned()]),
        refused(&|mint| mint.max_ops = -1),
        refused(&|mint| mint.max_targets = -1),
        refused(&|mint| mint.ttl = SignedDuration::ZERO),
        refused(&|mint| mint.ttl = SignedDuration::MAX),
    ] {
        assert_eq!(fault.code(), "invalid_input", "{fault}");
    }
}

fn weigh(approvers: &[&str], required: usize) -> Approvals {
    let tokens: Vec<_> = approvers
        .iter()
        .map(|approver| token(&mint(approver)))
        .collect();
    let demand = Demand {
        required,
        distinct: required > 1,
    };
    Approvals::weigh(
        &tokens,
        &key().verifying_key(),
        &expected(&plain(), NOW),
        demand,
    )
}

fn audit(approvals: &Approvals) -> Value {
    let intent = plain();
    let subject = Subject {
        created_at: WireTime::at(NOW),
        trace_id: "t",
        tool_name: "tool.delete",
        intent_digest: intent.digest(),
        policy_digest: policy(),
    };
    let bytes = AuditRecord::new(&subject, approvals).bytes().unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn two_tokens_of_one_person_are_neither_enough_nor_audited_as_enough() {
    let approvals = weigh(&["boss", "boss"], 2);
    assert!(!approvals.granted());
    assert_eq!(
        Vec::from_iter(approvals.reason_codes()),
        ["approval_distinct_approvers_required"]
    );
    let audit = audit(&approvals);
    assert_eq!(audit["approved"], false);
    assert_eq!(audit["valid_approvals"], 2);
    assert_eq!(audit["approvers"], json!(["boss"]));
    assert!(!weigh(&["boss", "Boss"], 2).granted());
}

#[test]
fn enough_people_are_audited_with_their_tokens() {
    let approvals = weigh(&["zoe", "boss"], 2);
    assert!(approvals.granted());
    assert_eq!(
        Vec::from_iter(approvals.reason_codes()),
        ["approval_granted"]
    );
    let audit = audit(&approvals);
    assert_eq!(audit["approved"], true);
    assert_eq!(audit["approvers"], json!(["boss", "zoe"]));
    assert_eq!(audit["required_approvals"], 2);
    assert_eq!(audit["entries"][0]["valid"], true);
    assert_eq!(audit["relationship"]["parent_record_id"], "t");
    let ids: Vec<_> = approvals
        .reference()
        .split(',')
        .map(str::to_owned)
        .collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.is_sorted());
}

#[test]
fn one_bad_token_does_not_spoil_a_good_one() {
    let stranger = SigningKey::from_seed([8; 32]);
    let bad = Token::mint(&mint("mallory"), &stranger, NOW).unwrap().0;
    let tokens = [bad, token(&mint("boss"))];
    let demand = Demand {
        required: 1,
        distinct: false,
    };
    let approvals = Approvals::weigh(
        &tokens,
        &key().verifying_key(),
        &expected(&plain(), NOW),
        demand,
    );
    assert!(approvals.granted());
    assert_eq!((approvals.valid(), approvals.required()), (1, 1));
    assert_eq!(
        Vec::from_iter(approvals.reason_codes()),
        ["approval_granted", "approval_token_signature_invalid"]
    );
}

#[test]
fn no_token_at_all_is_named_as_such() {
    let approvals = weigh(&[], 1);
    assert!(!approvals.granted());
    assert_eq!(
        Vec::from_iter(approvals.reason_codes()),
        ["approval_token_missing"]
    );
}

#[test]
fn a_token_that_was_used_is_refused_across_restarts_and_after_it_was_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/redemptions.json");
    let once = changed(|mint| mint.scope.push(SINGLE_USE.to_owned()));
    assert!(once.is_single_use() && !token(&mint("boss")).is_single_use());
    let redemptions = Redemptions::at(&path);
    assert!(!redemptions.used().unwrap()(&once));
    let reserved = redemptions.reserve().unwrap();
    assert!(!reserved.is_used(&once));
    reserved
        .commit([&once].into_iter(), plain().digest(), NOW)
        .unwrap();
    assert!(redemptions.used().unwrap()(&once));
    let end = NOW + SignedDuration::from_hours(1);
    let reserved = redemptions.reserve().unwrap();
    assert!(reserved.is_used(&once));
    reserved
        .commit([].into_iter(), plain().digest(), end)
        .unwrap();
    let remembers = || {
        std::fs::read_to_string(&path)
            .unwrap()
            .contains(once.token_id())
    };
    assert!(remembers(), "nothing was used");
    let later = changed(|mint| {
        mint.scope.push(SINGLE_USE.to_owned());
        mint.ttl = SignedDuration::from_hours(9);
    });
    let reserved = redemptions.reserve().unwrap();
    assert!(!reserved.is_used(&later));
    reserved
        .commit([&later].into_iter(), plain().digest(), end)
        .unwrap();
    assert!(!remembers(), "it had expired");
    assert!(
        redemptions.used().unwrap()(&once),
        "the clock may be set back"
    );
}

#[test]
fn a_reservation_that_is_dropped_uses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("redemptions.json");
    drop(Redemptions::at(&path).reserve().unwrap());
    assert!(!path.exists());
    assert!(Redemptions::at(&path).reserve().is_ok());
}

#[test]
fn a_damaged_memory_of_used_tokens_denies_and_says_how_to_repair_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("redemptions.json");
    for bytes in [&b""[..], b"{}", b"{\"schema_id\":1}", b"[", b"\xff\xfe"] {
        worldcompute_durable::write_atomic(&path, bytes, worldcompute_durable::Mode::Private)
            .unwrap();
        let fault = Redemptions::at(&path).used().err().unwrap();
        assert_eq!(fault.code(), "approval_redemptions_corrupt", "{fault}");
        assert!(fault.message().contains(path.to_str().unwrap()));
        assert!(fault.hint_text().contains("mv "));
        assert!(Redemptions::at(&path).reserve().is_err());
    }
}
