//! What would change, as data: computed without touching anything, shown by `--dry-run`, executed by [`super::apply`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::definition::{Definition, NAME};
use super::desired::{Desired, candidates, desired, packaged_serves};
use super::drift::{Drift, diff, drift, is_ours};
use super::manager::{Job, Phase};
use super::paths::Paths;
use super::receipt::{Made, Receipt};
use super::systemd::escape::Unspeakable;
use super::{Kind, Scope};
use crate::cli::args::Linger;

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

/// What there is now.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The texts of those files that exist.
    pub files: BTreeMap<PathBuf, String>,
    /// The program that the service template of an installed package runs, if there is one.
    pub packaged: Option<PathBuf>,
    /// The directories that would have to be made, outermost first.
    pub missing_dirs: Vec<PathBuf>,
    /// The directories that would have to be made for the account of a launchd daemon.
    pub account_dirs: Vec<PathBuf>,
    /// Directories that this very run made already, for its lock.
    pub made_dirs: Vec<PathBuf>,
    /// Those of the enabling links that exist.
    pub links: BTreeSet<PathBuf>,
    /// Whether the service user exists.
    pub user_exists: bool,
    /// Whether the event history exists.
    pub history_exists: bool,
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

/// How `install` is to go about it.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Whether to start, too.
    pub start: bool,
    /// What to do about lingering.
    pub linger: Linger,
    /// The user's name, for lingering.
    pub user: String,
    /// The build of the program, to see whether an older one still runs.
    pub build: Option<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A person edited the file.
    #[error(
        "{path} was edited by hand, so it is left as it is:\n\n{diff}\nMove your changes into {elsewhere}, remove {path}, and install again"
    )]
    Edited {
        /// The file.
        path: String,
        /// What is different.
        diff: String,
        /// Where changes survive an upgrade.
        elsewhere: String,
    },
    /// No unit can name the program.
    #[error(transparent)]
    Path(#[from] Unspeakable),
}

/// What `install` would change.
///
/// # Errors
/// [`Refusal`].
pub fn install(definition: &Definition, paths: &Paths, wish: &Wish, observed: &Observed) -> Result<Plan, Refusal> {
    let port = definition.port;
    let files = desired(definition, paths, observed)?;
    for file in &files {
        let found = observed.files.get(&file.path);
        if drift(found.map(String::as_str), &file.content) == Drift::Edited {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Refusal::Edited {
                path: file.path.display().to_string(),
                diff: diff(found.map_or("", String::as_str), &file.content, &name),
                elsewhere: elsewhere(definition, paths),
            });
        }
    }
    let mut plan = Plan::default();
    let had = observed.receipt.as_ref();
    let makes_user = paths.sysusers.is_some() && !observed.user_exists;
    let linger = lingers(paths, wish, observed, &mut plan.notes);
    let receipt = Receipt {
        schema_version: 1,
        port,
        scope: definition.scope,
        version: crate::build::VERSION.to_owned(),
        program: definition.program.clone(),
        socket: definition.socket,
        label: paths.label.clone(),
        account: definition.account.clone(),
        tool_dirs: definition.tool_dirs.clone(),
        env: definition.env.clone(),
        files: files.iter().map(|f| Made { path: f.path.clone(), shared: f.shared }).collect(),
        directories: {
            let known = had.map(|r| r.directories.clone()).unwrap_or_default();
            let all: BTreeSet<PathBuf> =
                known.into_iter().chain(observed.made_dirs.clone()).chain(observed.missing_dirs.clone()).collect();
            let all: BTreeSet<PathBuf> = all.into_iter().chain(observed.account_dirs.clone()).collect();
            // An earlier uninstall that kept the history kept these, too; by their name they are ours all the same.
            let all: BTreeSet<PathBuf> = all.into_iter().chain([paths.state.clone(), paths.receipts.clone()]).collect();
            all.into_iter().collect()
        },
        // Our own sysusers.d file says that an earlier install made the user that its uninstall had to leave.
        user: (makes_user || files.iter().any(|f| Some(&f.path) == paths.sysusers.as_ref())).then(|| NAME.to_owned()),
        linger: linger.is_some().then(|| wish.user.clone()).or_else(|| had.and_then(|r| r.linger.clone())),
    };
    let receipt =
        Desired { path: paths.receipt(port), content: receipt.to_text(), mode: 0o600, shared: false, unit: false };
    plan.actions.extend(observed.missing_dirs.iter().map(|path| Action::MakeDir { path: path.clone() }));
    if let Some(user) = &definition.account {
        plan.actions.extend(
            observed.account_dirs.iter().map(|path| Action::GiveDir { path: path.clone(), user: user.clone() }),
        );
    }
    let mut changed = false;
    // The receipt comes first: whatever a crash leaves behind, uninstall then knows of.
    for file in std::iter::once(&receipt).chain(&files) {
        let found = observed.files.get(&file.path);
        if found.map(String::as_str) != Some(&file.content) {
            changed |= file.unit;
            plan.actions.push(Action::WriteFile {
                path: file.path.clone(),
                content: file.content.clone(),
                mode: file.mode,
                replaces: found.is_some(),
            });
        }
    }
    if makes_user && let Some(file) = &paths.sysusers {
        plan.actions.push(Action::MakeUser { name: NAME.to_owned(), file: file.clone() });
    }
    // Where the socket is a part of the service's definition, that file tells it all.
    let dropped = paths.socket_name(port).filter(|_| !definition.socket && had.is_some_and(|r| r.socket));
    let drops_socket = dropped.is_some();
    if let (Some(unit), Some(path)) = (dropped, paths.socket()) {
        plan.actions.push(Action::Disable { units: vec![unit] });
        if !observed.others.iter().any(|o| o.socket) && observed.files.get(&path).is_some_and(|f| is_ours(f)) {
            plan.actions.push(Action::RemoveFile { path });
        }
    }
    // What an earlier install wrote would hide the package's own, which now does.
    if packaged_serves(definition, paths, observed) {
        for path in [Some(paths.service(port)), paths.socket()].into_iter().flatten() {
            if observed.files.contains_key(&path) {
                changed = true;
                plan.actions.push(Action::RemoveFile { path });
            }
        }
    }
    if let Some(drop_in) = paths.drop_in(port)
        && !files.iter().any(|f| f.path == drop_in)
        && observed.files.get(&drop_in).is_some_and(|f| is_ours(f))
    {
        changed = true;
        plan.actions.push(Action::RemoveFile { path: drop_in.clone() });
        plan.actions.extend(drop_in.parent().map(|d| Action::RemoveDir { path: d.to_owned() }));
    }
    enable_and_start(definition, paths, wish, observed, changed, drops_socket, linger, &mut plan);
    Ok(plan)
}

