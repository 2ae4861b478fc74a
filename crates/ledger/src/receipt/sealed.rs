//! Signing, countersigning and opening.

use std::fmt;

use worldcompute_fault::{Fault, Result};
use worldcompute_proof::dsse::Envelope;
use worldcompute_proof::{
    Cid, PeerId, STATEMENT_PAYLOAD_TYPE, SigningKey, Statement, canonical_json, from_canonical_json,
};

use super::check::refused;
use super::{PREDICATE_TYPE, Receipt};

/// Most bytes of a signed receipt.
pub const MAX_RECEIPT_BYTES: usize = 1 << 20;

impl Receipt {
    /// Signs what the holder of `key` executed.
    ///
    /// # Errors
    /// `receipt_inconsistent` for a receipt that contradicts itself or exceeds a limit; `receipt_wrong_key` when
    /// `key` is not the executor's.
    pub fn sign(self, key: &SigningKey) -> Result<ExecutorReceipt> {
        self.check()?;
        own_key("executor", &self.executor, key)?;
        let receipt = self.clone();
        let payload = canonical_json(&self.into_statement())?;
        let envelope = Envelope::sign(STATEMENT_PAYLOAD_TYPE, payload, key);
        Sealed::of(receipt, envelope).map(ExecutorReceipt)
    }
}

/// A receipt that its executor signed, and nobody else yet.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecutorReceipt(Sealed);

impl ExecutorReceipt {
    /// Verifies the canonical bytes of a receipt with exactly one signature, the executor's.
    ///
    /// # Errors
    /// WC-009 with the code `receipt_malformed`, `receipt_inconsistent` or `receipt_signature_invalid`.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        Sealed::open(bytes, |receipt| vec![receipt.executor]).map(Self)
    }

    /// Signs the same payload as the submitter. Who ran their own job has signed already: nobody else vouches for it.
    ///
    /// # Errors
    /// `receipt_wrong_key` when `key` is not that of the submitter whom the receipt names.
    pub fn countersign(self, key: &SigningKey) -> Result<SignedReceipt> {
        let Sealed {
            receipt,
            mut envelope,
            ..
        } = self.0;
        own_key("submitter", &receipt.submitter, key)?;
        if receipt.submitter != receipt.executor {
            envelope.add_signature(key);
        }
        Sealed::of(receipt, envelope).map(SignedReceipt)
    }

    /// The bytes to keep or send.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// What was signed.
    pub fn receipt(&self) -> &Receipt {
        &self.0.receipt
    }
}

/// A receipt that its executor signed and its submitter countersigned.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedReceipt(Sealed);

impl SignedReceipt {
    /// Verifies the canonical bytes of a receipt with exactly two signatures, the executor's and then the
    /// submitter's; with one, where both are the same.
    ///
    /// # Errors
    /// WC-009 with the code `receipt_malformed`, `receipt_inconsistent` or `receipt_signature_invalid`.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        Sealed::open(bytes, |receipt| {
            let mut signers = vec![receipt.executor, receipt.submitter];
            signers.dedup();
            signers
        })
        .map(Self)
    }

    /// The bytes to keep or send.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The name of those bytes.
    pub fn cid(&self) -> Cid {
        Cid::raw(&self.0.bytes)
    }

    /// What was signed.
    pub fn receipt(&self) -> &Receipt {
        &self.0.receipt
    }
}

/// A receipt whose signatures were made or verified here.
#[derive(Clone, PartialEq, Eq)]
struct Sealed {
    receipt: Receipt,
    envelope: Envelope,
    bytes: Vec<u8>,
}

impl Sealed {
    fn of(receipt: Receipt, envelope: Envelope) -> Result<Self> {
        let bytes = envelope.to_bytes()?;
        check_size(&bytes)?;
        Ok(Self {
            receipt,
            envelope,
            bytes,
        })
    }

    fn open(bytes: &[u8], signers: impl Fn(&Receipt) -> Vec<PeerId>) -> Result<Self> {
        check_size(bytes)?;
        let envelope = Envelope::from_bytes(bytes).map_err(malformed)?;
        let receipt = open_payload(&envelope)?;
        check_signatures(&envelope, &signers(&receipt))?;
        Ok(Self {
            receipt,
            envelope,
            bytes: bytes.to_vec(),
        })
    }
}

fn open_payload(envelope: &Envelope) -> Result<Receipt> {
    if envelope.payload_type != STATEMENT_PAYLOAD_TYPE {
        return Err(refused(
            "receipt_malformed",
            "the payload is not an in-toto statement",
        ));
    }
    let statement: Statement<Receipt> =
        from_canonical_json(&envelope.payload, MAX_RECEIPT_BYTES).map_err(malformed)?;
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(refused(
            "receipt_malformed",
            format_args!("the predicate is not {PREDICATE_TYPE}"),
        ));
    }
    let receipt = statement.predicate;
    receipt.check()?;
    if statement.subject != receipt.subjects() {
        return Err(refused(
            "receipt_inconsistent",
            "the subjects are not the results",
        ));
    }
    Ok(receipt)
}

/// Exactly these signers, in this order.
fn check_signatures(envelope: &Envelope, signers: &[PeerId]) -> Result<()> {
    let keys: Vec<_> = signers.iter().map(PeerId::verifying_key).collect();
    let named = envelope
        .signatures
        .iter()
        .map(|signature| signature.keyid.as_str());
    if !named.eq(keys.iter().map(|key| key.key_id())) {
        let expected = signers
            .iter()
            .map(PeerId::to_string)
            .collect::<Vec<_>>()
            .join(", then ");
        let why = format!("the signatures are not exactly those of {expected}");
        return Err(refused("receipt_signature_invalid", why));
    }
    keys.iter()
        .try_for_each(|key| envelope.verify(key))
        .map_err(|fault| refused("receipt_signature_invalid", fault.message()))
}

fn own_key(role: &str, named: &PeerId, key: &SigningKey) -> Result<()> {
    if key.peer_id() == *named {
        return Ok(());
    }
    let why = format!(
        "the receipt names {named} as its {role}, the key is that of {}",
        key.peer_id()
    );
    Err(refused("receipt_wrong_key", why))
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() <= MAX_RECEIPT_BYTES {
        return Ok(());
    }
    Err(refused(
        "receipt_malformed",
        format_args!(
            "{} bytes exceed the limit of {MAX_RECEIPT_BYTES}",
            bytes.len()
        ),
    ))
}

fn malformed(fault: Fault) -> Fault {
    refused("receipt_malformed", fault.message())
}

impl fmt::Debug for ExecutorReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExecutorReceipt")
            .field(self.receipt())
            .finish()
    }
}

impl fmt::Debug for SignedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedReceipt")
            .field(self.receipt())
            .finish()
    }
}
