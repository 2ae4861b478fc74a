//! What can go wrong with a TPM, told apart by what there is to do about it.

use std::error::Error as _;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use tss_esapi::Error;
use tss_esapi::constants::response_code::{Tss2ResponseCode, Tss2ResponseCodeKind as Kind};
use worldcompute_fault::{Category, Fault, Result};

/// The layers of the C library, by what they number their codes with (`tss2_common.h`): ESAPI, SAPI, marshalling, TCTI.
const LAYERS: std::ops::RangeInclusive<u32> = 7..=10;
/// The codes that every layer uses.
const BASE_CODES: std::ops::RangeInclusive<u32> = 1..=60;
const NO_CONNECTION: u32 = 8;
const TRY_AGAIN: u32 = 9;
const IO_ERROR: u32 = 10;
const MALFORMED_RESPONSE: u32 = 17;
const RSP_AUTH_FAILED: u32 = 27;

/// The TPM, or the library, refused.
pub(super) fn refused(error: Error) -> Fault {
    let Error::Tss2Error(code) = error else {
        return of_the_chip(&error, None);
    };
    match of_the_library(code) {
        Some(NO_CONNECTION | IO_ERROR) => unreachable(error),
        Some(MALFORMED_RESPONSE | RSP_AUTH_FAILED) => distrusted(),
        Some(TRY_AGAIN) => busy(&error),
        Some(_) => of_the_chip(&error, None),
        None => of_the_chip(&error, code.kind()),
    }
}

/// The base code, if it is the library that refused and not the TPM: their numbers overlap, and the wrapper does not say
/// which it is.
fn of_the_library(code: Tss2ResponseCode) -> Option<u32> {
    let is = |layer: u32, base: u32| Tss2ResponseCode::from((layer << 16) | base) == code;
    BASE_CODES
        .into_iter()
        .find(|base| LAYERS.into_iter().any(|layer| is(layer, *base)))
}

fn of_the_chip(error: &Error, kind: Option<Kind>) -> Fault {
    match kind {
        Some(
            Kind::Retry
            | Kind::Yielded
            | Kind::Testing
            | Kind::NvRate
            | Kind::NvUnavailable
            | Kind::Canceled
            | Kind::PcrChanged
            | Kind::ObjectMemory
            | Kind::SessionMemory
            | Kind::SessionHandles
            | Kind::Memory,
        ) => busy(error),
        Some(Kind::Lockout) => plain(
            Category::PolicyBlocked,
            "tpm_lockout",
            error,
            "wait until the TPM forgives wrong passwords (tpm2_getcap properties-variable tells when), or clear the lockout as its owner",
        ),
        Some(Kind::Failure | Kind::Upgrade | Kind::Reboot | Kind::Initialize) => plain(
            Category::DependencyMissing,
            "tpm_failed",
            error,
            "start the machine anew; if that does not help, its TPM is broken",
        ),
        _ => plain(
            Category::InternalFailure,
            "tpm_refused",
            error,
            "look up the code with tpm2_rc_decode",
        ),
    }
}

/// The TPM would not derive its storage key.
pub(super) fn of_the_owner(error: Error) -> Fault {
    let kind = match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    };
    match kind {
        Some(Kind::BadAuth | Kind::AuthFail) => plain(
            Category::PolicyBlocked,
            "tpm_owner_password",
            &error,
            "take the password off the owner hierarchy: nothing here protects the storage key but the TPM",
        ),
        Some(Kind::Hierarchy | Kind::Disabled) => plain(
            Category::PolicyBlocked,
            "tpm_owner_disabled",
            &error,
            "enable the owner hierarchy in the firmware's settings",
        ),
        _ => refused(error),
    }
}

/// A sealed key does not load: the TPM does not say more than that it is not as it was.
pub(super) fn unsealing(error: Error, file: &Path) -> Fault {
    let kind = match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => return corrupt(file),
    };
    match kind {
        Some(
            Kind::Integrity
            | Kind::Size
            | Kind::Insufficient
            | Kind::Sensitive
            | Kind::Binding
            | Kind::Value
            | Kind::Hash,
        ) => corrupt(file),
        _ => refused(error),
    }
}

