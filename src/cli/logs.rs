//! `logs`.

use std::io;
use std::ops::ControlFlow;

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::args::{Logs, Target};
use super::failed;
use super::service::Context;
use daemon::exit::Exit;
use daemon::out;
use service::journal::{self, Emptiness, since};
use service::logfile;

/// Shows the log of an instance.
///
/// # Errors
/// [`Exit::Usage`] for a `--since` that is none, [`Exit::NoPermission`] where the log may not be read, [`Exit::NotInstalled`] when there is neither unit nor log.
pub fn run(args: &Logs) -> anyhow::Result<Exit> {
    let target =
        Target { scope: args.scope.clone(), port: args.port, timeout: std::time::Duration::ZERO, json: args.json };
    let context = Context::new(&target, "logs")?;
    let now = Zoned::now();
    let since = args.since.as_deref().map(|text| since::parse(text, &now)).transpose();
    let since = since.map_err(|e| failed(Exit::Usage, e.to_string()))?;
    let mut count = 0_u64;
    let mut print = |line: String| {
        count += 1;
        match out::line(&(line + "\n")) {
            // The reader has seen enough (`| head`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(e) => Err(e),
            Ok(()) => Ok(ControlFlow::Continue(())),
        }
    };
    let files = logfile::Query::of(&context.paths, args.port, args.lines, since, args.follow);
    match &files {
        Some(query) => {
            logfile::read(query, &mut |line| print(if args.json { line.json() } else { line.human() }))?;
        }
        None => {
            let mut query = journal::Query::of(&context.paths, context.port, args.lines, since);
            query.follow = args.follow;
            let zone = TimeZone::system();
            journal::read(&query, &mut |entry| print(if args.json { entry.json() } else { entry.human(&zone) }))?;
        }
    }
    if count > 0 || args.lines == 0 {
        return Ok(Exit::Ok);
    }
    let installed = context.need_installed().is_ok();
    let (why, hidden) = match &files {
        Some(query) => (logfile::explain(query, installed), false),
        None => {
            let empty = Emptiness::look(installed, since.is_some());
            (empty.explain(context.scope, &context.user), empty.is_hidden(context.scope))
        }
    };
    if hidden {
        return Err(failed(Exit::NoPermission, format!("no log lines: {why}")));
    }
    out::tell(&format!("no log lines: {why}"));
    Ok(if installed || since.is_some() { Exit::Ok } else { Exit::NotInstalled })
}
