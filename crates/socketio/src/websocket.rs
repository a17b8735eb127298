//! The WebSocket transport: handshake, move of a polling session, and one task for each socket that reads ([`super::reader`]) and,
//! only when the kernel did not take everything at once, writes on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use tokio::io::Interest;
use tokio::time::Sleep;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Message;

use super::answer::{Answer, Refused, bad_request};
use super::connection::Connection;
use super::engine::{Engine, Protocol};
use super::extensions::Extensions;
use super::frame;
use super::handshake::Handshake;
use super::io::ClientIo;
use super::outgoing::Outgoing;
use super::packet;
use super::reader::{Next, Reader};
use super::registry::Slot;
use super::session::{End, Session, open_packet};
use super::stream::Stream;
use super::turn::Turn;

/// How long a polling client may take to finish its move; the reference server's `upgradeTimeout`.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a closed socket is kept for the peer's own close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// What a client that moves may send before it has moved, in messages and waits: it needs two messages, and may ping.
const PROBE_STEPS: usize = 64;

/// Whose the new socket is.
enum Purpose {
    New(Slot, Handshake),
    Move(Arc<Session>),
}

/// Answers a WebSocket handshake; with a session, the socket is to replace its polling.
///
/// # Errors
/// [`Refused::TooManyClients`] or [`Refused::Internal`].
pub fn upgrade<P: Protocol, B>(
    engine: Arc<Engine<P>>,
    mut request: Request<B>,
    connection: Arc<Connection>,
    extensions: Extensions,
    session: Option<Arc<Session>>,
) -> Result<Answer, Refused> {
    let (answer, upgrade) = match accept(&mut request)? {
        Ok(accepted) => accepted,
        Err(refused) => return Ok(*refused),
    };
    let purpose = match session {
        None => Purpose::New(engine.reserve()?, Handshake::new(extensions, request.uri(), request.headers())),
        Some(session) if session.begin_probe() => Purpose::Move(session),
        Some(_) => return Ok(bad_request("This session has a WebSocket already")),
    };
    tokio::spawn(serve(engine, upgrade, connection, purpose));
    Ok(answer)
}

