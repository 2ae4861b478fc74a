//! Who holds a lock, in words.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of a lock file that are looked at.
const MAX_BYTES: usize = 4096;

/// The process that wrote itself into a lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// The machine's name.
    pub host: String,
    /// When it took the lock.
    pub since: Timestamp,
    /// When it started, so that a recycled process id is not mistaken for it; `None` where the system does not say.
    pub birth: Option<Birth>,
}

/// When a process started: a boot of the machine, and clock ticks since then (proc(5), `stat` field 22).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Clock ticks.
    pub ticks: u64,
}

impl Owner {
    /// This process, now.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            host: this_host(),
            since: Timestamp::now(),
            birth: Birth::of(pid),
        }
    }

    /// Whether that very process runs on this machine; `None` when it cannot be told from here.
    pub fn is_alive(&self) -> Option<bool> {
        let birth = self.birth.as_ref()?;
        (self.host == this_host()).then(|| Birth::of(self.pid).as_ref() == Some(birth))
    }

    /// What the file says; `None` when it is empty or in the middle of being written.
    pub(crate) fn read(file: &File) -> Option<Self> {
        let mut buffer = [0; MAX_BYTES];
        let read = file.read_at(&mut buffer, 0).ok()?;
        // The end of an earlier owner may follow one that died before it cut it off.
        let mut owners = serde_json::Deserializer::from_slice(buffer.get(..read)?).into_iter();
        owners.next()?.ok()
    }

    /// Over what is there, which is cut off afterwards: a disk that is full must not cost the name of a dead owner.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        file.write_all_at(&bytes, 0)?;
        file.set_len(bytes.len() as u64)
    }
}

impl Birth {
    fn of(pid: u32) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            ticks: start_ticks(&stat)?,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pid {} on {} since {:.0}",
            self.pid, self.host, self.since
        )?;
        if self.is_alive() == Some(false) {
            f.write_str(" (no such process here now: one that it started may hold on)")?;
        }
        Ok(())
    }
}

/// Field 22 of proc(5) `stat`. The second field, the program's name, may itself contain spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn this_host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        assert_eq!(Owner::current().is_alive(), Some(true));
    }

    #[test]
    fn a_recycled_process_id_is_not_the_owner() {
        let mut owner = Owner::current();
        let birth = owner.birth.as_mut().unwrap();
        birth.ticks -= 1;
        assert_eq!(owner.is_alive(), Some(false));
        assert!(owner.to_string().contains("no such process here now"));
    }

    #[test]
    fn the_same_process_id_after_a_reboot_is_not_the_owner() {
        let mut owner = Owner::current();
        owner.birth.as_mut().unwrap().boot = "another boot".to_owned();
        assert_eq!(owner.is_alive(), Some(false));
    }

    #[test]
    fn of_another_machine_nothing_is_claimed() {
        let owner = Owner {
            host: "elsewhere.invalid".to_owned(),
            ..Owner::current()
        };
        assert_eq!(owner.is_alive(), None);
    }

    #[test]
    fn a_program_name_cannot_forge_the_start_time() {
        let fields = (4..=24)
            .map(|field| format!(" {field}"))
            .collect::<String>();
        for name in ["cat", "a b", "x) S 1 2 3", ") )"] {
            assert_eq!(
                start_ticks(&format!("7 ({name}) R{fields}")),
                Some(22),
                "{name}"
            );
        }
        for broken in [
            "",
            "7 (cat",
            "7 (cat) R 1 2",
            "7 (cat) R a b c d e f g h i j k l m n o p q r s t u",
        ] {
            assert_eq!(start_ticks(broken), None, "{broken}");
        }
    }
}
