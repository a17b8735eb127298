//! The command line: one definition from which parsing, `--help`, the man pages and the completions come.

use std::path::PathBuf;

pub use crate::config::flags::Run;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Gathers the events of coding-agent fleets and shows them live; run by systemd or launchd.
#[derive(Debug, Parser)]
#[command(name = "mpm-monitor", version, long_version = concat!(env!("CARGO_PKG_VERSION"), " (build ", env!("MPM_MONITOR_BUILD_ID"), ")"))]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
#[command(
    after_help = "Start here:\n  mpm-monitor install     register with systemd or launchd, start, prove it is ready\n  mpm-monitor status      how it is\n  mpm-monitor run         serve in the foreground, without a service manager"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Register with the service manager, start, and prove readiness
    #[command(
        after_help = "Example:\n  mpm-monitor install --port 8765\n  mpm-monitor install --dry-run        # show the plan, change nothing"
    )]
    Install(Install),
    /// Stop, and remove exactly what install made
    #[command(after_help = "Example:\n  mpm-monitor uninstall --purge        # the event history, too")]
    Uninstall(Uninstall),
    /// Start an installed instance and prove readiness
    #[command(after_help = "Example:\n  mpm-monitor start --port 8765")]
    Start(Target),
    /// Stop an installed instance and prove that it is gone
    #[command(after_help = "Example:\n  mpm-monitor stop")]
    Stop(Target),
    /// Restart an installed instance and prove that a new process is ready
    #[command(after_help = "Example:\n  mpm-monitor restart")]
    Restart(Target),
    /// Put a new program in place, restart what runs it, and go back if it does not become ready
    #[command(
        after_help = "Example:\n  mpm-monitor upgrade --from ./mpm-monitor --dry-run\n  mpm-monitor upgrade --from ./mpm-monitor\n  mpm-monitor upgrade --rollback         # back to the program of before"
    )]
    Upgrade(super::upgrade::Upgrade),
    /// Take over from Claude MPM's own monitor daemon: stop it politely, install, prove; --undo brings it back
    #[command(
        after_help = "Example:\n  cd ~/project && mpm-monitor migrate --dry-run\n  mpm-monitor migrate --dir ~/project --dir ~/other\n  mpm-monitor migrate --undo"
    )]
    Migrate(super::migrate::Migrate),
    /// Let a running instance read its configuration again
    #[command(after_help = "Example:\n  mpm-monitor reload")]
    Reload(Target),
    /// Tell how an instance is; the exit code tells it, too
    #[command(
        after_help = "Example:\n  mpm-monitor status --json\n\nExit codes: 0 running and ready, 3 not running, 4 unknown, 5 running but not ready"
    )]
    Status(Target),
    /// List all instances on this machine, of both scopes
    #[command(after_help = "Example:\n  mpm-monitor list")]
    List(List),
    /// Show the log of an instance
    #[command(after_help = "Example:\n  mpm-monitor logs -f\n  mpm-monitor logs -n 200 --since '1 hour ago'")]
    Logs(Logs),
    /// Check the plumbing: service manager, installation, process, port, resources, log, tools, hooks
    #[command(
        after_help = "Example:\n  mpm-monitor doctor\n  mpm-monitor doctor --json\n  mpm-monitor doctor --fix         # shows each repair, and asks first\n\nExit codes: 0 without an error (warnings and notes may be left), 1 with one"
    )]
    Doctor(super::doctor::Doctor),
    /// Pack what is needed to understand a failure into one file, without secrets and screens
    #[command(
        after_help = "Example:\n  mpm-monitor report\n  mpm-monitor report --output /var/tmp/monitor.tar.gz\n  mpm-monitor report --output - | tar tz"
    )]
    Report(super::report::ReportArgs),
    /// Show or check the settings
    #[command(after_help = "Example:\n  mpm-monitor config show --origin")]
    Config(ConfigArgs),
    /// Serve, in the foreground; this is what the service manager runs
    #[command(after_help = "Example:\n  mpm-monitor run\n  mpm-monitor run --port auto --log-format json")]
    Run(Box<Run>),
    /// Post one event
    #[command(
        after_help = "Example:\n  mpm-monitor emit build_finished --data '{\"ok\":true}' --session s-1\n\nExit codes: 0 stored, 3 no monitor, 4 no answer, 5 not now, 8 refused, 77 token wanted"
    )]
    Emit(super::emit::Emit),
    /// Show, search or export the events of a running monitor
    #[command(after_help = "Example:\n  mpm-monitor events tail -f\n  mpm-monitor events search cargo")]
    Events(super::events::Events),
    /// Read a Claude Code hook's input and post what it says; never delays or fails the agent
    #[command(
        after_help = "Example:\n  mpm-monitor hook --verbose        # and a hook's input on standard input\n\n`mpm-monitor hooks install` puts it into Claude Code's settings. It always ends with 0 and prints nothing on standard output."
    )]
    Hook(super::hook::Hook),
    /// Put that hook into Claude Code's settings, take it out, tell how it is
    #[command(after_help = "Example:\n  mpm-monitor hooks install --dry-run\n  mpm-monitor hooks status")]
    Hooks(super::hooks::Hooks),
    /// Print the completion script of a shell
    #[command(
        after_help = "Example:\n  mpm-monitor completions bash > ~/.local/share/bash-completion/completions/mpm-monitor"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages to a folder
    #[command(after_help = "Example:\n  mpm-monitor man | man -l -\n  mpm-monitor man --dir ~/.local/share/man")]
    Man {
        /// Write the pages of all verbs and of the settings into the folders `man1` and `man5` of this one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Whose service manager.
#[derive(Debug, Clone, Default, Args)]
pub struct ScopeArgs {
    /// The user's own manager (default, unless root)
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// The system's manager (default for root)
    #[arg(long)]
    pub system: bool,
}

/// Names one instance.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Whose manager.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The instance's port
    #[arg(long, default_value_t = crate::config::settings::DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// How long to wait for the proof
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub timeout: std::time::Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `install`.
#[derive(Debug, Clone, Args)]
pub struct Install {
    /// The instance.
    #[command(flatten)]
    pub target: Target,
    /// Let the manager hold the listening socket: connections during a restart wait instead of failing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_enum, value_name = "yes|no")]
    pub socket: Option<YesNo>,
    /// Whether the user's manager keeps running without a login
    #[arg(long, value_enum, default_value_t = Linger::Auto)]
    pub linger: Linger,
    /// Write and enable, but do not start
    #[arg(long)]
    pub no_start: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// An environment variable of the service; NAME alone removes it again (repeatable)
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The launchd job's label, if not mpm-monitor.PORT (macOS)
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// The program the service runs, if not this one
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
}

/// `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The instance.
    #[command(flatten)]
    pub target: Target,
    /// Remove the event history and the crash ledger, too
    #[arg(long)]
    pub purge: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Whether or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// So be it
    Yes,
    /// No longer
    No,
}

