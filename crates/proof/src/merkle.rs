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
pub fn verify_inclusion(
    leaf: &Sha256,
    index: u64,
    size: u64,
    proof: &[Sha256],
    root: &Sha256,
) -> Result<()> {
    let refused = || {
        unproven(
            "inclusion_unproven",
            format!("the proof does not show leaf {index} of {size} under this root"),
        )
    };
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
    if last == 0 && hash == *root {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Checks that the tree `new_root` begins with all of the tree `old_root` (RFC 9162, 2.1.4.2).
/// Everything begins with the empty tree, and its proof is empty.
///
/// # Errors
/// `consistency_unproven`.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Sha256,
    new_root: &Sha256,
    proof: &[Sha256],
) -> Result<()> {
    let refused = || {
        unproven(
            "consistency_unproven",
            format!(
                "the proof does not show that the tree of {new_size} begins with that of {old_size}"
            ),
        )
    };
    if old_size > new_size || proof.len() > MAX_PROOF + 1 {
        return Err(refused());
    }
    if old_size == 0 {
        let empty = *old_root == Sha256::of([]) && proof.is_empty();
        let same = new_size != 0 || new_root == old_root;
        return if empty && same {
            Ok(())
        } else {
            Err(refused())
        };
    }
    if old_size == new_size {
        return if old_root == new_root && proof.is_empty() {
            Ok(())
        } else {
            Err(refused())
        };
    }
    match replay(old_size, new_size, old_root, proof) {
        Some((old, new)) if old == *old_root && new == *new_root => Ok(()),
        _ => Err(refused()),
    }
}

/// The two roots that a consistency proof leads to, for `0 < old_size < new_size`.
fn replay(
    old_size: u64,
    new_size: u64,
    old_root: &Sha256,
    proof: &[Sha256],
) -> Option<(Sha256, Sha256)> {
    // A complete old tree is itself the first node of the new one, so its proof leaves it out.
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first()?
    };
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
    while node.is_multiple_of(2) && *node != 0 {
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
    malformed(
        "invalid_merkle_request",
        format!("no {what} {asked} in a tree of {size} leaves"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The eight leaves and roots of the certificate-transparency project's reference tests.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn known_leaves() -> Vec<Sha256> {
        LEAVES
            .iter()
            .map(|hex| leaf_hash(&hex::decode(hex).unwrap()))
            .collect()
    }

    fn leaves(size: usize) -> Vec<Sha256> {
        (0..size)
            .map(|index| leaf_hash(&index.to_be_bytes()))
            .collect()
    }

    fn flipped(hash: &Sha256, bit: usize) -> Sha256 {
        let mut bytes = *hash.as_bytes();
        bytes[bit / 8 % 32] ^= 1 << (bit % 8);
        Sha256::from_bytes(bytes)
    }

    fn hashes(hex: &[&str]) -> Vec<Sha256> {
        hex.iter().map(|hex| hex.parse().unwrap()).collect()
    }

    #[test]
    fn known_roots_hold() {
        for (size, expected) in (1..).zip(ROOTS) {
            assert_eq!(root(&known_leaves()[..size]).to_string(), expected);
        }
        assert_eq!(root(&[]), Sha256::of(""));
    }

    #[test]
    fn known_proofs_hold() {
        let inclusion = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(
            inclusion_proof(&known_leaves(), 0).unwrap(),
            hashes(&inclusion)
        );
        let consistency = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(
            consistency_proof(&known_leaves(), 6).unwrap(),
            hashes(&consistency)
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies() {
        for size in 1..=33 {
            let leaves = leaves(size);
            let top = root(&leaves);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index).unwrap();
                verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &top).unwrap();
                let old = root(&leaves[..=index]);
                let proof = consistency_proof(&leaves, index + 1).unwrap();
                verify_consistency(index as u64 + 1, size as u64, &old, &top, &proof).unwrap();
            }
        }
    }

    #[test]
    fn a_leaf_is_shown_at_no_other_index_or_size() {
        for size in 1..=17_u64 {
            let leaves = leaves(size as usize);
            let top = root(&leaves);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index as usize).unwrap();
                let shown = |at, of| {
                    verify_inclusion(&leaves[index as usize], at, of, &proof, &top).is_ok()
                };
                for other in (0..2 * size).chain([u64::MAX - 1, u64::MAX]) {
                    assert!(
                        other == index || !shown(other, size),
                        "leaf {index} of {size} at {other}"
                    );
                    // The same path can lead to the same root from a tree of another size; the root
                    // and its size are what a tree head signs together.
                    assert!(
                        other > index || !shown(index, other),
                        "leaf {index} of {size} in {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_empty_tree_begins_every_tree_and_proves_no_leaf() {
        let (empty, other) = (root(&[]), root(&leaves(3)));
        verify_consistency(0, 3, &empty, &other, &[]).unwrap();
        verify_consistency(0, 0, &empty, &empty, &[]).unwrap();
        assert!(verify_consistency(0, 0, &empty, &other, &[]).is_err());
        assert!(verify_consistency(0, 3, &other, &other, &[]).is_err());
        assert!(verify_consistency(0, 3, &empty, &other, &[empty]).is_err());
        assert!(verify_inclusion(&empty, 0, 0, &[], &empty).is_err());
    }

    #[test]
    fn there_is_no_proof_of_what_is_not_there() {
        assert_eq!(
            inclusion_proof(&leaves(3), 3).unwrap_err().code(),
            "invalid_merkle_request"
        );
        assert_eq!(
            inclusion_proof(&[], 0).unwrap_err().code(),
            "invalid_merkle_request"
        );
        for old_size in [0, 4] {
            assert_eq!(
                consistency_proof(&leaves(3), old_size).unwrap_err().code(),
                "invalid_merkle_request"
            );
        }
    }

    #[test]
    fn an_endless_proof_is_refused() {
        let leaf = leaf_hash(b"");
        let proof = vec![leaf; MAX_PROOF + 2];
        for proof in [&proof[..MAX_PROOF], &proof[..MAX_PROOF + 1], &proof] {
            assert!(verify_inclusion(&leaf, 5, u64::MAX, proof, &leaf).is_err());
            assert!(verify_consistency(5, u64::MAX, &leaf, &leaf, proof).is_err());
        }
    }

    #[test]
    fn a_leaf_cannot_pose_as_a_node() {
        let pair = leaves(2);
        let content = [pair[0].as_bytes().as_slice(), pair[1].as_bytes()].concat();
        assert_ne!(leaf_hash(&content), root(&pair));
    }

    proptest! {
        #[test]
        fn a_bent_inclusion_proof_is_refused(size in 1_usize..200, pick: prop::sample::Index, bit in 0_usize..256) {
            let leaves = leaves(size);
            let index = pick.index(size);
            let top = root(&leaves);
            let proof = inclusion_proof(&leaves, index).unwrap();
            let check = |leaf: &Sha256, proof: &[Sha256], top: &Sha256| {
                verify_inclusion(leaf, index as u64, size as u64, proof, top).is_ok()
            };
            prop_assert!(check(&leaves[index], &proof, &top));
            prop_assert!(!check(&flipped(&leaves[index], bit), &proof, &top));
            prop_assert!(!check(&leaves[index], &proof, &flipped(&top, bit)));
            prop_assert!(!check(&leaves[index], &[proof.as_slice(), &[top]].concat(), &top));
            for position in 0..proof.len() {
                let mut bent = proof.clone();
                bent[position] = flipped(&bent[position], bit);
                prop_assert!(!check(&leaves[index], &bent, &top));
                bent.remove(position);
                prop_assert!(!check(&leaves[index], &bent, &top));
            }
        }

        #[test]
        fn a_bent_consistency_proof_is_refused(size in 1_usize..200, pick: prop::sample::Index, bit in 0_usize..256) {
            let leaves = leaves(size);
            let old_size = pick.index(size) + 1;
            let (old, new) = (root(&leaves[..old_size]), root(&leaves));
            let proof = consistency_proof(&leaves, old_size).unwrap();
            let check = |old: &Sha256, new: &Sha256, proof: &[Sha256]| {
                verify_consistency(old_size as u64, size as u64, old, new, proof).is_ok()
            };
            prop_assert!(check(&old, &new, &proof));
            prop_assert!(!check(&flipped(&old, bit), &new, &proof));
            prop_assert!(!check(&old, &flipped(&new, bit), &proof));
            prop_assert!(!check(&old, &new, &[proof.as_slice(), &[old]].concat()));
            for position in 0..proof.len() {
                let mut bent = proof.clone();
                bent[position] = flipped(&bent[position], bit);
                prop_assert!(!check(&old, &new, &bent));
                bent.remove(position);
                prop_assert!(!check(&old, &new, &bent));
            }
        }

        #[test]
        fn a_rewritten_history_is_never_consistent(size in 2_usize..100, pick: prop::sample::Index) {
            let honest = leaves(size);
            let old_size = pick.index(size - 1) + 1;
            let mut rewritten = honest.clone();
            rewritten[old_size - 1] = leaf_hash(b"rewritten");
            let proof = consistency_proof(&rewritten, old_size).unwrap();
            let (old, new) = (root(&honest[..old_size]), root(&rewritten));
            prop_assert!(verify_consistency(old_size as u64, size as u64, &old, &new, &proof).is_err());
        }

        #[test]
        fn any_numbers_are_checked_without_panic(index: u64, size: u64, length in 0_usize..80) {
            let hash = leaf_hash(b"");
            let proof = vec![hash; length];
            let _ = verify_inclusion(&hash, index, size, &proof, &hash);
            let _ = verify_consistency(index, size, &hash, &hash, &proof);
        }
    }
}
