//! Engine.IO protocol 4, by its sections.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::*;

/// Makes tests of functions that are given a server: one for each example.
macro_rules! at {
    ($example:ident, $module:ident: $($rule:ident)*) => {
        mod $module {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&super::$example::start().await).await;
            })*
        }
    };
}

at! { EngineEcho, engine_io:
    handshake_polling_opens_a_session handshake_polling_fails_with_a_bad_version
    handshake_polling_fails_with_a_bad_transport handshake_polling_fails_with_a_bad_method
    handshake_websocket_opens_a_session handshake_websocket_fails_with_a_bad_version
    handshake_websocket_fails_with_a_bad_transport
    message_polling_echoes_one_text message_polling_echoes_several_texts message_polling_echoes_text_and_binary
    message_polling_closes_on_a_bad_packet message_polling_closes_on_a_cancelled_poll
    message_polling_closes_on_a_second_poll
    message_websocket_echoes_text message_websocket_echoes_binary message_websocket_closes_on_a_bad_packet
    heartbeat_polling_pings heartbeat_polling_closes_without_pong heartbeat_websocket_pings
    heartbeat_websocket_closes_without_pong
    close_polling_ends_the_session close_websocket_ends_the_session
    upgrade_moves_the_session upgrade_refuses_later_polls upgrade_refuses_a_second_websocket
}

at! { Echo, socket_io:
    handshake_polling_opens_a_session handshake_polling_fails_with_a_bad_version
    handshake_polling_fails_with_a_bad_transport handshake_polling_fails_with_a_bad_method
    handshake_websocket_opens_a_session handshake_websocket_fails_with_a_bad_version
    handshake_websocket_fails_with_a_bad_transport
    heartbeat_polling_pings heartbeat_polling_closes_without_pong heartbeat_websocket_pings
    heartbeat_websocket_closes_without_pong
    close_polling_ends_the_session close_websocket_ends_the_session
    upgrade_moves_the_socketio_session upgrade_refuses_later_socketio_polls upgrade_refuses_a_second_websocket
}

fn assert_handshake(packet: &str, upgrades: &[&str]) {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').expect("an open packet")).unwrap();
    let mut keys: Vec<&str> = open.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert!(open["sid"].is_string());
    assert_eq!(open["upgrades"], json!(upgrades));
    assert_eq!([&open["pingInterval"], &open["pingTimeout"], &open["maxPayload"]], [300, 200, 1_000_000]);
}

/// The status of the answer to a request with that query.
async fn refused<S: Served>(server: &S, method: &str, query: &str) -> u16 {
    status(&server.ask(method, &format!("{}?{query}", S::PATH), "", "").await)
}

/// The same for a WebSocket handshake.
async fn websocket_refused<S: Served>(server: &S, query: &str) -> u16 {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    status(&server.ask("GET", &format!("{}?{query}", S::PATH), headers, "").await)
}

/// A WebSocket on which the handshake is read.
async fn websocket<S: Served>(server: &S) -> Ws {
    let mut ws = Ws::open(server, "", "").await.unwrap();
    assert!(ws.text().await.starts_with("0{"));
    ws
}

/// The session's WebSocket, answered and not moved to yet.
async fn probed<S: Served>(server: &S, sid: &str) -> Ws {
    let mut ws = Ws::open(server, &format!("&sid={sid}"), "").await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    ws
}

/// Reads until the server closes; pings may come before.
async fn closed(ws: &mut Ws) {
    loop {
        match ws.next().await {
            Frame::Text(text) => assert_eq!(text, "2"),
            Frame::Close(_) | Frame::End(_) => return,
            other => panic!("{other:?} instead of a close"),
        }
    }
}

async fn handshake_polling_opens_a_session<S: Served>(server: &S) {
    let answer = server.ask("GET", &format!("{}?EIO=4&transport=polling", S::PATH), "", "").await;
    assert_handshake(&packets(&answer)[0], &["websocket"]);
}

async fn handshake_polling_fails_with_a_bad_version<S: Served>(server: &S) {
    assert_eq!(refused(server, "GET", "transport=polling").await, 400);
    assert_eq!(refused(server, "GET", "EIO=abc&transport=polling").await, 400);
}

async fn handshake_polling_fails_with_a_bad_transport<S: Served>(server: &S) {
    assert_eq!(refused(server, "GET", "EIO=4").await, 400);
    assert_eq!(refused(server, "GET", "EIO=4&transport=abc").await, 400);
}

async fn handshake_polling_fails_with_a_bad_method<S: Served>(server: &S) {
    assert_eq!(refused(server, "POST", "EIO=4&transport=polling").await, 400);
    assert_eq!(refused(server, "PUT", "EIO=4&transport=polling").await, 400);
}

async fn handshake_websocket_opens_a_session<S: Served>(server: &S) {
    let mut ws = Ws::open(server, "", "").await.unwrap();
    assert_handshake(&ws.text().await, &[]);
}

async fn handshake_websocket_fails_with_a_bad_version<S: Served>(server: &S) {
    assert_eq!(websocket_refused(server, "transport=websocket").await, 400);
    assert_eq!(websocket_refused(server, "EIO=abc&transport=websocket").await, 400);
}

