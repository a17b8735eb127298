//! `run`: serve in the foreground; what the service manager runs.

use std::path::PathBuf;

use super::args::Run;
use super::failed;
use crate::config::{self, Directories};
use crate::life::logging;
use crate::life::standby::Standby;
use crate::life::supervisor;
use daemon::exit::Exit;
use daemon::identity::Manager;
use daemon::out;
use daemon::sockets;

/// Serves until it is told to stop.
///
/// # Errors
/// When it cannot start; the error has the exit code that the manager acts on.
pub fn run(flags: Run) -> anyhow::Result<Exit> {
    daemon::sys::keep_large_blocks_apart();
    let variables = config::variables();
    let directories = Directories::of_this_user();
    let (settings, provenance) = match config::load(&flags, &variables, &directories) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let text = super::problems(&problems);
            // `systemctl status` shows this line where the exit code alone would only say CONFIG.
            daemon::notify::Notifier::from_environment().status(&text);
            if Manager::of_this_process() == Manager::Launchd {
                // It would try again for ever; what it caught of standard error says why it need not.
                out::tell(&format!("mpm-monitor: {text}\nNo restart cures this, so launchd is not asked for one."));
                if let Some(dir) = instance_dir(&flags, &variables, &directories) {
                    supervisor::note_refusal(&dir, &text, Exit::Config);
                }
                if let Ok(Some(passed)) = sockets::passed() {
                    Standby::new(&passed).serve(&supervisor::failure(text, Exit::Config));
                }
                return Ok(Exit::Ok);
            }
            return Err(failed(Exit::Config, text));
        }
    };
    let level = logging::start(&settings);
    for name in config::layers::unknown_variables(&variables) {
        tracing::warn!("{name} names no setting of this version; it is ignored");
    }
    let load = Box::new(move || config::load(&flags, &variables, &directories));
    match supervisor::live(supervisor::Start { settings, provenance, load, level }) {
        Ok(exit) => Ok(exit),
        Err(error) => {
            // Through the log, not past it: whoever reads JSON or the journal must find the reason there.
            tracing::error!(exit_code = error.exit().code(), "{error}");
            Ok(error.exit())
        }
    }
}

/// Where the state of the instance is that a job of launchd's is meant to be: its plist names port and directory, whatever is
/// wrong with the rest.
fn instance_dir(flags: &Run, variables: &[(String, String)], directories: &Directories) -> Option<PathBuf> {
    let port: u16 = flags.port.as_deref()?.parse().ok()?;
    let named = variables.iter().find(|(name, _)| name == "MPM_MONITOR_STATE_DIR").map(|(_, dir)| PathBuf::from(dir));
    let state = flags.state_dir.clone().or(named).unwrap_or_else(|| directories.state.clone());
    state.is_absolute().then(|| state.join(port.to_string()))
}
