//! The other verbs: `start`, `stop`, `restart`, `reload`, `status`, `list`.

use std::fs;
use std::time::Duration;

use crate::{health, installed, label, plist};
use testkit::daemon::{SOON, signal};
use testkit::http::{self, free_port};
use testkit::launchd::{Launchd, uid};
use testkit::{eventually, figure};

#[test]
fn stop_ends_it_and_start_brings_it_back() {
    let (launchd, port) = installed(&[]);
    let before = health(port);
    launchd.forget_calls();
    launchd.verb("stop", port, &[]).ok();
    assert_eq!(launchd.told(), [format!("bootout gui/{}/{}", uid(), label(port))]);
    assert!(http::get(port, "/health").is_err(), "it still answers");
    assert!(launchd.state().jobs.is_empty(), "the label is not free");
    let status = launchd.verb("status", port, &[]).expect(3);
    assert!(status.stdout.contains("not running") && status.stdout.contains("not loaded"), "{status}");
    let again = launchd.verb("stop", port, &[]).ok();
    assert!(again.stdout.contains("not running"), "{again}");
    launchd.verb("start", port, &[]).ok();
    assert_ne!(health(port)["instance_id"], before["instance_id"]);
    launchd.forget_calls();
    let again = launchd.verb("start", port, &[]).ok();
    assert!(again.stdout.contains("already running"), "{again}");
    assert_eq!(launchd.told(), Vec::<String>::new());
}

#[test]
fn restart_kicks_an_unchanged_job_and_proves_the_new_process() {
    let (launchd, port) = installed(&[]);
    let before = health(port);
    launchd.forget_calls();
    let ran = launchd.verb("restart", port, &[]).ok();
    figure("launchd_restart_to_ready", ran.took.as_millis(), "ms");
    assert_eq!(launchd.told(), [format!("kickstart -k gui/{}/{}", uid(), label(port))]);
    assert_ne!(health(port)["instance_id"], before["instance_id"]);
    assert_eq!(launchd.pid(&label(port)).unwrap(), health(port)["pid"]);
}

#[test]
fn restart_after_an_edit_loads_what_the_person_wrote() {
    let (launchd, port) = installed(&[]);
    let file = plist(&launchd, port);
    let text = fs::read_to_string(&file).unwrap();
    let key = "<key>EnvironmentVariables</key>\n\t<dict>\n";
    let edited = text.replace(key, &format!("{key}\t\t<key>MPM_TEST</key>\n\t\t<string>by hand</string>\n"));
    assert_ne!(edited, text);
    fs::write(&file, edited).unwrap();
    launchd.forget_calls();
    launchd.verb("restart", port, &[]).ok();
    let told = launchd.told();
    assert!(told[0].starts_with("bootout") && !told.iter().any(|c| c.starts_with("kickstart")), "{told:?}");
    let environment = fs::read_to_string(format!("/proc/{}/environ", health(port)["pid"])).unwrap();
    assert!(environment.contains("MPM_TEST=by hand\0"));
}

/// Pain 4.
#[test]
fn pain_4_an_upgrade_by_rename_is_seen_and_restart_proves_the_new_build() {
    let (launchd, port) = installed(&[]);
    let before = health(port);
    let (old, new) = (mpm_monitor::build::ID.as_bytes(), b"00000000feedbeef");
    let mut bytes = fs::read(launchd.program()).unwrap();
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, w)| *w == old).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the build is not in the program");
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    let beside = launchd.path("opt/new");
    fs::write(&beside, bytes).unwrap();
    fs::set_permissions(&beside, fs::metadata(launchd.program()).unwrap().permissions()).unwrap();
    // As an installer does it: a Mac kills a program that was written over in place.
    fs::rename(&beside, launchd.program()).unwrap();
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    assert_eq!(status["versions"]["restart_needed"], true, "{status:#}");
    launchd.forget_calls();
    launchd.verb("restart", port, &[]).ok();
    // kickstart would have it killed: launchd holds the job to the program that it loaded.
    assert!(!launchd.told().iter().any(|c| c.starts_with("kickstart")), "{:?}", launchd.told());
    let after = health(port);
    assert_eq!(
        (before["build"].as_str(), after["build"].as_str()),
        (Some(mpm_monitor::build::ID), Some("00000000feedbeef"))
    );
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    assert_eq!(status["versions"]["restart_needed"], false, "{status:#}");
}

#[test]
fn reload_is_a_signal_and_is_proved_by_the_generation() {
    let (launchd, port) = installed(&[]);
    let before = health(port);
    let dir = launchd.path("home/.config/mpm-monitor");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "[log]\nlevel = \"debug\"\n").unwrap();
    launchd.forget_calls();
    let ran = launchd.verb("reload", port, &[]).ok();
    assert!(ran.stdout.contains("read 2 times"), "{ran}");
    assert_eq!(launchd.told(), [format!("kill SIGHUP gui/{}/{}", uid(), label(port))]);
    assert_eq!(health(port)["instance_id"], before["instance_id"], "a reload is no restart");
    fs::write(dir.join("config.toml"), "[log]\nnope = 7\n").unwrap();
    let refused = launchd.verb("reload", port, &[]).expect(78);
    assert!(refused.stderr.contains("nope") && refused.took < Duration::from_secs(10), "{refused}");
    fs::remove_file(dir.join("config.toml")).unwrap();
    launchd.verb("reload", port, &[]).ok();
    launchd.verb("stop", port, &[]).ok();
    launchd.verb("reload", port, &[]).expect(3);
}

