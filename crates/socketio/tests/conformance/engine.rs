//! Engine.IO protocol 4.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

const REASON: &str = "this server speaks Socket.IO protocol 5 over Engine.IO protocol 4; \
                      connect with socket.io-client 3 or 4, or python-socketio 5";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

fn quick() -> Options {
    let (ping_interval, ping_timeout) = (Duration::from_millis(200), Duration::from_millis(300));
    Options { ping_interval, ping_timeout, ..options() }
}

fn assert_handshake(packet: &str, upgrades: &[&str]) {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap();
    assert!(open["sid"].as_str().is_some_and(|sid| sid.len() == 20), "{open}");
    assert_eq!(open["upgrades"], json!(upgrades));
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(30_000), &json!(60_000)));
    assert_eq!(open["maxPayload"], 1_000_000);
}

#[tokio::test]
async fn handshake_polling_opens_a_session() {
    let rig = server();
    let answer = rig.ask("GET", POLLING, "", "").await;
    assert!(answer.to_lowercase().contains("content-type: text/plain; charset=utf-8"), "{answer}");
    let packets = packets(&answer);
    assert_eq!(packets.len(), 1);
    assert_handshake(&packets[0], &["websocket"]);
}

#[tokio::test]
async fn handshake_websocket_opens_a_session() {
    let rig = server();
    let mut ws = Ws::open(&rig, "", "").await.unwrap();
    assert_handshake(&ws.text().await, &[]);
}

async fn refused(method: &str, query: &str) -> String {
    let rig = server();
    let answer = rig.ask(method, &format!("/socket.io/?{query}"), "", "").await;
    assert_eq!(status(&answer), 400, "{answer}");
    body(&answer).to_owned()
}

#[tokio::test]
async fn handshake_fails_without_a_version() {
    assert!(refused("GET", "transport=polling").await.contains("unsupported version"));
}

#[tokio::test]
async fn handshake_fails_with_another_version() {
    let words = r#""The client is using an unsupported version of the Socket.IO or Engine.IO protocols""#;
    for query in ["EIO=5&transport=polling", "EIO=5&transport=websocket", "EIO=abc"] {
        assert_eq!(refused("GET", query).await, words);
    }
    assert!(refused("POST", "EIO=3&transport=polling").await.contains("protocol 5"));
}

#[tokio::test]
async fn version_3_over_polling_is_refused_in_its_dialect() {
    let rig = server();
    let answer = rig.ask("GET", "/socket.io/?EIO=3&transport=polling&b64=1", "", "").await;
    assert_eq!(status(&answer), 200);
    let (mut rest, mut packets) = (body(&answer), Vec::new());
    while let Some((length, after)) = rest.split_once(':') {
        let (packet, later) = after.split_at(length.parse().unwrap());
        packets.push(packet);
        rest = later;
    }
    assert!(packets.len() == 3 && packets[0].starts_with("0{\"pingInterval\":"), "{packets:?}");
    assert_eq!(packets[1..], [format!("44\"{REASON}\"").as_str(), "1"]);
    assert_eq!(rig.clients(), 0);
}

#[tokio::test]
async fn version_3_over_a_websocket_is_refused_in_its_dialect() {
    let rig = server();
    let mut ws = Ws::open(&rig, "&EIO=3", "").await.unwrap();
    assert!(ws.text().await.starts_with("0{"));
    assert_eq!(ws.text().await, format!("44\"{REASON}\""));
    assert_eq!(ws.next().await, Frame::Close(1000));
}

