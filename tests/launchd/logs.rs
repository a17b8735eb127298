//! `logs`: the process's own file and what launchd captured, found, followed and, where there is nothing, explained.

use std::fs;
use std::io::Write;

use crate::{installed, label};
use testkit::command::Running;
use testkit::daemon::{SOON, signal};
use testkit::http::free_port;
use testkit::launchd::Launchd;

#[test]
fn pain_19_the_log_is_found_and_its_absence_explained() {
    let (launchd, port) = (Launchd::start(), free_port());
    let none = launchd.verb("logs", port, &[]).expect(6);
    assert!(none.stderr.contains("no such job"), "{none}");
    launchd.verb("install", port, &[]).ok();
    launchd.verb("restart", port, &[]).ok();
    let text = launchd.verb("logs", port, &["-n", "200"]).ok();
    assert!(text.stdout.contains("ready: serving") && text.stdout.contains("told to stop"), "{text}");
    assert_eq!(launchd.verb("logs", port, &["-n", "1"]).ok().stdout.lines().count(), 1);
    let json = launchd.verb("logs", port, &["-n", "200", "--json"]).ok();
    for line in json.stdout.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(value["message"].is_string() && value["timestamp"].is_string(), "{line}");
    }
    let later = launchd.verb("logs", port, &["--since", "2099-01-01T00:00:00Z"]).ok();
    assert!(later.stdout.is_empty() && later.stderr.contains("--since"), "{later}");
}

#[test]
fn what_launchd_captured_is_shown_beside_it() {
    let (launchd, port) = installed(&[]);
    let captured = launchd.path(&format!("home/Library/Logs/mpm-monitor/{port}.stderr.log"));
    fs::OpenOptions::new().append(true).open(captured).unwrap().write_all(b"dyld: a library is gone\n").unwrap();
    let text = launchd.verb("logs", port, &[]).ok();
    assert!(text.stdout.contains("stderr: dyld: a library is gone"), "{text}");
}

#[test]
fn following_goes_on_over_a_crash_and_a_rotation() {
    let (launchd, port) = installed(&["--env", "MPM_MONITOR_LOG_FILE_BYTES=4096"]);
    let mut follow = Running::start(&mut launchd.command(["logs", "--user", "-f", "--port", &port.to_string()]));
    follow.until(SOON, "the first life", |l| l.contains("ready: serving").then_some(()));
    let log = launchd.path(&format!("home/Library/Logs/mpm-monitor/{port}.log"));
    let rotated = log.with_extension("log.1");
    // Each life writes some lines, so that sooner or later one of them begins a new file.
    for _ in 0..20 {
        let before = launchd.pid(&label(port));
        signal(before.unwrap(), "KILL");
        testkit::eventually(SOON, "the next process", || match launchd.pid(&label(port)) {
            pid if pid.is_some() && pid != before => Ok(()),
            pid => Err(format!("{pid:?}")),
        });
        follow.until(SOON, "the next life", |l| l.contains("ready: serving").then_some(()));
        if rotated.exists() {
            return;
        }
        // Five bad ends would be a crash loop, which this is not about.
        launchd.verb("stop", port, &[]).ok();
        launchd.verb("start", port, &[]).ok();
        follow.until(SOON, "the life after a stop", |l| l.contains("ready: serving").then_some(()));
    }
    panic!("{} was never rotated", log.display());
}
