//! What Socket.IO clients ask about files, code, and replays.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

async fn say(client: &mut Ws, name: &str, argument: Value) {
    client.send(&format!("42{}", json!([name, argument]))).await;
}

#[tokio::test]
async fn read_file_is_answered_as_the_original_answers() {
    let place = Place::new();
    let rig = start(place.settings());
    place.write("root/latin.txt", b"caf\xe9\n");
    place.write("root/binary", b"a\0b");
    place.write("root/large.txt", &vec![b'x'; (1 << 20) + 1]);
    place.write("root/quotes.txt", &vec![b'"'; 2 << 20]);
    let mut client = Ws::join(&rig).await;
    let root = place.root("");
    let root = root.trim_end_matches('/');
    let failed = |path: &str, error: &str, code: &str| json!({"success": false, "error": error, "file_path": path, "code": code});
    let mut large = failed("large.txt", "File too large (1048577 bytes). Maximum allowed: 1048576 bytes", "too_large");
    large["file_size"] = json!(1_048_577);
    for (question, wanted) in [
        (
            json!({"file_path": "a.txt", "working_dir": root}),
            json!({"success": true, "file_path": "a.txt", "content": "hello\nchange\n", "file_size": 13, "extension": ".txt",
                   "encoding": "utf-8"}),
        ),
        (
            json!({"file_path": place.root("latin.txt")}),
            json!({"success": true, "file_path": place.root("latin.txt"), "content": "caf\u{e9}\n", "file_size": 5,
                   "extension": ".txt", "encoding": "latin-1"}),
        ),
        (
            json!({}),
            json!({"success": false, "error": "file_path is required", "file_path": null, "code": "path_missing"}),
        ),
        (
            json!({"file_path": "/etc/passwd", "working_dir": "/"}),
            failed("/etc/passwd", "Access denied: file is outside allowed directories", "outside_roots"),
        ),
        (json!({"file_path": "none", "working_dir": root}), failed("none", "File does not exist", "not_found")),
        (json!({"file_path": "deep", "working_dir": root}), failed("deep", "Path is not a file", "not_a_file")),
        (
            json!({"file_path": "binary", "working_dir": root}),
            failed("binary", "File appears to be binary and cannot be displayed as text", "not_text"),
        ),
        (json!({"file_path": "large.txt", "working_dir": root}), large),
    ] {
        say(&mut client, "read_file", question).await;
        assert_eq!(client.event("file_content_response").await, wanted);
    }
    // A client may ask for more, but not for so much that the answer would cost it its connection.
    say(&mut client, "read_file", json!({"file_path": "large.txt", "working_dir": root, "max_size": 1_u64 << 40}))
        .await;
    assert_eq!(client.event("file_content_response").await["file_size"], 1_048_577);
    say(&mut client, "read_file", json!({"file_path": "quotes.txt", "working_dir": root, "max_size": 1_u64 << 40}))
        .await;
    assert_eq!(client.event("file_content_response").await["code"], "too_large");
    client.send("427[\"read_file\",{}]").await;
    while !client.text().await.starts_with("437[]") {}
}

#[tokio::test]
async fn code_is_not_analysed_and_the_client_learns_it() {
    let rig = start(Place::new().settings());
    let mut client = Ws::join(&rig).await;
    for (name, error) in [
        ("code:analyze:file", "Failed to analyze file: /p/a.py"),
        ("code:analyze:directory", "Failed to analyze directory: /p/a.py"),
        ("code:get:tree", "Failed to get tree data for: /p/a.py"),
    ] {
        say(&mut client, name, json!({"path": "/p/a.py"})).await;
        let answer = client.event("code:error").await;
        assert_eq!((answer["error"].as_str(), answer["code"].as_str()), (Some(error), Some("not_supported")));
        assert!(answer["reason"].as_str().is_some_and(|r| r.contains("does not analyse code")));
    }
    say(&mut client, "code:analyze:file", json!({})).await;
    assert_eq!(client.event("code:error").await["error"], "No file path provided");
    say(&mut client, "code:clear:cache", json!({})).await;
    assert_eq!(client.event("code:cache:cleared").await, json!({"type": "all"}));
}

async fn post_at(rig: &Rig, session: &str, timestamp: &str, n: u64) {
    let event = json!({"event": "claude_event", "data": {"subtype": "pre_tool", "session_id": session, "timestamp": timestamp,
                       "data": {"n": n, "session_id": session}}});
    assert_eq!(status(&rig.post(&event.to_string()).await), 204);
}

#[tokio::test]
async fn a_replay_plays_the_events_of_a_session_and_ends_with_its_client() {
    let rig = start(Place::new().settings());
    let mut client = Ws::join(&rig).await;
    for (question, error) in [
        (json!({}), "No session ID provided for replay"),
        (json!({"session_id": "zz"}), "No events found for session: zz"),
        (json!({"session_id": "zz", "speed": 0}), "Replay error: the speed must be a number above 0, not 0"),
        (
            json!({"session_id": "zz", "speed": "fast"}),
            "Replay error: the speed must be a number above 0, not \"fast\"",
        ),
    ] {
        say(&mut client, "hook:replay:start", question).await;
        assert_eq!(client.event("hook:error").await["error"], error);
    }
    for (n, at) in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:02Z"].iter().enumerate() {
        post_at(&rig, "s9", at, n as u64).await;
        post_at(&rig, "other", at, 9).await;
    }
    let began = Instant::now();
    say(&mut client, "hook:replay:start", json!({"session_id": "s9", "speed": 5})).await;
    assert_eq!(client.event("hook:replay:started").await, json!({"event_count": 3, "speed": 5}));
    for index in 0..3 {
        let event = client.event("hook:replay:event").await;
        assert_eq!((&event["index"], &event["total"]), (&json!(index), &json!(3)));
        assert_eq!((&event["event"]["data"]["n"], &event["event"]["session_id"]), (&json!(index), &json!("s9")));
        assert_eq!(event["event"]["type"], "tool_event");
    }
    assert_eq!(client.event("hook:replay:completed").await, json!({"event_count": 3}));
    // 0.1 s and 0.3 s.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");

    // A second replay takes the place of the first, which would take hours.
    for n in 0..100 {
        post_at(&rig, "long", &format!("2026-01-{:02}T00:00:00Z", n % 28 + 1), n).await;
    }
    say(&mut client, "hook:replay:start", json!({"session_id": "long"})).await;
    client.event("hook:replay:started").await;
    client.event("hook:replay:event").await;
    say(&mut client, "hook:replay:start", json!({"session_id": "s9", "speed": 100})).await;
    assert_eq!(client.event("hook:replay:started").await["event_count"], 3);
    for _ in 0..3 {
        assert_eq!(client.event("hook:replay:event").await["total"], 3);
    }
    client.event("hook:replay:completed").await;

    // When the client goes, nothing of it stays.
    say(&mut client, "hook:replay:start", json!({"session_id": "long"})).await;
    client.event("hook:replay:started").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let with = tasks();
    drop(client);
    until("the replay has ended", || rig.server().connections() == 0 && tasks() < with).await;
}
