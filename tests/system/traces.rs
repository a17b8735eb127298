//! What an installation leaves: nothing but what it says, and the same each time.

use testkit::figure;
use testkit::machine::{PORT, Scope};
use testkit::tree::Tree;

for_both_scopes!(uninstall_leaves_nothing_and_install_is_repeatable, pain_5_what_the_user_edited_stays);

/// A path that holds the history, or is needed as long as there is one: the system's history has an owner.
fn is_history(scope: Scope, path: &str) -> bool {
    let owner = [
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/sysusers.d",
        "/etc/sysusers.d/mpm-monitor.conf",
    ];
    path.contains("/mpm-monitor/8765")
        || path.ends_with("/mpm-monitor")
        || scope == Scope::System && owner.contains(&path)
}

/// Promise P9.
fn uninstall_leaves_nothing_and_install_is_repeatable(scope: Scope) {
    let machine = boot!(scope);
    let bare = machine.tree();
    for flags in [&[][..], &["--socket"]] {
        machine.install(flags);
        machine.post(PORT, "kept");
        let installed = machine.tree();
        assert!(!bare.differences(&installed).is_empty());

        // Again: a no-op. The same process, the same files.
        let health = machine.health(PORT);
        machine.install(flags);
        assert_eq!(machine.health(PORT)["instance_id"], health["instance_id"], "a no-op restarted it");
        let volatile = |line: &String| ["events.db", ".lock", "ledger"].iter().any(|part| line.contains(part));
        let files = |before: &Tree, after: &Tree| -> Vec<String> {
            before.differences(after).into_iter().filter(|l| !volatile(l)).collect()
        };
        assert_eq!(files(&installed, &machine.tree()), [""; 0]);

        // Without --purge the history stays, and only that; the next installation finds it.
        machine.verb("uninstall", &[]).ok();
        let left = bare.differences(&machine.tree());
        assert!(
            left.iter().any(|l| l.contains("events.db")),
            "the history is gone, and nobody asked for that: {left:?}"
        );
        let unexpected: Vec<_> =
            left.iter().filter(|l| !is_history(scope, l.split(' ').nth(1).unwrap_or_default())).collect();
        assert!(unexpected.is_empty(), "left beside the history: {unexpected:#?}");
        machine.install(flags);
        let events = machine.get(PORT, "/api/events?after=0").to_string();
        assert!(events.contains("\"kept\""), "the history did not survive uninstall: {events}");

        // With it, nothing; and the same files come back.
        machine.verb("uninstall", &["--purge"]).ok();
        let left = bare.differences(&machine.tree());
        assert!(left.is_empty(), "left after --purge:\n{}", left.join("\n"));
        figure(&format!("files_left_by_uninstall_purge_{}", scope.name()), left.len(), "files");
        machine.install(flags);
        machine.post(PORT, "kept");
        assert_eq!(files(&installed, &machine.tree()), [""; 0], "the second install is another");
        machine.verb("uninstall", &["--purge"]).ok();
        assert_eq!(bare.differences(&machine.tree()), [""; 0]);
    }
    // Nothing to do is told, not failed silently.
    machine.verb("uninstall", &[]).expect(6);
    machine.verb("start", &[]).expect(6);
}

/// Pain 5: an upgrade that overwrites what the user changed.
fn pain_5_what_the_user_edited_stays(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let unit = machine.property(PORT, "FragmentPath");
    let original = machine.run(&["cat", &unit]).ok().stdout;
    let edited = original.replace("RestartSec=1", "RestartSec=7");
    assert_ne!(original, edited, "{original}");
    machine.write(&unit, &edited);
    machine.systemctl(&["daemon-reload"]).ok();
    let refused = machine.verb("install", &[]).expect(8);
    assert!(refused.all().contains("RestartSec=7"), "no diff: {refused}");
    assert_eq!(machine.run(&["cat", &unit]).ok().stdout, edited);
    // A drop-in is the way that stays open.
    machine.write(&unit, &original);
    machine.drop_in(PORT, "[Service]\nRestartSec=7\n");
    machine.install(&[]);
    assert_eq!(machine.property(PORT, "RestartUSec"), "7s");
    // It is the user's file, not ours to remove.
    machine.verb("uninstall", &[]).ok();
    let tree = machine.tree();
    assert!(tree.0.keys().any(|p| p.ends_with("mpm-monitor@8765.service.d/test.conf")), "the user's drop-in is gone");
}