async fn handshake_websocket_fails_with_a_bad_transport<S: Served>(server: &S) {
    assert_eq!(websocket_refused(server, "EIO=4").await, 400);
    assert_eq!(websocket_refused(server, "EIO=4&transport=abc").await, 400);
}

async fn echoes_over_polling<S: Served>(server: &S, payload: &str) {
    let sid = server.open().await;
    let answer = server.send(&sid, payload).await;
    assert_eq!((status(&answer), body(&answer)), (200, "ok"));
    assert_eq!(body(&server.poll(&sid).await), payload);
}

async fn message_polling_echoes_one_text<S: Served>(server: &S) {
    echoes_over_polling(server, "4hello").await;
}

async fn message_polling_echoes_several_texts<S: Served>(server: &S) {
    echoes_over_polling(server, "4test1\u{1e}4test2\u{1e}4test3").await;
}

async fn message_polling_echoes_text_and_binary<S: Served>(server: &S) {
    echoes_over_polling(server, "4hello\u{1e}bAQIDBA==").await;
}

async fn message_polling_closes_on_a_bad_packet<S: Served>(server: &S) {
    let sid = server.open().await;
    assert_eq!(status(&server.send(&sid, "abc").await), 400);
    assert_eq!(status(&server.poll(&sid).await), 400);
}

async fn message_polling_closes_on_a_cancelled_poll<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut stream = server.connect().await;
    let head = format!("GET {}?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n", S::PATH);
    stream.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(5)).await;
    drop(stream);
    assert_eq!(status(&server.poll(&sid).await), 400);
}

async fn message_polling_closes_on_a_second_poll<S: Served>(server: &S) {
    let sid = server.open().await;
    let second = async {
        sleep(Duration::from_millis(5)).await;
        server.poll(&sid).await
    };
    let (first, second) = tokio::join!(server.poll(&sid), second);
    assert_eq!((status(&first), body(&first), status(&second)), (200, "1", 400));
}

async fn message_websocket_echoes_text<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    ws.send("4hello").await;
    assert_eq!(ws.text().await, "4hello");
}

async fn message_websocket_echoes_binary<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    ws.send_frame(0x82, &[1, 2, 3, 4]).await;
    assert_eq!(ws.next().await, Frame::Binary(vec![1, 2, 3, 4]));
}

async fn message_websocket_closes_on_a_bad_packet<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    ws.send("abc").await;
    closed(&mut ws).await;
}

async fn heartbeat_polling_pings<S: Served>(server: &S) {
    let sid = server.open().await;
    for _ in 0..3 {
        assert_eq!(body(&server.poll(&sid).await), "2");
        assert_eq!(status(&server.send(&sid, "3").await), 200);
    }
}

async fn heartbeat_polling_closes_without_pong<S: Served>(server: &S) {
    let sid = server.open().await;
    sleep(PING_INTERVAL + PING_TIMEOUT).await;
    assert_eq!(status(&server.poll(&sid).await), 400);
}

async fn heartbeat_websocket_pings<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    for _ in 0..3 {
        assert_eq!(ws.text().await, "2");
        ws.send("3").await;
    }
}

async fn heartbeat_websocket_closes_without_pong<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    let opened = Instant::now();
    closed(&mut ws).await;
    assert!(opened.elapsed() >= PING_TIMEOUT, "closed after {:?}", opened.elapsed());
}

async fn close_polling_ends_the_session<S: Served>(server: &S) {
    let sid = server.open().await;
    let (poll, _) = tokio::join!(server.poll(&sid), server.send(&sid, "1"));
    assert_eq!((status(&poll), body(&poll)), (200, "6"));
    assert_eq!(status(&server.poll(&sid).await), 400);
}

async fn close_websocket_ends_the_session<S: Served>(server: &S) {
    let mut ws = websocket(server).await;
    ws.send("1").await;
    closed(&mut ws).await;
}

async fn upgrade_moves_the_session<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut ws = probed(server, &sid).await;
    ws.send("5").await;
    ws.send("4hello").await;
    assert_eq!(ws.text().await, "4hello");
}

async fn upgrade_moves_the_socketio_session<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut ws = probed(server, &sid).await;
    ws.send("5").await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"));
}

async fn upgrade_refuses_later_polls<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut ws = probed(server, &sid).await;
    ws.send("5").await;
    assert_eq!(status(&server.poll(&sid).await), 400);
    ws.send("4hello").await;
    assert_eq!(ws.text().await, "4hello");
}

async fn upgrade_refuses_later_socketio_polls<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut ws = probed(server, &sid).await;
    ws.send("5").await;
    assert_eq!(status(&server.poll(&sid).await), 400);
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"));
}

async fn upgrade_refuses_a_second_websocket<S: Served>(server: &S) {
    let sid = server.open().await;
    let mut ws = probed(server, &sid).await;
    ws.send("5").await;
    assert!(Ws::open(server, &format!("&sid={sid}"), "").await.is_err());
    ws.send("1").await;
    closed(&mut ws).await;
}
