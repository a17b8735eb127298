//! Socket.IO in-process, over real sockets: transcripts of both transports, fan-out, heartbeat, eviction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::*;
use mpm_monitor::config::Settings;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

fn event(packet: &str) -> Value {
    serde_json::from_str(packet.strip_prefix("42").unwrap_or_else(|| panic!("no event: {packet}"))).unwrap()
}

#[tokio::test]
async fn a_polling_client_is_greeted_answered_and_acknowledged() {
    let rig = start(settings());
    rig.events.commit("tool_event", r#"{"n":1}"#);
    until("the hub has it", || rig.events.hub.last_seq() == 1).await;
    let sid = rig.open().await;
    assert_eq!(body(&rig.send(&sid, "40").await), "ok");
    let greeting = packets(&rig.poll(&sid).await);
    let granted: Value = serde_json::from_str(greeting[0].strip_prefix("40").unwrap()).unwrap();
    assert_ne!(granted["sid"], json!(sid));
    assert_eq!(granted["sid"].as_str().unwrap().len(), 20);
    let welcome = event(&greeting[1]);
    assert_eq!((&welcome[0], &welcome[1]["session_id"]), (&json!("dashboard:welcome"), &granted["sid"]));
    assert_eq!(event(&greeting[2]), json!(["dashboard:client:count", {"count": 1}]));
    for (packet, name) in [(&greeting[3], "event_history"), (&greeting[4], "history")] {
        let past = json!({"events": [{"n": 1, "seq": 1}], "count": 1, "total_available": 1});
        assert_eq!(event(packet), json!([name, past]));
    }
    assert_eq!(greeting.len(), 5);

    rig.send(&sid, "42[\"no:such\",{}]\u{1e}428[\"no:such\"]\u{1e}427[\"dashboard:ping\",{\"timestamp\":2}]").await;
    let answer = packets(&rig.poll(&sid).await);
    let pong = event(&answer[0]);
    assert_eq!((&pong[0], &pong[1]["timestamp"]), (&json!("dashboard:pong"), &json!(2)));
    assert_eq!(answer[1..], ["437[]"]);

    rig.send(&sid, "40/hook,").await;
    assert_eq!(packets(&rig.poll(&sid).await), [r#"44/hook,{"message":"Invalid namespace"}"#]);

    let (live, _) = tokio::join!(rig.poll(&sid), async { rig.events.commit("tool_event", r#"{"n":2}"#) });
    let second = json!(["tool_event", {"n": 2, "id": rig.events.id(2), "seq": 2}]);
    assert_eq!(packets(&live).len(), 1);
    assert_eq!(event(&packets(&live)[0]), second);

    let (last, _) = tokio::join!(rig.poll(&sid), rig.send(&sid, "1"));
    assert_eq!(packets(&last), ["6"]);
    assert_eq!(status(&rig.poll(&sid).await), 400);
    assert_eq!(rig.server().clients(), 0);
}

#[tokio::test]
async fn errors_are_those_of_the_protocol() {
    let rig = start(settings());
    let get = async |query: &str| {
        let answer = rig.ask("GET", &format!("/socket.io/{query}"), "", "").await;
        assert_eq!(status(&answer), 400, "{query}");
        body(&answer).to_owned()
    };
    let version = r#""The client is using an unsupported version of the Socket.IO or Engine.IO protocols""#;
    assert_eq!(get("?EIO=2&transport=polling").await, version);
    assert_eq!(get("").await, version);
    assert_eq!(get("?EIO=4&transport=foo").await, r#""Invalid transport""#);
    assert_eq!(get("?EIO=4&transport=polling&sid=AAAAAAAA").await, r#""Invalid session AAAAAAAA""#);
    assert_eq!(get("?EIO=4&transport=polling&j=0").await, r#""JSONP polling is not supported""#);
    assert_eq!(get("?EIO=4&transport=websocket").await, r#""A WebSocket handshake was expected""#);
    let post = rig.ask("POST", "/socket.io/?EIO=4&transport=polling", "", "40").await;
    assert_eq!((status(&post), body(&post)), (400, r#""Invalid session None""#));
    let put = rig.ask("PUT", "/socket.io/?EIO=4&transport=polling", "", "").await;
    assert_eq!((status(&put), body(&put)), (400, r#""Bad handshake method""#));
    assert_eq!(status(&rig.ask("GET", "/socket.io", "", "").await), 404);

    let sid = rig.open().await;
    assert_eq!(status(&rig.send(&sid, "abc").await), 400);
    assert_eq!(status(&rig.poll(&sid).await), 400, "garbage ended the session");
    let sid = rig.open().await;
    let (first, second) = tokio::join!(rig.poll(&sid), rig.poll(&sid));
    let mut both = [status(&first), status(&second)];
    both.sort_unstable();
    assert_eq!(both, [200, 400], "two polls at once end the session");
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_not_counted() {
    let rig = start(settings());
    for _ in 0..20 {
        let sid = rig.open().await;
        let mut late = rig.connect().await;
        let head = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: 2\r\n\r\n4"
        );
        late.write_all(head.as_bytes()).await.unwrap();
        // Two polls at once end the session while the wish to join is on its way.
        tokio::join!(rig.poll(&sid), rig.poll(&sid));
        late.write_all(b"0").await.unwrap();
        assert_eq!(status(&to_end(&mut late).await), 400);
    }
    assert_eq!(rig.server().clients(), 0);
}

#[tokio::test]
async fn a_question_has_a_bounded_size_and_an_event_has_not() {
    let rig = start(settings());
    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    let pad = "x".repeat(100_000);
    ws.send(&format!("42[\"subscribe\",{{\"sessions\":[\"{pad}\"]}}]")).await;
    let error = ws.event("hook:error").await["error"].to_string();
    assert!(error.contains("the arguments of subscribe are larger than 65536 bytes"), "{error}");
    ws.send(&format!("421[\"claude_event\",{{\"data\":{{\"pad\":\"{pad}\"}}}}]")).await;
    ws.event("claude_event").await;
    let many: Vec<String> = (0..40).map(|n| format!("\"{n}\"")).collect();
    let many = many.join(",");
    ws.send(&format!("42[\"subscribe\",{{\"sessions\":[{many}],\"events\":[{many}]}}]")).await;
    let error = ws.event("hook:error").await["error"].to_string();
    assert!(error.contains("1024 rooms"), "{error}");
    ws.send("41").await;
    ws.send(&format!("40{{\"token\":\"{pad}\"}}")).await;
    loop {
        if let Some(refusal) = ws.text().await.strip_prefix("44") {
            assert!(refusal.contains("auth_too_large"), "{refusal}");
            break;
        }
    }
}

#[tokio::test]
async fn a_websocket_from_the_start_and_its_limits() {
    let rig = start(settings());
    let mut ws = Ws::open(&rig, "", "").await.unwrap();
    let open: Value = serde_json::from_str(ws.text().await.strip_prefix('0').unwrap()).unwrap();
    assert_eq!((&open["upgrades"], &open["pingInterval"]), (&json!([]), &json!(30_000)));
    assert_eq!((&open["pingTimeout"], &open["maxPayload"]), (&json!(60_000), &json!(1_000_000)));
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{\"sid\":"));
    ws.event("history").await;
    ws.send_frame(0x89, b"hi").await;
    assert_eq!(ws.next().await, Frame::Pong(b"hi".to_vec()));
    ws.send("427[\"dashboard:ping\",{}]").await;
    ws.event("dashboard:pong").await;
    assert_eq!(ws.text().await, "437[]");
    ws.send("451-[\"dashboard:ping\",{\"_placeholder\":true,\"num\":0}]").await;
    ws.send_frame(0x82, &[1, 2, 3]).await;
    ws.event("dashboard:pong").await;
    ws.send_frame(0x88, &1000_u16.to_be_bytes()).await;
    assert_eq!(ws.next().await, Frame::Close(1000));
    until("it has left", || rig.server().clients() == 0).await;

    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    ws.send(&format!("4{}", "x".repeat(1_000_001))).await;
    assert_eq!(ws.next().await, Frame::Close(1009));
    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    ws.send("zzz").await;
    assert_eq!(ws.next().await, Frame::Close(1002));
    until("nobody is left", || rig.server().connections() == 0).await;
}

#[tokio::test]
async fn a_polling_client_moves_to_a_websocket_and_loses_nothing() {
    let rig = start(settings());
    let sid = rig.open().await;
    rig.send(&sid, "40").await;
    packets(&rig.poll(&sid).await);
    let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
    let second = Ws::open(&rig, &format!("&sid={sid}"), "").await.err().unwrap();
    assert_eq!(status(&second), 400);
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    assert_eq!(packets(&rig.poll(&sid).await), ["6"], "the pending poll ends");
    for n in 1..=3 {
        rig.events.commit("tool_event", &format!("{{\"n\":{n}}}"));
    }
    until("the hub has them", || rig.events.hub.last_seq() == 3).await;
    ws.send("5").await;
    for n in 1..=3 {
        assert_eq!(ws.event("tool_event").await["n"], n);
    }
    rig.events.commit("tool_event", "{\"n\":4}");
    assert_eq!(ws.event("tool_event").await["n"], 4);
    assert_eq!(status(&rig.poll(&sid).await), 400, "it does not poll any more");
}

#[tokio::test]
async fn a_probe_that_dies_leaves_the_client_polling() {
    let rig = start(settings());
    let sid = rig.open().await;
    rig.send(&sid, "40").await;
    packets(&rig.poll(&sid).await);
    let mut ws = Ws::open(&rig, &format!("&sid={sid}"), "").await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    drop(ws);
    rig.events.commit("tool_event", "{\"n\":1}");
    until("the hub has it", || rig.events.hub.last_seq() == 1).await;
    let mut got = packets(&rig.poll(&sid).await);
    while got == ["6"] {
        got = packets(&rig.poll(&sid).await);
    }
    assert_eq!(event(&got[0])[1]["n"], 1);
}

#[tokio::test]
async fn every_client_gets_every_event_once_and_in_order() {
    let rig = start(settings());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut ws = Ws::join(&rig).await;
        ws.event("history").await;
        clients.push(ws);
    }
    let events = Arc::clone(&rig.events);
    let publisher = std::thread::spawn(move || {
        for n in 1..=500 {
            events.commit("tool_event", &format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(600)));
        }
    });
    for ws in &mut clients {
        for n in 1..=500 {
            let event = ws.event("tool_event").await;
            assert_eq!((&event["n"], &event["seq"]), (&json!(n), &json!(n)));
        }
    }
    publisher.join().unwrap();
    rig.events.commit("end", "{}");
    for ws in &mut clients {
        let text = loop {
            let text = ws.text().await;
            if !text.contains("client:count") {
                break text;
            }
        };
        assert!(text.starts_with("42[\"end\""), "{text}");
    }
}

#[tokio::test]
async fn history_and_live_events_meet_without_a_gap_and_without_a_double() {
    let mut wide = settings();
    wide.history_on_connect = 1000;
    let rig = start(wide);
    let events = Arc::clone(&rig.events);
    let publisher = std::thread::spawn(move || {
        for n in 0..800 {
            events.commit("tool_event", "{}");
            if n % 20 == 0 {
                std::thread::yield_now();
            }
        }
    });
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut ws = Ws::join(&rig).await;
        let past = ws.event("event_history").await;
        let seen: Vec<u64> = past["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        assert_eq!(ws.event("history").await, past);
        clients.push((ws, seen));
    }
    publisher.join().unwrap();
    for (ws, seen) in &mut clients {
        while seen.last() != Some(&800) {
            seen.push(ws.event("tool_event").await["seq"].as_u64().unwrap());
        }
        assert_eq!(*seen, (1..=800).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_reset_and_the_others_get_everything() {
    let mut tight = settings();
    tight.client_backlog = 256 << 10;
    let rig = start(tight);
    let mut stalled = Ws::join(&rig).await;
    stalled.event("history").await;
    let mut healthy = Ws::join(&rig).await;
    healthy.event("history").await;
    let pad = "x".repeat(50_000);
    let counters = rig.server().counters_of_clients();
    let mut sent = 0;
    while counters.evicted_backlog.load(Ordering::Relaxed) == 0 {
        sent += 1;
        assert!(sent < 2000, "100 MB were taken for a client that reads nothing");
        rig.events.commit("tool_event", &format!("{{\"n\":{sent},\"pad\":\"{pad}\"}}"));
        assert_eq!(healthy.event("tool_event").await["n"], sent);
    }
    until("its connection is closed", || rig.server().connections() == 1).await;
    loop {
        match stalled.next().await {
            Frame::Text(_) => {}
            Frame::End(reset) => break assert!(reset, "a reset, not a close"),
            other => panic!("{other:?}"),
        }
    }
    rig.events.commit("end", "{}");
    healthy.event("end").await;
    assert_eq!(rig.server().clients(), 1);
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_gone_while_one_that_answers_stays() {
    let mut quick = settings();
    (quick.ping_interval, quick.ping_timeout) = (Duration::from_millis(100), Duration::from_millis(400));
    let rig = start(quick);
    let mut silent = Ws::join(&rig).await;
    let mut lively = Ws::join(&rig).await;
    let sid = rig.open().await;
    let mut pings = 0;
    loop {
        tokio::select! {
            frame = lively.next() => match frame {
                Frame::Text(text) if text == "2" => {
                    pings += 1;
                    lively.send("3").await;
                }
                Frame::Text(_) => {}
                other => panic!("{other:?}"),
            },
            frame = silent.next() => match frame {
                Frame::Text(_) => {}
                Frame::End(_) => break,
                other => panic!("{other:?}"),
            },
        }
    }
    assert!(pings >= 2, "{pings}");
    let counters = rig.server().counters_of_clients();
    until("the poller that never polled is gone too", || counters.ping_timeouts.load(Ordering::Relaxed) >= 2).await;
    assert_eq!(status(&rig.poll(&sid).await), 400);
}

#[tokio::test]
async fn protocol_3_client_is_told_what_the_monitor_speaks() {
    let rig = start(settings());
    let answer = rig.ask("GET", "/socket.io/?EIO=3&transport=polling&b64=1", "", "").await;
    let words = "this monitor speaks Socket.IO protocol 5 over Engine.IO protocol 4; \
                 connect with socket.io-client 3 or 4, or python-socketio 5";
    assert!(status(&answer) == 200 && body(&answer).contains(&format!("44\"{words}\"")), "{answer}");
    assert_eq!(rig.server().clients(), 0);
}

#[tokio::test]
async fn clients_over_the_limit_are_refused_with_a_reason_on_both_transports() {
    let mut few = settings();
    few.max_clients = 1;
    let rig = start(few);
    let first = Ws::join(&rig).await;
    let poll = rig.ask("GET", "/socket.io/?EIO=4&transport=polling", "", "").await;
    assert_eq!((status(&poll), code(&poll).as_str()), (503, "too_many_clients"));
    assert_eq!(code(&Ws::open(&rig, "", "").await.err().unwrap()), "too_many_clients");
    assert_eq!(rig.server().counters_of_clients().refused.load(Ordering::Relaxed), 2);
    let mut more = settings();
    more.max_clients = 2;
    rig.settings.send_replace(more.into());
    let mut second = Ws::join(&rig).await;
    second.event("history").await;
    drop(first);
    assert_eq!(second.event("dashboard:client:count").await, json!({"count": 1}));
}

#[tokio::test]
async fn a_token_in_the_auth_payload_opens_the_namespace_and_the_right_to_write() {
    use mpm_monitor::config::{LocalAccess, Token};
    let strict = |local| Settings { token: Some(Token::new("0123456789abcdef").unwrap()), local, ..settings() };
    let rig = start(strict(LocalAccess::None));
    for (auth, code) in [("", "token_required"), (r#"{"token":"wrong-wrong-wrong"}"#, "token_wrong")] {
        let sid = rig.open().await;
        rig.send(&sid, &format!("40{auth}")).await;
        let refused = packets(&rig.poll(&sid).await).remove(0);
        let refused: Value = serde_json::from_str(refused.strip_prefix("44").unwrap()).unwrap();
        assert_eq!(refused["data"]["code"], code);
        assert!(refused["message"].as_str().unwrap().contains("token"), "{refused}");
    }
    assert_eq!(rig.server().clients(), 0);
    let mut ws = Ws::open(&rig, "", "").await.unwrap();
    ws.text().await;
    ws.send(r#"40{"token":"0123456789abcdef"}"#).await;
    ws.event("history").await;
    ws.send(r#"421["claude_event",{"mine":1}]"#).await;
    ws.event("claude_event").await;
    let mut by_header = Ws::open(&rig, "", "Authorization: Bearer 0123456789abcdef\r\n").await.unwrap();
    by_header.text().await;
    by_header.send("40").await;
    by_header.event("history").await;

    // Who may only read is not acknowledged, and nothing is stored.
    rig.settings.send_replace(strict(LocalAccess::Read).into());
    let mut reader = Ws::join(&rig).await;
    reader.event("history").await;
    reader.send(r#"421["claude_event",{"mine":2}]"#).await;
    assert!(reader.event("hook:error").await["error"].as_str().unwrap().contains("token"));
    assert_eq!(rig.events.store.last_seq(), 1);
}

#[tokio::test]
async fn who_floods_waits_and_loses_nothing_while_the_others_are_served_at_once() {
    let rig = start(Settings { client_rate: 500, client_burst: 250, ..settings() });
    let mut flood = Ws::join(&rig).await;
    flood.event("history").await;
    let mut calm = Ws::join(&rig).await;
    calm.event("history").await;
    let mut bytes = Vec::new();
    for n in 0..1000 {
        let text = format!("42{n}[\"dashboard:ping\",{{\"timestamp\":{n}}}]");
        bytes.extend([0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]);
        bytes.extend(text.as_bytes());
    }
    let began = Instant::now();
    flood.stream.write_all(&bytes).await.unwrap();
    let flooded = tokio::spawn(async move {
        for n in 0..1000 {
            assert_eq!(flood.event("dashboard:pong").await["timestamp"], n);
        }
        began.elapsed()
    });
    let mut waits = Vec::new();
    while !flooded.is_finished() {
        let asked = Instant::now();
        calm.send("42[\"dashboard:ping\",{}]").await;
        calm.event("dashboard:pong").await;
        waits.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = flooded.await.unwrap();
    assert!(took >= Duration::from_millis(1400), "750 events beyond the burst at 500 a second took {took:?}");
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(100), "p99 of the other client is {p99:?}");
    let throttled = &rig.server().counters_of_clients().throttled;
    assert!(throttled.load(Ordering::Relaxed) >= 1, "nobody was counted");

    let sid = rig.open().await;
    rig.send(&sid, "40").await;
    rig.poll(&sid).await;
    let many: Vec<String> = (0..500).map(|n| format!("42{n}[\"dashboard:ping\",{{}}]")).collect();
    let began = Instant::now();
    assert_eq!(body(&rig.send(&sid, &many.join("\u{1e}")).await), "ok");
    assert!(began.elapsed() >= Duration::from_millis(450), "the answer came after {:?}", began.elapsed());
    let mut acknowledged = 0;
    while acknowledged < 500 {
        acknowledged += packets(&rig.poll(&sid).await).iter().filter(|p| p.starts_with("43")).count();
    }
}
