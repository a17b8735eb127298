//! `upgrade`: another build of the program takes the place of the one that runs, and does not if it is no good.

use std::time::Duration;

use mpm_monitor::build;
use serde_json::Value;

use testkit::command::{Ran, Running};
use testkit::machine::{Machine, PORT, Scope, unit};
use testkit::{eventually, figure};

/// The build of the good new one.
const NEW: &str = "00000000feedbeef";
/// Made, it ends what goes on until then.
const STOP: &str = "/srv/new/stop";
/// Where the new ones are put.
const FROM: &str = "/srv/new/mpm-monitor";

fn boot(scope: Scope) -> Option<Machine> {
    let machine = Machine::boot(scope)?;
    machine.root(&["mkdir", "-p", "/srv/new"]).ok();
    Some(machine)
}

/// A listener that says on each connection what it has last; it is connected.
#[track_caller]
fn listener(machine: &Machine, transport: &str) -> Running {
    let mut client = machine.spawn_client(&["sio_listen.py", "http://127.0.0.1:8765", transport, "resume"]);
    client.until(Duration::from_secs(30), "a connection", |l| l.contains("\"connected\"").then_some(()));
    client
}

/// The numbers of the stored events that a listener heard, up to the one with that marker; and the notices of restarts.
#[track_caller]
fn heard(client: &mut Running, marker: &str) -> (Vec<u64>, Vec<Value>) {
    let (mut numbers, mut restarts) = (Vec::new(), Vec::new());
    let mut take = |line: &str| {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return false };
        let payload = &value["data"][0];
        if value["event"] == "server_restarting" {
            restarts.push(payload.clone());
        } else if value["event"] == "tool_event" {
            numbers.push(payload["seq"].as_u64().unwrap());
            return line.contains(marker);
        }
        false
    };
    for line in &client.seen {
        take(line);
    }
    client.until(Duration::from_secs(60), marker, |line| take(line).then_some(()));
    (numbers, restarts)
}

#[test]
fn clients_see_no_refused_connection_no_gap_and_no_double() {
    let scope = Scope::System;
    let Some(machine) = boot(scope) else { return };
    machine.install(&["--socket"]);
    machine.other_build(FROM, NEW, &[]);
    let before = machine.health(PORT);
    assert_eq!((&before["build"], &before["program"]["replaced"]), (&build::ID.into(), &false.into()));

    let dry = machine.verb("upgrade", &["--from", FROM, "--dry-run"]).ok();
    for word in ["another build of", "would keep", "would put", "would restart mpm-monitor@8765.service"] {
        assert!(dry.stdout.contains(word), "no {word:?} in {dry}");
    }
    assert_eq!(machine.health(PORT)["instance_id"], before["instance_id"], "a dry run restarted it");

    let mut listeners = ["websocket", "polling"].map(|transport| listener(&machine, transport));
    let mut storm = machine.spawn_client(&["probe.py", "storm", "8765", "50", "60", STOP]);
    let mut load = machine.spawn_client(&["probe.py", "load", "8765", "60", STOP]);
    eventually(Duration::from_secs(20), "the load to arrive", || {
        let events = machine.get(PORT, "/api/events?after=0")["events"].as_array().map_or(0, Vec::len);
        if events > 20 { Ok(()) } else { Err(format!("{events} events")) }
    });
    let upgraded = machine.verb("upgrade", &["--from", FROM]).ok();
    figure(&format!("upgrade_to_proved_{}", scope.name()), upgraded.took.as_millis(), "ms");
    let after = machine.health(PORT);
    assert_eq!((&after["build"], &after["program"]["replaced"]), (&NEW.into(), &false.into()), "{upgraded}");

    machine.write(STOP, "");
    let report = storm.until(Duration::from_secs(60), "the storm's report", |l| serde_json::from_str::<Value>(l).ok());
    assert_eq!((&report["refused"], report["instances"].as_array().unwrap().len()), (&0.into(), 2), "{report}");
    figure(&format!("upgrade_connections_refused_{}", scope.name()), &report["refused"], "connections");
    let report = load.until(Duration::from_secs(60), "the load's report", |l| serde_json::from_str::<Value>(l).ok());
    let accepted = report["accepted"].as_array().unwrap();
    let stored = machine.client(&["probe.py", "accepted", "8765"]).to_string();
    let lost = accepted.iter().filter(|m| !stored.contains(&m.to_string())).count();
    figure(&format!("events_accepted_around_an_upgrade_{}", scope.name()), accepted.len(), "events");
    assert_eq!(lost, 0, "of {}", accepted.len());
    machine.post(PORT, "the last of all");
    for client in &mut listeners {
        let (numbers, restarts) = heard(client, "the last of all");
        let gaps = numbers.windows(2).filter(|w| w[1] != w[0] + 1).count();
        assert_eq!(gaps, 0, "{numbers:?}");
        // Who was between two polls learns it from the poll that fails.
        assert!(restarts.iter().all(|r| r["reason"] == "upgrade" && r["retry_after"] == 1), "{restarts:?}");
    }

    // Back, and forth again: the one that is left is kept each time.
    let program = machine.program();
    for (verb, build) in [("went back", build::ID), ("went back", NEW)] {
        let back = machine.verb("upgrade", &["--rollback"]).ok();
        assert!(back.stdout.contains(verb), "{back}");
        assert_eq!(machine.health(PORT)["build"], build);
    }
    let again = machine.verb("upgrade", &["--from", FROM]).ok();
    assert!(again.stdout.contains("nothing to do"), "{again}");
    let listed = machine.run(&["sh", "-c", "ls -A \"$(dirname \"$1\")\"", "sh", &program]).ok();
    let ours: Vec<_> = listed.text().lines().filter(|name| name.contains("mpm-monitor")).collect();
    assert_eq!(ours, ["mpm-monitor", "mpm-monitor.previous"]);
}

