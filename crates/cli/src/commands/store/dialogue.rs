//! `worldcompute store dialogue`: recorded sessions of agents, put into the store and read back.

use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::dialogue::{self, Listed, Session, Summary};
use worldcompute_node::store::Store;

use super::Held;
use crate::args::DialogueCommand;
use crate::commands::Context;

/// Runs one command on dialogues.
pub async fn run(context: &Context, command: DialogueCommand) -> Result<ExitCode> {
    let held = Held::existing(&context.home()?).await?;
    match command {
        DialogueCommand::Record {
            runpack,
            traces,
            approvals,
        } => {
            let session = Session {
                runpack,
                traces,
                approvals,
            };
            let store = held.site.open(&held.home).await?;
            let recorded = dialogue::record(&store, session).await;
            print(context, store, recorded, in_words).await
        }
        DialogueCommand::List => {
            let store = held.inspect().await?;
            let listed = dialogue::list(&store).await;
            let damaged = listed.as_ref().map_or(Ok(()), damaged);
            let printed = print(context, store, listed, all_in_words).await?;
            damaged.map(|()| printed)
        }
        DialogueCommand::Read { dialogue, out } => {
            let store = held.inspect().await?;
            let read = dialogue::read(&store, &dialogue, out.as_deref()).await;
            print(context, store, read, in_words).await
        }
    }
}

/// What was read is on record before it is shown.
async fn print<T: Serialize>(
    context: &Context,
    store: Store,
    found: Result<T>,
    words: impl FnOnce(&T) -> String,
) -> Result<ExitCode> {
    let closed = store.close().await;
    let found = found?;
    closed?;
    context.output.data(&found, words)?;
    Ok(ExitCode::SUCCESS)
}

fn all_in_words(listed: &Listed) -> String {
    let mut lines: Vec<_> = listed.dialogues.iter().map(in_words).collect();
    let damaged = listed.damaged.iter();
    lines.extend(damaged.map(|one| format!("{}  DAMAGED  ({})", one.dialogue, one.code)));
    lines.join("\n")
}

fn damaged(listed: &Listed) -> Result<()> {
    if listed.damaged.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} dialogues are not what was recorded",
        listed.damaged.len()
    );
    Err(
        Fault::new(Category::VerificationFailed, "dialogue_damaged", message)
            .hint("'worldcompute store verify' names what is wrong with them"),
    )
}

fn in_words(dialogue: &Summary) -> String {
    format!(
        "{}  {}  run {}  {} intents, {} results  manifest sha256:{}",
        dialogue.dialogue,
        dialogue.recorded_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        dialogue.run_id.escape_debug(),
        dialogue.intents,
        dialogue.results,
        dialogue.manifest_digest,
    )
}
