use super::super::check::Outcome;
use super::super::tests::{find, health, job, subject};
use super::*;
use daemon::ledger::{Failure, Ledger};

fn running() -> Facts {
    Facts { service: Some(job(7)), health: Some(health(7)), receipt: true, ..Facts::default() }
}

fn properties() -> Properties {
    let watchdog = Some(Duration::from_secs(10));
    Properties { watchdog, last_ping: Some(1_000_000), cgroup: Some("/ours".into()), ..Properties::default() }
}

fn seen() -> Seen {
    let main = Main { exe: Some("/usr/local/bin/mpm-monitor".into()), ..Main::default() };
    let this = Proc { pid: 7, cgroup: Some("/ours".into()), ..Proc::default() };
    Seen { main, all: vec![this], silent: Some(0), now_usec: 3_000_000, last_words: None, keeper: None }
}

fn all(facts: Facts, seen: Seen, properties: Properties) -> Vec<Check> {
    judge(&subject(), &Ok(facts), &Ok(seen), &Ok(properties), true, true)
}

#[test]
fn a_process_that_is_well_is_verified_in_all_points() {
    let facts = Facts { unit_version: Some("0.1.0".into()), ..running() };
    let checks = all(facts, seen(), properties());
    assert_eq!(checks.len(), CODES.len());
    let bad: Vec<_> = checks.iter().filter(|c| c.outcome != Outcome::Verified).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn pain_4_an_old_process_is_told_by_build_and_by_file() {
    let old = Facts { installed: Some(("0.2.0".into(), Some("b".into()))), ..running() };
    let checks = all(old, seen(), properties());
    let versions = find(&checks, Code::Versions);
    assert_eq!((versions.outcome, versions.fixes.as_slice()), (Outcome::Failed, &[Fix::Restart][..]));
    assert!(versions.evidence[0].contains("running 0.1.0, installed 0.2.0"), "{versions:?}");
    let main = Main { exe: Some("/usr/local/bin/mpm-monitor (deleted)".into()), replaced: true, ..Main::default() };
    let checks = all(running(), Seen { main, ..seen() }, properties());
    let replaced = find(&checks, Code::ProgramReplaced);
    assert_eq!(replaced.next.as_deref(), Some("mpm-monitor restart --user --port 8765"));
    assert_eq!(replaced.evidence, ["/usr/local/bin/mpm-monitor is another file by now"]);
}

#[test]
fn pain_6_ready_is_only_the_managers_own_process() {
    let by_hand = Facts { health: Some(health(8)), ..running() };
    let checks = all(by_hand, seen(), properties());
    let identity = find(&checks, Code::Identity);
    assert!(identity.is_error(), "{identity:?}");
    assert_eq!(identity.evidence[..2], ["pid 8 answers", "the manager's process is pid 7"]);
}

#[test]
fn pain_10_a_crash_loop_is_told_with_its_reason_on_both_managers() {
    let failed =
        Job { phase: Phase::Failed, pid: None, restarts: Some(5), last_exit: Some(LastExit::Signal(6)), ..job(7) };
    let failure = Failure { reason: "panic in hub".into(), ..Failure::default() };
    let ledger = Ledger { last_failure: Some(failure.clone()), consecutive_failures: 5, ..Ledger::default() };
    let facts = Facts { service: Some(failed), ledger: Some(ledger.clone()), ..Facts::default() };
    let checks = all(facts, Seen::default(), properties());
    let check = find(&checks, Code::CrashLoop);
    assert!(check.is_error() && check.evidence.iter().any(|e| e.contains("panic in hub")), "{check:?}");
    assert_eq!(check.next.as_deref(), Some("mpm-monitor logs --user --port 8765 -n 100"));
    // One start too many is no failure of the service.
    let refused =
        Job { result: "start-limit-hit".into(), restarts: Some(0), last_exit: Some(LastExit::Code(0)), ..job(7) };
    let refused = Job { phase: Phase::Failed, pid: None, ..refused };
    let checks = all(Facts { service: Some(refused), ..Facts::default() }, Seen::default(), properties());
    let check = find(&checks, Code::CrashLoop);
    assert!(check.summary.contains("started too often"), "{check:?}");
    assert_eq!(check.next.as_deref(), Some("mpm-monitor start --user --port 8765"));
    // launchd: the process itself gave up, or launchd waits before the next try.
    let gave_up = Ledger { gave_up: Some(failure), ..ledger };
    let ended = Job { phase: Phase::Stopped, pid: None, runs: Some(6), last_exit: Some(LastExit::Code(0)), ..job(7) };
    let checks = all(Facts { service: Some(ended), ledger: Some(gave_up), ..Facts::default() }, seen(), properties());
    assert!(find(&checks, Code::CrashLoop).summary.contains("it gave up: panic in hub"));
    let waits = Job { phase: Phase::Starting, pid: None, runs: Some(9), last_exit: Some(LastExit::Code(1)), ..job(7) };
    let checks = all(Facts { service: Some(waits), ..Facts::default() }, seen(), properties());
    assert_eq!(find(&checks, Code::CrashLoop).evidence[0], "9 starts so far");
}

#[test]
fn pain_16_a_late_sign_of_life_and_a_missing_watchdog_are_told() {
    let late = all(running(), Seen { now_usec: 9_500_000, ..seen() }, properties());
    assert_eq!(find(&late, Code::Watchdog).outcome, Outcome::Failed);
    let silent = all(running(), Seen { silent: Some(2), ..seen() }, properties());
    assert!(find(&silent, Code::Watchdog).summary.starts_with("2 of its parts"));
    let none = all(running(), seen(), Properties { watchdog: None, drop_ins: vec!["/d.conf".into()], ..properties() });
    assert_eq!(find(&none, Code::Watchdog).evidence, ["drop-in /d.conf"]);
}

#[test]
fn pain_20_strays_and_zombies_are_counted() {
    let mut seen = seen();
    seen.all.push(Proc { pid: 8, name: "git".into(), cgroup: Some("/ours".into()), ..Proc::default() });
    seen.all.push(Proc { pid: 9, parent: 7, zombie: true, ..Proc::default() });
    seen.all.push(Proc { pid: 10, name: "tmux: server".into(), cgroup: Some("/ours".into()), ..Proc::default() });
    let checks = all(running(), seen, properties());
    let strays = find(&checks, Code::Strays);
    assert!(strays.summary.contains("group: 1;") && strays.summary.ends_with("zombies: 1"), "{strays:?}");
}

#[test]
fn what_is_stopped_is_to_be_started_unless_something_stands_in_the_way() {
    let stopped = || Facts {
        service: Some(Job { phase: Phase::Stopped, pid: None, enabled: "enabled".into(), ..job(7) }),
        receipt: true,
        ..Facts::default()
    };
    let checks = all(stopped(), seen(), properties());
    assert_eq!(find(&checks, Code::Ready).next.as_deref(), Some("mpm-monitor start --user --port 8765"));
    let checks = judge(&subject(), &Ok(stopped()), &Ok(seen()), &Ok(properties()), true, false);
    assert!(find(&checks, Code::Ready).next.as_ref().unwrap().contains("logs"));
    let checks = judge(&subject(), &Ok(Facts::default()), &Ok(seen()), &Ok(properties()), false, true);
    assert_eq!(find(&checks, Code::Ready).outcome, Outcome::NotRun);
}

#[test]
fn monitor_below_another_program_of_the_unit_is_not_killed() {
    let child = Proc { pid: 8, cgroup: Some("/ours".into()), ..Proc::default() };
    let facts = Facts { health: Some(health(8)), ..running() };
    let checks = all(facts.clone(), Seen { all: vec![child], ..seen() }, properties());
    let check = find(&checks, Code::Identity);
    assert!(check.is_error() && check.summary.contains("another program"), "{check:?}");
    assert_eq!(check.next.as_deref(), Some("systemctl --user edit mpm-monitor@8765"));
    let stranger = Proc { pid: 8, cgroup: Some("/theirs".into()), ..Proc::default() };
    let checks = all(facts, Seen { all: vec![stranger], ..seen() }, properties());
    assert_eq!(find(&checks, Code::Identity).next.as_deref(), Some("kill -TERM 8"));
}

#[test]
fn last_error_of_the_last_process_is_told() {
    let line = |pid: &str, program: &str, level: &str, text: &str| {
        (pid.to_owned(), program.to_owned(), level.to_owned(), text.to_owned())
    };
    let said = [
        line("7", "mpm-monitor", "3", "cannot read /old"),
        line("8", "mpm-monitor", "6", "begins"),
        line("8", "mpm-monitor", "3", "cannot listen on /run/s: it is another program's"),
        line("8", "mpm-monitor", "6", "ended"),
        line("1", "systemd", "3", "Failed to start"),
    ];
    let words = last_error(&said).unwrap();
    assert_eq!(words, "cannot listen on /run/s: it is another program's");
    assert_eq!(last_error(&said[1..2]), None);
    let mut failed = job(7);
    (failed.pid, failed.phase) = (None, Phase::Failed);
    failed.last_exit = Some(LastExit::Code(69));
    let facts = Facts { service: Some(failed), receipt: true, ..Facts::default() };
    let ready = |facts: &Facts, words: &str| {
        let checks = all(facts.clone(), Seen { last_words: Some(words.to_owned()), ..seen() }, properties());
        find(&checks, Code::Ready).clone()
    };
    let told = ready(&facts, &words);
    assert!(told.evidence[0].ends_with("another program's"), "{told:?}");
    assert!(told.next.unwrap().contains(" logs "), "a start helps nothing");
    assert!(ready(&facts, "cannot listen on port 8765").next.unwrap().contains(" start "), "it is free by now");
    let mut crashed = facts;
    crashed.service.as_mut().unwrap().last_exit = Some(LastExit::Code(73));
    assert!(!ready(&crashed, "cannot open /x").next.unwrap().contains(" start "), "it is as closed as it was");
    crashed.service.as_mut().unwrap().last_exit = Some(LastExit::Code(70));
    assert!(ready(&crashed, "a panic").next.unwrap().contains(" start "));
}

#[test]
fn monitor_of_another_unit_is_ended_by_its_unit() {
    let users = "/user.slice/user-7.slice/user@7.service/app.slice/fleet.service";
    assert_eq!(unit_of(users), Some((Scope::User, "fleet.service")));
    assert_eq!(unit_of("/system.slice/fleet.service"), Some((Scope::System, "fleet.service")));
    assert_eq!(unit_of("/user.slice/user-7.slice/session-1.scope"), None);
    let facts = Facts { service: Some(job(7)), health: Some(health(9)), receipt: true, ..Facts::default() };
    let keeper = |scope| Some((scope, "fleet.service".to_owned()));
    let next = |scope| {
        let checks = all(facts.clone(), Seen { keeper: keeper(scope), ..seen() }, properties());
        find(&checks, Code::Identity).next.clone().unwrap()
    };
    assert!(next(Scope::User).starts_with("systemctl --user disable --now fleet.service && mpm-monitor start"));
    assert!(next(Scope::System).starts_with("sudo systemctl disable --now fleet.service && "));
}
