//! Reads on after an early answer.
//!
//! When a request is refused before its body was read (no key, too large, still loading), a server
//! that closes at once resets the connection, and a client that is busy sending a photo sees a
//! broken pipe instead of the answer. So the rest is read and thrown away for a while, as web
//! servers do ("lingering close").

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;

/// How long, and how many bytes, the rest of a refused body is read.
const TIME: Duration = Duration::from_secs(10);
const BYTES: usize = 256 << 20;

/// Lets a client read its answer even if its body is never read by a handler.
pub async fn lingering_close(request: Request, next: Next) -> Response {
    // A client that sends `Expect: 100-continue` waits; reading would tell it to send.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let request = request.map(|body| {
        Body::from_stream(LingeringBody {
            rest: Some(body.into_data_stream()),
        })
    });
    next.run(request).await
}

struct LingeringBody {
    /// None at the end.
    rest: Option<BodyDataStream>,
}

impl Stream for LingeringBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = self.rest.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = rest.poll_next_unpin(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.rest = None;
        }
        polled
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        // Without a runtime the server is gone, and its connections with it.
        if let (Some(rest), Ok(runtime)) = (self.rest.take(), Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(TIME, discard(rest)));
        }
    }
}

async fn discard(mut rest: BodyDataStream) {
    let mut seen = 0;
    while let Some(Ok(chunk)) = rest.next().await {
        seen += chunk.len();
        if seen > BYTES {
            return;
        }
    }
}
