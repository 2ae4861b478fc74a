//! One receipt in plain words, for a person.

use std::fmt::Write as _;

use super::{Backend, DecisionRef, Outcome, Path, Profile, Receipt, SignedReceipt, Status};

impl SignedReceipt {
    /// What the receipt says and who signed it, a sentence a line. Texts of strangers are quoted and escaped.
    pub fn in_words(&self) -> String {
        let receipt = self.receipt();
        let signers = if receipt.executor == receipt.submitter {
            "One key is both executor and submitter: it signed, and nobody else vouches for this."
        } else {
            "The executor signed this and the submitter countersigned it."
        };
        format!(
            "{}{signers}\nSignatures show which keys spoke, not whose they are.\n",
            receipt.in_words()
        )
    }
}

impl Receipt {
    /// What the receipt says, a sentence a line, whoever signed it.
    pub fn in_words(&self) -> String {
        [
            self.headline(),
            self.inspection().to_owned(),
            self.result(),
            self.request(),
            self.permission(),
        ]
        .concat()
    }

    fn headline(&self) -> String {
        let Outcome {
            status,
            exit_code,
            wall_ms,
            ..
        } = &self.outcome;
        let exit = exit_code
            .map(|code| format!(" with exit code {code}"))
            .unwrap_or_default();
        format!(
            "Task {} of job {} {}{exit} after {wall_ms} ms, attempt {}, lease {}.\n\
             {} ran it for {}, {}, from {} to {} by the executor's clock; it was exit number {} of its sandbox.\n",
            self.task_index,
            self.job_id,
            status.in_words(),
            self.attempt,
            self.lease_id,
            self.executor,
            self.submitter,
            self.path.in_words(),
            self.started_at,
            self.ended_at,
            self.sequence,
        )
    }

    const fn inspection(&self) -> &'static str {
        match self.inspected {
            true => {
                "A box on the way opened the TLS around it: it saw who spoke to whom and how much, and no content.\n"
            }
            false => "",
        }
    }

    fn result(&self) -> String {
        let Outcome {
            stdout_cid,
            stderr_cid,
            outputs,
            error,
            ..
        } = &self.outcome;
        let mut text = format!("It printed {stdout_cid}, and as diagnostics {stderr_cid}.\n");
        for output in outputs {
            let _ = writeln!(
                text,
                "It left behind {:?}: {} bytes, {}.",
                output.name, output.size, output.cid
            );
        }
        if let Some(error) = error {
            let _ = writeln!(text, "The executor says why: {error:?}.");
        }
        text
    }

    fn request(&self) -> String {
        let asked = format!(
            "{} as manifest {} asked (request {})",
            self.workload_cid, self.manifest_cid, self.request_digest
        );
        let mut text = match self.profile {
            Profile::Deterministic { seed } => format!(
                "It ran the module {asked}, with seed {seed}: the same request gives the same result anywhere.\n"
            ),
            Profile::MicroVm { vcpus } => format!(
                "It ran the image {asked}, in a virtual machine with {vcpus} processors{}: the same request may give another result.\n",
                self.machine()
            ),
        };
        if let Some(stdin) = self.stdin {
            let _ = writeln!(text, "It read {stdin} on standard input.");
        }
        for input in &self.inputs {
            let _ = writeln!(text, "It could read {:?}: {}.", input.path, input.cid);
        }
        let used = match self.profile {
            Profile::Deterministic { .. } => format!(
                "It used {} of {} units of fuel, and was",
                self.outcome.fuel_used, self.limits.fuel
            ),
            Profile::MicroVm { .. } => "It was".to_owned(),
        };
        let _ = writeln!(
            text,
            "{used} held to {} bytes of memory, {} ms and {} bytes of output.",
            self.limits.memory_bytes, self.limits.wall_ms, self.limits.output_bytes,
        );
        text
    }

    fn machine(&self) -> String {
        let told = |machine: &super::Machine| {
            format!(
                " on {} with the kernel {}",
                machine.backend.in_words(),
                machine.kernel
            )
        };
        self.machine.as_ref().map(told).unwrap_or_default()
    }

    fn permission(&self) -> String {
        let line = |who: &str, what: &str, decision: &DecisionRef| {
            format!(
                "The {who}'s gate said {} to {what}: policy {}, intent {}, trace {}.\n",
                decision.verdict,
                decision.policy_digest,
                decision.intent_digest,
                decision.trace_cid,
            )
        };
        line("submitter", "sending it out", &self.submitter_decision)
            + &line("executor", "running it", &self.decision)
    }
}

impl Status {
    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out_of_fuel",
            Self::OutOfMemory => "out_of_memory",
            Self::TimedOut => "timed_out",
            Self::OutputLimit => "output_limit",
            Self::Cancelled => "cancelled",
            Self::Killed => "killed",
            Self::NotStarted => "not_started",
            Self::ProcessLimit => "process_limit",
            Self::DiskLimit => "disk_limit",
            Self::BrokeOff => "broke_off",
        }
    }

    /// Whether only a module ends so.
    pub(super) const fn is_of_modules(self) -> bool {
        matches!(self, Self::Trapped | Self::OutOfFuel)
    }

    /// Whether only what runs in a virtual machine ends so.
    pub(super) const fn is_of_machines(self) -> bool {
        matches!(
            self,
            Self::Killed | Self::NotStarted | Self::ProcessLimit | Self::DiskLimit | Self::BrokeOff
        )
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Trapped => "was stopped by a trap",
            Self::OutOfFuel => "ran out of fuel",
            Self::OutOfMemory => "ran out of memory",
            Self::TimedOut => "ran out of time",
            Self::OutputLimit => "wrote more than allowed",
            Self::Cancelled => "was cancelled",
            Self::Killed => "was ended by a signal",
            Self::NotStarted => "could not be started",
            Self::ProcessLimit => "wanted more processes than allowed",
            Self::DiskLimit => "wrote more to its disk than allowed",
            Self::BrokeOff => "broke off",
        }
    }
}

impl Backend {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Firecracker => "Firecracker",
            Self::QemuKvm => "QEMU",
            Self::QemuEmulation => "QEMU, its processor emulated,",
        }
    }
}

impl Path {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Local => "within one process",
            Self::Direct => "over a direct connection",
            Self::HolePunched => "over a direct connection that a relay helped to open",
            Self::Relayed => "through a relay",
        }
    }
}
