//! What runs.

use std::ops::ControlFlow;
use std::time::Duration;

use super::check::{Check, Code, Looked, Severity, none_of};
use super::procs::{Main, Proc};
use super::properties::Properties;
use super::{Fix, Subject};
use crate::build::PROGRAM;
use daemon::exit::Exit;
use daemon::ledger::BURST;
use service::exec::{self, QUICK};
use service::journal;
use service::manager::{Job, LastExit, Phase};
use service::proof::ended;
use service::report::{Facts, decide, displaced, report};
use service::{Kind, Scope};

/// What was seen of the processes.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The main process.
    pub main: Main,
    /// All processes; none where they cannot be seen.
    pub all: Vec<Proc>,
    /// How many parts have not answered the watchdog's last question, by the process's own word.
    pub silent: Option<u64>,
    /// Microseconds of the monotonic clock, when this was looked at.
    pub now_usec: u64,
    /// The error that the last process ended with, by its log.
    pub last_words: Option<String>,
    /// The unit, and its manager, whose main process answers on the port.
    pub keeper: Option<(Scope, String)>,
}

/// The last error of the last process in the log; nothing where there is no journal.
pub fn last_words(subject: &Subject) -> Option<String> {
    if subject.paths.kind != Kind::Systemd {
        return None;
    }
    let mut said = Vec::new();
    journal::read(&journal::Query::of(&subject.paths, subject.port, 50, None), &mut |entry| {
        let field = |name: &str| entry.fields.get(name).cloned().unwrap_or_default();
        said.push((field("_PID"), field("SYSLOG_IDENTIFIER"), field("PRIORITY"), field("MESSAGE")));
        Ok(ControlFlow::Continue(()))
    })
    .ok()?;
    last_error(&said)
}

/// The last error of the last process of ours in lines of process, program, level and message.
fn last_error(said: &[(String, String, String, String)]) -> Option<String> {
    let mut ours = said.iter().rev().filter(|(_, program, ..)| program == PROGRAM.name).peekable();
    let last = ours.peek()?.0.clone();
    // Levels of syslog(3): 3 and below are errors.
    let is_error = |level: &str, text: &str| matches!(level, "0" | "1" | "2" | "3") || text.contains("cannot ");
    let mut of_last = ours.take_while(|(pid, ..)| *pid == last);
    of_last.find(|(_, _, level, text)| is_error(level, text)).map(|(.., text)| text.clone())
}

/// The unit whose main process this is.
pub fn keeper(all: &[Proc], pid: u32) -> Option<(Scope, String)> {
    let (scope, name) = unit_of(all.iter().find(|p| p.pid == pid)?.cgroup.as_deref()?)?;
    let main = exec::systemctl(scope, &["show", "-P", "MainPID", "--", name], QUICK).and_then(exec::Output::success);
    (main.ok()?.trim().parse() == Ok(pid)).then(|| (scope, name.to_owned()))
}

/// The service that a control group belongs to, and whose manager's it is.
fn unit_of(cgroup: &str) -> Option<(Scope, &str)> {
    let (way, name) = cgroup.rsplit_once('/').filter(|(_, name)| name.ends_with(".service"))?;
    let is_users = way.split('/').any(|part| part.starts_with("user@"));
    Some((if is_users { Scope::User } else { Scope::System }, name))
}

/// All of this group.
const CODES: [Code; 9] = [
    Code::Ready,
    Code::Identity,
    Code::Versions,
    Code::ProgramReplaced,
    Code::CrashLoop,
    Code::LastEnd,
    Code::Components,
    Code::Watchdog,
    Code::Strays,
];

/// Judges. `can_start` says whether a start makes sense before something else is repaired.
pub fn judge(
    subject: &Subject,
    facts: &Looked<Facts>,
    seen: &Looked<Seen>,
    properties: &Looked<Properties>,
    installed: bool,
    can_start: bool,
) -> Vec<Check> {
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => return none_of(&CODES, why),
    };
    let words = seen.as_ref().ok().and_then(|s| s.last_words.as_deref());
    let mut checks = vec![ready(subject, facts, installed, can_start, words)];
    checks.push(identity(subject, facts, seen, properties));
    checks.push(versions(subject, facts));
    checks.push(match seen {
        Err(why) => Check::not_run(Code::ProgramReplaced, why),
        Ok(seen) => replaced(subject, facts, seen),
    });
    checks.push(crash_loop(subject, facts));
    checks.push(last_end(subject, facts));
    checks.push(components(subject, facts));
    checks.push(watchdog(subject, facts, seen, properties));
    checks.push(strays(facts, seen, properties));
    checks
}

