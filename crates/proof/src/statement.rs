//! The in-toto Statement v1: some named artifacts and what is claimed about them.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The payload type of a statement in a DSSE envelope.
pub const STATEMENT_PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// `predicate` is claimed about every `subject` (in-toto attestation framework, v1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement<P> {
    /// Always `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    pub statement_type: StatementType,
    /// What the claim is about.
    pub subject: Vec<Subject>,
    /// The URI of the predicate's meaning.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The claim.
    pub predicate: P,
}

impl<P> Statement<P> {
    /// A version 1 statement.
    pub fn new(subject: Vec<Subject>, predicate_type: impl Into<String>, predicate: P) -> Self {
        let statement_type = StatementType::V1;
        Self {
            statement_type,
            subject,
            predicate_type: predicate_type.into(),
            predicate,
        }
    }
}

/// The version of the statement format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatementType {
    /// Version 1.
    #[serde(rename = "https://in-toto.io/Statement/v1")]
    V1,
}

/// One artifact: a name, and the digest that decides which bytes are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The artifact's name, unique within the statement.
    pub name: String,
    /// The artifact's digest.
    pub digest: SubjectDigest,
}

impl Subject {
    /// The artifact `name` with these bytes' digest.
    pub fn new(name: impl Into<String>, sha256: Sha256) -> Self {
        Self {
            name: name.into(),
            digest: SubjectDigest { sha256 },
        }
    }
}

/// The digests of an artifact: SHA-256 and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectDigest {
    /// SHA-256 of the artifact's bytes.
    pub sha256: Sha256,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{canonical_json, from_canonical_json};

    fn statement() -> Statement<u8> {
        Statement::new(
            vec![Subject::new("a", Sha256::of("a"))],
            "https://example.org/p",
            7,
        )
    }

    #[test]
    fn a_statement_is_spelled_as_in_toto_says() {
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":7,"predicateType":"https://example.org/p","subject":[{{"digest":{{"sha256":"{}"}},"name":"a"}}]}}"#,
            Sha256::of("a")
        );
        let bytes = canonical_json(&statement()).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(
            from_canonical_json::<Statement<u8>>(&bytes, 1000).unwrap(),
            statement()
        );
    }

    #[test]
    fn another_version_an_unknown_member_or_digest_is_refused() {
        let text = String::from_utf8(canonical_json(&statement()).unwrap()).unwrap();
        let refused = [
            text.replace("Statement/v1", "Statement/v0.1"),
            text.replace("\"sha256\"", "\"md5\""),
            text.replace("\"name\"", "\"naam\""),
            text.replace("\"subject\"", "\"zzz\":1,\"subject\""),
        ];
        for text in refused {
            assert!(
                serde_json::from_str::<Statement<u8>>(&text).is_err(),
                "{text}"
            );
        }
    }
}
