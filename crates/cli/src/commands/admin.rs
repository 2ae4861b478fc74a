//! `worldcompute admin`: looking after the node.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::api::{AdminStatus, Ban, BanRequest, Load, Reservation};

use super::{Context, diagnose};
use crate::args::{AdminCommand, Focus};

/// Runs one admin command.
pub async fn run(context: &Context, command: AdminCommand) -> Result<ExitCode> {
    match command {
        AdminCommand::Status { focus } => {
            let status = context.client()?.admin_status().await?;
            match focus {
                None => context.output.data(&status, in_words)?,
                Some(Focus::Relays) => {
                    let relays = &status.reservations;
                    context
                        .output
                        .data(relays, |relays| relays_in_words(relays))?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::Ban { subject_id, reason } => {
            let request = BanRequest { subject_id, reason };
            let ban = context.client()?.ban(&request).await?;
            let in_words = |ban: &Ban| format!("banned       {}", banned(ban));
            context.output.data(&ban, in_words)?;
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::Unban { subject_id } => {
            let ban = context.client()?.unban(&subject_id).await?;
            let in_words = |ban: &Ban| format!("{} is banned no more", ban.subject_id);
            context.output.data(&ban, in_words)?;
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::FirewallDiagnose(args) => diagnose::run(context, args).await,
    }
}

fn relays_in_words(relays: &[Reservation]) -> String {
    match relays {
        [] => "no relay is known".to_owned(),
        relays => relays.iter().map(relay).collect::<Vec<_>>().join("\n"),
    }
}

/// A relay in a few lines; what is not known is left out.
fn relay(held: &Reservation) -> String {
    let since = held.since.as_ref().map(|since| format!(" since {since}"));
    let mut lines = vec![
        format!("relay        {}", held.relay),
        format!("  state      {}{}", held.state, since.unwrap_or_default()),
    ];
    let connection = held.transport.as_ref().map(|transport| {
        let rtt = held
            .rtt_ms
            .map_or_else(String::new, |ms| format!(", {ms:.1} ms"));
        let tier = held
            .tier
            .map_or_else(String::new, |tier| format!(", tier {}", tier.as_str()));
        let path = held
            .path
            .as_ref()
            .map_or_else(String::new, |path| format!(", {path}"));
        format!("{transport}{path}{rtt}{tier}")
    });
    let expiry = held
        .expires_at
        .as_ref()
        .map(|end| format!("{end}, renewed {} times", held.renewals));
    let lost = held.lost_at.as_ref().map(|at| {
        let because = held.lost_because.as_deref().unwrap_or("unknown");
        format!("{at}: {}", because.escape_debug())
    });
    let failed = held
        .last_error
        .as_ref()
        .map(|why| why.escape_debug().to_string());
    let told = [
        ("address", held.address.clone()),
        ("over", connection),
        ("expires", expiry),
        ("failed", failed),
        ("last loss", lost),
    ];
    lines.extend(
        told.into_iter()
            .filter_map(|(name, value)| Some(format!("  {name:<9}  {}", value?))),
    );
    lines.join("\n")
}

fn banned(ban: &Ban) -> String {
    let reason = ban.reason.escape_debug();
    format!("{} since {}: {reason}", ban.subject_id, ban.since)
}

fn in_words(status: &AdminStatus) -> String {
    let mut lines = of_the_node(status);
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
            .tiers
            .iter()
            .map(|(tier, count)| format!("tier         {}: {count} peers", tier.as_str())),
    );
    lines.extend(
        status
            .dials
            .iter()
            .map(|(outcome, count)| format!("dials        {outcome}: {count}")),
    );
    lines.extend(
        status
            .inbound
            .iter()
            .map(|(outcome, count)| format!("inbound      {outcome}: {count}")),
    );
    lines.extend(
        status
            .banned
            .iter()
            .map(|ban| format!("banned       {}", banned(ban))),
    );
    lines.extend(
        status
            .jobs
            .iter()
            .map(|(phase, count)| format!("jobs         {phase}: {count}")),
    );
    lines.join("\n")
}

fn of_the_node(status: &AdminStatus) -> Vec<String> {
    let time = status.time.as_deref().unwrap_or("not told");
    let Load { cpu, gpu, mem } = status.load;
    vec![
        format!("peer id      {}", status.peer_id),
        format!("version      {}", status.version),
        format!("roles        {}", status.roles.join(", ")),
        format!("uptime       {} s", status.uptime_s),
        format!("time         {time}"),
        format!("connections  {}", status.connections),
        format!("load         cpu {cpu:.2}  gpu {gpu:.2}  mem {mem:.2}"),
    ]
}
