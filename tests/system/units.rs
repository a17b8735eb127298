//! The units that `install` writes: one for each instance, which harm no other, and which no person's restart takes down.

use std::time::Duration;

use service::drift::stamp;

use testkit::machine::{Machine, PORT, Scope, unit};
use testkit::{eventually, figure};

for_both_scopes!(
    another_program_on_another_port_leaves_this_one_alone,
    an_old_template_is_taken_apart_one_instance_at_a_time,
    verify_finds_no_fault_in_what_install_wrote,
    cleaning_one_instance_leaves_the_others_their_locks,
    many_restarts_in_a_minute_leave_it_running,
    a_stray_sigterm_is_followed_by_a_start,
    a_usage_error_is_not_started_again,
);

const SOON: Duration = Duration::from_secs(30);
const OTHER: u16 = 8766;

fn folder(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "/etc/systemd/system",
        Scope::User => "/home/boxuser/.config/systemd/user",
    }
}

/// What the manager would start now.
fn exec_of(machine: &Machine, port: u16) -> String {
    machine.property(port, "ExecStart")
}

fn exists(machine: &Machine, path: &str) -> bool {
    machine.run(&["test", "-e", path]).code == 0
}

fn another_program_on_another_port_leaves_this_one_alone(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let (before, program) = (machine.health(PORT), machine.program());
    let copy = if scope == Scope::System { "/opt/mpm-monitor" } else { "/home/boxuser/mpm-monitor" };
    machine.run(&["cp", &program, copy]).ok();
    machine.run(&[copy, "install", scope.flag(), "--port", "8766", "--program", copy]).ok();
    assert!(exec_of(&machine, OTHER).contains(&format!("path={copy} ")), "{}", exec_of(&machine, OTHER));
    assert!(exec_of(&machine, PORT).contains(&format!("path={program} ")), "{}", exec_of(&machine, PORT));
    assert_eq!(machine.health(PORT)["instance_id"], before["instance_id"]);
    machine.systemctl(&["restart", "mpm-monitor@8765"]).ok();
    assert_eq!(machine.health(PORT)["program"]["path"], program.as_str());
    // Each goes by itself.
    machine.verb("uninstall", &["--port", "8766", "--purge"]).ok();
    assert_eq!(machine.health(PORT)["ready"], true);
}

/// Makes of an installed instance one that an earlier version installed.
fn as_before(machine: &Machine, port: u16) {
    let folder = folder(machine.scope);
    let (own, template) = (format!("{folder}/{}", unit(port)), format!("{folder}/mpm-monitor@.service"));
    let text = machine.run(&["cat", &own]).ok().stdout;
    let text = text.split_once('\n').expect("a header").1;
    let old = match machine.scope {
        Scope::System => text
            .replace("RuntimeDirectory=mpm-monitor/%i", "RuntimeDirectory=mpm-monitor\nRuntimeDirectoryPreserve=yes")
            .replace("=%t/mpm-monitor/%i", "=%t/mpm-monitor"),
        Scope::User => text.replace("Restart=always", "Restart=on-failure"),
    };
    assert_ne!(text, old);
    machine.write(&template, &stamp("mpm-monitor", &old, "0.0.9"));
    let state = if machine.scope == Scope::System { "/var/lib" } else { "/home/boxuser/.local/state" };
    let receipt = format!("{state}/mpm-monitor/receipts/{port}.json");
    let script = format!(
        "rm {own} && ln -sf {template} {folder}/*.target.wants/{unit} && \
         sed -i 's|\"path\": \"{own}\"|\"path\": \"{template}\"|' {receipt} && grep -q {template} {receipt}",
        unit = unit(port)
    );
    machine.run(&["sh", "-c", &script]).ok();
    machine.systemctl(&["daemon-reload"]).ok();
    machine.systemctl(&["restart", &unit(port)]).ok();
}

fn an_old_template_is_taken_apart_one_instance_at_a_time(scope: Scope) {
    let machine = boot!(scope);
    let template = format!("{}/mpm-monitor@.service", folder(scope));
    let ports = [(PORT, "8765"), (OTHER, "8766")];
    for (_, port) in ports {
        machine.install(&["--port", port]);
    }
    for (port, _) in ports {
        as_before(&machine, port);
    }
    machine.post(PORT, "before the upgrade");
    for (port, text) in ports {
        assert_eq!(machine.property(port, "FragmentPath"), template);
        let status = machine.verb("status", &["--port", text, "--json"]).ok().json();
        assert_eq!(
            (&status["managed"], &status["files"][0]["state"]),
            (&true.into(), &"outdated".into()),
            "{status:#}"
        );
    }
    let list = machine.program_with(&["list"]);
    assert!(list.stdout.contains("8765") && list.stdout.contains("8766"), "{list}");

    machine.install(&[]);
    let own = |port: u16| format!("{}/{}", folder(scope), unit(port));
    assert_eq!(machine.property(PORT, "FragmentPath"), own(PORT));
    assert_eq!(machine.property(OTHER, "FragmentPath"), template, "the other one is started from it");
    machine.verb("restart", &["--port", "8766"]).ok();
    machine.install(&["--port", "8766"]);
    assert_eq!(machine.property(OTHER, "FragmentPath"), own(OTHER));
    assert!(!exists(&machine, &template), "nobody is started from it any more");
    for (port, text) in ports {
        let again = machine.verb("install", &["--port", text]).ok();
        assert!(again.stdout.contains("nothing to do"), "{again}");
        assert_eq!(machine.property(port, "UnitFileState"), "enabled");
        let links = machine.run(&["sh", "-c", &format!("readlink {}/*.wants/{}", folder(scope), unit(port))]).ok();
        assert_eq!(links.text(), own(port));
    }
    assert!(machine.get(PORT, "/api/events?after=0").to_string().contains("before the upgrade"));
    // They come up by themselves from what there is now.
    machine.reboot();
    for (_, port) in ports {
        assert_eq!(machine.client(&["probe.py", "ready", port])["health"]["ready"], true);
    }
    // And all of it goes.
    for (_, port) in ports {
        machine.verb("uninstall", &["--port", port, "--purge"]).ok();
    }
    let left = machine.run(&["sh", "-c", &format!("find {} -name 'mpm-monitor*'", folder(scope))]);
    assert_eq!(left.stdout, "");
}

