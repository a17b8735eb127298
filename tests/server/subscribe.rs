//! Clients that ask for some of the events, over real sockets.

use crate::support::*;
use serde_json::{Value, json};

/// A client in the namespace that has subscribed, and what it was told.
async fn subscribed(rig: &Rig, wish: &str) -> (Ws, Value) {
    let mut ws = Ws::join(rig).await;
    ws.event("history").await;
    ws.send(&format!("429[\"subscribe\"{}{wish}]", if wish.is_empty() { "" } else { "," })).await;
    let told = ws.event("subscribed").await;
    assert_eq!(ws.text().await, "439[]");
    (ws, told)
}

async fn post(rig: &Rig, subtype: &str, session: &str) {
    let event = json!({"data": {"subtype": subtype, "session_id": session}});
    assert_eq!(status(&rig.post(&event.to_string()).await), 204);
}

/// What a client gets of four posted events, as name and session; the heartbeat of the server ends them.
async fn got(rig: &Rig, ws: &mut Ws) -> Vec<(String, String)> {
    for (subtype, session) in [("pre_tool", "a"), ("file_read", "a"), ("pre_tool", "b"), ("stop", "b")] {
        post(rig, subtype, session).await;
    }
    let last = rig.events.store.last_seq();
    until("the hub has them", || rig.events.hub.last_seq() == last).await;
    // Answered after everything that the fan-out has sent.
    ws.send("42[\"dashboard:ping\",{}]").await;
    let mut seen = Vec::new();
    loop {
        let text = ws.text().await;
        let Some(array) = text.strip_prefix("42") else { continue };
        let (name, payload): (String, Value) = serde_json::from_str(array).unwrap();
        match name.as_str() {
            "dashboard:pong" => return seen,
            "dashboard:client:count" => {}
            _ => seen.push((name, payload["session_id"].as_str().unwrap().to_owned())),
        }
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, session)| ((*name).to_owned(), (*session).to_owned())).collect()
}

#[tokio::test]
async fn a_client_gets_the_events_that_it_subscribed_to_and_the_others_get_all() {
    let rig = start(settings());
    let all = pairs(&[("tool_event", "a"), ("file_event", "a"), ("tool_event", "b"), ("claude_event", "b")]);
    let (mut by_session, told) = subscribed(&rig, r#"{"sessions":["a"]}"#).await;
    assert_eq!(told, json!({"sessions": ["a"], "events": ["*"], "channels": ["*"]}));
    let (mut by_name, _) = subscribed(&rig, r#"{"events":["tool_event","claude_event"]}"#).await;
    let (mut by_both, _) = subscribed(&rig, r#"{"events":["tool_event"],"sessions":["b","c"]}"#).await;
    let (mut by_channel, _) = subscribed(&rig, r#"{"channels":["file"]}"#).await;
    let (mut older, told) = subscribed(&rig, "").await;
    assert_eq!(told["channels"], json!(["*"]));
    assert_eq!(got(&rig, &mut by_session).await, all[..2]);
    assert_eq!(got(&rig, &mut older).await.len(), 8, "those of the first round too");

    let mut plain = Ws::join(&rig).await;
    plain.event("history").await;
    assert_eq!(got(&rig, &mut plain).await, all);
    let rounds = |count: usize, some: &[(&str, &str)]| pairs(&some.repeat(count));
    assert_eq!(
        got(&rig, &mut by_name).await,
        rounds(4, &[("tool_event", "a"), ("tool_event", "b"), ("claude_event", "b")])
    );
    assert_eq!(got(&rig, &mut by_both).await, rounds(5, &[("tool_event", "b")]));
    assert_eq!(got(&rig, &mut by_channel).await, rounds(6, &[("file_event", "a")]));

    by_channel.send("42[\"unsubscribe\"]").await;
    by_channel.event("subscribed").await;
    assert_eq!(got(&rig, &mut by_channel).await, all);
}

#[tokio::test]
async fn of_an_event_with_two_names_the_subscribed_one_comes() {
    let rig = start(settings());
    let (mut ws, _) = subscribed(&rig, r#"{"events":["hook:event"]}"#).await;
    ws.send("421[\"claude_event\",{\"session_id\":\"a\"}]").await;
    let mut event = ws.text().await;
    while event.contains("client:count") || event == "431[]" {
        event = ws.text().await;
    }
    assert!(event.starts_with("42[\"hook:event\""), "{event}");
    assert_eq!(got(&rig, &mut ws).await, [], "neither its other name nor others");
}

#[tokio::test]
async fn a_wish_that_takes_too_many_rooms_changes_nothing() {
    let rig = start(settings());
    let (mut ws, _) = subscribed(&rig, r#"{"events":["file_event"]}"#).await;
    let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    ws.send(&format!("42[\"subscribe\",{}]", json!({"sessions": many, "events": many}))).await;
    assert!(ws.event("hook:error").await["error"].as_str().unwrap().contains("1024"));
    assert_eq!(got(&rig, &mut ws).await, pairs(&[("file_event", "a")]));
}

#[tokio::test]
async fn who_subscribes_while_it_resumes_gets_its_own_events_alone() {
    let rig = start(settings());
    for _ in 0..300 {
        rig.events.commit("tool_event", &format!("{{\"pad\":\"{}\"}}", "x".repeat(20_000)));
        rig.events.commit("file_event", "{}");
    }
    let mut ws = Ws::open(&rig, "", "").await.unwrap();
    ws.text().await;
    ws.send("40{\"last_seq\":0}").await;
    ws.send("42[\"subscribe\",{\"events\":[\"file_event\"]}]").await;
    let (mut subscribed, mut last) = (false, 0);
    loop {
        let text = ws.text().await;
        let Some(array) = text.strip_prefix("42") else { continue };
        let (name, payload): (String, Value) = serde_json::from_str(array).unwrap();
        match name.as_str() {
            "subscribed" => subscribed = true,
            "tool_event" => assert!(!subscribed, "number {} after the wish", payload["seq"]),
            "resumed" => break assert_eq!((&payload["count"], &payload["missed"]), (&json!(600), &json!(0))),
            "file_event" => {
                assert_eq!(payload["seq"], last + 2);
                last += 2;
            }
            _ => {}
        }
    }
    assert!(subscribed && last == 600, "the last one was {last}");
}
