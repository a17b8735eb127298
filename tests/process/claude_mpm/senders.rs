//! The other programs of Claude MPM that speak to a monitor: each delivers to ours, or hears from it.

use serde_json::{Value, json};

use super::net::Net;
use testkit::command::Running;
use testkit::daemon::SOON;

#[test]
fn every_client_in_the_package_delivers() {
    let Some(net) = Net::new() else { return };
    let _monitor = net.monitor(&[]);
    let mut listener = net.listener();
    for (sender, heard_as, thinks) in [
        ("emitter", "tool_event", json!(true)),
        ("pool", "claude_event", json!(true)),
        ("relay", "claude_event", json!(true)),
        ("proxy", "claude_event", json!(true)),
    ] {
        // The pool looks for a monitor on other ports unless it is told.
        let mut command = net.theirs("senders.py", &[sender]);
        let mut client = Running::start(command.env("CLAUDE_MPM_SOCKETIO_PORT", "8765"));
        let said = client.until(SOON, "what it thinks", |line| serde_json::from_str::<Value>(line).ok());
        assert_eq!(said, thinks, "{sender}: {:?}", client.seen);
        let marker = format!("\"marker\": \"{sender}\"");
        let event = listener.until(SOON, &marker, |line| {
            let told: Value = serde_json::from_str(line).ok()?;
            (line.contains(&marker) && told["event"] == heard_as).then_some(told)
        });
        assert!(event["data"][0]["seq"].is_u64(), "{event}");
        println!("{sender}: {}", event["data"][0]);
    }
}

#[test]
fn the_aggregator_gathers_what_was_and_what_comes() {
    let Some(net) = Net::new() else { return };
    let _monitor = net.monitor(&[]);
    let event =
        |marker: &str| json!({"data": {"subtype": "user_prompt", "session_id": "s", "data": {"marker": marker}}});
    assert_eq!(net.post(&event("before")), "204");
    let folder = net.path("sessions");
    let mut aggregator = Running::start(&mut net.theirs("senders.py", &["aggregator", folder.to_str().unwrap()]));
    let mut said = || aggregator.until(SOON, "what it has", |line| serde_json::from_str::<Value>(line).ok());
    // Once as every client gets it, and once because it asks.
    assert_eq!(said(), json!([true, 2]));
    assert_eq!(net.post(&event("after")), "204");
    assert_eq!(said(), 3);
}
