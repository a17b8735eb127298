//! `config show` and `config check`: the settings a `run` with the same flags would have. Nothing is bound or written.

use super::args::{ConfigArgs, ConfigVerb, Run};
use super::failed;
use crate::config::example::example;
use crate::config::{self, Directories, Provenance, Settings};
use crate::server::dashboard;
use daemon::exit::Exit;
use daemon::out;

/// Shows or checks.
///
/// # Errors
/// Every problem of the configuration, with [`Exit::Config`].
pub fn run(args: &ConfigArgs) -> anyhow::Result<Exit> {
    match &args.verb {
        ConfigVerb::Show { origin, json, run } => {
            let (_, provenance) = settle(run)?;
            let text = if *json { format!("{:#}\n", provenance.to_json()) } else { provenance.to_toml(*origin) };
            out::print(&text)?;
        }
        ConfigVerb::Example => out::print(&example())?,
        ConfigVerb::Check { run } => {
            let (settings, _) = settle(run)?;
            dashboard::resolve(&settings.dashboard, &dashboard::Machine::this())
                .map_err(|e| failed(Exit::Config, e.to_string()))?;
            out::print("the configuration is good\n")?;
        }
    }
    Ok(Exit::Ok)
}

fn settle(run: &Run) -> anyhow::Result<(Settings, Provenance)> {
    let variables = config::variables();
    for name in config::layers::unknown_variables(&variables) {
        out::tell(&format!("mpm-monitor: warning: {name} names no setting of this version; it is ignored"));
    }
    match config::load(run, &variables, &Directories::of_this_user()) {
        Ok((settings, provenance)) => Ok((settings, provenance)),
        Err(problems) => Err(failed(Exit::Config, super::problems(&problems))),
    }
}
