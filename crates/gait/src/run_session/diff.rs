//! Two sessions compared, checkpoint by checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use worldcompute_fault::Result;

use super::chain::Chain;
use crate::runpack::{Diff, Privacy, Summary};

/// Compares the chains at `left` and `right` by the digests of their checkpoints. Those cover the runpacks, which are
/// not opened: a checkpoint that is different may be so in any of its entries, and all of them count as changed.
///
/// # Errors
/// Those of [`Chain::linked`].
pub fn diff(left: &Path, right: &Path, privacy: Privacy) -> Result<Diff> {
    let (left, right) = (Chain::linked(left)?, Chain::linked(right)?);
    let files_changed = changed_checkpoints(&left, &right);
    let changed = !files_changed.is_empty();
    Ok(Diff {
        privacy,
        summary: Summary {
            run_id_left: left.run_id,
            run_id_right: right.run_id,
            manifest_changed: changed,
            files_changed,
            intents_changed: changed,
            results_changed: changed,
            refs_changed: changed,
            ..Summary::default()
        },
    })
}

fn changed_checkpoints(left: &Chain, right: &Chain) -> Vec<String> {
    let (left, right) = (digests(left), digests(right));
    let mut changed: Vec<String> = left
        .iter()
        .filter_map(|(index, digest)| match right.get(index) {
            None => Some(format!("left_only_checkpoint_{index}")),
            Some(other) => (other != digest).then(|| format!("checkpoint_{index}")),
        })
        .collect();
    let right_only = right.keys().filter(|index| !left.contains_key(index));
    changed.extend(right_only.map(|index| format!("right_only_checkpoint_{index}")));
    changed.sort();
    changed
}

fn digests(chain: &Chain) -> BTreeMap<u64, &str> {
    let checkpoints = chain.checkpoints.iter();
    checkpoints
        .map(|checkpoint| {
            (
                checkpoint.checkpoint_index,
                checkpoint.checkpoint_digest.as_str(),
            )
        })
        .collect()
}
