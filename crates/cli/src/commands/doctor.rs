//! `worldcompute doctor`: what of this machine can be used, found out by trying.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_node::microvm::{Backend, MicroVms, Report};
use worldcompute_node::{Config, blocking};

use super::Context;
use super::donor::is_running;
use crate::output::Output;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// What was found.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// The node's home.
    home: PathBuf,
    /// Whether there is a node in it.
    enrolled: bool,
    /// Whether its daemon runs.
    running: bool,
    images: Images,
}

/// Whether images run here.
#[derive(Debug, Serialize)]
struct Images {
    /// Whether the configuration lets them.
    wanted: bool,
    /// What they run on: the first of the hypervisors on which a guest boots.
    backend: Option<Backend>,
    /// Every hypervisor, the best first.
    hypervisors: Vec<Report>,
}

/// Boots a guest on every hypervisor that is here, unless it is remembered how that ended.
///
/// # Errors
/// WC-007 where images are wanted and cannot run, after all is printed; WC-021 on another platform.
pub async fn run(context: &Context) -> Result<ExitCode> {
    let home = context.home()?;
    let config = Config::load(&home.config())?;
    let (wanted, microvm, folder) = (config.images, config.microvm, home.microvm());
    let waiting = waiting(context.output);
    let surveyed = blocking(move || {
        let vms = MicroVms::open(&microvm, &folder)?;
        Ok((vms.survey()?, vms.choose()))
    });
    let surveyed = surveyed.await;
    waiting.finish_and_clear();
    let (hypervisors, chosen) = match surveyed {
        Ok((reports, chosen)) => (reports, chosen),
        Err(fault) => (Vec::new(), Err(fault)),
    };
    let diagnosis = Diagnosis {
        enrolled: home.is_enrolled(),
        running: is_running(&context.client()?).await?,
        home: home.root().to_owned(),
        images: Images {
            wanted,
            backend: chosen.as_ref().ok().copied(),
            hypervisors,
        },
    };
    context.output.data(&diagnosis, Diagnosis::in_words)?;
    verdict(wanted, chosen)
}

/// Who does not want images has no need of a hypervisor.
fn verdict(wanted: bool, chosen: Result<Backend>) -> Result<ExitCode> {
    match chosen {
        Err(fault) if wanted => Err(fault),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn waiting(output: Output) -> ProgressBar {
    let target = match output.is_watched() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_message("a guest boots on every hypervisor");
    bar.enable_steady_tick(TICK);
    bar
}

impl Diagnosis {
    fn in_words(&self) -> String {
        let node = match (self.enrolled, self.running) {
            (false, _) => "no node",
            (true, false) => "a node that does not run",
            (true, true) => "a node that runs",
        };
        let mut text = format!("home      {}: {node}\n", self.home.display());
        text += &format!("images    {}\n", self.images.in_words());
        for report in &self.images.hypervisors {
            text += &format!("  {:<16}{}\n", report.backend, in_words(report));
        }
        text
    }
}

impl Images {
    fn in_words(&self) -> String {
        match (self.wanted, self.backend) {
            (false, _) => "are not taken (images = false in config.toml)".to_owned(),
            (true, Some(backend)) => format!("run on {backend}"),
            (true, None) => "do not run here".to_owned(),
        }
    }
}

fn in_words(report: &Report) -> String {
    let program = report.program.as_ref();
    let path = program.map(|program| format!(" ({})", program.path.display()));
    let path = path.unwrap_or_default();
    match report.boot_ms {
        Some(ms) if report.usable => {
            format!("a guest booted in {ms} ms{path}; {}", report.confinement)
        }
        _ => format!("{}{path}", report.why_not),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_fault::{Fault, WcCode};

    #[test]
    fn a_machine_without_hypervisors_is_sick_only_where_images_are_wanted() {
        let none = || Err(Fault::wc(WcCode::SandboxUnavailable, "none"));
        assert!(verdict(true, none()).is_err());
        assert!(verdict(false, none()).is_ok());
        assert!(verdict(true, Ok(Backend::QemuEmulation)).is_ok());
    }
}
