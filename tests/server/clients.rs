//! What Socket.IO clients may say and ask, over real sockets and with the real store.

use std::sync::Arc;
use std::time::Instant;

use crate::support::*;
use serde_json::{Value, json};

/// A client that has read its greeting.
async fn joined(rig: &Rig) -> Ws {
    let mut ws = Ws::join(rig).await;
    ws.event("history").await;
    ws
}

/// The next packets up to the acknowledgement with this number, that one not included; notices of the number of clients
/// are passed over.
async fn up_to_ack(ws: &mut Ws, ack: u64) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let text = ws.text().await;
        if text == format!("43{ack}[]") {
            return events;
        }
        let event: Value = serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("{text}"))).unwrap();
        if event[0] != "dashboard:client:count" {
            events.push(event);
        }
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e[0].as_str().unwrap()).collect()
}

/// What the store has, as `/api/events` tells it.
async fn stored(rig: &Rig) -> Vec<Value> {
    let answer = rig.ask("GET", "/api/events?limit=1000", "", "").await;
    let mut page: Value = serde_json::from_str(body(&answer)).unwrap();
    serde_json::from_value(page["events"].take()).unwrap()
}

#[tokio::test]
async fn binary_data_of_an_event_is_kept_as_base64_or_refused() {
    let rig = start(settings());
    let mut sender = joined(&rig).await;
    for (ack, event) in [(7, "claude_event"), (8, "hook:ingest")] {
        let image = r#"{"type":"hook","timestamp":1,"data":{"image":{"_placeholder":true,"num":0}}}"#;
        sender.send(&format!("451-{ack}[\"{event}\",{image}]")).await;
        sender.send_frame(0x82, &[0, 255]).await;
        up_to_ack(&mut sender, ack).await;
        let kept = &stored(&rig).await.pop().unwrap()["payload"]["data"]["image"];
        assert_eq!(*kept, json!({"_binary": "base64", "data": "AP8="}), "{event}");
    }
    sender.send(r#"451-9["claude_event",{"data":"no place"}]"#).await;
    sender.send_frame(0x82, &[0]).await;
    sender.send(r#"4210["claude_event",{}]"#).await;
    let seen = up_to_ack(&mut sender, 10).await;
    let refused = seen.iter().find(|e| e[0] == "hook:error").expect("it is refused, and not acknowledged");
    assert!(refused[1]["error"].as_str().unwrap().contains("placeholder"), "{refused}");
    assert_eq!(stored(&rig).await.len(), 3);
}

#[tokio::test]
async fn a_clients_event_is_stored_once_and_goes_to_all_under_both_names() {
    let rig = start(settings());
    let (mut sender, mut other) = (joined(&rig).await, joined(&rig).await);
    let said = json!({"event": "mpm_event", "source": "hook", "type": "hook", "subtype": "pre_tool", "session_id": "s-1",
                      "timestamp": "2026-02-18T12:00:00+00:00", "data": {"tool_name": "Bash"}, "cwd": "/w"});
    sender.send(&format!("421[\"claude_event\",{said}]")).await;
    // The acknowledgement comes after the commit, wherever the broadcast is; then a mark ends the reading.
    let mut seen = up_to_ack(&mut sender, 1).await;
    assert_eq!(stored(&rig).await.len(), 1, "acknowledged is stored");
    rig.post(r#"{"event":"stop"}"#).await;
    while names(&seen).last() != Some(&"claude_event") || seen.last().unwrap()[1]["subtype"] != "stop" {
        let text = sender.text().await;
        seen.push(serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap());
    }
    seen.retain(|e| e[0] != "dashboard:client:count");
    assert_eq!(names(&seen), ["hook:event", "claude_event", "claude_event"]);
    assert_eq!(seen[0][1], seen[1][1], "the same payload, id and number");
    let payload = &seen[0][1];
    assert_eq!((&payload["original_event"], &payload["id"]), (&said, &json!(rig.events.id(1))));
    assert_eq!(
        (&payload["type"], &payload["metadata"], &payload["event"]),
        (&json!("hook"), &json!({}), &json!("mpm_event"))
    );
    payload["processed_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(other.event("hook:event").await, *payload);
    assert_eq!(other.event("claude_event").await, *payload);
    let stored = stored(&rig).await;
    assert_eq!((&stored[0]["name"], &stored[0]["payload"]["original_event"]), (&json!("hook:event"), &said));
    let mut late = Ws::join(&rig).await;
    let mut unnamed = payload.clone();
    unnamed.as_object_mut().unwrap().remove("id");
    assert_eq!(late.event("history").await["events"][0], unnamed, "it is in the history");
    let ingest = rig.events.intake.counts();
    assert_eq!(ingest.accepted.values().sum::<u64>(), 2);
}

#[tokio::test]
async fn what_is_no_event_gets_an_error_and_no_acknowledgement() {
    let rig = start(settings());
    let mut ws = joined(&rig).await;
    let errors = [
        (r#"421["claude_event","x"]"#, "Claude event processing error: 'str' object has no attribute 'get'"),
        (r#"422["hook:ingest",{"type":"t"}]"#, "Invalid hook data format"),
        (r#"423["hook:session:start",{}]"#, "No session ID provided"),
        (r#"424["hook:session:end",{"session_id":""}]"#, "No session ID provided"),
    ];
    for (packet, error) in errors {
        ws.send(packet).await;
        assert_eq!(ws.event("hook:error").await, json!({"error": error}));
    }
    // No argument: nothing at all, as ever. The ping's answer comes next, so nothing was said in between.
    for nothing in
        [r#"425["claude_event"]"#, r#"426["hook:ingest"]"#, r#"427["dashboard:status"]"#, r#"428["read_file",{}]"#]
    {
        ws.send(nothing).await;
    }
    ws.send(r#"429["dashboard:ping",{"timestamp":1}]"#).await;
    assert_eq!(names(&up_to_ack(&mut ws, 9).await), ["dashboard:pong"]);
    assert!(stored(&rig).await.is_empty());
}

#[tokio::test]
async fn an_event_that_the_store_refuses_is_not_acknowledged() {
    let rig = start(settings());
    let mut ws = joined(&rig).await;
    let store = Arc::clone(&rig.events.store);
    assert!(tokio::task::spawn_blocking(move || store.close(Instant::now() + PATIENCE)).await.unwrap());
    ws.send(r#"421["claude_event",{}]"#).await;
    let error = ws.event("hook:error").await;
    assert!(error["error"].as_str().unwrap().contains("the store is closed"), "{error}");
    ws.send(r#"422["dashboard:ping",{}]"#).await;
    assert_eq!(names(&up_to_ack(&mut ws, 2).await), ["dashboard:pong"]);
    assert_eq!(rig.events.intake.counts().refused.into_keys().map(|k| k.1).collect::<Vec<_>>(), ["store_closed"]);
}

#[tokio::test]
async fn a_thousand_events_at_once_are_all_there_in_order_over_both_transports() {
    let rig = start(settings());
    let mut ws = Ws::open(&rig, "", "").await.unwrap();
    ws.send("40").await;
    let mut burst = Vec::new();
    for n in 0..1000 {
        let text = format!("42[\"claude_event\",{{\"n\":{n}}}]");
        burst.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        burst.extend(text.as_bytes());
    }
    tokio::io::AsyncWriteExt::write_all(&mut ws.stream, &burst).await.unwrap();
    for n in 0..1000 {
        assert_eq!(ws.event("hook:event").await["original_event"]["n"], n);
    }
    let sid = rig.open().await;
    rig.send(&sid, "40").await;
    let many: Vec<String> = (1000..1500).map(|n| format!("42[\"claude_event\",{{\"n\":{n}}}]")).collect();
    assert_eq!(body(&rig.send(&sid, &many.join("\u{1e}")).await), "ok");
    assert_eq!(rig.events.store.last_seq(), 1500, "the answer to a POST comes when its events are stored");
    let page = rig.events.store.after(0, 2000, &Default::default()).await.unwrap();
    for (n, event) in page.events.iter().enumerate() {
        let payload: Value = serde_json::from_str(&event.draft.payload).unwrap();
        assert_eq!(payload["original_event"]["n"], n);
    }
}

#[tokio::test]
async fn sessions_are_announced_listed_and_ended() {
    let rig = start(settings());
    let (mut ws, mut other) = (joined(&rig).await, joined(&rig).await);
    ws.send(r#"421["hook:session:start",{"session_id":"s-1","metadata":{"a":1}}]"#).await;
    let started = other.event("hook:session:started").await;
    assert_eq!(
        (&started["status"], &started["event_count"], &started["metadata"]),
        (&json!("running"), &json!(0), &json!({"a": 1}))
    );
    let told = other.event("claude_event").await;
    assert_eq!(
        (&told["type"], &told["session_id"], &told["data"]),
        (&json!("session.started"), &json!("s-1"), &started)
    );
    up_to_ack(&mut ws, 1).await;
    ws.send(r#"422["claude_event",{"session_id":"s-1"}]"#).await;
    up_to_ack(&mut ws, 2).await;
    ws.send(r#"42["hook:session:info",{"session_id":"s-1"}]"#).await;
    let info = ws.event("hook:session:info:response").await;
    assert_eq!((&info["session_id"], &info["event_count"]), (&json!("s-1"), &json!(1)));
    ws.send(r#"42["hook:session:info",{"session_id":"s-2"}]"#).await;
    assert_eq!(ws.event("hook:error").await, json!({"error": "Session not found: s-2"}));
    ws.send(r#"423["hook:session:end",{"session_id":"s-2"}]"#).await;
    let silence = up_to_ack(&mut ws, 3).await;
    assert!(silence.iter().all(|e| e[1]["session_id"] != "s-2"), "{silence:?}");
    ws.send(r#"424["hook:session:end",{"session_id":"s-1"}]"#).await;
    let ended = other.event("hook:session:ended").await;
    assert_eq!((&ended["status"], &ended["start_time"]), (&json!("ended"), &started["start_time"]));
    assert!(ended["duration"].as_f64().unwrap() >= 0.0 && ended["end_time"].is_string());
    assert_eq!(other.event("claude_event").await["type"], "session.ended");
    up_to_ack(&mut ws, 4).await;
    ws.send(r#"42["hook:sessions:list"]"#).await;
    let list = ws.event("hook:sessions:response").await;
    assert_eq!((&list["total"], &list["sessions"][0]["status"]), (&json!(1), &json!("ended")));
    assert_eq!(stored(&rig).await.len(), 3, "begin, event and end, each once");
}

#[tokio::test]
async fn the_past_is_told_to_those_who_ask_in_either_dialect() {
    let rig = start(settings());
    for n in 1..=3 {
        rig.post(&format!(r#"{{"data":{{"subtype":"pre_tool","session_id":"s{n}"}}}}"#)).await;
    }
    until("the hub has them", || rig.events.hub.last_seq() == 3).await;
    let mut ws = joined(&rig).await;
    ws.send(r#"421["hook:history:get",{"limit":2,"type":"tool_event"}]"#).await;
    let answer = ws.event("hook:history:response").await;
    assert_eq!(
        (&answer["total"], &answer["events"][0]["seq"], &answer["events"][1]["seq"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert_eq!(answer["filters"], json!({"type": "tool_event", "session_id": null, "limit": 2}));
    ws.send(r#"42["hook:history:get",{"session_id":"s1"}]"#).await;
    let answer = ws.event("hook:history:response").await;
    assert_eq!((&answer["total"], &answer["filters"]["limit"]), (&json!(1), &json!(100)));
    for (name, argument) in [("get_history", ""), ("request_history", r#",{"limit":1,"event_types":[]}"#)] {
        ws.send(&format!("42[\"{name}\"{argument}]")).await;
        let answer = ws.event("history").await;
        let wanted = if argument.is_empty() { 3 } else { 1 };
        assert_eq!((&answer["count"], &answer["total_available"]), (&json!(wanted), &json!(3)));
        assert_eq!(answer["events"][wanted - 1]["seq"], 3);
    }
}

#[tokio::test]
async fn status_and_the_list_of_clients() {
    let rig = start(settings());
    let (mut ws, _other) = (joined(&rig).await, joined(&rig).await);
    for packet in [r#"42["get_status"]"#, r#"42["request.status",{}]"#] {
        ws.send(packet).await;
        let status = ws.event("status").await;
        assert_eq!((&status["type"], &status["data"]["clients_connected"]), (&json!("connection"), &json!(2)));
        status["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    ws.send(r#"42["dashboard:status",{}]"#).await;
    let status = ws.event("dashboard:status:response").await;
    assert_eq!((&status["service"], &status["clients_connected"]), (&json!("unified-monitor"), &json!(2)));
    ws.send(r#"42["dashboard:info",{}]"#).await;
    let info = ws.event("dashboard:info:response").await;
    assert_eq!(info["endpoints"]["dashboard"], "/");
    ws.send(r#"42["client:register",{"name":"me","type":"test"}]"#).await;
    let registered = ws.event("client:registered").await;
    assert_eq!((&registered["name"], &registered["type"]), (&json!("me"), &json!("test")));
    ws.send(r#"427["client:list",{}]"#).await;
    let list = ws.event("client:list:response").await;
    assert_eq!((&list["total"], &list["clients"][0]["name"]), (&json!(2), &json!("me")));
    assert_eq!((&list["clients"][0]["registered"], &list["clients"][1]["registered"]), (&json!(true), &json!(false)));
    assert_eq!(list["clients"][1]["type"], "unknown");
    let id = list["clients"][1]["session_id"].as_str().unwrap();
    assert_eq!(list["clients"][1]["name"], format!("Client-{}", &id[..8]));
    assert_eq!(list["clients"][0]["session_id"], registered["session_id"]);
}

#[tokio::test]
async fn every_event_that_the_protocols_page_lists_is_known() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).unwrap();
    let section = page.split("### What clients may send").nth(1).unwrap().split("\n## ").next().unwrap();
    let first_cells = section.lines().filter_map(|l| l.strip_prefix("| `")?.split(" |").next());
    let names: Vec<&str> = first_cells.flat_map(|c| c.split(", ")).map(|n| n.trim_matches('`')).collect();
    assert!(names.len() >= 15, "{names:?}");
    let rig = start(settings());
    let mut ws = joined(&rig).await;
    let argument = json!({"type": "t", "timestamp": 1, "session_id": "s"});
    for (ack, name) in (1..).zip(names) {
        ws.send(&format!("42{ack}[\"{name}\",{argument}]")).await;
        // One that is not known is never acknowledged.
        up_to_ack(&mut ws, ack).await;
    }
}
