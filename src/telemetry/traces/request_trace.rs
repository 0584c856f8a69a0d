//! A request's span and its children, by the conventions of OpenTelemetry for generative AI.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use axum::http::HeaderValue;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

/// Who generates, by the conventions' `gen_ai.provider.name`.
const PROVIDER: &str = env!("CARGO_PKG_NAME");

tokio::task_local! {
    static CURRENT: RequestTrace;
}

/// What a request is for.
#[derive(Debug, Clone)]
pub enum Operation {
    /// It uses the model.
    Inference {
        /// The conventions' word.
        name: &'static str,
        model: String,
    },
    /// Anything else, by its method and route.
    Other { method: &'static str, route: String },
}

impl Operation {
    fn span_name(&self) -> String {
        match self {
            Self::Inference { name, model } => format!("{name} {model}"),
            Self::Other { method, route } => format!("{method} {route}"),
        }
    }
}

/// A request's place in a trace. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    context: Context,
    /// None: nothing is recorded.
    recorder: Option<Recorder>,
}

#[derive(Debug, Clone)]
struct Recorder {
    tracer: SdkTracer,
    operation: Operation,
    /// The model's name in the request, if it has one.
    asked: Arc<OnceLock<String>>,
    /// Why a generation failed.
    failure: Arc<OnceLock<&'static str>>,
    /// The same moment by both clocks.
    begun: (Instant, SystemTime),
}

/// How a request ended.
#[derive(Debug)]
pub struct Ending {
    pub method: &'static str,
    pub route: String,
    /// None: the client left before there was an answer.
    pub status: Option<u16>,
    /// Whether the client left before it had the whole answer.
    pub cancelled: bool,
    /// None if the model was never asked.
    pub usage: Option<Usage>,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Of images and prompts.
    pub input: usize,
    /// Of answers.
    pub output: usize,
}

impl RequestTrace {
    /// A span that begins now, below `parent`.
    pub(super) fn begun(tracer: SdkTracer, parent: &Context, operation: Operation) -> Self {
        let begun = (Instant::now(), SystemTime::now());
        let span = SpanBuilder::from_name(operation.span_name())
            .with_kind(SpanKind::Server)
            .with_start_time(begun.1);
        let span = tracer.build_with_context(span, parent);
        Self {
            context: parent.with_span(span),
            recorder: Some(Recorder {
                tracer,
                operation,
                asked: Arc::default(),
                failure: Arc::default(),
                begun,
            }),
        }
    }

    /// No span, but the place that the client named.
    pub(super) fn of_client(context: Context) -> Self {
        Self {
            context,
            recorder: None,
        }
    }

    /// That of the request that this task works for; otherwise none.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Makes this the [`Self::current`] one for `work`.
    pub fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self.clone(), work)
    }

    /// The trace's id, for log lines.
    pub fn id(&self) -> Option<TraceId> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id())
    }

    /// The span's place for the answer's `traceresponse`, written as in `traceparent`.
    pub fn header(&self) -> Option<HeaderValue> {
        self.recorder.as_ref()?;
        let span = self.context.span();
        let context = span.span_context();
        let (trace, span) = (context.trace_id(), context.span_id());
        let flags = context.trace_flags().to_u8();
        HeaderValue::from_str(&format!("00-{trace}-{span}-{flags:02x}")).ok()
    }

    /// The request names the model so.
    pub fn asks_for(&self, model: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.asked.get_or_init(|| model.to_owned());
        }
    }

    /// Records a stage of the request's way that is over.
    pub fn stage(&self, name: &'static str, from: Instant, to: Instant) {
        if let Some(recorder) = &self.recorder {
            let span = SpanBuilder::from_name(name)
                .with_kind(SpanKind::Internal)
                .with_start_time(recorder.time(from));
            let mut span = recorder.tracer.build_with_context(span, &self.context);
            opentelemetry::trace::Span::end_with_timestamp(&mut span, recorder.time(to));
        }
    }

    /// A generation failed; `reason` is a word such as `deadline`.
    pub fn failed(&self, reason: &'static str) {
        if let Some(recorder) = &self.recorder {
            recorder.failure.get_or_init(|| reason);
        }
    }

    /// Ends the span.
    pub fn end(&self, ending: Ending) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        let span = self.context.span();
        span.set_attributes(recorder.attributes(&ending));
        if let Some(error) = recorder.error(&ending) {
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            span.set_status(Status::error(error));
        }
        if let Operation::Inference { name, .. } = recorder.operation
            && let Some(model) = recorder.asked.get()
        {
            span.update_name(format!("{name} {model}"));
        }
        span.end_with_timestamp(recorder.time(Instant::now()));
    }
}

impl Recorder {
    fn attributes(&self, ending: &Ending) -> Vec<KeyValue> {
        let mut attributes = vec![KeyValue::new("http.request.method", ending.method)];
        attributes.push(KeyValue::new("http.route", ending.route.clone()));
        if let Some(status) = ending.status {
            let status = i64::from(status);
            attributes.push(KeyValue::new("http.response.status_code", status));
        }
        let Operation::Inference { name, model } = &self.operation else {
            return attributes;
        };
        let asked = self.asked.get().unwrap_or(model).clone();
        attributes.extend([
            KeyValue::new("gen_ai.operation.name", *name),
            KeyValue::new("gen_ai.provider.name", PROVIDER),
            KeyValue::new("gen_ai.request.model", asked),
        ]);
        if let Some(Usage { input, output }) = ending.usage {
            attributes.extend([
                KeyValue::new("gen_ai.response.model", model.clone()),
                KeyValue::new("gen_ai.usage.input_tokens", count(input)),
                KeyValue::new("gen_ai.usage.output_tokens", count(output)),
            ]);
        }
        attributes
    }

    /// What `error.type` says: nothing of what is the client's fault.
    fn error(&self, ending: &Ending) -> Option<String> {
        if let Some(reason) = self.failure.get() {
            return Some((*reason).to_owned());
        }
        if ending.cancelled {
            return Some("cancelled".to_owned());
        }
        let status = ending.status.filter(|&status| status >= 500);
        status.map(|status| status.to_string())
    }

    /// The other clock's moment.
    fn time(&self, moment: Instant) -> SystemTime {
        let (instant, time) = self.begun;
        match moment.checked_duration_since(instant) {
            Some(after) => time + after,
            None => time - instant.duration_since(moment),
        }
    }
}

fn count(tokens: usize) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
