//! Takes a migration back: ours away, the files as they were, the old daemon up again.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Context;
use super::act::{exit_of, until, whole};
use crate::build::PROGRAM;
use crate::cli::args::Uninstall;
use crate::cli::failed;
use crate::cli::service::{print_json, print_text};
use crate::cli::{stop, uninstall};
use crate::config;
use crate::migrate::plan::shown;
use crate::migrate::process::Process;
use crate::migrate::record::Record;
use daemon::exit::Exit;
use daemon::probe;
use service::exec::{self, Surroundings};
use service::files;
use service::health::LOOK;
use service::receipt::Receipt;

/// What Claude MPM may take to start its daemon; it looks for updates of agents and skills first.
const START: Duration = Duration::from_secs(150);
/// What its answer may take after that.
const ANSWER: Duration = Duration::from_secs(60);

/// `--undo`.
///
/// # Errors
/// [`Exit::NotInstalled`] where nothing was migrated; [`Exit::Failure`] where the old daemon does not come back.
pub fn run(context: &Context<'_>) -> anyhow::Result<Exit> {
    let args = context.args;
    let mut records = Record::all(&context.paths.state)?;
    records.retain(|r| r.scope == context.scope && args.port.is_none_or(|port| port == r.port));
    if records.is_empty() {
        let text = format!("there is no migration of the {} manager to undo", context.scope);
        return Err(failed(Exit::NotInstalled, text));
    }
    let mut done = Vec::new();
    for record in &records {
        let steps = steps(record);
        if args.dry_run {
            if !args.json {
                print_text(&steps.iter().map(|s| format!("would {s}\n")).collect::<String>())?;
            }
            done.push(json!({"port": record.port, "actions": steps}));
            continue;
        }
        runnable(record)?;
        if Receipt::read(&context.paths.receipt(record.port))?.is_some() {
            let target = context.target(record.port);
            if record.installed {
                drop(uninstall::perform(&Uninstall { target, purge: false, dry_run: false }).map_err(|e| whole(&e))?);
            } else {
                drop(stop::perform(&target).map_err(|e| whole(&e))?);
            }
        }
        let pid = back(record)?;
        record.remove(&context.paths.state)?;
        done.push(json!({"port": record.port, "pid": pid}));
        if !args.json {
            let with = pid.map_or(String::new(), |pid| format!(": Claude MPM's daemon serves it again (pid {pid})"));
            print_text(&format!("port {} is as it was{with}\n", record.port))?;
        }
    }
    if args.json {
        let result = if args.dry_run { "plan" } else { "undone" };
        print_json(&json!({"schema_version": 1, "result": result, "instances": done}))?;
    }
    Ok(Exit::Ok)
}

fn steps(record: &Record) -> Vec<String> {
    let mut steps = Vec::new();
    let verb = if record.installed { "uninstall" } else { "stop" };
    steps.push(format!("{verb} mpm-monitor on port {}", record.port));
    steps.extend(record.removed.iter().map(|r| format!("write {} again", r.path.display())));
    steps.extend(record.daemon.as_ref().map(|d| format!("start Claude MPM's daemon again: `{}`", shown(d))));
    steps
}

/// Fails where the old daemon's program is gone, before anything else is.
fn runnable(record: &Record) -> anyhow::Result<()> {
    let Some(process) = &record.daemon else { return Ok(()) };
    let program = process.words.first().map_or("", String::as_str);
    if Path::new(program).is_absolute() && !Path::new(program).exists() {
        let text = format!("{program}, which ran the old daemon, is gone; nothing was changed");
        return Err(failed(Exit::Failure, text));
    }
    Ok(())
}

/// Brings the files and the daemon back; its pid, if there was one.
fn back(record: &Record) -> anyhow::Result<Option<u32>> {
    for removed in record.removed.iter().filter(|r| !r.path.exists()) {
        files::write(&removed.path, &removed.content, 0o644)?;
    }
    let Some(process) = &record.daemon else { return Ok(None) };
    start(process, record.port).map(Some)
}

/// Starts the daemon as it was started: its own command puts it into the background and ends.
fn start(process: &Process, port: u16) -> anyhow::Result<u32> {
    let words = again(&process.words);
    let (program, arguments) =
        words.split_first().ok_or_else(|| failed(Exit::Failure, "its command line is unknown"))?;
    let mut environment = config::variables();
    // Set, it says to the command that it is the daemon itself already.
    environment.retain(|(n, _)| n != "CLAUDE_MPM_SUBPROCESS_DAEMON" && !process.variables.iter().any(|(o, _)| o == n));
    environment.extend(process.variables.iter().cloned());
    let surroundings =
        Surroundings { environment: Some(environment), directory: process.cwd.clone(), ..Surroundings::default() };
    let path = if program.contains('/') { Path::new(program).to_owned() } else { exec::find(program)? };
    let output = exec::program_in(&surroundings, &path, arguments, START)?;
    let mut pid = None;
    let answers = until(ANSWER, || {
        let health =
            probe::health_blocking(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &PROGRAM, LOOK).ok();
        pid = health.filter(|h| h.instance_id.is_none()).map(|h| h.pid);
        pid.is_some() || output.code != Some(0)
    });
    match pid.filter(|_| answers) {
        Some(pid) => Ok(pid),
        None => {
            let said: Vec<&str> = output.stdout.lines().chain(output.stderr.lines()).rev().take(5).collect();
            let text = format!(
                "`{}` did not bring Claude MPM's daemon back on port {port}: {}",
                output.command,
                said.into_iter().rev().collect::<Vec<_>>().join(" / ").replace(char::is_control, " ")
            );
            Err(failed(Exit::Failure, text))
        }
    }
}

/// The words that start it in the background, as a daemon.
fn again(words: &[String]) -> Vec<String> {
    let mut words: Vec<String> = words.iter().filter(|w| *w != "--foreground").cloned().collect();
    let is_script = words.iter().take(2).any(|w| w.ends_with("claude-mpm-monitor"));
    if is_script && !words.iter().any(|w| w == "--background") {
        words.push("--background".to_owned());
    }
    words
}

/// What happened, and what became of the old daemon, when ours could not take its place.
pub fn after_failure(
    context: &Context<'_>,
    record: &Record,
    earlier: Option<&Record>,
    error: &anyhow::Error,
) -> anyhow::Error {
    let exit = exit_of(error);
    let text = match back(record) {
        Ok(Some(pid)) => format!("{error}\nClaude MPM's daemon was started again (pid {pid})"),
        Ok(None) => error.to_string(),
        Err(e) => return failed(exit, format!("{error}\n{e}; `mpm-monitor migrate --undo` tries again")),
    };
    // What an earlier migration did is still to be undone.
    let kept = match earlier {
        Some(earlier) => earlier.write(&context.paths.state),
        None => record.remove(&context.paths.state),
    };
    match kept {
        Ok(()) => failed(exit, text),
        Err(e) => failed(exit, format!("{text}\n{e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_in_the_background() {
        let read = |line: &str| again(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).join(" ");
        let daemon = "/v/python -m claude_mpm.cli monitor start --background --port 8765";
        assert_eq!(read(daemon), daemon);
        assert_eq!(read("/v/python /v/claude-mpm monitor start --foreground"), "/v/python /v/claude-mpm monitor start");
        assert_eq!(read("/v/claude-mpm-monitor --no-browser"), "/v/claude-mpm-monitor --no-browser --background");
    }
}
