//! `doctor` on a machine that is well and on machines that are broken in one way each: it finds what is wrong, and what it
//! says to type repairs it. With `MPM_MONITOR_BLESS=1` what it says goes into docs/doctor.md, else it is compared with that.

use std::time::Duration;

use mpm_monitor::doctor::show::Report;
use serde_json::Value;
use service::drift::stamp;

use testkit::command::Ran;
use testkit::machine::{Machine, PORT, Scope};
use testkit::{eventually, figure, here};

const SOON: Duration = Duration::from_secs(30);
const UNIT: &str = "/home/boxuser/.config/systemd/user/mpm-monitor@8765.service";
const STATE: &str = "/home/boxuser/.local/state/mpm-monitor/8765";

/// A machine, and what was said on it.
struct Clinic {
    machine: Machine,
    said: Vec<(String, String)>,
    slowest: Duration,
}

impl Clinic {
    fn new(machine: Machine) -> Self {
        Self { machine, said: Vec::new(), slowest: Duration::ZERO }
    }

    #[track_caller]
    fn doctor(&mut self) -> Value {
        let ran = self.machine.verb("doctor", &["--port", "8765", "--json"]);
        self.slowest = self.slowest.max(ran.took);
        let report = ran.json();
        let errors = report["totals"]["errors"].as_u64().unwrap();
        assert_eq!(ran.code, i32::from(errors > 0), "{ran}");
        report
    }

    /// Insists that a check fails, remembers what is said of it, and gives it.
    #[track_caller]
    fn fails(&mut self, name: &str, code: &str) -> Value {
        let report = self.doctor();
        let check = find(&report, code);
        assert_eq!(check["outcome"], "failed", "{name}: {check:#}");
        let text = human(&report);
        // A path or a command stays whole.
        let fits = |l: &str| l.chars().count() <= 80 || l.contains("next: ") || !l.trim().contains(' ');
        assert!(text.lines().all(fits), "{text}");
        self.said.push((name.to_owned(), block(&text, code)));
        check
    }

    #[track_caller]
    fn verified(&mut self, code: &str) {
        let report = self.doctor();
        assert_eq!(find(&report, code)["outcome"], "verified", "{report:#}");
    }

    /// Types what the check says to type, and insists that it helped.
    #[track_caller]
    fn repair(&mut self, check: &Value) {
        let command = check["next"].as_str().unwrap_or_else(|| panic!("nothing to type: {check:#}"));
        self.typed(command).ok();
        self.verified(check["code"].as_str().unwrap());
    }

    fn typed(&self, command: &str) -> Ran {
        let path = "PATH=$HOME/.local/bin:/usr/local/bin:$PATH";
        match command.strip_prefix("sudo ") {
            Some(command) => self.machine.root(&["sh", "-c", command]),
            None => self.machine.run(&["sh", "-c", &format!("{path}; {command}")]),
        }
    }

    fn until_ready(&self) {
        eventually(SOON, "readiness", || {
            let ran = self.machine.verb("status", &[]);
            if ran.code == 0 { Ok(()) } else { Err(ran) }
        });
    }

    /// Every file that the doctor could change, to see that it does not.
    fn quiet(&mut self) {
        let before = self.machine.tree();
        self.doctor();
        let changes: Vec<_> = before.differences(&self.machine.tree());
        let changes: Vec<_> = changes.iter().filter(|l| !l.contains("events.db")).collect();
        assert!(changes.is_empty(), "looking changed: {changes:#?}");
    }
}

#[track_caller]
fn find(report: &Value, code: &str) -> Value {
    let instances = report["instances"].as_array().unwrap().iter().flat_map(|i| i["checks"].as_array().unwrap());
    let mut all = instances.chain(report["user"].as_array().unwrap());
    all.find(|c| c["code"] == code).unwrap_or_else(|| panic!("no check {code}: {report:#}")).clone()
}

