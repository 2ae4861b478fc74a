//! A running service of the program, asked over real connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A service, ended on drop.
pub struct Serving {
    child: Child,
    pub address: String,
    dir: PathBuf,
}

impl Serving {
    /// Starts `command`, which has `--json`; the line that it ended with when it does not say where it listens.
    pub fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let started: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(address) = started["listen"].as_str() else {
            child.wait().unwrap();
            return Err(line);
        };
        Ok(Self {
            child,
            address: address.to_owned(),
            dir: command.get_current_dir().unwrap().to_owned(),
        })
    }

    /// The status and the body of the answer to `body`, sent behind the lines of `head`.
    pub fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let (status, _, body) = self.answer(head, body);
        (status, body)
    }

    /// The status, the head in lower case and the body of the answer to `body`, sent behind the lines of `head`.
    pub fn answer(&self, head: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let request =
            format!("{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let answer = match self.address.contains('/') {
            true => exchange(
                UnixStream::connect(self.dir.join(&self.address)).unwrap(),
                &request,
            ),
            false => exchange(TcpStream::connect(&self.address).unwrap(), &request),
        };
        let status = answer.split(' ').nth(1).map(str::parse);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (
            status.unwrap_or_else(|| panic!("{answer:?}")).unwrap(),
            head.to_ascii_lowercase(),
            body.to_owned(),
        )
    }

    /// [`Serving::ask`] with JSON sent to `path`, and further `headers` that each begin with a line break.
    pub fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json{headers}"
        );
        self.ask(&head, body)
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    // A service that has seen enough may answer and close before everything is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
