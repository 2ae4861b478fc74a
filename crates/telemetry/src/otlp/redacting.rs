//! The last gate before a span leaves: whatever made it, its text is redacted here.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::{Span as _, Status};
use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use crate::{Redactor, correlation};

/// Puts the caller's correlation id on every span as it starts.
#[derive(Debug)]
pub(super) struct CorrelationProcessor;

impl SpanProcessor for CorrelationProcessor {
    fn on_start(&self, span: &mut Span, _parent: &Context) {
        if let Some(id) = correlation::current() {
            span.set_attribute(KeyValue::new("correlation_id", id.to_string()));
        }
    }

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Hands spans on without secrets and names.
#[derive(Debug)]
pub(super) struct RedactingExporter<E> {
    inner: E,
    redact: Redactor,
}

impl<E> RedactingExporter<E> {
    pub(super) fn new(inner: E, redact: Redactor) -> Self {
        Self { inner, redact }
    }

    fn span(&self, mut span: SpanData) -> SpanData {
        self.text(&mut span.name);
        self.attributes(&mut span.attributes);
        for event in &mut span.events.events {
            self.text(&mut event.name);
            self.attributes(&mut event.attributes);
        }
        for link in &mut span.links.links {
            self.attributes(&mut link.attributes);
        }
        if let Status::Error { description } = &mut span.status {
            self.text(description);
        }
        span
    }

    fn text(&self, text: &mut Cow<'static, str>) {
        if let Cow::Owned(redacted) = self.redact.redact(text) {
            *text = Cow::Owned(redacted);
        }
    }

    fn attributes(&self, attributes: &mut [KeyValue]) {
        for KeyValue { key, value, .. } in attributes {
            let redacted = |text: &str| self.redact.redact_field(key.as_str(), text).into_owned();
            if let Value::Array(Array::String(texts)) = value {
                texts
                    .iter_mut()
                    .for_each(|text| *text = redacted(text.as_str()).into());
                continue;
            }
            let text = value.as_str().into_owned();
            let clean = redacted(&text);
            if clean != text {
                *value = Value::String(clean.into());
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for RedactingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.inner
            .export(batch.into_iter().map(|span| self.span(span)).collect())
            .await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
