//! `gait doctor`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use gait::doctor::{self, Keys, Means, Options, Report, Status};
use gait::oplog;
use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault, Result};

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;

/// `gait doctor`
pub static EXAMINE: Command = Command {
    words: &["doctor"],
    help: "Examine this machine and project, and name the command that repairs each finding.",
    flags: &[
        Flag::text("workdir", "."),
        Flag::text("output-dir", "./gait-out"),
        Flag::text("key-mode", "dev"),
        Flag::text("private-key", ""),
        Flag::text("private-key-env", ""),
        Flag::text("public-key", ""),
        Flag::text("public-key-env", ""),
        Flag::switch("production-readiness"),
        Flag::switch("summary"),
    ],
    positionals: Positionals::None,
    run: examine,
};

/// `gait doctor adoption`
pub static ADOPTION: Command = Command {
    words: &["doctor", "adoption"],
    help: "Sum up an adoption log: what was reached, and what to do next.",
    flags: &[Flag::text("from", "")],
    positionals: Positionals::None,
    run: adoption,
};

fn examine(context: &Context, args: &Args) -> Result<Outcome> {
    let text = |name: &str| args.text(name).to_owned();
    let options = Options {
        workdir: PathBuf::from(args.text("workdir")),
        output_dir: PathBuf::from(args.text("output-dir")),
        keys: Keys {
            mode: text("key-mode"),
            private_key: text("private-key"),
            private_key_env: text("private-key-env"),
            public_key: text("public-key"),
            public_key_env: text("public-key-env"),
        },
        production_readiness: args.switch("production-readiness"),
    };
    let means = Means {
        clock: &*context.clock,
        environment: &*context.environment,
    };
    let report = doctor::examine(&options, &means);
    let summary = args.switch("summary");
    Outcome::with(
        exit(&report),
        &fields(&report, summary)?,
        human(&report, summary),
    )
}

/// Whatever failed shows in the exit code.
fn exit(report: &Report) -> Exit {
    match (report.non_fixable, report.is_healthy()) {
        (true, _) => Exit::DependencyMissing,
        (false, false) => Exit::VerificationFailed,
        (false, true) => Exit::Ok,
    }
}

fn fields(report: &Report, summary: bool) -> Result<Map<String, Value>> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(report) else {
        return Err(Fault::new(
            Category::InternalFailure,
            "unprintable_result",
            "the report is no object",
        ));
    };
    fields.insert("ok".to_owned(), report.is_healthy().into());
    if summary {
        fields.insert("summary_mode".to_owned(), true.into());
    }
    Ok(fields)
}

fn human(report: &Report, summary: bool) -> String {
    let mut text = report.summary.clone();
    let shown = report
        .checks
        .iter()
        .filter(|check| !summary || check.status != Status::Pass);
    for check in shown {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n- {}: {} ({})",
            check.name, check.status, check.message
        );
        if let Some(fix) = &check.fix_command {
            let _ = write!(text, "\n  fix: {fix}");
        }
    }
    text
}

fn adoption(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.text("from").trim();
    if path.is_empty() {
        return Err(invalid("missing required --from <path>"));
    }
    let report = oplog::report(Path::new(path), context.clock.now())?;
    let mut human = format!(
        "doctor adoption: source={path} total_events={} activation_complete={}",
        report.total_events, report.activation_complete
    );
    if !report.blockers.is_empty() {
        let _ = write!(human, "\nblockers: {}", report.blockers.join("; "));
    }
    Outcome::ok(&json!({ "report": report }), human)
}
