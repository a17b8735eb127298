//! Where a service can go: refusals with one clear sentence, and the environments that login shells do not give.

use crate::harness::machine::{PORT, Scope};

/// Pain 12: `sudo install` of a user's unit puts it into root's home, where nobody finds it.
#[test]
fn sudo_does_not_install_a_users_unit() {
    let machine = boot!(Scope::System);
    let before = machine.tree();
    let refused = machine.root(&[
        "env",
        "SUDO_USER=boxuser",
        &format!("SUDO_UID={}", machine.uid),
        "SUDO_COMMAND=x",
        "/usr/local/bin/mpm-monitor",
        "install",
        "--user",
    ]);
    assert!([7, 8].contains(&refused.code), "{refused}");
    assert!(refused.stderr.contains("sudo"), "the reason is not told: {refused}");
    assert!(before.differences(&machine.tree()).is_empty());
}

#[test]
fn a_missing_runtime_directory_is_found() {
    let machine = boot!(Scope::User);
    let program = machine.program();
    let bare = ["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", program.as_str()];
    machine.user(&[&bare[..], &["install", "--user"]].concat()).ok();
    machine.user(&[&bare[..], &["status", "--user"]].concat()).ok();
    assert_eq!(machine.state(PORT), "active");
}

#[test]
fn a_user_may_not_install_for_the_system() {
    let machine = boot!(Scope::User);
    let refused = machine.program_with(&["install", "--system"]).expect(77);
    assert!(refused.stderr.contains("--user") || refused.stderr.contains("sudo"), "no way out is named: {refused}");
}

/// Pain 3: a unit that points into a folder that the next build or upgrade removes.
#[test]
fn a_program_in_a_transient_place_is_refused() {
    let machine = boot!(Scope::User);
    let transient = "/home/boxuser/project/target/debug/mpm-monitor";
    machine.user(&["install", "-D", &machine.program(), transient]).ok();
    // Taken out of the search path, too, where a stable copy would be found instead.
    machine.user(&["rm", &machine.program()]).ok();
    let refused = machine.user(&[transient, "install", "--user"]).expect(8);
    assert!(refused.stderr.contains("target"), "{refused}");
}

#[test]
fn without_linger_it_says_so_or_sets_it() {
    let machine = boot!(Scope::User);
    machine.root(&["loginctl", "disable-linger", "boxuser"]).ok();
    let installed = machine.verb("install", &["--linger", "auto"]);
    let lingers = machine.root(&["test", "-e", "/var/lib/systemd/linger/boxuser"]).code == 0;
    assert!(lingers || installed.all().contains("enable-linger"), "neither set nor said: {installed}");
}

#[test]
fn roots_default_is_the_system_and_a_users_is_his_own() {
    let machine = boot!(Scope::System);
    machine.root(&["/usr/local/bin/mpm-monitor", "install", "--port", "8765"]).ok();
    assert_eq!(machine.state(8765), "active");
    machine.user(&["/usr/local/bin/mpm-monitor", "install", "--port", "8766"]).ok();
    let state = machine.user(&["systemctl", "--user", "is-active", "mpm-monitor@8766"]).ok();
    assert_eq!(state.text(), "active");
    // Both are seen by `list`, whoever asks.
    let list = machine.user(&["/usr/local/bin/mpm-monitor", "list"]).ok();
    assert!(list.stdout.contains("8765") && list.stdout.contains("8766"), "{list}");
}
