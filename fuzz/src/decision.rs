//! A policy and an intent, split at the first NUL: no pair makes the evaluation panic, a change of policy that is
//! suggested brings what it promises, and an intent's claims about its own evidence decide nothing.

use gait::policy::why_not::why_not;
use gait::{Evidence, Intent, Policy};

/// Reads and judges; a panic is a finding.
pub fn fuzz(text: &[u8]) {
    let Some(split) = text.iter().position(|byte| *byte == 0) else {
        return;
    };
    let Ok(mut policy) = Policy::parse(&text[..split]) else {
        return;
    };
    let Ok(intent) = Intent::parse(&text[split + 1..]) else {
        return;
    };
    let at = "2026-02-05T00:00:00Z".parse().expect("an instant");
    let prepared = intent
        .prepare(&Evidence::at(at))
        .expect("no evidence contradicts");
    assert!(prepared.intent().context().context_set_digest.is_empty());
    let verdict = policy.evaluate(&prepared).verdict;
    let Some(why) = why_not(&policy, &prepared) else {
        assert_eq!(verdict, gait::Verdict::Allow);
        return;
    };
    if why.change.is_empty() {
        return;
    }
    for edit in &why.change {
        policy = edit.apply(&policy).expect("a suggested edit applies");
    }
    assert!(policy.evaluate(&prepared).verdict <= why.attainable);
}
