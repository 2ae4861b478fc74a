//! The supervisor's thread, and what others have of it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use worldcompute_fault::{Fault, Result, WcCode};

use crate::host::{HostSenses, Roots};
use crate::report::Log;
use crate::sandboxes::Shared;
use crate::senses::{Clock, Senses};
use crate::warden::Warden;
use crate::{Freezable, Registered, Report, Settings};

/// Watches the machine for its owner. Dropping it ends the watch, and lets go on what stands still.
pub struct Supervisor {
    shared: Arc<Shared>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Watches this machine. `on_change` is called from the supervisor's thread when yielding begins (true) and ends,
    /// after the sandboxes were told; it must not wait.
    ///
    /// # Errors
    /// WC-007 when the system gives no thread or no socket.
    pub fn start(settings: Settings, on_change: impl Fn(bool) + Send + 'static) -> Result<Self> {
        Self::start_in(Roots::default(), settings, on_change)
    }

    /// The same with the machine's folders elsewhere.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn start_in(
        roots: Roots,
        settings: Settings,
        on_change: impl Fn(bool) + Send + 'static,
    ) -> Result<Self> {
        let (wake, woken) = UnixStream::pair().map_err(unavailable)?;
        wake.set_nonblocking(true).map_err(unavailable)?;
        woken.set_nonblocking(true).map_err(unavailable)?;
        let shared = Arc::new(Shared::new(Log::of(&settings)));
        let senses = HostSenses::new(&settings, roots, woken);
        let clock = SystemClock(Instant::now());
        let warden = Warden::new(settings, senses, clock, shared.clone(), Box::new(on_change));
        Ok(Self {
            thread: Some(spawn(warden)?),
            shared,
            wake,
        })
    }

    /// Takes a sandbox under its hand. While the machine is yielded, it begins frozen.
    pub fn register(&self, sandbox: Arc<dyn Freezable>) -> Registered {
        self.shared.register(sandbox)
    }

    /// Whether the machine is yielded now.
    pub fn is_yielding(&self) -> bool {
        self.shared.lock().log.yielding.is_some()
    }

    /// How things stand.
    pub fn report(&self) -> Report {
        self.shared.lock().log.report()
    }

    /// The owner wants the work to go on: what has fired so far is forgotten. What still does fires again.
    pub fn go_on(&self) {
        self.shared.lock().go_on = true;
        self.wake();
    }

    fn wake(&self) {
        // A socket that is full of calls to wake up wakes all the same.
        let _woken_anyway = (&self.wake).write(&[1]);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

fn spawn(warden: Warden<impl Senses, SystemClock>) -> Result<JoinHandle<()>> {
    let thread = Builder::new().name("yield".to_owned());
    let watching = move || {
        hurry();
        warden.run();
    };
    thread.spawn(watching).map_err(unavailable)
}

/// Before everything else on this machine as far as that is allowed; where nothing is, it is a thread like others.
#[cfg(target_os = "linux")]
fn hurry() {
    use rustix::process::{Resource, getrlimit, setpriority_process};
    let ceiling = getrlimit(Resource::Nice).current.unwrap_or(40);
    let allowed = 20 - i32::try_from(ceiling.min(40)).unwrap_or(40);
    let me = Some(rustix::thread::gettid());
    if setpriority_process(me, -20).is_err() && allowed < 0 {
        let _as_it_was = setpriority_process(me, allowed);
    }
}

#[cfg(not(target_os = "linux"))]
fn hurry() {}

fn unavailable(error: std::io::Error) -> Fault {
    Fault::wc(
        WcCode::SandboxUnavailable,
        "nothing to watch the machine with",
    )
    .caused_by(error)
}
