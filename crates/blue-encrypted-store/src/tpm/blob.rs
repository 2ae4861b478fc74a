//! The file of a sealed key: one or two ways to open it with one TPM.

use crate::crypto::{Digest, sha256};
use crate::tpm::PcrValues;

/// The largest file of a sealed key, in bytes.
pub(super) const MAX_BLOB_BYTES: u64 = 4096;
/// What such a file starts with.
const MAGIC: &[u8; 16] = b"blue/tpm2/v1\0\0\0\0";
/// To the registers of now, and to those after an update.
const MAX_SEALS: u8 = 2;

/// The name of a storage key: algorithm and digest of its public area (TPM 2.0 Library part 1, 16).
pub(super) type RootName = [u8; 34];

/// What is in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// The storage key that seals: it tells one TPM from another.
    pub(super) root: RootName,
    pub(super) seals: Vec<Seal>,
}

/// The key, for one state of the registers. Without the TPM it is of no use to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) values: PcrValues,
    /// The `unique` of the sealed object's public area. The rest of that area follows from `values`.
    pub(super) unique: Digest,
    /// The contents of the sealed object's `TPM2B_PRIVATE`.
    pub(super) private: Vec<u8>,
}

impl Blob {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.root);
        bytes.push(u8::try_from(self.seals.len()).unwrap_or(u8::MAX));
        for seal in &self.seals {
            let Seal {
                values: PcrValues { pcr0, pcr7 },
                unique,
                private,
            } = seal;
            bytes.extend_from_slice(&[*pcr0, *pcr7, *unique].concat());
            let length = u16::try_from(private.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(private);
        }
        let digest = sha256(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// `None` for what [`Blob::encode`] does not make.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, digest) = bytes.split_last_chunk::<32>()?;
        let mut rest = content.strip_prefix(MAGIC)?;
        let root = *take::<34>(&mut rest)?;
        let [count] = *take::<1>(&mut rest)?;
        if sha256(content) != *digest || !(1..=MAX_SEALS).contains(&count) {
            return None;
        }
        let seals: Option<Vec<Seal>> = (0..count).map(|_| seal(&mut rest)).collect();
        rest.is_empty().then_some(Self {
            root,
            seals: seals?,
        })
    }
}

fn seal(rest: &mut &[u8]) -> Option<Seal> {
    let values = PcrValues {
        pcr0: *take::<32>(rest)?,
        pcr7: *take::<32>(rest)?,
    };
    let unique = *take::<32>(rest)?;
    let length = u16::from_be_bytes(*take::<2>(rest)?);
    let (private, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(Seal {
        values,
        unique,
        private: private.to_vec(),
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seals() -> impl Strategy<Value = Seal> {
        let digest = any::<[u8; 32]>();
        let private = proptest::collection::vec(any::<u8>(), 0..600);
        (digest, any::<[u8; 32]>(), any::<[u8; 32]>(), private).prop_map(
            |(pcr0, pcr7, unique, private)| Seal {
                values: PcrValues { pcr0, pcr7 },
                unique,
                private,
            },
        )
    }

    fn blobs() -> impl Strategy<Value = Blob> {
        let root = proptest::collection::vec(any::<u8>(), 34);
        (root, proptest::collection::vec(seals(), 1..=2)).prop_map(|(root, seals)| Blob {
            root: root.try_into().unwrap(),
            seals,
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(blob in blobs()) {
            let bytes = blob.encode();
            prop_assert!(bytes.len() as u64 <= MAX_BLOB_BYTES);
            prop_assert_eq!(Blob::decode(&bytes), Some(blob));
        }

        #[test]
        fn no_bytes_are_taken_for_a_sealed_key_and_none_make_it_panic(mut bytes: Vec<u8>, digest: bool) {
            prop_assert_eq!(Blob::decode(&bytes), None);
            bytes.splice(0..0, *MAGIC);
            if digest {
                let digest = sha256(&bytes);
                bytes.extend_from_slice(&digest);
            }
            let _ = Blob::decode(&bytes);
        }
    }

    #[test]
    fn neither_no_way_to_open_it_nor_a_third_is_read() {
        let seal = Seal {
            values: PcrValues {
                pcr0: [1; 32],
                pcr7: [2; 32],
            },
            unique: [3; 32],
            private: vec![4; 100],
        };
        for (count, read) in [(0, false), (1, true), (2, true), (3, false)] {
            let blob = Blob {
                root: [5; 34],
                seals: vec![seal.clone(); count],
            };
            assert_eq!(Blob::decode(&blob.encode()).is_some(), read, "{count}");
        }
    }
}
