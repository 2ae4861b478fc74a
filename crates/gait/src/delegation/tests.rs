use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_proof::{Sha256, SigningKey};

use super::*;
use crate::intent::Intent;
use crate::trace::Subject;
use crate::wire_time::WireTime;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn policy() -> Sha256 {
    Sha256::of(b"policy")
}

fn intent(chain: &[(&str, &str)]) -> Intent {
    let links: Vec<_> = chain
        .iter()
        .map(|(from, to)| json!({"delegator_identity": from, "delegate_identity": to}))
        .collect();
    let requester = chain.last().map_or("worker", |(_, to)| to);
    let intent = json!({
        "tool_name": "tool.write",
        "delegation": {"requester_identity": requester, "chain": links},
        "context": {"identity": requester, "workspace": "w", "risk_class": "low"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn mint(from: &str, to: &str) -> Mint {
    Mint {
        delegator_identity: from.to_owned(),
        delegate_identity: to.to_owned(),
        scope: vec!["Tool:tool.write".to_owned()],
        scope_class: "Write".to_owned(),
        intent_digest: None,
        policy_digest: None,
        ttl: SignedDuration::from_hours(1),
    }
}

fn token(from: &str, to: &str) -> Token {
    Token::mint(&mint(from, to), &key(), NOW).unwrap().0
}

fn validate(tokens: &[Token], intent: &Intent) -> Chain {
    let scope = ["write".to_owned()];
    Chain::validate(
        tokens,
        &key().verifying_key(),
        intent,
        policy(),
        &scope,
        NOW,
    )
}

fn codes(chain: &Chain) -> Vec<&'static str> {
    chain.reason_codes().into_iter().collect()
}

#[test]
fn a_chain_is_complete_when_each_link_has_a_token_in_any_order() {
    let intent = intent(&[("lead", "manager"), ("manager", "worker")]);
    let chain = validate(
        &[token("manager", "worker"), token("lead", "manager")],
        &intent,
    );
    assert!(chain.granted());
    assert_eq!(
        (chain.valid(), codes(&chain)),
        (2, vec!["delegation_granted"])
    );
    assert_eq!(chain.reference().split(',').count(), 2);
}

#[test]
fn a_token_serves_one_link_only() {
    let intent = intent(&[("a", "b"), ("b", "a"), ("a", "b")]);
    let chain = validate(&[token("a", "b"), token("b", "a")], &intent);
    assert!(!chain.granted());
    assert_eq!(
        (chain.valid(), codes(&chain)),
        (
            2,
            vec!["delegation_chain_insufficient", "delegation_token_missing"]
        )
    );
    assert_eq!(chain.reference(), "");
}

#[test]
fn a_delegation_without_a_chain_needs_one_token_for_the_requester() {
    let intent = intent(&[]);
    assert!(validate(&[token("anybody", "worker")], &intent).granted());
    let chain = validate(&[token("anybody", "stranger")], &intent);
    assert_eq!(
        codes(&chain),
        [
            "delegation_chain_insufficient",
            "delegation_token_delegate_mismatch",
            "delegation_token_missing"
        ]
    );
}

#[test]
fn an_intent_without_a_delegation_is_never_delegated() {
    let alone = json!({
        "tool_name": "tool.write",
        "context": {"identity": "worker", "workspace": "w", "risk_class": "low"}
    });
    let alone = Intent::parse(alone.to_string().as_bytes()).unwrap();
    let chain = validate(&[token("lead", "worker")], &alone);
    assert!(!chain.granted());
    assert_eq!(
        codes(&chain),
        [
            "delegation_chain_insufficient",
            "delegation_token_chain_mismatch"
        ]
    );
    assert_eq!(codes(&validate(&[], &alone)), ["delegation_token_missing"]);
}

fn flaw(change: impl FnOnce(&mut Mint), now: Timestamp) -> Result<(), Flaw> {
    let intent = intent(&[("lead", "worker")]);
    let mut mint = mint("lead", "worker");
    change(&mut mint);
    let token = Token::mint(&mint, &key(), NOW).unwrap().0;
    let expected = Expected {
        delegator: "lead",
        delegate: "worker",
        scope: &["write".to_owned(), "deploy".to_owned()],
        intent_digest: Some(intent.digest()),
        policy_digest: Some(policy()),
        now,
    };
    token.check(&key().verifying_key(), &expected)
}

#[test]
fn each_check_has_its_own_code() {
    let other = Some(Sha256::of(b"other"));
    let end = NOW + SignedDuration::from_hours(1);
    assert_eq!(flaw(|_| {}, NOW), Ok(()));
    assert_eq!(flaw(|_| {}, end), Err(Flaw::Expired));
    let never_set = Timestamp::constant(157_766_400, 0);
    assert_eq!(flaw(|_| {}, never_set), Err(Flaw::Expired));
    assert_eq!(
        flaw(|mint| mint.delegator_identity = "x".to_owned(), NOW),
        Err(Flaw::DelegatorMismatch)
    );
    assert_eq!(
        flaw(|mint| mint.delegate_identity = "x".to_owned(), NOW),
        Err(Flaw::DelegateMismatch)
    );
    assert_eq!(
        flaw(|mint| mint.intent_digest = other, NOW),
        Err(Flaw::IntentMismatch)
    );
    assert_eq!(
        flaw(|mint| mint.policy_digest = other, NOW),
        Err(Flaw::PolicyMismatch)
    );
    assert_eq!(
        flaw(|mint| mint.policy_digest = Some(policy()), NOW),
        Ok(())
    );
    assert_eq!(
        flaw(|mint| mint.scope_class = "read".to_owned(), NOW),
        Err(Flaw::ScopeMismatch)
    );
    let star =
        |mint: &mut Mint| (mint.scope, mint.scope_class) = (vec!["*".to_owned()], String::new());
    assert_eq!(flaw(star, NOW), Ok(()));
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    let (_, bytes) = Token::mint(&mint("lead", "worker"), &key(), NOW).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let flaw = |change: &dyn Fn(&mut Value)| {
        let mut changed = file.clone();
        change(&mut changed);
        let token = Token::parse(changed.to_string().as_bytes()).unwrap();
        codes(&validate(&[token], &intent(&[("lead", "worker")])))
    };
    assert_eq!(flaw(&|_| {}), ["delegation_granted"]);
    let invalid = "delegation_token_signature_invalid";
    assert!(flaw(&|file| file["more"] = json!(true)).contains(&invalid));
    assert!(flaw(&|file| file["expires_at"] = json!("2100-01-01T00:00:00Z")).contains(&invalid));
    let missing = flaw(&|file| drop(file.as_object_mut().unwrap().remove("signature")));
    assert!(missing.contains(&"delegation_token_signature_missing"));
    assert!(flaw(&|file| file["scope"] = json!([])).contains(&"delegation_token_invalid"));
}

#[test]
fn the_audit_says_who_lent_to_whom_and_what_is_missing() {
    let intent = intent(&[("lead", "manager"), ("manager", "worker")]);
    let chain = validate(&[token("lead", "manager")], &intent);
    let subject = Subject {
        created_at: WireTime::at(NOW),
        trace_id: "t",
        tool_name: "tool.write",
        intent_digest: intent.digest(),
        policy_digest: policy(),
    };
    let bytes = AuditRecord::new(&subject, &chain, true).bytes().unwrap();
    let audit: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(audit["delegated"], false);
    assert_eq!(audit["valid_delegations"], 1);
    assert_eq!(audit["delegation_required"], true);
    assert_eq!(
        audit["entries"][1]["error_code"],
        "delegation_token_missing"
    );
    assert_eq!(audit["entries"][1]["delegate_identity"], "worker");
    assert_eq!(
        audit["relationship"]["agent_chain"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn what_delegates_nothing_is_not_minted() {
    for (from, to, scope) in [("", "b", "s"), ("a", " ", "s"), ("a", "b", " ")] {
        let scope = vec![scope.to_owned()];
        let refused = Token::mint(
            &Mint {
                scope,
                ..mint(from, to)
            },
            &key(),
            NOW,
        );
        assert_eq!(refused.unwrap_err().code(), "invalid_input");
    }
}
