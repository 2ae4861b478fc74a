//! Recorded sessions of agents in the encrypted store: what was intended, decided, approved, returned and read.
//!
//! A dialogue is a runpack with the evidence of the gate, in a partition of its own. What was asked and answered is sealed;
//! anybody who reads the table sees how many records there are, when they were put there, and the verdicts. It is read back
//! as the runpack that it was: the same entries, digests and signatures, or not at all.

mod entities;
mod parts;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use blue_encrypted_store::{
    Confirming, CrossPartition, Hint, Id, Kind, MAX_BATCH_RECORDS, META, Partition,
    PartitionVersion, Snapshot, Store,
};
use jiff::Timestamp;
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use crate::blocking::blocking;
use entities::Dialogue;
use parts::Parts;

/// The most records of all types in one dialogue: it is written all at once or not at all.
pub const MAX_DIALOGUE_RECORDS: usize = MAX_BATCH_RECORDS - 1;

/// What a recorded dialogue is listed under.
const RECORDED: &str = "recorded";

/// What goes into a dialogue.
pub struct Session {
    /// The runpack.
    pub runpack: PathBuf,
    /// Traces of the gate's decisions in it.
    pub traces: Vec<PathBuf>,
    /// The gate's records of approvals for them.
    pub approvals: Vec<PathBuf>,
}

/// A dialogue, without what was said in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its id in the store.
    pub dialogue: String,
    /// The run.
    pub run_id: String,
    /// The digest of its runpack's manifest, in hex.
    pub manifest_digest: String,
    /// When it was put into the store.
    pub recorded_at: Timestamp,
    /// How many records of each type there are.
    pub intents: u32,
    pub decisions: u32,
    pub approvals: u32,
    pub results: u32,
    pub references: u32,
    pub events: u32,
}

/// Puts `session` into the store, all of it or nothing, and makes sure that it can be read back. What is there already
/// stays as it is.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold or cannot be read back as it is; `invalid_input` for what is no
/// trace and no record of approvals; `dialogue_too_long` past [`MAX_DIALOGUE_RECORDS`]; `dialogue_exists` for another
/// session of the same run; those of the store.
pub async fn record(store: &Store, session: Session) -> Result<Summary> {
    let parts = blocking(move || Parts::gather(&session, Timestamp::now())).await?;
    let partition = partition_of(store, &parts.dialogue.manifest.run_id)?;
    let id = partition.key().id.to_string();
    if let Some(snapshot) = partition.load().await? {
        return there_already(id, &snapshot, &parts.dialogue);
    }
    let summary = parts.dialogue.summary(id);
    let batch = blocking(move || parts.batch()).await?;
    partition.commit(batch, PartitionVersion::NONE).await?;
    Ok(summary)
}

/// The dialogues in a store.
#[derive(Debug, Default, Serialize)]
pub struct Listed {
    /// The longest there first.
    pub dialogues: Vec<Summary>,
    /// Those that were recorded, and are not what was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
}

/// A dialogue that does not verify.
#[derive(Debug, Serialize)]
pub struct Damaged {
    /// Its id in the store.
    pub dialogue: String,
    /// The code of the fault that reading it gives.
    pub code: String,
}

/// The dialogues in the store. One that is damaged keeps no other from being listed.
///
/// # Errors
/// Those of the store; `too_many_rows` when there are too many to list.
pub async fn list(store: &Store) -> Result<Listed> {
    let (mut listed, mut seen) = (Listed::default(), HashSet::new());
    let hints = store.list(Kind::DIALOGUE, RECORDED).await?;
    let mut confirming = store.confirming();
    for hint in hints {
        let id = hint.partition.id.to_string();
        if hint.entity_type != META || !seen.insert(id.clone()) {
            continue;
        }
        match summary(&mut confirming, &hint).await {
            Ok(found) => listed.dialogues.extend(found),
            Err(fault) if fault.category() == Category::VerificationFailed => {
                let code = fault.code().to_owned();
                listed.damaged.push(Damaged { dialogue: id, code });
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(listed)
}

async fn summary(confirming: &mut Confirming<'_>, hint: &Hint) -> Result<Option<Summary>> {
    let id = hint.partition.id.to_string();
    let snapshot = confirming.confirm(hint).await?;
    let found = snapshot.map(|snapshot| dialogue(&id, &snapshot));
    Ok(found.transpose()?.map(|dialogue| dialogue.summary(id)))
}

/// Verifies that the dialogue `id` is what was recorded, to the digest, and writes its runpack to `out`, if given, all or
/// nothing.
///
/// # Errors
/// `dialogue_not_found`; `verification_failed` when it is not what its manifest says; those of the store and of writing.
pub async fn read(store: &Store, id: &str, out: Option<&Path>) -> Result<Summary> {
    let partition = store.partition(Kind::DIALOGUE, id)?;
    let snapshot = partition.load().await?.ok_or_else(|| not_found(id))?;
    let dialogue = dialogue(id, &snapshot)?;
    let (summary, out) = (dialogue.summary(id.to_owned()), out.map(Path::to_owned));
    blocking(move || Parts::read(&snapshot, dialogue)?.restore(out.as_deref())).await?;
    Ok(summary)
}

/// The partition of the run: named after it, or after its digest where its name is none for a partition.
fn partition_of(store: &Store, run_id: &str) -> Result<Partition> {
    match Id::parse(run_id) {
        Ok(id) => store.partition(Kind::DIALOGUE, id.as_str()),
        Err(_) => store.partition(Kind::DIALOGUE, &format!("run-{}", Sha256::of(run_id))),
    }
}

fn dialogue(id: &str, snapshot: &Snapshot) -> Result<Dialogue> {
    let found = snapshot.get::<Dialogue>("")?.ok_or_else(|| not_found(id))?;
    Ok(found.into_value())
}

/// Recording the same session again changes nothing; another one does not take its place.
fn there_already(id: String, snapshot: &Snapshot, given: &Dialogue) -> Result<Summary> {
    let found = dialogue(&id, snapshot)?;
    let same = found.manifest.manifest_digest == given.manifest.manifest_digest
        && found.evidence == given.evidence;
    match same {
        true => Ok(found.summary(id)),
        false => Err(exists(&id)),
    }
}

fn exists(id: &str) -> Fault {
    let message = format!("the store has another session of dialogue {id}");
    Fault::new(Category::InvalidInput, "dialogue_exists", message)
        .hint("record the session as another run, with --run-id")
}

fn not_found(id: &str) -> Fault {
    let message = format!("the store has no dialogue {id:.200?}");
    Fault::new(Category::InvalidInput, "dialogue_not_found", message)
        .hint("'worldcompute store dialogue list' shows those that there are")
}
