//! `hooks`: puts our hook into Claude Code's settings, takes it out again, tells how it is.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::failed;
use super::service::{print_json, print_text};
use crate::hooks::claude::change::{ChangeError, Plan, Wish};
use crate::hooks::claude::file::{FileError, Settings};
use crate::hooks::claude::settings;
use crate::hooks::place::{Machine, Said};
use crate::hooks::status::{self, Files};
use daemon::exit::Exit;
use daemon::out;
use service::Scope;
use service::program;

/// `hooks`.
#[derive(Debug, Args)]
pub struct Hooks {
    /// What to do.
    #[command(subcommand)]
    pub verb: HooksVerb,
}

/// `hooks ...`.
#[derive(Debug, Subcommand)]
pub enum HooksVerb {
    /// Put `mpm-monitor hook` into Claude Code's settings, after showing the change
    #[command(
        after_help = "Example:\n  mpm-monitor hooks install --dry-run          # show the change, write nothing\n  mpm-monitor hooks install                    # for all projects of this user\n  mpm-monitor hooks install --project . --local   # for this project, not shared with others"
    )]
    Install(Install),
    /// Take it out again; the file is as it was if nobody else changed it since
    #[command(after_help = "Example:\n  mpm-monitor hooks uninstall --dry-run")]
    Uninstall(Uninstall),
    /// Tell where it stands, whether it works, and who else posts the same events
    #[command(after_help = "Example:\n  mpm-monitor hooks status --json\n\nExit codes: 0 installed, 6 not installed")]
    Status(Status),
}

/// Which settings file.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// The user's own, for all projects (default)
    #[arg(long, conflicts_with = "project")]
    pub user: bool,
    /// Those of the project in this folder: DIR/.claude/settings.json, which others of the project may share
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// With --project: DIR/.claude/settings.local.json, which is this user's alone
    #[arg(long, requires = "project")]
    pub local: bool,
}

/// `hooks install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The file.
    #[command(flatten)]
    pub place: Where,
    /// Show the change and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The program that hooks run, if not this one
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// Words after `mpm-monitor hook`, such as --hook-args='--port 8770'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub hook_args: Option<String>,
}

/// `hooks uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The file.
    #[command(flatten)]
    pub place: Where,
    /// Show the change and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `hooks status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The project whose settings hold beside the user's [default: this folder]
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Does it.
///
/// # Errors
/// When settings cannot be read, understood or changed.
pub fn run(args: &Hooks) -> anyhow::Result<Exit> {
    match &args.verb {
        HooksVerb::Install(args) => install(args),
        HooksVerb::Uninstall(args) => uninstall(args),
        HooksVerb::Status(args) => status(args),
    }
}

fn file_of(place: &Where, machine: &Machine) -> anyhow::Result<PathBuf> {
    match (&place.project, place.local) {
        (Some(dir), local) => {
            let dir = std::path::absolute(dir).with_context(|| format!("cannot tell where {} is", dir.display()))?;
            if !dir.is_dir() {
                return Err(failed(Exit::Usage, format!("there is no folder {}", dir.display())));
            }
            Ok(dir.join(".claude").join(if local { "settings.local.json" } else { "settings.json" }))
        }
        (None, _) => {
            let dir = status::user_dir(machine).context("this user has no home; name a project with --project DIR")?;
            Ok(dir.join("settings.json"))
        }
    }
}

fn receipts(machine: &Machine) -> anyhow::Result<PathBuf> {
    let user = machine.user.as_ref().context("this user has no home to keep a copy of the settings in")?;
    let set = machine.variables.iter().find(|(n, v)| n == "MPM_MONITOR_STATE_DIR" && !v.is_empty());
    Ok(set.map_or_else(|| user.state.clone(), |(_, dir)| PathBuf::from(dir)).join("hooks"))
}

