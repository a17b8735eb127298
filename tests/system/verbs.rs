//! The other verbs against a real manager: what `status` says and exits with, `logs`, `list`, dry runs.

use testkit::machine::{PORT, Scope};

for_both_scopes!(
    status_tells_each_state_by_its_exit_code,
    pain_19_logs_are_found,
    a_dry_run_changes_nothing,
    odd_names_are_escaped,
    uninstall_knows_what_was_never_installed,
    a_hung_process_is_not_nothing_to_reload,
    a_repair_does_not_start_a_broken_program,
);

fn status_tells_each_state_by_its_exit_code(scope: Scope) {
    let machine = boot!(scope);
    assert_ne!(machine.verb("status", &[]).code, 0, "it is not even installed");
    machine.install(&[]);
    let status = machine.verb("status", &["--json"]).ok().json();
    let health = machine.health(PORT);
    let text = status.to_string();
    for (what, value) in
        [("pid", &health["pid"]), ("instance", &health["instance_id"]), ("version", &health["version"])]
    {
        assert!(text.contains(&value.to_string()), "status does not tell the {what}: {status:#}");
    }
    // Stopped by a signal, it is there but does not answer: that is not "running and ready".
    machine.root(&["kill", "-STOP", &health["pid"].to_string()]).ok();
    let hung = machine.verb("status", &["--timeout", "2s"]);
    assert!([4, 5].contains(&hung.code), "{hung}");
    machine.root(&["kill", "-CONT", &health["pid"].to_string()]).ok();
    machine.verb("stop", &[]).ok();
    machine.verb("status", &[]).expect(3);
    machine.verb("stop", &[]).ok();
    machine.verb("start", &[]).ok();
    machine.verb("status", &[]).ok();
}

/// Pain 19.
fn pain_19_logs_are_found(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let pid = machine.property(PORT, "MainPID");
    machine.verb("restart", &[]).ok();
    let text = machine.verb("logs", &["-n", "200"]).ok();
    assert!(text.stdout.contains("cleanup completed"), "{text}");
    let json = machine.verb("logs", &["-n", "200", "--json"]).ok();
    let lines: Vec<serde_json::Value> = json.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l.to_string().contains(&pid)), "no line of process {pid}: {json}");
    assert_eq!(machine.verb("logs", &["-n", "1"]).ok().stdout.lines().count(), 1);
    // An empty log is explained.
    let none = machine.verb("logs", &["--port", "9999"]);
    assert!(!none.all().trim().is_empty(), "silence is no answer: {none}");
}

fn a_dry_run_changes_nothing(scope: Scope) {
    let machine = boot!(scope);
    let before = machine.tree();
    let plan = machine.verb("install", &["--dry-run"]).ok();
    assert!(plan.stdout.contains("mpm-monitor@8765.service"), "{plan}");
    assert!(before.differences(&machine.tree()).is_empty());
    machine.install(&[]);
    let before = machine.tree();
    let health = machine.health(PORT);
    machine.verb("uninstall", &["--dry-run"]).ok();
    assert!(before.differences(&machine.tree()).iter().all(|l| l.contains("events.db")));
    assert_eq!(machine.health(PORT)["instance_id"], health["instance_id"]);
}

/// `%`, spaces, quotes and backslashes mean something to systemd; here they are only themselves.
fn odd_names_are_escaped(scope: Scope) {
    let machine = boot!(scope);
    let home = if scope == Scope::System { "/usr/local/lib" } else { "/home/boxuser" };
    let program = format!("{home}/100% odd $HOME/mpm monitor");
    machine
        .run(&["sh", "-c", "mkdir -p \"$(dirname \"$2\")\" && cp \"$1\" \"$2\"", "sh", &machine.program(), &program])
        .ok();
    machine.install(&["--program", &program, "--env", "MPM_TEST=50% \"of\" $HOME \\n 'all'"]);
    let pid = machine.property(PORT, "MainPID");
    assert_eq!(machine.root(&["readlink", &format!("/proc/{pid}/exe")]).ok().text(), program);
    let environment = machine.root(&["sh", "-c", &format!("tr '\\0' '\\n' < /proc/{pid}/environ")]).ok().stdout;
    assert!(environment.contains("MPM_TEST=50% \"of\" $HOME \\n 'all'\n"), "{environment}");
    // What systemd takes in no way is refused before anything is written.
    let quoted = format!("{home}/\"quoted\"/mpm-monitor");
    machine.run(&["install", "-D", &machine.program(), &quoted]).ok();
    machine.verb("install", &["--port", "8766", "--program", &quoted]).expect(8);
}

