//! `status`.

use service::health;
use service::managers;
use std::time::Duration;

use super::args::Target;
use super::homebrew;
use super::service::{Context, print_json, print_text};
use crate::build::PROGRAM;
use daemon::exit::Exit;
use daemon::guarded::Guard;
use daemon::ledger::{FILE, Ledger};
use daemon::ports;
use service::definition::Definition;
use service::keeper::Keeper;
use service::manager::Manager;
use service::paths::Paths;
use service::receipt::Receipt;
use service::report::{Facts, report};
use service::{Kind, Scope};
use service::{desired, drift, observe, program, trust};

/// Tells how an instance is.
///
/// # Errors
/// When standard output fails; whatever cannot be found out is left out or says so.
pub fn run(args: &Target) -> anyhow::Result<Exit> {
    let context = Context::new(args, "status")?;
    let report = report(context.port, context.scope, facts(&context));
    if context.json {
        print_json(&report)?;
    } else {
        print_text(&report.human())?;
    }
    Ok(Exit::from_code(report.exit_code.into()).unwrap_or(Exit::Unknown))
}

/// Why nothing is asked of the port where only a socket listens.
pub const NOT_ASKED: &str = "not asked: that would start it";

/// Whether a look at the port would start the instance.
pub fn would_start(context: &Context) -> bool {
    socket_only(&of_manager(context))
}

/// What the manager knows of the service and its socket.
fn of_manager(context: &Context) -> Facts {
    let (port, manager) = (context.port, &*context.manager);
    let mut facts = Facts { now_usec: monotonic_usec(), ..Facts::default() };
    match manager.usable().and_then(|()| manager.job(&manager.service_name(port))) {
        Ok(job) => facts.service = Some(job),
        Err(error) => facts.manager_error = Some(error.to_string()),
    }
    if facts.service.is_some() {
        facts.socket = manager.socket_name(port).and_then(|name| manager.job(&name).ok());
    }
    facts
}

/// Finds out what there is to know.
pub fn facts(context: &Context) -> Facts {
    let (port, paths, manager) = (context.port, &context.paths, &*context.manager);
    let mut facts = of_manager(context);
    // A look at the port of a stopped instance would start it through its socket.
    if socket_only(&facts) {
        facts.health_error = Some(NOT_ASKED.to_owned());
    } else {
        match health::health(port, paths) {
            Ok(health) => facts.health = Some(health),
            Err(error) => facts.health_error = Some(error.to_string()),
        }
        facts.owner = ports::owner_of(&PROGRAM, port, Duration::from_millis(300));
    }
    let pid = facts.service.as_ref().and_then(|j| j.pid);
    if let (Some(job), Some(health)) = (&mut facts.service, &facts.health) {
        job.status_text = job.status_text.take().or_else(|| health.degraded().filter(|_| job.pid == Some(health.pid)));
    }
    // A manager that does not answer here does not answer there either, where it is one and the same.
    let may_ask = paths.kind == Kind::Systemd || facts.manager_error.is_none();
    if let Some(health) = facts.health.as_ref().filter(|h| may_ask && Some(h.pid) != pid) {
        facts.elsewhere = match paths.kind {
            Kind::Systemd => Keeper::of(crate::build::PROGRAM.name, health.pid).filter(|k| !k.is(context.scope)),
            Kind::Launchd => of_launchd(context.scope, port).filter(|j| j.1 == Some(health.pid)).map(|j| j.0),
        };
    }
    facts.homebrew = homebrew::copy(paths.kind, port);
    let usable: Option<&dyn Manager> = facts.service.is_some().then_some(manager);
    if let Ok(observed) = observe::observe(port, paths, usable, &context.user) {
        facts.linger = observed.linger;
        facts.receipt = observed.receipt.is_some();
        facts.unfinished = observed.receipt.as_ref().is_some_and(|receipt| receipt.unfinished);
        if let Some(unit) = desired::definition_of(port, paths, &observed.files) {
            facts.unit_version = drift::header(crate::build::PROGRAM.name, unit).map(|h| h.program);
            facts.program = desired::program_of(unit, paths.kind);
        } else if facts.service.as_ref().is_some_and(|job| job.loaded) {
            facts.program.clone_from(&observed.packaged);
        }
        if let Some(Receipt { program, socket, env, account, tool_dirs, .. }) = observed.receipt.clone() {
            let notify_reload = manager.has_notify_reload();
            let scope = context.scope;
            let definition = Definition { port, scope, program, env, socket, notify_reload, account, tool_dirs };
            facts.drift = desired::drifts(&definition, paths, &observed).unwrap_or_default();
        }
    }
    if let Some(program) = &facts.program {
        facts.installed = program::version(program);
        facts.program_weak = trust::may_run(program).err().map(|weak| weak.to_string());
    }
    let ledger = Guard::KEPT.text(&paths.history(port).join(FILE)).ok().flatten();
    facts.ledger = ledger.and_then(|text| serde_json::from_str::<Ledger>(&text).ok());
    facts
}

/// The other scope of launchd, and the process that it runs on the port.
fn of_launchd(scope: Scope, port: u16) -> Option<(Keeper, Option<u32>)> {
    let other = if scope == Scope::User { Scope::System } else { Scope::User };
    let manager = managers::of(&Paths::of(&crate::app::APP, other)?.labelled(port, None));
    let uid = (other == Scope::User).then(|| rustix::process::geteuid().as_raw());
    Some((Keeper { scope: other, uid }, manager.job(&manager.service_name(port)).ok()?.pid))
}

/// Whether only the socket is there, waiting for a first connection.
fn socket_only(facts: &Facts) -> bool {
    use service::manager::Phase;
    let phase = |job: &Option<service::manager::Job>| job.as_ref().map(|j| j.phase);
    facts.service.as_ref().is_some_and(|service| service.listens)
        || phase(&facts.socket) == Some(Phase::Running)
            && matches!(phase(&facts.service), Some(Phase::Stopped | Phase::Failed))
}

fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
