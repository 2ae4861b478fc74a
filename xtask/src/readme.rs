//! Runs the commands that README.md and docs/gate.md show, so that they cannot promise what does not work.
//!
//! A ```` ```console ```` block is run when the line before it is `<!-- run -->`, in the checkout, or
//! `<!-- run in scratch -->`, in a folder that all such blocks of the page share and that has the checkout's `examples`.
//! Lines that begin with `$ ` are commands (a backslash at the end continues one on the next line); the commands of a
//! block share one shell. A command must exit with 0, or with the code in a comment `# exit <code>` behind it, and print
//! the lines that stand below it, in that order; `...` stands for anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Failure, Result, forget_cargo};

/// The pages, in the order in which they are run: what one installs, the next has.
const PAGES: [&str; 2] = ["README.md", "docs/gate.md"];
const MARK: &str = "<!-- run -->";
const SCRATCH_MARK: &str = "<!-- run in scratch -->";
const OPEN: &str = "```console";
const CLOSE: &str = "```";
const EXIT: &str = "# exit ";

/// Runs every marked block of the pages in `root`, except for commands that `already` ran.
pub fn run(root: &Path, already: &[&str]) -> Result<()> {
    // A home of its own, so that the reader's is left alone.
    let home = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("cannot make a home: {error}")))?;
    PAGES
        .iter()
        .try_for_each(|name| run_page(root, name, home.path(), already))
}

fn run_page(root: &Path, name: &str, home: &Path, already: &[&str]) -> Result<()> {
    let path = root.join(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let blocks = blocks(name, &text)?;
    if blocks.is_empty() {
        let message = format!("{name} has no block that is marked to be run");
        return Err(Failure::new(message));
    }
    let page = Page {
        name,
        root,
        home,
        scratch: scratch(root, &home.join(name.replace('/', "-")))?,
    };
    blocks
        .iter()
        .try_for_each(|block| page.execute(block, already))
}

/// Makes a folder for what a page leaves behind.
fn scratch(root: &Path, folder: &Path) -> Result<PathBuf> {
    let linked = std::fs::create_dir(folder)
        .and_then(|()| std::path::absolute(root.join("examples")))
        .and_then(|examples| std::os::unix::fs::symlink(examples, folder.join("examples")));
    linked.map_err(|error| Failure::new(format!("cannot make {}: {error}", folder.display())))?;
    Ok(folder.to_owned())
}

/// The commands of one block, and the line it begins at.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    line: usize,
    in_scratch: bool,
    commands: Vec<Shown>,
}

/// A command as a page shows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    command: String,
    /// The lines below it.
    prints: Vec<String>,
}

impl Shown {
    fn exit(&self) -> &str {
        let code = self.command.rsplit_once(EXIT).map(|(_, code)| code.trim());
        let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        code.unwrap_or("0")
    }
}

fn blocks(page: &str, text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end()));
    while let Some((line, text)) = lines.next() {
        if ![MARK, SCRATCH_MARK].contains(&text) {
            continue;
        }
        let body = lines.by_ref().map(|(_, text)| text);
        let commands =
            commands(body).map_err(|what| Failure::new(format!("{page}:{line}: {what}")))?;
        blocks.push(Block {
            line,
            in_scratch: text == SCRATCH_MARK,
            commands,
        });
    }
    Ok(blocks)
}

fn commands<'a>(
    mut lines: impl Iterator<Item = &'a str>,
) -> std::result::Result<Vec<Shown>, String> {
    if lines.next() != Some(OPEN) {
        return Err(format!("the mark is not followed by a {OPEN} block"));
    }
    let mut commands: Vec<Shown> = Vec::new();
    let mut continued = false;
    for text in lines {
        if text == CLOSE {
            let complete = !commands.is_empty() && !continued;
            return complete
                .then_some(commands)
                .ok_or("the block has no complete command".to_owned());
        }
        let begun = text.strip_prefix("$ ");
        let text = if continued {
            text.trim_start_matches("> ")
        } else {
            begun.unwrap_or(text)
        };
        match commands.last_mut() {
            Some(last) if continued => continued = last.extend(text),
            Some(last) if begun.is_none() => last.prints.push(text.to_owned()),
            _ if begun.is_none() => {}
            _ => {
                let mut command = Shown::default();
                continued = command.extend(text);
                commands.push(command);
            }
        }
    }
    Err("the block does not end".to_owned())
}

impl Shown {
    /// Takes a line of the command; true when another belongs to it.
    fn extend(&mut self, text: &str) -> bool {
        let (text, more) = match text.strip_suffix('\\') {
            Some(text) => (text, true),
            None => (text, false),
        };
        self.command.push_str(text);
        more
    }
}

/// Where the blocks of a page run.
struct Page<'a> {
    name: &'a str,
    root: &'a Path,
    home: &'a Path,
    scratch: PathBuf,
}

