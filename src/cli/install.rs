//! `install`: plan, apply, prove; take it back when the proof fails.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use super::args::{Install, YesNo};
use super::failed;
use super::homebrew;
use super::service::{Context, is_root, print_json, print_text};
use crate::doctor::{self, Subject};
use daemon::exit::Exit;
use daemon::lock;
use daemon::out;
use service::apply::{self, Applied, StepError};
use service::definition::{Definition, merge_env};
use service::files::{self, Lock};
use service::interrupt;
use service::launchd::domain;
use service::manager::{Job, Manager, Phase};
use service::observe;
use service::observed::Observed;
use service::plan::{self, Action, Plan, Refusal, Wish};
use service::program::{self, ProgramError};
use service::proof::{self, Proof};
use service::receipt::Receipt;
use service::users::behind_sudo;
use service::{Kind, Scope};

/// How long to wait for other installs to be done.
const TURN: Duration = Duration::from_secs(120);

/// Does it.
///
/// # Errors
/// With the exit code that fits: refused, no manager, no permission, or that of the process which did not start.
pub fn run(args: &Install) -> anyhow::Result<Exit> {
    let (context, done) = perform(args)?;
    match done {
        Done::Planned(plan) => show(&context, &plan),
        Done::Written { notes: said, nothing } => {
            notes(&context, said.iter());
            context.print_result(if nothing { "nothing to do" } else { "installed, not started" })?;
            Ok(Exit::Ok)
        }
        Done::Proved { plan, notes: said, proof } => succeed(&context, &plan, &said, &proof),
    }
}

/// What an installation came to.
pub(super) enum Done {
    /// It was only planned.
    Planned(Plan),
    /// It is installed, and was not to be started.
    Written {
        /// What the person should know.
        notes: Vec<String>,
        /// Whether it was already.
        nothing: bool,
    },
    /// It is installed, and was proved to be ready.
    Proved {
        /// What was done.
        plan: Plan,
        /// What the person should know.
        notes: Vec<String>,
        /// The proof.
        proof: Proof,
    },
}

/// Does it, and prints nothing.
///
/// # Errors
/// As [`run`].
pub(super) fn perform(args: &Install) -> anyhow::Result<(Context, Done)> {
    let label = args.label.as_deref().map(domain::label).transpose().map_err(|e| failed(Exit::Usage, e.to_string()))?;
    let context = Context::labelled(&args.target, "install", label)?;
    if args.label.is_some() && context.paths.kind == Kind::Systemd {
        let text = "--label names a launchd job; systemd's units are called mpm-monitor@PORT";
        return Err(failed(Exit::Usage, text));
    }
    if !args.dry_run {
        context.need_root("install")?;
    }
    // First the larger obstacle: without a manager the program's path does not matter.
    let manager: Option<&dyn Manager> = match context.manager.usable() {
        Ok(()) => Some(&*context.manager),
        Err(_) if args.no_start => None,
        Err(e) => {
            let hint = "`mpm-monitor install --no-start` writes and enables without it";
            return Err(failed(Exit::NoManager, format!("{e}. {hint}")));
        }
    };
    // What is begun is taken back before they are obeyed.
    let _signals = interrupt::catch()?;
    let program = program::choose(args.program.as_deref(), context.scope).map_err(|e| {
        let exit = if matches!(e, ProgramError::NotExecutable(_)) { Exit::CantCreate } else { Exit::Refused };
        failed(exit, e.to_string())
    })?;
    let lock = if args.dry_run { None } else { Some(turn(&context)?) };
    let result = install(args, &context, &program, manager, lock.as_ref());
    if let (Err(_), Some(lock)) = (&result, &lock) {
        for dir in lock.made.iter().rev() {
            files::remove_if_empty(dir);
        }
    }
    let done = result?;
    drop(lock);
    Ok((context, done))
}

