//! This program, as the crate that installs it must know it.

use service::app::{App, Env, Units};

use crate::build::PROGRAM;
use crate::config::settings::DEFAULT_PORT;

/// This program.
pub static APP: App = App {
    program: PROGRAM,
    units: Units {
        system_service: include_str!("../systemd/mpm-monitor@.service"),
        user_service: include_str!("../systemd/user/mpm-monitor@.service"),
        socket: include_str!("../systemd/mpm-monitor@.socket"),
        sysusers: include_str!("../systemd/mpm-monitor.sysusers"),
    },
    env: Env {
        state_dir: "MPM_MONITOR_STATE_DIR",
        runtime_dir: "MPM_MONITOR_RUNTIME_DIR",
        log_file: "MPM_MONITOR_LOG_FILE",
    },
    default_port: DEFAULT_PORT,
};
