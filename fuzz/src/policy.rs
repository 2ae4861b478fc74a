//! What is read as a policy has a normal form that is the same policy, and refusals are told in one line of text.

use gait::Policy;

/// Reads and judges; a panic is a finding.
pub fn fuzz(text: &[u8]) {
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(fault) => {
            assert_eq!(fault.gait_exit_code(), 6, "{fault}");
            return;
        }
    };
    let yaml = policy.to_yaml().expect("what is read can be written");
    let again = Policy::parse(yaml.as_bytes()).expect("the normal form is read");
    assert_eq!(again.digest(), policy.digest(), "{yaml}");
    assert_eq!(again.to_yaml().expect("what is read can be written"), yaml);
}
