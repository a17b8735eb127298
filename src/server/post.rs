//! `POST /api/events`: its headers and its body, and what is answered.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::answer::{Refusal, read_body};
use super::routes::App;
use crate::events::intake::{Input, Keyed, TakeError, Via};
use crate::events::key::Key;

/// The header with the idempotency key, a UUID as our hook makes them.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that says that the key was sent before.
const RETRY: HeaderName = HeaderName::from_static("idempotency-retry");

/// The site answers posts itself, before the router; in the table the path has the method, which `Allow` and 405 go by.
pub(super) async fn routed(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    serve(&app, &head.headers, body).await
}

/// 204 only when the store has the event: what is acknowledged survives.
pub(super) async fn serve<B>(app: &App, headers: &HeaderMap, body: B) -> Response
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    match take(app, headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => {
            tracing::debug!(code = refusal.code, reason = %refusal.message, "event refused");
            refusal.into_response()
        }
    }
}

async fn take<B>(app: &App, headers: &HeaderMap, body: B) -> Result<(), Refusal>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (limit, dialect) = {
        let settings = app.context.settings.borrow();
        (settings.max_body, settings.dialect)
    };
    let framed = async { Ok((keyed(headers)?, read_body(headers, body, limit).await?)) };
    let intake = &app.context.intake;
    let (keyed, body) = framed.await.inspect_err(|refusal: &Refusal| intake.refused(Via::Http, refusal.code))?;
    intake.take(Input::Post(&body, dialect), keyed).await?;
    Ok(())
}

/// The key that the headers of a post name, if any.
fn keyed(headers: &HeaderMap) -> Result<Option<Keyed>, Refusal> {
    let Some(said) = headers.get(KEY) else { return Ok(None) };
    let key = said.to_str().ok().and_then(Key::parse).ok_or_else(|| {
        let message = "an Idempotency-Key here is a UUID in lower case, new for each event; or leave it out";
        Refusal::new(StatusCode::BAD_REQUEST, "bad_key", message)
    })?;
    Ok(Some(Keyed { key, again: headers.get(RETRY).is_some_and(|v| v == "true") }))
}

impl From<TakeError> for Refusal {
    /// A body that is no event is the poster's fault: the original says 500 to these, where clients only tell 200 and 204
    /// from the rest. Everything else may pass.
    fn from(error: TakeError) -> Self {
        let status = if error.is_final() { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
        Self::new(status, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_key_of_one_form_or_none() {
        let of = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(KEY, key.parse().unwrap());
            headers.insert(RETRY, "true".parse().unwrap());
            keyed(&headers).map_err(|r| r.code)
        };
        let key = "6f1c2d3e-4b5a-4678-9abc-def012345678";
        assert_eq!(of(key), Ok(Some(Keyed { key: Key::parse(key).unwrap(), again: true })));
        assert_eq!((of("x"), of("")), (Err("bad_key"), Err("bad_key")));
        assert_eq!(keyed(&HeaderMap::new()).map_err(|r| r.code), Ok(None));
    }
}
