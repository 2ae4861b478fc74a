//! Which request an event belongs to.

use opentelemetry::trace::TraceContextExt;

/// Where the trace id of an event comes from when no OpenTelemetry span is entered: the correlation id of whoever uses
/// the store, if they have one.
#[derive(Clone, Copy, Debug)]
pub struct TraceSource(fn() -> Option<[u8; 16]>);

impl TraceSource {
    /// Asks `correlation` in the task or thread that uses a key.
    pub const fn new(correlation: fn() -> Option<[u8; 16]>) -> Self {
        Self(correlation)
    }

    pub(super) fn current(self) -> Trace {
        let context = opentelemetry::Context::current();
        let span = context.span();
        let span = span.span_context();
        if span.is_valid() {
            return Trace {
                trace_id: span.trace_id().to_bytes(),
                span_id: span.span_id().to_bytes(),
            };
        }
        Trace {
            trace_id: (self.0)().unwrap_or_default(),
            span_id: [0; 8],
        }
    }
}

impl Default for TraceSource {
    /// OpenTelemetry alone.
    fn default() -> Self {
        Self(|| None)
    }
}

/// W3C ids of a trace and of a span in it; zero when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
}
