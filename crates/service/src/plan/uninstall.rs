//! What `uninstall` would change: exactly what the receipt says was made, or without one what is provably ours, less what
//! other instances need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Action, Plan};
use crate::Kind;
use crate::desired::candidates;
use crate::drift::is_ours;
use crate::manager::{Job, Phase};
use crate::observed::Observed;
use crate::paths::Paths;
use crate::receipt::{Made, Receipt};

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
    let linked = |unit: &str| paths.wants(unit).filter(|path| observed.links.contains_key(path));
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
    // A template makes every port a known one, installed or not: only what is known of this very port counts.
    let failed = both.iter().any(|(_, j)| j.as_ref().is_some_and(|j| j.phase == Phase::Failed));
    let known = !plan.actions.is_empty() || receipt.is_some() || failed;
    if !loaded.is_empty() && !launchd && known {
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
    // Its files are not to be taken from under a process that only its starter can stop.
    let purge = match &observed.by_hand {
        None => purge,
        Some(who) => {
            let history = paths.history(port);
            let history = history.display();
            plan.notes.push(format!(
                "a monitor that this manager does not run ({who}) serves port {port}; its lock and {history} stay: end it \
                 first, then `uninstall --purge` removes them"
            ));
            false
        }
    };
    let keeps_user = observed.history_exists && !purge || observed.other_histories;
    let files = match receipt {
        Some(r) => r.files.clone(),
        None => known_files(port, paths, observed, &mut plan.notes),
    };
    let mut rereads = false;
    let mut keeps_job = false;
    for made in &files {
        let needed = made.shared && (!last && others_need(&made.path, observed));
        let users = paths.sysusers.as_ref() == Some(&made.path) && keeps_user;
        let template = paths.old_templates().contains(&made.path) && !observed.template_users.is_empty();
        let kept = needed || users || template;
        let Some(text) = observed.files.get(&made.path).filter(|_| !kept) else { continue };
        if !is_ours(paths.app.program.name, text) {
            plan.notes.push(format!("{} was edited by hand, so that it stays", made.path.display()));
            keeps_job |= made.path == paths.service(port);
            continue;
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
    let disabled = observed.service.as_ref().is_some_and(|j| j.enabled == "disabled");
    if launchd && keeps_job && !disabled {
        // The next login would load what is left.
        plan.actions.push(Action::Disable { units: vec![paths.service_name(port)] });
    } else if launchd && !keeps_job && disabled && !plan.actions.is_empty() {
        // launchd's memory of it would outlive the job, and stand in the way of the next install.
        plan.actions.push(Action::Enable { units: vec![paths.service_name(port)] });
    }
    // Without an instance they are those of a process which somebody ran by hand.
    if !plan.actions.is_empty() && observed.by_hand.is_none() {
        let locks = paths.locks(port).into_iter().filter(|path| observed.files.contains_key(path));
        plan.actions.extend(locks.map(|path| Action::RemoveFile { path }));
    }
    if observed.history_exists {
        if purge {
            plan.actions.push(Action::RemoveHistory { path: paths.history(port) });
        } else if observed.by_hand.is_none() {
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
    // Where a manager makes it for one instance, it takes it away when that stops; but not what older versions made.
    let runtime = paths.runtime_of(port);
    plan.actions.extend(Some(Action::RemoveDir { path: runtime.clone() }).filter(|_| runtime != paths.runtime));
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
    let name = paths.app.program.name;
    if ours && observed.user_exists {
        if keeps_user {
            let file = paths.sysusers.as_ref().map_or(String::new(), |p| format!(", with {},", p.display()));
            plan.notes.push(format!(
                "the system user {name}{file} stays, as an event history is its; --purge of the last history takes both"
            ));
        } else {
            plan.actions.push(Action::RemoveUser { name: name.to_owned() });
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
        .partition(|(p, _)| observed.files.get(p).is_some_and(|t| is_ours(paths.app.program.name, t)));
    notes.extend(foreign.iter().map(|(p, _)| format!("{} was edited by hand or is not ours; it stays", p.display())));
    if !ours.is_empty() {
        notes.push("there is no receipt; the files are known by their header".to_owned());
    }
    ours.into_iter().map(|(path, shared)| Made { path, shared }).collect()
}