#[tokio::test]
async fn handshake_fails_without_a_transport() {
    assert_eq!(refused("GET", "EIO=4").await, r#""Invalid transport""#);
}

#[tokio::test]
async fn handshake_fails_with_an_unknown_transport() {
    assert_eq!(refused("GET", "EIO=4&transport=abc").await, r#""Invalid transport""#);
}

#[tokio::test]
async fn handshake_fails_with_an_unknown_session() {
    assert_eq!(refused("GET", "EIO=4&transport=polling&sid=abc").await, r#""Invalid session abc""#);
    assert_eq!(refused("POST", "EIO=4&transport=polling&sid=abc").await, r#""Invalid session abc""#);
}

#[tokio::test]
async fn handshake_fails_with_another_method() {
    for method in ["POST", "PUT", "DELETE"] {
        refused(method, "EIO=4&transport=polling").await;
    }
}

#[tokio::test]
async fn handshake_websocket_fails_without_its_headers() {
    assert_eq!(refused("GET", "EIO=4&transport=websocket").await, r#""A WebSocket handshake was expected""#);
}

#[tokio::test]
async fn handshake_websocket_of_another_version_hears_ours() {
    let rig = server();
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = rig.ask("GET", "/socket.io/?EIO=4&transport=websocket", headers, "").await.to_lowercase();
    assert!(status(&answer) == 400 && answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
}

#[tokio::test]
async fn heartbeat_websocket_pings_after_each_interval_and_keeps_who_answers() {
    let rig = server_with(quick());
    let mut ws = connected(&rig).await;
    let start = Instant::now();
    for n in 1..=3 {
        assert_eq!(ws.text().await, "2");
        ws.send("3").await;
        assert!(start.elapsed() >= Duration::from_millis(180 * n), "ping {n} after {:?}", start.elapsed());
    }
    ws.send("42[\"message\",1]").await;
    assert_eq!(ws.text().await, "42[\"message-back\",1]");
}

#[tokio::test]
async fn heartbeat_polling_pings_after_an_interval() {
    let rig = server_with(quick());
    let sid = connected_polling(&rig).await;
    for _ in 0..3 {
        assert_eq!(packets(&rig.poll(&sid).await), ["2"]);
        assert_eq!(body(&rig.send(&sid, "3").await), "ok");
    }
}

#[tokio::test]
async fn heartbeat_websocket_closes_who_does_not_answer() {
    let rig = server_with(quick());
    let mut ws = connected(&rig).await;
    assert_eq!(ws.text().await, "2");
    let asked = Instant::now();
    assert!(matches!(ws.next().await, Frame::End(_)));
    assert!(asked.elapsed() >= Duration::from_millis(250), "closed {:?} after the ping", asked.elapsed());
    until("it is gone", || rig.clients() == 0).await;
}

#[tokio::test]
async fn heartbeat_polling_closes_who_does_not_answer() {
    let rig = server_with(quick());
    let sid = connected_polling(&rig).await;
    assert_eq!(packets(&rig.poll(&sid).await), ["2"]);
    assert_eq!(packets(&rig.poll(&sid).await), ["1"]);
    assert_eq!(status(&rig.poll(&sid).await), 400);
}

#[tokio::test]
async fn close_websocket_by_the_client() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send("1").await;
    assert!(matches!(ws.next().await, Frame::End(_) | Frame::Close(_)));
    until("it is gone", || rig.clients() == 0).await;
}

#[tokio::test]
async fn close_polling_by_the_client() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let (poll, post) = tokio::join!(rig.poll(&sid), rig.send(&sid, "1"));
    assert_eq!((packets(&poll), body(&post)), (vec!["6".to_owned()], "ok"));
    assert_eq!(status(&rig.poll(&sid).await), 400);
}

#[tokio::test]
async fn polling_sends_several_packets_in_one_payload() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    rig.send(&sid, "42[\"message\",1]\u{1e}42[\"message\",2]\u{1e}421[\"message-with-ack\"]").await;
    let answer = packets(&rig.poll(&sid).await);
    assert_eq!(answer, ["42[\"message-back\",1]", "42[\"message-back\",2]", "431[]"]);
}

#[tokio::test]
async fn polling_twice_at_once_closes_the_session() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let (one, two) = tokio::join!(rig.poll(&sid), rig.poll(&sid));
    let mut both = [status(&one), status(&two)];
    both.sort_unstable();
    assert_eq!((both, rig.clients()), ([200, 400], 0));
}

#[tokio::test]
async fn polling_closes_on_a_packet_that_is_none() {
    let rig = server();
    for bad in ["abc", "", "4", "42[\"message\"]\u{1e}", "b!", "42[\"message\"]\u{1e}x"] {
        let sid = connected_polling(&rig).await;
        assert_eq!(status(&rig.send(&sid, bad).await), 400, "{bad:?}");
        assert_eq!(status(&rig.poll(&sid).await), 400, "{bad:?}");
    }
}

#[tokio::test]
async fn polling_refuses_a_payload_above_the_announced_limit() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let large = format!("42[\"message\",\"{}\"]", "x".repeat(1_000_000));
    assert_eq!(status(&rig.send(&sid, &large).await), 413);
    assert_eq!(rig.clients(), 0);
}

#[tokio::test]
async fn websocket_closes_on_a_packet_that_is_none() {
    let rig = server();
    for bad in ["abc", "", "é", "4"] {
        let mut ws = connected(&rig).await;
        ws.send(bad).await;
        closed(&rig, &mut ws, 1002).await;
    }
}

#[tokio::test]
async fn websocket_closes_on_a_message_above_the_announced_limit() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send(&"x".repeat(1_000_001)).await;
    closed(&rig, &mut ws, 1009).await;
}