/// What the doctor prints for people of the same report.
fn human(report: &Value) -> String {
    let part = |name: &str| report[name].clone();
    let instances = serde_json::from_value(part("instances")).expect("instances");
    let user = serde_json::from_value(part("user")).expect("checks");
    Report::new(instances, user).human(false, false)
}

/// The same, but for what depends on the machine that the test runs on: where its tools are, and whether it sets its clock.
pub fn of_any_machine(mut report: Value) -> Value {
    for check in report["instances"][0]["checks"].as_array_mut().unwrap() {
        let fixed = match check["code"].as_str().unwrap() {
            "clock" => "synchronized",
            "tool-paths" => "the service finds git: /usr/bin/git, tmux: /usr/bin/tmux",
            _ => continue,
        };
        let code = check["code"].clone();
        let severity = check["severity"].clone();
        *check = serde_json::json!({"code": code, "severity": severity, "outcome": "verified", "summary": fixed});
    }
    report
}

/// The lines of the table about one code.
fn block(text: &str, code: &str) -> String {
    let begins = |l: &str| l.starts_with("  ") && l.get(10..).is_some_and(|l| l.starts_with(&format!("{code} ")));
    let mut lines = text.lines().skip_while(|l| !begins(l));
    let first = lines.next().unwrap_or_default();
    std::iter::once(first).chain(lines.take_while(|l| l.starts_with("          "))).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_doctor_finds_what_is_installed_wrong_and_what_it_says_repairs_it() {
    let machine = boot!(Scope::User);
    machine.install(&[]);
    let mut clinic = Clinic::new(machine);
    clinic.quiet();
    let report = clinic.doctor();
    assert_eq!(
        (&report["schema_version"], &report["totals"]["errors"], &report["totals"]["warnings"]),
        (&1.into(), &0.into(), &0.into()),
        "{report:#}"
    );
    let healthy = clinic.machine.verb("doctor", &["--port", "8765"]).ok().stdout;
    assert_eq!(normal(&healthy), normal(&human(&report)));
    let healthy = human(&of_any_machine(report));
    clinic.said.push(("A healthy machine".into(), healthy.trim_end().to_owned()));

    edited_outdated_and_lost_files(&mut clinic);
    programs(&mut clinic);
    leftovers_and_secrets(&mut clinic);
    limits(&mut clinic);
    figure("doctor_slowest_of_all", clinic.slowest.as_millis(), "ms");
    documented(&clinic.said, "installed");
}

#[test]
fn the_doctor_finds_what_runs_wrong_and_what_it_says_repairs_it() {
    let machine = boot!(Scope::User);
    machine.install(&[]);
    let mut clinic = Clinic::new(machine);
    crash_loop(&mut clinic);
    tmux_in_our_group(&mut clinic);
    strangers(&mut clinic);
    sessions(&mut clinic);
    documented(&clinic.said, "running");
}

fn edited_outdated_and_lost_files(clinic: &mut Clinic) {
    let unit = clinic.machine.run(&["cat", UNIT]).ok().stdout;
    clinic.machine.write(UNIT, &unit.replace("WatchdogSec=10", "WatchdogSec=20"));
    clinic.machine.systemctl(&["daemon-reload"]).ok();
    let check = clinic.fails("A unit that was edited by hand", "unit-edited");
    assert!(check.get("fixes").is_none(), "what a person edited is not rewritten: {check:#}");
    clinic.repair(&check);
    let kept = clinic.machine.run(&["cat", &format!("{UNIT}.edited")]).ok().stdout;
    assert!(kept.contains("WatchdogSec=20"), "the edit is gone");

    // As an earlier version wrote it: intact, and different. Repaired by --fix, which says first what it does.
    let rest = unit.split_once('\n').unwrap().1.replace("RestartSec=1\n", "RestartSec=2\n");
    clinic.machine.write(UNIT, &stamp("mpm-monitor", &rest, "0.0.9"));
    clinic.machine.systemctl(&["daemon-reload"]).ok();
    clinic.fails("A unit of an earlier version", "unit-outdated");
    let pid = clinic.machine.property(PORT, "MainPID");
    let refused = clinic.machine.verb("doctor", &["--port", "8765", "--fix"]).expect(8);
    assert!(refused.stderr.contains("--yes"), "{refused}");
    assert_eq!(clinic.machine.property(PORT, "MainPID"), pid, "it asked nobody, and did it");
    let fixed = clinic.machine.verb("doctor", &["--port", "8765", "--fix", "--yes"]).ok();
    assert!(
        fixed.stdout.contains("would write what is missing or outdated anew")
            && fixed.stdout.contains("  would rewrite "),
        "{fixed}"
    );
    assert!(fixed.stdout.contains("unit-outdated") && fixed.stdout.contains(": verified"), "{fixed}");
    assert_ne!(clinic.machine.property(PORT, "MainPID"), pid, "the old process still runs");
    assert_eq!(clinic.machine.run(&["cat", UNIT]).ok().stdout, unit);

    let receipt = "/home/boxuser/.local/state/mpm-monitor/receipts/8765.json";
    clinic.machine.write(receipt, "{");
    let check = clinic.fails("A damaged receipt", "receipt");
    clinic.repair(&check);
}

fn programs(clinic: &mut Clinic) {
    let program = clinic.machine.program();
    clinic.machine.run(&["sh", "-c", &format!("cp {program} {program}.new && mv {program}.new {program}")]).ok();
    let check = clinic.fails("An upgrade that left the old process running", "program-replaced");
    clinic.repair(&check);

    let elsewhere = "/home/boxuser/apps/mpm-monitor";
    clinic.machine.run(&["install", "-D", &program, elsewhere]).ok();
    clinic.machine.install(&["--program", elsewhere]);
    clinic.machine.run(&["rm", elsewhere]).ok();
    let check = clinic.fails("A program that is gone", "program-there");
    clinic.repair(&check);

    let transient = "/home/boxuser/project/target/debug/mpm-monitor";
    clinic.machine.run(&["install", "-D", &program, transient]).ok();
    let unit = clinic.machine.run(&["cat", UNIT]).ok().stdout;
    let rest = unit.split_once('\n').unwrap().1.replace(&program, transient);
    clinic.machine.write(UNIT, &stamp("mpm-monitor", &rest, env!("CARGO_PKG_VERSION")));
    clinic.machine.systemctl(&["daemon-reload"]).ok();
    let check = clinic.fails("A program in a build tree", "program-lasts");
    clinic.repair(&check);
}

fn leftovers_and_secrets(clinic: &mut Clinic) {
    let machine = &clinic.machine;
    machine.write("/home/boxuser/.claude-mpm/monitor-daemon-8765.pid", "4194000");
    let check = clinic.fails("A PID file of a process that is gone", "stale-pid-files");
    clinic.repair(&check);
    let uid = clinic.machine.uid.clone();
    clinic.machine.write(&format!("/run/user/{uid}/mpm-monitor/9999.lock"), "{\"pid\":4194000}");
    let check = clinic.fails("The lock file of a killed process", "stale-lock");
    clinic.machine.verb("doctor", &["--port", "8765", "--fix", "--yes"]).ok();
    clinic.verified(check["code"].as_str().unwrap());
    clinic.machine.run(&["test", "!", "-e", &format!("/run/user/{uid}/mpm-monitor/9999.lock")]).ok();

    let token = "/home/boxuser/.config/mpm-monitor/token";
    clinic.machine.write(token, "0123456789abcdef0123456789abcdef");
    clinic.machine.run(&["chmod", "644", token]).ok();
    clinic.machine.write(clinic.machine.config_file(), &format!("[access]\ntoken_file = \"{token}\"\n"));
    let check = clinic.fails("A token that others can read", "token-file");
    clinic.repair(&check);
    clinic.machine.write(clinic.machine.config_file(), "[server]\nmax_clients = \"many\"\n");
    clinic.fails("A wrong configuration", "config");
    clinic.machine.run(&["rm", clinic.machine.config_file()]).ok();

    clinic.machine.write(
        "/home/boxuser/.claude/settings.json",
        r#"{"hooks":{"PreToolUse":[{"matcher":"*","hooks":[{"type":"command","command":"/opt/gone/claude-hook-fast.sh"}]}]}}"#,
    );
    clinic.fails("Hooks that point to a program that is gone", "hook-programs");
    clinic.machine.root(&["install", "-D", "-m755", "/usr/bin/true", "/opt/gone/claude-hook-fast.sh"]).ok();
    clinic.verified("hook-programs");
    clinic.machine.write(
        "/home/boxuser/.claude/settings.json",
        r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"/opt/gone/mpm-monitor hook"}]}]}}"#,
    );
    let check = clinic.fails("Our own hook with a program that is gone", "hook-programs");
    clinic.repair(&check);
    let handler = "/home/boxuser/src/claude_mpm/scripts/claude-hook-handler.sh";
    clinic.machine.write(handler, "#!/bin/bash\n");
    clinic.machine.run(&["chmod", "755", handler]).ok();
    clinic.machine.write(
        "/home/boxuser/.claude/settings.json",
        &format!(r#"{{"hooks":{{"Stop":[{{"hooks":[{{"type":"command","command":"{handler}"}}]}}]}}}}"#),
    );
    clinic.fails("Hooks whose Python lacks claude_mpm", "hook-import");
    clinic.machine.run(&["rm", "/home/boxuser/.claude/settings.json"]).ok();

    let spool = "/home/boxuser/.local/state/mpm-monitor/spool/9999";
    clinic.machine.write(&format!("{spool}/queue"), "+01919191-9191-7191-9191-919191919191 {}\n");
    clinic.fails("Events of our hook for a monitor that is not there", "hook-spool");
    clinic.machine.write(&format!("{spool}/dropped"), "7\n");
    let check = clinic.fails("Events of our hook that found no room", "hook-spool");
    clinic.machine.run(&["rm", &format!("{spool}/queue")]).ok();
    clinic.repair(&check);
}