fn install(
    args: &Install,
    context: &Context,
    program: &Path,
    manager: Option<&dyn Manager>,
    lock: Option<&Lock>,
) -> anyhow::Result<Done> {
    let (port, paths) = (context.port, &context.paths);
    let mut observed = observe::observe(port, paths, manager, &context.user)?;
    // `/bin` and `/sbin` may be other names of where a package put it.
    let packaged = observed.packaged.clone().filter(|path| program::is_same_file(path, program));
    let program = packaged.as_deref().unwrap_or(program);
    observed.made_dirs.extend(lock.iter().flat_map(|l| l.made.clone()));
    let had = observed.receipt.clone();
    if let Some(had) = &had {
        same_label(had, context)?;
    }
    homebrew::refuse(context)?;
    let env = merge_env(&had.as_ref().map(|r| r.env.clone()).unwrap_or_default(), &args.env)
        .map_err(|e| failed(Exit::Usage, e.to_string()))?;
    let definition = Definition {
        port,
        scope: context.scope,
        program: program.to_owned(),
        env,
        socket: match args.socket {
            Some(answer) => answer == YesNo::Yes,
            None => had.as_ref().is_some_and(|r| r.socket),
        },
        notify_reload: context.manager.has_notify_reload(),
        account: account(context, had.as_ref())?,
        tool_dirs: if paths.kind == Kind::Launchd {
            program::tool_dirs(&had.as_ref().map(|r| r.tool_dirs.clone()).unwrap_or_default())
        } else {
            Vec::new()
        },
    };
    one_account(&definition, &observed)?;
    observe::needs_directories(&definition, paths, &mut observed);
    let wish = Wish {
        start: !args.no_start,
        linger: args.linger.into(),
        user: context.user.clone(),
        build: program::version(program).and_then(|(_, build)| build),
    };
    let plan = plan::install(&definition, paths, &wish, &observed).map_err(|e| match e {
        Refusal::Edited { .. } | Refusal::Path(_) => failed(Exit::Refused, e.to_string()),
    })?;
    if args.dry_run {
        return Ok(Done::Planned(plan));
    }
    let plan = unfinished(plan, &paths.receipt(port));
    let renews = plan.actions.iter().any(|a| matches!(a, Action::Start { .. } | Action::Restart { .. }));
    let before = observed.service.as_ref().filter(|_| renews).and_then(|job| context.health(job)?.instance_id);
    let waiting = context.waiting("be ready");
    let applied = apply::apply(&plan, &*context.manager, context.timeout).map_err(|e| {
        let exit = match &e.cause {
            StepError::Io(cause) if cause.kind() == ErrorKind::PermissionDenied => Exit::NoPermission,
            StepError::Io(_) => Exit::CantCreate,
            _ => Exit::Failure,
        };
        failed(exit, format!("{e}\n{}", taken_back(context, &observed, &e.left)))
    })?;
    let mut notes: Vec<String> = plan.notes.iter().chain(&applied.notes).cloned().collect();
    if definition.socket {
        notes.extend(bind_is_not_used(context, &definition));
    }
    if args.no_start {
        drop(waiting);
        finish(&applied, context)?;
        return Ok(Done::Written { notes, nothing: plan.actions.is_empty() });
    }
    let proved = proof::await_ready(&*context.manager, paths, port, before.as_deref(), context.timeout);
    drop(waiting);
    match proved {
        Ok(proof) => {
            finish(&applied, context)?;
            Ok(Done::Proved { plan, notes, proof })
        }
        Err(unproved) => {
            let mut error = context.unproved("install", &unproved, applied.start_error.as_deref());
            if !plan.actions.is_empty() {
                let mut remains = applied.rollback();
                // What the process itself left of its short life; a history from before is not touched.
                let history = paths.history(port);
                if !observed.history_exists && history.exists() {
                    remains
                        .extend(std::fs::remove_dir_all(&history).err().map(|e| format!("{}: {e}", history.display())));
                }
                // One that had to be killed leaves its lock, which nobody holds.
                let lock = paths.lock(port);
                if !observed.files.contains_key(&lock) && lock::is_held(&lock) == Some(false) {
                    remains.extend(std::fs::remove_file(&lock).err().map(|e| format!("{}: {e}", lock.display())));
                }
                // Made by the process or for it; it stays where it holds another instance's lock, or anything else.
                for dir in [paths.runtime_of(port), paths.runtime.clone()] {
                    let _ = std::fs::remove_dir(dir);
                }
                let told = format!("{error}\n{}", taken_back(context, &observed, &remains));
                error = failed(exit_of(&error), told);
            }
            Err(error)
        }
    }
}

/// A job keeps its label: under another one the first would run on, unknown.
fn same_label(had: &Receipt, context: &Context) -> anyhow::Result<()> {
    if had.label == context.paths.label {
        return Ok(());
    }
    let usual = || format!("mpm-monitor.{}", had.port);
    let (had, wanted) = (had.label.clone().unwrap_or_else(usual), context.paths.service_name(context.port));
    let text = format!("port {} is installed as {had}, not {wanted}; `mpm-monitor uninstall` first", context.port);
    Err(failed(Exit::Refused, text))
}

/// Who a launchd daemon is to run as. systemd has a user made for it; on a Mac it is whoever typed `sudo`, whose agents it
/// watches, and never root.
fn account(context: &Context, had: Option<&Receipt>) -> anyhow::Result<Option<String>> {
    if context.paths.kind == Kind::Systemd || context.scope == Scope::User {
        return Ok(None);
    }
    let account = had.and_then(|r| r.account.clone()).or_else(behind_sudo);
    account.map(Some).ok_or_else(|| {
        let text = "a daemon runs as the account that typed sudo, and never as root; log in as that account and type \
                    `sudo mpm-monitor install --system`";
        failed(Exit::Refused, text)
    })
}

