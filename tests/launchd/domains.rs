//! launchd's domains, its memory of what is disabled, and labels that are not free yet.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::{health, installed, label, plist};
use testkit::http::free_port;
use testkit::launchd::{Launchd, uid};

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

fn gui() -> String {
    format!("gui/{}", uid())
}

fn user() -> String {
    format!("user/{}", uid())
}

/// Pain 11: an SSH session has no domain of the screen.
#[test]
fn pain_11_without_a_screen_the_users_domain_serves_all_verbs() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.domains.remove(&gui());
    for verb in ["install", "restart", "status", "stop", "start", "uninstall"] {
        launchd.verb(verb, port, &[]).ok();
    }
    let told = launchd.told();
    assert!(told.iter().all(|c| c.contains(&user()) && !c.contains(&gui())), "{told:?}");
    assert!(told.iter().any(|c| c.starts_with(&format!("bootstrap {} ", user()))), "{told:?}");
}

/// Installed over SSH, and later somebody sits down at the screen: it is the same job.
#[test]
fn a_job_is_found_in_the_domain_where_it_runs() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.domains.remove(&gui());
    launchd.verb("install", port, &[]).ok();
    launchd.state().behaviour.domains.insert(gui());
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    assert!(status["manager"]["state"].as_str().unwrap().ends_with(&user()), "{status:#}");
    // The login loads it a second time; that one finds the port served, and does not fight.
    launchd.launchctl(&["bootstrap", &gui(), plist(&launchd, port).to_str().unwrap()]).ok();
    let ours = health(port)["instance_id"].clone();
    testkit::eventually(testkit::daemon::SOON, "the second to give up", || {
        let all = launchd.state();
        let second = &all.jobs[&(gui(), label(port))];
        if second.runs == 1 && second.pid().is_none() { Ok(()) } else { Err(format!("{second:?}")) }
    });
    assert_eq!(health(port)["instance_id"], ours);
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    assert!(status["manager"]["state"].as_str().unwrap().ends_with(&user()), "{status:#}");
    launchd.verb("stop", port, &[]).ok();
    assert!(launchd.state().jobs.is_empty(), "one of the two is still loaded");
}

#[test]
fn without_any_domain_it_is_one_sentence_and_a_next_step() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.domains.clear();
    for verb in ["install", "start", "stop", "restart", "reload"] {
        let ran = launchd.verb(verb, port, &[]).expect(7);
        let text = ran.stderr.trim();
        assert!(
            text.contains("no launchd domain") && text.contains("112") && text.contains("`mpm-monitor run`"),
            "{ran}"
        );
        assert_eq!(text.lines().count(), 1, "{ran}");
    }
    let status = launchd.verb("status", port, &[]).expect(4);
    assert!(status.stdout.contains("no launchd domain"), "{status}");
    assert!(!launchd.path("home/Library").exists(), "something was written");
    // Written all the same where that is asked for: the next login loads it.
    launchd.verb("install", port, &["--no-start"]).ok();
    assert!(plist(&launchd, port).exists());
    launchd.verb("uninstall", port, &["--purge"]).ok();
    assert!(!plist(&launchd, port).exists());
}

#[test]
fn pain_11_code_125_is_explained() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.bootstrap_fails = vec![125];
    let ran = launchd.verb("install", port, &[]);
    assert!(ran.stderr.contains("Login Items") && ran.stderr.contains("exit code 125"), "{ran}");
    assert!(ran.stderr.contains("as the test wants it"), "what launchctl said is kept: {ran}");
    assert!(!plist(&launchd, port).exists());
}

#[test]
fn a_disabled_job_is_enabled_by_install_and_by_start() {
    let (launchd, port) = installed(&[]);
    launchd.verb("stop", port, &[]).ok();
    let target = format!("{}/{}", gui(), label(port));
    launchd.launchctl(&["disable", &target]).ok();
    let status = launchd.verb("status", port, &["--json"]).expect(3).json();
    assert_eq!(status["manager"]["enabled"], "disabled", "{status:#}");
    let plan = launchd.verb("install", port, &["--dry-run"]).ok();
    assert!(plan.stdout.contains("would enable"), "{plan}");
    launchd.verb("start", port, &[]).ok();
    assert!(!launchd.state().disabled[&(gui(), label(port))]);
    // What is uninstalled leaves no memory that would stand in the next one's way.
    launchd.launchctl(&["disable", &target]).ok();
    launchd.verb("uninstall", port, &["--purge"]).ok();
    assert!(!launchd.state().disabled[&(gui(), label(port))]);
}

