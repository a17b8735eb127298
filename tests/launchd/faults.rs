//! Crashes, hangs and crash loops: launchd has neither a start limit nor a watchdog, the process is both.

use std::fs;
use std::time::Duration;

use crate::{health, installed, label};
use testkit::command::Ran;
use testkit::daemon::{SOON, signal};
use testkit::http::free_port;
use testkit::launchd::Launchd;
use testkit::{eventually, figure};

/// Asks for the status until it says all of these.
#[track_caller]
fn until_status(launchd: &Launchd, port: u16, deadline: Duration, words: &[&str]) -> Ran {
    eventually(deadline, &format!("a status with {words:?}"), || {
        let ran = launchd.verb("status", port, &[]);
        let flat = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.iter().all(|w| flat.contains(w)) { Ok(ran) } else { Err(ran.to_string()) }
    })
}

#[test]
fn a_kill_is_a_restart() {
    let (launchd, port) = installed(&[]);
    let before = health(port)["instance_id"].clone();
    let started = std::time::Instant::now();
    signal(launchd.pid(&label(port)).unwrap(), "KILL");
    let after = eventually(SOON, "another process", || {
        let health = testkit::http::get(port, "/health").map_err(|e| e.to_string())?.json();
        if health["ready"] == true && health["instance_id"] != before { Ok(health) } else { Err(health.to_string()) }
    });
    figure("launchd_kill_9_to_ready_without_throttle", started.elapsed().as_millis(), "ms");
    assert_eq!(launchd.pid(&label(port)).unwrap(), after["pid"]);
    until_status(&launchd, port, SOON, &["running and ready", "started 2 times", "ended without a word"]);
}

/// Pain 10: never for ever.
#[test]
fn pain_10_a_crash_loop_ends_with_a_reason() {
    let (launchd, port) = installed(&["--env", "MPM_TEST=1"]);
    launchd.verb("stop", port, &[]).ok();
    let mut all = launchd.state();
    all.behaviour.environment.insert("MPM_MONITOR_FAILPOINT".into(), "panic-after-ready".into());
    drop(all);
    // Each of its lives is ready for a moment, and a proof may meet one of them: how `start` ends is not the point here.
    launchd.verb("start", port, &["--timeout", "2s"]);
    let status = until_status(&launchd, port, Duration::from_secs(60), &["gave up", "bad ends within", "panic"]);
    assert_eq!(status.code, 3, "{status}");
    let runs = launchd.state().jobs.values().next().unwrap().runs;
    assert!((5..=6).contains(&runs), "{runs} starts");
    figure("launchd_starts_of_a_crash_loop", runs, "starts");
    let logs = fs::read_dir(launchd.path("home/Library/Logs/mpm-monitor")).unwrap().flatten();
    let log: u64 = logs.map(|f| f.metadata().unwrap().len()).sum();
    figure("launchd_crash_loop_log", log, "bytes");
    assert!((1..1 << 20).contains(&log), "{log} bytes of log");
    assert_eq!(launchd.pid(&label(port)), None);
    let json = launchd.verb("status", port, &["--json"]).expect(3).json();
    assert!(json["ledger"]["gave_up"]["reason"].is_string(), "{json:#}");
    // Whoever starts it by hand has a reason to try again.
    launchd.state().behaviour.environment.remove("MPM_MONITOR_FAILPOINT");
    launchd.verb("start", port, &[]).ok();
    until_status(&launchd, port, SOON, &["running and ready"]);
}

#[test]
fn a_hang_is_a_restart() {
    let (launchd, port) = installed(&["--env", "MPM_MONITOR_WATCHDOG_TIMEOUT=1s"]);
    launchd.verb("stop", port, &[]).ok();
    let mut all = launchd.state();
    all.behaviour.environment.insert("MPM_MONITOR_FAILPOINT".into(), "hang-after-ready".into());
    drop(all);
    launchd.verb("start", port, &["--timeout", "2s"]);
    // It ended itself, was started again, and hangs again; the next one is well.
    eventually(SOON, "the watchdog", || {
        let runs = launchd.state().jobs.values().map(|j| j.runs).max().unwrap_or(0);
        if runs >= 2 { Ok(()) } else { Err(format!("{runs} starts")) }
    });
    launchd.state().behaviour.environment.remove("MPM_MONITOR_FAILPOINT");
    let status = until_status(&launchd, port, SOON, &["running and ready", "stalled"]);
    assert!(status.stdout.contains("last crash"), "{status}");
}

#[test]
fn restart_while_throttled() {
    for waits in [false, true] {
        let (launchd, port) = installed(&[]);
        let mut all = launchd.state();
        all.behaviour.pace = 0.6;
        all.behaviour.kickstart_is_throttled = waits;
        drop(all);
        signal(launchd.pid(&label(port)).unwrap(), "KILL");
        until_status(&launchd, port, SOON, &["about to be started again"]);
        launchd.forget_calls();
        launchd.verb("restart", port, &[]).ok();
        assert_eq!(launchd.pid(&label(port)).unwrap(), health(port)["pid"]);
        // Loading it anew starts it at once, where kickstart may wait.
        assert!(launchd.told().iter().any(|c| c.starts_with("bootstrap")), "{:?}", launchd.told());
    }
}

