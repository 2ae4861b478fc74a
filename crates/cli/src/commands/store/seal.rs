//! `worldcompute store seal` and `reseal`: the master key in a TPM.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_node::store::Registers;
use worldcompute_proof::Sha256;

use super::Held;
use crate::args::{ResealArgs, SealArgs};
use crate::commands::Context;

/// A key that this machine's TPM opens.
#[derive(Serialize)]
struct Sealed {
    /// The sealed key.
    key: String,
    /// The same key in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<PathBuf>,
    /// What the registers hold: the key opens while they do.
    now: Values,
    /// What else it opens with.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Values>,
}

#[derive(Serialize)]
struct Values {
    pcr0: Sha256,
    pcr7: Sha256,
}

impl Values {
    fn of([pcr0, pcr7]: Registers) -> Self {
        Self {
            pcr0: Sha256::from_bytes(pcr0),
            pcr7: Sha256::from_bytes(pcr7),
        }
    }
}

/// Seals a key, and tells the operator what to do with the copy.
pub async fn seal(context: &Context, args: &SealArgs) -> Result<ExitCode> {
    let held = Held::new(&context.home()?).await?;
    let now = held.site.seal(&held.home, &args.copy, args.fresh).await?;
    print(
        context,
        &Sealed {
            key: held.site.view().key,
            copy: Some(args.copy.clone()),
            now: Values::of(now),
            next: None,
        },
    )
}

/// Seals the key anew, before and after an update.
pub async fn reseal(context: &Context, args: &ResealArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let next = args.pcr0.zip(args.pcr7);
    let next = next.map(|(pcr0, pcr7)| [*pcr0.as_bytes(), *pcr7.as_bytes()]);
    let now = held.site.reseal(next).await?;
    print(
        context,
        &Sealed {
            key: held.site.view().key,
            copy: None,
            now: Values::of(now),
            next: next.map(Values::of),
        },
    )
}

fn print(context: &Context, sealed: &Sealed) -> Result<ExitCode> {
    context.output.data(sealed, in_words)?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(sealed: &Sealed) -> String {
    let mut lines = vec![format!("key      {}", sealed.key)];
    let values = [("now", Some(&sealed.now)), ("next", sealed.next.as_ref())];
    for (when, values) in values {
        lines.extend(values.map(|it| format!("{when:7}  PCR 0 {}", it.pcr0)));
        lines.extend(values.map(|it| format!("         PCR 7 {}", it.pcr7)));
    }
    lines.extend(sealed.copy.as_deref().map(advice));
    lines.join("\n")
}

fn advice(copy: &Path) -> String {
    let copy = copy.display();
    format!(
        "copy     {copy}\nWith this mainboard's end, or an update that nobody announced, the copy is all that opens the store.\nKeep it where no machine reads it, and delete {copy} here."
    )
}
