//! Parses the command line, dispatches, maps the error to an exit code; nothing else.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro, clippy::disallowed_methods)]

use std::process::ExitCode;

use clap::Parser;
use mpm_monitor::cli;

fn main() -> ExitCode {
    let began = std::time::Instant::now();
    if cli::hook::is_hook(began) {
        return ExitCode::SUCCESS;
    }
    let typed = match cli::args::Cli::try_parse() {
        Ok(typed) => typed,
        Err(message) => {
            cli::usage(&message);
            return if message.use_stderr() { daemon::exit::Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli::dispatch(typed) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = cli::complain(&error);
            service::interrupt::obey();
            exit.into()
        }
    }
}
