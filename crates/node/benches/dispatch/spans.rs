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

    /// Prints the sums since they were cleared, for so many tasks. Spans of different tasks overlap, and those of one
    /// task enclose others, so that the lines do not add up to the time that passed.
    pub fn print(&self, tasks: u32) {
        println!(
            "  {:<28}{:>8}{:>12}{:>14}",
            "span", "count", "each", "a task"
        );
        for (name, sum) in self.sums().iter() {
            let each = ms(sum.time / sum.count.max(1));
            let task = ms(sum.time / tasks.max(1));
            println!("  {name:<28}{:>8}{each:>9.3} ms{task:>11.3} ms", sum.count);
        }
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
