//! Many at once: callers of one instance, instances of one machine.

use testkit::figure;
use testkit::machine::{Machine, PORT, Scope};

for_both_scopes!(twenty_callers_make_one_daemon, four_instances_live_side_by_side, restarts_may_be_asked_for_often);

/// The exit codes of twenty at once of a verb.
fn twenty(machine: &Machine, verb: &str) -> Vec<i32> {
    let script = format!(
        "d=$(mktemp -d); for i in $(seq 20); do ({} {verb} {} --timeout 60s >$d/$i.out 2>&1; echo $? >$d/$i) & done; wait; \
         cat $d/*.out >&2; for i in $(seq 20); do cat $d/$i; done; rm -r $d",
        machine.program(),
        machine.scope.flag()
    );
    let ran = machine.run(&["sh", "-c", &script]).ok();
    let codes: Vec<i32> = ran.stdout.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(codes.len(), 20);
    assert!(codes.iter().all(|&c| c == 0), "{codes:?} of {ran}");
    codes
}

/// The processes that serve.
fn daemons(machine: &Machine) -> usize {
    let ran = machine.root(&["pgrep", "-fc", "^[^ ]*mpm-monitor run"]);
    ran.text().parse().unwrap()
}

/// Promise P3, and five callers that raced elsewhere (pain 9).
fn twenty_callers_make_one_daemon(scope: Scope) {
    let machine = boot!(scope);
    let installed = twenty(&machine, "install");
    assert_eq!(daemons(&machine), 1);
    figure(&format!("concurrent_installs_that_succeed_{}", scope.name()), installed.len(), "of 20");
    let first = machine.health(PORT);
    assert_eq!(first["pid"].to_string(), machine.property(PORT, "MainPID"));

    machine.verb("stop", &[]).ok();
    assert_eq!(daemons(&machine), 0);
    twenty(&machine, "start");
    assert_eq!(daemons(&machine), 1);
    let second = machine.health(PORT);
    assert_ne!(first["instance_id"], second["instance_id"]);
    // Starting what runs changes nothing.
    twenty(&machine, "start");
    assert_eq!(machine.health(PORT)["instance_id"], second["instance_id"]);
    assert_eq!(machine.property(PORT, "NRestarts"), "0");
}

fn four_instances_live_side_by_side(scope: Scope) {
    const PORTS: [u16; 4] = [8765, 8766, 9001, 18765];
    let machine = boot!(scope);
    for port in PORTS {
        machine.install(&["--port", &port.to_string()]);
    }
    let healths: Vec<_> = PORTS.map(|port| machine.health(port)).into();
    for (port, health) in PORTS.iter().zip(&healths) {
        assert_eq!((health["port"].as_u64(), &health["ready"]), (Some(u64::from(*port)), &true.into()), "{health}");
    }
    assert_eq!(daemons(&machine), 4);
    machine.post(9001, "only here");
    let list = machine.program_with(&["list", "--json"]).ok();
    // Root sees those of all users.
    let of_root = machine.root(&[&machine.program(), "list"]).ok();
    for port in PORTS {
        assert!(list.stdout.contains(&port.to_string()), "{list}");
        assert!(of_root.stdout.contains(&port.to_string()), "{of_root}");
        let events = machine.get(port, "/api/events?after=0").to_string();
        assert_eq!(events.contains("only here"), port == 9001, "{events}");
    }
    machine.verb("uninstall", &["--port", "9001"]).ok();
    for (port, before) in PORTS.iter().zip(&healths).filter(|(p, _)| **p != 9001) {
        assert_eq!(machine.health(*port)["instance_id"], before["instance_id"], "{port} did not stay as it was");
    }
    assert_eq!(daemons(&machine), 3);
}

/// systemd counts starts that were asked for, too; a user who restarts six times in a minute is no crash loop.
fn restarts_may_be_asked_for_often(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let mut last = machine.health(PORT)["instance_id"].clone();
    for _ in 0..8 {
        machine.verb("restart", &[]).ok();
        let health = machine.health(PORT);
        assert_ne!(health["instance_id"], last, "the old process answers still");
        assert_eq!(health["ready"], true);
        last = health["instance_id"].clone();
    }
}
