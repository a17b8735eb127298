//! Clients of Socket.IO 2, which speak Engine.IO 3: they are not served, and are told so in their own dialect, for they
//! show no other answer. Their page's `error` event then has the reason.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::polling::{bad_request, text};
use super::sid::Sid;
use super::{frame, websocket};
use crate::server::answer::Refusal;

/// What such a client is told.
pub const REASON: &str = "this monitor speaks Socket.IO protocol 5 over Engine.IO protocol 4; \
                          connect with socket.io-client 3 or 4, or python-socketio 5";

/// The answer to a request with `EIO=3`: a session that opens, says why, and closes.
pub fn refuse(request: Request<Body>, transport: &str, is_new: bool) -> Response {
    if !is_new || request.method() != Method::GET {
        return bad_request(REASON);
    }
    let Ok(sid) = Sid::random() else {
        return Refusal::internal("no randomness for a session id").into_response();
    };
    let open = json!({"sid": sid.as_str(), "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000});
    // Engine.IO's open; its message with Socket.IO's error.
    let (open, error) = (format!("0{open}"), format!("44{}", Value::from(REASON)));
    if transport == "websocket" {
        let frames = [frame::text(open.as_bytes()), frame::text(error.as_bytes()), frame::close(frame::NORMAL, "")];
        return websocket::tell(request, Bytes::from(frames.concat()));
    }
    let payload = [open.as_str(), error.as_str(), "1"].map(|packet| format!("{}:{packet}", packet.len())).concat();
    text(StatusCode::OK, payload)
}
