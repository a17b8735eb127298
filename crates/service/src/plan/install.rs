//! What `install` would change: the files that are missing or outdated, and what it takes that the service runs from them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Action, Plan};
use crate::definition::Definition;
use crate::desired::{Desired, desired, packaged_serves, stands_for, template_goes};
use crate::drift::{Drift, diff, drift, is_ours};
use crate::manager::{Job, Phase};
use crate::observed::Observed;
use crate::paths::Paths;
use crate::receipt::{Made, Receipt};
use crate::systemd::escape::Unspeakable;
use crate::users;
use crate::{Kind, Scope};

/// What `install` does about lingering: that the user's manager runs without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Enable it where that needs no further permission, else say what to type.
    Auto,
    /// Enable it or fail.
    Yes,
    /// Leave it as it is.
    No,
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
        "{path} was edited by hand, so it is left as it is:\n\n{diff}\nMove your changes into {elsewhere}, remove {path}, and install again{again}"
    )]
    Edited {
        /// The file.
        path: String,
        /// What is different.
        diff: String,
        /// Where changes survive an upgrade.
        elsewhere: String,
        /// The other instances that must be installed again as well, in words.
        again: String,
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
        // What somebody wrote into an old template would no longer be in force.
        let mut templates = paths.old_templates().into_iter().filter(|t| observed.files.contains_key(t));
        let template = templates.find(|t| stands_for(t, &file.path, port));
        let path = template.filter(|_| !observed.files.contains_key(&file.path)).unwrap_or_else(|| file.path.clone());
        let found = observed.files.get(&path);
        if drift(paths.app.program.name, found.map(String::as_str), &file.content) == Drift::Edited {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Refusal::Edited {
                path: path.display().to_string(),
                diff: diff(found.map_or("", String::as_str), &file.content, &name),
                elsewhere: elsewhere(definition, paths),
                again: again(if path == file.path { BTreeSet::new() } else { observed.template_users.clone() }),
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
        version: paths.app.program.version.to_owned(),
        unfinished: false,
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
        user: (makes_user || files.iter().any(|f| Some(&f.path) == paths.sysusers.as_ref()))
            .then(|| paths.app.program.name.to_owned()),
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
        plan.actions.push(Action::MakeUser { name: paths.app.program.name.to_owned(), file: file.clone() });
    }
    // Where the socket is a part of the service's definition, that file tells it all.
    let dropped = paths.socket_name(port).filter(|_| !definition.socket && had.is_some_and(|r| r.socket));
    let drops_socket = dropped.is_some();
    if let Some(unit) = dropped {
        plan.actions.push(Action::Disable { units: vec![unit] });
    }
    // A socket that is not wanted any more; and what an earlier install wrote would hide the package's own, which now does.
    for path in [Some(paths.service(port)), paths.socket(port)].into_iter().flatten() {
        if !files.iter().any(|f| f.path == path)
            && observed.files.get(&path).is_some_and(|text| is_ours(paths.app.program.name, text))
        {
            changed = true;
            plan.actions.push(Action::RemoveFile { path });
        }
    }
    for path in paths.old_templates().into_iter().filter(|path| observed.files.contains_key(path)) {
        if template_goes(paths, &path, observed) {
            changed = true;
            plan.actions.push(Action::RemoveFile { path });
        } else if !is_ours(paths.app.program.name, &observed.files[&path]) {
            plan.notes.push(format!(
                "{} was edited by hand, so that it stays; {} is not started from it any more",
                path.display(),
                paths.service_name(port)
            ));
        }
    }
    if let Some(drop_in) = paths.drop_in(port)
        && !files.iter().any(|f| f.path == drop_in)
        && observed.files.get(&drop_in).is_some_and(|f| is_ours(paths.app.program.name, f))
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
    let packaged = packaged_serves(definition, paths, observed);
    // The link that enable makes, and what it should point to; one to another file is of an earlier installation, and would
    // dangle when that goes.
    let link = |unit: &str| {
        let is_socket = unit.ends_with(".socket");
        let own = if is_socket { paths.socket(port)? } else { paths.service(port) };
        let template = format!("{}@.{}", paths.app.program.name, if is_socket { "socket" } else { "service" });
        let target = paths.packaged.as_ref().filter(|_| packaged).map_or(own, |dir| dir.join(template));
        Some((paths.wants(unit)?, target))
    };
    let Some(service) = &observed.service else {
        // No manager to ask: what enable would have done.
        let links = units.iter().filter_map(|unit| link(unit));
        let missing = links.filter(|(path, target)| observed.links.get(path) != Some(target));
        plan.actions.extend(missing.map(|(path, target)| Action::Link { path, target }));
        return;
    };
    let launchd = paths.kind == Kind::Launchd;
    let elsewhere = units.iter().filter_map(|unit| link(unit));
    let elsewhere = elsewhere.filter(|(path, target)| observed.links.get(path).is_some_and(|to| to != target));
    let relinked: Vec<_> = elsewhere.map(|(path, target)| Action::Link { path, target }).collect();
    let changed = changed || !relinked.is_empty();
    plan.actions.extend(relinked);
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

fn again(ports: BTreeSet<u16>) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    if ports.is_empty() {
        String::new()
    } else {
        format!(" (port {}, too, which is started from it)", ports.join(", "))
    }
}

/// Where a person's changes survive an upgrade.
fn elsewhere(definition: &Definition, paths: &Paths) -> String {
    match (paths.kind, definition.scope) {
        (Kind::Systemd, Scope::User) => {
            format!("a drop-in (`systemctl --user edit {}@{}`)", paths.app.program.name, definition.port)
        }
        (Kind::Systemd, Scope::System) => {
            format!("a drop-in (`systemctl edit {}@{}`)", paths.app.program.name, definition.port)
        }
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
    let remark = || users::linger_remark(&wish.user);
    match wish.linger {
        Linger::Yes => enable(true),
        // Asked for once, at the first install that comes to an end; a refusal is not repeated at each later one.
        Linger::Auto if observed.receipt.as_ref().is_none_or(|r| r.unfinished) && observed.linger == Some(false) => {
            enable(false)
        }
        Linger::Auto | Linger::No => {
            notes.push(remark());
            None
        }
    }
}
