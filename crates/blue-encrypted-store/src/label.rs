//! Words that may be cleartext.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};

use crate::name::is_slug;

/// The longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 64;

/// A word that names a state, a verdict, a sort: `[a-z0-9][a-z0-9._-]*`, at most [`MAX_LABEL_BYTES`]. What somebody said is
/// none, so text does not become cleartext by being called one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// # Errors
    /// `invalid_label` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::try_from(text.to_owned())
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self> {
        if text.len() <= MAX_LABEL_BYTES && is_slug(&text) {
            return Ok(Self(text));
        }
        // The text is not told: it may be what was not to be seen.
        let message = format!("{} bytes are no label", text.len());
        Err(
            Fault::new(Category::InvalidInput, "invalid_label", message).hint(
                "a label has 1 to 64 lowercase letters, digits, '.', '_' and '-'; seal what is no label",
            ),
        )
    }
}

impl FromStr for Label {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_short_word_and_what_is_none_is_not_repeated() {
        let longest = "a".repeat(MAX_LABEL_BYTES);
        for good in ["open", "require_approval", "9.1-b", &longest] {
            assert_eq!(Label::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(MAX_LABEL_BYTES + 1);
        for bad in [
            "",
            "Open",
            "slept badly",
            "a@b.example",
            "é",
            "-a",
            &too_long,
        ] {
            let fault = Label::parse(bad).unwrap_err();
            assert_eq!(fault.code(), "invalid_label", "{bad}");
            assert!(bad.is_empty() || !fault.message().contains(bad));
        }
    }

    #[test]
    fn no_json_makes_a_label_that_is_none() {
        let read: Label = serde_json::from_str("\"done\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"done\"");
        for bad in ["\"slept badly\"", "\"\"", "7", "null"] {
            assert!(serde_json::from_str::<Label>(bad).is_err(), "{bad}");
        }
    }
}