/// Pain 4: a new program without a restart is not silent.
#[test]
fn a_program_that_was_replaced_is_noticed_everywhere() {
    let Some(machine) = boot(Scope::User) else { return };
    machine.install(&[]);
    machine.other_build(FROM, NEW, &[]);
    let program = machine.program();
    machine.run(&["sh", "-c", "cp \"$1\" \"$2.new\" && mv \"$2.new\" \"$2\"", "sh", FROM, &program]).ok();
    let said = eventually(Duration::from_secs(20), "STATUS= to say it", || {
        let said = machine.property(PORT, "StatusText");
        if said.contains("its program was replaced") { Ok(said) } else { Err(said) }
    });
    println!("STATUS={said}");
    let health = machine.health(PORT);
    assert_eq!((&health["program"]["replaced"], &health["program"]["path"]), (&true.into(), &program.as_str().into()));
    let metrics = machine.run(&["curl", "-sS", "http://127.0.0.1:8765/metrics"]).ok().stdout;
    assert!(metrics.contains("mpm_monitor_program_replaced 1\n"), "{metrics}");
    let status = machine.verb("status", &[]).ok();
    assert!(status.stdout.contains("restart needed") && status.stdout.contains(NEW), "{status}");
    let status = machine.verb("status", &["--json"]).ok().json();
    assert_eq!(
        (&status["versions"]["restart_needed"], &status["versions"]["program_replaced"]),
        (&true.into(), &true.into())
    );
    let log = machine.verb("logs", &[]).ok();
    assert!(log.stdout.contains("the program file was replaced"), "{log}");
    machine.verb("restart", &[]).ok();
    let health = machine.health(PORT);
    assert_eq!((&health["build"], &health["program"]["replaced"]), (&NEW.into(), &false.into()));
}

/// Refused before anything changed: the old process never noticed.
#[track_caller]
fn refused(machine: &Machine, code: i32, says: &str, more: &[&str]) -> Ran {
    let before = machine.health(PORT)["instance_id"].clone();
    let ran = machine.verb("upgrade", &[&["--from", FROM], more].concat()).expect(code);
    assert!(ran.stderr.contains(says), "{ran}");
    assert_eq!(machine.health(PORT)["instance_id"], before, "{ran}");
    ran
}

