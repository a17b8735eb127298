//! What a service manager must be able to do for the verbs: one trait above systemd and launchd.
//!
//! It extends `service_manager::ServiceManager`, the field's common adapter, by what that trait has no word for:
//! what a job does right now, re-reading definitions, restart, reload, and proof. `docs/dev/service-manager.md` says what
//! the crate does and what is ours.

use std::time::Duration;

use serde::Serialize;
use service_manager::ServiceManager;

use super::exec::ExecError;
use super::{Kind, Scope};

/// What the manager says a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It runs, and said that it is ready where the manager has such a notion.
    Running,
    /// On its way up, or waiting for the next attempt.
    Starting,
    /// On its way down.
    Stopping,
    /// Not running, and that is in order.
    Stopped,
    /// Not running, because it failed.
    Failed,
}

/// How the last process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LastExit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// One job (a service or a socket) as its manager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Whether the manager has a definition of it.
    pub loaded: bool,
    /// Why the manager refuses to load the definition that there is: it is masked, or has an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it does.
    pub phase: Phase,
    /// The manager's own words for it, `active (running)`.
    pub state: String,
    /// The manager's verdict on the last run: `success`, `exit-code`, `watchdog`, `start-limit-hit`...
    pub result: String,
    /// Whether it comes up by itself, in the manager's words.
    pub enabled: String,
    /// The main process.
    pub pid: Option<u32>,
    /// When that process started, in microseconds of the monotonic clock.
    pub started_usec: Option<u64>,
    /// How often the manager restarted it by itself.
    pub restarts: Option<u32>,
    /// How often the manager started it, by itself or not, since it knows the job; launchd counts only this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    /// How the last process ended, if one did.
    pub last_exit: Option<LastExit>,
    /// What the process itself said last (`STATUS=`).
    pub status_text: Option<String>,
    /// Whether the manager must read the definition again.
    pub stale: bool,
    /// Whether the manager holds it although it does not run, so that a connection or the next failure may start it: launchd
    /// has the sockets of a job in the job itself.
    #[serde(skip)]
    pub held: bool,
    /// Whether it does not run and the manager listens in its place, so that a connection starts it, also one that only asks.
    #[serde(skip)]
    pub listens: bool,
    /// What a person should know of the place where the manager keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The longest silence of the process that the manager bears, where it has a watchdog.
    #[serde(skip)]
    pub watchdog: Option<Duration>,
    /// Whether the process has pinged that watchdog since it became ready.
    #[serde(skip)]
    pub pinged: bool,
}

/// Why a manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Its tool failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// There is none, or it cannot be reached.
    #[error("{0}")]
    Unusable(String),
}

impl From<ManagerError> for std::io::Error {
    fn from(error: ManagerError) -> Self {
        Self::other(error)
    }
}

/// One scope's service manager.
pub trait Manager: ServiceManager {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// Whose it is.
    fn scope(&self) -> Scope;

    /// Whether it can be talked to.
    ///
    /// # Errors
    /// [`ManagerError::Unusable`] with one sentence on why not and what to type next.
    fn usable(&self) -> Result<(), ManagerError>;

    /// The name of an instance's service in the manager's world.
    fn service_name(&self, port: u16) -> String;

    /// The name of an instance's socket there, where a socket is a job of its own.
    fn socket_name(&self, port: u16) -> Option<String>;

    /// Whether it waits for the answer to a reload (`Type=notify-reload`, systemd 253).
    fn has_notify_reload(&self) -> bool;

    /// The ports of all jobs of ours that it knows.
    ///
    /// # Errors
    /// Its tool's.
    fn ports(&self) -> Result<Vec<u16>, ManagerError>;

    /// How a job is.
    ///
    /// # Errors
    /// When the manager does not answer; a job that does not exist is an answer.
    fn job(&self, name: &str) -> Result<Job, ManagerError>;

    /// Makes the manager read its definitions again.
    ///
    /// # Errors
    /// Its tool's.
    fn reread(&self) -> Result<(), ManagerError>;

    /// Makes jobs come up by themselves, or no longer.
    ///
    /// # Errors
    /// Its tool's.
    fn set_enabled(&self, names: &[String], enabled: bool) -> Result<(), ManagerError>;

    /// Starts jobs; returns when they are up, have failed, or `timeout` is over.
    ///
    /// # Errors
    /// Its tool's.
    fn bring_up(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError>;

    /// Stops jobs; returns when they are down.
    ///
    /// # Errors
    /// Its tool's.
    fn bring_down(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError>;

    /// Stops and starts a job; `changed` says that its definition is another than the one it was started by.
    ///
    /// # Errors
    /// Its tool's.
    fn restart(&self, name: &str, changed: bool, timeout: Duration) -> Result<(), ManagerError>;

    /// Tells a running job to read its configuration again.
    ///
    /// # Errors
    /// Its tool's.
    fn reload(&self, name: &str, timeout: Duration) -> Result<(), ManagerError>;

    /// Forgets a failure, so that a start is not refused for it.
    ///
    /// # Errors
    /// Its tool's.
    fn forget_failure(&self, names: &[String]) -> Result<(), ManagerError>;
}
