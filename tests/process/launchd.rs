//! What the process does for launchd, which has no start limit, no exit codes that mean "never again" and no watchdog. The
//! variable by which it knows its job is all that launchd gives it, so it can be given here, too.
#![cfg(debug_assertions)]

use std::process::Command;

use serde_json::Value;

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::http;

fn job(place: &Place, port: u16) -> Command {
    let mut command = place.command(["run", "--port", &port.to_string()]);
    command.env("XPC_SERVICE_NAME", format!("mpm-monitor.{port}"));
    // launchd is process 1; a debug build is told who stands in for it.
    command.env("MPM_MONITOR_TEST_LAUNCHD", std::process::id().to_string());
    command
}

fn ledger(place: &Place, port: u16) -> Value {
    let text = std::fs::read_to_string(place.path(&format!("state/{port}/ledger.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Pain 10: launchd restarts for ever.
#[test]
fn pain_10_a_crash_loop_ends_with_exit_0_and_a_reason_and_a_later_start_is_a_new_try() {
    let (place, port) = (Place::new(), http::free_port());
    for _ in 0..4 {
        let mut daemon = Running::start(job(&place, port).env("MPM_MONITOR_FAILPOINT", "panic-after-ready"));
        assert_eq!(daemon.end(SOON), 70, "{:?}", daemon.seen);
    }
    // One is killed: it says nothing, and counts all the same.
    let mut daemon = Running::start(&mut job(&place, port));
    ready(port, daemon.pid());
    signal(daemon.pid(), "KILL");
    daemon.end(SOON);

    let mut daemon = Running::start(&mut job(&place, port));
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    let said = daemon.seen.join("\n");
    assert!(said.contains("5 bad ends within 120 s") && said.contains("not asked for another start"), "{said}");
    let reason = ledger(&place, port)["gave_up"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("5 bad ends") && reason.contains("ended without a word"), "{reason}");

    let mut daemon = Running::start(&mut job(&place, port));
    ready(port, daemon.pid());
    assert_eq!(ledger(&place, port)["gave_up"], Value::Null);
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0);
}

#[test]
fn what_no_restart_cures_ends_with_exit_0_and_a_reason() {
    let place = Place::new();
    let stranger = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let mut daemon = Running::start(&mut job(&place, port));
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    let reason = ledger(&place, port)["gave_up"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains(&format!("port {port} is taken by")), "{reason}");

    let mut daemon = Running::start(job(&place, port).env("MPM_MONITOR_SERVER_MAX_CLIENTS", "many"));
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    assert!(daemon.seen.join("\n").contains("MPM_MONITOR_SERVER_MAX_CLIENTS"), "{:?}", daemon.seen);
    let told = &ledger(&place, port)["gave_up"];
    assert!(told["reason"].as_str().unwrap_or_default().contains("\"many\" is no whole number"), "{told}");
    assert_eq!(told["exit_code"], 78);

    // Whoever serves the port keeps its ledger to itself.
    let port = http::free_port();
    let serving = Running::start(&mut job(&place, port));
    ready(port, serving.pid());
    let mut second = Running::start(&mut job(&place, port));
    assert_eq!(second.end(SOON), 0, "{:?}", second.seen);
    assert_eq!(ledger(&place, port)["life"]["pid"], serving.pid());
}

/// The watchdog is the process's own thread: it ends the process, and launchd starts another.
#[test]
fn a_hang_ends_the_process_with_a_code_that_launchd_restarts_on() {
    let (place, port) = (Place::new(), http::free_port());
    let mut command = job(&place, port);
    command.env("MPM_MONITOR_FAILPOINT", "hang-after-ready").env("MPM_MONITOR_WATCHDOG_TIMEOUT", "1s");
    let mut daemon = Running::start(&mut command);
    assert_eq!(daemon.end(SOON), 70, "{:?}", daemon.seen);
    let reason = ledger(&place, port)["last_failure"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.starts_with("stalled:"), "{reason}");
}

/// Pain 18: logs that grow to gigabytes. What is caught of standard error is made small at a start, in place.
#[test]
fn pain_18_the_log_is_a_bounded_file_and_what_launchd_caught_is_made_small() {
    let (place, port) = (Place::new(), http::free_port());
    let (log, caught) = (place.path("logs/monitor.log"), place.path("caught.log"));
    std::fs::write(&caught, "old panic\n".repeat(200_000)).unwrap();
    let stderr = std::fs::OpenOptions::new().append(true).open(&caught).unwrap();
    let mut command = job(&place, port);
    command
        .env("MPM_MONITOR_LOG_FILE", &log)
        .env("MPM_MONITOR_LOG_FILE_BYTES", "4096")
        .env("MPM_MONITOR_LOG_LEVEL", "debug");
    let mut child = command.stderr(stderr).stdout(std::process::Stdio::null()).spawn().unwrap();
    ready(port, child.id());
    // Each refusal is a line.
    for _ in 0..400 {
        assert_eq!(http::request(port, "POST", "/api/events", Some("[]")).unwrap().status, 400);
    }
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::metadata(&caught).unwrap().len(), 0);
    let kept = std::fs::read_to_string(place.path("caught.log.1")).unwrap();
    assert!(kept.len() <= 256 << 10 && kept.lines().all(|l| l == "old panic"), "{} bytes", kept.len());
    let files: Vec<u64> =
        std::fs::read_dir(place.path("logs")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(files.len(), 6, "the file and five older ones");
    assert!(files.iter().all(|size| *size <= 4096), "{files:?}");
    assert!(std::fs::read_to_string(&log).unwrap().contains("cleanup completed"));
}

/// What a job of launchd's starts by hand inherits the job's name, but launchd restarts it for nobody.
#[test]
fn child_of_a_job_is_not_the_job() {
    let (place, stranger) = (Place::new(), std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let port = stranger.local_addr().unwrap().port();
    let mut daemon = Running::start(job(&place, port).env("MPM_MONITOR_TEST_LAUNCHD", "1"));
    assert_eq!(daemon.end(SOON), 69, "{:?}", daemon.seen);
}

/// launchd and shells on macOS give 256 descriptors, of which each client takes one and more.
#[test]
fn low_limit_of_open_files_is_raised_at_the_start() {
    let (place, port) = (Place::new(), http::free_port());
    let command = place.command(["run"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -S -n 256 && exec \"$0\" run --port \"$1\"", &testkit::program(), &port.to_string()]);
    limited.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = Running::start(&mut limited);
    ready(port, daemon.pid());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft >= 4096, "{line}");
    let streams: Vec<_> = (0..400).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(http::get(port, "/ready").unwrap().status, 200, "with {} connections", streams.len());
}
