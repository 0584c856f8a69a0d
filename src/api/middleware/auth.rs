//! API keys: `Authorization: Bearer KEY`, or `x-api-key: KEY`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::guarded_body::GuardedBody;
use crate::api::keys::Keys;
use crate::api::state::AppState;
use crate::settings::KeyedPage;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// An extension of requests that came with a key: its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName(pub Arc<str>);

/// Lets a request through if it carries one of the keys, or if none are needed. It counts against
/// the key's limits until its answer has been sent.
pub async fn require_key(State(keys): State<Keys>, mut request: Request, next: Next) -> Response {
    if !keys.are_needed() {
        return next.run(request).await;
    }
    let turn = match token(request.headers()).and_then(|token| keys.turn(token)) {
        Ok(turn) => turn,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(KeyName(turn.name.clone()));
    let response = next.run(request).await;
    response.map(|body| Body::new(GuardedBody::new(body, turn)))
}

/// [`require_key`] for the pages that the settings close.
pub async fn require_key_for_pages(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let page = match path {
        "/metrics" => Some(KeyedPage::Metrics),
        "/openapi.yaml" | "/openapi.json" => Some(KeyedPage::Docs),
        _ if path.starts_with("/docs") => Some(KeyedPage::Docs),
        _ => None,
    };
    match page {
        Some(page) if state.settings.keyed_pages.contains(&page) => {
            require_key(State(state.keys), request, next).await
        }
        _ => next.run(request).await,
    }
}

/// The key that was sent.
fn token(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let refused = |detail| Err(ApiError::new(ErrorCode::Unauthorized, detail));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return match headers.get(X_API_KEY) {
            Some(key) => Ok(key.as_bytes().trim_ascii()),
            None => refused(
                "this server needs a key: send `Authorization: Bearer KEY` or `x-api-key: KEY`",
            ),
        };
    };
    match value.as_bytes().split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
        _ => refused("the Authorization header is not `Bearer KEY`"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn sent(name: &HeaderName, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        let token = token(&headers).ok()?;
        Some(String::from_utf8(token.to_vec()).unwrap())
    }

    #[test]
    fn the_key_is_read_from_either_header() {
        let name = header::AUTHORIZATION;
        assert_eq!(sent(&name, "Bearer first").as_deref(), Some("first"));
        assert_eq!(sent(&name, "bearer second ").as_deref(), Some("second"));
        assert_eq!(sent(&X_API_KEY, "third").as_deref(), Some("third"));
        for other in ["Bearer", "Basic first", "first", ""] {
            assert_eq!(sent(&name, other), None, "{other}");
        }
        assert!(token(&HeaderMap::new()).is_err());
    }
}
