//! Somebody who calls a node again and again, as a process in a namespace: whether it can be reached, seen from outside.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::namespace::Namespace;
use super::stop::Stop;
use super::teller::Teller;
use crate::shell::Result;

/// A caller, until it is dropped.
pub struct Caller(Teller<Call>);

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it began, in milliseconds since 1970.
    pub at: u64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// `ok`, or the code of what went wrong.
    pub came_to: String,
    /// Through how many relays the caller knew the node to be reached.
    pub relays_known: u64,
}

impl Caller {
    /// Starts to call.
    pub fn start(namespace: &Namespace, program: &Path, words: &[String]) -> Result<Self> {
        Teller::start(namespace, program, words, Call::parse).map(Self)
    }

    /// Every call that has come to something so far, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = self.0.told();
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// Waits until the calls so far are as they should be.
    pub fn until(
        &self,
        is_so: impl Fn(&[Call]) -> bool,
        patience: Duration,
        stop: &Stop,
    ) -> Result<bool> {
        self.0.until(|_| is_so(&self.calls()), patience, stop)
    }
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let told: Value = serde_json::from_str(line).ok()?;
        Some(Self {
            at: told.get("at_ms")?.as_u64()?,
            took: told.get("took_ms")?.as_u64()?,
            came_to: told.get("came_to")?.as_str()?.to_owned(),
            relays_known: told.get("relays_known")?.as_u64()?,
        })
    }

    /// Whether the node was reached.
    pub fn is_answered(&self) -> bool {
        self.came_to == "ok"
    }
}

/// The longest time without an answer that ended after `since`. One that has not ended counts until the last call began.
pub fn silence(calls: &[Call], since: u64) -> Duration {
    let mut answers: Vec<u64> = calls
        .iter()
        .filter(|call| call.is_answered())
        .map(|call| call.at + call.took)
        .collect();
    answers.sort_unstable();
    let before = answers
        .iter()
        .copied()
        .rfind(|answer| *answer <= since)
        .unwrap_or(since);
    let last_call = calls.iter().map(|call| call.at).max().unwrap_or(since);
    let after = answers.into_iter().filter(|answer| *answer > since);
    let moments: Vec<u64> = std::iter::once(before).chain(after).collect();
    let between = moments
        .windows(2)
        .filter_map(|pair| pair.last()?.checked_sub(*pair.first()?));
    let to_the_end = moments.last().map(|last| last_call.saturating_sub(*last));
    Duration::from_millis(between.chain(to_the_end).max().unwrap_or_default())
}

/// Milliseconds since 1970, as calls and logs have them.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: u64, took: u64, came_to: &str) -> Call {
        Call {
            at,
            took,
            came_to: came_to.to_owned(),
            relays_known: 2,
        }
    }

    #[test]
    fn a_call_is_read_from_its_line_and_nothing_else_is() {
        let line = r#"{"at_ms":7,"took_ms":2,"relays_known":2,"came_to":"ok"}"#;
        assert_eq!(Call::parse(line), Some(call(7, 2, "ok")));
        for other in [
            "",
            "{}",
            "thread panicked",
            r#"{"at_ms":-1,"took_ms":2,"relays_known":2,"came_to":"ok"}"#,
        ] {
            assert_eq!(Call::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_silence_lasts_from_the_last_answer_before_it_to_the_first_after_it() {
        let calls = [
            call(0, 10, "ok"),
            call(100, 10, "ok"),
            call(200, 900, "no_answer"),
            call(300, 500, "ok"),
            call(400, 400, "ok"),
        ];
        assert_eq!(silence(&calls, 150), Duration::from_millis(690));
        assert_eq!(silence(&calls, 805), Duration::ZERO);
        assert_eq!(silence(&calls, 5), Duration::from_millis(690));
    }

    #[test]
    fn a_silence_without_an_end_lasts_until_the_last_call() {
        let calls = [
            call(0, 10, "ok"),
            call(100, 10, "connection_lost"),
            call(900, 10, "connection_lost"),
        ];
        assert_eq!(silence(&calls, 50), Duration::from_millis(890));
        assert_eq!(silence(&[], 50), Duration::ZERO);
        assert_eq!(
            silence(&[call(90, 1, "no_answer")], 50),
            Duration::from_millis(40)
        );
    }
}
