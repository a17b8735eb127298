//! What a request is answered with.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::body::BodyError;

/// An answer of this layer: all of it is there when it begins.
pub type Answer = Response<Full<Bytes>>;

/// Why a request is not answered for reasons that the protocol has no words for; the application has its own, or takes
/// [`Refused::into_answer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are as many sessions as there may be.
    #[error("as many clients as may be are connected")]
    TooManyClients,
    /// The request's body is not taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Something that should not happen.
    #[error("{0}")]
    Internal(String),
}

impl Refused {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooManyClients => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(error) => error.status(),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// An answer in the form of the protocol's own errors.
    pub fn into_answer(self) -> Answer {
        text(self.status(), serde_json::Value::from(self.to_string()).to_string())
    }
}

/// The protocol's errors are a JSON string as text.
pub fn bad_request(message: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, serde_json::Value::from(message).to_string())
}

/// Packets, or what is said instead of them. Nobody keeps them.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
