//! The command line: one file per verb. Here alone errors are `anyhow`.

pub mod args;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod emit;
pub mod events;
pub mod homebrew;
pub mod hook;
pub mod hooks;
pub mod install;
pub mod list;
pub mod logs;
pub mod man;
pub mod migrate;
pub mod progress;
pub mod reload;
pub mod report;
pub mod restart;
pub mod run;
pub mod service;
pub mod start;
pub mod status;
pub mod stop;
pub mod uninstall;
pub mod upgrade;

use std::borrow::Cow;

use args::{Cli, Verb};
use daemon::exit::{Exit, Failed};
use daemon::out;

/// An error that ends the program with `exit` and prints `message`.
pub fn failed(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failed { exit, message: message.into() })
}

/// Prints what the parser of the command line has to say: help and versions with their colours, and so an error, unless what
/// was typed or set would steer the terminal.
pub fn usage(message: &clap::Error) {
    let text = message.render().to_string();
    // Nobody is left to be told that it cannot be written.
    let _ = match out::escaped(&text) {
        Cow::Borrowed(_) => message.print(),
        Cow::Owned(safe) if message.use_stderr() => {
            out::tell(safe.trim_end());
            Ok(())
        }
        Cow::Owned(safe) => out::print(&safe),
    };
}

/// Does what the command line asks.
///
/// # Errors
/// Whatever went wrong; [`complain`] prints it and knows its exit code.
pub fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.verb {
        Verb::Install(args) => install::run(&args),
        Verb::Uninstall(args) => uninstall::run(&args),
        Verb::Start(args) => start::run(&args),
        Verb::Stop(args) => stop::run(&args),
        Verb::Restart(args) => restart::run(&args),
        Verb::Upgrade(args) => upgrade::run(&args),
        Verb::Migrate(args) => migrate::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Report(args) => report::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Run(args) => run::run(*args),
        Verb::Emit(args) => emit::run(&args),
        Verb::Events(args) => events::run(&args),
        Verb::Hook(args) => hook::run(&args),
        Verb::Hooks(args) => hooks::run(&args),
        Verb::Completions { shell } => completions::run(shell),
        Verb::Man { dir } => man::run(dir.as_deref()),
    }
}

/// An error with its causes.
fn with_causes(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

/// Prints an error with its causes, and gives its exit code.
pub fn complain(error: &anyhow::Error) -> Exit {
    out::tell(&format!("mpm-monitor: {}", with_causes(error)));
    error.chain().find_map(|e| e.downcast_ref::<Failed>()).map_or(Exit::Failure, |failed| failed.exit)
}

/// All problems of a configuration, one a line.
pub fn problems(problems: &[crate::config::layers::Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|p| format!("  {p}")).collect();
    let errors = if lines.len() == 1 { "error" } else { "errors" };
    format!("the configuration has {} {errors}:\n{}", lines.len(), lines.join("\n"))
}