fn verify_finds_no_fault_in_what_install_wrote(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--socket"]);
    // A page that this machine happens to have proves nothing.
    machine.root(&["sh", "-c", "! man -w mpm-monitor 2>/dev/null"]).ok();
    let verified = machine.run(&[
        "systemd-analyze",
        "verify",
        scope.flag(),
        &unit(PORT),
        &unit(PORT).replace("service", "socket"),
    ]);
    let ours: Vec<_> = verified.stderr.lines().filter(|l| l.contains("mpm-monitor")).collect();
    assert!(verified.code == 0 && ours.is_empty(), "{verified}");
}

/// `systemctl clean` takes an instance's own directories.
fn cleaning_one_instance_leaves_the_others_their_locks(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    machine.install(&["--port", "8766"]);
    let lock = |port: u16| match scope {
        Scope::System => format!("/run/mpm-monitor/{port}/{port}.lock"),
        Scope::User => format!("/run/user/{}/mpm-monitor/{port}.lock", machine.uid),
    };
    assert!(exists(&machine, &lock(PORT)) && exists(&machine, &lock(OTHER)));
    machine.verb("stop", &["--port", "8766"]).ok();
    // It may have nothing to remove.
    machine.systemctl(&["clean", "--what=runtime", &unit(OTHER)]);
    assert!(exists(&machine, &lock(PORT)), "the lock of another instance went along");
    machine.verb("start", &["--port", "8766"]).ok();
    let taken = machine.program_with(&["run", "--port", "8765"]);
    assert_ne!(taken.code, 0, "{taken}");
}

fn many_restarts_in_a_minute_leave_it_running(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let burst: u32 = machine.property(PORT, "StartLimitBurst").parse().unwrap();
    let rounds = burst * 2 + 1;
    let script =
        format!("for i in $(seq {rounds}); do systemctl {} restart {} || exit 1; done", scope.flag(), unit(PORT));
    let all = machine.run(&["sh", "-c", &script]).ok();
    figure(&format!("systemctl_restart_mean_{}", scope.name()), all.took.as_millis() / u128::from(rounds), "ms");
    assert_eq!(machine.health(PORT)["ready"], true);
    machine.verb("status", &[]).ok();
    // Bad ends still reach the limit.
    machine.drop_in(PORT, "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=50ms\n");
    machine.systemctl(&["restart", "--no-block", &unit(PORT)]).ok();
    eventually(SOON, "the loop to end", || {
        let (state, result) = (machine.state(PORT), machine.property(PORT, "NRestarts"));
        if state == "failed" { Ok(()) } else { Err(format!("{state} {result}")) }
    });
}

fn a_stray_sigterm_is_followed_by_a_start(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    for _ in 0..7 {
        let before: u32 = machine.property(PORT, "MainPID").parse().unwrap();
        machine.root(&["kill", "-TERM", &before.to_string()]).ok();
        eventually(SOON, "another process to be ready", || {
            let health = machine.run(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:8765/health"]);
            match serde_json::from_str::<serde_json::Value>(&health.stdout) {
                Ok(now) if now["ready"] == true && now["pid"] != before => Ok(()),
                _ => Err(health.all()),
            }
        });
    }
    // Who means it says so to the manager.
    machine.systemctl(&["stop", &unit(PORT)]).ok();
    assert_eq!(machine.state(PORT), "inactive");
}

fn a_usage_error_is_not_started_again(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&["--no-start"]);
    let wrong = format!("[Service]\nExecStart=\nExecStart={} run --no-such-flag\n", machine.program());
    machine.drop_in(PORT, &wrong);
    let started = machine.verb("start", &[]);
    assert_ne!(started.code, 0, "{started}");
    assert_eq!((machine.state(PORT), machine.property(PORT, "NRestarts")), ("failed".into(), "0".into()));
    let status = machine.verb("status", &[]).expect(3);
    assert!(status.stdout.contains("exit code 2 (the command line is wrong"), "{status}");
}
