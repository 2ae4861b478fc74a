//! The enforcing proxy: it stands between an MCP client and an MCP server that speak over standard input and output,
//! and passes on only the tool calls that were allowed.
//!
//! What cannot be read strictly does not pass, because client, proxy and server might read it differently; so do
//! batches, which the protocol no longer has. A denied call is answered in the server's place, with the reasons, so
//! that the agent can tell its user what to ask for. Everything else of the protocol passes unchanged.

mod lines;
mod reply;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use serde_json::{Map, Value};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use self::lines::{Line, read_line};
use super::boundary::{Boundary, Ruling};
use super::call::ToolCall;
use crate::mcp_trust::Server;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 8 << 20;

/// The proxy's side of one session.
pub struct Proxy {
    /// Rules on the calls.
    pub boundary: Boundary,
    /// The server, as the policy knows it.
    pub server: Option<Server>,
    /// Where the traces go.
    pub trace_dir: PathBuf,
    /// The session's name.
    pub session_id: String,
    /// The name of this invocation.
    pub correlation_id: String,
    /// How many calls were ruled on.
    pub sequence: AtomicU64,
}

/// Where the client reads.
pub type Out = Box<dyn Write + Send>;

/// What passed and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tool calls that reached the server.
    pub allowed: u64,
    /// Tool calls that did not.
    pub denied: u64,
    /// Messages that could not be read.
    pub refused: u64,
}

/// What to do with one message.
#[derive(Debug, PartialEq)]
enum Step {
    /// The server gets it as it is.
    Pass,
    /// The client gets this, the server nothing.
    Answer(Value),
    /// Nobody gets anything.
    Drop,
}

/// Which side ended first, and how.
enum Ended {
    Client(Result<Tally>),
    Server(Result<()>),
}

impl Proxy {
    /// Starts the server and serves the session until the client or the server ends it.
    ///
    /// Errors: `mcp_server_not_started`, `mcp_server_exited` when the server ends before the client does, and those of
    /// the streams. A thread may still wait for the client then; it ends with the process.
    pub fn run(
        self,
        command: &[String],
        client: Box<dyn BufRead + Send>,
        out: Out,
    ) -> Result<Tally> {
        let mut server = start(command)?;
        let (Some(input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
            return Err(exited("its streams are closed"));
        };
        let out = Arc::new(Mutex::new(out));
        let (tell, told) = mpsc::channel();
        self.follow_client(client, input, Arc::clone(&out), tell.clone());
        follow_server(output, out, tell);
        let tally = match told.recv() {
            // The server has heard that the session is over, answers what it still has to, and ends.
            Ok(Ended::Client(Ok(tally))) => match told.recv() {
                Ok(Ended::Server(Err(fault))) => Err(fault),
                _ => Ok(tally),
            },
            Ok(Ended::Client(Err(fault)) | Ended::Server(Err(fault))) => Err(fault),
            Ok(Ended::Server(Ok(()))) | Err(_) => Err(exited("it closed its output")),
        };
        settle(&mut server, tally)
    }

    fn follow_client(
        self,
        mut client: Box<dyn BufRead + Send>,
        mut server: ChildStdin,
        out: Arc<Mutex<Out>>,
        tell: mpsc::Sender<Ended>,
    ) {
        std::thread::spawn(move || {
            let tally = self.serve(&mut *client, &mut server, &out);
            // Said before the server hears of it, so that the client's end never looks like the server's. Nobody may
            // be left to hear it.
            let _ = tell.send(Ended::Client(tally));
            drop(server);
        });
    }

    fn serve(
        &self,
        client: &mut dyn BufRead,
        server: &mut dyn Write,
        out: &Mutex<Out>,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        loop {
            let line = read_line(client, MAX_MESSAGE)
                .map_err(|error| Fault::io("read from the client", &error))?;
            let step = match &line {
                Line::End => return Ok(tally),
                Line::Blank => Step::Drop,
                Line::TooLong => refuse(&mut tally, "the message is too long"),
                Line::Message(bytes) => self.judge(bytes, &mut tally),
            };
            match (step, line) {
                (Step::Pass, Line::Message(bytes)) => pass(server, &bytes)?,
                (Step::Answer(answer), _) => send(out, answer.to_string().as_bytes())?,
                _ => {}
            }
        }
    }

    fn judge(&self, bytes: &[u8], tally: &mut Tally) -> Step {
        let message = match parse_json_within(bytes, MAX_MESSAGE) {
            Ok(Value::Object(message)) => message,
            Ok(Value::Array(_)) => return refuse(tally, "batches do not pass"),
            Ok(_) => return refuse(tally, "the message is not an object"),
            Err(fault) => return refuse(tally, fault.message()),
        };
        match message.get("method") {
            Some(Value::String(method)) if method == "tools/call" => self.call(&message, tally),
            Some(Value::String(_)) | None => Step::Pass,
            Some(_) => refuse(tally, "the method is not text"),
        }
    }

    fn call(&self, message: &Map<String, Value>, tally: &mut Tally) -> Step {
        let id = message.get("id").filter(|id| !id.is_null());
        match self.rule(message) {
            Ok(ruling) if ruling.is_allowed() => {
                tally.allowed += 1;
                Step::Pass
            }
            Ok(ruling) => {
                tally.denied += 1;
                id.map_or(Step::Drop, |id| Step::Answer(reply::denied(id, &ruling)))
            }
            Err(fault) => {
                tally.denied += 1;
                id.map_or(Step::Drop, |id| Step::Answer(reply::failed(id, &fault)))
            }
        }
    }

    /// The ruling, once its trace is kept and, if it allows, its permit is used up.
    fn rule(&self, message: &Map<String, Value>) -> Result<Ruling> {
        let call = self.tool_call(message)?;
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let name = format!("trace_{}_{number:06}.json", self.correlation_id);
        let place = |_: &str| self.trace_dir.join(name);
        let ruling = self
            .boundary
            .decide(&call, "", &self.correlation_id, place)?;
        if ruling.is_allowed() {
            let digest = ruling.decision.intent_digest();
            ruling.decision.permit()?.redeem(&digest)?;
        }
        Ok(ruling)
    }

    fn tool_call(&self, message: &Map<String, Value>) -> Result<ToolCall> {
        let params = message.get("params").and_then(Value::as_object);
        let name = params
            .and_then(|params| params.get("name"))
            .and_then(Value::as_str);
        let arguments = params.and_then(|params| params.get("arguments"));
        let args = match arguments {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(args)) => args.clone(),
            Some(_) => return Err(crate::limits::invalid("params.arguments is not an object")),
        };
        let mut call = ToolCall::new(name.unwrap_or_default(), args);
        call.server.clone_from(&self.server);
        call.context.intent.session_id.clone_from(&self.session_id);
        Ok(call)
    }
}

