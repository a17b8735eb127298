//! A request's body, read within bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::memory::{Hold, Memory};

/// How long a request's body may take to arrive.
pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, so that the client gets to read its refusal: a
/// connection closed over unread data is reset, and the answer lost with it.
const DISCARD: usize = 16 << 20;

/// Why a body is not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than this.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It is compressed.
    #[error("send the body without a Content-Encoding")]
    Encoded,
    /// It did not arrive within [`BODY_DEADLINE`].
    #[error("the body did not arrive within {} s", BODY_DEADLINE.as_secs())]
    Timeout,
    /// It ended too early.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// There is no memory left for it.
    #[error("other large bodies take all the memory that there is for them; try again")]
    Crowded,
}

impl BodyError {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A request's whole body, of at most `limit` bytes, whether its length was announced or not.
///
/// # Errors
/// See [`BodyError`].
pub async fn read<B>(headers: &HeaderMap, body: B, limit: usize, memory: &Arc<dyn Memory>) -> Result<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(BodyError::Encoded);
    }
    match tokio::time::timeout(BODY_DEADLINE, collect(body, limit, memory)).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::Timeout),
    }
}

async fn collect<B>(mut body: B, limit: usize, memory: &Arc<dyn Memory>) -> Result<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let (mut first, mut rest, mut size) = (Bytes::new(), Vec::new(), 0_usize);
    let (mut hold, mut crowded) = (Hold::new(memory), false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| BodyError::Broken(e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size <= limit && !crowded {
            if size == data.len() {
                // Most bodies are one piece, and then nothing is copied.
                first = data;
            } else {
                if rest.is_empty() {
                    // The piece keeps the buffer alive that it was read into.
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                if rest.capacity() - rest.len() < data.len() {
                    // By a quarter, not to twice as much, for what is held is the buffer.
                    rest.reserve_exact(data.len().max(rest.len() / 4));
                }
                rest.extend_from_slice(&data);
            }
            crowded = !hold.grow_to(size.max(rest.capacity()));
        }
        if size > limit || crowded {
            (first, rest) = (Bytes::new(), Vec::new());
            hold.clear();
            if size > DISCARD.max(limit) {
                break;
            }
        }
    }
    if size > limit {
        return Err(BodyError::TooLarge(limit));
    }
    if crowded {
        return Err(BodyError::Crowded);
    }
    rest.shrink_to_fit();
    Ok(if rest.is_empty() { hold.held_by(first) } else { hold.held_by(rest) })
}

#[cfg(test)]
mod tests {
    use super::super::memory::Unlimited;
    use super::*;
    use hyper::body::Frame;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A body whose pieces come one by one, without an announced length.
    struct Pieces(std::vec::IntoIter<&'static [u8]>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }

    async fn read(chunks: Vec<&'static [u8]>) -> Result<Bytes, BodyError> {
        let memory: Arc<dyn Memory> = Arc::new(Unlimited);
        collect(Pieces(chunks.into_iter()), 4, &memory).await
    }

    #[tokio::test]
    async fn pieces_are_joined_and_the_limit_holds_without_an_announced_length() {
        assert_eq!(read(vec![]).await.unwrap(), "");
        assert_eq!(read(vec![b"abcd"]).await.unwrap(), "abcd");
        assert_eq!(read(vec![b"a", b"", b"bc", b"d"]).await.unwrap(), "abcd");
        assert_eq!(read(vec![b"ab", b"cde"]).await.unwrap_err(), BodyError::TooLarge(4));
    }
}
