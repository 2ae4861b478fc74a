//! The limits on everything an outsider can feed the gate. Past any of them the input is refused, never cut.

use serde::de::DeserializeOwned;
use serde_json::Value;
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::MAX_SAFE_INTEGER;

/// Bytes of a policy file.
pub const MAX_POLICY_BYTES: usize = 1 << 20;
/// Rules of a policy.
pub const MAX_RULES: usize = 1024;
/// Entries of any one list of a policy.
pub const MAX_POLICY_LIST: usize = 1024;
/// Bytes of any one string of a policy.
pub const MAX_POLICY_STRING: usize = 4096;
/// Values of a policy file, aliases counted each time they are used.
pub const MAX_POLICY_NODES: usize = 100_000;
/// Levels of nesting of a policy file.
pub const MAX_POLICY_DEPTH: usize = 16;

/// Bytes of an intent, as received and as normalised.
pub const MAX_INTENT_BYTES: usize = 1 << 20;
/// Levels of nesting inside `args` and `auth_context`.
pub const MAX_ARGS_DEPTH: usize = 48;
/// Bytes of one string inside `args` and `auth_context`.
pub const MAX_ARGS_STRING: usize = 256 << 10;
/// Bytes of any other string of an intent.
pub const MAX_FIELD: usize = 4096;
/// Targets of an intent or of one script step.
pub const MAX_TARGETS: usize = 1024;
/// Entries of `arg_provenance` of an intent or of one script step.
pub const MAX_PROVENANCE: usize = 1024;
/// Entries of any other list of an intent.
pub const MAX_INTENT_LIST: usize = 1024;
/// Steps of a script (the format's own limit).
pub const MAX_SCRIPT_STEPS: usize = 64;
/// Links of a delegation chain.
pub const MAX_DELEGATION_CHAIN: usize = 64;

/// Bytes of an approval or delegation token.
pub const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// Entries of the scope of a token.
pub const MAX_SCOPE: usize = 256;
/// Entries of a kill switch.
pub const MAX_KILL_SWITCH_ENTRIES: usize = 10_000;
/// Entries of a registry of approved scripts.
pub const MAX_APPROVED_SCRIPTS: usize = 10_000;
/// Bytes that a credential broker may answer, and say on standard error.
pub const MAX_BROKER_OUTPUT: usize = 16 << 10;
/// Bytes of the reference of a brokered credential.
pub const MAX_CREDENTIAL_REF: usize = 256;
/// Tokens presented for one decision.
pub const MAX_TOKENS: usize = 64;

/// Fixtures of one simulation.
pub const MAX_FIXTURES: usize = 100_000;
/// Levels of directories below which fixtures are looked for.
pub const MAX_FIXTURE_DEPTH: usize = 32;

/// Bytes of a context envelope (the format's own limit).
pub const MAX_ENVELOPE_BYTES: usize = 1 << 20;
/// Documents of a context envelope.
pub const MAX_ENVELOPE_RECORDS: usize = 1024;
/// Bytes of an inventory of tools.
pub const MAX_INVENTORY_BYTES: usize = 8 << 20;
/// Bytes of a snapshot of trust in servers.
pub const MAX_SNAPSHOT_BYTES: usize = 8 << 20;

/// Bytes of a trace.
pub const MAX_TRACE_BYTES: usize = 4 << 20;

/// Bytes of a job's state.
pub const MAX_JOB_STATE_BYTES: usize = 4 << 20;
/// Bytes of one event of a job.
pub const MAX_JOB_EVENT_BYTES: usize = 64 << 10;
/// Bytes of all events of a job.
pub const MAX_JOB_EVENTS_BYTES: u64 = 64 << 20;
/// Checkpoints, and approvals, of a job.
pub const MAX_JOB_CHECKPOINTS: usize = 4096;
/// Bytes of a checkpoint's summary (the format's own limit).
pub const MAX_CHECKPOINT_SUMMARY: usize = 512;
/// Bytes of a list of revoked identities.
pub const MAX_REVOCATIONS_BYTES: u64 = 1 << 20;

/// Bytes of one archive entry, inflated.
pub const MAX_ENTRY_BYTES: u64 = 100 << 20;
/// Entries of an archive.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes of the name of an archive entry.
pub const MAX_ENTRY_NAME: usize = 255;
/// Bytes of all entries of an archive, inflated.
pub const MAX_ARCHIVE_BYTES: u64 = 1 << 30;
/// How many times its own size an archive may inflate to, past [`ARCHIVE_RATIO_FROM`].
pub const MAX_ARCHIVE_RATIO: u64 = 200;
/// Bytes an archive may inflate to whatever its own size: one entry of the largest size, and then some.
pub const ARCHIVE_RATIO_FROM: u64 = 128 << 20;

/// Bytes of a runpack's manifest.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Bytes of the receipts of a runpack, and of a run that is recorded from a file.
pub const MAX_RUN_BYTES: u64 = 16 << 20;
/// Bytes of one intent or result of a runpack (the format's own limit).
pub const MAX_RECORD_BYTES: usize = 10 << 20;
/// Bytes of a run id.
pub const MAX_RUN_ID: usize = 128;
/// Bytes of one line of a JSONL entry, and of one element of a long JSON array.
pub const MAX_JSONL_LINE: usize = 10 << 20;
/// Bytes of a pack's manifest.
pub const MAX_PACK_MANIFEST_BYTES: usize = 4 << 20;
/// Bytes of any other record of a pack that is read as a whole.
pub const MAX_PACK_RECORD_BYTES: usize = 4 << 20;
/// Bytes of one proof record.
pub const MAX_PROOF_RECORD_BYTES: usize = 64 << 10;
/// Reference receipts that are sorted in memory, when a runpack does not have them in order.
pub const MAX_UNSORTED_RECEIPTS: usize = 10_000;

