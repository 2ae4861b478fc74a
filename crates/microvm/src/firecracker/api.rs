//! Requests to Firecracker: one a connection, each answered with a status and, where it is refused, with the reason.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::poll;
use worldcompute_fault::{Fault, Result, WcCode};

use crate::hypervisor::Process;
use crate::run_dir::RunDir;

/// How long Firecracker has to open its socket, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(2);
/// Most bytes of an answer; those that matter have a line.
const MAX_ANSWER: u64 = 64 << 10;

pub struct Api<'a> {
    dir: &'a RunDir,
    socket: &'static str,
    /// Who answers.
    process: &'a mut Process,
}

impl<'a> Api<'a> {
    /// The API on a socket in the run's folder, which need not be there yet.
    pub const fn new(dir: &'a RunDir, socket: &'static str, process: &'a mut Process) -> Self {
        Self {
            dir,
            socket,
            process,
        }
    }

    /// # Errors
    /// WC-007 with what Firecracker says, or that it says nothing.
    pub fn put(&mut self, path: &str, body: &serde_json::Value) -> Result<()> {
        let failed = |error| {
            Fault::wc(
                WcCode::SandboxUnavailable,
                format!("Firecracker does not answer to {path}"),
            )
            .caused_by(error)
        };
        let answer = self
            .ask(path, &body.to_string())
            .map_err(|error: io::Error| failed(error))?;
        match is_success(&answer) {
            true => Ok(()),
            false => {
                let message = format!("Firecracker refuses {path}: {}", reason(&answer));
                Err(Fault::wc(WcCode::SandboxUnavailable, message)
                    .hint("look whether its version fits (1.8 or later)"))
            }
        }
    }

    fn ask(&mut self, path: &str, body: &str) -> io::Result<String> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        // In one piece: who answers at once may have closed before the second.
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        read_answer(&stream)
    }

    fn connect(&mut self) -> io::Result<UnixStream> {
        let start = Instant::now();
        loop {
            let path = format!(
                "/proc/self/fd/{}/{}",
                self.dir.handle().as_raw_fd(),
                self.socket
            );
            match UnixStream::connect(path) {
                Err(error) if is_early(&error) && start.elapsed() < PATIENCE => {
                    if let Some(status) = self.process.ended()? {
                        return Err(io::Error::other(format!("it has ended: {status}")));
                    }
                    poll(&mut [], Some(&RETRY.try_into().map_err(io::Error::other)?))?;
                }
                connected => return connected,
            }
        }
    }
}

/// The socket is not there, or nobody listens on it yet.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Head and body: the connection stays open, so its length says where it ends.
fn read_answer(stream: impl Read) -> io::Result<String> {
    let mut stream = stream.take(MAX_ANSWER);
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        if is_whole(&text) {
            return Ok(text.into_owned());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = { fields }.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Ok(0), |(_, length)| length.trim().parse());
    length.is_ok_and(|length: usize| body.len() >= length)
}

fn is_success(answer: &str) -> bool {
    answer
        .split_whitespace()
        .nth(1)
        .is_some_and(|status| status.starts_with('2'))
}

fn reason(answer: &str) -> &str {
    answer
        .split_once("\r\n\r\n")
        .map_or(answer, |(_, body)| body)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    fn sleeping(script: &str) -> Process {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::start(command).unwrap()
    }

    fn put(answer: &str) -> Result<()> {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::create(home.path()).unwrap();
        let listener = dir.listen("api").unwrap();
        listener.set_nonblocking(false).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let read = stream.read(&mut [0; 4096]).unwrap();
                assert!(read > 0);
                for piece in answer.as_bytes().chunks(7) {
                    stream.write_all(piece).unwrap();
                }
            });
            let mut process = sleeping("exec sleep 60");
            Api::new(&dir, "api", &mut process).put("/vsock", &serde_json::json!({"guest_cid": 3}))
        })
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        put("HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let refused = "HTTP/1.1 400 \r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{\"fault_message\":\"no\"}  ";
        let fault = put(refused).unwrap_err();
        assert!(fault.message().contains("\"no\""), "{fault}");
        for broken in [
            "",
            "HTTP/1.1 204",
            "HTTP/1.1 400 \r\nContent-Length: 30\r\n\r\n{}",
            "HTTP/1.1 400 \r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(
                put(broken)
                    .unwrap_err()
                    .message()
                    .contains("does not answer"),
                "{broken}"
            );
        }
    }

    #[test]
    fn a_program_that_ends_without_a_word_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::create(home.path()).unwrap();
        let mut process = sleeping("exit 3");
        let fault = Api::new(&dir, "api", &mut process)
            .put("/vsock", &serde_json::json!({}))
            .unwrap_err();
        assert!(fault.message().contains("it has ended"), "{fault}");
    }
}
