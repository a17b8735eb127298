//! `install` and `uninstall`: what they write, tell launchd, refuse and take back.

use std::fs;
use std::path::Path;

use crate::{health, installed, label, plist};
use testkit::http::free_port;
use testkit::launchd::{Launchd, uid};
use testkit::tree::Tree;

/// All files below a directory, with their sizes and modes.
fn tree(dir: &Path) -> Tree {
    fn walk(dir: &Path, root: &Path, all: &mut Tree) {
        use std::os::unix::fs::MetadataExt;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let content = if meta.is_file() { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            all.0.insert(name, format!("{:o} {}", meta.mode(), content));
            if meta.is_dir() {
                walk(&path, root, all);
            }
        }
    }
    let mut all = Tree(Default::default());
    walk(dir, dir, &mut all);
    all
}

#[test]
fn a_first_install_is_proved_and_its_repetition_changes_nothing() {
    let (launchd, port) = (Launchd::start(), free_port());
    let ran = launchd.verb("install", port, &[]).ok();
    assert!(ran.stdout.contains("installed, running and ready"), "{ran}");
    let health = health(port);
    assert_eq!(launchd.pid(&label(port)).unwrap(), health["pid"], "somebody else answers");
    let target = format!("gui/{}/{}", uid(), label(port));
    let file = plist(&launchd, port);
    assert_eq!(launchd.told(), [format!("enable {target}"), format!("bootstrap gui/{} {}", uid(), file.display())]);
    // launchd writes where the process cannot yet, and the process where it was told.
    let logs = launchd.path("home/Library/Logs/mpm-monitor");
    assert!(logs.join(format!("{port}.stderr.log")).exists());
    assert!(fs::read_to_string(logs.join(format!("{port}.log"))).unwrap().contains("ready"));
    let before = tree(&launchd.path("home/Library"));
    launchd.forget_calls();
    let again = launchd.verb("install", port, &[]).ok();
    assert!(again.stdout.contains("nothing to do"), "{again}");
    assert_eq!(launchd.told(), Vec::<String>::new());
    let changes = before.differences(&tree(&launchd.path("home/Library")));
    assert!(changes.iter().all(|c| c.contains(".log")), "{changes:?}");
    assert_eq!(crate::health(port)["instance_id"], health["instance_id"]);
}

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let (launchd, port) = (Launchd::start(), free_port());
    let before = tree(&launchd.path("home"));
    let ran = launchd.verb("install", port, &["--dry-run"]).ok();
    assert!(ran.stdout.contains(&plist(&launchd, port).display().to_string()), "{ran}");
    assert!(!ran.stdout.contains("daemon-reload") && !ran.stdout.contains("linger"), "{ran}");
    assert_eq!(before.differences(&tree(&launchd.path("home"))), Vec::<String>::new());
    assert_eq!(launchd.told(), Vec::<String>::new());
}

#[test]
fn a_changed_definition_is_loaded_anew() {
    let (launchd, port) = installed(&[]);
    let before = health(port)["instance_id"].clone();
    launchd.forget_calls();
    launchd.verb("install", port, &["--env", "MPM_TEST=a <b> & \"c\""]).ok();
    let told = launchd.told();
    // kickstart would start it by what launchd read before.
    assert!(told[0].starts_with("bootout") && told.last().unwrap().starts_with("bootstrap"), "{told:?}");
    let pid = health(port)["pid"].as_u64().unwrap();
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.contains("MPM_TEST=a <b> & \"c\"\0"), "{environment}");
    assert_ne!(health(port)["instance_id"], before);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(plist(&launchd, port)).unwrap().mode() & 0o777, 0o600, "it may hold secrets");
}

#[test]
fn pain_5_an_edited_plist_is_refused_with_its_difference() {
    let (launchd, port) = installed(&[]);
    let file = plist(&launchd, port);
    let edited = fs::read_to_string(&file).unwrap().replace("<integer>10</integer>", "<integer>99</integer>");
    fs::write(&file, &edited).unwrap();
    let before = health(port)["instance_id"].clone();
    let ran = launchd.verb("install", port, &["--env", "A=b"]).expect(8);
    assert!(ran.stderr.contains("+\t<integer>99</integer>") && ran.stderr.contains("install --env"), "{ran}");
    assert_eq!(fs::read_to_string(&file).unwrap(), edited);
    assert_eq!(health(port)["instance_id"], before);
    let status = launchd.verb("status", port, &["--json"]).ok().json();
    assert_eq!(status["files"][0]["state"], "edited", "{status:#}");
}

