//! The two ways this crate says no, and how it quotes what it was given.

use worldcompute_fault::{Category, Fault};

/// The bytes are not what their format requires.
pub(crate) fn malformed(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, code, message.into())
}

/// The bytes are well-formed and do not prove what they claim.
pub(crate) fn unproven(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::VerificationFailed, code, message.into())
}

/// At most the first 64 characters, escaped: what a stranger wrote must not flood or steer a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 64;
    let shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        format!("\"{shown}...\"")
    } else {
        format!("\"{shown}\"")
    }
}
