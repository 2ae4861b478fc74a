//! What a receipt cannot say: too much, or two things that contradict each other.

use std::collections::BTreeSet;

use gait::Verdict;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::{Codec, Sha256, Statement, Subject};

use super::{DecisionRef, Limits, Outcome, PREDICATE_TYPE, Profile, Receipt, Status};

/// Most bytes of a job's or lease's id.
pub const MAX_ID_BYTES: usize = 128;
/// Most inputs, and most outputs.
pub const MAX_ENTRIES: usize = 64;
/// Most bytes of an input's path or an output's name.
pub const MAX_PATH_BYTES: usize = 255;
/// Most bytes of the error text.
pub const MAX_ERROR_BYTES: usize = 4096;

impl Receipt {
    /// Checks limits and that no part contradicts another.
    ///
    /// # Errors
    /// `receipt_inconsistent` (WC-009), naming the part.
    pub fn check(&self) -> Result<()> {
        self.check_ids()?;
        self.check_lists()?;
        self.check_decision("decision", &self.decision)?;
        self.check_decision("submitter_decision", &self.submitter_decision)?;
        self.check_machine()?;
        self.outcome.check_status(&self.limits)?;
        self.outcome.check_results()?;
        self.check_use()?;
        holds(
            self.started_at <= self.ended_at,
            "ended_at lies before started_at",
        )
    }

    /// The statement about the results that the executor and the submitter sign.
    pub(super) fn into_statement(self) -> Statement<Self> {
        Statement::new(self.subjects(), PREDICATE_TYPE, self)
    }

    /// The results, by name and digest.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let Outcome {
            stdout_cid,
            stderr_cid,
            outputs,
            ..
        } = &self.outcome;
        let streams = [
            Subject::new("stdout", stdout_cid.digest()),
            Subject::new("stderr", stderr_cid.digest()),
        ];
        let files = outputs
            .iter()
            .map(|output| Subject::new(format!("output:{}", output.name), output.cid.digest()));
        streams.into_iter().chain(files).collect()
    }

    fn check_ids(&self) -> Result<()> {
        for (field, id) in [("job_id", &self.job_id), ("lease_id", &self.lease_id)] {
            let plain = !id.is_empty()
                && id.len() <= MAX_ID_BYTES
                && id.bytes().all(|byte| byte.is_ascii_graphic());
            holds(
                plain,
                format_args!("{field} is not 1 to {MAX_ID_BYTES} printable ASCII characters"),
            )?;
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<()> {
        let inputs = self.inputs.iter().map(|input| input.path.as_str());
        check_names("inputs", inputs, |path| path.starts_with('/'))?;
        let outputs = self
            .outcome
            .outputs
            .iter()
            .map(|output| output.name.as_str());
        check_names("outputs", outputs, |name| !name.is_empty())
    }

    fn check_decision(&self, field: &str, decision: &DecisionRef) -> Result<()> {
        let DecisionRef {
            trace_id,
            policy_digest,
            intent_digest,
            verdict,
            ..
        } = decision;
        holds(
            *verdict == Verdict::Allow,
            format_args!("{field} is {verdict}, which leads to no execution"),
        )?;
        let full = Sha256::of(format!("{policy_digest}:{intent_digest}:{verdict}")).to_string();
        let expected = full.get(..24) == Some(trace_id);
        holds(
            expected,
            format_args!(
                "the trace_id of {field} does not follow from its policy, intent and verdict"
            ),
        )
    }

    /// Modules and images run in different worlds, and end in different ways.
    fn check_machine(&self) -> Result<()> {
        let in_machine = matches!(self.profile, Profile::MicroVm { .. });
        holds(
            self.machine.is_some() == in_machine,
            "the profile and the machine contradict each other",
        )?;
        holds(
            !in_machine || self.limits.fuel == 0,
            "fuel is not counted in a machine",
        )?;
        let status = self.outcome.status;
        let possible = match in_machine {
            true => !status.is_of_modules(),
            false => !status.is_of_machines(),
        };
        holds(
            possible,
            format_args!("nothing of its profile ends as {}", status.as_str()),
        )
    }

    fn check_use(&self) -> Result<()> {
        let Outcome {
            fuel_used,
            outputs,
            error,
            ..
        } = &self.outcome;
        holds(
            *fuel_used <= self.limits.fuel,
            "fuel_used exceeds the limit",
        )?;
        let kept = outputs
            .iter()
            .try_fold(0_u64, |sum, output| sum.checked_add(output.size));
        holds(
            kept.is_some_and(|kept| kept <= self.limits.output_bytes),
            "the outputs exceed the limit",
        )?;
        let length = error.as_ref().map_or(0, String::len);
        holds(
            length <= MAX_ERROR_BYTES,
            format_args!("the error exceeds {MAX_ERROR_BYTES} bytes"),
        )
    }
}

impl Outcome {
    fn check_status(&self, limits: &Limits) -> Result<()> {
        let Self {
            status,
            exit_code,
            outputs,
            error,
            ..
        } = self;
        let agrees = match status {
            Status::Succeeded => *exit_code == Some(0) && error.is_none(),
            Status::Failed => exit_code.is_some_and(|code| code != 0 || error.is_some()),
            Status::Trapped | Status::OutOfFuel | Status::TimedOut => exit_code.is_none(),
            Status::OutOfMemory
            | Status::OutputLimit
            | Status::Cancelled
            | Status::ProcessLimit
            | Status::DiskLimit => *exit_code != Some(0) || error.is_some(),
            Status::Killed | Status::NotStarted | Status::BrokeOff => {
                exit_code.is_none() && error.is_some()
            }
        };
        holds(
            agrees,
            format_args!(
                "the status {} contradicts exit_code and error",
                status.as_str()
            ),
        )?;
        let reached = match status {
            Status::OutOfFuel => self.fuel_used >= limits.fuel,
            Status::TimedOut => self.wall_ms >= limits.wall_ms,
            _ => true,
        };
        holds(
            reached,
            format_args!(
                "the status {} of an execution that had some left",
                status.as_str()
            ),
        )?;
        let none_left = *status == Status::Succeeded || outputs.is_empty();
        holds(none_left, "outputs of an execution that did not succeed")
    }

    /// Whoever keeps a result keeps it as plain bytes: under another name of the same bytes nobody would find it.
    fn check_results(&self) -> Result<()> {
        let files = self.outputs.iter().map(|output| output.cid);
        let mut results = files.chain([self.stdout_cid, self.stderr_cid]);
        holds(
            results.all(|cid| cid.codec() == Codec::Raw),
            "a result is not named as plain bytes",
        )
    }
}

fn check_names<'a>(
    field: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
    sound: impl Fn(&str) -> bool,
) -> Result<()> {
    holds(
        names.len() <= MAX_ENTRIES,
        format_args!("more than {MAX_ENTRIES} {field}"),
    )?;
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = name.len() <= MAX_PATH_BYTES && sound(name);
        holds(
            plain,
            format_args!(
                "a name among the {field} is not a plain path or exceeds {MAX_PATH_BYTES} bytes"
            ),
        )?;
        holds(
            seen.insert(name),
            format_args!("a name appears twice among the {field}"),
        )?;
    }
    Ok(())
}

fn holds(condition: bool, otherwise: impl std::fmt::Display) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(refused("receipt_inconsistent", otherwise))
    }
}

/// No receipt: WC-009 with a code of its own.
pub(super) fn refused(code: &'static str, why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        code,
        format!("receipt: {why}"),
    )
    .numbered(WcCode::LedgerVerificationFailed)
}
