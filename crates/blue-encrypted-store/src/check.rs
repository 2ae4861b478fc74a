//! The checks that stored bytes must pass, and the fault that names the one they failed.

use std::fmt;

use worldcompute_fault::{Category, Fault};

const HINT: &str = "the table was changed by something that does not hold its keys, or an older copy was put back: \
                    restore the store from a backup";

/// One check of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every attribute is there, known, of its type and length, and of an allowed suite.
    Attributes,
    /// The row is what its key says, and is where it was asked for.
    Address,
    /// The key that opens the ciphertext is the one that closed it.
    Commitment,
    /// AES-GCM authenticates the ciphertext.
    Tag,
    /// HMAC authenticates all attributes of the row.
    Seal,
    /// The manifest lists exactly these rows in these versions.
    Manifest,
    /// The partition is not older than it was before.
    VersionFloor,
    /// The key-encryption key is not of an epoch that has been retired.
    EpochFloor,
    /// The data key that is named is there, and is the one that was wrapped (key check value).
    Kcv,
    /// A chain of the audit is what was written, in the order in which it was written, to its end.
    AuditChain,
}

impl Check {
    /// The stable code of the fault.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Attributes => "attributes_malformed",
            Self::Address => "address_mismatch",
            Self::Commitment => "commitment_mismatch",
            Self::Tag => "tag_mismatch",
            Self::Seal => "seal_mismatch",
            Self::Manifest => "manifest_mismatch",
            Self::VersionFloor => "version_rolled_back",
            Self::EpochFloor => "key_epoch_retired",
            Self::Kcv => "key_check_mismatch",
            Self::AuditChain => "audit_chain_broken",
        }
    }

    /// The fault of `place` (cleartext names only) failing this check because of `why`.
    pub(crate) fn failed(self, place: impl fmt::Display, why: impl fmt::Display) -> Fault {
        Fault::new(
            Category::VerificationFailed,
            self.code(),
            format!("{place}: {why}"),
        )
        .hint(HINT)
    }
}
