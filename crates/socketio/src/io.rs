//! A client's connection as hyper sees it: the bare socket, plus a deadline for writes that make no progress.
//!
//! hyper times a request's head, not the response: a client that stops reading would hold its connection for ever. The
//! deadline's timer exists only while a write is blocked.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::time::{Sleep, sleep};

use super::connection::{Connection, WRITE_DEADLINE};
use super::stream::Stream;

/// See the module.
pub struct ClientIo {
    stream: Option<TokioIo<Stream>>,
    connection: Arc<Connection>,
    blocked: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    /// Wraps an accepted socket.
    pub fn new(stream: Stream, connection: Arc<Connection>) -> Self {
        Self { stream: Some(TokioIo::new(stream)), connection, blocked: None }
    }

    /// The bare socket, for a protocol that looks after itself.
    pub fn into_stream(mut self) -> Option<Stream> {
        self.stream.take().map(TokioIo::into_inner)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TokioIo<Stream>>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn timed(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.blocked = None;
            return result;
        }
        let timer = self.blocked.get_or_insert_with(|| Box::pin(sleep(WRITE_DEADLINE)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.connection.stall();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write(cx, buf);
        self.timed(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write_vectored(cx, bufs);
        self.timed(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream
            && (self.connection.has_stalled() || self.connection.is_cut())
        {
            stream.inner().reset_on_close();
        }
    }
}

impl fmt::Debug for ClientIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIo").field("blocked", &self.blocked.is_some()).finish_non_exhaustive()
    }
}
