//! The real Python client against the real program: python-socketio, as pip has it.

use std::process::Command;

use serde_json::Value;
use testkit::command::Running;
use testkit::daemon::{Place, SOON, signal};
use testkit::{here, http, skip, venv};

/// A client that connects again by itself and says which event it has last; nothing where it cannot run.
fn listener(port: u16, mode: &str) -> Option<Running> {
    let python = format!("{}/bin/python3", venv());
    if !std::path::Path::new(&python).exists() {
        skip("there is no python-socketio; scripts/setup.sh test installs it");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(here("tests/clients/sio_listen.py")).arg(format!("http://127.0.0.1:{port}")).args([mode, "resume"]);
    Some(Running::start(&mut command))
}

#[track_caller]
fn event(client: &mut Running, name: &str) -> Value {
    client.until(SOON, name, |line| {
        let said: Value = serde_json::from_str(line).ok()?;
        (said["event"] == name).then(|| said["data"][0].clone())
    })
}

fn sees_everything_once_over_a_restart(mode: &str) {
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    http::post_event(port, "one").unwrap();
    let Some(mut client) = listener(port, mode) else { return };
    assert_eq!(event(&mut client, "resumed")["count"], 1);
    http::post_event(port, "two").unwrap();
    assert_eq!(event(&mut client, "tool_event")["seq"], 2);
    signal(daemon.pid(), "TERM");
    event(&mut client, "disconnected");
    assert_eq!(daemon.end(SOON), 0);
    let _daemon = place.serve(port);
    http::post_event(port, "three").unwrap();
    assert_eq!(event(&mut client, "resumed")["missed"], 0);
    http::post_event(port, "four").unwrap();
    client.until(SOON, "the last event", |line| line.contains("\"four\"").then_some(()));
    let said = client.seen.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said: Vec<Value> = said.collect();
    let seqs: Vec<u64> =
        said.iter().filter(|s| s["event"] == "tool_event").filter_map(|s| s["data"][0]["seq"].as_u64()).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    assert!(!said.iter().any(|s| s["event"] == "history"), "who resumes gets no history");
}

#[test]
fn python_client_over_a_websocket_sees_everything_once_over_a_restart() {
    sees_everything_once_over_a_restart("websocket");
}

#[test]
fn python_client_polling_sees_everything_once_over_a_restart() {
    sees_everything_once_over_a_restart("polling");
}

#[test]
fn python_client_that_upgrades_sees_everything_once_over_a_restart() {
    sees_everything_once_over_a_restart("upgrade");
}
