//! What a server answered.

use std::time::Duration;

use bytes::Bytes;
use paligemma_server::api::{ErrorCode, RETRY_AFTER_MS};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

/// Longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// A whole answer.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
    /// The server's id of the request.
    pub request_id: Option<String>,
    /// How long to wait before the next request.
    pub retry_after: Option<Duration>,
}

/// What is read of a problem document, or of an error of OpenAI's protocol.
#[derive(Debug, Default, Deserialize)]
pub struct Problem {
    #[serde(default)]
    pub code: String,
    #[serde(default, alias = "message")]
    pub detail: String,
    #[serde(default)]
    status: u16,
}

#[derive(Deserialize)]
struct OpenAiError {
    error: Problem,
}

impl Reply {
    /// Reads an answer to its end. A stream that ends with an error is an answer with that error's
    /// status.
    ///
    /// # Errors
    /// When the connection ends early.
    pub async fn read(response: Response) -> reqwest::Result<Self> {
        let headers = response.headers();
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let is_stream = text(CONTENT_TYPE.as_str())
            .is_some_and(|content| content.starts_with("text/event-stream"));
        let reply = Self {
            status: response.status(),
            request_id: text("x-request-id"),
            retry_after: retry_after(headers),
            body: Bytes::new(),
        };
        let body = response.bytes().await?;
        let reply = Self { body, ..reply };
        Ok(match is_stream {
            true => reply.of_stream(),
            false => reply,
        })
    }

    fn of_stream(self) -> Self {
        let failed = |status, body: &str| Self {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Self::default()
        };
        let text = String::from_utf8_lossy(&self.body);
        match events(&text).last() {
            Some(("done", _)) => self,
            Some(("error", problem)) => {
                let status = serde_json::from_str(problem).map(|problem: Problem| problem.status);
                let status = StatusCode::from_u16(status.unwrap_or_default());
                failed(status.unwrap_or(StatusCode::BAD_GATEWAY), problem)
            }
            _ => failed(StatusCode::BAD_GATEWAY, "the stream has no end"),
        }
    }

    /// What it says is wrong.
    pub fn problem(&self) -> Problem {
        let of_openai = serde_json::from_slice(&self.body).map(|it: OpenAiError| it.error);
        of_openai
            .or_else(|_| serde_json::from_slice(&self.body))
            .unwrap_or_default()
    }

    /// The same in words.
    pub fn reason(&self) -> String {
        match self.problem().detail {
            detail if detail.is_empty() => format!("it answers {}", self.status),
            detail => detail,
        }
    }

    /// Whether it is an error with this code.
    pub fn is(&self, code: ErrorCode) -> bool {
        let name = serde_json::to_value(code).unwrap_or_default();
        self.status == code.status() && name == self.problem().code.as_str()
    }
}

/// Server-sent events: name and data.
pub fn events(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("\n\n").filter_map(|event| {
        let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
        Some((field("event: ")?, field("data: ")?))
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |value: &reqwest::header::HeaderValue| value.to_str().ok()?.trim().parse().ok();
    let millis = headers.get(RETRY_AFTER_MS).and_then(number);
    let seconds = || headers.get(RETRY_AFTER).and_then(number);
    let wait = millis
        .map(Duration::from_millis)
        .or_else(|| seconds().map(Duration::from_secs));
    wait.map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &'static str) -> Reply {
        let reply = Reply {
            status: StatusCode::OK,
            body: Bytes::from_static(text.as_bytes()),
            ..Reply::default()
        };
        reply.of_stream()
    }

    #[test]
    fn a_stream_is_whole_only_with_its_last_event() {
        let whole = ": wait\n\nevent: delta\ndata: {\"text\":\"a\"}\n\nevent: done\ndata: {}\n\n";
        assert_eq!(stream(whole).status, StatusCode::OK);
        let read: Vec<_> = events(whole).collect();
        assert_eq!(read, [("delta", "{\"text\":\"a\"}"), ("done", "{}")]);
        let cut = stream("event: delta\ndata: {}\n\n");
        assert_eq!(cut.status, StatusCode::BAD_GATEWAY);
        let failed = stream(
            "event: delta\ndata: {}\n\nevent: error\ndata: {\"code\":\"shutting_down\",\"status\":503,\"detail\":\"soon\"}\n\n",
        );
        assert!(failed.is(ErrorCode::ShuttingDown) && failed.reason() == "soon");
    }

    #[test]
    fn the_wait_is_read_in_milliseconds_or_seconds() {
        let wait = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let name = reqwest::header::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            });
            retry_after(&pairs.collect())
        };
        assert_eq!(wait(&[]), None);
        let both = [("retry-after", "1"), ("retry-after-ms", "40")];
        assert_eq!(wait(&both), Some(Duration::from_millis(40)));
        assert_eq!(wait(&both[..1]), Some(Duration::from_secs(1)));
        assert_eq!(wait(&[("retry-after", "99999")]), Some(LONGEST_WAIT));
    }
}
