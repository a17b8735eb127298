use super::*;
use crate::systemd::show;

fn health(pid: u32, ready: bool) -> Health {
    serde_json::from_value(serde_json::json!({
        "service": "claude-mpm-monitor", "version": "0.1.0", "port": 8765, "pid": pid,
        "instance_id": "abc", "ready": ready, "build": "b1", "uptime": 75
    }))
    .unwrap()
}

fn facts(show_text: &str, health: Option<Health>) -> Facts {
    Facts { service: Some(show::job(show_text)), health, ..Facts::default() }
}

const ACTIVE: &str =
    "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=7\nUnitFileState=enabled\nResult=success\n";

#[test]
fn the_exit_codes_of_status() {
    let code = |facts: &Facts| decide(facts).0;
    assert_eq!(code(&facts(ACTIVE, Some(health(7, true)))), Exit::Ok);
    assert_eq!(code(&facts(ACTIVE, Some(health(7, false)))), Exit::NotReady);
    assert_eq!(code(&facts(ACTIVE, None)), Exit::NotReady);
    assert_eq!(code(&facts("ActiveState=inactive\nLoadState=loaded\n", None)), Exit::NotRunning);
    assert_eq!(code(&facts("ActiveState=failed\nLoadState=loaded\n", None)), Exit::NotRunning);
    assert_eq!(code(&facts("ActiveState=activating\nSubState=auto-restart\n", None)), Exit::NotReady);
    assert_eq!(code(&Facts { manager_error: Some("no bus".into()), ..Facts::default() }), Exit::Unknown);
}

#[test]
fn one_run_by_hand_counts_as_running_but_not_managed() {
    let by_hand = Facts { health: Some(health(9, true)), ..facts("LoadState=not-found\nActiveState=inactive\n", None) };
    let (exit, text, managed) = decide(&by_hand);
    assert_eq!((exit, managed), (Exit::Ok, false));
    assert!(text.contains("not managed"), "{text}");
    let no_manager = Facts { manager_error: Some("no bus".into()), health: Some(health(9, true)), ..Facts::default() };
    assert_eq!(decide(&no_manager).0, Exit::Ok);
    let python = Health { instance_id: None, ready: None, ..health(9, true) };
    assert_eq!(
        decide(&Facts { health: Some(python), ..facts("ActiveState=inactive\nLoadState=loaded\n", None) }).0,
        Exit::NotRunning
    );
}

#[test]
fn pain_4_an_old_process_after_an_upgrade_is_seen() {
    let mut f = facts(ACTIVE, Some(health(7, true)));
    f.installed = Some(("0.2.0".into(), Some("b2".into())));
    let report = report(8765, Scope::User, f);
    assert!(report.versions.restart_needed);
    assert!(report.human().contains("running 0.1.0 · installed 0.2.0"), "{}", report.human());
}

#[test]
fn a_crash_loop_is_told_with_its_reason() {
    let f = facts(
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=start-limit-hit\nExecMainCode=1\nExecMainStatus=70\nNRestarts=5\n",
        None,
    );
    let report = report(8765, Scope::System, f);
    let text = report.human();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("it failed too often, so the manager stopped trying"), "{text}");
    assert!(flat.contains("restarted 5 times"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert_eq!((report.state, report.exit_code), ("not-running", 3));
}

#[test]
fn a_start_that_was_one_too_many_is_no_failure_of_the_service() {
    let f = facts(
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=start-limit-hit\nExecMainCode=1\nExecMainStatus=0\nNRestarts=0\n",
        None,
    );
    let text = report(8765, Scope::System, f).human();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("it was started too often in a short time"), "{text}");
    assert!(!flat.contains("it failed") && !flat.contains("0 restarts"), "{text}");
}

#[test]
fn launchds_way_of_giving_up_is_told_with_the_ledgers_reason() {
    let mut f = facts("LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n", None);
    let job = f.service.as_mut().unwrap();
    (job.runs, job.last_exit) = (Some(6), Some(LastExit::Code(0)));
    let failure = daemon::ledger::Failure { reason: "5 bad ends".into(), ..Default::default() };
    f.ledger = Some(Ledger { gave_up: Some(failure), ..Ledger::default() });
    let (exit, text, managed) = decide(&f);
    assert_eq!((exit, managed), (Exit::NotRunning, false));
    assert!(text.contains("gave up") && text.contains("5 bad ends") && text.contains("mpm-monitor start"), "{text}");
    // Once it is not loaded any more, that is history.
    f.service.as_mut().unwrap().runs = None;
    assert_eq!(decide(&f).1, "not running");
}

#[test]
fn a_throttled_job_says_how_often_and_why() {
    let mut f = facts("ActiveState=activating\nSubState=auto-restart\nLoadState=loaded\n", None);
    let job = f.service.as_mut().unwrap();
    (job.runs, job.last_exit) = (Some(4), Some(LastExit::Code(70)));
    let (exit, text, _) = decide(&f);
    assert_eq!(exit, Exit::NotReady);
    assert!(text.contains("after 4 starts") && text.contains("exit code 70"), "{text}");
}

#[test]
fn a_manager_that_does_not_answer_is_no_absence_of_it() {
    let f = Facts { manager_error: Some("it hangs".into()), health: Some(health(9, true)), ..Facts::default() };
    let text = report(8765, Scope::User, f).human();
    assert!(text.contains("cannot be told") && text.contains("did not answer: it hangs"), "{text}");
    assert!(!text.contains("no such"), "{text}");
}

#[test]
fn a_copy_of_homebrews_is_named_with_what_it_lacks() {
    let f = Facts {
        homebrew: Some("/h/homebrew.mpm-monitor.service".into()),
        health: Some(health(9, true)),
        ..Facts::default()
    };
    let report = report(8765, Scope::User, f);
    assert!(report.summary.contains("run by Homebrew"), "{}", report.summary);
    let flat = report.human().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("neither readiness nor watchdog") && flat.contains("brew services stop"), "{flat}");
}

#[test]
fn version_lines() {
    assert_eq!(parse_version("mpm-monitor 0.1.0 (build ab12)\n"), Some(("0.1.0".into(), Some("ab12".into()))));
    assert_eq!(parse_version("mpm-monitor 0.1.0\n"), Some(("0.1.0".into(), None)));
    assert_eq!(parse_version("bash 5.2"), None);
    assert_eq!(parse_version(""), None);
}
