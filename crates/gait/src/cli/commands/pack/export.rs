//! `gait pack export`.

use std::path::Path;

use gait::artefact;
use gait::pack;
use worldcompute_fault::Result;

use super::{Answer, EXPECTED, ONE};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome};
use crate::cli::flag::Flag;

/// `gait pack export`
pub static EXPORT: Command = Command {
    words: &["pack", "export"],
    help: "Write what a pack says as telemetry lines or as a row of a PostgreSQL index.",
    flags: &[
        Flag::text("path", ""),
        Flag::text("otel-out", ""),
        Flag::text("postgres-sql-out", ""),
        Flag::text("postgres-table", "gait_pack_index"),
        Flag::switch("postgres-include-ddl"),
    ],
    positionals: ONE,
    run,
};

fn run(_: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", EXPECTED)?;
    let (otel, sql) = (
        args.text("otel-out").trim(),
        args.text("postgres-sql-out").trim(),
    );
    if otel.is_empty() && sql.is_empty() {
        let message = "at least one export output is required (--otel-out or --postgres-sql-out)";
        return Err(invalid(message));
    }
    let export = pack::export(Path::new(path))?;
    let ddl = !args.given("postgres-include-ddl") || args.switch("postgres-include-ddl");
    let statement = pack::postgres_sql(&export, args.text("postgres-table"), ddl)?;
    if !otel.is_empty() {
        pack::append_otel(Path::new(otel), &export)?;
    }
    if !sql.is_empty() {
        artefact::write(Path::new(sql), statement.as_bytes())?;
    }
    let answer = Answer {
        path: path.to_owned(),
        pack_id: export.pack_id.clone(),
        pack_type: export.pack_type.clone(),
        source_ref: export.source_ref.clone(),
        otel_path: otel.to_owned(),
        postgres_sql_path: sql.to_owned(),
        export: Some(export),
        ..Answer::to("export")
    };
    Outcome::ok(&answer, format!("pack export ok: {path}"))
}