fn ready(subject: &Subject, facts: &Facts, installed: bool, can_start: bool, words: Option<&str>) -> Check {
    let (exit, summary, managed) = decide(facts);
    match exit {
        Exit::Ok => Check::verified(Code::Ready, summary),
        _ if !installed && exit == Exit::NotRunning => Check::not_run(Code::Ready, "nothing is installed"),
        _ if exit == Exit::Unknown && !managed => Check::not_run(Code::Ready, "the manager did not answer"),
        _ => {
            let check = Check::failed(Code::Ready, summary);
            let words = words.filter(|_| facts.service.as_ref().is_some_and(ended_badly));
            let check = words.iter().fold(check, |c, said| c.seen(format!("the last start said: {said}")));
            // A start that cannot succeed is no advice; what stands in its way has a check of its own, or was said.
            let is_hopeless = words.is_some_and(|said| is_permanent(subject, facts, said));
            let startable = exit == Exit::NotRunning && can_start && facts.owner.is_none() && !is_hopeless;
            check.next(match displaced(facts) {
                // The same as its own check says.
                Some(_) => subject.verb("uninstall"),
                None if startable => subject.verb("start"),
                None => subject.logs(),
            })
        }
    }
}

/// Whether the last process ended for a reason that is as it was: the port may be free by now.
fn is_permanent(subject: &Subject, facts: &Facts, said: &str) -> bool {
    let Some(LastExit::Code(code)) = facts.service.as_ref().and_then(|j| j.last_exit.clone()) else { return false };
    match Exit::from_code(code) {
        Some(Exit::PortTaken | Exit::AlreadyRunning) => !said.contains(&subject.port.to_string()),
        // A restart may find the disk less full, but not another owner or mode; either way a look at the files comes first.
        Some(Exit::CantCreate) => true,
        exit => exit.is_some_and(Exit::is_permanent),
    }
}

fn identity(subject: &Subject, facts: &Facts, processes: &Looked<Seen>, properties: &Looked<Properties>) -> Check {
    let (Some(health), Some(job)) = (&facts.health, &facts.service) else {
        return Check::not_run(Code::Identity, "nobody answered, or the manager did not");
    };
    if job.pid == Some(health.pid) {
        return Check::verified(Code::Identity, format!("pid {} answers, and is the manager's", health.pid));
    }
    let seen = format!("the manager's process is {}", job.pid.map_or("none".to_owned(), |p| format!("pid {p}")));
    if health.instance_id.is_none() {
        return Check::not_run(Code::Identity, "the port is another monitor's");
    }
    let check =
        |text: String| Check::failed(Code::Identity, text).seen(format!("pid {} answers", health.pid)).seen(&seen);
    if let Some((keeper, _)) = displaced(facts) {
        let text = format!("port {} is served under {keeper}, and this unit cannot run beside it", subject.port);
        let check = Check::failed(Code::Identity, text).seen(format!("pid {} answers", health.pid));
        return check
            .seen("both keep their events; the one that stays may be the other one, or one of them takes another port")
            .next(subject.verb("uninstall"));
    }
    if let (Ok(processes), Ok(properties)) = (processes, properties)
        && properties.cgroup.is_some()
        && processes.all.iter().any(|p| p.pid == health.pid && p.cgroup == properties.cgroup)
    {
        let text =
            "what the unit runs is another program, which runs the monitor: the manager hears only its own process";
        return properties.blame(subject, check(text.to_owned()), &["ExecStart"]);
    }
    let keeper = processes.as_ref().ok().and_then(|p| p.keeper.as_ref());
    match facts.elsewhere {
        Some(keeper) => Check::verified(Code::Identity, format!("pid {} is kept by {keeper}", health.pid)),
        None if facts.homebrew.is_some() => Check::not_run(Code::Identity, "Homebrew runs it"),
        None if keeper.is_some() => {
            let (scope, unit) = keeper.as_ref().map_or((Scope::User, ""), |(s, u)| (*s, u.as_str()));
            let (sudo, user) = match scope {
                Scope::User => ("", "--user "),
                Scope::System => (if subject.is_root { "" } else { "sudo " }, ""),
            };
            check(format!("another unit runs a monitor on the port: {unit}"))
                .seen(format!(
                    "this ends it, now and at every start; `{}` keeps the other one",
                    subject.verb("uninstall")
                ))
                .next(format!("{sudo}systemctl {user}disable --now {unit} && {}", subject.verb("start")))
        }
        None => check("a monitor that nobody manages has the port: somebody ran it by hand".to_owned())
            .seen("it ends at Ctrl-C where it runs, or at this signal; then the service can be started")
            .next(format!("kill -TERM {}", health.pid)),
    }
}

