//! `migrate`: from the real Claude MPM's daemon, as its users start it, to ours, and back.

use std::time::Duration;

use serde_json::Value;

use testkit::command::Ran;
use testkit::machine::{Machine, PORT, Scope};
use testkit::{eventually, figure, here, skip};

/// Where the real Claude MPM is in the machine.
const THEIRS: &str = "/opt/claude-mpm";
const PROJECT: &str = "/home/boxuser/project";
const FILE: &str = "/home/boxuser/project/.claude-mpm/monitor-daemon-8765.pid";

/// A machine with the real Claude MPM and a project of a user's.
fn boot() -> Option<Machine> {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| here("target"));
    let theirs = format!("{target}/test-claude-mpm");
    if !std::path::Path::new(&theirs).join(".installed").exists() {
        skip("there is no real Claude MPM; scripts/setup.sh test installs it");
        return None;
    }
    let machine = Machine::boot_with(Scope::User, &[(&theirs, THEIRS)])?;
    // Its hooks look for Claude Code and ask for its version before they do anything.
    machine.write("/home/boxuser/.local/bin/claude", "#!/bin/sh\necho '2.1.4 (Claude Code)'\n");
    machine.user(&["chmod", "755", "/home/boxuser/.local/bin/claude"]).ok();
    // It looks for updates first: with nobody to ask for addresses it is told so at once.
    machine.root(&["sh", "-c", "rm -f /etc/resolv.conf; echo nameserver 127.0.0.1 > /etc/resolv.conf"]).ok();
    machine.user(&["git", "init", "-q", "-b", "main", PROJECT]).ok();
    Some(machine)
}

/// A command in the project.
#[track_caller]
fn in_project(machine: &Machine, command: &str) -> Ran {
    let script = format!("cd {PROJECT} && export PATH=$HOME/.local/bin:$PATH PYTHONDONTWRITEBYTECODE=1 && {command}");
    machine.user(&["sh", "-c", &script])
}

#[track_caller]
fn claude_mpm(machine: &Machine, words: &str) -> String {
    let ran = in_project(machine, &format!("{THEIRS}/bin/python3 -m claude_mpm.cli {words}")).ok();
    let line = ran.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    println!("claude-mpm {words}: {line} ({:.1} s)", ran.took.as_secs_f64());
    line
}

#[track_caller]
fn migrate(machine: &Machine, words: &str) -> Ran {
    let ran = in_project(machine, &format!("{} migrate --user {words}", machine.program()));
    println!(
        "$ mpm-monitor migrate {words}\n{}{}[{}, {:.1} s]",
        ran.stdout,
        ran.stderr,
        ran.code,
        ran.took.as_secs_f64()
    );
    ran
}

