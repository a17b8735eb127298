//! Where our hooks post to, and whether a monitor is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{Check, Code};
use crate::build::PROGRAM;
use crate::config::settings::AUTO_PORTS;
use crate::hooks::claude::settings::{Entry, Owner, words};
use crate::hooks::place::{Machine, Place, Said};
use daemon::probe;

/// How long a monitor may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// The hooks of one file that post to one monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The settings file that has the hook.
    pub file: PathBuf,
    /// The monitor's address, for people.
    pub to: String,
    /// Whether a monitor answers there.
    pub answers: bool,
}

/// What the words after `hook` say of the monitor.
fn said(command: &str) -> Said {
    let words = words(command);
    let value = |name: &str| {
        let given = |(at, word): (usize, &String)| match word.strip_prefix(name)? {
            "" => words.get(at + 1).cloned(),
            rest => rest.strip_prefix('=').map(str::to_owned),
        };
        words.iter().enumerate().find_map(given)
    };
    Said {
        host: value("--host"),
        port: value("--port").and_then(|p| p.parse().ok()),
        unix_socket: value("--unix-socket").map(PathBuf::from),
        token_file: None,
    }
}

/// Looks at the entries of one file; `env` is what the file has Claude Code give to its hooks.
pub fn look(file: &Path, entries: &[Entry], env: &[(String, String)], machine: &Machine) -> Vec<Post> {
    let mut machine = machine.clone();
    // What stands there goes before what this shell has.
    machine.variables.splice(0..0, env.iter().cloned());
    let mut commands: Vec<&str> =
        entries.iter().filter(|e| e.owner == Owner::Ours).map(|e| e.command.as_str()).collect();
    commands.sort_unstable();
    commands.dedup();
    let one = |command: &&str| {
        let place = Place::find(&said(command), &machine);
        let answers = place.resolve(ANSWER).into_iter().any(|t| probe::health_blocking(t, &PROGRAM, ANSWER).is_ok());
        Post { file: file.to_owned(), to: place.url(), answers }
    };
    commands.iter().take(5).map(one).collect()
}

/// The ports on which clients look for a monitor, and find one.
pub fn monitors() -> Vec<u16> {
    let asks = |port: &u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        probe::health_blocking(address, &PROGRAM, ANSWER).is_ok_and(|h| h.instance_id.is_some())
    };
    AUTO_PORTS.filter(asks).collect()
}

/// Judges; `monitors` are the ports where there is one.
pub fn judge(posts: &[Post], monitors: &[u16]) -> Check {
    let code = Code::HookTarget;
    let lost: Vec<&Post> = posts.iter().filter(|p| !p.answers).collect();
    match (lost.as_slice(), monitors) {
        _ if posts.is_empty() => Check::not_run(code, "our hook is not there"),
        ([], _) => Check::verified(code, format!("it posts to {}", posts[0].to)),
        // That none runs is the instance's to tell; the hook's events wait for it.
        (_, []) => Check::not_run(code, "no monitor runs that it could post to"),
        (lost, [first, ..]) => {
            let ports: Vec<String> = monitors.iter().map(u16::to_string).collect();
            let text = format!("our hook posts where no monitor is; there is one on port {}", ports.join(", "));
            let told = |c: Check, p: &&Post| c.seen(format!("{} posts to {}", p.file.display(), p.to));
            lost.iter()
                .fold(Check::failed(code, text), told)
                .next(format!("mpm-monitor hooks install --hook-args '--port {first}'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    #[test]
    fn the_command_line_says_where_to() {
        assert_eq!(said("/b/mpm-monitor hook --port 9999").port, Some(9999));
        assert_eq!(said("A=b /b/mpm-monitor hook --port=9999 --host x").host.as_deref(), Some("x"));
        assert_eq!(said("/b/mpm-monitor hook"), Said::default());
    }

    #[test]
    fn a_hook_that_misses_the_monitor_is_told() {
        let post = |answers| vec![Post { file: "/s.json".into(), to: "http://localhost:9999".into(), answers }];
        let lost = judge(&post(false), &[8765]);
        assert_eq!(lost.outcome, Outcome::Failed);
        assert_eq!(lost.next.as_deref(), Some("mpm-monitor hooks install --hook-args '--port 8765'"));
        assert!(lost.evidence[0].contains("9999") && lost.summary.contains("8765"));
        assert_eq!(judge(&post(true), &[8765]).outcome, Outcome::Verified);
        assert_eq!(judge(&post(false), &[]).outcome, Outcome::NotRun);
        assert_eq!(judge(&[], &[8765]).outcome, Outcome::NotRun);
    }
}
