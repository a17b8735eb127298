//! Claude MPM's own server and ours, side by side: the same input to both, and what clients then hear, field by field.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::bodies;
use super::net::{Net, URL, package};
use testkit::command::Running;
use testkit::daemon::SOON;

/// One of the two, with a client that listens.
pub struct Side {
    /// Where it is.
    pub net: Net,
    _server: Running,
    listener: Running,
}

/// An event as a client hears it.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    name: String,
    payload: Value,
}

impl Side {
    fn theirs() -> Option<Self> {
        let net = Net::new()?;
        let mut server = Running::start(&mut net.theirs("serve.py", &["8765"]));
        server.until(SOON, "Claude MPM's own server", |line| (line == "serving").then_some(()));
        Some(Self { listener: net.listener(), net, _server: server })
    }

    fn ours() -> Option<Self> {
        let net = Net::new()?;
        let server = net.monitor(&[]);
        Some(Self { listener: net.listener(), net, _server: server })
    }

    /// The events of the eight categories up to the one that is posted now, that one not included.
    fn heard(&mut self) -> Vec<Heard> {
        let mark = json!({"data": {"subtype": "the mark"}});
        assert!(["200", "204"].contains(&&*self.net.post(&mark)));
        let begin = self.listener.seen.len();
        self.listener.until(SOON, "the mark", |line| line.contains("\"the mark\"").then_some(()));
        let lines = self.listener.seen[begin..self.listener.seen.len() - 1].iter();
        let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        // What a client hears of itself is compared by another test.
        let posted = events.filter(|e| e["event"].as_str().is_some_and(|name| name.ends_with("_event")));
        posted.map(|e| Heard { name: e["event"].as_str().unwrap().to_owned(), payload: e["data"][0].clone() }).collect()
    }

    /// Asks all of it, in order, each on a connection of its own: the answers.
    pub fn ask(&self, requests: &[Value]) -> Vec<Value> {
        let file = self.net.path("requests.json");
        std::fs::write(&file, json!(requests).to_string()).unwrap();
        let ran = self.net.ran(&mut self.net.client("claude_mpm/ask.py", &[URL, file.to_str().unwrap()])).ok();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until its clients heard of a whole input of a hook: the hook in bash does not wait for what it sends.
    fn wait_for_the_input(&mut self) {
        let whole = |line: &str| line.contains("\"transcript_path\"").then_some(());
        self.listener.until(SOON, "an event of the hook in bash", whole);
    }
}

/// Both, each in a network of its own.
pub fn both() -> Option<(Side, Side)> {
    // Both at once, as theirs takes a while.
    std::thread::scope(|scope| {
        let theirs = scope.spawn(Side::theirs);
        let ours = Side::ours();
        Some((theirs.join().unwrap()?, ours?))
    })
}

/// The first difference on purpose: `id` and `seq` are added to every event.
#[track_caller]
fn without_numbers(heard: &Heard) -> Heard {
    let mut heard = heard.clone();
    let payload = heard.payload.as_object_mut().unwrap();
    let id = payload.remove("id").unwrap_or_else(|| panic!("no id in {payload:?}"));
    let seq = payload.remove("seq").unwrap_or_else(|| panic!("no seq in {payload:?}"));
    assert!(id.as_str().is_some_and(|id| id.ends_with(&format!("-{seq}"))), "{id} {seq}");
    heard
}

/// The second one: the time that a server gives to an event without any. Returns whether both gave one, and makes them equal.
#[track_caller]
fn settle_time(theirs: &mut Heard, ours: &mut Heard) -> bool {
    let (Some(their), Some(our)) = (theirs.payload["timestamp"].as_str(), ours.payload["timestamp"].as_str()) else {
        return false;
    };
    if !their.ends_with("+00:00Z") {
        return false;
    }
    let time: jiff::Timestamp = our.parse().unwrap_or_else(|e| panic!("{our}: {e}"));
    assert!(our.ends_with('Z') && jiff::Timestamp::now().duration_since(time).as_secs() < 60, "{our}");
    assert!(their.parse::<jiff::Timestamp>().is_err(), "{their} has become a time that can be read");
    let given = json!("given by the server");
    theirs.payload["timestamp"] = given.clone();
    ours.payload["timestamp"] = given;
    true
}

/// The third one: where Python's `or` ends with an empty value, that is what the original sends. Here a subtype is always there,
/// and a session without a name is none. Returns whether it was met, and makes them equal.
fn settle_empty(theirs: &mut Heard, ours: &Heard) -> bool {
    let is_empty = |v: &Value| [json!(null), json!(""), json!(0), json!(false), json!([]), json!({})].contains(v);
    let mut met = false;
    for (name, here) in [("subtype", json!("claude_event")), ("session_id", json!(null))] {
        let theirs = &mut theirs.payload[name];
        if is_empty(theirs) && *theirs != here && ours.payload[name] == here {
            (*theirs, met) = (here, true);
        }
    }
    met
}

#[test]
fn every_body_becomes_the_same_event_on_both_servers() {
    let Some((mut theirs, mut ours)) = both() else { return };
    let mut requests: Vec<Value> =
        bodies::posted().iter().map(|body| json!({"method": "POST", "path": "/api/events", "body": body})).collect();
    // No UTF-8.
    requests.push(json!({"method": "POST", "path": "/api/events", "hex": "7b2264617461223a7b2261223a22ff227d7d"}));
    let (their_answers, our_answers) = (theirs.ask(&requests), ours.ask(&requests));
    let (mut taken, mut refused) = (0, 0);
    for ((request, theirs), ours) in requests.iter().zip(&their_answers).zip(&our_answers) {
        match theirs["status"].as_u64() {
            Some(204) => {
                assert_eq!((&ours["status"], &ours["body"]), (&json!(204), &json!("")), "{request}");
                taken += 1;
            }
            // The fourth difference: whose fault it was.
            Some(500) => {
                assert_eq!(ours["status"], 400, "{request}: {theirs} {ours}");
                assert!(ours["body"]["code"].is_string() && ours["body"]["success"] == false, "{ours}");
                refused += 1;
            }
            _ => panic!("{request}: {theirs}"),
        }
    }
    assert!(taken > 90 && refused > 12, "{taken} {refused}");

    let (their_events, our_events) = (theirs.heard(), ours.heard());
    assert_eq!((their_events.len(), our_events.len()), (taken, taken));
    let (mut times, mut empty) = (0, 0);
    let mut names = BTreeSet::new();
    for (theirs, ours) in their_events.into_iter().zip(&our_events) {
        let (mut theirs, mut ours) = (theirs, without_numbers(ours));
        times += usize::from(settle_time(&mut theirs, &mut ours));
        empty += usize::from(settle_empty(&mut theirs, &ours));
        assert_eq!(theirs, ours);
        names.insert(theirs.name);
    }
    assert!(times > 30 && empty > 2, "{times} times were given by the servers, {empty} values were empty");
    let all = "agent_event claude_event file_event hook_event response_event session_event system_event tool_event";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), all);
}

