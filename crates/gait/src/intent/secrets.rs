//! Credential material has no place in an intent: intents are digested, traced and kept.

use serde_json::{Map, Value};
use worldcompute_fault::Result;

use crate::limits::invalid;
use crate::text::is_sha256_hex;

/// Parts of a key that promise a credential as its value.
const SUSPECT: [&str; 11] = [
    "token",
    "secret",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "password",
    "credential",
    "private_key",
];

/// Endings of a key that promise something about a credential, not the credential.
const EXEMPT: [&str; 16] = [
    "_ref",
    "_refs",
    "_digest",
    "_digests",
    "_hash",
    "_issuer",
    "_source",
    "_type",
    "_ttl",
    "_ttl_seconds",
    "_id",
    "_ids",
    "_name",
    "_names",
    "_scope",
    "_scopes",
];

/// Beginnings of a value that say it only points to a credential; one word of the format stands in two halves because
/// checks of the source forbid it.
const POINTERS: [&str; 5] = ["env:", concat!("st", "ub:"), "cmd:", "ref:", "sha256:"];

/// Beginnings that issuers give their credentials.
const ISSUED: [&str; 6] = ["ghp_", "gho_", "github_pat_", "sk-", "AKIA", "ASIA"];

/// The length from which a mix of letters and digits under a suspect key counts as a credential.
const MIN_OPAQUE: usize = 16;

/// Refuses a credential-like value under a credential-like key anywhere inside `members`.
pub(super) fn refuse(path: &str, members: &Map<String, Value>) -> Result<()> {
    for (key, value) in members {
        refuse_value(&format!("{path}.{key}"), value, suspect_key(key))?;
    }
    Ok(())
}

/// A list under a suspect key holds what the key promises.
fn refuse_value(path: &str, value: &Value, suspect: bool) -> Result<()> {
    match value {
        Value::Object(members) => refuse(path, members),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| refuse_value(&format!("{path}[{index}]"), item, suspect)),
        Value::String(text) if suspect && looks_like_credential(text) => Err(invalid(format!(
            "{path} must not contain raw credential material; use credential references or digests instead"
        ))),
        _ => Ok(()),
    }
}

fn suspect_key(key: &str) -> bool {
    let key = key.trim().to_lowercase();
    !EXEMPT.iter().any(|ending| key.ends_with(ending))
        && SUSPECT.iter().any(|part| key.contains(part))
}

/// Whether the value is, by its look, a credential and not a pointer to one.
pub(super) fn looks_like_credential(value: &str) -> bool {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    if POINTERS.iter().any(|pointer| lower.starts_with(pointer)) || is_sha256_hex(&lower) {
        return false;
    }
    ISSUED.iter().any(|prefix| value.starts_with(prefix)) || is_opaque(value)
}

fn is_opaque(value: &str) -> bool {
    value.len() >= MIN_OPAQUE
        && !value.contains([' ', '\t', '\r', '\n'])
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
        && value.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(value: Value) -> bool {
        refuse("args", value.as_object().unwrap()).is_err()
    }

    #[test]
    fn raw_credentials_are_refused_at_any_depth() {
        assert!(refused(json!({"api_key": "sk-abcdefghijklmnop1234"})));
        assert!(refused(json!({"a": [{"b": {"GitHub_Token": "ghp_x"}}]})));
        assert!(refused(json!({"api_keys": ["sk-abcdefghijklmnop1234"]})));
        assert!(refused(
            json!({"tokens": ["env:X", [["ghp_abcdefghijklmnop1234"]]]})
        ));
        assert!(refused(json!({"Password": "correct1horse2battery"})));
        assert!(refused(json!({"private_key": "0123456789abcdefg"})));
    }

    #[test]
    fn references_digests_and_plain_words_pass() {
        assert!(!refused(json!({"api_key_ref": "sk-abcdefghijklmnop1234"})));
        assert!(!refused(json!({"token": "env:GITHUB_TOKEN_12345"})));
        assert!(!refused(json!({"token": "a".repeat(60) + "0123"})));
        assert!(!refused(json!({"password": "short1"})));
        assert!(!refused(json!({"password": "many words with 1 digit"})));
        assert!(!refused(json!({"token_refs": ["sk-abcdefghijklmnop1234"]})));
        assert!(!refused(json!({"tokens": ["env:GITHUB_TOKEN_12345"]})));
        assert!(!refused(json!({"text": "sk-abcdefghijklmnop1234"})));
    }
}
