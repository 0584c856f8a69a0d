//! What operators see of a request: its id, a span for its log lines, one line when it ends, metrics.

use std::time::Instant;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use tracing::{Instrument, Span};

use crate::api::request_id::{HEADER, RequestId};
use crate::telemetry::metrics;

/// The route label of requests that match no route: their paths would make endless metric series.
const NO_ROUTE: &str = "none";
/// The status that nginx logs for a client that left before its answer.
pub const CLIENT_LEFT: u16 = 499;
/// Routes that probes and scrapers call every few seconds; logged at debug level.
const QUIET: [&str; 2] = ["/health", "/metrics"];

/// The outermost layer.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::from_headers(request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str)
        .to_owned();
    // An error span: the id has to be on warnings even if nothing else is logged.
    let span = tracing::error_span!("request", request_id = %id);
    let mut exchange = Exchange {
        method: known_method(request.method()),
        route,
        span: span.clone(),
        begun: Instant::now(),
        status: None,
        ended: false,
    };
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(HEADER, id.header_value());
    exchange.status = Some(response.status());
    if response.body().size_hint().exact().is_some() {
        exchange.ended = true;
        return response;
    }
    response.map(|body| Body::from_stream(exchange.follow(body.into_data_stream())))
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
    begun: Instant,
    /// None until there is an answer.
    status: Option<StatusCode>,
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
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        let duration = self.begun.elapsed();
        metrics::http_request(self.method, &self.route, status, duration);
        let _entered = self.span.enter();
        let (method, route, left) = (self.method, self.route.as_str(), !self.ended);
        // To a tenth: more digits are noise to readers.
        let ms = (duration.as_secs_f64() * 1e4).round() / 10.0;
        if QUIET.iter().any(|prefix| route.starts_with(prefix)) {
            tracing::debug!(method, route, status, ms, left, "request");
        } else {
            tracing::info!(method, route, status, ms, left, "request");
        }
    }
}
