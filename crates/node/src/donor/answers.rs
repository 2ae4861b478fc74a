//! Which results of others stay here: those that the latest answers name, which their submitters may still fetch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::Result;
use worldcompute_mesh::wire::DispatchReply;
use worldcompute_proof::{Cid, from_canonical_cbor};
use worldcompute_scheduler::donor_log::DonorLog;

use crate::needed::hold;

/// Which part of the content store the results of kept answers may take. The oldest give way beyond that, whether or not
/// they were fetched: whoever asks for results and never comes for them fills no donor for ever.
const SHARE: u64 = 2;

/// Holds the results of the answers that the log keeps, for as long as it keeps them.
pub struct Answers {
    content: Arc<ContentStore>,
    most: u64,
    held: Mutex<BTreeMap<u64, Answer>>,
}

/// What one answer holds.
struct Answer {
    /// Held for as long as this is here.
    _results: Vec<Held>,
    bytes: u64,
}

impl Answers {
    /// Those of the log, in a content store of so many bytes.
    ///
    /// # Errors
    /// For an answer in the log that is none.
    pub fn of(log: &DonorLog, content: &Arc<ContentStore>, room: u64) -> Result<Self> {
        let answers = Self {
            content: content.clone(),
            most: room / SHARE,
            held: Mutex::default(),
        };
        for served in log.served() {
            let reply: DispatchReply = from_canonical_cbor(&served.result)?;
            answers.keep(served.exit, hold(content, named(&reply)), log);
        }
        Ok(answers)
    }

    /// One more that the log keeps; those that have given way to it there let go of theirs.
    pub fn keep(&self, exit: u64, results: Vec<Held>, log: &DonorLog) {
        let bytes = self.bytes(&results);
        let mut held = self.held();
        let answer = Answer {
            _results: results,
            bytes,
        };
        held.insert(exit, answer);
        let oldest = log.oldest().unwrap_or(exit);
        held.retain(|exit, _| *exit >= oldest);
        let mut total: u64 = held.values().map(|answer| answer.bytes).sum();
        while total > self.most && held.len() > 1 {
            let first = held.pop_first();
            total -= first.map_or(0, |(_, answer)| answer.bytes);
        }
    }

    /// What they take at most; results that are gone take nothing.
    fn bytes(&self, results: &[Held]) -> u64 {
        let once: BTreeSet<&Cid> = results.iter().map(Held::cid).collect();
        let sizes = once.into_iter().map(|cid| self.content.size(cid));
        sizes.map(|size| size.unwrap_or(0)).sum()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Answer>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results that an answer names.
fn named(reply: &DispatchReply) -> impl Iterator<Item = &Cid> {
    let outputs = reply.outputs.iter().map(|blob| &blob.cid);
    reply.output_cid.iter().chain(outputs)
}
