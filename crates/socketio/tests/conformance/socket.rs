//! Socket.IO protocol 5.

use serde_json::{Value, json};

use super::*;

const IMAGE: &str = r#"{"_placeholder":true,"num":0}"#;

/// Enters a namespace: the client's id in it.
async fn enter(ws: &mut Ws, namespace: &str, auth: &str) -> String {
    ws.send(&format!("40{namespace},{auth}")).await;
    let granted = ws.text().await;
    let data = granted.strip_prefix(&format!("40{namespace},")).unwrap_or_else(|| panic!("{granted}"));
    let data: Value = serde_json::from_str(data).unwrap();
    data["sid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn connect_to_the_default_namespace() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    ws.send("40").await;
    let granted: Value = serde_json::from_str(ws.text().await.strip_prefix("40").unwrap()).unwrap();
    assert_eq!(granted["sid"].as_str().map(str::len), Some(20));
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn connect_with_an_auth_payload() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    ws.send("40{\"token\":\"123\"}").await;
    assert!(ws.text().await.starts_with("40{\"sid\":"));
}

#[tokio::test]
async fn connect_to_a_custom_namespace_gives_an_id_of_its_own() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    let one = enter(&mut ws, "/custom", "").await;
    ws.send("42/custom,[\"message\",1]").await;
    assert_eq!(ws.text().await, "42/custom,[\"message-back\",1]");
    assert_eq!(rig.clients(), 0, "it is not in the default namespace");
    let two = enter(&mut ws, "/guarded", "{\"password\":\"open sesame\"}").await;
    assert_ne!(one, two);
}

#[tokio::test]
async fn connect_to_a_custom_namespace_with_a_query_string() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    ws.send("40/custom?abc=123,").await;
    assert!(ws.text().await.starts_with("40/custom,{\"sid\":"));
}

#[tokio::test]
async fn connect_to_an_unknown_namespace_is_refused() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    ws.send("40/random").await;
    assert_eq!(ws.text().await, r#"44/random,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn connect_is_refused_by_a_middleware_with_a_message_and_data() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    for auth in ["", "{}", "{\"password\":\"wrong\"}"] {
        ws.send(&format!("40/guarded,{auth}")).await;
        let refused: Value = serde_json::from_str(ws.text().await.strip_prefix("44/guarded,").unwrap()).unwrap();
        assert_eq!(refused, json!({"message": "say the password", "data": {"code": "wrong_password"}}));
    }
    ws.send("42/guarded,[\"message\"]").await;
    nothing_more(&mut ws).await;
    enter(&mut ws, "/guarded", "{\"password\":\"open sesame\"}").await;
    ws.send("42/guarded,[\"message\"]").await;
    assert_eq!(ws.text().await, "42/guarded,[\"message-back\"]");
}

#[tokio::test]
async fn middleware_sees_the_request_that_opened_the_session() {
    let rig = server();
    let mut ws = Ws::open(&rig, "&friend=1", "").await.unwrap();
    ws.text().await;
    enter(&mut ws, "/guarded", "").await;
}

#[tokio::test]
async fn connect_twice_is_granted_the_same_id() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    let one = enter(&mut ws, "/custom", "").await;
    assert_eq!(enter(&mut ws, "/custom", "").await, one);
}

#[tokio::test]
async fn connect_with_a_payload_that_is_no_object_closes() {
    let rig = server();
    for bad in ["40[1]", "40\"x\"", "40abc", "40{"] {
        let mut ws = websocket(&rig).await;
        ws.send(bad).await;
        assert_eq!(ws.next().await, Frame::Close(1002), "{bad}");
    }
}

