//! Where the numbers come from: the kernel through sysinfo, and NVIDIA's management library where it is installed.

use nvml_wrapper::{Device, Nvml};
use sysinfo::{MemoryRefreshKind, System};

use super::{GpuLoad, HostDetail};

/// More devices than this are not asked.
const MAX_DEVICES: u32 = 64;

/// What cannot be measured counts as full: a machine whose load is unknown takes no work.
const FULL: f64 = 1.0;

/// The seam for measurements.
pub(super) trait Probe: Send {
    /// The load since the reading before.
    fn read(&mut self) -> HostDetail;
}

pub(super) struct HostProbe {
    system: Option<System>,
    nvml: Option<Nvml>,
}

impl HostProbe {
    /// The library is looked for once: a driver does not appear under a running process.
    pub(super) fn new() -> Self {
        let nvml = Nvml::init()
            .inspect_err(|error| tracing::debug!(%error, "no NVIDIA devices to watch"))
            .ok();
        let system = System::new()
            .inspect_err(|error| tracing::warn!(%error, "cannot measure load: it counts as full"))
            .ok();
        Self { system, nvml }
    }
}

impl Probe for HostProbe {
    fn read(&mut self) -> HostDetail {
        let (cpu, mem) = self.system.as_mut().map_or((FULL, FULL), host);
        HostDetail {
            cpu,
            mem,
            gpu: self.nvml.as_ref().map(gpus),
        }
    }
}

fn host(system: &mut System) -> (f64, f64) {
    system.refresh_cpu_usage();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (total, available) = (system.total_memory(), system.available_memory());
    let cpu = unit(f64::from(system.global_cpu_usage()) / 100.0);
    (
        cpu,
        share(total.saturating_sub(available), total).unwrap_or(FULL),
    )
}

fn gpus(nvml: &Nvml) -> Vec<GpuLoad> {
    let count = nvml.device_count().unwrap_or(0).min(MAX_DEVICES);
    (0..count)
        .filter_map(|index| nvml.device_by_index(index).ok())
        .map(|device| gpu(&device))
        .collect()
}

fn gpu(device: &Device<'_>) -> GpuLoad {
    GpuLoad {
        name: device.name().unwrap_or_else(|_| "NVIDIA".to_owned()),
        utilization: device
            .utilization_rates()
            .ok()
            .map(|rates| unit(f64::from(rates.gpu) / 100.0)),
        memory: device
            .memory_info()
            .ok()
            .and_then(|memory| share(memory.used, memory.total)),
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| unit(part as f64 / whole as f64))
}

/// Drivers round, and report more than all of it.
fn unit(value: f64) -> f64 {
    if value.is_finite() {
        value.clamp(0.0, 1.0)
    } else {
        0.0
    }
}
