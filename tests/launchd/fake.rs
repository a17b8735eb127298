//! The stand-in itself: that it refuses what launchd refuses, and leaves no process behind. Without these a test that passes
//! would prove little.

use std::fs;
use std::path::Path;

use crate::harness::launchd::{Launchd, uid};
use crate::{installed, label};

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
        ("unknown key", "<key>StartCalendarIntervals</key><array/>"),
        ("type", "<key>ThrottleInterval</key><string>10</string>"),
        ("truth", "<key>RunAtLoad</key><string>true</string>"),
        ("nested", "<key>KeepAlive</key><dict><key>Successful</key><true/></dict>"),
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
