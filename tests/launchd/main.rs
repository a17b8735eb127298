//! Every verb and every failure on launchd, on Linux: the real program, real processes, and a launchd that behaves as it is
//! documented and reported to (`crates/testkit/src/launchd`). What only a Mac can tell is in docs/macos.md.
//!
//! They need a debug build: a release build does not let anybody choose the manager.
#![cfg(all(target_os = "linux", debug_assertions))]

mod daemon;
mod doctor;
mod domains;
mod fake;
mod faults;
mod install;
mod logs;
mod script;
mod snapshots;
mod upgrade;
mod verbs;

#[path = "../../src/bundle/corpus/mod.rs"]
mod corpus;

use serde_json::Value;
use testkit::http::free_port;
use testkit::launchd::Launchd;

/// The usual label of a port.
fn label(port: u16) -> String {
    format!("mpm-monitor.{port}")
}

/// A launchd with an instance that is installed and ready, and its port.
#[track_caller]
fn installed(more: &[&str]) -> (Launchd, u16) {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.verb("install", port, more).ok();
    (launchd, port)
}

/// What `/health` says.
#[track_caller]
fn health(port: u16) -> Value {
    testkit::http::get(port, "/health").unwrap_or_else(|e| panic!("nobody answers on {port}: {e}")).json()
}

/// The property list of an instance.
fn plist(launchd: &Launchd, port: u16) -> std::path::PathBuf {
    launchd.path(&format!("home/Library/LaunchAgents/{}.plist", label(port)))
}
