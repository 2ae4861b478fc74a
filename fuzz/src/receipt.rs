//! Receipts are opened or refused, whoever signed them; what is opened can be told in words.

use std::sync::LazyLock;

use worldcompute_ledger::receipt::{ExecutorReceipt, SignedReceipt};
use worldcompute_proof::dsse::Envelope;
use worldcompute_proof::{STATEMENT_PAYLOAD_TYPE, SigningKey};

static KEYS: LazyLock<[SigningKey; 2]> =
    LazyLock::new(|| [1, 2].map(|seed| SigningKey::from_seed([seed; 32])));

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let _ = ExecutorReceipt::open(bytes);
    open(bytes);
    let [executor, submitter] = &*KEYS;
    let mut envelope = Envelope::sign(STATEMENT_PAYLOAD_TYPE, bytes.to_vec(), executor);
    envelope.add_signature(submitter);
    if let Ok(signed) = envelope.to_bytes() {
        open(&signed);
    }
}

fn open(bytes: &[u8]) {
    if let Ok(receipt) = SignedReceipt::open(bytes) {
        assert_eq!(receipt.bytes(), bytes);
        assert!(
            receipt
                .in_words()
                .chars()
                .all(|c| c == '\n' || !c.is_control())
        );
    }
}