#[expect(clippy::too_many_arguments, reason = "the second half of `install`, split where the files end")]
fn enable_and_start(
    definition: &Definition,
    paths: &Paths,
    wish: &Wish,
    observed: &Observed,
    changed: bool,
    drops_socket: bool,
    linger: Option<Action>,
    plan: &mut Plan,
) {
    let port = definition.port;
    let units = paths.jobs(port, definition.socket);
    let service_unit = paths.service_name(port);
    let socket_unit = paths.socket_name(port);
    let Some(service) = &observed.service else {
        // No manager to ask: what enable would have done.
        for unit in &units {
            let service = paths.service(port);
            let target = paths.socket().filter(|_| unit.ends_with(".socket")).unwrap_or(service);
            let packaged = paths.packaged.as_ref().filter(|_| packaged_serves(definition, paths, observed));
            let target = packaged.zip(target.file_name()).map_or(target.clone(), |(dir, name)| dir.join(name));
            let link = paths.wants(unit).filter(|path| !observed.links.contains(path));
            plan.actions.extend(link.map(|path| Action::Link { path, target }));
        }
        return;
    };
    let launchd = paths.kind == Kind::Launchd;
    if !launchd && (changed || service.stale) {
        plan.actions.push(Action::Reread);
    }
    // A launchd job comes up by itself unless somebody disabled it.
    let off =
        |job: Option<&Job>| job.is_none_or(|j| if launchd { j.enabled == "disabled" } else { j.enabled != "enabled" });
    let disabled: Vec<_> = units
        .iter()
        .filter(|u| off(if u.ends_with(".socket") { observed.socket.as_ref() } else { Some(service) }))
        .cloned()
        .collect();
    if !disabled.is_empty() {
        plan.actions.push(Action::Enable { units: disabled });
    }
    plan.actions.extend(linger);
    if !wish.start {
        return;
    }
    let up = |job: Option<&Job>| job.is_some_and(|j| matches!(j.phase, Phase::Running | Phase::Starting));
    let failed = |job: Option<&Job>| job.is_some_and(|j| j.phase == Phase::Failed);
    let (service_up, socket_up) = (up(Some(service)), up(observed.socket.as_ref()));
    // A service that bound the port itself must let go of it before the socket unit can have it, and vice versa.
    let hand_over = service_up && socket_unit.is_some() && definition.socket != socket_up;
    if hand_over || drops_socket {
        let mut stop = vec![service_unit.clone()];
        stop.extend(socket_unit.clone().filter(|_| socket_up));
        plan.actions.push(Action::Stop { units: stop });
    }
    let failures: Vec<_> = [(socket_unit.as_ref(), observed.socket.as_ref()), (Some(&service_unit), Some(service))]
        .into_iter()
        .filter(|(_, job)| failed(*job))
        .filter_map(|(unit, _)| unit.cloned())
        .collect();
    if !launchd && !failures.is_empty() {
        plan.actions.push(Action::ForgetFailure { units: failures });
    }
    let older = match (&wish.build, &observed.running_build) {
        (Some(installed), Some(running)) => installed != running,
        _ => false,
    };
    let changed = changed || service.stale;
    if hand_over || drops_socket || !service_up || (socket_unit.is_some() && definition.socket && !socket_up) {
        plan.actions.push(Action::Start { units });
    } else if changed || older {
        plan.actions.push(Action::Restart { unit: service_unit, changed });
    }
}

