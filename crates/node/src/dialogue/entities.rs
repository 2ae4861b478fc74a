//! Which field of which record of a dialogue is cleartext.

use blue_encrypted_store::{Entity, Id, Label};
use gait::runpack::{Manifest, Receipt, Refs, Run, TimelineEvent};
use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use super::Summary;

/// The dialogue itself.
#[derive(Entity)]
#[entity(name = "meta")]
pub struct Dialogue {
    #[clear(listed)]
    pub status: Label,
    #[clear]
    pub recorded_at: Timestamp,
    #[clear]
    pub intents: u32,
    #[clear]
    pub decisions: u32,
    #[clear]
    pub approvals: u32,
    #[clear]
    pub results: u32,
    #[clear]
    pub references: u32,
    #[clear]
    pub events: u32,
    pub manifest: Manifest,
    /// Without its timeline, which are the events.
    pub run: Run,
    /// Without the receipts, which are the references.
    pub refs: Refs,
    /// The digest of all decisions and approvals, in hex.
    pub evidence: String,
}

/// An intent, as its line in the runpack. What is asked tells something by its length.
#[derive(Entity)]
#[entity(name = "intent", padded_to = 128)]
pub struct Intent {
    #[id]
    pub id: Id,
    pub line: String,
}

/// What came of an intent, as its line in the runpack.
#[derive(Entity)]
#[entity(name = "result", padded_to = 128)]
pub struct Outcome {
    #[id]
    pub id: Id,
    pub line: String,
}

/// A decision of the gate, as its signed trace.
#[derive(Entity)]
#[entity(name = "decision")]
pub struct Decision {
    #[id]
    pub id: Id,
    #[clear]
    pub verdict: Label,
    pub trace: String,
}

/// Who approved what, as the gate recorded it.
#[derive(Entity)]
#[entity(name = "approval")]
pub struct Approval {
    #[id]
    pub id: Id,
    #[clear]
    pub approved: bool,
    pub record: String,
}

/// The proof that something was read.
#[derive(Entity)]
#[entity(name = "reference")]
pub struct Reference {
    #[id]
    pub id: Id,
    pub receipt: Receipt,
}

/// Something that happened in the run.
#[derive(Entity)]
#[entity(name = "event")]
pub struct Event {
    #[id]
    pub id: Id,
    pub event: TimelineEvent,
}

impl Dialogue {
    /// What is shown of it.
    pub fn summary(&self, id: String) -> Summary {
        Summary {
            dialogue: id,
            run_id: self.manifest.run_id.clone(),
            manifest_digest: self.manifest.manifest_digest.clone(),
            recorded_at: self.recorded_at,
            intents: self.intents,
            decisions: self.decisions,
            approvals: self.approvals,
            results: self.results,
            references: self.references,
            events: self.events,
        }
    }
}

/// The id of the record at `index` of its type: ids are in the order of the records.
pub fn id(index: usize) -> Id {
    Id::of_number(index as u64, 6)
}

/// How many of a type there are.
pub fn count<T>(records: &[T]) -> Result<u32> {
    u32::try_from(records.len()).map_err(|_| too_long())
}

/// There are more records than a dialogue holds.
pub fn too_long() -> Fault {
    let message = format!(
        "a dialogue holds at most {} records",
        super::MAX_DIALOGUE_RECORDS
    );
    Fault::new(Category::InvalidInput, "dialogue_too_long", message)
        .hint("record the session in several runs")
}
