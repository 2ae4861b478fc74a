//! Runs the task of a receipt again, on this machine, and holds what it comes to against what the receipt tells.
//!
//! It is run as anything of others is: the operator's consent and `policy/donor.yaml` decide, a home without a policy of
//! its own has that of a new one, and nothing runs without a permit. But it is nobody's task: it takes no lease and no
//! number, and leaves no receipt. All bytes come from the evidence, into a directory that is gone afterwards.

use std::path::Path;

use gait::{Policy, starter};
use tempfile::TempDir;
use worldcompute_content::{ContentStore, Limits};
use worldcompute_fault::{Fault, Result};
use worldcompute_ledger::receipt::{self, Outcome, Status};
use worldcompute_proof::{Cid, SigningKey};
use worldcompute_sandbox::{self as sandbox, CancelToken, Sandbox, SandboxConfig};
use worldcompute_scheduler::evidence::{Pins, Report, Rerun, RunAgain};

use super::guard::Guard;
use super::needed;
use crate::blocking::blocking;
use crate::config::Config;
use crate::home::Home;
use crate::{policies, receipts};

/// Verifies the receipt at `path`, which lies in the folder of its job, and runs its task again.
///
/// # Errors
/// Those of [`Rerun::open`]; what consent and policy say against it; `rerun_undetermined` where the machine had a part in
/// how the task ended, there or here; `rerun_differs` that names every field that came out otherwise.
pub async fn re_execute(home: &Home, path: &Path, pins: &Pins) -> Result<Report> {
    let (path, pins) = (path.to_owned(), pins.clone());
    let rerun = blocking(move || Rerun::open(&path, &pins)).await?;
    check_determined(&rerun)?;
    let admitted = guard(home)?.admit(rerun.request())?;
    let config = SandboxConfig {
        workers: 1,
        cache_bytes: 0,
        ..SandboxConfig::default()
    };
    let limit = usize::try_from(config.max_input_bytes).unwrap_or(usize::MAX);
    let (rerun, scratch) = blocking(move || Scratch::with_objects_of(rerun, limit)).await?;
    let running = Sandbox::new(config)?;
    let running = running.run(
        admitted.permit,
        rerun.request(),
        &scratch.content,
        CancelToken::new(),
    );
    let came_to = running.await?;
    compare(&rerun, &came_to)?;
    Ok(rerun.confirmed(RunAgain {
        policy_digest: admitted.decision.policy_digest(),
        fuel_used: came_to.fuel_used,
        wall_ms: came_to.wall_ms,
    }))
}

/// What stands between this machine and the task: the home's own policy, read anew.
fn guard(home: &Home) -> Result<Guard> {
    let config = Config::load(&home.config())?;
    let path = home.donor_policy();
    let policy = match path.symlink_metadata() {
        Ok(_) => policies::policy(&path)?,
        Err(_) => {
            let consent: Vec<_> = config.consent.iter().map(String::as_str).collect();
            Policy::parse(starter::donor_policy(&consent).as_bytes())?
        }
    };
    let key = match home.is_enrolled() {
        true => SigningKey::load(&home.identity())?,
        // The decision is not kept: nobody has to know this key again.
        false => SigningKey::generate()?,
    };
    Ok(Guard::new(policy, &config, &key))
}

/// The objects of one run, beside nothing else.
struct Scratch {
    content: ContentStore,
    _folder: TempDir,
}

impl Scratch {
    fn with_objects_of(rerun: Rerun, limit: usize) -> Result<(Rerun, Self)> {
        let folder = tempfile::tempdir()
            .map_err(|error| Fault::io("make a directory for the objects", &error))?;
        let content = ContentStore::open(folder.path().join("content"), Limits::default())?;
        for cid in needed(rerun.request()) {
            content.put(&rerun.object(cid, limit)?)?;
        }
        let scratch = Self {
            content,
            _folder: folder,
        };
        Ok((rerun, scratch))
    }
}

/// What a clock or a person ended says nothing that could be checked.
fn check_determined(rerun: &Rerun) -> Result<()> {
    let receipt = rerun.receipt();
    if let receipt::Profile::MicroVm { .. } = receipt.profile {
        let why = "an image sees clocks and randomness of its own".to_owned();
        return Err(undetermined(rerun, why));
    }
    match receipt.outcome.status {
        status @ (Status::TimedOut | Status::Cancelled) => {
            let why = format!(
                "{} is no end that a task comes to by itself",
                status.as_str()
            );
            Err(undetermined(rerun, why))
        }
        _ => Ok(()),
    }
}

fn compare(rerun: &Rerun, came_to: &sandbox::Outcome) -> Result<()> {
    let told = &rerun.receipt().outcome;
    let differences = differences(told, came_to);
    if differences.is_empty() {
        return Ok(());
    }
    let differences = differences.join("; ");
    let sides = [("there", &told.error), ("here", &came_to.error)];
    for (side, error) in sides {
        if let Some(error) = error.as_deref().filter(|error| sandbox::is_by_host(error)) {
            let why = format!("{side} the machine had a part in it ({error}): {differences}");
            return Err(undetermined(rerun, why));
        }
    }
    let fault = rerun.fault(
        "rerun_differs",
        format!("run again, the task comes to something else: {differences}"),
    );
    Err(fault.hint("do not trust this result: its executor did not run what was asked, or tells of it otherwise"))
}