/// Nothing answers like a TPM.
pub(super) fn unreachable(error: Error) -> Fault {
    plain(
        Category::DependencyMissing,
        "tpm_missing",
        &error,
        "see that this machine has a TPM 2.0, that it is enabled in the firmware's settings, and that libtss2-tcti is installed",
    )
}

/// The device is not to be opened.
pub(super) fn device(path: &Path, error: &io::Error) -> Fault {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Fault::new(
            Category::PolicyBlocked,
            "tpm_access_denied",
            format!("{shown}: {error}"),
        )
        .hint("put this user into the group of the device, which is tss on most systems"),
        io::ErrorKind::ResourceBusy => Fault::new(
            Category::StateContention,
            "tpm_busy",
            format!("{shown}: {error}"),
        )
        .hint("use /dev/tpmrm0, which many programs can use at once"),
        _ => Fault::new(
            Category::DependencyMissing,
            "tpm_missing",
            format!("{shown} is no TPM: {error}"),
        )
        .hint(
            "see that this machine has a TPM 2.0 and that it is enabled in the firmware's settings",
        ),
    }
}

/// It does not answer in time.
pub(super) fn unresponsive(limit: Duration) -> Fault {
    let message = format!("the TPM did not answer within {} s", limit.as_secs());
    Fault::new(Category::NetworkTransient, "tpm_unresponsive", message)
        .hint("see what else is using the TPM; if nothing is, start the machine anew")
}

/// The registers are not what the key was sealed to: `changed` names those that differ, for each way to open it.
pub(super) fn pcr_mismatch(file: &Path, changed: Vec<Vec<&'static str>>) -> Fault {
    let nearest = changed.into_iter().min_by_key(Vec::len).unwrap_or_default();
    let message = format!(
        "{} does not open: {} changed since it was sealed",
        file.display(),
        nearest.join(" and ")
    );
    Fault::new(Category::VerificationFailed, "tpm_pcr_mismatch", message).hint(
        "PCR 0 is the firmware, PCR 7 Secure Boot: if you changed them, change them back and reseal before the next update, or seal the key from its backup; if nobody did, do not trust this machine",
    )
}

/// The file is not as it was written.
pub(super) fn corrupt(file: &Path) -> Fault {
    let message = format!("{} is not as it was written", file.display());
    Fault::new(Category::VerificationFailed, "tpm_blob_corrupt", message)
        .hint("put the file back from a backup, or seal the key anew from its own")
}

/// The file is from elsewhere, or the TPM has been cleared.
pub(super) fn of_another_tpm(file: &Path) -> Fault {
    let message = format!("{} was sealed by another TPM", file.display());
    Fault::new(Category::VerificationFailed, "tpm_blob_of_another_tpm", message)
        .hint("use the machine that sealed it; seal the key anew from its backup only if you yourself cleared or replaced the TPM: who sits between it and this program looks like another one, and would be told the key")
}

/// An answer that cannot be the TPM's.
pub(super) fn distrusted() -> Fault {
    let message = "what was answered was not answered by the TPM as it was";
    Fault::new(
        Category::VerificationFailed,
        "tpm_answer_distrusted",
        message,
    )
    .hint("find out what sits between this program and the TPM before using the store")
}

/// The TPM measures with another hash.
pub(super) fn bank_missing() -> Fault {
    let message = "the TPM keeps no SHA-256 values of PCR 0 and 7";
    Fault::new(Category::DependencyMissing, "tpm_pcr_bank_missing", message)
        .hint("enable the SHA-256 bank in the firmware's settings")
}

