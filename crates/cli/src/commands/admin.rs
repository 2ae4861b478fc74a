//! `worldcompute admin`: looking after the node.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::api::AdminStatus;

use super::Context;
use crate::args::AdminCommand;

/// Runs one admin command.
pub async fn run(context: &Context, command: AdminCommand) -> Result<ExitCode> {
    match command {
        AdminCommand::Status => {
            let status = context.client()?.admin_status().await?;
            context.output.data(&status, in_words)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn in_words(status: &AdminStatus) -> String {
    let mut lines = vec![
        format!("peer id      {}", status.peer_id),
        format!("version      {}", status.version),
        format!("roles        {}", status.roles.join(", ")),
        format!("uptime       {} s", status.uptime_s),
        format!("connections  {}", status.connections),
        format!(
            "load         cpu {:.2}  gpu {:.2}  mem {:.2}",
            status.load.cpu, status.load.gpu, status.load.mem
        ),
    ];
    lines.extend(
        status
            .store_audit_broken
            .iter()
            .map(|reason| format!("STORE AUDIT  broken: {reason}")),
    );
    lines.extend(
        status
            .listen
            .iter()
            .map(|address| format!("listening    {address}")),
    );
    lines.extend(
        status
            .addresses
            .iter()
            .map(|address| format!("reachable    {address}")),
    );
    lines.extend(
        status
            .reservations
            .iter()
            .map(|one| format!("reservation  {} at {}", one.state, one.relay)),
    );
    lines.extend(
        status
            .dials
            .iter()
            .map(|(outcome, count)| format!("dials        {outcome}: {count}")),
    );
    lines.extend(
        status
            .jobs
            .iter()
            .map(|(phase, count)| format!("jobs         {phase}: {count}")),
    );
    lines.join("\n")
}
