//! Socket.IO protocol 5, by its sections.

use std::time::Instant;

use serde_json::Value;

use super::*;

const IMAGES: &str = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;

/// A WebSocket on which the Engine.IO handshake is read.
async fn websocket(server: &Echo) -> Ws {
    let mut ws = Ws::open(server, "", "").await.unwrap();
    assert!(ws.text().await.starts_with("0{"));
    ws
}

/// The same, in the default namespace and greeted.
async fn connected(server: &Echo) -> Ws {
    let mut ws = websocket(server).await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"));
    assert_eq!(ws.text().await, r#"42["auth",{}]"#);
    ws
}

/// Enters with that packet; the answer must grant the namespace, and the next packet is the greeting.
async fn enters(packet: &str, namespace: &str, greeting: &str) {
    let server = Echo::start().await;
    let mut ws = websocket(&server).await;
    ws.send(packet).await;
    let granted = ws.text().await;
    let data =
        granted.strip_prefix("40").and_then(|rest| rest.strip_prefix(namespace)).unwrap_or_else(|| panic!("{granted}"));
    let data: Value = serde_json::from_str(data).unwrap();
    assert!(data["sid"].is_string(), "{data}");
    assert_eq!(ws.text().await, greeting);
}

/// The server must close, after nothing but pings, which are answered.
async fn closed(ws: &mut Ws) {
    loop {
        match ws.next().await {
            Frame::Text(text) if text == "2" => ws.send("3").await,
            Frame::Close(_) | Frame::End(_) => return,
            other => panic!("{other:?} instead of a close"),
        }
    }
}

async fn closes_on(packet: &str) {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send(packet).await;
    closed(&mut ws).await;
}

#[tokio::test]
async fn connect_to_the_main_namespace() {
    enters("40", "", r#"42["auth",{}]"#).await;
}

#[tokio::test]
async fn connect_to_the_main_namespace_with_a_payload() {
    enters(r#"40{"token":"123"}"#, "", r#"42["auth",{"token":"123"}]"#).await;
}

#[tokio::test]
async fn connect_to_a_custom_namespace() {
    enters("40/custom,", "/custom,", r#"42/custom,["auth",{}]"#).await;
}

#[tokio::test]
async fn connect_to_a_custom_namespace_with_a_payload() {
    enters(r#"40/custom,{"token":"abc"}"#, "/custom,", r#"42/custom,["auth",{"token":"abc"}]"#).await;
}

#[tokio::test]
async fn connect_to_an_unknown_namespace_is_refused() {
    let server = Echo::start().await;
    let mut ws = websocket(&server).await;
    ws.send("40/random").await;
    assert_eq!(ws.text().await, r#"44/random,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn connect_with_a_bad_packet_closes() {
    let server = Echo::start().await;
    let mut ws = websocket(&server).await;
    ws.send("4abc").await;
    closed(&mut ws).await;
}

#[tokio::test]
async fn connect_that_never_comes_closes_in_time() {
    let server = Echo::start().await;
    let mut ws = websocket(&server).await;
    let opened = Instant::now();
    closed(&mut ws).await;
    let after = opened.elapsed();
    assert!(after > CONNECT_TIMEOUT / 2 && after < 2 * CONNECT_TIMEOUT, "closed after {after:?}");
}

#[tokio::test]
async fn disconnect_from_the_main_namespace_keeps_the_session() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send("41").await;
    assert_eq!(ws.text().await, "2");
}

#[tokio::test]
async fn disconnect_from_a_custom_namespace_keeps_the_main_one() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send("40/custom").await;
    assert!(ws.text().await.starts_with("40/custom,{"));
    assert_eq!(ws.text().await, r#"42/custom,["auth",{}]"#);
    ws.send("41/custom").await;
    ws.send(r#"42["message","message to main namespace"]"#).await;
    assert_eq!(ws.text().await, r#"42["message-back","message to main namespace"]"#);
}

#[tokio::test]
async fn message_in_plain_text() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send(r#"42["message",1,"2",{"3":[true]}]"#).await;
    assert_eq!(ws.text().await, r#"42["message-back",1,"2",{"3":[true]}]"#);
}

#[tokio::test]
async fn message_with_binary_attachments() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send(&format!(r#"452-["message",{IMAGES}]"#)).await;
    ws.send_frame(0x82, &[1, 2, 3]).await;
    ws.send_frame(0x82, &[4, 5, 6]).await;
    assert_eq!(ws.text().await, format!(r#"452-["message-back",{IMAGES}]"#));
    assert_eq!([ws.next().await, ws.next().await], [Frame::Binary(vec![1, 2, 3]), Frame::Binary(vec![4, 5, 6])]);
}

#[tokio::test]
async fn message_in_plain_text_is_acknowledged() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send(r#"42456["message-with-ack",1,"2",{"3":[false]}]"#).await;
    assert_eq!(ws.text().await, r#"43456[1,"2",{"3":[false]}]"#);
}

#[tokio::test]
async fn message_with_binary_attachments_is_acknowledged() {
    let server = Echo::start().await;
    let mut ws = connected(&server).await;
    ws.send(&format!(r#"452-789["message-with-ack",{IMAGES}]"#)).await;
    ws.send_frame(0x82, &[1, 2, 3]).await;
    ws.send_frame(0x82, &[4, 5, 6]).await;
    assert_eq!(ws.text().await, format!("462-789[{IMAGES}]"));
    assert_eq!([ws.next().await, ws.next().await], [Frame::Binary(vec![1, 2, 3]), Frame::Binary(vec![4, 5, 6])]);
}

#[tokio::test]
async fn message_of_an_unknown_type_closes() {
    closes_on("4abc").await;
}

#[tokio::test]
async fn message_with_a_bad_payload_closes() {
    closes_on("42{}").await;
}

#[tokio::test]
async fn message_with_a_bad_ack_number_closes() {
    closes_on(r#"42abc["message-with-ack",1,"2",{"3":[false]}]"#).await;
}