/// Every field that a run decides and that is not what it was told to be. The words of an error are no such field, nor
/// is the time that a run took.
fn differences(told: &Outcome, came_to: &sandbox::Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |field: &str, told: String, here: String| {
        if told != here {
            found.push(format!("{field} is {here}, not {told}"));
        }
    };
    let status = receipts::status(came_to.status);
    check(
        "status",
        told.status.as_str().into(),
        status.as_str().into(),
    );
    check("exit_code", code(told.exit_code), code(came_to.exit_code));
    check(
        "fuel_used",
        told.fuel_used.to_string(),
        came_to.fuel_used.to_string(),
    );
    check("stdout", told.stdout_cid.to_string(), name(&came_to.stdout));
    check("stderr", told.stderr_cid.to_string(), name(&came_to.stderr));
    let here = came_to.outputs.iter();
    let here: Vec<_> = here
        .map(|output| (&output.name, name(&output.bytes)))
        .collect();
    let told = told.outputs.iter();
    let told: Vec<_> = told
        .map(|output| (&output.name, output.cid.to_string()))
        .collect();
    check("outputs", list(&told), list(&here));
    found
}

fn code(code: Option<i32>) -> String {
    code.map_or_else(|| "none".to_owned(), |code| code.to_string())
}

fn name(bytes: &[u8]) -> String {
    Cid::raw(bytes).to_string()
}

fn list(outputs: &[(&String, String)]) -> String {
    let each = outputs.iter().map(|(name, cid)| format!("{name:?} {cid}"));
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

fn undetermined(rerun: &Rerun, why: impl std::fmt::Display) -> Fault {
    rerun
        .fault("rerun_undetermined", why)
        .hint("this receipt can be neither confirmed nor refuted by running its task again")
}

#[cfg(test)]
mod tests {
    use receipt::Output;

    use super::*;

    /// What a run came to, and what an honest receipt tells of it.
    fn run() -> (Outcome, sandbox::Outcome) {
        let told = Outcome {
            status: Status::Succeeded,
            exit_code: Some(0),
            stdout_cid: Cid::raw("printed"),
            stderr_cid: Cid::raw(""),
            outputs: ["one", "two"].map(output).into(),
            fuel_used: 7,
            wall_ms: 1000,
            error: None,
        };
        let file = |name: &str| sandbox::Output {
            name: name.to_owned(),
            bytes: format!("bytes of {name}").into_bytes(),
        };
        let came_to = sandbox::Outcome {
            status: sandbox::Status::Succeeded,
            exit_code: Some(0),
            stdout: b"printed".to_vec(),
            stderr: Vec::new(),
            outputs: ["one", "two"].map(file).into(),
            fuel_used: 7,
            wall_ms: 3,
            error: None,
        };
        (told, came_to)
    }

    fn output(name: &str) -> Output {
        let bytes = format!("bytes of {name}");
        Output {
            name: name.to_owned(),
            cid: Cid::raw(&bytes),
            size: bytes.len() as u64,
        }
    }

    #[test]
    fn an_honest_receipt_differs_in_nothing_whatever_time_it_took() {
        let (told, came_to) = run();
        assert!(differences(&told, &came_to).is_empty());
    }

    #[test]
    fn outputs_that_are_other_missing_added_or_in_another_order_differ() {
        let (honest, came_to) = run();
        let lies: [fn(&mut Vec<Output>); 4] = [
            |outputs| outputs[0].cid = Cid::raw("other bytes"),
            |outputs| drop(outputs.pop()),
            |outputs| outputs.push(output("three")),
            |outputs| outputs.swap(0, 1),
        ];
        for lie in lies {
            let mut told = honest.clone();
            lie(&mut told.outputs);
            let differences = differences(&told, &came_to);
            assert_eq!(differences.len(), 1, "{differences:?}");
            assert!(differences[0].starts_with("outputs is "), "{differences:?}");
        }
    }

    #[test]
    fn every_field_that_differs_is_told() {
        let (mut told, came_to) = run();
        told.status = Status::Failed;
        told.exit_code = Some(1);
        told.fuel_used = 8;
        told.stdout_cid = Cid::raw("other");
        told.stderr_cid = Cid::raw("other");
        told.outputs.clear();
        let differences = differences(&told, &came_to).join("; ");
        for told in [
            "status is succeeded, not failed",
            "exit_code is 0, not 1",
            "fuel_used is 7, not 8",
            "stdout is ",
            "stderr is ",
            "outputs is ",
        ] {
            assert!(differences.contains(told), "{told}: {differences}");
        }
    }
}
