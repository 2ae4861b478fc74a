//! A verified receipt, and all that running its task again takes.

use std::path::Path;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_ledger::receipt::Receipt;
use worldcompute_proof::Cid;
use worldcompute_sandbox::RunRequest;

use super::bundle::Bundle;
use super::folder::Folder;
use super::part::Part;
use super::refusal::changed;
use super::report::{Report, RunAgain};
use super::{Pins, single};

/// A receipt in its bundle: what was asked, what is told of it, and the bytes that it was done with.
pub struct Rerun {
    part: Part,
    report: Report,
    receipt: Receipt,
    request: RunRequest,
    folder: Folder,
}

impl Rerun {
    /// Verifies the receipt at `path` and everything in its bundle that it refers to, as [`super::verify`] does.
    ///
    /// # Errors
    /// Those of [`super::verify`]; `rerun_incomplete` for anything but a receipt in the folder of its job: a receipt by
    /// itself does not say what was asked.
    pub fn open(path: &Path, pins: &Pins) -> Result<Self> {
        let path = std::path::absolute(path)
            .map_err(|error| Fault::io(format_args!("find {}", path.display()), &error))?;
        match single::place_in_bundle(&path) {
            Some((folder, Part::Receipt(task))) => Self::of_task(&folder, task, pins),
            _ => Err(incomplete(&path)),
        }
    }

    fn of_task(folder: &Path, task: u32, pins: &Pins) -> Result<Self> {
        let mut bundle = Bundle::open(folder, pins)?;
        let signed = bundle.check_task(task)?;
        Ok(Self {
            part: Part::Receipt(task),
            report: Report::of_receipt_in(&bundle, &signed),
            request: bundle.manifest.task(task)?,
            receipt: signed.receipt().clone(),
            folder: bundle.folder,
        })
    }

    /// What the executor tells.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What it was asked, as it follows from the manifest.
    pub const fn request(&self) -> &RunRequest {
        &self.request
    }

    /// The bytes of an object of the bundle that has at most `limit`.
    ///
    /// # Errors
    /// `evidence_changed` for other bytes than its name stands for, and those of reading.
    pub fn object(&self, cid: &Cid, limit: usize) -> Result<Vec<u8>> {
        let part = Part::Object(*cid);
        let bytes = self.folder.read(part, limit)?;
        if cid.matches(&bytes) {
            Ok(bytes)
        } else {
            Err(changed(part, "not the bytes that its name stands for"))
        }
    }

    /// The report of a task that came to the same again.
    pub fn confirmed(self, again: RunAgain) -> Report {
        self.report.with_run_again(again)
    }

    /// A fault about the receipt, which it names.
    pub fn fault(&self, code: &'static str, why: impl std::fmt::Display) -> Fault {
        let message = format!("{}: {why}", self.part);
        Fault::new(Category::VerificationFailed, code, message)
    }
}

fn incomplete(path: &Path) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "rerun_incomplete",
        format!(
            "{}: no receipt in the folder of its job, so that there is nothing to run",
            path.display()
        ),
    )
    .hint("give a receipt where it lies, with manifest.cbor, module and inputs: <job>/receipts/00000.json")
}