#[test]
fn uninstall_leaves_what_was_there_and_purge_nothing() {
    let launchd = Launchd::start();
    fs::create_dir_all(launchd.path("home/Library/LaunchAgents")).unwrap();
    fs::write(launchd.path("home/Library/LaunchAgents/org.example.other.plist"), "<plist/>").unwrap();
    let before = tree(&launchd.path("home"));
    let port = free_port();
    launchd.verb("install", port, &[]).ok();
    launchd.verb("uninstall", port, &["--purge"]).ok();
    assert_eq!(before.differences(&tree(&launchd.path("home"))), Vec::<String>::new());
    assert_eq!(fs::read_dir(launchd.path("run")).unwrap().count(), 0, "a lock stayed");
    assert!(launchd.state().jobs.is_empty());
    // Without --purge what is the user's own stays, and is said to.
    launchd.verb("install", port, &[]).ok();
    let kept = launchd.verb("uninstall", port, &[]).ok();
    assert!(kept.stderr.contains("the event history stays") && kept.stderr.contains("the log stays"), "{kept}");
    assert!(!plist(&launchd, port).exists());
    assert_eq!(launchd.pid(&label(port)), None);
    launchd.verb("uninstall", port, &[]).expect(6);
    launchd.verb("install", port, &[]).ok();
    assert!(launchd.path(&format!("home/.local/state/mpm-monitor/{port}/events.db")).exists());
}

#[test]
fn a_failed_install_is_taken_back() {
    let (launchd, port) = (Launchd::start(), free_port());
    let before = tree(&launchd.path("home"));
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let ran = launchd.verb("install", port, &[]).expect(69);
    assert!(ran.stderr.contains("it gave up: port") && ran.stderr.contains("Install was taken back"), "{ran}");
    assert!(!ran.stderr.contains("but not all of it"), "{ran}");
    assert!(launchd.state().jobs.is_empty());
    let changes = before.differences(&tree(&launchd.path("home")));
    // What the process itself said remains, to be read.
    assert!(changes.iter().all(|c| c.contains("Library") && (c.contains("Logs") || !c.contains('.'))), "{changes:?}");
    drop(taken);
    launchd.verb("install", port, &[]).ok();
}

