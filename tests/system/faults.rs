//! What goes wrong: a crash loop, a hang before readiness, a taken port, a wrong configuration.

use std::time::Duration;

use testkit::machine::{Machine, PORT, Scope, unit};
use testkit::{eventually, figure};

for_both_scopes!(
    pain_10_a_crash_loop_stops_with_a_reason,
    pain_16_a_hang_before_ready_is_ended,
    pain_9_a_taken_port_is_no_restart_loop,
    a_failed_install_leaves_nothing,
    a_reload_of_a_bad_configuration_keeps_serving,
    install_over_a_broken_drop_in_is_refused_at_once,
);

const SOON: Duration = Duration::from_secs(30);

#[track_caller]
fn until_state(machine: &Machine, wanted: &str) {
    eventually(SOON, &format!("the unit to be {wanted}"), || {
        let state = machine.state(PORT);
        if state == wanted { Ok(()) } else { Err(format!("{state}\n{}", machine.journal(PORT))) }
    });
}

fn pain_10_a_crash_loop_stops_with_a_reason(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    machine.drop_in(PORT, "[Service]\nEnvironment=MPM_MONITOR_FAILPOINT=panic-after-ready\nRestartSec=100ms\n");
    machine.systemctl(&["restart", "--no-block", "mpm-monitor@8765"]).ok();
    until_state(&machine, "failed");
    let restarts: u32 = machine.property(PORT, "NRestarts").parse().unwrap();
    assert!((1..=5).contains(&restarts), "{restarts} restarts");
    figure(&format!("crash_loop_restarts_before_failed_{}", scope.name()), restarts, "restarts");
    // Promise P6: a loop that is over fills no disk either.
    let log: usize = machine.verb("logs", &["-n", "10000"]).ok().stdout.len();
    figure(&format!("crash_loop_log_{}", scope.name()), log, "bytes");
    assert!((1..1 << 20).contains(&log), "{log} bytes of log");
    let status = machine.verb("status", &[]).expect(3);
    assert!(status.stdout.contains("failed") && status.stdout.contains("panic"), "no reason: {status}");
    // Once the reason is gone, one command brings it back: no manual reset, no waiting for the limit to pass.
    machine.drop_in(PORT, "");
    machine.verb("start", &[]).ok();
    assert_eq!(machine.health(PORT)["ready"], true);
}

/// Pain 16: a deadlock before the loop was not seen for thirty hours elsewhere.
fn pain_16_a_hang_before_ready_is_ended(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--no-start"]);
    machine.drop_in(
        PORT,
        "[Unit]\nStartLimitBurst=1\n[Service]\nEnvironment=MPM_MONITOR_FAILPOINT=hang-before-ready\nTimeoutStartSec=3\nTimeoutStopSec=1\n",
    );
    let started = machine.verb("start", &["--timeout", "30s"]);
    assert_ne!(started.code, 0, "{started}");
    figure(&format!("hang_before_ready_ended_after_{}", scope.name()), started.took.as_millis(), "ms");
    assert!(started.took < Duration::from_secs(30), "{started}");
    assert!(started.stderr.contains("not ready or not gone in time"), "no reason: {started}");
}

fn pain_9_a_taken_port_is_no_restart_loop(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    machine.verb("stop", &[]).ok();
    let mut stranger = machine.spawn(&["/usr/bin/python3", "-u", "-m", "http.server", "8765", "--bind", "127.0.0.1"]);
    stranger.until(SOON, "the stranger to serve", |l| l.contains("Serving HTTP").then_some(()));
    let started = machine.verb("start", &[]);
    assert_ne!(started.code, 0, "{started}");
    assert!(started.all().contains("python3"), "the owner is not named: {started}");
    until_state(&machine, "failed");
    assert_eq!(machine.property(PORT, "ExecMainStatus"), "69");
    assert_eq!(machine.property(PORT, "NRestarts"), "0");
    // The stranger still serves, and `status` does not take it for ours.
    let answer = machine.run(&["curl", "-sS", "http://127.0.0.1:8765/"]).ok();
    assert!(answer.stdout.contains("Directory listing"), "{answer}");
    machine.verb("status", &[]).expect(3);
}

