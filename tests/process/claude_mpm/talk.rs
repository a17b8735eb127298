//! What a Socket.IO client says to both servers, and what it then hears.

use serde_json::{Value, json};

use super::compare::{Side, both};
use super::net::URL;

/// What is said, and whether both take it; the order matters.
fn things() -> Value {
    let whole = json!({"type": "hook", "subtype": "pre_tool", "timestamp": "2026-01-01T00:00:00Z", "session_id": "s-1",
        "source": "hook", "data": {"tool_name": "Bash"}, "correlation_id": "c", "cwd": "/w", "event": "e"});
    let ingest = json!({"type": "hook", "timestamp": "2026-01-01T00:00:01Z", "session_id": "s-1", "data": {"a": 1}});
    let taken = [
        json!(["claude_event", whole]),
        json!(["claude_event", {"subtype": "user_prompt", "timestamp": 7, "data": "text"}]),
        json!(["claude_event", {}]),
        json!(["hook:ingest", ingest]),
        json!(["hook:session:start", {"session_id": "s-1", "metadata": {"a": 1}}]),
        json!(["hook:session:info", {"session_id": "s-1"}]),
        json!(["hook:sessions:list", {}]),
        json!(["hook:session:end", {"session_id": "s-1"}]),
        json!(["hook:session:end", {"session_id": "none"}]),
        json!(["hook:history:get", {"limit": 2, "type": "hook", "session_id": "s-1"}]),
        json!(["hook:history:get", {"session_id": "none"}]),
        json!(["dashboard:status", {}]),
        json!(["dashboard:info", {}]),
        json!(["dashboard:ping", {"timestamp": 12}]),
        json!(["client:register", {"name": "me", "type": "cli"}]),
        json!(["client:register", {}]),
        json!(["client:list", {}]),
        json!(["hook:replay:start", {}]),
        json!(["hook:replay:start", {"session_id": "none"}]),
        json!(["read_file", {}]),
        json!(["code:analyze:file", {}]),
        json!(["code:analyze:directory", {"path": "/none"}]),
        json!(["code:get:tree", {"path": "/none"}]),
        json!(["code:clear:cache", {}]),
        json!(["code:clear:cache", {"type": "all"}]),
    ];
    let refused = [
        json!(["claude_event", "text"]),
        json!(["claude_event", [1]]),
        json!(["hook:ingest", {"type": "hook"}]),
        json!(["hook:session:start", {}]),
        json!(["hook:session:info", {"session_id": "none"}]),
        json!(["nothing", {"a": 1}]),
        json!(["dashboard:ping"]),
    ];
    let thing = |taken: bool| move |say: &Value| json!({"say": say, "taken": taken});
    taken.iter().map(thing(true)).chain(refused.iter().map(thing(false))).collect()
}

/// What was heard: the events that everybody hears, and the answers, each in order.
struct Heard {
    told: Vec<Value>,
    answers: Vec<Value>,
}

fn talk(side: &Side) -> Heard {
    let file = side.net.path("things.json");
    std::fs::write(&file, things().to_string()).unwrap();
    let ran = side.net.ran(&mut side.net.client("claude_mpm/say.py", &[URL, file.to_str().unwrap()])).ok();
    let mut heard = Heard { told: Vec::new(), answers: Vec::new() };
    for line in ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let name = line["event"].as_str().unwrap_or_default();
        match name {
            // The number of clients comes when it comes; the history is ours alone; the rest are the client's own marks.
            "" | "dashboard:client:count" | "event_history" | "history" => {}
            "dashboard:pong" if line["data"][0]["timestamp"] == 0 => {}
            "claude_event" | "hook:event" | "hook:session:started" | "hook:session:ended" => heard.told.push(line),
            _ => heard.answers.push(line),
        }
    }
    heard
}

/// Members that ours has in addition: the numbers of each event, what the original has since 5.9.35, and why it says no.
const ADDED: [&str; 9] = ["id", "seq", "correlation_id", "cwd", "event", "subtype", "source", "code", "reason"];
/// Times: the original writes its monotonic clock where ours writes the time.
const TIMES: [&str; 6] = ["timestamp", "processed_at", "start_time", "last_activity", "end_time", "connected_at"];
/// What tells of the server, and what is another in each run.
const OF_THE_SERVER: [&str; 7] =
    ["version", "uptime", "server_time", "duration", "description", "features", "code_analysis"];

/// What differs, beyond the lists above.
fn differences(theirs: &Value, ours: &Value, path: &str) -> Vec<String> {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let member = |(name, their): (&String, &Value)| match ours.get(name) {
                None => vec![format!("{path}/{name} is missing")],
                Some(our) if OF_THE_SERVER.contains(&&**name) && same_kind(their, our) => Vec::new(),
                Some(our) if TIMES.contains(&&**name) && their.is_f64() && is_time(our) => Vec::new(),
                Some(our) => differences(their, our, &format!("{path}/{name}")),
            };
            let new = ours.keys().filter(|n| !theirs.contains_key(*n) && !ADDED.contains(&n.as_str()));
            theirs.iter().flat_map(member).chain(new.map(|n| format!("{path}/{n} is new"))).collect()
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            theirs.iter().zip(ours).flat_map(|(their, our)| differences(their, our, &format!("{path}[]"))).collect()
        }
        // The id that each server gives to a client.
        (Value::String(_), Value::String(our)) if path.ends_with("/session_id") && our.len() == 20 => Vec::new(),
        (Value::String(their), Value::String(our))
            if path.ends_with("/name") && [their, our].iter().all(|name| name.starts_with("Client-")) =>
        {
            Vec::new()
        }
        _ if theirs == ours => Vec::new(),
        _ => vec![format!("{path}: {theirs}, here {ours}")],
    }
}

fn same_kind(theirs: &Value, ours: &Value) -> bool {
    std::mem::discriminant(theirs) == std::mem::discriminant(ours)
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
}

#[test]
fn a_socket_io_client_hears_the_same_from_both_servers() {
    let Some((theirs, ours)) = both() else { return };
    let (theirs, ours) = (talk(&theirs), talk(&ours));
    for (theirs, ours) in [(theirs.told, ours.told), (theirs.answers, ours.answers)] {
        let names = |all: &[Value]| all.iter().map(|e| e["event"].to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(names(&theirs), names(&ours));
        let each = theirs.iter().zip(&ours);
        let all: Vec<String> = each
            .flat_map(|(t, o)| differences(&t["data"], &o["data"], t["event"].as_str().unwrap_or_default()))
            .collect();
        assert!(all.is_empty(), "{all:#?}");
        assert!(theirs.len() >= 12, "{} events", theirs.len());
    }
}
