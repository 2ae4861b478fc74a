//! What has to come out of a case whose note marks a defect.

use serde_json::Value;

use crate::case::Case;

/// The right outcome of a defect: its exit code, and the categories it may be given.
pub struct Right {
    /// The exit code.
    pub exit: i64,
    /// One of them, if it is an error.
    pub categories: &'static [&'static str],
}

/// Verdicts on artefacts are exit 2; what a machine or a network does not give is exit 1; what is asked wrongly, 6.
pub fn right(case: &Case) -> Option<Right> {
    let note = case.note.as_str();
    if note.is_empty() {
        return None;
    }
    let verification = Right {
        exit: 2,
        categories: &["verification_failed"],
    };
    let io = Right {
        exit: 1,
        categories: &["io_failure"],
    };
    let usage = Right {
        exit: 6,
        categories: &["invalid_input"],
    };
    let network = Right {
        exit: 1,
        categories: &["network_transient"],
    };
    Some(match case.kind.as_str() {
        "registry_install" => io,
        // Nothing was asked wrongly: the port is refused, and with a server there the same words succeed.
        "registry_install_remote" if case.id.ends_with("fallback-nopin") => network,
        "registry_install_remote" => usage,
        _ if note.starts_with("missing file") => io,
        _ => verification,
    })
}

/// Fields of an output that no case compares: times, paths, words.
pub fn is_compared(field: &str) -> bool {
    !matches!(
        field,
        "error"
            | "hint"
            | "trace_path"
            | "correlation_id"
            | "producer_version"
            | "created_at"
            | "key_id"
    )
}

/// Whether an output field is what is expected. Only where nothing is expected may there be nothing.
pub fn same(expected: &Value, found: Option<&Value>) -> bool {
    match found {
        Some(found) => expected == found,
        None => expected.is_null(),
    }
}
