//! Which hypervisors work here: found out by booting, remembered until something changes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, read_bounded, write_atomic};
use worldcompute_fault::{Fault, Result};

use crate::{Backend, Program, Report};

/// Most bytes of what is remembered.
const MAX_FILE: u64 = 64 << 10;
/// Changes with every start of this machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Report {
    pub fn usable(backend: Backend, program: Program, boot_ms: u64) -> Self {
        Self {
            backend,
            usable: true,
            code: String::new(),
            why_not: String::new(),
            boot_ms: Some(boot_ms),
            program: Some(program),
        }
    }

    pub fn unusable(backend: Backend, program: Option<Program>, fault: &Fault) -> Self {
        Self {
            backend,
            usable: false,
            code: fault.code().to_owned(),
            why_not: format!("{}; {}", fault.message(), fault.hint_text()),
            boot_ms: None,
            program,
        }
    }
}

/// What an answer holds for: another kernel, agent, hypervisor or start of the machine is another question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    kernel: String,
    boot_id: String,
    programs: Vec<Option<Program>>,
}

impl Question {
    pub fn new(kernel: String, programs: Vec<Option<Program>>) -> Result<Self> {
        let boot_id = read_bounded(Path::new(BOOT_ID), MAX_FILE)?;
        let boot_id = String::from_utf8_lossy(&boot_id).trim_end().to_owned();
        Ok(Self {
            kernel,
            boot_id,
            programs,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Answer {
    question: Question,
    reports: Vec<Report>,
}

/// The file in which the last answer is.
#[derive(Clone, Debug)]
pub struct Memory(PathBuf);

impl Memory {
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The answer to exactly this question, if there is one. A file that cannot be read is as good as none: it is
    /// asked again, and written again.
    pub fn recall(&self, question: &Question) -> Option<Vec<Report>> {
        let bytes = read_bounded(&self.0, MAX_FILE).ok()?;
        let answer: Answer = serde_json::from_slice(&bytes).ok()?;
        (answer.question == *question).then_some(answer.reports)
    }

    /// # Errors
    /// What the disk says.
    pub fn keep(&self, question: Question, reports: &[Report]) -> Result<()> {
        let answer = Answer {
            question,
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

#[cfg(test)]
mod tests {
    use worldcompute_fault::Category;

    use super::*;

    #[test]
    fn an_answer_is_recalled_for_its_question_alone() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::at(dir.path().join("hypervisors.json"));
        let question = |kernel: &str| Question::new(kernel.to_owned(), vec![None]).unwrap();
        let fault =
            Fault::new(Category::DependencyMissing, "kvm_missing", "no KVM").hint("get one");
        let reports = vec![Report::unusable(Backend::QemuKvm, None, &fault)];
        assert_eq!(memory.recall(&question("a")), None);
        memory.keep(question("a"), &reports).unwrap();
        assert_eq!(memory.recall(&question("a")), Some(reports));
        assert_eq!(memory.recall(&question("b")), None);
        let after_a_restart = Question {
            boot_id: "another".to_owned(),
            ..question("a")
        };
        assert_eq!(memory.recall(&after_a_restart), None);
        memory.forget().unwrap();
        memory.forget().unwrap();
        assert_eq!(memory.recall(&question("a")), None);
    }

    #[test]
    fn a_file_that_is_damaged_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hypervisors.json");
        write_atomic(&path, b"{\"question\":", Mode::Private).unwrap();
        let question = Question::new("a".to_owned(), vec![]).unwrap();
        assert_eq!(Memory::at(path).recall(&question), None);
    }
}