/// The daemons of one Mac share their directories, and so an account.
fn one_account(definition: &Definition, observed: &Observed) -> anyhow::Result<()> {
    let others = observed.others.iter().filter_map(|r| Some((r.port, r.account.as_ref()?)));
    let Some((port, account)) = others.into_iter().find(|(_, a)| definition.account.as_ref().is_some_and(|d| d != *a))
    else {
        return Ok(());
    };
    let text = format!(
        "the daemon on port {port} runs as {account}, and all of one machine share an account; type it as {account}, or \
         `sudo mpm-monitor uninstall --system --port {port}` first"
    );
    Err(failed(Exit::Refused, text))
}

fn exit_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<daemon::exit::Failed>().map_or(Exit::Failure, |f| f.exit)
}

/// The right to install, which one process has at a time.
fn turn(context: &Context) -> anyhow::Result<Lock> {
    Lock::acquire(&context.paths.receipts, TURN).map_err(|e| {
        let exit = match e.kind() {
            ErrorKind::PermissionDenied => Exit::NoPermission,
            ErrorKind::TimedOut | ErrorKind::Interrupted => Exit::Failure,
            _ => Exit::CantCreate,
        };
        failed(exit, e.to_string())
    })
}

/// What is there again after everything was taken back: what could not be, and the process that ran before, which is proved
/// like any other.
fn taken_back(context: &Context, observed: &Observed, remains: &[String]) -> String {
    let mut text = "Install was taken back".to_owned();
    if !remains.is_empty() {
        text.push_str(&format!(", but not all of it: {}", remains.join("; ")));
    }
    let ran = |job: &Option<Job>| job.as_ref().is_some_and(|j| matches!(j.phase, Phase::Running | Phase::Starting));
    if ran(&observed.service) {
        let proved = interrupt::unheard(|| {
            proof::await_ready(&*context.manager, &context.paths, context.port, None, context.timeout)
        });
        text.push_str(&match proved {
            Ok(proof) => format!("; what ran before is ready (pid {})", proof.pid),
            Err(error) => format!("; what ran before did not come back: {error}"),
        });
    }
    text
}

/// The plan as it is carried out: until all of it is proved, its receipt says that it is not. Whatever ends this process in
/// between, the next one knows.
fn unfinished(mut plan: Plan, receipt: &Path) -> Plan {
    for action in &mut plan.actions {
        if let Action::WriteFile { path, content, .. } = action
            && path == receipt
            && let Ok(made) = serde_json::from_str::<Receipt>(content)
        {
            *content = Receipt { unfinished: true, ..made }.to_text();
        }
    }
    plan
}

/// The last step: the receipt says that the installation is whole. It claims no lingering that was refused.
fn finish(applied: &Applied<'_>, context: &Context) -> anyhow::Result<()> {
    let path = context.paths.receipt(context.port);
    let Some(receipt) = Receipt::read(&path)? else { return Ok(()) };
    let linger = receipt.linger.clone().filter(|_| !applied.linger_refused);
    let whole = Receipt { unfinished: false, linger, ..receipt.clone() };
    if whole != receipt {
        files::write(&path, &whole.to_text(), 0o600)?;
    }
    Ok(())
}

/// What to say where the settings name addresses that the socket unit does not listen on.
fn bind_is_not_used(context: &Context, definition: &Definition) -> Option<String> {
    let subject = Subject {
        port: context.port,
        scope: context.scope,
        paths: context.paths.clone(),
        user: context.user.clone(),
        is_root: is_root(),
    };
    let (settings, _) = doctor::settings::read(&subject, &definition.env).ok()?;
    let in_the_unit = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    (settings.bind != in_the_unit).then(|| {
        format!(
            "the setting bind is not used: the manager holds the socket, on the addresses in its socket unit ({}); change it there, \
             or `mpm-monitor install --socket=no`",
            context.manager.socket_name(context.port).unwrap_or_default()
        )
    })
}

fn notes<'a>(context: &Context, notes: impl Iterator<Item = &'a String>) {
    if !context.json {
        notes.for_each(|n| out::tell(&format!("note: {n}")));
    }
}

fn succeed(context: &Context, plan: &Plan, said: &[String], proof: &Proof) -> anyhow::Result<Exit> {
    let what =
        if plan.actions.is_empty() { "nothing to do, running and ready" } else { "installed, running and ready" };
    if context.json {
        print_json(&serde_json::json!({
            "schema_version": 1, "result": what, "port": context.port, "scope": context.scope,
            "actions": plan.actions, "notes": said, "proof": proof,
        }))?;
        return Ok(Exit::Ok);
    }
    notes(context, said.iter());
    context.print_proof(what, proof)?;
    Ok(Exit::Ok)
}

/// `--dry-run`.
pub(super) fn show(context: &Context, plan: &Plan) -> anyhow::Result<Exit> {
    if context.json {
        print_json(&serde_json::json!({
            "schema_version": 1, "result": "plan", "port": context.port, "scope": context.scope,
            "actions": plan.actions, "notes": plan.notes,
        }))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    if plan.actions.is_empty() {
        text.push_str("nothing to do\n");
    }
    for action in &plan.actions {
        text.push_str(&format!("would {action}\n"));
    }
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    print_text(&text)?;
    Ok(Exit::Ok)
}
