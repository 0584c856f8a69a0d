//! What operators see of a request: its id, a span for its log lines, one line when it ends, metrics, its trace.

use std::time::Instant;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, Method};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use crate::api::request_id::{HEADER, RequestId};
use crate::api::request_usage::RequestUsage;
use crate::api::state::AppState;
use crate::telemetry::metrics;
use crate::telemetry::traces::{Ending, Operation, RequestTrace, Usage};

/// Tells a client which span its request became, written as `traceparent` is.
pub const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The route of requests that match none: their paths would make endless metric series.
const NO_ROUTE: &str = "none";
/// Where the API's routes begin.
const API: &str = "/v1/";
/// The status label of a request whose client left before there was an answer; nginx logs it so.
const CLIENT_LEFT: u16 = 499;

/// An extension of responses that are a page's file: the page's route, by which they are counted.
#[derive(Debug, Clone, Copy)]
pub struct FileOf(pub &'static str);

/// The outermost layer.
pub async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = RequestId::from_headers(request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str)
        .to_owned();
    let method = known_method(request.method());
    let trace = match route.starts_with(API) {
        true => state
            .traces
            .begin(request.headers(), operation(method, &route, &state)),
        false => RequestTrace::default(),
    };
    // An error span: the id has to be on warnings even if nothing else is logged.
    let span = tracing::error_span!("request", request_id = %id, trace_id = Empty);
    if let Some(trace) = trace.id() {
        span.record("trace_id", display(trace));
    }
    let mut exchange = Exchange {
        method,
        route,
        span: span.clone(),
        trace: trace.clone(),
        begun: Instant::now(),
        usage: RequestUsage::default(),
        status: None,
        page: None,
        ended: false,
    };
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(exchange.usage.clone());
    let mut response = trace.within(next.run(request)).instrument(span).await;
    response.headers_mut().insert(HEADER, id.header_value());
    if let Some(place) = trace.header() {
        response.headers_mut().insert(TRACE_RESPONSE, place);
    }
    exchange.status = Some(response.status().as_u16());
    exchange.page = response.extensions().get().map(|FileOf(page)| *page);
    if response.body().size_hint().exact().is_some() {
        exchange.ended = true;
        return response;
    }
    response.map(|body| Body::from_stream(exchange.follow(body.into_data_stream())))
}

/// What the request's span is named after.
fn operation(method: &'static str, route: &str, state: &AppState) -> Operation {
    let name = match (method, route) {
        ("POST", "/v1/chat/completions") => "chat",
        ("POST", "/v1/completions") => "text_completion",
        ("POST", _) => "generate_content",
        (_, route) => {
            let route = route.to_owned();
            return Operation::Other { method, route };
        }
    };
    let model = state.model.name.clone();
    Operation::Inference { name, model }
}

/// Clients may send any word as the method, and each would be a metric series of its own.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// One request and its answer; reported when dropped, so a client that leaves is reported too.
struct Exchange {
    method: &'static str,
    route: String,
    span: Span,
    trace: RequestTrace,
    begun: Instant,
    usage: RequestUsage,
    /// None until there is an answer.
    status: Option<u16>,
    /// The page whose file was sent.
    page: Option<&'static str>,
    /// Whether the whole answer was sent.
    ended: bool,
}

impl Exchange {
    /// Passes a streamed body on, and ends with it.
    fn follow(self, body: BodyDataStream) -> impl Stream<Item = <BodyDataStream as Stream>::Item> {
        let mut exchange = self;
        let mut body = body;
        async_stream::stream! {
            while let Some(chunk) = body.next().await {
                yield chunk;
            }
            exchange.ended = true;
            drop(exchange);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (method, status, cancelled) = (self.method, self.status, !self.ended);
        let duration = self.begun.elapsed();
        metrics::http_request(
            method,
            self.page.unwrap_or(&self.route),
            status.unwrap_or(CLIENT_LEFT),
            duration,
        );
        let tokens = self.usage.total();
        self.trace.end(Ending {
            method,
            route: self.route.clone(),
            status,
            cancelled,
            usage: tokens.map(|tokens| Usage {
                input: tokens.image_tokens + tokens.prompt_tokens,
                output: tokens.completion_tokens,
            }),
        });
        let _entered = self.span.enter();
        let route = self.route.as_str();
        // To a tenth: more digits are noise to readers.
        let ms = (duration.as_secs_f64() * 1e4).round() / 10.0;
        // Under an overload, a line for each refusal would cost more than the refusal.
        if !is_of_the_api(route) || status == Some(429) {
            tracing::debug!(method, route, status, ms, cancelled, "request");
            return;
        }
        tracing::info!(
            method,
            route,
            status,
            ms,
            cancelled,
            image_tokens = tokens.map(|tokens| tokens.image_tokens),
            prompt_tokens = tokens.map(|tokens| tokens.prompt_tokens),
            completion_tokens = tokens.map(|tokens| tokens.completion_tokens),
            "request"
        );
    }
}

/// Not so the files of pages, and what probes and scrapers ask for every few seconds.
fn is_of_the_api(route: &str) -> bool {
    route == NO_ROUTE || route.starts_with(API)
}
