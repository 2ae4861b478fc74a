//! `worldcompute store rotate` and `erase`: new keys, and the end of keys.

use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::store::{ErasureCertificate, Store};

use super::Held;
use crate::args::{EraseArgs, RotateArgs};
use crate::commands::{Context, question};

/// What was rotated: the key that wraps data keys, or one partition's data key.
#[derive(Serialize)]
#[serde(untagged)]
enum Rotated {
    Epoch {
        /// The epoch that data keys are wrapped under from now on.
        epoch: u64,
        /// How many data keys were wrapped anew before older epochs were retired; none where they still count.
        #[serde(skip_serializing_if = "Option::is_none")]
        wrapped_anew: Option<usize>,
    },
    Partition {
        partition: String,
        /// The version that the partition has now.
        version: u64,
    },
}

/// Begins a new key.
pub async fn rotate(context: &Context, args: &RotateArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.inspect().await?;
    let rotated = match &args.partition {
        Some(name) => of_partition(&store, name).await?,
        None => of_store(&store, args.retire).await?,
    };
    store.close().await?;
    context.output.data(&rotated, in_words)?;
    Ok(ExitCode::SUCCESS)
}

async fn of_store(store: &Store, retire: bool) -> Result<Rotated> {
    let epoch = match store.rotate_kek().await {
        // What earlier calls began and could not end is ended first.
        Err(fault) if retire && fault.code() == "too_many_key_epochs" => {
            store.retire_keks().await?;
            store.rotate_kek().await?
        }
        begun => begun?,
    };
    let wrapped_anew = match retire {
        true => Some(store.retire_keks().await?),
        false => None,
    };
    Ok(Rotated::Epoch {
        epoch,
        wrapped_anew,
    })
}

async fn of_partition(store: &Store, name: &str) -> Result<Rotated> {
    let version = store.partition_named(name)?.rotate().await?.get();
    if version == 0 {
        return Err(not_found(name));
    }
    Ok(Rotated::Partition {
        partition: name.to_owned(),
        version,
    })
}

fn in_words(rotated: &Rotated) -> String {
    match rotated {
        Rotated::Epoch {
            epoch,
            wrapped_anew: None,
        } => format!("epoch {epoch}: data keys are wrapped under it when they are next written"),
        Rotated::Epoch {
            epoch,
            wrapped_anew: Some(keys),
        } => format!("epoch {epoch}: {keys} data keys were wrapped anew, older epochs are retired"),
        Rotated::Partition { partition, version } => {
            format!("{partition} has a new data key, at version {version}")
        }
    }
}

/// Erases a partition for good, once it is confirmed, and prints the certificate.
pub async fn erase(context: &Context, args: &EraseArgs) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    let store = held.inspect().await?;
    let partition = store.partition_named(&args.partition)?;
    // What does not verify, is half erased, or was left by a first commit that broke off, is there: only a name that
    // nothing has is refused.
    if let Ok(None) = partition.load().await
        && partition.is_absent().await?
    {
        return Err(not_found(&args.partition));
    }
    if !args.yes {
        confirm(context, &args.partition).await?;
    }
    let certificate = partition.erase().await?;
    store.close().await?;
    context.output.data(&certificate, printed)?;
    Ok(ExitCode::SUCCESS)
}

async fn confirm(context: &Context, partition: &str) -> Result<()> {
    let asked = question::ask(context, format!("Erase {partition} for good? [y/N] ")).await?;
    if asked == Some(true) {
        return Ok(());
    }
    let message = format!("{partition} was not erased: nobody said yes");
    Err(
        Fault::new(Category::ApprovalRequired, "confirmation_missing", message)
            .hint("answer y on a terminal, or give --yes"),
    )
}

fn not_found(partition: &str) -> Fault {
    let message = format!("there is no partition {partition}");
    Fault::new(Category::InvalidInput, "partition_not_found", message)
        .hint("'worldcompute store verify --list' names those that there are")
}

/// A certificate is to be kept as it is, so people get it as JSON, too.
fn printed(certificate: &ErasureCertificate) -> String {
    serde_json::to_string_pretty(certificate).unwrap_or_else(|error| error.to_string())
}
