//! No bytes make the archive reader or the verifier panic; what verifies is read whole, and as another reader reads it.

use std::io::{Cursor, Read};

use gait::archive::Archive;
use gait::runpack::{Requirements, verify_archive};
use zip::ZipArchive;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(archive) = Archive::new(bytes, "fuzzed") else {
        return;
    };
    let report = verify_archive(&archive, &Requirements::default());
    if !report.is_ok_and(|report| report.holds()) {
        return;
    }
    let mut other = ZipArchive::new(Cursor::new(bytes)).expect("others read it");
    assert_eq!(other.len(), archive.entries().len());
    for index in 0..other.len() {
        let mut entry = other.by_index(index).expect("others read it");
        let name = entry.name().expect("others read it").into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("others read it");
        let own = archive
            .bytes(&name, u64::MAX)
            .expect("what verifies is read");
        assert_eq!(own, content);
    }
}
