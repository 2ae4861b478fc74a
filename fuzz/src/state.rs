//! What the gate remembers between processes: the kill switch, approved scripts, counters, used approvals and the log of
//! adoption. What is read stays readable when something is added, and keeps what was added.

use std::sync::LazyLock;

use crate::files::{NOW, file};
use gait::approval::{self, Redemptions};
use gait::intent::Intent;
use gait::kill_switch::{Decision, Entry, KillSwitch, Status};
use gait::rate_limit::{Charge, Counters};
use gait::scripts::{self, Registry};
use gait::{RateLimit, Scope, Window, oplog};
use jiff::SignedDuration;
use worldcompute_proof::{Sha256, SigningKey};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed([7; 32]));

static SCRIPT: LazyLock<Intent> = LazyLock::new(|| {
    let script = br#"{"tool_name": "script", "context": {"identity": "a", "workspace": "/", "risk_class": "low"},
        "script": {"steps": [{"tool_name": "tool.read", "args": {}}]}}"#;
    Intent::parse(script).expect("a script")
});

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    stops(bytes);
    approves(bytes);
    counts(bytes);
    redeems(bytes);
    let _ = oplog::report(&file("adoption.jsonl", bytes), NOW);
}

fn stops(bytes: &[u8]) {
    let path = file("kill_switch.json", bytes);
    let switch = KillSwitch::at(&path);
    let Ok(Some(state)) = switch.load() else {
        return;
    };
    let _ = Decision::of(&state, &SCRIPT, NOW);
    let entry = Entry {
        entry_id: "entry_of_the_fuzzer".to_owned(),
        enabled: true,
        tool_name: "tool.read".to_owned(),
        ..Entry::default()
    };
    if switch.add(entry, NOW).is_err() {
        return;
    }
    let later = switch.required().expect("what was written is read");
    assert_eq!(later.entries().len(), state.entries().len() + 1);
    assert!(
        state
            .entries()
            .iter()
            .all(|entry| later.entries().contains(entry))
    );
    assert_eq!(Decision::of(&later, &SCRIPT, NOW).status, Status::Active);
}

fn approves(bytes: &[u8]) {
    let path = file("scripts.json", bytes);
    let Ok(registry) = Registry::load(&path) else {
        return;
    };
    let empty = registry.entries().is_empty();
    assert!(empty || registry.verify(&KEY.verifying_key(), NOW).is_err());
    let mint = scripts::Mint {
        intent: &SCRIPT,
        policy_digest: Sha256::of("policy"),
        pattern_id: "pattern_of_the_fuzzer".to_owned(),
        approver_identity: "approver".to_owned(),
        scope: Vec::new(),
        ttl: SignedDuration::from_hours(1),
    };
    let entry = scripts::Entry::mint(&mint, &KEY, NOW).expect("an entry");
    if Registry::put(&path, entry).is_err() {
        return;
    }
    let later = Registry::load(&path).expect("what was written is read");
    assert!(later.find(&SCRIPT, mint.policy_digest, NOW).is_some());
    assert!(later.entries().len() <= registry.entries().len() + 1);
}

fn counts(bytes: &[u8]) {
    let path = file("counters.json", bytes);
    let limit = RateLimit {
        requests: u64::MAX,
        window: Window::Hour,
        scope: Scope::Identity,
    };
    let charges = [Charge::of_rate(limit, SCRIPT.tool_name(), "a", NOW)];
    let Ok(before) = Counters::at(&path).peek(&charges) else {
        return;
    };
    let Ok(charged) = Counters::at(&path).charge(&charges, NOW) else {
        return;
    };
    let after = Counters::at(&path)
        .peek(&charges)
        .expect("what was written is read");
    assert_eq!(after[0].used, charged[0].used);
    assert!(!charged[0].allowed || after[0].used == before[0].used + 1);
}

fn redeems(bytes: &[u8]) {
    let path = file("redemptions.json", bytes);
    let Ok(reserved) = Redemptions::at(&path).reserve() else {
        return;
    };
    let mint = approval::Mint {
        approver_identity: "approver".to_owned(),
        reason_code: "tested".to_owned(),
        intent_digest: SCRIPT.digest(),
        policy_digest: Sha256::of("policy"),
        delegation_binding_digest: None,
        scope: vec!["tool:script".to_owned()],
        max_targets: 0,
        max_ops: 0,
        ttl: SignedDuration::from_hours(1),
    };
    let (token, _) = approval::Token::mint(&mint, &KEY, NOW).expect("a token");
    reserved
        .commit([&token].into_iter(), SCRIPT.digest(), NOW)
        .expect("what is read has room for one more");
    let used = Redemptions::at(&path)
        .used()
        .expect("what was written is read");
    assert!(used(&token));
}
