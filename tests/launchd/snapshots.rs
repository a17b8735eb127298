//! What `status --json` and `list --json` show on launchd. What they say to people has paths in it, which break lines
//! elsewhere on each machine.

use mpm_monitor::build::VERSION;

use testkit::launchd::{Launchd, uid};
use testkit::{http::free_port, shown};

/// All that both show.
fn told(launchd: &Launchd, port: u16) -> String {
    let (uid, port_text, root) = (uid(), port.to_string(), launchd.path("").display().to_string());
    let user = format!("gui/{uid}\"");
    let exchange = [
        (root.trim_end_matches('/'), "[root]"),
        (&user, "gui/[uid]\""),
        (&port_text, "[port]"),
        (VERSION, "[version]"),
    ];
    let status = launchd.verb("status", port, &["--json"]);
    let list = testkit::command::run(&mut launchd.command(["list", "--json"]), testkit::daemon::SOON);
    let mut all = format!("$ mpm-monitor status --json   # exit code {}\n", status.code);
    all += &format!("{}\n", shown::json(&status.stdout, &exchange));
    all + &format!("$ mpm-monitor list --json\n{}\n", shown::json(&list.ok().stdout, &exchange))
}

#[test]
fn what_is_shown_is_as_reviewed() {
    let (launchd, port) = (Launchd::start(), free_port());
    shown::assert_as_reviewed("launchd", "absent", &told(&launchd, port));
    launchd.verb("install", port, &[]).ok();
    shown::assert_as_reviewed("launchd", "running", &told(&launchd, port));
    launchd.verb("stop", port, &[]).ok();
    shown::assert_as_reviewed("launchd", "stopped", &told(&launchd, port));
}
