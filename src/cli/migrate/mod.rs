//! `migrate`: from Claude MPM's own monitor daemon to this program, and back with `--undo`.

mod act;
mod undo;

use service::managers;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::args::{ScopeArgs, Target};
use super::failed;
use super::service::{is_root, paths, print_json, print_text, scope};
use crate::migrate::find::{self, Found};
use crate::migrate::plan::{self, Plan};
use daemon::exit::Exit;
use service::Scope;
use service::paths::Paths;

/// `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Whose manager.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only this port; without it, every daemon of Claude MPM that is found
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// A project in which to look for PID files, beside this directory, those above it, and the home (repeatable)
    #[arg(long, value_name = "DIR")]
    pub dir: Vec<PathBuf>,
    /// Kill a daemon that does not end when it is asked to
    #[arg(long)]
    pub force: bool,
    /// Bring back what the migration replaced
    #[arg(long, conflicts_with_all = ["dir", "force"])]
    pub undo: bool,
    /// Show what was found and what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the end of a daemon that was asked to; it takes 10 to 18 seconds
    #[arg(long, default_value = "40s", value_parser = super::args::duration, value_name = "DURATION")]
    pub stop_timeout: Duration,
    /// How long to wait for the proof that ours is ready
    #[arg(long, default_value = "15s", value_parser = super::args::duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// One migration: what was typed, and where ours goes.
struct Context<'a> {
    args: &'a Migrate,
    scope: Scope,
    paths: Paths,
}

impl Context<'_> {
    /// Ours on a port.
    fn target(&self, port: u16) -> Target {
        let scope = ScopeArgs { user: self.scope == Scope::User, system: self.scope == Scope::System };
        Target { scope, port, timeout: self.args.timeout, json: true }
    }
}

/// Does it.
///
/// # Errors
/// [`Exit::PortTaken`] where a stranger has the port; [`Exit::Failure`] where the daemon does not end; that of the install that
/// failed, after which the daemon was started again.
pub fn run(args: &Migrate) -> anyhow::Result<Exit> {
    let scope = scope(&args.scope, "migrate")?;
    if scope == Scope::System && !is_root() && !args.dry_run {
        return Err(failed(Exit::NoPermission, "--system needs root: `sudo mpm-monitor migrate --system`"));
    }
    let context = Context { args, scope, paths: paths(scope)? };
    if args.undo {
        return undo::run(&context);
    }
    // Nobody is stopped for a successor that nothing could start.
    managers::of(&context.paths).usable().map_err(|e| failed(Exit::NoManager, format!("{e}; nothing was changed")))?;
    let found = find::search(args.port, &directories(args));
    let plan = plan::plan(&found);
    if args.dry_run {
        return show(&context, &found, &plan);
    }
    if !plan.blocked.is_empty() {
        let notes: String = plan.notes.iter().map(|n| format!("\nnote: {n}")).collect();
        let text = format!("nothing was changed: {}{notes}", plan.blocked.join("\n"));
        return Err(failed(Exit::PortTaken, text));
    }
    act::run(&context, &found, &plan)
}

fn directories(args: &Migrate) -> Vec<PathBuf> {
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    args.dir.iter().cloned().chain(std::env::current_dir().ok()).chain(home).collect()
}

/// What would be done, one sentence each.
fn steps(plan: &Plan, scope: Scope) -> Vec<String> {
    let daemons = plan.daemons.iter().map(|d| {
        format!("stop Claude MPM's daemon on port {}: pid {}, `{}`", d.port, d.process.pid, plan::shown(&d.process))
    });
    let stale = plan.stale.iter().map(|(file, why)| format!("remove {}: {why}", file.path.display()));
    let installs = plan.installs.iter().map(|(port, projects)| {
        let known: Vec<String> = projects.iter().map(|p| p.display().to_string()).collect();
        let where_ = match known.is_empty() || scope == Scope::System {
            true => String::new(),
            false => format!(", with its PID file in {}", known.join(", ")),
        };
        format!("install mpm-monitor on port {port} with the {scope} manager{where_}")
    });
    daemons.chain(stale).chain(installs).collect()
}

fn nothing(found: &Found) -> String {
    let all: Vec<String> = found.searched.iter().map(|d| d.display().to_string()).collect();
    format!(
        "there is no daemon of Claude MPM to migrate from (looked for PID files in {}, and at who serves the ports); \
         `mpm-monitor install` needs none, `--dir PROJECT` looks in one more place",
        all.join(", ")
    )
}

fn show(context: &Context<'_>, found: &Found, plan: &Plan) -> anyhow::Result<Exit> {
    let steps = steps(plan, context.scope);
    let exit = if plan.blocked.is_empty() { Exit::Ok } else { Exit::PortTaken };
    if context.args.json {
        let mut told = told("plan", &[], plan);
        told["actions"] = json!(steps);
        told["blocked"] = json!(plan.blocked);
        print_json(&told)?;
        return Ok(exit);
    }
    let mut text: String = plan.blocked.iter().map(|b| format!("in the way: {b}\n")).collect();
    if steps.is_empty() && plan.blocked.is_empty() {
        text.push_str(&format!("{}\n", nothing(found)));
    }
    steps.iter().for_each(|step| text.push_str(&format!("would {step}\n")));
    plan.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    print_text(&text)?;
    Ok(exit)
}

fn told(result: &str, done: &[Value], plan: &Plan) -> Value {
    let daemons: Vec<Value> = plan
        .daemons
        .iter()
        .map(|d| json!({"port": d.port, "pid": d.process.pid, "host": d.host, "projects": d.projects, "command": d.process.words}))
        .collect();
    let stale: Vec<Value> = plan.stale.iter().map(|(f, why)| json!({"path": f.path, "reason": why})).collect();
    json!({
        "schema_version": 1, "result": result, "daemons": daemons, "removed": stale, "instances": done, "notes": plan.notes,
    })
}
