//! Where the time goes: how long the spans of the code were open, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::figures::ms;

/// The spans, in the order of a task's way; what is indented is a part of what stands above it.
const STEPS: [(&str, &str); 16] = [
    ("sign_manifest", "sign the manifest"),
    ("clear", "the submitter's gate"),
    ("accept", "accept the job: its first commit"),
    ("dispatch", "dispatch, to the donor's reply"),
    ("donor", "  the donor"),
    ("verify_origin", "    verify manifest and decision"),
    ("decide", "    the donor's gate"),
    ("collect", "    have module and inputs"),
    ("number_exit", "    number the exit"),
    ("sandbox", "    sandbox"),
    ("write_up", "    keep outputs, sign the receipt"),
    ("keep_result", "    commit the result to the donor's log"),
    ("settle", "verify receipt and decisions, keep results"),
    ("commit", "the submitter's commits, the first one included"),
    ("countersign", "verify receipts again and countersign them"),
    ("evidence", "write and verify the evidence"),
];

/// Adds up spans. Clones add to the same sums.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<BTreeMap<&'static str, Sum>>>);

#[derive(Clone, Copy, Default)]
struct Sum {
    count: u32,
    time: Duration,
}

struct Opened(Instant);

impl Spans {
    /// Forgets what was added up so far.
    pub fn clear(&self) {
        self.sums().clear();
    }

    /// Prints what a task took on average since the sums were cleared. Tasks overlap, so that the lines of an array do not
    /// add up to the time that passed.
    pub fn print(&self, tasks: u32) {
        println!("  where the time of a task goes, on average:");
        let a_task = |name| self.sums().get(name).map(|sum| sum.time / tasks.max(1));
        for (name, words) in STEPS {
            if let Some(time) = a_task(name) {
                println!("    {words:<52}{:9.3} ms", ms(time));
            }
        }
        if let Some((dispatch, donor)) = a_task("dispatch").zip(a_task("donor")) {
            let way = ms(dispatch.saturating_sub(donor));
            println!("    {:<52}{way:9.3} ms", "the way to the donor and back");
        }
        let commits = self.sums().get("commit").map_or(0, |sum| sum.count);
        println!("    (the submitter's commits were {commits}, for {tasks} tasks)");
    }

    fn sums(&self) -> MutexGuard<'_, BTreeMap<&'static str, Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for Spans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Opened(Instant::now()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        if let Some(Opened(at)) = span.extensions().get() {
            let mut sums = self.sums();
            let sum = sums.entry(span.name()).or_default();
            sum.count += 1;
            sum.time += at.elapsed();
        }
    }
}