fn limits(clinic: &mut Clinic) {
    clinic.machine.drop_in(PORT, "[Service]\nLimitNOFILE=256\nWatchdogSec=0\n");
    clinic.machine.verb("restart", &[]).ok();
    clinic.machine.drop_in(PORT, "[Service]\nLimitNOFILE=256\nWatchdogSec=0\nPrivateTmp=yes\n");
    let check = clinic.fails("A limit of open files that is too low", "open-files");
    assert!(check["evidence"].to_string().contains("test.conf"), "the drop-in is not named: {check:#}");
    clinic.fails("A unit without a watchdog", "watchdog");
    clinic.fails("A unit that hides /tmp", "tmux-hidden");
    clinic.machine.drop_in(PORT, "");
    clinic.machine.verb("restart", &[]).ok();
    for code in ["open-files", "watchdog", "tmux-hidden"] {
        clinic.verified(code);
    }

    let uid = &clinic.machine.uid;
    clinic.machine.root(&["mount", "-t", "tmpfs", "-o", &format!("size=8m,mode=700,uid={uid}"), "tmpfs", STATE]).ok();
    clinic.fails("A disk that is full", "disk-space");
    // The service has its files in it by now; it goes on in the folder below.
    clinic.machine.root(&["umount", "--lazy", STATE]).ok();
    clinic.verified("disk-space");
    clinic.machine.root(&["chown", "root", STATE]).ok();
    let check = clinic.fails("A state directory of another user", "state-dir");
    clinic.repair(&check);

    let ledger = format!("{STATE}/ledger.json");
    clinic.machine.run(&["touch", "-d", "+2 days", &ledger]).ok();
    clinic.fails("A clock that went back", "clock");
    clinic.machine.run(&["touch", &ledger]).ok();
}