#[test]
fn what_is_no_good_is_refused_before_anything_changes() {
    let Some(machine) = boot(Scope::User) else { return };
    machine.write(machine.config_file(), "[server]\nclient_rate = 1000\n");
    machine.install(&[]);
    let sum = || machine.root(&["sha256sum", &machine.program()]).ok().stdout;
    let before = sum();
    let sh = |script: &str| drop(machine.root(&["sh", "-c", script]).ok());
    machine.verb("upgrade", &["--from", FROM]).expect(73);
    sh(&format!("printf '#!/bin/sh\\necho mpm-monitor 9.9.9\\n' > {FROM} && chmod 755 {FROM}"));
    refused(&machine, 8, "is not a program", &[]);
    // The processor's number in the head of the file.
    machine.other_build(FROM, NEW, &[]);
    sh(&format!("printf '\\267' | dd of={FROM} bs=1 seek=18 conv=notrunc status=none"));
    refused(&machine, 8, "of another platform: ELF for arm64", &[]);
    machine.other_build(FROM, NEW, &[]);
    sh(&format!("chmod 644 {FROM}"));
    refused(&machine, 8, "is not executable", &[]);
    sh(&format!("rm {FROM}; cp /bin/true {FROM}"));
    refused(&machine, 8, "is not an mpm-monitor", &[]);
    sh(&format!("cp /bin/false {FROM}"));
    refused(&machine, 8, "does not say its version", &[]);
    machine.other_build(FROM, NEW, &[("0.1.0 (build ", "0.0.9 (build ")]);
    refused(&machine, 8, "--allow-downgrade", &[]);
    machine.other_build(FROM, NEW, &[("server.client_rate", "server.client_rbte")]);
    let ran = refused(&machine, 78, "does not take the settings", &[]);
    assert!(ran.stderr.contains("there is no setting server.client_rate"), "{ran}");
    machine.verb("upgrade", &["--rollback"]).expect(8);
    machine.verb("upgrade", &["--from", FROM, "--port", "8799"]).expect(6);
    // A disk without room: nothing but the old program is there afterwards.
    machine.other_build(FROM, NEW, &[]);
    let bin = machine.program().replace("/mpm-monitor", "");
    let keep = "/srv/kept";
    // For one of it, and not for two.
    sh(&format!(
        "cp -a {bin}/mpm-monitor {keep} && room=$(($(stat -c %s {keep}) * 5 / 4)) \
         && mount -t tmpfs -o size=$room,uid={} none {bin} && cp -a {keep} {bin}/mpm-monitor",
        machine.uid
    ));
    machine.verb("restart", &[]).ok();
    refused(&machine, 73, "No space left", &[]);
    assert_eq!(machine.root(&["ls", "-A", &bin]).ok().text(), "mpm-monitor");
    assert_eq!(sum(), before);
}

/// The new one is put in place, does not become ready or does not stay, and the old one serves again.
#[test]
fn what_does_not_become_ready_is_taken_back() {
    let Some(machine) = boot(Scope::User) else { return };
    machine.install(&[]);
    let before = machine.root(&["sha256sum", &machine.program()]).ok().stdout;
    let cases = [
        ("fail-at-start", "fail-at-START", "asked for by MPM_MONITOR_FAILPOINT"),
        ("hang-before-ready", "hang-before-READY", "it did not become ready"),
        (
            "panic-after-ready",
            "panic-after-READY",
            "exit code 70|status=70/SOFTWARE|asked for by MPM_MONITOR_FAILPOINT",
        ),
    ];
    for (number, (old, new, says)) in cases.into_iter().enumerate() {
        // A name that the old program does not know, and the new one does.
        machine.other_build(FROM, &format!("{number:016x}"), &[(old, new)]);
        machine.drop_in(
            PORT,
            &format!("[Service]\nEnvironment=MPM_MONITOR_FAILPOINT={new}\nTimeoutStartSec=3\nTimeoutStopSec=1\n"),
        );
        let marker = format!("before {old}");
        machine.post(PORT, &marker);
        let ran = machine.verb("upgrade", &["--from", FROM, "--timeout", "5s"]);
        assert!([1, 5, 70].contains(&ran.code), "{ran}");
        // Caught within the two seconds after the proof, or before one: that is a matter of the machine's speed.
        assert!(says.split('|').any(|s| ran.stderr.contains(s)), "no {says:?} in {ran}");
        for word in ["The upgrade was taken back", "is ready (pid"] {
            assert!(ran.stderr.contains(word), "no {word:?} in {ran}");
        }
        figure(&format!("upgrade_of_{}_taken_back", old.replace('-', "_")), ran.took.as_millis(), "ms");
        assert_eq!(machine.health(PORT)["build"], build::ID, "{ran}");
        assert_eq!(machine.root(&["sha256sum", &machine.program()]).ok().stdout, before);
        assert!(machine.get(PORT, "/api/events?after=0").to_string().contains(&marker));
    }
}

