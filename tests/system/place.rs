//! Where a service can go: refusals with one clear sentence, and the environments that login shells do not give.

use testkit::machine::{PORT, Scope};

/// Pain 12: `sudo install` of a user's unit puts it into root's home, where nobody finds it.
#[test]
fn pain_12_sudo_does_not_install_a_users_unit() {
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
fn pain_12_a_missing_runtime_directory_is_found() {
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
fn pain_3_a_program_in_a_transient_place_is_refused() {
    let machine = boot!(Scope::User);
    let transient = "/home/boxuser/project/target/debug/mpm-monitor";
    machine.user(&["install", "-D", &machine.program(), transient]).ok();
    // Taken out of the search path, too, where a stable copy would be found instead.
    machine.user(&["rm", &machine.program()]).ok();
    let refused = machine.user(&[transient, "install", "--user"]).expect(8);
    assert!(refused.stderr.contains("target"), "{refused}");
}

/// Pain 12, a user without a manager of their own: reached by `su`, in a container, or logged out.
#[test]
fn pain_12_without_a_users_manager_it_is_one_sentence_and_the_files_can_still_be_written() {
    let machine = boot!(Scope::User);
    let manager = format!("user@{}.service", machine.uid);
    machine.root(&["systemctl", "stop", &manager]).ok();
    let before = machine.tree();
    for verb in ["install", "start", "stop", "restart", "reload"] {
        let refused = machine.verb(verb, &[]);
        let said = refused.stderr.trim();
        assert_eq!(refused.code, 7, "{refused}");
        assert!(said.contains("loginctl enable-linger boxuser") && said.contains("`mpm-monitor run`"), "{refused}");
        assert_eq!(said.lines().count(), 1, "{refused}");
    }
    assert_eq!(before.differences(&machine.tree()), [""; 0], "something was written");
    machine.verb("status", &[]).expect(4);
    machine.verb("install", &["--no-start"]).ok();
    // The next login starts it.
    machine.root(&["systemctl", "start", &manager]).ok();
    let ready = machine.client(&["probe.py", "ready", "8765"]);
    assert_eq!(ready["health"]["ready"], true);
}

/// Pain 13: a service that ends with the last logout, and nobody said so.
#[test]
fn pain_13_without_linger_it_is_set_or_said_and_required_it_is_required() {
    let machine = boot!(Scope::User);
    let lingers = || machine.root(&["test", "-e", "/var/lib/systemd/linger/boxuser"]).code == 0;
    let off = || {
        machine.root(&["loginctl", "disable-linger", "boxuser"]).ok();
        // Without it, and without a login, logind would end the manager that is asked here some seconds later.
        machine.root(&["systemctl", "start", &format!("user@{}.service", machine.uid)]).ok();
    };
    off();
    let before = machine.tree();
    let required = machine.verb("install", &["--linger", "yes"]);
    assert_eq!(required.code == 0, lingers(), "it says the opposite of what is: {required}");
    if required.code == 0 {
        machine.verb("uninstall", &["--purge"]).ok();
        assert!(!lingers(), "install set it, and uninstall left it");
    } else {
        assert!(required.stderr.contains("linger"), "{required}");
        assert_eq!(before.differences(&machine.tree()), [""; 0], "a failed install left something");
    }
    off();
    let told = machine.verb("install", &["--linger", "auto"]).ok();
    assert_ne!(lingers(), told.all().contains("enable-linger"), "neither set nor said, or both: {told}");
    assert_eq!(lingers(), told.stderr.contains("lingering is on for boxuser now"), "set without a word: {told}");
    let status = machine.verb("status", &["--json"]).ok().json();
    assert_eq!(status["linger"], lingers(), "{status:#}");
    off();
    machine.verb("install", &["--linger", "no"]).ok();
    assert!(!lingers(), "set although nobody wanted it");
    let status = machine.verb("status", &[]).ok();
    assert!(status.all().contains("enable-linger"), "it does not say what will happen at the logout: {status}");
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
