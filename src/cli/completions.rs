//! `completions`: the completion script of a shell, from the one definition of the command line.

use clap::CommandFactory;

use super::args::Cli;
use daemon::exit::Exit;

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mpm-monitor", &mut script);
    daemon::out::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
