//! `start`.

use super::args::Target;
use super::service::Context;
use daemon::exit::Exit;
use service::manager::Phase;
use service::{apply, proof};

/// Starts an installed instance and proves that it is ready; one that is already is left alone.
///
/// # Errors
/// With the exit code of the process that did not start, or "not ready".
pub fn run(args: &Target) -> anyhow::Result<Exit> {
    let context = Context::new(args, "start")?;
    let job = context.need_installed()?;
    let manager = &*context.manager;
    let before = context.health(&job);
    if job.phase == Phase::Running && before.as_ref().is_some_and(|h| Some(h.pid) == job.pid && h.ready != Some(false))
    {
        let proof = proof::await_ready(manager, &context.paths, context.port, None, context.timeout)
            .map_err(|e| context.unproved("start", &e, None))?;
        context.print_proof("already running and ready", &proof)?;
        return Ok(Exit::Ok);
    }
    let units = context.units()?;
    if job.stale {
        manager.reread()?;
    }
    apply::forgive(manager, &units)?;
    let waiting = context.waiting("be ready");
    let said = manager.bring_up(&units, context.timeout).err().map(|e| e.to_string());
    context.allowed(said.as_deref())?;
    // Whichever process the manager runs by now is the one that was wanted, also if it was faster than this start.
    let proof = proof::await_ready(manager, &context.paths, context.port, None, context.timeout)
        .map_err(|e| context.unproved("start", &e, said.as_deref()))?;
    drop(waiting);
    context.print_proof("running and ready", &proof)?;
    Ok(Exit::Ok)
}
