//! What it tells a service manager, and what it takes from one: here the manager is the test.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::notify::{Message, NotifySocket};
use testkit::{eventually, figure, here, how_many, http, percentile};

fn started(place: &Place, socket: &NotifySocket, port: u16, environment: &[(&str, &str)]) -> Running {
    let mut command = place.command(["run", "--port", &port.to_string()]);
    command.env("NOTIFY_SOCKET", &socket.name).envs(environment.iter().copied());
    Running::start(&mut command)
}

fn is_ready(message: &Message) -> bool {
    message.says("READY")
}

/// Every datagram is assignments, one a line, and nothing else.
fn well_formed(messages: &[Message]) {
    for message in messages {
        for line in message.text.lines() {
            let (name, _) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {message:?}"));
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{message:?}");
        }
    }
}

/// Pain 6: "started" that is a lie. READY=1 must mean that a client who connects now is served by this very process.
#[test]
fn pain_6_ready_is_told_once_and_only_when_it_answers() {
    let place = Place::new();
    let socket = NotifySocket::in_directory(place.as_ref());
    let port = http::free_port();
    let began = Instant::now();
    let mut daemon = started(&place, &socket, port, &[]);
    let messages = socket.until(SOON, "READY=1", is_ready);
    let took = messages.last().unwrap().at - began;
    let health = http::get(port, "/health").unwrap().json();
    assert_eq!(
        (health["ready"].as_bool(), health["pid"].as_u64()),
        (Some(true), Some(daemon.pid().into())),
        "{health}"
    );
    assert_eq!(http::get(port, "/ready").unwrap().status, 200);
    assert!(messages.last().unwrap().fields.contains_key("STATUS"), "{messages:?}");
    well_formed(&messages);

    signal(daemon.pid(), "TERM");
    let after = socket.until(SOON, "STOPPING=1", |m| m.says("STOPPING"));
    assert!(!after.iter().any(is_ready), "READY=1 a second time: {after:?}");
    well_formed(&after);
    assert_eq!(daemon.end(SOON), 0);
    figure("process_start_to_READY_debug_build", format!("{:.1}", took.as_secs_f64() * 1000.0), "ms");
}

/// Promise P7, start after start: whoever asks at the very moment READY=1 arrives is answered by that process.
#[test]
fn pain_6_no_ready_comes_before_the_answer_that_it_promises() {
    let starts = how_many("MPM_MONITOR_READY_STARTS", 25);
    let (place, port) = (Place::new(), http::free_port());
    let socket = NotifySocket::in_directory(place.as_ref());
    let mut took = Vec::new();
    for _ in 0..starts {
        let began = Instant::now();
        let mut daemon = started(&place, &socket, port, &[]);
        took.push(socket.until(SOON, "READY=1", is_ready).pop().unwrap().at - began);
        let answer = http::get(port, "/health").expect("it said that it is ready");
        let health = answer.json();
        assert_eq!((answer.status, &health["ready"]), (200, &true.into()), "{health}");
        assert_eq!(health["pid"], daemon.pid(), "somebody else answers: {health}");
        signal(daemon.pid(), "KILL");
        assert_eq!(daemon.end(SOON), -9);
        while socket.next(Duration::from_millis(1)).is_some() {}
    }
    figure("starts_whose_READY_was_true", starts, format!("of {starts}").as_str());
    figure("start_to_READY_p50", format!("{:.1}", percentile(&mut took, 50)), "ms");
}

#[test]
fn an_abstract_socket_is_a_socket() {
    let place = Place::new();
    let socket = NotifySocket::in_abstract_namespace(&format!("mpm-monitor-test-{}", std::process::id()));
    let port = http::free_port();
    let mut daemon = started(&place, &socket, port, &[]);
    socket.until(SOON, "READY=1", is_ready);
    signal(daemon.pid(), "TERM");
    socket.until(SOON, "STOPPING=1", |m| m.says("STOPPING"));
    assert_eq!(daemon.end(SOON), 0);
}