/// Where a person's changes survive an upgrade.
fn elsewhere(definition: &Definition, paths: &Paths) -> String {
    match (paths.kind, definition.scope) {
        (Kind::Systemd, Scope::User) => format!("a drop-in (`systemctl --user edit {NAME}@{}`)", definition.port),
        (Kind::Systemd, Scope::System) => format!("a drop-in (`systemctl edit {NAME}@{}`)", definition.port),
        (Kind::Launchd, _) => {
            "the configuration file (`mpm-monitor config show --origin` names it) or into `install --env NAME=VALUE`"
                .to_owned()
        }
    }
}

fn lingers(paths: &Paths, wish: &Wish, observed: &Observed, notes: &mut Vec<String>) -> Option<Action> {
    // Root's own manager is no different, but the machine's needs no login, and launchd has no such notion.
    if paths.kind == Kind::Launchd && wish.linger == Linger::Yes {
        notes.push(
            "launchd has no lingering: an agent ends with the logout; `sudo mpm-monitor install --system` makes a daemon, which \
             stays"
                .to_owned(),
        );
    }
    if paths.kind == Kind::Launchd || paths.scope == Scope::System || observed.linger == Some(true) {
        return None;
    }
    let enable = |required| Some(Action::EnableLinger { user: wish.user.clone(), required });
    let remark = || super::apply::linger_remark(&wish.user);
    match wish.linger {
        Linger::Yes => enable(true),
        // Asked for once, at the first install; a refusal is not repeated at each later one.
        Linger::Auto if observed.receipt.is_none() && observed.linger == Some(false) => enable(false),
        Linger::Auto | Linger::No => {
            notes.push(remark());
            None
        }
    }
}

