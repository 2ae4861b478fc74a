//! Fetching with a bounded number of attempts, of which only failures that pass cause another.

use std::time::Duration;

use hyper::Uri;
use worldcompute_fault::{Category, Fault, Result};

/// The largest manifest, in bytes.
pub const MAX_PACK_BYTES: u64 = 5 << 20;
/// The most attempts.
const MAX_ATTEMPTS: u32 = 10;
/// The longest base of the delays, and the longest single delay.
const MAX_DELAY: Duration = Duration::from_mins(1);

/// Fetches one address, once.
pub trait Transport {
    /// The body of a 200 answer, at most [`MAX_PACK_BYTES`].
    fn get(&self, uri: &Uri) -> std::result::Result<Vec<u8>, Failure>;
}

/// Waits between two attempts.
pub trait Pause {
    /// Waits for `delay`.
    fn pause(&self, delay: Duration);
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An answer other than 200.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// The connection was refused, or broke off.
    Broken(String),
    /// The peer could not prove who it is.
    Untrusted(String),
    /// More than [`MAX_PACK_BYTES`].
    TooLarge,
    /// Anything else, for instance an unknown host name.
    Unreachable(String),
    /// This machine has no root certificates to check a peer by.
    NoTrustRoots(String),
}

/// How often, and how long apart, a failing fetch is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    base_delay: Duration,
}

/// Waits by the machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemPause;

impl Retry {
    /// `attempts` in all, with delays that grow from `base_delay`; `retry_out_of_bounds` past 10 attempts or a minute.
    pub fn new(attempts: i64, base_delay: jiff::SignedDuration) -> Result<Self> {
        let attempts = u32::try_from(attempts)
            .ok()
            .filter(|n| (1..=MAX_ATTEMPTS).contains(n));
        let base_delay = Duration::try_from(base_delay)
            .ok()
            .filter(|delay| *delay <= MAX_DELAY);
        match (attempts, base_delay) {
            (Some(attempts), Some(base_delay)) => Ok(Self {
                attempts,
                base_delay,
            }),
            _ => Err(Fault::new(
                Category::InvalidInput,
                "retry_out_of_bounds",
                format!("a fetch is tried 1 to {MAX_ATTEMPTS} times, at most {MAX_DELAY:?} apart"),
            )),
        }
    }

    /// The body at `uri`. The failure of the last attempt is the one that is told.
    pub fn fetch(
        &self,
        uri: &Uri,
        transport: &dyn Transport,
        pause: &dyn Pause,
    ) -> Result<Vec<u8>> {
        let mut attempt = 1;
        loop {
            match transport.get(uri) {
                Ok(bytes) => return Ok(bytes),
                Err(failure) if failure.passes() && attempt < self.attempts => {
                    pause.pause(self.delay(attempt));
                    attempt += 1;
                }
                Err(failure) => return Err(failure.fault(attempt)),
            }
        }
    }

    /// The wait after the `attempt`th try: exponential, with a jitter that is the same each time.
    fn delay(&self, attempt: u32) -> Duration {
        let factor = 1 << attempt.saturating_sub(1).min(MAX_ATTEMPTS);
        let jitter = Duration::from_millis(25)
            .saturating_mul(attempt)
            .min(Duration::from_millis(100));
        self.base_delay
            .saturating_mul(factor)
            .saturating_add(jitter)
            .min(MAX_DELAY)
    }
}

impl Default for Retry {
    /// 3 attempts, from 200 ms on.
    fn default() -> Self {
        Self {
            attempts: 3,
            base_delay: Duration::from_millis(200),
        }
    }
}

impl Failure {
    /// Whether another attempt may succeed.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 429 | 502 | 503 | 504),
            Self::Timeout | Self::Broken(_) => true,
            Self::Untrusted(_) | Self::TooLarge | Self::Unreachable(_) | Self::NoTrustRoots(_) => {
                false
            }
        }
    }

    fn fault(&self, attempts: u32) -> Fault {
        let category = match self {
            Self::NoTrustRoots(_) => Category::DependencyMissing,
            failure if failure.passes() => Category::NetworkTransient,
            _ => Category::NetworkPermanent,
        };
        let (code, what, hint) = self.words();
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        let message = format!("download source: {what} ({attempts} {times})");
        Fault::new(category, code, message).hint(hint)
    }

    fn words(&self) -> (&'static str, String, &'static str) {
        match self {
            Self::Status(status) if self.passes() => (
                "source_unavailable",
                format!("status {status}"),
                "retry later, or allow a pinned cached fallback",
            ),
            Self::Status(status @ 300..=399) => (
                "source_redirected",
                format!("status {status}: redirects are not followed"),
                "give the final address, with its host in --allow-host",
            ),
            Self::Status(status) => (
                "source_refused",
                format!("status {status}"),
                "check the address and your access to it",
            ),
            Self::Timeout => (
                "source_timeout",
                "no answer in time".to_owned(),
                "retry later, or allow a pinned cached fallback",
            ),
            Self::Broken(why) => (
                "source_disconnected",
                why.clone(),
                "retry later, or allow a pinned cached fallback",
            ),
            Self::Untrusted(why) => (
                "source_untrusted",
                why.clone(),
                "check the server's certificate and this machine's root certificates",
            ),
            Self::TooLarge => (
                "source_too_large",
                format!("more than {MAX_PACK_BYTES} bytes"),
                "check that the address is that of a pack manifest",
            ),
            Self::Unreachable(why) => (
                "source_unreachable",
                why.clone(),
                "check the host name and this machine's network",
            ),
            Self::NoTrustRoots(why) => (
                "trust_roots_missing",
                why.clone(),
                "install the root certificates of the system, or set SSL_CERT_FILE",
            ),
        }
    }
}

impl Pause for SystemPause {
    #[expect(
        clippy::disallowed_methods,
        reason = "the delay is the point: nothing signals that a server has recovered"
    )]
    fn pause(&self, delay: Duration) {
        std::thread::sleep(delay);
    }
}
