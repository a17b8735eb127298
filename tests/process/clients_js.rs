//! The real JavaScript clients against the real program: socket.io-client and engine.io-client, as npm has them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::command::Running;
use testkit::daemon::{Place, SOON, signal};
use testkit::{here, http, skip};

/// The folder with the clients' `node_modules`, made by `scripts/setup.sh test`.
fn modules() -> Option<String> {
    let target = testkit::target();
    let modules = format!("{target}/test-js/node_modules");
    Path::new(&modules).join("socket.io-client").exists().then_some(modules)
}

/// One of the programs in `clients/js`; nothing where they cannot run.
fn client(script: &str, port: u16, mode: &str) -> Option<Js> {
    client_with(script, port, mode, &[])
}

fn client_with(script: &str, port: u16, mode: &str, more: &[&str]) -> Option<Js> {
    let Some(modules) = modules() else {
        skip("the JavaScript clients are not there; scripts/setup.sh test installs them");
        return None;
    };
    let mut command = Command::new("node");
    command
        .arg(here(&format!("tests/clients/js/{script}")))
        .arg(format!("http://localhost:{port}"))
        .arg(mode)
        .args(more);
    command.env("NODE_PATH", modules);
    Some(Js(Running::start(&mut command)))
}

/// A client and what it printed.
struct Js(Running);

impl Js {
    /// The next line that `wanted` makes something of.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> T {
        self.0.until(SOON, what, |line| wanted(&serde_json::from_str(line).ok()?))
    }

    /// The next event of this name.
    #[track_caller]
    fn event(&mut self, name: &str) -> Value {
        self.until(name, |said| (said["event"] == name).then(|| said.clone()))
    }

    /// Has it send an event: `[name, argument]`.
    fn send(&mut self, event: &Value) {
        self.0.say(&event.to_string());
    }

    /// Every line so far.
    fn said(&self) -> impl Iterator<Item = Value> {
        self.0.seen.iter().filter_map(|line| serde_json::from_str(line).ok())
    }
}

#[track_caller]
fn post(port: u16, marker: &str) {
    assert_eq!(http::post_event(port, marker).unwrap().status, 204);
}

fn marker(payload: &Value) -> &str {
    payload["data"]["marker"].as_str().unwrap_or_default()
}

/// The next `tool_event`, which must carry this marker: its payload.
#[track_caller]
fn next_tool_event(client: &mut Js, wanted: &str) -> Value {
    let payload = client.event("tool_event")["data"][0].clone();
    assert_eq!(marker(&payload), wanted, "{payload}");
    payload
}

fn a_session_with_a_restart(mode: &str) {
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    post(port, "before");
    let Some(mut client) = client("listen.cjs", port, mode) else { return };

    client.event("connected");
    let mut numbers = BTreeSet::new();
    for name in ["event_history", "history"] {
        let past = client.event(name)["data"][0].clone();
        assert_eq!((&past["count"], marker(&past["events"][0])), (&json!(1), "before"), "{past}");
        numbers.insert(past["events"][0]["seq"].to_string());
        assert_eq!(past["events"][0].get("id"), None, "pages draw by id, and break when one comes twice");
    }
    assert_eq!(numbers.len(), 1, "both histories tell of the same event");
    assert_eq!(client.event("acknowledged")["data"], json!(["dashboard:ping", []]));
    // The upgrade runs beside all that, so it may be over already.
    if mode == "upgrade" && !client.said().any(|said| said["event"] == "upgraded") {
        client.event("upgraded");
    }
    post(port, "live");
    next_tool_event(&mut client, "live");
    let over = client.said().last().unwrap()["transport"].clone();
    assert_eq!(over, if mode == "polling" { "polling" } else { "websocket" });

    signal(daemon.pid(), "TERM");
    // Between two polls there is nothing to tell a client through; then it learns it from the poll that fails.
    if mode != "polling" {
        client.event("server_restarting");
    }
    client.event("disconnected");
    assert_eq!(daemon.end(SOON), 0);
    let _daemon = place.serve(port);
    client.event("connected");
    let past = client.event("history")["data"][0].clone();
    let markers: Vec<&str> = past["events"].as_array().unwrap().iter().map(marker).collect();
    assert_eq!(markers, ["before", "live"], "the new process knows the past");
    post(port, "after");
    next_tool_event(&mut client, "after");

    let live = client.said().filter(|said| said["event"] == "tool_event");
    let live: Vec<String> = live.map(|said| said["data"][0]["seq"].to_string()).collect();
    assert_eq!(live.len(), 2, "each event once: {live:?}");
    let known: Vec<String> = past["events"].as_array().unwrap().iter().map(|e| e["seq"].to_string()).collect();
    assert!(known.contains(&live[0]) && !known.contains(&live[1]), "an event keeps its number: {known:?}, {live:?}");
    assert_eq!(client.0.end(SOON), 0);
}

#[test]
fn socket_io_client_over_a_websocket_survives_a_restart() {
    a_session_with_a_restart("websocket");
}

#[test]
fn socket_io_client_polling_survives_a_restart() {
    a_session_with_a_restart("polling");
}

