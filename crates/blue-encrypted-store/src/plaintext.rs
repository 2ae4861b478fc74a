//! A payload in the clear, in memory.

use std::fmt;
use std::ops::{Deref, DerefMut};

use worldcompute_proof::wipe;

/// Decrypted bytes, or bytes that are to be encrypted: wiped on drop, never printed.
///
/// `Zeroizing` wipes a byte at a time, which for 100 KiB takes longer than to encrypt them; [`wipe`] all at once.
#[derive(PartialEq, Eq)]
pub(crate) struct Plaintext(Vec<u8>);

impl Plaintext {
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The same with spaces after it, up to `size` bytes.
    pub(crate) fn padded_to(self, size: usize) -> Self {
        if self.len() >= size {
            return self;
        }
        // Growing in place could leave a copy behind that nobody wipes.
        let mut padded = Vec::with_capacity(size);
        padded.extend_from_slice(&self);
        padded.resize(size, b' ');
        Self(padded)
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plaintext({} bytes)", self.len())
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Plaintext {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_how_long_it_is_and_nothing_else() {
        let secret = Plaintext::new(b"secret".to_vec());
        assert_eq!(format!("{secret:?}"), "Plaintext(6 bytes)");
    }

    #[test]
    fn padding_takes_nothing_away() {
        let padded = |size| Plaintext::new(b"abc".to_vec()).padded_to(size).to_vec();
        assert_eq!([0, 2, 3].map(padded), [b"abc", b"abc", b"abc"]);
        assert_eq!(padded(5), b"abc  ");
    }

    #[cfg(target_os = "linux")]
    mod memory {
        use std::fs::File;
        use std::io::Read as _;
        use std::os::unix::fs::FileExt as _;

        use super::*;

        const WORDS: u64 = 512;
        const PART: usize = 1 << 20;
        /// An allocator writes into the beginning of what is given back to it.
        const SKIPPED: u64 = 16;

        #[test]
        fn what_is_dropped_is_nowhere_in_memory() {
            let seed = u64::from(std::process::id()) << 32;
            let mut search = Search::new();
            let mut bytes = Vec::with_capacity(8 * WORDS as usize);
            (0..WORDS).for_each(|number| bytes.extend_from_slice(&word(seed, number)));
            let payload = Plaintext::new(bytes);
            // The end of a heap would go back to the system when the payload does.
            let behind = vec![1; 8 * WORDS as usize];
            assert!(search.finds(seed), "the search finds what is there");
            drop(payload);
            assert!(!search.finds(seed));
            drop(behind);
        }

        /// One of many that never stand together but in the payload.
        fn word(seed: u64, number: u64) -> [u8; 8] {
            let mixed = (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).to_le_bytes()
        }

        /// Has all the memory that it needs from the start: what was just given back is not to be used again by itself.
        struct Search {
            maps: String,
            part: Vec<u8>,
        }

        impl Search {
            fn new() -> Self {
                Self {
                    maps: String::with_capacity(PART),
                    part: vec![0; PART],
                }
            }

            fn finds(&mut self, seed: u64) -> bool {
                let Self { maps, part } = self;
                maps.clear();
                let mut file = File::open("/proc/self/maps").unwrap();
                file.read_to_string(maps).unwrap();
                let memory = File::open("/proc/self/mem").unwrap();
                let found = maps.lines().filter_map(writable).any(|(start, end)| {
                    // Each part begins with the end of the one before, so that nothing lies between two.
                    let mut starts = (start..end).step_by(PART - 8 * WORDS as usize);
                    starts.any(|start| {
                        // What another thread has given back meanwhile cannot be read.
                        let read = memory.read_at(part, start).unwrap_or(0);
                        holds(part.get(..read).unwrap(), seed)
                    })
                });
                part.fill(0);
                found
            }
        }

        fn writable(line: &str) -> Option<(u64, u64)> {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-').filter(|_| rest.starts_with("rw"))?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?))
        }

        fn holds(part: &[u8], seed: u64) -> bool {
            let first = word(seed, SKIPPED);
            let mut words = part.chunks_exact(8).enumerate();
            words.any(|(at, found)| {
                let rest = part.chunks_exact(8).skip(at);
                found == first
                    && rest
                        .take(64)
                        .eq((SKIPPED..SKIPPED + 64).map(|number| word(seed, number)))
            })
        }
    }
}
