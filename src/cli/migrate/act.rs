//! Carries a migration out: stop, clean up, install, verify; what fails half way is taken back.

use service::health;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Context, Migrate, nothing, steps, told, undo};
use crate::cli::args::{Install, Linger, Run};
use crate::cli::failed;
use crate::cli::install;
use crate::cli::service::{print_json, print_text};
use crate::config::{self, Directories};
use crate::migrate::find::{self, Found};
use crate::migrate::plan::{Daemon, Plan};
use crate::migrate::process;
use crate::migrate::record::{Record, Removed};
use daemon::exit::{Exit, Failed};
use daemon::out;
use service::Scope;
use service::interrupt;
use service::receipt::Receipt;

/// What a killed process, and a port that it had, may take.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Does it.
///
/// # Errors
/// As [`super::run`].
pub fn run(context: &Context<'_>, found: &Found, plan: &Plan) -> anyhow::Result<Exit> {
    let json = context.args.json;
    let say = |line: &str| if json { Ok(()) } else { print_text(&format!("{line}\n")) };
    if steps(plan, context.scope).is_empty() {
        if json {
            print_json(&told("nothing to do", &[], plan))?;
        } else {
            plan.notes.iter().for_each(|note| out::tell(&format!("note: {note}")));
            say(&nothing(found))?;
        }
        return Ok(Exit::Ok);
    }
    let mut done: Vec<Value> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    // One port after the other, so that all but one are served at any time.
    for (&port, projects) in &plan.installs {
        let daemon = plan.daemons.iter().find(|d| d.port == port);
        let earlier =
            Record::all(&context.paths.state)?.into_iter().find(|r| r.port == port && r.scope == context.scope);
        let record = Record {
            schema_version: 1,
            port,
            scope: context.scope,
            installed: Receipt::read(&context.paths.receipt(port)).ok().flatten().is_none(),
            daemon: daemon.map(|d| d.process.clone()),
            removed: Vec::new(),
        };
        let mut record = record.after(earlier.as_ref());
        // Nobody is stopped for a successor that would be refused.
        let files = pid_files(context, port, projects, &mut notes)?;
        let wanted = wanted(context, port, files.as_deref());
        install(&Install { dry_run: true, ..wanted.clone() })
            .map_err(|e| failed(exit_of(&e), format!("{e}\nNothing was changed on port {port}")))?;
        // First, so that whatever happens to this process, `--undo` knows.
        record.write(&context.paths.state)?;
        if let Some(daemon) = daemon {
            say(&format!(
                "stopping Claude MPM's daemon on port {port} (pid {}), which takes a while",
                daemon.process.pid
            ))?;
            if let Err(error) = stop(daemon, context.args) {
                let _ = match &earlier {
                    Some(earlier) => earlier.write(&context.paths.state),
                    None => record.remove(&context.paths.state),
                };
                return Err(error);
            }
            say("it has ended")?;
        }
        let known = files.as_ref().map_or_else(BTreeSet::new, |_| projects.clone());
        match replace(context.paths.state.as_path(), plan, &wanted, &known, &mut record, &mut notes) {
            Ok(proof) => {
                let (url, pid) = (&proof["url"], &proof["pid"]);
                say(&format!("installed, running and ready: {} (pid {pid})", url.as_str().unwrap_or_default()))?;
                done.push(json!({"port": port, "proof": proof}));
            }
            // A signal that broke the install off does not break this off.
            Err(error) => {
                let failed = || undo::after_failure(context, &record, earlier.as_ref(), &error);
                return Err(interrupt::unheard(failed));
            }
        }
    }
    if plan.installs.is_empty() {
        plan.stale.iter().for_each(|(file, _)| remove(file, None, &mut notes));
    }
    if json {
        let mut object = told("migrated", &done, plan);
        object["notes"] = json!(plan.notes.iter().chain(&notes).collect::<Vec<_>>());
        print_json(&object)?;
        return Ok(Exit::Ok);
    }
    for (file, why) in &plan.stale {
        say(&format!("removed {}: {why}", file.path.display()))?;
    }
    plan.notes.iter().chain(&notes).for_each(|note| out::tell(&format!("note: {note}")));
    if !done.is_empty() {
        say("migrated; `mpm-monitor migrate --undo` brings the old daemon back")?;
    }
    Ok(Exit::Ok)
}

/// Asks the daemon to end and waits until it has, and until its port is free.
fn stop(daemon: &Daemon, args: &Migrate) -> anyhow::Result<()> {
    let (pid, port) = (daemon.process.pid, daemon.port);
    let end = |kill| {
        process::end(&daemon.process, kill)
            .map_err(|e| failed(Exit::NoPermission, format!("cannot signal pid {pid}: {e}; nothing was changed")))
    };
    end(false)?;
    let mut gone = until(args.stop_timeout, || !process::is_there(&daemon.process));
    if !gone && args.force {
        end(true)?;
        gone = until(AT_ONCE, || !process::is_there(&daemon.process));
    }
    if !gone {
        let text = format!(
            "pid {pid} was asked to end and did not within {:?}; nothing else was changed. `mpm-monitor migrate --force` \
             kills it",
            args.stop_timeout
        );
        return Err(failed(Exit::Failure, text));
    }
    if until(AT_ONCE, || !is_served(port)) {
        return Ok(());
    }
    let text = format!(
        "pid {pid} has ended, but port {port} is served all the same; `mpm-monitor status --port {port}` says by whom"
    );
    Err(failed(Exit::PortTaken, text))
}

