//! What root runs for the machine's service belongs to root alone.

use testkit::machine::{Machine, Scope};

/// The user's copy of the program.
const USERS: &str = "/home/boxuser/bin/mpm-monitor";
/// What leaves a trace when it is run.
const TRACER: &str = "#!/bin/sh\nid -u >> /srv/trace\necho 'mpm-monitor 9.9.9 (build bad)'\n";

#[test]
fn program_that_a_user_can_change_is_neither_installed_nor_run() {
    let Some(machine) = Machine::boot(Scope::System) else { return };
    machine.root(&["mkdir", "-p", "/home/boxuser/bin", "/opt/mpm"]).ok();
    machine.root(&["cp", &machine.program(), USERS]).ok();
    machine.root(&["cp", &machine.program(), "/opt/mpm/mpm-monitor"]).ok();
    // Root's own file in a user's folder is as good as the user's.
    machine.root(&["chown", &machine.uid, "/home/boxuser", "/home/boxuser/bin"]).ok();
    machine.root(&["chmod", "755", "/home/boxuser"]).ok();
    let refused = machine.verb("install", &["--program", USERS]).expect(8);
    assert!(refused.stderr.contains(&format!("belongs to uid {}", machine.uid)), "{refused}");
    machine.root(&["chmod", "775", "/opt/mpm"]).ok();
    let refused = machine.verb("install", &["--program", "/opt/mpm/mpm-monitor"]).expect(8);
    assert!(refused.stderr.contains("/opt/mpm may be written by others than root"), "{refused}");
    machine.root(&["chmod", "755", "/opt/mpm"]).ok();
    machine.verb("install", &["--program", "/opt/mpm/mpm-monitor"]).ok();

    // An upgrade takes no file of the user's, and does not run it to find that out.
    machine.write("/opt/tracer", TRACER);
    machine.root(&["cp", "/opt/tracer", USERS]).ok();
    machine.root(&["chmod", "755", USERS]).ok();
    let refused = machine.verb("upgrade", &["--from", USERS]).expect(8);
    assert!(refused.stderr.contains("root does not run"), "{refused}");

    // Somebody gives the folder away afterwards, and the user swaps the file.
    machine.root(&["chown", &machine.uid, "/opt/mpm"]).ok();
    machine.root(&["mv", "/opt/mpm/mpm-monitor", "/opt/mpm/old"]).ok();
    machine.root(&["cp", USERS, "/opt/mpm/mpm-monitor"]).ok();
    let status = machine.verb("status", &["--json"]).ok().json();
    let weak = status["versions"]["program_weak"].as_str().unwrap_or_default();
    assert!(weak.starts_with("/opt/mpm belongs to uid"), "{status}");
    machine.run(&[&machine.program(), "list"]).ok();
    let doctor = machine.verb("doctor", &[]);
    assert!(doctor.stdout.contains("others can change what root"), "{doctor}");
    machine.root(&["cp", "/opt/mpm/old", "/srv/new"]).ok();
    machine.verb("upgrade", &["--from", "/srv/new"]).expect(8);
    assert_eq!(machine.root(&["test", "-e", "/srv/trace"]).code, 1, "the user's file was run by root");
}