#[test]
fn socket_io_client_that_upgrades_survives_a_restart() {
    a_session_with_a_restart("upgrade");
}

#[test]
fn what_socket_io_client_sends_comes_back_under_both_names_and_is_acknowledged() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve(port);
    let Some(mut client) = client("listen.cjs", port, "websocket") else { return };
    client.event("connected");
    client.event("acknowledged");
    client.send(&json!(["claude_event", {"subtype": "user_prompt", "data": {"marker": "mine"}}]));
    let done = client.until("the acknowledgement and both events", {
        let mut seen = BTreeSet::new();
        move |said| {
            let name = said["event"].as_str()?;
            let mine = marker(&said["data"][0]) == "mine" || said["data"][0] == "claude_event";
            if mine && ["hook:event", "claude_event", "acknowledged"].contains(&name) {
                assert!(seen.insert(name.to_owned()), "{name} twice");
            }
            (seen.len() == 3).then(|| seen.clone())
        }
    });
    assert_eq!(done.len(), 3);
    let order: Vec<Value> =
        client.said().map(|said| said["event"].clone()).filter(|e| e == "hook:event" || e == "claude_event").collect();
    assert_eq!(order, ["hook:event", "claude_event"]);
    assert_eq!(http::get(port, "/api/events").unwrap().json()["events"][0]["payload"]["subtype"], "user_prompt");
}

#[test]
fn engine_io_client_opens_talks_and_closes_over_every_transport() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve(port);
    for mode in ["polling", "websocket", "upgrade"] {
        let Some(mut client) = client("engine.cjs", port, mode) else { return };
        client.event("opened");
        client.until("the namespace", |said| said["data"].as_str()?.starts_with("0{\"sid\":").then_some(()));
        if mode == "upgrade" && !client.said().any(|said| said["event"] == "upgraded") {
            client.event("upgraded");
        }
        post(port, mode);
        client.until("the event", |said| {
            let text = said["data"].as_str()?;
            (text.starts_with("2[\"tool_event\"") && text.contains(&format!("\"marker\":\"{mode}\""))).then_some(())
        });
        assert_eq!(client.0.end(SOON), 0);
        assert!(client.said().any(|said| said["event"] == "closed"), "{:?}", client.0.seen);
    }
}

/// The numbers of all events that came, in their order.
fn seqs(client: &Js) -> Vec<u64> {
    let events = client.said().filter(|said| said["event"] == "tool_event");
    events.map(|said| said["data"][0]["seq"].as_u64().unwrap()).collect()
}

fn a_client_that_resumes(mode: &str) {
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    post(port, "one");
    let Some(mut client) = client_with("listen.cjs", port, mode, &["resume"]) else { return };
    let told = client.event("resumed")["data"][0].clone();
    assert_eq!((&told["from"], &told["count"], &told["missed"]), (&json!(0), &json!(1), &json!(0)));

    client.send(&json!("away"));
    client.event("disconnected");
    for marker in ["two", "three", "four"] {
        post(port, marker);
    }
    client.send(&json!("back"));
    let told = client.event("resumed")["data"][0].clone();
    assert_eq!((&told["from"], &told["to"], &told["count"]), (&json!(1), &json!(4), &json!(3)), "{told}");

    // Cut off by the server, it comes back by itself, and the new process knows what it has.
    signal(daemon.pid(), "TERM");
    client.event("disconnected");
    assert_eq!(daemon.end(SOON), 0);
    let _daemon = place.serve(port);
    post(port, "five");
    client.event("resumed");
    post(port, "six");
    client.until("the last event", |said| (marker(&said["data"][0]) == "six").then_some(()));
    assert_eq!(seqs(&client), [1, 2, 3, 4, 5, 6]);
    assert!(!client.said().any(|said| said["event"] == "history"), "who resumes gets no history");
    assert_eq!(client.0.end(SOON), 0);
}

#[test]
fn socket_io_client_resumes_over_a_websocket() {
    a_client_that_resumes("websocket");
}

#[test]
fn socket_io_client_resumes_polling() {
    a_client_that_resumes("polling");
}

#[test]
fn socket_io_client_resumes_and_upgrades() {
    a_client_that_resumes("upgrade");
}

#[test]
fn socket_io_client_gets_what_it_subscribed_to() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve(port);
    let Some(mut client) = client("listen.cjs", port, "websocket") else { return };
    client.event("acknowledged");
    client.send(&json!(["subscribe", {"events": ["claude_event"]}]));
    client.event("subscribed");
    client.until("its acknowledgement", |said| (said["data"][0] == "subscribe").then_some(()));
    post(port, "not wanted");
    let wanted = json!({"event": "claude_event", "data": {"subtype": "stop", "data": {"marker": "wanted"}}});
    assert_eq!(http::request(port, "POST", "/api/events", Some(&wanted.to_string())).unwrap().status, 204);
    assert_eq!(marker(&client.event("claude_event")["data"][0]), "wanted");
    client.send(&json!(["unsubscribe", {}]));
    client.event("subscribed");
    post(port, "all again");
    next_tool_event(&mut client, "all again");
}
