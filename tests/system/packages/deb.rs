//! The life of a .deb: installed, upgraded, removed, purged, by dpkg on a machine with a real systemd.

use std::fs;
use std::path::Path;

use super::{NEW, OLD, has, machine, package, pids, sh};
use testkit::figure;
use testkit::machine::Machine;

const CONFIG: &str = "/etc/mpm-monitor/config.toml";
/// What the administrator makes of it.
const MINE: &str = "[history]\nevents = 5000\n";
/// What of the machine a package could touch beyond what an installation could.
const MORE: [&str; 4] = ["/usr/bin", "/usr/share/man", "/usr/share/doc", "/usr/share/bash-completion"];

/// The package before: another version, and other settings in the file that it brings.
fn older(new: &Path, dir: &Path) -> String {
    let root = dir.join("old");
    let root = root.to_str().unwrap();
    sh(&["dpkg-deb", "-R", new.to_str().unwrap(), root]).ok();
    let edit = |file: &str, from: &str, to: &str| {
        let path = format!("{root}/{file}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    edit("DEBIAN/control", &format!("Version: {NEW}"), &format!("Version: {OLD}"));
    edit("etc/mpm-monitor/config.toml", "#port = 8765", "# An older default.\n#port = 8765");
    let old = dir.join("old.deb");
    let old = old.to_str().unwrap();
    sh(&["dpkg-deb", "-Zgzip", "-z1", "-b", root, old]).ok();
    old.to_owned()
}

/// dpkg, without the rest of the machine's triggers (manual pages take seconds to index).
#[track_caller]
fn dpkg(machine: &Machine, words: &[&str]) -> String {
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--no-triggers", "--force-confold"];
    machine.root(&[&quiet[..], words].concat()).ok().all()
}

/// Settings that the running process refused at a reload would end it at a restart.
#[test]
fn a_deb_upgrade_restarts_nothing_that_would_not_start() {
    if !has(&["dh", "dpkg"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let (dir, new) = package("deb", NEW);
    machine.copy(&older(&new, dir.path()), "/root/old.deb");
    machine.copy(new.to_str().unwrap(), "/root/new.deb");
    dpkg(&machine, &["-i", "/root/old.deb"]);
    machine.root(&["/usr/bin/mpm-monitor", "install", "--system"]).ok();
    machine.user(&["/usr/bin/mpm-monitor", "install", "--port", "8770"]).ok();
    machine.user(&["/usr/bin/mpm-monitor", "install", "--port", "8771"]).ok();
    // This one is started with words of its own.
    let own = "[Service]\\nExecStart=\\nExecStart=/usr/bin/mpm-monitor run --port %%i --config /srv/own.toml\\n";
    let folder = "/home/boxuser/.config/systemd/user/mpm-monitor@8771.service.d";
    machine.root(&["touch", "/srv/own.toml"]).ok();
    machine.user(&["sh", "-c", &format!("mkdir {folder} && printf '{own}' > {folder}/own.conf")]).ok();
    machine.user(&["systemctl", "--user", "daemon-reload"]).ok();
    machine.user(&["systemctl", "--user", "restart", "mpm-monitor@8771"]).ok();

    let upgrade = |restarted: [bool; 3], says: &[&str]| {
        let before = pids(&machine, &[8765], &[8770, 8771]);
        let said = dpkg(&machine, &["-i", "/root/new.deb"]);
        let now = pids(&machine, &[8765], &[8770, 8771]);
        let renewed: Vec<bool> = before.iter().zip(&now).map(|(old, new)| old != new && *new != 0).collect();
        assert_eq!(renewed, restarted, "{before:?} -> {now:?}\n{said}");
        assert!(!now.contains(&0), "{now:?}\n{said}");
        let told = |port: u16| said.contains(&format!("mpm-monitor@{port}.service was not restarted"));
        assert_eq!([8765, 8770, 8771].map(told), restarted.map(|r| !r), "{said}");
        assert!(says.iter().all(|word| said.contains(word)), "no {says:?} in {said}");
    };
    let theirs = "/home/boxuser/.config/mpm-monitor/config.toml";
    machine.write(theirs, "[history]\nevents = \"many\"\n");
    machine.user(&["systemctl", "--user", "reload", "mpm-monitor@8770"]);
    upgrade([true, false, true], &[&format!("{theirs}:2"), "systemctl --user --machine"]);
    machine.root(&["rm", theirs]).ok();
    machine.write(CONFIG, "[history]\nevents = \"many\"\n");
    upgrade(
        [false, false, false],
        &[&format!("{CONFIG}:2"), "type: systemctl --system restart mpm-monitor@8765.service"],
    );
    machine.write(CONFIG, MINE);
    upgrade([true, true, true], &[]);
}

#[test]
fn a_deb_is_installed_upgraded_removed_and_purged() {
    if !has(&["dh", "dpkg"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let (dir, new) = package("deb", NEW);
    machine.copy(&older(&new, dir.path()), "/root/old.deb");
    machine.copy(new.to_str().unwrap(), "/root/new.deb");
    // Somebody's own service with a program of their own, under the same name: no package's to restart or stop.
    machine.copy(&testkit::program(), "/opt/own-monitor");
    let own = "[Service]\nType=notify\nExecStart=/opt/own-monitor run --port 8768\n";
    machine.write("/etc/systemd/system/mpm-monitor@8768.service", own);
    machine.systemctl(&["daemon-reload"]).ok();
    machine.systemctl(&["start", "mpm-monitor@8768"]).ok();
    let before = machine.tree_with(&MORE);

    dpkg(&machine, &["-i", "/root/old.deb"]);
    assert_eq!(machine.root(&["id", "-un", "mpm-monitor"]).ok().text(), "mpm-monitor");
    assert_eq!(pids(&machine, &[8765], &[8765]), [0, 0], "nothing is started that nobody asked for");
    machine.systemctl(&["is-enabled", "mpm-monitor@8765"]).expect(1);

    // systemd's own verb, install with a socket, a stopped instance, and a user's.
    machine.systemctl(&["start", "mpm-monitor@8765"]).ok();
    let verb = |words: &[&str]| machine.root(&[&["/usr/bin/mpm-monitor"], words].concat());
    verb(&["install", "--system", "--port", "8766", "--socket"]).ok();
    // By another name of the same folder.
    machine.root(&["/bin/mpm-monitor", "install", "--system", "--port", "8767"]).ok();
    verb(&["stop", "--system", "--port", "8767"]).ok();
    let user = |words: &[&str]| machine.user(&[&["/usr/bin/mpm-monitor"], words].concat());
    user(&["install", "--port", "8770"]).ok();
    // All of them run from the package's templates, and that is as it should be.
    machine.root(&["test", "-e", "/etc/systemd/system/mpm-monitor@.service"]).expect(1);
    machine.user(&["test", "-e", "/home/boxuser/.config/systemd/user/mpm-monitor@.service"]).expect(1);
    for status in [
        verb(&["status", "--json"]),
        verb(&["status", "--port", "8766", "--json"]),
        user(&["status", "--port", "8770", "--json"]),
    ] {
        let status = status.ok().json();
        assert_eq!(
            (&status["managed"], &status["versions"]["program"]),
            (&true.into(), &"/usr/bin/mpm-monitor".into())
        );
        let files = status["files"].as_array().unwrap();
        assert!(files.iter().all(|f| f["state"] == "clean"), "{status}");
    }
    assert_eq!(verb(&["install", "--system", "--port", "8766", "--dry-run"]).ok().text(), "nothing to do");

    machine.post(8765, "before the upgrade");
    machine.write(CONFIG, MINE);
    let (system, users) = ([8765, 8766, 8767, 8768], [8770]);
    let old = pids(&machine, &system, &users);
    let upgrade = std::time::Instant::now();
    dpkg(&machine, &["-i", "/root/new.deb"]);
    figure("deb_upgrade", upgrade.elapsed().as_millis(), "ms");
    let now = pids(&machine, &system, &users);
    let restarted: Vec<bool> = old.iter().zip(&now).map(|(old, new)| old != new && *new != 0).collect();
    assert_eq!(restarted, [true, true, false, false, true], "{old:?} -> {now:?}");
    assert_eq!((now[2], now[3]), (0, old[3]), "what was stopped stays so, and what is not the package's runs on");
    assert!(machine.get(8765, "/api/events?after=0").to_string().contains("before the upgrade"));
    // The administrator's settings stay and are in force, the new defaults lie beside them.
    assert_eq!(machine.root(&["cat", CONFIG]).ok().stdout, MINE);
    assert!(machine.root(&["cat", "/etc/mpm-monitor/config.toml.dpkg-dist"]).ok().stdout.contains("\n#port = 8765\n"));
    let shown = verb(&["config", "show", "--json"]).ok().json();
    assert_eq!(shown["settings"]["history.events"]["value"], "5000");

    // The administrator's policy goes before all that.
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    machine.root(&["chmod", "755", "/usr/sbin/policy-rc.d"]).ok();
    dpkg(&machine, &["-i", "/root/new.deb"]);
    assert_eq!(pids(&machine, &system, &users), now, "restarted against the policy");
    machine.root(&["rm", "/usr/sbin/policy-rc.d"]).ok();

    // What is uninstalled is gone, though the template is still there.
    verb(&["uninstall", "--system", "--port", "8767"]).ok();
    verb(&["uninstall", "--system", "--port", "8767"]).expect(6);
    assert!(verb(&["status", "--port", "8767"]).expect(3).stdout.contains("not installed"));

    dpkg(&machine, &["-r", "mpm-monitor"]);
    assert_eq!(pids(&machine, &system, &users), [0, 0, 0, old[3], 0]);
    machine.root(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:8766/health"]).expect(7);
    assert_eq!(machine.root(&["cat", CONFIG]).ok().stdout, MINE);
    machine.root(&["test", "-s", "/var/lib/mpm-monitor/8765/events.db"]).ok();

    // Again, and all is as it was.
    dpkg(&machine, &["-i", "/root/new.deb"]);
    machine.systemctl(&["start", "mpm-monitor@8765"]).ok();
    assert!(machine.get(8765, "/api/events?after=0").to_string().contains("before the upgrade"));

    dpkg(&machine, &["-P", "mpm-monitor"]);
    let mut left = before.differences(&machine.tree_with(&MORE));
    // The books of dpkg and adduser, and what is the user's, who uninstalls it.
    left.retain(|line| {
        !["/var/lib/dpkg", "/run/adduser", "/home/boxuser", "/run/user"].iter().any(|p| line[2..].starts_with(p))
    });
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    assert_eq!(pids(&machine, &[8768], &[]), [old[3]]);
}
