//! `worldcompute store export` and `import`: one partition in a file.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_node::store::{BundleInfo, Imported, KeySource};

use super::Held;
use crate::args::{ExportArgs, ImportArgs};
use crate::commands::Context;

#[derive(Serialize)]
struct Exported<'a> {
    #[serde(flatten)]
    bundle: BundleInfo,
    file: &'a Path,
}

/// Writes a partition to a file.
pub async fn export(context: &Context, args: &ExportArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.inspect().await?;
    let partition = store.partition_named(&args.partition)?;
    let bundle = partition.export(&args.output).await?;
    store.close().await?;
    let exported = Exported {
        bundle,
        file: &args.output,
    };
    context.output.data(&exported, |it| {
        format!(
            "exported {} at version {}: {} rows, {} bytes\nfile     {}\nmac      {}",
            it.bundle.partition,
            it.bundle.version,
            it.bundle.rows,
            it.bundle.bytes,
            it.file.display(),
            it.bundle.mac
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a partition from a file.
pub async fn import(context: &Context, args: &ImportArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.inspect().await?;
    let source = match &args.source_key {
        Some(named) => Some(source(named)?.provider().await?),
        None => None,
    };
    let imported = store.import(&args.file, source).await?;
    store.close().await?;
    context.output.data(&imported, |it: &Imported| {
        let was = match it.written {
            true => "imported",
            false => "is there already:",
        };
        format!(
            "{was} {} at version {}: {} records of store {}",
            it.bundle.partition, it.version_now, it.records, it.bundle.store
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A setting as of `BLUE_KEYS`, or the file of a key.
fn source(named: &Path) -> Result<KeySource> {
    match named.to_str() {
        Some(text) if text.starts_with("kms:") || text.starts_with("tpm2:") => {
            KeySource::named(text, named)
        }
        _ => Ok(KeySource::File(named.to_owned())),
    }
}