#[test]
fn the_real_daemon_is_replaced_and_comes_back() {
    let Some(machine) = boot() else { return };
    assert!(claude_mpm(&machine, "monitor start").contains("started"));
    let theirs = machine.health(PORT);
    assert_eq!((&theirs["service"], theirs.get("instance_id")), (&"claude-mpm-monitor".into(), None), "{theirs}");
    // Beside it: a number that another program has by now, and one that nobody has.
    let stranger = "sleep 600 >/dev/null 2>&1 & echo $!";
    let stranger = machine.user(&["sh", "-c", stranger]).ok().text().to_owned();
    let reused = "/home/boxuser/project/.claude-mpm/monitor-daemon-8770.pid";
    machine.write(reused, &stranger);
    machine.write("/home/boxuser/.claude-mpm/monitor-daemon.pid", "4194000");

    let dry = migrate(&machine, "--dry-run").ok();
    for word in [
        &format!("would stop Claude MPM's daemon on port 8765: pid {}", theirs["pid"]),
        "there is no process 4194000",
        "is another program by now (sleep 600)",
        &format!("would install mpm-monitor on port 8765 with the user manager, with its PID file in {PROJECT}"),
    ] {
        assert!(dry.stdout.contains(word), "no {word:?} in {dry}");
    }
    // Nobody is stopped for a successor that would be refused: a unit that a person wrote.
    let unit = "/home/boxuser/.config/systemd/user/mpm-monitor@8765.service";
    machine.write(unit, "[Service]\nExecStart=/bin/true\n");
    let refused = migrate(&machine, "").expect(8);
    assert!(refused.stderr.contains("edited by hand") && refused.stderr.contains("Nothing was changed"), "{refused}");
    assert_eq!(machine.health(PORT)["pid"], theirs["pid"]);
    machine.user(&["rm", unit]).ok();

    let migrated = migrate(&machine, "").ok();
    figure("migrate_from_the_real_daemon", migrated.took.as_millis(), "ms");
    let ours = machine.health(PORT);
    assert!(ours["instance_id"].is_string() && ours["ready"] == true, "{ours}");
    assert_eq!(ours["pid"].to_string(), machine.property(PORT, "MainPID"));
    assert_eq!(machine.root(&["cat", FILE]).ok().stdout, ours["pid"].to_string());
    machine.root(&["kill", "-0", &stranger]).ok();
    for gone in [reused, "/home/boxuser/.claude-mpm/monitor-daemon.pid"] {
        assert_eq!(machine.root(&["test", "-e", gone]).code, 1, "{gone}");
    }
    assert_eq!(machine.root(&["kill", "-0", &theirs["pid"].to_string()]).code, 1, "the old daemon runs on");

    // Their commands and their hooks find us.
    let status = claude_mpm(&machine, "monitor status");
    assert_eq!(status, format!("Unified monitor daemon is running at http://localhost:8765 (PID: {})", ours["pid"]));
    let event = r#"[{"hook_event_name": "PreToolUse", "session_id": "s-migrated", "cwd": "/home/boxuser/project",
        "tool_name": "Bash", "tool_input": {"command": "true"}}]"#;
    machine.write("/home/boxuser/events.json", event);
    in_project(&machine, &format!("{THEIRS}/bin/python3 /opt/mpm-tests/clients/claude_mpm/hooks.py ~/events.json"))
        .ok();
    eventually(Duration::from_secs(20), "the hook's event", || {
        let events = machine.get(PORT, "/api/events?after=0").to_string();
        if events.contains("s-migrated") { Ok(()) } else { Err(events) }
    });
    let again = migrate(&machine, "").ok();
    assert!(again.stdout.contains("there is no daemon of Claude MPM to migrate from"), "{again}");

    let undone = migrate(&machine, "--undo").ok();
    figure("migrate_undo_to_the_real_daemon", undone.took.as_millis(), "ms");
    let back = machine.health(PORT);
    assert_eq!((back.get("instance_id"), back["pid"].is_u64()), (None, true), "{back}");
    assert_eq!(machine.root(&["cat", FILE]).ok().stdout, back["pid"].to_string());
    assert_eq!(machine.root(&["cat", reused]).ok().stdout, stranger);
    assert_eq!(machine.verb("status", &[]).code, 3);
    let trace =
        machine.user(&["sh", "-c", "ls -A ~/.config/systemd/user 2>/dev/null; ls -A ~/.local/state/mpm-monitor"]);
    assert_eq!(trace.text(), "8765", "only the events stay");
    migrate(&machine, "--undo").expect(6);
}

