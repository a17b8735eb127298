//! The manager holds the listening socket: nobody is refused.

use std::time::Duration;

use serde_json::Value;

use crate::harness::figure;
use crate::harness::machine::{PORT, Scope};

for_both_scopes!(the_first_connection_starts_it, a_restart_refuses_nobody);

fn the_first_connection_starts_it(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--socket"]);
    machine.systemctl(&["stop", "mpm-monitor@8765.service"]).ok();
    assert_eq!(machine.state(PORT), "inactive");
    for address in ["127.0.0.1", "[::1]"] {
        let url = format!("http://{address}:8765/health");
        let answer = machine.run(&["curl", "-sS", "--max-time", "10", &url]).ok().json();
        assert_eq!(answer["service"], "claude-mpm-monitor", "{answer}");
    }
    assert_eq!(machine.state(PORT), "active");
    // Stopped for good means stopped: a connection must not start it behind the user's back.
    machine.verb("stop", &[]).ok();
    assert_eq!(machine.run(&["curl", "-sS", "http://127.0.0.1:8765/health"]).code, 7, "somebody still listens");
    assert_eq!(machine.state(PORT), "inactive");
    machine.verb("start", &[]).ok();
    assert_eq!(machine.health(PORT)["ready"], true);
}

/// Promise P4.
fn a_restart_refuses_nobody(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--socket"]);
    let mut storm = machine.spawn_client(&["probe.py", "storm", "8765", "100", "5"]);
    for _ in 0..2 {
        machine.verb("restart", &[]).ok();
    }
    let report = storm.until(Duration::from_secs(60), "the storm's report", |l| serde_json::from_str::<Value>(l).ok());
    assert!(report["ok"].as_u64().unwrap() > 100, "{report}");
    assert!(report["instances"].as_array().unwrap().len() >= 2, "it saw no restart: {report}");
    figure(&format!("restart_requests_answered_{}", scope.name()), &report["ok"], "requests");
    figure(&format!("restart_connections_refused_{}", scope.name()), &report["refused"], "connections");
    figure(&format!("restart_slowest_answer_{}", scope.name()), report["slowest"].as_f64().unwrap() * 1000.0, "ms");
    assert_eq!(report["refused"], 0, "{report}");
}
