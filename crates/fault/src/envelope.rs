//! The JSON object that a failed command prints.

use serde::Serialize;

use crate::{Category, Fault, Migration};

/// `{ok, error, error_code, error_category, error_reason?, retryable, hint, remedy?, migration?, correlation_id}`; serialises with sorted keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Envelope {
    /// Finds this run in logs and traces.
    pub correlation_id: String,
    /// What happened.
    pub error: String,
    /// What kind of thing went wrong.
    pub error_category: Category,
    /// The stable snake_case code.
    pub error_code: String,
    /// The cause, where several share the code.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub error_reason: &'static str,
    /// The next action.
    pub hint: String,
    /// What to write instead, where something was that is no longer read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// Always false.
    pub ok: bool,
    /// The next action for the cause.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: &'static str,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

impl Envelope {
    pub(crate) fn of(fault: &Fault, correlation_id: String) -> Self {
        Self {
            correlation_id,
            error: fault.to_string(),
            error_category: fault.category(),
            error_code: fault.code().to_owned(),
            error_reason: fault.reason(),
            hint: fault.hint_text().to_owned(),
            migration: fault.migration().cloned(),
            ok: false,
            remedy: fault.remedy(),
            retryable: fault.retryable(),
        }
    }
}
