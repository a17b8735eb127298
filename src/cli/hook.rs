//! `hook`: what Claude Code runs at every step of an agent. See [`crate::hooks::run`].

use std::time::Instant;

use clap::Args;

use crate::hooks::run::{self, Orders};
use daemon::exit::Exit;

/// `hook`. What is given is read by [`Orders::parse`], before anything that costs time; this is for the help.
#[derive(Debug, Args)]
pub struct Hook {
    /// How long it may take in all, from 20ms to 1m [default: 250ms; MPM_MONITOR_HOOK_DEADLINE]
    #[arg(long, value_name = "DURATION")]
    pub deadline: Option<String>,
    /// The monitor's host [default: this machine]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The monitor's port [default: that of the settings, else of the instance that runs]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The monitor's Unix socket, in place of host and port
    #[arg(long, value_name = "PATH")]
    pub unix_socket: Option<std::path::PathBuf>,
    /// A file with the monitor's token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<std::path::PathBuf>,
    /// Say on standard error what was done
    #[arg(long)]
    pub verbose: bool,
}

/// Whether this command line is a hook's, and if so does what it asks: the way without the parser of all verbs, which would
/// take longer than the work. Help is asked for by a person, who has time.
pub fn is_hook(began: Instant) -> bool {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|verb| verb != "hook") {
        return false;
    }
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h" | "--version" | "-V")) {
        return false;
    }
    run::run(Orders::parse(words), began);
    true
}

/// As [`is_hook`], for whoever comes through the parser.
///
/// # Errors
/// None.
pub fn run(args: &Hook) -> anyhow::Result<Exit> {
    let words = [
        ("--deadline", args.deadline.clone()),
        ("--host", args.host.clone()),
        ("--port", args.port.map(|p| p.to_string())),
        ("--unix-socket", args.unix_socket.as_ref().map(|p| p.display().to_string())),
        ("--token-file", args.token_file.as_ref().map(|p| p.display().to_string())),
    ];
    let words = words.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten();
    let mut orders = Orders::parse(words);
    orders.verbose = args.verbose;
    run::run(orders, Instant::now());
    Ok(Exit::Ok)
}
