//! The manager holds the listening socket: nobody is refused.

use std::time::Duration;

use serde_json::Value;

use testkit::figure;
use testkit::machine::{PORT, Scope};

for_both_scopes!(
    the_first_connection_starts_it,
    a_restart_refuses_nobody,
    start_and_install_prove_what_only_its_socket_holds,
    stop_start_and_restart_work_ten_times,
    install_over_and_anew_works_ten_times,
    a_failed_socket_brings_back_what_ran,
    a_strangers_port_is_named_under_activation,
    ipv6_that_is_off_is_no_obstacle,
);

/// How often each verb has to work.
const ROUNDS: usize = 10;

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

/// The service is down and the manager holds the port: no look of ours may start it, or the proof would take it for the
/// process from before.
fn start_and_install_prove_what_only_its_socket_holds(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--socket"]);
    let mut slowest = Duration::ZERO;
    for verb in ["start", "install"] {
        for round in 0..ROUNDS {
            machine.systemctl(&["stop", "mpm-monitor@8765.service"]).ok();
            machine.verb("status", &[]).expect(3);
            assert_eq!(machine.state(PORT), "inactive", "status started it");
            machine.verb("report", &["--output", &format!("/tmp/{verb}-{round}.tar.gz")]).ok();
            assert_eq!(machine.state(PORT), "inactive", "report started it");
            let ran = machine.verb(verb, &[]).ok();
            assert!(ran.stdout.contains("running and ready"), "{ran}");
            slowest = slowest.max(ran.took);
            assert_eq!(machine.state(PORT), "active");
        }
    }
    figure(&format!("start_under_activation_slowest_of_20_{}", scope.name()), slowest.as_millis(), "ms");
}

fn stop_start_and_restart_work_ten_times(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--socket"]);
    let mut instances = vec![machine.health(PORT)["instance_id"].clone()];
    for _ in 0..ROUNDS {
        machine.verb("stop", &[]).ok();
        assert_eq!(machine.run(&["curl", "-sS", "http://127.0.0.1:8765/health"]).code, 7, "somebody still listens");
        for verb in ["start", "restart"] {
            machine.verb(verb, &[]).ok();
            instances.push(machine.health(PORT)["instance_id"].clone());
        }
    }
    let all = instances.len();
    instances.sort_by_key(ToString::to_string);
    instances.dedup();
    assert_eq!(instances.len(), all, "each is another process");
}

fn install_over_and_anew_works_ten_times(scope: Scope) {
    let machine = boot!(scope);
    for round in 0..ROUNDS {
        machine.install(&["--socket"]);
        let before = machine.health(PORT)["instance_id"].clone();
        let again = machine.install(&["--socket"]);
        assert!(again.stdout.contains("nothing to do"), "{again}");
        assert_eq!(machine.health(PORT)["instance_id"], before);
        // There and back without an end of the service for good.
        machine.install(&["--socket=no"]);
        machine.install(&["--socket=yes"]);
        let changed = machine.install(&["--env", &format!("MPM_TEST={round}")]);
        assert!(changed.stdout.contains("running and ready"), "{changed}");
        machine.verb("uninstall", &[]).ok();
        assert_eq!(machine.run(&["curl", "-sS", "http://127.0.0.1:8765/health"]).code, 7, "somebody still listens");
    }
}

#[test]
fn an_upgrade_under_activation_works_ten_times() {
    let machine = boot!(Scope::User);
    machine.install(&["--socket"]);
    machine.root(&["mkdir", "-p", "/srv/new"]).ok();
    machine.other_build("/srv/new/mpm-monitor", "00000000feedbeef", &[]);
    machine.verb("upgrade", &["--from", "/srv/new/mpm-monitor"]).ok();
    for _ in 1..ROUNDS {
        // It may just as well have been stopped behind our back.
        let before = machine.health(PORT)["build"].clone();
        machine.verb("upgrade", &["--rollback"]).ok();
        assert_ne!(machine.health(PORT)["build"], before);
    }
}

fn a_failed_socket_brings_back_what_ran(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let folder = match scope {
        Scope::System => "/etc/systemd/system",
        Scope::User => "/home/boxuser/.config/systemd/user",
    };
    machine.write(&format!("{folder}/mpm-monitor@8765.socket.d/fails.conf"), "[Socket]\nExecStartPre=/bin/false\n");
    machine.systemctl(&["daemon-reload"]).ok();
    let before = machine.tree();
    let ran = machine.verb("install", &["--socket"]).expect(1);
    assert!(ran.stderr.contains("Install was taken back; what ran before is ready (pid "), "{ran}");
    assert_eq!(machine.health(PORT)["ready"], true);
    machine.verb("status", &[]).ok();
    let own = ["events.db", "ledger.json", "8765.lock"];
    let left = before.differences(&machine.tree());
    let left: Vec<_> = left.into_iter().filter(|line| !own.iter().any(|name| line.contains(name))).collect();
    assert!(left.is_empty(), "it left:\n{}", left.join("\n"));
}

fn a_strangers_port_is_named_under_activation(scope: Scope) {
    let machine = boot!(scope);
    let mut stranger = machine.spawn(&["/usr/bin/python3", "-u", "-m", "http.server", "8765", "--bind", "127.0.0.1"]);
    stranger.until(Duration::from_secs(30), "the stranger to serve", |l| l.contains("Serving HTTP").then_some(()));
    let before = machine.tree();
    let ran = machine.verb("install", &["--socket"]).expect(69);
    assert!(ran.stderr.contains("Port 8765 belongs to python3 (pid "), "{ran}");
    let left = before.differences(&machine.tree());
    assert!(left.is_empty(), "it left:\n{}", left.join("\n"));
}

fn ipv6_that_is_off_is_no_obstacle(scope: Scope) {
    let machine = boot!(scope);
    // The machine's own /proc/sys may not be written; its network is its own.
    let off = "mkdir /run/p && mount -t proc proc /run/p && echo 1 > /run/p/sys/net/ipv6/conf/all/disable_ipv6 && umount /run/p";
    machine.root(&["sh", "-c", off]).ok();
    machine.install(&["--socket"]);
    assert_eq!(machine.health(PORT)["ready"], true);
    machine.verb("restart", &[]).ok();
    machine.verb("stop", &[]).ok();
    machine.verb("start", &[]).ok();
}

/// Each look at the manager is a process of its own, so they come ever more rarely.
#[test]
fn waiting_asks_the_manager_seldom() {
    let machine = boot!(Scope::System);
    machine.install(&["--no-start"]);
    machine.drop_in(PORT, "[Service]\nEnvironment=MPM_MONITOR_FAILPOINT=hang-before-ready\nTimeoutStopSec=1\n");
    let counted = "mv /usr/bin/systemctl /usr/bin/systemctl.real && printf '%s\\n' '#!/bin/bash' 'echo \"$*\" >> /run/asked' \
                   'exec -a systemctl /usr/bin/systemctl.real \"$@\"' > /usr/bin/systemctl && chmod 755 /usr/bin/systemctl";
    machine.root(&["bash", "-c", counted]).ok();
    machine.verb("start", &["--timeout", "5s"]).expect(5);
    let asked = machine.root(&["cat", "/run/asked"]).ok().stdout;
    let count = asked.lines().count();
    figure("systemctl_run_while_waiting_10_s", count, "processes");
    // Five seconds are systemctl's own wait; in the five after it there were some 130.
    assert!((5..40).contains(&count), "{count}:\n{asked}");
}
