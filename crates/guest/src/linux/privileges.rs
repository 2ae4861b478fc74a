//! What root of an image may do: less than the agent, which is root of the machine.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::{Result, cannot};

/// What images expect of root: Docker's default (`DefaultCapabilities` of Moby) without those that lead out of the image's
/// folder to the disk and to the port of the agent: to make devices, and to enter another folder.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// For this process and all that it becomes or starts: no program, not even one of root's with the set-user-id bit, gets
/// more than [`KEPT`]. Takes the right to set capabilities, so it comes before a user is chosen.
pub fn bound() -> Result<()> {
    set_no_new_privs(true).map_err(cannot("give up new privileges"))?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(cannot("bound the capabilities")(error)),
        }
    }
    Ok(())
}

/// What this process itself still has besides, as far as choosing a user has left it any.
pub fn drop_others() -> Result<()> {
    let mut sets = capabilities(None).map_err(cannot("read the capabilities"))?;
    sets.effective &= KEPT;
    sets.permitted &= KEPT;
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets).map_err(cannot("drop the capabilities"))
}
