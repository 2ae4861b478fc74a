//! `worldcompute store export` and `import`: one partition in a file.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_node::store::{BundleInfo, Imported, KeyProvider, LocalFileKeyProvider};

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
    let store = Held::existing(&context.home()?)?.inspect().await?;
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
    let store = Held::existing(&context.home()?)?.inspect().await?;
    let source = args.source_key.as_ref();
    let source =
        source.map(|path| Arc::new(LocalFileKeyProvider::new(path)) as Arc<dyn KeyProvider>);
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