fn is_served(port: u16) -> bool {
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
        .into_iter()
        .any(|ip| TcpStream::connect_timeout(&SocketAddr::new(ip, port), health::LOOK).is_ok())
}

/// Looks again and again until it is so, or the time is over.
pub(super) fn until(deadline: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if began.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// What is installed in the daemon's place.
fn wanted(context: &Context<'_>, port: u16, files: Option<&str>) -> Install {
    Install {
        target: context.target(port),
        socket: None,
        linger: Linger::Auto,
        no_start: false,
        dry_run: false,
        env: files.map(|files| format!("MPM_MONITOR_COMPAT_PID_FILES_IN={files}")).into_iter().collect(),
        label: None,
        program: None,
    }
}

/// Installs it; the proof that it is ready.
fn install(wanted: &Install) -> anyhow::Result<Value> {
    match install::perform(wanted).map_err(|e| whole(&e))?.1 {
        install::Done::Proved { proof, .. } => Ok(json!(proof)),
        install::Done::Planned(_) | install::Done::Written { .. } => Ok(Value::Null),
    }
}

/// Removes what is stale, installs ours on the port, and looks whether Claude MPM's own commands will find it in these projects;
/// the proof.
fn replace(
    state: &Path,
    plan: &Plan,
    wanted: &Install,
    projects: &BTreeSet<PathBuf>,
    record: &mut Record,
    notes: &mut Vec<String>,
) -> anyhow::Result<Value> {
    let port = record.port;
    // What belongs to none of the ports goes with the first, so that its record knows of it.
    let belongs = |p: u16| p == port || !plan.installs.contains_key(&p);
    for (file, _) in plan.stale.iter().filter(|(f, _)| f.port.is_none_or(belongs)) {
        remove(file, Some(record), notes);
    }
    record.write(state)?;
    let proof = install(wanted)?;
    for project in projects {
        let path = project.join(format!(".claude-mpm/monitor-daemon-{port}.pid"));
        if std::fs::read_to_string(&path).is_ok_and(|text| text.parse().ok() == proof["pid"].as_u64()) {
            continue;
        }
        notes.push(format!(
            "{} does not name our process, so that `claude-mpm monitor status` will not find it from there; \
             `mpm-monitor status --port {port}` says why",
            path.display()
        ));
    }
    Ok(proof)
}

/// The projects in which our process shall be found, with those that the settings name already.
fn pid_files(
    context: &Context<'_>,
    port: u16,
    projects: &BTreeSet<PathBuf>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<String>> {
    if projects.is_empty() {
        return Ok(None);
    }
    if context.scope == Scope::System {
        notes.push(
            "a service of the machine may not write into projects, so that `claude-mpm monitor status` will not find it; \
             systemd/README.md says how to allow it"
                .to_owned(),
        );
        return Ok(None);
    }
    let flags = Run { port: Some(port.to_string()), ..Run::default() };
    let (settings, _) = config::load(&flags, &config::variables(), &Directories::of_this_user())
        .map_err(|problems| failed(Exit::Config, crate::cli::problems(&problems)))?;
    let all: BTreeSet<PathBuf> = settings.pid_files_in.iter().cloned().chain(projects.iter().cloned()).collect();
    let (usable, odd): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|p| p.to_str().is_some_and(|text| !text.contains(',') && !text.contains(char::is_control)));
    notes.extend(odd.iter().map(|p| {
        format!(
            "{} cannot stand in a list of directories: name it in compat.pid_files_in of the configuration file",
            p.display()
        )
    }));
    let names: Vec<&str> = usable.iter().filter_map(|p| p.to_str()).collect();
    Ok((!names.is_empty()).then(|| names.join(",")))
}

fn remove(file: &find::PidFile, record: Option<&mut Record>, notes: &mut Vec<String>) {
    let content = std::fs::read_to_string(&file.path).unwrap_or_default();
    match find::remove(file) {
        Ok(true) => {
            if let Some(record) = record {
                record.removed.push(Removed { path: file.path.clone(), content });
            }
        }
        // The daemon took it along.
        Ok(false) => {}
        Err(error) => notes.push(format!("cannot remove {}: {error}", file.path.display())),
    }
}

/// The error of another verb, with its causes in one text.
pub(super) fn whole(error: &anyhow::Error) -> anyhow::Error {
    failed(exit_of(error), crate::cli::with_causes(error))
}

pub(super) fn exit_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Failed>().map_or(Exit::Failure, |f| f.exit)
}
