//! `restart`.

use super::args::Target;
use super::exit::Exit;
use super::service::Context;
use crate::service::apply::STOP;
use crate::service::proof::{self, Proof};

/// Restarts an installed instance and proves that another process is ready. A socket unit is left open meanwhile.
///
/// # Errors
/// With the exit code of the process that did not start, or "not ready".
pub fn run(args: &Target) -> anyhow::Result<Exit> {
    let (context, proof) = perform(args)?;
    context.print_proof("restarted, running and ready", &proof)?;
    Ok(Exit::Ok)
}

/// Does it, and prints nothing.
///
/// # Errors
/// As [`run`].
pub(super) fn perform(args: &Target) -> anyhow::Result<(Context, Proof)> {
    let context = Context::new(args, "restart")?;
    let job = context.need_installed()?;
    let manager = &*context.manager;
    let name = manager.service_name(context.port);
    if job.stale {
        manager.reread()?;
    }
    context.forgive(&context.units()?)?;
    let before = context.health().and_then(|h| h.instance_id);
    let said = manager.restart(&name, job.stale, context.timeout + STOP).err().map(|e| e.to_string());
    context.allowed(said.as_deref())?;
    let proof = proof::await_ready(manager, &context.paths, context.port, before.as_deref(), context.timeout)
        .map_err(|e| context.unproved("restart", &e, said.as_deref()))?;
    Ok((context, proof))
}
