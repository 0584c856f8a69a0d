//! Sends spans to the collector, and logs when it fails and when it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

/// The SDK calls this on a thread of its own, but HTTP needs tokio: the export runs there.
#[derive(Debug)]
pub(super) struct Exporter {
    otlp: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    failing: AtomicBool,
}

impl Exporter {
    pub(super) fn new(otlp: opentelemetry_otlp::SpanExporter, runtime: Handle) -> Self {
        Self {
            otlp: Arc::new(otlp),
            runtime,
            failing: AtomicBool::new(false),
        }
    }

    /// One line when exports begin to fail, and one when they work again.
    fn report(&self, outcome: &OTelSdkResult) {
        let was_failing = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_failing => {
                tracing::warn!("traces are lost until the collector takes them again: {error}");
            }
            Ok(()) if was_failing => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let otlp = Arc::clone(&self.otlp);
        let export = self.runtime.spawn(async move { otlp.export(batch).await });
        let outcome = export
            .await
            .unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        self.report(&outcome);
        outcome
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(otlp) = Arc::get_mut(&mut self.otlp) {
            otlp.set_resource(resource);
        }
    }
}