/// The registers are as they are when nobody measures.
pub(super) fn not_measured() -> Fault {
    let message =
        "PCR 0 or PCR 7 is empty, so a key that is sealed to them would open whatever is started";
    Fault::new(Category::DependencyMissing, "tpm_not_measured", message)
        .hint("start the machine with UEFI firmware that measures, or keep the key elsewhere")
}

/// What was just sealed does not open.
pub(super) fn changed_meanwhile() -> Fault {
    let message = "the TPM's registers changed while the key was sealed to them";
    Fault::new(Category::StateContention, "tpm_busy", message).hint("try again")
}

/// At these levels the C library logs session keys and what they protect.
pub(super) fn check_log(level: Option<OsString>) -> Result<()> {
    let level = level.unwrap_or_default().to_string_lossy().to_lowercase();
    if !level.contains("debug") && !level.contains("trace") {
        return Ok(());
    }
    let message = "TSS2_LOG has the TPM library print keys";
    Err(
        Fault::new(Category::PolicyBlocked, "tpm_log_shows_keys", message)
            .hint("set TSS2_LOG to info or less"),
    )
}

fn busy(error: &Error) -> Fault {
    plain(
        Category::StateContention,
        "tpm_busy",
        error,
        "try again; if it stays, see what else is using the TPM, and use it through /dev/tpmrm0",
    )
}

fn plain(category: Category, code: &'static str, error: &Error, hint: &'static str) -> Fault {
    let number = error.source().and_then(|inner| inner.source());
    let message = match number {
        Some(number) => format!("the TPM says no: {error} ({number})"),
        None => format!("the TPM says no: {error}"),
    };
    Fault::new(category, code, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(number: u32) -> (String, bool) {
        let fault = refused(Error::Tss2Error(Tss2ResponseCode::from(number)));
        (fault.code().to_owned(), fault.category().retryable())
    }

    #[test]
    fn refusals_are_told_apart_and_only_what_may_pass_is_worth_a_retry() {
        for (number, expected, retryable) in [
            (0x922, "tpm_busy", true),
            (0x908, "tpm_busy", true),
            (0x90a, "tpm_busy", true),
            (0x902, "tpm_busy", true),
            (0x128, "tpm_busy", true),
            (0x000a_0009, "tpm_busy", true),
            (0x921, "tpm_lockout", false),
            (0x101, "tpm_failed", false),
            (0x100, "tpm_failed", false),
            (0x000a_000a, "tpm_missing", false),
            (0x000a_0008, "tpm_missing", false),
            (0x0007_001b, "tpm_answer_distrusted", false),
            (0x184, "tpm_refused", false),
            (0x0007_0001, "tpm_refused", false),
            (0x000a_0011, "tpm_answer_distrusted", false),
        ] {
            let found = code(number);
            assert_eq!(found, (expected.to_owned(), retryable), "{number:#x}");
        }
    }

    #[test]
    fn a_refusal_shows_the_number_that_manuals_list() {
        let fault = refused(Error::Tss2Error(Tss2ResponseCode::from(0x921)));
        assert!(fault.message().contains("0x921"), "{}", fault.message());
    }

    #[test]
    fn a_password_and_a_disabled_owner_are_told_from_other_refusals() {
        for (number, expected) in [
            (0x9a2, "tpm_owner_password"),
            (0x98e, "tpm_owner_password"),
            (0x185, "tpm_owner_disabled"),
            (0x922, "tpm_busy"),
        ] {
            let fault = of_the_owner(Error::Tss2Error(Tss2ResponseCode::from(number)));
            assert_eq!(fault.code(), expected, "{number:#x}");
        }
    }

    #[test]
    fn the_library_does_not_log_keys() {
        for level in ["all+DEBUG", "none,esys+trace", "all+Debug,mu+none"] {
            let refused = check_log(Some(level.into()));
            assert_eq!(refused.unwrap_err().code(), "tpm_log_shows_keys", "{level}");
        }
        for level in [None, Some(OsString::new()), Some("all+info".into())] {
            check_log(level).unwrap();
        }
    }
}
