//! Which hypervisors work here: found out by booting, remembered until something changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, read_bounded, write_atomic};
use worldcompute_fault::{Fault, Result};

use crate::{Backend, Program, Report};

/// Most bytes of what is remembered.
const MAX_FILE: u64 = 64 << 10;
/// Changes with every start of this machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long a backend counts as one that does not work: the reason may have been of the moment.
const MAX_FAILURE_AGE: Duration = Duration::from_secs(10 * 60);

impl Report {
    pub fn usable(backend: Backend, program: Program, boot_ms: u64, confinement: String) -> Self {
        Self {
            backend,
            usable: true,
            code: String::new(),
            why_not: String::new(),
            boot_ms: Some(boot_ms),
            program: Some(program),
            confinement,
        }
    }

    pub fn unusable(
        backend: Backend,
        program: Option<Program>,
        fault: &Fault,
        confinement: String,
    ) -> Self {
        Self {
            backend,
            usable: false,
            code: fault.code().to_owned(),
            why_not: format!("{}; {}", fault.message(), fault.hint_text()),
            boot_ms: None,
            program,
            confinement,
        }
    }
}

/// What an answer holds for: another kernel, agent, hypervisor, confinement or start of the machine is another question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    kernel: String,
    boot_id: String,
    confinement: String,
    programs: Vec<Option<Program>>,
}

impl Question {
    pub fn new(
        kernel: String,
        confinement: String,
        programs: Vec<Option<Program>>,
    ) -> Result<Self> {
        let boot_id = read_bounded(Path::new(BOOT_ID), MAX_FILE)?;
        let boot_id = String::from_utf8_lossy(&boot_id).trim_end().to_owned();
        Ok(Self {
            kernel,
            boot_id,
            confinement,
            programs,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Answer {
    question: Question,
    /// Since the start of the machine.
    given: Duration,
    reports: Vec<Report>,
}

/// The file in which the last answer is.
#[derive(Clone, Debug)]
pub struct Memory(PathBuf);

impl Memory {
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What still holds of the answer to exactly this question. A file that cannot be read is as good as none: it is
    /// asked again, and written again.
    pub fn recall(&self, question: &Question) -> Vec<Report> {
        self.recall_at(question, since_start())
    }

    fn recall_at(&self, question: &Question, now: Duration) -> Vec<Report> {
        let bytes = read_bounded(&self.0, MAX_FILE).unwrap_or_default();
        let Ok(mut answer) = serde_json::from_slice::<Answer>(&bytes) else {
            return Vec::new();
        };
        let is_old = now.saturating_sub(answer.given) >= MAX_FAILURE_AGE;
        answer.reports.retain(|report| report.usable || !is_old);
        match answer.question == *question {
            true => answer.reports,
            false => Vec::new(),
        }
    }

    /// # Errors
    /// What the disk says.
    pub fn keep(&self, question: Question, reports: &[Report]) -> Result<()> {
        let answer = Answer {
            question,
            given: since_start(),
            reports: reports.to_vec(),
        };
        let bytes = serde_json::to_vec(&answer)
            .map_err(|error| Fault::io("write down a report", &error.into()))?;
        write_atomic(&self.0, &bytes, Mode::Private)
    }

    /// The answer did not hold.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget(&self) -> Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::io(
                format_args!("remove {}", self.0.display()),
                &error,
            )),
            _ => Ok(()),
        }
    }
}

/// Time in which the machine sleeps included.
fn since_start() -> Duration {
    // It is never negative.
    clock_gettime(ClockId::Boottime)
        .try_into()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use worldcompute_fault::Category;

    use super::*;

    #[test]
    fn an_answer_is_recalled_for_its_question_alone() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::at(dir.path().join("hypervisors.json"));
        let none = Vec::new();
        assert_eq!(memory.recall(&question("a")), none);
        memory.keep(question("a"), &reports()).unwrap();
        assert_eq!(memory.recall(&question("a")), reports());
        assert_eq!(memory.recall(&question("b")), none);
        let after_a_restart = Question {
            boot_id: "another".to_owned(),
            ..question("a")
        };
        assert_eq!(memory.recall(&after_a_restart), none);
        let confined_in_another_way = Question {
            confinement: "with this machine's network".to_owned(),
            ..question("a")
        };
        assert_eq!(memory.recall(&confined_in_another_way), none);
        memory.forget().unwrap();
        memory.forget().unwrap();
        assert_eq!(memory.recall(&question("a")), none);
    }

    #[test]
    fn a_backend_that_did_not_work_is_asked_again_after_a_time_and_one_that_did_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::at(dir.path().join("hypervisors.json"));
        memory.keep(question("a"), &reports()).unwrap();
        let [_, usable] = <[Report; 2]>::try_from(reports()).unwrap();
        let later = since_start() + MAX_FAILURE_AGE;
        let soon = since_start() + MAX_FAILURE_AGE / 2;
        assert_eq!(memory.recall_at(&question("a"), soon), reports());
        assert_eq!(memory.recall_at(&question("a"), later), [usable]);
    }

    const CONFINED: &str = "as a user of its own, without network";

    fn question(kernel: &str) -> Question {
        Question::new(kernel.to_owned(), CONFINED.to_owned(), vec![None]).unwrap()
    }

    fn reports() -> Vec<Report> {
        let program = Program {
            path: "/bin/true".into(),
            sha256: worldcompute_proof::Sha256::of("true"),
        };
        let fault = Fault::new(Category::IoFailure, "hypervisor_died", "it died").hint("look");
        let (kvm, emulation) = (Backend::QemuKvm, Backend::QemuEmulation);
        vec![
            Report::unusable(kvm, Some(program.clone()), &fault, CONFINED.to_owned()),
            Report::usable(emulation, program, 1, CONFINED.to_owned()),
        ]
    }

    #[test]
    fn a_file_that_is_damaged_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hypervisors.json");
        write_atomic(&path, b"{\"question\":", Mode::Private).unwrap();
        assert_eq!(Memory::at(path).recall(&question("a")), Vec::new());
    }
}
