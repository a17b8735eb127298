//! What there is on the machine of one instance, as data for the plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::manager::Job;
use super::receipt::Receipt;

/// What there is now.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The texts of those files that exist.
    pub files: BTreeMap<PathBuf, String>,
    /// The program that the service template of an installed package runs, if there is one.
    pub packaged: Option<PathBuf>,
    /// The other instances that are started from an old template, as far as it is known.
    pub template_users: BTreeSet<u16>,
    /// The directories that would have to be made, outermost first.
    pub missing_dirs: Vec<PathBuf>,
    /// The directories that would have to be made for the account of a launchd daemon.
    pub account_dirs: Vec<PathBuf>,
    /// Directories that this very run made already, for its lock.
    pub made_dirs: Vec<PathBuf>,
    /// Those of the enabling links that exist, and what they point to.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Whether the service user exists.
    pub user_exists: bool,
    /// Whether the event history exists.
    pub history_exists: bool,
    /// Whether those of other instances do, installed or not.
    pub other_histories: bool,
    /// Who serves the port or writes the history although the manager runs nothing there, as words for people.
    pub by_hand: Option<String>,
    /// The log files that exist, where the manager keeps no log.
    pub logs: Vec<PathBuf>,
    /// The service; `None` without a manager to ask.
    pub service: Option<Job>,
    /// The socket, likewise.
    pub socket: Option<Job>,
    /// Whether the user lingers; `None` if nobody can tell.
    pub linger: Option<bool>,
    /// The build that answers on the port as the service's main process.
    pub running_build: Option<String>,
    /// This instance's receipt.
    pub receipt: Option<Receipt>,
    /// The other instances' receipts.
    pub others: Vec<Receipt>,
}