/// Each time such as `2026-11-22T02:21:32.491173` replaced; what follows it, and so its form, is kept.
fn without_times(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let like = |bytes: &[u8]| {
        bytes.len() == FORM.len()
            && bytes.iter().zip(FORM).all(|(b, f)| if *f == b'0' { b.is_ascii_digit() } else { b == f })
    };
    let found = text.as_bytes().windows(FORM.len()).position(like);
    let Some(at) = found else { return text.to_owned() };
    let rest = text[at + FORM.len()..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    format!("{}a time{}", &text[..at], without_times(rest))
}

/// Makes what differs between two runs of the same hook the same: times, durations, random ids, and where it ran.
fn same_in_every_run(value: &mut Value, place: &str) {
    match value {
        Value::String(text) => {
            *text = text.replace(place, "PLACE");
            let is_uuid = text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
            *text = without_times(text);
            if is_uuid {
                "a random id".clone_into(text);
            } else if let Some((tool, number)) = text.rsplit_once('_')
                && number.len() > 12
                && number.bytes().all(|b| b.is_ascii_digit())
            {
                *text = format!("{tool}_a time");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| same_in_every_run(item, place)),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if name == "duration_ms" && member.is_number() {
                    *member = json!("a duration");
                }
                same_in_every_run(member, place);
            }
        }
        _ => {}
    }
}

/// Runs the hooks on one side: what its clients heard, in no order, as the hooks send from two threads.
fn hooks(side: &mut Side, project: &str) -> Vec<Heard> {
    let inputs = bodies::hook_inputs(project);
    let file = side.net.path("inputs.json");
    std::fs::write(&file, json!(inputs).to_string()).unwrap();
    side.net.ran(&mut side.net.theirs("hooks.py", &[file.to_str().unwrap()])).ok();
    // The command itself, as its installer puts it into Claude Code's settings.
    feed(&mut side.net.installed("claude-hook", &[]), &inputs[4]);
    let fast = package().join("scripts/claude-hook-fast.sh");
    let quoted = |input: &&Value| input["prompt"].as_str().is_some_and(|prompt| prompt.contains('"'));
    let fast_inputs: Vec<&Value> = inputs.iter().filter(|input| !quoted(input)).collect();
    for input in &fast_inputs {
        feed(&mut side.net.command("bash", [&fast]), input);
        side.wait_for_the_input();
    }
    // They have been read by the waiting above.
    let place = side.net.path("").to_string_lossy().trim_end_matches('/').to_owned();
    side.heard();
    let events = side.listener.seen.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = events.filter(|e| e["event"].as_str().is_some_and(|n| n.ends_with("_event")));
    let mut heard: Vec<Heard> = named
        .map(|e| Heard { name: e["event"].as_str().unwrap().to_owned(), payload: e["data"][0].clone() })
        .filter(|h| h.payload["subtype"] != "the mark")
        .collect();
    heard.iter_mut().for_each(|h| same_in_every_run(&mut h.payload, &place));
    heard
}

