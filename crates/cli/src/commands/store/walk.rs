//! `worldcompute store verify` and `verify-chain`: everything is read, and what is wrong is named.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::store::{ChainReport, Finding, Problem, Progress, VerifyReport};

use super::Held;
use crate::args::WalkArgs;
use crate::commands::Context;
use crate::output::Output;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

#[derive(Serialize)]
struct Verified {
    ok: bool,
    /// Whether anything outside of the table knew the store.
    anchored: bool,
    store_id: String,
    #[serde(flatten)]
    report: VerifyReport,
    /// Every partition that was looked through, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<Vec<Listed>>,
}

#[derive(Serialize)]
struct Listed {
    partition: String,
    /// How many of its records are sound.
    records: usize,
}

/// Looks through every partition and through the audit.
pub async fn verify(context: &Context, args: &WalkArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.look().await?;
    let mut walk = Walk::new(context.output, args.list);
    let report = store.verify(&[], &mut |step| walk.step(step)).await;
    walk.bar.finish_and_clear();
    let report = report?;
    let store_id = store.id().to_owned();
    let verified = Verified {
        ok: report.is_sound(),
        anchored: store.is_anchored(),
        store_id,
        report,
        listed: walk.listed,
    };
    // What a walk reads is on record, unless it is the record that is broken.
    let closed = store.close().await;
    context.output.data(&verified, in_words)?;
    match verified.ok {
        true => closed.map(|()| ExitCode::SUCCESS),
        false => Err(unsound(&verified.report)),
    }
}

#[derive(Serialize)]
struct Chains {
    ok: bool,
    /// Whether anything outside of the table knew the store.
    anchored: bool,
    store_id: String,
    events: u64,
    #[serde(flatten)]
    report: ChainReport,
}

/// Verifies the audit alone.
pub async fn verify_chain(context: &Context) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.look().await?;
    let report = store.verify_chain().await?;
    let chains = Chains {
        ok: report.is_whole(),
        anchored: store.is_anchored(),
        store_id: store.id().to_owned(),
        events: report.events(),
        report,
    };
    let closed = store.close().await;
    context.output.data(&chains, chains_in_words)?;
    match chains.report.first_break() {
        None => closed.map(|()| ExitCode::SUCCESS),
        Some((lane, broken)) => Err(broken_chain(&format!("lane {lane}: {broken}"))),
    }
}

/// Shows a person how far the walk has come.
struct Walk {
    bar: ProgressBar,
    partitions: u64,
    records: u64,
    wrong: u64,
    listed: Option<Vec<Listed>>,
}

impl Walk {
    fn new(output: Output, list: bool) -> Self {
        let target = match output.is_watched() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(TICK);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            partitions: 0,
            records: 0,
            wrong: 0,
            listed: list.then(Vec::new),
        }
    }

    fn step(&mut self, step: Progress<'_>) {
        match step {
            Progress::Partition { name, records } => {
                self.partitions += 1;
                self.records += records as u64;
                self.list(name, records);
            }
            Progress::Found(finding) if finding.problem == Problem::Leftover => {}
            Progress::Found(_) => self.wrong += 1,
        }
        self.bar.set_message(format!(
            "{} partitions, {} records, {} wrong",
            self.partitions, self.records, self.wrong
        ));
    }
}

impl Walk {
    fn list(&mut self, name: &str, records: usize) {
        if let Some(listed) = &mut self.listed {
            listed.push(Listed {
                partition: name.to_owned(),
                records,
            });
        }
    }
}

fn in_words(verified: &Verified) -> String {
    let listed = verified.listed.iter().flatten();
    let lines = listed.map(|one| {
        let name = one.partition.escape_debug();
        format!("{name}  {} records", one.records)
    });
    let lines = lines.chain([judged(verified)]);
    let lines: Vec<_> = lines.chain(doubt(verified.anchored)).collect();
    lines.join("\n")
}