#[tokio::test]
async fn websocket_ignores_packets_that_mean_nothing_there() {
    let rig = server();
    let mut ws = connected(&rig).await;
    for odd in ["6", "3", "3probe", "2", "5"] {
        ws.send(odd).await;
    }
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn upgrade_moves_the_session_and_its_packets() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    rig.send(&sid, "42[\"message\",\"waits\"]").await;
    ws.send("5").await;
    assert_eq!(ws.text().await, "42[\"message-back\",\"waits\"]");
    ws.send("42[\"message\",\"now\"]").await;
    assert_eq!(ws.text().await, "42[\"message-back\",\"now\"]");
    assert_eq!(status(&rig.poll(&sid).await), 400, "the session polls no more");
    assert_eq!(status(&rig.send(&sid, "3").await), 400);
}

#[tokio::test]
async fn upgrade_ends_the_pending_poll_with_a_noop() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let move_on = async {
        let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
        ws.send("2probe").await;
        assert_eq!(ws.text().await, "3probe");
        ws
    };
    let (poll, mut ws) = tokio::join!(rig.poll(&sid), move_on);
    assert_eq!(packets(&poll), ["6"]);
    ws.send("5").await;
    ws.send("42[\"message\"]").await;
    assert_eq!(ws.text().await, "42[\"message-back\"]");
}

#[tokio::test]
async fn upgrade_carries_binary_data_that_waited_for_a_poll() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    rig.send(&sid, "451-[\"message\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQIDBA==").await;
    ws.send("5").await;
    assert_eq!(ws.text().await, r#"451-["message-back",{"_placeholder":true,"num":0}]"#);
    assert_eq!(ws.next().await, Frame::Binary(vec![1, 2, 3, 4]));
}

#[tokio::test]
async fn upgrade_with_a_bad_probe_leaves_the_client_polling() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    for bad in ["2other", "5", "42[\"message\"]", "abc"] {
        let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
        ws.send(bad).await;
        assert!(matches!(ws.next().await, Frame::End(_)), "{bad}");
    }
    rig.send(&sid, "42[\"message\",1]").await;
    assert_eq!(packets(&rig.poll(&sid).await), ["42[\"message-back\",1]"]);
}

#[tokio::test]
async fn upgrade_happens_once() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
    assert_eq!(status(&Ws::open(&rig, &format!("&sid={sid}"), "").await.err().unwrap()), 400, "while one tries");
    ws.send("2probe").await;
    ws.text().await;
    ws.send("5").await;
    ws.send("42[\"message\"]").await;
    ws.text().await;
    assert_eq!(status(&Ws::open(&rig, &format!("&sid={sid}"), "").await.err().unwrap()), 400, "after it moved");
    nothing_more(&mut ws).await;
}