#[test]
fn all_instances_of_the_program_follow_outdated_units_are_refreshed_and_edited_ones_stay() {
    let Some(machine) = boot(Scope::System) else { return };
    machine.install(&[]);
    machine.install(&["--port", "8766"]);
    machine.install(&["--port", "8767"]);
    machine.verb("stop", &["--port", "8767"]).ok();
    // The new one writes another unit.
    machine.other_build(FROM, NEW, &[("RestartSec=1\n", "RestartSec=2\n")]);
    let units = [8765, 8766, 8767].map(|port| format!("/etc/systemd/system/{}", unit(port)));
    let ran = machine.verb("upgrade", &["--from", FROM, "--json"]).ok().json();
    assert_eq!((&ran["result"], ran["instances"].as_array().unwrap().len()), (&"upgraded".into(), 3), "{ran:#}");
    for port in [8765, 8766] {
        assert_eq!(machine.health(port)["build"], NEW, "{ran:#}");
        assert_eq!(machine.property(port, "RestartUSec"), "2s");
    }
    assert_eq!(machine.state(8767), "inactive", "a stopped one was started");
    // Edited by hand, it stays, and the instances follow all the same.
    machine.root(&["sed", "-i", "s/^RestartSec=2/RestartSec=3/", &units[0], &units[1], &units[2]]).ok();
    machine.systemctl(&["daemon-reload"]).ok();
    let back = machine.verb("upgrade", &["--rollback"]).ok();
    assert!(back.stderr.contains("was left as it is") && back.stderr.contains("edited by hand"), "{back}");
    assert_eq!(
        (machine.health(8766)["build"].as_str(), machine.property(8766, "RestartUSec")),
        (Some(build::ID), "3s".into())
    );
    // What a package installed, its manager upgrades.
    machine.root(&["sh", "-c", "mkdir -p /var/lib/dpkg/info && echo /usr/local/bin/mpm-monitor > /var/lib/dpkg/info/mpm-monitor.list && \
        printf '\\nPackage: mpm-monitor\\nStatus: install ok installed\\nMaintainer: x\\nVersion: 1\\nArchitecture: amd64\\nDescription: x\\n\\n' >> /var/lib/dpkg/status"]).ok();
    let refused = machine.verb("upgrade", &["--from", FROM]).expect(8);
    assert!(refused.stderr.contains("apt install --only-upgrade mpm-monitor"), "{refused}");
}

/// The manager's watchdog would end it, but only later: the proof waits for its first ping.
#[test]
fn a_build_that_never_pings_is_taken_back() {
    let Some(machine) = boot(Scope::User) else { return };
    machine.install(&[]);
    machine.drop_in(PORT, "[Service]\nWatchdogSec=4\n");
    machine.other_build(FROM, NEW, &[("WATCHDOG=1", "WATCHDOX=1")]);
    let ran = machine.verb("upgrade", &["--from", FROM, "--timeout", "30s"]).expect(1);
    for word in ["because it hung (watchdog)", "The upgrade was taken back", "is ready (pid"] {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran}");
    }
    assert_eq!(machine.health(PORT)["build"], build::ID, "{ran}");
}

/// It serves, but its manager does not know, and ends it when its time is up, for as long as the limit allows.
#[test]
fn a_build_that_never_says_ready_is_not_ready_and_given_up() {
    let Some(machine) = boot(Scope::User) else { return };
    machine.install(&["--no-start"]);
    machine.other_build(&machine.program(), NEW, &[("READY=1", "REABY=1")]);
    machine.drop_in(PORT, "[Service]\nTimeoutStartSec=3\n");
    machine.systemctl(&["start", "--no-block", "mpm-monitor@8765"]).ok();
    eventually(Duration::from_secs(30), "it to answer", || {
        let said = machine.verb("status", &[]);
        assert_ne!(said.code, 0, "{said}");
        if said.stdout.contains("has not told its manager") { Ok(()) } else { Err(said.to_string()) }
    });
    eventually(Duration::from_secs(90), "the unit to be failed", || match machine.state(PORT).as_str() {
        "failed" => Ok(()),
        other => Err(other.to_owned()),
    });
    let status = machine.verb("status", &[]).expect(3);
    assert!(status.stdout.contains("not ready or not gone in time"), "{status}");
}
