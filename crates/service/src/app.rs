//! The program that is installed: what differs from one daemon to another.

use daemon::Program;

/// What this crate must know of the program that it installs. A program has one, as a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    /// Its name and build.
    pub program: Program,
    /// The files for systemd.
    pub units: Units,
    /// The environment variables by which launchd's job names its directories.
    pub env: Env,
    /// The port of a definition that names none.
    pub default_port: u16,
}

/// The texts of the shipped unit files; what differs from machine to machine is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// The service template of the machine's manager.
    pub system_service: &'static str,
    /// The service template of a user's manager.
    pub user_service: &'static str,
    /// The socket template of both.
    pub socket: &'static str,
    /// The sysusers.d file, which makes the service's user.
    pub sysusers: &'static str,
}

/// Names of environment variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Env {
    /// The directory for state.
    pub state_dir: &'static str,
    /// The directory for locks.
    pub runtime_dir: &'static str,
    /// The log file.
    pub log_file: &'static str,
}

#[cfg(test)]
impl App {
    /// The program of this repository, for unit tests.
    pub(crate) const TEST: &'static Self = &Self {
        program: Program {
            name: "mpm-monitor",
            version: env!("CARGO_PKG_VERSION"),
            build: "0123",
            service: "claude-mpm-monitor",
        },
        units: Units {
            system_service: include_str!("../../../systemd/mpm-monitor@.service"),
            user_service: include_str!("../../../systemd/user/mpm-monitor@.service"),
            socket: include_str!("../../../systemd/mpm-monitor@.socket"),
            sysusers: include_str!("../../../systemd/mpm-monitor.sysusers"),
        },
        env: Env {
            state_dir: "MPM_MONITOR_STATE_DIR",
            runtime_dir: "MPM_MONITOR_RUNTIME_DIR",
            log_file: "MPM_MONITOR_LOG_FILE",
        },
        default_port: 8765,
    };
}
