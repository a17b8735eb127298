//! Clients of Socket.IO 2, which speak Engine.IO 3: they are not served, and are told so in their own dialect, for they
//! show no other answer. Their page's `error` event then has the reason.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, Refused, bad_request, text};
use super::connection::Connection;
use super::engine::{Engine, Protocol};
use super::sid::Sid;
use super::{frame, websocket};

/// The answer to a request with `EIO=3`: a session that opens, says why, and closes.
///
/// # Errors
/// [`Refused::Internal`].
pub fn refuse<P: Protocol, B>(
    engine: &Engine<P>,
    request: Request<B>,
    connection: Arc<Connection>,
    transport: &str,
    is_new: bool,
) -> Result<Answer, Refused> {
    let reason = engine.config.refusal_of_older;
    if !is_new || request.method() != Method::GET {
        return Ok(bad_request(reason));
    }
    let Ok(sid) = Sid::random() else {
        return Err(Refused::Internal("no randomness for a session id".to_owned()));
    };
    let open = json!({"sid": sid.as_str(), "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000});
    // Engine.IO's open; its message with Socket.IO's error.
    let (open, error) = (format!("0{open}"), format!("44{}", Value::from(reason)));
    if transport == "websocket" {
        let frames = [frame::text(open.as_bytes()), frame::text(error.as_bytes()), frame::close(frame::NORMAL, "")];
        return websocket::tell(engine, request, connection, Bytes::from(frames.concat()));
    }
    let payload = [open.as_str(), error.as_str(), "1"].map(|packet| format!("{}:{packet}", packet.len())).concat();
    Ok(text(StatusCode::OK, payload))
}