#[test]
fn pain_9_a_taken_port_is_a_reason_and_no_loop() {
    let (launchd, port) = installed(&[]);
    launchd.verb("stop", port, &[]).ok();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let ran = launchd.verb("start", port, &[]).expect(69);
    assert!(ran.stderr.contains("it gave up: port"), "{ran}");
    assert!(ran.took < Duration::from_secs(10), "{ran}");
    let status = until_status(&launchd, port, SOON, &["gave up", "is taken by"]);
    assert_eq!(status.code, 3, "{status}");
    assert_eq!(launchd.state().jobs.values().next().unwrap().runs, 1);
    drop(taken);
    launchd.verb("start", port, &[]).ok();
}

#[test]
fn a_log_directory_that_is_gone_is_named_and_made_again() {
    let (launchd, port) = installed(&[]);
    launchd.verb("stop", port, &[]).ok();
    let dir = launchd.path("home/Library/Logs/mpm-monitor");
    fs::remove_dir_all(&dir).unwrap();
    let ran = launchd.verb("start", port, &["--timeout", "2s"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("launchd could not start it at all"), "{ran}");
    let logs = launchd.verb("logs", port, &[]);
    assert!(logs.stderr.contains("is gone") && logs.stderr.contains("mpm-monitor install"), "{logs}");
    launchd.verb("install", port, &[]).ok();
    assert!(dir.exists());
}

#[test]
fn a_job_that_does_not_end_is_killed_and_stop_waits_for_it() {
    let (launchd, port) = installed(&[]);
    // 15 s in 1.5.
    launchd.state().behaviour.exit_pace = 0.1;
    let pid = launchd.pid(&label(port)).unwrap();
    signal(pid, "STOP");
    let ran = launchd.verb("stop", port, &[]).ok();
    assert!(ran.took >= Duration::from_secs(1), "it did not wait: {ran}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_hang_before_ready_fails_the_proof_with_the_log() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.exit_pace = 0.1;
    let env = "MPM_MONITOR_FAILPOINT=hang-before-ready";
    let ran = launchd.verb("install", port, &["--env", env, "--timeout", "2s"]).expect(5);
    assert!(ran.stderr.contains("nobody answered /health on the port within 2s"), "{ran}");
    assert!(ran.stderr.contains("The last log lines") && ran.stderr.contains("starting"), "{ran}");
    assert!(ran.stderr.contains("Install was taken back") && launchd.state().jobs.is_empty(), "{ran}");
}

/// launchd starts a job for each connection to its sockets, so that one which ended would begin anew for ever.
#[test]
fn job_with_sockets_that_gives_up_stays_and_says_why() {
    let (launchd, port) = installed(&["--socket"]);
    launchd.verb("stop", port, &[]).ok();
    let dir = launchd.path("home/.config/mpm-monitor");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "[log]\nnope = 7\n").unwrap();
    let ran = launchd.verb("start", port, &[]).expect(78);
    assert!(ran.stderr.contains("it gave up") && ran.stderr.contains("nope"), "{ran}");
    assert!(ran.took < Duration::from_secs(10), "{ran}");
    for path in ["/health", "/", "/api/events"] {
        let answer = testkit::http::get(port, path).unwrap();
        assert!(answer.status == 503 && answer.body.contains("nope"), "{path}: {answer:?}");
    }
    assert_eq!(launchd.state().jobs.values().next().unwrap().runs, 1, "started again by a connection");
    let status = launchd.verb("status", port, &[]).expect(3);
    assert!(status.stdout.contains("gave up at"), "{status}");
    // Stopped, nobody listens any more.
    launchd.verb("stop", port, &[]).ok();
    assert!(testkit::http::get(port, "/health").is_err());
    fs::remove_file(dir.join("config.toml")).unwrap();
    launchd.verb("start", port, &[]).ok();
}

/// A job that ended cleanly still has its sockets, and the next connection would start it.
#[test]
fn stop_closes_the_sockets_of_a_job_that_is_not_running() {
    let (launchd, port) = installed(&["--socket"]);
    signal(launchd.pid(&label(port)).unwrap(), "TERM");
    eventually(SOON, "its end", || if launchd.pid(&label(port)).is_none() { Ok(()) } else { Err("it runs") });
    launchd.verb("stop", port, &[]).ok();
    assert!(launchd.state().jobs.is_empty(), "launchd still listens");
    assert!(testkit::http::get(port, "/health").is_err());
}

/// A crash loop ends the same way, and whoever connects is told instead of starting the next life.
#[test]
fn crash_loop_of_a_job_with_sockets_ends_in_an_answer() {
    let (launchd, port) = installed(&["--socket"]);
    launchd.verb("stop", port, &[]).ok();
    launchd.state().behaviour.environment.insert("MPM_MONITOR_FAILPOINT".into(), "panic-after-ready".into());
    launchd.verb("start", port, &["--timeout", "2s"]);
    let answer = eventually(Duration::from_secs(60), "the reason", || {
        let answer = testkit::http::get(port, "/health").map_err(|e| e.to_string())?;
        if answer.status == 503 && answer.body.contains("gave_up") { Ok(answer) } else { Err(answer.body) }
    });
    assert!(answer.body.contains("bad ends within") && answer.body.contains("panic"), "{answer:?}");
    let runs = launchd.state().jobs.values().next().unwrap().runs;
    assert!((5..=6).contains(&runs), "{runs} starts");
    until_status(&launchd, port, SOON, &["gave up", "bad ends within"]);
    launchd.state().behaviour.environment.remove("MPM_MONITOR_FAILPOINT");
    launchd.verb("start", port, &[]).ok();
    until_status(&launchd, port, SOON, &["running and ready"]);
}
