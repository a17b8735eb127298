//! A daemon of the machine: root's property list, the account of whoever typed `sudo`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::{health, label};
use testkit::command::{Ran, run};
use testkit::http::free_port;
use testkit::launchd::{Launchd, uid};

/// A verb as root types it, or `account` through sudo.
#[track_caller]
fn sudo(launchd: &Launchd, account: Option<&str>, verb: &str, port: u16, more: &[&str]) -> Ran {
    let port = port.to_string();
    let mut words = vec![verb, "--system", "--port", &port];
    words.extend(more);
    let mut command = launchd.command(words);
    command.envs(account.map(|a| ("SUDO_USER", a)));
    run(&mut command, Duration::from_secs(60))
}

#[test]
fn a_daemon_runs_as_the_account_behind_sudo() {
    if uid() != 0 {
        return testkit::skip("only root may install a daemon");
    }
    let (launchd, port) = (Launchd::start(), free_port());
    let refused = sudo(&launchd, None, "install", port, &[]).expect(8);
    assert!(refused.stderr.contains("never as root"), "{refused}");
    sudo(&launchd, Some("nobody"), "install", port, &[]).ok();
    let health = health(port);
    assert_eq!(launchd.pid(&label(port)).unwrap(), health["pid"]);
    let owner = fs::metadata(format!("/proc/{}", health["pid"])).unwrap().uid();
    assert_ne!(owner, 0, "it runs as root");
    let file = launchd.path(&format!("mac/Library/LaunchDaemons/{}.plist", label(port)));
    assert_eq!(fs::metadata(file).unwrap().uid(), 0);
    assert!(launchd.told().iter().all(|c| c.contains("system")), "{:?}", launchd.told());
    // Later verbs know the account by the receipt.
    sudo(&launchd, None, "install", port, &["--env", "A=b"]).ok();
    sudo(&launchd, None, "restart", port, &[]).ok();
    let status = sudo(&launchd, None, "status", port, &["--json"]).ok().json();
    assert_eq!((status["state"].as_str(), status["files"][0]["state"].as_str()), (Some("ready"), Some("clean")));
    let other = sudo(&launchd, Some("daemon"), "install", free_port(), &[]).expect(8);
    assert!(other.stderr.contains("share an account"), "{other}");
    let logs = sudo(&launchd, None, "logs", port, &[]).ok();
    assert!(logs.stdout.contains("ready: serving"), "{logs}");
    sudo(&launchd, None, "uninstall", port, &["--purge"]).ok();
    assert!(!launchd.path("mac/Library").exists(), "something stayed, or install made nothing");
}