#[test]
fn status_tells_each_state_by_its_exit_code() {
    let (launchd, port) = (Launchd::start(), free_port());
    let status = launchd.verb("status", port, &["--json"]).expect(3).json();
    assert!(status["summary"].as_str().unwrap().contains("not installed"), "{status:#}");
    launchd.verb("start", port, &[]).expect(6);
    launchd.verb("install", port, &[]).ok();
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    let health = health(port);
    assert_eq!((status["state"].as_str(), &status["process"]["pid"]), (Some("ready"), &health["pid"]), "{status:#}");
    assert_eq!((status["manager"]["runs"].as_u64(), status["managed"].as_bool()), (Some(1), Some(true)));
    assert_eq!(status["files"].as_array().unwrap().len(), 1);
    assert_eq!(status["files"][0]["state"], "clean", "{status:#}");
    assert_eq!(status["linger"], serde_json::Value::Null);
    let pid = launchd.pid(&label(port)).unwrap();
    signal(pid, "STOP");
    launchd.verb("status", port, &[]).expect(5);
    signal(pid, "CONT");
    // Killed, it comes back by itself, and status knows that it is about to.
    launchd.state().behaviour.pace = 0.6;
    launchd.verb("restart", port, &[]).ok();
    signal(launchd.pid(&label(port)).unwrap(), "KILL");
    eventually(SOON, "the throttled job", || {
        let status = launchd.verb("status", port, &[]);
        if status.code == 5 && status.stdout.contains("about to be started again") && status.stdout.contains("SIGKILL")
        {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    eventually(SOON, "the next process", || {
        let status = launchd.verb("status", port, &[]);
        if status.code == 0 && status.stdout.contains("started 3 times") { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn one_run_by_hand_is_not_the_jobs() {
    let (launchd, port) = (Launchd::start(), free_port());
    let run = &mut launchd.command(["run", "--port", &port.to_string()]);
    let daemon = testkit::command::Running::start(run);
    testkit::daemon::ready(port, daemon.pid());
    let status = launchd.verb("status", port, &[]).ok();
    assert!(status.stdout.contains("not managed"), "{status}");
    // Installed beside it, the job finds the port served, gives up, and the install says why.
    let ran = launchd.verb("install", port, &[]).expect(75);
    assert!(ran.stderr.contains(&format!("served already, by pid {}", daemon.pid())), "{ran}");
    assert!(launchd.state().jobs.is_empty() && !plist(&launchd, port).exists(), "{ran}");
    assert_eq!(health(port)["pid"], daemon.pid(), "the stranger was harmed");
}

/// Replaced by another build of the same version, then crashed: launchd pinned the old one, and macOS kills the new one.
#[test]
fn replaced_program_that_crashed_is_explained_and_loaded_anew() {
    let (launchd, port) = installed(&[]);
    let beside = launchd.path("opt/new");
    fs::copy(launchd.program(), &beside).unwrap();
    fs::rename(&beside, launchd.program()).unwrap();
    signal(launchd.pid(&label(port)).unwrap(), "KILL");
    let status = eventually(SOON, "the refusal", || {
        let status = launchd.verb("status", port, &[]);
        if status.stdout.contains("OS_REASON_CODESIGNING") { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!(status.code, 3, "{status}");
    assert!(status.stdout.contains("`mpm-monitor restart`"), "{status}");
    let json = launchd.verb("status", port, &["--json"]).expect(3).json();
    assert_eq!(json["manager"]["result"], "code-signing", "{json:#}");
    launchd.verb("restart", port, &[]).ok();
    assert_eq!(launchd.pid(&label(port)).unwrap(), health(port)["pid"]);
    // And a crash of what is loaded now is an ordinary restart.
    let before = health(port)["instance_id"].clone();
    signal(launchd.pid(&label(port)).unwrap(), "KILL");
    eventually(SOON, "the next process", || match http::get(port, "/health") {
        Ok(answer) if answer.json()["instance_id"] != before => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// A link is switched, as Homebrew does: no file has changed, and yet it is another program.
#[test]
fn program_behind_a_switched_link_is_loaded_anew() {
    let (launchd, port) = (Launchd::start(), free_port());
    for cellar in ["1", "2"] {
        fs::create_dir(launchd.path(&format!("opt/{cellar}"))).unwrap();
        fs::copy(launchd.program(), launchd.path(&format!("opt/{cellar}/mpm-monitor"))).unwrap();
    }
    let link = launchd.path("opt/current");
    std::os::unix::fs::symlink("1", &link).unwrap();
    let program = link.join("mpm-monitor");
    launchd.verb("install", port, &["--program", program.to_str().unwrap()]).ok();
    std::os::unix::fs::symlink("2", launchd.path("opt/next")).unwrap();
    fs::rename(launchd.path("opt/next"), &link).unwrap();
    launchd.forget_calls();
    launchd.verb("restart", port, &[]).ok();
    assert!(launchd.told().iter().any(|c| c.starts_with("bootstrap")), "{:?}", launchd.told());
}

/// A question over the sockets would start the job, and then that process would pass for the one from before.
#[test]
fn job_that_launchd_listens_for_is_not_started_by_a_look() {
    let (launchd, port) = installed(&["--socket"]);
    signal(launchd.pid(&label(port)).unwrap(), "TERM");
    eventually(SOON, "its end", || if launchd.pid(&label(port)).is_none() { Ok(()) } else { Err("it runs") });
    let status = launchd.verb("status", port, &[]).expect(3);
    let flat = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("the first connection to its socket starts it"), "{status}");
    launchd.verb("doctor", port, &[]);
    assert_eq!(launchd.pid(&label(port)), None, "a look started it");
    launchd.verb("start", port, &[]).ok();
}
