//! The examples on a real systemd, see `tests/systemd-box.md`.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use testkit::command::run;
use testkit::eventually;
use testkit::machine::{Machine, Scope};

/// An example of this crate. A test that is run alone does not have cargo build the examples, so it is asked for.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = folder.file_name().and_then(|name| name.to_str()).filter(|name| *name != "debug").unwrap_or("dev");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--offline", "--quiet", "--package=mpm-service", "--example", name, "--profile", profile]);
    build.arg("--target-dir").arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    run(&mut build, Duration::from_secs(600)).ok();
    folder.join("examples").join(name)
}

/// A machine with the example where its unit says.
fn machine(scope: Scope, name: &str) -> Option<Machine> {
    let machine = Machine::boot_empty(scope)?;
    machine.copy(example(name).to_str().unwrap(), &format!("/usr/local/bin/{name}"));
    Some(machine)
}

fn daemon_installs_itself(scope: Scope) {
    let Some(machine) = machine(scope, "hello") else { return };
    let installed = machine.run(&["/usr/local/bin/hello", "install", "8080"]).ok();
    assert!(installed.stdout.starts_with("ready: pid "), "{installed}");
    let property = |name: &str| {
        machine.systemctl(&["show", "hello@8080.service", "--value", "-p", name]).ok().stdout.trim().to_owned()
    };
    assert_eq!(property("ActiveState"), "active");
    assert_eq!(property("StatusText"), "says hello");
    assert_eq!(property("UnitFileState"), "enabled");
    let unit = machine.run(&["cat", &property("FragmentPath")]).ok().stdout;
    assert!(unit.starts_with("# hello unit v1 program=1.0.0 sha256:"), "{unit}");
    // A watchdog of 3 s that nobody feeds would have ended it by then.
    let (pid, first) = (property("MainPID"), property("WatchdogTimestampMonotonic").parse::<u64>().unwrap());
    eventually(Duration::from_secs(30), "pings for twice the watchdog's limit", || {
        let last = property("WatchdogTimestampMonotonic");
        if last.parse::<u64>().unwrap() > first + 6_000_000 { Ok(()) } else { Err(last) }
    });
    assert_eq!((property("MainPID"), property("NRestarts")), (pid, "0".to_owned()));
    machine.run(&["/usr/local/bin/hello", "uninstall", "8080"]).ok();
    assert_eq!(property("LoadState"), "not-found");
    let left = machine.root(&["sh", "-c", "find /etc /home /run/user /var/lib -name 'hello*' 2>/dev/null"]);
    assert_eq!(left.stdout, "");
}

#[test]
fn daemon_installs_itself_for_the_system() {
    daemon_installs_itself(Scope::System);
}

#[test]
fn daemon_installs_itself_for_a_user() {
    daemon_installs_itself(Scope::User);
}

fn adapter_drives_a_unit(scope: Scope) {
    let Some(machine) = machine(scope, "adapter") else { return };
    let adapter = |verb: &str| machine.run(&["/usr/local/bin/adapter", verb]).ok().stdout.trim().to_owned();
    assert_eq!(adapter("status"), "true NotInstalled");
    adapter("install");
    assert!(adapter("status").starts_with("true Stopped"), "{}", adapter("status"));
    assert_eq!(machine.systemctl(&["is-enabled", "sleeper.service"]).stdout.trim(), "enabled");
    adapter("start");
    assert_eq!(adapter("status"), "true Running");
    adapter("stop");
    assert!(adapter("status").starts_with("true Stopped"), "{}", adapter("status"));
    adapter("uninstall");
    assert_eq!(adapter("status"), "true NotInstalled");
}

#[test]
fn adapter_drives_a_unit_of_the_system() {
    adapter_drives_a_unit(Scope::System);
}

#[test]
fn adapter_drives_a_unit_of_a_user() {
    adapter_drives_a_unit(Scope::User);
}
