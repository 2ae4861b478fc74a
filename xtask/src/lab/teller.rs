//! A program that tells line by line what it sees, as a process in a namespace.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// Between two looks at what was told.
const LOOK: Duration = Duration::from_millis(50);

/// The program, until it is dropped. It ends with its standard input, too.
pub struct Teller<T> {
    child: Child,
    told: Arc<Mutex<Vec<T>>>,
}

impl<T: Clone + Send + 'static> Teller<T> {
    /// Starts it. What `parse` makes nothing of is not heard.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        words: &[String],
        parse: fn(&str) -> Option<T>,
    ) -> Result<Self> {
        let mut child = namespace
            .command(program)
            .args(words)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                Failure::new(format!("cannot start {}: {error}", program.display()))
            })?;
        let told = Arc::new(Mutex::new(Vec::new()));
        if let Some(out) = child.stdout.take() {
            let heard = told.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(out)
                    .lines()
                    .map_while(std::result::Result::ok);
                let read = lines.filter_map(|line| parse(&line));
                read.for_each(|one| {
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(one)
                });
            });
        }
        Ok(Self { child, told })
    }

    /// What it told so far.
    pub fn told(&self) -> Vec<T> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until what it told is as it should be; whether it came to that.
    pub fn until(
        &self,
        is_so: impl Fn(&[T]) -> bool,
        patience: Duration,
        stop: &Stop,
    ) -> Result<bool> {
        let deadline = Instant::now() + patience;
        while !is_so(&self.told()) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            stop.wait(LOOK)?;
        }
        Ok(true)
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