/// Pain 15: without the time stamp in the same datagram, `Type=notify-reload` kills a service that reloads.
#[test]
fn pain_15_a_reload_is_told_with_its_time_and_ended_with_ready_even_when_it_fails() {
    let place = Place::new();
    let socket = NotifySocket::in_directory(place.as_ref());
    let port = http::free_port();
    let file = place.path("config.toml");
    std::fs::write(&file, "").unwrap();
    let daemon = started(&place, &socket, port, &[]);
    drop(daemon);
    let mut command = place.command(["run", "--port", &port.to_string(), "--config", file.to_str().unwrap()]);
    let daemon = Running::start(command.env("NOTIFY_SOCKET", &socket.name));
    ready(port, daemon.pid());
    socket.until(SOON, "READY=1", is_ready);
    for (content, fails) in [("[history]\non_connect = 3\n", false), ("[history]\non_connect = \"x\ny\"\n", true)] {
        while socket.next(Duration::from_millis(50)).is_some() {}
        std::fs::write(&file, content).unwrap();
        let before = monotonic_usec();
        signal(daemon.pid(), "HUP");
        let messages = socket.until(SOON, "READY=1 after the reload", is_ready);
        let reloading = messages.iter().position(|m| m.says("RELOADING")).expect("RELOADING=1 comes first");
        let stamp: u64 = messages[reloading].fields["MONOTONIC_USEC"].parse().unwrap();
        assert!((before..=monotonic_usec()).contains(&stamp), "{stamp}");
        let status = &messages.last().unwrap().fields["STATUS"];
        assert_eq!(status.contains("config.toml:"), fails, "the status tells nothing of why: {status}");
        well_formed(&messages);
    }
}

/// Newer systemd fails a service that has no handler for its reload signal by the time it says READY=1, and without one a
/// reload that comes early is the end of the process.
#[cfg(debug_assertions)]
#[test]
fn pain_15_a_reload_before_ready_kills_nobody() {
    let place = Place::new();
    let port = http::free_port();
    let mut command = place.command(["run", "--port", &port.to_string()]);
    let mut daemon = Running::start(command.env("MPM_MONITOR_FAILPOINT", "hang-before-ready"));
    daemon.until(SOON, "the first word", |l| l.contains("starting").then_some(()));
    // It says so with its handlers in place: no wait is needed.
    assert_ne!(caught(daemon.pid()) & 1, 0, "SIGHUP is not handled");
    for _ in 0..3 {
        signal(daemon.pid(), "HUP");
    }
    let there = || std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string());
    eventually(SOON, "its sockets", there);
    signal(daemon.pid(), "HUP");
    signal(daemon.pid(), "KILL");
    assert_eq!(daemon.end(SOON), -9, "it ended by itself: {:?}", daemon.seen);
}

/// The signals that a process handles: bit 0 is signal 1.
#[cfg(debug_assertions)]
fn caught(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap()
}

fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

#[test]
fn the_watchdog_is_fed_three_times_an_interval() {
    let place = Place::new();
    let socket = NotifySocket::in_directory(place.as_ref());
    let port = http::free_port();
    let _daemon = started(&place, &socket, port, &[("WATCHDOG_USEC", "900000")]);
    socket.until(SOON, "READY=1", is_ready);
    let pings: Vec<Instant> =
        (0..8).map(|_| socket.until(SOON, "a ping", |m| m.says("WATCHDOG")).pop().unwrap().at).collect();
    let mut gaps: Vec<Duration> = pings.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_unstable();
    // The middle one: a loaded machine may delay some. A third is 300 ms; half would be 450.
    assert!((Duration::from_millis(200)..Duration::from_millis(450)).contains(&gaps[gaps.len() / 2]), "{gaps:?}");
}

/// A manager that watches somebody else (WATCHDOG_PID) wants no pings of us.
#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let place = Place::new();
    let socket = NotifySocket::in_directory(place.as_ref());
    let port = http::free_port();
    let _daemon = started(&place, &socket, port, &[("WATCHDOG_USEC", "300000"), ("WATCHDOG_PID", "1")]);
    socket.until(SOON, "READY=1", is_ready);
    while let Some(message) = socket.next(Duration::from_millis(600)) {
        assert!(!message.says("WATCHDOG"), "{message:?}");
    }
}

