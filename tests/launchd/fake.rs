//! The stand-in itself: that it refuses, ignores and ends what launchd does, and leaves no process behind. Without these a test
//! that passes would prove little.

use std::fs;
use std::path::Path;

use crate::{installed, label};
use testkit::daemon::{SOON, signal};
use testkit::eventually;
use testkit::launchd::{Launchd, uid};

fn bootstrap(launchd: &Launchd, name: &str, body: &str) -> i32 {
    let path = launchd.path(name);
    fs::write(&path, format!("<?xml version=\"1.0\"?><plist version=\"1.0\"><dict>{body}</dict></plist>")).unwrap();
    launchd.launchctl(&["bootstrap", &format!("gui/{}", uid()), path.to_str().unwrap()]).code
}

#[test]
fn it_refuses_what_launchd_would_refuse() {
    let launchd = Launchd::start();
    let good = "<key>Label</key><string>a</string><key>ProgramArguments</key><array><string>/bin/true</string></array>";
    assert_eq!(bootstrap(&launchd, "good", good), 0);
    let bad = [
        ("no label", "<key>Program</key><string>/bin/true</string>"),
        ("no program", "<key>Label</key><string>b</string>"),
        ("type", "<key>ThrottleInterval</key><string>10</string>"),
        ("truth", "<key>RunAtLoad</key><string>true</string>"),
        ("nested type", "<key>KeepAlive</key><dict><key>SuccessfulExit</key><string>no</string></dict>"),
        ("sockets", "<key>Sockets</key><array/>"),
        ("limits", "<key>SoftResourceLimits</key><dict><key>NumberOfFiles</key><string>9</string></dict>"),
    ];
    for (name, more) in bad {
        let rest = if name.starts_with("no ") { "" } else { good };
        assert_eq!(bootstrap(&launchd, name, &format!("{rest}{more}")), 5, "{name}");
    }
    fs::write(launchd.path("broken"), "<plist><dict>").unwrap();
    let broken = launchd.path("broken");
    assert_eq!(launchd.launchctl(&["bootstrap", &format!("gui/{}", uid()), broken.to_str().unwrap()]).code, 5);
    assert_eq!(launchd.state().refused.len(), bad.len() + 1);
    assert_eq!(launchd.launchctl(&["bootout", "--wait", "gui/1/x"]).code, 64);
    assert_eq!(launchd.launchctl(&["kickstart", &format!("gui/{}/x", uid())]).code, 113);
    assert_eq!(launchd.launchctl(&["bootout", &format!("gui/{}/x", uid())]).code, 3);
}

#[test]
fn no_process_outlives_it_even_when_the_test_panics() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let told = std::sync::Arc::clone(&seen);
    let panicked = std::thread::spawn(move || {
        let (launchd, port) = installed(&[]);
        *told.lock().unwrap() = launchd.pid(&label(port));
        panic!("as a failing test does");
    })
    .join();
    assert!(panicked.is_err());
    let pid = seen.lock().unwrap().expect("a process");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
}

#[test]
fn unknown_keys_are_ignored_and_noted() {
    let launchd = Launchd::start();
    let body = "<key>Label</key><string>a</string><key>Program</key><string>/bin/true</string>\
                <key>StartCalendarIntervals</key><array/><key>KeepAlive</key><dict><key>Successful</key><true/></dict>";
    assert_eq!(bootstrap(&launchd, "a", body), 0);
    assert_eq!(launchd.state().ignored, ["StartCalendarIntervals", "KeepAlive.Successful"]);
    let (launchd, _) = installed(&["--socket"]);
    assert_eq!(launchd.state().ignored, Vec::<String>::new(), "our own property list");
}

/// What is left of a process group ends with the process that launchd started.
#[test]
fn the_group_of_a_job_ends_with_it() {
    let launchd = Launchd::start();
    let pid_file = launchd.path("straggler");
    let script = format!("sleep 600 &amp; echo $! &gt;{}; exit 0", pid_file.display());
    let body = format!(
        "<key>Label</key><string>a</string><key>RunAtLoad</key><true/><key>ProgramArguments</key>\
         <array><string>/bin/sh</string><string>-c</string><string>{script}</string></array>"
    );
    assert_eq!(bootstrap(&launchd, "a", &body), 0);
    eventually(SOON, "the straggler's end", || {
        let pid = fs::read_to_string(&pid_file).map_err(|e| e.to_string())?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if pid.trim().is_empty() || (!stat.is_empty() && !stat.contains(") Z")) { Err(stat) } else { Ok(()) }
    });
}

#[test]
fn a_connection_starts_a_job_that_is_not_running() {
    let (launchd, port) = installed(&["--socket"]);
    let first = launchd.pid(&label(port)).unwrap();
    signal(first, "TERM");
    eventually(SOON, "its end", || if launchd.pid(&label(port)).is_none() { Ok(()) } else { Err("it runs") });
    let health = testkit::http::get(port, "/health").unwrap().json();
    assert_eq!(launchd.pid(&label(port)).unwrap(), health["pid"]);
    assert_ne!(health["pid"], first);
}

#[test]
fn kickstart_comes_back_when_the_old_process_is_gone() {
    let (launchd, port) = installed(&[]);
    launchd.state().behaviour.exit_pace = 0.1;
    let pid = launchd.pid(&label(port)).unwrap();
    signal(pid, "STOP");
    let ran = launchd.launchctl(&["kickstart", "-k", &format!("gui/{}/{}", uid(), label(port))]).ok();
    assert!(ran.took.as_secs() >= 1, "{ran}");
    assert_ne!(launchd.pid(&label(port)), Some(pid));
}
