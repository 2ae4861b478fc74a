//! What is asked when the store's key is lost: the one question whose answer destroys data.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::{Config, Home, Storage, is_key_loss};

use super::Context;
use super::daemon::StopSignal;

/// The question, to the letter.
const QUESTION: &str = "Local encryption key changed. Reset database? [y/N] ";
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64;

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
    let Some(file) = storage.site(home)?.file() else {
        return Err(lost);
    };
    if context.output.is_json() || !is_dialogue() {
        return Err(lost);
    }
    context.output.note(&format!(
        "{}\nA reset deletes {} and all that is in it, for good.",
        lost.message(),
        file.display()
    ));
    let mut stop = StopSignal::listen(false)?;
    let answer = tokio::task::spawn_blocking(|| {
        answer(
            &mut std::io::stderr().lock(),
            &mut BufReader::new(std::io::stdin()),
        )
    });
    let answered = async { answer.await.map_err(|error| broke_off(&error))? };
    match stop.unless_told(answered).await? {
        true => Ok(()),
        false => Err(lost),
    }
}

/// Whether a person sees the question, and answers it.
fn is_dialogue() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn answer(screen: &mut dyn Write, keyboard: &mut dyn BufRead) -> Result<bool> {
    let failed = |error| Fault::io("ask on the terminal", &error);
    screen
        .write_all(QUESTION.as_bytes())
        .and_then(|()| screen.flush())
        .map_err(failed)?;
    let mut line = Vec::new();
    let mut bounded = keyboard.take(MAX_ANSWER_BYTES);
    bounded.read_until(b'\n', &mut line).map_err(failed)?;
    let said = line.trim_ascii().to_ascii_lowercase();
    Ok([&b"y"[..], b"yes"].contains(&said.as_slice()))
}

async fn reset(context: &Context, home: &Home, storage: Storage) -> Result<()> {
    let opened = home.open(&Config::load(&home.config())?)?;
    let (store, aside) = storage.site(home)?.reset(&opened).await?;
    let id = store.id().to_owned();
    store.close().await?;
    let kept =
        aside.map(|path: PathBuf| format!("; the key that was there is now {}", path.display()));
    context.output.note(&format!(
        "The database was reset: store {id}{}.",
        kept.unwrap_or_default()
    ));
    Ok(())
}

fn broke_off(error: &tokio::task::JoinError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "task_broke_off",
        error.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(keyboard: &[u8]) -> (bool, String) {
        let (mut screen, mut keyboard) = (Vec::new(), keyboard);
        let answer = answer(&mut screen, &mut keyboard).unwrap();
        (answer, String::from_utf8(screen).unwrap())
    }

    #[test]
    fn the_question_is_asked_to_the_letter_and_only_a_clear_yes_is_one() {
        let (yes, question) = said(b"y\n");
        assert!(yes);
        assert_eq!(
            question,
            "Local encryption key changed. Reset database? [y/N] "
        );
        for yes in [&b"Y\n"[..], b"yes\r\n", b" YES \n", b"y"] {
            assert!(said(yes).0, "{yes:?}");
        }
        for no in [
            &b""[..],
            b"\n",
            b"n\n",
            b"no\n",
            b"N\n",
            b"ye\n",
            b"y n\n",
            b"yesterday\n",
            b"j\n",
            b"1\n",
            b"\0y\n",
            b"\xff\n",
            b"\ny\n",
            &[b' '; 200],
            &[&[b' '; 64][..], b"y\n"].concat(),
        ] {
            assert!(!said(no).0, "{no:?}");
        }
    }
}
