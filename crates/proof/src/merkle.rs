//! Merkle trees over SHA-256 that prove membership and append-only growth (RFC 6962, section 2.1).
//!
//! Trees are built over leaf hashes. Sizes and indices count leaves; proofs list hashes from leaf to root.

use worldcompute_fault::{Fault, Result};

use crate::digest::{Hasher, Sha256};
use crate::refusal::{malformed, unproven};

/// The longest proof in a tree whose size is a `u64`.
pub const MAX_PROOF: usize = 64;

/// The hash of a leaf with this content.
pub fn leaf_hash(content: &[u8]) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update([0]);
    hasher.update(content);
    hasher.finish()
}

/// The hash of an inner node.
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update([1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// The root of a tree with these leaf hashes; of an empty tree, the hash of nothing.
pub fn root(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => Sha256::of([]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The proof that leaf `index` is in the tree.
///
/// # Errors
/// `invalid_merkle_request` when there is no such leaf.
pub fn inclusion_proof(leaves: &[Sha256], index: usize) -> Result<Vec<Sha256>> {
    if index >= leaves.len() {
        return Err(no_such("leaf", index, leaves.len()));
    }
    let mut proof = Vec::new();
    collect_path(leaves, index, &mut proof);
    Ok(proof)
}

/// The proof that the tree of the first `old_size` leaves is a prefix of the tree of all.
///
/// # Errors
/// `invalid_merkle_request` when there is no such tree.
pub fn consistency_proof(leaves: &[Sha256], old_size: usize) -> Result<Vec<Sha256>> {
    if old_size == 0 || old_size > leaves.len() {
        return Err(no_such("older tree", old_size, leaves.len()));
    }
    let mut proof = Vec::new();
    collect_subproof(leaves, old_size, true, &mut proof);
    Ok(proof)
}

/// Checks that `leaf` is number `index` of the `size` leaves under `root` (RFC 9162, 2.1.3.2).
///
/// # Errors
/// `inclusion_unproven`.
pub fn verify_inclusion(leaf: &Sha256, index: u64, size: u64, proof: &[Sha256], root: &Sha256) -> Result<()> {
    let refused = || unproven("inclusion_unproven", format!("the proof does not show leaf {index} of {size} under this root"));
    if index >= size || proof.len() > MAX_PROOF {
        return Err(refused());
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(refused());
        }
        hash = if node % 2 == 1 || node == last {
            skip_missing_siblings(&mut node, &mut last);
            node_hash(sibling, &hash)
        } else {
            node_hash(&hash, sibling)
        };
        (node, last) = (node >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(refused()) }
}

/// Checks that the tree `new_root` begins with all of the tree `old_root` (RFC 9162, 2.1.4.2).
/// Everything begins with the empty tree, and its proof is empty.
///
/// # Errors
/// `consistency_unproven`.
pub fn verify_consistency(old_size: u64, new_size: u64, old_root: &Sha256, new_root: &Sha256, proof: &[Sha256]) -> Result<()> {
    let refused = || unproven("consistency_unproven", format!("the proof does not show that the tree of {new_size} begins with that of {old_size}"));
    if old_size > new_size || proof.len() > MAX_PROOF + 1 {
        return Err(refused());
    }
    if old_size == 0 {
        let empty = *old_root == Sha256::of([]) && proof.is_empty();
        let same = new_size != 0 || new_root == old_root;
        return if empty && same { Ok(()) } else { Err(refused()) };
    }
    if old_size == new_size {
        return if old_root == new_root && proof.is_empty() { Ok(()) } else { Err(refused()) };
    }
    match replay(old_size, new_size, old_root, proof) {
        Some((old, new)) if old == *old_root && new == *new_root => Ok(()),
        _ => Err(refused()),
    }
}

/// The two roots that a consistency proof leads to, for `0 < old_size < new_size`.
fn replay(old_size: u64, new_size: u64, old_root: &Sha256, proof: &[Sha256]) -> Option<(Sha256, Sha256)> {
    // A complete old tree is itself the first node of the new one, so its proof leaves it out.
    let (first, rest) = if old_size.is_power_of_two() { (old_root, proof) } else { proof.split_first()? };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node % 2 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut old, mut new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return None;
        }
        if node % 2 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            skip_missing_siblings(&mut node, &mut last);
        } else {
            new = node_hash(&new, hash);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some((old, new))
}

/// The last node of a level may have no sibling: it moves up until it is a right child.
fn skip_missing_siblings(node: &mut u64, last: &mut u64) {
    while *node % 2 == 0 && *node != 0 {
        (*node, *last) = (*node >> 1, *last >> 1);
    }
}

/// The largest power of two below `size`, which is at least 2: where RFC 6962 splits a tree.
fn split(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

fn collect_path(leaves: &[Sha256], index: usize, proof: &mut Vec<Sha256>) {
    if leaves.len() < 2 {
        return;
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    match index.checked_sub(left.len()) {
        None => {
            collect_path(left, index, proof);
            proof.push(root(right));
        }
        Some(index) => {
            collect_path(right, index, proof);
            proof.push(root(left));
        }
    }
}

/// `complete`: whether the old tree is the whole of these leaves' left edge, whose root the verifier has.
fn collect_subproof(leaves: &[Sha256], old_size: usize, complete: bool, proof: &mut Vec<Sha256>) {
    if old_size == leaves.len() {
        if !complete {
            proof.push(root(leaves));
        }
        return;
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    match old_size.checked_sub(left.len()) {
        None | Some(0) => {
            collect_subproof(left, old_size, complete, proof);
            proof.push(root(right));
        }
        Some(old_size) => {
            collect_subproof(right, old_size, false, proof);
            proof.push(root(left));
        }
    }
}

fn no_such(what: &str, asked: usize, size: usize) -> Fault {
    malformed("invalid_merkle_request", format!("no {what} {asked} in a tree of {size} leaves"))
}
