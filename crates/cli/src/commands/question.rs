//! Questions before something is destroyed: asked of a person at a terminal, of nobody else.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};

use rustix::termios::{QueueSelector, tcflush};
use worldcompute_fault::{Fault, Result};
use worldcompute_node::blocking;

use super::Context;
use super::daemon::StopSignal;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64;

/// Whether a person says yes. Whatever is no clear yes is a no; `None` where there is nobody to ask.
///
/// # Errors
/// `interrupted`; failures of the terminal.
pub async fn ask(context: &Context, question: String) -> Result<Option<bool>> {
    if !can_ask(context) {
        return Ok(None);
    }
    let mut stop = StopSignal::listen(false)?;
    let answer = blocking(move || {
        forget_what_was_typed()?;
        // Not locked: whoever ends the program meanwhile has to say so.
        answer(
            &question,
            &mut std::io::stderr(),
            &mut BufReader::new(std::io::stdin()),
        )
    });
    stop.unless_told(answer).await.map(Some)
}

/// Whether a person would see a question, and could answer it.
pub fn can_ask(context: &Context) -> bool {
    !context.output.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// What was typed before there was a question is no answer to it.
fn forget_what_was_typed() -> Result<()> {
    tcflush(std::io::stdin(), QueueSelector::IFlush)
        .map_err(|error| Fault::io("ask on the terminal", &error.into()))
}

fn answer(question: &str, screen: &mut dyn Write, keyboard: &mut dyn BufRead) -> Result<bool> {
    let failed = |error| Fault::io("ask on the terminal", &error);
    screen
        .write_all(question.as_bytes())
        .and_then(|()| screen.flush())
        .map_err(failed)?;
    let mut line = Vec::new();
    let mut bounded = keyboard.take(MAX_ANSWER_BYTES);
    bounded.read_until(b'\n', &mut line).map_err(failed)?;
    let said = line.trim_ascii().to_ascii_lowercase();
    Ok([&b"y"[..], b"yes"].contains(&said.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(keyboard: &[u8]) -> (bool, String) {
        let (mut screen, mut keyboard) = (Vec::new(), keyboard);
        let answer = answer("Sure? [y/N] ", &mut screen, &mut keyboard).unwrap();
        (answer, String::from_utf8(screen).unwrap())
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        assert_eq!(said(b"y\n"), (true, "Sure? [y/N] ".to_owned()));
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