/// Pain 16: a hang must be named before the ping is withheld.
#[cfg(debug_assertions)]
#[test]
fn pain_16_a_stalled_task_is_named_and_not_fed_for() {
    let place = Place::new();
    let socket = NotifySocket::in_directory(place.as_ref());
    let port = http::free_port();
    let environment = [("WATCHDOG_USEC", "900000"), ("MPM_MONITOR_FAILPOINT", "hang-after-ready")];
    let mut daemon = started(&place, &socket, port, &environment);
    socket.until(SOON, "READY=1", is_ready);
    daemon.until(SOON, "the name of the task that stalls", |l| (l.contains("runtime")).then_some(()));
    while socket.next(Duration::from_millis(10)).is_some() {}
    if let Some(message) = socket.next(Duration::from_secs(1)) {
        assert!(!message.says("WATCHDOG"), "it is fed although it hangs: {message:?}");
    }
}

/// Without a manager nobody would end a stalled process but itself, if it was asked to.
#[cfg(debug_assertions)]
#[test]
fn without_a_manager_a_stall_ends_it_only_if_asked() {
    let place = Place::new();
    let port = http::free_port();
    let arguments = ["run", "--port", &port.to_string(), "--watchdog-exit", "--set", "watchdog.timeout=1s"];
    let mut daemon = Running::start(place.command(arguments).env("MPM_MONITOR_FAILPOINT", "hang-after-ready"));
    assert_eq!(daemon.end(SOON), 70, "{:?}", daemon.seen);
}

/// A panic runs the whole way down, and the reason is kept for the next start and for `status`.
#[cfg(debug_assertions)]
#[test]
fn a_panic_ends_it_with_a_reason_that_outlives_it() {
    let place = Place::new();
    let port = http::free_port();
    let mut command = place.command(["run", "--port", &port.to_string()]);
    let mut daemon = Running::start(command.env("MPM_MONITOR_FAILPOINT", "panic-after-ready"));
    assert_eq!(daemon.end(SOON), 70, "{:?}", daemon.seen);
    let log = daemon.seen.join("\n");
    assert!(log.contains("panic") && log.contains("cleanup completed"), "{log}");
    let kept: Vec<String> = std::fs::read_dir(place.path(&format!("state/{port}")))
        .unwrap()
        .filter_map(|e| std::fs::read_to_string(e.unwrap().path()).ok())
        .collect();
    assert!(kept.iter().any(|text| text.contains("panic")), "the ledger tells nothing: {kept:?}");
    assert!(!place.path(&format!("run/{port}.lock")).exists(), "the lock file is left");
    drop(place.serve(port));
}

fn activated(place: &Place, kind: &str, name: &str, port: u16) -> Running {
    let mut wrapped = place.command(["run", "--port", &port.to_string()]);
    let mut command = Command::new("python3");
    command.arg(here("tests/clients/activate.py")).args([kind, name, &port.to_string()]);
    command.arg(wrapped.get_program()).args(wrapped.get_args());
    command.env_clear().envs(wrapped.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let _ = wrapped.env_clear();
    Running::start(&mut command)
}

#[test]
fn it_takes_the_sockets_that_the_manager_passes() {
    let place = Place::new();
    let port = http::free_port();
    let mut daemon = activated(&place, "tcp", "http", port);
    // The manager listens before we are there; whoever comes early waits and is served.
    let health = ready(port, daemon.pid());
    assert_eq!(health["port"], port);
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
}

/// Pain 8: the path belongs to the manager, who goes on listening on it while nobody runs. To remove it would leave a
/// socket that no client finds.
#[test]
fn pain_8_a_passed_unix_socket_is_never_unlinked() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.path("passed.sock");
    for end in ["TERM", "KILL"] {
        let port = http::free_port();
        let mut daemon = activated(&place, &format!("tcp+{}", path.display()), "http", port);
        ready(port, daemon.pid());
        let before = std::fs::symlink_metadata(&path).unwrap();
        std::os::unix::net::UnixStream::connect(&path).expect("it serves there, too");
        signal(daemon.pid(), end);
        daemon.end(SOON);
        let after =
            std::fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{end} removed the manager's socket: {e}"));
        assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino()), "{end}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn it_refuses_a_passed_socket_that_is_no_listener_of_ours() {
    let place = Place::new();
    for kind in ["udp", "unix"] {
        let mut daemon = activated(&place, kind, "http", http::free_port());
        assert_eq!(daemon.end(SOON), 78, "{:?}", daemon.seen);
    }
}
