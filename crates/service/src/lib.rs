//! What is installed with the service manager: the definition, the plan, its execution and its proof.
//!
//! Pure, and so the same on every machine and tested without one:
//! - [`app`]: the program that is installed.
//! - [`definition`]: what is to run: program, port, environment, scope, socket.
//! - [`desired`]: the files of a definition.
//! - [`systemd::render`], [`systemd::escape`], [`systemd::show`]: unit files written, `systemctl show` read.
//! - [`launchd::render`], [`launchd::print`], [`launchd::domain`]: the plist written, `launchctl print` read.
//! - [`drift`]: an installed file against the one we would write: absent, clean, outdated, edited.
//! - [`observed`]: what there is, as data.
//! - [`plan`]: what would change, as data that a person or a program can read before it happens.
//! - [`receipt`]: what was made, so that exactly that is removed.
//! - [`report`]: what `status` says, and its exit code.
//!
//! Doing: [`apply`] executes a plan and takes it back when it fails, [`proof`] waits for what can be proved,
//! [`interrupt`] notes the signals that come meanwhile,
//! [`manager::Manager`] is the trait above systemd and launchd, [`exec`] the only place that spawns their tools,
//! [`binary`], [`packaged`] and [`swap`] are about putting a new program in place,
//! [`program`] finds a path to this program that lasts, [`trust`] tells who can change what is at a path,
//! [`keeper`] tells under which manager a process runs, [`journal`] and [`logfile`] read the log.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

pub mod app;
pub mod apply;
pub mod binary;
pub mod definition;
pub mod desired;
pub mod drift;
pub mod exec;
pub mod files;
pub mod health;
pub mod interrupt;
pub mod journal;
pub mod keeper;
pub mod launchd;
pub mod logfile;
pub mod manager;
pub mod managers;
pub mod observe;
pub mod observed;
pub mod packaged;
pub mod paths;
pub mod plan;
pub mod program;
pub mod proof;
pub mod receipt;
pub mod report;
pub mod swap;
pub mod systemd;
pub mod trust;
pub mod users;
pub mod version;

use std::fmt;

/// The service managers that can run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
}

/// Names the manager in place of the machine's own, for tests: `launchd` where the tool on `PATH` only behaves like
/// launchctl, or `launchd:DIR`, which also puts the machine's directories into that one. A release build does not look at it.
pub const TEST_MANAGER: &str = "MPM_MONITOR_TEST_MANAGER";

impl Kind {
    /// The one of this machine.
    pub fn of_this_machine() -> Self {
        if cfg!(target_os = "macos") || test_root().is_some() { Self::Launchd } else { Self::Systemd }
    }
}

/// Where a test wants launchd's machine to be, if there is such a test.
#[cfg(debug_assertions)]
pub(crate) fn test_root() -> Option<std::path::PathBuf> {
    let wanted = std::env::var(TEST_MANAGER).ok()?;
    let root = wanted.strip_prefix("launchd")?;
    Some(root.strip_prefix(':').unwrap_or("/").into())
}

#[cfg(not(debug_assertions))]
pub(crate) fn test_root() -> Option<std::path::PathBuf> {
    None
}

/// Whose service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The user's own.
    User,
    /// The machine's.
    System,
}

impl Scope {
    /// The scope for these flags: what was asked for, else the system's for root and the user's for everybody else.
    pub fn choose(user: bool, system: bool, root: bool) -> Self {
        match (user, system) {
            (true, _) => Self::User,
            (_, true) => Self::System,
            _ if root => Self::System,
            _ => Self::User,
        }
    }

    /// The command-line flag that names it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::User => "--user",
            Self::System => "--system",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::System => "system",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_means_the_system_unless_told_otherwise() {
        assert_eq!(Scope::choose(false, false, true), Scope::System);
        assert_eq!(Scope::choose(false, false, false), Scope::User);
        assert_eq!(Scope::choose(true, false, true), Scope::User);
        assert_eq!(Scope::choose(false, true, false), Scope::System);
    }
}
