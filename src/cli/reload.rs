//! `reload`.

use super::args::Target;
use super::failed;
use super::service::Context;
use daemon::exit::Exit;
use daemon::text::counted;
use service::manager::Phase;
use service::proof::{self, Before, Unproved};

/// Lets a running instance read its configuration again, and proves by its `config_generation` that it took it.
///
/// # Errors
/// [`Exit::Config`] with the process's own reason when it kept the old one.
pub fn run(args: &Target) -> anyhow::Result<Exit> {
    let context = Context::new(args, "reload")?;
    let job = context.need_installed()?;
    context.need_loaded(&job, "reload")?;
    let manager = &*context.manager;
    let health = context.health(&job).filter(|h| Some(h.pid) == job.pid);
    if job.phase == Phase::Running && health.is_none() {
        let text = format!(
            "cannot reload {}: it is {}, but does not answer; a process that hangs is restarted by the manager, and at once by \
             `mpm-monitor restart`",
            manager.service_name(context.port),
            job.state
        );
        return Err(failed(Exit::NotReady, text));
    }
    let degraded = health.as_ref().and_then(|h| h.degraded());
    let Some(generation) = health.and_then(|h| h.config_generation).filter(|_| job.phase == Phase::Running) else {
        let text = format!(
            "{} is {}, so there is nothing to reload; `mpm-monitor start`",
            manager.service_name(context.port),
            job.state
        );
        return Err(failed(Exit::NotRunning, text));
    };
    let said = job.status_text.as_deref().or(degraded.as_deref());
    let before = Before { generation, refused: said.is_some_and(proof::is_refusal) };
    let said = manager.reload(&manager.service_name(context.port), context.timeout).err().map(|e| e.to_string());
    context.allowed(said.as_deref())?;
    match proof::await_generation(manager, &context.paths, context.port, &before, context.timeout) {
        Ok(generation) => {
            context.print_result(&format!("reloaded (configuration read {})", counted(generation, "time")))?;
            Ok(Exit::Ok)
        }
        Err(Unproved::Late { job, .. }) => {
            let why =
                job.status_text.or(said).unwrap_or_else(|| "it gave no reason; see `mpm-monitor logs`".to_owned());
            Err(failed(Exit::Config, format!("the new configuration was not taken, the old one stays in force: {why}")))
        }
        Err(error) => Err(context.unproved("reload", &error, said.as_deref())),
    }
}
