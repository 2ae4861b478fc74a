//! The end of a session: how many records it has, signed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

use super::log::SessionLog;
use crate::VERSION;
use crate::signature::SignatureObject;
use crate::wire_time::WireTime;

/// The `schema_id` of the last line of a closed log.
pub(crate) const SCHEMA_ID: &str = "gait.session.decision_close";
pub(super) const SCHEMA_VERSION: &str = "1.0.0";

/// The closing record; its fields are in canonical order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// How many decisions the session has.
    pub count: u64,
    /// When it was closed.
    pub closed_at: WireTime,
    /// The SHA-256 of the last decision's line.
    pub last_record_digest: Sha256,
    pub(super) producer_version: String,
    pub(super) schema_id: String,
    pub(super) schema_version: String,
}

impl SessionLog<'_> {
    /// Signs the count and makes it the last line: nothing can be appended any more, nor go missing unseen.
    ///
    /// What is there is verified first, as [`verify`](super::verify()) does: an end is signed for a whole session only,
    /// and by the key of its decisions, for whoever verifies them verifies it with them.
    ///
    /// Errors: `session_empty`, `session_key_mismatch` for the key of somebody else, those of [`SessionLog::open`] and
    /// those of [`verify`](super::verify()).
    pub fn close(self, key: &SigningKey, now: Timestamp) -> Result<Closing> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            closing: &'a Closing,
            signature: SignatureObject,
        }
        let session = self.open()?;
        let link = session.link();
        let last_record_digest = link.previous.ok_or_else(|| {
            Fault::new(
                Category::InvalidInput,
                "session_empty",
                "the session has no decision to close over",
            )
            .hint("check the --session path")
        })?;
        session.check(&key.verifying_key())?;
        let closing = Closing {
            count: link.sequence.saturating_sub(1),
            closed_at: WireTime::at(now),
            last_record_digest,
            producer_version: VERSION.to_owned(),
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
        };
        let signature = SignatureObject::sign(&canonical_json(&closing)?, key);
        let line = Line {
            closing: &closing,
            signature,
        };
        session.append_line(&canonical_json(&line)?)?;
        Ok(closing)
    }
}