fn a_failed_install_leaves_nothing(scope: Scope) {
    let machine = boot!(scope);
    let mut stranger = machine.spawn(&["/usr/bin/python3", "-u", "-m", "http.server", "8765", "--bind", "127.0.0.1"]);
    stranger.until(SOON, "the stranger to serve", |l| l.contains("Serving HTTP").then_some(()));
    let before = machine.tree();
    let installed = machine.verb("install", &[]);
    assert_ne!(installed.code, 0, "{installed}");
    assert!(installed.all().contains("python3"), "the owner is not named: {installed}");
    let left = before.differences(&machine.tree());
    assert!(left.is_empty(), "a failed install left:\n{}", left.join("\n"));
}

fn a_reload_of_a_bad_configuration_keeps_serving(scope: Scope) {
    let machine = boot!(scope);
    machine.write(machine.config_file(), "[history]\non_connect = 3\n");
    machine.install(&[]);
    let before = machine.health(PORT);
    machine.write(machine.config_file(), "[history]\non_connect = \"all of them\"\n");
    let reloaded = machine.verb("reload", &[]);
    assert_ne!(reloaded.code, 0, "{reloaded}");
    assert!(reloaded.all().contains("config.toml:2"), "no reason: {reloaded}");
    let status = machine.verb("status", &[]).ok();
    assert!(status.stdout.contains("config.toml:2"), "no reason: {status}");
    let after = machine.health(PORT);
    assert_eq!((&after["instance_id"], &after["ready"]), (&before["instance_id"], &true.into()));
    assert_eq!(after["config_generation"], before["config_generation"]);

    // The manager's own verb knows it as well.
    assert_ne!(machine.systemctl(&["reload", "mpm-monitor@8765"]).code, 0, "a bad configuration was reloaded");
    assert_eq!(machine.health(PORT)["instance_id"], before["instance_id"]);

    machine.write(machine.config_file(), "[history]\non_connect = 4\n");
    machine.verb("reload", &[]).ok();
    assert_eq!(machine.health(PORT)["config_generation"], 2);
    assert_eq!(machine.property(PORT, "NRestarts"), "0");
}

fn install_over_a_broken_drop_in_is_refused_at_once(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let before = machine.health(PORT);
    machine.drop_in(PORT, "[Service]\nExecStart=/bin/false\n");
    let status = machine.verb("status", &[]).ok();
    assert!(status.stdout.contains("active (running)"), "{status}");
    let refused = machine.verb("install", &["--env", "MPM_MONITOR_HISTORY_AGE=7days", "--timeout", "60s"]).expect(8);
    assert!(refused.took < Duration::from_secs(30), "it waited for what cannot come: {refused}");
    assert!(refused.stderr.contains("the manager cannot load its unit"), "{refused}");
    assert!(refused.stderr.contains("Install was taken back; what ran before is ready (pid "), "{refused}");
    assert_eq!(machine.health(PORT)["instance_id"], before["instance_id"]);

    // Whatever wants a start of it is refused as well, and a stop is not.
    for verb in ["restart", "reload"] {
        let refused = machine.verb(verb, &[]).expect(8);
        assert!(refused.stderr.contains("what runs goes on; `mpm-monitor doctor"), "{refused}");
    }
    let status = machine.verb("status", &[]).ok();
    assert!(status.stdout.contains("so that the next"), "{status}");
    machine.verb("stop", &[]).ok();
    assert_eq!(machine.state(PORT), "inactive");
    machine.verb("start", &[]).expect(8);
    // Repaired; that the manager has to read it again is nobody's to know.
    let mend = "rm -f /etc/systemd/system/$1.d/test.conf /home/boxuser/.config/systemd/user/$1.d/test.conf";
    machine.run(&["sh", "-c", mend, "sh", &unit(PORT)]).ok();
    machine.verb("start", &[]).ok();
}

#[test]
fn install_on_a_read_only_disk_leaves_nothing() {
    let machine = boot!(Scope::System);
    machine.root(&["sh", "-c", "mount --bind /etc /etc && mount -o remount,ro,bind /etc"]).ok();
    let refused = machine.verb("install", &[]).expect(73);
    machine.root(&["umount", "/etc"]).ok();
    assert!(refused.stderr.trim_end().ends_with("Install was taken back"), "{refused}");
}
