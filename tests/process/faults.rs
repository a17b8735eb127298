//! Promise P11: what the machine does to a process. No descriptors left, a home that cannot be written to, a clock that jumps by
//! a day, a process that is stopped and goes on, nobody who set `XDG_RUNTIME_DIR`. (A full disk is in
//! `crates/events/src/store/tests/disk.rs`.) In each case it serves, or says in a sentence why it cannot, and is well afterwards.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, descriptors, metric, ready, signal};
use testkit::notify::NotifySocket;
use testkit::wire::{Poster, Sio, connect};
use testkit::{eventually, figure, http, skip};

/// A command by another one that prepares something and then becomes it.
fn wrapped(mut command: Command, by: &[&str]) -> Command {
    let mut outer = Command::new(by[0]);
    outer.args(&by[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    let _ = command.env_clear();
    outer
}

#[test]
fn without_descriptors_it_waits_for_some_and_recovers() {
    let (place, port) = (Place::new(), http::free_port());
    let by = ["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""];
    let mut daemon = Running::start(&mut wrapped(place.command(["run", "--port", &port.to_string()]), &by));
    ready(port, daemon.pid());
    let before = descriptors(daemon.pid());
    let mut poster = Poster::new(port).unwrap();
    assert_eq!(poster.post("{}").unwrap(), 204);

    // More than it has room for; those that it cannot accept wait in the kernel.
    let crowd: Vec<TcpStream> = (0..60).map(|_| connect(port).unwrap()).collect();
    eventually(SOON, "it to have no descriptor left", || match descriptors(daemon.pid()) {
        40.. => Ok(()),
        n => Err(n),
    });
    // Who is in is served.
    for _ in 0..20 {
        assert_eq!(poster.post("{}").unwrap(), 204);
    }
    drop(crowd);
    eventually(SOON, "it to be as before", || {
        let now = descriptors(daemon.pid());
        // Its own connection to us, and the one that asks.
        if now <= before + 2 { Ok(()) } else { Err(format!("{now}, {before} before")) }
    });
    ready(port, daemon.pid());
    let errors = metric(port, "accept_errors_total", "");
    // It rests between two tries; without that it would be some hundred thousand a second.
    assert!((1.0..1000.0).contains(&errors), "{errors} errors: it was not out of descriptors, or it spun");
    figure("no_descriptors_accept_errors", errors, "errors");
    assert_eq!(poster.post("{}").unwrap(), 204);
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
}

/// Read-only as a disk is after an error: not even root can write to it.
#[test]
fn a_read_only_home_is_no_obstacle_or_named() {
    let (place, port) = (Place::new(), http::free_port());
    let port_text = port.to_string();
    let home = place.path("home").display().to_string();
    let script = format!("mount --bind '{home}' '{home}' && mount -o remount,bind,ro '{home}' && exec \"$0\" \"$@\"");
    // As root it makes the namespace by itself; a user is root in one of their own.
    let root = rustix::process::geteuid().is_root();
    let by: Vec<&str> = ["unshare", "--mount"]
        .into_iter()
        .chain((!root).then_some("--map-root-user"))
        .chain(["sh", "-c", script.as_str()])
        .collect();
    if !wrapped(Command::new("true"), &by).env("PATH", "/usr/bin:/bin").output().is_ok_and(|out| out.status.success()) {
        return skip("no mount namespace can be made here");
    }
    // Its state is elsewhere: it needs nothing of the home.
    let mut daemon = Running::start(&mut wrapped(place.command(["run", "--port", &port_text]), &by));
    ready(port, daemon.pid());
    assert_eq!(http::post_event(port, "x").unwrap().status, 204);
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);

    // Its state is in the home: a sentence that names the place and the way out, and a code that says the same.
    let mut command = place.command(["run", "--port", &port_text]);
    command.env_remove("MPM_MONITOR_STATE_DIR");
    let mut daemon = Running::start(&mut wrapped(command, &by));
    assert_eq!(daemon.end(SOON), 73, "{:?}", daemon.seen);
    let said = daemon.seen.join("\n");
    assert!(said.contains(&home) && said.contains("Read-only file system") && said.contains("state_dir"), "{said}");
    assert!(!place.path(&format!("run/{port}.lock")).exists(), "the lock file is left");
    figure("read_only_home_exit_code", 73, "(cannot create)");
}

/// The library that lets a process see another time of day; `scripts/setup.sh test` installs it.
fn faketime() -> Option<PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib").ok()?.flatten();
    dirs.map(|d| d.path().join("faketime/libfaketimeMT.so.1")).find(|p| p.exists())
}

/// The time of day jumps (a battery that died, the first answer of a time server), as no interval does.
#[test]
fn a_clock_that_jumps_by_a_day_disturbs_nobody() {
    let Some(library) = faketime() else { return skip("there is no libfaketime (apt-get install libfaketime)") };
    let (place, port) = (Place::new(), http::free_port());
    let socket = NotifySocket::in_directory(place.as_ref());
    let clock = place.path("clock");
    let set = |offset: &str| {
        // As a whole, as the process reads it at any moment.
        std::fs::write(place.path("clock.new"), offset).unwrap();
        std::fs::rename(place.path("clock.new"), &clock).unwrap();
    };
    let start = || {
        let mut command = place.command(["run", "--port", &port.to_string()]);
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        Running::start(command.env("NOTIFY_SOCKET", &socket.name).env("WATCHDOG_USEC", "900000"))
    };
    set("+0");
    let mut daemon = start();
    let first = ready(port, daemon.pid());
    let mut client = Sio::join(connect(port).unwrap()).unwrap();
    let mut posted = Vec::new();
    for (jump, offset) in [("none", "+0"), ("forward", "+1d"), ("back", "-1d"), ("home", "+0")] {
        set(offset);
        assert_eq!(http::post_event(port, jump).unwrap().status, 204);
        posted.push(jump);
        client.until(&format!("\"{jump}\"")).expect("the client that was there hears it");
        while socket.next(Duration::from_millis(1)).is_some() {}
        for _ in 0..3 {
            socket.until(SOON, "the watchdog to be fed", |m| m.says("WATCHDOG"));
        }
        let health = ready(port, daemon.pid());
        assert_eq!(health["instance_id"], first["instance_id"], "{jump}");
        assert!(health["uptime"].as_f64().is_some_and(|s| (0.0..600.0).contains(&s)), "{jump}: {health}");
    }
    // A life that begins yesterday and ends tomorrow, after one that was killed today.
    signal(daemon.pid(), "KILL");
    daemon.end(SOON);
    set("-1d");
    let mut daemon = start();
    ready(port, daemon.pid());
    set("+1d");
    let days = days_of_events(port, &posted);
    assert_eq!(days, 3, "the clock did not jump at all, or events are lost");
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    figure("clock_jumps_events_lost", 0, format!("of {}", posted.len()).as_str());
}

/// On how many days the events came, which must be these, in this order.
#[track_caller]
fn days_of_events(port: u16, wanted: &[&str]) -> usize {
    let stored = http::get(port, "/api/events?after=0").unwrap().json();
    let events = stored["events"].as_array().unwrap();
    let markers: Vec<&str> = events.iter().filter_map(super::life::marker).collect();
    assert_eq!(markers, wanted);
    let mut days: Vec<String> =
        events.iter().map(|e| e["accepted"].as_str().expect("when it came")[..10].to_owned()).collect();
    days.sort();
    days.dedup();
    days.len()
}

/// Stopped for longer than its watchdog's limit, in a job that ends itself when it hangs: it was no hang.
#[test]
fn stopped_and_continued_it_goes_on_as_before() {
    let (place, port) = (Place::new(), http::free_port());
    let mut command = place.command(["run", "--port", &port.to_string(), "--watchdog-exit"]);
    let mut daemon = Running::start(command.args(["--set", "watchdog.timeout=1s"]));
    let first = ready(port, daemon.pid());
    let mut client = Sio::join(connect(port).unwrap()).unwrap();
    let stops = 3;
    for round in 0..stops {
        signal(daemon.pid(), "STOP");
        let stopped = Instant::now();
        // Whoever comes now waits, and is served.
        let waiting = std::thread::spawn(move || http::post_event(port, &format!("while stopped {round}")));
        std::thread::sleep(Duration::from_millis(1300).saturating_sub(stopped.elapsed()));
        signal(daemon.pid(), "CONT");
        assert_eq!(waiting.join().unwrap().unwrap().status, 204);
        client.until(&format!("while stopped {round}")).expect("the client that was there hears it");
        assert_eq!(ready(port, daemon.pid())["instance_id"], first["instance_id"]);
    }
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    assert!(!daemon.seen.join("\n").contains("stalled for too long"), "{:?}", daemon.seen);
    figure("stopped_and_continued", stops, "times, by the same process");
}

/// As in cron and after `su`.
#[test]
fn without_a_runtime_directory_the_lock_is_where_everybody_looks() {
    let (place, port) = (Place::new(), http::free_port());
    let command = |words: &[&str]| {
        let mut command = place.command(words);
        command.env_remove("XDG_RUNTIME_DIR").env_remove("MPM_MONITOR_RUNTIME_DIR");
        command
    };
    let port_text = port.to_string();
    let mut first = Running::start(&mut command(&["run", "--port", &port_text]));
    ready(port, first.pid());
    // Found by the lock and not by the port: the second one says who it is.
    let second = testkit::command::run(&mut command(&["run", "--port", &port_text]), SOON).expect(75);
    assert!(second.all().contains(&format!("pid {}", first.pid())), "{second}");
    signal(first.pid(), "TERM");
    assert_eq!(first.end(SOON), 0, "{:?}", first.seen);
    figure("no_runtime_directory_daemons", 1, "of 2 started");
}
