//! The name of one invocation, which ties its output to its traces and logs.

/// 24 hex digits that no other invocation has.
///
/// The time and the process stand in for randomness that the system refuses: a missing id must not stop a command.
pub fn new_id() -> String {
    let mut bytes = [0; 12];
    if getrandom::fill(&mut bytes).is_ok() {
        return hex::encode(bytes);
    }
    let now = std::time::SystemTime::now();
    let seed = format!("{}:{now:?}", std::process::id());
    let mut id = worldcompute_proof::Sha256::of(seed).to_string();
    id.truncate(24);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_invocations_have_different_ids_of_24_hex_digits() {
        let (first, second) = (new_id(), new_id());
        assert_ne!(first, second);
        for id in [first, second] {
            assert_eq!(id.len(), 24);
            assert!(id.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        }
    }
}
