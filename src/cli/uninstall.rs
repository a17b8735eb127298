//! `uninstall`: stop and prove it, then remove exactly what install made.

use std::time::Duration;

use super::args::Uninstall;
use super::failed;
use super::install::show;
use super::service::Context;
use daemon::exit::{Exit, Failed};
use daemon::lock;
use daemon::out;
use service::apply;
use service::files::{self, Lock};
use service::interrupt;
use service::manager::Manager;
use service::observe;
use service::plan::{self, Action, Plan};
use service::proof;

/// How long to wait for other installs to be done.
const TURN: Duration = Duration::from_secs(120);

/// Does it.
///
/// # Errors
/// With the exit code that fits: not installed, no permission, or that it could not be stopped.
pub fn run(args: &Uninstall) -> anyhow::Result<Exit> {
    let (context, done) = perform(args)?;
    match done {
        Done::Planned(plan) => show(&context, &plan),
        Done::Removed { notes } => {
            if !context.json {
                notes.iter().for_each(|n| out::tell(&format!("note: {n}")));
            }
            context.print_result("uninstalled")?;
            Ok(Exit::Ok)
        }
    }
}

/// What an uninstallation came to.
pub(super) enum Done {
    /// It was only planned.
    Planned(Plan),
    /// What install made is gone.
    Removed {
        /// What the person should know.
        notes: Vec<String>,
    },
}

/// Does it, and prints nothing.
///
/// # Errors
/// As [`run`].
pub(super) fn perform(args: &Uninstall) -> anyhow::Result<(Context, Done)> {
    let context = Context::new(&args.target, "uninstall")?;
    if !args.dry_run {
        context.need_root("uninstall")?;
    }
    // What is begun is taken back before they are obeyed.
    let _signals = interrupt::catch()?;
    // Without a manager nothing can run; the files can be removed all the same.
    let manager: Option<&dyn Manager> = context.manager.usable().ok().map(|()| &*context.manager);
    let lock = if args.dry_run { None } else { Some(Lock::acquire(&context.paths.receipts, TURN)?) };
    let result = uninstall(args, &context, manager);
    if let Some(lock) = &lock {
        for dir in lock.made.iter().rev() {
            files::remove_if_empty(dir);
        }
    }
    Ok((context, result?))
}

/// The error of what did not go on, and what of it could not be taken back.
fn taken_back(exit: Exit, error: &impl std::fmt::Display, left: &[String]) -> anyhow::Error {
    let mut text = format!("{error}\nUninstall was taken back");
    if !left.is_empty() {
        text.push_str(&format!(", but not all of it: {}", left.join("; ")));
    }
    failed(exit, text)
}

fn uninstall(args: &Uninstall, context: &Context, manager: Option<&dyn Manager>) -> anyhow::Result<Done> {
    let (port, paths) = (context.port, &context.paths);
    let observed = observe::observe(port, paths, manager, &context.user)?;
    let mut plan = plan::uninstall(port, paths, args.purge, &observed);
    if plan.actions.is_empty() {
        let notes: String = plan.notes.iter().map(|n| format!("; {n}")).collect();
        // A purge that takes nothing from under a process is refused; without an instance there is else nothing to do.
        let exit = if args.purge && observed.by_hand.is_some() { Exit::Refused } else { Exit::NotInstalled };
        return Err(failed(
            exit,
            format!(
                "there is no instance on port {port} of the {} manager{notes}; `mpm-monitor list` shows what there is",
                context.scope
            ),
        ));
    }
    let removes_history = plan.actions.iter().any(|a| matches!(a, Action::RemoveHistory { .. }));
    let pid = observed.service.as_ref().and_then(|j| j.pid);
    let held = lock::holder(&paths.lock(port)).filter(|holder| Some(holder.pid) != pid);
    if let Some(holder) = held.filter(|_| removes_history) {
        let text = format!(
            "cannot remove the history of port {port}: pid {}, which the manager does not run, writes it; stop that first",
            holder.pid
        );
        return Err(failed(Exit::Refused, text));
    }
    if args.dry_run {
        return Ok(Done::Planned(plan));
    }
    let health = observed.service.as_ref().and_then(|job| context.health(job));
    let instance = health.filter(|h| Some(h.pid) == pid).and_then(|h| h.instance_id);
    // Nothing is removed from under a process that has not gone.
    let stops = plan.actions.iter().take_while(|a| matches!(a, Action::Stop { .. })).count();
    let rest = plan.actions.split_off(stops);
    let stopped =
        apply::apply(&plan, &*context.manager, context.timeout).map_err(|e| taken_back(Exit::Failure, &e, &e.left))?;
    if stops > 0 {
        let gone = proof::await_gone(&*context.manager, paths, port, pid, instance.as_deref(), context.timeout);
        if let Err(error) = gone {
            let error = context.unproved("uninstall", &error, None);
            let exit = error.downcast_ref::<Failed>().map_or(Exit::Failure, |f| f.exit);
            return Err(taken_back(exit, &error, &stopped.rollback()));
        }
    }
    let rest = Plan { actions: rest, notes: plan.notes };
    let applied = match apply::apply(&rest, &*context.manager, context.timeout) {
        Ok(applied) => applied,
        Err(error) => {
            let left: Vec<String> = error.left.iter().cloned().chain(stopped.rollback()).collect();
            return Err(taken_back(Exit::Failure, &error, &left));
        }
    };
    Ok(Done::Removed { notes: rest.notes.iter().chain(&applied.notes).cloned().collect() })
}
