//! Answers that several places give: refusals as JSON with a stable code, and bodies read within bounds.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::room::Room;
use crate::events::store::StoreError;
use socketio::body::{self, BodyError};
use socketio::memory::{Memory, Share};
use socketio::polling::Refused;

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

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooManyClients => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_clients",
                "as many clients as `max_clients` allows are connected; close one, or raise the setting",
            ),
            Refused::Body(error) => error.into(),
            Refused::Internal(message) => Self::internal(message),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message),
            BodyError::Encoded => Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message),
            BodyError::Timeout => Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message),
            BodyError::Broken(_) => Refusal::new(StatusCode::BAD_REQUEST, "body_broken", message),
            BodyError::Crowded => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_bodies", message),
        }
    }
}

/// The memory that all large bodies and messages share, see [`room`](super::room).
#[derive(Debug, Clone, Copy)]
pub struct Bodies;

impl Memory for Bodies {
    fn share(&self) -> Box<dyn Share> {
        Box::new(Room::default())
    }

    fn trim(&self) {
        daemon::sys::give_back_memory();
    }
}

impl Share for Room {
    fn grow_to(&mut self, bytes: usize) -> bool {
        self.grow_for_body(bytes)
    }

    fn shrink_to(&mut self, bytes: usize) {
        Room::shrink_to(self, bytes);
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
    static MEMORY: LazyLock<Arc<dyn Memory>> = LazyLock::new(|| Arc::new(Bodies));
    body::read(headers, body, limit, &MEMORY).await.map_err(Refusal::from)
}
