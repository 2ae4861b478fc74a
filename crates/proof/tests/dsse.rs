//! DSSE's pre-authentication encoding, where a wrong reading of it would still agree with itself.

use worldcompute_proof::dsse::pae;

#[test]
fn lengths_are_those_of_the_bytes() {
    // "LEN(s) is ASCII decimal encoding of the byte length of s" (DSSE v1, protocol).
    assert_eq!(
        pae("application/ünïcode", "päyload".as_bytes()),
        "DSSEv1 21 application/ünïcode 8 päyload".as_bytes()
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
}
