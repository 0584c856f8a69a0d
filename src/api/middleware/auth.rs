//! API keys: `Authorization: Bearer KEY`, or `x-api-key: KEY`. Label Studio can send neither, so that
//! its routes take the key as the password of Basic authentication, too.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::guarded_body::GuardedBody;
use crate::api::keys::Keys;
use crate::api::platforms::label_studio;
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
    let basic = request.uri().path().starts_with(label_studio::PREFIX);
    let token = token(request.headers(), basic);
    let turn = match token.and_then(|token| keys.turn(&token)) {
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

/// The key that was sent; with `basic`, it may be a password.
fn token(headers: &HeaderMap, basic: bool) -> Result<Cow<'_, [u8]>, ApiError> {
    let refused = |detail| Err(ApiError::new(ErrorCode::Unauthorized, detail));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return match headers.get(X_API_KEY) {
            Some(key) => Ok(key.as_bytes().trim_ascii().into()),
            None => refused(
                "this server needs a key: send `Authorization: Bearer KEY` or `x-api-key: KEY`",
            ),
        };
    };
    let value = value.as_bytes();
    if let Some(token) = after_scheme(value, b"Bearer ") {
        return Ok(token.into());
    }
    match basic {
        true => match after_scheme(value, b"Basic ").and_then(password) {
            Some(password) => Ok(password.into()),
            None => refused(
                "the Authorization header is neither `Bearer KEY` nor Basic with the key as the password",
            ),
        },
        false => refused("the Authorization header is not `Bearer KEY`"),
    }
}

/// What follows `scheme`, in any case of letters.
fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

/// The password in `user:password`, which is sent in base64 (RFC 7617).
fn password(credentials: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = BASE64_STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded.split_off(colon + 1))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn sent(name: &HeaderName, value: &str) -> Option<String> {
        sent_to(false, name, value)
    }

    fn sent_to(basic: bool, name: &HeaderName, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        let token = token(&headers, basic).ok()?;
        Some(String::from_utf8(token.to_vec()).unwrap())
    }

    #[test]
    fn the_key_is_a_password_where_that_is_allowed() {
        let name = header::AUTHORIZATION;
        let header = |credentials: &str| format!("basic {}", BASE64_STANDARD.encode(credentials));
        for (credentials, key) in [
            ("label-studio:secret", Some("secret")),
            (":a:b", Some("a:b")),
            ("secret", None),
        ] {
            let value = header(credentials);
            assert_eq!(
                sent_to(true, &name, &value).as_deref(),
                key,
                "{credentials}"
            );
            assert_eq!(sent(&name, &value), None);
        }
        assert_eq!(sent_to(true, &name, "Basic !"), None);
        assert_eq!(sent_to(true, &name, "Bearer key").as_deref(), Some("key"));
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
        assert!(token(&HeaderMap::new(), true).is_err());
    }
}
