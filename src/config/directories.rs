//! Where this user's files belong, as the platform has it: XDG on Linux, `~/Library` on macOS. The one place that asks.

use std::path::PathBuf;

use crate::service::exec::own_runtime_dir;

/// The program's name in paths.
const NAME: &str = "mpm-monitor";

/// One user's directories; every one absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserDirs {
    /// The home directory.
    pub home: PathBuf,
    /// Where all programs keep their configuration: `~/.config`, `~/Library/Application Support`.
    pub config_home: PathBuf,
    /// Where ours is.
    pub config: PathBuf,
    /// Where our state is kept: events, crash ledgers, receipts.
    pub state: PathBuf,
    /// Where the running instances keep their locks.
    pub runtime: PathBuf,
}

impl UserDirs {
    /// Of this process's user; `None` when even the home directory is unknown.
    pub fn find() -> Option<Self> {
        let base = directories::BaseDirs::new()?;
        let project = directories::ProjectDirs::from("", "", NAME)?;
        let state = project.state_dir().unwrap_or(project.data_local_dir()).to_owned();
        // After `su` and in cron nobody set XDG_RUNTIME_DIR, but logind's directory may be there all the same.
        let runtime = base.runtime_dir().map(PathBuf::from).or_else(own_runtime_dir);
        Some(Self {
            home: base.home_dir().to_owned(),
            config_home: base.config_dir().to_owned(),
            config: project.config_dir().to_owned(),
            runtime: runtime.map_or_else(|| state.join("run"), |dir| dir.join(NAME)),
            state,
        })
    }
}

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
        match UserDirs::find() {
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
