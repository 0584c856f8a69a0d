//! API keys: `Authorization: Bearer …` on the routes under `/v1`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::settings::Settings;

use crate::api::error::{ApiError, ErrorCode};

/// Lets a request through if it carries one of the keys, or if no keys are set.
pub async fn require_key(
    State(settings): State<Arc<Settings>>,
    request: Request,
    next: Next,
) -> Response {
    if settings.api_keys.is_empty() {
        return next.run(request).await;
    }
    let keys = settings.api_keys.iter().map(|key| key.expose());
    match check(request.headers(), keys) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check<'a>(headers: &HeaderMap, keys: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    let refused = |detail| Err(ApiError::new(ErrorCode::Unauthorized, detail));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refused("this server needs a key: send `Authorization: Bearer KEY`");
    };
    let bytes = value.as_bytes();
    let Some((scheme, token)) = bytes.split_at_checked("Bearer ".len()) else {
        return refused("the Authorization header is not `Bearer KEY`");
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return refused("the Authorization header is not `Bearer KEY`");
    }
    // Hashes have equal length and are compared in constant time, so the response time reveals
    // nothing about a key, not even its length. Every key is compared, even after a match.
    let sent = blake3::hash(token.trim_ascii());
    let known = keys.fold(false, |known, key| {
        (blake3::hash(key.as_bytes()) == sent) | known
    });
    match known {
        true => Ok(()),
        false => refused("the key is not one of this server's"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed(authorization: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        check(&headers, ["first", "second"].into_iter()).is_ok()
    }

    #[test]
    fn only_the_listed_keys_are_accepted() {
        assert!(allowed(Some("Bearer first")));
        assert!(allowed(Some("bearer second")));
        for other in [
            "Bearer third",
            "Bearer firs",
            "Bearer ",
            "Bearer",
            "Basic first",
            "first",
        ] {
            assert!(!allowed(Some(other)), "{other}");
        }
        assert!(!allowed(None));
    }
}
