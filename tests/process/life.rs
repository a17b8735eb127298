//! One life of the process: signals, reloads, kills, and many lives after each other.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::{eventually, http};

#[test]
fn term_and_int_end_it_cleanly_with_a_report() {
    for name in ["TERM", "INT"] {
        let place = Place::new();
        let port = http::free_port();
        let mut daemon = place.serve(port);
        assert!(http::post_event(port, "last words").unwrap().status < 300);
        signal(daemon.pid(), name);
        assert_eq!(daemon.end(SOON), 0);
        let log = daemon.seen.join("\n");
        assert!(log.contains("cleanup completed"), "{log}");
        assert!(log.contains("joined") && log.contains(" ms"), "no report of the components:\n{log}");
        assert!(!place.path(&format!("run/{port}.lock")).exists(), "the lock file is left");
        http::get(port, "/health").unwrap_err();
    }
}

/// A ready daemon with that drain deadline, and a client that never ends its request and so holds up the drain.
#[track_caller]
fn held_up(place: &Place, drain: &str) -> (Running, TcpStream) {
    let port = http::free_port();
    let drain = format!("server.drain_timeout={drain}");
    let daemon = Running::start(&mut place.command(["run", "--port", &port.to_string(), "--set", &drain]));
    ready(port, daemon.pid());
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(slow, "POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 100\r\n\r\n{{").unwrap();
    // It must have seen the head of that request, or there is nothing to wait for.
    assert!(http::get(port, "/health").is_ok());
    (daemon, slow)
}

/// A client that never ends its request holds up the drain; whoever asks twice does not want to wait for it.
#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    let (mut daemon, slow) = held_up(&place, "12s");
    signal(daemon.pid(), "TERM");
    daemon.until(SOON, "the beginning of the shutdown", |l| l.contains("told to stop").then_some(()));
    let began = Instant::now();
    signal(daemon.pid(), "TERM");
    let code = daemon.end(SOON);
    assert_ne!(code, 0, "an end that was cut short is no clean end");
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
    drop(slow);
}

#[test]
fn the_drain_has_a_deadline() {
    let place = Place::new();
    let (mut daemon, slow) = held_up(&place, "1s");
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(Duration::from_secs(10)), 0, "{:?}", daemon.seen);
    assert!(daemon.seen.join("\n").contains("cleanup completed"), "{:?}", daemon.seen);
    drop(slow);
}

/// Finding 000-4.3: what had to be cut off is counted, by the next life, as the one that did it is gone.
#[test]
fn parts_that_were_cut_off_are_counted_and_the_phases_of_a_start_are_told() {
    use testkit::daemon::metric;
    let place = Place::new();
    let (mut daemon, slow) = held_up(&place, "100ms");
    let port = slow.peer_addr().unwrap().port();
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    assert!(daemon.seen.join("\n").contains("server aborted"), "{:?}", daemon.seen);
    drop(slow);
    for lives in 0..2 {
        let mut daemon = place.serve(port);
        assert_eq!(metric(port, "parts_aborted_total", ""), 1.0, "after {lives} more lives that ended well");
        for phase in ["store", "history", "hub", "listeners", "self-probe"] {
            let after = metric(port, "startup_phase_seconds", &format!("\"{phase}\""));
            assert!(after > 0.0 && after < SOON.as_secs_f64(), "{phase}: {after}");
        }
        signal(daemon.pid(), "TERM");
        assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    }
}

#[test]
fn hup_applies_a_good_configuration_and_keeps_the_old_for_a_bad_one() {
    let place = Place::new();
    let file = place.path("config.toml");
    std::fs::write(&file, "[history]\non_connect = 5\n").unwrap();
    let port = http::free_port();
    let mut daemon =
        Running::start(&mut place.command(["run", "--port", &port.to_string(), "--config", file.to_str().unwrap()]));
    let before = ready(port, daemon.pid());
    assert_eq!(before["config_generation"], 1);

    std::fs::write(&file, "[history]\non_connect = 6\n").unwrap();
    signal(daemon.pid(), "HUP");
    let health = || http::get(port, "/health").map(|a| a.json()).map_err(|e| e.to_string());
    eventually(SOON, "the second configuration", || {
        let health = health()?;
        if health["config_generation"] == 2 { Ok(()) } else { Err(health.to_string()) }
    });

    std::fs::write(&file, "[history]\non_connect = \"all of them\"\n").unwrap();
    signal(daemon.pid(), "HUP");
    daemon.until(SOON, "the reason", |l| l.contains("config.toml:2").then_some(()));
    let after = health().unwrap();
    assert_eq!(after["config_generation"], 2);
    assert_eq!(after["ready"], true);
    assert_eq!(after["instance_id"], before["instance_id"]);
}

