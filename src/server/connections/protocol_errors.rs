//! What hyper refuses by itself, before there is a request: with a body that says what was wrong.
//!
//! hyper answers a head that it can't read with a bare status. There is no way to add to that, so this
//! stands between it and the socket, and replaces such an answer. All answers of ours carry a request
//! id, by which they are told apart.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::api::protocol_problem;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A socket whose bare refusals become problem documents.
pub struct ProtocolErrors<S> {
    socket: S,
    /// What goes out in place of a bare refusal, and how much of it has.
    replacement: Option<(Vec<u8>, usize)>,
}

impl<S> ProtocolErrors<S> {
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            replacement: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> ProtocolErrors<S> {
    /// Writes the replacement of `bytes` if they are a bare refusal; `None` if they are not.
    fn poll_replaced(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.replacement.is_none() {
            self.replacement = Some((protocol_problem(bare_refusal(bytes)?), 0));
        }
        let (replacement, written) = self.replacement.as_mut()?;
        while *written < replacement.len() {
            match Pin::new(&mut self.socket).poll_write(context, &replacement[*written..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Ok(0))),
                Poll::Ready(Ok(more)) => *written += more,
                other => return Some(other),
            }
        }
        self.replacement = None;
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

/// The status of a refusal without a body and a request id.
fn bare_refusal(bytes: &[u8]) -> Option<u16> {
    let status = bytes.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let head = bytes.strip_suffix(END_OF_HEAD)?;
    let has = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    if has(b"x-request-id") || has(END_OF_HEAD) {
        return None;
    }
    let status: u16 = str::from_utf8(status).ok()?.parse().ok()?;
    Some(400 + status)
}

impl<S: AsyncRead + Unpin> AsyncRead for ProtocolErrors<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProtocolErrors<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_replaced(context, bytes) {
            Some(written) => written,
            None => Pin::new(&mut self.socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = parts
            && let Some(written) = self.poll_replaced(context, only)
        {
            return Poll::Ready(ready!(written));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(bare_refusal(bare), Some(431));
        for ours in [
            &b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
            b"data: HTTP/1.1 400\r\n\r\n",
            b"",
        ] {
            assert_eq!(bare_refusal(ours), None);
        }
    }
}