#[test]
fn pain_11_codes_5_and_37_of_a_label_that_is_still_ending_are_waited_out() {
    for already in [5, 37] {
        let (launchd, port) = installed(&[]);
        let mut all = launchd.state();
        all.behaviour.bootout_lag = Duration::from_secs(2);
        all.behaviour.already = already;
        drop(all);
        // Somebody else's bootout, and ours right behind it.
        launchd.launchctl(&["bootout", &format!("{}/{}", gui(), label(port))]).ok();
        let ran = launchd.verb("start", port, &[]).ok();
        assert!(ran.took >= Duration::from_secs(1), "it did not wait: {ran}");
        assert_eq!(launchd.pid(&label(port)).unwrap(), health(port)["pid"]);
    }
}

#[test]
fn pain_11_a_bootstrap_that_fails_for_a_moment_is_repeated_and_one_for_ever_is_not() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.bootstrap_fails = vec![5, 37, 36, 5];
    launchd.verb("install", port, &[]).ok();
    assert_eq!(launchd.told().iter().filter(|c| c.starts_with("bootstrap")).count(), 5);
    launchd.verb("stop", port, &[]).ok();
    launchd.state().behaviour.bootstrap_fails = vec![5; 10_000];
    let ran = launchd.verb("start", port, &["--timeout", "2s"]);
    assert!(ran.stderr.contains("launchd did not take") && ran.stderr.contains("exit code 5"), "{ran}");
    assert!(ran.took < Duration::from_secs(20), "{ran}");
}

#[test]
fn a_plist_that_others_may_write_is_explained() {
    use std::os::unix::fs::PermissionsExt;
    let (launchd, port) = installed(&[]);
    launchd.verb("stop", port, &[]).ok();
    std::fs::set_permissions(plist(&launchd, port), std::fs::Permissions::from_mode(0o666)).unwrap();
    let ran = launchd.verb("start", port, &["--timeout", "2s"]);
    assert!(ran.code != 0 && ran.stderr.contains("chmod go-w"), "{ran}");
}

#[test]
fn pain_20_a_launchctl_that_hangs_neither_hangs_the_verb_nor_stays() {
    let (launchd, port) = installed(&[]);
    launchd.state().behaviour.slow = Duration::from_secs(3600);
    let ran = launchd.verb("status", port, &[]);
    let flat = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("who runs it cannot be told") && flat.contains("did not end within 15s"), "{ran}");
    let tool = launchd.path("bin/launchctl");
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|p| {
            std::fs::read(p.path().join("cmdline")).is_ok_and(|line| contains(&line, tool.as_os_str().as_bytes()))
        })
        .collect();
    assert!(left.is_empty(), "it was not ended: {left:?}");
    launchd.state().behaviour.slow = Duration::ZERO;
}

/// What was loaded over SSH is gone after a reboot, and every verb that shows it running says so before.
#[test]
fn job_of_an_ssh_login_is_said_to_end_with_the_machine() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.domains.remove(&gui());
    let words = "which macOS forgets when it restarts";
    let installed = launchd.verb("install", port, &[]).ok();
    assert!(installed.stderr.contains(words) && installed.stderr.contains("install --system"), "{installed}");
    let status = launchd.verb("status", port, &[]).ok();
    let flat = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(words), "{status}");
    let doctor = launchd.verb("doctor", port, &["--json"]).json();
    let checks = doctor["instances"][0]["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["code"] == "linger").unwrap();
    assert!(check["outcome"] == "failed" && check["summary"].as_str().unwrap().contains(words), "{check:#}");

    launchd.reboot();
    launchd.verb("status", port, &[]).expect(3);
    let started = launchd.verb("start", port, &[]).ok();
    assert!(started.stderr.contains(words), "{started}");
    launchd.reboot();
    launchd.state().behaviour.domains.insert(gui());
    launchd.log_in();
    let status = testkit::eventually(testkit::daemon::SOON, "the agent of the login", || {
        let status = launchd.verb("status", port, &[]);
        if status.code == 0 { Ok(status) } else { Err(status.to_string()) }
    });
    assert!(!status.stdout.contains("note") && status.stdout.contains(&gui()), "{status}");
}

#[test]
fn disabled_job_is_enabled_whatever_launchd_calls_it() {
    for code in [5, 119] {
        let (launchd, port) = installed(&[]);
        launchd.verb("stop", port, &[]).ok();
        launchd.state().behaviour.disabled = code;
        let target = format!("{}/{}", gui(), label(port));
        launchd.launchctl(&["disable", &target]).ok();
        let file = plist(&launchd, port);
        assert_eq!(launchd.launchctl(&["bootstrap", &gui(), file.to_str().unwrap()]).code, code);
        launchd.verb("start", port, &[]).ok();
    }
}
