//! An index row for PostgreSQL.

use worldcompute_fault::{Category, Fault, Result};

use super::Export;

/// The columns of the index, in order, with their types.
const COLUMNS: [(&str, &str); 15] = [
    ("pack_id", "TEXT PRIMARY KEY"),
    ("pack_type", "TEXT NOT NULL"),
    ("source_ref", "TEXT NOT NULL"),
    ("manifest_digest", "TEXT NOT NULL"),
    ("files_checked", "INTEGER NOT NULL"),
    ("hash_mismatches", "INTEGER NOT NULL"),
    ("missing_files", "INTEGER NOT NULL"),
    ("undeclared_files", "INTEGER NOT NULL"),
    ("signature_status", "TEXT NOT NULL"),
    ("signatures_total", "INTEGER NOT NULL"),
    ("signatures_valid", "INTEGER NOT NULL"),
    ("tool_calls_total", "INTEGER NOT NULL"),
    ("tool_calls_success", "INTEGER NOT NULL"),
    ("tool_calls_success_rate", "DOUBLE PRECISION NOT NULL"),
    ("policy_blocked", "INTEGER NOT NULL"),
];
/// Those after the counts that are columns as well.
const MORE_COLUMNS: [(&str, &str); 3] = [
    ("approval_required", "INTEGER NOT NULL"),
    ("regress_failures", "INTEGER NOT NULL"),
    ("created_at", "TIMESTAMPTZ NOT NULL"),
];

/// The export as SQL for PostgreSQL that inserts or updates one row of `table` (`table` or `schema.table`), after
/// making the table with `ddl`.
///
/// Errors: `invalid_table_name`.
pub fn postgres_sql(export: &Export, table: &str, ddl: bool) -> Result<String> {
    let (quoted, name) = quoted_table(table)?;
    let columns: Vec<(&str, &str)> = COLUMNS.into_iter().chain(MORE_COLUMNS).collect();
    let mut sql = String::new();
    if ddl {
        let lines: Vec<String> = columns
            .iter()
            .map(|(name, kind)| format!("  {name} {kind}"))
            .collect();
        sql.push_str(&format!(
            "CREATE TABLE IF NOT EXISTS {quoted} (\n{}\n);\n",
            lines.join(",\n")
        ));
        for (suffix, on) in [
            ("pack_type_created_at", "pack_type, created_at DESC"),
            ("source_ref", "source_ref"),
        ] {
            sql.push_str(&format!(
                "CREATE INDEX IF NOT EXISTS \"idx_{name}_{suffix}\" ON {quoted} ({on});\n"
            ));
        }
        sql.push('\n');
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let updated = names
        .iter()
        .skip(1)
        .map(|name| format!("  {name} = EXCLUDED.{name}"));
    sql.push_str(&format!(
        "INSERT INTO {quoted} (\n  {}\n) VALUES (\n  {}\n)\nON CONFLICT (pack_id) DO UPDATE SET\n{};\n",
        names.join(",\n  "),
        values(export).join(",\n  "),
        updated.collect::<Vec<_>>().join(",\n"),
    ));
    Ok(sql)
}

fn values(export: &Export) -> Vec<String> {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let status = serde_json::to_value(export.signature_status).unwrap_or_default();
    let metrics = &export.metrics;
    vec![
        text(&export.pack_id),
        text(&export.pack_type),
        text(&export.source_ref),
        text(&export.manifest_digest),
        export.files_checked.to_string(),
        export.hash_mismatches.to_string(),
        export.missing_files.to_string(),
        export.undeclared_files.to_string(),
        text(status.as_str().unwrap_or_default()),
        export.signatures_total.to_string(),
        export.signatures_valid.to_string(),
        metrics.tool_calls_total.to_string(),
        metrics.tool_calls_success.to_string(),
        format!("{:.6}", metrics.tool_calls_success_rate),
        metrics.policy_blocked.to_string(),
        metrics.approval_required.to_string(),
        metrics.regress_failures.to_string(),
        format!("{}::timestamptz", text(&export.created_at.to_string())),
    ]
}

/// The table quoted, and its bare name.
fn quoted_table(table: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = table.split('.').map(str::trim).collect();
    let plain = |part: &&str| {
        let start = part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        start
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match parts.last() {
        Some(name) if parts.len() <= 2 && parts.iter().all(plain) => {
            let quoted: Vec<String> = parts.iter().map(|part| format!("\"{part}\"")).collect();
            Ok((quoted.join("."), name.to_ascii_lowercase()))
        }
        _ => {
            let message = format!("{table:?} is not <table> or <schema.table>");
            Err(
                Fault::new(Category::InvalidInput, "invalid_table_name", message)
                    .hint("use letters, digits and underscores with --postgres-table"),
            )
        }
    }
}