/// `install --linger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Linger {
    /// Enable it where that needs no further permission, else say what to type
    Auto,
    /// Enable it or fail
    Yes,
    /// Leave it as it is
    No,
}

impl From<Linger> for service::plan::Linger {
    fn from(typed: Linger) -> Self {
        match typed {
            Linger::Auto => Self::Auto,
            Linger::Yes => Self::Yes,
            Linger::No => Self::No,
        }
    }
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Whose manager.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The instance's port
    #[arg(long, default_value_t = crate::config::settings::DEFAULT_PORT)]
    pub port: u16,
    /// Follow: print new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, default_value_t = 50)]
    pub lines: usize,
    /// Only lines since then: RFC 3339, `2026-11-22 10:00`, or `10 min ago`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// `config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the settings in force, as TOML
    #[command(
        after_help = "Example:\n  mpm-monitor config show --origin\n  mpm-monitor config show --port 8766 --json"
    )]
    Show {
        /// Say of each value where it comes from
        #[arg(long)]
        origin: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// As if given to `run`.
        #[command(flatten)]
        run: Box<Run>,
    },
    /// Print a configuration file with every setting, its meaning and its default, all commented out
    #[command(after_help = "Example:\n  mpm-monitor config example > ~/.config/mpm-monitor/config.toml")]
    Example,
    /// List every error of the configuration; exit code 78 if there is one
    #[command(after_help = "Example:\n  mpm-monitor config check\n  mpm-monitor config check --config new.toml")]
    Check {
        /// As if given to `run`.
        #[command(flatten)]
        run: Box<Run>,
    },
}

/// `15s`, `2min`.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
