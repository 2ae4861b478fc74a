//! A refusal that knows which key of the file it is about.

use worldcompute_fault::{Fault, Result};

/// What is wrong, and where.
pub(in crate::policy) struct Misplaced {
    /// The key, such as `rules[0].effect`; empty when it is the whole file.
    pub(in crate::policy) key: String,
    /// What is wrong.
    pub(in crate::policy) fault: Box<Fault>,
}

/// A checked value.
pub(in crate::policy) type Checked<T> = std::result::Result<T, Misplaced>;

impl From<Fault> for Misplaced {
    fn from(fault: Fault) -> Self {
        Self {
            key: String::new(),
            fault: Box::new(fault),
        }
    }
}

/// Says under which key a value is.
pub(super) trait Under<T> {
    /// The value, or the refusal under `key`.
    fn under(self, key: &str) -> Checked<T>;
}

impl<T> Under<T> for Checked<T> {
    fn under(self, key: &str) -> Self {
        self.map_err(|inner| {
            let joint = match inner.key.as_str() {
                "" => "",
                inner if inner.starts_with('[') => "",
                _ => ".",
            };
            Misplaced {
                key: format!("{key}{joint}{}", inner.key),
                fault: inner.fault,
            }
        })
    }
}

impl<T> Under<T> for Result<T> {
    fn under(self, key: &str) -> Checked<T> {
        self.map_err(Misplaced::from).under(key)
    }
}
