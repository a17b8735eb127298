//! How the stream speaks: to bare sockets, and to the EventSource of Node and of a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, event, post};
use testkit::command::Running;
use testkit::daemon::{Place, SOON, metric, ready, signal};
use testkit::sse::Sse;
use testkit::wire::{Poster, raw};
use testkit::{eventually, here, http, skip, venv};

fn refusal(port: u16, query: &str, headers: &str) -> String {
    match Sse::open(port, query, headers) {
        Ok(_) => panic!("{query} {headers}: let in"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn events_come_as_they_happen_each_with_an_id_and_only_those_asked_for() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve(port);
    let mut poster = Poster::new(port).unwrap();
    post(&mut poster, "pre_tool", "a", 0);
    let epoch = http::get(port, "/api/status").unwrap().json()["store"]["epoch"].as_str().unwrap().to_owned();
    let mut all = Sse::open(port, "", "").unwrap();
    let head = all.head.to_lowercase();
    for line in [
        "content-type: text/event-stream; charset=utf-8",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "x-content-type-options: nosniff",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!((all.retry, &*all.last_id), (Some(1000), &*format!("{epoch}-1")));
    let mut one = Sse::open(port, "?session=b", "").unwrap();
    let mut tools = Sse::open(port, "?type=tool_event&subtype=pre_tool", "").unwrap();
    let mut past = Sse::open(port, "?after=0", "").unwrap();
    for (number, (subtype, session)) in
        [("pre_tool", "a"), ("pre_tool", "b"), ("user_prompt", "b"), ("pre_tool", "c")].into_iter().enumerate()
    {
        post(&mut poster, subtype, session, number + 1);
    }
    let seen = |sse: &mut Sse, count: usize| -> Vec<u64> {
        let told: Vec<_> = (0..count).map(|_| sse.event().unwrap()).collect();
        for told in &told {
            let payload = told.json();
            let id = payload["id"].as_str().unwrap();
            assert_eq!((told.id.as_deref(), id), (Some(id), &*format!("{epoch}-{}", payload["seq"])));
            assert!(!told.name.is_empty(), "{told:?}");
        }
        told.iter().map(|told| told.json()["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seen(&mut all, 4), [2, 3, 4, 5]);
    assert_eq!(seen(&mut one, 2), [3, 4]);
    assert_eq!(seen(&mut tools, 3), [2, 3, 5]);
    assert_eq!(seen(&mut past, 5), [1, 2, 3, 4, 5]);

    let clients = http::get(port, "/api/clients").unwrap().json();
    let streams: Vec<&Value> =
        clients["clients"].as_array().unwrap().iter().filter(|c| c["transport"] == "sse").collect();
    assert_eq!(streams.len(), 4, "{clients}");
    assert_eq!(streams[1]["filter"], json!({"session": "b", "type": null, "subtype": null, "node": null}));
    assert_eq!((&streams[0]["backlog_bytes"], &streams[0]["last_seq"]), (&json!(0), &json!(5)));
    let status = http::get(port, "/api/status").unwrap().json();
    assert_eq!((&status["clients"]["streams"], &status["clients"]["streams_opened"]), (&json!(4), &json!(4)));
    assert_eq!(metric(port, "streams", ""), 4.0);
    drop((all, one, tools, past));
    eventually(SOON, "the readers to be gone", || match metric(port, "streams", "") {
        0.0 => Ok(()),
        n => Err(n),
    });
}

#[test]
fn nonsense_is_refused_and_readers_count_as_clients() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve_with(port, &["server.max_clients=2"]);
    assert!(refusal(port, "?after=x", "").contains("\"bad_parameter\""));
    assert!(refusal(port, "?limit=3", "").contains("\"bad_parameter\""));
    assert!(refusal(port, "", "Last-Event-ID: nonsense\r\n").starts_with("HTTP/1.1 400 "));
    assert!(refusal(port, "", "Origin: https://evil.example\r\n").contains("\"origin_not_allowed\""));
    let ask = |method: &str, more: &str| {
        let head = format!("{method} /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        raw(port, head.as_bytes()).unwrap().0
    };
    let json = ask("GET", "Accept: application/json\r\n");
    assert!(json.starts_with("HTTP/1.1 406 ") && json.contains("\"not_acceptable\""), "{json}");
    let head = ask("HEAD", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    assert!(ask("POST", "").starts_with("HTTP/1.1 405 "));

    let two = [Sse::open(port, "", "").unwrap(), Sse::open(port, "", "").unwrap()];
    let full = refusal(port, "", "");
    assert!(full.starts_with("HTTP/1.1 503 ") && full.contains("\"too_many_clients\""), "{full}");
    drop(two);
    eventually(SOON, "a place", || Sse::open(port, "", "").map(drop));
    let opened = http::get(port, "/api/status").unwrap().json()["clients"]["streams_opened"].clone();
    assert_eq!(opened, 3, "what was refused and HEAD open nothing");
}

#[test]
fn who_may_not_read_gets_no_stream() {
    use std::os::unix::fs::PermissionsExt;
    let (place, port) = (Place::new(), http::free_port());
    let path = place.path("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!("access.token_file={}", path.display());
    let settings = ["run", "--port", &port.to_string(), "--set", &file, "--set", "access.local=none"];
    let _daemon = Running::start(&mut place.command(settings));
    eventually(SOON, "an answer", || http::get(port, "/health").map(drop));
    let none = refusal(port, "", "");
    assert!(none.starts_with("HTTP/1.1 401 ") && none.contains("\"token_required\""), "{none}");
    assert!(refusal(port, "", "Authorization: Bearer wrong\r\n").contains("\"token_wrong\""));
    let sse = Sse::open(port, "", "Authorization: Bearer 0123456789abcdef\r\n").unwrap();
    assert_eq!(sse.retry, Some(1000));
}

/// The real `eventsource` of npm: it goes over a kill and a restart by itself.
#[test]
fn the_eventsource_of_npm_comes_back_and_misses_nothing() {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| here("target"));
    let modules = format!("{target}/test-js/node_modules");
    if !Path::new(&modules).join("eventsource").exists() {
        return skip("the npm package eventsource is not there; scripts/setup.sh test installs it");
    }
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    let mut command = Command::new("node");
    command.arg(here("tests/clients/js/stream.cjs")).arg(format!("http://localhost:{port}/api/stream"));
    let mut client = Running::start(command.env("NODE_PATH", modules));
    let opened = |client: &mut Running| {
        client.until(PATIENCE, "an open stream", |line| (line == "\"open\"").then_some(()));
    };
    opened(&mut client);
    // Nothing has come yet, so that only what it was told on entering can say where it is.
    for (round, name) in ["KILL", "TERM", "KILL"].into_iter().enumerate() {
        signal(daemon.pid(), name);
        daemon.end(SOON);
        daemon = place.start(port);
        ready(port, daemon.pid());
        let mut poster = Poster::new(port).unwrap();
        for n in 0..20 {
            post(&mut poster, "pre_tool", "s", round * 20 + n);
        }
        for n in 0..20 {
            let told: Value = client.until(PATIENCE, "an event", |line| {
                serde_json::from_str::<Value>(line).ok().filter(|v| v["name"] == "tool_event")
            });
            assert_eq!(told["data"]["data"]["n"], json!(round * 20 + n), "{told}");
            assert_eq!(told["id"], told["data"]["id"]);
        }
    }
    let restarts = client.seen.iter().filter(|l| l.contains("server_restarting")).count();
    assert_eq!(restarts, 1, "of the three ends one was orderly");
}

/// The same in a browser.
#[test]
fn a_page_in_a_browser_hears_the_stream_and_comes_back() {
    let Some(mut browser) = Browser::start() else { return };
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    browser.ask(&json!({"open": format!("http://localhost:{port}/dashboard")}));
    let listen = "window.seen = []; window.opened = 0; window.source = new EventSource('/api/stream'); \
                  source.onopen = () => opened++; \
                  source.addEventListener('tool_event', (e) => seen.push([JSON.parse(e.data).data.n, e.lastEventId]));";
    browser.ask(&json!({"eval": listen}));
    let opened = |browser: &mut Browser, times: u64| {
        eventually(PATIENCE, "an open stream", || match browser.eval("opened").as_u64() {
            Some(n) if n >= times => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    opened(&mut browser, 1);
    post(&mut Poster::new(port).unwrap(), "pre_tool", "s", 0);
    for (round, name) in ["TERM", "KILL"].into_iter().enumerate() {
        signal(daemon.pid(), name);
        daemon.end(SOON);
        daemon = place.start(port);
        ready(port, daemon.pid());
        assert_eq!(Poster::new(port).unwrap().post(&event("pre_tool", "s", round + 1)).unwrap(), 204);
        opened(&mut browser, round as u64 + 2);
    }
    eventually(PATIENCE, "all three events", || {
        let seen = browser.eval("seen");
        if seen.as_array().is_some_and(|s| s.len() >= 3) { Ok(()) } else { Err(seen.to_string()) }
    });
    let seen = browser.eval("seen");
    let numbers: Vec<&Value> = seen.as_array().unwrap().iter().map(|s| &s[0]).collect();
    assert_eq!(numbers, [&json!(0), &json!(1), &json!(2)]);
}

/// A Chromium with one tab.
pub struct Browser {
    running: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Nothing where there is none.
    pub fn start() -> Option<Self> {
        let python = format!("{}/bin/python3", venv());
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("chromium").exists()));
        if !found || !Path::new(&python).exists() {
            skip("there is no Chromium, or no Python to drive it; scripts/setup.sh test installs them");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(python);
        command.arg(here("tests/clients/browser.py")).arg(profile.path()).env("HOME", profile.path());
        let mut running = Running::start(&mut command);
        running.until(PATIENCE, "a browser", |line| line.contains("\"ready\"").then_some(()));
        Some(Self { running, _profile: profile })
    }

    /// One command of `tests/clients/browser.py`.
    #[track_caller]
    pub fn ask(&mut self, command: &Value) -> Value {
        self.running.say(&command.to_string());
        let answer: Value =
            self.running.until(Duration::from_secs(60), "an answer", |line| serde_json::from_str(line).ok());
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }

    /// The value of an expression.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        self.ask(&json!({"eval": expression}))["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes the browser's many processes along, which a kill would leave.
        self.running.end(PATIENCE);
    }
}
