//! The directories of this program, where no setting names others.

use std::path::PathBuf;

use daemon::dirs::UserDirs;

use crate::build::PROGRAM;

/// The machine's directories for this user, where no setting names others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// The configuration file of the machine.
    pub system_config: PathBuf,
    /// The user's own, if the user has a home.
    pub user_config: Option<PathBuf>,
    /// Where state is kept.
    pub state: PathBuf,
    /// Where locks are kept.
    pub runtime: PathBuf,
}

impl Directories {
    /// Of this process's user. One without a home gets `/var/lib` and `/run`, which its service manager should have named
    /// by `MPM_MONITOR_STATE_DIR` anyway.
    pub fn of_this_user() -> Self {
        let system_config = PathBuf::from("/etc/mpm-monitor/config.toml");
        match UserDirs::find(PROGRAM.name) {
            Some(user) => Self {
                system_config,
                user_config: Some(user.config.join("config.toml")),
                state: user.state,
                runtime: user.runtime,
            },
            None => Self {
                system_config,
                user_config: None,
                state: "/var/lib/mpm-monitor".into(),
                runtime: "/run/mpm-monitor".into(),
            },
        }
    }
}
