//! The life of an .rpm on a machine with a real systemd, and in a root of its own.

use super::{NEW, OLD, has, machine, package, pids};

const CONFIG: &str = "/etc/mpm-monitor/config.toml";

#[test]
fn an_rpm_is_installed_upgraded_and_removed() {
    if !has(&["rpmbuild", "rpm"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let packages = [package("rpm", OLD), package("rpm", NEW)];
    machine.copy(packages[0].1.to_str().unwrap(), "/root/old.rpm");
    machine.copy(packages[1].1.to_str().unwrap(), "/root/new.rpm");
    // What it requires are packages, of which Debian's rpm knows none.
    let rpm = |words: &[&str]| machine.root(&[&["rpm", "--nodeps"], words].concat()).ok();

    // Into a root of its own, with all its files as they were packed.
    let root = ["--root", "/root/tree", "--dbpath", "/var/lib/rpm"];
    machine.root(&["mkdir", "/root/tree"]).ok();
    rpm(&[&root[..], &["--noscripts", "-i", "/root/new.rpm"]].concat());
    let verified = rpm(&[&root[..], &["-V", "--nouser", "--nogroup", "mpm-monitor"]].concat());
    assert_eq!(verified.stdout, "", "changed while it was installed");
    machine.root(&["/root/tree/usr/bin/mpm-monitor", "--version"]).ok();

    rpm(&["-i", "/root/old.rpm"]);
    assert_eq!(machine.root(&["id", "-un", "mpm-monitor"]).ok().text(), "mpm-monitor");
    assert_eq!(pids(&machine, &[8765], &[8770]), [0, 0]);
    machine.systemctl(&["start", "mpm-monitor@8765"]).ok();
    machine.user(&["/usr/bin/mpm-monitor", "install", "--port", "8770"]).ok();
    machine.post(8765, "before the upgrade");
    machine.write(CONFIG, "[history]\nevents = 5000\n");

    let old = pids(&machine, &[8765], &[8770]);
    rpm(&["-U", "/root/new.rpm"]);
    let now = pids(&machine, &[8765], &[8770]);
    assert!(now.iter().zip(&old).all(|(now, old)| now != old && *now != 0), "{old:?} -> {now:?}");
    assert!(machine.get(8765, "/api/events?after=0").to_string().contains("before the upgrade"));
    assert!(machine.root(&["cat", CONFIG]).ok().stdout.contains("5000"));

    rpm(&["-e", "mpm-monitor"]);
    assert_eq!(pids(&machine, &[8765], &[8770]), [0, 0]);
    machine.root(&["test", "-e", "/usr/bin/mpm-monitor"]).expect(1);
    machine.root(&["test", "-e", "/etc/mpm-monitor/config.toml.rpmsave"]).ok();
    machine.root(&["test", "-s", "/var/lib/mpm-monitor/8765/events.db"]).ok();
}
