//! What the service keeps of its rulings beside the traces: journals of sessions, runpacks, packs, exports.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use super::boundary::{Boundary, Ruling};
use super::export::Exports;
use crate::limits::invalid;
use crate::run_session::{self, Chain, LockSettings, NewEvent, Session};
use crate::runpack::Stamp;

/// The longest part of a file's name that a session's id becomes.
const MAX_NAME: usize = 64;

/// Where it goes; nothing is kept that has no place.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Journals, one a session.
    pub sessions: Option<PathBuf>,
    /// How writers of one journal wait for each other.
    pub session_lock: LockSettings,
    /// Runpacks and the checkpoints of sessions.
    pub runpacks: Option<PathBuf>,
    /// Packs.
    pub packs: Option<PathBuf>,
    /// Lines for other programs' logs.
    pub exports: Exports,
}

/// What a client wants kept of one ruling.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) runpack: bool,
    pub(super) pack: bool,
    /// A checkpoint of the session whenever its number is a multiple of this; 0 for never.
    pub(super) checkpoint_interval: u32,
}

/// Where a client wants it, instead of where the operator does.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) trace: Option<PathBuf>,
    pub(super) runpack: Option<PathBuf>,
    pub(super) pack: Option<PathBuf>,
    pub(super) journal: Option<PathBuf>,
}

/// The request behind a ruling.
pub(super) struct Asked<'a> {
    pub(super) wish: Wish,
    pub(super) places: &'a Places,
    pub(super) correlation_id: &'a str,
    pub(super) latency_ms: u64,
}

impl Keeping {
    /// Refuses what has no place: `invalid_input`.
    pub(super) fn check(&self, wish: Wish) -> Result<()> {
        for (wanted, place, why) in [
            (
                wish.runpack,
                &self.runpacks,
                "emit_runpack requires a service with --runpack-dir",
            ),
            (
                wish.pack,
                &self.packs,
                "emit_pack requires a service with --pack-dir",
            ),
            (
                wish.checkpoint_interval > 0,
                &self.runpacks,
                "checkpoint_interval requires a service with --runpack-dir",
            ),
        ] {
            if wanted && place.is_none() {
                return Err(invalid(why));
            }
        }
        Ok(())
    }

    /// Keeps `ruling`, and says where.
    pub(super) fn keep(
        &self,
        boundary: &Boundary,
        ruling: &Ruling,
        asked: &Asked<'_>,
    ) -> Result<Map<String, Value>> {
        let (wish, places) = (asked.wish, asked.places);
        let mut told = Map::new();
        let place = |wanted: bool, dir: &Option<PathBuf>, kind: &str| {
            let name = format!("{kind}_{}_{}.zip", ruling.run_id, asked.correlation_id);
            dir.as_ref().filter(|_| wanted).map(|dir| dir.join(name))
        };
        let own = || place(wish.runpack, &self.runpacks, "runpack");
        let runpack = places.runpack.clone().or_else(own);
        if let Some(path) = &runpack {
            boundary.write_runpack(ruling, path)?;
            told.insert("runpack_path".to_owned(), json!(path));
        }
        let own = || place(wish.pack, &self.packs, "pack");
        if let Some(path) = places.pack.clone().or_else(own) {
            let built = boundary.write_pack(ruling, runpack.as_deref(), &path)?;
            told.insert("pack_path".to_owned(), json!(path));
            told.insert("pack_id".to_owned(), built.manifest.pack_id.into());
        }
        self.journal(boundary, ruling, asked, &mut told)?;
        self.exports.append(ruling, asked.latency_ms)?;
        told.extend(self.exports.fields());
        Ok(told)
    }

    fn journal(
        &self,
        boundary: &Boundary,
        ruling: &Ruling,
        asked: &Asked<'_>,
        told: &mut Map<String, Value>,
    ) -> Result<()> {
        let session_id = ruling.intent.context().session_id.trim();
        if session_id.is_empty() {
            return Ok(());
        }
        let own = || Some(self.sessions.as_ref()?.join(journal_name(session_id)));
        let Some(journal) = asked.places.journal.clone().or_else(own) else {
            return Ok(());
        };
        let session = Session {
            journal: &journal,
            lock: self.session_lock,
            producer_version: crate::VERSION,
            now: Stamp::at(boundary.now()),
        };
        session.start(session_id, &ruling.run_id)?;
        let sequence = record(&session, ruling)?;
        told.insert("session_journal".to_owned(), json!(journal));
        told.insert("session_sequence".to_owned(), sequence.into());
        let due = sequence.checked_rem(asked.wish.checkpoint_interval.into()) == Some(0);
        let Some(dir) = self.runpacks.as_ref().filter(|_| due) else {
            return Ok(());
        };
        let out = dir.join(format!("{}_cp_{sequence:06}.zip", file_name(session_id)));
        checkpoint(&session, boundary, &out)?;
        told.insert("session_checkpoint".to_owned(), json!(out));
        told.insert("session_chain".to_owned(), json!(Chain::beside(&journal)));
        Ok(())
    }
}

fn record(session: &Session<'_>, ruling: &Ruling) -> Result<u64> {
    let decision = &ruling.decision;
    let event = session.record(&NewEvent {
        intent_id: "",
        tool_name: ruling.intent.tool_name(),
        intent_digest: &decision.intent_digest().to_string(),
        policy_digest: &decision.policy_digest().to_string(),
        trace_id: decision.trace().trace_id(),
        trace_path: &ruling.trace_path.display().to_string(),
        verdict: &decision.verdict().to_string(),
        reason_codes: decision.reason_codes(),
        violations: decision.violations(),
    })?;
    Ok(event.sequence)
}

fn checkpoint(session: &Session<'_>, boundary: &Boundary, out: &Path) -> Result<()> {
    let key = boundary.gate().signing_key();
    let chain = Chain::beside(session.journal);
    run_session::checkpoint(session, out, &chain, Some(key)).map(drop)
}

/// The name of the file that a session's journal is in.
pub(super) fn journal_name(session_id: &str) -> String {
    format!("{}.journal.jsonl", file_name(session_id))
}

/// A session's id as the name of a file: itself where it can be, else what of it can and a digest that tells it from
/// others.
fn file_name(session_id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if session_id.len() <= MAX_NAME && session_id.chars().all(plain) {
        return session_id.to_owned();
    }
    let kept: String = session_id
        .chars()
        .filter(|c| plain(*c))
        .take(MAX_NAME)
        .collect();
    let digest = Sha256::of(session_id).to_string();
    format!("{kept}.{}", digest.get(..16).unwrap_or(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_a_file_of_its_own_below_the_directory() {
        assert_eq!(file_name("run-7_a"), "run-7_a");
        let ids = [
            "a/b",
            "a b",
            "ab",
            "../ab",
            "ab.",
            "",
            "é",
            &"x".repeat(65),
            &"x".repeat(66),
        ];
        let names: std::collections::BTreeSet<String> = ids.map(file_name).into();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        for name in names {
            assert!(
                !name.contains('/') && name.len() < 100 && name != "..",
                "{name}"
            );
        }
    }
}
