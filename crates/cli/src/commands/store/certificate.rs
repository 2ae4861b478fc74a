//! `worldcompute store check-certificate`: whether what was erased still is.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::durable::read_bounded;
use worldcompute_node::store::{Confirmed, ErasureCertificate};

use super::Held;
use crate::args::CertificateArgs;
use crate::commands::Context;

/// The largest certificate, in bytes: what an erasure says of itself has about 2,000.
const MAX_CERTIFICATE_BYTES: u64 = 64 << 10;

#[derive(Serialize)]
struct Checked {
    ok: bool,
    #[serde(flatten)]
    confirmed: Confirmed,
}

/// Compares a certificate with the audit and the table.
pub async fn check(context: &Context, args: &CertificateArgs) -> Result<ExitCode> {
    let certificate = read(&args.file)?;
    let held = Held::existing(&context.home()?).await?;
    let store = held.look().await?;
    let confirmed = store.check_certificate(&certificate).await;
    let closed = store.close().await;
    let checked = Checked {
        ok: true,
        confirmed: confirmed?,
    };
    context.output.data(&checked, in_words)?;
    closed.map(|()| ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<ErasureCertificate> {
    let bytes = match read_bounded(file, MAX_CERTIFICATE_BYTES) {
        Err(fault) if fault.code() == "file_too_large" => return Err(malformed(file)),
        read => read?,
    };
    serde_json::from_slice(&bytes).map_err(|error| malformed(file).caused_by(&error))
}

fn malformed(file: &Path) -> Fault {
    let message = format!("{} is no certificate of an erasure", file.display());
    Fault::new(
        Category::VerificationFailed,
        "certificate_malformed",
        message,
    )
    .hint("give the file that 'worldcompute store erase' printed, unchanged")
}

fn in_words(checked: &Checked) -> String {
    let Confirmed {
        partition,
        erased_at,
        event,
        events_read,
        remembered,
    } = &checked.confirmed;
    let beside = match remembered {
        true => "this home remembers it as erased",
        false => {
            "this home does not remember it: a table that was put back as a whole looks the same"
        }
    };
    format!(
        "erased   {partition} at {erased_at}, and nothing since\naudit    lane {}, event {} of {events_read}\nanchor   {beside}",
        event.lane, event.seq
    )
}
