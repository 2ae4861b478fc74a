//! Seeded randomness: reproducible by anyone who knows the request.
//!
//! Block `i` of 32 bytes is SHA-256(`"worldcompute/random/v1"` ‖ seed ‖ i), seed and i as eight bytes, big end first.
//! The stream is predictable by design: a guest must not make secrets from it.

use worldcompute_proof::Sha256;

const DOMAIN: &[u8] = b"worldcompute/random/v1";

pub struct Random {
    seed: u64,
    next_block: u64,
    /// Bytes of the current block that are not handed out yet.
    rest: Vec<u8>,
}

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            next_block: 0,
            rest: Vec::new(),
        }
    }

    /// Fills `out` with the next bytes of the stream.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.rest.is_empty() {
                self.rest = self.block();
            }
            let taken = out.len().min(self.rest.len());
            let (head, tail) = out.split_at_mut(taken);
            for (to, from) in head.iter_mut().zip(self.rest.drain(..taken)) {
                *to = from;
            }
            out = tail;
        }
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn block(&mut self) -> Vec<u8> {
        let index = self.next_block;
        self.next_block = self.next_block.wrapping_add(1);
        let message = [DOMAIN, &self.seed.to_be_bytes(), &index.to_be_bytes()].concat();
        Sha256::of(message).as_bytes().to_vec()
    }
}
