//! How busy this machine is: processor, memory and graphics processors, each from 0 to 1.

mod probe;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use probe::{HostProbe, Probe};

/// A sample younger than this is given again instead of a new one.
pub const SAMPLE_LIFETIME: Duration = Duration::from_millis(500);

/// Processor load is the share of busy time between two readings; closer ones say too little.
const MIN_SPACING: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

/// The load of a machine, each part in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    /// Share of processor time spent, over all cores, since the sample before.
    pub cpu: f64,
    /// The busiest graphics processor; 0 where there is none.
    pub gpu: f64,
    /// Share of memory that is not available to a new process.
    pub mem: f64,
}

impl HostLoad {
    /// The part under the most load.
    pub fn overall(&self) -> f64 {
        self.cpu.max(self.gpu).max(self.mem)
    }
}

/// The same with what lies behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostDetail {
    /// As in [`HostLoad::cpu`].
    pub cpu: f64,
    /// As in [`HostLoad::mem`].
    pub mem: f64,
    /// Each NVIDIA device; `None` where the driver's library (NVML) is not installed.
    pub gpu: Option<Vec<GpuLoad>>,
}

/// The load of one graphics processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuLoad {
    /// As the driver calls it.
    pub name: String,
    /// Share of time in which a kernel ran; `None` where the device does not tell (as when it is partitioned).
    pub utilization: Option<f64>,
    /// Share of its memory in use.
    pub memory: Option<f64>,
}

impl HostDetail {
    /// Just the numbers.
    pub fn load(&self) -> HostLoad {
        let devices = self
            .gpu
            .iter()
            .flatten()
            .filter_map(|device| device.utilization);
        HostLoad {
            cpu: self.cpu,
            gpu: devices.fold(0.0, f64::max),
            mem: self.mem,
        }
    }
}

/// Measures the load of this machine. One per process is enough; it is safe to share.
///
/// The first reading is taken when it is made, so that the first sample already covers a real stretch of time. A
/// sample asked for within 200 ms of that waits for the rest of the 200 ms, and no other sample ever waits.
pub struct LoadSampler {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    probe: Box<dyn Probe>,
    primed: Instant,
    last: Option<(Instant, HostDetail)>,
}

impl Default for LoadSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadSampler {
    /// Takes the first reading.
    pub fn new() -> Self {
        Self::with(Box::new(HostProbe::new()), Box::new(SystemClock))
    }

    /// The load since the sample before; at most [`SAMPLE_LIFETIME`] old.
    pub fn sample(&self) -> HostLoad {
        self.detail().load()
    }

    /// The same with each graphics processor.
    pub fn detail(&self) -> HostDetail {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, detail)) = &state.last
            && self.clock.now().saturating_duration_since(*taken) < SAMPLE_LIFETIME
        {
            return detail.clone();
        }
        if state.last.is_none() {
            let age = self.clock.now().saturating_duration_since(state.primed);
            self.clock.wait(MIN_SPACING.saturating_sub(age));
        }
        let detail = state.probe.read();
        state.last = Some((self.clock.now(), detail.clone()));
        detail
    }

    fn with(mut probe: Box<dyn Probe>, clock: Box<dyn Clock>) -> Self {
        probe.read();
        let state = State {
            probe,
            primed: clock.now(),
            last: None,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }
}

/// The seam for time.
trait Clock: Send + Sync {
    fn now(&self) -> Instant;
    fn wait(&self, duration: Duration);
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, duration: Duration) {
        let (_open, nothing) = std::sync::mpsc::channel::<()>();
        let _timed_out = nothing.recv_timeout(duration);
    }
}

#[cfg(test)]
mod tests;
