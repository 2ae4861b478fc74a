//! An envelope that is read is spelled back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use worldcompute_proof::dsse::Envelope;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::from_bytes(bytes) {
        assert_eq!(envelope.to_bytes().expect("what is read can be written"), bytes);
    }
});