/// The template of another instance makes every port a known one.
fn uninstall_knows_what_was_never_installed(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let ran = machine.verb("uninstall", &["--port", "9999"]).expect(6);
    assert!(ran.stderr.contains("there is no instance on port 9999"), "{ran}");
    machine.verb("uninstall", &["--port", "9999", "--dry-run"]).expect(6);
    machine.verb("status", &[]).ok();
}

fn a_hung_process_is_not_nothing_to_reload(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let pid = machine.property(PORT, "MainPID");
    machine.root(&["kill", "-STOP", &pid]).ok();
    let ran = machine.verb("reload", &[]);
    machine.root(&["kill", "-CONT", &pid]).ok();
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.stderr.contains("does not answer") && ran.stderr.contains("mpm-monitor restart"), "{ran}");
}

#[test]
fn a_log_that_may_not_be_read_is_an_error() {
    let machine = boot!(Scope::System);
    machine.install(&[]);
    let ran = machine.user(&["/usr/local/bin/mpm-monitor", "logs", "--system"]).expect(77);
    assert!(ran.stderr.contains("may not be read"), "{ran}");
}

/// Where the manager holds the socket, its unit says where.
#[test]
fn a_setting_that_the_socket_unit_overrules_is_told() {
    let machine = boot!(Scope::System);
    machine.write(machine.config_file(), "bind = [\"127.0.0.1\"]\n");
    let ran = machine.install(&["--socket"]);
    assert!(ran.stderr.contains("the setting bind is not used"), "{ran}");
    assert!(machine.journal(PORT).contains("the setting bind is not used"));
}

/// The file in place is half a program; what runs is a whole one, and stays.
fn a_repair_does_not_start_a_broken_program(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let before = machine.health(PORT)["instance_id"].clone();
    let program = machine.program();
    let halve = "install -Dm755 \"$1\" /srv/good/mpm-monitor && head -c 100000 \"$1\" > \"$1.new\" && chmod 755 \"$1.new\" \
                 && mv \"$1.new\" \"$1\"";
    machine.root(&["sh", "-c", halve, "sh", &program]).ok();
    let doctor = ["/srv/good/mpm-monitor", "doctor", scope.flag(), "--port", "8765", "--fix", "--yes"];
    // It notices the exchange within five seconds, and only then is a restart advised.
    testkit::eventually(std::time::Duration::from_secs(30), "the exchange to be noticed", || {
        match machine.health(PORT)["program"]["replaced"] == true {
            true => Ok(()),
            false => Err(machine.journal(PORT)),
        }
    });
    let fixed = machine.run(&doctor);
    assert!(fixed.stdout.contains("so what runs now is not restarted"), "{fixed}");
    assert_eq!(machine.health(PORT)["instance_id"], before, "{fixed}");
}

/// The history is that of a process which somebody started by hand.
#[test]
fn a_purge_takes_no_history_from_under_a_process() {
    let machine = boot!(Scope::User);
    let program = machine.program();
    let mut by_hand = machine.spawn(&[program.as_str(), "run", "--port", "9100"]);
    testkit::eventually(std::time::Duration::from_secs(30), "it to serve", || {
        let ran = machine.run(&["curl", "-sS", "http://127.0.0.1:9100/health"]);
        if ran.code == 0 { Ok(()) } else { Err(ran.to_string()) }
    });
    let refused = machine.verb("uninstall", &["--port", "9100", "--purge"]).expect(8);
    assert!(refused.stderr.contains("a monitor that this manager does not run (pid "), "{refused}");
    machine.root(&["kill", &machine.health(9100)["pid"].to_string()]).ok();
    by_hand.end(std::time::Duration::from_secs(30));
    machine.verb("uninstall", &["--port", "9100", "--purge"]).ok();
}
