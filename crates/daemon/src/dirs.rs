//! Where a user's files belong, as the platform has it: XDG on Linux, `~/Library` on macOS. The one place that asks.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

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
    /// Those of this process's user for the program called `name`; `None` when even the home directory is unknown.
    pub fn find(name: &str) -> Option<Self> {
        let base = directories::BaseDirs::new()?;
        let project = directories::ProjectDirs::from("", "", name)?;
        let state = project.state_dir().unwrap_or(project.data_local_dir()).to_owned();
        // After `su` and in cron nobody set XDG_RUNTIME_DIR, but logind's directory may be there all the same.
        let runtime = base.runtime_dir().map(PathBuf::from).or_else(own_runtime_dir);
        Some(Self {
            home: base.home_dir().to_owned(),
            config_home: base.config_dir().to_owned(),
            config: project.config_dir().to_owned(),
            runtime: runtime.map_or_else(|| state.join("run"), |dir| dir.join(name)),
            state,
        })
    }
}

/// The user's runtime directory where nobody set `XDG_RUNTIME_DIR` (after `su` or in cron), if it is there and ours.
pub fn own_runtime_dir() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/run/user/{uid}"));
    std::fs::metadata(&dir).is_ok_and(|m| m.is_dir() && m.uid() == uid).then_some(dir)
}
