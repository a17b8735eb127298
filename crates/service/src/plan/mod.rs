//! What would change, as data: computed without touching anything, shown by `--dry-run`, executed by [`super::apply`].
//!
//! Here is what a plan is made of, and what it is made from; [`install`] and [`uninstall`] make one.

mod install;
#[cfg(test)]
mod tests;
mod uninstall;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

pub use self::install::{Linger, Refusal, Wish, install};
pub use self::uninstall::uninstall;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Make one directory.
    MakeDir {
        /// Which.
        path: PathBuf,
    },
    /// Write one file, atomically.
    WriteFile {
        /// Which.
        path: PathBuf,
        /// Its text.
        #[serde(skip)]
        content: String,
        /// Its permissions.
        mode: u32,
        /// Whether there is one already.
        replaces: bool,
    },
    /// Make one directory for a user that is not root.
    GiveDir {
        /// Which.
        path: PathBuf,
        /// Whose.
        user: String,
    },
    /// Remove one file.
    RemoveFile {
        /// Which.
        path: PathBuf,
    },
    /// Remove a directory, if it is empty by then.
    RemoveDir {
        /// Which.
        path: PathBuf,
    },
    /// Remove the event history.
    RemoveHistory {
        /// Where it is.
        path: PathBuf,
    },
    /// Make the service user.
    MakeUser {
        /// Its name.
        name: String,
        /// The sysusers.d file that describes it.
        file: PathBuf,
    },
    /// Remove the service user.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// Enable without a manager: the link that its enable would make.
    Link {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// Make the manager read its definitions again.
    Reread,
    /// Have them come up by themselves.
    Enable {
        /// The units.
        units: Vec<String>,
    },
    /// Have them no longer come up by themselves.
    Disable {
        /// The units.
        units: Vec<String>,
    },
    /// Keep the user's manager running without a login.
    EnableLinger {
        /// The user.
        user: String,
        /// Whether it is a failure when that is not allowed.
        required: bool,
    },
    /// Undo that.
    DisableLinger {
        /// The user.
        user: String,
    },
    /// Forget an earlier failure.
    ForgetFailure {
        /// The units.
        units: Vec<String>,
    },
    /// Stop.
    Stop {
        /// The units.
        units: Vec<String>,
    },
    /// Start.
    Start {
        /// The units, in this order.
        units: Vec<String>,
    },
    /// Restart.
    Restart {
        /// The unit.
        unit: String,
        /// Whether its definition changed since it was started.
        changed: bool,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir { path } => write!(f, "make the directory {}", path.display()),
            Self::GiveDir { path, user } => write!(f, "make the directory {} for {user}", path.display()),
            Self::WriteFile { path, replaces: false, .. } => write!(f, "write {}", path.display()),
            Self::WriteFile { path, replaces: true, .. } => write!(f, "rewrite {}", path.display()),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::RemoveDir { path } => write!(f, "remove the directory {} if it is empty", path.display()),
            Self::RemoveHistory { path } => write!(f, "remove the event history {}", path.display()),
            Self::MakeUser { name, .. } => write!(f, "make the system user {name}"),
            Self::RemoveUser { name } => write!(f, "remove the system user {name}"),
            Self::Link { path, .. } => write!(f, "enable by the link {}", path.display()),
            Self::Reread => f.write_str("let the manager read its units again (daemon-reload)"),
            Self::Enable { units } => write!(f, "enable {}", units.join(", ")),
            Self::Disable { units } => write!(f, "disable {}", units.join(", ")),
            Self::EnableLinger { user, .. } => write!(f, "enable lingering for {user}"),
            Self::DisableLinger { user } => write!(f, "disable lingering for {user}"),
            Self::ForgetFailure { units } => {
                write!(f, "forget earlier failures of {} (reset-failed)", units.join(", "))
            }
            Self::Stop { units } => write!(f, "stop {}", units.join(", ")),
            Self::Start { units } => write!(f, "start {}", units.join(", ")),
            Self::Restart { unit, .. } => write!(f, "restart {unit}"),
        }
    }
}

/// All changes, in order, and what the person should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The changes; none when everything is as it shall be.
    pub actions: Vec<Action>,
    /// Remarks.
    pub notes: Vec<String>,
}
