//! Whatever file a stranger hands to the verifier: what it is called follows from its bytes, the verifier of its kind
//! finds the same, and nothing passes for signed by somebody who did not.

use std::path::Path;
use std::sync::LazyLock;

use crate::files::file;
use gait::verifier::{Artefact, Requirements, Verified, verify};
use gait::{guard, pack, runpack, session, trace};
use worldcompute_proof::{SigningKey, VerifyingKey};

static KEY: LazyLock<VerifyingKey> =
    LazyLock::new(|| SigningKey::from_seed([7; 32]).verifying_key());

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let path = file("artefact", bytes);
    let artefact = Artefact::recognise(&path).expect("a file of this process is read");
    let found = verify(&path, &Requirements::default());
    assert!(artefact.is_some() || found.is_err());
    if let Ok(found) = found {
        assert!(!matches!(found, Verified::Trace(_) | Verified::Session(_)));
        assert_eq!(found.holds(), found.findings().is_empty(), "{found:?}");
        agrees(&path, &found);
    }
    for_somebody_else(&path, bytes);
}

/// The verifier of the kind finds the same.
fn agrees(path: &Path, found: &Verified) {
    let options = pack::VerifyOptions::default();
    match found {
        Verified::Runpack(report) => {
            let own = runpack::verify(path, &Requirements::default());
            assert_eq!(own.expect("a runpack").holds(), report.holds());
        }
        Verified::Pack(report) => {
            assert_eq!(
                pack::verify(path, &options).expect("a pack").ok(),
                report.ok()
            );
        }
        Verified::GuardPack(report) => {
            let own = guard::verify(path, &options).is_ok_and(|own| own.ok());
            assert!(!own || report.ok());
        }
        Verified::Trace(_) | Verified::Session(_) | Verified::SessionChain(_) => {}
    }
}

fn for_somebody_else(path: &Path, bytes: &[u8]) {
    let requirements = Requirements {
        key: Some(&KEY),
        signature: true,
    };
    if let Ok(found) = verify(path, &requirements) {
        let nothing_signed = match found {
            Verified::Session(ref session) => session.decisions == 0 && !session.closed,
            _ => !found.holds(),
        };
        assert!(nothing_signed, "{found:?}");
    }
    assert!(trace::verify(bytes, &KEY).is_err());
    assert!(!session::verify(path, &KEY).is_ok_and(|report| report.decisions > 0));
}