/// Answers a WebSocket handshake, sends these frames, of which the last one is to be a close, and is done.
///
/// # Errors
/// [`Refused::Internal`].
pub fn tell<P: Protocol, B>(
    engine: &Engine<P>,
    mut request: Request<B>,
    connection: Arc<Connection>,
    frames: Bytes,
) -> Result<Answer, Refused> {
    let (answer, upgrade) = match accept(&mut request)? {
        Ok(accepted) => accepted,
        Err(refused) => return Ok(*refused),
    };
    let (max_payload, memory) = (engine.options().max_payload, Arc::clone(&engine.config.memory));
    tokio::spawn(async move {
        let Some((stream, early)) = upgraded(upgrade).await else { return };
        let say = async {
            if write_all(&stream, &frames).await.is_ok() {
                stream.finish_writing();
                await_close(&stream, &mut Reader::new(&early, max_payload, &memory)).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, say).await;
        drop(connection);
    });
    Ok(answer)
}

/// The answer to a WebSocket handshake and what is needed to go on with it, or what is said instead.
fn accept<B>(request: &mut Request<B>) -> Result<Result<(Answer, OnUpgrade), Box<Answer>>, Refused> {
    let Some(key) = handshake_key(request.headers()) else {
        let mut refused = bad_request("A WebSocket handshake was expected");
        // Tells a client of another version which one is spoken (RFC 6455, section 4.4).
        refused.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Ok(Err(Box::new(refused)));
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Ok(Err(Box::new(bad_request("This connection cannot become a WebSocket"))));
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return Err(Refused::Internal("the accept key is no header value".to_owned()));
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(Ok((answer, upgrade)))
}

/// The socket of a connection whose handshake is answered, and what arrived together with that.
async fn upgraded(upgrade: OnUpgrade) -> Option<(Arc<Stream>, Bytes)> {
    let upgraded = tokio::time::timeout(UPGRADE_DEADLINE, upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<ClientIo>().ok()?;
    Some((Arc::new(parts.io.into_stream()?), parts.read_buf))
}

/// The client's key, when the headers are those of RFC 6455, section 4.2.1.
fn handshake_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has_token = |name: header::HeaderName, token: &str| {
        (headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let fits = has_token(header::CONNECTION, "upgrade")
        && has_token(header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13")
        && key.len() == 24;
    fits.then(|| key.clone())
}

async fn serve<P: Protocol>(engine: Arc<Engine<P>>, upgrade: OnUpgrade, connection: Arc<Connection>, purpose: Purpose) {
    let Some((stream, early)) = upgraded(upgrade).await else {
        if let Purpose::Move(session) = purpose {
            session.abandon_probe();
        }
        return;
    };
    let mut reader = Reader::new(&early, engine.options().max_payload, &engine.config.memory);
    let session = match purpose {
        Purpose::New(slot, handshake) => match open(&engine, Arc::clone(&stream), handshake, slot) {
            Some(session) => session,
            None => return,
        },
        Purpose::Move(session) => {
            let moved = tokio::select! {
                moved = tokio::time::timeout(UPGRADE_DEADLINE, probe(&stream, &mut reader)) => moved.is_ok_and(|m| m),
                () = connection.cut() => false,
            };
            if !moved {
                return session.abandon_probe();
            }
            session.move_to(Arc::clone(&stream), Instant::now());
            session
        }
    };
    // From here on the session's own end says when to let go, so that a cut resets this socket as well.
    let end = pump(&engine, &session, &stream, &mut reader).await;
    if end.is_abortive() || connection.is_cut() {
        stream.reset_on_close();
    }
    engine.end(&session, end);
    drop(connection);
}

fn open<P: Protocol>(
    engine: &Arc<Engine<P>>,
    stream: Arc<Stream>,
    handshake: Handshake,
    slot: Slot,
) -> Option<Arc<Session>> {
    let options = engine.options();
    let session = Session::new(Some(stream), &options, handshake, slot, Instant::now()).ok()?;
    let session = Arc::new(session);
    engine.registry.insert(Arc::clone(&session));
    engine.counters.opened.fetch_add(1, Ordering::Relaxed);
    engine.send(&session, &Outgoing::packet(open_packet(&session, &[], options.max_payload)));
    Some(session)
}

/// The client's side of the move: `2probe`, which is answered, then `5`.
async fn probe(stream: &Stream, reader: &mut Reader) -> bool {
    let (mut probed, mut turn) = (false, Turn::begin());
    for _ in 0..PROBE_STEPS {
        match reader.next(stream, &mut turn) {
            Next::Message(Message::Text(text)) => match packet::Engine::parse(&text) {
                Ok(packet::Engine::Ping("probe")) if !probed => {
                    probed = true;
                    if write_all(stream, &frame::text(b"3probe")).await.is_err() {
                        return false;
                    }
                }
                Ok(packet::Engine::Upgrade) if probed => return true,
                _ => return false,
            },
            Next::Message(Message::Ping(_) | Message::Pong(_)) => {}
            Next::Idle => {
                let reply = reader.take_reply();
                if write_all(stream, &reply).await.is_err() || stream.readable().await.is_err() {
                    return false;
                }
            }
            Next::Later => turn.rest().await,
            Next::Message(_) | Next::Closed | Next::Failed(..) => return false,
        }
    }
    false
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads the client's packets and writes what waits for it, until one of both has an end.
async fn pump<P: Protocol>(
    engine: &Arc<Engine<P>>,
    session: &Arc<Session>,
    stream: &Stream,
    reader: &mut Reader,
) -> End {
    let mut idle = false;
    loop {
        let blocked = match session.flush(Instant::now()) {
            Ok(blocked) => blocked,
            Err(end) => return end,
        };
        if let Some(end) = session.ended() {
            return end;
        }
        if session.is_closed() {
            return finish(session, stream, reader).await;
        }
        let until = session.throttled(Instant::now());
        if until.is_some() || session.is_busy() {
            // Nothing is read, so the client waits; what waits for it is still written.
            // Boxed, for it would make every client's task larger.
            let pause = until.map(|until| Box::pin(tokio::time::sleep_until(until.into())));
            tokio::select! {
                ready = stream.writable(), if blocked => if ready.is_err() { return End::TransportClosed },
                () = session.wake.notified() => {}
                () = wait(pause) => {}
            }
            idle = false;
            continue;
        }
        if idle {
            let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            tokio::select! {
                ready = stream.ready(interest) => if ready.is_err() { return End::TransportClosed },
                () = session.wake.notified() => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
        idle = match turn(engine, session, stream, reader) {
            Ok(idle) => idle,
            Err(end) => return end,
        };
    }
}

/// Waits for the end of a pause, for ever if there is none.
async fn wait(pause: Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

/// Handles what has arrived, as much as one turn allows; whether that was all.
fn turn<P: Protocol>(
    engine: &Arc<Engine<P>>,
    session: &Arc<Session>,
    stream: &Stream,
    reader: &mut Reader,
) -> Result<bool, End> {
    let (mut turn, mut idle) = (Turn::begin(), false);
    while !idle && !turn.is_spent() {
        let result = match reader.next(stream, &mut turn) {
            // After the goodbye only the client's close counts.
            Next::Message(_) if session.is_closing() => Ok(()),
            Next::Message(Message::Text(text)) => match packet::Engine::parse(&text) {
                Ok(packet) => engine.receive(session, packet),
                Err(_) => Err(End::Protocol),
            },
            Next::Message(Message::Binary(data)) => engine.receive_binary(session, data),
            Next::Message(_) | Next::Later => Ok(()),
            Next::Idle => {
                idle = true;
                Ok(())
            }
            Next::Closed => {
                say(engine, session, reader);
                return Err(End::TransportClosed);
            }
            Next::Failed(code, reason) => {
                session.close(&Outgoing::packets(Vec::new()), code, reason, Instant::now());
                return Ok(true);
            }
        };
        let (code, reason) = match result {
            Ok(()) => (0, ""),
            Err(End::Protocol) => (frame::PROTOCOL_ERROR, "malformed packet"),
            Err(End::Crowded) => (frame::TRY_AGAIN, "no room for the attachments"),
            Err(end) => return Err(end),
        };
        if code > 0 {
            session.close(&Outgoing::packets(Vec::new()), code, reason, Instant::now());
            return Ok(true);
        }
        engine.count_packets(session, reader.take_frames());
        if session.is_busy() || session.throttled(Instant::now()).is_some() {
            break;
        }
    }
    say(engine, session, reader);
    Ok(idle)
}

/// Puts what the parser wants to say (pong, close) in line with everything else, so that nothing interleaves with it.
fn say<P: Protocol>(engine: &Engine<P>, session: &Arc<Session>, reader: &mut Reader) {
    let reply = reader.take_reply();
    if !reply.is_empty() {
        engine.sent(session, session.reply(reply, Instant::now()));
    }
}

/// Our side is sent; the peer gets a moment for its own, so that what it has not read yet is not torn away by a reset.
async fn finish(session: &Session, stream: &Stream, reader: &mut Reader) -> End {
    stream.finish_writing();
    tokio::select! {
        _ = tokio::time::timeout(CLOSE_DEADLINE, await_close(stream, reader)) => {}
        () = session.wake.notified() => {}
    }
    session.ended().unwrap_or(End::ClientClosed)
}

/// Returns on the peer's close frame or the end of its stream.
async fn await_close(stream: &Stream, reader: &mut Reader) {
    let mut turn = Turn::begin();
    loop {
        match reader.next(stream, &mut turn) {
            Next::Message(_) | Next::Failed(..) | Next::Later => turn.rest().await,
            Next::Idle if stream.readable().await.is_ok() => {}
            Next::Idle | Next::Closed => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_a_whole_handshake_is_one() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let good =
            [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13"), key];
        assert!(handshake_key(&headers(&good)).is_some());
        for missing in 0..good.len() {
            let mut some = good.to_vec();
            some.remove(missing);
            assert!(handshake_key(&headers(&some)).is_none(), "without {}", good[missing].0);
        }
        let old = [good[0], good[1], ("sec-websocket-version", "8"), key];
        assert!(handshake_key(&headers(&old)).is_none());
    }
}
