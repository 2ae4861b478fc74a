//! What is odd about a policy that is one: it is read as it stands, and may not mean what its writer thinks.

use std::path::Path;

use worldcompute_durable::read_bounded;
use worldcompute_fault::Result;

use super::file::PolicyFile;
use super::{Policy, yaml_options};
use crate::in_file::InFile;
use crate::limits::MAX_POLICY_BYTES;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Policy {
    /// [`Policy::load`], and what is odd about the file, each in a sentence.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_with_warnings(path: &Path) -> Result<(Self, Vec<String>)> {
        let bytes = read_bounded(path, MAX_POLICY_BYTES as u64)?;
        let policy = Self::parse(&bytes).in_file(path)?;
        let warnings = policy.warnings(&bytes);
        Ok((policy, warnings))
    }

    /// What is odd about the policy, which was read from `bytes`.
    fn warnings(&self, bytes: &[u8]) -> Vec<String> {
        let rules = self.rules.iter().flat_map(|rule| {
            let freeze = rule.freeze.iter().flat_map(|freeze| freeze.oddities());
            freeze.map(|oddity| format!("rule {}: freeze_window.{oddity}", rule.name))
        });
        let file = mark(bytes).into_iter().chain(tag(bytes));
        file.chain(rules).collect()
    }
}

fn mark(bytes: &[u8]) -> Option<String> {
    bytes.starts_with(BYTE_ORDER_MARK).then(|| {
        "the file begins with a byte order mark: save it without, other programs take it for a part of the first key"
            .to_owned()
    })
}

/// The first tag that no reader of policies knows.
fn tag(bytes: &[u8]) -> Option<String> {
    let mut options = yaml_options();
    options.reject_unsupported_tags = true;
    // It was read without this option, so nothing but a tag can be the reason.
    let refused = serde_saphyr::from_slice_with_options::<Option<PolicyFile>>(bytes, options).err();
    let line = refused?.without_snippet().location()?.line();
    Some(format!(
        "line {line} has a YAML tag that means nothing in a policy: the value is read as if it were not there"
    ))
}