#[tokio::test]
async fn events_before_the_namespace_is_granted_are_not_heard() {
    let rig = server();
    let mut ws = websocket(&rig).await;
    ws.send("421[\"message-with-ack\"]").await;
    ws.send("42/custom,[\"message\"]").await;
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn disconnect_from_one_namespace_leaves_the_others() {
    let rig = server();
    let mut ws = connected(&rig).await;
    enter(&mut ws, "/custom", "").await;
    ws.send("41/custom,").await;
    ws.send("42/custom,[\"message\"]").await;
    ws.send("42[\"message\",\"still here\"]").await;
    assert_eq!(ws.text().await, "42[\"message-back\",\"still here\"]");
    ws.send("41").await;
    ws.send("42[\"message\"]").await;
    nothing_more(&mut ws).await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"), "it may come back");
}

#[tokio::test]
async fn disconnect_by_the_server_is_told() {
    let rig = server();
    let mut ws = connected(&rig).await;
    enter(&mut ws, "/custom", "").await;
    ws.send("42/custom,[\"kick\"]").await;
    assert_eq!(ws.text().await, "41/custom,");
    ws.send("42/custom,[\"message\"]").await;
    nothing_more(&mut ws).await;
    ws.send("42[\"kick\"]").await;
    assert_eq!(ws.text().await, "41");
    assert_eq!(rig.clients(), 0);
}

#[tokio::test]
async fn event_with_any_arguments_over_both_transports() {
    let rig = server();
    let arguments = r#"1,"2",[3],{"four":null},true"#;
    let mut ws = connected(&rig).await;
    ws.send(&format!("42[\"message\",{arguments}]")).await;
    assert_eq!(ws.text().await, format!("42[\"message-back\",{arguments}]"));
    let sid = connected_polling(&rig).await;
    rig.send(&sid, &format!("42[\"message\",{arguments}]")).await;
    assert_eq!(packets(&rig.poll(&sid).await), [format!("42[\"message-back\",{arguments}]")]);
}

#[tokio::test]
async fn event_is_acknowledged_with_arguments_in_its_namespace() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send("42456[\"message-with-ack\",1,\"2\"]").await;
    assert_eq!(ws.text().await, "43456[1,\"2\"]");
    ws.send("420[\"message-with-ack\"]").await;
    assert_eq!(ws.text().await, "430[]");
    enter(&mut ws, "/custom", "").await;
    ws.send("42/custom,7[\"message-with-ack\",{}]").await;
    assert_eq!(ws.text().await, "43/custom,7[{}]");
    ws.send("42[\"message-with-ack\",1]").await;
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn binary_event_both_ways_over_a_websocket() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send(&format!(r#"452-["message",{IMAGE},{{"in":{{"_placeholder":true,"num":1}}}}]"#)).await;
    ws.send_frame(0x82, &[1, 2, 3]).await;
    ws.send_frame(0x82, &[]).await;
    let back = format!(r#"452-["message-back",{IMAGE},{{"in":{{"_placeholder":true,"num":1}}}}]"#);
    assert_eq!(ws.text().await, back);
    assert_eq!([ws.next().await, ws.next().await], [Frame::Binary(vec![1, 2, 3]), Frame::Binary(vec![])]);
}

#[tokio::test]
async fn binary_event_both_ways_over_polling() {
    let rig = server();
    let sid = connected_polling(&rig).await;
    rig.send(&sid, &format!("451-[\"message\",{IMAGE}]\u{1e}bAQIDBA==")).await;
    assert_eq!(packets(&rig.poll(&sid).await), [&format!("451-[\"message-back\",{IMAGE}]"), "bAQIDBA=="]);
}

#[tokio::test]
async fn binary_event_gives_its_handler_the_bytes() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send(&format!(
        r#"452-["sizes",{{"_placeholder":true,"num":1}},"text",{IMAGE},{{"_placeholder":true,"num":2}}]"#
    ))
    .await;
    ws.send_frame(0x82, &[0; 5]).await;
    ws.send_frame(0x82, &[0; 300]).await;
    assert_eq!(ws.text().await, r#"42["sizes",[300,null,5,null]]"#);
}

#[tokio::test]
async fn binary_event_is_acknowledged_with_binary_data() {
    let rig = server();
    let mut ws = connected(&rig).await;
    enter(&mut ws, "/custom", "").await;
    ws.send(&format!("451-/custom,789[\"message-with-ack\",{IMAGE}]")).await;
    ws.send_frame(0x82, &[9, 8]).await;
    assert_eq!(ws.text().await, format!("461-/custom,789[{IMAGE}]"));
    assert_eq!(ws.next().await, Frame::Binary(vec![9, 8]));
}

#[tokio::test]
async fn ask_gives_the_clients_answer() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send("42[\"ask\",\"well?\"]").await;
    assert_eq!(ws.text().await, "420[\"question\",\"well?\"]");
    ws.send("430[\"yes\",2]").await;
    assert_eq!(ws.text().await, r#"42["answer",[["yes",2],[]]]"#);
    ws.send("430[\"again\"]").await;
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn ask_takes_binary_data_both_ways() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send(&format!("451-[\"ask\",{IMAGE}]")).await;
    ws.send_frame(0x82, &[7]).await;
    assert_eq!(ws.text().await, format!("451-0[\"question\",{IMAGE}]"));
    assert_eq!(ws.next().await, Frame::Binary(vec![7]));
    ws.send(&format!("461-0[{IMAGE}]")).await;
    ws.send_frame(0x82, &[1, 2, 3]).await;
    assert_eq!(ws.text().await, format!("42[\"answer\",[[{IMAGE}],[3]]]"));
}

#[tokio::test]
async fn ask_in_one_namespace_is_not_answered_from_another() {
    let rig = server();
    let mut ws = connected(&rig).await;
    enter(&mut ws, "/custom", "").await;
    ws.send("42/custom,[\"ask\"]").await;
    assert_eq!(ws.text().await, "42/custom,0[\"question\"]");
    ws.send("430[]").await;
    nothing_more(&mut ws).await;
    ws.send("43/custom,0[]").await;
    assert_eq!(ws.text().await, "42/custom,[\"answer\",[[],[]]]");
}

#[tokio::test]
async fn ask_ends_in_time_without_an_answer() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send("42[\"ask\"]").await;
    assert_eq!(ws.text().await, "420[\"question\"]");
    assert_eq!(ws.text().await, "42[\"no-answer\",\"no_answer\"]");
    ws.send("430[]").await;
    nothing_more(&mut ws).await;
}

#[tokio::test]
async fn ask_has_a_bound_for_each_client() {
    let rig = server();
    let mut ws = connected(&rig).await;
    for _ in 0..65 {
        ws.send("42[\"ask\"]").await;
    }
    for number in 0..64 {
        assert_eq!(ws.text().await, format!("42{number}[\"question\"]"));
    }
    assert_eq!(ws.text().await, "42[\"no-answer\",\"too_many_questions\"]");
}

#[tokio::test]
async fn ask_is_forgotten_when_the_client_leaves() {
    let rig = server();
    let (mut ws, mut other) = (connected(&rig).await, connected(&rig).await);
    enter(&mut ws, "/custom", "").await;
    ws.send("42/custom,[\"ask\"]").await;
    ws.text().await;
    ws.send("41/custom,").await;
    ws.send("42[\"message\"]").await;
    assert_eq!(ws.text().await, "42[\"message-back\"]", "what fails in a namespace that was left is not told there");
    drop(ws);
    until("it is gone", || rig.clients() == 1).await;
    nothing_more(&mut other).await;
}

#[tokio::test]
async fn rooms_reach_their_members_once_and_not_the_sender() {
    let rig = server();
    let mut clients = [connected(&rig).await, connected(&rig).await, connected(&rig).await];
    for (client, rooms) in clients.iter_mut().zip([&["a", "b"][..], &["a", "b"], &["a"]]) {
        for room in rooms {
            client.send(&format!("42[\"join\",\"{room}\"]")).await;
        }
        nothing_more(client).await;
    }
    let [one, two, three] = &mut clients;
    one.send("42[\"tell-room\",1]").await;
    assert_eq!((two.text().await, three.text().await), ("42[\"told\",1]".into(), "42[\"told\",1]".into()));
    one.send("42[\"tell-room-but-not\",2]").await;
    assert_eq!(three.text().await, "42[\"told\",2]");
    three.send("42[\"leave\",\"a\"]").await;
    nothing_more(three).await;
    one.send("42[\"tell-room\",3]").await;
    assert_eq!(two.text().await, "42[\"told\",3]", "each of them once");
    one.send("42[\"tell-all\",\"x\"]").await;
    for client in [one, two, three] {
        assert_eq!(client.text().await, "42[\"told\",\"x\"]");
        nothing_more(client).await;
    }
}

#[tokio::test]
async fn rooms_are_those_of_one_namespace_and_end_with_it() {
    let rig = server();
    let (mut one, mut two) = (connected(&rig).await, connected(&rig).await);
    enter(&mut one, "/custom", "").await;
    one.send("42/custom,[\"join\",\"a\"]").await;
    nothing_more(&mut one).await;
    two.send("42[\"tell-room\",1]").await;
    nothing_more(&mut two).await;
    nothing_more(&mut one).await;
    one.send("41/custom,").await;
    enter(&mut one, "/custom", "").await;
    enter(&mut two, "/custom", "").await;
    two.send("42/custom,[\"tell-room\",1]").await;
    nothing_more(&mut two).await;
    nothing_more(&mut one).await;
}

#[tokio::test]
async fn malformed_packets_close() {
    let rig = server();
    let bad = [
        "4abc",
        "42",
        "42[]",
        "42{}",
        "42[1]",
        "42[\"open",
        "42abc[\"x\"]",
        "4299999999999999999999999[\"x\"]",
        "43[]",
        "431",
        "431{}",
        "45[\"x\"]",
        "451-",
        "45999-[\"x\"]",
        "41x",
        "4é",
    ];
    for bad in bad {
        let mut ws = connected(&rig).await;
        ws.send(bad).await;
        assert_eq!(ws.next().await, Frame::Close(1002), "{bad}");
    }
}

#[tokio::test]
async fn binary_data_that_nobody_announced_closes() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send_frame(0x82, &[1]).await;
    closed(&rig, &mut ws, 1002).await;
    let sid = connected_polling(&rig).await;
    assert_eq!(status(&rig.send(&sid, "bAQ==").await), 400);
}

#[tokio::test]
async fn text_where_binary_data_was_announced_closes() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send(&format!("451-[\"message\",{IMAGE}]")).await;
    ws.send("42[\"message\"]").await;
    closed(&rig, &mut ws, 1002).await;
}

#[tokio::test]
async fn binary_data_above_the_limit_of_a_message_close() {
    let rig = server();
    let mut ws = connected(&rig).await;
    ws.send("452-[\"message\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]").await;
    ws.send_frame(0x82, &vec![0; 600_000]).await;
    ws.send_frame(0x82, &vec![0; 600_000]).await;
    closed(&rig, &mut ws, 1002).await;
}