/// Files of evidence that go into one guard pack, of each kind.
pub const MAX_EVIDENCE_FILES: usize = 9_000;
/// Files that a retention goes through.
pub const MAX_RETAIN_FILES: usize = 100_000;
/// Levels of directories that a retention goes down.
pub const MAX_RETAIN_DEPTH: usize = 32;
/// Bytes of a file that is sealed: all of it is held in memory.
pub const MAX_SEALED_BYTES: u64 = 64 << 20;

/// Bytes of the record of a voice call.
pub const MAX_CALL_RECORD_BYTES: usize = 16 << 20;
/// Events, and commitments, decisions and receipts, of a voice call.
pub const MAX_CALL_RECORDS: usize = 10_000;

/// Bytes of one line of an export for other programs' logs.
pub const MAX_EXPORT_LINE: usize = 1 << 20;

/// Bytes of one line of a session journal (the format's own limit).
pub const MAX_SESSION_LINE: usize = 8 << 20;
/// The last number that an event of a session can have: the largest integer that every reader of JSON understands.
pub const MAX_SESSION_SEQUENCE: u64 = MAX_SAFE_INTEGER;
/// Bytes of what is kept of a session journal beside it.
pub const MAX_SESSION_STATE: u64 = 64 << 10;
/// Events of one checkpoint of a session. Some 900 bytes an event: more do not fit into an entry of a runpack.
pub const MAX_CHECKPOINT_EVENTS: u64 = 100_000;
/// Checkpoints of a session.
pub const MAX_SESSION_CHECKPOINTS: usize = 10_000;
/// Bytes of a session chain: some 1,200 a checkpoint.
pub const MAX_CHAIN_BYTES: usize = 32 << 20;

/// Bytes of a regress configuration or of what a fixture expects.
pub const MAX_REGRESS_BYTES: usize = 16 << 20;
/// Fixtures of a regress configuration.
pub const MAX_REGRESS_FIXTURES: usize = 10_000;
/// Graders of a regress configuration that are programs.
pub const MAX_REGRESS_GRADERS: usize = 16;
/// Bytes that such a grader may answer.
pub const MAX_GRADER_OUTPUT: usize = 64 << 10;
/// Seconds that such a grader may take.
pub const MAX_GRADER_TIMEOUT_SECONDS: u64 = 600;
/// Bytes of the name of a fixture.
pub const MAX_FIXTURE_NAME: usize = 128;

/// A refusal of malformed input: code `invalid_input`.
pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, "invalid_input", message)
}

/// Reads a value as a `T`; a refusal names what was done and the member that is wrong, such as
/// `parse intent: context.identity: invalid type: integer, expected a string`, and leaves the value out.
pub fn from_value<T: DeserializeOwned>(action: &str, value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| invalid(format!("{action}: {}", member_error(&error))))
}

/// What is wrong with a value that was read as a type, behind the member that it is wrong with.
pub(crate) fn member_error(error: &TypeError) -> String {
    let why = type_error(error.inner());
    match error.path().to_string().as_str() {
        "." => why,
        member => format!("{member}: {why}"),
    }
}

/// Why a value is not of a type, and where in it.
pub(crate) type TypeError = serde_path_to_error::Error<serde_json::Error>;

/// What is wrong with a type, in the words of serde but for the value itself, which may be a secret.
fn type_error(error: &serde_json::Error) -> String {
    const NAMES_ONLY: [&str; 3] = ["missing field ", "unknown field ", "duplicate field "];
    const OF_TYPES: [&str; 4] = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant ",
    ];
    let text = error.to_string();
    let begins = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    let expected = text.rsplit_once(", expected ");
    match expected {
        _ if begins(&NAMES_ONLY) => text.clone(),
        Some((found, expected)) if begins(&OF_TYPES) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", kind.trim_end())
        }
        _ => "a value is not of the format".to_owned(),
    }
}

/// Refuses `actual` past `limit` under the stable code `code`.
pub(crate) fn at_most(
    what: &str,
    actual: usize,
    limit: usize,
    code: &'static str,
) -> Result<(), Fault> {
    if actual <= limit {
        return Ok(());
    }
    let message = format!("{what}: {actual} is past the limit of {limit}");
    Err(Fault::new(Category::InvalidInput, code, message).hint("split or shorten the input"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;
    use worldcompute_proof::Sha256;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Shape {
        map: serde_json::Map<String, Value>,
        verdict: Option<crate::Verdict>,
        digest: Option<Sha256>,
        number: Option<u8>,
        list: Option<Vec<u8>>,
    }

    fn said(value: Value) -> String {
        let fault = from_value::<Shape>("parse", value).unwrap_err();
        fault.message().to_owned()
    }

    #[test]
    fn a_wrong_type_is_told_without_the_value() {
        const SECRET: &str = "ghp_planted, expected \"`planted";
        for value in [
            json!({"map": SECRET}),
            json!({"map": {}, "verdict": SECRET}),
            json!({"map": {}, "digest": SECRET}),
            json!({"map": {}, "number": SECRET}),
            json!(SECRET),
        ] {
            let said = said(value);
            assert!(!said.contains("planted"), "{said}");
        }
        assert_eq!(
            said(json!({"map": "x"})),
            "parse: map: invalid type: string, expected a map"
        );
        assert!(said(json!({"map": {}, "number": 99_999})).contains("integer, expected u8"));
        assert_eq!(said(json!({})), "parse: missing field `map`");
        assert_eq!(
            said(json!({"map": {}, "list": [1, "x"]})),
            "parse: list[1]: invalid type: string, expected u8"
        );
        assert!(said(json!({"other": 1})).contains("unknown field `other`"));
    }
}
