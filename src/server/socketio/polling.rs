//! Long-polling, and the door to both transports: every request to `/socket.io/` comes here.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};

use super::handshake::Handshake;
use super::payload::{self, Part};
use super::session::{End, Polled, Session, open_packet};
use super::sid::Sid;
use super::turn::Turn;
use super::{MAX_PAYLOAD, SocketIo, older, websocket};
use crate::server::accept::Connection;
use crate::server::access::Access;
use crate::server::answer::{Refusal, read_body, uncached};
use crate::server::guard::Allowed;

/// What the protocol answers to a client of another version.
const VERSION: &str = "The client is using an unsupported version of the Socket.IO or Engine.IO protocols";

/// One request to `/socket.io/`.
pub async fn serve(sio: Arc<SocketIo>, request: Request<Body>) -> Response {
    if request.method() != Method::GET && request.method() != Method::POST {
        return bad_request("Bad handshake method");
    }
    let query = Query::<HashMap<String, String>>::try_from_uri(request.uri()).map(|q| q.0).unwrap_or_default();
    let get = |name: &str| query.get(name).map(String::as_str);
    let transport = get("transport").unwrap_or_default();
    match get("EIO") {
        Some("4") => {}
        Some("3") => return older::refuse(request, transport, get("sid").is_none()),
        _ => return bad_request(VERSION),
    }
    // A script element reads across origins, past every check of them; no client of version 4 needs it.
    if get("j").is_some() {
        return bad_request("JSONP polling is not supported");
    }
    if !matches!(transport, "polling" | "websocket") {
        return bad_request("Invalid transport");
    }
    let session = match get("sid") {
        None => None,
        Some(sid) => match Sid::parse(sid).and_then(|sid| sio.registry.get(sid)) {
            Some(session) => Some(session),
            None => return unknown_session(sid),
        },
    };
    match (transport, request.method() == Method::GET, session) {
        ("websocket", true, session) => websocket::upgrade(sio, request, session),
        ("websocket", false, _) => bad_request("Invalid transport"),
        (_, true, None) => open(&sio, handshake(&request)),
        (_, true, Some(session)) => poll(sio, session).await,
        (_, false, Some(session)) => post(&sio, &session, request).await,
        (_, false, None) => unknown_session("None"),
    }
}

/// What is kept of the request that opens a session.
pub fn handshake(request: &Request<Body>) -> Handshake {
    let connection = request.extensions().get::<Arc<Connection>>();
    let ends = connection.map(|connection| connection.ends);
    let access = request.extensions().get().copied().unwrap_or(Access::NONE);
    let pair = connection.and_then(|connection| connection.pair);
    let mut handshake = Handshake::new(ends, access, request.uri(), request.headers());
    handshake.pair = pair;
    handshake.is_foreign_page = request.extensions().get::<Allowed>().is_some_and(Allowed::is_foreign_page);
    handshake
}

fn open(sio: &Arc<SocketIo>, handshake: Handshake) -> Response {
    let settings = sio.settings();
    let Some(slot) = sio.reserve() else { return too_many_clients(sio) };
    let times = (settings.ping_interval, settings.ping_timeout);
    match Session::new(None, times, settings.client_backlog, handshake, slot, Instant::now()) {
        Ok(session) => {
            let answer = open_packet(&session, &["websocket"], MAX_PAYLOAD);
            sio.registry.insert(Arc::new(session));
            sio.counters.opened.fetch_add(1, Ordering::Relaxed);
            text(StatusCode::OK, answer)
        }
        Err(error) => Refusal::internal(format!("no randomness for a session id: {error}")).into_response(),
    }
}

/// The refusal of a client that is one too many.
pub fn too_many_clients(sio: &SocketIo) -> Response {
    sio.counters.clients_refused.fetch_add(1, Ordering::Relaxed);
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_clients",
        "as many clients as `max_clients` allows are connected; close one, or raise the setting",
    )
    .into_response()
}

/// A poll that is dropped before its answer (the client went, or the connection did) ends the session: what the client
/// has received is not known any more. The reference server does the same.
struct Pending {
    sio: Arc<SocketIo>,
    session: Arc<Session>,
    answered: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.session.end_poll();
        if !self.answered {
            self.sio.end(&self.session, End::Poll);
        }
    }
}

async fn poll(sio: Arc<SocketIo>, session: Arc<Session>) -> Response {
    if session.is_socket() {
        return bad_request("Invalid transport");
    }
    if !session.begin_poll() {
        sio.end(&session, End::Poll);
        return bad_request("Another poll of this session is pending");
    }
    let mut pending = Pending { sio, session, answered: false };
    let polled = poll_fn(|cx| pending.session.poll_packets(cx, Instant::now())).await;
    pending.answered = true;
    match polled {
        Polled::Payload(packets) => text(StatusCode::OK, packets),
        // Who closed the session itself needs no close; its poll just ends.
        Polled::Over if pending.session.ended() == Some(End::ClientClosed) => text(StatusCode::OK, "6"),
        Polled::Over => text(StatusCode::OK, "1"),
    }
}

async fn post(sio: &Arc<SocketIo>, session: &Arc<Session>, request: Request<Body>) -> Response {
    if session.is_socket() {
        return bad_request("Invalid transport");
    }
    let (head, body) = request.into_parts();
    let body = match read_body(&head.headers, body, MAX_PAYLOAD).await {
        Ok(body) => body,
        Err(refusal) => {
            sio.end(session, End::Protocol);
            return refusal.into_response();
        }
    };
    let Ok(text_body) = std::str::from_utf8(&body) else {
        sio.end(session, End::Protocol);
        return bad_request("Invalid packet");
    };
    let mut turn = Turn::begin();
    for (bytes, part) in payload::parse(text_body) {
        turn.rest().await;
        pause(session).await;
        if session.is_busy() {
            session.settled().await;
        }
        let result = match part {
            Ok(Part::Text(packet)) => sio.receive(session, packet),
            Ok(Part::Binary(data)) => sio.receive_binary(session, data),
            Err(_) => Err(End::Protocol),
        };
        turn.spend_bytes(bytes);
        turn.spend_packets(1);
        sio.count_packets(session, 1);
        match result {
            Ok(()) => {}
            Err(End::ClientClosed) => {
                sio.end(session, End::ClientClosed);
                break;
            }
            Err(end) => {
                sio.end(session, end);
                return bad_request("Invalid packet");
            }
        }
    }
    // Its events are stored before the client may send more, and it has not sent more than it may.
    session.settled().await;
    pause(session).await;
    text(StatusCode::OK, "ok")
}

/// Lets a client that sends more than it may wait.
async fn pause(session: &Session) {
    while session.ended().is_none()
        && let Some(until) = session.throttled(Instant::now())
    {
        tokio::time::sleep_until(until.into()).await;
    }
}

fn unknown_session(sid: &str) -> Response {
    let shown: String = sid.chars().take(40).collect();
    bad_request(&format!("Invalid session {shown}"))
}

/// The protocol's errors are a JSON string as text.
pub fn bad_request(message: &str) -> Response {
    text(StatusCode::BAD_REQUEST, serde_json::Value::from(message).to_string())
}

/// Packets, or what is said instead of them.
pub fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    uncached(status, "text/plain; charset=UTF-8", body)
}
