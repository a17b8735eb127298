//! The commands that people type: `claude-mpm monitor` and `claude-mpm dashboard` with our monitor behind them.

use std::time::Duration;

use super::net::Net;
use testkit::command::{Ran, run};
use testkit::daemon::SOON;

/// Each takes ten seconds or more.
const LIMIT: Duration = Duration::from_secs(90);

/// What a command said about the monitor, without its banner.
fn result(ran: &Ran) -> &str {
    ran.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

#[test]
fn monitor_and_dashboard_commands_find_us_and_stop_ends_us() {
    let Some(net) = Net::new() else { return };
    let project = net.path("project");
    let setting = format!("compat.pid_files_in={}", project.display());
    let mut monitor = net.monitor(&["--set", &setting]);
    let pid = monitor.pid();
    let command = |words: &str| net.installed("claude-mpm", &words.split(' ').collect::<Vec<_>>());
    let show =
        |words: &str, ran: &Ran| println!("claude-mpm {words}: {} ({:.1} s)", result(ran), ran.took.as_secs_f64());

    // Each takes ten seconds, in which it looks for updates of agents and skills; so these at once.
    let questions = ["monitor status", "dashboard status", "monitor start"];
    let answers = std::thread::scope(|scope| {
        let asked = questions.map(command).map(|mut command| scope.spawn(move || run(&mut command, LIMIT).ok()));
        asked.map(|a| a.join().unwrap())
    });
    questions.iter().zip(&answers).for_each(|(q, a)| show(q, a));
    let [status, dashboard, start] = answers;
    assert_eq!(result(&status), format!("Unified monitor daemon is running at http://localhost:8765 (PID: {pid})"));
    assert_eq!(result(&dashboard), "Dashboard is running at http://localhost:8765");
    assert_eq!(result(&start), format!("Unified monitor daemon already running with PID {pid}"));

    let stop = run(&mut command("monitor stop"), LIMIT).ok();
    show("monitor stop", &stop);
    assert_eq!(result(&stop), "Unified monitor daemon stopped");
    assert_eq!(monitor.end(SOON), 0, "it is asked to end, and does: {:?}", monitor.seen);
    assert!(monitor.seen.iter().any(|line| line.contains("told to stop")), "{:?}", monitor.seen);
    assert!(!project.join(".claude-mpm/monitor-daemon-8765.pid").exists());
}