/// The promise: what got a 2xx is there after `kill -9`, under its number, and numbers go on.
#[test]
fn what_was_accepted_survives_kill_9() {
    let place = Place::new();
    let port = http::free_port();
    let mut accepted = Vec::new();
    for round in 0..10 {
        let mut daemon = place.serve(port);
        for i in 0..20 {
            let marker = format!("m-{round}-{i}");
            if http::post_event(port, &marker).is_ok_and(|a| (200..300).contains(&a.status)) {
                accepted.push(marker);
            }
        }
        signal(daemon.pid(), "KILL");
        assert_eq!(daemon.end(SOON), -9);
    }
    let _daemon = place.serve(port);
    let stored = http::get(port, "/api/events?after=0&limit=1000").unwrap().json();
    let events = stored["events"].as_array().unwrap();
    let markers: Vec<&str> = events.iter().filter_map(|e| marker(e)).collect();
    assert_eq!(accepted.len(), 200);
    assert_eq!(markers, accepted, "not exactly what was accepted, in that order");
    let numbers: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// The marker of [`http::post_event`] anywhere in a stored event.
pub fn marker(event: &serde_json::Value) -> Option<&str> {
    match event {
        serde_json::Value::Object(fields) => {
            fields.get("marker").and_then(|m| m.as_str()).or_else(|| fields.values().find_map(marker))
        }
        _ => None,
    }
}

/// Review finding: a daemon that leaves something behind with each restart.
#[test]
#[cfg(target_os = "linux")]
fn a_hundred_lives_leave_nothing_behind() {
    use testkit::daemon::{descriptors, resident};
    use testkit::{figure, percentile};
    let place = Place::new();
    let port = http::free_port();
    let (mut fds, mut threads, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let mut took = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let mut daemon = place.serve(port);
        took.push(began.elapsed());
        fds.push(descriptors(daemon.pid()));
        // A reader of the history that the start needed ends some seconds later; it is not counted by its name.
        threads.push(threads_of(daemon.pid()));
        memory.push(resident(daemon.pid()));
        pids.push(daemon.pid());
        signal(daemon.pid(), "TERM");
        assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    }
    // The kernel may still be closing the connection that asked for readiness.
    let (fewest, most) = (fds.iter().min().unwrap(), fds.iter().max().unwrap());
    assert!(most - fewest <= 2, "the number of descriptors wanders: {fds:?}");
    let orphans: Vec<_> = processes_of(&place).into_iter().filter(|p| !pids.contains(p)).collect();
    assert!(orphans.is_empty(), "left behind: {orphans:?}");
    let mut left: Vec<_> =
        std::fs::read_dir(place.path("run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|f| !f.starts_with("mpm-monitor"));
    assert!(left.is_empty(), "left in the runtime directory: {left:?}");
    figure("cycles", 100, "starts");
    figure("cycle_descriptors", most, "fds");
    // The history of a hundred starts is in the directory by now: a start must not cost more for it.
    let middle = |of: &[u64]| {
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    let (early, late) = (middle(&memory[..20]), middle(&memory[80..]));
    figure("cycle_memory_growth", late as i64 - early as i64, "KiB, the last 20 starts beside the first 20");
    assert!(late < early + 1024, "the starts grow: {memory:?}");
    assert!(threads.iter().all(|t| *t == threads[0]), "the number of threads wanders: {threads:?}");
    figure("cycle_threads", threads[0], "threads");
    figure("cycle_orphans", orphans.len(), "processes");
    figure("cycle_start_to_ready_p50", format!("{:.0}", percentile(&mut took, 50)), "ms");
}

/// The threads of a process that are there for all of its life.
#[cfg(target_os = "linux")]
fn threads_of(pid: u32) -> usize {
    // Until a thread first runs it has the name of the one that made it, and those of the store are made by a "blocking" one.
    eventually(SOON, "the store's threads to run", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        let names: Vec<String> = names.map(|name| name.trim().to_owned()).filter(|name| name != "blocking").collect();
        let run = ["store", "indexer"].iter().all(|thread| names.iter().any(|name| name == thread));
        if run { Ok(names.len()) } else { Err(names.join(", ")) }
    })
}

/// Pain 20: orphans and zombies. The daemon starts no process, whatever is asked of it, and so can leave none.
#[test]
#[cfg(target_os = "linux")]
fn pain_20_the_daemon_has_no_children_and_leaves_none() {
    use testkit::figure;
    use testkit::wire::{Sio, connect};
    let children = |pid: u32| -> String {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok()).collect()
    };
    for end in ["TERM", "KILL"] {
        let (place, port) = (Place::new(), http::free_port());
        let mut daemon = place.serve(port);
        let client = Sio::join(connect(port).unwrap()).unwrap();
        let paths = ["/", "/health", "/ready", "/metrics", "/api/status", "/api/clients", "/api/events?after=0"];
        for path in paths.into_iter().chain(["/api/config", "/api/working-directory", "/version.json"]) {
            http::get(port, path).unwrap();
            assert_eq!(children(daemon.pid()), "", "{path} started a process");
        }
        assert_eq!(http::post_event(port, "x").unwrap().status, 204);
        for name in ["HUP", "USR1"] {
            signal(daemon.pid(), name);
        }
        http::get(port, "/health").unwrap();
        assert_eq!(children(daemon.pid()), "");
        // A tmux that it started, as a server or to ask one, would be a process with this home.
        assert_eq!(processes_of(&place), [daemon.pid()]);
        signal(daemon.pid(), end);
        daemon.end(SOON);
        let left = processes_of(&place);
        assert!(left.is_empty(), "{end} leaves {left:?}");
        drop(client);
    }
    figure("children_of_the_daemon", 0, "processes");
}

/// The processes whose home is in this place.
#[cfg(target_os = "linux")]
fn processes_of(place: &Place) -> Vec<u32> {
    let home = format!("HOME={}", place.path("home").display());
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        environment.split(|&b| b == 0).any(|v| v == home.as_bytes()).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}
