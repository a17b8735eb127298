//! What the service does for Claude MPM's programs, within the walls that its units put around it.

use testkit::daemon::SOON;
use testkit::eventually;
use testkit::machine::{PORT, Scope};

for_both_scopes!(it_serves_an_installed_dashboard_and_keeps_its_pid_file_where_it_is_let);

fn it_serves_an_installed_dashboard_and_keeps_its_pid_file_where_it_is_let(scope: Scope) {
    let machine = boot!(scope);
    // Where pip and pipx put the package: read-only for the service, and found by itself.
    let package = match scope {
        Scope::System => "/usr/local/lib/python3.11/dist-packages/claude_mpm",
        Scope::User => "/home/boxuser/.local/share/pipx/venvs/claude-mpm/lib/python3.11/site-packages/claude_mpm",
    };
    let build = format!("{package}/dashboard/static/svelte-build");
    machine.write(&format!("{build}/index.html"), "<p>theirs</p>");
    machine.write(&format!("{build}/_app/immutable/a.js"), "let a");
    let settings = "[server]\ndashboard_dir = \"auto\"\n[compat]\npid_files_in = [\"/srv/project\"]\n";
    machine.root(&["mkdir", "-p", "/srv/project"]).ok();
    machine.write(machine.config_file(), settings);
    machine.install(&[]);

    let url = |path: &str| format!("http://127.0.0.1:{PORT}{path}");
    for (path, text) in [("/", "<p>theirs</p>"), ("/_app/immutable/a.js", "let a")] {
        assert_eq!(machine.run(&["curl", "-sSf", &url(path)]).ok().stdout, text, "{}", machine.journal(PORT));
    }
    let pid_file = format!("/srv/project/.claude-mpm/monitor-daemon-{PORT}.pid");
    let told = machine.health(PORT)["components"]["pid_files"].clone();
    assert_eq!(told["state"], "degraded", "the project is not the service's to write: {told}");
    assert!(told["detail"].as_str().is_some_and(|d| d.contains(&pid_file)), "{told}");

    // What systemd/README.md says to do.
    let user = if scope == Scope::System { "mpm-monitor" } else { "boxuser" };
    machine.root(&["chown", user, "/srv/project"]).ok();
    if scope == Scope::System {
        machine.drop_in(PORT, "[Service]\nReadWritePaths=/srv/project\n");
    }
    machine.verb("restart", &[]).ok();
    let pid = machine.property(PORT, "MainPID");
    assert_eq!(machine.root(&["cat", &pid_file]).ok().stdout, pid, "{}", machine.journal(PORT));
    assert_eq!(machine.root(&["stat", "-c", "%a", &pid_file, "/srv/project/.claude-mpm"]).ok().stdout, "644\n755\n");
    assert_eq!(machine.health(PORT)["components"]["pid_files"]["state"], "ok");
    machine.verb("stop", &[]).ok();
    eventually(SOON, "the PID file to go", || {
        let ls = machine.root(&["ls", "-A", "/srv/project/.claude-mpm"]).ok();
        if ls.stdout.is_empty() { Ok(()) } else { Err(ls.stdout) }
    });
}
