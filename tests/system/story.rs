//! The main job, end to end: install, an event from `curl` to a real client, a kill under load, a hang.

use std::time::Duration;

use serde_json::Value;

use testkit::command::Running;
use testkit::figure;
use testkit::machine::{PORT, Scope};

for_both_scopes!(
    an_event_reaches_a_client_and_a_kill_loses_none,
    a_stopped_process_is_replaced_by_the_watchdog,
    ready_is_never_a_lie,
    it_comes_back_after_a_reboot,
);

/// Waits for a client's line about an event of that name.
#[track_caller]
fn until(client: &mut Running, name: &str, contains: &str) -> Value {
    client.until(Duration::from_secs(30), &format!("{name} with {contains}"), |line| {
        let value: Value = serde_json::from_str(line).ok()?;
        (value["event"] == name && line.contains(contains)).then_some(value)
    })
}

fn an_event_reaches_a_client_and_a_kill_loses_none(scope: Scope) {
    let machine = boot!(scope);
    let installed = machine.install(&[]);
    assert!(installed.stdout.contains("http://127.0.0.1:8765"), "the URL is not printed: {installed}");
    figure(&format!("install_to_ready_{}", scope.name()), installed.took.as_millis(), "ms");
    assert_eq!(machine.state(PORT), "active");
    let health = machine.health(PORT);
    assert_eq!(health["pid"].to_string(), machine.property(PORT, "MainPID"), "somebody else answers");

    let mut clients: Vec<Running> = ["websocket", "polling"]
        .map(|transport| machine.spawn_client(&["sio_listen.py", "http://127.0.0.1:8765", transport]))
        .into();
    for client in &mut clients {
        until(client, "connected", "");
    }
    machine.post(PORT, "first");
    for client in &mut clients {
        let event = until(client, "tool_event", "\"first\"");
        assert_eq!(event["data"][0]["data"]["marker"], "first", "{event}");
    }

    let mut load = machine.spawn_client(&["probe.py", "load", "8765", "5"]);
    // It is under load once the store has some of it.
    testkit::eventually(Duration::from_secs(20), "the load to arrive", || {
        let events = machine.get(PORT, "/api/events?after=0")["events"].as_array().map_or(0, Vec::len);
        if events > 20 { Ok(()) } else { Err(format!("{events} events")) }
    });
    let killed = machine.root_client(&["probe.py", "signal", "KILL", &machine.property(PORT, "MainPID"), "8765"]);
    figure(&format!("kill_9_to_ready_{}", scope.name()), killed["seconds"].as_f64().unwrap() * 1000.0, "ms");
    assert_eq!(machine.property(PORT, "NRestarts"), "1");

    let mut accepted = Vec::new();
    load.until(Duration::from_secs(60), "the load's report", |line| {
        let report: Value = serde_json::from_str(line).ok()?;
        accepted = report["accepted"].as_array()?.iter().map(|m| m.as_str().unwrap().to_owned()).collect();
        Some(())
    });
    let stored = machine.client(&["probe.py", "accepted", "8765"]).to_string();
    let lost: Vec<_> = accepted.iter().filter(|m| !stored.contains(&format!("\"{m}\""))).collect();
    assert!(accepted.len() > 20 && stored.contains("\"first\""), "{} accepted", accepted.len());
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    figure(&format!("events_accepted_around_kill_9_{}", scope.name()), accepted.len(), "events");
    figure(&format!("events_lost_by_kill_9_{}", scope.name()), lost.len(), "events");

    // The clients came back by themselves, and live events flow again.
    for client in &mut clients {
        until(client, "connected", "");
    }
    machine.post(PORT, "after the kill");
    for client in &mut clients {
        until(client, "tool_event", "after the kill");
    }
}

fn a_stopped_process_is_replaced_by_the_watchdog(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let watchdog = humantime::parse_duration(&machine.property(PORT, "WatchdogUSec")).unwrap();
    let hung = machine.root_client(&["probe.py", "signal", "STOP", &machine.property(PORT, "MainPID"), "8765"]);
    let took = Duration::from_secs_f64(hung["seconds"].as_f64().unwrap());
    figure(&format!("hang_to_ready_{}", scope.name()), took.as_millis(), "ms");
    assert!(took < watchdog + Duration::from_secs(5), "{took:?}, and WatchdogSec is {watchdog:?}");
    assert_eq!(machine.property(PORT, "NRestarts"), "1");
    let status = machine.verb("status", &[]).ok();
    assert!(status.stdout.contains("watchdog"), "the reason of the restart is not told: {status}");
}

/// Promise P7: at the moment systemd calls it active, it serves.
fn ready_is_never_a_lie(scope: Scope) {
    const ROUNDS: usize = 50;
    let machine = boot!(scope);
    machine.install(&[]);
    machine.drop_in(PORT, "[Unit]\nStartLimitIntervalSec=0\n");
    let script = format!(
        "for i in $(seq {ROUNDS}); do systemctl {} restart mpm-monitor@8765 && \
         curl -sS --max-time 5 http://127.0.0.1:8765/health; echo; done",
        scope.flag()
    );
    let answers = machine.run(&["sh", "-c", &script]).ok().stdout;
    let mut instances: Vec<String> = answers
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|health| health["ready"] == true)
        .map(|health| health["instance_id"].to_string())
        .collect();
    instances.sort();
    instances.dedup();
    assert_eq!(instances.len(), ROUNDS, "not every start was ready when it said so:\n{answers}");
    figure(&format!("starts_that_were_ready_when_active_{}", scope.name()), ROUNDS, "of 50");
}

fn it_comes_back_after_a_reboot(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    machine.post(PORT, "before the reboot");
    machine.reboot();
    let ready = machine.client(&["probe.py", "ready", "8765"]);
    assert_eq!(ready["health"]["ready"], true);
    assert!(machine.get(PORT, "/api/events?after=0").to_string().contains("before the reboot"));
}