#[test]
fn a_failed_change_brings_the_old_one_back() {
    let (launchd, port) = installed(&[]);
    let before = fs::read_to_string(plist(&launchd, port)).unwrap();
    let ran = launchd.verb("install", port, &["--env", "MPM_MONITOR_PORT=no", "--timeout", "3s"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert_eq!(fs::read_to_string(plist(&launchd, port)).unwrap(), before);
    let status = launchd.verb("status", port, &[]).ok();
    assert!(status.stdout.contains("running and ready"), "{status}");
}

#[test]
fn a_label_of_ones_own_and_two_instances() {
    let (launchd, one, two) = (Launchd::start(), free_port(), free_port());
    launchd.verb("install", one, &["--label", "org.example.monitor"]).ok();
    launchd.verb("install", two, &[]).ok();
    assert_eq!(launchd.pid("org.example.monitor").unwrap(), health(one)["pid"]);
    assert_eq!(launchd.pid(&label(two)).unwrap(), health(two)["pid"]);
    // Later verbs know the label by the receipt.
    launchd.verb("restart", one, &[]).ok();
    let list = launchd.command(["list", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let ports: Vec<_> = list["instances"].as_array().unwrap().iter().map(|i| i["port"].as_u64().unwrap()).collect();
    let mut wanted = [u64::from(one), u64::from(two)];
    wanted.sort_unstable();
    assert_eq!(ports, wanted, "{list:#}");
    assert!(list["instances"].as_array().unwrap().iter().all(|i| i["managed"] == true && i["enabled"] == true));
    let ran = launchd.verb("install", one, &["--label", "org.example.other"]).expect(8);
    assert!(ran.stderr.contains("org.example.monitor"), "{ran}");
    launchd.verb("install", two, &["--label", "com.apple.mine"]).expect(2);
    launchd.verb("uninstall", one, &["--purge"]).ok();
    assert_eq!(launchd.pid("org.example.monitor"), None);
    launchd.verb("status", two, &[]).ok();
}

#[test]
fn nothing_is_installed_beside_homebrews_copy() {
    let (launchd, port) = (Launchd::start(), free_port());
    let agents = launchd.path("home/Library/LaunchAgents");
    fs::create_dir_all(&agents).unwrap();
    let list = |port: u16| {
        format!(
            "<?xml version=\"1.0\"?><plist version=\"1.0\"><dict><key>ProgramArguments</key><array>\
             <string>/opt/homebrew/opt/mpm-monitor/bin/mpm-monitor</string><string>run</string><string>--port</string>\
             <string>{port}</string></array></dict></plist>"
        )
    };
    for name in ["homebrew.mxcl.mpm-monitor", "sh.brew.mpm-monitor"] {
        let file = agents.join(format!("{name}.plist"));
        fs::write(&file, list(port)).unwrap();
        let ran = launchd.verb("install", port, &[]).expect(8);
        assert!(ran.stderr.contains("brew services stop mpm-monitor") && ran.stderr.contains(name), "{ran}");
        fs::write(&file, list(port.wrapping_add(1))).unwrap();
        launchd.verb("install", port, &["--dry-run"]).ok();
        fs::remove_file(file).unwrap();
    }
    assert_eq!(launchd.told(), Vec::<String>::new());
}

/// What launchd makes of the sockets only a Mac can tell; that the list is one it takes, and what verbs do about it, this can.
#[test]
fn sockets_are_a_part_of_the_job() {
    let (launchd, port) = installed(&[]);
    launchd.forget_calls();
    launchd.verb("install", port, &["--socket"]).ok();
    assert!(fs::read_to_string(plist(&launchd, port)).unwrap().contains("<key>SockNodeName</key>"));
    assert!(launchd.told().iter().any(|c| c.starts_with("bootstrap")), "{:?}", launchd.told());
    assert!(launchd.verb("install", port, &[]).ok().stdout.contains("nothing to do"), "the receipt keeps the wish");
    launchd.verb("install", port, &["--socket=no"]).ok();
    assert!(!fs::read_to_string(plist(&launchd, port)).unwrap().contains("Sockets"));
    assert_eq!(launchd.state().refused, Vec::<String>::new());
}

/// Pain 14: a job of launchd's has a search path of its own.
#[test]
fn tools_are_found_where_this_session_finds_them() {
    let (launchd, port) = (Launchd::start(), free_port());
    let tools = launchd.path("tools");
    fs::create_dir(&tools).unwrap();
    let tool = |name: &str| {
        fs::write(tools.join(name), "#!/bin/sh\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    // This machine may have both where a job looks anyway.
    let missing: Vec<_> = ["tmux", "git"]
        .into_iter()
        .filter(|t| !["/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(t).exists()))
        .collect();
    ["tmux", "git"].into_iter().for_each(tool);
    let mut command = launchd.command(["install", "--user", "--port", &port.to_string()]);
    command.env("PATH", format!("{}:/usr/bin:/bin:{}", launchd.path("bin").display(), tools.display()));
    testkit::command::run(&mut command, std::time::Duration::from_secs(60)).ok();
    let path = || {
        let environment = fs::read_to_string(format!("/proc/{}/environ", health(port)["pid"])).unwrap();
        environment.split('\0').find_map(|e| e.strip_prefix("PATH=")).unwrap().to_owned()
    };
    assert_eq!(path().starts_with(&tools.display().to_string()), !missing.is_empty(), "{}", path());
    // A later session that does not know the place does not take it away.
    let before = path();
    launchd.verb("install", port, &["--env", "A=b"]).ok();
    assert_eq!(path(), before);
}

#[test]
fn sudo_and_the_users_manager_do_not_go_together() {
    let (launchd, port) = (Launchd::start(), free_port());
    let mut command = launchd.command(["install", "--user", "--port", &port.to_string()]);
    let output = command.env("SUDO_USER", "ann").output().unwrap();
    if uid() == 0 {
        assert_eq!(output.status.code(), Some(8), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("sudo and --user do not go together"));
    }
    assert_eq!(launchd.told(), Vec::<String>::new());
}
