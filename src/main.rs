//! Parses the command line, dispatches, maps the error to an exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use mpm_monitor::cli;

fn main() -> ExitCode {
    let began = std::time::Instant::now();
    if cli::hook::is_hook(began) {
        return ExitCode::SUCCESS;
    }
    match cli::dispatch(cli::args::Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => cli::complain(&error).into(),
    }
}
