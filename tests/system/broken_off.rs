//! Verbs that a signal breaks off: what was begun is taken back, and what was killed is known afterwards.

use std::time::Duration;

use testkit::machine::{Machine, PORT, Scope};
use testkit::{eventually, figure};

for_both_scopes!(
    an_install_that_a_signal_ends_is_taken_back,
    an_install_over_another_is_taken_back_to_it,
    an_install_that_was_killed_is_found_and_finished,
    an_uninstall_that_a_signal_ends_is_taken_back,
);

/// It hangs before it is ready, so that every moment up to then can be hit.
const HANGS: [&str; 2] = ["--env", "MPM_MONITOR_FAILPOINT=hang-before-ready"];

/// `install`, ended by a signal after that long.
#[track_caller]
fn ended(machine: &Machine, signal: &str, after: &str, words: &[&str]) -> testkit::command::Ran {
    let program = machine.program();
    let install = [program.as_str(), "install", machine.scope.flag()];
    machine.run(&[&["timeout", "--preserve-status", "-s", signal, after], &install[..], words].concat())
}

/// What is different by now, without what a process writes that was started anew.
fn changed(before: &testkit::tree::Tree, machine: &Machine) -> Vec<String> {
    let own = ["events.db", "ledger.json", "8765.lock"];
    before.differences(&machine.tree()).into_iter().filter(|line| !own.iter().any(|name| line.contains(name))).collect()
}

fn an_install_that_a_signal_ends_is_taken_back(scope: Scope) {
    let machine = boot!(scope);
    // It hangs so well that only SIGKILL ends it.
    machine.drop_in(PORT, "[Service]\nTimeoutStopSec=1\n");
    let before = machine.tree();
    let mut slowest = Duration::ZERO;
    for (at, after) in ["0.02", "0.1", "0.2", "0.4", "0.8", "1.6"].into_iter().enumerate() {
        for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)].into_iter().skip(at % 2) {
            let ran = ended(&machine, signal, after, &HANGS);
            assert_eq!(ran.code, 128 + number, "{signal} after {after} s: {ran}");
            let left = before.differences(&machine.tree());
            assert!(left.is_empty(), "{signal} after {after} s left:\n{}\n{ran}", left.join("\n"));
            assert_eq!(machine.state(PORT), "inactive", "{signal} after {after} s: {ran}");
            slowest = slowest.max(ran.took);
        }
    }
    figure(&format!("install_broken_off_slowest_{}", scope.name()), slowest.as_millis(), "ms");
    machine.install(&[]);
}

fn an_install_over_another_is_taken_back_to_it(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    machine.drop_in(PORT, "[Service]\nTimeoutStopSec=1\n");
    let before = machine.tree();
    let ran = ended(&machine, "INT", "2", &[&HANGS[..], &["--socket"]].concat());
    assert_eq!(ran.code, 130, "{ran}");
    assert!(ran.stderr.contains("Install was taken back; what ran before is ready (pid "), "{ran}");
    let left = changed(&before, &machine);
    assert!(left.is_empty(), "it left:\n{}", left.join("\n"));
    assert_eq!(machine.health(PORT)["ready"], true);
}

fn an_install_that_was_killed_is_found_and_finished(scope: Scope) {
    let machine = boot!(scope);
    let ran = ended(&machine, "KILL", "2", &HANGS);
    assert_ne!(ran.code, 0, "{ran}");
    let doctor = machine.verb("doctor", &["--json", "--port", "8765"]);
    let report = doctor.json();
    let checks = report["instances"][0]["checks"].as_array().unwrap();
    let receipt = checks.iter().find(|c| c["code"].as_str().is_some_and(|code| code.contains("receipt"))).unwrap();
    assert_eq!(receipt["outcome"], "failed", "{receipt}");
    assert!(receipt.to_string().contains("broken off"), "{receipt}");
    let status = machine.verb("status", &[]);
    assert!(status.stdout.contains("the installation is unfinished"), "{status}");
    assert_eq!(machine.verb("status", &["--json"]).json()["unfinished"], true, "{status}");
    machine.install(&["--env", "MPM_MONITOR_FAILPOINT"]);
    assert_eq!(machine.verb("status", &["--json"]).json()["unfinished"], false);
    let checks = machine.verb("doctor", &["--json", "--port", "8765"]).json().to_string();
    assert!(!checks.contains("broken off"), "{checks}");
    eventually(Duration::from_secs(30), "it to be ready", || match machine.health(PORT)["ready"] == true {
        true => Ok(()),
        false => Err(machine.journal(PORT)),
    });
    machine.verb("uninstall", &["--purge"]).ok();
}

fn an_uninstall_that_a_signal_ends_is_taken_back(scope: Scope) {
    let machine = boot!(scope);
    // It runs a drop-in of its own, so that a directory goes, too.
    machine.install(&["--env", "MPM_MONITOR_HISTORY_AGE=7days"]);
    let before = machine.tree();
    // The signal comes when the service is stopped and disabled, and its files are gone.
    let ends =
        "#!/bin/sh\ncase \"$*\" in *daemon-reload*) kill -INT $PPID;; esac\nexec /usr/bin/systemctl.real \"$@\"\n";
    machine.root(&["mv", "/usr/bin/systemctl", "/usr/bin/systemctl.real"]).ok();
    machine
        .root(&["sh", "-c", "printf %s \"$1\" > /usr/bin/systemctl && chmod 755 /usr/bin/systemctl", "sh", ends])
        .ok();
    let ran = machine.verb("uninstall", &["--purge"]);
    machine.root(&["mv", "-f", "/usr/bin/systemctl.real", "/usr/bin/systemctl"]).ok();
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stderr.trim_end().ends_with("Uninstall was taken back"), "{ran}");
    let left = changed(&before, &machine);
    assert!(left.is_empty(), "it left:\n{}", left.join("\n"));
    assert_eq!(machine.property(PORT, "UnitFileState"), "enabled", "{ran}");
    assert_eq!(machine.state(PORT), "active", "{ran}");
    machine.verb("uninstall", &["--purge"]).ok();
}