fn crash_loop(clinic: &mut Clinic) {
    clinic.machine.drop_in(PORT, "[Service]\nEnvironment=MPM_MONITOR_FAILPOINT=panic-after-ready\nRestartSec=100ms\n");
    clinic.machine.systemctl(&["restart", "--no-block", "mpm-monitor@8765"]).ok();
    eventually(SOON, "the unit to fail", || {
        let state = clinic.machine.state(PORT);
        if state == "failed" { Ok(()) } else { Err(state) }
    });
    let check = clinic.fails("A crash loop", "crash-loop");
    assert!(check["evidence"].to_string().contains("panic"), "no reason: {check:#}");
    assert!(clinic.typed(check["next"].as_str().unwrap()).ok().stdout.contains("panic"), "the log does not tell");
    clinic.machine.drop_in(PORT, "");
    let ready = find(&clinic.doctor(), "ready");
    clinic.repair(&ready);
    clinic.verified("crash-loop");
}

/// Pain 1.
fn tmux_in_our_group(clinic: &mut Clinic) {
    let machine = &clinic.machine;
    machine.run(&["tmux", "-L", "victim", "new-session", "-d", "sleep 1000"]).ok();
    let pid = machine.run(&["tmux", "-L", "victim", "-N", "display-message", "-p", "#{pid}"]).ok().text().to_owned();
    let group = machine.property(PORT, "ControlGroup");
    let script = format!(
        "for g in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do \
         test -e $g'{group}'/cgroup.procs && for p in {pid} $(pgrep -P {pid}); do echo $p > $g'{group}'/cgroup.procs; done; done; true"
    );
    machine.root(&["sh", "-c", &script]).ok();
    let check = clinic.fails("A tmux server in the service's control group", "tmux-cgroup");
    clinic.repair(&check);
    clinic.machine.verb("restart", &[]).ok();
    clinic.machine.run(&["tmux", "-L", "victim", "-N", "has-session"]).ok();
    // Its socket vanishes, as tmpfiles removes old ones; the server lives, and makes it anew when told.
    let socket = format!("/tmp/tmux-{}/victim", clinic.machine.uid);
    clinic.machine.run(&["rm", &socket]).ok();
    let check = clinic.fails("A tmux server whose socket vanished", "tmux-socket");
    clinic.typed(check["next"].as_str().unwrap()).ok();
    eventually(SOON, "the socket", || {
        let ran = clinic.machine.run(&["tmux", "-L", "victim", "-N", "has-session"]);
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
    clinic.verified("tmux-socket");
    clinic.machine.run(&["tmux", "-L", "victim", "-N", "kill-server"]).ok();
    clinic.verified("tmux-socket");
}

/// Pain 9.
fn strangers(clinic: &mut Clinic) {
    clinic.machine.verb("stop", &[]).ok();
    let mut stranger =
        clinic.machine.spawn(&["/usr/bin/python3", "-u", "-m", "http.server", "8765", "--bind", "127.0.0.1"]);
    stranger.until(SOON, "the stranger to serve", |l| l.contains("Serving HTTP").then_some(()));
    let check = clinic.fails("A port that belongs to a stranger", "port-owner");
    assert!(check["evidence"].to_string().contains("python3"), "{check:#}");
    clinic.typed(check["next"].as_str().unwrap()).ok();
    assert_eq!(clinic.machine.health(8766)["ready"], true, "what it said to type installed nothing");
    clinic.machine.verb("uninstall", &["--port", "8766", "--purge"]).ok();
    clinic.machine.root(&["pkill", "-f", "http.server 8765"]).ok();
    stranger.end(SOON);

    // Claude MPM's daemon, by what it answers.
    let theirs = "import http.server as h,os\n\
class H(h.BaseHTTPRequestHandler):\n def do_GET(s):\n  s.send_response(200);s.end_headers()\n  \
s.wfile.write(('{\"status\":\"running\",\"service\":\"claude-mpm-monitor\",\"version\":\"6.5.83\",\"port\":8765,\"pid\":%d,\"uptime\":49}'%os.getpid()).encode())\n\
srv=h.HTTPServer(('127.0.0.1',8765),H)\nprint('serving',flush=True)\nsrv.serve_forever()";
    let mut daemon = clinic.machine.spawn(&["/usr/bin/python3", "-c", theirs]);
    daemon.until(SOON, "the daemon to serve", |l| (l == "serving").then_some(()));
    let check = clinic.fails("Claude MPM's own monitor on the port", "other-monitor");
    assert_eq!(check["next"], "claude-mpm monitor stop --port 8765");
    clinic.machine.root(&["pkill", "-f", "serve_forever"]).ok();
    daemon.end(SOON);
    clinic.machine.verb("start", &[]).ok();
    clinic.verified("port-owner");
}

/// Pains 12 and 13, and a manager that hangs.
fn sessions(clinic: &mut Clinic) {
    let program = clinic.machine.program();
    let bare =
        ["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", &program, "doctor", "--user", "--json"];
    let report = clinic.machine.user(&bare).ok().json();
    assert_eq!(find(&report, "session-environment")["outcome"], "failed", "{report:#}");
    assert_eq!(find(&report, "manager-reachable")["outcome"], "verified", "{report:#}");

    // A user who never logged in.
    clinic.machine.root(&["useradd", "--create-home", "ann"]).ok();
    clinic.machine.root(&["install", "-m755", &program, "/usr/local/bin/mpm-monitor"]).ok();
    let as_ann = |machine: &Machine, more: &[&str]| {
        let words = [
            "setpriv",
            "--reuid=ann",
            "--regid=ann",
            "--clear-groups",
            "env",
            "-i",
            "HOME=/home/ann",
            "PATH=/usr/bin:/bin",
            "/usr/local/bin/mpm-monitor",
            "doctor",
            "--user",
        ];
        machine.root(&[&words[..], more].concat())
    };
    let ran = as_ann(&clinic.machine, &["--json"]).expect(1);
    let check = find(&ran.json(), "user-bus");
    assert_eq!(check["outcome"], "failed", "{ran}");
    let text = as_ann(&clinic.machine, &[]).stdout;
    clinic.said.push((
        "A user without a manager".into(),
        format!("{}\n{}", block(&text, "manager-reachable"), block(&text, "user-bus")),
    ));
    clinic.typed(check["next"].as_str().unwrap()).ok();
    eventually(SOON, "ann's manager", || {
        let ran = as_ann(&clinic.machine, &["--json"]);
        let report = ran.json();
        let good =
            ["user-bus", "manager-reachable", "linger"].iter().all(|c| find(&report, c)["outcome"] == "verified");
        if good { Ok(()) } else { Err(ran) }
    });

    // A manager that hangs: the doctor ends all the same, and what it could not ask is no verdict.
    let manager = clinic.machine.root(&[
        "systemctl",
        "show",
        "-p",
        "MainPID",
        "--value",
        &format!("user@{}.service", clinic.machine.uid),
    ]);
    let pid = manager.ok().text().to_owned();
    clinic.machine.root(&["kill", "-STOP", &pid]).ok();
    let ran = clinic.machine.verb("doctor", &["--port", "8765", "--json"]);
    clinic.machine.root(&["kill", "-CONT", &pid]).ok();
    let ran = ran.expect(1);
    assert!(ran.took < Duration::from_secs(14), "{ran}");
    figure("doctor_with_a_hung_manager", ran.took.as_millis(), "ms");
    let report = ran.json();
    assert_eq!(find(&report, "manager-reachable")["outcome"], "failed", "{report:#}");
    assert_eq!(find(&report, "disk-space")["outcome"], "verified", "what needs no manager is looked at: {report:#}");

    clinic.machine.root(&["loginctl", "disable-linger", "boxuser"]).ok();
    let check = clinic.fails("Lingering that is off", "linger");
    clinic.repair(&check);
    clinic.until_ready();
}

#[test]
fn the_doctor_sees_a_system_service_as_root_and_as_a_user() {
    let machine = boot!(Scope::System);
    machine.install(&[]);
    let mut clinic = Clinic::new(machine);
    clinic.quiet();
    let report = clinic.doctor();
    let failed: Vec<String> = report["instances"][0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["outcome"] == "failed" && c["severity"] != "note")
        .map(Value::to_string)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    // A user sees less, says so, and calls nothing broken that he may not see.
    let as_user = clinic.machine.user(&["/usr/local/bin/mpm-monitor", "doctor", "--system", "--json"]).ok().json();
    assert_eq!(find(&as_user, "ready")["outcome"], "verified", "{as_user:#}");
    for code in ["receipt", "state-dir"] {
        let check = find(&as_user, code);
        assert_eq!(check["outcome"], "not-run", "{check:#}");
        assert!(check["next"].as_str().is_some_and(|n| n.starts_with("sudo mpm-monitor doctor --system")), "{check:#}");
    }
    let log = find(&as_user, "log-readable");
    assert_eq!(
        (&log["outcome"], &log["next"]),
        (&"failed".into(), &"sudo usermod -aG systemd-journal boxuser".into()),
        "{log:#}"
    );
    let text = clinic.machine.user(&["/usr/local/bin/mpm-monitor", "doctor", "--system"]).ok().stdout;
    clinic.said.push(("A journal that this user may not read".into(), block(&text, "log-readable")));
    // Without flags all that is installed is found, also from there.
    let found = clinic.machine.user(&["/usr/local/bin/mpm-monitor", "doctor", "--json"]).json();
    assert_eq!(found["instances"][0]["scope"], "system", "{found:#}");
    // The receipt of the user's own repair is never needed for root's.
    let stolen = clinic.machine.user(&["/usr/local/bin/mpm-monitor", "doctor", "--system", "--fix", "--yes"]);
    assert!(stolen.stdout.contains("nothing to repair"), "{stolen}");
    documented(&clinic.said, "system");
}

/// What was said, without what differs from run to run, is what docs/doctor.md shows.
#[track_caller]
fn documented(said: &[(String, String)], mark: &str) {
    let shown: String =
        said.iter().map(|(name, text)| format!("### {name}\n\n```\n{}\n```\n\n", normal(text))).collect();
    let path = here("docs/doctor.md");
    // Several tests write their parts of it.
    let lock = std::fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {mark} -->\n\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("docs/doctor.md has no {begin}"));
    let (there, after) = rest.split_once(&end).expect("an end of it");
    if std::env::var_os("MPM_MONITOR_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{shown}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(there, shown, "docs/doctor.md shows something else; MPM_MONITOR_BLESS=1 writes it anew");
}

/// Numbers that differ from run to run become `N`, hexadecimal names `ID`, times `TIME`.
pub fn normal(text: &str) -> String {
    let words = |line: &str| -> String {
        let mut out = String::new();
        for part in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | ':' | '-')) {
            let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let rest = &part[word.len()..];
            let digits = word.chars().filter(char::is_ascii_digit).count();
            let is_time = word.len() >= 19 && word.contains('T') && word.ends_with('Z');
            let is_id = word.len() >= 12 && digits > 2 && word.chars().all(|c| c.is_ascii_hexdigit());
            let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
            let known = ["8765", "8766", "0644", "600", "256", "100", "1088", "16384", "0.1.0", "0.0.9", "6.5.83"];
            // A place in the source has a line that moves.
            let place = word.split_once(".rs:").map(|(file, _)| format!("{file}.rs:N"));
            let scope = word.strip_prefix("tmux-").and_then(|rest| rest.strip_suffix(".scope"));
            let place = place.or(scope.map(|_| "tmux-N.scope".to_owned()));
            // A process may have any number, also one that stays as it is elsewhere.
            let varies = out.ends_with("pid ") || !known.contains(&word);
            out.push_str(match (is_time, is_id, is_number && varies) {
                (true, ..) => "TIME",
                (_, true, _) => "ID",
                (.., true) => "N",
                _ => place.as_deref().unwrap_or(word),
            });
            out.push_str(rest);
        }
        out
    };
    text.lines().map(|l| words(l).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
