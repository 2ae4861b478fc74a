//! How this crate refuses.

use worldcompute_fault::{Category, Fault};

/// What can never be accepted as it is.
pub fn invalid(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, code, message)
}

/// Bytes that are not what their name says.
pub fn unproven(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::VerificationFailed, code, message)
}

/// A text of a stranger's, short enough for a message.
pub fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut shown: String = text.chars().take(MAX_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
