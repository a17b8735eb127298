//! `restart`.

use super::args::Target;
use super::failed;
use super::service::Context;
use daemon::exit::Exit;
use daemon::probe::Health;
use service::apply::{self, STOP};
use service::health;
use service::proof::{self, Proof};
use service::{exec, program};

/// Restarts an installed instance and proves that another process is ready, and that it is of the build that is installed.
/// A socket unit is left open meanwhile.
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
    let proof = restart(&context)?;
    Ok((context, proof))
}

/// [`perform`] for who has the context already.
///
/// # Errors
/// As [`run`].
pub fn restart(context: &Context) -> anyhow::Result<Proof> {
    let job = context.need_installed()?;
    context.need_loaded(&job, "restart")?;
    let manager = &*context.manager;
    let name = manager.service_name(context.port);
    if job.stale {
        manager.reread()?;
    }
    apply::forgive(manager, &context.units()?)?;
    let before = context.health(&job);
    let instance = before.as_ref().and_then(|h| h.instance_id.clone());
    let waiting = context.waiting("be ready again");
    let said =
        exec::breakable(|| manager.restart(&name, job.stale, context.timeout + STOP)).err().map(|e| e.to_string());
    context.allowed(said.as_deref())?;
    let proof = proof::await_ready(manager, &context.paths, context.port, instance.as_deref(), context.timeout)
        .map_err(|e| context.unproved("restart", &e, said.as_deref()))?;
    drop(waiting);
    // A drop-in may name another program than our unit does; then that one is what was wanted.
    let runs = health::health(context.port, &context.paths).ok().filter(|h| h.pid == proof.pid);
    let runs = runs.and_then(|h| Some(h.program_path()?.to_owned()));
    let installed = program::of_instance(&context.paths, context.port)
        .filter(|path| runs.as_ref().is_none_or(|runs| program::is_same_file(path, runs)));
    let build = installed.as_deref().and_then(program::version).and_then(|(_, build)| build);
    changed(before.as_ref(), &proof, build.as_deref()).map_err(|why| {
        let path = installed.map_or_else(|| "the installed program".to_owned(), |p| p.display().to_string());
        failed(Exit::Failure, format!("restart {name}: {why}; see what `mpm-monitor status` says of {path}"))
    })?;
    Ok(proof)
}

/// Whether the process that is ready is another one, of the build that is installed, where that is known.
fn changed(before: Option<&Health>, proof: &Proof, installed: Option<&str>) -> Result<(), String> {
    if before.is_some_and(|h| h.pid == proof.pid) {
        return Err(format!("pid {} still serves, so that nothing was restarted", proof.pid));
    }
    match (installed, proof.build.as_deref()) {
        (Some(installed), Some(running)) if installed != running => Err(format!(
            "pid {} is ready, but runs build {running}, and installed is build {installed}: the unit starts another program",
            proof.pid
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pain_4_another_pid_and_the_installed_build_are_wanted() {
        let health = |pid: u32| -> Health {
            let text = format!(r#"{{"service": "claude-mpm-monitor", "version": "1.0.0", "port": 1, "pid": {pid}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let proof = Proof {
            pid: 7,
            instance_id: "n".into(),
            version: "1.0.0".into(),
            build: Some("aa".into()),
            url: String::new(),
        };
        assert_eq!(changed(Some(&health(6)), &proof, Some("aa")), Ok(()));
        assert_eq!(changed(None, &proof, None), Ok(()));
        assert!(changed(Some(&health(7)), &proof, Some("aa")).unwrap_err().contains("pid 7 still serves"));
        let error = changed(Some(&health(6)), &proof, Some("bb")).unwrap_err();
        assert!(error.contains("runs build aa, and installed is build bb"), "{error}");
    }
}
