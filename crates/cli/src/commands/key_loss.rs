//! What is asked when the store's key is lost: the one question whose answer destroys data.

use std::path::Path;

use worldcompute_fault::{Fault, Result};
use worldcompute_node::{Config, Home, Storage, is_key_loss};

use super::{Context, question};

/// The question, to the letter.
const QUESTION: &str = "Local encryption key changed. Reset database? [y/N] ";

/// Does `open`; when the key of a store in the home is lost and a person says so, resets the store and does it again.
///
/// # Errors
/// Those of `open`, unless the person says yes; those of the reset.
pub async fn or_reset<T>(
    context: &Context,
    home: &Home,
    storage: Storage,
    open: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    match open().await {
        Err(lost) if is_key_loss(&lost) => {
            ask(context, home, storage, lost).await?;
            reset(context, home, storage).await?;
            open().await
        }
        opened => opened,
    }
}

/// Asks whoever sits at a terminal. Whatever is no clear yes is a no, which is the fault that was there before.
async fn ask(context: &Context, home: &Home, storage: Storage, lost: Fault) -> Result<()> {
    let Some(file) = storage.site(home).await?.resettable() else {
        return Err(lost);
    };
    if !question::can_ask(context) {
        return Err(lost);
    }
    context.output.note(&format!(
        "{}\nA reset deletes {} and all that is in it, for good.",
        lost.message(),
        file.display()
    ));
    match question::ask(context, QUESTION.to_owned()).await? {
        Some(true) => Ok(()),
        _ => Err(lost),
    }
}

async fn reset(context: &Context, home: &Home, storage: Storage) -> Result<()> {
    let opened = home.open(&Config::load(&home.config())?)?;
    let kept = |path: &Path| {
        let note = format!("The key that was there is now {}.", path.display());
        context.output.note(&note);
    };
    let store = storage.site(home).await?.reset(&opened, kept).await?;
    let id = store.id().to_owned();
    store.close().await?;
    context
        .output
        .note(&format!("The database was reset: store {id}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_asked_to_the_letter() {
        assert_eq!(
            QUESTION.trim_end(),
            "Local encryption key changed. Reset database? [y/N]"
        );
    }
}