fn install(args: &Install) -> anyhow::Result<Exit> {
    let machine = Machine::this();
    let program = match &args.program {
        // Whoever names one means it.
        Some(path) => {
            let path = std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))?;
            if let Some(why) = program::transient(&path) {
                out::tell(&format!("note: {} {why}; hooks end with an error then", path.display()));
            }
            path
        }
        None => program::choose(None, Scope::User).map_err(|e| failed(Exit::Refused, e.to_string()))?,
    };
    let mut command = format!("{} hook", settings::quoted(&program.to_string_lossy()));
    if let Some(words) = &args.hook_args {
        command.push_str(&format!(" {words}"));
    }
    change(&args.place, &machine, &Wish::In(command), args.dry_run, args.json)
}

fn uninstall(args: &Uninstall) -> anyhow::Result<Exit> {
    change(&args.place, &Machine::this(), &Wish::Out, args.dry_run, args.json)
}

fn change(place: &Where, machine: &Machine, wish: &Wish, dry_run: bool, json: bool) -> anyhow::Result<Exit> {
    let (path, receipts) = (file_of(place, machine)?, receipts(machine)?);
    let told = |error: ChangeError| {
        let exit = match &error {
            ChangeError::Settings { .. }
            | ChangeError::File(FileError::ReadOnly { .. } | FileError::NotAFile { .. }) => Exit::Refused,
            ChangeError::File(FileError::Changed { .. }) => Exit::Failure,
            ChangeError::File(_) | ChangeError::Backup { .. } => Exit::CantCreate,
        };
        failed(exit, error.to_string())
    };
    let read = if place.project.is_some() { Settings::read_in_project } else { Settings::read };
    let plan = read(&path).map_err(ChangeError::from).and_then(|settings| Plan::new(settings, wish, &receipts));
    let plan = plan.map_err(told)?;
    let (file, diff) = (plan.file().to_owned(), plan.diff());
    let what = match (plan.changes(), dry_run, wish) {
        (false, _, Wish::In(_)) => "is there already",
        (false, _, Wish::Out) => "is not there",
        (true, true, _) => "nothing was written",
        (true, false, Wish::In(_)) => "installed",
        (true, false, Wish::Out) => "removed",
    };
    if !json && plan.changes() {
        print_text(&diff)?;
    }
    let copy = if plan.changes() && !dry_run { plan.apply(&receipts).map_err(told)? } else { None };
    if json {
        print_json(&serde_json::json!({
            "schema_version": 1, "result": what, "file": file, "changed": plan.changes() && !dry_run, "diff": diff, "copy": copy,
        }))?;
        return Ok(Exit::Ok);
    }
    let name = file.display();
    let text = Settings::read(&file).ok().and_then(|s| s.text).unwrap_or_default();
    if matches!(wish, Wish::In(_)) && settings::disables_all(&text) {
        daemon::out::tell(&format!("note: {name} has disableAllHooks: true, so Claude Code runs no hook; take it out"));
    }
    print_text(&match what {
        "is there already" => format!("our hook is in {name} already; nothing to do\n"),
        "is not there" => format!("our hook is not in {name}; nothing to do\n"),
        "installed" => {
            let copy = copy.map(|c| format!("\nthe file as it was: {}", c.display())).unwrap_or_default();
            format!("\nour hook is in {name}, for sessions that begin from now on{copy}\n")
        }
        "removed" => format!("\nour hook is no longer in {name}\n"),
        _ => format!("\nnothing was written; without --dry-run this change is made in {name}\n"),
    })?;
    Ok(Exit::Ok)
}

fn status(args: &Status) -> anyhow::Result<Exit> {
    let machine = Machine::this();
    let project = args.project.clone().map_or_else(std::env::current_dir, std::path::absolute).ok();
    let files = Files::of(&machine, project.as_deref());
    let report = status::observe(&files, &machine, &Said::default(), true);
    if args.json {
        print_json(&report)?;
    } else {
        print_text(&report.human())?;
    }
    Ok(if report.installed { Exit::Ok } else { Exit::NotInstalled })
}