fn chains_in_words(chains: &Chains) -> String {
    let lines = lanes_in_words(&chains.report).into_iter();
    let lines: Vec<_> = lines.chain(doubt(chains.anchored)).collect();
    lines.join("\n")
}

/// What cannot be known of a table that nothing outside of it knows.
fn doubt(anchored: bool) -> Option<String> {
    let words = "not anchored: this home remembers nothing of the store, so a table that was put back as a whole looks the same";
    (!anchored).then(|| words.to_owned())
}

fn judged(verified: &Verified) -> String {
    let report = &verified.report;
    let counted = format!(
        "{} partitions, {} records, {} events of the audit",
        report.partitions,
        report.records,
        report.audit.events()
    );
    let mut lines = match verified.ok {
        true => vec![format!("sound: {counted}")],
        false => vec![format!("NOT SOUND; sound are {counted}")],
    };
    lines.extend(listed(&report.findings, report.found));
    if report.left > 0 {
        lines.push(format!(
            "{} rows that interrupted commits have left, or somebody has put back: the next commit to the partition, its rotation or its erasure removes them",
            report.left
        ));
    }
    lines.extend(listed(&report.leftovers, report.left));
    if !report.audit.is_whole() {
        lines.extend(lanes_in_words(&report.audit));
    }
    lines.join("\n")
}

fn listed(findings: &[Finding], count: u64) -> Vec<String> {
    let mut lines: Vec<_> = findings.iter().map(finding).collect();
    let more = count.saturating_sub(findings.len() as u64);
    lines.extend((more > 0).then(|| format!("  and {more} more")));
    lines
}

/// Names are escaped: whoever wrote the table chose them, and a terminal would do what they say.
fn finding(found: &Finding) -> String {
    let item = found.item.as_ref();
    let item = item.map(|item| format!(" {}", item.escape_debug()));
    format!(
        "  {:11}  {}{}  ({})",
        problem(found.problem),
        found.partition.escape_debug(),
        item.unwrap_or_default(),
        found.code
    )
}

fn problem(problem: Problem) -> &'static str {
    match problem {
        Problem::Tampered => "tampered",
        Problem::Missing => "missing",
        Problem::Extra => "extra",
        Problem::Leftover => "left over",
        Problem::RolledBack => "rolled back",
        Problem::Unreadable => "unreadable",
        Problem::Unrecorded => "not on record",
    }
}

fn lanes_in_words(report: &ChainReport) -> Vec<String> {
    let lanes = report.lanes.iter();
    lanes
        .map(|lane| match &lane.broken {
            None => format!("lane {}  {} events, whole", lane.lane, lane.events),
            Some(broken) => format!(
                "lane {}  {} events are sound; {broken}",
                lane.lane, lane.events
            ),
        })
        .collect()
}

fn unsound(report: &VerifyReport) -> Fault {
    let message = match report.audit.first_break() {
        Some((lane, broken)) if report.found == 0 => format!("lane {lane} of the audit: {broken}"),
        _ => format!("{} things are not what was written", report.found),
    };
    Fault::new(Category::VerificationFailed, "store_unsound", message)
        .hint("keep the table as evidence, and restore what is named from a bundle or a backup")
}

pub fn broken_chain(what: &str) -> Fault {
    Fault::new(Category::VerificationFailed, "audit_chain_broken", what)
        .hint("keep the table as evidence, and compare with the last checkpoint in evidence/store-audit.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_out_of_the_table_tells_the_terminal_what_to_do() {
        let evil = "evil\x1b[2J\x1b[H\r\nsound: 12 partitions\u{202e}\u{9b}8m";
        let found = Finding {
            partition: evil.to_owned(),
            item: Some(evil.to_owned()),
            problem: Problem::Extra,
            code: "uncommitted".to_owned(),
        };
        let line = finding(&found);
        assert!(line.contains("sound: 12 partitions"), "{line}");
        assert!(
            line.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            "{line:?}"
        );
    }
}