impl Page<'_> {
    fn execute(&self, block: &Block, already: &[&str]) -> Result<()> {
        let lines = block.commands.iter();
        let script: String = lines.map(|shown| of_script(shown, already)).collect();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(self.root)
            .env("WORLDCOMPUTE_HOME", self.home)
            .env("CARGO_INSTALL_ROOT", self.home)
            .env("PRINTED", self.home.join("printed"))
            .env("PATH", self.path()?);
        if block.in_scratch {
            bash.current_dir(&self.scratch).env("HOME", self.home);
        }
        forget_cargo(&mut bash);
        let status = bash
            .status()
            .map_err(|error| Failure::new(format!("cannot run bash: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{}:{}: the command shown last failed: {status}",
            self.name, block.line
        )))
    }

    /// What a page installs comes first.
    fn path(&self) -> Result<std::ffi::OsString> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.home.join("bin")]
            .into_iter()
            .chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).map_err(|error| Failure::new(error.to_string()))
    }
}

/// Shows a command, runs it, and looks at its exit code and at what it printed.
fn of_script(shown: &Shown, already: &[&str]) -> String {
    let command = &shown.command;
    let ran = already.contains(&command.as_str());
    let line = format!("$ {command}{}", if ran { "    (ran before)" } else { "" });
    let show = format!("printf '%s\\n' {}\n", quoted(&line));
    if ran {
        return show;
    }
    let exit = shown.exit();
    let judge =
        format!("[[ $status -eq {exit} ]] || {{ echo \"exit $status, not {exit}\"; exit 1; }}\n");
    if shown.prints.is_empty() {
        return format!("{show}status=0\n{{ {command}\n}} || status=$?\n{judge}");
    }
    let pattern = pattern(&shown.prints);
    format!(
        "{show}status=0\n{{ {command}\n}} >\"$PRINTED\" 2>&1 || status=$?\ncat \"$PRINTED\"\n{judge}\
         [[ $(<\"$PRINTED\") == {pattern} ]] || {{ echo 'this is not what the page shows'; exit 1; }}\n"
    )
}

/// The lines in that order, with anything around them and wherever three dots stand.
fn pattern(lines: &[String]) -> String {
    let parts = lines.iter().flat_map(|line| line.split("..."));
    let parts = parts.filter(|part| !part.is_empty()).map(quoted);
    format!("*{}*", parts.collect::<Vec<_>>().join("*"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<Vec<String>> {
        let of = |block: Block| block.commands.into_iter().map(|shown| shown.command);
        blocks("README.md", text)
            .unwrap()
            .into_iter()
            .map(|block| of(block).collect())
            .collect()
    }

    fn readme(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(root.path().join("README.md")).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        root
    }

    fn tried(root: &Path, already: &[&str]) -> Result<()> {
        let home = tempfile::tempdir().unwrap();
        run_page(root, "README.md", home.path(), already)
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
                blocks("README.md", text)
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
            tried(readme("# Nothing\n").path(), &[])
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
        tried(root.path(), &[]).unwrap();
        assert!(root.path().join("made").exists());
    }

    #[test]
    fn the_first_command_that_fails_ends_it() {
        for failing in ["false", "false | true", "echo $unset"] {
            let root = readme(&format!(
                "<!-- run -->\n```console\n$ {failing}\n$ touch made\n```\n"
            ));
            assert!(
                tried(root.path(), &[])
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
        tried(root.path(), &["false"]).unwrap();
        assert!(root.path().join("made").exists());
    }

    #[test]
    fn a_command_has_to_end_and_print_as_it_is_shown() {
        for (shown, holds) in [
            ("$ echo one; echo two; echo three\none\nthree", true),
            ("$ echo one; echo two\ntwo\none", false),
            ("$ echo one; echo two\non...o", true),
            ("$ echo 'a*b'\na*b", true),
            ("$ echo acb\na*b", false),
            ("$ (exit 4)    # exit 4", true),
            ("$ (exit 3)    # exit 4", false),
            ("$ echo no; (exit 4)    # exit 4\nno", true),
            ("$ true    # exit 4", false),
        ] {
            let root = readme(&format!("<!-- run -->\n```console\n{shown}\n```\n"));
            assert_eq!(tried(root.path(), &[]).is_ok(), holds, "{shown}");
        }
    }

    #[test]
    fn a_block_in_scratch_leaves_the_checkout_alone_and_the_next_one_finds_what_it_made() {
        let root = readme(
            "<!-- run in scratch -->\n```console\n$ touch made\n```\n\
             <!-- run in scratch -->\n```console\n$ test -e made && test -L examples\n```\n",
        );
        tried(root.path(), &[]).unwrap();
        assert!(!root.path().join("made").exists());
    }
}