fn refuse(tally: &mut Tally, why: &str) -> Step {
    tally.refused += 1;
    Step::Answer(reply::unreadable(why))
}

fn follow_server(output: ChildStdout, out: Arc<Mutex<Out>>, tell: mpsc::Sender<Ended>) {
    std::thread::spawn(move || {
        let copied = copy(&mut io::BufReader::new(output), &out);
        // Nobody may be left to hear it.
        let _ = tell.send(Ended::Server(copied));
    });
}

fn start(command: &[String]) -> Result<Child> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(crate::limits::invalid(
            "expected the server's command after --",
        ));
    };
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Fault::new(
                Category::DependencyMissing,
                "mcp_server_not_started",
                format!("cannot start {program}"),
            )
            .caused_by(error)
            .hint("check the server's command after --")
        })
}

/// The server's answers, line by line as they are.
fn copy(server: &mut dyn BufRead, out: &Mutex<Out>) -> Result<()> {
    loop {
        let line = read_line(server, MAX_MESSAGE)
            .map_err(|error| Fault::io("read from the server", &error))?;
        match line {
            Line::End => return Ok(()),
            Line::Blank => {}
            Line::TooLong => return Err(exited("it sent a message that is too long")),
            Line::Message(bytes) => send(out, &bytes)?,
        }
    }
}

fn send(out: &Mutex<Out>, line: &[u8]) -> Result<()> {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    write_line(&mut **out, line).map_err(|error| Fault::io("write to the client", &error))
}

fn pass(server: &mut dyn Write, line: &[u8]) -> Result<()> {
    write_line(server, line).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => exited("it reads no further"),
        _ => Fault::io("write to the server", &error),
    })
}

fn write_line(out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Waits for the server, which was told that the session is over. One that failed to hear it is ended.
fn settle(server: &mut Child, tally: Result<Tally>) -> Result<Tally> {
    if tally.is_err() {
        // It may be gone already, which is as good.
        let _ = server.kill();
    }
    let status = server
        .wait()
        .map_err(|error| Fault::io("wait for the server", &error))?;
    let tally = tally?;
    match status.success() {
        true => Ok(tally),
        false => Err(exited(&status.to_string())),
    }
}

fn exited(why: &str) -> Fault {
    Fault::new(
        Category::DependencyMissing,
        "mcp_server_exited",
        format!("the MCP server ended: {why}"),
    )
    .hint("look at what the server wrote to standard error")
}
