//! Bounds what one question to the server may bring in.
//!
//! The library reads an answer whole, however large, and whoever is at the other end decides how large that is: a line without
//! an end, a string of half a gigabyte, a million empty lists, each of which takes many times its bytes once it is read. So
//! each question gets an allowance of bytes, which stands between the socket and the library.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a line counts for besides its bytes: about the most memory that the value in it takes. Payloads have no line breaks.
const VALUE: usize = 512;
/// The most bytes read before others have a turn.
const TURN: usize = 64 << 10;

/// What is left of the allowance of a question.
#[derive(Debug)]
pub(super) struct Allowance {
    each: usize,
    left: AtomicUsize,
    exceeded: AtomicBool,
}

impl Allowance {
    /// So many bytes for each question.
    pub fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { each, left: AtomicUsize::new(each), exceeded: AtomicBool::new(false) })
    }

    /// A question is asked.
    pub fn begin(&self) {
        self.left.store(self.each, Ordering::Relaxed);
    }

    /// The most bytes of an answer, if one was larger.
    pub fn exceeded(&self) -> Option<usize> {
        self.exceeded.load(Ordering::Relaxed).then_some(self.each)
    }

    /// Takes these bytes from it; false if it is used up.
    fn pay(&self, bytes: &[u8]) -> bool {
        // What looks for the end of a line stops at each of these, too.
        let lines = memchr::memchr2_iter(b'\n', b'\r', bytes).count().div_ceil(2);
        let price = bytes.len() + lines * VALUE;
        let left = self.left.load(Ordering::Relaxed).checked_sub(price);
        self.left.store(left.unwrap_or(0), Ordering::Relaxed);
        self.exceeded.store(left.is_none(), Ordering::Relaxed);
        left.is_some()
    }
}

/// A connection whose answers are bounded.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    allowance: Arc<Allowance>,
    /// Bytes read in this turn of the task that reads.
    turn: usize,
}

impl<S> Metered<S> {
    pub fn new(stream: S, allowance: Arc<Allowance>) -> Self {
        Self { stream, allowance, turn: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buffer.remaining().min(TURN - self.turn);
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut piece);
        if read.is_pending() {
            self.turn = 0;
        }
        ready!(read)?;
        let bytes = piece.filled();
        if !self.allowance.pay(bytes) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too large")));
        }
        let count = bytes.len();
        self.turn += count;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(answer: &[u8], allowance: &Arc<Allowance>) -> io::Result<usize> {
        let mut all = Vec::new();
        Metered::new(answer, Arc::clone(allowance)).read_to_end(&mut all).await
    }

    #[tokio::test]
    async fn each_question_has_an_allowance_of_its_own() {
        let allowance = Allowance::new(200_000);
        assert_eq!(read(&[b'x'; 150_000], &allowance).await.unwrap(), 150_000);
        allowance.begin();
        assert_eq!(read(&[b'x'; 150_000], &allowance).await.unwrap(), 150_000);
        assert_eq!(allowance.exceeded(), None);
        assert!(read(&[b'x'; 150_000], &allowance).await.is_err());
        assert_eq!(allowance.exceeded(), Some(200_000));
    }

    #[tokio::test]
    async fn a_small_value_counts_for_what_it_takes() {
        let values = b"*1\r\n_\r\n".repeat(1000);
        assert!(read(&values, &Allowance::new(600_000)).await.is_err());
        assert!(read(&values, &Allowance::new(1_100_000)).await.is_ok());
    }
}
