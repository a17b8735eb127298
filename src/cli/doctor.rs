//! `doctor`.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::args::{Install, Linger, ScopeArgs, Target};
use super::failed;
use super::service::{Context, is_root, print_json, print_text};
use super::{install, list, restart, status};
use crate::config::settings::DEFAULT_PORT;
use crate::doctor::fix::{self, Repair};
use crate::doctor::look::{self, Look};
use crate::doctor::show::{Instance, Report};
use crate::doctor::{self, Check, Fix, Outcome, Subject};
use daemon::exit::Exit;
use daemon::out;
use service::manager::Phase;
use service::receipt::Receipt;
use service::{Kind, Scope, apply, program};

/// How long a repair may take to be proved.
const PROOF: Duration = Duration::from_secs(30);
/// How long it may take to find out which instances there are.
const FIND: Duration = Duration::from_secs(4);

/// `doctor`.
#[derive(Debug, Clone, Default, Args)]
pub struct Doctor {
    /// Whose manager; both where neither is named.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The instance's port; all that are installed where none is named
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Show what was seen of what is well, too
    #[arg(short, long)]
    pub verbose: bool,
    /// Repair what can be repaired without harm; each repair is shown before anything is done
    #[arg(long)]
    pub fix: bool,
    /// Do not ask before the repairs
    #[arg(long, requires = "fix")]
    pub yes: bool,
}

/// One instance: what to look at, and as what the other verbs know it.
#[derive(Debug, Clone)]
struct Patient {
    target: Target,
    subject: Subject,
}

