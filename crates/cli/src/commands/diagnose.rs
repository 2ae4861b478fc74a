//! `worldcompute admin firewall-diagnose`: what this network blocks, and which way works.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use worldcompute_fault::{Fault, Result};
use worldcompute_node::Config;
use worldcompute_node::diagnosis::{self, Report, line, visible};

use super::Context;
use super::daemon::{StopSignal, checked, trusting};
use crate::args::DiagnoseArgs;
use crate::output::Output;

/// The commit that this program was built of.
const COMMIT: Option<&str> = option_env!("WORLDCOMPUTE_COMMIT");
/// How often the line of progress moves.
const TICK: Duration = Duration::from_millis(120);

/// Diagnoses, prints what was found, and writes the evidence.
pub async fn run(context: &Context, args: DiagnoseArgs) -> Result<ExitCode> {
    let within = diagnosis::duration(args.duration_s)
        .map_err(|fault| Fault::usage(fault.message()).hint(fault.hint_text().to_owned()))?;
    let out = args.out.clone();
    let config = configure(Config::load(&context.home()?.config())?, args)?;
    let _guard = context.telemetry("off", None, &config)?;
    let mut stop = StopSignal::listen(false)?;
    let (told, heard) = mpsc::unbounded_channel();
    let showing = tokio::spawn(show(context.output, heard));
    let found = stop
        .unless_told(diagnosis::run(&config, within, told))
        .await;
    // It only shows what is over, and ends with it.
    let _ = showing.await;
    let mut report = found?;
    let written = report.write_evidence(&out, &config, COMMIT);
    context.output.data(&report, in_words)?;
    report.check_path()?;
    written.map(|()| ExitCode::SUCCESS)
}

fn configure(mut config: Config, args: DiagnoseArgs) -> Result<Config> {
    config.bootstrap.extend(args.bootstrap);
    checked(trusting(config, &args.trust))
}

/// One line that moves, on a terminal; nothing elsewhere.
async fn show(output: Output, mut heard: mpsc::UnboundedReceiver<diagnosis::Probe>) {
    let target = match output.is_watched() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} known; {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_message("asking relays");
    bar.enable_steady_tick(TICK);
    while let Some(probe) = heard.recv().await {
        bar.inc(1);
        bar.set_message(line(&probe));
    }
    bar.finish_and_clear();
}

fn in_words(report: &Report) -> String {
    let found = &report.found;
    let mut lines = Vec::new();
    if found.verdict.blockers.is_empty() {
        lines.push("Nothing is blocked.".to_owned());
    }
    for blocker in &found.verdict.blockers {
        lines.push(format!("{}: {}", blocker.name, visible(&blocker.what)));
        lines.push(format!("  {}", blocker.ask));
    }
    lines.push(match &found.path {
        Some(path) => format!(
            "A daemon here reaches its relay over {}{}, and has an address after {} ms.",
            path.transport,
            if path.inspected {
                " (tier Inspected)"
            } else {
                ""
            },
            path.first_reservation_ms
        ),
        None => "A daemon here would have no address at which others reach it.".to_owned(),
    });
    lines.push(format!(
        "NAT: {}: {}.",
        found.nat.kind.as_str(),
        found.nat.reason
    ));
    lines.push(String::new());
    lines.extend(found.probes.iter().map(line));
    lines.push(String::new());
    lines.push(match (&report.evidence, &report.no_evidence) {
        (Some(place), _) => format!("evidence  {place}"),
        (None, why) => format!(
            "no evidence: {}",
            why.as_deref().unwrap_or("nothing was written")
        ),
    });
    lines.join("\n")
}
