//! OpenTelemetry traces: one span per request of the API, with a child for each stage of its way.
//!
//! Spans are made of moments that were recorded anyway, and handed to a bounded queue. A thread of the
//! SDK exports them in batches, so a collector that is slow or away costs spans and never a request's
//! time.

mod exporter;
mod request_trace;

use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use self::exporter::Exporter;
use crate::build_info::VERSION;
use crate::http_client;
use crate::settings::Settings;

pub use request_trace::{Ending, Operation, RequestTrace, Usage};

/// What traces call this program unless `OTEL_SERVICE_NAME` does otherwise.
const SERVICE: &str = env!("CARGO_PKG_NAME");
/// How long a collector may take to receive a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why traces can't be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces can't be exported to {endpoint}: {reason}")]
pub struct TracesError {
    endpoint: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// Begins the traces of requests. Clones share the exporter.
#[derive(Debug, Clone)]
pub struct Traces(Option<Export>);

#[derive(Debug, Clone)]
struct Export {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Exports to the endpoint that `settings` or OpenTelemetry's variables name; without any, nothing
    /// is recorded. Call it within the runtime that is to do the exports.
    ///
    /// # Errors
    /// When there can be no client for the endpoint.
    pub fn start(settings: &Settings) -> Result<Self, TracesError> {
        let Some(endpoint) = endpoint(settings, |name| std::env::var(name).ok()) else {
            return Ok(Self(None));
        };
        let provider = provider(&endpoint).map_err(|reason| TracesError {
            endpoint: endpoint.clone(),
            reason,
        })?;
        tracing::info!(endpoint, "exporting traces");
        let tracer = provider.tracer(SERVICE);
        Ok(Self(Some(Export { provider, tracer })))
    }

    /// Begins a request's span, in the trace that its headers name if they do.
    pub fn begin(&self, headers: &HeaderMap, operation: Operation) -> RequestTrace {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        match &self.0 {
            Some(export) => RequestTrace::begun(export.tracer.clone(), &parent, operation),
            None => RequestTrace::of_client(parent),
        }
    }

    /// Exports what is left, for so long at most.
    pub async fn finish(&self, limit: Duration) {
        let Some(Export { provider, .. }) = self.0.clone() else {
            return;
        };
        // It waits for the thread that exports.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        if let Ok(Err(error)) = flush.await {
            tracing::warn!("the last traces were not exported: {error}");
        }
    }
}

/// Where traces go: the setting, or what OpenTelemetry's own variables say.
fn endpoint(settings: &Settings, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let filled = |name| variable(name).filter(|value| !value.trim().is_empty());
    let of_all_signals = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
    if filled("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    if !settings.otlp_endpoint.is_empty() {
        return Some(of_all_signals(settings.otlp_endpoint.clone()));
    }
    filled("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| filled("OTEL_EXPORTER_OTLP_ENDPOINT").map(of_all_signals))
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, Reason> {
    let mut client = http_client::builder().timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("http://") {
        // Then the system needs no certificates.
        client = client.tls_certs_only([]);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client.build()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(Exporter::new(exporter, Handle::current()))
        .build())
}

/// What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say of this process, and its version.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&"service.name".into());
    let unnamed = name.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", VERSION);
    let resource = Resource::builder().with_attribute(version);
    match unnamed {
        true => resource.with_service_name(SERVICE).build(),
        false => resource.build(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoint_of(setting: &str, variables: &[(&str, &str)]) -> Option<String> {
        let flags = BTreeMap::from([("otlp_endpoint".to_owned(), setting.to_owned())]);
        let settings = Settings::load(None, [], flags).unwrap();
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        endpoint(&settings, |name| {
            variables.get(name).map(|v| (*v).to_owned())
        })
    }

    #[test]
    fn the_setting_comes_before_the_variables_of_opentelemetry() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own/path");
        let off = ("OTEL_SDK_DISABLED", "true");
        assert_eq!(endpoint_of("", &[]), None);
        for (setting, variables, expected) in [
            ("", &[base][..], "http://base:4318/v1/traces"),
            ("", &[base, traces], "http://own/path"),
            ("https://set", &[base, traces], "https://set/v1/traces"),
        ] {
            assert_eq!(endpoint_of(setting, variables).as_deref(), Some(expected));
        }
        assert_eq!(endpoint_of("https://set", &[base, off]), None);
    }
}
