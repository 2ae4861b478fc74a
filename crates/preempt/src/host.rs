//! The senses of a machine: what Linux shows in `/dev`, `/proc` and `/sys`. Elsewhere there is nothing to read there, and
//! every sense but the owner's own rules is blind.

mod figures;
mod input;
mod load;
mod terminals;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::senses::{Reading, Senses};
use crate::{Settings, Trigger};
use figures::{memory, power, temperature};
use input::Inputs;
use load::Load;
use terminals::Terminals;

/// How long it is waited for nothing where the system does not let anything be waited for.
const WITHOUT_POLL: Duration = Duration::from_millis(100);

/// Where the machine shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Devices: `input/event*` and `pts/*`.
    pub dev: PathBuf,
    /// `stat` and `meminfo`, and processes.
    pub proc: PathBuf,
    /// `class/input`, `class/power_supply` and `class/thermal`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            dev: "/dev".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

pub struct HostSenses {
    settings: Settings,
    roots: Roots,
    input: Inputs,
    terminals: Terminals,
    load: Load,
    woken: UnixStream,
}

impl HostSenses {
    pub fn new(settings: &Settings, roots: Roots, woken: UnixStream) -> Self {
        Self {
            settings: settings.clone(),
            input: Inputs::new(roots.dev.join("input"), roots.sys.join("class/input")),
            terminals: Terminals::new(roots.dev.join("pts")),
            load: Load::new(roots.proc.clone(), settings.load_percent),
            roots,
            woken,
        }
    }

    fn schedule(&self) -> Reading {
        if self.settings.quiet_hours.is_empty() {
            return Reading::Blind("yield.quiet_hours names no hours");
        }
        let now = Zoned::now().datetime();
        let mut hours = self.settings.quiet_hours.iter();
        Reading::of(hours.any(|hours| hours.contain(now)))
    }

    fn user(&self) -> Reading {
        match &self.settings.while_exists {
            Some(path) => Reading::of(path.symlink_metadata().is_ok()),
            None => Reading::Blind("yield.while_exists names no file"),
        }
    }

    fn thermal(&self) -> PathBuf {
        self.roots.sys.join("class/thermal")
    }
}

impl Senses for HostSenses {
    fn look(&mut self, trigger: Trigger) -> Reading {
        match trigger {
            Trigger::Input => self.input.look(),
            Trigger::Foreground => self.terminals.look(),
            Trigger::Load => self.load.look(),
            Trigger::Temperature => temperature(&self.thermal(), self.settings.temperature_c),
            Trigger::Power => power(&self.roots.sys.join("class/power_supply")),
            Trigger::Memory => memory(
                &self.roots.proc.join("meminfo"),
                self.settings.memory_percent,
            ),
            Trigger::Schedule => self.schedule(),
            Trigger::User => self.user(),
        }
    }

    fn wait(&mut self, limit: Option<Duration>, listen: bool) -> bool {
        let devices = self.input.devices().filter(|_| listen);
        let all = std::iter::once(PollFd::new(&self.woken, PollFlags::IN))
            .chain(devices.map(|device| PollFd::from_borrowed_fd(device, PollFlags::IN)));
        let mut all: Vec<PollFd<'_>> = all.collect();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut all, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return false,
            Err(_) => {
                std::thread::park_timeout(WITHOUT_POLL);
                return listen;
            }
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let input = all.iter().skip(1).any(ready);
        if all.first().is_some_and(ready) {
            // How often it was woken does not matter.
            let _once = (&self.woken).read(&mut [0; 64]);
        }
        input
    }
}

/// What a file of the system says, up to 4 KiB of it.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The entries of a folder of the system, up to 256 of them.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().take(256).map(|entry| entry.path())
}
