//! How writers of one journal wait for each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use worldcompute_durable::{LockFile, LockForm, LockOptions};
use worldcompute_fault::{Category, Fault, Result};

use crate::duration;
use crate::environment::Environment;
use crate::limits::invalid;

/// How long to wait, how often to look, and when the lock of another program counts as left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSettings {
    wait: LockOptions,
    stale_after: Duration,
}

impl Default for LockSettings {
    /// 2 s, looking every 50 ms; left behind after 5 min.
    fn default() -> Self {
        Self::new(2_000, 50, 300)
    }
}

impl LockSettings {
    const fn new(wait_ms: u64, poll_ms: u64, stale_s: u64) -> Self {
        Self {
            wait: LockOptions {
                wait: Duration::from_millis(wait_ms),
                poll: Duration::from_millis(poll_ms),
            },
            stale_after: Duration::from_secs(stale_s),
        }
    }

    /// What `GAIT_SESSION_LOCK_PROFILE` (`standard` or `swarm`) and `GAIT_SESSION_LOCK_{TIMEOUT,RETRY,STALE_AFTER}` say.
    ///
    /// # Errors
    /// `invalid_input` for anything else.
    pub fn from_environment(environment: &dyn Environment) -> Result<Self> {
        let profile = environment.setting("GAIT_SESSION_LOCK_PROFILE");
        let mut settings = match profile.as_deref().unwrap_or("standard") {
            "standard" => Self::default(),
            "swarm" => Self::new(10_000, 20, 600),
            other => return Err(unsupported("GAIT_SESSION_LOCK_PROFILE", other)),
        };
        let LockSettings { wait, stale_after } = &mut settings;
        for (name, span) in [
            ("GAIT_SESSION_LOCK_TIMEOUT", &mut wait.wait),
            ("GAIT_SESSION_LOCK_RETRY", &mut wait.poll),
            ("GAIT_SESSION_LOCK_STALE_AFTER", stale_after),
        ] {
            if let Some(text) = environment.setting(name) {
                *span = span_of(&text).ok_or_else(|| unsupported(name, &text))?;
            }
        }
        settings.wait.poll = settings.wait.poll.min(settings.wait.wait);
        Ok(settings)
    }

    /// The same without waiting.
    pub(super) const fn at_once(mut self) -> Self {
        self.wait.wait = Duration::ZERO;
        self
    }

    /// Keeps other writers away from `journal` as long as the lock lives.
    pub(crate) fn acquire(&self, journal: &Path) -> Result<LockFile> {
        let mut path = journal.as_os_str().to_owned();
        path.push(".lock");
        let form = LockForm {
            schema_id: "gait.runpack.session_lock",
            schema_version: "1.0.0",
            stale_after: self.stale_after,
        };
        LockFile::acquire(&PathBuf::from(path), &form, self.wait).map_err(recoded)
    }
}

fn span_of(text: &str) -> Option<Duration> {
    let span = Duration::try_from(duration::parse(text)?).ok()?;
    (!span.is_zero()).then_some(span)
}

fn unsupported(name: &str, value: &str) -> Fault {
    invalid(format!("unsupported value {value:?} of {name}"))
}

fn recoded(fault: Fault) -> Fault {
    match fault.category() {
        Category::StateContention => {
            let message = format!("session state contention: {}", fault.message());
            Fault::new(Category::StateContention, "session_lock_timeout", message)
        }
        _ => fault,
    }
}
