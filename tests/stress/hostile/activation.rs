//! An environment that speaks of sockets which nobody passed: left over from another process, or meant to confuse.

use std::time::Duration;

use testkit::command::run;
use testkit::daemon::Place;
use testkit::{http, program};

/// Runs with `LISTEN_PID` being right, which only the process's own parent in the same process can arrange.
fn with_environment(fds: &str, names: &str) -> testkit::command::Ran {
    let place = Place::new();
    let port = http::free_port().to_string();
    let command = place.command(["run", "--port", &port]);
    let mut shell = std::process::Command::new("timeout");
    shell.args(["--signal=TERM", "5", "sh", "-c", "LISTEN_PID=$$ exec \"$0\" run --port \"$1\"", &program(), &port]);
    shell.env_clear().envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    shell.env("LISTEN_FDS", fds).env("LISTEN_FDNAMES", names);
    run(&mut shell, Duration::from_secs(30))
}

#[test]
fn descriptors_that_nobody_passed_are_not_taken() {
    let long = "x".repeat(100_000);
    let cases = [
        ("1", "http"),
        ("2", "http:http"),
        ("6", "http:http:http:http:http:http"),
        ("+1", "http"),
        ("1", &long),
        ("1", ":::"),
        ("-1", "http"),
        ("abc", "http"),
        ("", "http"),
        ("1 ", "http"),
        ("2147483647", "http"),
        ("4294967295", "http"),
        ("99999999999", "http"),
    ];
    for (fds, names) in cases {
        let ran = with_environment(fds, names);
        assert_eq!(ran.code, 78, "LISTEN_FDS={fds:?}, {:.20}: {ran}", names);
        assert!(ran.all().contains("check the socket unit"), "no reason: {ran}");
        assert!(!ran.all().contains("panicked"), "{ran}");
    }
}
