//! Tools that really run. Nothing here happens without every consent of [`RealTools::permit`].

use std::collections::BTreeSet;
use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use worldcompute_durable::{Mode, output_dir, write_atomic};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use super::Answer;
use crate::runpack::record::Intent;
use crate::text::trim_lower;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a command's output that count.
const MAX_OUTPUT: u64 = 64 << 10;

/// The tools that may really run; only [`RealTools::permit`] makes one.
#[derive(Debug)]
pub struct RealTools {
    allowed: BTreeSet<String>,
}

impl RealTools {
    /// Grants real tools to who asked for it in every one of the ways: the two flags, the names of the tools, and the
    /// environment variable `variable` with the value `1`. `None` when real tools were not asked for at all.
    ///
    /// # Errors
    /// `unsafe_operation` when one of the consents is missing, in the order above.
    pub fn permit(
        asked: bool,
        confirmed: bool,
        tools: &[String],
        variable: (&str, Option<&str>),
    ) -> Result<Option<Self>> {
        let allowed: BTreeSet<String> = tools.iter().map(|tool| trim_lower(tool)).collect();
        let (name, value) = variable;
        match (asked, confirmed, allowed.is_empty(), value.map(str::trim)) {
            (false, ..) => Ok(None),
            (_, false, ..) => Err(refused("--unsafe-real-tools".to_owned())),
            (_, _, true, _) => Err(refused("--allow-tools with explicit tool names".to_owned())),
            (_, _, _, Some("1")) => Ok(Some(Self { allowed })),
            _ => Err(refused(format!("{name}=1"))),
        }
    }

    pub(super) fn allows(&self, tool_name: &str) -> bool {
        self.allowed.contains(&trim_lower(tool_name))
    }

    /// Runs the tool of `intent`; one that fails is an answer, too.
    pub(super) fn execute(&self, intent: &Intent<'_>) -> Result<Answer<'static>> {
        let output = match trim_lower(&intent.tool_name).as_str() {
            "echo" | "tool.echo" => echo(intent),
            "file.write" | "fs.write" | "write_file" => write_file(intent),
            "shell.exec" | "exec" | "command.run" => run_shell(intent),
            _ => Err(format!("unsupported real tool: {}", intent.tool_name)),
        };
        Ok(match output {
            Ok(output) => Answer::Executed {
                status: "ok",
                digest: Sha256::of(output).to_string(),
            },
            Err(why) => Answer::Executed {
                status: "error",
                digest: Sha256::of(why).to_string(),
            },
        })
    }
}

fn refused(missing: String) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "unsafe_operation",
        format!("real tool execution requires {missing}"),
    )
}

fn argument(intent: &Intent<'_>, name: &str) -> Result<String, String> {
    let Some(args) = &intent.args else {
        return Ok(String::new());
    };
    let members = args.members().map_err(|fault| fault.message().to_owned())?;
    let text = members.get(name).and_then(|value| value.as_str());
    Ok(text.unwrap_or_default().trim().to_owned())
}

fn echo(intent: &Intent<'_>) -> Result<Vec<u8>, String> {
    let message = argument(intent, "message")?;
    Ok(match message.is_empty() {
        true => b"echo".to_vec(),
        false => message.into_bytes(),
    })
}

fn write_file(intent: &Intent<'_>) -> Result<Vec<u8>, String> {
    let (path, content) = (argument(intent, "path")?, argument(intent, "content")?);
    if path.is_empty() {
        return Err("file.write requires args.path".to_owned());
    }
    let path = Path::new(&path);
    path.parent()
        .map_or(Ok(()), output_dir)
        .and_then(|()| write_atomic(path, content.as_bytes(), Mode::Private))
        .map_err(|fault| fault.message().to_owned())?;
    Ok(content.into_bytes())
}

fn run_shell(intent: &Intent<'_>) -> Result<Vec<u8>, String> {
    let command = argument(intent, "command")?;
    if command.is_empty() {
        return Err("shell.exec requires args.command".to_owned());
    }
    let (child, output) = spawn(&command).map_err(|error| error.to_string())?;
    finish(child, output)
}

/// Starts the command in a process group of its own, both outputs in one pipe.
fn spawn(command: &str) -> std::io::Result<(Child, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    let child = Command::new("sh")
        .args(["-lc", command])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((child, reader))
}

/// The output of a command that ends well and in time; its whole group is gone afterwards either way.
fn finish(mut child: Child, output: PipeReader) -> Result<Vec<u8>, String> {
    let (sender, receiver) = mpsc::channel();
    // It ends with the last holder of the pipe, for which nobody waits: that may be a child that left the group.
    let _reader = std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut output = output;
        let read = (&mut output).take(MAX_OUTPUT).read_to_end(&mut kept);
        // What goes beyond is read all the same, so that the command is not held up by a full pipe.
        let drained = read.and_then(|_| std::io::copy(&mut output, &mut std::io::sink()));
        // Nobody listens any more once the time is over.
        let _ = sender.send(drained.map(|_| kept).map_err(|error| error.to_string()));
    });
    let read = receiver.recv_timeout(TIMEOUT);
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The group may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let kept = read.map_err(|_| format!("the command took more than {TIMEOUT:?}"))??;
    match status.success() {
        true => Ok(kept),
        false => Err(status.to_string()),
    }
}
