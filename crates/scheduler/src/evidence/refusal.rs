//! How verification says no: with the part at fault in front.

use std::fmt::Display;

use worldcompute_fault::{Category, Fault};

/// The part is not there.
pub(super) fn missing(part: impl Display, why: &str) -> Fault {
    failed("evidence_missing", part, why)
}

/// The part should not be there.
pub(super) fn unexpected(part: impl Display, why: &str) -> Fault {
    failed("evidence_unexpected", part, why)
}

/// The part has other bytes than those that were signed for.
pub(super) fn changed(part: impl Display, why: &str) -> Fault {
    failed("evidence_changed", part, why)
}

/// The part does not say what it has to.
pub(super) fn invalid(part: impl Display, why: impl Display) -> Fault {
    failed("evidence_invalid", part, why)
}

/// Nothing shows who made the part.
pub(super) fn unproven(part: impl Display, why: &str, hint: &'static str) -> Fault {
    failed("evidence_unproven", part, why).hint(hint)
}

/// The part is past a limit.
pub(super) fn too_large(part: impl Display, limit: impl Display) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "evidence_too_large",
        format!("{part}: exceeds the limit of {limit}"),
    )
}

fn failed(code: &'static str, part: impl Display, why: impl Display) -> Fault {
    Fault::new(Category::VerificationFailed, code, format!("{part}: {why}"))
}
