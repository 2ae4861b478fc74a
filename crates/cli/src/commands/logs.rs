//! `worldcompute donor logs`: the daemon's log, from its end.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use worldcompute_fault::{Category, Fault, Result};

use super::Context;
use super::daemon::StopSignal;
use crate::args::LogsArgs;

/// How much of the log's end is searched for lines, in bytes.
const MAX_TAIL_BYTES: u64 = 16 << 20;

/// Between two looks at a followed log.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

/// Prints the last lines, and with `--follow` what comes after them.
pub async fn run(context: &Context, args: LogsArgs) -> Result<ExitCode> {
    let path = context.home()?.log();
    let mut log = open(&path)?;
    let tail = tail(&mut log, args.lines).map_err(|error| cannot_read(&path, &error))?;
    context.output.bytes(&tail)?;
    if args.follow {
        let mut stop = StopSignal::listen(false)?;
        tokio::select! {
            ended = follow(context, &path, log) => ended?,
            () = stop.told() => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A log is a file: nothing else in its place is opened, for a pipe would be waited for.
fn open(path: &Path) -> Result<File> {
    let there = path
        .symlink_metadata()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => no_log(path),
            _ => cannot_read(path, &error),
        })?;
    match there.is_file() {
        true => File::open(path).map_err(|error| cannot_read(path, &error)),
        false => Err(cannot_read(
            path,
            &std::io::Error::other("not a regular file"),
        )),
    }
}

/// The last `lines` lines of a file, leaving it positioned at its end.
fn tail(file: &mut File, lines: usize) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL_BYTES)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let starts = text
        .split_inclusive(|byte| *byte == b'\n')
        .count()
        .saturating_sub(lines);
    Ok(text
        .split_inclusive(|byte| *byte == b'\n')
        .skip(starts)
        .flatten()
        .copied()
        .collect())
}

async fn follow(context: &Context, path: &Path, mut log: File) -> Result<()> {
    let mut waiting = tokio::time::interval(FOLLOW_POLL);
    loop {
        waiting.tick().await;
        let mut news = Vec::new();
        log.read_to_end(&mut news)
            .map_err(|error| cannot_read(path, &error))?;
        context.output.bytes(&news)?;
        if news.is_empty() && was_rotated(path, &log) {
            log = open(path)?;
        }
    }
}

fn was_rotated(path: &Path, log: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let now = path.metadata().map(|file| file.ino()).ok();
    now.is_some() && now != log.metadata().map(|file| file.ino()).ok()
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(format!("read {}", path.display()), error)
}

fn no_log(path: &Path) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "no_log",
        format!("there is no log at {}", path.display()),
    )
    .hint("a log is written once a daemon has run: 'worldcompute donor join'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn what_is_no_log_file_is_refused_without_waiting_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.unwrap().success());
        for name in ["directory", "link", "pipe"] {
            assert_eq!(open(&at(name)).unwrap_err().code(), "io_failure", "{name}");
        }
        assert_eq!(open(&at("none")).unwrap_err().code(), "no_log");
        assert_eq!(open(&at("link/x")).unwrap_err().code(), "io_failure");
    }

    #[test]
    fn the_last_lines_come_in_order() {
        assert_eq!(tail(&mut file("a\nb\nc\n"), 2).unwrap(), b"b\nc\n");
    }

    #[test]
    fn a_short_log_comes_whole() {
        assert_eq!(tail(&mut file("a\n"), 50).unwrap(), b"a\n");
        assert!(tail(&mut file(""), 50).unwrap().is_empty());
    }

    #[test]
    fn an_unfinished_last_line_counts() {
        assert_eq!(tail(&mut file("a\nb"), 1).unwrap(), b"b");
    }
}
