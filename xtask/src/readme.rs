//! Runs the commands that README.md shows, so that it cannot promise what does not work.
//!
//! A ```` ```console ```` block is run when the line before it is `<!-- run -->`. Lines that begin with `$ ` are
//! commands (a backslash at the end continues one on the next line), the others show what they print. Every command
//! must exit with 0; the commands of a block share one shell.

use std::path::Path;
use std::process::Command;

use crate::shell::{Failure, Result, forget_cargo};

const MARK: &str = "<!-- run -->";
const OPEN: &str = "```console";
const CLOSE: &str = "```";

/// Runs every marked block of `README.md` in `root`, except for commands that `already` ran.
pub fn run(root: &Path, already: &[&str]) -> Result<()> {
    let path = root.join("README.md");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let blocks = blocks(&text)?;
    if blocks.is_empty() {
        return Err(Failure::new(
            "README.md has no block that is marked to be run",
        ));
    }
    // A home of its own, so that the reader's is left alone.
    let home = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("cannot make a home: {error}")))?;
    blocks
        .iter()
        .try_for_each(|block| execute(root, home.path(), block, already))
}

/// The commands of one block, and the line it begins at.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    line: usize,
    commands: Vec<String>,
}

fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end()));
    while let Some((line, text)) = lines.next() {
        if text != MARK {
            continue;
        }
        let body = lines.by_ref().map(|(_, text)| text);
        blocks.push(
            block(line, body).map_err(|what| Failure::new(format!("README.md:{line}: {what}")))?,
        );
    }
    Ok(blocks)
}

fn block<'a>(
    line: usize,
    mut lines: impl Iterator<Item = &'a str>,
) -> std::result::Result<Block, String> {
    if lines.next() != Some(OPEN) {
        return Err(format!("{MARK} is not followed by a {OPEN} block"));
    }
    let mut commands: Vec<String> = Vec::new();
    let mut continued = false;
    for text in lines {
        if text == CLOSE {
            let complete = !commands.is_empty() && !continued;
            return complete
                .then_some(Block { line, commands })
                .ok_or("the block has no complete command".to_owned());
        }
        let command = if continued {
            Some(text.trim_start_matches("> "))
        } else {
            text.strip_prefix("$ ")
        };
        let Some(command) = command else { continue };
        let (command, more) = command
            .strip_suffix('\\')
            .map_or((command, false), |command| (command, true));
        match commands.last_mut().filter(|_| continued) {
            Some(last) => last.push_str(command),
            None => commands.push(command.to_owned()),
        }
        continued = more;
    }
    Err("the block does not end".to_owned())
}

fn execute(root: &Path, home: &Path, block: &Block, already: &[&str]) -> Result<()> {
    let script: String = block
        .commands
        .iter()
        .map(|command| line_of_script(command, already))
        .collect();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script])
        .current_dir(root)
        .env("WORLDCOMPUTE_HOME", home);
    forget_cargo(&mut bash);
    let status = bash
        .status()
        .map_err(|error| Failure::new(format!("cannot run bash: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "README.md:{}: the command shown last failed: {status}",
        block.line
    )))
}

/// Shows a command, then runs it.
fn line_of_script(command: &str, already: &[&str]) -> String {
    let ran = already.contains(&command);
    let shown = format!("$ {command}{}", if ran { "    (ran before)" } else { "" });
    let show = format!("printf '%s\\n' '{}'\n", shown.replace('\'', r"'\''"));
    if ran {
        show
    } else {
        format!("{show}{command}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<Vec<String>> {
        blocks(text)
            .unwrap()
            .into_iter()
            .map(|block| block.commands)
            .collect()
    }

    fn readme(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(root.path().join("README.md")).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        root
    }

    #[test]
    fn only_marked_blocks_are_run_and_only_their_commands() {
        let text = "```console\n$ not this\n```\n<!-- run -->\n```console\n$ one\noutput\n$ two \\\n>  more\n```\n";
        assert_eq!(commands(text), [["one", "two  more"]]);
    }

    #[test]
    fn a_mark_that_marks_nothing_is_an_error_that_names_the_line() {
        for text in [
            "x\n<!-- run -->\ntext\n",
            "x\n<!-- run -->",
            "x\n<!-- run -->\n```sh\n$ a\n```\n",
            "x\n<!-- run -->\n```console\n$ a\n",
            "x\n<!-- run -->\n```console\nonly output\n```\n",
            "x\n<!-- run -->\n```console\n$ a \\\n```\n",
        ] {
            assert!(
                blocks(text)
                    .unwrap_err()
                    .message
                    .starts_with("README.md:2: "),
                "{text}"
            );
        }
    }

    #[test]
    fn a_readme_without_any_marked_block_fails() {
        assert!(
            run(readme("# Nothing\n").path(), &[])
                .unwrap_err()
                .message
                .contains("no block")
        );
    }

    #[test]
    fn commands_share_a_shell_and_run_in_the_checkout_with_a_home_of_their_own() {
        let root = readme(
            "<!-- run -->\n```console\n$ word='it'\"'\"'s'\n$ test \"$word\" = \"it's\"\n\
             $ test -d \"$WORLDCOMPUTE_HOME\" && touch made\n```\n",
        );
        run(root.path(), &[]).unwrap();
        assert!(root.path().join("made").exists());
    }

    #[test]
    fn the_first_command_that_fails_ends_it() {
        for failing in ["false", "false | true", "echo $unset"] {
            let root = readme(&format!(
                "<!-- run -->\n```console\n$ {failing}\n$ touch made\n```\n"
            ));
            assert!(
                run(root.path(), &[])
                    .unwrap_err()
                    .message
                    .starts_with("README.md:1: "),
                "{failing}"
            );
            assert!(!root.path().join("made").exists());
        }
    }

    #[test]
    fn a_command_that_ran_before_is_not_run_again() {
        let root = readme("<!-- run -->\n```console\n$ false\n$ touch made\n```\n");
        run(root.path(), &["false"]).unwrap();
        assert!(root.path().join("made").exists());
    }
}
