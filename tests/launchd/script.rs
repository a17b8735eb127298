//! `launchd/verify-on-mac.sh` against the stand-in: what a person runs on a Mac must not fail for reasons of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use testkit::command::run;
use testkit::http::free_port;
use testkit::launchd::Launchd;
use testkit::{here, skip};

/// Stands in for a tool that only a Mac has.
fn tool(launchd: &Launchd, name: &str, script: &str) {
    let path = launchd.path("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn verify(words: &[&str]) {
    if std::process::Command::new("nc").arg("-h").output().is_err() {
        return skip("there is no nc");
    }
    let launchd = Launchd::start();
    tool(&launchd, "uname", "echo Darwin");
    tool(&launchd, "sw_vers", "true");
    tool(&launchd, "plutil", "true");
    // A program that is signed again is another file.
    tool(&launchd, "codesign", "for file; do :; done; touch \"$file\"");
    let like = launchd.command(["--version"]);
    let mut command = std::process::Command::new(here("launchd/verify-on-mac.sh"));
    command.args(words).arg(launchd.program()).env_clear().current_dir(launchd.path(""));
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("VERIFY_PORT", free_port().to_string());
    let ran = run(&mut command, Duration::from_secs(240)).ok();
    println!("{}", ran.stdout);
    let passed = ran.stdout.lines().filter(|l| l.starts_with("PASS")).count();
    assert!(passed > 40 && ran.stdout.contains("all passed"), "{ran}");
    assert!(launchd.state().jobs.is_empty(), "a job is left");
}

#[test]
fn check_for_a_mac_passes_against_the_stand_in() {
    verify(&[]);
}

#[test]
fn check_for_a_mac_passes_with_the_sockets_of_launchd() {
    verify(&["--socket"]);
}
