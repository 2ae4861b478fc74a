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
