//! `stop`.

use super::args::Target;
use super::service::{Context, manager_failed};
use daemon::exit::Exit;
use service::apply::STOP;
use service::manager::{Job, Phase};
use service::proof;

/// Stops an installed instance and proves that it is gone; its socket, too, or the next connection would start it.
///
/// # Errors
/// When it is not installed or does not go.
pub fn run(args: &Target) -> anyhow::Result<Exit> {
    let (context, result) = perform(args)?;
    context.print_result(result)?;
    Ok(Exit::Ok)
}

/// Does it, and prints nothing; what it came to.
///
/// # Errors
/// As [`run`].
pub(super) fn perform(args: &Target) -> anyhow::Result<(Context, &'static str)> {
    let context = Context::new(args, "stop")?;
    let job = context.need_installed()?;
    let manager = &*context.manager;
    let units = context.units()?;
    let idle = |job: &Job| matches!(job.phase, Phase::Stopped | Phase::Failed) && !job.held;
    let mut all_idle = true;
    for unit in &units {
        all_idle &= idle(&manager.job(unit)?);
    }
    if all_idle {
        return Ok((context, "not running"));
    }
    let instance = context.health(&job).filter(|h| Some(h.pid) == job.pid).and_then(|h| h.instance_id);
    let said = manager.bring_down(&units, STOP);
    context.allowed(said.as_ref().err().map(ToString::to_string).as_deref())?;
    said.map_err(manager_failed)?;
    proof::await_gone(manager, &context.paths, context.port, job.pid, instance.as_deref(), context.timeout)
        .map_err(|e| context.unproved("stop", &e, None))?;
    Ok((context, "stopped"))
}
