//! A request's id: in `x-request-id`, in every problem document and on every log line.

use std::fmt;
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const MAX_BYTES: usize = 128;

/// A request's id: the client's own if it is well formed, else a new one.
#[derive(Debug, Clone)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id that the client sent if it is 1 to 128 printable ASCII characters, else a new UUID.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
        match sent {
            Some(id) if is_sane(id) => Self(id.into()),
            _ => Self(Uuid::new_v4().to_string().into()),
        }
    }

    /// The id that the outermost layer has put into the extensions.
    pub fn of(extensions: &Extensions) -> Self {
        let id = extensions.get::<RequestId>().cloned();
        id.unwrap_or_else(|| Self::from_headers(&HeaderMap::new()))
    }

    pub fn header_value(&self) -> HeaderValue {
        // Checked or made by `from_headers`: printable ASCII is always a valid header value.
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("invalid"))
    }
}

fn is_sane(id: &str) -> bool {
    (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(sent).unwrap());
        RequestId::from_headers(&headers).to_string()
    }

    #[test]
    fn a_sane_id_is_kept() {
        assert_eq!(id_for(b"trace-17"), "trace-17");
    }

    #[test]
    fn long_and_unprintable_ids_are_replaced() {
        for sent in [&b""[..], b"a b", b"caf\xe9", &[b'x'; MAX_BYTES + 1]] {
            assert!(Uuid::parse_str(&id_for(sent)).is_ok());
        }
    }
}
