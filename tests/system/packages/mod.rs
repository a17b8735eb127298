//! The packages: what is in them, what the distributions' own checkers say of them, and their whole life on a real systemd.
//! Built from the program that cargo built for the tests, by the script that builds a release's.
#![cfg(target_os = "linux")]

mod contents;
mod deb;
mod rpm;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::command::{Ran, run};
use testkit::machine::Machine;
use testkit::{here, program, skip};

/// Packing alone takes seconds; both cores may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// The version of the packages that are upgraded from.
pub const OLD: &str = "0.0.9";
/// The version of those that come after.
pub const NEW: &str = env!("CARGO_PKG_VERSION");

/// Runs a command of this machine.
#[track_caller]
pub fn sh(words: &[&str]) -> Ran {
    run(Command::new(words[0]).args(&words[1..]).env("LC_ALL", "C.UTF-8"), DEADLINE)
}

/// Whether the tools are here; where not, says so.
#[track_caller]
pub fn has(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = tools.iter().find(|tool| !std::env::split_paths(&path).any(|dir| dir.join(tool).exists()));
    missing.inspect(|tool| skip(&format!("there is no {tool}; `scripts/setup.sh test` installs it"))).is_none()
}

/// Builds a package; the directory it is in goes with the test.
#[track_caller]
pub fn package(kind: &str, version: &str) -> (TempDir, PathBuf) {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let script = here("scripts/package.sh");
    sh(&[&script, kind, "--fast", "--binary", &program(), "--version", version, "--out", dir]).ok();
    let found: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path()).collect();
    let [package] = &found[..] else { panic!("not one package: {found:?}") };
    (out, package.clone())
}

/// All files below a folder, as absolute paths of a machine on which that is the root.
pub fn files(root: &Path) -> Vec<String> {
    let listed = sh(&["find", root.to_str().unwrap(), "-not", "-type", "d", "-printf", "/%P\n"]).ok();
    let mut all: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// A machine without the copy of the program that other tests want, on which packages may restart services.
#[track_caller]
pub fn machine() -> Option<Machine> {
    let machine = Machine::boot(testkit::machine::Scope::System)?;
    machine.root(&["rm", "-f", "/usr/local/bin/mpm-monitor", "/usr/sbin/policy-rc.d"]).ok();
    Some(machine)
}

/// The pid of each of these instances, of the system's manager and then of the user's.
#[track_caller]
pub fn pids(machine: &Machine, system: &[u16], user: &[u16]) -> Vec<u32> {
    let ask = |ran: Ran| ran.ok().text().parse().unwrap();
    let show = |port: &u16| format!("mpm-monitor@{port}.service");
    let of_system =
        system.iter().map(|p| ask(machine.root(&["systemctl", "show", "--value", "-p", "MainPID", &show(p)])));
    let of_user =
        user.iter().map(|p| ask(machine.user(&["systemctl", "--user", "show", "--value", "-p", "MainPID", &show(p)])));
    of_system.chain(of_user).collect()
}
