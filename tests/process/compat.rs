//! What the process does for the programs of Claude MPM: the PID files, and the dashboard that it is told to serve.

use std::path::{Path, PathBuf};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::http;
use testkit::notify::NotifySocket;

/// Serves with PID files in these projects, and returns once it has said READY=1.
#[track_caller]
fn serve(place: &Place, port: u16, projects: &str) -> Running {
    let manager = NotifySocket::in_directory(place.dir.path());
    let mut command = place.command(["run", "--port", &port.to_string()]);
    command.arg("--set").arg(format!("compat.pid_files_in={projects}")).env("NOTIFY_SOCKET", &manager.name);
    let daemon = Running::start(&mut command);
    manager.until(SOON, "READY=1", |m| m.says("READY"));
    std::fs::remove_file(&manager.name).unwrap();
    daemon
}

fn project(place: &Place, name: &str) -> (PathBuf, impl Fn(u16) -> PathBuf) {
    let project = place.path(name);
    std::fs::create_dir_all(&project).unwrap();
    (project.clone(), move |port| project.join(format!(".claude-mpm/monitor-daemon-{port}.pid")))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn pid_files_are_there_when_it_is_ready_and_gone_when_it_ended() {
    let (place, port) = (Place::new(), http::free_port());
    let ((one, one_file), (two, two_file)) = (project(&place, "one"), project(&place, "two"));
    let both = format!("{},{}", one.display(), two.display());
    let mut daemon = serve(&place, port, &both);
    assert_eq!(read(&one_file(port)), daemon.pid().to_string());
    assert_eq!(read(&two_file(port)), daemon.pid().to_string());
    assert_eq!(ready(port, daemon.pid())["components"]["pid_files"]["state"], "ok");
    // Somebody else's by now.
    std::fs::write(two_file(port), "1").unwrap();
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0);
    assert!(!one_file(port).exists());
    assert_eq!(read(&two_file(port)), "1");
}

#[test]
fn a_killed_process_leaves_its_pid_file_and_the_next_one_replaces_it() {
    let (place, port) = (Place::new(), http::free_port());
    let (one, file) = project(&place, "one");
    let mut daemon = serve(&place, port, &one.display().to_string());
    signal(daemon.pid(), "KILL");
    assert_eq!(daemon.end(SOON), -9);
    assert_eq!(read(&file(port)), daemon.pid().to_string());
    let next = serve(&place, port, &one.display().to_string());
    assert_eq!(read(&file(port)), next.pid().to_string());
}

#[test]
fn a_pid_file_that_cannot_be_written_is_a_warning_and_no_failed_start() {
    let (place, port) = (Place::new(), http::free_port());
    let (one, file) = project(&place, "one");
    let nowhere = place.path("nowhere");
    let mut daemon = serve(&place, port, &format!("{},{}", nowhere.display(), one.display()));
    let health = ready(port, daemon.pid());
    let told = &health["components"]["pid_files"];
    assert_eq!(told["state"], "degraded", "{health}");
    assert!(told["detail"].as_str().unwrap().contains(&nowhere.display().to_string()), "{told}");
    assert_eq!(read(&file(port)), daemon.pid().to_string(), "the other one is written");
    assert!(!nowhere.exists(), "a project is not made");
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0);
    assert!(daemon.seen.iter().any(|l| l.contains("WARN") && l.contains("nowhere")), "{:?}", daemon.seen);
}

#[test]
fn a_dashboard_that_is_not_there_ends_the_start_with_what_was_looked_for() {
    let place = Place::new();
    for verb in [["run", "--port=auto"], ["config", "check"]] {
        for (dir, part) in [(".", "svelte-build/index.html"), ("gone", "gone/static/svelte-build")] {
            let ran = place.ran(verb.into_iter().chain(["--dashboard-dir", dir])).expect(78);
            assert!(ran.all().contains("server.dashboard_dir") && ran.all().contains(part), "{ran}");
        }
    }
    assert_eq!(std::fs::read_dir(place.path("state")).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn a_dashboard_in_a_relative_folder_is_served() {
    let (place, port) = (Place::new(), http::free_port());
    std::fs::create_dir_all(place.path("build/_app")).unwrap();
    std::fs::write(place.path("build/index.html"), "<p>theirs").unwrap();
    let daemon = Running::start(&mut place.command(["run", "--port", &port.to_string(), "--dashboard-dir", "build"]));
    ready(port, daemon.pid());
    assert_eq!(http::get(port, "/").unwrap().body, "<p>theirs");
    assert!(http::get(port, "/dashboard").unwrap().body.contains("<title>mpm-monitor"));
}