fn versions(subject: &Subject, facts: &Facts) -> Check {
    let said = report(subject.port, subject.scope, facts.clone());
    let v = said.versions;
    let all = [("running", &v.running), ("installed", &v.installed), ("unit", &v.unit)];
    let shown: Vec<String> =
        all.iter().filter_map(|(what, version)| Some(format!("{what} {}", version.as_ref()?))).collect();
    if v.restart_needed {
        let builds = [("running", &v.running_build), ("installed", &v.installed_build)];
        let check = Check::failed(Code::Versions, "an older build runs than is installed").seen(shown.join(", "));
        let named = |(what, build): (&str, &Option<String>)| Some(format!("{what} build {}", build.as_ref()?));
        return builds
            .into_iter()
            .filter_map(named)
            .fold(check, Check::seen)
            .next(subject.verb("restart"))
            .fix(Fix::Restart);
    }
    let there: Vec<&String> = all.iter().filter_map(|(_, v)| v.as_ref()).collect();
    let different = there.windows(2).any(|pair| pair[0] != pair[1]);
    match there.len() {
        0 | 1 => Check::not_run(Code::Versions, "there are no two versions to compare"),
        // The unit's own check says what to do about that.
        _ if different => Check::failed(Code::Versions, "unit and program are of different versions")
            .seen(shown.join(", "))
            .next(subject.verb("install")),
        _ => Check::verified(Code::Versions, shown.join(", ")),
    }
}

fn replaced(subject: &Subject, facts: &Facts, seen: &Seen) -> Check {
    let managed = facts.service.as_ref().and_then(|j| j.pid).is_some();
    let Some(exe) = &seen.main.exe else {
        let why = if managed { "the process is not this user's to look at" } else { "no process of it runs" };
        return Check::not_run(Code::ProgramReplaced, why);
    };
    let shown = exe.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    // A file of that name may be missing for other reasons; then another check says so.
    if seen.main.replaced {
        return Check::failed(Code::ProgramReplaced, "the program was replaced, and the old one still runs")
            .seen(format!("{shown} is another file by now"))
            .next(subject.verb("restart"))
            .fix(Fix::Restart);
    }
    Check::verified(Code::ProgramReplaced, format!("{shown} is what runs"))
}

fn crash_loop(subject: &Subject, facts: &Facts) -> Check {
    let job = facts.service.as_ref();
    let ledger = facts.ledger.as_ref();
    let limit = job.is_some_and(|j| j.result == "start-limit-hit")
        || job.is_some_and(|j| j.phase == Phase::Failed && j.restarts.is_some_and(|n| n > 1));
    let gave_up = ledger.and_then(|l| l.gave_up.as_ref());
    let runs = job.and_then(|j| j.runs).unwrap_or(0);
    let throttled = job.is_some_and(|j| j.phase == Phase::Starting && j.last_exit.is_some());
    let failures = ledger.map_or(0, |l| l.consecutive_failures);
    // One that is ready is over it; `last-end` still tells of it.
    let is_up = facts.health.as_ref().is_some_and(|h| h.ready == Some(true));
    let many = usize::try_from(failures).is_ok_and(|n| n >= BURST) && !is_up;
    let refused = job.filter(|j| j.result == "start-limit-hit" && j.last_exit == Some(LastExit::Code(0)));
    let check = if let Some(job) = refused {
        return Check::failed(Code::CrashLoop, ended(job)).next(subject.verb("start"));
    } else if let Some(failure) = gave_up {
        Check::failed(Code::CrashLoop, format!("it gave up: {}", failure.reason)).seen(format!("at {}", failure.when()))
    } else if limit {
        let restarts = job.and_then(|j| j.restarts).unwrap_or(0);
        Check::failed(Code::CrashLoop, format!("it failed after each of {restarts} restarts, and the manager stopped"))
    } else if throttled {
        Check::failed(Code::CrashLoop, "it ended, and waits to be started again").seen(format!("{runs} starts so far"))
    } else if many {
        Check::failed(Code::CrashLoop, format!("the last {failures} lives ended badly")).severity(Severity::Warning)
    } else if facts.ledger.is_none() && job.is_none() {
        return Check::not_run(Code::CrashLoop, "neither the manager nor the crash ledger could be asked");
    } else {
        let restarts = job.and_then(|j| j.restarts).filter(|&n| n > 0);
        let text =
            restarts.map_or("no restart after a failure".to_owned(), |n| format!("{n} restarts, and it stays up"));
        return Check::verified(Code::CrashLoop, text);
    };
    let check = job.into_iter().filter(|j| j.last_exit.is_some()).fold(check, |c, j| c.seen(ended(j)));
    let last = ledger.and_then(|l| l.last_failure.as_ref());
    last.into_iter().fold(check, |c, f| c.seen(format!("{}: {}", f.when(), f.reason))).next(subject.logs())
}

