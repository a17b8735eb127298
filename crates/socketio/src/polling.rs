//! Long-polling, and the door to both transports: every request of a client comes here.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, StatusCode};

pub use super::answer::{Answer, Refused};
use super::answer::{bad_request, text};
use super::body;
use super::connection::Connection;
use super::engine::{Engine, Protocol};
use super::extensions::Extensions;
use super::handshake::Handshake;
use super::payload::{self, Part};
use super::session::{End, Polled, Session, open_packet};
use super::sid::Sid;
use super::turn::Turn;
use super::{older, websocket};

/// What the protocol answers to a client of another version.
const VERSION: &str = "The client is using an unsupported version of the Socket.IO or Engine.IO protocols";

/// One request of a client. What the application knows of that becomes a part of the session that the request opens.
///
/// # Errors
/// See [`Refused`].
pub async fn serve<P: Protocol, B>(
    engine: Arc<Engine<P>>,
    request: Request<B>,
    connection: Arc<Connection>,
    extensions: Extensions,
) -> Result<Answer, Refused>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    if request.method() != Method::GET && request.method() != Method::POST {
        return Ok(bad_request("Bad handshake method"));
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    let transport = query.get("transport").unwrap_or_default();
    match query.get("EIO") {
        Some("4") => {}
        Some("3") => {
            let is_new = query.get("sid").is_none();
            return older::refuse(&engine, request, connection, transport, is_new);
        }
        _ => return Ok(bad_request(VERSION)),
    }
    // A script element reads across origins, past every check of them; no client of version 4 needs it.
    if query.get("j").is_some() {
        return Ok(bad_request("JSONP polling is not supported"));
    }
    if !matches!(transport, "polling" | "websocket") {
        return Ok(bad_request("Invalid transport"));
    }
    let session = match query.get("sid") {
        None => None,
        Some(sid) => match find(&engine, sid) {
            Some(session) => Some(session),
            None => return Ok(unknown_session(sid)),
        },
    };
    match (transport, request.method() == Method::GET, session) {
        ("websocket", true, session) => websocket::upgrade(engine, request, connection, extensions, session),
        ("websocket", false, _) => Ok(bad_request("Invalid transport")),
        (_, true, None) => open(&engine, Handshake::new(extensions, request.uri(), request.headers())),
        (_, true, Some(session)) => Ok(poll(engine, session).await),
        (_, false, Some(session)) => post(&engine, &session, request).await,
        (_, false, None) => Ok(unknown_session("None")),
    }
}

/// The session of that id, unless its time to answer a ping has passed.
fn find<P: Protocol>(engine: &Engine<P>, sid: &str) -> Option<Arc<Session>> {
    let session = engine.registry.get(Sid::parse(sid)?)?;
    if session.is_silent(Instant::now()) {
        engine.end(&session, End::PingTimeout);
        return None;
    }
    Some(session)
}

/// The parameters of a request; of several with one name the last one counts.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn open<P: Protocol>(engine: &Arc<Engine<P>>, handshake: Handshake) -> Result<Answer, Refused> {
    let options = engine.options();
    let slot = engine.reserve()?;
    let session = Session::new(None, &options, handshake, slot, Instant::now())
        .map_err(|error| Refused::Internal(format!("no randomness for a session id: {error}")))?;
    let answer = open_packet(&session, &["websocket"], options.max_payload);
    engine.registry.insert(Arc::new(session));
    engine.counters.opened.fetch_add(1, Ordering::Relaxed);
    Ok(text(StatusCode::OK, answer))
}

/// A poll that is dropped before its answer (the client went, or the connection did) ends the session: what the client
/// has received is not known any more. The reference server does the same.
struct Pending<P: Protocol> {
    engine: Arc<Engine<P>>,
    session: Arc<Session>,
    answered: bool,
}

impl<P: Protocol> Drop for Pending<P> {
    fn drop(&mut self) {
        self.session.end_poll();
        if !self.answered {
            self.engine.end(&self.session, End::Poll);
        }
    }
}

async fn poll<P: Protocol>(engine: Arc<Engine<P>>, session: Arc<Session>) -> Answer {
    if session.is_socket() {
        return bad_request("Invalid transport");
    }
    if !session.begin_poll() {
        engine.end(&session, End::Poll);
        return bad_request("Another poll of this session is pending");
    }
    let mut pending = Pending { engine, session, answered: false };
    let polled = poll_fn(|cx| pending.session.poll_packets(cx, Instant::now())).await;
    pending.answered = true;
    match polled {
        Polled::Payload(packets) => text(StatusCode::OK, packets),
        // Who closed the session itself needs no close; its poll just ends.
        Polled::Over if pending.session.ended() == Some(End::ClientClosed) => text(StatusCode::OK, "6"),
        Polled::Over => text(StatusCode::OK, "1"),
    }
}

async fn post<P: Protocol, B>(
    engine: &Arc<Engine<P>>,
    session: &Arc<Session>,
    request: Request<B>,
) -> Result<Answer, Refused>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    if session.is_socket() {
        return Ok(bad_request("Invalid transport"));
    }
    let (head, body) = request.into_parts();
    let body = match body::read(&head.headers, body, engine.options().max_payload, &engine.config.memory).await {
        Ok(body) => body,
        Err(error) => {
            engine.end(session, End::Protocol);
            return Err(error.into());
        }
    };
    let Ok(text_body) = std::str::from_utf8(&body) else {
        engine.end(session, End::Protocol);
        return Ok(bad_request("Invalid packet"));
    };
    let mut turn = Turn::begin();
    for (bytes, part) in payload::parse(text_body) {
        turn.rest().await;
        pause(session).await;
        if session.is_busy() {
            session.settled().await;
        }
        let result = match part {
            Ok(Part::Text(packet)) => engine.receive(session, packet),
            Ok(Part::Binary(data)) => engine.receive_binary(session, data),
            Err(_) => Err(End::Protocol),
        };
        turn.spend_bytes(bytes);
        turn.spend_packets(1);
        engine.count_packets(session, 1);
        match result {
            Ok(()) => {}
            Err(End::ClientClosed) => {
                engine.end(session, End::ClientClosed);
                break;
            }
            Err(end) => {
                engine.end(session, end);
                return Ok(bad_request("Invalid packet"));
            }
        }
    }
    // Its events are stored before the client may send more, and it has not sent more than it may.
    session.settled().await;
    pause(session).await;
    Ok(text(StatusCode::OK, "ok"))
}

/// Lets a client that sends more than it may wait.
async fn pause(session: &Session) {
    while session.ended().is_none()
        && let Some(until) = session.throttled(Instant::now())
    {
        tokio::time::sleep_until(until.into()).await;
    }
}

fn unknown_session(sid: &str) -> Answer {
    let shown: String = sid.chars().take(40).collect();
    bad_request(&format!("Invalid session {shown}"))
}
