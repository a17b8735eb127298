//! Who gets a port: one of ours, and never by force.

use std::net::TcpListener;
use std::process::Command;

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::{eventually, figure, http};

/// Promise P3, and the daemon of old that let five callers race.
#[test]
fn of_twenty_at_once_one_serves_and_nineteen_say_so() {
    let place = Place::new();
    let port = http::free_port();
    let mut all: Vec<Running> = (0..20).map(|_| place.start(port)).collect();
    let winner = eventually(SOON, "one of them to serve", || {
        http::get(port, "/health").map(|a| a.json()["pid"].as_u64().unwrap_or(0)).map_err(|e| e.to_string())
    });
    let mut losers = 0;
    for daemon in all.iter_mut().filter(|d| u64::from(d.pid()) != winner) {
        assert_eq!(daemon.end(SOON), 75, "{:?}", daemon.seen);
        let said = daemon.seen.join("\n");
        assert!(said.contains("another mpm-monitor serves port"), "{said}");
        losers += 1;
    }
    assert_eq!(losers, 19);
    ready(port, u32::try_from(winner).unwrap());
    figure("concurrent_runs_that_serve", 20 - losers, "of 20");
}

/// Pain 9: restart loops on a taken port, and tools that kill whoever holds it.
#[test]
fn pain_9_a_stranger_on_the_port_is_named_and_left_alone() {
    let place = Place::new();
    let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let ran = place.ran(["run", "--port", &port.to_string()]).expect(69);
    let said = ran.all();
    assert!(said.contains(&format!("pid {}", std::process::id())), "the owner is not named: {said}");
    assert!(said.contains("--port"), "no way out is named: {said}");
    // Still ours, still listening.
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stranger.accept().unwrap();
}

/// Pain 7: a PID file that outlived its process, whose number is somebody else's by now. The lock is the truth, so the new
/// process serves at once, and nobody takes the other one for a monitor, or ends it.
#[test]
fn pain_7_a_file_that_names_a_living_stranger_stops_nobody() {
    let (place, port) = (Place::new(), http::free_port());
    let mut first = place.serve(port);
    let file = place.path(&format!("run/{port}.lock"));
    let left = std::fs::read_to_string(&file).unwrap();
    signal(first.pid(), "KILL");
    first.end(SOON);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), left, "kill -9 leaves the file");
    let stranger = Running::start(Command::new("sleep").arg("600"));
    let reused = left.replace(&format!("\"pid\":{}", first.pid()), &format!("\"pid\":{}", stranger.pid()));
    assert_ne!(reused, left);
    std::fs::write(&file, reused).unwrap();
    let list = place.ran(["list", "--json"]).ok();
    assert!(!list.stdout.contains(&stranger.pid().to_string()), "the stranger is taken for a monitor: {list}");
    let _second = place.serve(port);
    // Still there: signal 0 only asks.
    signal(stranger.pid(), "0");
}

/// A port that is taken on one family only is taken: clients that try the other would meet the stranger.
#[test]
fn a_stranger_on_the_other_family_counts() {
    let Ok(stranger) = TcpListener::bind(("::1", 0)) else {
        return testkit::skip("this machine has no IPv6 loopback");
    };
    let port = stranger.local_addr().unwrap().port();
    Place::new().ran(["run", "--port", &port.to_string()]).expect(69);
}

#[test]
fn auto_takes_the_first_free_port_of_the_range() {
    let place = Place::new();
    let serving = |_: usize| {
        let daemon = Running::start(&mut place.command(["run", "--port", "auto"]));
        let port = eventually(SOON, "its lock file", || {
            let files = std::fs::read_dir(place.path("run")).map_err(|e| e.to_string())?;
            for file in files.flatten() {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                let holder: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                if holder["pid"] == daemon.pid() {
                    return Ok(u16::try_from(holder["port"].as_u64().unwrap()).unwrap());
                }
            }
            Err("none names it".to_owned())
        });
        ready(port, daemon.pid());
        (daemon, port)
    };
    let (_first, one) = serving(1);
    let (_second, two) = serving(2);
    assert!((8765..=8785).contains(&one) && one < two && two <= 8785, "{one} {two}");
}

#[test]
fn an_explicit_port_is_strict() {
    let place = Place::new();
    let port = http::free_port();
    let first = place.serve(port);
    let ran = place.ran(["run", "--port", &port.to_string()]).expect(75);
    assert!(ran.all().contains(&format!("pid {}", first.pid())), "{ran}");
}
