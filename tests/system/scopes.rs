//! One port, two managers: whoever asks, of whichever scope, is told who serves it.

use serde_json::Value;

use testkit::machine::{Machine, PORT, Scope, unit};

/// The rows of `list` that say that they are ready.
fn ready(list: &Value) -> Vec<&Value> {
    list["instances"].as_array().unwrap().iter().filter(|r| r["state"] == "ready").collect()
}

fn root(machine: &Machine, words: &[&str]) -> testkit::command::Ran {
    machine.root(&[&["/usr/local/bin/mpm-monitor"], words].concat())
}

#[test]
fn port_of_both_scopes_has_one_owner_for_everybody() {
    let machine = boot!(Scope::User);
    machine.install(&[]);
    machine.root(&["install", "-m755", &machine.program(), "/usr/local/bin/mpm-monitor"]).ok();

    // A user's instance, as root sees it.
    let status = root(&machine, &["status", "--system"]).ok();
    assert!(status.stdout.contains("the user manager of boxuser"), "{status}");
    let list = root(&machine, &["list", "--json"]).ok().json();
    let rows = ready(&list);
    assert_eq!((rows.len(), &rows[0]["user"]), (1, &"boxuser".into()), "{list:#}");
    // The other scope's monitor is another monitor, and no stranger.
    let refused = root(&machine, &["install", "--system"]).expect(75);
    assert!(refused.stderr.contains("another mpm-monitor"), "{refused}");

    // The machine's instance has the port, and the user's fails beside it.
    machine.verb("stop", &[]).ok();
    root(&machine, &["install", "--system"]).ok();
    machine.verb("start", &[]).expect(75);
    let status = machine.verb("status", &[]).expect(3);
    assert!(status.stdout.contains("failed") && status.stdout.contains("under the system manager"), "{status}");
    assert_eq!(machine.property(PORT, "ExecMainStatus"), "75", "{}", unit(PORT));
    for list in [machine.program_with(&["list", "--json"]).ok().json(), root(&machine, &["list", "--json"]).ok().json()]
    {
        let rows = ready(&list);
        assert_eq!((rows.len(), &rows[0]["scope"]), (1, &"system".into()), "{list:#}");
    }
    let report = machine.verb("doctor", &["--port", "8765", "--json"]).expect(1).json();
    let checks = report["instances"][0]["checks"].as_array().unwrap();
    let identity = checks.iter().find(|c| c["code"] == "identity").unwrap();
    assert!(identity["summary"].as_str().unwrap().contains("the system manager"), "{identity:#}");
}