/// A repair that was tried.
#[derive(Debug, Clone, Serialize)]
struct Done {
    port: u16,
    scope: Scope,
    #[serde(flatten)]
    fix: Fix,
    codes: Vec<doctor::Code>,
    /// Whether the checks that it was for do not fail any more.
    repaired: bool,
    /// Why it could not be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Looks at everything, and repairs what is asked for. [`Exit::Ok`] unless an error was found, or is left.
///
/// # Errors
/// When the scope is refused, a repair is wanted and nobody can be asked, or standard output fails.
pub fn run(args: &Doctor) -> anyhow::Result<Exit> {
    if args.fix && args.json && !args.yes {
        return Err(failed(Exit::Usage, "--fix --json cannot ask before it repairs; add --yes"));
    }
    let patients = patients(args)?;
    let report = examine(&patients);
    let colour = out::wants_colours(out::is_terminal());
    if !args.fix {
        if args.json {
            print_json(&report)?;
        } else {
            out::print_coloured(&report.human(colour, args.verbose))?;
        }
        return Ok(exit(&report));
    }
    if !args.json {
        out::print_coloured(&report.human(colour, args.verbose))?;
    }
    let plans: Vec<Vec<Repair>> = report.instances.iter().map(|i| fix::plan(&i.checks)).collect();
    if !args.json {
        print_text(&announce(&patients, &plans))?;
    }
    if plans.iter().all(Vec::is_empty) || !(args.yes || agreed()?) {
        if args.json {
            print_json(&serde_json::json!({ "schema_version": 1, "before": report, "repairs": [], "after": report }))?;
        }
        return Ok(exit(&report));
    }
    let mut done = Vec::new();
    for (patient, plan) in patients.iter().zip(plans) {
        for repair in plan {
            let error = carry_out(patient, &repair).err().map(|e| format!("{e:#}"));
            let Subject { port, scope, .. } = patient.subject;
            done.push(Done { port, scope, fix: repair.fix, codes: repair.codes, repaired: false, error });
        }
    }
    let after = examine(&patients);
    for done in &mut done {
        let instance = after.instances.iter().find(|i| (i.port, i.scope) == (done.port, done.scope));
        let fails = |c: &Check| c.outcome == Outcome::Failed && done.codes.contains(&c.code);
        done.repaired = instance.is_some_and(|i| !i.checks.iter().any(fails));
    }
    if args.json {
        print_json(&serde_json::json!({ "schema_version": 1, "before": report, "repairs": done, "after": after }))?;
    } else {
        print_text(&outcome(&done))?;
    }
    Ok(exit(&after))
}

fn exit(report: &Report) -> Exit {
    if report.totals.errors == 0 { Exit::Ok } else { Exit::Failure }
}

/// The whole report of the instances that these arguments mean, for the bundle.
///
/// # Errors
/// When the scope is refused.
pub fn report(args: &Doctor) -> anyhow::Result<Report> {
    Ok(examine(&patients(args)?))
}

/// The instances that are meant: the one that was named, all that are installed, or the one that `run` would be.
///
/// # Errors
/// When the scope is refused.
pub(super) fn subjects(args: &Doctor) -> anyhow::Result<Vec<(Target, Subject)>> {
    Ok(patients(args)?.into_iter().map(|p| (p.target, p.subject)).collect())
}

fn patients(args: &Doctor) -> anyhow::Result<Vec<Patient>> {
    let named = args.scope.user || args.scope.system;
    let scopes: Vec<ScopeArgs> = if named {
        vec![args.scope.clone()]
    } else {
        // The one that is this user's usual one first.
        let system = ScopeArgs { user: false, system: true };
        let user = ScopeArgs { user: true, system: false };
        if is_root() { vec![system, user] } else { vec![user, system] }
    };
    let target = |scope: &ScopeArgs, port| Target { scope: scope.clone(), port, timeout: PROOF, json: false };
    let mut found = Vec::new();
    let mut looks: Vec<(ScopeArgs, Look<Vec<u16>>)> = Vec::new();
    for scope in &scopes {
        // Refused only where it was asked for.
        let context = match Context::new(&target(scope, args.port.unwrap_or(DEFAULT_PORT)), "doctor") {
            Ok(context) => context,
            Err(error) if named => return Err(error),
            Err(_) => continue,
        };
        let (whom, only) = (target(scope, context.port), args.port);
        looks.push((scope.clone(), look::begin(FIND, move || installed(&whom, only))));
    }
    for (scope, look) in looks {
        for port in look.end().unwrap_or_default() {
            found.push(target(&scope, port));
        }
    }
    if found.is_empty()
        && let Some(scope) = scopes.first()
    {
        found.push(target(scope, args.port.unwrap_or(DEFAULT_PORT)));
    }
    found.into_iter().map(|target| Ok(Patient { subject: subject(&target)?, target })).collect()
}

/// The ports of a scope that have an instance, or the one that is asked about if it has.
fn installed(target: &Target, only: Option<u16>) -> Vec<u16> {
    let Ok(context) = Context::new(target, "doctor") else { return Vec::new() };
    let ports = list::ports(&context).0;
    let is_there = |port: &u16| {
        let job = context.manager.job(&context.paths.service_name(*port)).ok();
        context.paths.receipt(*port).exists()
            || context.paths.is_installed(*port)
            || job.is_some_and(|j| j.loaded && (j.enabled == "enabled" || j.phase != Phase::Stopped))
    };
    ports.into_iter().filter(|p| only.is_none_or(|o| o == *p)).filter(is_there).collect()
}

fn subject(target: &Target) -> anyhow::Result<Subject> {
    let context = Context::new(target, "doctor")?;
    let Context { port, scope, paths, user, .. } = context;
    Ok(Subject { port, scope, paths, user, is_root: is_root() })
}

/// All at once: the slowest look is how long it takes.
fn examine(patients: &[Patient]) -> Report {
    let user = doctor::begin_of_user();
    let instances = std::thread::scope(|scope| {
        let each = |patient: &Patient| {
            let (subject, target) = (patient.subject.clone(), patient.target.clone());
            scope.spawn(move || {
                let gather = move || match Context::new(&target, "doctor") {
                    Ok(context) => status::facts(&context),
                    Err(error) => service::report::Facts {
                        manager_error: Some(error.to_string()),
                        ..service::report::Facts::default()
                    },
                };
                let checks = doctor::examine(&subject, gather);
                Instance { port: subject.port, scope: subject.scope, checks }
            })
        };
        let all: Vec<_> = patients.iter().map(each).collect();
        all.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    Report::new(instances, doctor::hooks::judge(&user.end()))
}

/// What `--fix` would do, step by step.
fn announce(patients: &[Patient], plans: &[Vec<Repair>]) -> String {
    if plans.iter().all(Vec::is_empty) {
        return "nothing to repair without harm\n".to_owned();
    }
    let mut text = String::new();
    for (patient, plan) in patients.iter().zip(plans) {
        for repair in plan {
            let codes: Vec<&str> = repair.codes.iter().map(|c| c.text()).collect();
            let Subject { port, scope, .. } = patient.subject;
            text.push_str(&format!("would {} (port {port}, {scope}; {})\n", repair.fix, codes.join(", ")));
            if repair.fix == Fix::Install {
                let steps = install_args(patient, true).and_then(|args| install::perform(&args));
                match steps {
                    Ok((_, install::Done::Planned(plan))) => {
                        plan.actions.iter().for_each(|a| text.push_str(&format!("  would {a}\n")));
                    }
                    Ok(_) => {}
                    Err(error) => text.push_str(&format!("  which will not do: {error}\n")),
                }
            }
        }
    }
    text
}

/// Asks on the terminal.
fn agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(failed(Exit::Refused, "nobody can be asked here; add --yes to repair without asking"));
    }
    out::print("Do this? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn carry_out(patient: &Patient, repair: &Repair) -> anyhow::Result<()> {
    if let Some(done) = fix::apply_to_file(&repair.fix) {
        return Ok(done?);
    }
    match &repair.fix {
        Fix::EnableLinger { user } => apply::set_linger(user, true)
            .map_err(|e| failed(Exit::NoPermission, format!("{e}; `sudo loginctl enable-linger {user}`")))?,
        Fix::Install => {
            let args = install_args(patient, false)?;
            runs(patient, args.program.as_deref())?;
            drop(install::perform(&args)?);
        }
        Fix::Restart => {
            runs(patient, None)?;
            drop(restart::perform(&patient.target)?);
        }
        Fix::RemoveFile { .. } | Fix::RemoveLock { .. } | Fix::Tighten { .. } => {}
    }
    Ok(())
}

/// Whether the installed file is a program that runs: what serves now is not given up for one that does not.
fn runs(patient: &Patient, program: Option<&Path>) -> anyhow::Result<()> {
    let of_unit = || program::of_instance(&patient.subject.paths, patient.subject.port);
    let Some(path) = program.map(Path::to_owned).or_else(of_unit) else { return Ok(()) };
    program::say_version(&path).map(drop).map_err(|why| {
        let next = "put a good one there (`mpm-monitor upgrade --rollback`, or your package manager) and repeat";
        failed(Exit::Refused, format!("{} {why}, so what runs now is not restarted; {next}", path.display()))
    })
}

/// `install` as it was typed the first time: same program, same socket and environment; what does not run is not started.
fn install_args(patient: &Patient, dry_run: bool) -> anyhow::Result<Install> {
    let (context, subject) = (Context::new(&patient.target, "doctor")?, &patient.subject);
    let job = context.manager.job(&subject.unit()).ok();
    let stays_down = job.is_some_and(|j| j.phase == Phase::Stopped && subject.paths.kind == Kind::Systemd);
    let receipt = Receipt::read(&subject.paths.receipt(subject.port)).ok().flatten();
    let program = receipt.map(|r| r.program).filter(|p| p.is_file() && program::here(p).is_none());
    Ok(Install {
        target: patient.target.clone(),
        socket: None,
        linger: Linger::No,
        no_start: stays_down,
        dry_run,
        env: Vec::new(),
        program,
        label: None,
    })
}

fn outcome(done: &[Done]) -> String {
    done.iter().fold(String::new(), |text, d| {
        let codes: Vec<&str> = d.codes.iter().map(|c| c.text()).collect();
        let (codes, fix) = (codes.join(", "), &d.fix);
        text + &match (&d.error, d.repaired) {
            (None, true) => format!("done: {fix}; {codes}: verified\n"),
            (None, false) => format!("done: {fix}; but {codes} still fails\n"),
            (Some(error), _) => format!("not done: {fix}: {error}\n"),
        }
    })
}
