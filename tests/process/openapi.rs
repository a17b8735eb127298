//! The real program answers as `docs/openapi.json` says, and serves that description.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::command::run;
use testkit::daemon::Place;
use testkit::{figure, here, http, program, skip};

#[test]
fn the_description_is_served_as_it_stands() {
    let (place, port) = (Place::new(), http::free_port());
    let _daemon = place.serve(port);
    let answer = http::get(port, "/openapi.json").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, std::fs::read_to_string(here("docs/openapi.json")).unwrap());
    assert_eq!(answer.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// schemathesis asks every operation with what the description allows and with what it does not; `scripts/schemathesis.sh`
/// does so at length.
#[test]
fn what_is_answered_is_what_the_description_promises() {
    let target = testkit::target();
    if !Path::new(&format!("{target}/test-schemathesis/bin/st")).exists() {
        return skip("schemathesis is not there; scripts/setup.sh test installs it");
    }
    let mut command = Command::new(here("scripts/schemathesis.sh"));
    command.arg("short").env("MPM_MONITOR_BIN", program());
    let ran = run(&mut command, Duration::from_secs(150));
    let cases = ran.stdout.lines().find(|line| line.contains(" generated, ")).unwrap_or_default().trim().to_owned();
    let ran = ran.ok();
    assert!(!cases.is_empty(), "{ran}");
    figure("schemathesis", cases, &format!("in {:.1} s", ran.took.as_secs_f64()));
}
