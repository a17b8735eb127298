//! `upgrade` on launchd: the main flow, back again, and a new one that is no good.

use std::fs;

use mpm_monitor::build;

use crate::{health, installed};
use testkit::builds::other_build;
use testkit::command::{Ran, run};
use testkit::figure;
use testkit::launchd::Launchd;

#[track_caller]
fn upgrade(launchd: &Launchd, words: &[&str]) -> Ran {
    let words = [&["upgrade", "--user"], words].concat();
    run(&mut launchd.command(words), std::time::Duration::from_secs(90))
}

#[test]
fn another_build_takes_its_place_and_goes_again() {
    let (launchd, port) = installed(&[]);
    let from = launchd.path("opt/new").display().to_string();
    other_build(from.as_ref(), "00000000feedbeef", &[]);
    let before = health(port);
    let ran = upgrade(&launchd, &["--from", &from]).ok();
    figure("launchd_upgrade_to_proved", ran.took.as_millis(), "ms");
    let after = health(port);
    assert_eq!((before["build"].as_str(), after["build"].as_str()), (Some(build::ID), Some("00000000feedbeef")));
    assert_eq!(after["program"]["replaced"], false, "{after}");
    upgrade(&launchd, &["--rollback"]).ok();
    assert_eq!(health(port)["build"], build::ID);
    let names = || {
        let mut all: Vec<String> = fs::read_dir(launchd.path("opt"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    };
    assert_eq!(names(), ["mpm-monitor", "mpm-monitor.previous", "new"]);

    // One that ends at once: the old one is back, and the reason is told.
    other_build(from.as_ref(), "00000000deadbeef", &[("fail-at-start", "fail-at-START")]);
    let name = "MPM_MONITOR_FAILPOINT".to_owned();
    launchd.state().behaviour.environment.insert(name.clone(), "fail-at-START".into());
    let ran = upgrade(&launchd, &["--from", &from, "--timeout", "3s"]);
    launchd.state().behaviour.environment.remove(&name);
    assert_ne!(ran.code, 0, "{ran}");
    for word in ["asked for by MPM_MONITOR_FAILPOINT", "The upgrade was taken back", "is ready (pid"] {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran}");
    }
    assert_eq!(health(port)["build"], build::ID, "{ran}");
    assert_eq!(names(), ["mpm-monitor", "mpm-monitor.previous", "new"]);
}
