//! Answers that several places give: refusals as JSON with a stable code, and bodies read within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;

use super::room::Room;
use crate::events::store::StoreError;

/// How long a request's body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, so that the client gets to read its refusal: a
/// connection closed over unread data is reset, and the answer lost with it.
const DISCARD: usize = 16 << 20;

/// Why a request is not served: what happened, in a sentence, and a code that programs may rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// Lower case with underscores; it stays the same over versions.
    pub code: &'static str,
    /// For a person.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Something that should not happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<StoreError> for Refusal {
    /// Nothing the store refuses is the client's fault, and all of it may pass.
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({"success": false, "error": self.message, "code": self.code});
        let mut response = json(self.status, &body);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON answer. Never cached: all of it is about this moment.
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(status, body),
        Err(error) => Refusal::internal(format!("the answer cannot be encoded: {error}")).into_response(),
    }
}

/// JSON that is encoded already.
pub fn json_bytes(status: StatusCode, body: impl Into<Body>) -> Response {
    uncached(status, "application/json; charset=utf-8", body)
}

/// An answer of that type which nobody keeps.
pub fn uncached(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text that the program carries. It is asked for again each time, so that an upgrade shows at once, and answered with 304
/// as long as nothing changed.
pub fn carried(request: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    // Changes with the build, and so with the text.
    const TAG: &str = concat!("\"", env!("MPM_MONITOR_BUILD_ID"), "\"");
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, TAG)];
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known == TAG) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, text).into_response()
}

/// A request's whole body, of at most `limit` bytes, whether its length was announced or not.
///
/// # Errors
/// 413 `body_too_large`, 415 `unsupported_encoding`, 408 `body_timeout`, 400 `body_broken`, 503 `too_many_bodies`.
pub async fn read_body<B>(headers: &HeaderMap, body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        let message = "send the body without a Content-Encoding";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
    }
    match tokio::time::timeout(BODY_DEADLINE, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
        }
    }
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (mut first, mut rest, mut size) = (Bytes::new(), Vec::new(), 0_usize);
    let (mut room, mut crowded) = (Room::default(), false);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, "body_broken", format!("the body broke off: {e}")))?;
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
            crowded = !room.grow_for_body(size.max(rest.capacity()));
        }
        if size > limit || crowded {
            (first, rest, room) = (Bytes::new(), Vec::new(), Room::default());
            if size > DISCARD.max(limit) {
                break;
            }
        }
    }
    if size > limit {
        let message = format!("the body is larger than {limit} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
    }
    if crowded {
        let message = "other large bodies take all the memory that there is for them; try again";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_bodies", message));
    }
    rest.shrink_to_fit();
    Ok(if rest.is_empty() { room.held_by(first) } else { room.held_by(rest) })
}

#[cfg(test)]
mod tests {
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

    fn chunked(chunks: Vec<&'static [u8]>) -> Body {
        Body::new(Pieces(chunks.into_iter()))
    }

    #[tokio::test]
    async fn pieces_are_joined_and_the_limit_holds_without_an_announced_length() {
        assert_eq!(collect(chunked(vec![]), 4).await.unwrap(), "");
        assert_eq!(collect(chunked(vec![b"abcd"]), 4).await.unwrap(), "abcd");
        assert_eq!(collect(chunked(vec![b"a", b"", b"bc", b"d"]), 4).await.unwrap(), "abcd");
        assert_eq!(collect(chunked(vec![b"ab", b"cde"]), 4).await.unwrap_err().code, "body_too_large");
    }
}