/// Runs a hook with what Claude Code would hand it; it must let Claude Code go on.
#[track_caller]
fn feed(command: &mut Command, input: &Value) {
    // As Claude Code writes it: the hook in bash looks for `"name":"` without a space.
    let mut hook = Running::start(command);
    hook.say(&input.to_string());
    assert_eq!(hook.end(SOON), 0, "{:?}", hook.seen);
    let lets_go_on = |line: &String| {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        said["continue"] == true || said["async"] == true
    };
    assert!(hook.seen.iter().any(lets_go_on), "{:?}", hook.seen);
}

#[test]
fn every_event_of_the_real_hooks_becomes_the_same_on_both_servers() {
    let Some((mut theirs, mut ours)) = both() else { return };
    let place = |side: &Side| side.net.path("project").to_string_lossy().into_owned();
    let (their_place, our_place) = (place(&theirs), place(&ours));
    let (mut their_events, our_events) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| hooks(&mut theirs, &their_place));
        let ours = hooks(&mut ours, &our_place);
        (theirs.join().unwrap(), ours)
    });
    let mut our_events: Vec<Heard> = our_events.iter().map(without_numbers).collect();
    // No difference between the servers: the hooks themselves send in no order.
    let key = |heard: &Heard| format!("{} {}", heard.name, heard.payload);
    their_events.sort_by_key(key);
    our_events.sort_by_key(key);
    assert_eq!(their_events.len(), our_events.len());
    for (theirs, ours) in their_events.iter().zip(&our_events) {
        assert_eq!(theirs, ours);
    }
    let subtypes: BTreeSet<&str> = our_events.iter().filter_map(|h| h.payload["subtype"].as_str()).collect();
    for wanted in [
        "session_start",
        "user_prompt",
        "command_acknowledged",
        "pre_tool",
        "post_tool",
        "subagent_start",
        "subagent_stop",
        "todo_updated",
        "notification",
        "stop",
        "hook_execution",
    ] {
        assert!(subtypes.contains(wanted), "no {wanted} in {subtypes:?}");
    }
    println!("{} events of the real hooks, the same on both; subtypes: {subtypes:?}", our_events.len());
}

/// The members of an object with the kind of each.
fn shape(value: &Value) -> Map<String, Value> {
    let kind = |v: &Value| match v {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    value.as_object().map(|o| o.iter().map(|(k, v)| (k.clone(), json!(kind(v)))).collect()).unwrap_or_default()
}

#[test]
fn what_both_servers_tell_of_themselves_has_the_same_members() {
    let Some((theirs, ours)) = both() else { return };
    let get = |path: &str| json!({"method": "GET", "path": path});
    let paths = ["/health", "/version.json", "/api/working-directory"];
    let requests: Vec<Value> = paths.iter().map(|p| get(p)).collect();
    for ((path, theirs), ours) in paths.iter().zip(theirs.ask(&requests)).zip(ours.ask(&requests)) {
        assert_eq!((&theirs["status"], &ours["status"]), (&json!(200), &json!(200)), "{path}");
        assert_eq!(theirs["type"], ours["type"], "{path}");
        let (their_shape, our_shape) = (shape(&theirs["body"]), shape(&ours["body"]));
        for (name, kind) in &their_shape {
            assert_eq!(our_shape.get(name), Some(kind), "{path}: {name}");
        }
        for name in ["status", "service", "success"] {
            assert_eq!(theirs["body"].get(name), ours["body"].get(name), "{path}: {name}");
        }
    }
    // What is refused has the same code.
    let refused = [
        json!({"method": "GET", "path": "/nope"}),
        json!({"method": "PUT", "path": "/api/events"}),
        json!({"method": "POST", "path": "/health"}),
        json!({"method": "GET", "path": "/static/none.js"}),
        json!({"method": "GET", "path": "/_app/none.js"}),
        json!({"method": "GET", "path": "/socket.io/?EIO=5&transport=polling"}),
        json!({"method": "GET", "path": "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAA"}),
        json!({"method": "GET", "path": "/socket.io/?EIO=4&transport=smoke"}),
    ];
    for ((request, theirs), ours) in refused.iter().zip(theirs.ask(&refused)).zip(ours.ask(&refused)) {
        assert_eq!(theirs["status"], ours["status"], "{request}: {theirs} {ours}");
    }
}
