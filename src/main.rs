//! Parses the command line, dispatches, maps the error to an exit code; nothing else.
use clap::Parser;

fn main() {
    let _ = mpm_monitor::cli::args::Cli::parse();
}
