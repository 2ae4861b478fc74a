//! `gait guard retain`.

use std::path::Path;

use gait::VERSION;
use gait::guard::retain::{Policy, retain};
use jiff::SignedDuration;
use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait guard retain`
pub static RETAIN: Command = Command {
    words: &["guard", "retain"],
    help: "Delete traces and guard packs that are past their time, and report what went and what stayed.",
    flags: &[
        Flag::text("root", "."),
        Flag::duration("trace-ttl", SignedDuration::from_hours(168)),
        Flag::duration("pack-ttl", SignedDuration::from_hours(720)),
        Flag::switch("dry-run"),
        Flag::text("report-out", ""),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let report = args.text("report-out").trim();
    let root = match args.text("root").trim() {
        "" => ".",
        root => root,
    };
    let done = retain(&Policy {
        root: Path::new(root),
        trace_ttl: args.duration("trace-ttl"),
        pack_ttl: args.duration("pack-ttl"),
        dry_run: args.switch("dry-run"),
        report: (!report.is_empty()).then_some(Path::new(report)),
        producer_version: VERSION,
        clock: context.clock.clone(),
    })?;
    let human = format!(
        "guard retain ok: scanned={} deleted={} kept={} dry_run={}",
        done.scanned_files,
        done.deleted_files.len(),
        done.kept_files.len(),
        done.dry_run
    );
    let mut fields = json!({
        "deleted_files": done.deleted_files,
        "dry_run": done.dry_run,
        "kept_files": done.kept_files,
        "root_path": done.root_path,
        "scanned_files": done.scanned_files,
    });
    if let Some(fields) = fields.as_object_mut() {
        fields
            .retain(|_, value| *value != json!(false) && *value != json!(0) && *value != json!([]));
    }
    Outcome::ok(&fields, human)
}