#[test]
fn strangers_on_the_port_are_left_alone_and_a_daemon_that_does_not_end_is_killed_only_when_told() {
    let Some(machine) = boot() else { return };
    let mut holder = machine.spawn_client(&["probe.py", "hold", "8765"]);
    holder.until(Duration::from_secs(20), "the port", |l| (l == "holding").then_some(()));
    let refused = migrate(&machine, "").expect(69);
    assert!(refused.stderr.contains("nothing was changed") && refused.stderr.contains("python3"), "{refused}");
    let dry = migrate(&machine, "--dry-run --json").expect(69).json();
    assert_eq!(dry["blocked"].as_array().map(Vec::len), Some(1), "{dry:#}");
    assert!(machine.root(&["sh", "-c", "ss -ltn | grep :8765"]).code == 0, "the stranger was harmed");
    drop(holder);
    machine.root(&["pkill", "-f", "probe.py hold"]);

    // A daemon that does not listen to anybody: started under its name, with its words.
    let script = "/home/boxuser/bin/claude-mpm";
    machine.write(script, "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n");
    let daemon = format!("/usr/bin/python3 {script} monitor start --port 8765");
    let mut deaf = machine.spawn(&["sh", "-c", &format!("cd {PROJECT} && exec {daemon}")]);
    let pid = deaf.until(Duration::from_secs(20), "its pid", |l| l.parse::<u32>().ok());
    machine.write(FILE, &pid.to_string());
    let late = migrate(&machine, "--stop-timeout 500ms").expect(1);
    assert!(late.stderr.contains("--force") && late.stderr.contains("nothing else was changed"), "{late}");
    machine.root(&["kill", "-0", &pid.to_string()]).ok();
    let forced = migrate(&machine, "--stop-timeout 500ms --force --json").ok().json();
    assert_eq!(
        (&forced["result"], &forced["daemons"][0]["pid"]),
        (&"migrated".into(), &Value::from(pid)),
        "{forced:#}"
    );
    assert_eq!(machine.root(&["kill", "-0", &pid.to_string()]).code, 1);
    assert_eq!(machine.health(PORT)["ready"], true);
}

/// `claude-mpm monitor restart` ends ours, which systemd starts again; a second migration, after somebody stopped ours, does
/// not forget what the first one did.
#[test]
fn second_migration_is_undone_with_the_first() {
    let Some(machine) = boot() else { return };
    assert!(claude_mpm(&machine, "monitor start").contains("started"));
    migrate(&machine, "").ok();
    let first = machine.health(PORT)["instance_id"].clone();
    in_project(&machine, &format!("{THEIRS}/bin/python3 -m claude_mpm.cli monitor restart")).expect(1);
    let ours = machine.health(PORT)["instance_id"].clone();
    assert!(ours.is_string() && ours != first, "{first} {ours}: ended and started again");

    machine.verb("stop", &[]).ok();
    assert!(claude_mpm(&machine, "monitor start").contains("started"));
    let theirs = machine.health(PORT);
    assert_eq!(theirs.get("instance_id"), None, "{theirs}");
    let status = machine.verb("status", &[]).expect(3);
    let flat = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Claude MPM's own monitor") && flat.contains("`mpm-monitor migrate`"), "{status}");

    migrate(&machine, "").ok();
    assert!(machine.health(PORT)["instance_id"].is_string());
    migrate(&machine, "--undo").ok();
    let back = machine.health(PORT);
    assert_eq!((back.get("instance_id"), back["pid"].is_u64()), (None, true), "{back}");
    let units = machine.user(&["sh", "-c", "ls -A ~/.config/systemd/user 2>/dev/null"]);
    assert_eq!(units.text(), "", "our unit is still there");
    migrate(&machine, "--undo").expect(6);
}

/// The install is taken back, and the old daemon serves again.
#[test]
fn migration_ended_by_a_signal_brings_the_daemon_back() {
    let Some(machine) = boot() else { return };
    assert!(claude_mpm(&machine, "monitor start").contains("started"));
    // Ours hangs before it is ready, and so well that only SIGKILL ends it.
    machine.drop_in(PORT, "[Service]\nEnvironment=MPM_MONITOR_FAILPOINT=hang-before-ready\nTimeoutStopSec=1\n");
    let script = format!(
        "true; {} migrate --user --timeout 60s & pid=$!\n\
         while kill -0 $pid && [ \"$(systemctl --user is-active mpm-monitor@{PORT})\" != activating ]; do sleep 0.1; done\n\
         kill -TERM $pid; wait $pid",
        machine.program()
    );
    let ran = in_project(&machine, &script).expect(143);
    let told = "Install was taken back\nClaude MPM's daemon was started again (pid ";
    assert!(ran.stderr.contains(told), "{ran}");
    let back = machine.health(PORT);
    assert_eq!((back.get("instance_id"), back["pid"].is_u64()), (None, true), "{back}");
    assert_eq!(machine.state(PORT), "inactive", "{ran}");
    migrate(&machine, "--undo").expect(6);
}
