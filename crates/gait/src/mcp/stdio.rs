//! The enforcing proxy: it stands between an MCP client and an MCP server that speak over standard input and output,
//! and passes on only what was allowed.
//!
//! ```text
//! client ─► read strictly ─► known method? ─► ruled on ─► server
//! client ◄─ ruled on ◄─ known method, or the answer to what was asked? ◄─ read strictly ◄─ server
//! ```
//!
//! What cannot be read strictly does not pass, because client, proxy and server might read it differently; so do
//! batches, which the protocol no longer has, and methods that it does not have. Tool calls, reading resources and
//! prompts, and what a server asks of a client are ruled on by the policy. A denied request is answered in the other
//! side's place, with the reasons, so that the agent can tell its user what to ask for.

mod judge;
mod lines;
mod listing;
mod message;
mod methods;
mod reply;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use worldcompute_fault::{Category, Fault, Result};

pub use self::judge::{State, Step};
use self::lines::{Line, read_line};
use super::boundary::{Boundary, Ruling};
use super::call::ToolCall;
use super::export::Exports;
use super::http::elapsed_ms;
use crate::mcp_trust::Server;

/// How long a server may take to end after its client has.
const GRACE: Duration = Duration::from_secs(10);
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
    /// Where rulings are told.
    pub exports: Exports,
    /// The job whose state can stop the calls; empty for none.
    pub job_id: String,
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
    /// What was ruled on and reached the other side.
    pub allowed: u64,
    /// What was ruled on and did not.
    pub denied: u64,
    /// Messages of the client that do not belong to the protocol.
    pub refused: u64,
    /// Messages of the server that do not.
    pub dropped: u64,
}

/// One session: the proxy, both sides, and what is known of them.
struct Session {
    proxy: Proxy,
    client: Mutex<Out>,
    /// Gone when the client is.
    server: Mutex<Option<Out>>,
    state: Mutex<State>,
}

/// Which side ended first, and how.
enum Ended {
    Client(Result<()>),
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
        let session = Arc::new(Session {
            proxy: self,
            client: Mutex::new(out),
            server: Mutex::new(Some(Box::new(input))),
            state: Mutex::default(),
        });
        let (tell, told) = mpsc::channel();
        Arc::clone(&session).follow_client(client, tell.clone());
        Arc::clone(&session).follow_server(output, tell);
        let ended = match told.recv() {
            // The server has heard that the session is over, answers what it still has to, and ends.
            Ok(Ended::Client(Ok(()))) => match told.recv_timeout(GRACE) {
                Ok(Ended::Server(ended)) => ended,
                _ => Err(exited("it went on after its client had ended")),
            },
            Ok(Ended::Client(Err(fault)) | Ended::Server(Err(fault))) => Err(fault),
            Ok(Ended::Server(Ok(()))) | Err(_) => Err(exited("it closed its output")),
        };
        settle(&mut server, ended)?;
        let tally = lock(&session.state).tally();
        Ok(tally)
    }

    /// The ruling, once its trace is kept and, if it allows, its permit is used up.
    fn rule(&self, mut call: ToolCall) -> Result<Ruling> {
        call.server.clone_from(&self.server);
        let started = Instant::now();
        call.context.intent.session_id.clone_from(&self.session_id);
        call.context.intent.job_id.clone_from(&self.job_id);
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let name = format!("trace_{}_{number:06}.json", self.correlation_id);
        let place = |_: &str| self.trace_dir.join(name);
        let ruling = self
            .boundary
            .decide(&call, "", &self.correlation_id, place)?;
        // A ruling that cannot be told where the operator wants it lets nothing pass.
        self.exports.append(&ruling, elapsed_ms(started))?;
        if ruling.is_allowed() {
            let digest = ruling.decision.intent_digest();
            ruling.decision.permit()?.redeem(&digest)?;
        }
        Ok(ruling)
    }

    /// Why the server is not trusted by a policy that insists on it.
    fn distrusted(&self) -> Option<Vec<&'static str>> {
        let trust = self.boundary.judge(self.server.as_ref())?;
        trust.enforced.then_some(trust.reason_codes)
    }
}

impl Session {
    fn follow_client(
        self: Arc<Self>,
        mut client: Box<dyn BufRead + Send>,
        tell: mpsc::Sender<Ended>,
    ) {
        std::thread::spawn(move || {
            let ended = self.serve(&mut *client);
            // Said before the server hears of it, so that the client's end never looks like the server's. Nobody may
            // be left to hear it.
            let _ = tell.send(Ended::Client(ended));
            drop(lock(&self.server).take());
        });
    }

    fn follow_server(self: Arc<Self>, output: ChildStdout, tell: mpsc::Sender<Ended>) {
        std::thread::spawn(move || {
            let ended = self.relay(&mut io::BufReader::new(output));
            // Nobody may be left to hear it.
            let _ = tell.send(Ended::Server(ended));
        });
    }

    /// What the client says, line by line.
    fn serve(&self, client: &mut dyn BufRead) -> Result<()> {
        loop {
            let line = read_line(client, MAX_MESSAGE)
                .map_err(|error| Fault::io("read from the client", &error))?;
            let (step, bytes) = match line {
                Line::End => return Ok(()),
                Line::Blank => continue,
                Line::TooLong => (lock(&self.state).refuse("it is too long"), Vec::new()),
                Line::Message(bytes) => (lock(&self.state).of_client(&self.proxy, &bytes), bytes),
            };
            match step {
                Step::Pass => self.to_server(&bytes)?,
                Step::Instead(other) => self.to_server(other.to_string().as_bytes())?,
                Step::Answer(answer) => self.to_client(answer.to_string().as_bytes())?,
                Step::Drop => {}
            }
        }
    }

    /// What the server says, line by line.
    fn relay(&self, server: &mut dyn BufRead) -> Result<()> {
        loop {
            let line = read_line(server, MAX_MESSAGE)
                .map_err(|error| Fault::io("read from the server", &error))?;
            let bytes = match line {
                Line::End => return Ok(()),
                Line::Blank => continue,
                Line::TooLong => return Err(exited("it sent a message that is too long")),
                Line::Message(bytes) => bytes,
            };
            let step = lock(&self.state).of_server(&self.proxy, &bytes);
            match step {
                Step::Pass => self.to_client(&bytes)?,
                Step::Instead(other) => self.to_client(other.to_string().as_bytes())?,
                Step::Answer(answer) => self.to_server(answer.to_string().as_bytes())?,
                Step::Drop => {}
            }
        }
    }

    fn to_client(&self, line: &[u8]) -> Result<()> {
        write_line(&mut **lock(&self.client), line)
            .map_err(|error| Fault::io("write to the client", &error))
    }

    fn to_server(&self, line: &[u8]) -> Result<()> {
        let mut server = lock(&self.server);
        let Some(server) = server.as_mut() else {
            return Ok(());
        };
        write_line(&mut **server, line).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => exited("it reads no further"),
            _ => Fault::io("write to the server", &error),
        })
    }
}

/// What a thread left behind when it died is as good as what it found.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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

fn write_line(out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Waits for the server, which was told that the session is over. One that failed to hear it is ended.
fn settle(server: &mut Child, ended: Result<()>) -> Result<()> {
    if ended.is_err() {
        // It may be gone already, which is as good.
        let _ = server.kill();
    }
    let status = server
        .wait()
        .map_err(|error| Fault::io("wait for the server", &error))?;
    ended?;
    match status.success() {
        true => Ok(()),
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