fn last_end(subject: &Subject, facts: &Facts) -> Check {
    let by_manager = facts.service.as_ref().filter(|j| ended_badly(j)).map(ended);
    let recorded = facts.ledger.as_ref().filter(|l| l.consecutive_failures > 0).and_then(|l| l.last_failure.as_ref());
    match (recorded, by_manager) {
        (None, None) if facts.service.is_none() && facts.ledger.is_none() => {
            Check::not_run(Code::LastEnd, "neither the manager nor the crash ledger could be asked")
        }
        (None, None) => Check::verified(Code::LastEnd, "no bad end is on record"),
        (Some(failure), _) => Check::failed(Code::LastEnd, "the process before this one ended badly")
            .seen(format!("{}: {}", failure.when(), failure.reason))
            .next(subject.logs()),
        (None, Some(how)) => {
            Check::failed(Code::LastEnd, "the last process ended badly").seen(how).next(subject.logs())
        }
    }
}

fn ended_badly(job: &Job) -> bool {
    let clean = matches!(job.last_exit, None | Some(LastExit::Code(0)));
    job.pid.is_none() && (!clean || !matches!(job.result.as_str(), "" | "success"))
}

fn components(subject: &Subject, facts: &Facts) -> Check {
    match &facts.health {
        Some(health) if health.instance_id.is_some() => match health.degraded() {
            None => Check::verified(Code::Components, "all of them do their work"),
            Some(said) => Check::failed(Code::Components, "a part of it does not do all of its work")
                .seen(said)
                .next(subject.logs()),
        },
        _ => Check::not_run(Code::Components, "no mpm-monitor answered"),
    }
}

fn watchdog(subject: &Subject, facts: &Facts, seen: &Looked<Seen>, properties: &Looked<Properties>) -> Check {
    let runs = facts.service.as_ref().is_some_and(|j| j.phase == Phase::Running && j.pid.is_some());
    if !runs {
        return Check::not_run(Code::Watchdog, "it does not run");
    }
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return Check::not_run(Code::Watchdog, why),
    };
    if let Some(parts) = seen.silent.filter(|&n| n > 0) {
        let text = format!("{parts} of its parts have not answered the watchdog's last question");
        return Check::failed(Code::Watchdog, text).next(subject.logs());
    }
    if subject.paths.kind == Kind::Launchd {
        return match seen.silent {
            Some(_) => Check::verified(Code::Watchdog, "launchd has none; the process's own hears every part"),
            None => Check::not_run(Code::Watchdog, "launchd has none, and the process did not tell of its own"),
        };
    }
    let properties = match properties {
        Ok(properties) => properties,
        Err(why) => return Check::not_run(Code::Watchdog, why),
    };
    let Some(limit) = properties.watchdog else {
        let check = Check::failed(Code::Watchdog, "the unit has no watchdog: a hang would go on for ever");
        return properties.blame(subject, check, &["WatchdogSec"]);
    };
    let Some(ping) = properties.last_ping else {
        return Check::not_run(Code::Watchdog, "the manager does not tell when the last sign of life came");
    };
    let age = Duration::from_micros(seen.now_usec.saturating_sub(ping));
    let said = format!(
        "the last sign of life came {:.1} s ago, and {:.0} s are allowed",
        age.as_secs_f32(),
        limit.as_secs_f32()
    );
    // It comes at least every half of the time; twice as late leaves nothing.
    if age > limit * 3 / 4 {
        return Check::failed(Code::Watchdog, said).next(subject.logs());
    }
    Check::verified(Code::Watchdog, said)
}

fn strays(facts: &Facts, seen: &Looked<Seen>, properties: &Looked<Properties>) -> Check {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return Check::not_run(Code::Strays, why),
    };
    let Some(pid) = facts.service.as_ref().and_then(|j| j.pid) else {
        return Check::not_run(Code::Strays, "it does not run");
    };
    if seen.all.is_empty() {
        return Check::not_run(Code::Strays, "this system does not show processes in /proc");
    }
    let cgroup = properties.as_ref().ok().and_then(|p| p.cgroup.as_deref());
    let inside = |p: &&Proc| p.pid != pid && cgroup.is_some() && p.cgroup.as_deref() == cgroup;
    // Those have a check of their own.
    let others: Vec<&Proc> = seen.all.iter().filter(inside).filter(|p| !is_tmux(p)).collect();
    let zombies = seen.all.iter().filter(|p| p.parent == pid && p.zombie).count();
    if others.is_empty() && zombies == 0 {
        return Check::verified(Code::Strays, "none");
    }
    let text = format!("other processes in its control group: {}; children that are zombies: {zombies}", others.len());
    let check = Check::failed(Code::Strays, text);
    others.iter().take(5).fold(check, |c, p| c.seen(format!("pid {} {}", p.pid, p.name)))
}

/// Whether it is a tmux server, which calls itself so.
pub fn is_tmux(process: &Proc) -> bool {
    process.name == "tmux: server"
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