/// What `uninstall` would change.
pub fn uninstall(port: u16, paths: &Paths, purge: bool, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let receipt = observed.receipt.as_ref();
    let last = observed.others.is_empty();
    let launchd = paths.kind == Kind::Launchd;
    let both: Vec<(String, &Option<Job>)> = paths
        .socket_name(port)
        .map(|name| (name, &observed.socket))
        .into_iter()
        .chain([(paths.service_name(port), &observed.service)])
        .collect();
    // launchd keeps a job that does not run until it is booted out.
    let alive = |job: &Option<Job>| {
        job.as_ref().is_some_and(|j| {
            matches!(j.phase, Phase::Running | Phase::Starting | Phase::Stopping) || launchd && j.loaded
        })
    };
    let stop: Vec<_> = both.iter().filter(|(_, job)| alive(job)).map(|(unit, _)| unit.clone()).collect();
    let loaded: Vec<_> =
        both.iter().filter(|(_, j)| j.as_ref().is_some_and(|j| j.loaded)).map(|(unit, _)| unit.clone()).collect();
    let linked = |unit: &str| paths.wants(unit).filter(|path| observed.links.contains(path));
    let enabled: Vec<_> = both
        .iter()
        .filter(|(u, j)| j.as_ref().is_some_and(|j| j.enabled == "enabled") && linked(u).is_some())
        .map(|(u, _)| u.clone())
        .collect();
    if !stop.is_empty() {
        plan.actions.push(Action::Stop { units: stop });
    }
    if !enabled.is_empty() {
        plan.actions.push(Action::Disable { units: enabled });
    }
    // A package's template makes every instance there is a known one, installed or not.
    let only_packaged = observed.packaged.is_some()
        && plan.actions.is_empty()
        && receipt.is_none()
        && !both.iter().any(|(_, j)| j.as_ref().is_some_and(|j| j.phase == Phase::Failed));
    if !loaded.is_empty() && !launchd && !only_packaged {
        plan.actions.push(Action::ForgetFailure { units: loaded });
    }
    if observed.service.is_none() {
        for (unit, _) in &both {
            if let Some(path) = linked(unit) {
                plan.actions.push(Action::RemoveFile { path: path.clone() });
                plan.actions.extend(path.parent().map(|d| Action::RemoveDir { path: d.to_owned() }));
            }
        }
    }
    let keeps_user = observed.history_exists && !purge;
    let files = match receipt {
        Some(r) => r.files.clone(),
        None => known_files(port, paths, observed, &mut plan.notes),
    };
    let mut rereads = false;
    for made in &files {
        let needed = made.shared && (!last && others_need(&made.path, observed));
        let users = paths.sysusers.as_ref() == Some(&made.path) && keeps_user;
        let Some(text) = observed.files.get(&made.path).filter(|_| !needed && !users) else { continue };
        if !is_ours(text) {
            plan.notes.push(format!("{} had been edited by hand", made.path.display()));
        }
        rereads = true;
        plan.actions.push(Action::RemoveFile { path: made.path.clone() });
    }
    if let Some(drop_in) = paths.drop_in(port).filter(|path| files.iter().any(|m| m.path == *path)) {
        plan.actions.extend(drop_in.parent().map(|path| Action::RemoveDir { path: path.to_owned() }));
    }
    if rereads && !launchd && observed.service.is_some() {
        plan.actions.push(Action::Reread);
    }
    if launchd && observed.service.as_ref().is_some_and(|j| j.enabled == "disabled") && !plan.actions.is_empty() {
        // launchd's memory of it would outlive the job, and stand in the way of the next install.
        plan.actions.push(Action::Enable { units: vec![paths.service_name(port)] });
    }
    let lock = paths.lock(port);
    if observed.files.contains_key(&lock) {
        plan.actions.push(Action::RemoveFile { path: lock });
    }
    if observed.history_exists {
        if purge {
            plan.actions.push(Action::RemoveHistory { path: paths.history(port) });
        } else {
            plan.notes.push(format!(
                "the event history stays in {} (uninstall --purge removes it)",
                paths.history(port).display()
            ));
        }
    }
    if purge {
        plan.actions.extend(observed.logs.iter().map(|path| Action::RemoveFile { path: path.clone() }));
    } else if let (Some(_), Some(dir)) = (observed.logs.first(), &paths.logs) {
        plan.notes.push(format!("the log stays in {} (uninstall --purge removes it)", dir.display()));
    }
    let receipt_path = paths.receipt(port);
    if observed.files.contains_key(&receipt_path) {
        plan.actions.push(Action::RemoveFile { path: receipt_path });
    }
    if plan.actions.is_empty() {
        return plan;
    }
    match (receipt, observed.others.first()) {
        (Some(gone), Some(heir)) => {
            let mut heir = heir.clone();
            heir.inherit(gone);
            if Some(&heir) != observed.others.first() {
                let path = paths.receipt(heir.port);
                plan.actions.push(Action::WriteFile { path, content: heir.to_text(), mode: 0o600, replaces: true });
            }
        }
        (_, Some(_)) => {}
        (receipt, None) => last_one(paths, keeps_user, receipt, &files, observed, &mut plan),
    }
    plan
}

/// What goes with the last instance.
fn last_one(
    paths: &Paths,
    keeps_user: bool,
    receipt: Option<&Receipt>,
    files: &[Made],
    observed: &Observed,
    plan: &mut Plan,
) {
    let ours = receipt.is_some_and(|r| r.user.is_some())
        || paths.sysusers.as_ref().is_some_and(|p| receipt.is_none() && files.iter().any(|f| f.path == *p));
    if ours && observed.user_exists {
        if keeps_user {
            plan.notes.push(format!("the system user {NAME} stays, as the event history is its"));
        } else {
            plan.actions.push(Action::RemoveUser { name: NAME.to_owned() });
        }
    }
    plan.actions.extend(receipt.and_then(|r| r.linger.clone()).map(|user| Action::DisableLinger { user }));
    let mut dirs: BTreeSet<PathBuf> = receipt.map(|r| r.directories.iter().cloned().collect()).unwrap_or_default();
    // These bear our name, whoever made them: the manager (RuntimeDirectory=), an earlier install, the program.
    dirs.extend([paths.runtime.clone(), paths.receipts.clone(), paths.state.clone()]);
    dirs.extend(paths.logs.clone());
    plan.actions.extend(dirs.into_iter().rev().map(|path| Action::RemoveDir { path }));
}

fn others_need(path: &Path, observed: &Observed) -> bool {
    observed.others.iter().any(|o| o.files.iter().any(|f| f.path == path))
}

/// Without a receipt: the files that are provably ours.
fn known_files(port: u16, paths: &Paths, observed: &Observed, notes: &mut Vec<String>) -> Vec<Made> {
    let (ours, foreign): (Vec<_>, Vec<_>) = candidates(port, paths)
        .into_iter()
        .filter(|(p, _)| observed.files.contains_key(p))
        .partition(|(p, _)| observed.files.get(p).is_some_and(|t| is_ours(t)));
    notes.extend(foreign.iter().map(|(p, _)| format!("{} was edited by hand or is not ours; it stays", p.display())));
    if !ours.is_empty() {
        notes.push("there is no receipt; the files are known by their header".to_owned());
    }
    ours.into_iter().map(|(path, shared)| Made { path, shared }).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
