//! The settings that the command line of `run` takes.

use std::path::PathBuf;

use clap::Args;

/// `run`.
#[derive(Debug, Default, Args)]
pub struct Run {
    /// Read this file in place of the user's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The port, or `auto` for the first free one of 8765 to 8785
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// An address to listen on (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Vec<String>,
    /// Where the events are kept
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Serve an installed Claude MPM's dashboard at `/`: its folder, or `auto` to search for it
    #[arg(long, value_name = "DIR|auto")]
    pub dashboard_dir: Option<PathBuf>,
    /// Let pages of that dashboard load themselves again when it changes: `auto` (where its folder is named), `on`, `off`
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub watch: Option<String>,
    /// Accept an event only once it is on the disk, not merely in the kernel
    #[arg(long)]
    pub durable: bool,
    /// Share events with other monitors through this Redis or Valkey: redis://[user:password@]host[:port][/db]
    #[arg(long, value_name = "URL")]
    pub bus: Option<String>,
    /// A web origin, beyond this machine's own, whose pages may connect and post (repeatable)
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Which log lines: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Their shape: auto, human, json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// End the process when it stalls, even without a service manager that would
    #[arg(long)]
    pub watchdog_exit: bool,
    /// Any other setting (repeatable); `config show` lists them
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
